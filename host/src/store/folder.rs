//! The store on disk: one folder with the journal, which is the truth, and the index, which is derived from it and behind.
//!
//! A commit is durable when the journal has it. It then stands in the tail, which every look-up asks first, until a piece of
//! work that nobody waits for ([`Store::index`]) has written it into the index. Opening reads the index and lays over it what
//! the journal has after the index's mark.
//!
//! A journal segment goes only when a checkpoint has moved and synced all of the index up to there: until then an index that
//! is older, or gone, is made again from the journal.

mod backup;
mod open;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    CellRows, Lag, Store, StoreError,
    group::{self, Group, Mark},
    index::{Index, Moved},
    lock::Lock,
    page_of,
    tail::{Numbered, Tail, overlay, overlay_cells},
};
use crate::{
    component::Component,
    did::Did,
    entry::LogEntry,
    event::EventId,
    journal::{AppendError, Journal, JournalError},
    limits::{CHECKPOINT_BYTES, INDEX_BYTES, LAG_BYTES_MAX, LAG_GROUPS_MAX},
    record::Hash,
    rows::{Batch, CellRow, DeadLetter, Image, Queued, ReceiptRow},
};

/// Checkpoints of the index until its write-ahead log is cut as well.
const CHECKPOINTS_PER_CUT: u64 = 8;

/// A store in one folder.
pub struct FolderStore {
    /// As it is shown.
    name: String,
    /// None where it is not in the file system.
    folder: Option<PathBuf>,
    /// None when it is read only.
    journal: Option<Arc<dyn Journal>>,
    index: Index,
    tail: Mutex<Tail>,
    /// None when it is read only, or closed.
    writer: Mutex<Option<Writer>>,
    /// Locked while the index is written.
    pace: Mutex<Pace>,
    /// One closes it at a time.
    closing: Mutex<()>,
}

/// What `commit` needs to know.
struct Writer {
    lock: Lock,
    /// The last commit.
    order: u64,
    spaces: HashSet<Did>,
    /// Why nothing more is written.
    failed: Option<String>,
}

/// How far the index is on disk.
#[derive(Default)]
struct Pace {
    /// Bytes written into it since the last checkpoint.
    written: usize,
    checkpoints: u64,
    /// Number of the last group that the last whole checkpoint has made durable.
    durable: u64,
}

impl FolderStore {
    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tail without what the index has: a past that has gone there does not come back. Whoever writes the index
    /// has taken it out.
    fn unindexed(&self) -> Result<MutexGuard<'_, Tail>, StoreError> {
        if self.journal.is_some() {
            return Ok(self.tail());
        }
        let mark = self.index.mark()?;
        let mut tail = self.tail();
        drop(tail.drop_upto(mark.number));
        Ok(tail)
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_writable(&self) -> StoreError {
        StoreError::Failed(format!("{}: not open for writing", self.name))
    }

    fn journal(&self) -> Result<&Arc<dyn Journal>, StoreError> {
        self.journal.as_ref().ok_or_else(|| self.not_writable())
    }

    fn journal_failed(&self, error: JournalError) -> StoreError {
        open::journal_failed(&self.name, error)
    }

    /// Makes a group durable.
    fn write(&self, secret: Option<[u8; 32]>, batch: &Batch) -> Result<(), StoreError> {
        let mut place = self.writer();
        let writer = place.as_mut().ok_or_else(|| self.not_writable())?;
        if let Some(why) = &writer.failed {
            return Err(StoreError::Failed(format!("{}: {why}", self.name)));
        }
        writer.check(batch).map_err(|why| StoreError::Failed(format!("{}: {why}", self.name)))?;
        while self.is_behind() {
            self.index()?;
        }
        let bytes = group::encode(secret.as_ref(), batch);
        let journal = self.journal()?;
        let number = match journal.append(journal.end(), &bytes) {
            Ok(number) => number,
            Err(AppendError::Full) => return Err(StoreError::Full),
            Err(error) => {
                writer.failed = Some(error.to_string());
                return Err(StoreError::Failed(format!("{}: {error}", self.name)));
            }
        };
        writer.order = batch.log.last().map_or(writer.order, |entry| entry.order);
        writer.spaces.extend(batch.spaces.iter().map(|row| row.did));
        let group = Arc::new(Group { secret, batch: batch.clone() });
        self.tail().push(Numbered { number, bytes: bytes.len(), order: writer.order, group });
        writer.lock.mark(number);
        Ok(())
    }

