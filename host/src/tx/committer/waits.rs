//! Waiting for the disk: what leaves the host goes through here (T8).

use std::pin::pin;

use tokio::sync::oneshot;

use super::{
    Committer,
    group::{Health, PATIENCE},
};
use crate::{did::Did, event::EventId, receipt::Receipt, tx::Unavailable};

impl Committer {
    /// Returns whether commit `order` is durable.
    pub(super) fn is_durable(&self, order: u64) -> bool {
        *self.durable.borrow() >= order
    }

    /// Completes when commit `order` is durable.
    ///
    /// # Errors
    /// When the host stopped or was shut down first, or the disk is full.
    pub async fn durable(&self, order: u64) -> Result<(), Unavailable> {
        self.durable_or(order, self.unhealthy()).await
    }

    /// Completes when commit `order` is durable, however long the disk is full.
    ///
    /// # Errors
    /// When the host stopped or was shut down first.
    pub async fn durable_at_last(&self, order: u64) -> Result<(), Unavailable> {
        self.durable_or(order, self.stopped()).await
    }

    async fn durable_or(&self, order: u64, ill: impl Future<Output = Unavailable>) -> Result<(), Unavailable> {
        if self.is_durable(order) {
            return Ok(());
        }
        let joined = self.group.line.join(order);
        self.group.urge();
        // It may have become so before the group could see who joined.
        if self.is_durable(order) {
            return Ok(());
        }
        tokio::select! {
            biased;
            Ok(()) = joined => Ok(()),
            ill = ill => if self.is_durable(order) { Ok(()) } else { Err(ill) },
        }
    }

    /// Registers interest in a receipt: a channel when the event is open, none when it is settled or unknown.
    pub fn watch(&self, id: &EventId) -> Option<oneshot::Receiver<Receipt>> {
        let mut locked = self.locked();
        let queued = locked.core.open.get(id)?.queued.as_ref();
        let is_settled = queued.is_none_or(|queued| locked.core.waiting(&queued.event.to, id).is_none());
        let (sender, receiver) = oneshot::channel();
        let waiting = locked.waiting.entry(*id).or_default();
        // Waiters that gave up leave their place to this one.
        waiting.retain(|waiting| !waiting.is_closed());
        waiting.push(sender);
        if is_settled {
            self.group.urge();
        }
        Some(receiver)
    }

    /// Completes with the receipt that is watched for; none when it will not come any more.
    ///
    /// # Errors
    /// When the host stopped or was shut down first, or the disk is full.
    pub async fn watched(&self, mut watch: oneshot::Receiver<Receipt>) -> Result<Option<Receipt>, Unavailable> {
        let (mut ill, mut sleep) = (pin!(self.unhealthy()), self.env.sleep(PATIENCE));
        tokio::select! {
            biased;
            receipt = &mut watch => return Ok(receipt.ok()),
            why = &mut ill => return Err(why),
            () = &mut sleep => {}
        }
        // Its turn takes long: the event itself is to be durable meanwhile.
        self.group.urge();
        tokio::select! {
            biased;
            receipt = watch => Ok(receipt.ok()),
            why = ill => Err(why),
        }
    }

    /// Completes when no event waits for those charms, as far as they are not paused, and every commit until then is durable.
    ///
    /// # Errors
    /// When the host stopped first.
    pub async fn quiet(&self, charms: &(dyn Fn(&Did) -> bool + Sync)) -> Result<(), Unavailable> {
        let mut durable = self.durable.clone();
        loop {
            // First the progress, then the state: whatever changes after that wakes this again.
            let reached = *durable.borrow_and_update();
            self.health.borrow().stopped.clone().map_or(Ok(()), Err)?;
            let (order, busy) = {
                let core = &self.locked().core;
                let busy =
                    core.spaces.iter().any(|(did, space)| space.inbox.is_busy() && !space.notes.paused && charms(did));
                (core.order, busy)
            };
            if !busy && reached >= order {
                return Ok(());
            }
            if !busy {
                self.group.urge();
            }
            tokio::select! {
                biased;
                Ok(()) = durable.changed() => {}
                why = self.stopped() => return Err(why),
            }
        }
    }

    /// Completes when the host has stopped or closed, or the disk is full, and says which.
    pub async fn unhealthy(&self) -> Unavailable {
        self.ill(|health| health.check().err()).await
    }

    /// Completes when the host has stopped or closed, and says why.
    pub async fn stopped(&self) -> Unavailable {
        self.ill(|health| health.stopped.clone()).await
    }

    async fn ill(&self, why: impl Fn(&Health) -> Option<Unavailable>) -> Unavailable {
        let mut health = self.health.clone();
        let ill = health.wait_for(|health| why(health).is_some()).await;
        ill.ok().and_then(|health| why(&health)).unwrap_or(Unavailable::Closed)
    }
}
