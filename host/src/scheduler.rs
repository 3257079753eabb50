//! Gives charms their turns: one at a time each, all in line, as many at once as there are slots.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    charms::Charms,
    did::Did,
    queue::Ready,
    store::Queued,
    suspects::work_of,
    turn::{Stage, Turn, Wait},
};

/// The workers of a host. Each takes the next charm in line and gives it one attempt at a turn.
pub struct Scheduler {
    stage: Arc<Stage>,
    charms: Arc<Charms>,
    ready: Arc<Ready>,
    /// Turns that have waited and stand in line for their next attempt.
    waited: Mutex<HashMap<Did, Turn>>,
}

impl Scheduler {
    /// Starts one worker per slot. They end when `ready` is closed or the host stops writing.
    pub fn start(stage: Arc<Stage>, charms: Arc<Charms>, ready: Arc<Ready>) {
        let workers = stage.committer.limits().turns_max;
        let scheduler = Arc::new(Scheduler { stage, charms, ready, waited: Mutex::default() });
        for _ in 0..workers {
            scheduler.stage.env.spawn(Box::pin(scheduler.clone().work()));
        }
    }

    fn waited(&self) -> MutexGuard<'_, HashMap<Did, Turn>> {
        self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(self: Arc<Scheduler>) {
        let Stage { committer, aging, .. } = &*self.stage;
        // Aging first: who may begin has room kept for its commit.
        let may_begin = |charm: &Did| !aging.holds(charm) && committer.may_begin(charm);
        while let Some(charm) = self.ready.next(may_begin, |charm| committer.is_late(charm)).await {
            let Some(turn) = self.next(&charm) else {
                committer.ended(&charm);
                self.ready.done(charm, false);
                continue;
            };
            self.attempt(turn).await;
        }
    }

    /// Returns the turn of a charm that goes on, or begins one.
    fn next(&self, charm: &Did) -> Option<Turn> {
        let waited = self.waited().remove(charm);
        waited.or_else(|| Some(self.stage.begin(self.event(charm)?)))
    }

    async fn attempt(self: &Arc<Scheduler>, mut turn: Turn) {
        let charm = turn.charm();
        // The rights of this moment: what changed since an attempt before is seen by this one.
        let Some((installed, directory)) = self.charms.get(&charm) else { return self.ready.done(charm, false) };
        let attempt = self.stage.attempt(&mut turn, &installed, directory).await;
        self.stage.committer.ended(&charm);
        match attempt {
            Ok(None) => {
                // It came to its end, whatever that is.
                self.stage.suspects.clear(&work_of(turn.queued()));
                self.ready.done(charm, self.stage.committer.next(&charm, &HashSet::new()).is_some());
            }
            Ok(Some(wait)) => {
                self.ready.away(charm);
                self.stage.env.spawn(Box::pin(self.clone().wait(turn, wait)));
            }
            Err(_) => {
                // The host stopped: the event waits for the next start.
                self.ready.close();
                self.ready.done(charm, false);
            }
        }
    }

    /// Brings a turn back in line when it has what it waits for. When the host closes, its event waits for the next start.
    async fn wait(self: Arc<Scheduler>, turn: Turn, wait: Wait) {
        let charm = turn.charm();
        let waited = tokio::select! {
            biased;
            () = self.ready.closed() => return,
            waited = self.stage.wait(turn, wait) => waited,
        };
        let Ok(turn) = waited else { return };
        let is_favoured = turn.as_ref().is_some_and(Turn::is_favoured);
        self.waited().extend(turn.map(|turn| (charm, turn)));
        if is_favoured {
            self.ready.first(charm);
        } else {
            self.ready.done(charm, true);
        }
    }

    /// Returns the event whose turn begins now.
    fn event(&self, charm: &Did) -> Option<Arc<Queued>> {
        let Stage { committer, suspects, .. } = &*self.stage;
        let mut parked = HashSet::new();
        loop {
            let queued = committer.next(charm, &parked)?;
            if !suspects.pause(&work_of(&queued)).is_zero() {
                // Its time comes later: the host wakes the charm then.
                parked.insert(queued.event.sender);
            } else if committer.begin(&queued) {
                return Some(queued);
            }
        }
    }
}
