//! One pass over DAG-CBOR bytes: accepts exactly the canonical form of one value.

use std::fmt;

/// Why bytes are not an acceptable value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The bytes end inside an item.
    #[error("DAG-CBOR ends too early")]
    Truncated,
    /// More bytes follow the value.
    #[error("bytes after the value (at byte {at})")]
    Trailing {
        /// Offset of the first byte too many.
        at: usize,
    },
    /// An item that canonical DAG-CBOR does not have.
    #[error("not canonical DAG-CBOR at byte {at}: {why}")]
    NotCanonical {
        /// Offset of the item.
        at: usize,
        /// The rule that is broken.
        why: &'static str,
    },
    /// Nested too deep.
    #[error("value nested deeper than {max} levels")]
    TooDeep {
        /// The bound.
        max: usize,
    },
    /// Too many bytes.
    #[error("value larger than {max} bytes")]
    TooLarge {
        /// The bound.
        max: usize,
    },
    /// A Rust value outside the data model (NaN, non-string key).
    #[error("not in the data model: no NaN, no infinity, map keys are strings")]
    NotInModel,
    /// The value does not fit the type that was asked for.
    #[error("value does not fit the type asked for")]
    OtherType,
}

/// The kinds of the data model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// From -2^64 to 2^64-1.
    Integer,
    /// 64-bit, finite.
    Float,
    /// UTF-8 text.
    String,
    /// Bytes.
    Bytes,
    /// Ordered items.
    List,
    /// String keys, unique and sorted.
    Map,
    /// A CID (tag 42).
    Link,
}

impl Kind {
    /// Returns the kind of the checked item at `at`.
    pub(crate) fn at(bytes: &[u8], at: usize) -> Kind {
        match bytes[at] {
            0x00..=0x3f => Kind::Integer,
            0x40..=0x5f => Kind::Bytes,
            0x60..=0x7f => Kind::String,
            0x80..=0x9f => Kind::List,
            0xa0..=0xbf => Kind::Map,
            0xc0..=0xdf => Kind::Link,
            0xf4 | 0xf5 => Kind::Bool,
            0xfb => Kind::Float,
            _ => Kind::Null,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Null => "null",
            Kind::Bool => "bool",
            Kind::Integer => "integer",
            Kind::Float => "float",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::List => "list",
            Kind::Map => "map",
            Kind::Link => "link",
        })
    }
}

#[cfg(test)]
thread_local! {
    /// Heads read on this thread: what tests count instead of time.
    pub(crate) static HEADS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Reads the head of the item at `at`: major type, argument, offset of what follows.
pub(crate) fn head(bytes: &[u8], at: usize) -> Result<(u8, u64, usize), Invalid> {
    #[cfg(test)]
    HEADS.set(HEADS.get() + 1);
    let first = *bytes.get(at).ok_or(Invalid::Truncated)?;
    let (major, info) = (first >> 5, first & 0x1f);
    if info < 24 {
        return Ok((major, u64::from(info), at + 1));
    }
    let size = match info {
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return Err(Invalid::NotCanonical { at, why: "indefinite or reserved length" }),
    };
    let tail = bytes.get(at + 1..at + 1 + size).ok_or(Invalid::Truncated)?;
    let argument = tail.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let shortest = match size {
        1 => argument >= 24,
        2 => argument > 0xff,
        4 => argument > 0xffff,
        _ => argument > 0xffff_ffff,
    };
    // Major type 7 holds floats and simple values, whose width is not a matter of shortness.
    if !shortest && major != 7 {
        return Err(Invalid::NotCanonical { at, why: "integer or length not in shortest form" });
    }
    Ok((major, argument, at + 1 + size))
}

/// Checks that `bytes` are one canonical value and returns its number of levels.
pub(super) fn check(bytes: &[u8], depth_max: usize) -> Result<usize, Invalid> {
    let mut scan = Scan { bytes, depth_max, deepest: 0 };
    let end = scan.item(0, 1)?;
    if end != bytes.len() {
        return Err(Invalid::Trailing { at: end });
    }
    Ok(scan.deepest)
}

struct Scan<'a> {
    bytes: &'a [u8],
    depth_max: usize,
    deepest: usize,
}

