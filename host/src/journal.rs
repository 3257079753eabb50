//! The append-only truth of a store: groups of bytes, numbered 1, 2, 3 .. without a gap. What a group says is no affair of
//! the journal's.
//!
//! A group is whole or not there, and what [`Journal::append`] has returned is durable. The number of the last group is what
//! a writer must know to append (compare-and-set), so that two writers never both go on. The outcomes of an append are told
//! apart by their type: after `Full` nothing was written and the same group may be tried again; after anything else nothing
//! is appended any more, and only opening again tells what is there.

mod disk;
mod file;
mod format;
mod memory;
mod open;
mod reader;
mod segment;
mod verdict;

pub use disk::{Disk, DiskFile, FolderDisk};
pub use file::{FileJournal, JournalOptions};
pub use memory::MemoryJournal;
pub use reader::JournalReader;

/// Why a group was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no room. Nothing was written; it can be tried again.
    #[error("disk full: free space and try again")]
    Full,
    /// The journal ends elsewhere than the writer thought: another one writes it. Nothing was written, and nothing more may be.
    #[error("the journal ends at group {end}: another writer has it, stop this one")]
    Lost {
        /// The number of its last group.
        end: u64,
    },
    /// It is unknown whether the group is there. Nothing more may be appended: open again to find out.
    #[error("the journal failed, open it again: {0}")]
    Unknown(String),
}

/// Why a journal cannot be opened or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Groups are missing or not as they were written. Nothing was changed.
    #[error("journal {path}: {why}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with what, and what to do.
        why: String,
    },
    /// A later host has written there what this one does not know. Nothing was changed.
    #[error("journal {path}: {why}")]
    Unknown {
        /// The file.
        path: String,
        /// What it is, and what to do.
        why: String,
    },
    /// The groups asked for are no longer there.
    #[error("the journal begins at group {first}: what was before it is in the index only")]
    Released {
        /// The oldest group that is there.
        first: u64,
    },
    /// There is no room. It can be tried again.
    #[error("disk full: free space and try again")]
    Full,
    /// Reading or writing failed. It says nothing of what is there.
    #[error("journal failed: {0}")]
    Failed(String),
}

/// An append-only log of groups. Calls may block; the host makes them from where that hurts nobody.
pub trait Journal: Send + Sync + 'static {
    /// Returns the number of the last group, 0 for none. All up to it are durable.
    fn end(&self) -> u64;

    /// Makes a group durable behind group `after`, which must be the last one: all of it or nothing, with one write and one
    /// sync. Returns its number.
    ///
    /// # Errors
    /// `Full` leaves nothing behind and may be tried again. After any other error every append fails.
    fn append(&self, after: u64, group: &[u8]) -> Result<u64, AppendError>;

    /// Does one step of what an append would otherwise have to do first, such as making room, and returns whether there is more
    /// to do now. To be called from time to time beside the appends.
    ///
    /// # Errors
    /// `Full` when there is no room ahead: an append tells it when it needs some. After any other error nothing more is
    /// appended.
    fn prepare(&self) -> Result<bool, JournalError> {
        Ok(false)
    }

    /// Returns groups after number `after`, in order, with their numbers: as many as fit in `bytes_max`, and at least one if
    /// there is one.
    ///
    /// # Errors
    /// `Released`; `Damaged`; `Unknown`; `Failed`.
    fn read(&self, after: u64, bytes_max: usize) -> Result<Vec<(u64, Vec<u8>)>, JournalError>;

    /// Returns the number of the oldest group that is there; that of the next one when there is none.
    fn first(&self) -> u64;

    /// Says that the groups up to `upto` are not needed any more: those may go which can go as a whole.
    ///
    /// # Errors
    /// When that fails. Nothing after `upto` has gone.
    fn release(&self, upto: u64) -> Result<(), JournalError>;

    /// Says that the next group begins a new segment: all before it can go as a whole.
    fn roll(&self) {}

    /// Says that nothing more will be appended, so that the next one to open it knows where it ends. Reading goes on.
    ///
    /// # Errors
    /// When that fails. What was appended is durable all the same.
    fn close(&self) -> Result<(), JournalError>;
}
