//! A cell's value in memory: a persistent tree over canonical bytes, so that an edit costs its path, not the value, and a
//! copy costs a pointer (C7).
//!
//! A container of more than [`FLAT_BYTES_MAX`] bytes is a tree of stretches of its entries, in the order of their canonical
//! bytes: for a map shorter keys first, then bytewise. Everything else is flat bytes. Nodes are balanced by number: authors
//! choose keys, so nothing follows from their hashes. Each node knows how many entries and bytes are below it. The form
//! depends on what was written before and says nothing: two trees are equal when their bytes are.

mod build;
mod change;
mod items;
mod stream;

use std::{cmp::Ordering, sync::Arc};

use super::{
    Number, Value,
    edit::{self, Container, Mismatch},
    scan::{Kind, head, head_bytes},
};
use crate::path::Segment;

/// Largest container that is flat, and largest stretch of several entries, in bytes: what an edit copies at least.
pub(super) const FLAT_BYTES_MAX: usize = 1 << 10;
/// A container that shrinks below this becomes flat, and a stretch joins the one beside it if both fit one.
const FLAT_BYTES_MIN: usize = FLAT_BYTES_MAX / 4;
/// Children of a node.
const PARTS_MAX: usize = 16;
/// A node with fewer children joins the one beside it if both fit one.
const PARTS_MIN: usize = PARTS_MAX / 4;

/// A value, flat or as a tree.
#[derive(Clone)]
pub(crate) enum Tree {
    Flat(Value),
    Large(Arc<Large>),
}

/// A container that is a tree.
pub(crate) struct Large {
    /// Major type: 4 for a list, 5 for a map.
    major: u8,
    entries: u64,
    /// Length of its canonical bytes.
    bytes: usize,
    parts: Vec<Part>,
}

/// A stretch of a container's entries.
#[derive(Clone)]
struct Part {
    entries: u64,
    /// Length of their canonical bytes, keys included.
    bytes: usize,
    /// Bytes that begin with the first of its entries: at least with its key.
    first: Arc<[u8]>,
    body: Body,
}

#[derive(Clone)]
enum Body {
    /// Entries that stand in `first`, whole.
    Entries,
    /// One entry, whose value is a tree; `first` is its key, empty in a list.
    Nested(Arc<Large>),
    /// Shorter stretches.
    Parts(Arc<[Part]>),
}

