//! Runs a workload on a host: clients at once, charms that suspend in the middle of a turn, and disks that fail.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use charm_conformance::{
    Control, GatedStore, Keys, Random, Wire, all_of, builder, component, grant,
    isolation::{History, Kind, Seen, Step, Transaction, Workload, check, told},
};
use charm_host::{
    Archive, BoxFuture, Charm, Did, Host, Limits, MemoryStore, NewEvent, Outcome, Path, Request, Response, Segment,
    SendError, StoreError, Transport, TransportError, Unavailable,
};
use tokio::sync::watch;

/// What ends the life of a host, or troubles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A batch fails; it is written all the same, or not.
    Store { written: bool },
    /// The host is dropped while a batch is on its way to the disk; it arrives there, or not.
    DropInCommit { written: bool },
    /// The host is dropped at any moment.
    Drop,
    /// The disk is full for a moment.
    Full,
}

const FAULTS: [Fault; 6] = [
    Fault::Store { written: false },
    Fault::Store { written: true },
    Fault::DropInCommit { written: false },
    Fault::DropInCommit { written: true },
    Fault::Drop,
    Fault::Full,
];

/// How many transactions ended how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub committed: usize,
    pub failed: usize,
    pub unknown: usize,
    /// Of the unknown ones, those that the log has.
    pub unknown_committed: usize,
    /// Sent again to the next host, with an id, and answered there.
    pub settled_later: usize,
    /// Turns that ran again.
    pub reruns: u64,
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Figures) {
        self.committed += other.committed;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.unknown_committed += other.unknown_committed;
        self.settled_later += other.settled_later;
        self.reruns += other.reruns;
    }
}

/// One history: what its clients share, through all lives of the host.
struct Trial {
    kind: Kind,
    history: History,
    workload: Mutex<Workload>,
    /// Transactions that may still begin.
    left: AtomicU32,
    /// Those whose outcome a client asks the next host for.
    again: Mutex<Vec<Transaction>>,
    settled_later: AtomicU32,
}

/// One life of the host.
struct Life {
    host: Host,
    spaces: Vec<Did>,
    control: Control,
    /// The fault, and after how many transactions of this life it strikes.
    fault: Option<(Fault, u32)>,
    ended: AtomicU32,
    /// Tells the clients that the host is gone.
    gone: watch::Sender<bool>,
}

/// Runs one history of that many transactions, with or without faults, and checks it.
///
/// # Errors
/// What is wrong with it.
pub async fn run(seed: u64, transactions: u32, faults: bool) -> Result<Figures, String> {
    let workload = Workload::new(Kind::of(seed), seed);
    let (kind, spaces, clients) = (workload.kind(), workload.spaces(), workload.clients());
    let trial = Arc::new(Trial {
        kind,
        history: History::new(kind),
        workload: Mutex::new(workload),
        left: AtomicU32::new(transactions),
        again: Mutex::default(),
        settled_later: AtomicU32::new(0),
    });
    let mut reruns = 0;
    let (memory, keys, mut random) = (MemoryStore::new(), Keys::default(), Random::new(!seed));
    loop {
        let left = u64::from(trial.left.load(Ordering::Relaxed));
        let strikes = faults && left > u64::from(transactions) / 4;
        let fault = strikes.then(|| (*random.pick(&FAULTS), 1 + random.below(left / 2) as u32));
        let life = Arc::new(open(&memory, &keys, spaces, fault).await);
        let tasks: Vec<_> = (0..clients).map(|_| tokio::spawn(client(trial.clone(), life.clone()))).collect();
        for task in tasks {
            task.await.map_err(|error| error.to_string())?;
        }
        let Ok(life) = Arc::try_unwrap(life) else { panic!("all clients have left") };
        let is_gone = *life.gone.borrow() || life.is_struck();
        let Life { host, spaces, control, .. } = life;
        reruns += host.counters().conflicts;
        if !is_gone {
            host.settled().await.map_err(|error| error.to_string())?;
            finish(&trial, &host, &spaces).await;
            host.shutdown().await.map_err(|error| error.to_string())?;
            break;
        }
        drop(host);
        if let Some((Fault::DropInCommit { written: false }, _)) = fault {
            control.fail(Some(StoreError::Failed("power cut".to_owned())));
        }
        control.release();
        control.closed().await;
    }
    let (figures, replayed) = examine(&trial, memory);
    match (check(&trial.history), replayed) {
        (Ok(()), Ok(())) => Ok(Figures { reruns, ..figures }),
        (Ok(()), Err(why)) => Err(why),
        (Err(anomalies), Ok(())) => Err(anomalies.to_string()),
        (Err(anomalies), Err(why)) => Err(format!("{why}\n{anomalies}")),
    }
}

