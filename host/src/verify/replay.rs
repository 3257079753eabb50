//! The log replayed from its first record: what waits, what is settled, what the cells hold; and the laws that
//! connect commits (S1-S6, S11, T6).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use ipld_core::ipld::Ipld;
use sha2::{Digest, Sha256};

use super::{Law, edits, effect_of_failure};
use crate::{
    did::Did,
    entry::LogEntry,
    event::{Event, EventId, Mint, OnCommit, digest},
    limits::MESSAGE_BYTES_MAX,
    receipt::{self, Outcome, Receipt},
    record::{Body, Record, Sent, Turn, Write},
    rows::{DeadLetter, InstallRow, ReceiptRow},
    value::Value,
};

/// A law that a record breaks.
pub(super) struct Wrong {
    pub law: Law,
    pub why: &'static str,
}

type Verdict<T = ()> = Result<T, Wrong>;

fn wrong<T>(law: Law, why: &'static str) -> Verdict<T> {
    Err(Wrong { law, why })
}

/// Fails unless it holds.
fn must(holds: bool, law: Law, why: &'static str) -> Verdict {
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
    pub value: Option<Ipld>,
}

/// An event that went out.
pub(super) struct Known {
    /// The commit that sent it, or the one that settled it.
    pub order: u64,
    /// Its receipt, once it is settled.
    pub receipt: Option<Fingerprint>,
}

/// A failed event that is kept.
pub(super) struct Letter {
    pub order: u64,
    pub position: u64,
    pub to: Did,
    pub fingerprint: Fingerprint,
    /// The event as it would be sent again.
    again: Fingerprint,
}

/// A receipt event that a commit has to send.
struct Due {
    sender: Did,
    on_commit: OnCommit,
    receipt: Receipt,
}

/// What the log has made so far.
pub(super) struct Replay {
    host: Option<Did>,
    /// Spaces that the log has made so far, and their names.
    pub made: BTreeMap<Did, String>,
    /// Charms that are paused.
    pub paused: BTreeSet<Did>,
    /// What is installed.
    pub installed: BTreeMap<Did, InstallRow>,
    /// What is decided about the rights of single DIDs.
    pub kept: BTreeMap<Did, Vec<u8>>,
    mint: Mint,
    /// Charms that have committed.
    charms: BTreeSet<Did>,
    /// The last position given.
    pub position: u64,
    /// Events that wait, by position, with the commit that sent them.
    pub waiting: BTreeMap<u64, (u64, Event)>,
    pub events: HashMap<EventId, Known>,
    pub settled: u64,
    pub dead: BTreeMap<EventId, Letter>,
    /// Dead letters that went because there were too many, by charm.
    pub letters_dropped: HashMap<Did, u64>,
    pub cells: BTreeMap<Did, HashMap<Arc<str>, Cell>>,
    /// Position of the last event taken, by sender and charm.
    taken: HashMap<(Did, Did), u64>,
}

impl Replay {
    pub fn new(host: Option<Did>, mint: Mint) -> Replay {
        Replay {
            host,
            made: BTreeMap::new(),
            paused: BTreeSet::new(),
            installed: BTreeMap::new(),
            kept: BTreeMap::new(),
            mint,
            charms: BTreeSet::new(),
            position: 0,
            waiting: BTreeMap::new(),
            events: HashMap::new(),
            settled: 0,
            dead: BTreeMap::new(),
            letters_dropped: HashMap::new(),
            cells: BTreeMap::new(),
            taken: HashMap::new(),
        }
    }

