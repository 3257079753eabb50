//! Reads and writes by path on canonical bytes, without decoding what is not touched.

use std::{cmp::Ordering, ops::Range};

use super::{
    at,
    scan::{Kind, head, skip, write_head},
};
use crate::path::Segment;

/// A path that leads where the value does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("type mismatch at {at}: expected {expected}, found {actual}")]
pub struct Mismatch {
    /// The place, as text.
    pub at: String,
    /// What was needed there.
    pub expected: String,
    /// The kind that is there, or `missing`.
    pub actual: String,
}

fn mismatch(bytes: &[u8], path: &[Segment], depth: usize) -> Mismatch {
    let expected = match path[depth] {
        Segment::Key(_) => "map",
        Segment::Index(_) => "list",
    };
    Mismatch { at: at(&path[..depth]), expected: expected.to_owned(), actual: Kind::at(bytes, 0).to_string() }
}

/// Where a step leads inside the container that starts `bytes`.
enum Step {
    /// The child; for a map `entry` is where its key starts.
    Found { entry: usize, child: Range<usize> },
    /// Nothing there; it would be inserted at this offset.
    Missing { insert: usize },
}

/// Takes one step; returns it with the container's number of entries and the offset of the first.
fn step(bytes: &[u8], path: &[Segment], depth: usize) -> Result<(Step, u64, usize), Mismatch> {
    let Ok((major, entries, start)) = head(bytes, 0) else { return Err(mismatch(bytes, path, depth)) };
    let mut pos = start;
    match (major, &path[depth]) {
        (5, Segment::Key(key)) => {
            for _ in 0..entries {
                let entry = pos;
                let Ok((_, _, text)) = head(bytes, entry) else { break };
                let child = skip(bytes, entry);
                let found = &bytes[text..child];
                let order = found.len().cmp(&key.len()).then_with(|| found.cmp(key.as_bytes()));
                match order {
                    Ordering::Less => pos = skip(bytes, child),
                    Ordering::Equal => {
                        let child = child..skip(bytes, child);
                        return Ok((Step::Found { entry, child }, entries, start));
                    }
                    Ordering::Greater => break,
                }
            }
            Ok((Step::Missing { insert: pos }, entries, start))
        }
        (4, Segment::Index(index)) => {
            if u64::from(*index) >= entries {
                return Ok((Step::Missing { insert: bytes.len() }, entries, start));
            }
            for _ in 0..*index {
                pos = skip(bytes, pos);
            }
            Ok((Step::Found { entry: pos, child: pos..skip(bytes, pos) }, entries, start))
        }
        _ => Err(mismatch(bytes, path, depth)),
    }
}

/// Returns where the value at `path` is.
pub(super) fn find(bytes: &[u8], path: &[Segment]) -> Result<Option<Range<usize>>, Mismatch> {
    let mut range = 0..bytes.len();
    for depth in 0..path.len() {
        match step(&bytes[range.clone()], path, depth)?.0 {
            Step::Found { child, .. } => range = range.start + child.start..range.start + child.end,
            Step::Missing { .. } => return Ok(None),
        }
    }
    Ok(Some(range))
}

/// Returns new bytes with `value` at `path`.
pub(super) fn set(current: Option<&[u8]>, path: &[Segment], value: &[u8]) -> Result<Vec<u8>, Mismatch> {
    let mut out = Vec::with_capacity(current.map_or(0, <[u8]>::len) + value.len() + 16 * path.len());
    set_at(current, path, 0, value, &mut out)?;
    Ok(out)
}

fn set_at(
    current: Option<&[u8]>,
    path: &[Segment],
    depth: usize,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Mismatch> {
    let Some(segment) = path.get(depth) else {
        out.extend_from_slice(value);
        return Ok(());
    };
    let Some(bytes) = current else {
        return match segment {
            Segment::Key(key) => {
                write_head(out, 5, 1);
                write_key(out, key);
                set_at(None, path, depth + 1, value, out)
            }
            Segment::Index(0) => {
                write_head(out, 4, 1);
                set_at(None, path, depth + 1, value, out)
            }
            Segment::Index(_) => Err(past_end(path, depth)),
        };
    };
    let (found, entries, start) = step(bytes, path, depth)?;
    let major = bytes[0] >> 5;
    match found {
        Step::Found { child, .. } => {
            out.extend_from_slice(&bytes[..child.start]);
            set_at(Some(&bytes[child.clone()]), path, depth + 1, value, out)?;
            out.extend_from_slice(&bytes[child.end..]);
        }
        Step::Missing { insert } => {
            if let Segment::Index(index) = segment
                && u64::from(*index) > entries
            {
                return Err(past_end(path, depth));
            }
            write_head(out, major, entries + 1);
            out.extend_from_slice(&bytes[start..insert]);
            if let Segment::Key(key) = segment {
                write_key(out, key);
            }
            set_at(None, path, depth + 1, value, out)?;
            out.extend_from_slice(&bytes[insert..]);
        }
    }
    Ok(())
}

/// Returns new bytes without what is at `path`, none when nothing was there.
pub(super) fn remove(bytes: &[u8], path: &[Segment]) -> Result<Option<Vec<u8>>, Mismatch> {
    let Some((_, parents)) = path.split_last() else { return Ok(None) };
    let Some(parent) = find(bytes, parents)? else { return Ok(None) };
    let inside = &bytes[parent.clone()];
    let (Step::Found { entry, child }, entries, start) = step(inside, path, parents.len())? else {
        return Ok(None);
    };
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..parent.start]);
    write_head(&mut out, inside[0] >> 5, entries - 1);
    out.extend_from_slice(&inside[start..entry]);
    out.extend_from_slice(&inside[child.end..]);
    out.extend_from_slice(&bytes[parent.end..]);
    Ok(Some(out))
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    write_head(out, 3, key.len() as u64);
    out.extend_from_slice(key.as_bytes());
}

fn past_end(path: &[Segment], depth: usize) -> Mismatch {
    Mismatch {
        at: at(&path[..=depth]),
        expected: "an index of at most the list's length".to_owned(),
        actual: "missing".to_owned(),
    }
}
