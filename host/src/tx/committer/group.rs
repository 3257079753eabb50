//! Group commit: makes whatever queued while the last sync ran durable with one sync (T8, I3).
//!
//! Encoding, hashing, chaining and signing happen here, off the path of turns. The only caller of [`Store::commit`].
//! A full disk and a lock of another program are waited out; after any other failure the host writes no more: what reached
//! the disk is unknown, and only opening the store again tells.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
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
    shares::Shares,
};
use crate::{
    did::Did,
    env::Env,
    event::{Event, EventId, digest},
    keyring::Keyring,
    limits::{Limits, ROW_BYTES},
    log::say,
    receipt::{self, Receipt},
    record::{self, Hash, Record},
    store::{Batch, CellRow, DeadLetter, LogEntry, Notes, Queued, ReceiptRow, SpaceRow, Store, StoreError},
};

/// Longest time between two tries on a full disk, or a locked file.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Most commits in one batch, so that one batch stays a few milliseconds of work.
const BATCH_COMMITS_MAX: usize = 1_024;
/// Values and payloads in one batch, in bytes; the last commit may go over.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// How far the disk is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The last durable commit.
    pub order: u64,
    /// Why nothing can be written now: it is tried again.
    pub waits: Option<Unavailable>,
    /// Why nothing is written any more.
    pub stopped: Option<Unavailable>,
}

impl Progress {
    pub fn healthy(&self) -> Result<(), Unavailable> {
        match &self.stopped {
            Some(stopped) => Err(stopped.clone()),
            None => self.waits.clone().map_or(Ok(()), Err),
        }
    }
}

/// What waits to become durable.
pub(super) enum Item {
    /// Spaces that are new, and who waits for them.
    Spaces { rows: Vec<SpaceRow>, done: watch::Sender<bool> },
    /// Notes of a charm that changed, who waits for that, and what to tell the operator.
    Notes { charm: Did, notes: Notes, done: Option<watch::Sender<bool>>, told: Option<String> },
    /// What is kept of the operator's decisions about DIDs, and who waits for it.
    Kept { kept: Vec<(Did, Option<Vec<u8>>)>, done: watch::Sender<bool> },
    /// A commit, its place in the chain still open.
    /// `letters_of` is whose dead letters it drops.
    Commit { record: Box<Record>, taken: Option<Arc<Queued>>, position: u64, at: Duration, letters_of: Did },
}

impl Item {
    /// Returns what it takes on disk: rows, and the values and payloads that they carry.
    fn bytes(&self) -> usize {
        let record = match self {
            Item::Commit { record, .. } => record,
            Item::Spaces { rows, .. } => return rows.len() * ROW_BYTES,
            Item::Notes { .. } | Item::Kept { .. } => return ROW_BYTES,
        };
        let writes = record.writes.iter().map(|write| write.value.as_ref().map_or(0, |value| value.as_bytes().len()));
        let tag = |event: &Event| event.on_commit.as_ref().map_or(0, |on_commit| on_commit.tag.as_bytes().len());
        let sends = record.sends.iter().map(|sent| sent.event.payload.as_bytes().len() + tag(&sent.event));
        2 * ROW_BYTES + writes.chain(sends).map(|bytes| ROW_BYTES + bytes).sum::<usize>()
    }

    /// Returns the charm whose commit it is; none for the host's own.
    fn charm(&self) -> Option<Did> {
        match self {
            Item::Commit { record, taken: Some(_), .. } => Some(record.space),
            _ => None,
        }
    }
}

/// The queue between the committer and the disk.
pub(super) struct Group {
    items: Mutex<Vec<Item>>,
    /// Items that are not durable yet, those in the batch that is being written too, by charm.
    shares: Mutex<Shares>,
    wake: Notify,
    store: Arc<dyn Store>,
    keyring: Arc<dyn Keyring>,
    env: Arc<dyn Env>,
    limits: Arc<Limits>,
    /// Last hash of each space, with everything handed to the store. Locked while a batch is written.
    heads: Mutex<HashMap<Did, Hash>>,
    /// Changed when a batch is durable, before anybody hears of it.
    figures: Mutex<Figures>,
    progress: watch::Sender<Progress>,
    /// `finish` closes the store and is told how that went; else whoever comes last does.
    finishes: AtomicBool,
}

/// A batch and what it tells the world once it is durable.
struct Work {
    batch: Batch,
    order: u64,
    receipts: Vec<Receipt>,
    added: Vec<watch::Sender<bool>>,
    told: Vec<String>,
    changes: Vec<Change>,
}

