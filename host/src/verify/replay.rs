//! The log replayed from its first record: what waits, what is settled, what the cells hold; and the laws that
//! connect commits (S1-S6, S11, T6).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{
    Law,
    derived::Derived,
    edits,
    floor::{self, Floor},
    turns::Underway,
};
use crate::{
    did::Did,
    entry::LogEntry,
    event::{Event, EventId, Mint},
    receipt::Outcome,
    record::{Body, Checkpoint, Cut, Hash, Record, TurnMark, Write},
    rows::{InstallRow, Queued, ReceiptRow},
    value::Data,
};

/// A law that a record breaks.
pub(super) struct Wrong {
    pub law: Law,
    pub why: &'static str,
}

pub(super) type Verdict<T = ()> = Result<T, Wrong>;

pub(super) fn wrong<T>(law: Law, why: &'static str) -> Verdict<T> {
    Err(Wrong { law, why })
}

/// Fails unless it holds.
pub(super) fn must(holds: bool, law: Law, why: &'static str) -> Verdict {
    if holds { Ok(()) } else { wrong(law, why) }
}

/// The first half of a SHA-256: what is compared and not kept.
pub(super) type Fingerprint = [u8; 16];

/// Returns the fingerprint of what a store keeps.
pub(super) fn fingerprint<T: serde::Serialize>(row: &T) -> Fingerprint {
    let bytes = postcard::to_stdvec(row).expect("a stored frame holds nothing that postcard refuses");
    let mut fingerprint = [0; 16];
    fingerprint.copy_from_slice(&Sha256::digest(bytes)[..16]);
    fingerprint
}

/// A cell as the log leaves it.
pub(super) struct Cell {
    pub order: u64,
    pub seq: u64,
    /// Decoded: edits apply to it one by one.
    pub value: Option<Data>,
}

/// An event that went out.
pub(super) struct Known {
    /// The commit that sent it, or the one that settled it.
    pub order: u64,
    /// Its receipt, once it is settled.
    pub receipt: Option<Settled>,
}

/// A receipt that the log makes.
#[derive(Clone, Copy)]
pub(super) struct Settled {
    /// The commit that settles it.
    pub space: Did,
    pub seq: u64,
    /// Of its row, but for the digest.
    pub row: Fingerprint,
    /// The digest; none when the log does not tell of the event any more.
    pub digest: Option<Option<[u8; 16]>>,
}

impl Settled {
    /// Returns whether that is its row.
    pub fn is(&self, row: &ReceiptRow) -> bool {
        self.digest.is_none_or(|digest| digest == row.digest) && self.row == plain(row)
    }
}

/// Returns the fingerprint of a receipt's row, but for the digest.
fn plain(row: &ReceiptRow) -> Fingerprint {
    fingerprint(&ReceiptRow { digest: None, ..row.clone() })
}

/// An event that a checkpoint tells of, whose sending has gone from the log.
pub(super) struct Told {
    pub to: Did,
    pub hash: Hash,
    /// It waited at the receiver's own checkpoint: what became of it is in the log.
    pub is_certain: bool,
}

/// A failed event that is kept.
pub(super) struct Letter {
    pub order: u64,
    pub position: u64,
    pub to: Did,
    pub fingerprint: Fingerprint,
    /// The event as it would be sent again.
    pub again: Fingerprint,
}

