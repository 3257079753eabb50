//! Edits: what is on the path is made anew, everything else is shared.

use std::sync::Arc;

use super::{
    Body, Entry, FLAT_BYTES_MAX, FLAT_BYTES_MIN, Found, Large, PARTS_MAX, PARTS_MIN, Part, Spot, Tree,
    build::{flat, nested},
    copies,
};
use crate::{
    path::Segment,
    value::{
        Value,
        edit::{self, Mismatch},
        skip,
    },
};

/// Returns `current` with `value` at `path`, whose first `depth` steps have led to it.
pub(super) fn put(current: Found<'_>, path: &[Segment], depth: usize, value: &Value) -> Result<Tree, Mismatch> {
    if depth == path.len() {
        return Ok(Tree::new(value.clone()));
    }
    let large = match current {
        Found::Bytes(bytes) => {
            let after = edit::set(Some(bytes), path, depth, value.as_bytes())?;
            copies(bytes.len());
            return Ok(Tree::new(Value(after.map_or_else(|| bytes.into(), Arc::from))));
        }
        Found::Large(large) => large,
    };
    let spot = large.spot(path, depth)?;
    let child = match large.child(&spot) {
        Some(child) => put(child, path, depth + 1, value)?,
        None if depth + 1 == path.len() => Tree::new(value.clone()),
        None => return Err(missing(path, depth + 1)),
    };
    if let Segment::Index(index) = path[depth]
        && u64::from(index) > large.entries
    {
        return Err(edit::past_end(path, depth));
    }
    Ok(large.change(&spot, &path[depth], Some(&child)))
}

/// Returns `current` without what is at `path`, none when nothing is there.
pub(super) fn remove(current: Found<'_>, path: &[Segment], depth: usize) -> Result<Option<Tree>, Mismatch> {
    let large = match current {
        Found::Bytes(bytes) => {
            copies(bytes.len());
            return Ok(edit::remove(bytes, path, depth)?.map(|bytes| Tree::new(Value(bytes.into()))));
        }
        Found::Large(large) => large,
    };
    let spot = large.spot(path, depth)?;
    let Some(child) = large.child(&spot) else { return Ok(None) };
    if depth + 1 == path.len() {
        return Ok(Some(large.change(&spot, &path[depth], None)));
    }
    Ok(remove(child, path, depth + 1)?.map(|child| large.change(&spot, &path[depth], Some(&child))))
}

fn missing(path: &[Segment], depth: usize) -> Mismatch {
    Mismatch { at: crate::value::at(&path[..depth]), expected: "a value".to_owned(), actual: "missing".to_owned() }
}

impl Large {
    /// Puts a value at a spot, or takes away what is there.
    fn change(&self, spot: &Spot, step: &Segment, child: Option<&Tree>) -> Tree {
        let part = self.part(&spot.way);
        let mut stretches = Stretches::new(self.major);
        let key = |part: &Part| match spot.entry {
            Entry::Bytes(entry, child) => part.first[entry..child].to_vec(),
            Entry::Nested => part.first.to_vec(),
            _ => {
                let mut key = Vec::new();
                if let Segment::Key(text) = step {
                    edit::write_key(&mut key, text);
                }
                key
            }
        };
        let put = |stretches: &mut Stretches| {
            if let Some(child) = child {
                stretches.entry(&key(part), child);
            }
        };
        match spot.entry {
            Entry::Bytes(entry, child) => {
                let end = skip(&part.first, child).0;
                stretches.flat(&part.first[..entry]);
                put(&mut stretches);
                stretches.flat(&part.first[end..]);
            }
            Entry::Missing(at) if part.bytes <= FLAT_BYTES_MAX => {
                stretches.flat(&part.first[..at]);
                put(&mut stretches);
                stretches.flat(&part.first[at..]);
            }
            Entry::Nested => put(&mut stretches),
            // One entry, or one that is too large for a stretch: it is shared, not copied.
            Entry::Before | Entry::Missing(0) => {
                put(&mut stretches);
                stretches.part(part);
            }
            Entry::Behind | Entry::Missing(_) => {
                stretches.part(part);
                put(&mut stretches);
            }
        }
        Large::of(self.major, replace(&self.parts, &spot.way, stretches.end()))
    }
}

