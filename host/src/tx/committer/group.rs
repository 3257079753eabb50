//! Group commit: makes whatever queued while the last sync ran durable with one sync (T8, I3).
//!
//! Encoding, hashing, chaining and signing happen here, off the path of turns. The host's key seals every batch; each space's
//! own key signs its head at most [`SIGN_HEADS`] later, and at a clean end. The only caller of [`Store::commit`].
//! A full disk and a lock of another program are waited out; after any other failure the host writes no more: what reached
//! the disk is unknown, and only opening the store again tells.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound::{Excluded, Unbounded},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::sync::{Notify, oneshot, watch};

use super::{
    Committer, Notice, Unavailable,
    figures::{Change, Figures, changes},
    line::Line,
    shares::Shares,
};
use crate::{
    core::{Commit, Effects},
    did::Did,
    entry::{LogEntry, entry_hash, seal_message},
    env::Env,
    event::{Event, EventId},
    keyring::{KeyError, Keyring},
    limits::{Limits, ROW_BYTES},
    log::say,
    receipt::Receipt,
    record::{self, Hash},
    rows::{Batch, Image, Notes, ReceiptRow},
    store::{Store, StoreError, coalesce},
    value::Edit,
};

/// Longest time between two tries on a full disk, or a locked file.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Most commits in one batch, so that one batch stays a few milliseconds of work.
const BATCH_COMMITS_MAX: usize = 1_024;
/// Values and payloads in one batch, in bytes; the last commit may go over.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Longest time until a space's own key signs its head (I3), or begins to with those before it.
const SIGN_HEADS: Duration = Duration::from_secs(1);
/// Heads that are signed with one batch: a few milliseconds of work.
const HEADS_MAX: usize = 128;

/// Whether anything can be written. Changes seldom: all who wait for anything are woken by it.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    /// Why nothing can be written now: it is tried again.
    pub waits: Option<Unavailable>,
    /// Why nothing is written any more.
    pub stopped: Option<Unavailable>,
}

impl Health {
    pub fn check(&self) -> Result<(), Unavailable> {
        match &self.stopped {
            Some(stopped) => Err(stopped.clone()),
            None => self.waits.clone().map_or(Ok(()), Err),
        }
    }
}

/// What waits to become durable.
pub(super) enum Item {
    /// Notes of a charm that changed, and what to tell the operator.
    Notes { charm: Did, notes: Notes, told: Option<String> },
    /// A commit, its place in the chain still open, and what follows from it.
    Commit { commit: Box<Commit>, effects: Box<Effects>, at: Duration },
}

impl Item {
    /// Returns what it takes on disk: rows, and the values and payloads that they carry.
    fn bytes(&self) -> usize {
        let Item::Commit { commit, .. } = self else { return ROW_BYTES };
        let writes = commit.record.writes().iter();
        let writes = writes.map(|write| write.edits.iter().map(Edit::bytes).sum::<usize>());
        let tag = |event: &Event| event.on_commit.as_ref().map_or(0, |on_commit| on_commit.tag.as_bytes().len());
        let sends = commit.record.sends().map(|(event, _)| event.payload.as_bytes().len() + tag(event));
        2 * ROW_BYTES + writes.chain(sends).map(|bytes| ROW_BYTES + bytes).sum::<usize>()
    }

    /// Returns the charm whose turn it is; none for what others did.
    fn charm(&self) -> Option<Did> {
        match self {
            Item::Commit { commit, .. } if commit.taken.is_some() => Some(commit.record.space),
            _ => None,
        }
    }
}

/// The chains as far as they are handed to the store.
struct Chains {
    /// Last record of each space: number and hash.
    heads: HashMap<Did, (u64, Hash)>,
    /// Hash of the log's last entry.
    end: Hash,
    /// Spaces whose head their own key has not signed.
    unsigned: BTreeSet<Did>,
    /// When all were signed last.
    signed: Duration,
    /// The space whose head was signed last, while others that have moved are still to be signed.
    upto: Option<Did>,
}

/// The queue between the committer and the disk.
pub(super) struct Group {
    items: Mutex<Vec<Item>>,
    /// Items that are not durable yet, those in the batch that is being written too, by charm.
    shares: Mutex<Shares>,
    wake: Notify,
    /// A batch is durable that the index does not have.
    pub(super) committed: Notify,
    pub(super) store: Arc<dyn Store>,
    keyring: Arc<dyn Keyring>,
    pub(super) env: Arc<dyn Env>,
    limits: Arc<Limits>,
    /// The host's own space, whose key seals each batch.
    host: Did,
    /// Locked while a batch is written.
    chains: Mutex<Chains>,
    /// Changed when a batch is durable, before anybody hears of it.
    figures: Mutex<Figures>,
    /// The last durable commit; changes with every batch.
    durable: watch::Sender<u64>,
    health: watch::Sender<Health>,
    /// Who waits for a commit to be durable.
    pub line: Line,
    /// `finish` closes the store and is told how that went; else whoever comes last does.
    finishes: AtomicBool,
}

