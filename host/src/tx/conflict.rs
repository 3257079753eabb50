//! A conflict: an expected outcome of a commit, not an error (T4, T7).

use std::{fmt, time::Duration};

use crate::{
    cell::CellId,
    did::Did,
    limits::{Limits, NAME_BYTES_MAX},
    path::Path,
    text::clip,
};

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

/// What a turn met at its commit that makes it run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A read no longer holds.
    Read(Conflict),
    /// A derived cell that was read has another value now, or may have.
    Derived {
        /// The cell.
        cell: CellId,
        /// The path that was read.
        path: Path,
        /// Whose cells are below it.
        below: Vec<Did>,
    },
    /// The right to read a cell was taken back since (A2): the next attempt will be refused.
    Right {
        /// The cell.
        cell: CellId,
    },
    /// Its snapshot was the oldest when too much was kept for old snapshots.
    Lost {
        /// The bound, in bytes.
        max: usize,
    },
    /// Another component of its charm was installed since, or none is (U1): the next attempt runs that.
    Component,
    /// An inbox filled up since the send was staged: the next attempt will see it (S12).
    Full {
        /// Whose.
        inbox: Did,
        /// Events in it, receipts on their way to it included.
        events: usize,
        /// Their payloads, in bytes.
        bytes: usize,
    },
}

impl Cause {
    /// Returns the diagnosis of a turn that met conflicts until its time was spent. The path is cut, nothing else:
    /// with the longest names it stays below `MESSAGE_BYTES_MAX`, so its end is never lost.
    pub fn exhausted(&self, tries: &Tries, limits: &Limits) -> String {
        let Tries { attempts, spent, paused } = tries;
        let (total_ms, paused_ms) = (spent.as_millis(), paused.as_millis());
        let pauses = attempts.saturating_sub(1);
        let remedy = match self {
            Cause::Read(_) => "read less, or a narrower path, of cells that others write often".to_owned(),
            Cause::Derived { .. } => {
                "read less of derived cells, or narrower paths, that hang on what others write often".to_owned()
            }
            Cause::Right { .. } => "grant it again, or send the event later".to_owned(),
            Cause::Component => "send the event again".to_owned(),
            Cause::Lost { .. } => "compute less between reading and the end, or raise the bound".to_owned(),
            Cause::Full { .. } => {
                let Limits { inbox_events_max, inbox_bytes_max, .. } = limits;
                format!(
                    "send less at once, or raise inbox-events-max {inbox_events_max} or inbox-bytes-max {inbox_bytes_max}"
                )
            }
        };
        format!("{self}; {attempts} attempts in {total_ms} ms, with {pauses} pauses of {paused_ms} ms in all; {remedy}")
    }
}

/// How long a turn was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// Attempts that met a conflict, each but the last with a pause after it.
    pub attempts: u32,
    /// From the first conflict on: attempts and pauses, and nothing else that the turn waited for.
    pub spent: Duration,
    /// All pauses.
    pub paused: Duration,
}

impl Tries {
    /// Counts time, once there has been a conflict.
    pub fn spend(&mut self, time: Duration) {
        if self.attempts > 0 {
            self.spent += time;
        }
    }
}

fn place(path: &Path) -> String {
    if path.is_root() { String::new() } else { format!(" at {}", crate::value::at(&path.0)) }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Read(Conflict { cell, path, seen, found }) => {
                let place = place(path);
                let (name, owner) = (clip(&cell.name, NAME_BYTES_MAX), cell.owner);
                write!(f, "cell {name} of {owner}{place} was read at revision {seen} and is at {found} now")
            }
            Cause::Derived { cell, path, .. } => {
                let (name, owner, place) = (clip(&cell.name, NAME_BYTES_MAX), cell.owner, place(path));
                write!(f, "derived cell {name} of {owner}{place} has another value than was read")
            }
            Cause::Right { cell } => write!(f, "the right to read cell {} of {} was taken back", cell.name, cell.owner),
            Cause::Lost { max } => write!(f, "its snapshot was given back: over old-versions-bytes-max {max}"),
            Cause::Component => write!(f, "another component was installed meanwhile, or it was uninstalled"),
            Cause::Full { inbox, events, bytes } => {
                write!(f, "inbox of {inbox} filled up, with {events} events of {bytes} bytes")
            }
        }
    }
}
