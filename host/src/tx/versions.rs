//! Every live cell with the recent versions that open snapshots may still read (T3).
//!
//! A snapshot is a number: the last commit it sees. A read takes the newest version not after it. A version that was
//! written over is kept as long as an open snapshot sees it, and given back when the last of those closes. What is kept
//! so is counted: over `old-versions-bytes-max` the oldest snapshot is lost, and its turn runs again (T4).
//!
//! Each old version stands in the list of the newest snapshot that sees it. When that closes, the version goes to the
//! list of the next older one that sees it, or away.
//!
//! Cells are found by a hash of their names, and beside that the names of a space stand in order, for listings (C8): a tree alone
//! would take four times as long for a cell among a million. Whoever goes through names does so in steps: between two of them others
//! write.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque, hash_map::Entry},
    ops::Bound,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::range::{Range, after};
use crate::{
    cell::{CellId, FAMILY_END},
    did::Did,
    rows::CellRow,
    value::Tree,
};

/// Cells written by the latest commits that are remembered one by one; older changes are found by looking at each cell.
pub const RECENT_ROWS_MAX: usize = 4_096;
/// Old versions given back under one hold of the lock.
const RELEASE_STEP: usize = 256;
/// What an old version costs beyond its value, in bytes.
const OLD_VERSION_COST: usize = 128;
/// Names that are gone through under one hold of the lock.
const NAMES_STEP: usize = 256;

/// One version of a cell.
#[derive(Clone)]
pub struct Version {
    /// The commit that wrote it, in the order of the host.
    pub order: u64,
    /// The same commit's number in its space: the revision.
    pub seq: u64,
    /// None when it was removed.
    pub value: Option<Tree>,
    /// What it holds alone beside the next kept version, in bytes: at least what that one replaced.
    alone: usize,
}

impl Version {
    fn cost(&self) -> usize {
        OLD_VERSION_COST + self.alone
    }

    /// Counts what a later version replaced of what they shared; returns what it holds alone more than before.
    fn part(&mut self, replaced: usize) -> usize {
        let before = self.alone;
        self.alone = (before + replaced).min(self.value.as_ref().map_or(0, Tree::len));
        self.alone - before
    }
}

/// One cell as a commit leaves it.
pub struct Change {
    /// Its name.
    pub name: Arc<str>,
    /// None when it was removed.
    pub value: Option<Tree>,
    /// What the version before holds alone from now on, in bytes.
    pub replaced: usize,
}

/// All cells of a host.
pub struct Versions {
    inner: RwLock<Inner>,
    /// The last commit, as in `inner`.
    last: AtomicU64,
    /// Most bytes kept for snapshots alone.
    old_bytes_max: usize,
}

#[derive(Default)]
struct Inner {
    /// The last commit.
    last: u64,
    spaces: HashMap<Did, Space>,
    /// Open snapshots by their commit.
    open: BTreeMap<u64, Open>,
    /// What old versions cost, in bytes.
    old_bytes: usize,
    /// The latest commits that wrote, without a gap after `recent_from`.
    recent: VecDeque<(u64, Did, Vec<Arc<str>>)>,
    recent_rows: usize,
    recent_from: u64,
}

/// The cells of a space.
#[derive(Default)]
struct Space {
    /// Oldest version first; never empty.
    cells: HashMap<Arc<str>, Vec<Version>>,
    /// Their names in order.
    names: BTreeSet<Arc<str>>,
}

impl Space {
    /// Returns the versions of a cell, to be changed; of a new name none.
    fn versions(&mut self, name: &Arc<str>) -> &mut Vec<Version> {
        match self.cells.entry(name.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.names.insert(name.clone());
                entry.insert(Vec::new())
            }
        }
    }

    fn remove(&mut self, name: &str) {
        if self.cells.remove(name).is_some() {
            self.names.remove(name);
        }
    }
}

