//! A store read without running it: also beside a running host, and years later.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    did::Did,
    error::ReadError,
    event::EventId,
    path::Path,
    receipt::Receipt,
    record::Record,
    store::{CellRow, DeadLetter, Image, Notes, Queued, Store, StoreError},
    suspects::held,
    value::{Kind, Value},
    verify::{self, Verified, VerifiedStore, VerifyError},
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
    pub(crate) fn new(name: Arc<str>, revision: u64, value: &Value) -> Option<CellInfo> {
        Some(CellInfo { name, revision, kind: value.kind(), bytes: value.as_bytes().len() })
    }
}

/// What became of an event, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is settled.
    Settled(Receipt),
    /// It waits for its turn, or runs.
    Waiting,
    /// There never was one, or its receipt is not kept any more.
    Unknown,
}

/// A picture of a store at the moment it was opened.
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
        let image = store.load(None)?;
        let held = held(&store)?;
        Ok(Archive { store: Arc::new(store), image, held })
    }

    /// Returns the spaces in the order they were made.
    pub fn spaces(&self) -> Vec<SpaceInfo> {
        let (Image { spaces, queued, dead, .. }, held) = (&self.image, &self.held);
        let info = |row: &crate::store::SpaceRow| SpaceInfo {
            did: row.did,
            name: row.name.clone(),
            commits: row.seq,
            waiting: queued.iter().filter(|queued| queued.event.to == row.did).count(),
            held: queued.iter().filter(|queued| queued.event.to == row.did && held.contains(&queued.position)).count(),
            dead: dead.iter().filter(|(did, _)| *did == row.did).count(),
            notes: row.notes,
        };
        spaces.iter().map(info).collect()
    }

    /// Returns the cells of a space that hold a value, by name.
    ///
    /// # Errors
    /// `NoSuchSpace`.
    pub fn cells(&self, space: &Did) -> Result<Vec<CellInfo>, ReadError> {
        self.last_commit(space)?;
        let cells = self.image.cells.iter().filter(|cell| cell.space == *space);
        let mut listed: Vec<CellInfo> =
            cells.filter_map(|cell| CellInfo::new(cell.name.clone(), cell.seq, cell.value.as_ref()?)).collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn last_commit(&self, space: &Did) -> Result<u64, ReadError> {
        let row = self.image.spaces.iter().find(|row| row.did == *space);
        row.map(|row| row.seq).ok_or(ReadError::NoSuchSpace(*space))
    }

    /// Returns the value at a path of a cell: now, or as it was after commit `at` of its space (C6).
    ///
    /// # Errors
    /// `NoSuchSpace`, `NoSuchCommit`, `Mismatch`, `Store`.
    pub fn get(&self, space: &Did, cell: &str, path: &Path, at: Option<u64>) -> Result<Option<Value>, ReadError> {
        let last = self.last_commit(space)?;
        let row = self.image.cells.iter().find(|row| row.space == *space && &*row.name == cell);
        let value = match at {
            Some(seq) if seq > last => return Err(ReadError::NoSuchCommit { space: *space, seq, last }),
            Some(seq) => verify::value_at(&*self.store, cell, row.map_or(0, |row: &CellRow| row.g), seq)?,
            None => row.and_then(|row| row.value.clone()),
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
        let waits = self.image.queued.iter().any(|queued| queued.event.id == *id);
        Ok(if waits { Status::Waiting } else { Status::Unknown })
    }

    /// Returns the events that wait for a charm, first first.
    pub fn waiting<'a>(&'a self, space: &'a Did) -> impl Iterator<Item = &'a Queued> {
        self.image.queued.iter().filter(|queued| queued.event.to == *space)
    }

    /// Returns whether a waiting event is held: processes died while it ran, and the operator has not let it run since.
    pub fn is_held(&self, queued: &Queued) -> bool {
        self.held.contains(&queued.position)
    }

    /// Returns the dead letters of a charm, oldest first.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn dead_letters(&self, space: &Did) -> Result<Vec<DeadLetter>, StoreError> {
        let dead = self.image.dead.iter().filter(|(did, _)| did == space);
        let letters = dead.map(|(_, position)| self.store.dead_letter(*position));
        letters.filter_map(Result::transpose).collect()
    }

    /// Returns up to `max` commit records after host commit `g`, in order.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn records(&self, space: Option<&Did>, g: u64, max: usize) -> Result<Vec<Record>, StoreError> {
        let entries = self.store.log(space, g, max)?;
        let read = |entry: crate::store::LogEntry| {
            Record::from_bytes(&entry.record)
                .ok_or_else(|| StoreError::Failed(format!("log entry {} is malformed: run verify", entry.g)))
        };
        entries.into_iter().map(read).collect()
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
pub(crate) fn part(value: Option<&Value>, path: &Path) -> Result<Option<Value>, ReadError> {
    Ok(match value {
        Some(value) => value.get(&path.0)?.map(Value::from_checked),
        None => None,
    })
}
