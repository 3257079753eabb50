//! What turns do at this moment, and the conflicts that they met lately: in memory, for people who ask. Nothing hangs on it.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    cell::CellId,
    did::Did,
    directory::NearMiss,
    event::EventId,
    limits::{CONFLICTS_KEPT, NAME_BYTES_MAX, NEAR_MISSES_KEPT},
    listing::TurnState,
    rows::Queued,
    text::clip,
    tx::Cause,
    value,
};

/// Longest text of a conflict, and of a path in it, in bytes.
const TEXT_BYTES_MAX: usize = 512;
const PATH_TEXT_BYTES_MAX: usize = 128;
/// How many of the last conflicts are looked at for the same one, to be counted with it.
const ALIKE: usize = 32;

/// The turns that somebody gives attempts to, and the last conflicts.
#[derive(Default)]
pub struct Live {
    turns: Mutex<BTreeMap<u64, Present>>,
    next: AtomicU64,
    conflicts: Mutex<VecDeque<ConflictInfo>>,
    misses: Mutex<VecDeque<WishMiss>>,
}

/// A turn that runs, or waits for its next attempt.
#[derive(Clone)]
pub struct Present {
    pub queued: Arc<Queued>,
    pub state: TurnState,
    /// When it began or went on, in milliseconds since 1970.
    pub since_ms: u64,
    pub conflicts: u32,
    /// Which of those that the event had.
    number: u64,
}

/// The place of a turn among them: it is left when this is dropped.
pub struct Place {
    live: Arc<Live>,
    position: u64,
    number: u64,
    state: TurnState,
}

/// What threw attempts at a turn away at their commits (T4): never a value. In memory only, of the last `CONFLICTS_KEPT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictInfo {
    /// The event whose turn ran again.
    pub event: EventId,
    /// When that was, the last time, in milliseconds since 1970.
    pub time_ms: u64,
    /// How often it met the same place.
    pub count: u32,
    /// What happened, the last time.
    pub text: String,
    /// The cell whose read did not hold; none when it was no read.
    pub cell: Option<CellId>,
    /// The path in it that was read, cut.
    pub path: String,
    /// The revision that was read: a commit in the cell's space, 0 for none.
    pub seen: u64,
    /// The commit that won, in the cell's space.
    pub found: u64,
    /// The event whose turn made that commit, as far as the log still says.
    pub winner: Option<EventId>,
}

/// A charm that a wish of a turn nearly found (D7): names, kinds and shapes, never a value. In memory only, of the last
/// `NEAR_MISSES_KEPT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WishMiss {
    /// The event whose turn wished.
    pub event: EventId,
    /// When that was, the last time, in milliseconds since 1970.
    pub time_ms: u64,
    /// How often.
    pub count: u32,
    /// What was asked for.
    pub tag: String,
    /// Who does not fit.
    pub owner: Did,
    /// What is missing, of whom.
    pub why: String,
}

