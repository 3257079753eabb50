//! The record of what clients asked and were told.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard},
};

use super::{End, Key, Kind, Step, Transaction, bounded};

/// What a read gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There is no value.
    Nothing,
    /// A register.
    One(u32),
    /// A list.
    List(Vec<u32>),
}

/// What happened to a transaction, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// A record of transactions, in the order of the moments at which clients began them and learnt how they ended.
/// Any number of clients note at once.
pub struct History {
    kind: Kind,
    inner: Mutex<Record>,
}

#[derive(Default)]
pub(super) struct Record {
    /// By number.
    pub transactions: HashMap<u32, Transaction>,
    /// What happened, in order: transactions by number.
    pub notes: Vec<(u32, Note)>,
    /// What transactions read, by number.
    pub seen: HashMap<u32, Vec<Seen>>,
}

impl Record {
    /// Returns where each transaction stands in the order of commits.
    fn places(&self, order: &[u32]) -> Result<HashMap<u32, usize>, String> {
        let mut places = HashMap::new();
        for (index, number) in order.iter().enumerate() {
            if !self.transactions.contains_key(number) {
                return Err(format!("T{number} committed, and nobody asked for it"));
            }
            if places.insert(*number, index).is_some() {
                return Err(format!("T{number} committed twice"));
            }
        }
        for (number, transaction) in &self.transactions {
            let Some(then) = &transaction.then else { continue };
            match (places.get(number), places.get(&then.number)) {
                (None, Some(_)) => return Err(format!("T{} took place without T{number}, which sent it", then.number)),
                (Some(_), None) if then.end == End::Commit => {
                    return Err(format!("T{number} committed, and T{} that it sent is lost", then.number));
                }
                (Some(sender), Some(sent)) if sent < sender => {
                    return Err(format!("T{} took place before T{number}, which sent it", then.number));
                }
                _ => {}
            }
        }
        Ok(places)
    }

    /// Returns the transactions of which is noted how they ended.
    pub fn ended(&self) -> HashSet<u32> {
        self.notes.iter().filter(|(_, note)| *note != Note::Invoke).map(|(number, _)| *number).collect()
    }

    /// Returns a transaction that committed and of which is not known what it read.
    pub fn unread(&self) -> Option<u32> {
        let knows = |number| {
            let seen = self.seen.get(number).map_or(0, Vec::len);
            seen == self.transactions[number].reads()
        };
        let mut committed = self.notes.iter().filter(|(_, note)| *note == Note::Ok);
        committed.find(|(number, _)| !knows(number)).map(|(number, _)| *number)
    }
}

impl History {
    /// Returns an empty record.
    pub fn new(kind: Kind) -> History {
        History { kind, inner: Mutex::default() }
    }

    /// Returns what the keys hold.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.inner.lock().unwrap()
    }

    /// A client begins: to be noted before anything is asked of the host. What the transaction sends begins too.
    pub fn invoke(&self, transaction: &Transaction) {
        let mut record = self.record();
        for begun in [Some(transaction), transaction.then.as_deref()].into_iter().flatten() {
            record.notes.push((begun.number, Note::Invoke));
            record.transactions.insert(begun.number, begun.clone());
        }
    }

    /// The client knows that it committed: to be noted after the answer is there.
    pub fn ok(&self, number: u32) {
        self.record().notes.push((number, Note::Ok));
    }

    /// The client knows that nothing of it remains, nor of what it sends.
    pub fn fail(&self, number: u32) {
        self.note_with_sent(number, Note::Fail);
    }

    /// The client does not know what became of it, and never will. Nor of what it sends.
    pub fn info(&self, number: u32) {
        self.note_with_sent(number, Note::Info);
    }

    fn note_with_sent(&self, number: u32, note: Note) {
        let mut record = self.record();
        let sent = record.transactions[&number].then.as_ref().map(|then| then.number);
        record.notes.extend([Some(number), sent].into_iter().flatten().map(|number| (number, note)));
    }

    /// No event waits any more: what committed transactions have sent has ended.
    pub fn settled(&self) {
        let mut record = self.record();
        let ended: HashSet<u32> = record.ended();
        let committed = record.notes.iter().filter(|(_, note)| *note == Note::Ok);
        let sent = committed.filter_map(|(number, _)| record.transactions[number].then.as_ref());
        let open = sent.filter(|then| !ended.contains(&then.number));
        let notes: Vec<_> =
            open.map(|then| (then.number, if then.end == End::Commit { Note::Ok } else { Note::Fail })).collect();
        record.notes.extend(notes);
    }

    /// What a committed transaction read, in the order of its steps; at any time before the check.
    pub fn saw(&self, number: u32, seen: Vec<Seen>) {
        self.record().seen.insert(number, seen);
    }

    /// Returns how many transactions are known to have committed, known to have failed, and unknown.
    pub fn counts(&self) -> (usize, usize, usize) {
        let record = self.record();
        let count = |wanted| record.notes.iter().filter(|(_, note)| *note == wanted).count();
        (count(Note::Ok), count(Note::Fail), count(Note::Info))
    }

    /// Returns how many of these transactions are unknown to their clients.
    pub fn unknown_of(&self, numbers: &[u32]) -> usize {
        let numbers: HashSet<u32> = numbers.iter().copied().collect();
        let record = self.record();
        record.notes.iter().filter(|(number, note)| *note == Note::Info && numbers.contains(number)).count()
    }

    /// Checks the record against the order in which the transactions of charms committed, by their numbers: one
    /// by one in this order they read what they read, each stands in it once, all that are known to have committed and
    /// none that is known to have failed, none that began after another had ended comes before it, and what a
    /// transaction sends comes after it if it is there, and not at all if it is not.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn replay(&self, order: &[u32]) -> Result<(), String> {
        let record = self.record();
        let place = record.places(order)?;
        let mut state: HashMap<Key, Vec<u32>> = HashMap::new();
        for number in order {
            let transaction = &record.transactions[number];
            let mut expected = Vec::new();
            for step in &transaction.steps {
                match step {
                    Step::Read(key) => expected.push(match (self.kind, state.get(key)) {
                        (_, None) => Seen::Nothing,
                        (Kind::Lists, Some(values)) => Seen::List(values.clone()),
                        (Kind::Registers, Some(values)) => Seen::One(values[values.len() - 1]),
                    }),
                    Step::Write(key, value) => state.entry(*key).or_default().push(*value),
                    Step::Wait(_) => {}
                }
            }
            let seen = record.seen.get(number);
            if seen != Some(&expected) {
                let text = format!("T{number} in the order of commits reads {expected:?}, and it read {seen:?}");
                return Err(bounded(text));
            }
        }
        let (mut last, mut after) = (None, HashMap::new());
        for (number, note) in &record.notes {
            let placed = place.get(number);
            match note {
                Note::Invoke => drop(after.insert(number, last)),
                Note::Fail if placed.is_some() => return Err(format!("T{number} failed, and it committed")),
                Note::Ok if record.transactions[number].space.is_some() => {
                    let place = placed.ok_or(format!("T{number} committed, and it is lost"))?;
                    last = last.max(Some(*place));
                }
                _ => {}
            }
        }
        for (number, place) in &place {
            if after[number] > Some(*place) {
                return Err(format!("T{number} committed before one that had ended when it began"));
            }
        }
        Ok(())
    }
}
