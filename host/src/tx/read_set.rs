//! What a transaction has read: by path and by value, so that only a changed answer is a conflict (T4). What it has listed is a
//! range of names: a name that comes or goes in it is a changed answer, and nothing else is (C8).
//!
//! Only names are kept: what was seen is what the transaction's snapshot shows, as long as that is open. At a commit the
//! reads are checked outside the lock that orders commits, in steps, and under it only against what was committed since.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{
    conflict::Conflict,
    memo::{Kept, Kind, Seen, View},
    range::{Range, Ranges, after},
    versions::{Moved, RECENT_ROWS_MAX, Snapshot, Version},
};
use crate::{
    cell::CellId,
    cost::STEP_BYTES as PATH_STEP_BYTES,
    did::Did,
    env::breathe,
    limits::{PATHS_PER_CELL_MAX, RECHECK_BYTES_MAX},
    path::Path,
    value::{Found, Mismatch},
};

/// Bytes looked at, and cells looked up, between two moments at which others may run.
const STEP_BYTES: usize = 256 << 10;
const STEP_CELLS: usize = 1_024;
/// Cells and bytes that are looked at under the lock; more is checked outside of it once more.
const LOCKED_CELLS_MAX: usize = 64;
const LOCKED_BYTES_MAX: usize = 64 << 10;

/// Cells read, with the paths that were asked for.
#[derive(Default)]
pub struct ReadSet {
    /// Sorted, so that of several conflicts the same one is told in every run.
    cells: BTreeMap<CellId, Vec<Path>>,
    /// The same of derived cells, by the writes that the turn had made then: it sees those (T3).
    derived: BTreeMap<(usize, CellId), Vec<Path>>,
    /// What was listed, by owner.
    ranges: BTreeMap<Did, Ranges>,
    /// All of that in the order in which it was first read, where that is asked for.
    order: Option<Vec<First>>,
}

/// How far a check of reads has come.
pub struct Checked {
    /// The commit at which every read still gives the same answer.
    at: u64,
    /// Bytes that may still be looked at outside the lock.
    left: usize,
}

/// What the look under the lock finds.
pub enum Last {
    /// Every read holds.
    Holds,
    /// More was committed since than is looked at under the lock: check outside of it once more.
    Again,
}

impl Checked {
    /// Returns the state of a check that has not begun: the snapshot itself holds.
    pub fn begin(snapshot: &Snapshot) -> Checked {
        Checked { at: snapshot.order(), left: RECHECK_BYTES_MAX }
    }
}

impl ReadSet {
    /// Returns an empty set that keeps the order of reads.
    pub fn in_order() -> ReadSet {
        ReadSet { order: Some(Vec::new()), ..ReadSet::default() }
    }

    /// Adds (cell, path) to the set.
    pub fn note(&mut self, cell: &CellId, path: &Path) {
        if note(&mut self.cells, cell.clone(), path) {
            self.order.iter_mut().for_each(|order| order.push(First::Cell(cell.clone())));
        }
    }

    /// Adds (cell, path) of a derived cell to the set, which a turn reads when it has made so many writes.
    pub fn read_derived(&mut self, writes: usize, cell: &CellId, path: &Path) {
        if note(&mut self.derived, (writes, cell.clone()), path) {
            self.order.iter_mut().for_each(|order| order.push(First::Cell(cell.clone())));
        }
    }

    /// Adds names of a space that were listed.
    pub fn list(&mut self, owner: Did, range: Range) {
        self.order.iter_mut().for_each(|order| order.push(First::Names(owner, range.clone())));
        self.ranges.entry(owner).or_default().add(range);
    }

    /// Returns the ranges that were listed, each as the first text that it may hold: what may be read of that may be listed.
    pub fn listed(&self) -> impl Iterator<Item = CellId> {
        let ranges = self.ranges.iter().flat_map(|(owner, ranges)| ranges.iter().map(|range| (*owner, range)));
        ranges.map(|(owner, range)| CellId { owner, name: range.from().into() })
    }

    /// Returns the cells that were read, derived ones too.
    pub fn cells(&self) -> impl Iterator<Item = &CellId> {
        self.cells.keys().chain(self.derived.keys().map(|(_, cell)| cell))
    }

    /// Returns the cells that were read and are not derived.
    pub fn written(&self) -> impl Iterator<Item = &CellId> {
        self.cells.keys()
    }

    /// Returns the derived cells that were read, with how much the turn had written then, and the paths.
    pub fn derived(&self) -> &BTreeMap<(usize, CellId), Vec<Path>> {
        &self.derived
    }

