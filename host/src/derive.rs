//! Derived cells: what a reader needs is computed first, in dependency order, and nothing else runs (D3, D4).
//!
//! [`Deriver::ready`] makes cells ready in a view, with a stack of cells of its own: a run never nests in another. For each
//! cell on it
//!
//! ```text
//! look      a memo that is known to hold there is the answer
//! check     else its reads are walked in order; derived ones are made ready first; all the same: the memo holds
//! prepare   else what the last run read after the first change is looked at too: most of it holds, and will be read again
//! run       the derivation runs on a fresh instance; a derived cell that it lacks is made ready, and it runs again
//! ```
//!
//! A run that lacks one cell after another as the last run read them is believed to go on so: each time twice as many of those
//! that follow are made ready with it. So a run of n reads is cut short log n times, and what runs in vain is less than what does
//! not. Else nothing runs that nobody reads.
//!
//! A cell that a run needs while it stands on the stack is a cycle, if each cell above it is there because a run reads it: all of
//! them get the same error, which hangs on what all of them have read, so that they are looked at again when that changes (D5).

mod memos;

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::future::{Either, select};

use crate::{
    cell::CellId,
    charms::Charms,
    cost,
    counters::Derivations,
    did::Did,
    directory::Directory,
    env::{BoxFuture, breathe},
    event::Event,
    guest::Guests,
    limits::{DERIVE_BYTES_MAX, DERIVE_DEPTH_MAX, FORESEEN_MAX, Limits, OUTSIDE_RUNS_MAX, OUTSIDE_RUNS_OF_ONE},
    places::Places,
    tx::{Committer, Derive, Kept, Kind, Known, Leaves, Memo, Run, Transaction, Underivable, View, Views},
    value::Tree,
};
use memos::Memos;

/// Bytes of what was seen that are compared between two moments at which others may run.
const STEP_BYTES: usize = 256 << 10;
/// How often a cell is computed for someone outside whose snapshot is given back meanwhile.
const TRIES_MAX: u32 = 8;
/// The part of the bounds of one reader that what is only foreseen may take.
const FORESEEN_PART: u64 = 4;
/// Streams whose derived reads are remembered.
const STREAMS_MAX: usize = 4_096;

/// A stream of a charm.
type Stream = (Did, Arc<str>);

/// Computes derived cells, and keeps what they came to.
pub struct Deriver {
    guests: Arc<Guests>,
    charms: Arc<Charms>,
    committer: Arc<Committer>,
    memos: Arc<Memos>,
    /// The last stamp that was given.
    stamp: AtomicU64,
    /// Derivations so far that ran to their end, and those that were cut short for a cell that they lacked.
    runs: AtomicU64,
    restarts: AtomicU64,
    /// What the last turns of a stream have read.
    foreseen: Mutex<HashMap<Stream, Arc<[CellId]>>>,
    /// Those outside that have derivations run, by the charm that they read of.
    outside: Places,
}

/// A cell on the stack.
struct Frame {
    cell: CellId,
    step: Step,
    why: Why,
    /// What the present run had read when it was cut short: which cells, and not what they gave.
    reads: Vec<Kept>,
    /// The last run that came to its end.
    last: Option<Arc<Run>>,
    /// How often the present one was cut short for what the last one read too.
    restarts: u32,
    /// What is made ready before it runs again.
    ahead: Vec<CellId>,
}

/// Why a cell stands on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The cell below it reads it.
    Read,
    /// It most likely will.
    Ahead,
    /// It may: the cell is ready if its memo holds, and does not run.
    Look,
}

enum Step {
    Look,
    Check(Memo, usize),
    Prepare(Memo, usize),
    Run,
}

/// What a step on a cell comes to.
enum Next {
    /// It is ready.
    Ready(Memo),
    /// It goes on with another step.
    Step(Step),
    /// This cell first.
    Needs(CellId, Why),
    /// It would have to run, and is only looked at.
    Leave,
    /// The snapshot was given back.
    Lost,
}

impl Derive for Deriver {
    fn ready(&self, view: View, cells: Vec<CellId>) -> BoxFuture<'_, View> {
        Box::pin(async move {
            let mut view = View { known: Some(self.memos.clone()), ..view };
            self.make_ready(&mut view, cells, self.limits().derive_fuel_max).await;
            view
        })
    }
}

