//! Aging: a turn that others have beaten often gets its turn (T4, A6).
//!
//! While it runs once more, the charms whose commits beat it begin no new turn. One turn at a time over the host is
//! favoured so, in the order of asking, for at most its last run and 100 ms; after that each charm that was held back is
//! left alone nine times as long, so that nobody loses more than a tenth of the time.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{did::Did, env::Env, run_queue::RunQueue};

/// What a favour may last beyond the turn's last run.
const GRACE: Duration = Duration::from_millis(100);
/// How many times as long as it was held back a charm is left alone.
const REST: u32 = 9;

/// Who is held back, and who was of late.
pub struct Aging {
    env: Arc<dyn Env>,
    ready: Arc<RunQueue>,
    one: Arc<Semaphore>,
    /// Whether anybody is held back.
    active: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Counts favours: an end that comes late ends no other.
    number: u64,
    held: BTreeSet<Did>,
    since: Duration,
    /// Until when a charm is not held back again.
    resting: HashMap<Did, Duration>,
}

/// The favour of one turn; dropping it ends it.
pub struct Favour {
    aging: Arc<Aging>,
    number: u64,
    _one: OwnedSemaphorePermit,
}

impl Aging {
    /// Returns a host's aging.
    pub fn new(env: Arc<dyn Env>, ready: Arc<RunQueue>) -> Arc<Aging> {
        let one = Arc::new(Semaphore::new(1));
        Arc::new(Aging { env, ready, one, active: AtomicBool::new(false), inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a charm has to wait with its next turn.
    pub fn holds(&self, charm: &Did) -> bool {
        self.active.load(Ordering::Acquire) && self.inner().held.contains(charm)
    }

    /// Waits until it is the turn's turn and none of its rivals is in a turn; none when all of them rest, or the time of
    /// the favour passed before.
    pub async fn favour(self: &Arc<Aging>, rivals: &BTreeSet<Did>, last_run: Duration) -> Option<Favour> {
        let one = self.one.clone().acquire_owned().await.ok()?;
        let favour = Favour { aging: self.clone(), number: self.hold(rivals)?, _one: one };
        let end = self.env.sleep(last_run + GRACE);
        let (aging, number) = (Arc::downgrade(self), favour.number);
        self.env.spawn(Box::pin(async move {
            end.await;
            if let Some(aging) = aging.upgrade() {
                aging.end(number);
            }
        }));
        self.ready.at_rest(|| self.inner().held.clone()).await;
        self.active.load(Ordering::Acquire).then_some(favour)
    }

    fn hold(&self, rivals: &BTreeSet<Did>) -> Option<u64> {
        let now = self.env.monotonic();
        let mut inner = self.inner();
        inner.resting.retain(|_, until| *until > now);
        let held: BTreeSet<Did> = rivals.iter().filter(|rival| !inner.resting.contains_key(rival)).copied().collect();
        if held.is_empty() {
            return None;
        }
        inner.number += 1;
        (inner.held, inner.since) = (held, now);
        self.active.store(true, Ordering::Release);
        Some(inner.number)
    }

    fn end(&self, number: u64) {
        let now = self.env.monotonic();
        let mut inner = self.inner();
        if inner.number != number || inner.held.is_empty() {
            return;
        }
        let until = now + (now - inner.since) * REST;
        let held = std::mem::take(&mut inner.held);
        inner.resting.extend(held.into_iter().map(|charm| (charm, until)));
        self.active.store(false, Ordering::Release);
        drop(inner);
        self.ready.nudge();
    }
}

impl Drop for Favour {
    fn drop(&mut self) {
        self.aging.end(self.number);
    }
}
