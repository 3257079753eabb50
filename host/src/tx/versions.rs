//! Every live cell with the recent versions that open snapshots may still read (T3).
//!
//! A snapshot is a number: the last commit it sees. A read takes the newest version not after it. Versions
//! that no open snapshot can reach are dropped when their cell is written again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use crate::{cell::CellId, did::Did, store::CellRow, value::Value};

/// One version of a cell.
#[derive(Clone, Debug)]
pub struct Version {
    /// The commit that wrote it, in the order of the host.
    pub g: u64,
    /// The same commit's number in its space: the revision.
    pub seq: u64,
    /// None when it was removed.
    pub value: Option<Value>,
}

/// All cells of a host.
#[derive(Default)]
pub struct Versions {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The last commit.
    last: u64,
    /// Oldest version first; never empty.
    spaces: HashMap<Did, HashMap<Arc<str>, Vec<Version>>>,
    /// How many snapshots are open at each commit.
    open: BTreeMap<u64, usize>,
}

impl Inner {
    fn find(&self, owner: &Did, name: &str) -> &[Version] {
        self.spaces.get(owner).and_then(|cells| cells.get(name)).map_or(&[], Vec::as_slice)
    }
}

impl Versions {
    /// Returns the state that a store holds.
    pub fn load(g: u64, rows: Vec<CellRow>) -> Versions {
        let mut inner = Inner { last: g, ..Inner::default() };
        for CellRow { space, name, g, seq, value } in rows {
            inner.spaces.entry(space).or_default().insert(name, vec![Version { g, seq, value }]);
        }
        Versions { inner: RwLock::new(inner) }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a snapshot of everything committed so far.
    pub fn snapshot(self: &Arc<Versions>) -> Snapshot {
        let mut inner = self.write();
        let g = inner.last;
        *inner.open.entry(g).or_default() += 1;
        Snapshot { versions: self.clone(), g }
    }

    /// Returns the newest version of a cell.
    pub fn latest(&self, owner: &Did, name: &str) -> Option<Version> {
        self.read().find(owner, name).last().cloned()
    }

    /// Returns the names of a space's cells that hold a value, sorted, with their newest version.
    pub fn list(&self, owner: &Did) -> Vec<(Arc<str>, Version)> {
        let inner = self.read();
        let cells = inner.spaces.get(owner).into_iter().flatten();
        let mut listed: Vec<_> = cells
            .filter_map(|(name, versions)| Some((name.clone(), versions.last()?.clone())))
            .filter(|(_, version)| version.value.is_some())
            .collect();
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        listed
    }

    /// Notes a commit without writes: a snapshot opened from now on depends on it too (T8).
    pub fn advance(&self, g: u64) {
        self.write().last = g;
    }

    /// Publishes one commit: all of its writes at once. `g` is larger than any before.
    pub fn apply(&self, owner: &Did, g: u64, seq: u64, writes: impl Iterator<Item = (Arc<str>, Option<Value>)>) {
        let mut inner = self.write();
        let Inner { last, spaces, open } = &mut *inner;
        *last = g;
        let cells = spaces.entry(*owner).or_default();
        for (name, value) in writes {
            let versions: &mut Vec<Version> = cells.entry(name).or_default();
            // Each version is seen by the snapshots from its own commit up to the next version's: keep what
            // some open snapshot sees. A cell has at most one version per open snapshot, and the newest.
            let ends: Vec<u64> = versions.iter().skip(1).map(|next| next.g).chain([g]).collect();
            let mut ends = ends.into_iter();
            versions.retain(|version| ends.next().is_some_and(|end| open.range(version.g..end).next().is_some()));
            versions.push(Version { g, seq, value });
        }
    }
}

/// A consistent view of all cells at one commit (T3).
pub struct Snapshot {
    versions: Arc<Versions>,
    g: u64,
}

impl Snapshot {
    /// Returns the commit that it shows.
    pub fn g(&self) -> u64 {
        self.g
    }

    /// Returns the version of a cell that it shows.
    pub fn read(&self, cell: &CellId) -> Option<Version> {
        let inner = self.versions.read();
        inner.find(&cell.owner, &cell.name).iter().rev().find(|version| version.g <= self.g).cloned()
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut inner = self.versions.write();
        if let Some(count) = inner.open.get_mut(&self.g) {
            *count -= 1;
            if *count == 0 {
                inner.open.remove(&self.g);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell() -> CellId {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        CellId { owner: Did::from_public_key(key.to_bytes()).expect("a key"), name: "c".into() }
    }

    fn count(versions: &Versions, cell: &CellId) -> usize {
        versions.read().find(&cell.owner, &cell.name).len()
    }

    #[test]
    fn a_snapshot_shows_one_commit_and_old_versions_go_when_nobody_looks() {
        let (versions, cell) = (Arc::new(Versions::default()), cell());
        let write = |g: u64| {
            let value = Value::encode(&g).expect("an integer");
            versions.apply(&cell.owner, g, g, std::iter::once((cell.name.clone(), Some(value))));
        };
        write(1);
        let first = versions.snapshot();
        write(2);
        let second = versions.snapshot();
        write(3);
        let seen = |snapshot: &Snapshot| snapshot.read(&cell).map(|version| version.g);
        assert_eq!((seen(&first), seen(&second)), (Some(1), Some(2)));
        drop(first);
        write(4);
        write(5);
        assert_eq!(seen(&second), Some(2));
        assert_eq!(count(&versions, &cell), 2, "what the open snapshot sees, and the newest");
        drop(second);
        write(6);
        assert_eq!(count(&versions, &cell), 1);
    }
}
