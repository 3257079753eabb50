//! The journal in a folder: segments of frames, written into room that was filled with zeros before.
//!
//! Locks, in this order: `writer` for a whole append, `room` for whatever makes or removes files or room (beside an append,
//! until that needs room itself), `shared` for what others look at, for an instant.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    AppendError, Journal, JournalError,
    disk::{Disk, DiskFile},
    format::{Kind, Place, UNIT, frame, segment_header, segment_name, write_frame},
    open::{End, Kept, NEW, find_end},
    segment::{Segment, failed, is_full},
};
use crate::limits::{
    JOURNAL_AHEAD_BYTES, JOURNAL_GROUP_BYTES_MAX, JOURNAL_SEGMENT_BYTES, JOURNAL_ZEROED_GROUP_BYTES_MAX,
};

/// How a journal is opened.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// The id of the journal if it is new: random, so that no frame of another journal is valid in it.
    pub fresh_id: [u8; 16],
    /// A group that is known to have been durable, 0 for none: it is damage when the journal ends before it. Groups after
    /// it are checked.
    pub known: u64,
    /// Length at which a segment is full, in bytes.
    pub segment_bytes: u64,
    /// How far ahead of what is written a segment is filled with zeros, in bytes.
    pub ahead_bytes: u64,
}

impl JournalOptions {
    /// Returns the usual ones.
    pub fn new(fresh_id: [u8; 16], known: u64) -> JournalOptions {
        let (segment_bytes, ahead_bytes) = (JOURNAL_SEGMENT_BYTES, JOURNAL_AHEAD_BYTES);
        JournalOptions { fresh_id, known, segment_bytes, ahead_bytes }
    }
}

/// A journal in a folder, with one writer: whoever opens it sees to it that there is no other.
pub struct FileJournal {
    disk: Arc<dyn Disk>,
    id: [u8; 16],
    options: JournalOptions,
    writer: Mutex<Writer>,
    room: Mutex<Room>,
    shared: Mutex<Shared>,
    /// Where the last read ended.
    cursor: Mutex<Option<Cursor>>,
}

/// What an append works with.
struct Writer {
    file: Box<dyn DiskFile>,
    /// The frame that is being written.
    frame: Vec<u8>,
}

struct Room {
    /// A segment made ahead.
    next: Option<Open>,
    /// Segments that are released and not yet removed.
    released: Vec<u64>,
}

struct Open {
    number: u64,
    file: Box<dyn DiskFile>,
    zeroed: u64,
}

struct Shared {
    /// In order; the last one is written to.
    segments: Vec<Kept>,
    /// Number of the last group.
    end: u64,
    /// Where the next frame goes in the last segment.
    offset: u64,
    /// Up to where the last segment has zeros behind it.
    zeroed: u64,
    /// The last frame is the mark of a clean end.
    is_clean: bool,
    /// The next group begins a new segment.
    rolls: bool,
    /// Why nothing more is appended.
    stopped: Option<String>,
}

impl Shared {
    fn segment(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.number)
    }

    fn first(&self) -> u64 {
        self.segments.first().map_or(self.end + 1, |segment| segment.first)
    }
}

/// Groups with their numbers.
type Groups = Vec<(u64, Vec<u8>)>;

/// The place of the group after `after`.
#[derive(Clone, Copy)]
struct Cursor {
    after: u64,
    segment: u64,
    offset: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A journal that was looked at and is not open yet.
pub(crate) struct Looked {
    disk: Arc<dyn Disk>,
    options: JournalOptions,
    /// None where there is no journal yet.
    found: Option<End>,
}

impl Looked {
    /// Opens it for writing, as it was found: takes away what a crash left, or makes it.
    ///
    /// # Errors
    /// `Full`; `Failed`.
    pub fn settle(self) -> Result<FileJournal, JournalError> {
        let Looked { disk, options, found } = self;
        let (id, mut next) = (found.as_ref().map_or(options.fresh_id, |end| end.journal), None);
        let path = |number| format!("{}/{}", disk.name(), segment_name(number));
        let open = |number: u64| -> Result<Open, JournalError> {
            let file = disk.open(&segment_name(number), true);
            let opened = file.and_then(|file| Ok(Open { number, zeroed: file.length()?, file }));
            opened.map_err(|error| failed(&path(number), &error))
        };
        let (active, shared) = match found {
            Some(end) => {
                end.settle(&*disk)?;
                next = end.next.map(open).transpose()?;
                let active = open(end.segments.last().map_or(1, |segment| segment.number))?;
                let (zeroed, segments, stopped) = (active.zeroed, end.segments, None);
                let (end, offset, is_clean) = (end.number, end.offset, end.is_clean);
                (active, Shared { segments, end, offset, zeroed, is_clean, rolls: false, stopped })
            }
            None => {
                let active = make(&*disk, id, 1, &options).map_err(|error| failed(&path(1), &error))?;
                let (segments, zeroed) = (vec![Kept { number: 1, first: 1 }], active.zeroed);
                (
                    active,
                    Shared { segments, end: 0, offset: UNIT, zeroed, is_clean: false, rolls: false, stopped: None },
                )
            }
        };
        let (writer, room) = (Writer { file: active.file, frame: Vec::new() }, Room { next, released: Vec::new() });
        let (writer, room, shared) = (Mutex::new(writer), Mutex::new(room), Mutex::new(shared));
        Ok(FileJournal { disk, id, options, writer, room, shared, cursor: Mutex::new(None) })
    }
}

impl FileJournal {
    /// Opens the journal in a folder for writing, making it when there is none. What a crash left of a group that was never
    /// acknowledged is taken away.
    ///
    /// # Errors
    /// `Damaged` when something is missing or not as it was written and no crash explains it, `Unknown` when a later host has
    /// written it; then nothing was changed. `Full`; `Failed`.
    pub fn open(disk: Arc<dyn Disk>, options: JournalOptions) -> Result<FileJournal, JournalError> {
        FileJournal::look(disk, options)?.settle()
    }