    /// Returns the reads in the order in which each was first made, with what the view shows there if that `is_kept`; of names that
    /// were listed that is left to whoever has time for it.
    pub fn keep(self, view: &View, is_kept: bool) -> Vec<Kept> {
        let ReadSet { cells, mut derived, order, .. } = self;
        let keep = |first: First| {
            let cell = match first {
                First::Names(owner, range) => return Kept::names(owner, range),
                First::Cell(cell) => cell,
            };
            let key = (0, cell);
            let paths = derived.remove(&key);
            let cell = key.1;
            if !is_kept {
                let kind = if paths.is_some() { Kind::Derived } else { Kind::Cell };
                return Kept { cell, kind, stamp: 0, seen: Vec::new() };
            }
            let (kind, stamp, seen) = match paths {
                Some(paths) => {
                    let memo = view.memos.get(&cell);
                    let seen = |path: &Path| (path.clone(), memo.map_or(Seen::Found(None), |memo| memo.seen(path)));
                    (Kind::Derived, memo.map_or(0, |memo| memo.stamp), paths.iter().map(seen).collect())
                }
                None => {
                    let (stamp, value) = view.read(&cell);
                    let seen = |path: &Path| (path.clone(), Seen::of(value.as_ref(), path));
                    (Kind::Cell, stamp, cells.get(&cell).into_iter().flatten().map(seen).collect())
                }
            };
            Kept { cell, kind, stamp, seen }
        };
        order.into_iter().flatten().map(keep).collect()
    }

    /// Checks outside the lock that every read would give the same answer now. Lets others run between its steps.
    ///
    /// # Errors
    /// The first read that would not.
    pub async fn check(&self, snapshot: &Snapshot, checked: &mut Checked) -> Result<(), Conflict> {
        let versions = snapshot.versions();
        let at = versions.last();
        if at == checked.at {
            return Ok(());
        }
        let (mut bytes, mut cells) = (0, 0);
        for (cell, paths) in &self.cells {
            cells += 1;
            if cells > STEP_CELLS || bytes > STEP_BYTES {
                (bytes, cells) = (0, 0);
                breathe().await;
            }
            let Some(latest) = versions.changed(cell, checked.at) else { continue };
            let compared = Compared { cell, seen: snapshot.read(cell), latest };
            for path in paths {
                if bytes > STEP_BYTES {
                    bytes = 0;
                    breathe().await;
                }
                bytes += compared.bytes(path);
                compared.check(path, &mut checked.left)?;
            }
        }
        self.check_ranges(snapshot, checked.at).await?;
        checked.at = at;
        Ok(())
    }

    /// Checks outside the lock what was listed, against what was committed after `since`: that one by one where it is remembered,
    /// else by a look at all names, in steps.
    async fn check_ranges(&self, snapshot: &Snapshot, since: u64) -> Result<(), Conflict> {
        if self.ranges.is_empty() {
            return Ok(());
        }
        let versions = snapshot.versions();
        if let Some(mut changed) = versions.changed_since(since, RECENT_ROWS_MAX) {
            changed.sort_unstable();
            return self.check_listed(snapshot, &changed);
        }
        for (owner, ranges) in &self.ranges {
            for range in ranges.iter() {
                let mut rest = Some(range.clone());
                while let Some(range) = rest {
                    let (mut moved, last) = versions.moved(owner, &range, (snapshot.order(), since), STEP_CELLS);
                    if let Some((name, moved)) = moved.pop() {
                        return Err(came_or_went(CellId { owner: *owner, name }, moved));
                    }
                    rest = last.map(|last| range.rest(&after(&last)));
                    breathe().await;
                }
            }
        }
        Ok(())
    }

    /// Checks what was listed against cells that were written.
    fn check_listed(&self, snapshot: &Snapshot, changed: &[CellId]) -> Result<(), Conflict> {
        let listed = |cell: &&CellId| self.ranges.get(&cell.owner).is_some_and(|ranges| ranges.contain(&cell.name));
        let moved = |cell: &CellId| Some((cell.clone(), snapshot.versions().has_moved(cell, snapshot.order())?));
        match changed.iter().filter(listed).find_map(moved) {
            None => Ok(()),
            Some((cell, moved)) => Err(came_or_went(cell, moved)),
        }
    }

    /// In the last round, under the lock: when more was committed than is remembered, what was listed does not hold.
    fn check_ranges_last(&self, snapshot: &Snapshot, since: u64) -> Result<Last, Conflict> {
        let Some(cell) = self.listed().next() else { return Ok(Last::Holds) };
        let Some(mut changed) = snapshot.versions().changed_since(since, RECENT_ROWS_MAX) else {
            return Err(came_or_went(cell, Moved { seen: 0, found: 0 }));
        };
        changed.sort_unstable();
        self.check_listed(snapshot, &changed).map(|()| Last::Holds)
    }

