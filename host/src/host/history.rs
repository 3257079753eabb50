//! History that ends: the past of a charm goes, and all of a charm that is not wanted any more (H1).

use super::{Host, SendError};
use crate::{
    did::Did,
    limits::WAITING_STEP,
    tx::{Gone, Refused},
};

impl Host {
    /// Lets the whole past of a charm go, up to now: the records of its commits, its dead letters, the messages of its receipts.
    /// What it holds now stays, and so do the outcomes of its receipts. Its cells can be read as of now and later. Completes
    /// when that is durable and what has gone is in no file of the store.
    ///
    /// What it sent to others is theirs: [`Gone`] names them. Copies of the store are not touched.
    ///
    /// # Errors
    /// `NoSuchCharm`; `Key` when nothing can be signed for it; `Store`, also when another program reads the store and does not
    /// end: what has gone then cannot be read by the host any more, and another call finishes; `Unavailable`.
    pub async fn prune(&self, charm: &Did) -> Result<Gone, SendError> {
        self.check_open()?;
        self.check_key(charm)?;
        match self.stage.committer.prune(charm).await {
            Ok(gone) => Ok(gone),
            Err(Refused::Gone) => Err(SendError::NoSuchCharm { to: *charm }),
            Err(refused) => Err(self.refused(refused, *charm).await),
        }
    }

    /// Uninstalls a charm, if it is installed, and takes its data along: the events that wait for it are cancelled, its cells are
    /// removed, and its past goes. Its name, its DID and its key stay: installed again it begins with nothing. Completes when
    /// that is durable; what a crash leaves of it another call takes.
    ///
    /// # Errors
    /// As `prune`.
    pub async fn uninstall_with_data(&self, charm: &Did) -> Result<Gone, SendError> {
        self.check_open()?;
        self.check_key(charm)?;
        if let Err(refused) = self.stage.committer.readable(charm).await {
            return Err(self.refused(refused, *charm).await);
        }
        match self.uninstall(charm).await {
            Ok(()) | Err(SendError::NoSuchCharm { .. }) => {}
            Err(error) => return Err(error),
        }
        let committer = &self.stage.committer;
        loop {
            let waiting = committer.waiting(charm, 0, WAITING_STEP).await?;
            if waiting.is_empty() {
                break;
            }
            for queued in waiting {
                match committer.cancel(charm, &queued.event.id).await {
                    Ok(_) | Err(Refused::Gone) => {}
                    Err(refused) => return Err(self.refused(refused, *charm).await),
                }
            }
        }
        if let Err(refused) = committer.remove_cells(charm).await {
            return Err(self.refused(refused, *charm).await);
        }
        self.prune(charm).await
    }
}