impl Live {
    fn turns(&self) -> MutexGuard<'_, BTreeMap<u64, Present>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn conflicts(&self) -> MutexGuard<'_, VecDeque<ConflictInfo>> {
        self.conflicts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a turn that begins or goes on.
    pub fn begin(self: &Arc<Live>, queued: &Arc<Queued>, since_ms: u64) -> Place {
        let (position, number, state) = (queued.position, self.next.fetch_add(1, Ordering::Relaxed), TurnState::Runs);
        let present = Present { queued: queued.clone(), state, since_ms, conflicts: 0, number };
        self.turns().insert(position, present);
        Place { live: self.clone(), position, number, state }
    }

    /// Returns the turn of the event at a position.
    pub fn get(&self, position: u64) -> Option<Present> {
        self.turns().get(&position).cloned()
    }

    /// Returns up to `max` turns whose events have positions after `after`, in order; of one charm or of all.
    pub fn page(&self, charm: Option<&Did>, after: u64, max: usize) -> Vec<Present> {
        let turns = self.turns();
        let turns = turns.range(after.saturating_add(1)..).map(|(_, present)| present);
        turns.filter(|present| charm.is_none_or(|charm| present.queued.event.to == *charm)).take(max).cloned().collect()
    }

    /// Notes that an attempt was thrown away at its commit.
    pub fn met(&self, event: EventId, cause: &Cause, time_ms: u64) {
        let text = clip(&cause.to_string(), TEXT_BYTES_MAX).into_owned();
        let (cell, path, seen, found) = match cause {
            Cause::Read(conflict) => {
                let path = &conflict.path;
                let path = if path.is_root() { String::new() } else { value::at(&path.0) };
                let name = clip(&conflict.cell.name, NAME_BYTES_MAX).as_ref().into();
                let cell = CellId { name, owner: conflict.cell.owner };
                (Some(cell), clip(&path, PATH_TEXT_BYTES_MAX).into_owned(), conflict.seen, conflict.found)
            }
            _ => (None, String::new(), 0, 0),
        };
        let met = ConflictInfo { event, time_ms, count: 1, text, cell, path, seen, found, winner: None };
        let mut kept = self.conflicts();
        let same = |kept: &ConflictInfo| {
            let is_place = kept.cell == met.cell && kept.path == met.path;
            kept.event == event && is_place && (met.cell.is_some() || kept.text == met.text)
        };
        let first = kept.len().saturating_sub(ALIKE);
        match kept.range_mut(first..).rev().find(|kept| same(kept)) {
            Some(same) => *same = ConflictInfo { count: same.count.saturating_add(1), ..met },
            None => kept.push_back(met),
        }
        if kept.len() > CONFLICTS_KEPT {
            kept.pop_front();
        }
    }

    fn misses(&self) -> MutexGuard<'_, VecDeque<WishMiss>> {
        self.misses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a wish of a turn nearly found a charm.
    pub fn missed(&self, event: EventId, miss: NearMiss, time_ms: u64) {
        let NearMiss { tag, owner, why } = miss;
        let mut kept = self.misses();
        let first = kept.len().saturating_sub(ALIKE);
        let same =
            |kept: &&mut WishMiss| (kept.event, kept.owner, &kept.why) == (event, owner, &why) && kept.tag == tag;
        if let Some(same) = kept.range_mut(first..).rev().find(same) {
            (same.count, same.time_ms) = (same.count.saturating_add(1), time_ms);
            return;
        }
        kept.push_back(WishMiss { event, time_ms, count: 1, tag, owner, why });
        if kept.len() > NEAR_MISSES_KEPT {
            kept.pop_front();
        }
    }

    /// Returns what wishes of some turns nearly found, the first first.
    pub fn misses_of(&self, events: &HashSet<EventId>) -> Vec<WishMiss> {
        self.misses().iter().filter(|miss| events.contains(&miss.event)).cloned().collect()
    }

    /// Returns the conflicts of some turns, the first first.
    pub fn conflicts_of(&self, events: &HashSet<EventId>) -> Vec<ConflictInfo> {
        self.conflicts().iter().filter(|met| events.contains(&met.event)).cloned().collect()
    }
}

impl Place {
    fn change(&self, change: impl FnOnce(&mut Present)) {
        let mut turns = self.live.turns();
        if let Some(present) = turns.get_mut(&self.position).filter(|present| present.number == self.number) {
            change(present);
        }
    }

    /// Says what the turn does now.
    pub fn stand(&mut self, state: TurnState) {
        if self.state != state {
            self.state = state;
            self.change(|present| present.state = state);
        }
    }

    /// Notes that an attempt at the turn was thrown away at its commit.
    pub fn met(&self, event: EventId, cause: &Cause, time_ms: u64) {
        self.change(|present| present.conflicts += 1);
        self.live.met(event, cause, time_ms);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut turns = self.live.turns();
        if turns.get(&self.position).is_some_and(|present| present.number == self.number) {
            turns.remove(&self.position);
        }
    }
}

#[cfg(test)]
mod tests;
