//! What a run of a derivation came to, and what it has read: kept until something of that has another value (D3, D4).
//!
//! A memo is valid at a commit when every read of its run, in order, gives there what it gave then (after salsa's red-green
//! algorithm). Two proofs of that, the cheaper first: nothing was written to the cells below it since a commit at which it was
//! valid, or a walk along its reads, which has the derived ones among them proved before.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound::{Included, Unbounded},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{
    leaves::Leaves,
    range::{Range, after},
    refusal::Refusal,
    versions::Snapshot,
};
use crate::{
    cell::CellId,
    cost::{self, STEP_BYTES},
    did::Did,
    directory::Directory,
    env::breathe,
    limits::{DERIVE_BYTES_MAX, MESSAGE_BYTES_MAX},
    path::Path,
    record::Hash,
    value::{Mismatch, Tree},
};

/// Names that are looked at between two moments at which others may run.
const NAMES_STEP: usize = 1_024;
/// The part of the room for memos in which filters of what they hang on are kept.
pub const FILTERS_PART: usize = 4;
/// What a memo takes beside what it has read and come to, in bytes, and each of its reads.
const MEMO_BYTES: usize = 256;
const READ_BYTES: usize = 192;

/// Derived cells that are ready at one snapshot.
pub type Memos = HashMap<CellId, Memo>;

/// A derived cell, as it is at some commits.
#[derive(Clone)]
pub struct Memo {
    /// The run that computed it.
    pub run: Arc<Run>,
    /// The same as long as the value is: another run may have come to it.
    pub stamp: u64,
    /// Valid at every commit from this one.
    pub from: u64,
    /// To this one.
    pub until: u64,
    /// With the rights and components of the directory with this number.
    pub directory: u64,
    /// The cells that are no derived ones, below it.
    pub leaves: Leaves,
    /// It holds for one reader alone: it, or one that it has read, was not computed.
    pub is_passing: bool,
}

/// One run of a derivation.
pub struct Run {
    /// What it came to.
    pub value: Result<Tree, Underivable>,
    /// What it has read, in the order in which each cell was first read.
    pub reads: Vec<Kept>,
    /// The component that ran; that of a cycle says nothing.
    pub component: Hash,
    /// Whether it was told who is there, or that it may not read a cell: with another directory that may be another answer.
    pub saw_directory: bool,
    /// It was no run: the host did not begin one.
    pub is_passing: bool,
    /// What it takes in memory, about.
    pub bytes: usize,
}

impl Run {
    /// Returns a run of a component that came to this, and has read that.
    pub fn new(value: Result<Tree, Underivable>, reads: Vec<Kept>, component: Hash) -> Run {
        let came_to = value.as_ref().map_or(MESSAGE_BYTES_MAX, Tree::len);
        let bytes = MEMO_BYTES + came_to + reads.iter().map(Kept::held).sum::<usize>();
        Run { value, reads, component, saw_directory: false, is_passing: false, bytes }
    }
}

/// A cell that a run has read, or names that it has listed.
#[derive(Clone)]
pub struct Kept {
    /// The cell; of names the first that there could be.
    pub cell: CellId,
    /// What it is.
    pub kind: Kind,
    /// The commit that wrote what was seen, or the stamp of a derived cell: what has the same is the same. 0 says nothing.
    pub stamp: u64,
    /// What was seen at each path.
    pub seen: Vec<(Path, Seen)>,
}

/// What a run has read.
#[derive(Clone)]
pub enum Kind {
    /// A cell that is written.
    Cell,
    /// A derived cell.
    Derived,
    /// Names that were listed, the hash of those and how many they are.
    Names(Range, Hash, usize),
}

/// What a read gave.
#[derive(Clone, PartialEq)]
pub enum Seen {
    /// A value, or nothing.
    Found(Option<Tree>),
    /// The path leads through a value of another kind: the details are part of the answer.
    Mismatch(Mismatch),
    /// No value: the derived cell could not be computed.
    Underivable(Underivable),
}