impl Deriver {
    /// Returns one that has computed nothing.
    pub fn new(guests: Arc<Guests>, charms: Arc<Charms>, committer: Arc<Committer>) -> Deriver {
        let (stamp, runs, restarts, foreseen) = Default::default();
        let memos = Arc::new(Memos::new(committer.limits().memo_bytes_max));
        let outside = Places::new(OUTSIDE_RUNS_MAX, OUTSIDE_RUNS_OF_ONE);
        Deriver { guests, charms, committer, memos, stamp, runs, restarts, foreseen, outside }
    }

    /// Returns how often derivations ran.
    pub fn figures(&self) -> Derivations {
        let (runs, restarts) = (self.runs.load(Ordering::Relaxed), self.restarts.load(Ordering::Relaxed));
        let (kept, bytes) = self.memos.figures();
        Derivations { runs, restarts, kept, bytes }
    }

    /// Returns what is committed now, where what is kept is looked for too.
    fn view(&self, directory: Arc<Directory>) -> View {
        let view = View::new(self.committer.versions().snapshot(), directory);
        View { known: Some(self.memos.clone()), ..view }
    }

    /// Returns a derived cell as it is now, for someone outside, and the commit at which it is so; none when it is not wanted any
    /// more before there is a place for that, or the host has ended.
    pub async fn now(&self, cell: &CellId, unwanted: impl Future<Output = ()>) -> Option<(Memo, u64)> {
        let view = || self.view(self.committer.directory());
        // What is kept needs no place among those who have something computed.
        let present = view();
        if let Some(memo) = self.memos.get(cell).filter(|memo| memo.holds(&present) && !present.snapshot.is_lost()) {
            return Some((memo, present.snapshot.order()));
        }
        drop(present);
        let _place = match select(pin!(self.outside.take(&cell.owner)), pin!(unwanted)).await {
            Either::Left((place, _)) => place?,
            Either::Right(_) => return None,
        };
        for tries in 1..=TRIES_MAX {
            let mut view = view();
            self.make_ready(&mut view, vec![cell.clone()], self.limits().derive_fuel_max).await;
            if !view.snapshot.is_lost() && (!view.is_outdated || tries == TRIES_MAX) {
                return Some((view.memos.remove(cell)?, view.snapshot.order()));
            }
            breathe().await;
        }
        let mut view = view();
        let max = self.limits().old_versions_bytes_max as u64;
        let lost = self.work(&mut view, 0).passing(cell, Underivable::Over { name: "old-versions-bytes-max", max });
        Some((lost, view.snapshot.order()))
    }

    /// Returns what a turn sees at first: what is committed now, with those derived cells ready that the last turn of its stream
    /// has read, if it `begins`; and the fuel that those took. One that goes on sees what is committed when its replay is over.
    pub async fn views(&self, event: &Event, directory: &Arc<Directory>, begins: bool) -> (Views, u64) {
        let mut view = self.view(directory.clone());
        let Some(foreseen) = self.foreseen(event).filter(|_| begins) else { return (Views::new(view), 0) };
        let is_there = |cell: &&CellId| {
            directory.derivation(&cell.owner, &cell.name).is_some()
                && directory.may_read(&event.to, &cell.owner, &cell.name)
        };
        // The rest is for what it does read.
        let (fuel_max, bytes_max) =
            (self.limits().derive_fuel_max / FORESEEN_PART, DERIVE_BYTES_MAX / FORESEEN_PART as usize);
        let mut took = 0;
        for cell in foreseen.iter().filter(is_there) {
            if took < fuel_max && view.bytes < bytes_max {
                took += self.make_ready(&mut view, vec![cell.clone()], fuel_max - took).await;
            }
        }
        // What was not computed is asked for when it is read, if it is.
        view.memos.retain(|_, memo| !memo.is_passing);
        (Views::new(view), took)
    }

    fn foreseen(&self, event: &Event) -> Option<Arc<[CellId]>> {
        let foreseen = self.foreseen.lock().unwrap_or_else(PoisonError::into_inner);
        if foreseen.is_empty() {
            return None;
        }
        foreseen.get(&(event.to, event.stream.clone())).cloned()
    }

