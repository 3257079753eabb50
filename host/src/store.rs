//! The store's contract: one atomic durable batch at a time, and what a host needs to start again.
//!
//! The log of signed records is the truth; cells, queue, receipts and dead letters are derived from it. On disk a batch is
//! durable in a journal and looked up in an index that is behind it ([`FolderStore`]); a test's store may be one map.

mod folder;
mod group;
mod index;
mod lock;
mod marks;
mod memory;
mod past;
mod place;
mod tail;

pub use folder::FolderStore;
pub(crate) use group::coalesce;
pub(crate) use marks::{List, Mark, Marks, Suspect, Work, hex};
pub use memory::MemoryStore;

use std::{path::Path, sync::Arc};

use crate::{
    component::Component,
    did::Did,
    entry::{ENTRIES_PAGE, LogEntry},
    event::EventId,
    limits::LIST_BYTES_MAX,
    record::{Hash, RecordError},
    rows::{Batch, CellRow, DeadLetter, Image, Queued, ReceiptRow, Unfit},
    text::clip,
};

/// What a store refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another host has it open.
    #[error("store {path} is open in another process: stop that one, or use another store")]
    InUse {
        /// The folder.
        path: String,
    },
    /// Others can look into the folder, and see what is in the cells.
    #[error("store {path} is readable by others (mode {mode:03o}): run chmod 700 on it")]
    Readable {
        /// The folder.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Another program holds a lock on the file. Nothing of the batch remains; it can be tried again.
    #[error("store {path} is locked by a program that works on the file: end that one")]
    Locked {
        /// The file.
        path: String,
    },
    /// The disk is full. Nothing of the batch remains; it can be tried again.
    #[error("disk full: free space and try again")]
    Full,
    /// Not a store, of another version, or damaged.
    #[error("store {path}: {why}")]
    Damaged {
        /// The folder, or the file in it.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Anything else. After a failed batch it is unknown what reached the disk: open again to find out.
    #[error("store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// Returns what is wrong with an entry of the log whose record cannot be read.
    pub(crate) fn unread(entry: u64, error: RecordError) -> StoreError {
        let next = if error == RecordError::Malformed { ": run verify" } else { "" };
        StoreError::Failed(format!("log entry {entry}: {error}{next}"))
    }

    /// Returns it with a bounded text: that of a store of the embedder's may be any (T7).
    pub(crate) fn bounded(self) -> StoreError {
        match self {
            StoreError::Failed(why) => StoreError::Failed(clip(&why, 640).into_owned()),
            error => error,
        }
    }
}

/// What was committed and is not yet where it is looked up: it is in the journal, and in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Batches.
    pub groups: usize,
    /// What they take in the journal, in bytes.
    pub bytes: usize,
}

impl From<Unfit> for StoreError {
    fn from(error: Unfit) -> StoreError {
        StoreError::Failed(error.to_string())
    }
}

/// Cells of a page, and where the next one begins.
pub type CellRows = (Vec<CellRow>, Option<String>);

/// Returns the first page of these cells.
pub(crate) fn page_of(mut rows: Vec<CellRow>, max: usize) -> CellRows {
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let (mut bytes, mut count) = (0, 0);
    for row in rows.iter().take(max) {
        bytes += row.value.as_ref().map_or(0, |value| value.as_bytes().len());
        if count > 0 && bytes > LIST_BYTES_MAX {
            break;
        }
        count += 1;
    }
    let is_all = count == rows.len();
    rows.truncate(count);
    let next = rows.last().filter(|_| !is_all).map(|last| format!("{}\0", last.name));
    (rows, next)
}

