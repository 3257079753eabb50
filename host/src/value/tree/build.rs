//! From canonical bytes to a tree, in one pass that copies each byte once.

use std::sync::Arc;

use super::{Body, FLAT_BYTES_MAX, Large, Part, Tree, copies};
use crate::value::{Value, head, skip};

/// Bytes that a stretch is filled with: room for what comes later.
const FILLED_BYTES: usize = FLAT_BYTES_MAX / 4 * 3;

/// What a container is made of, before it is known whether it stays flat.
enum Piece {
    /// Flat entries between two offsets.
    Flat { start: usize, end: usize, entries: u64 },
    /// An entry whose key stands between two offsets.
    Nested { start: usize, child: usize, large: Arc<Large> },
}

pub(super) fn tree(value: Value) -> Tree {
    if value.as_bytes().len() <= FLAT_BYTES_MAX {
        return Tree::Flat(value);
    }
    match item(value.as_bytes(), 0).1 {
        Some(large) => Tree::Large(large),
        None => Tree::Flat(value),
    }
}

/// Passes by the item at `at`: returns where it ends, and the tree that it is if it is a large container.
fn item(bytes: &[u8], at: usize) -> (usize, Option<Arc<Large>>) {
    let Ok((major @ (4 | 5), entries, start)) = head(bytes, at) else { return (skip(bytes, at).0, None) };
    let (mut pieces, mut end) = (Vec::new(), start);
    for _ in 0..entries {
        let entry = end;
        let child = if major == 5 { skip(bytes, entry).0 } else { entry };
        let (next, large) = item(bytes, child);
        end = next;
        match (large, pieces.last_mut()) {
            (Some(large), _) => pieces.push(Piece::Nested { start: entry, child, large }),
            (None, Some(Piece::Flat { start, end, entries })) if next - *start <= FILLED_BYTES => {
                (*end, *entries) = (next, *entries + 1);
            }
            (None, _) => pieces.push(Piece::Flat { start: entry, end: next, entries: 1 }),
        }
    }
    if end - at <= FLAT_BYTES_MAX {
        return (end, None);
    }
    let parts = pieces.into_iter().map(|piece| match piece {
        Piece::Flat { start, end, entries } => flat(entries, &bytes[start..end]),
        Piece::Nested { start, child, large } => nested(&bytes[start..child], large),
    });
    (end, Some(Arc::new(Large::with(major, parts.collect()))))
}

/// Makes a stretch of flat entries.
pub(super) fn flat(entries: u64, bytes: &[u8]) -> Part {
    copies(bytes.len());
    Part { entries, bytes: bytes.len(), first: bytes.into(), body: Body::Entries }
}

/// Makes a stretch of one entry that is a tree.
pub(super) fn nested(key: &[u8], large: Arc<Large>) -> Part {
    copies(key.len());
    Part { entries: 1, bytes: key.len() + large.bytes, first: key.into(), body: Body::Nested(large) }
}