    /// Notes which derived cells a turn of a stream has read.
    pub fn note<'a>(&self, event: &Event, cells: impl Iterator<Item = &'a CellId>) {
        let mut cells = cells.peekable();
        let mut foreseen = self.foreseen.lock().unwrap_or_else(PoisonError::into_inner);
        if foreseen.is_empty() && cells.peek().is_none() {
            return;
        }
        let stream = (event.to, event.stream.clone());
        if cells.peek().is_none() {
            foreseen.remove(&stream);
            return;
        }
        if foreseen.len() >= STREAMS_MAX {
            foreseen.clear();
        }
        foreseen.insert(stream, cells.take(FORESEEN_MAX).cloned().collect());
    }

    /// Makes cells ready in a view with so much fuel; returns what it took. When the snapshot was given back, what is ready says
    /// nothing.
    pub async fn make_ready(&self, view: &mut View, cells: Vec<CellId>, fuel_max: u64) -> u64 {
        let mut work = self.work(view, fuel_max);
        for cell in cells {
            if !work.make(cell).await {
                break;
            }
        }
        work.fuel
    }

    fn work<'a>(&'a self, view: &'a mut View, fuel_max: u64) -> Work<'a> {
        Work { deriver: self, view, stack: Vec::new(), places: HashMap::new(), fuel: 0, fuel_max, looked: 0, held: 0 }
    }

    fn limits(&self) -> &Limits {
        self.committer.limits()
    }
}

/// The cells that are being made ready in one view.
struct Work<'a> {
    deriver: &'a Deriver,
    view: &'a mut View,
    stack: Vec<Frame>,
    /// Where each cell of the stack stands.
    places: HashMap<CellId, usize>,
    /// What runs took so far, and looking, and what they may take.
    fuel: u64,
    fuel_max: u64,
    /// Bytes looked at since others could run.
    looked: usize,
    /// Bytes that the stack holds.
    held: usize,
}

impl Frame {
    /// Returns what it holds, in bytes, about.
    fn held(&self) -> usize {
        self.reads.iter().map(Kept::held).sum::<usize>() + self.last.as_ref().map_or(0, |run| run.bytes)
    }
}