/// What was picked of some names, and, unless that was all of them, the last name that was looked at.
type Picked<T> = (Vec<(Arc<str>, T)>, Option<Arc<str>>);

/// A cell that has come or gone: it is there in one of two versions and not in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The revision that was shown, 0 for none.
    pub seen: u64,
    /// The newest.
    pub found: u64,
}

impl Moved {
    /// Compares what commit `shown` left with the newest version, if a commit after `since` wrote that.
    fn of(versions: &[Version], shown: u64, since: u64) -> Option<Moved> {
        let newest = versions.last().filter(|newest| newest.order > since)?;
        let seen = visible(versions, shown);
        let is_there = |version: &Version| version.value.is_some();
        let moved = Moved { seen: seen.map_or(0, |seen| seen.seq), found: newest.seq };
        (seen.is_some_and(is_there) != is_there(newest)).then_some(moved)
    }
}

/// Returns the version that commit `order` left.
fn visible(versions: &[Version], order: u64) -> Option<&Version> {
    versions.iter().rev().find(|version| version.order <= order)
}

/// The snapshots of one commit.
#[derive(Default)]
struct Open {
    count: usize,
    /// Set when what they see is given back before they close.
    lost: Arc<AtomicBool>,
    /// Old versions that no newer snapshot sees: cell, and the commit that wrote the version.
    old: Vec<(CellId, u64)>,
    /// What those cost, in bytes.
    old_bytes: usize,
}

/// Old versions on their way out.
#[must_use = "give it to `Versions::release`"]
#[derive(Default)]
pub struct Released(Vec<(CellId, u64)>);

impl Inner {
    fn find(&self, owner: &Did, name: &str) -> &[Version] {
        self.spaces.get(owner).and_then(|space| space.cells.get(name)).map_or(&[], Vec::as_slice)
    }

    /// Closes one snapshot of commit `order`.
    fn close(&mut self, order: u64, released: &mut Released) {
        let Some(open) = self.open.get_mut(&order) else { return };
        open.count -= 1;
        if open.count == 0 {
            self.lose(order, released);
        }
    }

    /// Ends all snapshots of commit `order`.
    fn lose(&mut self, order: u64, released: &mut Released) -> usize {
        let Some(open) = self.open.remove(&order) else { return 0 };
        open.lost.store(true, Ordering::Relaxed);
        released.0.extend(open.old);
        open.old_bytes
    }

    /// Hands an old version to the next older snapshot that sees it, or takes it out.
    fn release(&mut self, cell: CellId, from: u64) -> Option<Version> {
        let Inner { spaces, open, old_bytes, .. } = self;
        let versions = spaces.get_mut(&cell.owner)?.cells.get_mut(&cell.name)?;
        let index = versions.iter().position(|version| version.order == from)?;
        let end = versions.get(index + 1)?.order;
        let cost = versions[index].cost();
        if let Some((_, open)) = open.range_mut(from..end).next_back() {
            open.old.push((cell, from));
            open.old_bytes += cost;
            return None;
        }
        *old_bytes -= cost;
        let gone = versions.remove(index);
        hand_down(versions[..index].last_mut(), &gone, open, old_bytes);
        if let [last] = &versions[..]
            && last.value.is_none()
            && let Some(space) = spaces.get_mut(&cell.owner)
        {
            space.remove(&cell.name);
        }
        Some(gone)
    }

    fn remember(&mut self, order: u64, owner: &Did, names: Vec<Arc<str>>) {
        self.recent_rows += names.len();
        self.recent.push_back((order, *owner, names));
        while self.recent_rows > RECENT_ROWS_MAX
            && let Some((order, _, names)) = self.recent.pop_front()
        {
            self.recent_rows -= names.len();
            self.recent_from = order;
        }
    }
}