    /// Checks, under the lock that orders commits, against what was committed since [`ReadSet::check`]. In the last
    /// round any change of a cell that was read is a conflict.
    ///
    /// # Errors
    /// The first read that would give another answer.
    pub fn check_last(&self, snapshot: &Snapshot, checked: &Checked, last: bool) -> Result<Last, Conflict> {
        let versions = snapshot.versions();
        if last {
            let changed = |cell| Some((cell, versions.changed(cell, checked.at)?));
            return match self.cells.keys().find_map(changed) {
                None => self.check_ranges_last(snapshot, checked.at),
                Some((cell, latest)) => {
                    Err(Compared { cell, seen: snapshot.read(cell), latest }.conflict(&Path::root()))
                }
            };
        }
        let Some(mut changed) = versions.changed_since(checked.at, LOCKED_CELLS_MAX) else { return Ok(Last::Again) };
        changed.sort_unstable();
        self.check_listed(snapshot, &changed)?;
        let mut left = LOCKED_BYTES_MAX;
        for cell in &changed {
            let Some(paths) = self.cells.get(cell) else { continue };
            let Some(latest) = versions.changed(cell, checked.at) else { continue };
            let compared = Compared { cell, seen: snapshot.read(cell), latest };
            for path in paths {
                if compared.bytes(path) > left {
                    return Ok(Last::Again);
                }
                compared.check(path, &mut left)?;
            }
        }
        Ok(Last::Holds)
    }
}

/// What was read for the first time.
enum First {
    Cell(CellId),
    Names(Did, Range),
}

/// Adds a path to those of a cell; returns whether it is the first. The whole cell covers every path in it; many paths are as good
/// as the whole.
fn note<K: Ord>(cells: &mut BTreeMap<K, Vec<Path>>, cell: K, path: &Path) -> bool {
    let (paths, is_first) = match cells.entry(cell) {
        Entry::Vacant(entry) => (entry.insert(Vec::new()), true),
        Entry::Occupied(entry) => (entry.into_mut(), false),
    };
    if path.is_root() || paths.len() >= PATHS_PER_CELL_MAX {
        *paths = vec![Path::root()];
    } else if !paths.first().is_some_and(Path::is_root) && !paths.contains(path) {
        paths.push(path.clone());
    }
    is_first
}

/// Returns the conflict of a name that is not where it was listed, or is where it was not.
fn came_or_went(cell: CellId, Moved { seen, found }: Moved) -> Conflict {
    Conflict { cell, path: Path::root(), seen, found }
}

/// A cell that was read and written since.
struct Compared<'a> {
    cell: &'a CellId,
    seen: Option<Version>,
    latest: Version,
}

impl Compared<'_> {
    /// Returns how many bytes a look at one path goes through at most: the way there, and both answers unless they are shared or
    /// differ in length.
    fn bytes(&self, path: &Path) -> usize {
        let compared = match self.answers(path) {
            (Ok(Some(seen)), Ok(Some(found))) if !seen.is_shared(found) && seen.len() == found.len() => seen.len(),
            _ => 0,
        };
        2 * (compared + path.0.len() * PATH_STEP_BYTES)
    }

    fn answers(&self, path: &Path) -> (Answer<'_>, Answer<'_>) {
        (answer(self.seen.as_ref(), path), answer(Some(&self.latest), path))
    }

    /// Compares the answers at a path. With less than it takes `left`, any change is one of the path.
    fn check(&self, path: &Path, left: &mut usize) -> Result<(), Conflict> {
        let bytes = self.bytes(path);
        let is_looked_at = bytes <= *left;
        *left = left.saturating_sub(bytes);
        let (seen, found) = self.answers(path);
        if is_looked_at && seen == found { Ok(()) } else { Err(self.conflict(path)) }
    }

    fn conflict(&self, path: &Path) -> Conflict {
        Conflict {
            cell: self.cell.clone(),
            path: path.clone(),
            seen: self.seen.as_ref().map_or(0, |version| version.seq),
            found: self.latest.seq,
        }
    }
}

/// What a read of a path gives: a value, nothing, or a refusal whose details are part of the answer.
type Answer<'a> = Result<Option<Found<'a>>, Mismatch>;

fn answer<'a>(version: Option<&'a Version>, path: &Path) -> Answer<'a> {
    match version.and_then(|version| version.value.as_ref()) {
        Some(value) => value.find(&path.0),
        None => Ok(None),
    }
}
