//! Slots for turns: a charm whose turns were long lately shares a part of them with its like (A6), so that a short turn
//! finds a free one whatever others compute.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    did::Did,
    limits::{LONG_TURN_FUEL, Limits},
};

/// Short turns after which a charm counts as one of short turns again.
const SHORT_AGAIN: u8 = 16;

/// Who is in a slot for long turns, and whose turns are long.
pub struct Slots {
    max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Charms of long turns, with the short turns that they still need.
    long: HashMap<Did, u8>,
    /// Those of them that are in a turn.
    running: HashSet<Did>,
}

impl Slots {
    /// Returns a host's slots: a quarter of them is for long turns.
    pub fn new(limits: &Limits) -> Slots {
        Slots { max: (limits.turns_max / 4).max(1), inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether there is a slot for a charm, and takes it.
    pub fn begin(&self, charm: &Did) -> bool {
        let mut inner = self.inner();
        if !inner.long.contains_key(charm) {
            return true;
        }
        let free = inner.running.len() < self.max;
        if free {
            inner.running.insert(*charm);
        }
        free
    }

    /// Gives the slot of a charm back; returns whether another may have waited for it.
    pub fn leave(&self, charm: &Did) -> bool {
        self.inner().running.remove(charm)
    }

    /// As `leave`, after an attempt at a turn that took so much fuel.
    pub fn ended(&self, charm: &Did, fuel: u64) -> bool {
        let mut inner = self.inner();
        if fuel > LONG_TURN_FUEL {
            inner.long.insert(*charm, SHORT_AGAIN);
        } else if let Some(needed) = inner.long.get_mut(charm) {
            *needed -= 1;
            if *needed == 0 {
                inner.long.remove(charm);
            }
        }
        inner.running.remove(charm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charms_of_long_turns_share_a_quarter_until_their_turns_are_short_again() {
        let slots = Slots::new(&Limits { turns_max: 8, ..Limits::default() });
        for number in 0..8 {
            assert!(slots.begin(&Did::numbered(number)), "nobody is known yet");
        }
        for number in 0..7 {
            assert!(!slots.ended(&Did::numbered(number), LONG_TURN_FUEL + 1));
        }
        let begun: Vec<u8> = (0..8).filter(|number| slots.begin(&Did::numbered(*number))).collect();
        assert_eq!(begun, [0, 1, 7]);
        assert!(slots.ended(&Did::numbered(0), LONG_TURN_FUEL));
        assert!(slots.begin(&Did::numbered(2)) && !slots.begin(&Did::numbered(3)));
        assert!(slots.leave(&Did::numbered(2)));
        for _ in 1..SHORT_AGAIN {
            assert!(slots.begin(&Did::numbered(0)));
            slots.ended(&Did::numbered(0), 1);
        }
        assert!(
            slots.begin(&Did::numbered(2)) && slots.begin(&Did::numbered(0)),
            "it needs no slot for long turns any more"
        );
    }
}
