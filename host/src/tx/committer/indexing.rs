//! Keeps the store's index behind its journal, in pieces of work that nobody waits for: see [`crate::Store::index`].

use std::{sync::Arc, time::Duration};

use super::{Unavailable, group::Group};
use crate::{
    limits::{INDEX_PAUSE_MS, LAG_BYTES_MAX},
    log::say,
    store::StoreError,
};

/// Shortest and longest time between two tries on a full disk, or a locked file.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

impl Group {
    /// Runs until nothing is written any more; what is left then is written when the store is closed.
    pub async fn keep_index(self: Arc<Group>) {
        tokio::select! {
            () = self.ended() => {}
            () = self.index_all() => {}
        }
    }

    async fn index_all(self: &Arc<Group>) {
        let mut retry = RETRY.0;
        let mut waits = None;
        loop {
            let lag = self.store.lag();
            if lag.groups == 0 {
                self.committed.notified().await;
                continue;
            }
            if lag.bytes < LAG_BYTES_MAX / 4 {
                self.env.sleep(Duration::from_millis(INDEX_PAUSE_MS)).await;
            }
            let store = self.store.clone();
            match self.block(move || store.index()).await {
                None => return,
                Some(Ok(_)) => {
                    retry = RETRY.0;
                    waits = None;
                }
                Some(Err(error @ (StoreError::Full | StoreError::Locked { .. }))) => {
                    if waits.as_ref() != Some(&error) {
                        say(|| tracing::warn!("the index waits, commits go on until it is far behind: {error}"));
                        waits = Some(error);
                    }
                    self.env.sleep(retry).await;
                    retry = (retry * 2).min(RETRY.1);
                }
                Some(Err(error)) => return self.stop(Unavailable::stopped(&error)),
            }
        }
    }
}
