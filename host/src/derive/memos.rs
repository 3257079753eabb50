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
    filters: usize,
}

struct Slot {
    memo: Memo,
    used: bool,
}

impl Space {
    fn remove(&mut self, name: &str) -> Option<Slot> {
        let slot = self.kept.remove(name)?;
        self.bytes -= slot.memo.bytes();
        self.filters -= slot.memo.leaves.filter_bytes();
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
    pub fn put(&self, cell: &CellId, memo: &Memo) {
        let mut gone = Vec::new();
        let mut spaces = self.spaces();
        let space = spaces.entry(cell.owner).or_default();
        if space.kept.get(&cell.name).is_some_and(|slot| slot.memo.until > memo.until) {
            return;
        }
        let before = space.remove(&cell.name);
        let has_room = space.filters + memo.leaves.filter_bytes() <= self.bytes_max / FILTERS_PART;
        let memo = if has_room { memo.clone() } else { memo.clone().coarse() };
        space.bytes += memo.bytes();
        space.filters += memo.leaves.filter_bytes();
        space.kept.insert(cell.name.clone(), Slot { memo, used: before.is_some() });
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
