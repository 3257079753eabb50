//! Reading a journal that another process may be writing, or that nobody can write. Changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    JournalError,
    disk::Disk,
    format::{Kind, UNIT},
    open::list,
    segment::Segment,
};

/// Times that reading begins again because segments went meanwhile: each time its writer has filled one.
const TRIES: usize = 100;

/// The reading side of a journal in a folder. It sees what its writer has made durable, and no group that may still be lost.
pub struct JournalReader {
    disk: Arc<dyn Disk>,
    /// Where the last read ended.
    cursor: Mutex<Option<Cursor>>,
}

/// The place of the group after `after`.
struct Cursor {
    after: u64,
    offset: u64,
    segment: Segment,
}

/// What reading came to.
enum Read {
    Groups(Vec<(u64, Vec<u8>)>),
    /// What was asked for has gone.
    Released(u64),
    /// A segment went meanwhile.
    Again,
}

impl JournalReader {
    /// Opens the journal in a folder for reading. One without segments is empty.
    pub fn new(disk: Arc<dyn Disk>) -> JournalReader {
        JournalReader { disk, cursor: Mutex::new(None) }
    }

    /// Returns the id of the journal; none when it is empty.
    ///
    /// # Errors
    /// `Damaged`; `Unknown`; `Failed`.
    pub fn id(&self) -> Result<Option<[u8; 16]>, JournalError> {
        for number in list(&*self.disk)?.into_iter().rev() {
            if let Some(segment) = Segment::open(&*self.disk, number, None)? {
                return Ok(Some(segment.journal));
            }
        }
        Ok(None)
    }

    /// Returns the number of the oldest group that is there; that of the next one when there is none.
    ///
    /// # Errors
    /// `Damaged`; `Unknown`; `Failed`.
    pub fn first(&self) -> Result<u64, JournalError> {
        for _ in 0..TRIES {
            let Some(number) = self.numbers()?.first().copied() else { return Ok(1) };
            if let Some(mut segment) = Segment::open(&*self.disk, number, None)? {
                return Ok(segment.first()?.unwrap_or(1));
            }
        }
        Err(self.too_fast())
    }

    /// As [`Journal::read`](super::Journal::read). What follows the last whole group is being written, or was torn: it is
    /// not there.
    ///
    /// # Errors
    /// `Released`; `Damaged`; `Unknown`; `Failed`.
    pub fn read(&self, after: u64, bytes_max: usize) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
        let mut kept = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            let cursor = kept.take().filter(|cursor| cursor.after == after);
            match self.try_read(cursor, after, bytes_max)? {
                (Read::Groups(groups), cursor) => {
                    *kept = cursor;
                    return Ok(groups);
                }
                (Read::Released(first), _) => return Err(JournalError::Released { first }),
                (Read::Again, _) => {}
            }
        }
        Err(self.too_fast())
    }

    fn too_fast(&self) -> JournalError {
        JournalError::Failed(format!("{}: its segments go before they are read: try again", self.disk.name()))
    }

    /// The segments without a gap. One that goes while they are listed may leave a gap before it.
    fn numbers(&self) -> Result<Vec<u64>, JournalError> {
        let mut numbers = list(&*self.disk)?;
        let gap = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
        numbers.drain(..gap.map_or(0, |gap| gap + 1));
        Ok(numbers)
    }

    /// Finds the place behind group `after`.
    fn find(&self, after: u64) -> Result<Result<Cursor, Read>, JournalError> {
        let mut oldest = None;
        for number in self.numbers()?.into_iter().rev() {
            let Some(mut segment) = Segment::open(&*self.disk, number, None)? else { return Ok(Err(Read::Again)) };
            // A segment that was made ahead has none yet.
            let first = match segment.first()? {
                None if number == 1 => 1,
                None => continue,
                Some(first) if first > after + 1 => {
                    oldest = Some(first);
                    continue;
                }
                Some(first) => first,
            };
            let mut cursor = Cursor { after: first - 1, offset: UNIT, segment };
            while cursor.after < after {
                let Cursor { after, offset, segment } = &mut cursor;
                let mut head = segment.head(*offset)?;
                if head.is_none() {
                    let is_damaged = segment.rest(*offset, *after)?.frame;
                    segment.refresh();
                    head = segment.head(*offset)?;
                    if head.is_none() && is_damaged {
                        let why = format!("group {} at byte {offset} is damaged, and later ones are there", *after + 1);
                        return Err(segment.damaged(&why));
                    }
                }
                let Some(head) = head else { break };
                (*after, *offset) = (head.number, *offset + head.frame());
            }
            return Ok(Ok(cursor));
        }
        Ok(Err(oldest.map_or_else(|| Read::Groups(Vec::new()), Read::Released)))
    }

    fn try_read(
        &self,
        cursor: Option<Cursor>,
        after: u64,
        bytes_max: usize,
    ) -> Result<(Read, Option<Cursor>), JournalError> {
        let mut cursor = match cursor {
            Some(cursor) => cursor,
            None => match self.find(after)? {
                Ok(cursor) => cursor,
                Err(read) => return Ok((read, None)),
            },
        };
        if cursor.after != after {
            // It ends before.
            return Ok((Read::Groups(Vec::new()), None));
        }
        cursor.segment.refresh();
        let (mut groups, mut bytes) = (Vec::new(), 0);
        loop {
            let Cursor { after, offset, segment } = &mut cursor;
            if let Some((head, group)) = segment.next(*offset, *after)? {
                if head.kind == Kind::Group {
                    bytes += group.len();
                    if bytes > bytes_max && !groups.is_empty() {
                        return Ok((Read::Groups(groups), Some(cursor)));
                    }
                    groups.push((head.number, group.to_vec()));
                    *after = head.number;
                }
                *offset += head.frame();
                continue;
            }
            // Nothing there, or not all of it. In this order, since its writer goes on: what is behind, then here again.
            let mut is_damaged = segment.rest(*offset, *after)?.frame;
            let next = match Segment::open(&*self.disk, segment.number + 1, Some(segment.journal))? {
                Some(mut next) => next.first()?.map(|first| (first, next)),
                None => None,
            };
            segment.refresh();
            if segment.next(*offset, *after)?.is_some() {
                continue;
            }
            if let Some((first, next)) = next {
                if first == *after + 1 {
                    // What this one ends with is durable: the next one is written after it.
                    (*offset, *segment) = (UNIT, next);
                    continue;
                }
                is_damaged = true;
            }
            // Segments go oldest first. While this one is there, what was not found behind it was not there.
            if !self.numbers()?.contains(&segment.number) {
                return Ok((Read::Again, None));
            }
            if is_damaged {
                let why = format!("group {} at byte {offset} is damaged, and later ones are there", *after + 1);
                return Err(segment.damaged(&why));
            }
            // The last one may not be durable yet.
            if !groups.is_empty() {
                segment.sync()?;
            }
            return Ok((Read::Groups(groups), Some(cursor)));
        }
    }
}
