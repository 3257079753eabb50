//! How much a host has done since it was opened (S4).

use std::fmt;

use crate::receipt::Outcome;

/// Counts of events since the host was opened, as of one moment. At each moment
/// `found + sent == settled() + waiting`.
///
/// They count what is durable (T8). They start from zero with each host; the log of records has the whole past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Events that waited when the host was opened.
    pub found: u64,
    /// Events sent since: those accepted from outside (the same id again is no other event), the sends of turns that
    /// committed, receipts that came back as events (S6), and dead letters sent again (S11). What is refused before
    /// it is sent, as an error, is not counted; what is `denied` or finds no stream is, here and below.
    pub sent: u64,
    /// Events whose handler committed.
    pub committed: u64,
    /// Events whose handler returned an error.
    pub rejected: u64,
    /// Events whose handler trapped or passed a limit.
    pub faulted: u64,
    /// Events whose turns met conflicts until their time was spent.
    pub conflict_exhausted: u64,
    /// Events that no grant covered.
    pub denied: u64,
    /// Events for a charm or stream that there is not.
    pub no_such_stream: u64,
    /// Events that were not taken in time.
    pub expired: u64,
    /// Events that were withdrawn.
    pub cancelled: u64,
    /// Events that did not fit their stream any more.
    pub misfit: u64,
    /// Events that wait for their turn or run now.
    pub waiting: u64,
    /// Attempts at turns that were thrown away at their commit or before, because something read had changed or an inbox had
    /// filled up (T4). Each was run again, but the last of a turn that ended as `conflict-exhausted`.
    pub conflicts: u64,
    /// Batches that are durable and not yet in the index of the store.
    pub lag_groups: u64,
    /// What they take in the journal, in bytes. Commits wait at `LAG_BYTES_MAX`.
    pub lag_bytes: u64,
}

/// The code that a host holds: each component is compiled, linked and described once for all charms of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Components {
    /// Components whose code is held now: of charms that are installed, being installed or in a turn.
    pub held: u64,
    /// How often one was loaded since the host was opened: compiled or found in the code cache, linked, described.
    pub loads: u64,
}

/// What a host has done to compute derived cells since it was opened (D3, D4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Derivations {
    /// Runs of derivations that came to a value or failed.
    pub runs: u64,
    /// Runs that were cut short for a derived cell that was not computed yet.
    pub restarts: u64,
    /// Derived cells whose value is kept now.
    pub kept: u64,
    /// What those take, with what they have read, in bytes.
    pub bytes: u64,
}

impl Counters {
    /// Returns how many events had this outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        let mut copy = *self;
        *copy.place(outcome)
    }

    /// Returns how many events are settled.
    pub fn settled(&self) -> u64 {
        Outcome::ALL.into_iter().map(|outcome| self.of(outcome)).sum()
    }

    pub(crate) fn settle(&mut self, outcome: Outcome) {
        *self.place(outcome) += 1;
    }

    fn place(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Committed => &mut self.committed,
            Outcome::Rejected => &mut self.rejected,
            Outcome::Faulted => &mut self.faulted,
            Outcome::ConflictExhausted => &mut self.conflict_exhausted,
            Outcome::Denied => &mut self.denied,
            Outcome::NoSuchStream => &mut self.no_such_stream,
            Outcome::Expired => &mut self.expired,
            Outcome::Cancelled => &mut self.cancelled,
            Outcome::Misfit => &mut self.misfit,
        }
    }
}

/// One line: `3 sent: 2 committed, 1 rejected; 0 waiting, 0 conflicts`.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters { found, sent, waiting, conflicts, lag_groups, lag_bytes, .. } = self;
        if *found > 0 {
            write!(f, "{found} found, ")?;
        }
        write!(f, "{sent} sent: ")?;
        for outcome in
            Outcome::ALL.into_iter().filter(|outcome| *outcome == Outcome::Committed || self.of(*outcome) > 0)
        {
            let comma = if outcome == Outcome::Committed { "" } else { ", " };
            write!(f, "{comma}{} {outcome}", self.of(outcome))?;
        }
        write!(f, "; {waiting} waiting, {conflicts} conflicts")?;
        match lag_groups {
            0 => Ok(()),
            _ => write!(f, "; index {lag_groups} batches behind, {lag_bytes} bytes"),
        }
    }
}
