//! Opening a folder: looked at before anything is changed in it, then index and journal are held against each other.

use std::{path::Path, sync::Arc};

use super::{FolderStore, Pace, Writer};
use crate::{
    env,
    journal::{FileJournal, FolderDisk, Journal, JournalError, JournalOptions, JournalReader},
    limits::{INDEX_BYTES, LAG_BYTES_MAX},
    store::{
        Store, StoreError,
        group::{self, Mark},
        index::Index,
        lock::{self, Lock},
        place,
        tail::{Numbered, Tail},
    },
    text::shown,
};

/// How often a reader looks again whose journal was released while it read the index.
const TRIES_MAX: usize = 100;

impl FolderStore {
    /// Opens the folder for one host, making it (mode 0700) when it is not there.
    ///
    /// # Errors
    /// `InUse` while another host has it open, under whatever name; `Readable` by others; `Locked`; `Damaged`, when it is no
    /// store, one of another version, or not whole; `Full`; `Failed`. What is refused stays as it was found.
    pub fn open(path: impl AsRef<Path>) -> Result<FolderStore, StoreError> {
        let path = path.as_ref();
        let name = shown(path);
        let io = |error| lock::failed(&name, &error);
        let folder = place::locate(path).map_err(io)?;
        Found::look(&folder, &name)?;
        place::check_mode(&folder, &name)?;
        place::make_folder(&folder).map_err(io)?;
        let folder = place::locate(path).map_err(io)?;
        let lock = Lock::take(&folder.join(place::LOCK), &name)?;
        // Once more: what was there may have changed until it was locked.
        let found = Found::look(&folder, &name)?;
        found.check(&name)?;
        let disk = Arc::new(FolderDisk::create(folder.join(place::JOURNAL)).map_err(io)?);
        let options = JournalOptions::new(env::fresh_id(), found.known);
        let looked = FileJournal::look(disk.clone(), options).map_err(|error| lost(&name, found.known, error))?;
        check_groups(found.mark, &JournalReader::new(disk)).map_err(|error| error.of(&name))?;
        // From here on it is changed.
        let journal: Arc<dyn Journal> = Arc::new(looked.settle().map_err(|error| journal_failed(&name, error))?);
        lock.mark(journal.end());
        let (file, shown) = (folder.join(place::INDEX), shown(&folder.join(place::INDEX)));
        let index = Index::open(&file, &shown)?;
        FolderStore::join(name, Some(&folder), journal, index, lock)
    }