impl Group {
    pub fn new(
        store: Arc<dyn Store>,
        keyring: Arc<dyn Keyring>,
        env: Arc<dyn Env>,
        limits: Arc<Limits>,
        heads: HashMap<Did, Hash>,
        figures: Figures,
        progress: watch::Sender<Progress>,
    ) -> Arc<Group> {
        let (items, shares) = Default::default();
        Arc::new(Group {
            items,
            shares,
            limits,
            wake: Notify::new(),
            store,
            keyring,
            env,
            heads: Mutex::new(heads),
            figures: Mutex::new(figures),
            progress,
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

    pub fn push(&self, item: Item) {
        let at = if let Item::Commit { at, .. } = &item { *at } else { Duration::ZERO };
        self.shares().push(item.charm(), item.bytes(), &self.limits, at);
        self.items().push(item);
        self.wake.notify_one();
    }

    pub fn close(&self) {
        self.stop(Unavailable::Closed);
        if !matches!(self.heads.try_lock(), Err(TryLockError::WouldBlock)) {
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
        self.stop(Unavailable::Closed);
        self.wake.notify_one();
        let (group, (sender, receiver)) = (self.clone(), oneshot::channel());
        self.env.block(Box::new(move || drop(sender.send(group.close_store())))).await;
        // Nobody works where the runtime has ended.
        receiver.await.unwrap_or_else(|_| self.close_store())
    }

    fn close_store(&self) -> Result<(), StoreError> {
        drop(self.heads.lock());
        self.store.close()
    }

    /// Completes when nothing is written any more.
    pub async fn ended(&self) {
        // The sender lives as long as this does.
        let _ = self.progress.subscribe().wait_for(|progress| progress.stopped.is_some()).await;
    }

    fn closed(&self) -> bool {
        self.progress.borrow().stopped.is_some()
    }

    /// Lets nothing more be written, for the first reason that is given.
    pub fn stop(&self, why: Unavailable) {
        self.progress.send_if_modified(|progress| {
            let is_first = progress.stopped.is_none();
            progress.stopped.get_or_insert(why);
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
        let stopped = self.progress.borrow().stopped.clone();
        if let Some(why @ Unavailable::Stopped { .. }) = stopped {
            say(|| tracing::error!(error = %why, "host stops writing"));
        }
    }

    async fn write_all(self: &Arc<Group>, committer: &Committer) {
        while !self.closed() {
            let (items, written) = self.next_batch();
            if items.is_empty() {
                self.wake.notified().await;
                continue;
            }
            let Some(work) = self.write(items).await else { return };
            {
                let mut shares = self.shares();
                written.into_iter().for_each(|(charm, bytes)| shares.remove(charm, bytes));
            }
            self.figures().apply(&work.changes);
            committer.settled(&work.receipts);
            for added in &work.added {
                added.send_replace(true);
            }
            self.progress.send_modify(|progress| {
                progress.order = progress.order.max(work.order);
                progress.waits = None;
            });
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
                let _writing = group.heads.lock();
                group.commit(&again.batch)
            };
            result = self.block(commit).await?;
        }
    }

    /// Tells that nothing can be written now.
    fn waits(&self, why: Unavailable) {
        if self.progress.borrow().waits.as_ref() != Some(&why) {
            say(|| tracing::warn!("commits wait: {why}"));
        }
        self.progress.send_modify(|progress| progress.waits = Some(why));
    }

    /// Runs `work` off the async threads; none, and the host stopped, when it panicked or nothing is run any more.
    async fn block<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
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

    /// Hands a batch to the store, with `heads` locked: after `close` there is none.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.closed() {
            return Err(StoreError::Failed("host is shut down".to_owned()));
        }
        self.store.commit(batch)
    }

    fn assemble(&self, items: Vec<Item>) -> (Arc<Work>, Result<(), StoreError>) {
        let mut work = Work {
            batch: Batch::default(),
            order: 0,
            receipts: Vec::new(),
            added: Vec::new(),
            told: Vec::new(),
            changes: Vec::new(),
        };
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut moved = BTreeMap::new();
        for item in items {
            match item {
                Item::Spaces { rows, done } => {
                    work.changes.extend(rows.iter().cloned().map(Change::Space));
                    work.batch.spaces.extend(rows);
                    work.added.push(done);
                }
                Item::Notes { charm, notes, done, told } => {
                    work.changes.push(Change::Notes(charm, notes));
                    work.batch.notes.push((charm, notes));
                    work.added.extend(done);
                    work.told.extend(told);
                }
                Item::Kept { kept, done } => {
                    work.batch.kept.extend(kept);
                    work.added.push(done);
                }
                Item::Commit { record, taken, position, letters_of, .. } => {
                    work.batch.position = Some(position);
                    moved.insert(record.space, record.seq);
                    work.add(*record, taken, letters_of, &mut heads);
                }
            }
        }
        work.coalesce();
        let mut result = Ok(());
        for (index, space) in last_of_each(&work.batch.log) {
            let entry = &mut work.batch.log[index];
            let head = heads.get(&space).copied().unwrap_or_default();
            match self.keyring.sign(&space, &record::head_message(&space, entry.seq, &head)) {
                Ok(signature) => entry.signature = Some(signature),
                Err(error) => result = Err(StoreError::Failed(error.to_string())),
            }
        }
        let head = |space| heads.get(space).copied().unwrap_or_default();
        work.batch.heads = moved.iter().map(|(space, seq)| (*space, *seq, head(space))).collect();
        let result = result.and_then(|()| self.commit(&work.batch));
        (Arc::new(work), result)
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

/// Returns index and space of the last entry of each space.
fn last_of_each(log: &[LogEntry]) -> Vec<(usize, Did)> {
    let mut seen = HashSet::new();
    let last = log.iter().enumerate().rev().filter(|(_, entry)| seen.insert(entry.space));
    last.map(|(index, entry)| (index, entry.space)).collect()
}

impl Work {
    /// Chains a record and derives from it every row that the batch changes.
    fn add(&mut self, mut record: Record, taken: Option<Arc<Queued>>, letters_of: Did, heads: &mut HashMap<Did, Hash>) {
        let failed = |taken: &record::Taken, queued: &Queued| taken.receipt.outcome.leaves_letter(&queued.event);
        let leaves_letter =
            record.taken.as_ref().zip(taken.as_deref()).is_some_and(|(done, queued)| failed(done, queued));
        changes(&record, letters_of, leaves_letter, &mut self.changes);
        let head = heads.entry(record.space).or_default();
        record.previous = *head;
        let bytes = record.to_bytes();
        *head = record::hash(&bytes);
        let Record { space, seq, order, time_ms, .. } = record;
        self.order = order;
        self.batch.log.push(LogEntry { order, space, seq, record: bytes.into(), signature: None });
        for write in record.writes {
            let (name, value) = (write.name, write.value);
            self.batch.cells.push(CellRow { space, name, order, seq, value });
        }
        for sent in record.sends {
            if let Some(position) = sent.position {
                self.batch.queued.push(Queued { position, event: sent.event });
            } else if let Some(outcome) = sent.refused {
                let receipt = receipt::refused(&sent.event, outcome);
                self.receipt(receipt, sent.event.sender, sent.event.to, None);
            }
        }
        if record.taken.is_some() && !record.buried.is_empty() {
            self.batch.letters_dropped.push((space, record.buried.len() as u64));
        }
        self.batch.buried.extend(record.buried);
        if let (Some(done), Some(queued)) = (record.taken, taken) {
            let event = &queued.event;
            self.batch.taken.push(done.position);
            if leaves_letter {
                let (position, receipt) = (done.position, done.receipt.clone());
                self.batch.dead.push(DeadLetter { position, time_ms, event: event.clone(), receipt });
            }
            let digest = event.supplied.then(|| digest(event));
            self.receipt(done.receipt, event.sender, event.to, digest);
        }
    }

    fn receipt(&mut self, receipt: Receipt, sender: Did, to: Did, digest: Option<[u8; 16]>) {
        self.receipts.push(receipt.clone());
        self.batch.receipts.push(ReceiptRow { receipt, sender, to, digest });
    }

    /// Drops what this very batch makes void: older values of a cell, events queued and taken.
    fn coalesce(&mut self) {
        let mut seen = HashSet::new();
        self.batch.cells.reverse();
        self.batch.cells.retain(|row| seen.insert((row.space, row.name.clone())));
        self.batch.cells.reverse();
        let queued: HashSet<u64> = self.batch.queued.iter().map(|queued| queued.position).collect();
        let taken: HashSet<u64> = self.batch.taken.iter().copied().filter(|taken| queued.contains(taken)).collect();
        self.batch.queued.retain(|queued| !taken.contains(&queued.position));
        self.batch.taken.retain(|position| !taken.contains(position));
        let dead: HashSet<u64> = self.batch.dead.iter().map(|letter| letter.position).collect();
        let buried: HashSet<u64> = self.batch.buried.iter().copied().filter(|buried| dead.contains(buried)).collect();
        self.batch.dead.retain(|letter| !buried.contains(&letter.position));
        self.batch.buried.retain(|position| !buried.contains(position));
    }
}