    /// Returns whether so much waits for the index that commits do too.
    fn is_behind(&self) -> bool {
        let tail = self.tail();
        tail.bytes() >= LAG_BYTES_MAX || tail.len() >= LAG_GROUPS_MAX
    }

    /// Makes the index durable up to `mark`, and lets go of what is not needed for it any more.
    fn checkpoint(&self, pace: &mut Pace, mark: u64, truncates: bool) -> Result<(), StoreError> {
        if self.index.checkpoint(truncates)? == Moved::All {
            // One checkpoint behind: whoever reads beside this has read the mark a moment ago. The group at the mark stays:
            // by it index and journal know each other.
            let upto = std::mem::replace(&mut pace.durable, mark).saturating_sub(1);
            (pace.written, pace.checkpoints) = (0, pace.checkpoints + 1);
            self.journal()?.release(upto).map_err(|error| self.journal_failed(error))?;
        }
        Ok(())
    }

    /// Ends the writing: brings the index up to the journal, if nothing is in the way.
    fn end(&self, writer: &Writer) -> Result<(), StoreError> {
        let mut result = Ok(());
        if writer.failed.is_none() {
            result = loop {
                match self.index() {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(error) => break put_off(error),
                }
            };
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            let mark = self.index.mark()?.number;
            result = result.and(self.checkpoint(&mut pace, mark, true).or_else(put_off));
        }
        let closed = self.journal()?.close().map_err(|error| self.journal_failed(error)).or_else(put_off);
        result.and(self.index.close().or_else(put_off)).and(closed).and(writer.lock.sync())
    }
}

/// What cannot be done at a clean end, for want of room or because another program has the index, the next opening does:
/// the journal has it.
fn put_off(error: StoreError) -> Result<(), StoreError> {
    if matches!(error, StoreError::Full | StoreError::Locked { .. }) { Ok(()) } else { Err(error) }
}

impl Writer {
    /// Checks that a batch can be written into the index: one that cannot would be in the journal for good.
    fn check(&self, batch: &Batch) -> Result<(), String> {
        let mut last = self.order;
        for entry in &batch.log {
            if entry.order <= last {
                return Err(format!("commit {} does not follow commit {last}", entry.order));
            }
            last = entry.order;
        }
        let mut added = HashSet::new();
        for row in &batch.spaces {
            if self.spaces.contains(&row.did) || !added.insert(row.did) {
                return Err(format!("space {} is there already", row.did));
            }
        }
        let named = batch.log.iter().map(|entry| entry.space);
        let named = named
            .chain(batch.heads.iter().map(|(did, ..)| *did))
            .chain(batch.signed.iter().map(|(did, ..)| *did))
            .chain(batch.cells.iter().map(|row| row.space))
            .chain(batch.receipts.iter().map(|row| row.space))
            .chain(batch.queued.iter().map(|queued| queued.space))
            .chain(batch.turns.iter().filter_map(|(_, turn)| Some(turn.as_ref()?.space)))
            .chain(batch.checkpoints.iter().map(|(did, _)| *did))
            .chain(batch.cuts.iter().map(|cut| cut.space));
        let named = named.chain(batch.notes.iter().map(|(did, _)| *did));
        let named = named.chain(batch.letters_dropped.iter().map(|(did, _)| *did));
        let mut named = named.chain(batch.installed.iter().map(|(did, _)| *did));
        match named.find(|did| !self.spaces.contains(did) && !added.contains(did)) {
            Some(did) => Err(format!("there is no space {did}")),
            None => Ok(()),
        }
    }
}

