//! Transactions from a seed, and how the guest `isolation` is told them.

use std::fmt::Write as _;

use charm_host::{Did, Value};
use ipld_core::ipld::Ipld;

use super::Seen;
use crate::{Random, WIRE};

/// What the keys hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lists that only grow: a read tells the order of all writes before it.
    Lists,
    /// Single values.
    Registers,
}

impl Kind {
    /// Returns the kind that goes with a seed: lists twice as often, they tell more.
    pub fn of(seed: u64) -> Kind {
        if seed.is_multiple_of(3) { Kind::Registers } else { Kind::Lists }
    }
}

/// A place that transactions read and write. Only the charm of its space writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Number of the space, from 0.
    pub space: usize,
    /// Number in the space.
    pub number: u32,
}

impl Key {
    /// Returns the cell, and the key inside its value: of three keys one is a whole cell and two share one. The guest
    /// declares 120 of each kind; with more keys all that follow are inside of those that are shared.
    pub fn place(self) -> (String, Option<String>) {
        match (self.number / 3, self.number % 3) {
            (cell @ 0..120, 0) => (format!("whole-{cell}"), None),
            (cell @ 0..120, half) => (format!("shared-{cell}"), Some(format!("half-{half}"))),
            (cell, part) => (format!("shared-{}", cell % 120), Some(format!("part-{part}-{}", cell / 120))),
        }
    }
}

/// One step of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads a key.
    Read(Key),
    /// Appends this to the list, or sets the register to it. No key gets a value twice.
    Write(Key, u32),
    /// Lets others go on, as often as the number says.
    Wait(u32),
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It means to commit.
    Commit,
    /// Its handler returns an error.
    Reject,
    /// Its handler traps.
    Trap,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its number, from 0.
    pub number: u32,
    /// The space whose charm runs it and whose keys it writes; none for a single read from outside.
    pub space: Option<usize>,
    /// What it does.
    pub steps: Vec<Step>,
    /// How it ends.
    pub end: End,
    /// What it sends to another charm, or its own, in its last step: a transaction that takes place if this one commits.
    pub then: Option<Box<Transaction>>,
}

impl Transaction {
    /// Returns how many keys it reads, counting each time.
    pub fn reads(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Read(_))).count()
    }

    /// Returns the event that tells the guest `isolation` to do this; `spaces` are the charms by number.
    pub fn event(&self, kind: Kind, spaces: &[Did]) -> Value {
        Value::encode(&self.text(kind, spaces)).unwrap()
    }

    fn text(&self, kind: Kind, spaces: &[Did]) -> String {
        let mut text = format!("{}\n", self.number);
        let tail = |key: &Key| {
            let (cell, inside) = key.place();
            inside.map_or_else(|| cell.clone(), |inside| format!("{cell} {inside}"))
        };
        for step in &self.steps {
            let written = match step {
                Step::Read(key) => writeln!(text, "get {} {}", spaces[key.space], tail(key)),
                Step::Write(key, value) if kind == Kind::Lists => writeln!(text, "push {value} {}", tail(key)),
                Step::Write(key, value) => writeln!(text, "set {value} {}", tail(key)),
                Step::Wait(times) => writeln!(text, "wait {WIRE}/{times}"),
            };
            written.unwrap();
        }
        if let Some((then, space)) = self.then.as_ref().and_then(|then| Some((then, then.space?))) {
            let event = then.text(kind, spaces).replace('\n', ";");
            writeln!(text, "send {} {event}", spaces[space]).unwrap();
        }
        text.push_str(match self.end {
            End::Commit => "",
            End::Reject => "reject\n",
            End::Trap => "trap\n",
        });
        text
    }
}

/// Reads what the guest `isolation` leaves in the cell `out`: the number of the transaction and what it saw.
///
/// # Panics
/// When it is something else.
pub fn told(out: &Value) -> (u32, Vec<Seen>) {
    let Ok(Ipld::List(items)) = out.decode() else { panic!("the cell out holds a list") };
    (number(&items[0]), items[1..].iter().map(seen).collect())
}

impl From<Option<Value>> for Seen {
    /// Takes what a read from outside gave.
    fn from(value: Option<Value>) -> Seen {
        value.map_or(Seen::Nothing, |value| seen(&value.decode().unwrap()))
    }
}

fn seen(value: &Ipld) -> Seen {
    match value {
        Ipld::Null => Seen::Nothing,
        Ipld::List(items) => Seen::List(items.iter().map(number).collect()),
        other => Seen::One(number(other)),
    }
}

