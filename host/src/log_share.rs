//! What one charm may log over all its turns (A6): a rate with a burst. What is over it is dropped and counted.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    env::Env,
    limits::Limits,
    rate::{Bucket, Rate},
};

/// Least time between two lines that tell what was dropped.
const TELL: Duration = Duration::from_secs(10);

/// The log of one charm.
pub struct LogShare {
    env: Arc<dyn Env>,
    rate: Rate,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    bucket: Bucket,
    /// Lines dropped so far.
    dropped: u64,
    /// Of them, those that the log has told.
    told: u64,
    told_at: Option<Duration>,
}

impl LogShare {
    /// Returns that of a charm which has logged nothing yet; `dropped` lines were dropped before.
    pub fn new(env: Arc<dyn Env>, limits: &Limits, dropped: u64) -> LogShare {
        let rate = Rate { per_second: limits.log_bytes_per_second, burst: limits.log_burst_bytes };
        LogShare { env, rate, inner: Mutex::new(Inner { dropped, told: dropped, ..Inner::default() }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a line of that size may be logged; when not, it is counted as dropped.
    pub fn takes(&self, bytes: usize) -> bool {
        let now = self.env.monotonic();
        let mut inner = self.inner();
        let takes = inner.bucket.wait(self.rate, now).is_zero();
        if takes {
            inner.bucket.charge(bytes as u64, self.rate, now);
        } else {
            inner.dropped += 1;
        }
        takes
    }

    /// Returns how many lines were dropped since this was last told, when it is to be told again.
    pub fn tell(&self) -> Option<u64> {
        let now = self.env.monotonic();
        let mut inner = self.inner();
        let lines = inner.dropped - inner.told;
        if lines == 0 || inner.told_at.is_some_and(|at| now < at + TELL) {
            return None;
        }
        (inner.told, inner.told_at) = (inner.dropped, Some(now));
        Some(lines)
    }

    /// Counts lines as dropped that a turn has told to be so.
    pub fn cut(&self, lines: u64) {
        let mut inner = self.inner();
        (inner.dropped, inner.told) = (inner.dropped + lines, inner.told + lines);
    }

    /// Returns how many lines were dropped, ever.
    pub fn dropped(&self) -> u64 {
        self.inner().dropped
    }
}

/// Debug output has nothing to say.
impl std::fmt::Debug for LogShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogShare")
    }
}