/// A value inside a tree.
#[derive(Clone, Copy)]
pub(crate) enum Found<'a> {
    Bytes(&'a [u8]),
    Large(&'a Arc<Large>),
}

/// Where a write at a path takes place.
pub(crate) enum Place {
    /// Nowhere: the value is there already.
    Same,
    /// After so many steps of the path, in a container that is there: the value, inside the containers that are missing.
    Put(usize, Value),
}

/// Where an entry is in a [`Large`], or would go.
struct Spot {
    /// Number of the child to go to, from the top down to a stretch of entries.
    way: Vec<usize>,
    entry: Entry,
}

enum Entry {
    /// In the stretch's bytes: the entry starts at the first offset, its value at the second.
    Bytes(usize, usize),
    /// The one entry of the stretch, a tree.
    Nested,
    /// Missing; in the stretch's bytes it would start here.
    Missing(usize),
    /// Missing; it would go before the stretch's one entry.
    Before,
    /// Missing; it would go behind the stretch.
    Behind,
}

impl Tree {
    /// Makes the tree of a value.
    pub fn new(value: Value) -> Tree {
        build::tree(value)
    }

    /// Returns the whole value.
    pub fn whole(&self) -> Found<'_> {
        match self {
            Tree::Flat(value) => Found::Bytes(value.as_bytes()),
            Tree::Large(large) => Found::Large(large),
        }
    }

    /// Returns the length of the canonical bytes.
    pub fn len(&self) -> usize {
        self.whole().len()
    }

    /// Returns the value with its canonical bytes.
    pub fn to_value(&self) -> Value {
        match self {
            Tree::Flat(value) => value.clone(),
            Tree::Large(_) => self.whole().to_value(),
        }
    }

    /// Returns the value at `path`, none where a key or index is missing.
    ///
    /// # Errors
    /// [`Mismatch`] when the path leads through a value of another kind.
    pub fn find(&self, path: &[Segment]) -> Result<Option<Found<'_>>, Mismatch> {
        self.walk(path).map(Result::ok)
    }

    /// Returns what is at `path` as a value of its own, which shares what is large.
    ///
    /// # Errors
    /// As `find`.
    pub fn part(&self, path: &[Segment]) -> Result<Option<Tree>, Mismatch> {
        if path.is_empty() {
            return Ok(Some(self.clone()));
        }
        Ok(self.find(path)?.map(|found| match found {
            Found::Bytes(bytes) => Tree::Flat(Value(bytes.into())),
            Found::Large(large) => Tree::Large(large.clone()),
        }))
    }

    /// As `find`; where it is missing the step that leads nowhere, and the entries of the container that it leads out of.
    fn walk(&self, path: &[Segment]) -> Result<Result<Found<'_>, (usize, u64)>, Mismatch> {
        let mut found = self.whole();
        for depth in 0..path.len() {
            let large = match found {
                Found::Bytes(bytes) => {
                    return Ok(edit::find(bytes, path, depth)?.map(|range| Found::Bytes(&bytes[range])));
                }
                Found::Large(large) => large,
            };
            let spot = large.spot(path, depth)?;
            let Some(child) = large.child(&spot) else { return Ok(Err((depth, large.entries))) };
            found = child;
        }
        Ok(Ok(found))
    }

    /// Returns the first link that a path leads through, none when there is none: after how many steps, and its bytes.
    pub fn link_on(&self, path: &[Segment]) -> Option<(usize, &[u8])> {
        let mut found = self.whole();
        for depth in 0..path.len() {
            found = match found {
                Found::Bytes(bytes) if Kind::at(bytes, 0) == Kind::Link => return Some((depth, bytes)),
                Found::Bytes(bytes) => {
                    let range = edit::find(bytes, &path[..=depth], depth).ok()?.ok()?;
                    Found::Bytes(&bytes[range])
                }
                Found::Large(large) => large.child(&large.spot(path, depth).ok()?)?,
            };
        }
        None
    }

    /// Returns where a write of `value` at `path` takes place in `current`: missing parents are made (C3), an equal value is
    /// no write (C4).
    ///
    /// # Errors
    /// [`Mismatch`] when the path leads through a value of another kind or past the end of a list.
    pub fn place(current: Option<&Tree>, path: &[Segment], value: &Value) -> Result<Place, Mismatch> {
        let steps = match current.map(|current| current.walk(path)).transpose()? {
            None => 0,
            Some(Ok(found)) if found == Found::Bytes(value.as_bytes()) => return Ok(Place::Same),
            Some(Ok(_)) => path.len(),
            Some(Err((depth, entries))) => {
                if matches!(path[depth], Segment::Index(index) if u64::from(index) > entries) {
                    return Err(edit::past_end(path, depth));
                }
                depth + 1
            }
        };
        if steps == path.len() {
            return Ok(Place::Put(steps, value.clone()));
        }
        Ok(Place::Put(steps, Value(edit::made(path, steps, value.as_bytes())?.into())))
    }

    /// Returns `current` with `value` at `path`, whose parent is there.
    ///
    /// # Errors
    /// [`Mismatch`] when it is not.
    pub fn put(current: Option<&Tree>, path: &[Segment], value: &Value) -> Result<Tree, Mismatch> {
        match current {
            _ if path.is_empty() => Ok(Tree::new(value.clone())),
            Some(current) => change::put(current.whole(), path, 0, value),
            None => Err(Mismatch { at: "/".to_owned(), expected: "a value".to_owned(), actual: "missing".to_owned() }),
        }
    }

    /// Returns the value without what is at `path`, none when nothing was there. `path` is not empty.
    ///
    /// # Errors
    /// [`Mismatch`] when the path leads through a value of another kind.
    pub fn remove(&self, path: &[Segment]) -> Result<Option<Tree>, Mismatch> {
        change::remove(self.whole(), path, 0)
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Tree) -> bool {
        self.whole() == other.whole()
    }
}

impl<'a> Found<'a> {
    /// Returns the length of the canonical bytes.
    pub fn len(self) -> usize {
        match self {
            Found::Bytes(bytes) => bytes.len(),
            Found::Large(large) => large.bytes,
        }
    }

    /// Returns the kind of the value.
    pub fn kind(self) -> Kind {
        match self {
            Found::Bytes(bytes) => Kind::at(bytes, 0),
            Found::Large(large) if large.major == 5 => Kind::Map,
            Found::Large(_) => Kind::List,
        }
    }

    /// Returns the number that it is, none for another kind.
    pub fn number(self) -> Option<Number> {
        match self {
            Found::Bytes(bytes) => Number::of(bytes),
            Found::Large(_) => None,
        }
    }

    /// Returns the canonical bytes.
    pub fn to_vec(self) -> Vec<u8> {
        stream::bytes(self)
    }

    /// Returns the value with its canonical bytes.
    pub fn to_value(self) -> Value {
        Value(self.to_vec().into())
    }

