//! Who watches what (D6): those who watch the same stand together, so that it is looked at once for all of them.
//!
//! The group marks what a durable batch has touched, before anybody hears of the batch: a count for each thing that is
//! watched, and no more. Who looks then, and when, is not its affair: see `host/watch.rs`. A batch that touches nothing
//! that is watched costs a look into a map for each of its rows; with no watcher at all it costs one load.

mod names;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;

use super::{Committer, Unavailable, figures::Change};
use crate::{
    cell::CellId,
    did::Did,
    event::EventId,
    limits::{HISTORY_STEP, WATCH_NUMBERS_MAX, WATCH_PREFIXES_MAX, WATCHERS_MAX, WATCHERS_PER_READER_MAX},
    path::Path,
    rows::Batch,
    tx::{Below, Leaves, Range},
    value::{Found, Tree, Value},
};
use names::{Name, Names};

/// What can be watched together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A cell.
    Cell(CellId),
    /// The cells of a charm whose names begin so.
    Cells(Did, Arc<str>),
    /// What the commits of a charm settle: receipts and dead letters.
    Settled(Did),
    /// What waits for a charm.
    Waiting(Did),
    /// What becomes of an event.
    Event(EventId),
}

/// A cell as it is now.
#[derive(Clone)]
pub struct Present {
    /// None when there is none.
    pub value: Option<Tree>,
    /// The commit in its space that it is of: that wrote it, or one after which there is none.
    pub revision: u64,
    /// The commit of the host that is to be durable before anybody is told.
    pub order: u64,
}

/// Why a cell has no answer.
#[derive(Clone, Debug)]
pub enum Unanswered {
    /// The host has stopped.
    Unavailable(Unavailable),
    /// It cannot be read: why, as a person is told.
    Failed(String),
}

/// What is at a path, or why that cannot be read.
pub type Part = Result<Option<Value>, String>;

/// What all who watch one thing are told: the last answer, and no other.
pub struct Told {
    /// What had been marked when it was asked for.
    pub mark: Mark,
    /// How many durable commits have written the cell until this answer.
    pub number: u64,
    /// The cell; none where a mark is all there is to know.
    pub answer: Option<Result<Present, Unanswered>>,
    /// Parts of it, each made once.
    parts: Mutex<HashMap<Path, Part>>,
}

impl Told {
    fn new(mark: Mark, number: u64, answer: Option<Result<Present, Unanswered>>) -> Told {
        Told { mark, number, answer, parts: Mutex::default() }
    }

    /// Returns what is at a path of a value that it holds: made once for all who ask.
    pub fn part(&self, value: Option<&Tree>, path: &Path) -> Part {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get(path) {
            return part.clone();
        }
        let found = value.map_or(Ok(None), |value| value.find(&path.0));
        let part = found.map(|found| found.map(Found::to_value)).map_err(|error| error.to_string());
        parts.insert(path.clone(), part.clone());
        part
    }
}

/// How often something was touched, and the last position given to an event by the batch that did it last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub number: u64,
    pub position: u64,
}

/// One thing that is watched.
pub struct Watched {
    pub topic: Topic,
    marks: watch::Sender<Mark>,
    told: watch::Sender<Arc<Told>>,
    numbers: Mutex<Numbers>,
    names: Mutex<Names>,
    /// What it hangs on, when it is a derived cell.
    below: Mutex<Option<Leaves>>,
    /// Somebody has it looked at again after a while.
    comes_again: AtomicBool,
}

/// How many durable commits have written a cell.
#[derive(Default)]
struct Numbers {
    count: u64,
    /// The last of them, in the cell's space.
    recent: VecDeque<u64>,
}

/// A write of a cell in a batch: whose, which, by which commit, and whether it is removed.
pub(super) type Wrote = (Did, Arc<str>, u64, bool);

