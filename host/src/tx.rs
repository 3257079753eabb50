//! One transaction: a consistent snapshot to read, one writer, and what the turn has staged (T1-T4).
//!
//! A transaction is bound before the guest starts to the DID of the charm whose handler runs. Nothing in it
//! can be redirected: a write for any other DID is refused and leaves the transaction as it was. It becomes
//! real only through [`Committer::commit`], or is dropped and leaves nothing.

mod committer;
mod conflict;
mod read_set;
mod refusal;
mod staged;
mod unavailable;
mod versions;

use std::{collections::BTreeMap, sync::Arc};

pub use committer::{
    Accepted, Begun, Committer, Failure, Gone, Installs, Keep, Mark, NoPlace, Noted, Notice, Part, Place, Present,
    Refused, Seen, Told, Topic, Unanswered, Watched,
};
#[cfg(test)]
pub use conflict::Conflict;
pub use conflict::{Cause, Tries};
pub use refusal::Refusal;
pub use unavailable::Unavailable;
pub use versions::{Version, Versions};

use crate::{
    cell::{CellId, check_name},
    cost,
    descriptor::Descriptor,
    did::Did,
    directory::{Directory, NearMiss, Offers, Wanted},
    event::{Event, EventId, Mint, OnCommit},
    limits::{
        Limits, NEAR_MISSES_MAX, PATH_BYTES_MAX, PATH_SEGMENTS_MAX, SHAPE_STEPS_MAX, VALUE_DEPTH_MAX, WAIT_EVENTS_MAX,
    },
    log_share::LogShare,
    meter::{Amount, Room, Sender},
    path::Path,
    record::{Progress, Until, WaitFor},
    rows::Queued,
    value::{Found, Tree, Value},
};
use read_set::ReadSet;
use staged::{Next, Staged, Written};
use versions::Snapshot;

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
    snapshot: Snapshot,
    reads: ReadSet,
    reads_count: usize,
    /// Cells of the writer that the turn has written.
    writes: BTreeMap<Arc<str>, Staged>,
    /// The same in the end.
    written: BTreeMap<Arc<str>, Written>,
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
    /// What the turn waits for: it ends with that.
    wait: Option<WaitFor>,
    /// After how long it is tried again, in milliseconds: it ends with that.
    retry: Option<u64>,
    /// Events that the turn has sent in its segments before, and how many those are.
    first: usize,
    segments: usize,
    /// How often it was tried again; none when it is not under way.
    retries: Option<u32>,
    directory: Arc<Directory>,
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
    /// Begins the transaction of one turn, with the rights of `directory`. One that `waits_for_room` ends where it finds none (S12).
    pub fn begin(
        committer: &Committer,
        directory: Arc<Directory>,
        queued: &Queued,
        waits_for_room: bool,
        progress: Option<&Progress>,
    ) -> Transaction {
        Transaction {
            writer: queued.event.to,
            snapshot: committer.versions().snapshot(),
            reads: ReadSet::default(),
            reads_count: 0,
            writes: BTreeMap::new(),
            written: BTreeMap::new(),
            writes_count: 0,
            write_bytes: 0,
            sends: Vec::new(),
            withdrawn: Vec::new(),
            send_bytes: 0,
            staged: BTreeMap::new(),
            waits_for_room,
            room: None,
            wait: None,
            retry: None,
            first: progress.map_or(0, |progress| progress.sends as usize),
            segments: progress.map_or(0, |progress| progress.segments as usize),
            retries: progress.map(|progress| progress.retries),
            directory,
            limits: committer.limits().clone(),
            mint: committer.mint().clone(),
            position: queued.position,
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
        self.directory.get(&self.writer).map(|entry| entry.log.clone())
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
        self.snapshot = self.snapshot.renewed();
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
    fn check_place(&self) -> Result<(), Refusal> {
        let inbox = self.directory.inbox(&self.writer).filter(|_| self.retries.is_none());
        match inbox.is_some_and(|inbox| !inbox.may_set_out(&self.limits)) {
            true => Err(Refusal::limit("waiting-turns-max", self.limits.waiting_turns_max)),
            false => Ok(()),
        }
    }

    /// Returns the last commit that its snapshot shows.
    pub fn snapshot_g(&self) -> u64 {
        self.snapshot.order()
    }

    /// Returns whether its snapshot was given back (`old-versions-bytes-max`): the turn has to run again, whatever the
    /// guest made of what it saw since.
    pub fn is_lost(&self) -> bool {
        self.snapshot.is_lost()
    }

    /// Returns what its calls have cost since this was last asked, in fuel.
    pub fn take_cost(&mut self) -> u64 {
        std::mem::take(&mut self.cost)
    }

    /// Reads at a path: own writes first, else the snapshot, adding to the read set.
    ///
    /// # Errors
    /// `Denied`, `TypeMismatch`, `Limit`.
    pub fn get(&mut self, cell: &CellId, path: &Path) -> Result<Option<Vec<u8>>, Refusal> {
        self.cost += cost::CELL;
        check_path(path)?;
        if !self.directory.may_read(&self.writer, &cell.owner, &cell.name) {
            return Err(Refusal::Denied { owner: cell.owner, name: cell.name.to_string() });
        }
        let value = match self.writes.get(&cell.name) {
            Some(staged) if cell.owner == self.writer => staged.value().cloned(),
            _ => self.observe(cell, path)?,
        };
        let Some(value) = value else { return Ok(None) };
        // The commit may have to look for it again.
        self.cost += 2 * cost::searched(value.len(), path.0.len());
        let found = value.find(&path.0)?.map(Found::to_vec);
        self.cost += cost::copied(found.as_ref().map_or(0, Vec::len));
        Ok(found)
    }

    /// Stages a write at a path.
    ///
    /// # Errors
    /// `WriteIsolation` for a cell of another DID (T2), `TypeMismatch`, `Invalid`, `Limit`.
    pub fn set(&mut self, cell: &CellId, path: &Path, bytes: &[u8]) -> Result<(), Refusal> {
        self.cost += cost::CELL + cost::copied(bytes.len());
        self.check_writer(cell)?;
        check_path(path)?;
        let max = self.limits.value_bytes_max;
        self.cost += cost::scanned(bytes.len().min(max));
        // Whatever is beside it was checked: the whole is no deeper than it may be.
        let depth = VALUE_DEPTH_MAX - path.0.len();
        let value =
            Value::from_bytes(bytes, max, depth).map_err(|error| Refusal::value(error, "value-bytes-max", max))?;
        self.change(cell, path, |staged| Ok(staged.put(&path.0, &value)?))
    }

    /// Stages a removal at a path; of the whole cell when it is empty.
    ///
    /// # Errors
    /// As `set`.
    pub fn remove(&mut self, cell: &CellId, path: &Path) -> Result<(), Refusal> {
        self.cost += cost::CELL;
        self.check_writer(cell)?;
        check_path(path)?;
        self.change(cell, path, |staged| Ok(staged.remove(&path.0)?))
    }

    /// Stages an event; returns its id.
    ///
    /// # Errors
    /// `TypeMismatch`, `Invalid`, `Limit`, `QueueFull`, `NoSuchStream` for an unknown on-commit stream.
    pub fn send(
        &mut self,
        to: Did,
        stream: &Arc<str>,
        payload: &[u8],
        on_commit: Option<(&str, &[u8])>,
        times: Times,
    ) -> Result<EventId, Refusal> {
        let tag_bytes = on_commit.map_or(0, |(_, tag)| tag.len());
        self.cost += cost::SEND + cost::copied(payload.len() + tag_bytes);
        self.check_sends()?;
        let Times { deliver_after, expires_at } = times;
        if expires_at.is_some_and(|expires_at| expires_at <= deliver_after.unwrap_or(0)) {
            return Err(Refusal::Invalid("expires-at is not after deliver-after: it would never begin".to_owned()));
        }
        let max = self.limits.event_bytes_max;
        let looked_at = payload.len().min(max) + tag_bytes.min(self.limits.tag_bytes_max);
        self.cost += cost::scanned(looked_at) + cost::kept(looked_at);
        let payload = Value::from_bytes(payload, max, VALUE_DEPTH_MAX)
            .map_err(|error| Refusal::value(error, "event-bytes-max", max))?;
        let on_commit = on_commit.map(|(stream, tag)| self.on_commit(stream, tag)).transpose()?;
        let bytes = payload.as_bytes().len();
        let carried =
            self.send_bytes + bytes + on_commit.as_ref().map_or(0, |on_commit| on_commit.tag.as_bytes().len());
        if carried > self.limits.send_bytes_max {
            return Err(Refusal::limit("send-bytes-max", self.limits.send_bytes_max));
        }
        let deliver = self.directory.deliver(&self.writer, &to, stream);
        let fits = deliver.ok().flatten().map_or(0, |(_, offer)| offer);
        if let Ok(Some((shape, _))) = deliver {
            let mut steps = SHAPE_STEPS_MAX;
            let checked = shape.check_within(&payload, &mut steps);
            self.cost += u64::from(SHAPE_STEPS_MAX - steps) * cost::SHAPE_STEP;
            checked?;
        }
        // A send that will be refused takes no room, and learns nothing about the receiver.
        let goes = deliver.is_ok();
        // What is delayed takes room of its sender (S10).
        let inbox = if deliver_after.is_some() { self.writer } else { to };
        if goes {
            self.reserve(inbox, bytes)?;
        }
        if on_commit.is_some()
            && let Err(full) = self.reserve(self.writer, 0)
        {
            if goes {
                self.release(inbox, bytes);
            }
            return Err(full);
        }
        let id = self.mint.send(self.position, self.first + self.sends.len());
        let event = Event {
            id,
            sender: self.writer,
            to,
            stream: stream.clone(),
            payload,
            on_commit,
            receipt_of: None,
            supplied: false,
            awaited: false,
            deliver_after,
            expires_at,
        };
        self.sends.push((event, fits));
        self.send_bytes = carried;
        Ok(id)
    }

    /// Stages that an event which its charm sent is withdrawn.
    ///
    /// # Errors
    /// `Limit`.
    pub fn cancel(&mut self, event: EventId) -> Result<(), Refusal> {
        self.cost += cost::SEND;
        self.check_sends()?;
        self.withdrawn.push(event);
        Ok(())
    }

    fn check_sends(&self) -> Result<(), Refusal> {
        let max = self.limits.sends_max;
        let is_full = self.first + self.sends.len() + self.withdrawn.len() >= max;
        if is_full { Err(Refusal::limit("sends-max", max)) } else { Ok(()) }
    }

    /// Finds charms by tag, shape and DID (D7): at most `max` after `after`. The one place that asks the directory.
    pub fn wish(&mut self, wanted: &Wanted<'_>, after: Option<Did>, max: usize) -> Offers {
        let mut offers = self.directory.wish(&self.writer, wanted, after, max, &mut self.cost);
        let finds_nobody = after.is_none() && offers.next.is_none() && offers.owners.is_empty();
        if finds_nobody && !std::mem::replace(&mut self.has_looked, true) {
            offers.misses.extend(self.directory.ungranted(&self.writer, wanted));
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
        }
    }

    /// Checks that what the turn leaves written in a cell fits its declared shape, where it was written: what is wrong, as the
    /// text of a fault, and what the check has cost.
    pub fn check_written(&self, name: &str) -> (Result<(), String>, u64) {
        let declared = self.directory.get(&self.writer).and_then(|entry| entry.descriptor.cells.get(name));
        let shape = declared.map(|declared| &declared.shape);
        let Some(written) = self.written.get(name) else { return (Ok(()), 0) };
        let Some(after) = &written.after else { return (Ok(()), 0) };
        let Some(shape) = shape else {
            // What no component declares is the charm's own.
            let is_gone = self.outlived.as_ref().is_some_and(|before| before.cells.contains_key(name));
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
        if cell.owner == self.writer {
            Ok(())
        } else {
            Err(Refusal::WriteIsolation { requested: cell.owner, open: self.writer })
        }
    }

    /// Reads from the snapshot, adding to the read set.
    fn observe(&mut self, cell: &CellId, path: &Path) -> Result<Option<Tree>, Refusal> {
        if self.reads_count >= self.limits.reads_max {
            return Err(Refusal::limit("reads-max", self.limits.reads_max));
        }
        self.reads_count += 1;
        Ok(self.reads.read(&self.snapshot, cell, path))
    }

    /// Stages what `decide` makes of the writer's cell, if it changes anything. What a write at a path finds there is a read.
    fn change(
        &mut self,
        cell: &CellId,
        path: &Path,
        decide: impl FnOnce(&Staged) -> Result<Option<Next>, Refusal>,
    ) -> Result<(), Refusal> {
        let fresh = match self.writes.get(&cell.name) {
            Some(_) => None,
            None if path.is_root() => Some(self.snapshot.read(cell).and_then(|version| version.value)),
            None => Some(self.observe(cell, path)?),
        };
        let fresh = fresh.map(Staged::new);
        let Some(staged) = fresh.as_ref().or_else(|| self.writes.get(&cell.name)) else { return Ok(()) };
        self.cost += 3 * cost::searched(staged.value().map_or(0, Tree::len), path.0.len());
        let Some(next) = decide(staged)? else { return Ok(()) };
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

    fn on_commit(&self, stream: &str, tag: &[u8]) -> Result<OnCommit, Refusal> {
        let max = self.limits.tag_bytes_max;
        let tag = Value::from_bytes(tag, max, VALUE_DEPTH_MAX - 2)
            .map_err(|error| Refusal::value(error, "tag-bytes-max", max))?;
        let own = self.directory.get(&self.writer);
        if own.and_then(|entry| entry.descriptor.streams.get(stream)).is_some_and(|declared| declared.receipts) {
            Ok(OnCommit { stream: stream.into(), tag })
        } else {
            Err(Refusal::NoSuchStream { owner: self.writer, name: crate::text::clip(stream, 256).into_owned() })
        }
    }

    fn reserve(&mut self, inbox: Did, bytes: usize) -> Result<(), Refusal> {
        let staged = self.staged.get(&inbox).copied().unwrap_or_default().plus(Amount::one(bytes));
        let sender = if inbox == self.writer { Sender::Own } else { Sender::Charm(self.writer) };
        if let Some(meter) = self.directory.inbox(&inbox)
            && !meter.has_room(&sender, staged, &self.limits)
        {
            if self.waits_for_room && sender != Sender::Own {
                self.room = Room::wanted(meter, sender, staged, &self.limits);
            }
            return Err(Refusal::QueueFull(inbox));
        }
        self.staged.insert(inbox, staged);
        Ok(())
    }

    fn release(&mut self, inbox: Did, bytes: usize) {
        if let Some(staged) = self.staged.get_mut(&inbox) {
            *staged = staged.minus(Amount::one(bytes));
        }
    }
}

fn check_path(path: &Path) -> Result<(), Refusal> {
    if path.0.len() >= PATH_SEGMENTS_MAX {
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
    check_name(name).map_err(Refusal::Invalid)?;
    Ok(name.into())
}
