//! What derived cells came to, kept within a bound for each charm: what was asked for least lately goes (a clock with one bit).

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    cell::CellId,
    did::Did,
    tx::{FILTERS_PART, Known, Memo},
};

/// The memos of all charms.
pub struct Memos {
    bytes_max: usize,
    spaces: Mutex<HashMap<Did, Space>>,
}

impl Known for Memos {
    fn get(&self, cell: &CellId) -> Option<Memo> {
        let mut spaces = self.spaces();
        let slot = spaces.get_mut(&cell.owner)?.kept.get_mut(&cell.name)?;
        slot.used = true;
        Some(slot.memo.clone())
    }
}

/// Those of one charm.
#[derive(Default)]
struct Space {
    kept: HashMap<Arc<str>, Slot>,
    /// Names in the order in which they are looked at.
    clock: VecDeque<Arc<str>>,
    bytes: usize,
    /// Of those, what filters take.
    filter_bytes: usize,
    /// How many memos have each filter, by its address: it is counted once.
    filters: HashMap<usize, usize>,
}

struct Slot {
    memo: Memo,
    used: bool,
}

impl Space {
    /// Returns whether a memo can be kept with its filter, where all filters may take so many bytes.
    fn has_room(&self, memo: &Memo, bytes_max: usize) -> bool {
        let fits = |(at, bytes)| self.filters.contains_key(&at) || self.filter_bytes + bytes <= bytes_max;
        memo.leaves.filter().is_none_or(fits)
    }

    fn insert(&mut self, name: Arc<str>, slot: Slot) {
        self.bytes += slot.memo.bytes();
        if let Some((at, bytes)) = slot.memo.leaves.filter() {
            let count = self.filters.entry(at).or_default();
            *count += 1;
            if *count == 1 {
                self.bytes += bytes;
                self.filter_bytes += bytes;
            }
        }
        self.kept.insert(name, slot);
    }

    fn remove(&mut self, name: &str) -> Option<Slot> {
        let slot = self.kept.remove(name)?;
        self.bytes -= slot.memo.bytes();
        if let Some((at, bytes)) = slot.memo.leaves.filter()
            && let Some(count) = self.filters.get_mut(&at)
        {
            *count -= 1;
            if *count == 0 {
                self.filters.remove(&at);
                self.bytes -= bytes;
                self.filter_bytes -= bytes;
            }
        }
        Some(slot)
    }
}

impl Memos {
    /// Returns none, of which each charm may have so many bytes.
    pub fn new(bytes_max: usize) -> Memos {
        Memos { bytes_max, spaces: Mutex::default() }
    }

    fn spaces(&self) -> MutexGuard<'_, HashMap<Did, Space>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a memo, unless one that is valid later is there.
    pub fn put(&self, cell: &CellId, memo: Memo) {
        let mut gone = Vec::new();
        let mut spaces = self.spaces();
        let space = spaces.entry(cell.owner).or_default();
        if space.kept.get(&cell.name).is_some_and(|slot| slot.memo.until > memo.until) {
            return;
        }
        let before = space.remove(&cell.name);
        let memo = if space.has_room(&memo, self.bytes_max / FILTERS_PART) { memo } else { memo.coarse() };
        space.insert(cell.name.clone(), Slot { memo, used: before.is_some() });
        match before {
            Some(slot) => gone.push(slot),
            None => space.clock.push_back(cell.name.clone()),
        }
        while space.bytes > self.bytes_max
            && let Some(name) = space.clock.pop_front()
        {
            let Some(slot) = space.kept.get_mut(&name) else { continue };
            if std::mem::take(&mut slot.used) && space.clock.len() > 1 {
                space.clock.push_back(name);
            } else {
                gone.extend(space.remove(&name));
            }
        }
        // What is large is given back outside the lock.
        drop(spaces);
        drop(gone);
    }

    /// Returns how many are kept, and their bytes.
    pub fn figures(&self) -> (u64, u64) {
        let spaces = self.spaces();
        spaces
            .values()
            .fold((0, 0), |(count, bytes), space| (count + space.kept.len() as u64, bytes + space.bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::tx::{Leaves, Run, Underivable};

    const BYTES_MAX: usize = 4 << 20;

    fn cell(name: &str) -> CellId {
        CellId { owner: Did::numbered(1), name: name.into() }
    }

    /// Leaves that are many, other ones for each number.
    fn many(number: usize) -> Leaves {
        let cells: Vec<CellId> = (0..300).map(|leaf| cell(&format!("{number}-{leaf}"))).collect();
        Leaves::of(&cells, &[], [])
    }

    fn memo(leaves: Leaves, until: u64) -> Memo {
        let run = Arc::new(Run::new(Err(Underivable::Cycle(Arc::default())), Vec::new(), [0; 32]));
        Memo { run, stamp: 1, from: until, until, directory: 1, leaves, is_passing: false }
    }

    fn bytes(memos: &Memos) -> usize {
        memos.figures().1 as usize
    }

    #[test]
    fn a_filter_that_many_share_is_counted_once() {
        let (memos, shared) = (Memos::new(BYTES_MAX), many(0));
        let (_, filter) = shared.filter().unwrap();
        for number in 0..1_000 {
            let cell = cell(&format!("d{number}"));
            memos.put(&cell, memo(shared.clone(), 1));
            assert_eq!(memos.get(&cell).unwrap().leaves.filter(), shared.filter());
        }
        let plain = 1_000 * memo(shared.clone(), 1).bytes();
        assert_eq!(bytes(&memos), plain + filter);
        for number in 0..1_000 {
            memos.put(&cell(&format!("d{number}")), memo(Leaves::default(), 2));
        }
        assert_eq!(bytes(&memos), 1_000 * memo(Leaves::default(), 1).bytes(), "nobody has it any more");
    }

    #[test]
    fn filters_take_a_part_of_the_room_and_no_more() {
        let memos = Memos::new(BYTES_MAX);
        let (_, filter) = many(0).filter().unwrap();
        let most = BYTES_MAX / FILTERS_PART / filter;
        let put = |number: usize, until| {
            let cell = cell(&format!("d{number}"));
            memos.put(&cell, memo(many(number), until));
            memos.get(&cell).unwrap().leaves.filter().is_some()
        };
        assert!((0..most).all(|number| put(number, 1)), "there is room for {most}");
        assert!(!put(most, 1) && !put(most + 1, 1));
        assert!(put(0, 2), "its own place is free");
        memos.put(&cell("d0"), memo(Leaves::default(), 3));
        assert!(put(most, 4), "there is room again");
        assert!(bytes(&memos) <= BYTES_MAX / FILTERS_PART + (most + 2) * memo(many(0), 1).bytes(), "{}", bytes(&memos));
    }
}
