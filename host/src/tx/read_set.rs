//! What a transaction has read: by path and by value, so that only a changed answer is a conflict (T4).

use std::collections::BTreeMap;

use super::{
    conflict::Conflict,
    versions::{Snapshot, Version, Versions},
};
use crate::{cell::CellId, limits::PATHS_PER_CELL_MAX, path::Path, value::Value};

/// Cells read, each as the snapshot showed it, with the paths that were asked for.
#[derive(Default)]
pub struct ReadSet {
    /// Sorted, so that of several conflicts the same one is told in every run.
    cells: BTreeMap<CellId, Observed>,
}

struct Observed {
    version: Option<Version>,
    paths: Vec<Path>,
}

impl ReadSet {
    /// Reads a cell from the snapshot, adding (cell, path) to the set.
    pub fn read(&mut self, snapshot: &Snapshot, cell: &CellId, path: &Path) -> Option<&Value> {
        if !self.cells.contains_key(cell) {
            let observed = Observed { version: snapshot.read(cell), paths: Vec::new() };
            self.cells.insert(cell.clone(), observed);
        }
        let observed = self.cells.get_mut(cell)?;
        // The whole cell covers every path in it; many paths are as good as the whole.
        if path.is_root() || observed.paths.len() >= PATHS_PER_CELL_MAX {
            observed.paths = vec![Path::root()];
        } else if !observed.paths.first().is_some_and(Path::is_root) && !observed.paths.contains(path) {
            observed.paths.push(path.clone());
        }
        observed.version.as_ref()?.value.as_ref()
    }

    /// Checks that every read would give the same answer now.
    ///
    /// # Errors
    /// The first read that would not.
    pub fn check(&self, now: &Versions) -> Result<(), Conflict> {
        for (cell, seen) in &self.cells {
            let latest = now.latest(&cell.owner, &cell.name);
            let revision = |version: &Option<Version>| version.as_ref().map_or(0, |version| version.g);
            if revision(&seen.version) == revision(&latest) {
                continue;
            }
            for path in &seen.paths {
                if answer(&seen.version, path) != answer(&latest, path) {
                    let seq = |version: &Option<Version>| version.as_ref().map_or(0, |version| version.seq);
                    return Err(Conflict {
                        cell: cell.clone(),
                        path: path.clone(),
                        seen: seq(&seen.version),
                        found: seq(&latest),
                    });
                }
            }
        }
        Ok(())
    }
}

/// What a read of `path` gives: bytes, nothing, or a refusal whose details are part of the answer.
fn answer<'a>(version: &'a Option<Version>, path: &Path) -> Result<Option<&'a [u8]>, crate::value::Mismatch> {
    match version.as_ref().and_then(|version| version.value.as_ref()) {
        Some(value) => value.get(&path.0),
        None => Ok(None),
    }
}