/// What the log has made so far.
pub(super) struct Replay {
    pub host: Option<Did>,
    /// Spaces that the log has made so far, and their names.
    pub made: BTreeMap<Did, String>,
    /// Charms that are paused.
    pub paused: BTreeSet<Did>,
    /// What is installed.
    pub installed: BTreeMap<Did, InstallRow>,
    /// What that derives.
    derived: HashMap<Did, Derived>,
    /// What is decided about the rights of single DIDs.
    pub kept: BTreeMap<Did, Vec<u8>>,
    pub mint: Mint,
    /// Charms that have committed.
    pub charms: BTreeSet<Did>,
    /// The last position given.
    pub position: u64,
    /// Events that wait, by position, with the commit that sent them.
    pub waiting: BTreeMap<u64, (u64, Queued)>,
    /// Turns under way, by event: what they handle still waits.
    pub underway: HashMap<EventId, Underway>,
    pub events: HashMap<EventId, Known>,
    pub settled: u64,
    pub dead: BTreeMap<EventId, Letter>,
    /// Dead letters that went because there were too many, by charm.
    pub letters_dropped: HashMap<Did, u64>,
    pub cells: BTreeMap<Did, HashMap<Arc<str>, Cell>>,
    /// Position of the last event that a turn began with, by sender and charm.
    pub taken: HashMap<(Did, Did), u64>,
    /// From the commit after this one on, all records of all spaces are there.
    whole: u64,
    /// Spaces whose past has gone.
    pub floors: BTreeMap<Did, Floor>,
    /// Events that checkpoints tell of and that the log has not settled yet.
    pub told: HashMap<EventId, Told>,
    /// Dead letters that checkpoints tell of, by event; none inside when only the log tells that there may be one.
    pub letters_told: HashMap<EventId, (Did, Option<Hash>)>,
    /// What the log says has gone, the last of each space.
    pub cuts: BTreeMap<Did, Cut>,
    /// Receipts that commits up to these settled have gone, and when is not told any more.
    expired: HashMap<Did, u64>,
}

impl Replay {
    pub fn new(
        host: Option<Did>,
        mint: Mint,
        whole: u64,
        floors: BTreeMap<Did, Floor>,
        expired: HashMap<Did, u64>,
    ) -> Replay {
        let mut replay = Replay {
            host,
            made: BTreeMap::new(),
            paused: BTreeSet::new(),
            installed: BTreeMap::new(),
            derived: HashMap::new(),
            kept: BTreeMap::new(),
            mint,
            charms: BTreeSet::new(),
            position: 0,
            waiting: BTreeMap::new(),
            underway: HashMap::new(),
            events: HashMap::new(),
            settled: 0,
            dead: BTreeMap::new(),
            letters_dropped: HashMap::new(),
            cells: BTreeMap::new(),
            taken: HashMap::new(),
            whole,
            floors: BTreeMap::new(),
            told: HashMap::new(),
            letters_told: HashMap::new(),
            cuts: BTreeMap::new(),
            expired,
        };
        let sent_orders: BTreeMap<Did, u64> = floors.iter().map(|(did, floor)| (*did, floor.point.order)).collect();
        for (did, mut floor) in floors {
            replay.cells.insert(did, std::mem::take(&mut floor.cells));
            replay.begin(did, &floor.checkpoint, floor.point.order, &sent_orders);
            replay.floors.insert(did, floor);
        }
        replay
    }

    /// Begins with what a checkpoint says of a space.
    fn begin(&mut self, did: Did, checkpoint: &Checkpoint, order: u64, floors: &BTreeMap<Did, u64>) {
        self.made.insert(did, checkpoint.name.clone());
        if checkpoint.paused {
            self.paused.insert(did);
        }
        if let Some((component, rights)) = checkpoint.installed {
            self.installed.insert(did, InstallRow { component, rights });
        }
        self.kept.extend(checkpoint.rights.iter().cloned());
        if checkpoint.letters_dropped > 0 {
            self.letters_dropped.insert(did, checkpoint.letters_dropped);
        }
        let waiting = checkpoint.waiting.iter().map(|mark| (did, mark, true));
        // What waited for another charm when that one's past ended earlier waits in its log too.
        let sent =
            checkpoint.sent.iter().map(|(to, mark)| (*to, mark, floors.get(to).is_none_or(|then| *then < order)));
        for (to, mark, is_certain) in waiting.chain(sent) {
            let told = self.told.entry(mark.id).or_insert(Told { to, hash: mark.hash, is_certain });
            told.is_certain |= is_certain;
        }
        let turns = checkpoint.turns.iter().map(|mark| (mark.event, Underway::told(did, order, mark)));
        self.underway.extend(turns);
        self.letters_told.extend(checkpoint.dead.iter().map(|mark| (mark.id, (did, Some(mark.hash)))));
    }

    /// All records that come are there: positions go on from this one.
    pub fn meet(&mut self, position: u64) -> Verdict {
        must(self.position <= position, Law::Order, "positions are not in the order of sends")?;
        self.position = position;
        Ok(())
    }

