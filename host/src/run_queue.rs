//! Charms with work, each at most once, in turn (S3).

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::did::Did;

/// The order in which charms get their next turn. A charm that runs is not in it: one turn at a time.
pub struct RunQueue {
    inner: Mutex<Inner>,
    wake: Notify,
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
    /// Served after all in `order`; who does not stand so any more has left.
    late: VecDeque<Did>,
    /// Charms without a component are not here: their events are kept, and they get no turn.
    charms: HashMap<Did, Standing>,
    /// How many of them are in a turn.
    running: usize,
    /// How many of those hold no worker.
    away: usize,
    /// How often the held ones came back.
    nudges: u64,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nothing to do.
    Idle,
    /// In `order` or `held`.
    Waits,
    /// In `late`.
    Late,
    /// In a turn, or asked for one; more when new work came meanwhile.
    Runs { more: bool },
    /// In a turn that waits for something and holds no worker.
    Away { more: bool },
}

/// What becomes of a charm whose turn it is.
pub enum Answer<T> {
    /// It begins a turn.
    Begins(T),
    /// It has nothing to do.
    Idle,
    /// It may not begin: it is asked again after the next [`RunQueue::nudge`], before all others.
    Held,
    /// It gets its turn when nobody else is in line (A6).
    Late,
}

impl Inner {
    fn next_late(&mut self) -> Option<Did> {
        while let Some(charm) = self.late.pop_front() {
            if self.charms.get(&charm) == Some(&Standing::Late) {
                return Some(charm);
            }
        }
        None
    }

    /// Takes the next charm in line, and whether it has waited because it was late. From now on it runs.
    fn next(&mut self) -> Option<(Did, bool)> {
        let first = self.order.pop_front().map(|charm| (charm, false));
        let (charm, waited) = first.or_else(|| self.next_late().map(|charm| (charm, true)))?;
        self.charms.insert(charm, Standing::Runs { more: false });
        self.running += 1;
        Some((charm, waited))
    }

    /// Ends what a charm was in, and lets it stand so; returns whether new work came meanwhile.
    fn end(&mut self, charm: Did, now: Standing) -> bool {
        match self.charms.insert(charm, now) {
            Some(Standing::Runs { more }) => {
                self.running -= 1;
                more
            }
            Some(Standing::Away { more }) => {
                self.running -= 1;
                self.away -= 1;
                more
            }
            _ => false,
        }
    }

    /// Ends what a charm was in; with `more` work it goes to the end of the line.
    fn done(&mut self, charm: Did, more: bool) {
        if self.end(charm, Standing::Idle) || more {
            self.charms.insert(charm, Standing::Waits);
            self.order.push_back(charm);
        }
    }

    fn is_idle(&self) -> bool {
        self.running == self.away
    }
}

impl Default for RunQueue {
    fn default() -> RunQueue {
        let (inner, wake, ended) = Default::default();
        RunQueue { inner, wake, ended, closed: watch::Sender::new(false) }
    }
}

impl RunQueue {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an event waits for `charm`.
    pub fn wake(&self, charm: Did) {
        let mut inner = self.inner();
        let Some(standing) = inner.charms.get_mut(&charm) else { return };
        match standing {
            Standing::Runs { more } | Standing::Away { more } => *more = true,
            Standing::Waits => {}
            Standing::Idle | Standing::Late => {
                *standing = Standing::Waits;
                inner.order.push_back(charm);
                drop(inner);
                self.wake.notify_one();
            }
        }
    }

    /// Lets `charm` have turns from now on.
    pub fn install(&self, charm: Did) {
        self.inner().charms.entry(charm).or_insert(Standing::Idle);
        self.wake(charm);
    }

    /// Returns what the next charm in line begins, which then counts as running; none when the host closes. Each in line is
    /// asked, and whether it has waited because it was late.
    pub async fn next<T>(&self, ask: impl Fn(&Did, bool) -> Answer<T>) -> Option<T> {
        loop {
            let first = {
                let mut inner = self.inner();
                if inner.closed {
                    // Pass it on: the next worker that waits leaves too.
                    self.wake.notify_one();
                    return None;
                }
                inner.next().map(|(charm, waited)| (charm, waited, inner.nudges))
            };
            let Some((charm, waited, nudges)) = first else {
                self.wake.notified().await;
                continue;
            };
            let answer = ask(&charm, waited);
            let mut inner = self.inner();
            match answer {
                Answer::Begins(turn) => {
                    if !inner.order.is_empty() || !inner.late.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(turn);
                }
                Answer::Idle => inner.done(charm, false),
                Answer::Held => {
                    inner.end(charm, Standing::Waits);
                    if inner.nudges == nudges { inner.held.push_back(charm) } else { inner.order.push_front(charm) }
                }
                // New work may be none that is late.
                Answer::Late if inner.end(charm, Standing::Late) => inner.done(charm, true),
                Answer::Late => inner.late.push_back(charm),
            }
            self.ended.notify_waiters();
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
        if let Some(standing) = inner.charms.get_mut(&charm)
            && let Standing::Runs { more } = *standing
        {
            *standing = Standing::Away { more };
            inner.away += 1;
        }
        self.ended.notify_waiters();
    }

    /// Ends a turn that held a worker, which looks for the next one now; with `more` work the charm goes to the end of the
    /// line.
    pub fn done(&self, charm: Did, more: bool) {
        let mut inner = self.inner();
        inner.done(charm, more);
        self.ended.notify_waiters();
    }

    /// Brings a charm whose turn was away back in line, as the `first` or the last.
    pub fn back(&self, charm: Did, first: bool) {
        let mut inner = self.inner();
        inner.end(charm, Standing::Waits);
        if first {
            inner.order.push_front(charm)
        } else {
            inner.order.push_back(charm)
        }
        self.ended.notify_waiters();
        drop(inner);
        self.wake.notify_one();
    }

    /// Completes when none of `charms`, which are asked for again each time, is in a turn that holds a worker.
    pub async fn at_rest(&self, charms: impl Fn() -> BTreeSet<Did>) {
        loop {
            let ended = self.ended.notified();
            let charms = charms();
            {
                let inner = self.inner();
                let runs = |charm| matches!(inner.charms.get(charm), Some(Standing::Runs { .. }));
                if !charms.iter().any(runs) {
                    return;
                }
            }
            ended.await;
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

    /// Completes when no turn holds a worker. After `close` none will.
    pub async fn idle(&self) {
        loop {
            let ended = self.ended.notified();
            if self.inner().is_idle() {
                return;
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests;