/// Opens a host with a charm a space, again or for the first time.
async fn open(memory: &MemoryStore, keys: &Keys, spaces: usize, fault: Option<(Fault, u32)>) -> Life {
    let (store, control) = GatedStore::new(memory.clone());
    // However slow the machine is: every transaction ends as it should.
    let (conflict_ms_max, compute_ms_max) = (3_600_000, 600_000);
    let limits = Limits { turns_max: 8, conflict_ms_max, compute_ms_max, ..Limits::default() };
    let host = builder().store(store).keyring(keys.clone()).limits(limits).transport(Pauses).open().await.unwrap();
    let names: Vec<String> = (0..spaces).map(|number| format!("space-{number}")).collect();
    let known: Vec<Did> = names.iter().filter_map(|name| host.did_of(name)).collect();
    let mut charms = Vec::new();
    for name in names {
        let mut charm = Charm::new(name, component("isolation")).may_call(Wire::grant());
        // Events that waited run as soon as their charms are there.
        for (did, all) in all_of(&known) {
            charm = charm.may_read(did, all.clone()).may_send(did, all);
        }
        charms.push(charm);
    }
    let dids = host.install_all(charms).await.unwrap();
    for did in &dids {
        grant(&host, *did, all_of(&dids), all_of(&dids)).await.unwrap();
    }
    Life { host, spaces: dids, control, fault, ended: AtomicU32::new(0), gone: watch::Sender::new(false) }
}

/// Takes one transaction after the other, until there are no more or the host is gone.
async fn client(trial: Arc<Trial>, life: Arc<Life>) {
    let mut gone = life.gone.subscribe();
    while !*gone.borrow() {
        let again = trial.again.lock().unwrap().pop();
        let is_again = again.is_some();
        let Some(transaction) = again.or_else(|| trial.begin()) else { return };
        let answer = tokio::select! {
            answer = perform(&trial, &life, &transaction) => answer,
            _ = gone.wait_for(|gone| *gone) => Answer::Unknown,
        };
        let number = transaction.number;
        match answer {
            Answer::Committed => trial.history.ok(number),
            Answer::Failed => trial.history.fail(number),
            Answer::Unknown if has_id(&transaction) => trial.again.lock().unwrap().push(transaction),
            Answer::Unknown => trial.history.info(number),
        }
        if is_again && answer != Answer::Unknown {
            trial.settled_later.fetch_add(1, Ordering::Relaxed);
        }
        life.strike().await;
    }
}

/// What a client knows in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Committed,
    Failed,
    Unknown,
}

/// Some clients give their event an id of its own, and ask the next host for what this one did not tell.
fn has_id(transaction: &Transaction) -> bool {
    transaction.number.is_multiple_of(4) && transaction.space.is_some()
}

async fn perform(trial: &Trial, life: &Life, transaction: &Transaction) -> Answer {
    let Some(space) = transaction.space else { return look(trial, life, transaction).await };
    let mut event = NewEvent::new(life.spaces[space], "run", transaction.event(trial.kind, &life.spaces));
    if has_id(transaction) {
        event = event.id(transaction.number.to_string());
    }
    match life.host.request(event).await {
        Ok(receipt) if receipt.outcome == Outcome::Committed => Answer::Committed,
        Ok(_) => Answer::Failed,
        Err(SendError::Unavailable(why)) => {
            life.wait_out(&why).await;
            Answer::Unknown
        }
        Err(error) => panic!("T{}: {error}", transaction.number),
    }
}

/// Reads one key from outside.
async fn look(trial: &Trial, life: &Life, transaction: &Transaction) -> Answer {
    let [Step::Read(key)] = transaction.steps[..] else { panic!("one read from outside: {transaction:?}") };
    let (cell, inside) = key.place();
    let path = Path(inside.map(Segment::Key).into_iter().collect());
    match life.host.get(&life.spaces[key.space], &cell, &path).await {
        Ok(value) => {
            trial.history.saw(transaction.number, vec![Seen::from(value)]);
            Answer::Committed
        }
        // It changes nothing.
        Err(_) => Answer::Failed,
    }
}

