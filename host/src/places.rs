//! Places that all charms share, of which one charm has a part: one that fills its own leaves places to the others (A6).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::did::Did;

/// All of them, and the parts of those charms that somebody has a place of.
pub struct Places {
    all: Arc<Semaphore>,
    of_one: usize,
    parts: Mutex<HashMap<Did, Weak<Semaphore>>>,
}

/// A place of a charm's part, until it is dropped.
pub struct Place {
    _part: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Places {
    /// Returns so many, of which one charm has `of_one` at most.
    pub fn new(all: usize, of_one: usize) -> Places {
        Places { all: Arc::new(Semaphore::new(all)), of_one, parts: Mutex::default() }
    }

    /// Returns all of them, for what no charm's part bounds.
    pub fn all(&self) -> Arc<Semaphore> {
        self.all.clone()
    }

    /// Returns a place of a charm's part, when it is there. Whoever came first has it first.
    pub async fn take(&self, charm: &Did) -> Option<Place> {
        let part = self.part(charm).acquire_owned().await.ok()?;
        let all = self.all().acquire_owned().await.ok()?;
        Some(Place { _part: part, _all: all })
    }

    fn part(&self, charm: &Did) -> Arc<Semaphore> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get(charm).and_then(Weak::upgrade) {
            return part;
        }
        parts.retain(|_, part| part.strong_count() > 0);
        let part = Arc::new(Semaphore::new(self.of_one));
        parts.insert(*charm, Arc::downgrade(&part));
        part
    }
}
