//! Writes of the turn's own cells: whole, at a path, and merged into what is there (C3, C4, C7).

use super::{Refusal, Staged, Transaction, Tree, check_path, check_path_below, staged::Next};
use crate::{
    cell::CellId,
    cost,
    limits::VALUE_DEPTH_MAX,
    path::Path,
    value::{Found, Number, Value},
};

impl Transaction {
    /// Stages a write at a path.
    ///
    /// # Errors
    /// `WriteIsolation` for a cell of another DID (T2), `TypeMismatch`, `Invalid`, `Limit`.
    pub fn set(&mut self, cell: &CellId, path: &Path, bytes: &[u8]) -> Result<(), Refusal> {
        self.follow(cell, path, |tx, cell, path| tx.set_here(cell, path, bytes))
    }

    fn set_here(&mut self, cell: &CellId, path: &Path, bytes: &[u8]) -> Result<(), Refusal> {
        let value = self.given(cell, path, 0, bytes)?;
        self.change(cell, path, !path.is_root(), |staged, _| Ok(staged.put(&path.0, &value)?))
    }

    /// Stages a removal at a path; of the whole cell when it is empty.
    ///
    /// # Errors
    /// As `set`.
    pub fn remove(&mut self, cell: &CellId, path: &Path) -> Result<(), Refusal> {
        self.follow(cell, path, |tx, cell, path| tx.remove_here(cell, path))
    }

    fn remove_here(&mut self, cell: &CellId, path: &Path) -> Result<(), Refusal> {
        self.cost += cost::CELL;
        self.check_writer(cell)?;
        check_path(path)?;
        self.change(cell, path, !path.is_root(), |staged, _| Ok(staged.remove(&path.0)?))
    }

    /// Stages that an item comes behind the last of the list at a path, which is made when it is missing.
    ///
    /// # Errors
    /// As `set`.
    pub fn append(&mut self, cell: &CellId, path: &Path, item: &[u8]) -> Result<(), Refusal> {
        self.follow(cell, path, |tx, cell, path| tx.append_here(cell, path, item))
    }

    fn append_here(&mut self, cell: &CellId, path: &Path, item: &[u8]) -> Result<(), Refusal> {
        let item = self.given(cell, path, 1, item)?;
        self.change(cell, path, true, |staged, _| Ok(staged.append(&path.0, &item)?))
    }

    /// As `append`, unless the list has such an item.
    ///
    /// # Errors
    /// As `set`.
    pub fn add_unique(&mut self, cell: &CellId, path: &Path, item: &[u8]) -> Result<(), Refusal> {
        self.follow(cell, path, |tx, cell, path| tx.add_unique_here(cell, path, item))
    }

    fn add_unique_here(&mut self, cell: &CellId, path: &Path, item: &[u8]) -> Result<(), Refusal> {
        let item = self.given(cell, path, 1, item)?;
        self.change(cell, path, true, |staged, cost| {
            *cost += cost::scanned(staged.list(&path.0)?.map_or(0, Found::len));
            Ok(staged.add_unique(&path.0, &item)?)
        })
    }

    /// Stages that every item that equals `item` is taken out of the list at a path: all of them, or none.
    ///
    /// # Errors
    /// As `set`.
    pub fn remove_by_value(&mut self, cell: &CellId, path: &Path, item: &[u8]) -> Result<(), Refusal> {
        self.follow(cell, path, |tx, cell, path| tx.remove_by_value_here(cell, path, item))
    }

    fn remove_by_value_here(&mut self, cell: &CellId, path: &Path, item: &[u8]) -> Result<(), Refusal> {
        let item = self.given(cell, path, 1, item)?;
        let fresh = self.begun(cell, path, true)?;
        let Some(staged) = fresh.as_ref().or_else(|| self.writes.get(&cell.name)) else { return Ok(()) };
        let step = cost::CELL + 3 * cost::searched(staged.value().map_or(0, Tree::len), path.0.len() + 1);
        self.cost += step;
        let Some(list) = staged.list(&path.0)? else { return Ok(()) };
        self.cost += cost::scanned(list.len());
        let left = self.limits.writes_max - self.writes_count;
        let items = list.positions(item.as_bytes(), left + 1);
        if items.is_empty() {
            return Ok(());
        }
        if items.len() > left {
            return Err(Refusal::limit("writes-max", self.limits.writes_max));
        }
        if self.write_bytes + items.len() * staged.bytes_to_take(&path.0) > self.limits.write_bytes_max {
            return Err(Refusal::limit("write-bytes-max", self.limits.write_bytes_max));
        }
        self.cost += items.len() as u64 * step;
        self.writes.extend(fresh.map(|fresh| (cell.name.clone(), fresh)));
        if let Some(staged) = self.writes.get_mut(&cell.name) {
            let before = staged.bytes();
            staged.take(&path.0, &items)?;
            self.write_bytes = self.write_bytes - before + staged.bytes();
            self.writes_count += items.len();
        }
        Ok(())
    }