/// A batch and what it tells the world once it is durable.
#[derive(Default)]
struct Work {
    batch: Batch,
    order: u64,
    receipts: Vec<Receipt>,
    told: Vec<String>,
    changes: Vec<Change>,
}

impl Group {
    #[expect(clippy::too_many_arguments, reason = "made in one place")]
    pub fn new(
        store: Arc<dyn Store>,
        keyring: Arc<dyn Keyring>,
        env: Arc<dyn Env>,
        limits: Arc<Limits>,
        image: &Image,
        host: Did,
        figures: Figures,
        durable: watch::Sender<u64>,
        health: watch::Sender<Health>,
    ) -> Arc<Group> {
        let is_open = |signed: Option<(u64, _)>, seq| signed.map_or(0, |(signed, _)| signed) < seq;
        let unsigned = image.spaces.iter().filter(|row| is_open(row.signed, row.seq)).map(|row| row.did).collect();
        let heads = image.spaces.iter().map(|row| (row.did, (row.seq, row.head))).collect();
        let chains = Chains { heads, end: image.end, unsigned, signed: env.monotonic(), upto: None };
        let (items, shares) = Default::default();
        Arc::new(Group {
            items,
            shares,
            limits,
            wake: Notify::new(),
            committed: Notify::new(),
            store,
            keyring,
            env,
            host,
            chains: Mutex::new(chains),
            figures: Mutex::new(figures),
            durable,
            health,
            line: Line::default(),
            finishes: AtomicBool::new(false),
        })
    }

    fn items(&self) -> MutexGuard<'_, Vec<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a receipt up where blocking hurts nobody.
    ///
    /// # Errors
    /// When the store is damaged.
    pub async fn receipt(&self, id: EventId) -> Result<Option<ReceiptRow>, StoreError> {
        let (store, (sender, receiver)) = (self.store.clone(), oneshot::channel());
        self.env.block(Box::new(move || drop(sender.send(store.receipt(&id))))).await;
        receiver.await.unwrap_or_else(|_| Err(StoreError::Failed("looking a receipt up panicked".to_owned())))
    }

    pub fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes items in their order, all at once.
    pub fn push(&self, some: impl IntoIterator<Item = Item>) {
        let mut items = self.items();
        let mut shares = self.shares();
        for item in some {
            let at = if let Item::Commit { at, .. } = &item { *at } else { Duration::ZERO };
            shares.push(item.charm(), item.bytes(), &self.limits, at);
            items.push(item);
        }
        drop((items, shares));
        self.wake.notify_one();
    }

    pub fn close(&self) {
        self.stop(Unavailable::Closed);
        if !matches!(self.chains.try_lock(), Err(TryLockError::WouldBlock)) {
            // Who drops a host is not told what is left beside the store.
            let _ = self.store.close();
        }
    }

    /// Ends the writing, and closes the store when the batch that is being written is there.
    ///
    /// # Errors
    /// When the store does not close cleanly.
    pub async fn finish(self: &Arc<Group>) -> Result<(), StoreError> {
        self.finishes.store(true, Ordering::Relaxed);
        let (group, (sender, receiver)) = (self.clone(), oneshot::channel());
        self.env.block(Box::new(move || drop(sender.send(group.close_store())))).await;
        // Nobody works where the runtime has ended.
        receiver.await.unwrap_or_else(|_| self.close_store())
    }

    fn close_store(&self) -> Result<(), StoreError> {
        let signed = self.sign_last();
        self.stop(Unavailable::Closed);
        self.wake.notify_one();
        drop(self.chains.lock());
        signed.and(self.store.close())
    }

    /// Signs every head at a clean end. Where the disk has no room now, the next host does.
    fn sign_last(&self) -> Result<(), StoreError> {
        if self.closed() {
            return Ok(());
        }
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        chains.upto = None;
        let batch = Batch { signed: self.sign_heads(&mut chains, usize::MAX), ..Batch::default() };
        match self.commit(&batch) {
            Err(StoreError::Full | StoreError::Locked { .. }) => Ok(()),
            done => done,
        }
    }

