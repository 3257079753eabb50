//! A rate with a burst: how much may be used a second, and how much of it at once (A6).

use std::time::Duration;

/// What may be used, in whatever unit is counted.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// In a second, in the long run.
    pub per_second: u64,
    /// At once, after a time of rest.
    pub burst: u64,
}

impl Rate {
    fn time_of(self, amount: u64) -> Duration {
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(self.per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// How far one user is ahead of its rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When the rate alone will have allowed what was used.
    due: Duration,
}

impl Bucket {
    /// Counts what was used.
    pub fn charge(&mut self, amount: u64, rate: Rate, now: Duration) {
        self.due = self.due.max(now).saturating_add(rate.time_of(amount));
    }

    /// Returns how long nothing more may be used; zero while less than the burst is ahead of the rate.
    pub fn wait(&self, rate: Rate, now: Duration) -> Duration {
        self.due.saturating_sub(now).saturating_sub(rate.time_of(rate.burst))
    }
}
