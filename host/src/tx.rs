//! One transaction: a consistent snapshot to read, one writer, and what the turn has staged (T1-T4).
//!
//! A transaction is bound before the guest starts to the DID of the charm whose handler runs. Nothing in it
//! can be redirected: a write for any other DID is refused and leaves the transaction as it was. It becomes
//! real only through [`Committer::commit`], or is dropped and leaves nothing.

mod committer;
mod conflict;
mod derived;
mod follow;
mod leaves;
mod listing;
mod memo;
mod range;
mod read_set;
mod refusal;
mod sends;
mod staged;
mod unavailable;
mod versions;
mod write;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

pub use committer::{
    Accepted, Begun, Committer, Derive, Failure, Gone, Installing, Keep, Mark, NoPlace, NotInstalled, Noted, Notice,
    Part, Place, Present, Refused, Seen, Told, Topic, Unanswered, Watched,
};
#[cfg(test)]
pub use conflict::Conflict;
pub use conflict::{Cause, Tries};
pub use leaves::Leaves;
pub use listing::Span;
use memo::Proved;
pub use memo::{Below, FILTERS_PART, Kept, Kind, Known, Memo, Run, Underivable, View, Views};
pub use range::Range;
pub use refusal::Refusal;
pub use unavailable::Unavailable;
pub use versions::{Version, Versions};

use crate::{
    cell::{CellId, check_address},
    cost,
    descriptor::Descriptor,
    did::Did,
    directory::{NearMiss, Offers, Wanted},
    event::{Event, EventId, Mint},
    limits::{Limits, NEAR_MISSES_MAX, PATH_BYTES_MAX, PATH_SEGMENTS_MAX, SHAPE_STEPS_MAX, WAIT_EVENTS_MAX},
    log_share::LogShare,
    meter::{Amount, Room},
    path::Path,
    record::{Progress, Until, WaitFor},
    rows::Queued,
    value::{Found, Tree},
};
use read_set::ReadSet;
use sends::Answers;
use staged::{Staged, Written};

/// When an event may begin, in milliseconds since 1970 (S10).
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Not before this.
    pub deliver_after: Option<u64>,
    /// Only before this.
    pub expires_at: Option<u64>,
}

/// What a turn reads and stages between begin and commit.
pub struct Transaction {
    /// The one DID that it writes for (T1).
    writer: Did,
    /// What it sees but for its own writes.
    view: View,
    /// The same with its own writes, by their number: for derived cells that hang on them.
    staged_views: BTreeMap<usize, View>,
    /// Derived cells that have to be made ready before it goes on, in the view with so many writes: the attempt is over.
    needs: Option<(usize, Vec<CellId>)>,
    /// It goes on with the views of an attempt before.
    keeps_view: bool,
    /// Where each derived read was last found to hold: see `committer/derived.rs`.
    proved: Option<Proved>,
    reads: ReadSet,
    reads_count: usize,
    /// Its charm derives a cell: it only reads (D1).
    is_pure: bool,
    /// Whether it was told who is there, or that it may not read a cell.
    saw_directory: bool,
    /// Whether its charm derives any cell.
    derives: bool,
    /// Cells of the writer that the turn has written.
    writes: BTreeMap<Arc<str>, Staged>,
    /// The same in the end.
    written: BTreeMap<Arc<str>, Written>,
    /// Those of them that are as they were in the end.
    put_back: Vec<Arc<str>>,
    /// Derived cells that were read as they are stored when something was written that they did not hang on.
    read_beside: HashSet<CellId>,
    writes_count: usize,
    write_bytes: usize,
    /// Each with the descriptor that it was checked against.
    sends: Vec<(Event, u64)>,
    /// Events sent before that it withdraws.
    withdrawn: Vec<EventId>,
    send_bytes: usize,
    /// What is staged for each inbox, receipts to come included.
    staged: BTreeMap<Did, Amount>,
    /// Whether a full inbox ends the attempt; else it is an error that the guest sees.
    waits_for_room: bool,
    /// Room that it needs to go on.
    room: Option<Room>,
    answers: Answers,
    /// What the turn waits for: it ends with that.
    wait: Option<WaitFor>,
    /// After how long it is tried again, in milliseconds: it ends with that.
    retry: Option<u64>,
    /// Events that the turn has sent in its segments before, and how many those are.
    first: usize,
    segments: usize,
    /// How often it was tried again; none when it is not under way.
    retries: Option<u32>,
    limits: Arc<Limits>,
    mint: Arc<Mint>,
    /// Position of the event that this turn handles: ids of its sends derive from it.
    position: u64,
    /// What the component that runs says of itself, when another is installed.
    outlived: Option<Arc<Descriptor>>,
    /// What its calls have cost since that was last asked.
    cost: u64,
    /// Charms that its wishes nearly found, and whether it was looked for those of whom nothing is granted.
    misses: Vec<NearMiss>,
    has_looked: bool,
}