    /// Returns whether a record stands before the checkpoint that tells what its space came to.
    fn is_early(&self, space: &Did, seq: u64) -> bool {
        self.floors.get(space).is_some_and(|floor| seq <= floor.point.at)
    }

    /// Returns whether the log may not tell any more how an event was sent that this handles.
    pub fn may_be_older(&self, entry: &LogEntry, event: &EventId, sender: &Did) -> bool {
        let is_told = self.told.get(event).is_some_and(|told| told.to == entry.space);
        let is_before = |floor: &Floor| entry.order < floor.at_order;
        // A receipt comes from the charm itself, and was sent by whoever settled what it is for.
        let sender = match *sender == entry.space {
            true => self.floors.values().any(is_before),
            false => self.floors.get(sender).is_some_and(is_before),
        };
        let is_new = !self.events.contains_key(event);
        is_new && (is_told || sender || self.is_early(&entry.space, entry.seq))
    }

    /// Applies the next entry of the log.
    pub fn apply(&mut self, entry: &LogEntry, record: Record) -> Verdict {
        let (order, space) = (entry.order, record.space);
        let first = matches!(record.body, Body::Registered { .. });
        must(first == (record.seq == 1), Law::Cause, "a space begins with its name, and has one")?;
        let charm = self.host != Some(space);
        must(entry.taken.is_some() == record.handles().is_some(), Law::Cause, "a place in the queue for no event")?;
        if order <= self.whole {
            // Others between may have gone.
            let waits = record.sends().filter(|(_, refused)| refused.is_none()).count() as u64;
            let before = entry.position.checked_sub(waits).filter(|before| *before >= self.position);
            self.position = before.ok_or(Wrong { law: Law::Order, why: "positions are not in the order of sends" })?;
        }
        match &record.body {
            Body::Registered { name } => {
                self.made.insert(space, name.clone());
                Ok(())
            }
            // Older than what stands for its holder, which was somebody outside then.
            Body::Rights { holder, .. } if self.floors.get(holder).is_some_and(|floor| order <= floor.point.order) => {
                Ok(())
            }
            Body::Rights { holder, kept } => {
                match kept {
                    Some(kept) => drop(self.kept.insert(*holder, kept.clone())),
                    None => drop(self.kept.remove(holder)),
                }
                let own = *holder == space || (!charm && !self.made.contains_key(holder));
                must(own, Law::Cause, "the rights of another stand in a space")
            }
            Body::Paused(paused) => {
                if *paused {
                    self.paused.insert(space)
                } else {
                    self.paused.remove(&space)
                };
                must(charm, Law::Cause, "the host's own space is no charm")
            }
            Body::Installed(install) => {
                let row = InstallRow::of(install);
                let before = self.installed.insert(space, row);
                must(before != Some(row), Law::Cause, "what is installed already is installed again")?;
                must(charm, Law::Cause, "the host's own space is no charm")
            }
            Body::Uninstalled => {
                let before = self.installed.remove(&space);
                must(before.is_some(), Law::Cause, "a charm is uninstalled that is not installed")
            }
            Body::Accepted(event) => self.accepted(entry, event),
            Body::Letters { dropped, again } => self.letters(entry, dropped, again.as_ref()),
            Body::Turn(turn) => self.turn(entry, &record, turn),
            Body::Segment(segment) => self.segment(entry, &record, segment),
            Body::Retried(retried) => self.retried(entry, &record, retried),
            Body::Exchanged(exchanged) => self.exchanged(entry, exchanged),
            Body::Checkpoint(checkpoint) => self.checkpoint(&record, checkpoint),
            Body::Pruned(pruned) => {
                must(!charm && pruned.order < order, Law::Cause, "a charm's space says what has gone")?;
                let before = |cut: &Cut| self.cuts.get(&cut.space).map_or(0, |before| before.receipts);
                let expire = pruned.cuts.iter().filter(|cut| cut.receipts > before(cut));
                let expire: HashMap<Did, u64> = expire.map(|cut| (cut.space, cut.receipts)).collect();
                if !expire.is_empty() {
                    // Whose receipt has gone is not known any more: the same id may come again.
                    let is_kept = |settled: &Settled| expire.get(&settled.space).is_none_or(|gone| settled.seq > *gone);
                    self.events.retain(|_, known| known.receipt.as_ref().is_none_or(is_kept));
                }
                self.cuts.extend(pruned.cuts.iter().map(|cut| (cut.space, *cut)));
                Ok(())
            }
            Body::Removed(writes) => {
                let removes =
                    |write: &Write| matches!(&write.edits[..], [edit] if edit.put.is_none() && edit.path.is_root());
                must(charm && writes.iter().all(removes), Law::Cause, "cells are written by no turn")
            }
        }?;
        must(entry.position == self.position, Law::Order, "positions are not in the order of sends")?;
        let cells = self.cells.entry(space).or_default();
        self.derived.entry(space).or_default().take(&record, cells).or_else(|why| wrong(Law::Cause, why))?;
        write(cells, order, record).or_else(|why| wrong(Law::State, why))
    }

