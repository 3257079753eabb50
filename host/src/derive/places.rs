//! Places of those outside that have derivations run. Those who read of one charm share a part of them, so that one whose cells
//! are dear, with many who watch them, keeps nobody from reading of another (A6).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::{
    did::Did,
    limits::{OUTSIDE_RUNS_MAX, OUTSIDE_RUNS_OF_ONE},
};

/// All of them, and those of each charm that somebody reads of.
pub struct Places {
    all: Semaphore,
    of: Mutex<HashMap<Did, Weak<Semaphore>>>,
}

/// One of them, until it is dropped.
pub struct Place<'a> {
    _all: SemaphorePermit<'a>,
    _of: OwnedSemaphorePermit,
}

impl Default for Places {
    fn default() -> Places {
        Places { all: Semaphore::new(OUTSIDE_RUNS_MAX), of: Mutex::default() }
    }
}

impl Places {
    /// Returns a place to have a cell of this charm computed, when it is there. Whoever came first has it first.
    pub async fn take(&self, owner: &Did) -> Option<Place<'_>> {
        let of = self.of(owner).acquire_owned().await.ok()?;
        let all = self.all.acquire().await.ok()?;
        Some(Place { _all: all, _of: of })
    }

    fn of(&self, owner: &Did) -> Arc<Semaphore> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = of.get(owner).and_then(Weak::upgrade) {
            return share;
        }
        of.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(OUTSIDE_RUNS_OF_ONE));
        of.insert(*owner, Arc::downgrade(&share));
        share
    }
}
