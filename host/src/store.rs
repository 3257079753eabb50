//! The store's contract: one atomic durable batch at a time, and what a host needs to start again.
//!
//! The log of signed records is the truth; cells, queue, receipts and dead letters are derived from it and
//! written in the same batch, so that opening needs no replay.

mod index;
mod lock;
mod marks;
mod memory;
mod place;

pub use index::SqliteStore;
pub(crate) use marks::{List, Mark, Marks, Suspect, Work, hex};
pub use memory::MemoryStore;

use std::{fmt, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    did::Did,
    event::{Event, EventId},
    receipt::Receipt,
    record::Hash,
    text::clip,
    value::Value,
};

/// What a store refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another host has it open.
    #[error("store {path} is open in another process: stop that one, or use another store")]
    InUse {
        /// The file.
        path: String,
    },
    /// Others can read the file, and with it what is in the cells.
    #[error("store {path} is readable by others (mode {mode:03o}): run chmod 600 on it")]
    Readable {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// It is reached by more than one name, and what belongs to it stands beside one of them.
    #[error("store {path}: {why}")]
    OtherName {
        /// The file.
        path: String,
        /// Which names, and what to do.
        why: String,
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
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Anything else. After a failed batch it is unknown what reached the disk: open again to find out.
    #[error("store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// Returns it with a bounded text: that of a store of the embedder's may be any (T7).
    pub(crate) fn bounded(self) -> StoreError {
        match self {
            StoreError::Failed(why) => StoreError::Failed(clip(&why, 640).into_owned()),
            error => error,
        }
    }
}

/// One log entry.
#[derive(Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Number in the host.
    pub order: u64,
    /// The space.
    pub space: Did,
    /// Number in the space.
    pub seq: u64,
    /// The record's bytes.
    pub record: Arc<[u8]>,
    /// Signature over the space's head at this record, on the last record of a space in each batch.
    pub signature: Option<[u8; 64]>,
}

/// Records hold values: debug output is their length.
impl fmt::Debug for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit {}: record {} of {}, {} bytes", self.order, self.seq, self.space, self.record.len())
    }
}

/// One cell's present value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRow {
    /// The space.
    pub space: Did,
    /// The name there.
    pub name: Arc<str>,
    /// `order` of the record that wrote it.
    pub order: u64,
    /// Its number in the space.
    pub seq: u64,
    /// None when it was removed.
    pub value: Option<Value>,
}

/// One event that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Position in the queue, in order over all charms.
    pub position: u64,
    /// The event.
    pub event: Event,
}

/// One failed event (S11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Position that the event had in the queue.
    pub position: u64,
    /// When it failed, in milliseconds since 1970.
    pub time_ms: u64,
    /// The event.
    pub event: Event,
    /// What became of it and why.
    pub receipt: Receipt,
}

/// A receipt with what it takes to recognise a repeated send (S9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRow {
    /// The receipt.
    pub receipt: Receipt,
    /// Who sent the event.
    pub sender: Did,
    /// Who handled it.
    pub to: Did,
    /// For an id that the sender chose: hash over receiver, stream and payload.
    pub digest: Option<[u8; 16]>,
}

/// A charm that the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceRow {
    /// Its DID.
    pub did: Did,
    /// Its name in the manifest; `@host` and `@operator` are the host's own.
    pub name: String,
    /// Number of its last record, 0 before the first.
    pub seq: u64,
    /// Hash of that record.
    pub head: Hash,
    /// Dead letters that went because there were more than `dead-letters-max`, since the space was made.
    pub letters_dropped: u64,
    /// What the operator did to it or is told of it.
    pub notes: Notes,
}

/// What the operator did to a charm or is told of it. Stands beside the log: no law holds for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// It begins no turns.
    pub paused: bool,
    /// Length of a chain of events through it that was deep and fast at once (A6).
    pub chain: u64,
    /// Lines of its log that were dropped.
    pub dropped: u64,
}

impl SpaceRow {
    /// Name of the space where events from outside enter the log; no charm can have it.
    pub(crate) const HOST: &str = "@host";
    /// Name of the operator's space; no charm can have it.
    pub(crate) const OPERATOR: &str = "@operator";
}

/// What one durable batch changes. Rows are in commit order; a cell stands at most once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The last position given to an event; none leaves it as it is.
    pub position: Option<u64>,
    /// Spaces added.
    pub spaces: Vec<SpaceRow>,
    /// Notes replaced.
    pub notes: Vec<(Did, Notes)>,
    /// What the host keeps of the operator's decisions about a DID, replaced; none removes it. A later one counts.
    pub kept: Vec<(Did, Option<Vec<u8>>)>,
    /// Appended to the log.
    pub log: Vec<LogEntry>,
    /// Spaces moved to a new head: number and hash of the last record.
    pub heads: Vec<(Did, u64, Hash)>,
    /// Cells replaced.
    pub cells: Vec<CellRow>,
    /// Events added.
    pub queued: Vec<Queued>,
    /// Positions of events that no longer wait.
    pub taken: Vec<u64>,
    /// Receipts added.
    pub receipts: Vec<ReceiptRow>,
    /// Dead letters added.
    pub dead: Vec<DeadLetter>,
    /// Positions of dead letters dropped.
    pub buried: Vec<u64>,
    /// How many more dead letters of a space went because there were too many.
    pub letters_dropped: Vec<(Did, u64)>,
}

/// What a host needs to start.
#[derive(Clone, Default)]
pub struct Image {
    /// Keys event ids (see `EventId`); kept when a host first opened the store, zeros before.
    pub secret: [u8; 32],
    /// The last commit.
    pub order: u64,
    /// The last position given.
    pub position: u64,
    /// Every space.
    pub spaces: Vec<SpaceRow>,
    /// Every cell.
    pub cells: Vec<CellRow>,
    /// Every waiting event, in order.
    pub queued: Vec<Queued>,
    /// (charm, position) of every dead letter, in order.
    pub dead: Vec<(Did, u64)>,
    /// What the host keeps of the operator's decisions, by DID.
    pub kept: Vec<(Did, Vec<u8>)>,
}

/// Debug output is without the secret.
impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Image { order, spaces, cells, queued, dead, .. } = self;
        let (spaces, cells, queued, dead) = (spaces.len(), cells.len(), queued.len(), dead.len());
        write!(f, "commit {order}: {spaces} spaces, {cells} cells, {queued} queued, {dead} dead letters")
    }
}

/// A store of spaces. Calls may block; the host makes them from where that hurts nobody.
pub trait Store: Send + Sync + 'static {
    /// Returns everything that lives, as of one batch. `fresh_secret` is kept when the store has none; without one
    /// nothing is written.
    ///
    /// # Errors
    /// When the store is damaged.
    fn load(&self, fresh_secret: Option<[u8; 32]>) -> Result<Image, StoreError>;

    /// Makes a batch durable: all of it or nothing, with one sync of the disk.
    ///
    /// # Errors
    /// `Full` and `Locked` leave nothing behind and may be tried again; after any other error the outcome is unknown.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Returns the file that the store is, for what the host keeps beside it: what it died under, if it dies. None where
    /// there is none; then a host does not know.
    fn file(&self) -> Option<&Path> {
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

    /// Returns the log entry with number `order`.
    ///
    /// # Errors
    /// When the store is damaged.
    fn entry(&self, order: u64) -> Result<Option<LogEntry>, StoreError>;

    /// Returns up to `max` log entries after `order`, in order; of one space or of all.
    ///
    /// # Errors
    /// When the store is damaged.
    fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError>;

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
