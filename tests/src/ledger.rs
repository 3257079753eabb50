//! What the log of a store says, to compare with what the store keeps beside it.

use std::collections::{BTreeMap, BTreeSet};

use charm_host::{Archive, Did, EventId, Outcome, Path, Status, Value};

/// The log of a store, replayed from its first record.
#[derive(Default)]
pub struct Ledger {
    /// Every event that ever went out or was refused.
    pub sent: BTreeSet<EventId>,
    /// What became of those that are settled.
    pub settled: BTreeMap<EventId, Outcome>,
    /// Events that wait, by position.
    pub waiting: BTreeMap<u64, EventId>,
    cells: BTreeMap<(Did, String), Value>,
    dead: BTreeSet<u64>,
}

impl Ledger {
    /// Replays the log.
    ///
    /// # Panics
    /// When an event is settled twice or was never sent.
    pub fn replay(archive: &Archive) -> Ledger {
        let (mut ledger, mut g) = (Ledger::default(), 0);
        loop {
            let records = archive.records(None, g, 1_000).unwrap();
            let Some(last) = records.last() else { return ledger };
            let first = g + 1;
            g = last.g;
            for (record, expected) in records.into_iter().zip(first..) {
                assert_eq!(record.g, expected, "host commits have no gaps");
                for sent in &record.sends {
                    assert!(ledger.sent.insert(sent.event.id), "{} was sent twice", sent.event.id);
                    match (sent.position, sent.refused) {
                        (Some(position), None) => drop(ledger.waiting.insert(position, sent.event.id)),
                        (None, Some(outcome)) => ledger.settle(sent.event.id, outcome),
                        other => panic!("an event is queued or refused: {other:?}"),
                    }
                }
                if let Some(taken) = record.taken {
                    let id = ledger.waiting.remove(&taken.position).expect("what is taken was waiting");
                    assert_eq!(id, taken.receipt.id);
                    ledger.settle(id, taken.receipt.outcome);
                    if taken.receipt.outcome != Outcome::Committed {
                        ledger.dead.insert(taken.position);
                    }
                }
                for position in &record.buried {
                    assert!(ledger.dead.remove(position), "a dead letter goes once");
                }
                for write in record.writes {
                    match write.value {
                        Some(value) => drop(ledger.cells.insert((record.space, write.name), value)),
                        None => drop(ledger.cells.remove(&(record.space, write.name))),
                    }
                }
            }
        }
    }

    fn settle(&mut self, id: EventId, outcome: Outcome) {
        assert!(self.settled.insert(id, outcome).is_none(), "{id} was settled twice");
    }

    /// Replays the log and checks that cells, queue, receipts and dead letters of the store are what it makes,
    /// and that every space proves itself.
    ///
    /// # Panics
    /// When they are not.
    pub fn check(archive: &Archive) -> Ledger {
        let ledger = Ledger::replay(archive);
        let (mut cells, mut waiting, mut dead) = (0, Vec::new(), BTreeSet::new());
        for space in archive.spaces() {
            archive.verify(&space.did).unwrap();
            for cell in archive.cells(&space.did).unwrap() {
                let kept = archive.get(&space.did, &cell.name, &Path::root(), None).unwrap();
                assert_eq!(kept.as_ref(), ledger.cells.get(&(space.did, cell.name.to_string())), "{}", cell.name);
                cells += 1;
            }
            waiting.extend(archive.waiting(&space.did).map(|queued| (queued.position, queued.event.id)));
            dead.extend(archive.dead_letters(&space.did).unwrap().iter().map(|letter| letter.position));
        }
        assert_eq!(cells, ledger.cells.len());
        waiting.sort();
        assert_eq!(waiting, Vec::from_iter(ledger.waiting.clone()));
        assert_eq!(dead, ledger.dead);
        for id in &ledger.sent {
            match (archive.status(id).unwrap(), ledger.settled.get(id)) {
                (Status::Settled(receipt), Some(outcome)) => assert_eq!(receipt.outcome, *outcome),
                (Status::Waiting, None) => {}
                other => panic!("{id}: {other:?}"),
            }
        }
        ledger
    }

    /// Checks that nothing waits and every event has its one outcome; returns how many there were.
    ///
    /// # Panics
    /// When an event was lost.
    pub fn all_settled(&self) -> usize {
        assert!(self.waiting.is_empty(), "events wait: {:?}", self.waiting);
        assert_eq!(self.sent.len(), self.settled.len());
        self.sent.len()
    }
}