fn number(value: &Ipld) -> u32 {
    match value {
        Ipld::Integer(number) => *number as u32,
        other => panic!("{other:?} is not a number"),
    }
}

/// Transactions without end, few keys at a time, so that they meet.
#[derive(Clone, Debug)]
pub struct Workload {
    kind: Kind,
    random: Random,
    number: u32,
    clients: usize,
    /// The keys of each space that are in use now: number, and values written so far.
    keys: Vec<Vec<(u32, u32)>>,
    /// How many keys each space has had.
    had: Vec<u32>,
    /// After so many values a key is left for a new one, so that lists stay short.
    values_max: u32,
}

impl Workload {
    /// Returns the transactions of a seed.
    pub fn new(kind: Kind, seed: u64) -> Workload {
        let mut random = Random::new(seed);
        let (spaces, keys) = (2 + random.below(3) as usize, 1 + random.below(3) as u32);
        Workload {
            kind,
            number: 0,
            clients: 4 + random.below(9) as usize,
            keys: vec![(0..keys).map(|number| (number, 0)).collect(); spaces],
            had: vec![keys; spaces],
            values_max: 8 + random.below(17) as u32,
            random,
        }
    }

    /// Returns what the keys hold.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns how many spaces there are.
    pub fn spaces(&self) -> usize {
        self.keys.len()
    }

    /// Returns how many clients to run at once.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// Returns the next transaction.
    pub fn transaction(&mut self) -> Transaction {
        let space = self.random.below(self.keys.len() as u64) as usize;
        let mut steps = Vec::new();
        let (mut place, mut end) = (Some(space), End::Commit);
        match self.random.below(100) {
            0..5 => {
                place = None;
                steps.push(self.read(space, 0));
            }
            5..25 => steps.extend((0..2 + self.random.below(4)).map(|_| self.read(space, 250))),
            25..40 => steps.extend((0..1 + self.random.below(4)).map(|_| self.write(space))),
            _ => (steps, end) = self.mixed(space),
        }
        if place.is_some() && self.random.chance(150) {
            let at = self.random.below(steps.len() as u64 + 1) as usize;
            steps.insert(at, Step::Wait(self.random.below(40) as u32));
        }
        let mut transaction = self.next(place, steps, end);
        if place.is_some() && self.random.chance(100) {
            let space = self.random.below(self.keys.len() as u64) as usize;
            let (steps, end) = self.mixed(space);
            transaction.then = Some(Box::new(self.next(Some(space), steps, end)));
        }
        transaction
    }

    /// Returns reads and writes, and an end.
    fn mixed(&mut self, space: usize) -> (Vec<Step>, End) {
        let mut steps = Vec::new();
        for _ in 0..2 + self.random.below(4) {
            let step = if self.random.chance(500) { self.read(space, 500) } else { self.write(space) };
            steps.push(step);
        }
        let end = match self.random.below(100) {
            0..4 => End::Reject,
            4 => End::Trap,
            _ => End::Commit,
        };
        (steps, end)
    }

    /// Returns transactions that read every key there ever was: to be run when all others have ended.
    pub fn last(&mut self) -> Vec<Transaction> {
        let keys = |(space, had): (usize, &u32)| (0..*had).map(move |number| Key { space, number });
        let all: Vec<Key> = self.had.iter().enumerate().flat_map(keys).collect();
        let reads = all.chunks(32).map(|keys| keys.iter().map(|key| Step::Read(*key)).collect::<Vec<_>>());
        reads.collect::<Vec<_>>().into_iter().map(|steps| self.next(Some(0), steps, End::Commit)).collect()
    }

    fn next(&mut self, space: Option<usize>, steps: Vec<Step>, end: End) -> Transaction {
        let number = self.number;
        self.number += 1;
        Transaction { number, space, steps, end, then: None }
    }

    /// Reads a key: of this space in so many of a thousand cases, else of any.
    fn read(&mut self, space: usize, own: u64) -> Step {
        let any = self.random.below(self.keys.len() as u64) as usize;
        let space = if self.random.chance(own) { space } else { any };
        let number = self.random.pick(&self.keys[space]).0;
        Step::Read(Key { space, number })
    }

    fn write(&mut self, space: usize) -> Step {
        let index = self.random.below(self.keys[space].len() as u64) as usize;
        let (number, written) = &mut self.keys[space][index];
        if *written == self.values_max {
            (*number, *written) = (self.had[space], 0);
            self.had[space] += 1;
        }
        *written += 1;
        Step::Write(Key { space, number: *number }, *written)
    }
}