impl Watched {
    fn new(topic: Topic) -> Watched {
        // One mark nobody has answered: the first answer is asked for at once.
        let first = Mark { number: 1, position: 0 };
        let told = Arc::new(Told::new(Mark::default(), 0, None));
        let (numbers, names, below, comes_again) = Default::default();
        let marks = watch::Sender::new(first);
        Watched { topic, marks, told: watch::Sender::new(told), numbers, names, below, comes_again }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the cells under its prefix.
    pub fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn below(&self) -> MutexGuard<'_, Option<Leaves>> {
        self.below.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has whoever answers look once more.
    pub fn again(&self) {
        self.mark(1, 0);
    }

    /// Returns whether the one who asks is the one to have it looked at again after a while: others need not.
    pub fn sets_out_again(&self) -> bool {
        !self.comes_again.swap(true, Ordering::Relaxed)
    }

    /// Has whoever answers look once more, now that the while is over.
    pub fn comes_again(&self) {
        self.comes_again.store(false, Ordering::Relaxed);
        self.again();
    }

    fn mark(&self, count: u64, position: u64) {
        self.marks.send_modify(|mark| *mark = Mark { number: mark.number + count, position });
    }

    /// Returns what is marked now.
    pub fn marked(&self) -> Mark {
        *self.marks.borrow()
    }

    /// Returns who hears of marks: whoever answers.
    pub fn marks(&self) -> watch::Receiver<Mark> {
        let mut marks = self.marks.subscribe();
        marks.mark_changed();
        marks
    }

    /// Returns who hears of answers: whoever watches.
    pub fn told(&self) -> watch::Receiver<Arc<Told>> {
        self.told.subscribe()
    }

    /// Tells all who watch.
    pub fn tell(&self, mark: Mark, answer: Option<Result<Present, Unanswered>>) {
        let revision = match &answer {
            Some(Ok(present)) => present.revision,
            _ => u64::MAX,
        };
        let numbers = self.numbers();
        let later = numbers.recent.iter().filter(|seq| **seq > revision).count() as u64;
        let number = numbers.count - later;
        drop(numbers);
        self.told.send_replace(Arc::new(Told::new(mark, number, answer)));
    }
}

/// All that is watched, and who watches.
#[derive(Default)]
pub struct Watches {
    inner: Mutex<Inner>,
    /// How many watch.
    count: AtomicUsize,
    /// The number of the directory that holds: changed under the lock that orders commits, so that nobody is told what was
    /// written after a right has gone.
    directory: AtomicU64,
    /// Changes after it.
    rights: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    /// Each with how many watch it.
    topics: HashMap<Topic, (Arc<Watched>, usize)>,
    prefixes: HashMap<Did, Vec<Arc<Watched>>>,
    /// Derived cells, by the spaces that they hang on.
    derived: HashMap<Did, Vec<Arc<Watched>>>,
    readers: HashMap<Did, usize>,
}

impl Inner {
    /// Marks the derived cells that hang on what was written.
    fn touch_derived(&self, wrote: &[Wrote], position: u64) {
        let mut written: HashMap<Did, HashSet<&str>> = HashMap::new();
        for (owner, name, ..) in wrote.iter().filter(|(owner, ..)| self.derived.contains_key(owner)) {
            written.entry(*owner).or_default().insert(name);
        }
        // One that hangs on several spaces stands in each.
        let derived = written.keys().filter_map(|space| self.derived.get(space)).flatten();
        let derived: HashMap<*const Watched, &Arc<Watched>> =
            derived.map(|watched| (Arc::as_ptr(watched), watched)).collect();
        for watched in derived.into_values() {
            let is_touched = watched.below().as_ref().is_some_and(|leaves| leaves.are_in(&written));
            if is_touched {
                watched.numbers().count += 1;
                watched.mark(1, position);
            }
        }
    }

    /// Has a derived cell hang on cells of these spaces, and no others.
    fn hang(&mut self, watched: &Arc<Watched>, below: Option<Leaves>) {
        let spaces = below.as_ref().map(Leaves::owners).unwrap_or_default();
        let before = std::mem::replace(&mut *watched.below(), below);
        for space in before.as_ref().map(Leaves::owners).unwrap_or_default() {
            if let Some(derived) = self.derived.get_mut(&space) {
                derived.retain(|of| !Arc::ptr_eq(of, watched));
                if derived.is_empty() {
                    self.derived.remove(&space);
                }
            }
        }
        for space in spaces {
            self.derived.entry(space).or_default().push(watched.clone());
        }
    }
}

/// Why there is no place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// So many watch.
    Watchers(usize),
    /// The reader has so many.
    Reader(usize),
    /// So many prefixes of the charm are watched.
    Prefixes(usize),
}

/// A place among those who watch: it is left when this is dropped.
pub struct Place {
    watches: Arc<Watches>,
    pub watched: Arc<Watched>,
    reader: Option<Did>,
}