/// Makes stretches of entries that come in order.
struct Stretches {
    major: u8,
    parts: Vec<Part>,
    /// Flat entries that are in no stretch yet.
    run: Vec<u8>,
}

impl Stretches {
    fn new(major: u8) -> Stretches {
        Stretches { major, parts: Vec::new(), run: Vec::with_capacity(FLAT_BYTES_MAX) }
    }

    /// Adds flat entries.
    fn flat(&mut self, entries: &[u8]) {
        self.run.extend_from_slice(entries);
    }

    fn entry(&mut self, key: &[u8], child: &Tree) {
        match child {
            Tree::Flat(value) => {
                self.run.extend_from_slice(key);
                self.run.extend_from_slice(value.as_bytes());
            }
            Tree::Large(large) => self.part(&nested(key, large.clone())),
        }
    }

    fn part(&mut self, part: &Part) {
        self.close();
        self.parts.push(part.clone());
    }

    /// Cuts the run into stretches of about the same size, none of several entries larger than it may be.
    fn close(&mut self) {
        copies(self.run.len());
        let run = std::mem::take(&mut self.run);
        let wanted = run.len() / run.len().div_ceil(FLAT_BYTES_MAX).max(1);
        let (mut start, mut end, mut entries) = (0, 0, 0);
        while end < run.len() {
            let child = if self.major == 5 { skip(&run, end).0 } else { end };
            let next = skip(&run, child).0;
            if entries > 0 && (next - start > FLAT_BYTES_MAX || end - start >= wanted) {
                self.parts.push(flat(entries, &run[start..end]));
                (start, entries) = (end, 0);
            }
            (end, entries) = (next, entries + 1);
        }
        if entries > 0 {
            self.parts.push(flat(entries, &run[start..end]));
        }
    }

    fn end(mut self) -> Vec<Part> {
        self.close();
        self.parts
    }
}

/// Returns `parts` with others in place of the stretch that `way` leads to.
fn replace(parts: &[Part], way: &[usize], new: Vec<Part>) -> Vec<Part> {
    let Some((index, way)) = way.split_first() else { return new };
    let new = match &parts[*index].body {
        Body::Parts(children) if !way.is_empty() => group(replace(children, way, new)),
        _ => new,
    };
    copies(size_of_val(parts));
    let mut out = Vec::with_capacity(parts.len() + new.len());
    out.extend_from_slice(&parts[..*index]);
    out.extend(new);
    let end = out.len();
    out.extend_from_slice(&parts[index + 1..]);
    for left in (index.saturating_sub(1)..=end).rev() {
        if let Some([a, b]) = out.get(left..left + 2)
            && let Some(joined) = join(a, b)
        {
            out[left] = joined;
            out.remove(left + 1);
        }
    }
    out
}

/// Joins two neighbours of which one is too small, if both fit one.
fn join(a: &Part, b: &Part) -> Option<Part> {
    match (&a.body, &b.body) {
        (Body::Entries, Body::Entries)
            if a.bytes.min(b.bytes) < FLAT_BYTES_MIN && a.bytes + b.bytes <= FLAT_BYTES_MAX =>
        {
            Some(flat(a.entries + b.entries, &[&a.first[..], &b.first[..]].concat()))
        }
        (Body::Parts(left), Body::Parts(right))
            if left.len().min(right.len()) < PARTS_MIN && left.len() + right.len() <= PARTS_MAX =>
        {
            Some(node([&left[..], &right[..]].concat()))
        }
        _ => None,
    }
}

/// Makes nodes of about the same number of children.
pub(super) fn group(parts: Vec<Part>) -> Vec<Part> {
    let nodes = parts.len().div_ceil(PARTS_MAX);
    let mut parts = parts.into_iter();
    (0..nodes)
        .map(|number| {
            let children = parts.len().div_ceil(nodes - number);
            node(parts.by_ref().take(children).collect())
        })
        .collect()
}

fn node(parts: Vec<Part>) -> Part {
    copies(size_of_val(&parts[..]));
    Part {
        entries: parts.iter().map(|part| part.entries).sum(),
        bytes: parts.iter().map(|part| part.bytes).sum(),
        first: parts.first().map_or_else(|| [].into(), |part| part.first.clone()),
        body: Body::Parts(parts.into()),
    }
}
