//! A store read without running it: also beside a running host, and years later.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde::de::DeserializeOwned;

use crate::{
    cell::CellId,
    core::Commit,
    did::Did,
    entry::LogEntry,
    event::EventId,
    limits::{LIST_PAGE_MAX, TURN_EVENTS_SHOWN, TURNS_PAGE_MAX},
    listing::{CellInfo, CellPage, SpaceInfo, Status, TurnInfo, TurnState},
    path::{Path, PathError},
    record::{Until, WaitFor},
    rows::{CellRow, DeadLetter, Image, Queued, SpaceRow, TurnRow},
    store::{Store, StoreError},
    suspects::held,
    text::clip,
    tx::{Range, Unavailable},
    value::{Found, Invalid, Mismatch, Tree, Value},
    verify::{self, Verified, VerifiedStore, VerifyError},
    why::{self, Why},
};

/// Why a read by an embedder gives nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store knows no such space.
    #[error("no space {0} in this store")]
    NoSuchSpace(Did),
    /// The reader has no grant for that cell.
    #[error("{reader} has no grant to read {cell} of {owner}: add one to charms.toml")]
    Denied {
        /// Who asked.
        reader: Did,
        /// Whose cell.
        owner: Did,
        /// The cell.
        cell: String,
    },
    /// The path leads through a value of another kind.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The derived cell could not be computed: says which one and why.
    #[error("{0}")]
    Underivable(String),
    /// The space has no such commit yet.
    #[error("space {space} has no commit {seq}; its last is {last}")]
    NoSuchCommit {
        /// The space.
        space: Did,
        /// As asked.
        seq: u64,
        /// What it has.
        last: u64,
    },
    /// What the space came to with that commit has gone (H1).
    #[error("commit {seq} of {space} is compacted: the oldest that can be read is {oldest}")]
    Compacted {
        /// The space.
        space: Did,
        /// As asked.
        seq: u64,
        /// The oldest commit that can be read.
        oldest: u64,
    },
    /// The text is no path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// What is there is no such type.
    #[error("{at}: {why}")]
    Type {
        /// The cell and the path, cut.
        at: String,
        /// Why not.
        why: Invalid,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The host is not running.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> ReadError {
        ReadError::Store(error.bounded())
    }
}

/// Checks that the cells of a space can be read as of a commit: `oldest` is the first of those.
///
/// # Errors
/// `Compacted`.
pub(crate) fn check_kept(space: &Did, seq: u64, oldest: u64) -> Result<(), ReadError> {
    if seq < oldest { Err(ReadError::Compacted { space: *space, seq, oldest }) } else { Ok(()) }
}

/// A picture of a store at the moment it was opened, but for its cells, which are read when they are asked for.
pub struct Archive {
    store: Arc<dyn Store>,
    image: Image,
    /// Positions of events that are held.
    held: BTreeSet<u64>,
}

