//! The bytes of a segment: a header, then frames, then zeros. All begin at multiples of [`UNIT`], which is what a disk
//! writes as one: writing one frame touches no byte of another.

use crate::limits::JOURNAL_GROUP_BYTES_MAX;

/// What headers and frames are padded to with zeros, in bytes.
pub const UNIT: u64 = 512;
/// Bytes of a frame before its group.
pub const HEAD: usize = 24;

const MAGIC: &[u8; 12] = b"charmjournal";
pub const VERSION: u32 = 1;

/// Where a frame stands. Its checksums begin with it: a frame is valid in its place only.
#[derive(Clone, Copy)]
pub struct Place {
    pub journal: [u8; 16],
    pub segment: u64,
    pub offset: u64,
}

impl Place {
    /// Checksum of bytes that stand here.
    fn sum(&self, bytes: &[u8]) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&self.journal);
        sum.update(&self.segment.to_le_bytes());
        sum.update(&self.offset.to_le_bytes());
        sum.update(bytes);
        sum.finalize()
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A group.
    Group = 1,
    /// The mark of a clean end behind the group with its number.
    End = 2,
    /// Something that this host knows nothing of: another kind, length or number than it writes itself.
    Other = 0,
}

/// Why a segment is not opened.
#[derive(Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// It is damaged: how.
    Damaged(String),
    /// Another version of the format wrote it.
    Version(u32),
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    pub number: u64,
    /// Bytes of the group.
    pub length: u32,
    body_sum: u32,
}

impl Head {
    /// Length of the whole frame in bytes.
    pub fn frame(&self) -> u64 {
        frame(self.length as usize)
    }

    /// Returns the group of a whole frame with this head; none when it is not as it was written.
    pub fn group<'a>(&self, place: Place, frame: &'a [u8]) -> Option<&'a [u8]> {
        let whole = frame.len() as u64 == self.frame() && place.sum(&frame[HEAD..]) == self.body_sum;
        whole.then(|| &frame[HEAD..HEAD + self.length as usize])
    }
}

/// Length of the frame of a group of `length` bytes.
pub fn frame(length: usize) -> u64 {
    ((HEAD + length) as u64).next_multiple_of(UNIT)
}

/// Writes a frame to `buffer`.
pub fn write_frame(buffer: &mut Vec<u8>, place: Place, kind: Kind, number: u64, group: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&(kind as u32).to_le_bytes());
    buffer.extend_from_slice(&number.to_le_bytes());
    buffer.extend_from_slice(&(group.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(group);
    buffer.resize(frame(group.len()) as usize, 0);
    let body_sum = place.sum(&buffer[HEAD..]);
    buffer[20..24].copy_from_slice(&body_sum.to_le_bytes());
    let head_sum = place.sum(&buffer[4..HEAD]);
    buffer[..4].copy_from_slice(&head_sum.to_le_bytes());
}

/// Returns the head that `bytes` begin with; none when there is no whole one.
pub fn read_head(place: Place, bytes: &[u8]) -> Option<Head> {
    let head = bytes.get(..HEAD)?;
    if place.sum(&head[4..]) != word(head, 0)? {
        return None;
    }
    let (number, length, body_sum) = (long(head, 8)?, word(head, 16)?, word(head, 20)?);
    let kind = match word(head, 4)? {
        _ if number == u64::MAX => Kind::Other,
        1 if number > 0 && length as usize <= JOURNAL_GROUP_BYTES_MAX => Kind::Group,
        2 if length == 0 => Kind::End,
        _ => Kind::Other,
    };
    Some(Head { kind, number, length, body_sum })
}

/// Returns the header of a segment.
pub fn segment_header(journal: [u8; 16], segment: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(UNIT as usize);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&journal);
    header.extend_from_slice(&segment.to_le_bytes());
    header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
    header.resize(UNIT as usize, 0);
    header
}