/// A store of spaces. Calls may block; the host makes them from where that hurts nobody.
pub trait Store: Send + Sync + 'static {
    /// Returns everything that lives, as of one batch. `fresh_secret` is kept when the store has none; without one
    /// nothing is written.
    ///
    /// # Errors
    /// When the store is damaged.
    fn load(&self, fresh_secret: Option<[u8; 32]>) -> Result<Image, StoreError>;

    /// Returns the same without the cells, which are as many as they are: see [`Store::cells`]. Writes nothing.
    ///
    /// # Errors
    /// When the store is damaged.
    fn outline(&self) -> Result<Image, StoreError> {
        Ok(Image { cells: Vec::new(), ..self.load(None)? })
    }

    /// Returns up to `max` cells of a space as they are now, with names from `start` on and before `end` if there is one, in
    /// order; and where the rest begins, if there may be more. A page has `LIST_BYTES_MAX` bytes of values at most, or a
    /// single larger one, and is of one batch: the next may be of a later one.
    ///
    /// # Errors
    /// When the store is damaged.
    fn cells(&self, space: &Did, start: &str, end: Option<&str>, max: usize) -> Result<CellRows, StoreError> {
        let rows = self.load(None)?.cells.into_iter().filter(|row| row.space == *space);
        Ok(page_of(rows.filter(|row| *row.name >= *start && end.is_none_or(|end| *row.name < *end)).collect(), max))
    }

    /// Makes a batch durable: all of it or nothing, with one sync of the disk.
    ///
    /// # Errors
    /// `Full` and `Locked` leave nothing behind and may be tried again; after any other error the outcome is unknown.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Writes a piece of what was committed to where it is looked up, which nobody waits for. Returns whether there is more.
    /// Whoever runs the store calls it now and then after commits; a store that needs no such thing has nothing to do.
    ///
    /// # Errors
    /// `Full` and `Locked` may be tried again; any other says that the store is to be opened again.
    fn index(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Sees to it that what has gone by a cut ([`Batch::cuts`]) is in no file of the store. Returns whether that is so: not while
    /// somebody reads what is to go.
    ///
    /// # Errors
    /// As `commit`.
    fn scrub(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Returns how much there is of that.
    fn lag(&self) -> Lag {
        Lag::default()
    }

    /// Copies the store to a folder that is not there yet, also while a host writes it. All that was acknowledged before is in
    /// the copy, which is a store.
    ///
    /// # Errors
    /// When that fails; then there is no copy.
    fn backup(&self, to: &Path) -> Result<(), StoreError> {
        Err(StoreError::Failed(format!("{}: this store makes no copies", crate::text::shown(to))))
    }

    /// Returns the folder that the store is, for what the host keeps in it: what it died under, if it dies. None where
    /// there is none; then a host does not know.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Puts away what is only there for writing, and lets another host open the store. Called once nothing more will be
    /// committed; reading goes on.
    ///
    /// # Errors
    /// When that fails. What was committed is durable all the same.
    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Returns a component by its SHA-256: it is there as long as a charm has it installed, or a turn under way began with it.
    ///
    /// # Errors
    /// When the store is damaged.
    fn component(&self, hash: &Hash) -> Result<Option<Component>, StoreError>;

    /// Returns what the turn under way of the event at a position was told, a piece for each of its segments, in order.
    ///
    /// # Errors
    /// When the store is damaged.
    fn recording(&self, position: u64) -> Result<Vec<Arc<[u8]>>, StoreError>;

    /// Returns the event that waits at a position, or is in its turn. One that does not any more may be there or not.
    ///
    /// # Errors
    /// When the store is damaged.
    fn queued(&self, position: u64) -> Result<Option<Queued>, StoreError>;

    /// Returns the receipt of an event.
    ///
    /// # Errors
    /// When the store is damaged.
    fn receipt(&self, id: &EventId) -> Result<Option<ReceiptRow>, StoreError>;

    /// Returns up to `max` receipts with ids after `after`, in the order of their ids; none starts at the first.
    ///
    /// # Errors
    /// When the store is damaged.
    fn receipts(&self, after: Option<&EventId>, max: usize) -> Result<Vec<ReceiptRow>, StoreError>;

    /// Returns the log entry of a space with number `seq` there.
    ///
    /// # Errors
    /// When the store is damaged.
    fn entry(&self, space: &Did, seq: u64) -> Result<Option<LogEntry>, StoreError>;

    /// Returns up to `max` log entries after `order`, in order; of one space or of all.
    ///
    /// # Errors
    /// When the store is damaged.
    fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError>;

    /// Returns up to `max` log entries after `after` that handle the event at a position, to its end or a part of the
    /// way, in order.
    ///
    /// # Errors
    /// When the store is damaged.
    fn handled(&self, position: u64, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let (mut found, mut after) = (Vec::new(), after);
        loop {
            let page = self.log(None, after, ENTRIES_PAGE)?;
            let Some(last) = page.last() else { return Ok(found) };
            after = last.order;
            for entry in page.into_iter().filter(|entry| entry.handles(position)) {
                found.push(entry);
                if found.len() >= max {
                    return Ok(found);
                }
            }
        }
    }

    /// Returns what cells of a space held at its floor, the last commit whose record has gone: those that were written since, or
    /// the one with that name if it was. Any other has its present value.
    ///
    /// # Errors
    /// When the store is damaged.
    fn past(&self, space: &Did, name: Option<&str>) -> Result<Vec<CellRow>, StoreError>;

    /// Returns up to `max` receipts that commits of a space settled after its commit `after`, in that order.
    ///
    /// # Errors
    /// When the store is damaged.
    fn settled(&self, space: &Did, after: u64, max: usize) -> Result<Vec<ReceiptRow>, StoreError>;

    /// Returns the dead letter at a position.
    ///
    /// # Errors
    /// When the store is damaged.
    fn dead_letter(&self, position: u64) -> Result<Option<DeadLetter>, StoreError>;

    /// Returns the dead letter of an event.
    ///
    /// # Errors
    /// When the store is damaged.
    fn dead_letter_of(&self, event: &EventId) -> Result<Option<DeadLetter>, StoreError>;

    /// Returns up to `max` dead letters of a charm at positions after `after`, in order.
    ///
    /// # Errors
    /// When the store is damaged.
    fn dead_letters(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<DeadLetter>, StoreError>;
}
