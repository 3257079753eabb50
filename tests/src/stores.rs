//! A store whose disk a test owns.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex},
};

use charm_host::{
    Batch, CellRow, Component, DeadLetter, Did, EventId, Hash, Image, KeyError, Keyring, LogEntry, MemoryKeyring,
    MemoryStore, Queued, ReceiptRow, Store, StoreError,
};
use tokio::sync::watch;

/// A store in memory whose commits a test holds back or lets fail.
pub struct GatedStore {
    memory: MemoryStore,
    inner: Arc<Inner>,
}

/// The test's side of a [`GatedStore`]. Dropping it lets everything go.
pub struct Control(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    /// Commits that have reached the store.
    arrived: watch::Sender<usize>,
    /// Whether the host has let go of the store.
    closed: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    holds: bool,
    /// Whether a commit is held now.
    held: bool,
    /// Errors of the next commits, and whether the batch is written all the same.
    errors: VecDeque<(StoreError, bool)>,
    /// Every commit fails so until it is taken away.
    failing: Option<StoreError>,
    /// Every look-up fails so until it is taken away.
    look_ups: Option<StoreError>,
    /// Looks at every batch that is written.
    look: Option<Look>,
}

type Look = Box<dyn FnMut(&Batch) + Send>;

impl Inner {
    fn looks_up(&self) -> Result<(), StoreError> {
        self.state.lock().unwrap().look_ups.clone().map_or(Ok(()), Err)
    }
}

impl GatedStore {
    /// Returns a store on top of this memory, and the test's side of it.
    pub fn new(memory: MemoryStore) -> (GatedStore, Control) {
        crate::Logs::start();
        let (arrived, closed) = (watch::Sender::new(0), watch::Sender::new(false));
        let inner = Arc::new(Inner { state: Mutex::default(), changed: Condvar::new(), arrived, closed });
        (GatedStore { memory, inner: inner.clone() }, Control(inner))
    }
}

impl Control {
    /// Holds every commit from now on.
    pub fn hold(&self) {
        self.0.state.lock().unwrap().holds = true;
    }

    /// Lets held and later commits go.
    pub fn release(&self) {
        self.0.state.lock().unwrap().holds = false;
        self.0.changed.notify_all();
    }

    /// Returns whether a commit is held now.
    pub fn is_held(&self) -> bool {
        self.0.state.lock().unwrap().held
    }

    /// Makes one of the next commits fail; `written` says whether the batch has reached the disk all the same.
    pub fn fail_next(&self, error: StoreError, written: bool) {
        self.0.state.lock().unwrap().errors.push_back((error, written));
    }

    /// Makes every commit fail from now on, or none.
    pub fn fail(&self, error: Option<StoreError>) {
        self.0.state.lock().unwrap().failing = error;
    }

    /// Makes every look-up of a receipt or a dead letter fail from now on, or none.
    pub fn fail_look_ups(&self, error: Option<StoreError>) {
        self.0.state.lock().unwrap().look_ups = error;
    }

    /// Shows every batch from now on, before it is written.
    pub fn look(&self, look: impl FnMut(&Batch) + Send + 'static) {
        self.0.state.lock().unwrap().look = Some(Box::new(look));
    }

    /// Returns how many commits have reached the store.
    pub fn count(&self) -> usize {
        *self.0.arrived.borrow()
    }

    /// Waits until the host commits nothing more, so that another can be opened on the same memory.
    ///
    /// # Panics
    /// When that takes longer than 30 s.
    pub async fn closed(&self) {
        let mut closed = self.0.closed.subscribe();
        let wait = closed.wait_for(|closed| *closed);
        tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.expect("a host lets go in time").unwrap();
    }

    /// Waits until more than `count` commits have reached the store.
    ///
    /// # Panics
    /// When that takes longer than 30 s.
    pub async fn more_than(&self, count: usize) {
        let mut arrived = self.0.arrived.subscribe();
        let wait = arrived.wait_for(|now| *now > count);
        tokio::time::timeout(std::time::Duration::from_secs(30), wait).await.expect("a commit comes in time").unwrap();
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.release();
    }
}

impl Store for GatedStore {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.inner.arrived.send_modify(|count| *count += 1);
        let mut state = self.inner.state.lock().unwrap();
        while state.holds {
            state.held = true;
            state = self.inner.changed.wait(state).unwrap();
        }
        state.held = false;
        if let Some(look) = &mut state.look {
            look(batch);
        }
        let failing = || Some((state.failing.clone()?, false));
        match failing().or_else(|| state.errors.pop_front()) {
            Some((error, false)) => Err(error),
            Some((error, true)) => self.memory.commit(batch).and(Err(error)),
            None => self.memory.commit(batch),
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.closed.send_replace(true);
        Ok(())
    }

    fn load(&self, fresh_secret: Option<[u8; 32]>) -> Result<Image, StoreError> {
        self.memory.load(fresh_secret)
    }

    fn recording(&self, position: u64) -> Result<Vec<Arc<[u8]>>, StoreError> {
        self.inner.looks_up()?;
        self.memory.recording(position)
    }

    fn queued(&self, position: u64) -> Result<Option<Queued>, StoreError> {
        self.inner.looks_up()?;
        self.memory.queued(position)
    }

    fn receipt(&self, id: &EventId) -> Result<Option<ReceiptRow>, StoreError> {
        self.inner.looks_up()?;
        self.memory.receipt(id)
    }

    fn component(&self, hash: &Hash) -> Result<Option<Component>, StoreError> {
        self.memory.component(hash)
    }

    fn receipts(&self, after: Option<&EventId>, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.memory.receipts(after, max)
    }

    fn entry(&self, space: &Did, seq: u64) -> Result<Option<LogEntry>, StoreError> {
        self.memory.entry(space, seq)
    }

    fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        self.memory.log(space, after, max)
    }

    fn past(&self, space: &Did, name: Option<&str>) -> Result<Vec<CellRow>, StoreError> {
        self.memory.past(space, name)
    }

    fn settled(&self, space: &Did, after: u64, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.memory.settled(space, after, max)
    }

    fn dead_letter(&self, position: u64) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.looks_up()?;
        self.memory.dead_letter(position)
    }

    fn dead_letter_of(&self, event: &EventId) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.looks_up()?;
        self.memory.dead_letter_of(event)
    }

    fn dead_letters(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.inner.looks_up()?;
        self.memory.dead_letters(charm, after, max)
    }
}

/// Keys in memory that outlive a host, as a [`MemoryStore`] does. Clones share them.
#[derive(Clone, Default)]
pub struct Keys(Arc<MemoryKeyring>);

impl Keyring for Keys {
    fn create(&self, randomness: &zeroize::Zeroizing<[u8; 32]>) -> Result<Did, KeyError> {
        self.0.create(randomness)
    }

    fn check(&self, did: &Did) -> Result<(), KeyError> {
        self.0.check(did)
    }

    fn sign(&self, did: &Did, message: &[u8]) -> Result<[u8; 64], KeyError> {
        self.0.sign(did, message)
    }
}
