//! What a turn leaves written in one cell: the value, and the edits that lead to it from what the snapshot shows (C7).
//!
//! Edits are few: one below an earlier put of the turn is part of that one, and one that an earlier state undoes is none
//! (C4). Positions in lists are absolute, so once an item was taken out of a list, paths from before may mean other places:
//! what was staged until then stands as it is, and at the end it is looked at whether it still changes anything.

use std::collections::BTreeMap;

use crate::{
    path::{self, Path, Segment},
    value::{self, Edit, Found, Kind, Mismatch, Number, OutOfRange, Place, Tree, Value},
};

/// What an edit makes anew beside what it changes, in bytes: about the nodes of one container. What it replaces of those is
/// all that an old version holds alone.
const NODES_BYTES: usize = 4 << 10;

/// A cell that a turn has written.
pub(super) struct Staged {
    /// What the snapshot shows.
    before: Option<Tree>,
    after: Option<Tree>,
    /// In the order in which they apply; none is one that others have made void.
    edits: Vec<Option<Step>>,
    /// Edits that later ones may become part of.
    open: BTreeMap<Vec<Segment>, usize>,
    /// Whether an item was taken out of a list, so that paths may have changed their meaning.
    is_moved: bool,
    /// What the edits carry, in bytes.
    bytes: usize,
}

struct Step {
    path: Vec<Segment>,
    put: Put,
    bytes: usize,
}

enum Put {
    /// This value.
    Value(Value),
    /// What the cell has there in the end: there were edits inside.
    Inside,
    /// Nothing.
    Removed,
}

/// A write that is decided and not staged yet.
pub(super) struct Next {
    after: Option<Tree>,
    path: Vec<Segment>,
    put: Put,
    /// The edit that it is a part of.
    part_of: Option<usize>,
    /// Edits that it makes void.
    covered: Vec<Vec<Segment>>,
    /// Whether the place is as the snapshot shows it.
    is_undone: bool,
    /// What it carries, and all edits together once it is staged.
    own_bytes: usize,
    pub bytes: usize,
}

impl Next {
    /// Returns the length of the cell's value after it.
    pub fn len(&self) -> usize {
        self.after.as_ref().map_or(0, Tree::len)
    }
}

/// What a turn has written in one cell, in the end.
pub(super) struct Written {
    pub after: Option<Tree>,
    pub edits: Vec<Edit>,
    /// Whether the paths of the edits may mean other places in the value.
    pub is_moved: bool,
    /// What the version before holds alone, in bytes.
    pub replaced: usize,
}

impl Staged {
    /// Begins with what the snapshot shows.
    pub fn new(before: Option<Tree>) -> Staged {
        let after = before.clone();
        Staged { before, after, edits: Vec::new(), open: BTreeMap::new(), is_moved: false, bytes: 0 }
    }

    /// Returns the value as the turn leaves it.
    pub fn value(&self) -> Option<&Tree> {
        self.after.as_ref()
    }

    /// Returns what the edits carry, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Decides what a write does; none when it changes nothing (C4).
    ///
    /// # Errors
    /// [`Mismatch`] when the path leads where the value does not.
    pub fn put(&self, path: &[Segment], value: &Value) -> Result<Option<Next>, Mismatch> {
        let Place::Put(steps, value) = Tree::place(self.value(), path, value)? else { return Ok(None) };
        let path = &path[..steps];
        let after = Tree::put(self.value(), path, &value)?;
        Ok(Some(self.next(path, Some(after), Put::Value(value))))
    }

    /// Decides what a removal does; none when nothing is there.
    ///
    /// # Errors
    /// As `put`.
    pub fn remove(&self, path: &[Segment]) -> Result<Option<Next>, Mismatch> {
        let Some(current) = self.value() else { return Ok(None) };
        if path.is_empty() {
            return Ok(Some(self.next(path, None, Put::Removed)));
        }
        let after = current.remove(path)?;
        Ok(after.map(|after| self.next(path, Some(after), Put::Removed)))
    }

    /// Decides what an item behind the last of the list at `path` does. A missing list is made.
    ///
    /// # Errors
    /// [`Mismatch`] where there is no list.
    pub fn append(&self, path: &[Segment], item: &Value) -> Result<Option<Next>, Mismatch> {
        let items = self.list(path)?.map_or(0, Found::entries);
        // A list of more has no room in a value.
        let index = u32::try_from(items).unwrap_or(u32::MAX);
        self.put(&inside(path, index), item)
    }