/// Counts for an older version what it shared with one that goes.
fn hand_down(older: Option<&mut Version>, gone: &Version, open: &mut BTreeMap<u64, Open>, old_bytes: &mut usize) {
    let Some(older) = older else { return };
    let more = older.part(gone.alone);
    *old_bytes += more;
    if let Some((_, open)) = open.range_mut(older.order..gone.order).next_back() {
        open.old_bytes += more;
    }
}

impl Versions {
    /// Returns the state that a store holds.
    pub fn load(order: u64, rows: Vec<CellRow>, old_bytes_max: usize) -> Versions {
        let mut inner = Inner { last: order, recent_from: order, ..Inner::default() };
        // Rows come nearly in order: so a tree of many names is made at once.
        let mut names: HashMap<Did, Vec<Arc<str>>> = HashMap::new();
        for CellRow { space, name, order, seq, value } in rows {
            let version = Version { order, seq, value: value.map(Tree::new), alone: 0 };
            names.entry(space).or_default().push(name.clone());
            inner.spaces.entry(space).or_default().cells.insert(name, vec![version]);
        }
        for (space, names) in names {
            inner.spaces.entry(space).or_default().names = names.into_iter().collect();
        }
        Versions { inner: RwLock::new(inner), last: AtomicU64::new(order), old_bytes_max }
    }

    /// Returns whether a panic has left them half-changed.
    pub fn is_poisoned(&self) -> bool {
        self.inner.is_poisoned()
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
        let order = inner.last;
        let open = inner.open.entry(order).or_default();
        open.count += 1;
        Snapshot { versions: self.clone(), order, lost: open.lost.clone(), closed: false }
    }

    /// Returns the last commit.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Returns the newest version of a cell.
    pub fn latest(&self, owner: &Did, name: &str) -> Option<Version> {
        self.read().find(owner, name).last().cloned()
    }

    /// Returns the newest version of a cell if a commit after `since` wrote it.
    pub fn changed(&self, cell: &CellId, since: u64) -> Option<Version> {
        let inner = self.read();
        inner.find(&cell.owner, &cell.name).last().filter(|version| version.order > since).cloned()
    }

    /// Returns the cells that commits after `since` wrote; none when those are more than `max` or not remembered.
    pub fn changed_since(&self, since: u64, max: usize) -> Option<Vec<CellId>> {
        self.changed_in(since, (max, 0), |_| true)
    }

    /// As `changed_since`, those in some spaces; passes over so many commits in others.
    pub fn changed_in(
        &self,
        since: u64,
        (max, mut passed): (usize, usize),
        is_meant: impl Fn(&Did) -> bool,
    ) -> Option<Vec<CellId>> {
        if self.last() == since {
            return Some(Vec::new());
        }
        let inner = self.read();
        if since < inner.recent_from {
            return None;
        }
        let mut cells = Vec::new();
        for (_, owner, names) in inner.recent.iter().rev().take_while(|(order, ..)| *order > since) {
            if !is_meant(owner) {
                passed = passed.checked_sub(1)?;
                continue;
            }
            if cells.len() + names.len() > max {
                return None;
            }
            cells.extend(names.iter().map(|name| CellId { owner: *owner, name: name.clone() }));
        }
        Some(cells)
    }

    /// Goes through the names of a space's range in order, in steps: returns up to `max` of which `look` picks something, with
    /// that; and, unless it came to the end, the last name that was looked at. It ends early after `passed` names of which
    /// nothing is picked.
    fn pick<T>(
        &self,
        owner: &Did,
        range: &Range,
        (max, mut passed): (usize, usize),
        look: impl Fn(&[Version]) -> Option<T>,
    ) -> Picked<T> {
        let (mut picked, mut last) = (Vec::new(), None::<Arc<str>>);
        loop {
            let inner = self.read();
            let Some(space) = inner.spaces.get(owner) else { return (picked, None) };
            let after = last.clone();
            let start = after.as_deref().map_or(Bound::Included(range.from()), Bound::Excluded);
            let mut names = space.names.range::<str, _>((start, Bound::Unbounded));
            for _ in 0..NAMES_STEP {
                let Some(name) = names.next().filter(|name| range.reaches(name)) else { return (picked, None) };
                if picked.len() >= max || passed == 0 {
                    return (picked, last);
                }
                match look(space.cells.get(name).map_or(&[], Vec::as_slice)) {
                    Some(found) => picked.push((name.clone(), found)),
                    None => passed -= 1,
                }
                last = Some(name.clone());
            }
        }
    }

