//! Group commit: makes whatever queued while the last sync ran durable with one sync (T8, I3).
//!
//! Encoding, hashing, chaining and signing happen here, off the path of turns. The host's key seals every batch; each space's
//! own key signs its head at most a second later, and at a clean end. While a batch syncs, the next one is assembled. A commit
//! that nobody waits for waits a moment for others: a batch costs a signature, a sync and some threads that wake. The only caller
//! of [`Store::commit`].
//! A full disk and a lock of another program are waited out; after any other failure the host writes no more: what reached
//! the disk is unknown, and only opening the store again tells.

use std::{
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
    chains::{Chains, Ends, sign},
    figures::{Change, Figures, changes},
    item::Item,
    line::Line,
    shares::Shares,
    watches::{Watches, Wrote},
};
use crate::{
    did::Did,
    env::Env,
    event::EventId,
    keyring::Keyring,
    limits::Limits,
    log::say,
    receipt::Receipt,
    rows::{Batch, ReceiptRow},
    store::{Store, StoreError, coalesce},
};

/// Longest time between two tries on a full disk, or a locked file.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Most commits in one batch, so that one batch stays a few milliseconds of work.
const BATCH_COMMITS_MAX: usize = 1_024;
/// Values and payloads in one batch, in bytes; the last commit may go over.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Longest time that a commit waits for others when nobody waits for it.
pub(super) const PATIENCE: Duration = Duration::from_millis(1);
/// Items for which a batch is begun, or the next one assembled, though nobody waits for them.
const MANY: usize = 256;
/// Commits that are taken off the shares under one hold of their lock: turns ask for it.
const SHARES_STEP: usize = 64;
/// What is assembled on the way, in bytes; more than that where it hurts nobody.
const INLINE_BYTES: usize = 64 << 10;

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

/// How soon a commit goes to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// Somebody waits for it.
    Now,
    /// Within `PATIENCE`: others may come.
    Soon,
    /// With the next one, or when somebody says so.
    Later,
}

/// The queue between the committer and the disk.
pub(super) struct Group {
    /// Each with its bytes.
    items: Mutex<Vec<(Item, usize)>>,
    /// Items that are not durable yet, those in the batch that is being written too, by charm.
    shares: Mutex<Shares>,
    wake: Notify,
    /// A batch is durable that the index does not have.
    pub(super) committed: Notify,
    pub(super) store: Arc<dyn Store>,
    keyring: Arc<dyn Keyring>,
    pub(super) env: Arc<dyn Env>,
    limits: Arc<Limits>,
    chains: Mutex<Chains>,
    /// Locked while a batch is written.
    writing: Mutex<()>,
    /// Somebody waits for what is not on its way yet.
    urgent: AtomicBool,
    /// What waits will be looked at, with nobody saying so.
    looks: AtomicBool,
    /// Changed when a batch is durable, before anybody hears of it.
    figures: Mutex<Figures>,
    /// The last durable commit; changes with every batch.
    durable: watch::Sender<u64>,
    health: watch::Sender<Health>,
    /// Who waits for a commit to be durable.
    pub line: Line,
    /// Who watches what commits change.
    pub watches: Arc<Watches>,
    /// `finish` closes the store and is told how that went; else whoever comes last does.
    finishes: AtomicBool,
}

/// A batch and what it tells the world once it is durable.
#[derive(Default)]
struct Work {
    batch: Batch,
    /// Whose commits are in it, and their bytes.
    loads: Vec<(Option<Did>, usize)>,
    bytes: usize,
    order: u64,
    /// Each with who sent the event.
    receipts: Vec<(Did, Receipt)>,
    told: Vec<String>,
    /// Who asks for something outside.
    asked: Vec<oneshot::Sender<()>>,
    changes: Vec<Change>,
    /// What it writes, for those who watch.
    wrote: Vec<Wrote>,
}

impl Group {
    #[expect(clippy::too_many_arguments, reason = "made in one place")]
    pub fn new(
        store: Arc<dyn Store>,
        keyring: Arc<dyn Keyring>,
        env: Arc<dyn Env>,
        limits: Arc<Limits>,
        chains: Chains,
        figures: Figures,
        durable: watch::Sender<u64>,
        health: watch::Sender<Health>,
    ) -> Arc<Group> {
        let (items, shares, writing) = Default::default();
        Arc::new(Group {
            items,
            shares,
            limits,
            wake: Notify::new(),
            committed: Notify::new(),
            store,
            keyring,
            env,
            chains: Mutex::new(chains),
            writing,
            urgent: AtomicBool::new(false),
            looks: AtomicBool::new(false),
            figures: Mutex::new(figures),
            durable,
            health,
            line: Line::default(),
            watches: Arc::default(),
            finishes: AtomicBool::new(false),
        })
    }

