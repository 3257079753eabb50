//! Gives charms their turns: one at a time each, all in line, as many at once as there are slots.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    charms::Charms,
    did::Did,
    queue::Ready,
    slots::Slots,
    store::Queued,
    suspects::work_of,
    turn::{Stage, Turn, Wait},
};

/// The workers of a host. Each takes the next charm in line and gives it one attempt at a turn.
pub struct Scheduler {
    stage: Arc<Stage>,
    charms: Arc<Charms>,
    ready: Arc<Ready>,
    slots: Slots,
    benches: Mutex<HashMap<Did, Bench>>,
}

/// Turns of one charm that are between two attempts. Dropped when empty.
#[derive(Default)]
struct Bench {
    /// Those that have waited and get their next attempt first.
    waited: VecDeque<Turn>,
    /// Senders of those that wait for room: their later events wait too (S3).
    parked: HashSet<Did>,
}

impl Scheduler {
    /// Starts one worker per slot. They end when `ready` is closed or the host stops writing.
    pub fn start(stage: Arc<Stage>, charms: Arc<Charms>, ready: Arc<Ready>) {
        let workers = stage.committer.limits().turns_max;
        let slots = Slots::new(stage.committer.limits());
        let scheduler = Arc::new(Scheduler { stage, charms, ready, slots, benches: Mutex::default() });
        for _ in 0..workers {
            scheduler.stage.env.spawn(Box::pin(scheduler.clone().work()));
        }
    }

    /// Works on the bench of a charm.
    fn bench<T>(&self, charm: &Did, work: impl FnOnce(&mut Bench) -> T) -> T {
        let mut benches: MutexGuard<'_, _> = self.benches.lock().unwrap_or_else(PoisonError::into_inner);
        let bench: &mut Bench = benches.entry(*charm).or_default();
        let result = work(bench);
        if bench.waited.is_empty() && bench.parked.is_empty() {
            benches.remove(charm);
        }
        result
    }

    async fn work(self: Arc<Scheduler>) {
        let Stage { committer, aging, .. } = &*self.stage;
        // Who may begin has a slot, and room kept for its commit.
        let may_begin = |charm: &Did| {
            let slot = !aging.holds(charm) && self.slots.begin(charm);
            let begins = slot && committer.may_begin(charm);
            if slot && !begins {
                self.slots.leave(charm);
            }
            begins
        };
        while let Some(charm) = self.ready.next(may_begin, |charm| committer.is_late(charm)).await {
            let Some(turn) = self.next(&charm) else {
                committer.ended(&charm);
                self.leave(&charm);
                self.ready.done(charm, false);
                continue;
            };
            self.attempt(turn).await;
        }
    }

    /// Gives the slot of a charm back that begins nothing.
    fn leave(&self, charm: &Did) {
        if self.slots.leave(charm) {
            self.ready.nudge();
        }
    }

    /// Returns the turn of a charm that goes on, or begins one.
    fn next(&self, charm: &Did) -> Option<Turn> {
        let (waited, parked) = self.bench(charm, |bench| {
            let turn = bench.waited.pop_front();
            if let Some(turn) = &turn {
                bench.parked.remove(&turn.sender());
            }
            (turn, bench.parked.clone())
        });
        waited.or_else(|| Some(self.stage.begin(self.event(charm, parked)?)))
    }

    /// Returns whether a charm could have another attempt at once.
    fn has_more(&self, charm: &Did) -> bool {
        let (waited, parked) = self.bench(charm, |bench| (!bench.waited.is_empty(), bench.parked.clone()));
        waited || self.stage.committer.next(charm, &parked).is_some()
    }

    async fn attempt(self: &Arc<Scheduler>, mut turn: Turn) {
        let charm = turn.charm();
        // The rights of this moment: what changed since an attempt before is seen by this one.
        let Some(installed) = self.charms.get(&charm) else {
            self.stage.committer.ended(&charm);
            self.leave(&charm);
            return self.ready.done(charm, false);
        };
        let attempt = self.stage.attempt(&mut turn, &installed).await;
        self.stage.committer.ended(&charm);
        if self.slots.ended(&charm, turn.fuel()) {
            self.ready.nudge();
        }
        match attempt {
            Ok(None) => {
                // It came to its end, whatever that is.
                self.stage.suspects.clear(&work_of(turn.queued()));
                self.ready.done(charm, self.has_more(&charm));
            }
            Ok(Some(wait @ Wait::Room(_))) => {
                self.bench(&charm, |bench| bench.parked.insert(turn.sender()));
                self.stage.env.spawn(Box::pin(self.clone().wait(turn, wait)));
                self.ready.done(charm, self.has_more(&charm));
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
        let (charm, sender, parked) = (turn.charm(), turn.sender(), matches!(wait, Wait::Room(_)));
        let waited = tokio::select! {
            biased;
            () = self.ready.closed() => return,
            waited = self.stage.wait(turn, wait) => waited,
        };
        let Ok(turn) = waited else { return };
        let is_favoured = turn.as_ref().is_some_and(Turn::is_favoured);
        self.bench(&charm, |bench| match turn {
            Some(turn) if parked => bench.waited.push_back(turn),
            // Nothing else of the charm was begun meanwhile.
            Some(turn) => bench.waited.push_front(turn),
            None => drop(bench.parked.remove(&sender)),
        });
        if parked {
            self.ready.wake(charm);
        } else if is_favoured {
            self.ready.first(charm);
        } else {
            self.ready.done(charm, true);
        }
    }

    /// Returns the event whose turn begins now, of a sender that is not parked.
    fn event(&self, charm: &Did, mut parked: HashSet<Did>) -> Option<Arc<Queued>> {
        let Stage { committer, suspects, .. } = &*self.stage;
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