    /// Applies the next entry of the log.
    pub fn apply(&mut self, entry: &LogEntry, record: Record) -> Verdict {
        let (order, space) = (entry.order, record.space);
        let first = matches!(record.body, Body::Registered { .. });
        must(first == (record.seq == 1), Law::Cause, "a space begins with its name, and has one")?;
        let charm = self.host != Some(space);
        must(entry.taken.is_some() == record.turn().is_some(), Law::Cause, "a place in the queue for no event")?;
        match &record.body {
            Body::Registered { name } => {
                self.made.insert(space, name.clone());
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
        }?;
        must(entry.position == self.position, Law::Order, "positions are not in the order of sends")?;
        let seq = record.seq;
        match record.body {
            Body::Turn(turn) => self.write(space, order, seq, turn.writes),
            _ => Ok(()),
        }
    }

    /// An event from outside.
    fn accepted(&mut self, entry: &LogEntry, event: &Event) -> Verdict {
        must(event.to == entry.space, Law::Cause, "an event from outside in another charm's space")?;
        let plain = event.receipt_of.is_none() && event.on_commit.is_none();
        must(plain, Law::Cause, "an event from outside is a receipt, or asks for one")?;
        let charm = self.charms.contains(&event.sender) || event.sender == event.to;
        must(!charm, Law::Cause, "an event from outside in the name of a charm")?;
        let made = event.supplied || event.id == self.mint.outside(self.position + 1);
        must(made, Law::Cause, "an event id that is not of this store's making")?;
        self.queue(event, None, entry.order)
    }

    /// Dead letters go, or one is sent again.
    fn letters(&mut self, entry: &LogEntry, dropped: &[EventId], again: Option<&Event>) -> Verdict {
        let one = if again.is_some() { dropped.len() == 1 } else { !dropped.is_empty() };
        must(one, Law::Cause, "dead letters are dropped, or one is sent again")?;
        let mut letter = None;
        for event in dropped {
            letter = Some(self.bury(&entry.space, event)?);
        }
        let (Some(event), Some(letter)) = (again, letter) else { return Ok(()) };
        // A receipt whose handler failed can be sent again.
        let same = fingerprint(&nameless(event)) == letter.again && !event.supplied && !event.awaited;
        must(same, Law::Cause, "another event than that of the dead letter")?;
        must(event.on_commit.is_none(), Law::Cause, "an event that is sent again asks for a receipt")?;
        let made = event.id == self.mint.outside(self.position + 1);
        must(made, Law::Cause, "an event id that is not of this store's making")?;
        self.queue(event, None, entry.order)
    }

    /// The end of an event.
    fn turn(&mut self, entry: &LogEntry, record: &Record, taken: &Turn) -> Verdict {
        let receipt = &taken.receipt;
        let (position, late) = entry.taken.map_or((0, false), |taken| (taken.position, taken.late));
        must(self.host != Some(record.space), Law::Cause, "the host's own space handles an event")?;
        let runs = taken.ran.is_none() || self.installed.contains_key(&record.space);
        must(runs, Law::Cause, "a turn runs, and no component is installed")?;
        let Some((_, event)) = self.waiting.remove(&position) else {
            let before = position <= self.position;
            must(!before, Law::Once, "answers an event that was answered before")?;
            return wrong(Law::Cause, "answers an event that never was sent");
        };
        must(event.to == record.space, Law::Cause, "answers an event of another charm")?;
        let same = (event.id, event.sender, &event.stream) == (receipt.id, taken.sender, &taken.stream);
        must(same, Law::Cause, "answers another event than was sent")?;
        if let Some(why) = effect_of_failure(taken) {
            return wrong(Law::Cause, why);
        }
        let cancelled = receipt.outcome == Outcome::Cancelled;
        if !cancelled && !late {
            let last = self.taken.entry((event.sender, event.to)).or_default();
            must(position > *last, Law::Order, "answers an event before one that was sent earlier")?;
            *last = position;
        }
        self.charms.insert(record.space);

        let committed = receipt.outcome == Outcome::Committed;
        let status = if committed {
            receipt.commit == Some(record.seq) && receipt.message.is_none()
        } else {
            receipt.commit.is_none() && receipt.message.is_some()
        };
        must(status, Law::Receipt, "a receipt names its commit, or says why there is none")?;
        let bounded = receipt.message.as_ref().is_none_or(|message| message.len() <= MESSAGE_BYTES_MAX);
        must(bounded, Law::Receipt, "a receipt's message is longer than its bound")?;
        // Whoever asked for the receipt is told of a rejection.
        let asked = event.awaited || event.on_commit.is_some();
        let told = receipt.outcome == Outcome::Rejected && asked;
        let failed = !(committed || cancelled || told);
        if failed {
            let letter =
                DeadLetter { position, time_ms: record.time_ms, event: event.clone(), receipt: receipt.clone() };
            let letter = Letter {
                order: entry.order,
                position,
                to: event.to,
                fingerprint: fingerprint(&letter),
                again: fingerprint(&nameless(&event)),
            };
            self.dead.insert(event.id, letter);
        }
        must(failed || taken.dropped.is_none(), Law::Cause, "a dead letter goes that need not")?;
        if let Some(dropped) = &taken.dropped {
            self.bury(&record.space, dropped)?;
            *self.letters_dropped.entry(record.space).or_default() += 1;
        }
        self.sends(entry, position, taken, &event)?;
        self.settle(&event, receipt, entry.order)
    }

    /// What goes out with a charm's commit: its events, then the receipts that were asked for.
    fn sends(&mut self, entry: &LogEntry, position: u64, taken: &Turn, event: &Event) -> Verdict {
        let mut due = VecDeque::new();
        let plain = taken.sends.iter().take_while(|sent| sent.event.receipt_of.is_none()).count();
        let (plain, receipts) = taken.sends.split_at(plain);
        for (number, sent) in plain.iter().enumerate() {
            let Event { id, sender, supplied, awaited, on_commit, payload, .. } = &sent.event;
            must(*sender == entry.space, Law::Cause, "an event goes out in the name of another")?;
            must(!awaited, Law::Cause, "an event of a charm is marked as one from outside")?;
            let made = *id == self.mint.send(position, number) && !supplied;
            must(made, Law::Cause, "an event id that is not of this store's making")?;
            self.queue(&sent.event, sent.refused, entry.order)?;
            if let Some(outcome) = sent.refused {
                let known = matches!(outcome, Outcome::Denied | Outcome::NoSuchStream);
                must(known && *payload == Value::null(), Law::Once, "an event is refused as none can be")?;
                let receipt = receipt::refused(&sent.event, outcome);
                self.settle(&sent.event, &receipt, entry.order)?;
                due.extend(on_commit.clone().map(|on_commit| Due { sender: *sender, on_commit, receipt }));
            }
        }
        let own = event.on_commit.clone();
        due.extend(own.map(|on_commit| Due { sender: event.sender, on_commit, receipt: taken.receipt.clone() }));
        for sent in receipts {
            let due = due.pop_front().filter(|due| sent.event.receipt_of == Some(due.receipt.id));
            let Some(due) = due else { return wrong(Law::Receipt, "a receipt goes out that nobody asked for") };
            self.receipt(sent, &due)?;
            must(sent.refused.is_none(), Law::Receipt, "a receipt that was asked for is refused")?;
            self.queue(&sent.event, None, entry.order)?;
        }
        must(due.is_empty(), Law::Receipt, "a receipt that was asked for does not go out")
    }

    /// One receipt event (S6).
    fn receipt(&self, sent: &Sent, due: &Due) -> Verdict {
        let Event { id, sender, to, stream, payload, on_commit, receipt_of: _, supplied, awaited } = &sent.event;
        let home = (*sender, *to, stream) == (due.sender, due.sender, &due.on_commit.stream);
        must(home, Law::Receipt, "a receipt goes to another than asked for it")?;
        let carried = carried(&due.receipt, &due.on_commit.tag);
        must(carried.as_ref() == Some(payload), Law::Receipt, "a receipt carries other than status and tag")?;
        must(on_commit.is_none() && !supplied && !awaited, Law::Receipt, "a receipt asks for a receipt")?;
        must(*id == self.mint.receipt_of(&due.receipt.id), Law::Cause, "an event id that is not of this store's making")
    }

    /// Gives an event its place in the queue, or none when it is refused.
    fn queue(&mut self, event: &Event, refused: Option<Outcome>, order: u64) -> Verdict {
        must(!self.events.contains_key(&event.id), Law::Once, "an event id goes out a second time")?;
        self.events.insert(event.id, Known { order, receipt: None });
        if refused.is_some() {
            return Ok(());
        }
        self.position += 1;
        let charm = self.made.contains_key(&event.to) && self.host != Some(event.to);
        must(charm, Law::Cause, "an event waits for a charm that is not there")?;
        self.waiting.insert(self.position, (order, event.clone()));
        Ok(())
    }

    fn settle(&mut self, event: &Event, receipt: &Receipt, order: u64) -> Verdict {
        let digest = event.supplied.then(|| digest(event));
        let row = ReceiptRow { receipt: receipt.clone(), sender: event.sender, to: event.to, digest };
        let known = self.events.insert(event.id, Known { order, receipt: Some(fingerprint(&row)) });
        must(known.is_some_and(|known| known.receipt.is_none()), Law::Once, "an event is settled a second time")?;
        self.settled += 1;
        Ok(())
    }

    fn bury(&mut self, charm: &Did, event: &EventId) -> Verdict<Letter> {
        let letter = self.dead.remove(event).filter(|letter| letter.to == *charm);
        letter.ok_or(Wrong { law: Law::Cause, why: "a dead letter goes that is not there" })
    }

    fn write(&mut self, space: Did, order: u64, seq: u64, writes: Vec<Write>) -> Verdict {
        must(writes.is_sorted_by(|a, b| a.name < b.name), Law::State, "a cell is written twice")?;
        let cells = self.cells.entry(space).or_default();
        for write in writes {
            let linked = cells.get(&write.name).map_or(0, |cell| cell.seq) == write.previous;
            must(linked, Law::State, "a write does not name the one before it")?;
            let cell = cells.entry(write.name).or_insert(Cell { order, seq, value: None });
            (cell.order, cell.seq) = (order, seq);
            edits::apply(&mut cell.value, &write.edits).or_else(|why| wrong(Law::State, why))?;
        }
        Ok(())
    }
}

/// Returns an event as it would be sent again from a dead letter, without its id.
fn nameless(event: &Event) -> Event {
    Event { id: EventId([0; 16]), on_commit: None, supplied: false, awaited: false, ..event.clone() }
}

/// Returns `{receipt: {id, outcome, commit, message}, tag}`, made here a second time: a proof does not take the
/// host's word.
fn carried(receipt: &Receipt, tag: &Value) -> Option<Value> {
    let map = |entries: [(&str, Ipld); 2]| entries.map(|(key, value)| (key.to_owned(), value)).into_iter();
    let (id, outcome) = (receipt.id.to_string(), receipt.outcome.name().to_owned());
    let commit = receipt.commit.map_or(Ipld::Null, |seq| Ipld::Integer(seq.into()));
    let message = receipt.message.clone().map_or(Ipld::Null, Ipld::String);
    let status = map([("id", Ipld::String(id)), ("outcome", Ipld::String(outcome))])
        .chain(map([("commit", commit), ("message", message)]));
    let whole = map([("receipt", Ipld::Map(status.collect())), ("tag", tag.decode().ok()?)]);
    Value::encode(&Ipld::Map(whole.collect())).ok()
}