impl Seen {
    /// Returns what a value gives at a path.
    pub fn of(value: Option<&Tree>, path: &Path) -> Seen {
        match value.map(|value| value.part(&path.0)).transpose() {
            Ok(found) => Seen::Found(found.flatten()),
            Err(mismatch) => Seen::Mismatch(mismatch),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Seen::Found(found) => found.as_ref().map_or(0, Tree::len),
            Seen::Mismatch(_) | Seen::Underivable(_) => MESSAGE_BYTES_MAX,
        }
    }
}

/// Why a derived cell has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Underivable {
    /// Its derivation failed.
    Failed {
        /// The cell.
        cell: CellId,
        /// How, bounded.
        message: Arc<str>,
    },
    /// It needs itself, through these, by DID and name.
    Cycle(Arc<[CellId]>),
    /// The host has computed so much for one reader, and did not go on.
    Over {
        /// The bound.
        name: &'static str,
        /// Its value.
        max: u64,
    },
}

impl Underivable {
    /// Returns what a reader is told.
    pub fn refusal(&self) -> Refusal {
        match self {
            Underivable::Failed { cell, message } => {
                Refusal::Failed { owner: cell.owner, name: cell.name.to_string(), message: message.to_string() }
            }
            Underivable::Cycle(cells) => {
                let mut left = MESSAGE_BYTES_MAX;
                let fits = |cell: &&CellId| {
                    let bytes = cell.name.len() + 64;
                    left.checked_sub(bytes).map(|rest| left = rest).is_some()
                };
                Refusal::Cycle(cells.iter().take_while(fits).cloned().collect())
            }
            Underivable::Over { name, max } => Refusal::Limit { name: (*name).into(), max: *max },
        }
    }
}

/// What a derived cell hangs on, at the commit at which it was computed.
pub struct Below {
    pub leaves: Leaves,
    pub order: u64,
    /// It was not computed: nothing of that says when it can be.
    pub is_passing: bool,
}

impl Memo {
    /// Returns what it takes in memory, about, without the filter of its leaves.
    pub fn bytes(&self) -> usize {
        self.run.bytes + self.leaves.bytes()
    }

    /// Returns the same memo, of which only the spaces are known that it hangs on.
    pub fn coarse(self) -> Memo {
        Memo { leaves: self.leaves.coarse(), ..self }
    }

    /// Returns what a read at a path gives.
    pub fn seen(&self, path: &Path) -> Seen {
        match &self.run.value {
            Ok(value) => Seen::of(Some(value), path),
            Err(why) => Seen::Underivable(why.clone()),
        }
    }

    /// Returns whether it is valid at a view too, by what is known of it without a walk.
    pub fn holds(&self, view: &View) -> bool {
        let order = view.snapshot.order();
        let is_known = (self.from..=self.until).contains(&order);
        self.directory == view.directory.number()
            && !view.overlays(&self.leaves)
            && (is_known || (order > self.until && self.leaves.are_same(&view.snapshot, self.until)))
    }

    /// Returns the same memo, known to hold at that view, to which nothing below it was written.
    pub fn still(self, view: &View) -> Memo {
        Memo { until: self.until.max(view.snapshot.order()), ..self }
    }

    /// Returns the same memo, valid at a view too: every read of its run gives there what it gave then.
    pub fn at(&self, view: &View) -> Memo {
        self.over(&self.run.reads.iter().collect::<Vec<_>>(), view)
    }

    /// Returns the same memo, valid at a view, where it hangs on what was read there.
    pub fn over(&self, reads: &[&Kept], view: &View) -> Memo {
        let (derived, others): (Vec<&Kept>, Vec<&Kept>) = reads.iter().partition(|read| read.is_derived());
        let (cells, names): (Vec<_>, Vec<_>) = others.into_iter().partition(|read| matches!(read.kind, Kind::Cell));
        let below: Vec<&Memo> = derived.iter().filter_map(|read| view.memos.get(&read.cell)).collect();
        let is_passing = self.run.is_passing || below.iter().any(|memo| memo.is_passing);
        let below: Vec<&Leaves> = below.iter().map(|memo| &memo.leaves).collect();
        let listed = names.iter().filter_map(|read| match &read.kind {
            Kind::Names(range, ..) => Some((&read.cell.owner, range)),
            _ => None,
        });
        let leaves = Leaves::of(cells.iter().map(|read| &read.cell), &below, listed);
        let (order, directory) = (view.snapshot.order(), view.directory.number());
        Memo { from: order, until: order, directory, leaves, is_passing, ..self.clone() }
    }
}

