//! The canonical bytes of a tree, one stretch after the other.

use std::sync::Arc;

use super::{Body, Found, Large, Part};
use crate::value::scan::write_head;

/// What is left of a value, last first.
struct Stream<'a>(Vec<Piece<'a>>);

#[derive(Clone, Copy)]
enum Piece<'a> {
    Bytes(&'a [u8]),
    Head(Head),
    Large(&'a Arc<Large>),
    Part(&'a Part),
}

/// The head of a container, and how much of it was taken.
#[derive(Clone, Copy)]
struct Head {
    bytes: [u8; 9],
    from: u8,
    end: u8,
}

impl Head {
    fn new(large: &Large) -> Head {
        let mut head = Vec::with_capacity(9);
        write_head(&mut head, large.major, large.entries);
        let mut bytes = [0; 9];
        bytes[..head.len()].copy_from_slice(&head);
        Head { bytes, from: 0, end: head.len() as u8 }
    }
}

impl Piece<'_> {
    fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Head(head) => usize::from(head.end - head.from),
            Piece::Large(large) => large.bytes,
            Piece::Part(part) => part.bytes,
        }
    }

    fn is_shared(&self, other: &Piece<'_>) -> bool {
        match (self, other) {
            (Piece::Bytes(a), Piece::Bytes(b)) => std::ptr::eq(*a, *b),
            (Piece::Large(a), Piece::Large(b)) => Arc::ptr_eq(a, b),
            (Piece::Part(a), Piece::Part(b)) => match (&a.body, &b.body) {
                (Body::Entries, Body::Entries) => Arc::ptr_eq(&a.first, &b.first),
                (Body::Nested(x), Body::Nested(y)) => Arc::ptr_eq(&a.first, &b.first) && Arc::ptr_eq(x, y),
                (Body::Parts(a), Body::Parts(b)) => Arc::ptr_eq(a, b),
                _ => false,
            },
            _ => false,
        }
    }

    /// Returns the bytes themselves; none of what has to be opened first.
    fn flat(&self) -> Option<&[u8]> {
        match self {
            Piece::Bytes(bytes) => Some(bytes),
            Piece::Head(head) => Some(&head.bytes[usize::from(head.from)..usize::from(head.end)]),
            _ => None,
        }
    }
}

impl<'a> Stream<'a> {
    fn new(found: Found<'a>) -> Stream<'a> {
        Stream(vec![match found {
            Found::Bytes(bytes) => Piece::Bytes(bytes),
            Found::Large(large) => Piece::Large(large),
        }])
    }

    /// Puts what the next piece is made of in its place.
    fn open(&mut self) {
        match self.0.pop() {
            Some(Piece::Large(large)) => {
                self.0.extend(large.parts.iter().rev().map(Piece::Part));
                self.0.push(Piece::Head(Head::new(large)));
            }
            Some(Piece::Part(part)) => match &part.body {
                Body::Entries => self.0.push(Piece::Bytes(&part.first)),
                Body::Nested(large) => self.0.extend([Piece::Large(large), Piece::Bytes(&part.first)]),
                Body::Parts(parts) => self.0.extend(parts.iter().rev().map(Piece::Part)),
            },
            Some(piece) => self.0.push(piece),
            None => {}
        }
    }

    /// Passes by the first bytes of a flat piece.
    fn take(&mut self, bytes: usize) {
        match self.0.last_mut() {
            Some(Piece::Bytes(left)) => *left = &left[bytes..],
            Some(Piece::Head(head)) => head.from += bytes as u8,
            _ => {}
        }
        if self.0.last().is_some_and(|piece| piece.len() == 0) {
            self.0.pop();
        }
    }
}

/// Returns the canonical bytes.
pub(super) fn bytes(found: Found<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(found.len());
    let mut stream = Stream::new(found);
    while let Some(piece) = stream.0.last() {
        match piece.flat() {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                stream.0.pop();
            }
            None => stream.open(),
        }
    }
    out
}

/// Returns whether two values of the same length have the same bytes. What both share is passed by.
pub(super) fn equal(a: Found<'_>, b: Found<'_>) -> bool {
    let (mut a, mut b) = (Stream::new(a), Stream::new(b));
    loop {
        let (left, right) = match (a.0.last(), b.0.last()) {
            (Some(left), Some(right)) => (left, right),
            (left, right) => return left.is_none() && right.is_none(),
        };
        if left.is_shared(right) {
            a.0.pop();
            b.0.pop();
            continue;
        }
        match (left.flat(), right.flat()) {
            (Some(x), Some(y)) => {
                let length = x.len().min(y.len());
                if x[..length] != y[..length] {
                    return false;
                }
                a.take(length);
                b.take(length);
            }
            // The longer one is opened, so that both come to the same stretches.
            (None, Some(_)) => a.open(),
            (Some(_), None) => b.open(),
            (None, None) if left.len() >= right.len() => a.open(),
            (None, None) => b.open(),
        }
    }
}
