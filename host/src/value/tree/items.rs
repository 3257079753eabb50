//! The items of a list, looked at one after the other.

use super::{Body, Found, Part, stream};
use crate::value::{head, skip};

/// Looks for a value among items.
struct Search<'a> {
    wanted: &'a [u8],
    /// How many are enough.
    max: usize,
    /// Items passed by.
    passed: u32,
    found: Vec<u32>,
}

impl Search<'_> {
    fn entries(&mut self, bytes: &[u8], entries: u64, mut at: usize) {
        for _ in 0..entries {
            let end = skip(bytes, at).0;
            self.item(|wanted| bytes[at..end] == *wanted);
            at = end;
        }
    }

    fn parts(&mut self, parts: &[Part]) {
        for part in parts {
            match &part.body {
                Body::Entries => self.entries(&part.first, part.entries, 0),
                Body::Nested(large) => {
                    let found = Found::Large(large);
                    self.item(|wanted| found.len() == wanted.len() && stream::equal(found, Found::Bytes(wanted)));
                }
                Body::Parts(parts) => self.parts(parts),
            }
            if self.found.len() >= self.max {
                return;
            }
        }
    }

    fn item(&mut self, is_wanted: impl FnOnce(&[u8]) -> bool) {
        if self.found.len() < self.max && is_wanted(self.wanted) {
            self.found.push(self.passed);
        }
        self.passed += 1;
    }
}

impl Found<'_> {
    /// Returns the number of items of a list, or of entries of a map.
    pub fn entries(self) -> u64 {
        match self {
            Found::Bytes(bytes) => head(bytes, 0).map_or(0, |(_, entries, _)| entries),
            Found::Large(large) => large.entries,
        }
    }

    /// Returns where in a list there are items that equal `wanted`, the first `max` of them.
    pub fn positions(self, wanted: &[u8], max: usize) -> Vec<u32> {
        let mut search = Search { wanted, max, passed: 0, found: Vec::new() };
        match self {
            Found::Bytes(bytes) => {
                if let Ok((4, entries, start)) = head(bytes, 0) {
                    search.entries(bytes, entries, start);
                }
            }
            Found::Large(large) => search.parts(&large.parts),
        }
        search.found
    }
}
