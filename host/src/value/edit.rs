//! Reads and writes by path on canonical bytes, without decoding what is not touched.

use std::{cmp::Ordering, ops::Range};

use serde::{Deserialize, Serialize};

use super::{
    at,
    scan::{Kind, head, skip, write_head},
};
use crate::path::Segment;

/// A path that leads where the value does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("type mismatch at {at}: expected {expected}, found {actual}")]
pub struct Mismatch {
    /// The place, as text.
    pub at: String,
    /// What was needed there.
    pub expected: String,
    /// The kind that is there, or `missing`.
    pub actual: String,
}

/// Returns the error of a path whose step `depth` leads into a value of another kind.
pub(super) fn mismatch(actual: Kind, path: &[Segment], depth: usize) -> Mismatch {
    let expected = match path[depth] {
        Segment::Key(_) => "map",
        Segment::Index(_) => "list",
    };
    Mismatch { at: at(&path[..depth]), expected: expected.to_owned(), actual: actual.to_string() }
}

/// A map or list on the way.
#[derive(Clone, Copy)]
pub(super) struct Container {
    pub at: usize,
    pub entries: u64,
    /// Offset of the first entry.
    pub start: usize,
}

/// Where a path leads.
enum Place {
    /// To the value that starts at `child`. `entry` is where it starts in its container, for a map with its key.
    Found { parent: Option<Container>, entry: usize, child: usize },
    /// To nothing: step `depth` leads out of `container`. For a map `insert` is where its key would go.
    Missing { container: Container, depth: usize, insert: usize },
}

/// Finds the end of a path in one pass: what is passed by is skipped once, what is stepped into is not skipped at all.
/// The first `from` steps have led to `bytes`.
fn seek(bytes: &[u8], path: &[Segment], from: usize) -> Result<Place, Mismatch> {
    let (mut parent, mut entry, mut child) = (None, 0, 0);
    for (depth, segment) in path.iter().enumerate().skip(from) {
        let at = child;
        let wrong = || mismatch(Kind::at(bytes, at), path, depth);
        let Ok((major, entries, start)) = head(bytes, at) else { return Err(wrong()) };
        let container = Container { at, entries, start };
        let step = match (major, segment) {
            (5, Segment::Key(key)) => find_key(bytes, container, key),
            (4, Segment::Index(index)) => find_index(bytes, container, *index),
            _ => return Err(wrong()),
        };
        match step {
            Ok(found) => (parent, entry, child) = (Some(container), found.0, found.1),
            Err(insert) => return Ok(Place::Missing { container, depth, insert }),
        }
    }
    Ok(Place::Found { parent, entry, child })
}

/// Returns where the entry and its value start, or else where the key would go.
pub(super) fn find_key(bytes: &[u8], map: Container, key: &str) -> Result<(usize, usize), usize> {
    let mut entry = map.start;
    for _ in 0..map.entries {
        let Ok((_, length, text)) = head(bytes, entry) else { break };
        let child = text + length as usize;
        let found = &bytes[text..child];
        match found.len().cmp(&key.len()).then_with(|| found.cmp(key.as_bytes())) {
            Ordering::Less => entry = skip(bytes, child).0,
            Ordering::Equal => return Ok((entry, child)),
            Ordering::Greater => break,
        }
    }
    Err(entry)
}

/// Returns where the item starts, as entry and as value; an index past the end is an error without a look at the items.
pub(super) fn find_index(bytes: &[u8], list: Container, index: u32) -> Result<(usize, usize), usize> {
    if u64::from(index) >= list.entries {
        return Err(list.start);
    }
    let at = (0..index).fold(list.start, |at, _| skip(bytes, at).0);
    Ok((at, at))
}

