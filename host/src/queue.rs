//! Charms with work, each at most once, in turn (S3).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::did::Did;

/// The order in which charms get their next turn. A charm that runs is not in it: one turn at a time.
#[derive(Default)]
pub struct Ready {
    inner: Mutex<Inner>,
    wake: Notify,
    idle: Notify,
}

#[derive(Default)]
struct Inner {
    /// Whose turn is next.
    order: VecDeque<Did>,
    /// In `order`.
    waiting: HashSet<Did>,
    /// Runs now; true when new work came meanwhile.
    running: HashMap<Did, bool>,
    /// Charms without a component have their events kept, but get no turn.
    installed: HashSet<Did>,
    closed: bool,
}

impl Ready {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an event waits for `charm`.
    pub fn wake(&self, charm: Did) {
        let mut inner = self.inner();
        if let Some(more) = inner.running.get_mut(&charm) {
            *more = true;
        } else if inner.installed.contains(&charm) && inner.waiting.insert(charm) {
            inner.order.push_back(charm);
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// Lets `charm` have turns from now on.
    pub fn install(&self, charm: Did) {
        self.inner().installed.insert(charm);
        self.wake(charm);
    }

    /// Returns the next charm, which then counts as running; none when the host closes.
    pub async fn next(&self) -> Option<Did> {
        loop {
            {
                let mut inner = self.inner();
                if inner.closed {
                    // Pass it on: the next worker that waits leaves too.
                    self.wake.notify_one();
                    return None;
                }
                if let Some(charm) = inner.order.pop_front() {
                    inner.waiting.remove(&charm);
                    inner.running.insert(charm, false);
                    if !inner.order.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(charm);
                }
            }
            self.wake.notified().await;
        }
    }

    /// Ends a turn; with `more` work the charm goes to the end of the line.
    pub fn done(&self, charm: Did, more: bool) {
        let mut inner = self.inner();
        let came = inner.running.remove(&charm).unwrap_or(false);
        let idle = inner.running.is_empty();
        drop(inner);
        if idle {
            self.idle.notify_one();
        }
        if more || came {
            self.wake(charm);
        }
    }

    /// Hands out nothing more.
    pub fn close(&self) {
        self.inner().closed = true;
        self.wake.notify_waiters();
        self.wake.notify_one();
    }

    /// Completes when no turn runs. After `close` none will; one caller at a time.
    pub async fn idle(&self) {
        while !self.inner().running.is_empty() {
            self.idle.notified().await;
        }
    }
}
