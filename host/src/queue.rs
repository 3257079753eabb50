//! Charms with work, each at most once, in turn (S3).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::did::Did;

/// The order in which charms get their next turn. A charm that runs is not in it: one turn at a time.
pub struct Ready {
    inner: Mutex<Inner>,
    wake: Notify,
    idle: Notify,
    /// A charm is in no turn any more, or those that were held back may be asked again.
    ended: Notify,
    closed: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    /// Whose turn is next.
    order: VecDeque<Did>,
    /// Had their turn, and may not begin it yet: first in line after the next nudge.
    held: VecDeque<Did>,
    /// Served after all in `order`; who is not in `late_now` has left.
    late: VecDeque<Did>,
    late_now: HashSet<Did>,
    /// In `order`, `held` or `late`.
    waiting: HashSet<Did>,
    /// In a turn; true when new work came meanwhile.
    running: HashMap<Did, bool>,
    /// Of those, whose turns wait for something and hold no worker.
    away: HashSet<Did>,
    /// Charms without a component have their events kept, but get no turn.
    installed: HashSet<Did>,
    /// How often the held ones came back.
    nudges: u64,
    closed: bool,
}

impl Inner {
    fn next_late(&mut self) -> Option<Did> {
        while let Some(charm) = self.late.pop_front() {
            if self.late_now.remove(&charm) {
                return Some(charm);
            }
        }
        None
    }
}

impl Default for Ready {
    fn default() -> Ready {
        let (inner, wake, idle, ended) = Default::default();
        Ready { inner, wake, idle, ended, closed: watch::Sender::new(false) }
    }
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
        } else if inner.installed.contains(&charm) && (inner.waiting.insert(charm) || inner.late_now.remove(&charm)) {
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

    /// Returns the next charm that may begin a turn, which then counts as running; none when the host closes.
    /// Those that may not are asked again after the next [`Ready::nudge`], before all others; those that are late (A6) get
    /// their turn when nobody else is in line.
    pub async fn next(&self, may_begin: impl Fn(&Did) -> bool, is_late: impl Fn(&Did) -> bool) -> Option<Did> {
        loop {
            let first = {
                let mut inner = self.inner();
                if inner.closed {
                    // Pass it on: the next worker that waits leaves too.
                    self.wake.notify_one();
                    return None;
                }
                let first = inner.order.pop_front().map(|charm| (charm, false));
                let first = first.or_else(|| inner.next_late().map(|charm| (charm, true)));
                first.map(|(charm, waited)| (charm, waited, inner.nudges))
            };
            let Some((charm, waited, nudges)) = first else {
                self.wake.notified().await;
                continue;
            };
            if !waited && is_late(&charm) {
                let mut inner = self.inner();
                inner.late_now.insert(charm);
                inner.late.push_back(charm);
                continue;
            }
            let may = may_begin(&charm);
            let mut inner = self.inner();
            if may {
                inner.waiting.remove(&charm);
                inner.running.insert(charm, false);
                if !inner.order.is_empty() || !inner.late.is_empty() {
                    self.wake.notify_one();
                }
                return Some(charm);
            }
            if inner.nudges == nudges {
                inner.held.push_back(charm);
            } else {
                inner.order.push_front(charm);
            }
        }
    }

    /// Something that held charms back has changed: all may be asked again.
    pub fn nudge(&self) {
        let mut inner = self.inner();
        inner.nudges += 1;
        while let Some(charm) = inner.held.pop_back() {
            inner.order.push_front(charm);
        }
        if !inner.order.is_empty() {
            self.wake.notify_one();
        }
        self.ended.notify_waiters();
    }

    /// The turn of a charm waits for something: it holds no worker, and the charm begins no other.
    pub fn away(&self, charm: Did) {
        let mut inner = self.inner();
        inner.away.insert(charm);
        self.ended.notify_waiters();
        self.tell_idle(&inner);
    }

    /// Ends a turn, also one that is away; with `more` work the charm goes to the end of the line.
    pub fn done(&self, charm: Did, more: bool) {
        let mut inner = self.inner();
        let came = inner.running.remove(&charm).unwrap_or(false);
        inner.away.remove(&charm);
        self.ended.notify_waiters();
        self.tell_idle(&inner);
        drop(inner);
        if more || came {
            self.wake(charm);
        }
    }

    /// Brings a charm whose turn was away back as the first in line.
    pub fn first(&self, charm: Did) {
        let mut inner = self.inner();
        inner.running.remove(&charm);
        inner.away.remove(&charm);
        self.tell_idle(&inner);
        if inner.waiting.insert(charm) {
            inner.order.push_front(charm);
        }
        self.wake.notify_one();
    }

    /// Completes when none of those charms is in a turn that holds a worker.
    pub async fn at_rest(&self, charms: impl Fn(&Did) -> bool) {
        loop {
            let ended = self.ended.notified();
            {
                let inner = self.inner();
                if !inner.running.keys().any(|charm| !inner.away.contains(charm) && charms(charm)) {
                    return;
                }
            }
            ended.await;
        }
    }

    fn tell_idle(&self, inner: &Inner) {
        if inner.running.len() == inner.away.len() {
            self.idle.notify_one();
        }
    }

    /// Hands out nothing more.
    pub fn close(&self) {
        self.inner().closed = true;
        self.closed.send_replace(true);
        self.wake.notify_waiters();
        self.wake.notify_one();
    }

    /// Completes when the host closes.
    pub async fn closed(&self) {
        // The sender lives as long as this does.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Completes when no turn holds a worker. After `close` none will; one caller at a time.
    pub async fn idle(&self) {
        loop {
            {
                let inner = self.inner();
                if inner.running.len() == inner.away.len() {
                    return;
                }
            }
            self.idle.notified().await;
        }
    }
}