    /// What a space came to, if that is with the commit before; the proof that begins there looks at all of it.
    fn checkpoint(&self, record: &Record, checkpoint: &Checkpoint) -> Verdict {
        let (space, before) = (&record.space, record.seq - 1);
        must(
            checkpoint.seq > 0 && checkpoint.seq <= before,
            Law::Cause,
            "a checkpoint of a commit that is not before it",
        )?;
        if checkpoint.seq < before || self.is_early(space, record.seq) {
            return Ok(());
        }
        let is_same = self.made.get(space) == Some(&checkpoint.name)
            && self.paused.contains(space) == checkpoint.paused
            && self.installed.get(space).map(|row| (row.component, row.rights)) == checkpoint.installed
            && self.letters_dropped.get(space).copied().unwrap_or(0) == checkpoint.letters_dropped;
        must(is_same, Law::State, "a checkpoint says other than the log")?;
        let here = self.underway.values().filter(|underway| underway.row.space == *space).count();
        let is_here = |mark: &TurnMark| {
            let mark_of = |of: &Underway| match of.told {
                Some(waits_for) => TurnMark { event: mark.event, progress: of.row.progress.clone(), waits_for },
                None => TurnMark::of(mark.event, &of.row.progress),
            };
            self.underway.get(&mark.event).is_some_and(|of| of.row.space == *space && mark_of(of) == *mark)
        };
        let same_turns = here == checkpoint.turns.len() && checkpoint.turns.iter().all(is_here);
        must(same_turns, Law::State, "a checkpoint says other of turns under way than the log")?;
        let cells = self.cells.get(space).map_or_else(|| floor::root(&HashMap::new()), floor::root);
        must(cells == Some(checkpoint.cells), Law::State, "a checkpoint's cells are not the log's")
    }

    /// An event from outside.
    fn accepted(&mut self, entry: &LogEntry, event: &Event) -> Verdict {
        must(event.to == entry.space, Law::Cause, "an event from outside in another charm's space")?;
        let plain = event.receipt_of.is_none() && event.on_commit.is_none();
        let at_once = event.deliver_after.is_none() && event.expires_at.is_none();
        must(at_once, Law::Cause, "an event from outside waits for a time")?;
        must(plain, Law::Cause, "an event from outside is a receipt, or asks for one")?;
        let charm = self.charms.contains(&event.sender) || event.sender == event.to;
        must(!charm, Law::Cause, "an event from outside in the name of a charm")?;
        let made = event.supplied || event.id == self.mint.outside(self.position + 1);
        must(made, Law::Cause, "an event id that is not of this store's making")?;
        self.queue(event, None, entry)
    }

