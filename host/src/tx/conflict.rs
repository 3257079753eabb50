//! A conflict: an expected outcome of a commit, not an error (T4, T7).

use std::fmt;

use crate::{cell::CellId, path::Path};

/// A read that no longer holds. Names the place and the two revisions, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The cell that changed.
    pub cell: CellId,
    /// The path that was read.
    pub path: Path,
    /// The revision read: the sequence number in the cell's space, 0 for none.
    pub seen: u64,
    /// The revision found at the commit.
    pub found: u64,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conflict { cell, path, seen, found } = self;
        let place = if path.is_root() { String::new() } else { format!(" at {}", crate::value::at(&path.0)) };
        write!(f, "cell {} of {}{place} was read at revision {seen} and is at {found} now", cell.name, cell.owner)
    }
}