    /// As `append`, unless the list has such an item.
    ///
    /// # Errors
    /// As `append`.
    pub fn add_unique(&self, path: &[Segment], item: &Value) -> Result<Option<Next>, Mismatch> {
        let is_there = self.list(path)?.is_some_and(|list| !list.positions(item.as_bytes(), 1).is_empty());
        if is_there { Ok(None) } else { self.append(path, item) }
    }

    /// Returns the list at `path`, none where nothing is.
    ///
    /// # Errors
    /// [`Mismatch`] where something else is.
    pub fn list(&self, path: &[Segment]) -> Result<Option<Found<'_>>, Mismatch> {
        match find(self.value(), path)? {
            Some(found) if found.kind() != Kind::List => Err(mismatch(path, "list", found.kind().to_string())),
            found => Ok(found),
        }
    }

    /// Decides what adding to the number at `path` does; a missing one counts from 0.
    ///
    /// # Errors
    /// [`Mismatch`] where there is no number, and for a sum that the data model does not hold.
    pub fn increment(&self, path: &[Segment], by: Number) -> Result<Option<Next>, Mismatch> {
        let number = match find(self.value(), path)? {
            None => Number::Integer(0),
            Some(found) => {
                found.number().ok_or_else(|| mismatch(path, "integer or float", found.kind().to_string()))?
            }
        };
        let out_of_range = |OutOfRange { expected, kind }| mismatch(path, expected, format!("{kind} out of range"));
        let sum = number.plus(by).map_err(out_of_range)?;
        if by.is_zero() { Ok(None) } else { self.put(path, &sum.to_value()) }
    }

    /// Returns what the edits carry more at most when an item is taken out of the list at `path`, in bytes.
    pub fn bytes_to_take(&self, path: &[Segment]) -> usize {
        let is_inside = |steps| self.open.get(&path[..steps]).is_some_and(|number| self.is_put(*number));
        if (0..=path.len()).any(is_inside) { 0 } else { path::bytes(&inside(path, 0)) }
    }

    /// Takes these items out of the list at `path`; their positions rise.
    ///
    /// # Errors
    /// [`Mismatch`] where there is no list.
    pub fn take(&mut self, path: &[Segment], items: &[u32]) -> Result<(), Mismatch> {
        // The last first, so that those before it stay where they are.
        for index in items.iter().rev() {
            if let Some(next) = self.remove(&inside(path, *index))? {
                self.stage(next);
            }
        }
        Ok(())
    }

    fn next(&self, path: &[Segment], after: Option<Tree>, put: Put) -> Next {
        let put_at = |steps| self.open.get(&path[..steps]).filter(|number| self.is_put(**number)).copied();
        if let Some((steps, number)) = (0..path.len()).find_map(|steps| Some((steps, put_at(steps)?))) {
            let own_bytes = path::bytes(&path[..steps]) + len(after.as_ref(), &path[..steps]);
            let bytes = self.bytes - self.step_bytes(number) + own_bytes;
            let (path, covered) = (path.to_vec(), Vec::new());
            return Next { after, path, put, part_of: Some(number), covered, is_undone: false, own_bytes, bytes };
        }
        let takes_item = takes_item(path, &put);
        let is_undone = !self.is_moved && !takes_item && same(self.before.as_ref(), after.as_ref(), path);
        let below = self.open.range(path.to_vec()..).map(|(below, _)| below);
        let covered: Vec<Vec<Segment>> =
            below.take_while(|below| !takes_item && below.starts_with(path)).cloned().collect();
        let own_bytes = match &put {
            _ if is_undone => 0,
            Put::Value(value) => path::bytes(path) + value.as_bytes().len(),
            Put::Removed | Put::Inside => path::bytes(path),
        };
        // The whole value makes everything before it void.
        let void = |paths: &[Vec<Segment>]| match path.is_empty() {
            true => self.bytes,
            false => paths.iter().filter_map(|path| self.open.get(path)).map(|number| self.step_bytes(*number)).sum(),
        };
        let bytes = self.bytes - void(&covered) + own_bytes;
        Next { after, path: path.to_vec(), put, part_of: None, covered, is_undone, own_bytes, bytes }
    }

    /// Stages what was decided.
    pub fn stage(&mut self, next: Next) {
        let Next { after, path, put, part_of, covered, is_undone, own_bytes, bytes } = next;
        let takes_item = takes_item(&path, &put);
        if takes_item && part_of.is_none() {
            self.hold_still();
        }
        (self.after, self.bytes) = (after, bytes);
        if let Some(number) = part_of {
            if let Some(step) = &mut self.edits[number] {
                (step.put, step.bytes) = (Put::Inside, own_bytes);
            }
            return;
        }
        if path.is_empty() {
            (self.edits, self.open, self.is_moved) = (Vec::new(), BTreeMap::new(), false);
        }
        let same_place = self.open.get(&path).copied();
        for covered in covered {
            if let Some(number) = self.open.remove(&covered) {
                self.edits[number] = None;
            }
        }
        if is_undone {
            return;
        }
        let step = Some(Step { path: path.clone(), put, bytes: own_bytes });
        let number = match same_place {
            Some(number) => number,
            None => {
                self.edits.push(None);
                self.edits.len() - 1
            }
        };
        self.edits[number] = step;
        if !takes_item {
            self.open.insert(path, number);
        }
    }

    /// Lets what is staged so far stand as it is: paths may mean other places from now on.
    fn hold_still(&mut self) {
        // All others stand as they are already.
        for number in std::mem::take(&mut self.open).into_values() {
            if let Some(step) = &mut self.edits[number] {
                settle(step, self.after.as_ref());
            }
        }
        self.is_moved = true;
    }

    /// Returns the edits, those that change something. The turn writes nothing more.
    pub fn finish(mut self) -> Written {
        for step in self.edits.iter_mut().flatten() {
            settle(step, self.after.as_ref());
        }
        let mut written = Written { after: self.after, edits: Vec::new(), is_moved: self.is_moved, replaced: 0 };
        let mut current = self.before.clone();
        for Step { path, put, .. } in self.edits.into_iter().flatten() {
            let replaced = len(current.as_ref(), &path) + if path.is_empty() { 0 } else { NODES_BYTES * path.len() };
            let put = match put {
                Put::Value(value) => Some(value),
                _ => None,
            };
            if self.is_moved {
                // Each is looked at where it stands in the order.
                let next = match &put {
                    Some(value) => match Tree::place(current.as_ref(), &path, value) {
                        Ok(Place::Put(..)) => Tree::put(current.as_ref(), &path, value).ok(),
                        _ => None,
                    },
                    None => current.as_ref().and_then(|current| current.remove(&path).ok().flatten()),
                };
                let Some(next) = next else { continue };
                current = Some(next);
            } else if same(self.before.as_ref(), written.after.as_ref(), &path) {
                continue;
            }
            written.replaced += replaced;
            written.edits.push(Edit { path: Path(path), put });
        }
        if self.is_moved && self.before == written.after {
            written.edits.clear();
        }
        written
    }

    fn is_put(&self, number: usize) -> bool {
        self.edits[number].as_ref().is_some_and(|step| !matches!(step.put, Put::Removed))
    }

    fn step_bytes(&self, number: usize) -> usize {
        self.edits[number].as_ref().map_or(0, |step| step.bytes)
    }
}

