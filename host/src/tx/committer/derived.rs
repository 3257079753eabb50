//! Derived cells that a turn has read, at its commit: they are computed again where something below them was written, and compared
//! by value (T4). No guest runs under the lock, and the handler does not run again for a value that is the same.

use std::collections::{BTreeMap, HashSet};

use super::Committer;
use crate::{
    cell::CellId,
    env::{BoxFuture, breathe},
    path::Path,
    tx::{
        Cause, Leaves, Transaction, View,
        memo::Proved,
        read_set::{Last, ReadSet},
        versions::Change,
    },
};

/// Derived cells that are compared between two moments at which others may run.
const COMPARED_STEP: usize = 64;
/// Cells written meanwhile that are looked at under the lock.
const LOCKED_CELLS_MAX: usize = 64;

/// Computes derived cells.
pub trait Derive: Send + Sync {
    /// Makes cells ready in a view. One that cannot be is ready with the reason. When the snapshot of the view was given back,
    /// what is ready says nothing.
    fn ready(&self, view: View, cells: Vec<CellId>) -> BoxFuture<'_, View>;
}

impl Committer {
    /// Finds a commit at which every derived cell that a turn has read gives what it gave.
    ///
    /// # Errors
    /// The first that does not.
    pub(super) async fn prove_derived(
        &self,
        tx: &mut Transaction,
        derive: &dyn Derive,
        cells: &[Change],
    ) -> Result<(), Cause> {
        if tx.reads.derived().is_empty() {
            return Ok(());
        }
        let (snapshot, directory) = (self.versions.snapshot(), self.directory());
        let (order, number) = (snapshot.order(), directory.number());
        let proved = tx.proved.get_or_insert_with(|| Proved {
            order: tx.view.snapshot.order(),
            directory: tx.view.directory.number(),
            leaves: leaves(&tx.reads, &tx.view, &tx.staged_views),
        });
        if proved.directory == number && proved.leaves.are_same(&snapshot, proved.order) {
            proved.order = order;
            return Ok(());
        }
        let latest = View::new(snapshot, directory);
        // All that the turn has staged, also what it has put back.
        let staged = cells.iter().map(|change| &*change.name).chain(tx.put_back.iter().map(|name| &**name));
        let staged: HashSet<&str> = staged.collect();
        let (mut views, mut bytes) = (BTreeMap::new(), 0);
        let mut reads = tx.reads.derived().iter().peekable();
        while let Some(((writes, _), _)) = reads.peek() {
            let writes = *writes;
            let mut here = Vec::new();
            while let Some((key, paths)) = reads.next_if(|((at, _), _)| *at == writes) {
                here.push((&key.1, paths));
            }
            let before = if writes == 0 { Some(&tx.view) } else { tx.staged_views.get(&writes) };
            let Some(before) = before else { continue };
            let view = View { bytes, ..latest.again(before.overlay.clone()) };
            let view = derive.ready(view, here.iter().map(|(cell, _)| (*cell).clone()).collect()).await;
            if view.snapshot.is_lost() {
                return Err(Cause::Lost { max: self.limits.old_versions_bytes_max });
            }
            if view.is_outdated {
                return Err(Cause::Component);
            }
            bytes = view.bytes;
            for (number, (cell, paths)) in here.into_iter().enumerate() {
                if number % COMPARED_STEP == COMPARED_STEP - 1 {
                    breathe().await;
                }
                let (Some(seen), Some(found)) = (before.memos.get(cell), view.memos.get(cell)) else { continue };
                let conflict = |path: &Path| {
                    let (cell, path, below) = (cell.clone(), path.clone(), found.leaves.owners());
                    Cause::Derived { cell, path, below }
                };
                // It hangs now on what the turn had staged, and did not when it was read: with that it may be another value.
                if writes == 0
                    && tx.read_beside.contains(cell)
                    && found.leaves.reach_beyond(&seen.leaves, &tx.writer, &staged)
                {
                    return Err(conflict(&Path::root()));
                }
                if seen.stamp == found.stamp {
                    continue;
                }
                if let Some(path) = paths.iter().find(|path| seen.seen(path) != found.seen(path)) {
                    return Err(conflict(path));
                }
            }
            views.insert(writes, view);
        }
        let base = views.remove(&0).unwrap_or_else(|| latest.again(None));
        let leaves = leaves(&tx.reads, &base, &views);
        tx.proved = Some(Proved { order, directory: number, leaves });
        Ok(())
    }

    /// Looks, under the lock, at what was committed since derived reads were proved. In the last round any write below one is a
    /// conflict.
    ///
    /// # Errors
    /// That conflict.
    pub(super) fn prove_derived_last(&self, tx: &Transaction, last: bool) -> Result<Last, Cause> {
        let Some(proved) = &tx.proved else { return Ok(Last::Holds) };
        let changed = proved.leaves.changed(&self.versions, proved.order, LOCKED_CELLS_MAX);
        match changed {
            Some(None) => Ok(Last::Holds),
            _ if !last => Ok(Last::Again),
            _ => {
                let first = tx.reads.derived().keys().next().map(|(_, cell)| cell.clone());
                let below = proved.leaves.owners();
                first.map_or(Ok(Last::Holds), |cell| Err(Cause::Derived { cell, path: Path::root(), below }))
            }
        }
    }
}

/// Returns the cells below all derived cells that were read.
fn leaves(reads: &ReadSet, view: &View, staged: &BTreeMap<usize, View>) -> Leaves {
    let memo = |(writes, cell): &(usize, CellId)| {
        let view = if *writes == 0 { Some(view) } else { staged.get(writes) };
        view.and_then(|view| view.memos.get(cell))
    };
    let below: Vec<&Leaves> = reads.derived().keys().filter_map(memo).map(|memo| &memo.leaves).collect();
    Leaves::of([], &below, [])
}
