//! A small database in memory that qualifies the check: one switch a bug. Without a bug it is strictly serializable
//! (optimistic, many versions, as the host). Clients take turns as the seed says, one step at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use charm_conformance::{
    Random,
    isolation::{End, History, Key, Kind, Seen, Step, Transaction, Workload},
};

/// What the database does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Writes go to the state at once, between those of others.
    DirtyWrite,
    /// What a rejected transaction wrote stays.
    AbortedRead,
    /// A value that its transaction will replace shows before the commit.
    IntermediateRead,
    /// The commit does not check keys that the transaction writes.
    LostUpdate,
    /// A transaction that only reads may see an old state.
    StaleSnapshot,
    /// Each read of a transaction that only reads sees the state of its own moment.
    ReadSkew,
    /// The commit checks only keys that the transaction writes.
    WriteSkew,
    /// Two copies learn independent commits in different orders; transactions that only read ask either.
    LongFork,
    /// A transaction that reads nothing is confirmed before it takes place.
    RealTimeReversal,
    /// A transaction is handled again some time later.
    DoubleDelivery,
    /// A confirmed transaction never takes place.
    LostWrite,
    /// What a rejected transaction sends goes out.
    OrphanedSend,
    /// Each attempt at a transaction sends.
    RepeatedSend,
}

type Value = Vec<u32>;

#[derive(Default)]
struct Database {
    /// The last commit.
    g: u64,
    /// Every version of every key: the commit and the value.
    versions: HashMap<Key, Vec<(u64, Value)>>,
    /// Transactions in the order in which they took place.
    order: Vec<u32>,
    /// For each of two copies the commits that it does not know yet, with their keys.
    hidden: [VecDeque<(u64, BTreeSet<Key>)>; 2],
    /// Sent by others that committed, to be taken by a client.
    inbox: VecDeque<Transaction>,
    /// Confirmed, or to be handled again: takes place later.
    later: Vec<Transaction>,
}

impl Database {
    /// Returns what a key holds at a commit for a copy that does not know some, and the commit that wrote it.
    fn read(&self, key: Key, g: u64, unknown: &BTreeSet<u64>) -> (u64, Value) {
        let mut versions = self.versions.get(&key).into_iter().flatten().rev();
        versions.find(|(at, _)| *at <= g && !unknown.contains(at)).cloned().unwrap_or_default()
    }

    fn latest(&self, key: Key) -> (u64, Value) {
        self.read(key, u64::MAX, &BTreeSet::new())
    }

    fn install(&mut self, writes: BTreeMap<Key, Value>) {
        self.g += 1;
        for (key, value) in writes {
            self.versions.entry(key).or_default().push((self.g, value));
        }
    }

    /// Handles a transaction at one moment, whatever it reads.
    fn handle(&mut self, kind: Kind, transaction: &Transaction) {
        for step in &transaction.steps {
            if let Step::Write(key, value) = step {
                let value = written(kind, self.latest(*key).1, *value);
                self.install([(*key, value)].into());
            }
        }
        self.order.push(transaction.number);
    }
}

/// Returns what a key holds after a write.
fn written(kind: Kind, mut before: Value, value: u32) -> Value {
    match kind {
        Kind::Lists => before.push(value),
        Kind::Registers => before = vec![value],
    }
    before
}

/// A transaction that a client runs.
struct Running {
    transaction: Transaction,
    /// Another transaction sent it: no client waits for its end.
    is_sent: bool,
    step: usize,
    snapshot: u64,
    unknown: BTreeSet<u64>,
    /// Keys read, with the commit that had written them.
    reads: BTreeMap<Key, u64>,
    writes: BTreeMap<Key, Value>,
    seen: Vec<Seen>,
}