    /// Looks at the journal in a folder as `open` does, and changes nothing yet.
    ///
    /// # Errors
    /// `Damaged`; `Unknown`; `Failed`.
    pub(crate) fn look(disk: Arc<dyn Disk>, options: JournalOptions) -> Result<Looked, JournalError> {
        let found = find_end(&*disk, options.known)?;
        if found.is_none() && options.known > 0 {
            let why = format!("it is empty, and group {} was durable: restore the store from a backup", options.known);
            return Err(JournalError::Damaged { path: disk.name(), why });
        }
        Ok(Looked { disk, options, found })
    }

    /// Returns what the journal was called when it was made: an index that knows another id is of another journal.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    fn path(&self, segment: u64) -> String {
        format!("{}/{}", self.disk.name(), segment_name(segment))
    }

    /// Makes room for a frame: in a new segment when this one is full, behind zeros when it is short. Nobody else makes room
    /// while a long one is written where there are no zeros.
    fn make_room(&self, writer: &mut Writer, length: u64) -> io::Result<Option<MutexGuard<'_, Room>>> {
        let mut room = lock(&self.room);
        let (number, end, mut offset, mut zeroed) = {
            let shared = lock(&self.shared);
            (shared.segment(), shared.end, shared.offset, shared.zeroed)
        };
        if self.is_over(offset, length) {
            let next = match room.next.take() {
                Some(next) => next,
                None => make(&*self.disk, self.id, number + 1, &self.options)?,
            };
            (writer.file, offset, zeroed) = (next.file, UNIT, next.zeroed);
            let mut shared = lock(&self.shared);
            shared.segments.push(Kept { number: next.number, first: end + 1 });
            (shared.offset, shared.zeroed, shared.rolls) = (offset, zeroed, false);
        }
        if offset + length > zeroed && length > JOURNAL_ZEROED_GROUP_BYTES_MAX {
            return Ok(Some(room));
        }
        if offset + length > zeroed {
            let step = self.options.ahead_bytes.max(offset + length - zeroed);
            zero(&*writer.file, zeroed, step)?;
            lock(&self.shared).zeroed = zeroed + step;
        }
        Ok(None)
    }

    fn is_over(&self, offset: u64, length: u64) -> bool {
        offset > UNIT && (offset + length > self.options.segment_bytes || lock(&self.shared).rolls)
    }

    /// Writes and syncs a frame behind the last one.
    fn put(&self, writer: &mut Writer, kind: Kind, number: u64, group: &[u8]) -> Result<(), AppendError> {
        let length = frame(group.len());
        let unknown = |segment, error: io::Error| AppendError::Unknown(format!("{}: {error}", self.path(segment)));
        let (segment, offset, zeroed) = {
            let shared = lock(&self.shared);
            (shared.segment(), shared.offset, shared.zeroed)
        };
        let mut room = None;
        if kind == Kind::Group && (offset + length > zeroed || self.is_over(offset, length)) {
            room = match self.make_room(writer, length) {
                Err(error) if is_full(&error) => return Err(AppendError::Full),
                made => made.map_err(|error| unknown(segment, error))?,
            };
        }
        let (segment, offset) = {
            let shared = lock(&self.shared);
            (shared.segment(), shared.offset)
        };
        let Writer { file, frame } = writer;
        write_frame(frame, Place { journal: self.id, segment, offset }, kind, number, group);
        match file.write_at(frame, offset) {
            // Most likely a frame too long to be written into zeros. Nothing remains of it.
            Err(error) if is_full(&error) => {
                let _room = room.unwrap_or_else(|| lock(&self.room));
                let zeroed = lock(&self.shared).zeroed;
                let undo = file.truncate(zeroed).and_then(|()| zero(&**file, offset, zeroed.saturating_sub(offset)));
                return Err(undo.map_or_else(|error| unknown(segment, error), |()| AppendError::Full));
            }
            written => written.and_then(|()| file.sync()).map_err(|error| unknown(segment, error))?,
        }
        if frame.capacity() > JOURNAL_AHEAD_BYTES as usize {
            *frame = Vec::new();
        }
        let mut shared = lock(&self.shared);
        shared.offset = offset + length;
        shared.zeroed = shared.zeroed.max(offset + length);
        (shared.end, shared.is_clean) = (number, kind == Kind::End);
        Ok(())
    }

    /// Finds the place behind group `after`; none when it is no longer there.
    fn find(&self, after: u64) -> Result<Option<Cursor>, JournalError> {
        if let Some(cursor) = lock(&self.cursor).filter(|cursor| cursor.after == after) {
            return Ok(Some(cursor));
        }
        let kept = lock(&self.shared).segments.iter().rfind(|segment| segment.first <= after + 1).copied();
        let Some(Kept { number, first }) = kept else { return Ok(None) };
        let Some(mut segment) = Segment::open(&*self.disk, number, Some(self.id))? else { return Ok(None) };
        let mut cursor = Cursor { after: first - 1, segment: number, offset: UNIT };
        while cursor.after < after {
            let Some(head) = segment.head(cursor.offset)? else {
                return Err(segment.damaged(&format!(
                    "group {} at byte {} is damaged",
                    cursor.after + 1,
                    cursor.offset
                )));
            };
            (cursor.after, cursor.offset) = (head.number, cursor.offset + head.frame());
        }
        Ok(Some(cursor))
    }

    /// Reads what `read` says; none when it went meanwhile.
    fn try_read(&self, after: u64, bytes_max: usize) -> Result<Option<Groups>, JournalError> {
        let (mut groups, mut bytes, end) = (Vec::new(), 0, self.end());
        if after >= end {
            return Ok(Some(groups));
        }
        let Some(mut cursor) = self.find(after)? else { return Ok(None) };
        'segments: while cursor.after < end {
            let is_kept = lock(&self.shared).segments.iter().any(|segment| segment.number == cursor.segment);
            let segment = if is_kept { Segment::open(&*self.disk, cursor.segment, Some(self.id))? } else { None };
            let Some(mut segment) = segment else { return Ok(None) };
            while cursor.after < end {
                let Some((head, group)) = segment.next(cursor.offset, cursor.after)? else {
                    let next = Kept { number: cursor.segment + 1, first: cursor.after + 1 };
                    if !lock(&self.shared).segments.contains(&next) {
                        let why = format!("group {} at byte {} is damaged", cursor.after + 1, cursor.offset);
                        return Err(segment.damaged(&why));
                    }
                    (cursor.segment, cursor.offset) = (next.number, UNIT);
                    continue 'segments;
                };
                if head.kind == Kind::Group {
                    bytes += group.len();
                    if bytes > bytes_max && !groups.is_empty() {
                        break 'segments;
                    }
                    groups.push((head.number, group.to_vec()));
                    cursor.after = head.number;
                }
                cursor.offset += head.frame();
            }
        }
        *lock(&self.cursor) = Some(cursor);
        Ok(Some(groups))
    }
}

