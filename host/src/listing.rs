//! What is told of spaces, cells and events: never a value.

use std::sync::Arc;

use crate::{
    did::Did,
    receipt::Receipt,
    rows::Notes,
    value::{Found, Kind},
};

/// One space, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceInfo {
    /// Its DID.
    pub did: Did,
    /// The charm's name in the manifest; `@host` and `@operator` are the host's own.
    pub name: String,
    /// Number of its last commit.
    pub commits: u64,
    /// Events that wait for it.
    pub waiting: usize,
    /// Those of them that are held: processes died while they ran.
    pub held: usize,
    /// Its dead letters.
    pub dead: usize,
    /// Dead letters that went because there were more than `dead-letters-max`, since the space was made.
    pub letters_dropped: u64,
    /// The records of its commits that are kept, in bytes. What has gone by a commit may be counted until the index has it.
    pub history_bytes: u64,
    /// Commits up to this one have gone, 0 for none: its cells can be read as of it and later (H1).
    pub floor: u64,
    /// Whether it is paused, and what else the operator is told of it.
    pub notes: Notes,
}

/// One cell, as it is listed: never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Number of the commit in its space that wrote it.
    pub revision: u64,
    /// The kind of its value.
    pub kind: Kind,
    /// Size of its value.
    pub bytes: usize,
}

impl CellInfo {
    pub(crate) fn new(name: Arc<str>, revision: u64, value: Found<'_>) -> CellInfo {
        CellInfo { name, revision, kind: value.kind(), bytes: value.len() }
    }
}

/// What became of an event, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is settled.
    Settled(Receipt),
    /// It waits for its turn, or runs.
    Waiting {
        /// The charm that it waits for.
        to: Did,
        /// Whether it is held: processes died while it ran.
        is_held: bool,
    },
    /// There never was one, or its receipt is not kept any more.
    Unknown,
}