impl Work<'_> {
    /// Makes one cell ready; returns whether the snapshot is still there.
    async fn make(&mut self, cell: CellId) -> bool {
        self.push(cell, Why::Read);
        while let Some(top) = self.stack.len().checked_sub(1) {
            if self.view.memos.contains_key(&self.stack[top].cell) {
                self.pop();
                continue;
            }
            let next = self.step(top).await;
            // What a snapshot shows that was given back says nothing.
            let next = if self.view.snapshot.is_lost() { Next::Lost } else { next };
            match next {
                Next::Ready(memo) => self.put(top, memo),
                Next::Step(step) => self.stack[top].step = step,
                Next::Needs(cell, why) => self.need(top, cell, why).await,
                Next::Leave => self.leave(),
                Next::Lost => {
                    self.stack.clear();
                    self.places.clear();
                    self.held = 0;
                    return false;
                }
            }
        }
        true
    }

    fn push(&mut self, cell: CellId, why: Why) {
        self.places.insert(cell.clone(), self.stack.len());
        let (reads, last, restarts, ahead) = Default::default();
        self.stack.push(Frame { cell, step: Step::Look, why, reads, last, restarts, ahead });
    }

    /// Goes on without the cells at the top that are only looked at.
    fn leave(&mut self) {
        while self.stack.last().is_some_and(|frame| frame.why == Why::Look) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(frame) = self.stack.pop() {
            self.held -= frame.held();
            self.places.remove(&frame.cell);
        }
    }

    /// Keeps a memo of the cell at that place, which is ready then.
    fn put(&mut self, place: usize, memo: Memo) {
        let cell = self.stack[place].cell.clone();
        // What hangs on the writes of one turn is for that one alone, and so is what was not computed.
        let is_for_all = !self.view.overlays(&memo.leaves) && !memo.is_passing;
        if is_for_all {
            self.deriver.memos.put(&cell, memo.clone());
        }
        self.view.keep(cell, memo);
    }

    /// Returns why the host does not go on for this reader, if it does not.
    fn over(&self) -> Option<Underivable> {
        let over = |name, max| Some(Underivable::Over { name, max });
        match () {
            () if self.fuel >= self.fuel_max => over("derive-fuel-max", self.deriver.limits().derive_fuel_max),
            () if self.view.bytes + self.held > DERIVE_BYTES_MAX => over("derive-bytes-max", DERIVE_BYTES_MAX as u64),
            () if self.stack.len() > DERIVE_DEPTH_MAX => over("derive-depth-max", DERIVE_DEPTH_MAX as u64),
            () => None,
        }
    }

    /// Goes on with a cell that another one needs, or with what a cycle of them comes to.
    async fn need(&mut self, top: usize, cell: CellId, why: Why) {
        let Some(place) = self.places.get(&cell).copied() else { return self.push(cell, why) };
        match why {
            Why::Read => {}
            // It is being made ready below.
            Why::Ahead => return,
            Why::Look => return self.leave(),
        }
        if let Some(ahead) = (place + 1..=top).find(|at| self.stack[*at].why != Why::Read) {
            // Nobody has read it yet: the cell below it runs without.
            while self.stack.len() > ahead {
                self.pop();
            }
            let below = &mut self.stack[ahead - 1];
            (below.step, below.ahead) = (Step::Run, Vec::new());
            return;
        }
        let mut members: Vec<CellId> = self.stack[place..].iter().map(|frame| frame.cell.clone()).collect();
        members.sort_unstable();
        let (members, why) = (members.len(), Underivable::Cycle(members.into()));
        let frames = &self.stack[place..];
        let walked = frames.iter().flat_map(|frame| match &frame.step {
            Step::Check(memo, next) => &memo.run.reads[..*next],
            _ => &[],
        });
        let inside = |kept: &&Kept| kept.is_derived() && self.places.get(&kept.cell).is_some_and(|at| *at >= place);
        let reads: Vec<&Kept> =
            frames.iter().flat_map(|frame| &frame.reads).chain(walked).filter(|kept| !inside(kept)).collect();
        self.fuel += (members + reads.len()) as u64 * cost::CELL;
        // One for all, which hangs on what all of them have read: nobody walks along that.
        let run = Arc::new(Run::new(Err(why), Vec::new(), [0; 32]));
        let shared = self.new_memo(run).over(&reads, self.view).coarse();
        for at in place..=top {
            let memo = self.stamped(&self.stack[at].cell.clone(), shared.clone());
            self.put(at, memo);
            self.pause().await;
        }
        while self.stack.len() > place {
            self.pop();
        }
    }

    fn component(&self, charm: &Did) -> crate::record::Hash {
        self.deriver.charms.get(charm).map_or([0; 32], |installed| installed.loaded.hash)
    }

    /// Returns the memo of a run at the view.
    fn memo(&self, cell: &CellId, run: Run) -> Memo {
        self.stamped(cell, self.new_memo(Arc::new(run)))
    }

    fn new_memo(&self, run: Arc<Run>) -> Memo {
        let (stamp, from, until, directory, is_passing) = Default::default();
        let leaves = Leaves::default();
        Memo { run, stamp, from, until, directory, leaves, is_passing }.at(self.view)
    }

    /// Gives a memo the stamp of what was known of a cell when its value is the same.
    fn stamped(&self, cell: &CellId, memo: Memo) -> Memo {
        let known = self.deriver.memos.get(cell).filter(|known| known.run.value == memo.run.value);
        let stamp = known.map_or_else(|| 1 + self.deriver.stamp.fetch_add(1, Ordering::Relaxed), |known| known.stamp);
        Memo { stamp, ..memo }
    }

    /// Lets others run when much was looked at, and counts one step more.
    async fn pause(&mut self) {
        if self.looked > STEP_BYTES {
            self.looked = 0;
            breathe().await;
        }
        self.looked += 1_024;
    }

    async fn step(&mut self, top: usize) -> Next {
        self.pause().await;
        if self.view.snapshot.is_lost() {
            return Next::Lost;
        }
        self.fuel += cost::DERIVE_STEP;
        if self.stack[top].why != Why::Look
            && let Some(over) = self.over()
        {
            let cell = self.stack[top].cell.clone();
            return Next::Ready(self.passing(&cell, over));
        }
        let frame = &mut self.stack[top];
        match std::mem::replace(&mut frame.step, Step::Run) {
            Step::Look => match self.deriver.memos.get(&frame.cell) {
                None => Next::Step(Step::Run),
                Some(memo) if memo.holds(self.view) => Next::Ready(memo.still(self.view)),
                // It has no reads of its own to walk along: those of all members are below it.
                Some(memo) if matches!(memo.run.value, Err(Underivable::Cycle(_))) => Next::Step(Step::Run),
                Some(memo) => {
                    frame.last = Some(memo.run.clone());
                    self.held += memo.run.bytes;
                    let cell = frame.cell.clone();
                    let may_hold = self.may_hold(&cell, &memo);
                    Next::Step(if may_hold { Step::Check(memo, 0) } else { Step::Prepare(memo, 0) })
                }
            },
            Step::Check(memo, mut next) => loop {
                let Some(kept) = memo.run.reads.get(next) else { return Next::Ready(memo.at(self.view)) };
                match kept.is_same(self.view).await {
                    Some(true) => {
                        next += 1;
                        self.looked += kept.bytes();
                        self.fuel += cost::CELL + cost::copied(kept.bytes());
                        if self.looked > STEP_BYTES {
                            return Next::Step(Step::Check(memo, next));
                        }
                    }
                    Some(false) => return Next::Step(Step::Prepare(memo, next)),
                    None => {
                        let cell = kept.cell.clone();
                        let frame = &mut self.stack[top];
                        frame.step = Step::Check(memo, next);
                        // What it looks at for sure is as sure as it is itself.
                        return Next::Needs(cell, if frame.why == Why::Look { Why::Look } else { Why::Read });
                    }
                }
            },
            Step::Prepare(..) | Step::Run if self.stack[top].why == Why::Look => Next::Leave,
            Step::Prepare(memo, mut next) => {
                while let Some(kept) = memo.run.reads.get(next) {
                    next += 1;
                    if self.is_to_prepare(top, kept) {
                        let cell = kept.cell.clone();
                        self.stack[top].step = Step::Prepare(memo, next);
                        return Next::Needs(cell, Why::Look);
                    }
                }
                Next::Step(Step::Run)
            }
            Step::Run => {
                while let Some(cell) = self.stack[top].ahead.pop() {
                    if !self.view.memos.contains_key(&cell) && !self.places.contains_key(&cell) {
                        return Next::Needs(cell, Why::Ahead);
                    }
                }
                self.run(top).await
            }
        }
    }

    /// Returns whether the cell at that place may be what its memo says, as far as rights and components go.
    fn may_hold(&self, cell: &CellId, memo: &Memo) -> bool {
        let directory = &self.view.directory;
        let may_read = |kept: &Kept| {
            let (owner, name) = (&kept.cell.owner, &kept.cell.name);
            if matches!(kept.kind, Kind::Names(..)) {
                return directory.may_list(&cell.owner, owner, name);
            }
            let is_derived = directory.derivation(owner, name).is_some();
            is_derived == kept.is_derived() && directory.may_read(&cell.owner, owner, name)
        };
        memo.directory == directory.number()
            || (!memo.run.saw_directory
                && memo.run.component == self.component(&cell.owner)
                && memo.run.reads.iter().all(may_read))
    }

    /// Returns whether a cell that the last run has read is worth being made ready for the next.
    fn is_to_prepare(&self, top: usize, kept: &Kept) -> bool {
        let (cell, directory) = (&kept.cell, &self.view.directory);
        kept.is_derived()
            && !self.view.memos.contains_key(cell)
            && !self.places.contains_key(cell)
            && directory.derivation(&cell.owner, &cell.name).is_some()
            && directory.may_read(&self.stack[top].cell.owner, &cell.owner, &cell.name)
    }

    /// Runs the derivation of the cell at that place.
    async fn run(&mut self, top: usize) -> Next {
        let (cell, deriver) = (self.stack[top].cell.clone(), self.deriver);
        let failed = |why: &str| Underivable::Failed { cell: cell.clone(), message: why.into() };
        let directory = &self.view.directory;
        let declared = directory.derived(&cell.owner, &cell.name).map(|(_, declared)| declared.shape.clone());
        let (Some(shape), Some(installed)) = (declared, deriver.charms.get(&cell.owner)) else {
            return Next::Ready(self.passing(&cell, failed("its charm does not derive it any more")));
        };
        // Another component was installed since the view was taken: its shapes are not those of the view.
        if directory.get(&cell.owner).is_none_or(|entry| !Arc::ptr_eq(&entry.descriptor, &installed.loaded.descriptor))
        {
            self.view.is_outdated = true;
            return Next::Ready(self.passing(&cell, failed("another component of its charm is being installed")));
        }
        if deriver.guests.is_held(&installed.loaded) {
            let why = "processes have died under its component: charm resume lets it run again";
            return Next::Ready(self.passing(&cell, failed(why)));
        }
        let memos = std::mem::take(&mut self.view.memos);
        let view = View { memos, bytes: self.view.bytes, ..self.view.again(self.view.overlay.clone()) };
        let mint = deriver.committer.mint().clone();
        let tx = Transaction::derive(cell.owner, view, deriver.committer.limits().clone(), mint);
        let ended = deriver.guests.derive(&installed.loaded, Box::new(tx), &cell.name, &shape).await;
        self.fuel += ended.fuel;
        let Some(tx) = ended.tx else { return Next::Lost };
        let (mut reads, view, needs, saw_directory) = tx.into_reads();
        self.view.memos = view.memos;
        self.view.bytes = view.bytes;
        let Some(value) = ended.value else {
            deriver.restarts.fetch_add(1, Ordering::Relaxed);
            let frame = &mut self.stack[top];
            self.held -= frame.held();
            frame.reads = reads;
            self.held += frame.held();
            // Of several that are asked for at once the first is read for sure.
            let Some(first) = needs.first().cloned() else { return Next::Lost };
            self.stack[top].ahead = needs;
            self.foresee(top, &first);
            return Next::Needs(first, Why::Read);
        };
        for kept in &mut reads {
            kept.look(self.view).await;
        }
        deriver.runs.fetch_add(1, Ordering::Relaxed);
        // A member of a cycle is what all of them are, also when another one was asked first.
        let is_own = |memo: &&Memo| match &memo.run.value {
            Err(Underivable::Cycle(members)) => members.binary_search(&cell).is_ok(),
            _ => false,
        };
        let derived = reads.iter().filter(|kept| kept.is_derived()).filter_map(|kept| self.view.memos.get(&kept.cell));
        if let Some(cycle) = derived.into_iter().find(is_own).cloned() {
            return Next::Ready(self.stamped(&cell, cycle));
        }
        self.fuel += cost::copied(value.as_ref().map_or(0, Tree::len));
        let value = value.map_err(|message| failed(&message));
        let component = installed.loaded.hash;
        let run = Run { saw_directory, is_passing: ended.is_passing, ..Run::new(value, reads, component) };
        Next::Ready(self.memo(&cell, run))
    }

    /// Adds what the last run read after this cell to what is made ready with it.
    fn foresee(&mut self, top: usize, cell: &CellId) {
        let Some(last) = self.stack[top].last.clone() else { return };
        let Some(place) = last.reads.iter().position(|kept| kept.cell == *cell) else { return };
        let count = (1 << self.stack[top].restarts.min(20)) - 1;
        self.stack[top].restarts += 1;
        let follow = last.reads[place + 1..].iter().filter(|kept| self.is_to_prepare(top, kept)).take(count);
        let follow: Vec<CellId> = follow.map(|kept| kept.cell.clone()).collect();
        self.stack[top].ahead.extend(follow);
    }

    /// Returns the memo of what holds for this reader alone: nothing was computed.
    fn passing(&self, cell: &CellId, why: Underivable) -> Memo {
        let component = self.component(&cell.owner);
        self.memo(cell, Run { is_passing: true, ..Run::new(Err(why), Vec::new(), component) })
    }
}