    /// Dead letters go, or one is sent again.
    fn letters(&mut self, entry: &LogEntry, dropped: &[EventId], again: Option<&Event>) -> Verdict {
        let one = if again.is_some() { dropped.len() == 1 } else { !dropped.is_empty() };
        must(one, Law::Cause, "dead letters are dropped, or one is sent again")?;
        let mut letter = None;
        for event in dropped {
            letter = self.bury(entry, event)?;
        }
        let Some(event) = again else { return Ok(()) };
        // A receipt whose handler failed can be sent again.
        let known = letter.is_none_or(|letter| fingerprint(&nameless(event)) == letter.again);
        let at_once = event.deliver_after.is_none() && event.expires_at.is_none();
        let same = known && at_once && !event.supplied && !event.awaited;
        must(same, Law::Cause, "another event than that of the dead letter")?;
        must(event.on_commit.is_none(), Law::Cause, "an event that is sent again asks for a receipt")?;
        let made = event.id == self.mint.outside(self.position + 1);
        must(made, Law::Cause, "an event id that is not of this store's making")?;
        self.queue(event, None, entry)
    }

    /// Gives an event its place in the queue, or none when it is refused.
    pub fn queue(&mut self, event: &Event, refused: Option<Outcome>, entry: &LogEntry) -> Verdict {
        let (order, space) = (entry.order, entry.space);
        let gone = |settled: &Settled| self.expired.get(&settled.space).is_some_and(|gone| settled.seq <= *gone);
        if event.supplied && self.events.get(&event.id).is_some_and(|known| known.receipt.as_ref().is_some_and(gone)) {
            self.events.remove(&event.id);
        }
        must(!self.events.contains_key(&event.id), Law::Once, "an event id goes out a second time")?;
        self.events.insert(event.id, Known { order, receipt: None });
        if refused.is_some() {
            return Ok(());
        }
        self.position += 1;
        let charm = self.made.contains_key(&event.to) && self.host != Some(event.to);
        must(charm, Law::Cause, "an event waits for a charm that is not there")?;
        let queued = Queued { position: self.position, space, event: event.clone() };
        self.waiting.insert(self.position, (order, queued));
        Ok(())
    }

    /// The one receipt of an event; `is_known` when the log tells how it was sent.
    pub fn settle(&mut self, row: ReceiptRow, digest: Option<Option<[u8; 16]>>, order: u64, is_known: bool) -> Verdict {
        let settled = Settled { space: row.space, seq: row.seq, row: plain(&row), digest };
        let known = self.events.insert(row.receipt.id, Known { order, receipt: Some(settled) });
        let is_first = known.map_or(!is_known, |known| known.receipt.is_none());
        must(is_first, Law::Once, "an event is settled a second time")?;
        self.settled += 1;
        Ok(())
    }

    /// Takes a dead letter out; none when the log does not tell of it any more.
    pub fn bury(&mut self, entry: &LogEntry, event: &EventId) -> Verdict<Option<Letter>> {
        let charm = &entry.space;
        if let Some(letter) = self.dead.remove(event).filter(|letter| letter.to == *charm) {
            return Ok(Some(letter));
        }
        let is_told = self.letters_told.remove(event).is_some_and(|(to, _)| to == *charm);
        let may_be = is_told || self.is_early(charm, entry.seq);
        must(may_be, Law::Cause, "a dead letter goes that is not there").map(|()| None)
    }
}

/// Writes the cells of a record over those that the log has made so far.
pub(super) fn write(cells: &mut HashMap<Arc<str>, Cell>, order: u64, record: Record) -> Result<(), &'static str> {
    let seq = record.seq;
    let writes = record.into_writes();
    if !writes.is_sorted_by(|a, b| a.name < b.name) {
        return Err("a cell is written twice");
    }
    for write in writes {
        if cells.get(&write.name).map_or(0, |cell| cell.seq) != write.previous {
            return Err("a write does not name the one before it");
        }
        let cell = cells.entry(write.name.clone()).or_insert(Cell { order, seq, value: None });
        (cell.order, cell.seq) = (order, seq);
        edits::apply(&mut cell.value, &write.edits)?;
        if cell.value.is_none() {
            // Its name begins anew.
            cells.remove(&write.name);
        }
    }
    Ok(())
}

/// Returns an event as it would be sent again from a dead letter, without its id.
pub(super) fn nameless(event: &Event) -> Event {
    let (id, on_commit, supplied, awaited) = (EventId([0; 16]), None, false, false);
    Event { id, on_commit, supplied, awaited, deliver_after: None, expires_at: None, ..event.clone() }
}
