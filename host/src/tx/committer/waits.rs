//! Waiting for the disk: what leaves the host goes through here (T8).

use super::Committer;
use crate::{did::Did, tx::Unavailable};

impl Committer {
    /// Completes when commit `order` is durable.
    ///
    /// # Errors
    /// When the host stopped or was shut down first, or the disk is full.
    pub async fn durable(&self, order: u64) -> Result<(), Unavailable> {
        let mut durable = self.durable.clone();
        loop {
            {
                let progress = durable.borrow_and_update();
                if progress.order >= order {
                    return Ok(());
                }
                progress.healthy()?;
            }
            durable.changed().await.map_err(|_| Unavailable::Closed)?;
        }
    }

    /// Completes when commit `order` is durable, however long the disk is full.
    ///
    /// # Errors
    /// When the host stopped or was shut down first.
    pub async fn durable_at_last(&self, order: u64) -> Result<(), Unavailable> {
        let mut durable = self.durable.clone();
        let reached = durable.wait_for(|progress| progress.order >= order || progress.stopped.is_some()).await;
        let progress = reached.map_err(|_| Unavailable::Closed)?;
        if progress.order >= order { Ok(()) } else { Err(progress.stopped.clone().unwrap_or(Unavailable::Closed)) }
    }

    /// Completes when no event waits for those charms, as far as they are not paused, and every commit until then is durable.
    ///
    /// # Errors
    /// When the host stopped first.
    pub async fn quiet(&self, charms: &(dyn Fn(&Did) -> bool + Sync)) -> Result<(), Unavailable> {
        let mut durable = self.durable.clone();
        loop {
            // First the progress, then the state: whatever changes after that wakes this again.
            let reached = {
                let progress = durable.borrow_and_update();
                progress.stopped.clone().map_or(Ok(progress.order), Err)?
            };
            let (order, busy) = {
                let core = &self.locked().core;
                let busy =
                    core.spaces.iter().any(|(did, space)| space.inbox.is_busy() && !space.notes.paused && charms(did));
                (core.order, busy)
            };
            if !busy && reached >= order {
                return Ok(());
            }
            durable.changed().await.map_err(|_| Unavailable::Closed)?;
        }
    }

    /// Completes when the host has stopped or closed, or the disk is full, and says which.
    pub async fn unhealthy(&self) -> Unavailable {
        let mut durable = self.durable.clone();
        let ill = durable.wait_for(|progress| progress.healthy().is_err()).await;
        ill.ok().and_then(|progress| progress.healthy().err()).unwrap_or(Unavailable::Closed)
    }

    /// Completes when the host has stopped or closed, and says why.
    pub async fn stopped(&self) -> Unavailable {
        let mut durable = self.durable.clone();
        let stopped = durable.wait_for(|progress| progress.stopped.is_some()).await;
        stopped.ok().and_then(|progress| progress.stopped.clone()).unwrap_or(Unavailable::Closed)
    }
}