impl Transaction {
    /// Begins the transaction of one turn. One that `waits_for_room` ends where it finds none (S12).
    pub fn begin(
        committer: &Committer,
        views: Views,
        queued: &Queued,
        waits_for_room: bool,
        progress: Option<&Progress>,
    ) -> Transaction {
        let Views { view, staged, keeps, answers } = views;
        Transaction {
            answers: Answers::again(answers),
            staged_views: staged,
            keeps_view: keeps,
            waits_for_room,
            first: progress.map_or(0, |progress| progress.sends as usize),
            segments: progress.map_or(0, |progress| progress.segments as usize),
            retries: progress.map(|progress| progress.retries),
            position: queued.position,
            ..Transaction::new(queued.event.to, view, committer.limits().clone(), committer.mint().clone())
        }
    }

    /// Begins the transaction in which a charm derives a cell: it only reads, with the rights of that charm (D1).
    pub fn derive(charm: Did, view: View, limits: Arc<Limits>, mint: Arc<Mint>) -> Transaction {
        Transaction { reads: ReadSet::in_order(), is_pure: true, ..Transaction::new(charm, view, limits, mint) }
    }

    fn new(writer: Did, view: View, limits: Arc<Limits>, mint: Arc<Mint>) -> Transaction {
        let derives = view.directory.get(&writer).is_some_and(|entry| entry.descriptor.derives);
        Transaction {
            writer,
            view,
            staged_views: BTreeMap::new(),
            needs: None,
            keeps_view: false,
            proved: None,
            reads: ReadSet::default(),
            reads_count: 0,
            is_pure: false,
            saw_directory: false,
            derives,
            writes: BTreeMap::new(),
            written: BTreeMap::new(),
            put_back: Vec::new(),
            read_beside: HashSet::new(),
            writes_count: 0,
            write_bytes: 0,
            sends: Vec::new(),
            withdrawn: Vec::new(),
            send_bytes: 0,
            staged: BTreeMap::new(),
            waits_for_room: false,
            room: None,
            answers: Answers::default(),
            wait: None,
            retry: None,
            first: 0,
            segments: 0,
            retries: None,
            limits,
            mint,
            position: 0,
            outlived: None,
            cost: 0,
            misses: Vec::new(),
            has_looked: false,
        }
    }

    /// Another component is installed than runs, which says that of itself.
    pub fn outlive(&mut self, descriptor: Arc<Descriptor>) {
        self.outlived = Some(descriptor);
    }

    /// Returns the DID that it writes for.
    pub fn writer(&self) -> Did {
        self.writer
    }

    /// Returns the seed of the turn that handles that event.
    pub fn seed(&self, event: &EventId) -> u64 {
        self.mint.seed(event)
    }

    /// Returns what its charm may log.
    pub fn log_share(&self) -> Option<Arc<LogShare>> {
        self.view.directory.get(&self.writer).map(|entry| entry.log.clone())
    }

    /// Returns the room that it needs to go on; with some, the attempt is over.
    pub fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    /// Returns whether it ends with a wait.
    pub fn waits(&self) -> bool {
        self.wait.is_some()
    }

    /// Returns what it waits for.
    pub fn take_wait(&mut self) -> Option<WaitFor> {
        self.wait.take()
    }

    /// Reads what is committed now: nothing has been read before.
    pub fn renew(&mut self) {
        if !self.keeps_view {
            self.view.snapshot = self.view.snapshot.renewed();
            self.view.memos.clear();
        }
    }

    /// Returns after how long the turn is to be tried again; with some, the attempt is over.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// Ends the turn's attempt: it is tried again after so many milliseconds (S13).
    ///
    /// # Errors
    /// `Limit`.
    pub fn retry_after(&mut self, after_ms: u64) -> Result<(), Refusal> {
        self.check_pure("retries.retry-after")?;
        let limits = &self.limits;
        if after_ms > limits.wait_ms_max {
            return Err(Refusal::limit("wait-ms-max", limits.wait_ms_max as usize));
        }
        if self.retries.unwrap_or(0) as usize >= limits.retries_max {
            return Err(Refusal::limit("retries-max", limits.retries_max));
        }
        self.check_place()?;
        self.retry = Some(after_ms);
        Ok(())
    }

