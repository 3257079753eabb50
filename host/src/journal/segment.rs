//! A segment, read: frame after frame, and what is behind the last one that is whole.

use std::io;

use super::{
    JournalError,
    disk::{Disk, DiskFile},
    format::{HEAD, Head, HeaderError, Kind, Place, UNIT, VERSION, read_head, read_segment_header, segment_name},
};

/// Least that is read at once, in bytes.
const WINDOW: usize = 32 << 10;
const ZEROS: &[u8] = &[0; UNIT as usize];

/// Returns whether an error says that there is no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Returns the error of reading or writing `path`.
pub fn failed(path: &str, error: &io::Error) -> JournalError {
    if is_full(error) { JournalError::Full } else { JournalError::Failed(format!("{path}: {error}")) }
}

/// A segment that is open for reading.
pub struct Segment {
    /// The id of its journal.
    pub journal: [u8; 16],
    pub number: u64,
    path: String,
    file: Box<dyn DiskFile>,
    /// Bytes from `start` on that were read.
    window: Vec<u8>,
    start: u64,
}

/// What is behind the last whole frame.
pub struct Rest {
    /// Behind the last byte that is not zero; where it begins when all are.
    pub upto: u64,
    /// A whole head of another frame than the next one stands there.
    pub frame: bool,
}

impl Segment {
    /// Opens a segment of `journal`, where that is known; none when it is not there.
    ///
    /// # Errors
    /// `Damaged`, `Unknown`, `Failed`.
    pub fn open(disk: &dyn Disk, number: u64, journal: Option<[u8; 16]>) -> Result<Option<Segment>, JournalError> {
        let name = segment_name(number);
        let path = format!("{}/{name}", disk.name());
        let file = match disk.open(&name, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, &error)),
        };
        let mut segment = Segment { journal: [0; 16], number, path, file, window: Vec::new(), start: 0 };
        match read_segment_header(segment.bytes(0, UNIT as usize)?, number) {
            Ok(found) if journal.is_some_and(|journal| journal != found) => {
                return Err(segment.damaged("it is of another journal than the segments before it"));
            }
            Ok(found) => segment.journal = found,
            Err(HeaderError::Damaged(why)) => return Err(segment.damaged(&why)),
            Err(HeaderError::Version(version)) => {
                let what = format!("it is of version {version} of the format, and this host reads version {VERSION}");
                return Err(segment.unknown(&what));
            }
        }
        Ok(Some(segment))
    }

    /// Returns the error that says what is wrong with it.
    pub fn damaged(&self, why: &str) -> JournalError {
        let why = format!("{why}; nothing was changed: restore the store from a backup");
        JournalError::Damaged { path: self.path.clone(), why }
    }

    /// Returns the error that says what a later host has written.
    pub fn unknown(&self, what: &str) -> JournalError {
        let why = format!("{what}; nothing was changed: use the host that wrote it, or a later one");
        JournalError::Unknown { path: self.path.clone(), why }
    }

    fn unknown_frame(&self, offset: u64) -> JournalError {
        self.unknown(&format!("the frame at byte {offset} is of a kind or a length that this host does not know"))
    }

    /// Returns up to `length` bytes: fewer at the end of the file.
    ///
    /// # Errors
    /// `Failed`.
    pub fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8], JournalError> {
        let end = self.start + self.window.len() as u64;
        if offset < self.start || offset + length as u64 > end {
            let size = length.max(WINDOW);
            if self.window.len() != size {
                self.window = vec![0; size];
            }
            let read = self.file.read_at(&mut self.window, offset);
            let read = read.map_err(|error| failed(&self.path, &error));
            self.window.truncate(*read.as_ref().unwrap_or(&0));
            self.start = offset;
            read?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.window[from..self.window.len().min(from + length)])
    }

    /// Looks at the disk again: another process may write the segment.
    pub fn refresh(&mut self) {
        self.window = Vec::new();
    }

    /// Returns the head of a frame at `offset`, a group or the mark of an end; none when there is no whole one.
    ///
    /// # Errors
    /// `Unknown`; `Failed`.
    pub fn head(&mut self, offset: u64) -> Result<Option<Head>, JournalError> {
        let place = self.place(offset);
        match read_head(place, self.bytes(offset, HEAD)?) {
            Some(Head { kind: Kind::Other, .. }) => Err(self.unknown_frame(offset)),
            head => Ok(head),
        }
    }

    /// Returns the frame at `offset` if it is whole and the next one behind group `end`, with its group.
    ///
    /// # Errors
    /// `Unknown`; `Failed`.
    pub fn next(&mut self, offset: u64, end: u64) -> Result<Option<(Head, &[u8])>, JournalError> {
        let place = self.place(offset);
        let Some(head) = self.head(offset)?.filter(|head| follows(head, end)) else { return Ok(None) };
        let frame = self.bytes(offset, head.frame() as usize)?;
        Ok(head.group(place, frame).map(|group| (head, group)))
    }

    /// Returns the number of its first group; none when it begins with no whole head.
    ///
    /// # Errors
    /// `Unknown`; `Failed`.
    pub fn first(&mut self) -> Result<Option<u64>, JournalError> {
        let head = self.head(UNIT)?;
        Ok(head.map(|head| if head.kind == Kind::End { head.number + 1 } else { head.number }))
    }

    /// Looks at everything from `offset` on, where the next frame behind group `end` is missing or broken. With the frame of a
    /// later host among it nobody here knows what a crash can have left.
    ///
    /// # Errors
    /// `Unknown`; `Failed`.
    pub fn rest(&mut self, offset: u64, end: u64) -> Result<Rest, JournalError> {
        let mut rest = Rest { upto: offset, frame: false };
        let mut at = offset;
        loop {
            let place = self.place(at);
            let unit = self.bytes(at, UNIT as usize)?;
            // What was made ready is zeros, megabytes of them: compared at once, not looked through.
            if *unit == ZEROS[..unit.len()] {
                if (unit.len() as u64) < UNIT {
                    return Ok(rest);
                }
                at += UNIT;
                continue;
            }
            let last = unit.iter().rposition(|byte| *byte != 0).unwrap_or_default();
            rest.upto = at + last as u64 + 1;
            match read_head(place, unit) {
                Some(Head { kind: Kind::Other, .. }) => return Err(self.unknown_frame(at)),
                head => rest.frame |= head.is_some_and(|head| at != offset || !follows(&head, end)),
            }
            at += UNIT;
        }
    }

    /// Makes durable what can be read.
    ///
    /// # Errors
    /// `Failed`.
    pub fn sync(&self) -> Result<(), JournalError> {
        use io::ErrorKind::{InvalidInput, ReadOnlyFilesystem, Unsupported};
        match self.file.sync() {
            // Nothing can be written there: it is durable.
            Err(error) if matches!(error.kind(), InvalidInput | ReadOnlyFilesystem | Unsupported) => Ok(()),
            synced => synced.map_err(|error| failed(&self.path, &error)),
        }
    }

    fn place(&self, offset: u64) -> Place {
        Place { journal: self.journal, segment: self.number, offset }
    }
}

/// Whether a frame may stand behind group `end`.
fn follows(head: &Head, end: u64) -> bool {
    match head.kind {
        Kind::Group => head.number == end + 1,
        Kind::End => head.number == end,
        Kind::Other => false,
    }
}
