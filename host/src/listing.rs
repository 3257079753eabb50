//! What is told of spaces, cells and events: never a value.

use std::sync::Arc;

use crate::{
    did::Did,
    event::EventId,
    receipt::Receipt,
    record::{Hash, Until},
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

/// Cells of a space, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CellPage {
    /// In the order of the bytes of their names.
    pub cells: Vec<CellInfo>,
    /// What to begin the next page with; none when there is nothing more.
    pub next: Option<String>,
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

/// What becomes of an event that is not settled, as of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnState {
    /// It has not begun: it is in line.
    Queued,
    /// It has not begun: it is not due yet (S10).
    Delayed,
    /// Processes died while it ran: it goes on when the operator lets it.
    Held,
    /// It runs.
    Runs,
    /// It lost a conflict, and runs again in a moment.
    Conflict,
    /// It waits for an answer from outside.
    Http,
    /// It waits for room in an inbox.
    Room,
    /// It waits for what it has sent, or for time (S7).
    Waits,
    /// It waits for the time at which it is tried again (S13).
    Retry,
    /// What it waited for is there: it goes on as soon as its charm is in no other turn.
    Ready,
}

impl TurnState {
    /// Returns the name as it stands on the command line.
    pub fn name(self) -> &'static str {
        match self {
            TurnState::Queued => "queued",
            TurnState::Delayed => "delayed",
            TurnState::Held => "held",
            TurnState::Runs => "running",
            TurnState::Conflict => "conflict",
            TurnState::Http => "http",
            TurnState::Room => "room",
            TurnState::Waits => "waiting",
            TurnState::Retry => "retry",
            TurnState::Ready => "ready",
        }
    }
}

/// A turn that runs, or has begun and waits for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnInfo {
    /// Position of its event.
    pub position: u64,
    /// Whose turn it is.
    pub charm: Did,
    /// The event that it handles.
    pub event: EventId,
    /// Who sent that.
    pub sender: Did,
    /// The stream that it came on.
    pub stream: Arc<str>,
    /// What it does.
    pub state: TurnState,
    /// Since when, in milliseconds since 1970; of a turn that runs, when it began or went on.
    pub since_ms: u64,
    /// When its wait is over whatever has come, in milliseconds since 1970.
    pub until_ms: Option<u64>,
    /// How often it was tried again (S13).
    pub retries: u32,
    /// Segments that it has committed.
    pub segments: u32,
    /// The commit of the last one, in its charm's space.
    pub commit: Option<u64>,
    /// SHA-256 of the component that runs it; none when its charm was uninstalled, or when it begins anew.
    pub component: Option<Hash>,
    /// How much of what it waits for is to be there; none when it waits for no events.
    pub until: Option<Until>,
    /// Events that it waits for and that are not settled, each with its receiver: `TURN_EVENTS_SHOWN` of them at most.
    pub waits_for: Vec<(EventId, Did)>,
    /// How many there are.
    pub unsettled: usize,
    /// How many the wait names.
    pub named: usize,
    /// Conflicts since it began or went on (T4).
    pub conflicts: u32,
}
