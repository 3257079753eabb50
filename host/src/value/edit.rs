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

fn mismatch(bytes: &[u8], at_byte: usize, path: &[Segment], depth: usize) -> Mismatch {
    let expected = match path[depth] {
        Segment::Key(_) => "map",
        Segment::Index(_) => "list",
    };
    let actual = Kind::at(bytes, at_byte).to_string();
    Mismatch { at: at(&path[..depth]), expected: expected.to_owned(), actual }
}

/// A map or list on the way.
#[derive(Clone, Copy)]
struct Container {
    at: usize,
    entries: u64,
    /// Offset of the first entry.
    start: usize,
}

/// Where a path leads.
enum Place {
    /// To the value that starts at `child`. `entry` is where it starts in its container, for a map with its key.
    Found { parent: Option<Container>, entry: usize, child: usize },
    /// To nothing: step `depth` leads out of `container`. For a map `insert` is where its key would go.
    Missing { container: Container, depth: usize, insert: usize },
}

/// Finds the end of a path in one pass: what is passed by is skipped once, what is stepped into is not skipped at all.
fn seek(bytes: &[u8], path: &[Segment]) -> Result<Place, Mismatch> {
    let (mut parent, mut entry, mut child) = (None, 0, 0);
    for (depth, segment) in path.iter().enumerate() {
        let at = child;
        let Ok((major, entries, start)) = head(bytes, at) else { return Err(mismatch(bytes, at, path, depth)) };
        let container = Container { at, entries, start };
        let step = match (major, segment) {
            (5, Segment::Key(key)) => find_key(bytes, container, key),
            (4, Segment::Index(index)) => find_index(bytes, container, *index),
            _ => return Err(mismatch(bytes, at, path, depth)),
        };
        match step {
            Ok(found) => (parent, entry, child) = (Some(container), found.0, found.1),
            Err(insert) => return Ok(Place::Missing { container, depth, insert }),
        }
    }
    Ok(Place::Found { parent, entry, child })
}

/// Returns where the entry and its value start, or else where the key would go.
fn find_key(bytes: &[u8], map: Container, key: &str) -> Result<(usize, usize), usize> {
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
fn find_index(bytes: &[u8], list: Container, index: u32) -> Result<(usize, usize), usize> {
    if u64::from(index) >= list.entries {
        return Err(list.start);
    }
    let at = (0..index).fold(list.start, |at, _| skip(bytes, at).0);
    Ok((at, at))
}

/// Returns where the value at `path` is.
pub(super) fn find(bytes: &[u8], path: &[Segment]) -> Result<Option<Range<usize>>, Mismatch> {
    Ok(match seek(bytes, path)? {
        // The whole value ends where its bytes do.
        Place::Found { parent: None, .. } => Some(0..bytes.len()),
        Place::Found { child, .. } => Some(child..skip(bytes, child).0),
        Place::Missing { .. } => None,
    })
}

/// Returns new bytes with `value` at `path`, none when it is there already.
pub(super) fn set(current: Option<&[u8]>, path: &[Segment], value: &[u8]) -> Result<Option<Vec<u8>>, Mismatch> {
    let Some(bytes) = current else {
        let mut out = Vec::with_capacity(value.len() + 16 * path.len());
        write_new(&mut out, path, 0, value)?;
        return Ok(Some(out));
    };
    let (mut out, behind) = match seek(bytes, path)? {
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

/// Returns new bytes without what is at `path`, none when nothing was there.
pub(super) fn remove(bytes: &[u8], path: &[Segment]) -> Result<Option<Vec<u8>>, Mismatch> {
    let Place::Found { parent: Some(parent), entry, child } = seek(bytes, path)? else { return Ok(None) };
    let end = skip(bytes, child).0;
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..parent.at]);
    write_head(&mut out, bytes[parent.at] >> 5, parent.entries - 1);
    out.extend_from_slice(&bytes[parent.start..entry]);
    out.extend_from_slice(&bytes[end..]);
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
