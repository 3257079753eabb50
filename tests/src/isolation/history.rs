//! The record of what clients asked and were told.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard},
};

use super::{Key, Kind, Step, Transaction, bounded};

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

    /// A client begins: to be noted before anything is asked of the host.
    pub fn invoke(&self, transaction: &Transaction) {
        let mut record = self.record();
        record.notes.push((transaction.number, Note::Invoke));
        record.transactions.insert(transaction.number, transaction.clone());
    }

    /// The client knows that it committed: to be noted after the answer is there.
    pub fn ok(&self, number: u32) {
        self.record().notes.push((number, Note::Ok));
    }

    /// The client knows that nothing of it remains.
    pub fn fail(&self, number: u32) {
        self.record().notes.push((number, Note::Fail));
    }

    /// The client does not know what became of it, and never will.
    pub fn info(&self, number: u32) {
        self.record().notes.push((number, Note::Info));
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
    /// none that is known to have failed, and none that began after another had ended comes before it.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn replay(&self, order: &[u32]) -> Result<(), String> {
        let record = self.record();
        let mut place = HashMap::new();
        let mut state: HashMap<Key, Vec<u32>> = HashMap::new();
        for (index, number) in order.iter().enumerate() {
            let transaction = record.transactions.get(number).ok_or(format!("T{number} committed, nobody asked"))?;
            if place.insert(*number, index).is_some() {
                return Err(format!("T{number} committed twice"));
            }
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
