//! The cells under a prefix that is watched.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::limits::WATCH_REMOVED_MAX;

/// Where the numbers of what is written while it is watched begin; what was there before has those below.
const FIRST: u64 = 1 << 40;

/// The cells under a prefix in the order in which they were written last: each stands there once, so that who is slow skips what
/// was written over. A gap between two numbers is what was.
#[derive(Default)]
pub struct Names {
    by_number: BTreeMap<u64, Name>,
    by_name: HashMap<Arc<str>, u64>,
    /// Numbers of those that were removed.
    removed: BTreeSet<u64>,
    next: u64,
    /// Names that were removed up to this number are forgotten.
    pub forgotten: u64,
    /// The same as a commit: who has not heard of all up to it begins anew.
    pub floor: u64,
}

/// One cell there.
#[derive(Clone)]
pub struct Name {
    pub name: Arc<str>,
    /// The commit that wrote it last.
    pub seq: u64,
}

impl Names {
    /// Begins with the cells that are there, sorted by commit; what was before commit `floor` is not known.
    pub fn begin(&mut self, there: Vec<Name>, floor: u64) {
        self.floor = floor;
        let mut number = FIRST;
        for name in there.into_iter().rev().filter(|name| !self.by_name.contains_key(&name.name)).collect::<Vec<_>>() {
            number -= 1;
            self.by_name.insert(name.name.clone(), number);
            self.by_number.insert(number, name);
        }
    }

    /// Notes a write of a cell, or its removal.
    pub fn write(&mut self, name: &Arc<str>, seq: u64, is_removed: bool) {
        let number = self.next.max(FIRST);
        self.next = number + 1;
        if let Some(before) = self.by_name.insert(name.clone(), number) {
            self.by_number.remove(&before);
            self.removed.remove(&before);
        }
        self.by_number.insert(number, Name { name: name.clone(), seq });
        if !is_removed {
            return;
        }
        self.removed.insert(number);
        if self.removed.len() > WATCH_REMOVED_MAX
            && let Some(oldest) = self.removed.pop_first()
            && let Some(gone) = self.by_number.remove(&oldest)
        {
            self.by_name.remove(&gone.name);
            (self.forgotten, self.floor) = (oldest, self.floor.max(gone.seq));
        }
    }

    /// Returns the first cell after a number, with its number, and whether more of the same commit follow.
    pub fn after(&self, number: u64) -> Option<(u64, Name, bool)> {
        let mut rest = self.by_number.range(number.saturating_add(1)..);
        let (number, name) = rest.next()?;
        let more = rest.next().is_some_and(|(_, next)| next.seq == name.seq);
        Some((*number, name.clone(), more))
    }

    /// Returns the number before the first cell that was written after a commit.
    pub fn before(&self, seq: u64) -> u64 {
        let later = self.by_number.iter().rev().take_while(|(_, name)| name.seq > seq);
        later.last().map_or(self.next.max(FIRST), |(number, _)| *number) - 1
    }

    /// Returns all names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_number.values().map(|name| &name.name)
    }
}

#[cfg(test)]
mod tests;