    /// Opens a store for one host whose index is on a virtual file system that this process has registered with SQLite
    /// (<https://www.sqlite.org/vfs.html>). The file is locked exclusively and there is one connection, so the file system
    /// needs no shared memory.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_on(journal: impl Journal, index: impl AsRef<Path>, vfs: &str) -> Result<FolderStore, StoreError> {
        let name = shown(index.as_ref());
        let index = Index::open_with_vfs(index.as_ref(), vfs, &name)?;
        FolderStore::join(name, None, Arc::new(journal), index, Lock::none())
    }

    /// Opens an existing folder for reading, also beside a running host: what was committed before is there. Nothing is
    /// written. `commit` fails.
    ///
    /// # Errors
    /// `Damaged` when the folder is not a store; `Failed` when it is not there.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<FolderStore, StoreError> {
        let path = path.as_ref();
        let name = shown(path);
        let folder = place::locate(path).map_err(|error| lock::failed(&name, &error))?;
        if let Err(error) = std::fs::metadata(&folder) {
            return Err(lock::failed(&name, &error));
        }
        let found = Found::look(&folder, &name)?;
        found.check(&name)?;
        if found.is_new {
            let why = "there is no store in it yet".to_owned();
            return Err(StoreError::Damaged { path: name, why });
        }
        let file = folder.join(place::INDEX);
        let index = Index::open_read_only(&file, &shown(&file))?;
        let store = FolderStore {
            name,
            folder: Some(folder),
            journal: None,
            index,
            tail: Default::default(),
            writer: Default::default(),
            pace: Default::default(),
            closing: Default::default(),
        };
        store.refresh()?;
        Ok(store)
    }

    /// Returns the one path of a store that is there or may come, however it is spelled: absolute and without links.
    ///
    /// # Errors
    /// When a folder on the way cannot be looked into.
    pub fn locate(path: impl AsRef<Path>) -> Result<std::path::PathBuf, StoreError> {
        let path = path.as_ref();
        place::locate(path).map_err(|error| lock::failed(&shown(path), &error))
    }

    /// Joins an index with its journal: what it does not have yet is laid over it, or written into it when that is much.
    fn join(
        name: String,
        folder: Option<&Path>,
        journal: Arc<dyn Journal>,
        index: Index,
        lock: Lock,
    ) -> Result<FolderStore, StoreError> {
        let mark = index.mark()?;
        let read = |after, bytes| journal.read(after, bytes);
        check_joint(mark, journal.first(), &read).map_err(|error| error.of(&name))?;
        let (order, spaces) = (index.last_order()?, index.spaces());
        let store = FolderStore {
            name,
            folder: folder.map(Path::to_owned),
            journal: Some(journal.clone()),
            index,
            tail: Default::default(),
            writer: Default::default(),
            pace: Pace::default().into(),
            closing: Default::default(),
        };
        let mut writer = Writer { lock, order, spaces: spaces.into_iter().collect(), failed: None };
        let mut after = mark.number;
        loop {
            let page = page(&read, after).map_err(|error| error.of(&store.name))?;
            let Some(last) = page.last() else { break };
            after = last.number;
            for mut numbered in page {
                let batch = &numbered.group.batch;
                writer.order = batch.log.last().map_or(writer.order, |entry| entry.order);
                writer.spaces.extend(batch.spaces.iter().map(|row| row.did));
                numbered.order = writer.order;
                store.tail().push(numbered);
            }
            while store.tail().bytes() >= LAG_BYTES_MAX / 2 {
                store.index()?;
            }
        }
        *store.writer() = Some(writer);
        Ok(store)
    }

    /// Reads what the journal has after the index.
    pub(super) fn refresh(&self) -> Result<(), StoreError> {
        let folder = self.folder.as_deref().ok_or_else(|| self.not_writable())?;
        let mut tries = 0;
        loop {
            tries += 1;
            let mark = self.index.mark()?;
            match self.tail_after(mark, folder) {
                Ok(tail) => {
                    *self.tail() = tail;
                    return Ok(());
                }
                // The host has gone on: what is not in the journal any more is in the index.
                Err(_) if tries < TRIES_MAX && self.index.mark()? != mark => {}
                Err(error) => return Err(error.of(&self.name)),
            }
        }
    }

    fn tail_after(&self, mark: Mark, folder: &Path) -> Result<Tail, Unjoined> {
        // The mark first: a host that goes on moves the end.
        let known = lock::mark(&folder.join(place::LOCK))?;
        let journal = JournalReader::new(Arc::new(FolderDisk::new(folder.join(place::JOURNAL))));
        let read = |after, bytes| journal.read(after, bytes);
        check_joint(mark, journal.first()?, &read)?;
        let mut tail = Tail::default();
        let (mut after, mut order) = (mark.number, 0);
        loop {
            let page = page(&read, after)?;
            let Some(last) = page.last() else {
                lock::check_mark(&self.name, known, after)?;
                return Ok(tail);
            };
            after = last.number;
            for mut numbered in page {
                order = numbered.group.batch.log.last().map_or(order, |entry| entry.order);
                numbered.order = order;
                tail.push(numbered);
            }
        }
    }
}

/// Reads groups of a journal after a number, as many as fit.
pub(super) type Read<'a> = &'a dyn Fn(u64, usize) -> Result<Vec<(u64, Vec<u8>)>, JournalError>;

fn page(read: Read<'_>, after: u64) -> Result<Vec<Numbered>, Unjoined> {
    let groups = read(after, INDEX_BYTES)?;
    let decoded = |(number, bytes): (u64, Vec<u8>)| {
        let group = group::decode(&bytes).map_err(|why| Unjoined::group(number, &why))?;
        Ok(Numbered { number, bytes: bytes.len(), order: 0, group: Arc::new(group) })
    };
    groups.into_iter().map(decoded).collect()
}

/// Why an index and a journal do not make a store.
pub(super) enum Unjoined {
    Journal(JournalError),
    Store(StoreError),
    Why(String),
}

impl From<StoreError> for Unjoined {
    fn from(error: StoreError) -> Unjoined {
        Unjoined::Store(error)
    }
}

impl From<JournalError> for Unjoined {
    fn from(error: JournalError) -> Unjoined {
        Unjoined::Journal(error)
    }
}