/// Returns where the value at `path` is; its first `from` steps have led to `bytes`. Where it is missing, the step that leads
/// nowhere, and the entries of the container that it leads out of.
pub(super) fn find(
    bytes: &[u8],
    path: &[Segment],
    from: usize,
) -> Result<Result<Range<usize>, (usize, u64)>, Mismatch> {
    Ok(match seek(bytes, path, from)? {
        // The whole value ends where its bytes do.
        Place::Found { parent: None, .. } => Ok(0..bytes.len()),
        Place::Found { child, .. } => Ok(child..skip(bytes, child).0),
        Place::Missing { container, depth, .. } => Err((depth, container.entries)),
    })
}

/// Returns what a write makes where nothing is: `value` inside the containers that the steps from `from` on make.
pub(super) fn made(path: &[Segment], from: usize, value: &[u8]) -> Result<Vec<u8>, Mismatch> {
    let mut out = Vec::with_capacity(value.len() + 16 * path.len());
    write_new(&mut out, path, from, value)?;
    Ok(out)
}

/// Returns new bytes with `value` at `path`, none when it is there already; its first `from` steps have led to `current`.
pub(super) fn set(
    current: Option<&[u8]>,
    path: &[Segment],
    from: usize,
    value: &[u8],
) -> Result<Option<Vec<u8>>, Mismatch> {
    let Some(bytes) = current else { return made(path, from, value).map(Some) };
    let (mut out, behind) = match seek(bytes, path, from)? {
        Place::Found { child, .. } => {
            let end = skip(bytes, child).0;
            if bytes[child..end] == *value {
                return Ok(None);
            }
            let mut out = Vec::with_capacity(bytes.len() - (end - child) + value.len());
            out.extend_from_slice(&bytes[..child]);
            out.extend_from_slice(value);
            (out, end)
        }
        Place::Missing { container, depth, insert } => {
            let mut insert = insert;
            if let Segment::Index(index) = path[depth] {
                if u64::from(index) > container.entries {
                    return Err(past_end(path, depth));
                }
                insert = skip(bytes, container.at).0;
            }
            let mut out = Vec::with_capacity(bytes.len() + value.len() + 32 * path.len());
            out.extend_from_slice(&bytes[..container.at]);
            write_head(&mut out, bytes[container.at] >> 5, container.entries + 1);
            out.extend_from_slice(&bytes[container.start..insert]);
            if let Segment::Key(key) = &path[depth] {
                write_key(&mut out, key);
            }
            write_new(&mut out, path, depth + 1, value)?;
            (out, insert)
        }
    };
    out.extend_from_slice(&bytes[behind..]);
    Ok(Some(out))
}

/// Appends `value` inside the containers that the steps from `depth` on make.
fn write_new(out: &mut Vec<u8>, path: &[Segment], depth: usize, value: &[u8]) -> Result<(), Mismatch> {
    for (number, segment) in path.iter().enumerate().skip(depth) {
        match segment {
            Segment::Key(key) => {
                write_head(out, 5, 1);
                write_key(out, key);
            }
            Segment::Index(0) => write_head(out, 4, 1),
            Segment::Index(_) => return Err(past_end(path, number)),
        }
    }
    out.extend_from_slice(value);
    Ok(())
}

/// Returns new bytes without what is at `path`, none when nothing was there; its first `from` steps have led to `bytes`.
pub(super) fn remove(bytes: &[u8], path: &[Segment], from: usize) -> Result<Option<Vec<u8>>, Mismatch> {
    let Place::Found { parent: Some(parent), entry, child } = seek(bytes, path, from)? else { return Ok(None) };
    let end = skip(bytes, child).0;
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..parent.at]);
    write_head(&mut out, bytes[parent.at] >> 5, parent.entries - 1);
    out.extend_from_slice(&bytes[parent.start..entry]);
    out.extend_from_slice(&bytes[end..]);
    Ok(Some(out))
}

pub(super) fn write_key(out: &mut Vec<u8>, key: &str) {
    write_head(out, 3, key.len() as u64);
    out.extend_from_slice(key.as_bytes());
}

pub(super) fn past_end(path: &[Segment], depth: usize) -> Mismatch {
    Mismatch {
        at: at(&path[..=depth]),
        expected: "an index of at most the list's length".to_owned(),
        actual: "missing".to_owned(),
    }
}