impl Watches {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether anybody watches anything.
    pub fn is_any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Returns a place for one more who watches, for somebody with rights of their own; and whether they are the first who
    /// watches that.
    ///
    /// # Errors
    /// When there is none.
    pub fn join(self: &Arc<Watches>, topic: Topic, reader: Option<Did>) -> Result<(Place, bool), NoPlace> {
        let mut inner = self.inner();
        if self.count.load(Ordering::Relaxed) >= WATCHERS_MAX {
            return Err(NoPlace::Watchers(WATCHERS_MAX));
        }
        let has = reader.map_or(0, |reader| inner.readers.get(&reader).copied().unwrap_or(0));
        if has >= WATCHERS_PER_READER_MAX {
            return Err(NoPlace::Reader(WATCHERS_PER_READER_MAX));
        }
        let is_first = !inner.topics.contains_key(&topic);
        if is_first && let Topic::Cells(owner, _) = &topic {
            let watched = Arc::new(Watched::new(topic.clone()));
            let prefixes = inner.prefixes.entry(*owner).or_default();
            if prefixes.len() >= WATCH_PREFIXES_MAX {
                return Err(NoPlace::Prefixes(WATCH_PREFIXES_MAX));
            }
            prefixes.push(watched.clone());
            inner.topics.insert(topic.clone(), (watched, 0));
        }
        let (watched, users) =
            inner.topics.entry(topic).or_insert_with_key(|topic| (Arc::new(Watched::new(topic.clone())), 0));
        *users += 1;
        let watched = watched.clone();
        if let Some(reader) = reader {
            *inner.readers.entry(reader).or_default() += 1;
        }
        self.count.fetch_add(1, Ordering::AcqRel);
        drop(inner);
        Ok((Place { watches: self.clone(), watched, reader }, is_first))
    }

    fn leave(&self, watched: &Watched, reader: Option<Did>) {
        let mut inner = self.inner();
        self.count.fetch_sub(1, Ordering::AcqRel);
        if let Some(reader) = reader
            && let Some(has) = inner.readers.get_mut(&reader)
        {
            *has -= 1;
            if *has == 0 {
                inner.readers.remove(&reader);
            }
        }
        let Some((_, users)) = inner.topics.get_mut(&watched.topic) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        if let Some((watched, _)) = inner.topics.remove(&watched.topic) {
            inner.hang(&watched, None);
        }
        if let Topic::Cells(owner, _) = &watched.topic
            && let Some(prefixes) = inner.prefixes.get_mut(owner)
        {
            prefixes.retain(|of| of.topic != watched.topic);
            if prefixes.is_empty() {
                inner.prefixes.remove(owner);
            }
        }
    }

    /// Notes which directory holds from now on; under the lock that orders commits.
    pub(super) fn swap(&self, number: u64) {
        self.directory.store(number, Ordering::Release);
    }

    /// Says that another directory holds; after the lock. A derived cell may be another with that.
    pub(super) fn swapped(&self) {
        if self.is_any() {
            let inner = self.inner();
            let cells = inner.topics.iter().filter(|(topic, _)| matches!(topic, Topic::Cell(_)));
            cells.for_each(|(_, (watched, _))| watched.mark(1, 0));
        }
        self.rights.send_modify(|changes| *changes += 1);
    }

    /// Returns the number of the directory that holds.
    pub fn directory(&self) -> u64 {
        self.directory.load(Ordering::Acquire)
    }

    /// Returns who hears of another directory.
    pub fn rights(&self) -> watch::Receiver<u64> {
        self.rights.subscribe()
    }

    /// Returns the writes of a batch one by one, before they are put together; none when nobody watches.
    pub(super) fn wrote(&self, batch: &Batch) -> Vec<Wrote> {
        if !self.is_any() {
            return Vec::new();
        }
        let is_removed =
            |edits: &[crate::value::Edit]| edits.last().is_some_and(|edit| edit.path.is_root() && edit.put.is_none());
        let wrote =
            batch.cells.iter().map(|write| (write.space, write.name.clone(), write.seq, is_removed(&write.edits)));
        wrote.collect()
    }