/// Returns the id of the journal that a segment is of; its header must be that of segment `segment`.
///
/// # Errors
/// What is wrong with it.
pub fn read_segment_header(bytes: &[u8], segment: u64) -> Result<[u8; 16], HeaderError> {
    let damaged = || HeaderError::Damaged("its header is damaged".to_owned());
    let header = bytes.get(..UNIT as usize).ok_or_else(damaged)?;
    if !header.starts_with(MAGIC) {
        return Err(HeaderError::Damaged("it is no segment of a journal".to_owned()));
    }
    let version = word(header, 12).ok_or_else(damaged)?;
    let journal = header[16..32].try_into().map_err(|_| damaged())?;
    let number = long(header, 32).ok_or_else(damaged)?;
    let whole = segment_header(journal, number);
    // With the checksum of this version it is no later one: the version itself is damaged.
    if version != VERSION && header[16..] != whole[16..] {
        return Err(HeaderError::Version(version));
    }
    if header != whole {
        return Err(damaged());
    }
    if number != segment {
        return Err(HeaderError::Damaged(format!("it is segment {number} under another name")));
    }
    Ok(journal)
}

/// Returns the name of a segment's file.
pub fn segment_name(segment: u64) -> String {
    format!("{segment:08}.log")
}

/// Returns the number of the segment that a file is by its name.
pub fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { journal: [7; 16], segment: 3, offset: 1024 };

    #[test]
    fn a_frame_is_valid_in_its_place_only() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, PLACE, Kind::Group, 9, b"nine");
        let head = read_head(PLACE, &bytes).expect("a head");
        assert_eq!((head.kind, head.number, head.frame()), (Kind::Group, 9, UNIT));
        assert_eq!(head.group(PLACE, &bytes), Some(&b"nine"[..]));
        let others =
            [Place { journal: [8; 16], ..PLACE }, Place { segment: 4, ..PLACE }, Place { offset: 1536, ..PLACE }];
        for other in others {
            assert_eq!(read_head(other, &bytes), None);
            assert_eq!(head.group(other, &bytes), None);
        }
    }

    #[test]
    fn a_frame_with_any_bit_flipped_is_none() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, PLACE, Kind::Group, 9, &[1; 600]);
        assert_eq!(bytes.len() as u64, 2 * UNIT);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read_head(PLACE, &bytes).is_none_or(|head| head.group(PLACE, &bytes).is_none()), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_header_with_any_byte_changed_is_refused() {
        let header = segment_header([7; 16], 3);
        assert_eq!(read_segment_header(&header, 3), Ok([7; 16]));
        assert!(read_segment_header(&header, 4).is_err());
        assert!(read_segment_header(&header[..40], 3).is_err());
        for at in 0..header.len() {
            let mut header = header.clone();
            header[at] ^= 0x10;
            assert!(read_segment_header(&header, 3).is_err(), "byte {at}");
        }
        let mut later = header;
        later[12] = 9;
        let sum = crc32fast::hash(&later[..40]);
        later[40..44].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(read_segment_header(&later, 3), Err(HeaderError::Version(9)));
    }

    /// A head that is whole is no damage, whatever it says: a later host has written it.
    #[test]
    fn a_whole_head_that_this_host_does_not_write_is_another() {
        let head = |kind: u32, number: u64, length: usize| {
            let mut bytes = [0; HEAD];
            bytes[4..8].copy_from_slice(&kind.to_le_bytes());
            bytes[8..16].copy_from_slice(&number.to_le_bytes());
            bytes[16..20].copy_from_slice(&(length as u32).to_le_bytes());
            let sum = PLACE.sum(&bytes[4..]);
            bytes[..4].copy_from_slice(&sum.to_le_bytes());
            read_head(PLACE, &bytes).expect("a whole head").kind
        };
        assert_eq!((head(1, 1, JOURNAL_GROUP_BYTES_MAX), head(2, 0, 0)), (Kind::Group, Kind::End));
        let others =
            [(1, 1, JOURNAL_GROUP_BYTES_MAX + 1), (1, 0, 9), (1, u64::MAX, 9), (2, 3, 1), (2, u64::MAX, 0), (3, 0, 0)];
        for (kind, number, length) in others {
            assert_eq!(head(kind, number, length), Kind::Other, "{kind} {number} {length}");
        }
    }

    #[test]
    fn names_of_segments_are_read_as_they_are_written() {
        for number in [1, 42, 99_999_999, 100_000_000] {
            assert_eq!(segment_number(&segment_name(number)), Some(number));
        }
        for other in ["1.log", "00000001.log.new", "+0000001.log", "index.db", "00000001"] {
            assert_eq!(segment_number(other), None);
        }
    }
}
