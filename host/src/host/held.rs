//! What the operator decides about single events and components: let it run, or drop it.

use super::{Host, SendError};
use crate::{
    did::Did,
    event::{Event, EventId},
    keyring::KeyError,
    store::{StoreError, Work},
    suspects::{Suspects, work_of},
    text::clip,
    tx::{Refused, Unavailable},
};

impl Host {
    /// Returns the events of a charm that are held: processes have died while they ran, alone too. They wait outside the
    /// order of the others until they are released or cancelled.
    /// Completes when that is durable.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn held(&self, charm: &Did) -> Result<Vec<Event>, Unavailable> {
        self.stage.committer.held(charm).await
    }

    /// Lets a held event run. Completes when that is durable; [`Host::receipt`] waits for its end.
    ///
    /// # Errors
    /// `NoSuchEvent`, `NotHeld`, `Store`, `Unavailable`.
    pub async fn release(&self, charm: &Did, id: &EventId) -> Result<(), SendError> {
        self.check_open()?;
        let Some(queued) = self.stage.committer.find(charm, id) else { return self.no_such_event(id).await };
        if !self.change(move |suspects| suspects.release(&work_of(&queued))).await? {
            return Err(SendError::NotHeld { id: *id });
        }
        let Some(queued) = self.stage.committer.find(charm, id) else { return self.no_such_event(id).await };
        self.stage.committer.release(&queued);
        Ok(())
    }

    /// Lets the component with this SHA-256 be described, and installed, though processes have died over it. Completes
    /// when that is durable; returns whether it was held.
    ///
    /// # Errors
    /// `Store`, `Unavailable`.
    pub async fn release_component(&self, sha256: [u8; 32]) -> Result<bool, SendError> {
        self.check_open()?;
        self.change(move |suspects| suspects.release(&Work::Describe { component: sha256 })).await
    }

    async fn change(
        &self,
        change: impl FnOnce(&Suspects) -> Result<bool, StoreError> + Send + 'static,
    ) -> Result<bool, SendError> {
        let (suspects, (sender, receiver)) = (self.stage.suspects.clone(), tokio::sync::oneshot::channel());
        self.stage.env.block(Box::new(move || drop(sender.send(change(&suspects))))).await;
        match receiver.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(StoreError::Full)) => Err(Unavailable::DiskFull.into()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Unavailable::Closed.into()),
        }
    }

    /// Checks that commits of a charm that the store knows can be signed.
    pub(crate) fn check_key(&self, charm: &Did) -> Result<(), SendError> {
        if self.stage.committer.name_of(charm).is_none() {
            return Ok(());
        }
        let why = |error: KeyError| clip(&error.to_string(), 640).into_owned();
        self.keyring.check(charm).map_err(|error| SendError::Key { to: *charm, why: why(error) })
    }

    /// Settles an event that waits for a charm, or is held, as `cancelled`: its sender gets that receipt. It becomes no
    /// dead letter. Completes when that is durable.
    ///
    /// # Errors
    /// `NoSuchEvent`; `Key` when nothing can be committed for the charm; `Running` when its turn has begun; `Unavailable`.
    pub async fn cancel(&self, charm: &Did, id: &EventId) -> Result<(), SendError> {
        self.check_open()?;
        self.check_key(charm)?;
        let committer = &self.stage.committer;
        let accepted = match committer.cancel(charm, id).await {
            Ok(accepted) => accepted,
            Err(Refused::Gone) => return self.no_such_event(id).await,
            Err(refused) => return Err(self.refused(refused, *charm).await),
        };
        Ok(committer.durable(accepted.order).await?)
    }

    /// What is gone may not be so durably: then this waits for that (T8).
    async fn no_such_event(&self, id: &EventId) -> Result<(), SendError> {
        self.stage.committer.durable(self.stage.committer.order()).await?;
        Err(SendError::NoSuchEvent { id: *id })
    }
}
