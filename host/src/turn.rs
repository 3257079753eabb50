//! One turn: one event handled in its own transaction by its own charm. Read this first.
//!
//! ```text
//! begin     pin a snapshot, bind the one writer, fix time and seed          (T1, T3)
//! call      handle(stream, event) on a fresh instance; host calls touch only the transaction
//! commit    re-check the reads by value; a conflict runs the turn again     (T4)
//!           else writes, acknowledgement, sends and receipts as one         (T5)  <- the commit point
//! settle    an error, a trap or a limit leaves only receipt and dead letter (T6)
//! ```
//!
//! Nothing here touches disk, network or clock but through the committer, the outbound and the environment.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tracing::Instrument;

use crate::{
    charms::Installed,
    directory::Directory,
    env::Env,
    error::Unavailable,
    guest::{End, Facts, Guests, Outcome as Ended},
    http::{Outbound, Transport},
    receipt::Outcome,
    store::Queued,
    tx::{Committer, Failure, Transaction, Tries},
};

/// First pause after a conflict; doubles up to `PAUSE_MAX`, each time with jitter.
const PAUSE_MIN: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// What turns share.
pub struct Stage {
    /// Orders commits.
    pub committer: Arc<Committer>,
    /// Runs guests.
    pub guests: Guests,
    /// Clock and randomness.
    pub env: Arc<dyn Env>,
    /// The network.
    pub transport: Arc<dyn Transport>,
}

impl Stage {
    /// Takes an event to its receipt.
    ///
    /// # Errors
    /// When the host does not write any more; the event still waits then.
    pub async fn turn(
        &self,
        charm: &Installed,
        directory: Arc<Directory>,
        queued: &Arc<Queued>,
    ) -> Result<(), Unavailable> {
        let event = &queued.event;
        let span = tracing::info_span!("turn", charm = %event.to, name = charm.entry.name, event = %event.id, sender = %event.sender, stream = event.stream);
        let run = AssertUnwindSafe(self.run(charm, directory, queued)).catch_unwind().instrument(span);
        run.await.unwrap_or_else(|_| {
            // A bug of the host, not of the charm: the turn's transaction is gone, the host serves the next.
            tracing::error!(charm = %event.to, event = %event.id, "host call panicked");
            self.committer.settle(queued, Outcome::Faulted, "the host failed in this turn: see its log")
        })
    }

    async fn run(&self, charm: &Installed, directory: Arc<Directory>, queued: &Arc<Queued>) -> Result<(), Unavailable> {
        let event = &queued.event;
        let settle = |outcome, message: &str| {
            tracing::info!(%outcome, message, "settled");
            self.committer.settle(queued, outcome, message)
        };
        if !charm.entry.descriptor.streams.contains_key(&event.stream) {
            return settle(Outcome::NoSuchStream, "there is no such charm or stream");
        }
        let facts = Facts {
            charm: event.to,
            sender: event.sender,
            event: event.id,
            time_ms: self.env.now_ms(),
            seed: self.committer.mint().seed(&event.id),
        };
        let limits = self.committer.limits();
        let budget = Duration::from_millis(limits.conflict_ms_max);
        let mut outbound = Outbound::new(self.transport.clone(), self.committer.clone(), charm.http.clone());
        let (start, mut paused) = (self.env.monotonic(), Duration::ZERO);
        let (mut attempts, mut pause) = (0u32, PAUSE_MIN);
        loop {
            attempts += 1;
            let tx = Transaction::begin(&self.committer, queued, directory.clone());
            let End { outcome, outbound: recorded } =
                self.guests.handle(&charm.prepared, tx, outbound, facts.clone(), queued).await;
            let committed = match outcome {
                Ended::Done(tx) => self.committer.commit(*tx, queued).await,
                Ended::Lost => Err(self.committer.lost()),
                Ended::Rejected(text) => return settle(Outcome::Rejected, &text),
                Ended::Fault(fault) => return settle(Outcome::Faulted, &fault.message),
            };
            let cause = match committed {
                Ok(seq) => {
                    tracing::debug!(seq, attempts, "committed");
                    return Ok(());
                }
                Err(Failure::Conflict(cause)) => cause,
                Err(Failure::Limit(text)) => return settle(Outcome::Faulted, &text),
                Err(Failure::Unavailable(why)) => return Err(why),
            };
            let end = self.env.monotonic();
            if end - start >= budget {
                let (total_ms, paused_ms) = ((end - start).as_millis(), paused.as_millis());
                let tries = Tries { attempts, total_ms, paused_ms };
                return settle(Outcome::ConflictExhausted, &cause.exhausted(&tries, limits));
            }
            tracing::debug!(%cause, attempts, "conflict: running again");
            self.pause(&mut pause).await;
            paused += self.env.monotonic() - end;
            outbound = recorded;
            outbound.rewind();
        }
    }

    /// Waits a random part of `pause`, and doubles it.
    async fn pause(&self, pause: &mut Duration) {
        let mut byte = [0];
        self.env.random(&mut byte);
        self.env.sleep(*pause * (128 + u32::from(byte[0] / 2)) / 256).await;
        *pause = (*pause * 2).min(PAUSE_MAX);
    }
}
