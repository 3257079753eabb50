//! The store that benches run on, and what it is given: how much each group held, and when it was durable.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Instant,
};

use charm_host::*;

/// Opens the store of a folder.
pub fn open(folder: &Path) -> FolderStore {
    FolderStore::open(folder.join("store")).unwrap()
}

/// Returns every file of the store in a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let below = entries.flat_map(|entry| match entry.path() {
        folder if folder.is_dir() => files(&folder),
        file => vec![file],
    });
    below.filter(|file| file.file_name().is_some_and(|name| name != "floor")).collect()
}

/// What one sync made durable.
#[derive(Clone, Copy)]
pub struct Group {
    /// Commits.
    pub commits: usize,
    /// Bytes of their records and signatures.
    pub bytes: usize,
    /// When it was durable.
    pub end: Instant,
}

/// The groups since they were last taken.
#[derive(Clone, Default)]
pub struct Groups(Arc<Mutex<Vec<Group>>>);

impl Groups {
    pub fn take(&self) -> Vec<Group> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A store that tells what it is given.
pub struct Watched<S> {
    pub store: S,
    pub groups: Groups,
}

impl<S: Store> Store for Watched<S> {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.store.commit(batch)?;
        let seals = batch.log.iter().filter(|entry| entry.seal.is_some()).count();
        let records: usize = batch.log.iter().map(|entry| entry.record.len()).sum();
        let bytes = records + 64 * (seals + batch.signed.len());
        let group = Group { commits: batch.log.len(), bytes, end: Instant::now() };
        self.groups.0.lock().unwrap().push(group);
        Ok(())
    }

    fn load(&self, fresh_secret: Option<[u8; 32]>) -> Result<Image, StoreError> {
        self.store.load(fresh_secret)
    }

    fn index(&self) -> Result<bool, StoreError> {
        self.store.index()
    }

    fn lag(&self) -> Lag {
        self.store.lag()
    }

    fn folder(&self) -> Option<&Path> {
        self.store.folder()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.store.close()
    }

    fn component(&self, hash: &Hash) -> Result<Option<Component>, StoreError> {
        self.store.component(hash)
    }

    fn recording(&self, position: u64) -> Result<Vec<Arc<[u8]>>, StoreError> {
        self.store.recording(position)
    }

    fn queued(&self, position: u64) -> Result<Option<Queued>, StoreError> {
        self.store.queued(position)
    }

    fn receipt(&self, id: &EventId) -> Result<Option<ReceiptRow>, StoreError> {
        self.store.receipt(id)
    }

    fn receipts(&self, after: Option<&EventId>, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.store.receipts(after, max)
    }

    fn past(&self, space: &Did, name: Option<&str>) -> Result<Vec<CellRow>, StoreError> {
        self.store.past(space, name)
    }

    fn settled(&self, space: &Did, after: u64, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.store.settled(space, after, max)
    }

    fn entry(&self, space: &Did, seq: u64) -> Result<Option<LogEntry>, StoreError> {
        self.store.entry(space, seq)
    }

    fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        self.store.log(space, after, max)
    }

    fn dead_letter(&self, position: u64) -> Result<Option<DeadLetter>, StoreError> {
        self.store.dead_letter(position)
    }

    fn dead_letter_of(&self, event: &EventId) -> Result<Option<DeadLetter>, StoreError> {
        self.store.dead_letter_of(event)
    }

    fn dead_letters(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.store.dead_letters(charm, after, max)
    }
}

/// Returns how many bytes this process has given to the disk, pages that it changed twice counted twice.
pub fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).unwrap_or_default()
}