impl Kept {
    /// Returns names of a space that were listed: not yet which.
    pub fn names(owner: Did, range: Range) -> Kept {
        let cell = CellId { owner, name: range.from().into() };
        Kept { cell, kind: Kind::Names(range, [0; 32], 0), stamp: 0, seen: Vec::new() }
    }

    /// Returns whether it is a derived cell.
    pub fn is_derived(&self) -> bool {
        matches!(self.kind, Kind::Derived)
    }

    /// Looks which names were listed.
    pub async fn look(&mut self, view: &View) {
        if let Kind::Names(range, names, count) = &mut self.kind {
            (*names, *count) = view.names(&self.cell.owner, range, usize::MAX).await;
        }
    }

    /// Returns whether it gives at a view what it gave then; none when it is a derived cell that is not ready there.
    pub async fn is_same(&self, view: &View) -> Option<bool> {
        match &self.kind {
            Kind::Derived => {
                let memo = view.memos.get(&self.cell)?;
                let is_same = |(path, seen): &(Path, Seen)| memo.seen(path) == *seen;
                Some(memo.stamp == self.stamp || self.seen.iter().all(is_same))
            }
            Kind::Cell => {
                let (stamp, value) = view.read(&self.cell);
                let is_same = |(path, seen): &(Path, Seen)| Seen::of(value.as_ref(), path) == *seen;
                Some((stamp != 0 && stamp == self.stamp) || self.seen.iter().all(is_same))
            }
            Kind::Names(range, names, count) => {
                Some(view.names(&self.cell.owner, range, *count).await == (*names, *count))
            }
        }
    }

    /// Returns how many bytes [`Kept::is_same`] looks at, at most; names count as what a listing of them costs.
    pub fn bytes(&self) -> usize {
        let names = if let Kind::Names(_, _, count) = self.kind { count * cost::LISTED as usize } else { 0 };
        names + self.seen.iter().map(|(path, seen)| seen.bytes() + path.0.len() * STEP_BYTES).sum::<usize>()
    }

    /// Returns what it takes in memory, about.
    pub fn held(&self) -> usize {
        READ_BYTES + self.seen.iter().map(|(path, seen)| path.bytes() + seen.bytes()).sum::<usize>()
    }
}

/// What a turn has written when it reads a derived cell: cells of its charm, as it leaves them (T3).
pub struct Overlay {
    pub owner: Did,
    pub cells: BTreeMap<Arc<str>, Option<Tree>>,
}

impl Overlay {
    /// Returns what was written in a cell.
    pub fn get(&self, cell: &CellId) -> Option<&Option<Tree>> {
        if cell.owner == self.owner { self.cells.get(&cell.name) } else { None }
    }
}

/// What a reader sees: a snapshot and the rights that hold there, what its turn has written, and the derived cells that are
/// ready so.
pub struct View {
    pub snapshot: Snapshot,
    pub directory: Arc<Directory>,
    pub overlay: Option<Arc<Overlay>>,
    pub memos: Memos,
    /// What those take, and others that are ready for the same reader, in bytes, about.
    pub bytes: usize,
    /// A component was installed that is not in its directory: what that derives cannot be had in it.
    pub is_outdated: bool,
    /// Where to look for what is kept of others.
    pub known: Option<Arc<dyn Known>>,
}

/// What is kept of derived cells.
pub trait Known: Send + Sync {
    /// Returns what is kept of a cell, whether it holds or not.
    fn get(&self, cell: &CellId) -> Option<Memo>;
}

impl View {
    /// Returns a view with nothing written and nothing ready.
    pub fn new(snapshot: Snapshot, directory: Arc<Directory>) -> View {
        let memos = Memos::new();
        View { snapshot, directory, overlay: None, memos, bytes: 0, is_outdated: false, known: None }
    }

    /// Returns the same view with nothing ready, and these writes.
    pub fn again(&self, overlay: Option<Arc<Overlay>>) -> View {
        View {
            snapshot: self.snapshot.again(),
            directory: self.directory.clone(),
            overlay,
            memos: Memos::new(),
            bytes: 0,
            is_outdated: false,
            known: self.known.clone(),
        }
    }