    /// Stages that the number at a path becomes larger by another; a missing one counts from 0.
    ///
    /// # Errors
    /// As `set`; `Invalid` when `by` is no number, `TypeMismatch` for a sum that the data model does not hold.
    pub fn increment(&mut self, cell: &CellId, path: &Path, by: &[u8]) -> Result<(), Refusal> {
        self.follow(cell, path, |tx, cell, path| tx.increment_here(cell, path, by))
    }

    fn increment_here(&mut self, cell: &CellId, path: &Path, by: &[u8]) -> Result<(), Refusal> {
        let by = self.given(cell, path, 0, by)?;
        let by = Number::of(by.as_bytes())
            .ok_or_else(|| Refusal::Invalid(format!("by: expected an integer or a float, found {}", by.kind())))?;
        self.change(cell, path, true, |staged, _| Ok(staged.increment(&path.0, by)?))
    }

    /// Checks what a guest gives to be written at a path of the writer's cell, `below` steps further.
    fn given(&mut self, cell: &CellId, path: &Path, below: usize, bytes: &[u8]) -> Result<Value, Refusal> {
        self.cost += cost::CELL + cost::copied(bytes.len());
        self.check_writer(cell)?;
        check_path_below(path, below)?;
        let max = self.limits.value_bytes_max;
        self.cost += cost::scanned(bytes.len().min(max));
        // Whatever is beside it was checked: the whole is no deeper than it may be.
        let depth = VALUE_DEPTH_MAX - path.0.len() - below;
        Value::from_bytes(bytes, max, depth).map_err(|error| Refusal::value(error, "value-bytes-max", max))
    }

    /// Begins to write the writer's cell; none when the turn has written it before. What the write finds there `is_read`.
    fn begun(&mut self, cell: &CellId, path: &Path, is_read: bool) -> Result<Option<Staged>, Refusal> {
        let before = match self.writes.get(&cell.name) {
            Some(_) => return Ok(None),
            None if is_read => self.observe(cell, path)?,
            None => self.view.read(cell).1,
        };
        Ok(Some(Staged::new(before)))
    }

    /// Stages what `decide` makes of the writer's cell, if it changes anything; it adds what it looks at to the cost.
    pub(super) fn change(
        &mut self,
        cell: &CellId,
        path: &Path,
        is_read: bool,
        decide: impl FnOnce(&Staged, &mut u64) -> Result<Option<Next>, Refusal>,
    ) -> Result<(), Refusal> {
        let fresh = self.begun(cell, path, is_read)?;
        let Some(staged) = fresh.as_ref().or_else(|| self.writes.get(&cell.name)) else { return Ok(()) };
        self.cost += 3 * cost::searched(staged.value().map_or(0, Tree::len), path.0.len());
        let Some(next) = decide(staged, &mut self.cost)? else { return Ok(()) };
        let max = self.limits.value_bytes_max;
        if next.len() > max {
            return Err(Refusal::limit("value-bytes-max", max));
        }
        if self.writes_count >= self.limits.writes_max {
            return Err(Refusal::limit("writes-max", self.limits.writes_max));
        }
        let bytes = self.write_bytes - staged.bytes() + next.bytes;
        if bytes > self.limits.write_bytes_max {
            return Err(Refusal::limit("write-bytes-max", self.limits.write_bytes_max));
        }
        (self.writes_count, self.write_bytes) = (self.writes_count + 1, bytes);
        self.writes.extend(fresh.map(|fresh| (cell.name.clone(), fresh)));
        if let Some(staged) = self.writes.get_mut(&cell.name) {
            staged.stage(next);
        }
        Ok(())
    }
}
