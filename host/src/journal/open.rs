//! Opening: where the journal ends, and whether what was written last may be used.

use std::io;

use super::{
    JournalError,
    disk::Disk,
    format::{Kind, UNIT, frame, segment_name, segment_number},
    segment::{Segment, failed},
    verdict::{Evidence, Verdict, judge},
};
use crate::limits::{JOURNAL_AHEAD_BYTES, JOURNAL_GROUP_BYTES_MAX};

/// What a segment that is being made is called until it is durable, behind its name.
pub const NEW: &str = ".new";

/// A segment with groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub number: u64,
    /// Number of its first group, there or to come.
    pub first: u64,
}

/// Where a journal ends.
pub struct End {
    pub journal: [u8; 16],
    /// The segments with groups, and the one that the next goes to.
    pub segments: Vec<Kept>,
    /// Where the next frame goes in the last of them.
    pub offset: u64,
    /// Number of the last group.
    pub number: u64,
    /// The last frame is the mark of a clean end.
    pub is_clean: bool,
    /// A segment that was made ahead.
    pub next: Option<u64>,
    /// Where the last frame stands.
    last: Option<(u64, u64, usize)>,
    is_torn: bool,
}

/// Returns the numbers of the segments in a folder, in order.
///
/// # Errors
/// When it cannot be listed.
pub fn list(disk: &dyn Disk) -> Result<Vec<u64>, JournalError> {
    let names = disk.list().map_err(|error| failed(&disk.name(), &error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Finds the end of a journal; none when there is no segment. Every group after `known` is checked, and those before it
/// in the same segment. Nothing is changed.
///
/// # Errors
/// `Damaged` when something is not as it was written and no crash explains it; `Unknown`; `Failed`.
pub fn find_end(disk: &dyn Disk, known: u64) -> Result<Option<End>, JournalError> {
    let numbers = list(disk)?;
    let mut segments: Vec<Segment> = Vec::with_capacity(numbers.len());
    let mut firsts = Vec::with_capacity(numbers.len());
    let gone = |number| JournalError::Damaged {
        path: format!("{}/{}", disk.name(), segment_name(number)),
        why: "it is missing, and a later one is there: restore the store from a backup".to_owned(),
    };
    for number in numbers {
        let before = segments.last().map(|segment| (segment.number, segment.journal));
        if let Some((before, _)) = before.filter(|(before, _)| before + 1 != number) {
            return Err(gone(before + 1));
        }
        let segment = Segment::open(disk, number, before.map(|(_, journal)| journal))?;
        let mut segment = segment.ok_or_else(|| gone(number))?;
        firsts.push(segment.first()?);
        segments.push(segment);
    }
    let Some(oldest) = segments.first() else { return Ok(None) };
    let journal = oldest.journal;
    let firsts_known = || firsts.iter().enumerate().filter_map(|(at, first)| Some((at, (*first)?)));
    let (mut at, first) =
        match firsts_known().rfind(|(_, first)| *first <= known.saturating_add(1)).or(firsts_known().next()) {
            Some(found) => found,
            None if oldest.number == 1 => {
                firsts[0] = Some(1);
                (0, 1)
            }
            None => return Err(oldest.damaged("it has no group, and what was before it is gone")),
        };
    let mut kept = Vec::with_capacity(firsts.len());
    for (segment, first) in segments.iter().zip(&firsts).take(at + 1) {
        let first = first.ok_or_else(|| segment.damaged("its first group is damaged, and later ones are there"))?;
        kept.push(Kept { number: segment.number, first });
    }
    let (mut number, mut is_clean, mut last) = (first - 1, false, None);
    loop {
        let segment = &mut segments[at];
        let mut offset = UNIT;
        while let Some((head, _)) = segment.next(offset, number)? {
            is_clean = head.kind == Kind::End;
            number = head.number;
            last = Some((segment.number, offset, head.frame() as usize));
            offset += head.frame();
        }
        let rest = segment.rest(offset, number)?;
        let mut seen =
            Evidence { bytes: rest.upto > offset, frame: rest.frame, known: number < known, ..Evidence::default() };
        let longest = segment.head(offset)?.map_or(frame(JOURNAL_GROUP_BYTES_MAX), |head| head.frame());
        seen.long = rest.upto - offset > longest;
        if let Some(next) = segments.get_mut(at + 1) {
            // It goes on there: with a whole frame, or with one that may be torn if nothing of it is here.
            let goes_on = next.next(UNIT, number)?.is_some();
            if goes_on || !seen.bytes && next.rest(UNIT, number)?.upto > UNIT {
                at += 1;
                kept.push(Kept { number: next.number, first: number + 1 });
                continue;
            }
        }
        for later in &mut segments[at + 1..] {
            let rest = later.rest(UNIT, number)?;
            seen.segment |= rest.upto > UNIT;
            seen.frame |= rest.frame;
        }
        let verdict = judge(seen);
        if let Verdict::Damaged(why) = verdict {
            return Err(segments[at].damaged(&format!("group {} at byte {offset} {why}", number + 1)));
        }
        let (is_torn, next) = (verdict == Verdict::Torn, segments.get(at + 1).map(|next| next.number));
        return Ok(Some(End { journal, segments: kept, offset, number, is_clean, next, last, is_torn }));
    }
}

impl End {
    /// Makes what was found fit to go on: takes away what a crash left, and makes sure of what may have been written and
    /// not synced. What can be read need not be on the disk.
    ///
    /// # Errors
    /// When that fails.
    pub fn settle(&self, disk: &dyn Disk) -> Result<(), JournalError> {
        let path = |name: &str| format!("{}/{name}", disk.name());
        let names = disk.list().map_err(|error| failed(&disk.name(), &error))?;
        for name in
            names.iter().filter(|name| name.strip_suffix(NEW).is_some_and(|name| segment_number(name).is_some()))
        {
            disk.remove(name).map_err(|error| failed(&path(name), &error))?;
        }
        disk.sync_folder().map_err(|error| failed(&disk.name(), &error))?;
        if let Some((segment, offset, length)) = self.last {
            let name = segment_name(segment);
            let again = || -> io::Result<()> {
                let file = disk.open(&name, true)?;
                let mut frame = vec![0; length];
                file.read_at(&mut frame, offset)?;
                file.write_at(&frame, offset)?;
                file.sync()
            };
            again().map_err(|error| failed(&path(&name), &error))?;
        }
        if let Some(segment) = self.segments.last().filter(|_| self.is_torn) {
            let name = segment_name(segment.number);
            let zero = || -> io::Result<()> {
                let file = disk.open(&name, true)?;
                let (mut at, length) = (self.offset, file.length()?);
                let zeros = vec![0; JOURNAL_AHEAD_BYTES as usize];
                while at < length {
                    let step = zeros.len().min((length - at) as usize);
                    file.write_at(&zeros[..step], at)?;
                    at += step as u64;
                }
                file.sync()
            };
            zero().map_err(|error| failed(&path(&name), &error))?;
        }
        Ok(())
    }
}