impl Unjoined {
    fn group(number: u64, why: &str) -> Unjoined {
        Unjoined::Why(format!("group {number} of its journal {why}"))
    }

    pub fn of(self, name: &str) -> StoreError {
        match self {
            Unjoined::Journal(error) => journal_failed(name, error),
            Unjoined::Store(error) => error,
            Unjoined::Why(why) => StoreError::Damaged { path: name.to_owned(), why },
        }
    }
}

pub(super) fn journal_failed(name: &str, error: JournalError) -> StoreError {
    match error {
        JournalError::Full => StoreError::Full,
        JournalError::Damaged { .. } | JournalError::Unknown { .. } | JournalError::Released { .. } => {
            StoreError::Damaged { path: name.to_owned(), why: error.to_string() }
        }
        error => StoreError::Failed(format!("{name}: {error}")),
    }
}

/// The error of a journal that has not what is known to have been durable.
fn lost(name: &str, known: u64, error: JournalError) -> StoreError {
    match error {
        JournalError::Damaged { path, why } if known > 0 => {
            let why = format!(
                "{why}: it is damaged, gone or an older copy; to go on with what is there, such as a restored backup, remove \
                 the file lock in the store"
            );
            StoreError::Damaged { path, why }
        }
        error => journal_failed(name, error),
    }
}

/// Checks that an index with this mark is derived from that journal.
fn check_joint(mark: Mark, first: u64, read: Read<'_>) -> Result<(), Unjoined> {
    let number = mark.number;
    let remedy = if first == 1 { "remove index.db, it is made again" } else { "put a backup in its place" };
    let why = |why: String| Err(Unjoined::Why(format!("{why}: {remedy}")));
    if number == 0 && first > 1 {
        return why(format!("index.db is gone or empty, and the journal begins at group {first}"));
    }
    if number == 0 {
        return Ok(());
    }
    if number < first {
        return why(format!(
            "index.db ends at group {number}, and the journal begins at group {first}: it is an older copy"
        ));
    }
    match read(number - 1, 0)?.first() {
        Some((at, bytes)) if *at == number && Mark::of(number, bytes) == mark => Ok(()),
        Some(_) => {
            why(format!("group {number} in index.db is another one than in the journal: they are not of one store"))
        }
        None => {
            why(format!("index.db holds group {number}, and the journal ends before it: they are not of one store"))
        }
    }
}

/// Checks that an index with this mark is derived from that journal, and that this host reads what comes after it.
fn check_groups(mark: Mark, journal: &JournalReader) -> Result<(), Unjoined> {
    let read = |after, bytes| journal.read(after, bytes);
    check_joint(mark, journal.first()?, &read)?;
    let mut after = mark.number;
    loop {
        let groups = read(after, INDEX_BYTES)?;
        let Some((last, _)) = groups.last() else { return Ok(()) };
        after = *last;
        for (number, bytes) in &groups {
            group::check_version(bytes).map_err(|why| Unjoined::group(*number, &why))?;
        }
    }
}

/// Checks an index and a journal as a whole, and returns the number of the last group.
pub(super) fn check_all(mark: Mark, first: u64, read: Read<'_>) -> Result<u64, Unjoined> {
    check_joint(mark, first, read)?;
    let mut end = mark.number;
    while let Some(last) = page(read, end)?.last() {
        end = last.number;
    }
    Ok(end)
}

/// What is in a folder before it is opened.
struct Found {
    /// Nobody has made a store there yet.
    is_new: bool,
    has_journal: bool,
    /// The last group that is known to have been durable, 0 for none.
    known: u64,
    /// The last group in its index.
    mark: Mark,
}

impl Found {
    fn look(folder: &Path, name: &str) -> Result<Found, StoreError> {
        let is_new = place::check_folder(folder, name)?;
        let has_journal = folder.join(place::JOURNAL).exists();
        let known = lock::mark(&folder.join(place::LOCK))?;
        let file = folder.join(place::INDEX);
        let mark = match is_new {
            true => Mark::default(),
            false => Index::open_read_only(&file, &shown(&file))?.mark()?,
        };
        Ok(Found { is_new, has_journal, known, mark })
    }

    fn check(&self, name: &str) -> Result<(), StoreError> {
        if self.has_journal || (self.mark.number == 0 && self.known == 0) {
            return Ok(());
        }
        let why = "its folder journal is gone: put it back, or a backup in place of the whole".to_owned();
        Err(StoreError::Damaged { path: name.to_owned(), why })
    }
}
