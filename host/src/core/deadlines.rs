//! Moments at which something happens that no commit brings about: a wait is over (S7), a delayed event is due, an event
//! expires (S10). Live: what is durable are the times of the wall that they come from.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{did::Did, rows::Queued};

/// The moments, each with a charm and the position of an event of its inbox.
#[derive(Default)]
pub struct Deadlines {
    at: BTreeSet<(Duration, Did, u64)>,
    /// When events expire that have not begun, by position.
    expiring: HashMap<u64, (Duration, Arc<Queued>)>,
}

/// Returns the moment that a time of the wall stands for: `now` is both.
pub fn moment(ms: u64, (now_ms, at): (u64, Duration)) -> Duration {
    at.saturating_add(Duration::from_millis(ms.saturating_sub(now_ms)))
}

impl Deadlines {
    pub fn add(&mut self, at: Duration, charm: Did, position: u64) {
        self.at.insert((at, charm, position));
    }

    pub fn remove(&mut self, at: Duration, charm: Did, position: u64) {
        self.at.remove(&(at, charm, position));
    }

    /// Returns the first.
    pub fn first(&self) -> Option<Duration> {
        self.at.first().map(|(at, ..)| *at)
    }

    /// Takes the first out when it has come.
    pub fn pop(&mut self, now: Duration) -> Option<(Duration, Did, u64)> {
        if self.first()? <= now { self.at.pop_first() } else { None }
    }

    /// Lets an event expire then, unless it begins before.
    pub fn expire(&mut self, at: Duration, queued: Arc<Queued>) {
        self.add(at, queued.event.to, queued.position);
        self.expiring.insert(queued.position, (at, queued));
    }

    /// Returns the event at a position when it expires.
    pub fn expiring(&self, position: u64) -> Option<&Arc<Queued>> {
        self.expiring.get(&position).map(|(_, queued)| queued)
    }

    /// Returns whether the time is over in which an event may begin.
    pub fn is_over(&self, position: u64, now: Duration) -> bool {
        self.expiring.get(&position).is_some_and(|(at, _)| *at <= now)
    }

    /// An event has begun that has not after all.
    pub fn put_back(&mut self, position: u64) {
        if let Some((at, queued)) = self.expiring.get(&position) {
            self.at.insert((*at, queued.event.to, position));
        }
    }

    /// An event does not expire any more.
    pub fn keep(&mut self, position: u64) {
        if let Some((at, queued)) = self.expiring.remove(&position) {
            self.remove(at, queued.event.to, position);
        }
    }

    #[cfg(test)]
    pub fn contains(&self, at: Duration, charm: Did, position: u64) -> bool {
        self.at.contains(&(at, charm, position))
    }

    /// Checks that there are so many beside those of events that expire.
    #[cfg(test)]
    pub fn check(&self, others: usize) {
        let expiring =
            self.expiring.iter().filter(|(position, (at, queued))| self.contains(*at, queued.event.to, **position));
        assert_eq!(self.at.len(), others + expiring.count(), "moments for nothing");
    }
}