impl Scan<'_> {
    fn item(&mut self, at: usize, depth: usize) -> Result<usize, Invalid> {
        if depth > self.depth_max {
            return Err(Invalid::TooDeep { max: self.depth_max });
        }
        self.deepest = self.deepest.max(depth);
        let (major, argument, next) = head(self.bytes, at)?;
        match major {
            0 | 1 => Ok(next),
            2 => Ok(self.chunk(next, argument)?.1),
            3 => self.text(at, next, argument),
            4 => (0..argument).try_fold(next, |at, _| self.item(at, depth + 1)),
            5 => self.map(next, argument, depth),
            6 => self.link(at, argument, next),
            _ => self.simple(at, argument, next),
        }
    }

    fn chunk(&self, at: usize, length: u64) -> Result<(&[u8], usize), Invalid> {
        let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length)).ok_or(Invalid::Truncated)?;
        Ok((self.bytes.get(at..end).ok_or(Invalid::Truncated)?, end))
    }

    fn text(&self, at: usize, next: usize, length: u64) -> Result<usize, Invalid> {
        let (text, end) = self.chunk(next, length)?;
        match std::str::from_utf8(text) {
            Ok(_) => Ok(end),
            Err(_) => Err(Invalid::NotCanonical { at, why: "string is not UTF-8" }),
        }
    }

    fn map(&mut self, start: usize, entries: u64, depth: usize) -> Result<usize, Invalid> {
        let (mut at, mut previous): (usize, Option<(usize, usize)>) = (start, None);
        for _ in 0..entries {
            let (major, length, next) = head(self.bytes, at)?;
            if major != 3 {
                return Err(Invalid::NotCanonical { at, why: "map key is not a string" });
            }
            let end = self.text(at, next, length)?;
            // Encoded keys in canonical order: shorter first, then bytewise.
            if let Some((from, to)) = previous {
                let (last, this) = (&self.bytes[from..to], &self.bytes[at..end]);
                if (last.len(), last) >= (this.len(), this) {
                    return Err(Invalid::NotCanonical { at, why: "map keys not unique and sorted" });
                }
            }
            previous = Some((at, end));
            at = self.item(end, depth + 1)?;
        }
        Ok(at)
    }

    fn link(&self, at: usize, tag: u64, next: usize) -> Result<usize, Invalid> {
        let wrong = |why| Err(Invalid::NotCanonical { at, why });
        if tag != 42 {
            return wrong("tag other than 42");
        }
        let (major, length, start) = head(self.bytes, next)?;
        if major != 2 {
            return wrong("link is not bytes");
        }
        let (cid, end) = self.chunk(start, length)?;
        match cid.split_first() {
            Some((0, cid)) if super::cid::is_cid(cid) => Ok(end),
            _ => wrong("link is not a CID"),
        }
    }

    fn simple(&self, at: usize, argument: u64, next: usize) -> Result<usize, Invalid> {
        match self.bytes[at] {
            0xf4..=0xf6 => Ok(next),
            // Negative zero equals zero: one value, one encoding.
            0xfb if argument == 1 << 63 => Err(Invalid::NotCanonical { at, why: "float is negative zero" }),
            0xfb if f64::from_bits(argument).is_finite() => Ok(next),
            0xfb => Err(Invalid::NotCanonical { at, why: "float is not finite" }),
            _ => Err(Invalid::NotCanonical { at, why: "simple value or short float" }),
        }
    }
}

/// Returns the offset behind the checked item at `at`, and how many items were passed, keys included.
pub(crate) fn skip(bytes: &[u8], at: usize) -> (usize, u64) {
    let (mut at, mut left, mut passed) = (at, 1u64, 0u64);
    while left > 0 {
        let Ok((major, argument, next)) = head(bytes, at) else { return (bytes.len(), passed) };
        (at, left, passed) = (next, left - 1, passed + 1);
        match major {
            2 | 3 => at += argument as usize,
            4 => left += argument,
            5 => left += argument * 2,
            6 => left += 1,
            _ => {}
        }
    }
    (at, passed)
}

/// Returns the length of a head with this argument.
pub(super) fn head_bytes(argument: u64) -> usize {
    match argument {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Appends the head of an item in its shortest form.
pub(super) fn write_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend([major | 24, argument as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend((argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend((argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend(argument.to_be_bytes());
        }
    }
}