    /// Signs the heads of up to `max` spaces that have moved: in the order of their DIDs, from where it stopped before, so that
    /// none that moves without end keeps another from its turn.
    fn sign_heads(&self, chains: &mut Chains, max: usize) -> Vec<(Did, u64, [u8; 64])> {
        let from = chains.upto.map_or(Unbounded, Excluded);
        let some: Vec<Did> = chains.unsigned.range((from, Unbounded)).take(max).copied().collect();
        chains.upto = some.last().filter(|_| some.len() == max).copied();
        if chains.upto.is_none() {
            chains.signed = self.env.monotonic();
        }
        let mut signed = Vec::with_capacity(some.len());
        for space in some {
            chains.unsigned.remove(&space);
            let Some((seq, head)) = chains.heads.get(&space) else { continue };
            match self.keyring.sign(&space, &record::head_message(&space, *seq, head)) {
                Ok(signature) => signed.push((space, *seq, signature)),
                // The host's seal covers it until then.
                Err(error) => say(|| tracing::error!("{error}; {space} is signed when it commits again")),
            }
        }
        signed
    }

    /// Returns when heads are to be signed next; none when all are.
    fn heads_due(&self) -> Option<Duration> {
        let chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        if chains.upto.is_some() {
            return Some(Duration::ZERO);
        }
        (!chains.unsigned.is_empty()).then(|| (chains.signed + SIGN_HEADS).saturating_sub(self.env.monotonic()))
    }

    /// Completes when nothing is written any more.
    pub async fn ended(&self) {
        // The sender lives as long as this does.
        let _ = self.health.subscribe().wait_for(|health| health.stopped.is_some()).await;
    }

    fn closed(&self) -> bool {
        self.health.borrow().stopped.is_some()
    }

    /// Lets nothing more be written, for the first reason that is given.
    pub fn stop(&self, why: Unavailable) {
        self.health.send_if_modified(|health| {
            let is_first = health.stopped.is_none();
            health.stopped.get_or_insert(why);
            is_first
        });
        self.wake.notify_one();
    }

    /// Runs until the host closes or a write fails. Then nothing more is written.
    pub async fn run(self: Arc<Group>, committer: Arc<Committer>) {
        let _end = End(self.clone(), committer.clone());
        if AssertUnwindSafe(self.write_all(&committer)).catch_unwind().await.is_err() {
            self.stop(Unavailable::Stopped { reason: "writing batches panicked".to_owned() });
        }
        let stopped = self.health.borrow().stopped.clone();
        if let Some(why @ Unavailable::Stopped { .. }) = stopped {
            say(|| tracing::error!(error = %why, "host stops writing"));
        }
    }

    async fn write_all(self: &Arc<Group>, committer: &Committer) {
        while !self.closed() {
            let (items, written) = self.next_batch();
            if items.is_empty() {
                match self.heads_due() {
                    None => {
                        self.wake.notified().await;
                        continue;
                    }
                    Some(time) if !time.is_zero() => {
                        tokio::select! {
                            biased;
                            () = self.wake.notified() => {}
                            () = self.env.sleep(time) => {}
                        }
                        continue;
                    }
                    Some(_) => {}
                }
            }
            let Some(work) = self.write(items).await else { return };
            {
                let mut shares = self.shares();
                written.into_iter().for_each(|(charm, bytes)| shares.remove(charm, bytes));
            }
            self.committed.notify_one();
            self.figures().apply(&work.changes);
            committer.settled(&work.receipts);
            self.durable.send_modify(|order| *order = (*order).max(work.order));
            self.line.reached(work.order);
            self.health.send_if_modified(|health| health.waits.take().is_some());
            work.told.iter().for_each(|told| say(|| tracing::warn!("{told}")));
            (committer.notify)(Notice::Room);
        }
    }

    /// Takes what waits, in order, up to the bounds of a batch; returns it with whose it is and its bytes.
    fn next_batch(&self) -> (Vec<Item>, Vec<(Option<Did>, usize)>) {
        let mut items = self.items();
        let (mut written, mut bytes) = (Vec::new(), 0);
        while written.len() < items.len().min(BATCH_COMMITS_MAX) && bytes < BATCH_BYTES_MAX {
            let item = &items[written.len()];
            written.push((item.charm(), item.bytes()));
            bytes += item.bytes();
        }
        let rest = items.split_off(written.len());
        (std::mem::replace(&mut *items, rest), written)
    }

