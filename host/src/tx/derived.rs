//! Derived cells in a transaction: those that are ready are read, for the others it ends (D3).

use std::sync::Arc;

use super::{
    Transaction,
    leaves::Leaves,
    memo::{Kept, Memo, Overlay, Underivable, View, Views},
    refusal::Refusal,
};
use crate::{cell::CellId, limits::STAGED_VIEWS_MAX, path::Path, value::Tree};

impl Transaction {
    /// Ends an attempt that needs derived cells: returns what it has seen, for the next one, and which cells it needs, in the view
    /// after so many writes. That view is there.
    pub fn into_views(mut self) -> (Views, usize, Vec<CellId>) {
        let (writes, cells) = self.needs.take().unwrap_or_default();
        if writes > 0 && !self.staged_views.contains_key(&writes) {
            let cells = self.writes.iter().map(|(name, staged)| (name.clone(), staged.value().cloned())).collect();
            let overlay = Arc::new(Overlay { owner: self.writer, cells });
            self.staged_views.insert(writes, self.view.again(Some(overlay)));
        }
        let answers = self.answers.into_told();
        (Views { view: self.view, staged: self.staged_views, keeps: true, answers }, writes, cells)
    }

    /// Ends the run of a derivation: returns what it has read, in order, its view, which cells it needs, and whether it was told
    /// who is there, or that it may not read a cell. What it has seen is left out of one that was cut short.
    pub fn into_reads(self) -> (Vec<Kept>, View, Vec<CellId>, bool) {
        let reads = self.reads.keep(&self.view, self.needs.is_none());
        (reads, self.view, self.needs.unwrap_or_default().1, self.saw_directory)
    }

    /// Returns whether derived cells have to be made ready before it goes on: the attempt is over.
    pub fn needs_more(&self) -> bool {
        self.needs.is_some()
    }

    /// Returns the derived cells that it has read before it wrote anything.
    pub fn derived(&self) -> impl Iterator<Item = &CellId> {
        self.reads.derived().keys().filter(|(writes, _)| *writes == 0).map(|(_, cell)| cell)
    }

    /// Refuses a derivation what it may not do.
    ///
    /// # Errors
    /// `Pure`.
    pub fn check_pure(&self, call: &str) -> Result<(), Refusal> {
        if self.is_pure { Err(Refusal::Pure(call.to_owned())) } else { Ok(()) }
    }

    /// Returns whether a cell is computed from others.
    pub(super) fn is_derived(&self, cell: &CellId) -> bool {
        (self.derives || cell.owner != self.writer) && self.view.directory.derivation(&cell.owner, &cell.name).is_some()
    }

    /// Reads a derived cell, adding to the read set; none when it has to be made ready first.
    pub(super) fn observe_derived(
        &mut self,
        cell: &CellId,
        path: &Path,
    ) -> Result<Option<Result<Tree, Underivable>>, Refusal> {
        self.check_reads()?;
        let Some(Memo { run, leaves, .. }) = self.view.ready(cell).cloned() else {
            self.need(0, cell);
            return Ok(None);
        };
        if self.is_pure || !self.has_written(&leaves) {
            if self.writes_count > 0 {
                self.read_beside.insert(cell.clone());
            }
            self.reads.read_derived(0, cell, path);
            return Ok(Some(run.value.clone()));
        }
        let writes = self.writes_count;
        if let Some(memo) = self.staged_views.get(&writes).and_then(|view| view.memos.get(cell)) {
            self.reads.read_derived(writes, cell, path);
            return Ok(Some(memo.run.value.clone()));
        }
        if self.staged_views.len() >= STAGED_VIEWS_MAX && !self.staged_views.contains_key(&writes) {
            return Err(Refusal::limit("staged-views-max", STAGED_VIEWS_MAX));
        }
        self.need(writes, cell);
        Ok(None)
    }

    fn need(&mut self, writes: usize, cell: &CellId) {
        let (_, cells) = self.needs.get_or_insert_with(|| (writes, Vec::new()));
        cells.push(cell.clone());
    }

    /// Returns whether the turn may have written one of those cells.
    fn has_written(&self, leaves: &Leaves) -> bool {
        !self.writes.is_empty() && leaves.touch(&self.writer, &self.writes)
    }
}