impl Trial {
    fn begin(&self) -> Option<Transaction> {
        let take = |left: u32| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        let transaction = self.workload.lock().unwrap().transaction();
        self.history.invoke(&transaction);
        Some(transaction)
    }
}

impl Life {
    /// Returns whether the host does not survive: the fault struck.
    fn is_struck(&self) -> bool {
        self.fault.is_some_and(|(fault, at)| fault != Fault::Full && self.ended.load(Ordering::Relaxed) >= at)
    }

    /// Counts a transaction that ended; the fault strikes when it is time.
    async fn strike(&self) {
        let ended = 1 + self.ended.fetch_add(1, Ordering::Relaxed);
        let Some((fault, _)) = self.fault.filter(|(_, at)| *at == ended) else { return };
        let failed = StoreError::Failed("input/output error".to_owned());
        match fault {
            Fault::Store { written: true } => self.control.fail_next(failed, true),
            Fault::Store { written: false } => self.control.fail(Some(failed)),
            Fault::DropInCommit { .. } => {
                let count = self.control.count();
                self.control.hold();
                // Without other clients nothing comes any more: then it is a drop at any moment.
                tokio::select! {
                    () = self.control.more_than(count) => {}
                    () = async { for _ in 0..10_000 { tokio::task::yield_now().await } } => {}
                }
                self.gone.send_replace(true);
            }
            Fault::Drop => drop(self.gone.send_replace(true)),
            Fault::Full => {
                let count = self.control.count();
                self.control.fail(Some(StoreError::Full));
                tokio::select! {
                    () = self.control.more_than(count + 2) => {}
                    () = async { for _ in 0..10_000 { tokio::task::yield_now().await } } => {}
                }
                self.control.fail(None);
            }
        }
    }

    /// A host that stopped is gone; a full disk has room soon.
    async fn wait_out(&self, why: &Unavailable) {
        match why {
            Unavailable::DiskFull => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
            _ => drop(self.gone.send_replace(true)),
        }
    }
}

/// Ends a history: nothing more is asked, and the last transactions read everything.
async fn finish(trial: &Trial, host: &Host, spaces: &[Did]) {
    for transaction in trial.again.lock().unwrap().drain(..) {
        trial.history.info(transaction.number);
    }
    trial.history.settled();
    let last = trial.workload.lock().unwrap().last();
    for transaction in last {
        trial.history.invoke(&transaction);
        let event = NewEvent::new(spaces[0], "run", transaction.event(trial.kind, spaces));
        assert_eq!(host.request(event).await.unwrap().outcome, Outcome::Committed);
        trial.history.ok(transaction.number);
    }
}

/// Takes from the log what every committed transaction read, and compares the order of commits with the record.
fn examine(trial: &Trial, memory: MemoryStore) -> (Figures, Result<(), String>) {
    let archive = Archive::open(memory).unwrap();
    let (mut last_read, mut order) = (0, Vec::new());
    loop {
        let commits = archive.commits(None, last_read, 1_000).unwrap();
        let Some(last) = commits.last() else { break };
        last_read = last.order;
        for write in commits.iter().flat_map(|commit| commit.record.writes()).filter(|write| &*write.name == "out") {
            let (number, seen) = told(write.edits[0].put.as_ref().unwrap());
            trial.history.saw(number, seen);
            order.push(number);
        }
    }
    let (committed, failed, unknown) = trial.history.counts();
    let figures = Figures {
        reruns: 0,
        committed,
        failed,
        unknown,
        unknown_committed: trial.history.unknown_of(&order),
        settled_later: trial.settled_later.load(Ordering::Relaxed) as usize,
    };
    (figures, trial.history.replay(&order))
}

/// A network that answers after others went on, as often as the path says.
struct Pauses;

impl Transport for Pauses {
    fn exchange(&self, request: Request, _: bool) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let times = request.url.rsplit('/').next().and_then(|times| times.parse().ok()).unwrap_or(0);
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
            Ok(Response { status: 200, headers: Vec::new(), body: Vec::new() })
        })
    }
}
