//! What happens in a host, and nothing else: no disk, no clock, no lock, nobody who waits.
//!
//! [`State`] is all that decides what may happen next. [`State::decide`] says whether something may, as it is now, and makes
//! the commit of it: a record and its place. [`State::apply`] lets a commit happen, and cannot fail; what follows from it
//! for the world are [`Effects`], of them the rows that a store gets. A log that is read again makes the same state and the
//! same rows (`tests.rs`, by seeds), so a host that opens takes the rows as they stand: docs/decisions/0010.

mod apply;
mod chain;
mod deadlines;
mod decide;
mod draft;
mod effects;
mod inbox;
mod state;
#[cfg(test)]
mod tests;
mod underway;

pub use apply::Live;
pub use decide::{Act, Answered, Decided, Ending, Part, Refused};
pub use draft::Draft;
pub use effects::Effects;
pub use inbox::Growth;
pub use state::{Due, Open, Space, State};
pub use underway::{Resumed, Standing, Underway};

use crate::{
    entry::{LogEntry, Taken},
    record::{Record, RecordError},
};

/// One commit: a record, and its place in the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Number in the host.
    pub order: u64,
    /// The last position given to an event, after it.
    pub position: u64,
    /// The event that it handles.
    pub taken: Option<Taken>,
    /// What it did. Until it has its place in the chain of its space it names no record before it.
    pub record: Record,
}

impl Commit {
    /// Reads an entry of the log.
    pub(crate) fn read(entry: &LogEntry) -> Result<Commit, RecordError> {
        let LogEntry { order, position, taken, .. } = *entry;
        Ok(Commit { order, position, taken, record: Record::from_bytes(&entry.record)? })
    }
}
