//! Gives charms their turns: one at a time each, all in line, as many at once as there are slots.

use std::{collections::HashSet, sync::Arc};

use crate::{charms::Charms, did::Did, queue::Ready, turn::Stage};

/// The workers of a host. Each takes the next charm in line and gives it one turn.
pub struct Scheduler {
    stage: Arc<Stage>,
    charms: Arc<Charms>,
    ready: Arc<Ready>,
}

impl Scheduler {
    /// Starts one worker per slot. They end when `ready` is closed or the host stops writing.
    pub fn start(stage: Arc<Stage>, charms: Arc<Charms>, ready: Arc<Ready>) {
        let workers = stage.committer.limits().turns_max;
        let scheduler = Arc::new(Scheduler { stage, charms, ready });
        for _ in 0..workers {
            scheduler.stage.env.spawn(Box::pin(scheduler.clone().work()));
        }
    }

    async fn work(self: Arc<Scheduler>) {
        while self.stage.committer.room().await.is_ok() {
            let Some(charm) = self.ready.next().await else { return };
            let more = self.turn(&charm).await;
            self.ready.done(charm, more);
        }
    }

    /// Runs one turn; returns whether the charm has more to do.
    async fn turn(&self, charm: &Did) -> bool {
        let Some(queued) = self.stage.committer.next(charm, &HashSet::new()) else { return false };
        let Some((installed, directory)) = self.charms.get(charm) else { return false };
        if self.stage.turn(&installed, directory, &queued).await.is_err() {
            // The host stopped: the event waits for the next start.
            self.ready.close();
            return false;
        }
        self.stage.committer.next(charm, &HashSet::new()).is_some()
    }
}