    /// Returns the first cell of a range that is there now and not in what commit `shown` left, or the other way round, if a
    /// commit after `since` wrote it; looks at up to `max` names. And unless it came to the end of the range, the last of them.
    pub fn moved(&self, owner: &Did, range: &Range, (shown, since): (u64, u64), max: usize) -> Picked<Moved> {
        self.pick(owner, range, (1, max), |versions| Moved::of(versions, shown, since))
    }

    /// Returns whether a cell is there now and not in what commit `shown` left, or the other way round.
    pub fn has_moved(&self, cell: &CellId, shown: u64) -> Option<Moved> {
        Moved::of(self.read().find(&cell.owner, &cell.name), shown, shown)
    }

    /// Returns up to `max` cells of a range that hold a value, in order, as one commit left them; and where the rest begins, if
    /// there may be more.
    pub fn list(
        self: &Arc<Versions>,
        owner: &Did,
        range: &Range,
        max: usize,
    ) -> (Vec<(Arc<str>, Version)>, Option<String>) {
        loop {
            let snapshot = self.snapshot();
            let (cells, last) = snapshot.list(owner, range, max, usize::MAX);
            if !snapshot.is_lost() {
                return (cells, last.map(|last| after(&last)));
            }
        }
    }

    /// Returns whether a cell of that name holds a value, or of a family, `NAME:`, any member.
    pub fn holds(&self, owner: &Did, name: &str) -> bool {
        let is_there = |versions: &[Version]| versions.last().filter(|last| last.value.is_some()).map(drop);
        if name.ends_with(FAMILY_END) {
            let members = Range::of(name, None, None);
            return !self.pick(owner, &members, (1, usize::MAX), is_there).0.is_empty();
        }
        is_there(self.read().find(owner, name)).is_some()
    }

    /// Returns the names of a space's cells, in order.
    pub fn names(&self, owner: &Did) -> Vec<Arc<str>> {
        let (names, _) = self.pick(owner, &Range::all(), (usize::MAX, usize::MAX), |_| Some(()));
        names.into_iter().map(|(name, ())| name).collect()
    }

    /// Notes a commit without writes: a snapshot opened from now on depends on it too (T8).
    pub fn advance(&self, order: u64) {
        self.write().last = order;
        self.last.store(order, Ordering::Release);
    }

    /// Publishes one commit: all of its writes at once, and closes the snapshot that its transaction read from.
    /// `order` is larger than any before.
    pub fn apply(&self, owner: &Did, order: u64, seq: u64, writes: Vec<Change>, from: Snapshot) -> Released {
        let mut released = Released::default();
        let mut gone = Vec::new();
        let mut inner = self.write();
        from.closed_by(&mut inner, &mut released);
        inner.last = order;
        self.last.store(order, Ordering::Release);
        let Inner { spaces, open, old_bytes, .. } = &mut *inner;
        let newest = open.keys().next_back().copied();
        let cells = spaces.entry(*owner).or_default();
        let mut names = Vec::with_capacity(writes.len());
        for Change { name, value, replaced } in writes {
            names.push(name.clone());
            let written = name.clone();
            let versions = cells.versions(&name);
            if let Some(previous) = versions.last_mut() {
                previous.part(replaced);
                match newest {
                    Some(newest) if newest >= previous.order => {
                        let cost = previous.cost();
                        if let Some(open) = open.get_mut(&newest) {
                            open.old.push((CellId { owner: *owner, name }, previous.order));
                            open.old_bytes += cost;
                        }
                        *old_bytes += cost;
                    }
                    _ => {
                        if let Some(previous) = versions.pop() {
                            hand_down(versions.last_mut(), &previous, open, old_bytes);
                            gone.push(previous);
                        }
                    }
                }
            }
            if value.is_none() && versions.is_empty() {
                // Nobody sees what was there: the name goes.
                cells.remove(&written);
                continue;
            }
            versions.push(Version { order, seq, value, alone: 0 });
        }
        inner.remember(order, owner, names);
        let mut kept = inner.old_bytes;
        while kept > self.old_bytes_max
            && let Some(oldest) = inner.open.keys().next().copied()
        {
            kept -= inner.lose(oldest, &mut released);
        }
        released
    }

