//! What the operator decides about single events and components: let it run, or drop it.

use super::{Host, SendError, send_error};
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
    pub fn held(&self, charm: &Did) -> Vec<Event> {
        self.stage.committer.held(charm)
    }

    /// Lets a held event run. Completes when that is durable; [`Host::receipt`] waits for its end.
    ///
    /// # Errors
    /// `NoSuchEvent`, `NotHeld`, `Unavailable`.
    pub async fn release(&self, charm: &Did, id: &EventId) -> Result<(), SendError> {
        self.check_open()?;
        let queued = self.stage.committer.find(charm, id).ok_or(SendError::NoSuchEvent { id: *id })?;
        if !self.change(move |suspects| suspects.release(&work_of(&queued))).await? {
            return Err(SendError::NotHeld { id: *id });
        }
        let queued = self.stage.committer.find(charm, id).ok_or(SendError::NoSuchEvent { id: *id })?;
        self.stage.committer.release(&queued);
        Ok(())
    }

    /// Lets the component with this SHA-256 be described, and installed, though processes have died over it. Completes
    /// when that is durable; returns whether it was held.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn release_component(&self, sha256: [u8; 32]) -> Result<bool, Unavailable> {
        self.check_open()?;
        self.change(move |suspects| suspects.release(&Work::Describe { component: sha256 })).await
    }

    async fn change(
        &self,
        change: impl FnOnce(&Suspects) -> Result<bool, StoreError> + Send + 'static,
    ) -> Result<bool, Unavailable> {
        let (suspects, (sender, receiver)) = (self.stage.suspects.clone(), tokio::sync::oneshot::channel());
        self.stage.env.block(Box::new(move || drop(sender.send(change(&suspects))))).await;
        match receiver.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(StoreError::Full)) => Err(Unavailable::DiskFull),
            Ok(Err(error)) => Err(Unavailable::stopped(&error)),
            Err(_) => Err(Unavailable::Closed),
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
        let accepted = self.stage.committer.cancel(charm, id).map_err(|refused| match refused {
            Refused::Gone => SendError::NoSuchEvent { id: *id },
            refused => send_error(refused, *charm),
        })?;
        Ok(self.stage.committer.durable(accepted.order).await?)
    }
}