    /// Ends with a wait, for events that the turn has sent, for time or for the answer to a request. `over` says that too much was recorded.
    ///
    /// # Errors
    /// `Invalid`, `Limit`.
    pub fn wait(&mut self, wait: WaitFor, over: bool) -> Result<(), Refusal> {
        let limits = &self.limits;
        if wait.events.is_empty() && !matches!(wait.until, Until::Time | Until::Exchange) {
            return Err(Refusal::Invalid("no event to wait for".to_owned()));
        }
        let bounds = [
            (wait.events.len() > WAIT_EVENTS_MAX, "wait-events-max", WAIT_EVENTS_MAX),
            (
                wait.timeout_ms > limits.wait_ms_max && wait.until != Until::Exchange,
                "wait-ms-max",
                limits.wait_ms_max as usize,
            ),
            (self.segments >= limits.waits_max, "waits-max", limits.waits_max),
            (over, "recording-bytes-max", limits.recording_bytes_max),
        ];
        for (is_over, name, max) in bounds {
            if is_over {
                return Err(Refusal::limit(name, max));
            }
        }
        self.check_place()?;
        let sent = self.first + self.sends.len();
        for event in &wait.events {
            let (position, number) = event.sent_by();
            let number = usize::from(number);
            if position != self.position || number >= sent || self.mint.send(position, number) != *event {
                return Err(Refusal::Invalid(format!("event {event} to wait for: this turn did not send it")));
            }
        }
        // Who waits for it is told of a rejection (S11).
        for event in &wait.events {
            if let Some((sent, _)) =
                usize::from(event.sent_by().1).checked_sub(self.first).and_then(|n| self.sends.get_mut(n))
            {
                sent.awaited = true;
            }
        }
        self.wait = Some(wait);
        Ok(())
    }

    /// Checks that the turn may be under way, or is.
    fn check_place(&mut self) -> Result<(), Refusal> {
        let inbox = self.view.directory.inbox(&self.writer).filter(|_| self.retries.is_none());
        match self.answers.tell(|| inbox.is_none_or(|inbox| inbox.may_set_out(&self.limits))) {
            true => Ok(()),
            false => Err(Refusal::limit("waiting-turns-max", self.limits.waiting_turns_max)),
        }
    }

    /// Returns the last commit that its snapshot shows.
    pub fn snapshot_g(&self) -> u64 {
        self.view.snapshot.order()
    }

    /// Returns whether its snapshot was given back (`old-versions-bytes-max`): the turn has to run again, whatever the
    /// guest made of what it saw since.
    pub fn is_lost(&self) -> bool {
        self.view.snapshot.is_lost()
    }

    /// Returns what its calls have cost since this was last asked, in fuel.
    pub fn take_cost(&mut self) -> u64 {
        std::mem::take(&mut self.cost)
    }

    /// Reads at a path, also through links: own writes first, else the snapshot, adding to the read set. A derived cell that is
    /// not ready ends the attempt: see [`Transaction::needs_more`].
    ///
    /// # Errors
    /// `Denied`, `TypeMismatch`, `Limit`, `Cycle`; of a derived cell `Failed`.
    pub fn get(&mut self, cell: &CellId, path: &Path) -> Result<Option<Vec<u8>>, Refusal> {
        self.follow(cell, path, |tx, cell, path| tx.get_here(cell, path))
    }

    fn get_here(&mut self, cell: &CellId, path: &Path) -> Result<Option<Vec<u8>>, Refusal> {
        self.cost += cost::CELL;
        check_path(path)?;
        let Some(value) = self.seen(cell, path)? else { return Ok(None) };
        // The commit may have to look for it again.
        self.cost += 2 * cost::searched(value.len(), path.0.len());
        let found = value.find(&path.0)?.map(Found::to_vec);
        self.cost += cost::copied(found.as_ref().map_or(0, Vec::len));
        Ok(found)
    }

    /// Finds charms by tag, shape and DID (D7): at most `max` after `after`. The one place that asks the directory.
    pub fn wish(&mut self, wanted: &Wanted<'_>, after: Option<Did>, max: usize) -> Offers {
        self.saw_directory = true;
        let mut offers = self.view.directory.wish(&self.writer, wanted, after, max, &mut self.cost);
        let finds_nobody = after.is_none() && offers.next.is_none() && offers.owners.is_empty();
        if finds_nobody && !std::mem::replace(&mut self.has_looked, true) {
            offers.misses.extend(self.view.directory.ungranted(&self.writer, wanted));
        }
        let room = NEAR_MISSES_MAX.saturating_sub(self.misses.len());
        self.misses.extend(offers.misses.iter().take(room).cloned());
        offers
    }

    /// Returns the charms that its wishes nearly found, for a person: `NEAR_MISSES_MAX` of them at most.
    pub fn take_misses(&mut self) -> Vec<NearMiss> {
        std::mem::take(&mut self.misses)
    }