/// Runs that many transactions of a workload; returns the record, and the order in which they took place.
pub fn run(seed: u64, transactions: usize, bug: Option<Bug>) -> (History, Vec<u32>) {
    let mut workload = Workload::new(Kind::of(seed), seed);
    let kind = workload.kind();
    let history = History::new(kind);
    let mut run =
        Run { kind, bug, database: Database::default(), random: Random::new(seed ^ 0x5ca1_ab1e), history: &history };
    let mut clients: Vec<Option<Running>> = (0..workload.clients()).map(|_| None).collect();
    let mut begun = 0;
    while begun < transactions || !run.database.inbox.is_empty() || clients.iter().any(Option::is_some) {
        run.sometimes();
        let index = run.random.below(clients.len() as u64) as usize;
        let client = &mut clients[index];
        match client {
            None if !run.database.inbox.is_empty() => {
                let transaction = run.database.inbox.pop_front().unwrap();
                *client = Some(run.begin(transaction, true));
            }
            None if begun < transactions => {
                begun += 1;
                let transaction = workload.transaction();
                history.invoke(&transaction);
                *client = Some(run.begin(transaction, false));
            }
            None => {}
            Some(running) if running.step < running.transaction.steps.len() => run.step(running),
            Some(_) => {
                let running = client.take().unwrap();
                *client = run.end(running);
            }
        }
    }
    for transaction in std::mem::take(&mut run.database.later) {
        run.database.handle(kind, &transaction);
    }
    run.database.hidden = Default::default();
    history.settled();
    for transaction in workload.last() {
        history.invoke(&transaction);
        let mut running = run.begin(transaction, false);
        (running.snapshot, running.unknown) = (run.database.g, BTreeSet::new());
        while running.step < running.transaction.steps.len() {
            run.step(&mut running);
        }
        assert!(run.end(running).is_none(), "nothing else runs");
    }
    let order = run.database.order;
    (history, order)
}

struct Run<'a> {
    kind: Kind,
    bug: Option<Bug>,
    database: Database,
    random: Random,
    history: &'a History,
}