impl Store for FolderStore {
    fn load(&self, fresh_secret: Option<[u8; 32]>) -> Result<Image, StoreError> {
        if self.journal.is_none() {
            self.refresh()?;
        }
        let image = self.image()?;
        match fresh_secret {
            Some(_) if image.secret == [0; 32] => {
                self.write(fresh_secret, &Batch::default())?;
                self.image()
            }
            _ => Ok(image),
        }
    }

    fn outline(&self) -> Result<Image, StoreError> {
        if self.journal.is_none() {
            self.refresh()?;
        }
        self.image_with(false)
    }

    fn cells(&self, space: &Did, start: &str, end: Option<&str>, max: usize) -> Result<CellRows, StoreError> {
        // The tail first: what it does not have any more the index has.
        let groups = self.tail().groups();
        let (rows, next, mark) = self.index.cells(space, start, end, max)?;
        // What comes behind the page is for the next.
        let end = next.as_deref().or(end);
        let is_inside = |name: &str| name >= start && end.is_none_or(|end| name < end);
        let after = groups.iter().filter(|numbered| numbered.number > mark.number);
        let rows = overlay_cells(rows, space, is_inside, after.map(|numbered| &*numbered.group))?;
        let (rows, more) = page_of(rows, max);
        Ok((rows, more.or(next)))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.write(None, batch)
    }

    fn index(&self) -> Result<bool, StoreError> {
        match self.journal()?.prepare() {
            // Full is told by the append that needs the room.
            Ok(_) | Err(JournalError::Full) => {}
            Err(error) => return Err(self.journal_failed(error)),
        }
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let groups = self.tail().first(INDEX_BYTES);
        let Some(last) = groups.last() else { return Ok(false) };
        let Group { secret, batch } = &*last.group;
        let mark = Mark::of(last.number, &group::encode(secret.as_ref(), batch));
        let merged = group::merge(groups.iter().map(|numbered| &*numbered.group));
        self.index.apply(&merged, mark)?;
        let (gone, rest) = {
            let mut tail = self.tail();
            (tail.drop_upto(mark.number), tail.len())
        };
        drop(gone);
        pace.written += groups.iter().map(|numbered| numbered.bytes).sum::<usize>();
        if pace.written >= CHECKPOINT_BYTES {
            let cuts = pace.checkpoints % CHECKPOINTS_PER_CUT == CHECKPOINTS_PER_CUT - 1;
            self.checkpoint(&mut pace, mark.number, cuts)?;
        }
        Ok(rest > 0)
    }

    fn scrub(&self) -> Result<bool, StoreError> {
        while self.index()? {}
        // A group in a new segment, for the mark: all segments before it can go.
        self.journal()?.roll();
        self.write(None, &Batch::default())?;
        while self.index()? {}
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = self.index.mark()?.number;
        self.checkpoint(&mut pace, mark, true)?;
        // What is released is one checkpoint behind.
        self.checkpoint(&mut pace, mark, true)?;
        Ok(pace.durable == mark && self.journal()?.first() >= mark && self.index.is_alone())
    }

    fn lag(&self) -> Lag {
        let tail = self.tail();
        Lag { groups: tail.len(), bytes: tail.bytes() }
    }

    fn backup(&self, to: &Path) -> Result<(), StoreError> {
        self.copy(to)
    }

    fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    fn close(&self) -> Result<(), StoreError> {
        let _closing = self.closing.lock();
        let Some(writer) = self.writer().take() else { return Ok(()) };
        self.end(&writer)
    }

    fn component(&self, hash: &Hash) -> Result<Option<Component>, StoreError> {
        let known = self.tail().component(hash);
        known.map_or_else(|| self.index.component(hash), Ok)
    }

    fn recording(&self, position: u64) -> Result<Vec<Arc<[u8]>>, StoreError> {
        let Some(newer) = self.unindexed()?.recording(position) else { return Ok(Vec::new()) };
        let pieces = merged(self.index.recording(position)?, newer, usize::MAX, |row| row.number);
        // Pieces go all at once: without the first one the turn has ended between the two look-ups.
        let is_whole = pieces.first().is_none_or(|row| row.number == 1);
        Ok(if is_whole { pieces.into_iter().map(|row| row.bytes).collect() } else { Vec::new() })
    }

