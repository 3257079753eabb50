//! Names between two bounds, in the order of their bytes: what a listing looks through (C8).

use std::{
    collections::BTreeMap,
    ops::Bound::{Included, Unbounded},
};

/// The names from one on, before a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    from: String,
    /// None reaches to the last name there can be.
    until: Option<String>,
}

impl Range {
    /// Returns all names.
    pub fn all() -> Range {
        Range { from: String::new(), until: None }
    }

    /// Returns the names that begin with `prefix`, of those the ones from `from` on and before `until`, where they are given.
    pub fn of(prefix: &str, from: Option<&str>, until: Option<&str>) -> Range {
        let from = from.map_or(prefix, |from| from.max(prefix)).to_owned();
        let until = match (behind(prefix), until) {
            (Some(end), Some(until)) => Some(end.min(until.to_owned())),
            (end, until) => end.or(until.map(str::to_owned)),
        };
        Range { from, until }
    }

    /// Returns the first text that it may hold.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// Returns the first text behind it; none when it reaches to the last name.
    pub fn until(&self) -> Option<&str> {
        self.until.as_deref()
    }

    /// Returns whether a name that is not before it is in it.
    pub fn reaches(&self, name: &str) -> bool {
        self.until.as_deref().is_none_or(|until| name < until)
    }

    /// Returns its part before a text.
    pub fn before(&self, end: &str) -> Range {
        let until = if self.reaches(end) { Some(end.to_owned()) } else { self.until.clone() };
        Range { from: self.from.clone(), until }
    }

    /// Returns its part from a text on.
    pub fn rest(&self, from: &str) -> Range {
        Range { from: from.max(&self.from).to_owned(), until: self.until.clone() }
    }
}

/// Returns the first text after a name.
pub fn after(name: &str) -> String {
    format!("{name}\0")
}

/// Returns the first text after all that begin with a prefix; none when there is no such.
fn behind(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // The numbers of characters have one gap.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// Ranges that neither meet nor touch each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<String, Option<String>>);

impl Ranges {
    /// Adds a range: with those that it touches it is one.
    pub fn add(&mut self, Range { mut from, mut until }: Range) {
        if until.as_ref().is_some_and(|until| *until <= from) {
            return;
        }
        loop {
            let end = until.as_deref().map_or(Unbounded, Included);
            let near = self.0.range::<str, _>((Unbounded, end)).next_back();
            let meets = |end: &Option<String>| end.as_ref().is_none_or(|end| *end >= from);
            let Some(start) = near.filter(|(_, end)| meets(end)).map(|(start, _)| start.clone()) else { break };
            let end = self.0.remove(&start).flatten();
            from = from.min(start);
            until = until.zip(end).map(|(until, end)| until.max(end));
        }
        self.0.insert(from, until);
    }

    /// Returns what they take in memory, about.
    pub fn bytes(&self) -> usize {
        let end = |end: &Option<String>| end.as_ref().map_or(0, String::len);
        self.0.iter().map(|(from, until)| size_of::<(String, Option<String>)>() + from.len() + end(until)).sum()
    }

    /// Returns how many they are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether all of a range is in one of them.
    pub fn cover(&self, range: &Range) -> bool {
        let last = self.0.range::<str, _>((Unbounded, Included(range.from()))).next_back();
        last.is_some_and(|(_, until)| match (until, range.until()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => theirs <= mine.as_str(),
        })
    }

    /// Returns whether a name is in one of them.
    pub fn contain(&self, name: &str) -> bool {
        let last = self.0.range::<str, _>((Unbounded, Included(name))).next_back();
        last.is_some_and(|(_, until)| until.as_deref().is_none_or(|until| name < until))
    }

    /// Returns them in order.
    pub fn iter(&self) -> impl Iterator<Item = Range> {
        self.0.iter().map(|(from, until)| Range { from: from.clone(), until: until.clone() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_reaches_to_its_last_name_and_no_further() {
        for (prefix, inside, outside) in [
            ("a:", vec!["a:", "a:\u{10ffff}\u{10ffff}", "a::"], vec!["a", "a;", "b", "a\u{10ffff}"]),
            ("\u{d7ff}", vec!["\u{d7ff}x"], vec!["\u{e000}"]),
            ("a\u{10ffff}", vec!["a\u{10ffff}", "a\u{10ffff}z"], vec!["b", "a\u{10fffe}z"]),
            ("\u{10ffff}", vec!["\u{10ffff}\u{10ffff}"], vec!["a"]),
            ("", vec!["a", "\u{10ffff}"], vec![]),
        ] {
            let range = Range::of(prefix, None, None);
            let holds = |name: &&str| *name >= range.from() && range.reaches(name);
            assert!(inside.iter().all(holds), "{prefix:?}: {range:?}");
            assert!(!outside.iter().any(holds), "{prefix:?}: {range:?}");
        }
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(vec!['a', 'b', ':', '\u{10ffff}']), 0..4)
            .prop_map(|letters| letters.into_iter().collect())
    }

    proptest! {
        /// Against all of them one by one.
        #[test]
        fn ranges_hold_what_one_of_them_holds(
            ranges in proptest::collection::vec((text(), proptest::option::of(text()), proptest::option::of(text())), 0..8),
            names in proptest::collection::vec(text(), 0..40),
        ) {
            let ranges: Vec<Range> =
                ranges.iter().map(|(prefix, from, until)| Range::of(prefix, from.as_deref(), until.as_deref())).collect();
            let mut all = Ranges::default();
            ranges.iter().for_each(|range| all.add(range.clone()));
            for name in &names {
                let holds = |range: &Range| name.as_str() >= range.from() && range.reaches(name);
                prop_assert_eq!(all.contain(name), ranges.iter().any(holds), "{} {:?}", name, all);
                prop_assert_eq!(all.contain(name), all.iter().any(|range| holds(&range)));
            }
            for range in &ranges {
                let is_empty = range.until().is_some_and(|until| until <= range.from());
                prop_assert!(is_empty || all.cover(range), "{:?} {:?}", range, all);
                let behind = Range { from: range.from.clone(), until: range.until().map(after) };
                let names = names.iter().filter(|name| name.as_str() >= behind.from() && behind.reaches(name));
                prop_assert!(!all.cover(&behind) || names.into_iter().all(|name| all.contain(name)), "{:?}", behind);
            }
            let ends: Vec<(String, Option<String>)> = all.0.clone().into_iter().collect();
            prop_assert!(ends.windows(2).all(|two| two[0].1.as_ref().is_some_and(|end| *end < two[1].0)), "{:?}", ends);
        }
    }
}