    /// Marks what a batch has touched that is durable now. Whoever began to watch after it was assembled sees all of it in memory.
    pub(super) fn reached(&self, wrote: &[Wrote], batch: &Batch, changes: &[Change]) {
        if !self.is_any() {
            return;
        }
        let (inner, position) = (self.inner(), batch.position.unwrap_or(0));
        let touch = |topic: &Topic, count| {
            if let Some((watched, _)) = inner.topics.get(topic) {
                watched.mark(count, position);
            }
        };
        let mut written: BTreeMap<Did, Vec<&Wrote>> = BTreeMap::new();
        for write @ (owner, name, seq, _) in wrote {
            if inner.prefixes.contains_key(owner) {
                written.entry(*owner).or_default().push(write);
            }
            let topic = Topic::Cell(CellId { owner: *owner, name: name.clone() });
            if let Some((watched, _)) = inner.topics.get(&topic) {
                let mut numbers = watched.numbers();
                numbers.count += 1;
                numbers.recent.push_back(*seq);
                if numbers.recent.len() > WATCH_NUMBERS_MAX {
                    numbers.recent.pop_front();
                }
                drop(numbers);
                watched.mark(1, position);
            }
        }
        if !inner.derived.is_empty() {
            inner.touch_derived(wrote, position);
        }
        for (owner, writes) in written {
            for watched in inner.prefixes.get(&owner).into_iter().flatten() {
                let Topic::Cells(_, prefix) = &watched.topic else { continue };
                // All cells of a commit at once: who looks sees all of them, or none.
                let mut names = watched.names();
                let mut count = 0;
                for (_, name, seq, is_removed) in &writes {
                    if name.starts_with(&**prefix) {
                        names.write(name, *seq, *is_removed);
                        count += 1;
                    }
                }
                drop(names);
                if count > 0 {
                    watched.mark(count, position);
                }
            }
        }
        for row in &batch.receipts {
            touch(&Topic::Settled(row.space), 1);
            touch(&Topic::Event(row.receipt.id), 1);
        }
        for queued in &batch.queued {
            touch(&Topic::Event(queued.event.id), 1);
        }
        for change in changes {
            if let Change::Sent(Some(to)) = change {
                touch(&Topic::Waiting(*to), 1);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watches.leave(&self.watched, self.reader);
    }
}

impl Committer {
    /// Returns all that is watched.
    pub fn watches(&self) -> &Arc<Watches> {
        &self.group.watches
    }

    /// Has a derived cell marked, from now on, when something below it is written; at once, if that was since the commit at which
    /// it was computed.
    pub fn watch_below(&self, watched: &Arc<Watched>, below: Option<Below>) {
        if below.is_none() && watched.below().is_none() {
            return;
        }
        let mut inner = self.group.watches.inner();
        // Nobody watches it any more.
        if !inner.topics.contains_key(&watched.topic) {
            return;
        }
        inner.hang(watched, below.as_ref().map(|below| below.leaves.clone()));
        drop(inner);
        if below.is_some_and(|below| !below.leaves.are_same(&self.versions.snapshot(), below.order)) {
            watched.again();
        }
    }

    /// Returns what a cell holds now, durable or not.
    pub fn present(&self, cell: &CellId) -> Present {
        let latest = || {
            let version = self.versions.latest(&cell.owner, &cell.name)?;
            Some(Present { value: version.value, revision: version.seq, order: version.order })
        };
        latest().unwrap_or_else(|| {
            // There is none after this commit, and its removal is no later than what is the last one then.
            let (revision, _) = self.last(&cell.owner);
            latest().unwrap_or_else(|| Present { value: None, revision, order: self.last(&cell.owner).1 })
        })
    }

    /// Returns the last commit of a space, and the same in the order of the host.
    fn last(&self, space: &Did) -> (u64, u64) {
        self.locked().core.spaces.get(space).map_or((0, 0), |space| (space.seq, space.order))
    }

    /// Returns the last position that an event was given, and the last commit, durable or not.
    pub fn position(&self) -> (u64, u64) {
        let core = &self.locked().core;
        (core.position, core.order)
    }

    /// Fills in the cells under a prefix that is watched from now on.
    pub async fn list_names(&self, watched: &Watched) {
        let Topic::Cells(owner, prefix) = &watched.topic else { return };
        let floor = self.last_commit(owner).unwrap_or(0);
        let mut there: Vec<Name> = Vec::new();
        for (step, (name, version)) in
            self.versions.list(owner, &Range::of(prefix, None, None), usize::MAX).0.into_iter().enumerate()
        {
            if step % HISTORY_STEP == HISTORY_STEP - 1 {
                crate::env::breathe().await;
            }
            if name.starts_with(&**prefix) {
                there.push(Name { name, seq: version.seq });
            }
        }
        there.sort_by(|a, b| (a.seq, &a.name).cmp(&(b.seq, &b.name)));
        watched.names().begin(there, floor);
    }
}

#[cfg(test)]
mod tests;