impl Run<'_> {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn begin(&mut self, transaction: Transaction, is_sent: bool) -> Running {
        let (mut snapshot, mut unknown) = (self.database.g, BTreeSet::new());
        if only_reads(&transaction) {
            if self.has(Bug::StaleSnapshot) {
                snapshot = snapshot.saturating_sub(self.random.below(10));
            }
            if self.has(Bug::LongFork) {
                let copy = self.random.below(2) as usize;
                unknown = self.database.hidden[copy].iter().map(|(g, _)| *g).collect();
            }
        }
        let (reads, writes) = (BTreeMap::new(), BTreeMap::new());
        Running { transaction, is_sent, step: 0, snapshot, unknown, reads, writes, seen: Vec::new() }
    }

    fn step(&mut self, running: &mut Running) {
        let step = running.transaction.steps[running.step];
        running.step += 1;
        match step {
            Step::Read(key) => {
                let value = self.value(running, key);
                running.seen.push(match (self.kind, value.last()) {
                    (_, None) => Seen::Nothing,
                    (Kind::Lists, _) => Seen::List(value),
                    (Kind::Registers, Some(last)) => Seen::One(*last),
                });
            }
            Step::Write(key, value) => {
                if self.has(Bug::DirtyWrite) {
                    let value = written(self.kind, self.database.latest(key).1, value);
                    return self.database.install([(key, value)].into());
                }
                let before = if self.kind == Kind::Lists { self.value(running, key) } else { Value::new() };
                running.writes.insert(key, written(self.kind, before, value));
                let again = |step: &Step| matches!(step, Step::Write(other, _) if *other == key);
                let replaced = running.transaction.steps[running.step..].iter().any(again);
                if self.has(Bug::IntermediateRead) && replaced && self.random.chance(500) {
                    self.database.install([(key, running.writes[&key].clone())].into());
                    running.reads.entry(key).and_modify(|g| *g = self.database.g);
                }
            }
            Step::Wait(_) => {}
        }
    }

    /// Reads a key: own writes first, else the snapshot.
    fn value(&self, running: &mut Running, key: Key) -> Value {
        if let Some(own) = running.writes.get(&key) {
            return own.clone();
        }
        let skewed = self.has(Bug::ReadSkew) && only_reads(&running.transaction);
        let snapshot = if skewed || self.has(Bug::DirtyWrite) { u64::MAX } else { running.snapshot };
        let (g, value) = self.database.read(key, snapshot, &running.unknown);
        running.reads.insert(key, g);
        value
    }

    /// Ends a transaction; returns it anew when it has to run again.
    fn end(&mut self, running: Running) -> Option<Running> {
        let number = running.transaction.number;
        if running.transaction.end != End::Commit {
            if self.has(Bug::AbortedRead) {
                self.database.install(running.writes);
            }
            if self.has(Bug::OrphanedSend) {
                self.database.inbox.extend(running.transaction.then.map(|then| *then));
            }
            if !running.is_sent {
                self.history.fail(number);
            }
            return None;
        }
        if !self.is_valid(&running) {
            if self.has(Bug::RepeatedSend) {
                self.database.inbox.extend(running.transaction.then.as_deref().cloned());
            }
            return Some(self.begin(running.transaction, running.is_sent));
        }
        self.history.saw(number, running.seen.clone());
        if running.is_sent {
            self.commit(&running);
            return None;
        }
        // The answer may get lost on its way, and the event on its way there.
        let (answered, arrived) = (!self.random.chance(20), !self.random.chance(10));
        if answered || arrived {
            self.commit(&running);
        }
        if answered {
            self.history.ok(number);
        } else {
            self.history.info(number);
        }
        None
    }

    fn is_valid(&self, running: &Running) -> bool {
        let free = [Bug::StaleSnapshot, Bug::ReadSkew, Bug::LongFork];
        if free.iter().any(|bug| self.has(*bug)) && only_reads(&running.transaction) || self.has(Bug::DirtyWrite) {
            return true;
        }
        running.reads.iter().all(|(key, g)| {
            let written = running.writes.contains_key(key);
            let unchecked = self.has(Bug::LostUpdate) && written || self.has(Bug::WriteSkew) && !written;
            unchecked || self.database.latest(*key).0 == *g
        })
    }

    fn commit(&mut self, running: &Running) {
        let transaction = &running.transaction;
        self.database.inbox.extend(transaction.then.as_deref().cloned());
        if self.has(Bug::RealTimeReversal) && running.seen.is_empty() && self.random.chance(200) {
            return self.database.later.push(transaction.clone());
        }
        if self.has(Bug::LostWrite) && self.random.chance(20) {
            return;
        }
        if self.has(Bug::DoubleDelivery) && self.random.chance(20) {
            self.database.later.push(transaction.clone());
        }
        if transaction.space.is_some() {
            self.database.order.push(transaction.number);
        }
        self.database.install(running.writes.clone());
        if self.has(Bug::LongFork) && !running.writes.is_empty() {
            self.fork(running);
        }
    }

    /// One copy learns a commit now, the other later. What a commit builds on is known where it is known.
    fn fork(&mut self, running: &Running) {
        let copy = self.random.below(2) as usize;
        let keys: BTreeSet<Key> = running.reads.keys().chain(running.writes.keys()).copied().collect();
        if self.database.hidden[copy].iter().any(|(_, others)| !others.is_disjoint(&keys)) {
            self.database.hidden[copy].clear();
        }
        let written = running.writes.keys().copied().collect();
        self.database.hidden[1 - copy].push_back((self.database.g, written));
    }

    /// What takes place later does so at some moment.
    fn sometimes(&mut self) {
        if self.random.chance(20) {
            let copy = self.random.below(2) as usize;
            self.database.hidden[copy].pop_front();
        }
        if self.random.chance(20) && !self.database.later.is_empty() {
            let transaction = self.database.later.remove(0);
            self.database.handle(self.kind, &transaction);
        }
    }
}

fn only_reads(transaction: &Transaction) -> bool {
    !transaction.steps.iter().any(|step| matches!(step, Step::Write(..)))
}