/// Fills `length` bytes with zeros and syncs.
fn zero(file: &dyn DiskFile, offset: u64, length: u64) -> io::Result<()> {
    file.write_at(&vec![0; length as usize], offset)?;
    file.sync()
}

/// Makes a segment: under another name until all of it is durable.
fn make(disk: &dyn Disk, id: [u8; 16], number: u64, options: &JournalOptions) -> io::Result<Open> {
    let (name, mut bytes) = (segment_name(number), segment_header(id, number));
    let new = format!("{name}{NEW}");
    let made = (|| {
        let file = disk.create(&new)?;
        bytes.resize((options.ahead_bytes.min(options.segment_bytes) as usize).max(bytes.len()), 0);
        file.write_at(&bytes, 0)?;
        file.sync()?;
        disk.rename(&new, &name)?;
        disk.sync_folder()?;
        Ok(Open { number, file: disk.open(&name, true)?, zeroed: bytes.len() as u64 })
    })();
    if made.is_err() {
        // What is left of it takes room; if it stays, the next one to open the journal removes it.
        let _ = disk.remove(&new);
    }
    made
}

impl Journal for FileJournal {
    fn end(&self) -> u64 {
        lock(&self.shared).end
    }

    fn append(&self, after: u64, group: &[u8]) -> Result<u64, AppendError> {
        let mut writer = lock(&self.writer);
        let end = {
            let mut shared = lock(&self.shared);
            if let Some(why) = &shared.stopped {
                return Err(AppendError::Unknown(why.clone()));
            }
            if after != shared.end {
                let end = shared.end;
                shared.stopped = Some(format!("a group behind {after} was not for the end, {end}"));
                return Err(AppendError::Lost { end });
            }
            shared.end
        };
        let put = if group.len() > JOURNAL_GROUP_BYTES_MAX {
            Err(AppendError::Unknown(format!("a group of {} bytes is too long", group.len())))
        } else {
            self.put(&mut writer, Kind::Group, end + 1, group)
        };
        if let Err(AppendError::Unknown(why)) = &put {
            lock(&self.shared).stopped = Some(why.clone());
        }
        put.map(|()| end + 1)
    }

