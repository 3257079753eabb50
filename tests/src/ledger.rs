//! What the log of a store says, to compare with what the store keeps beside it.

use std::collections::{BTreeMap, BTreeSet};

use charm_host::{Archive, Commit, EventId, Outcome};

/// The events of a store's log.
#[derive(Default)]
pub struct Ledger {
    /// Every event that ever went out or was refused.
    pub sent: BTreeSet<EventId>,
    /// What became of those that are settled.
    pub settled: BTreeMap<EventId, Outcome>,
    /// Events that wait, by position.
    pub waiting: BTreeMap<u64, EventId>,
}

impl Ledger {
    /// Lets the store prove itself, and returns its events.
    ///
    /// # Panics
    /// When the store breaks a law.
    pub fn check(archive: &Archive) -> Ledger {
        let proof = archive.verify_store().unwrap();
        let (mut ledger, mut order) = (Ledger::default(), 0);
        loop {
            let commits = archive.commits(None, order, 1_000).unwrap();
            let Some(last) = commits.last() else { break };
            order = last.order;
            for Commit { taken, position, record, .. } in commits {
                if let (Some(taken), Some(turn)) = (taken, record.turn()) {
                    ledger.waiting.remove(&taken.position);
                    ledger.settled.insert(turn.receipt.id, turn.receipt.outcome);
                }
                let mut next = position - record.sends().filter(|(_, refused)| refused.is_none()).count() as u64;
                for (event, refused) in record.sends() {
                    ledger.sent.insert(event.id);
                    match refused {
                        Some(outcome) => drop(ledger.settled.insert(event.id, outcome)),
                        None => {
                            next += 1;
                            ledger.waiting.insert(next, event.id);
                        }
                    }
                }
            }
        }
        let counts = (proof.sent, proof.settled, proof.waiting);
        let own = (ledger.sent.len() as u64, ledger.settled.len() as u64, ledger.waiting.len() as u64);
        assert_eq!((counts, proof.commits()), (own, order), "the proof counts what the log holds");
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