    fn queued(&self, position: u64) -> Result<Option<Queued>, StoreError> {
        let found = self.tail().queued(position);
        found.map_or_else(|| self.index.queued(position), |queued| Ok(Some(queued)))
    }

    fn receipt(&self, id: &EventId) -> Result<Option<ReceiptRow>, StoreError> {
        let found = self.tail().receipt(id);
        found.map_or_else(|| self.index.receipt(id), |row| Ok(Some(row)))
    }

    fn receipts(&self, after: Option<&EventId>, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let newer = self.unindexed()?.receipts(after, max);
        Ok(merged(self.index.receipts(after, max)?, newer, max, |row| row.receipt.id))
    }

    fn entry(&self, space: &Did, seq: u64) -> Result<Option<LogEntry>, StoreError> {
        let found = self.unindexed()?.entry(space, seq);
        found.map_or_else(|| self.index.entry(space, seq), |entry| Ok(Some(entry)))
    }

    fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let newer = self.unindexed()?.log(space, after, max);
        Ok(merged(self.index.log(space, after, max)?, newer, max, |entry| entry.order))
    }

    fn handled(&self, position: u64, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let newer = self.unindexed()?.handled(position, after, max);
        Ok(merged(self.index.handled(position, after, max)?, newer, max, |entry| entry.order))
    }

    fn past(&self, space: &Did, name: Option<&str>) -> Result<Vec<CellRow>, StoreError> {
        // What the tail writes over the index has as it was.
        let written = self.tail().written(space, name);
        self.index.past(space, name, &written)
    }

    fn settled(&self, space: &Did, after: u64, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let newer = self.unindexed()?.settled(space, after, max);
        Ok(merged(self.index.settled(space, after, max)?, newer, max, |row| (row.seq, row.receipt.id)))
    }

    fn dead_letter(&self, position: u64) -> Result<Option<DeadLetter>, StoreError> {
        let known = self.tail().letter(position);
        known.map_or_else(|| self.index.dead_letter(position), Ok)
    }

    fn dead_letter_of(&self, event: &EventId) -> Result<Option<DeadLetter>, StoreError> {
        let (found, known) = {
            let tail = self.tail();
            (tail.letter_of(event), tail.letters(0))
        };
        if found.is_some() {
            return Ok(found);
        }
        Ok(self.index.dead_letter_of(event)?.filter(|letter| !known.contains_key(&letter.position)))
    }

    fn dead_letters(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let known = self.tail().letters(after);
        let (mut letters, mut from) = (Vec::new(), after);
        loop {
            let page = self.index.dead_letters(charm, from, max)?;
            let is_last = page.len() < max;
            from = page.last().map_or(from, |letter| letter.position);
            letters.extend(page.into_iter().filter(|letter| !known.contains_key(&letter.position)));
            if is_last || letters.len() >= max {
                break;
            }
        }
        let newer = known.into_values().flatten().filter(|letter| letter.event.to == *charm).collect();
        Ok(merged(letters, newer, max, |letter| letter.position))
    }
}

/// Returns the first `max` of two lists, both in order, each key once.
fn merged<T, K: Ord>(mut older: Vec<T>, newer: Vec<T>, max: usize, key: impl Fn(&T) -> K) -> Vec<T> {
    if !newer.is_empty() {
        older.extend(newer);
        older.sort_by_key(&key);
        older.dedup_by_key(|row| key(row));
    }
    older.truncate(max);
    older
}

impl FolderStore {
    /// Returns everything that lives, as of one group.
    fn image(&self) -> Result<Image, StoreError> {
        self.image_with(true)
    }

    fn image_with(&self, cells: bool) -> Result<Image, StoreError> {
        // The tail first: what it does not have any more the index has.
        let groups = self.tail().groups();
        let (mut image, mark) = self.index.image(cells)?;
        let after = groups.iter().filter(|numbered| numbered.number > mark.number);
        overlay(&mut image, after.map(|numbered| &*numbered.group), cells)?;
        Ok(image)
    }
}

impl Drop for FolderStore {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.close();
    }
}