impl Archive {
    /// Reads the store's present state.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn open(store: impl Store) -> Result<Archive, StoreError> {
        let image = store.outline()?;
        let held = held(&store)?;
        Ok(Archive { store: Arc::new(store), image, held })
    }

    /// Returns the spaces in the order they were made.
    pub fn spaces(&self) -> Vec<SpaceInfo> {
        let (Image { spaces, queued, dead, .. }, held) = (&self.image, &self.held);
        let info = |row: &SpaceRow| SpaceInfo {
            did: row.did,
            name: row.name.clone(),
            commits: row.seq,
            waiting: queued.iter().filter(|queued| queued.event.to == row.did).count(),
            held: queued.iter().filter(|queued| queued.event.to == row.did && held.contains(&queued.position)).count(),
            dead: dead.iter().filter(|(did, ..)| *did == row.did).count(),
            letters_dropped: row.letters_dropped,
            history_bytes: row.history_bytes,
            floor: row.floor.seq,
            notes: row.notes,
        };
        spaces.iter().map(info).collect()
    }

    /// Returns the cells of a space that hold a value, by name: all of them, however many. They are read when they are asked for:
    /// beside a running host they may be of later commits than what was read when the store was opened.
    ///
    /// # Errors
    /// `NoSuchSpace`, `Store`.
    pub fn cells(&self, space: &Did) -> Result<Vec<CellInfo>, ReadError> {
        let (mut cells, mut start) = (Vec::new(), None);
        loop {
            let page = self.list(space, "", start.as_deref(), LIST_PAGE_MAX)?;
            cells.extend(page.cells);
            start = page.next;
            if start.is_none() {
                return Ok(cells);
            }
        }
    }

    /// Returns up to `max` cells of a space whose names begin with `prefix`, as [`Archive::cells`] does; from `start` on, which is
    /// the `next` of the page before and need not be a name. A page is of one moment, and can be short with more to come.
    ///
    /// # Errors
    /// `NoSuchSpace`, `Store`.
    pub fn list(&self, space: &Did, prefix: &str, start: Option<&str>, max: usize) -> Result<CellPage, ReadError> {
        self.last_commit(space)?;
        let range = Range::of(prefix, start, None);
        let (rows, next) = self.store.cells(space, range.from(), range.until(), max.min(LIST_PAGE_MAX))?;
        let info = |row: CellRow| Some(CellInfo::new(row.name, row.seq, Found::Bytes(row.value.as_ref()?.as_bytes())));
        Ok(CellPage { cells: rows.into_iter().filter_map(info).collect(), next })
    }

    fn last_commit(&self, space: &Did) -> Result<u64, ReadError> {
        self.image.space(space).map(|row| row.seq).ok_or(ReadError::NoSuchSpace(*space))
    }

    /// Returns the value at a path of a cell: now, or as it was after commit `at` of its space (C6).
    ///
    /// # Errors
    /// `NoSuchSpace`, `NoSuchCommit`, `Compacted`, `Mismatch`, `Store`.
    pub fn get(&self, space: &Did, cell: &str, path: &Path, at: Option<u64>) -> Result<Option<Value>, ReadError> {
        let last = self.last_commit(space)?;
        let check_kept = |image: &Image, seq| check_kept(space, seq, image.space(space).map_or(0, |row| row.floor.seq));
        let behind = format!("{cell}\0");
        let row = || Ok::<_, StoreError>(self.store.cells(space, cell, Some(&behind), 1)?.0.pop());
        let value = match at {
            Some(seq) if seq > last => return Err(ReadError::NoSuchCommit { space: *space, seq, last }),
            Some(seq) => {
                check_kept(&self.image, seq)?;
                let id = CellId { owner: *space, name: cell.into() };
                let present = row()?.and_then(|row| Some((row.seq, Tree::new(row.value?))));
                match verify::value_at(&*self.store, &id, present, seq) {
                    Ok(value) => value,
                    Err(error) => {
                        // It may have gone meanwhile.
                        check_kept(&self.store.outline()?, seq)?;
                        return Err(error.into());
                    }
                }
            }
            None => row()?.and_then(|row| row.value).map(Tree::new),
        };
        part(value.as_ref(), path)
    }

    /// Returns what became of an event.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn status(&self, id: &EventId) -> Result<Status, StoreError> {
        if let Some(row) = self.store.receipt(id)? {
            return Ok(Status::Settled(row.receipt));
        }
        let queued = self.image.queued.iter().find(|queued| queued.event.id == *id);
        let waits = |queued: &Queued| Status::Waiting { to: queued.event.to, is_held: self.is_held(queued) };
        Ok(queued.map_or(Status::Unknown, waits))
    }

    /// Returns up to `max` turns that had committed a segment and not ended, whose events have positions after `after`, by
    /// position; of one charm or of all. What runs beside that only its host knows: [`crate::Host::turns`].
    pub fn turns(&self, charm: Option<&Did>, after: u64, max: usize) -> Vec<TurnInfo> {
        let events = self.unsettled();
        let of = |row: &&TurnRow| row.position > after && charm.is_none_or(|charm| row.space == *charm);
        let rows = self.image.turns.iter().filter(of).take(max.min(TURNS_PAGE_MAX));
        let info = |row: &TurnRow| {
            let TurnRow { position, space, event, progress } = row;
            let (queued, wait) = (events.get(event)?, &progress.wait);
            let open = wait.events.iter().filter_map(|event| Some((*event, events.get(event)?.event.to)));
            let state = self.standing(queued, Some(row), &events);
            Some(TurnInfo {
                position: *position,
                charm: *space,
                event: *event,
                sender: queued.event.sender,
                stream: queued.event.stream.clone(),
                state,
                since_ms: progress.since_ms,
                until_ms: matches!(state, TurnState::Waits | TurnState::Retry)
                    .then(|| progress.since_ms.saturating_add(progress.waits_ms())),
                retries: progress.retries,
                segments: progress.segments,
                commit: (progress.segments > 0).then_some(progress.seq),
                component: progress.began_with(),
                until: Some(wait.until),
                waits_for: open.clone().take(TURN_EVENTS_SHOWN).collect(),
                unsettled: open.count(),
                named: wait.events.len(),
                conflicts: 0,
            })
        };
        rows.filter_map(info).collect()
    }

    fn unsettled(&self) -> HashMap<EventId, &Queued> {
        self.image.queued.iter().map(|queued| (queued.event.id, queued)).collect()
    }

    /// Returns where an event stands that is not settled, with the turn that is under way for it.
    fn standing(&self, queued: &Queued, row: Option<&TurnRow>, unsettled: &HashMap<EventId, &Queued>) -> TurnState {
        let is_open = |event: &EventId| unsettled.contains_key(event);
        match row.map(|row| &row.progress.wait) {
            _ if self.is_held(queued) => TurnState::Held,
            None if queued.event.deliver_after.is_some() => TurnState::Delayed,
            None => TurnState::Queued,
            Some(_) if row.is_some_and(|row| row.progress.again_ms.is_some()) => TurnState::Retry,
            Some(_) if row.is_some_and(|row| row.progress.lacks_answer()) => TurnState::Http,
            Some(WaitFor { until: Until::Time, .. }) => TurnState::Waits,
            Some(WaitFor { events, until: Until::All, .. }) if events.iter().any(is_open) => TurnState::Waits,
            Some(WaitFor { events, until: Until::First, .. }) if events.iter().all(is_open) => TurnState::Waits,
            Some(_) => TurnState::Ready,
        }
    }

    /// Tells why an event happened, as [`crate::Host::why`] does, but for conflicts, which are told by their host alone. What
    /// waited when the store was opened is told as it was then.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn why(&self, id: &EventId) -> Result<Option<Why>, StoreError> {
        let (events, image) = (self.unsettled(), &self.image);
        let turns: HashMap<u64, &TurnRow> = image.turns.iter().map(|row| (row.position, row)).collect();
        why::why(&*self.store, image.order, id, &|id, position| {
            let Some(queued) = events.get(id) else {
                // A running host has sent it since.
                return position.is_some_and(|position| position > image.position).then_some((None, TurnState::Queued));
            };
            let state = self.standing(queued, turns.get(&queued.position).copied(), &events);
            Some((Some((queued.event.clone(), queued.position)), state))
        })
    }

    /// Returns the events that wait for a charm, first first.
    pub fn waiting<'a>(&'a self, space: &'a Did) -> impl Iterator<Item = &'a Queued> {
        self.image.queued.iter().filter(|queued| queued.event.to == *space)
    }

    /// Returns whether a waiting event is held: processes died while it ran, and the operator has not let it run since.
    pub fn is_held(&self, queued: &Queued) -> bool {
        self.held.contains(&queued.position)
    }

    /// Returns up to `max` dead letters of a charm at positions after `after`, in the order in which the events were sent;
    /// 0 starts at the first.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn dead_letters(&self, space: &Did, after: u64, max: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let dead = self.image.dead.iter().filter(|(did, position, _)| did == space && *position > after);
        let letters = dead.map(|(_, position, _)| self.store.dead_letter(*position));
        letters.filter_map(Result::transpose).take(max).collect()
    }

    /// Returns the dead letter of an event.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn dead_letter(&self, event: &EventId) -> Result<Option<DeadLetter>, StoreError> {
        let letter = self.store.dead_letter_of(event)?;
        Ok(letter.filter(|letter| self.image.dead.contains(&(letter.event.to, letter.position, *event))))
    }

    /// Returns up to `max` commits after host commit `order`, in order; of one space or of all.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn commits(&self, space: Option<&Did>, order: u64, max: usize) -> Result<Vec<Commit>, StoreError> {
        let entries = self.store.log(space, order, max)?;
        let read = |entry: &LogEntry| Commit::read(entry).map_err(|error| StoreError::unread(entry.order, error));
        entries.iter().map(read).collect()
    }

    /// Copies the store to a folder that is not there yet, also beside a running host: see [`crate::Store::backup`].
    ///
    /// # Errors
    /// When that fails; then there is no copy.
    pub fn backup(&self, to: impl AsRef<std::path::Path>) -> Result<(), StoreError> {
        self.store.backup(to.as_ref())
    }

    /// Proves a space from its first commit (I3).
    ///
    /// # Errors
    /// [`VerifyError`] at the first thing that is wrong.
    pub fn verify(&self, space: &Did) -> Result<Verified, VerifyError> {
        verify::verify(&*self.store, space)
    }

    /// Proves the whole store by the laws that its log obeys, as it is now ([`crate::Law`]): what no space proves
    /// alone.
    ///
    /// # Errors
    /// [`VerifyError`] at the first thing that is wrong.
    pub fn verify_store(&self) -> Result<VerifiedStore, VerifyError> {
        verify::verify_store(&*self.store)
    }
}

/// Returns the value at a path inside a value.
pub(crate) fn part(value: Option<&Tree>, path: &Path) -> Result<Option<Value>, ReadError> {
    Ok(match value {
        Some(value) => value.find(&path.0)?.map(Found::to_value),
        None => None,
    })
}

/// Returns a value as the type that was asked for.
pub(crate) fn decode<T: DeserializeOwned>(
    cell: &str,
    path: &Path,
    value: Option<Value>,
) -> Result<Option<T>, ReadError> {
    let decoded = value.map(|value| value.decode()).transpose();
    decoded.map_err(|why| ReadError::Type { at: clip(&format!("{}{path}", clip(cell, 128)), 256).into_owned(), why })
}
