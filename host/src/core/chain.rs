//! Chains of causes: an event, what its turn sent, what their turns sent (A6). Kept in memory: after a restart, what
//! waits begins anew.

use std::time::Duration;

use crate::{
    limits::Limits,
    rate::{Bucket, Rate},
};

/// What led to an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chain {
    /// Events before it.
    pub depth: u64,
    pace: Bucket,
    /// Deep and fast at once: served after everybody else.
    pub is_late: bool,
    /// It has been named.
    is_named: bool,
}

impl Chain {
    /// Returns what leads to the events that this one's turn sends, and whether that is to be named.
    pub fn next(mut self, limits: &Limits, now: Duration) -> (Chain, bool) {
        let rate = Rate { per_second: limits.chain_events_per_second, burst: limits.chain_burst_events };
        self.depth += 1;
        self.pace.charge(1, rate, now);
        self.is_late = !self.pace.wait(rate, now).is_zero();
        let names = self.is_late && !self.is_named;
        self.is_named |= names;
        (self, names)
    }
}