    /// Ends the writing of the next cell, in the order of names: returns it and what its edits carry, in bytes. A cell that ends
    /// as it began is none (C4).
    pub fn finish_next(&mut self) -> Option<(Arc<str>, usize)> {
        loop {
            let (name, staged) = self.writes.pop_first()?;
            let (bytes, written) = (staged.bytes(), staged.finish());
            if !written.edits.is_empty() {
                self.written.insert(name.clone(), written);
                return Some((name, bytes));
            }
            self.put_back.push(name);
        }
    }

    /// Checks that what the turn leaves written in a cell fits its declared shape, where it was written: what is wrong, as the
    /// text of a fault, and what the check has cost.
    pub fn check_written(&self, name: &str) -> (Result<(), String>, u64) {
        let declared = self.view.directory.get(&self.writer).and_then(|entry| entry.descriptor.cell(name));
        let shape = declared.map(|declared| &declared.shape);
        let Some(written) = self.written.get(name) else { return (Ok(()), 0) };
        let Some(after) = &written.after else { return (Ok(()), 0) };
        let Some(shape) = shape else {
            // What no component declares is the charm's own.
            let is_gone = self.outlived.as_ref().is_some_and(|before| before.cell(name).is_some());
            let why = || format!("cell {name} is not declared by the component that is installed now");
            return (if is_gone { Err(why()) } else { Ok(()) }, 0);
        };
        let mut steps = SHAPE_STEPS_MAX;
        let checked = shape
            .check_edits(after, &written.edits, written.is_moved, &mut steps)
            .map_err(|mismatch| format!("cell {name} does not fit its declared shape: {mismatch}"));
        (checked, u64::from(SHAPE_STEPS_MAX - steps) * cost::SHAPE_STEP)
    }

    fn check_writer(&self, cell: &CellId) -> Result<(), Refusal> {
        self.check_pure("cells.set")?;
        if self.is_derived(cell)
            && let Some(derivation) = self.view.directory.derivation(&cell.owner, &cell.name)
        {
            let (name, derivation) = (cell.name.to_string(), derivation.to_owned());
            return Err(Refusal::ReadOnly { owner: cell.owner, name, derivation });
        }
        if cell.owner == self.writer {
            Ok(())
        } else {
            Err(Refusal::WriteIsolation { requested: cell.owner, open: self.writer })
        }
    }

    /// Reads from the snapshot, adding to the read set.
    fn observe(&mut self, cell: &CellId, path: &Path) -> Result<Option<Tree>, Refusal> {
        self.check_reads()?;
        Ok(self.read(cell, path))
    }

    /// Returns the value of a cell that is not derived, adding to the read set.
    fn read(&mut self, cell: &CellId, path: &Path) -> Option<Tree> {
        self.reads.note(cell, path);
        self.view.read(cell).1
    }

    fn check_reads(&mut self) -> Result<(), Refusal> {
        if self.reads_count >= self.limits.reads_max {
            return Err(Refusal::limit("reads-max", self.limits.reads_max));
        }
        self.reads_count += 1;
        Ok(())
    }

    /// Returns the value of a cell that is read at a path: derived, as the turn has left it, or from the snapshot.
    fn seen(&mut self, cell: &CellId, path: &Path) -> Result<Option<Tree>, Refusal> {
        if !self.view.directory.may_read(&self.writer, &cell.owner, &cell.name) {
            self.saw_directory = true;
            return Err(Refusal::Denied { owner: cell.owner, name: cell.name.to_string() });
        }
        match self.writes.get(&cell.name) {
            _ if self.is_derived(cell) => {
                let computed = self.observe_derived(cell, path)?;
                computed.transpose().map_err(|why| why.refusal())
            }
            Some(staged) if cell.owner == self.writer => Ok(staged.value().cloned()),
            _ => self.observe(cell, path),
        }
    }
}

/// Checks a path against its bounds.
///
/// # Errors
/// `Limit`.
pub fn check_path(path: &Path) -> Result<(), Refusal> {
    check_path_below(path, 0)
}

/// Checks a path that a call goes further by so many steps.
fn check_path_below(path: &Path, below: usize) -> Result<(), Refusal> {
    if path.0.len() + below >= PATH_SEGMENTS_MAX {
        return Err(Refusal::limit("path-segments-max", PATH_SEGMENTS_MAX));
    }
    if path.bytes() > PATH_BYTES_MAX {
        return Err(Refusal::limit("path-bytes-max", PATH_BYTES_MAX));
    }
    Ok(())
}

/// Checks the name that a guest gives a cell or stream.
///
/// # Errors
/// `Invalid`.
pub fn guest_name(name: &str) -> Result<Arc<str>, Refusal> {
    check_address(name).map_err(Refusal::Invalid)?;
    Ok(name.into())
}