    /// Returns a derived cell that is ready, or that is kept and holds.
    pub fn ready(&mut self, cell: &CellId) -> Option<&Memo> {
        if !self.memos.contains_key(cell) && self.bytes < DERIVE_BYTES_MAX {
            let kept = self.known.as_ref()?.get(cell)?;
            if kept.holds(self) {
                self.keep(cell.clone(), kept.still(self));
            }
        }
        self.memos.get(cell)
    }

    /// Keeps a derived cell that is ready. What it hangs on is kept in detail as long as there is much room.
    pub fn keep(&mut self, cell: CellId, memo: Memo) {
        let memo = if self.bytes < DERIVE_BYTES_MAX / FILTERS_PART { memo } else { memo.coarse() };
        self.bytes += memo.bytes() + memo.leaves.filter().map_or(0, |(_, bytes)| bytes);
        self.memos.insert(cell, memo);
    }

    /// Returns the value of a cell that is not derived, and the commit that wrote it: 0 for none, and for what the turn wrote.
    pub fn read(&self, cell: &CellId) -> (u64, Option<Tree>) {
        if let Some(written) = self.overlay.as_ref().and_then(|overlay| overlay.get(cell)) {
            return (0, written.clone());
        }
        self.snapshot.read(cell).map_or((0, None), |version| (version.order, version.value))
    }

    /// Returns a hash of the names in a range of cells that hold something, and how many they are; of more than `max` it is not
    /// that of all. Lets others run between its steps.
    async fn names(&self, owner: &Did, range: &Range, max: usize) -> (Hash, usize) {
        let (mut hash, mut count, mut rest) = (Sha256::new(), 0, Some(range.clone()));
        while let Some(range) = rest.filter(|_| count <= max) {
            let (shown, last) = self.snapshot.list(owner, &range, NAMES_STEP, NAMES_STEP);
            let next = last.as_deref().map(after);
            let looked = next.as_deref().map_or_else(|| range.clone(), |next| range.before(next));
            let mut names: BTreeSet<Arc<str>> = shown.into_iter().map(|(name, _)| name).collect();
            for (name, value) in self.written(owner, &looked) {
                match value {
                    Some(_) => drop(names.insert(name)),
                    None => drop(names.remove(&name)),
                }
            }
            count += names.len();
            for name in names {
                hash.update([name.len() as u8]);
                hash.update(name.as_bytes());
            }
            rest = next.map(|next| range.rest(&next));
            breathe().await;
        }
        (hash.finalize().into(), count)
    }

    /// Returns what the turn wrote in the cells of a range, in order.
    pub fn written<'a>(&'a self, owner: &Did, range: &'a Range) -> impl Iterator<Item = (Arc<str>, Option<Tree>)> + 'a {
        let overlay = self.overlay.as_deref().filter(|overlay| overlay.owner == *owner);
        let cells =
            overlay.into_iter().flat_map(|overlay| overlay.cells.range::<str, _>((Included(range.from()), Unbounded)));
        cells.take_while(|(name, _)| range.reaches(name)).map(|(name, value)| (name.clone(), value.clone()))
    }

    /// Returns whether what the turn wrote may be among those cells.
    pub fn overlays(&self, leaves: &Leaves) -> bool {
        self.overlay.as_ref().is_some_and(|overlay| leaves.touch(&overlay.owner, &overlay.cells))
    }
}

/// What one attempt at a turn sees, and goes on to see when it is made again for derived cells that it needs.
pub struct Views {
    /// Without what the turn writes.
    pub view: View,
    /// With it, by the number of its writes.
    pub staged: BTreeMap<usize, View>,
    /// They are those of an attempt before.
    pub keeps: bool,
    /// What that was told of how full inboxes are: the next one is told the same, so that it does the same.
    pub answers: Vec<bool>,
}

impl Views {
    /// Returns those of a first attempt.
    pub fn new(view: View) -> Views {
        Views { view, staged: BTreeMap::new(), keeps: false, answers: Vec::new() }
    }
}

/// At which commit, with which rights, all derived reads of a turn were last found to hold, and on what they hang.
pub struct Proved {
    pub order: u64,
    pub directory: u64,
    pub leaves: Leaves,
}