/// Returns whether an edit takes an item out of a list, so that those behind it move.
fn takes_item(path: &[Segment], put: &Put) -> bool {
    matches!((put, path.last()), (Put::Removed, Some(Segment::Index(_))))
}

/// Gives a put with edits inside its value.
fn settle(step: &mut Step, after: Option<&Tree>) {
    if matches!(step.put, Put::Inside)
        && let Some(Ok(Some(found))) = after.map(|after| after.find(&step.path))
    {
        step.put = Put::Value(found.to_value());
    }
}

/// Returns whether both have the same at a path.
fn same(before: Option<&Tree>, after: Option<&Tree>, path: &[Segment]) -> bool {
    match (find(before, path), find(after, path)) {
        (Ok(before), Ok(after)) => before == after,
        _ => false,
    }
}

/// Returns the place of an item in the list at `path`.
fn inside(path: &[Segment], index: u32) -> Vec<Segment> {
    [path, &[Segment::Index(index)]].concat()
}

fn mismatch(path: &[Segment], expected: &str, actual: String) -> Mismatch {
    Mismatch { at: value::at(path), expected: expected.to_owned(), actual }
}

fn find<'a>(tree: Option<&'a Tree>, path: &[Segment]) -> Result<Option<Found<'a>>, Mismatch> {
    tree.map_or(Ok(None), |tree| tree.find(path))
}

/// Returns the length of what is at a path.
fn len(tree: Option<&Tree>, path: &[Segment]) -> usize {
    find(tree, path).ok().flatten().map_or(0, Found::len)
}

#[cfg(test)]
mod tests;
