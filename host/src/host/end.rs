//! How a host ends: asked to, or when its last handle is dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::OnceCell;

use super::Host;
use crate::{limits::SHUTDOWN_MS, run_queue::RunQueue, turn::Stage, tx::Unavailable};

/// What all handles of a host share of its end. The last one drops it.
pub(super) struct End {
    stage: Arc<Stage>,
    ready: Arc<RunQueue>,
    /// It takes nothing more.
    closing: AtomicBool,
    /// It has ended, and so.
    ended: OnceCell<Result<(), Unavailable>>,
}

impl End {
    pub fn new(stage: Arc<Stage>, ready: Arc<RunQueue>) -> Arc<End> {
        Arc::new(End { stage, ready, closing: AtomicBool::new(false), ended: OnceCell::new() })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.ready.close();
        self.stage.guests.close();
        self.stage.committer.abandon();
    }
}

impl Host {
    /// Ends as [`Host::shutdown_within`] does, with [`SHUTDOWN_MS`](crate::SHUTDOWN_MS) for the turns that run.
    ///
    /// # Errors
    /// As there.
    pub async fn shutdown(&self) -> Result<(), Unavailable> {
        self.shutdown_within(Duration::from_millis(SHUTDOWN_MS)).await
    }

    /// Ends, for all handles: takes no more events, charms or grants, begins no turn, lets running turns end for at most
    /// that long, and makes everything durable that was committed. Then every call that can fail answers `Closed` (`verify`
    /// and `dead_letters` as a store that failed), and another host can open the store.
    ///
    /// A turn that has not ended by then commits nothing more: its event waits for the next host, with all the others.
    /// Further calls, at the same time or later, answer the same; each waits no longer than its own time.
    ///
    /// # Errors
    /// When the last commits could not be made durable.
    pub async fn shutdown_within(&self, time: Duration) -> Result<(), Unavailable> {
        self.end.closing.store(true, Ordering::Relaxed);
        self.ready.close();
        let (committer, env) = (&self.stage.committer, &self.stage.env);
        let drained = tokio::select! {
            biased;
            () = self.ready.idle() => Ok(()),
            // With a full disk a turn may wait for it: give up what is not durable.
            ill = committer.unhealthy() => Err(ill),
            () = env.sleep(time) => Ok(()),
        };
        let end = async || {
            self.stage.guests.close();
            if drained.is_ok() {
                return committer.close().await;
            }
            committer.abandon();
            // Turns whose runtime has ended never will.
            if drained != Err(Unavailable::RuntimeEnded) {
                tokio::select! {
                    biased;
                    () = self.ready.idle() => {}
                    () = env.sleep(time) => {}
                }
            }
            drained
        };
        self.end.ended.get_or_init(end).await.clone()
    }

    /// Checks that the host takes something new.
    pub(super) fn check_open(&self) -> Result<(), Unavailable> {
        if self.end.closing.load(Ordering::Relaxed) { Err(Unavailable::Closed) } else { Ok(()) }
    }

    /// Checks that the store is still this host's to read.
    pub(super) fn check_readable(&self) -> Result<(), Unavailable> {
        if self.end.ended.initialized() { Err(Unavailable::Closed) } else { Ok(()) }
    }
}