    /// Gives back what no open snapshot sees any more, a little at a time.
    pub fn release(&self, released: Released) {
        let mut old = released.0.into_iter();
        while !old.as_slice().is_empty() {
            let mut inner = self.write();
            let gone: Vec<Version> =
                old.by_ref().take(RELEASE_STEP).filter_map(|(cell, from)| inner.release(cell, from)).collect();
            drop(inner);
            drop(gone);
        }
    }
}

/// A consistent view of all cells at one commit (T3).
pub struct Snapshot {
    versions: Arc<Versions>,
    order: u64,
    lost: Arc<AtomicBool>,
    closed: bool,
}

impl Snapshot {
    /// Returns one of the same commit.
    pub fn again(&self) -> Snapshot {
        let mut inner = self.versions.write();
        if !self.is_lost() {
            inner.open.entry(self.order).or_default().count += 1;
        }
        Snapshot { versions: self.versions.clone(), order: self.order, lost: self.lost.clone(), closed: false }
    }

    /// Returns whether it shows the same of those cells as the snapshot of an earlier commit did.
    pub fn is_same_since<'a>(&self, since: u64, mut cells: impl Iterator<Item = &'a CellId>) -> bool {
        let inner = self.versions.read();
        let shown = |cell: &CellId| {
            let versions = inner.find(&cell.owner, &cell.name).iter().rev();
            versions.map(|version| version.order).find(|order| *order <= self.order)
        };
        // A cell that is gone has left no trace: what was there was removed by some commit.
        !self.is_lost() && cells.all(|cell| shown(cell).is_some_and(|order| order <= since))
    }

    /// Returns one of what is committed now.
    pub fn renewed(&self) -> Snapshot {
        self.versions.snapshot()
    }

    /// Returns the commit that it shows.
    pub fn order(&self) -> u64 {
        self.order
    }

    /// Returns whether it was given back to bound the memory that old versions take: what it shows means nothing then.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns all cells.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Returns the version of a cell that it shows; none when it is lost.
    pub fn read(&self, cell: &CellId) -> Option<Version> {
        let inner = self.versions.read();
        if self.is_lost() {
            return None;
        }
        visible(inner.find(&cell.owner, &cell.name), self.order).cloned()
    }

    /// Returns the next cells of a range that it shows, in order, up to `max`; and, unless that was the end of the range, the last
    /// name that was looked at: after `passed` names that it does not show it ends too. What it shows when it is lost means
    /// nothing.
    pub fn list(&self, owner: &Did, range: &Range, max: usize, passed: usize) -> Picked<Version> {
        let shown = |versions: &[Version]| visible(versions, self.order).filter(|seen| seen.value.is_some()).cloned();
        self.versions.pick(owner, range, (max, passed), shown)
    }

    fn closed_by(mut self, inner: &mut Inner, released: &mut Released) {
        self.closed = true;
        if !self.is_lost() {
            inner.close(self.order, released);
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let mut released = Released::default();
        {
            let mut inner = self.versions.write();
            if !self.is_lost() {
                inner.close(self.order, &mut released);
            }
        }
        self.versions.release(released);
    }
}

#[cfg(test)]
mod tests;