    fn items(&self) -> MutexGuard<'_, Vec<(Item, usize)>> {
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
    pub fn push(&self, some: impl IntoIterator<Item = Item>, haste: Haste) {
        let (mut items, mut shares) = (self.items(), self.shares());
        let before = items.len();
        for item in some {
            let at = if let Item::Commit { at, .. } = &item { *at } else { Duration::ZERO };
            let bytes = item.bytes();
            shares.push(item.charm(), bytes, &self.limits, at);
            items.push((item, bytes));
        }
        let is_many = before / MANY != items.len() / MANY;
        // Changed with the items alone: who looks finds some.
        let is_first = haste == Haste::Soon && items.len() > before && !self.looks.swap(true, Ordering::AcqRel);
        drop((items, shares));
        if haste == Haste::Now {
            self.urge();
        } else if is_first || is_many {
            self.wake.notify_one();
        }
    }

    /// Lets what waits go to the disk at once.
    pub fn urge(&self) {
        self.urgent.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn chains(&self) -> MutexGuard<'_, Chains> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn close(&self) {
        self.stop(Unavailable::Closed);
        if !matches!(self.writing.try_lock(), Err(TryLockError::WouldBlock)) {
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
        drop(self.writing.lock());
        signed.and(self.store.close())
    }

    /// Signs every head at a clean end. Where the disk has no room now, the next host does.
    fn sign_last(&self) -> Result<(), StoreError> {
        if self.closed() {
            return Ok(());
        }
        // Also those whose signatures may be on their way: what is not written when the host has closed is never.
        let (_, mut heads) = self.chains().all();
        {
            let figures = self.figures();
            heads.retain(|(space, seq, _)| figures.signed(space) < *seq);
        }
        // The same run writes the same bytes.
        heads.sort_unstable();
        let batch = Batch { signed: sign(&heads, &*self.keyring), ..Batch::default() };
        match self.commit(&batch) {
            Err(StoreError::Full | StoreError::Locked { .. }) => Ok(()),
            done => done,
        }
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

    async fn write_all(self: &Arc<Group>, committer: &Arc<Committer>) {
        // What is on its way to the disk, and what grows meanwhile.
        let (mut flight, mut next) = (None, Work::default());
        let mut has_waited = false;
        while !self.closed() {
            let Some(writing) = &mut flight else {
                let now = self.env.monotonic();
                let items = self.waiting(&next);
                let pause = match self.chains().due(now) {
                    Some(Duration::ZERO) => Duration::ZERO,
                    due if items == 0 => due.unwrap_or(Duration::MAX),
                    _ if self.urgent.swap(false, Ordering::AcqRel) || items >= MANY || has_waited => Duration::ZERO,
                    _ => PATIENCE,
                };
                has_waited = !pause.is_zero() && self.rest(pause).await && items > 0;
                if !pause.is_zero() {
                    continue;
                }
                let Some(all) = self.assemble(next).await else { return };
                next = Work::default();
                let ends = self.chains().ends(self.env.monotonic());
                flight = Some(self.fly(committer, all, ends));
                continue;
            };
            let done = tokio::select! {
                biased;
                done = writing => Some(done),
                () = self.wake.notified(), if !next.is_full() => None,
            };
            match done {
                Some(Ok(())) => flight = None,
                Some(Err(_)) => return,
                None if self.urgent.load(Ordering::Acquire) || self.items().len() >= MANY => {
                    let Some(more) = self.assemble(next).await else { break };
                    next = more;
                }
                None => {}
            }
        }
        // What is on its way gets there, or not, before anybody else has the store.
        if let Some(writing) = flight {
            let _ = writing.await;
        }
    }

    /// Returns how many items wait. With none, whoever was in a hurry has what it wants.
    fn waiting(&self, next: &Work) -> usize {
        let items = self.items();
        let waiting = items.len() + next.loads.len();
        if waiting == 0 {
            self.urgent.store(false, Ordering::Release);
        }
        waiting
    }

    /// Waits until there is more to do; returns whether that took the whole time.
    async fn rest(&self, time: Duration) -> bool {
        if time == Duration::MAX {
            self.wake.notified().await;
            return false;
        }
        tokio::select! {
            biased;
            () = self.wake.notified() => false,
            () = self.env.sleep(time) => true,
        }
    }

    /// Tells the world what is durable: who waits for it first.
    fn settle(&self, committer: &Committer, work: Work) {
        self.watches.reached(&work.wrote, &work.batch, &work.changes);
        {
            let mut figures = self.figures();
            figures.apply(&work.changes);
            figures.sign(&work.batch.signed);
        }
        committer.settled(&work.receipts);
        committer.forget_pieces(&work.batch.turns);
        self.durable.send_modify(|order| *order = (*order).max(work.order));
        self.line.reached(work.order);
        self.health.send_if_modified(|health| health.waits.take().is_some());
        work.asked.into_iter().for_each(|told| {
            let _ = told.send(());
        });
        work.told.iter().for_each(|told| say(|| tracing::warn!("{told}")));
        for some in work.loads.chunks(SHARES_STEP) {
            let mut shares = self.shares();
            some.iter().for_each(|(charm, bytes)| shares.remove(*charm, *bytes));
        }
        self.committed.notify_one();
        (committer.notify)(Notice::Room);
    }

    /// Takes what waits, in order, as far as it has room in a batch.
    fn take(&self, work: &Work) -> Vec<(Item, usize)> {
        let mut items = self.items();
        self.looks.store(false, Ordering::Release);
        let (mut count, mut bytes) = (0, work.bytes);
        while work.loads.len() + count < BATCH_COMMITS_MAX && bytes < BATCH_BYTES_MAX && count < items.len() {
            bytes += items[count].1;
            count += 1;
        }
        while matches!(items.get(count), Some((Item::Commit { joined: true, .. }, _))) {
            count += 1;
        }
        let rest = items.split_off(count);
        std::mem::replace(&mut *items, rest)
    }

    /// Adds what waits to a batch: a little at once, much where it hurts nobody. None when the host has stopped.
    async fn assemble(self: &Arc<Group>, mut work: Work) -> Option<Work> {
        let items = self.take(&work);
        if items.iter().map(|(_, bytes)| bytes).sum::<usize>() <= INLINE_BYTES {
            work.extend(items, &mut self.chains());
            return Some(work);
        }
        let group = self.clone();
        let assemble = move || {
            work.extend(items, &mut group.chains());
            work
        };
        self.block(assemble).await
    }

    /// Lets a batch go to the disk; completes when it is there, with an error when the host has stopped first.
    fn fly(self: &Arc<Group>, committer: &Arc<Committer>, work: Work, ends: Ends) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let (group, committer) = (self.clone(), committer.clone());
        self.env.spawn(Box::pin(async move {
            if group.write(committer, Box::new(work), ends).await.is_some() {
                let _ = sender.send(());
            }
        }));
        receiver
    }

    /// Signs a batch, writes it and tells the world, all on one thread; none when the host has stopped.
    async fn write(self: &Arc<Group>, committer: Arc<Committer>, mut work: Box<Work>, ends: Ends) -> Option<()> {
        let (group, world) = (self.clone(), committer.clone());
        let first = move || {
            work.wrote = group.watches.wrote(&work.batch);
            coalesce(&mut work.batch);
            match ends.sign(&*group.keyring, &mut work.batch) {
                Ok(()) => group.commit_and_settle(&world, work),
                Err(error) => Err((work, StoreError::Failed(error.to_string()))),
            }
        };
        let mut result = self.block(first).await?;
        let mut pause = Duration::from_millis(10);
        loop {
            let work = match result {
                Ok(()) => return Some(()),
                Err((work, error @ (StoreError::Full | StoreError::Locked { .. }))) => {
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
                    work
                }
                Err(_) if self.closed() => return None,
                Err((_, error)) => {
                    self.stop(Unavailable::stopped(&error));
                    return None;
                }
            };
            let (group, world) = (self.clone(), committer.clone());
            result = self.block(move || group.commit_and_settle(&world, work)).await?;
        }
    }

    /// Writes a batch; when it is durable, whoever waits for it goes on from here.
    fn commit_and_settle(&self, committer: &Committer, work: Box<Work>) -> Result<(), (Box<Work>, StoreError)> {
        match self.commit(&work.batch) {
            Ok(()) => {
                self.settle(committer, *work);
                Ok(())
            }
            Err(error) => Err((work, error)),
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
        self.env.begin(Box::new(move || {
            let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        }));
        let why = match receiver.await {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(_)) => Unavailable::Stopped { reason: "writing a batch panicked".to_owned() },
            Err(_) => Unavailable::RuntimeEnded,
        };
        self.stop(why);
        None
    }

    /// Hands a batch to the store: after `close` there is none.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        if self.closed() {
            return Err(StoreError::Failed("host is shut down".to_owned()));
        }
        self.store.commit(batch)
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
    fn is_full(&self) -> bool {
        self.loads.len() >= BATCH_COMMITS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    fn extend(&mut self, items: Vec<(Item, usize)>, chains: &mut Chains) {
        for (item, bytes) in items {
            self.loads.push((item.charm(), bytes));
            self.bytes += bytes;
            match item {
                Item::Notes { charm, notes, told } => {
                    self.changes.push(Change::Notes(charm, notes));
                    self.batch.notes.push((charm, notes));
                    self.told.extend(told);
                }
                Item::Asked { position, requests, told } => {
                    self.batch.asked.push((position, requests));
                    self.asked.push(told);
                }
                Item::Commit { mut commit, effects, .. } => {
                    let (entry, head) = chains.add(&mut commit);
                    changes(&commit, &effects, entry.record.len(), &mut self.changes);
                    self.order = commit.order;
                    self.receipts.extend(effects.rows(&commit, entry, head, &mut self.batch));
                }
            }
        }
    }
}
