//! What every watcher has: its place, its rights, and what wakes it.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::WatchError;
use crate::{
    did::Did,
    directory::Directory,
    host::Host,
    store::{Store, StoreError},
    text::clip,
    turn::Stage,
    tx::{Committer, Mark, Place, Told},
};

/// The place of a watcher. It does not keep the host.
pub struct Seat {
    stage: Arc<Stage>,
    store: Arc<dyn Store>,
    pub place: Place,
    told: watch::Receiver<Arc<Told>>,
    rights: watch::Receiver<u64>,
    /// Who may do what, as it was last looked at.
    directory: Arc<Directory>,
    /// Who watches with rights of their own; none for the operator.
    pub reader: Option<Did>,
    /// The charm that it is about.
    charm: Option<Did>,
}

impl Seat {
    /// Returns one who was let in with these rights of all.
    pub fn new(host: &Host, place: Place, directory: Arc<Directory>, reader: Option<Did>, charm: Option<Did>) -> Seat {
        let committer = &host.stage.committer;
        let (told, rights) = (place.watched.told(), committer.watches().rights());
        Seat { stage: host.stage.clone(), store: host.store.clone(), place, told, rights, directory, reader, charm }
    }

    pub fn committer(&self) -> &Arc<Committer> {
        &self.stage.committer
    }

    /// Returns what is marked now.
    pub fn marked(&self) -> Mark {
        self.place.watched.marked()
    }

    /// Returns the last answer; from now on it is waited for another one.
    pub fn told(&mut self) -> Arc<Told> {
        self.told.borrow_and_update().clone()
    }

    /// Returns whether the reader may read a cell.
    pub fn may_read(&self, owner: &Did, cell: &str) -> bool {
        self.reader.is_none_or(|reader| self.directory.may_read(&reader, owner, cell))
    }

    /// Returns whether the reader may read any cell whose name begins so.
    pub fn may_read_some(&self, owner: &Did, prefix: &str) -> bool {
        self.reader.is_none_or(|reader| self.directory.may_read_some(&reader, owner, prefix))
    }

    /// Checks that the charm is still there; to be called after what is told was looked at. Of cells that could be read before, `lost`
    /// returns the first that cannot be read any more.
    ///
    /// # Errors
    /// `NoSuchCharm`, `Denied`.
    pub async fn check(&mut self, lost: impl FnOnce(&Seat, &Directory) -> Option<String>) -> Result<(), WatchError> {
        let committer = self.stage.committer.clone();
        if committer.watches().directory() == self.directory.number() {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.directory, committer.directory());
        let Some(charm) = self.charm else { return Ok(()) };
        let end = if self.directory.get(&charm).is_none() {
            WatchError::NoSuchCharm { charm }
        } else {
            let Some((reader, what)) = self.reader.and_then(|reader| Some((reader, lost(self, &before)?))) else {
                return Ok(());
            };
            WatchError::Denied { reader, owner: charm, what: clip(&what, 128).into_owned() }
        };
        // What ends it is a commit too.
        committer.durable_at_last(committer.order()).await?;
        Err(end)
    }

    /// Completes when there may be something new: another answer, or other rights.
    ///
    /// # Errors
    /// When the host has stopped and all that was durable is told.
    pub async fn wait(&mut self) -> Result<(), WatchError> {
        let stopped = self.stage.committer.stopped();
        tokio::select! {
            biased;
            // It is kept by the place.
            _ = self.told.changed() => return Ok(()),
            _ = self.rights.changed() => return Ok(()),
            why = stopped => {
                if self.told.borrow().mark == self.place.watched.marked() {
                    return Err(why.into());
                }
            }
        }
        // What became durable with the end is answered yet.
        let _ = self.told.changed().await;
        Ok(())
    }

    /// Looks something up where blocking hurts nobody.
    ///
    /// # Errors
    /// `Store`.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, WatchError> {
        let (store, (sender, receiver)) = (self.store.clone(), oneshot::channel());
        self.stage.env.block(Box::new(move || drop(sender.send(look(&*store))))).await;
        let panicked = || StoreError::Failed("a look-up panicked".to_owned());
        Ok(receiver.await.unwrap_or_else(|_| Err(panicked()))?)
    }
}