    /// Writes a batch; none when the host has stopped.
    async fn write(self: &Arc<Group>, items: Vec<Item>) -> Option<Arc<Work>> {
        let group = self.clone();
        let (work, mut result) = self.block(move || group.assemble(items)).await?;
        let mut pause = Duration::from_millis(10);
        loop {
            match result {
                Ok(()) => return Some(work),
                Err(error @ (StoreError::Full | StoreError::Locked { .. })) => {
                    self.waits(if error == StoreError::Full {
                        Unavailable::DiskFull
                    } else {
                        Unavailable::StoreLocked
                    });
                    self.env.sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                    if self.closed() {
                        return None;
                    }
                }
                Err(_) if self.closed() => return None,
                Err(error) => {
                    self.stop(Unavailable::stopped(&error));
                    return None;
                }
            }
            let (group, again) = (self.clone(), work.clone());
            let commit = move || {
                let _writing = group.chains.lock();
                group.commit(&again.batch)
            };
            result = self.block(commit).await?;
        }
    }

    /// Tells that nothing can be written now.
    fn waits(&self, why: Unavailable) {
        if self.health.borrow().waits.as_ref() == Some(&why) {
            return;
        }
        say(|| tracing::warn!("commits wait: {why}"));
        self.health.send_modify(|health| health.waits = Some(why));
    }

    /// Runs `work` off the async threads; none, and the host stopped, when it panicked or nothing is run any more.
    pub(super) async fn block<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.env
            .block(Box::new(move || {
                let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
            }))
            .await;
        let why = match receiver.await {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(_)) => Unavailable::Stopped { reason: "writing a batch panicked".to_owned() },
            Err(_) => Unavailable::RuntimeEnded,
        };
        self.stop(why);
        None
    }

    /// Hands a batch to the store, with `chains` locked: after `close` there is none.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.closed() {
            return Err(StoreError::Failed("host is shut down".to_owned()));
        }
        self.store.commit(batch)
    }

    fn assemble(&self, items: Vec<Item>) -> (Arc<Work>, Result<(), StoreError>) {
        let mut work = Work::default();
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        for item in items {
            match item {
                Item::Notes { charm, notes, told } => {
                    work.changes.push(Change::Notes(charm, notes));
                    work.batch.notes.push((charm, notes));
                    work.told.extend(told);
                }
                Item::Commit { commit, effects, .. } => work.add(*commit, &effects, &mut chains),
            }
        }
        coalesce(&mut work.batch);
        let result = self.seal(&mut work.batch, &chains).map_err(|error| StoreError::Failed(error.to_string()));
        if chains.upto.is_some() || self.env.monotonic() >= chains.signed + SIGN_HEADS {
            work.batch.signed = self.sign_heads(&mut chains, HEADS_MAX);
        }
        let result = result.and_then(|()| self.commit(&work.batch));
        (Arc::new(work), result)
    }

    /// Signs the chain of entries up to the last one of a batch.
    fn seal(&self, batch: &mut Batch, chains: &Chains) -> Result<(), KeyError> {
        let Some(last) = batch.log.last_mut() else { return Ok(()) };
        last.seal = Some(self.keyring.sign(&self.host, &seal_message(&self.host, last.order, &chains.end))?);
        batch.end = Some(chains.end);
        Ok(())
    }
}

/// The end of what writes: also when the runtime drops it.
struct End(Arc<Group>, Arc<Committer>);

impl Drop for End {
    fn drop(&mut self) {
        let End(group, committer) = self;
        group.stop(Unavailable::RuntimeEnded);
        (committer.notify)(Notice::Stopped);
        if !group.finishes.load(Ordering::Relaxed) {
            // There is nobody to be told.
            let _ = group.store.close();
        }
    }
}

impl Work {
    /// Gives a commit its place in the chains, and takes in every row that it changes.
    fn add(&mut self, mut commit: Commit, effects: &Effects, chains: &mut Chains) {
        changes(&commit, effects, &mut self.changes);
        let space = commit.record.space;
        let (seq, head) = chains.heads.entry(space).or_default();
        commit.record.previous = *head;
        let bytes = commit.record.to_bytes();
        (*seq, *head) = (commit.record.seq, record::hash(&bytes));
        let Commit { order, position, taken, ref record } = commit;
        chains.end = entry_hash(&chains.end, order, position, taken, head);
        self.order = order;
        let entry = LogEntry { order, space, seq: record.seq, position, taken, record: bytes.into(), seal: None };
        self.receipts.extend(effects.rows(&commit, entry, *head, &mut self.batch));
        chains.unsigned.insert(space);
    }
}