    fn prepare(&self) -> Result<bool, JournalError> {
        let mut room = lock(&self.room);
        let (number, offset, zeroed) = {
            let shared = lock(&self.shared);
            if shared.stopped.is_some() {
                return Ok(false);
            }
            (shared.segment(), shared.offset, shared.zeroed)
        };
        let JournalOptions { segment_bytes, ahead_bytes, .. } = self.options;
        let stop = |number, error: io::Error| {
            let error = failed(&self.path(number), &error);
            if error != JournalError::Full {
                lock(&self.shared).stopped.get_or_insert(error.to_string());
            }
            error
        };
        if zeroed < segment_bytes && zeroed < offset + ahead_bytes {
            // Through a handle of its own: each handle is told of a failed sync for itself, and the writer's must be.
            let step = ahead_bytes.min(segment_bytes - zeroed);
            let file = self.disk.open(&segment_name(number), true).map_err(|error| stop(number, error))?;
            zero(&*file, zeroed, step).map_err(|error| stop(number, error))?;
            lock(&self.shared).zeroed = zeroed + step;
            return Ok(zeroed + step < offset + ahead_bytes);
        }
        if room.next.is_none() && offset + 2 * ahead_bytes > segment_bytes {
            let next = make(&*self.disk, self.id, number + 1, &self.options);
            room.next = Some(next.map_err(|error| stop(number + 1, error))?);
        }
        Ok(false)
    }

    fn read(&self, after: u64, bytes_max: usize) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
        let first = self.first();
        if after.saturating_add(1) < first {
            return Err(JournalError::Released { first });
        }
        let read = self.try_read(after, bytes_max)?;
        read.ok_or_else(|| JournalError::Released { first: self.first() })
    }

    fn first(&self) -> u64 {
        lock(&self.shared).first()
    }

    fn release(&self, upto: u64) -> Result<(), JournalError> {
        let mut room = lock(&self.room);
        {
            let mut shared = lock(&self.shared);
            // The last one stays, with a group in it: that one tells the number of the next.
            while let [oldest, next, ..] = shared.segments[..]
                && next.first <= shared.end.min(upto.saturating_add(1))
            {
                room.released.push(oldest.number);
                shared.segments.remove(0);
            }
        }
        while let Some(number) = room.released.first().copied() {
            match self.disk.remove(&segment_name(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&self.path(number), &error));
                }
                _ => {}
            }
            // One after the other: there is never a gap.
            self.disk.sync_folder().map_err(|error| failed(&self.disk.name(), &error))?;
            room.released.remove(0);
        }
        Ok(())
    }

    fn roll(&self) {
        lock(&self.shared).rolls = true;
    }

    fn close(&self) -> Result<(), JournalError> {
        let mut writer = lock(&self.writer);
        let (end, is_clean, stopped) = {
            let shared = lock(&self.shared);
            (shared.end, shared.is_clean, shared.stopped.clone())
        };
        match stopped {
            Some(_) if is_clean => return Ok(()),
            Some(why) => return Err(JournalError::Failed(why)),
            None => {}
        }
        let put = if is_clean { Ok(()) } else { self.put(&mut writer, Kind::End, end, &[]) };
        match put {
            Err(AppendError::Full) => return Err(JournalError::Full),
            Err(error) => {
                lock(&self.shared).stopped = Some(error.to_string());
                return Err(JournalError::Failed(error.to_string()));
            }
            Ok(()) => lock(&self.shared).stopped = Some("it is closed".to_owned()),
        }
        Ok(())
    }
}