    /// Returns whether both are one object in memory: equal without a look.
    pub fn is_shared(self, other: Found<'_>) -> bool {
        match (self, other) {
            (Found::Bytes(a), Found::Bytes(b)) => std::ptr::eq(a, b),
            (Found::Large(a), Found::Large(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// What is shared is equal without a look, what differs in length is not.
impl PartialEq for Found<'_> {
    fn eq(&self, other: &Found<'_>) -> bool {
        self.is_shared(*other) || (self.len() == other.len() && stream::equal(*self, *other))
    }
}

impl Part {
    /// Returns the key of the first entry, in a map.
    fn first_key(&self) -> &[u8] {
        key(&self.first)
    }
}

/// Returns the key at the start of checked bytes.
fn key(bytes: &[u8]) -> &[u8] {
    head(bytes, 0).ok().and_then(|(_, length, start)| bytes.get(start..start + length as usize)).unwrap_or_default()
}

/// The canonical order of keys.
fn order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

impl Large {
    /// Finds step `depth` of a path.
    fn spot(&self, path: &[Segment], depth: usize) -> Result<Spot, Mismatch> {
        match (self.major, &path[depth]) {
            (5, Segment::Key(key)) => Ok(self.spot_of_key(key)),
            (4, Segment::Index(index)) => Ok(self.spot_of_index(*index)),
            (major, _) => Err(edit::mismatch(if major == 5 { Kind::Map } else { Kind::List }, path, depth)),
        }
    }

    fn spot_of_key(&self, wanted: &str) -> Spot {
        let (mut parts, mut way) = (&self.parts[..], Vec::with_capacity(4));
        loop {
            let behind = parts.partition_point(|part| order(part.first_key(), wanted.as_bytes()).is_le());
            let index = behind.saturating_sub(1);
            way.push(index);
            let part = &parts[index];
            let entry = match &part.body {
                Body::Parts(children) => {
                    parts = children;
                    continue;
                }
                Body::Entries => {
                    let container = Container { at: 0, entries: part.entries, start: 0 };
                    match edit::find_key(&part.first, container, wanted) {
                        Ok((entry, child)) => Entry::Bytes(entry, child),
                        Err(insert) => Entry::Missing(insert),
                    }
                }
                Body::Nested(_) => match order(part.first_key(), wanted.as_bytes()) {
                    Ordering::Equal => Entry::Nested,
                    Ordering::Less => Entry::Behind,
                    Ordering::Greater => Entry::Before,
                },
            };
            return Spot { way, entry };
        }
    }

    /// An index that is missing goes behind the last entry.
    fn spot_of_index(&self, wanted: u32) -> Spot {
        let (mut parts, mut way, mut left) = (&self.parts[..], Vec::with_capacity(4), u64::from(wanted));
        loop {
            let last = parts.len() - 1;
            let mut index = 0;
            while index < last && left >= parts[index].entries {
                left -= parts[index].entries;
                index += 1;
            }
            way.push(index);
            let part = &parts[index];
            let entry = match &part.body {
                Body::Parts(children) => {
                    parts = children;
                    continue;
                }
                Body::Entries if left < part.entries => {
                    let container = Container { at: 0, entries: part.entries, start: 0 };
                    match edit::find_index(&part.first, container, left as u32) {
                        Ok((entry, child)) => Entry::Bytes(entry, child),
                        Err(_) => Entry::Behind,
                    }
                }
                Body::Entries => Entry::Missing(part.first.len()),
                Body::Nested(_) if left == 0 => Entry::Nested,
                Body::Nested(_) => Entry::Behind,
            };
            return Spot { way, entry };
        }
    }

    /// Returns the stretch that a way leads to.
    fn part(&self, way: &[usize]) -> &Part {
        let (last, inner) = way.split_last().expect("a way has a step");
        let mut parts = &self.parts[..];
        for index in inner {
            if let Body::Parts(children) = &parts[*index].body {
                parts = children;
            }
        }
        &parts[*last]
    }

    /// Returns the value at a spot.
    fn child(&self, spot: &Spot) -> Option<Found<'_>> {
        let part = self.part(&spot.way);
        match (&spot.entry, &part.body) {
            (Entry::Bytes(_, child), _) => {
                let end = super::skip(&part.first, *child).0;
                Some(Found::Bytes(&part.first[*child..end]))
            }
            (Entry::Nested, Body::Nested(large)) => Some(Found::Large(large)),
            _ => None,
        }
    }

    /// Makes a container of stretches, flat when it is small.
    fn of(major: u8, parts: Vec<Part>) -> Tree {
        let large = Large::with(major, parts);
        if large.bytes < FLAT_BYTES_MIN {
            Tree::Flat(Found::Large(&Arc::new(large)).to_value())
        } else {
            Tree::Large(Arc::new(large))
        }
    }

    fn with(major: u8, mut parts: Vec<Part>) -> Large {
        while parts.len() > PARTS_MAX {
            parts = change::group(parts);
        }
        while let [Part { body: Body::Parts(children), .. }] = &parts[..] {
            parts = children.to_vec();
        }
        let entries = parts.iter().map(|part| part.entries).sum();
        let bytes = head_bytes(entries) + parts.iter().map(|part| part.bytes).sum::<usize>();
        Large { major, entries, bytes, parts }
    }
}

#[cfg(test)]
thread_local! {
    /// Bytes copied by edits on this thread: what tests count instead of time.
    pub(crate) static COPIED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts bytes that an edit copies, for tests.
fn copies(bytes: usize) {
    #[cfg(test)]
    COPIED.set(COPIED.get() + bytes);
    let _ = bytes;
}

#[cfg(test)]
mod tests;
