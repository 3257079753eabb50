//! Gives charms their turns: one at a time each, all in line, as many at once as there are slots.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    charms::Charms,
    did::Did,
    env::breathe,
    run_queue::{Answer, RunQueue},
    slots::Slots,
    suspects::work_of,
    turn::{Stage, Turn, Wait},
    tx::Begun,
};

/// Turns that a worker gives in a row, however short, before others run on its thread.
const TURNS_IN_A_ROW: u64 = 64;

/// The workers of a host. Each takes the next charm in line and gives it one attempt at a turn.
pub struct Scheduler {
    stage: Arc<Stage>,
    charms: Arc<Charms>,
    ready: Arc<RunQueue>,
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
    pub fn start(stage: Arc<Stage>, charms: Arc<Charms>, ready: Arc<RunQueue>) {
        let workers = stage.committer.limits().turns_max;
        let slots = Slots::new(stage.committer.limits());
        let scheduler = Arc::new(Scheduler { stage, charms, ready, slots, benches: Mutex::default() });
        for _ in 0..workers {
            scheduler.stage.env.spawn(Box::pin(scheduler.clone().work()));
        }
    }

    fn benches(&self) -> MutexGuard<'_, HashMap<Did, Bench>> {
        self.benches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the bench of a charm.
    fn bench<T>(&self, charm: &Did, work: impl FnOnce(&mut Bench) -> T) -> T {
        let mut benches = self.benches();
        let bench = benches.entry(*charm).or_default();
        let result = work(bench);
        if bench.waited.is_empty() && bench.parked.is_empty() {
            benches.remove(charm);
        }
        result
    }

    /// Returns whether a turn of a charm has waited and goes on, and senders whose turns are parked.
    fn on_bench(&self, charm: &Did) -> (bool, HashSet<Did>) {
        let benches = self.benches();
        benches.get(charm).map_or_else(Default::default, |bench| (!bench.waited.is_empty(), bench.parked.clone()))
    }

    async fn work(self: Arc<Scheduler>) {
        let slice = self.stage.committer.limits().fuel_slice;
        let mut since = 0;
        while let Some(turn) = self.ready.next(|charm, waited| self.ask(charm, waited)).await {
            since += self.attempt(turn).await.max(slice / TURNS_IN_A_ROW);
            if since >= slice {
                since = 0;
                breathe().await;
            }
        }
    }

    /// Asks whether a charm begins a turn, or goes on with one: then it has a slot, and room kept for its commit.
    fn ask(&self, charm: &Did, waited: bool) -> Answer<Turn> {
        let Stage { committer, aging, .. } = &*self.stage;
        if aging.holds(charm) || !self.slots.begin(charm) {
            return Answer::Held;
        }
        if !committer.may_begin(charm) {
            self.slots.leave(charm);
            return Answer::Held;
        }
        let answer = self.next(charm, waited);
        if !matches!(answer, Answer::Begins(_)) {
            self.begins_nothing(charm);
        }
        answer
    }

    /// Gives back what a charm was given to begin a turn.
    fn begins_nothing(&self, charm: &Did) {
        self.stage.committer.ended(charm);
        if self.slots.leave(charm) {
            self.ready.nudge();
        }
    }

    /// Returns the turn of a charm that goes on, or begins one.
    fn next(&self, charm: &Did, waited: bool) -> Answer<Turn> {
        let Stage { committer, suspects, .. } = &*self.stage;
        let ((goes_on, mut parked), mut paused) = (self.on_bench(charm), BTreeSet::new());
        if goes_on {
            if !waited && committer.is_late(charm) {
                return Answer::Late;
            }
            let turn = self.bench(charm, |bench| {
                let turn = bench.waited.pop_front()?;
                if !turn.is_under_way() {
                    bench.parked.remove(&turn.sender());
                }
                Some(turn)
            });
            return turn.map_or(Answer::Idle, Answer::Begins);
        }
        loop {
            let (queued, fits) = match committer.begin(charm, &parked, &paused, waited) {
                Begun::Event(queued, fits) => (queued, fits),
                Begun::Resumes(resumed) if suspects.pause(&work_of(&resumed.queued)).is_zero() => {
                    return Answer::Begins(self.stage.resume(resumed));
                }
                Begun::Resumes(resumed) => {
                    committer.put_back(&resumed.queued);
                    paused.insert(resumed.queued.position);
                    continue;
                }
                Begun::Nothing => return Answer::Idle,
                Begun::Late => return Answer::Late,
            };
            if suspects.pause(&work_of(&queued)).is_zero() {
                return Answer::Begins(self.stage.begin(queued, fits));
            }
            // Its time comes later: the host wakes the charm then.
            committer.put_back(&queued);
            parked.insert(queued.event.sender);
        }
    }

    /// Returns whether a charm could have another attempt at once.
    fn has_more(&self, charm: &Did) -> bool {
        let (waited, parked) = self.on_bench(charm);
        waited || self.stage.committer.has_next(charm, &parked)
    }

    /// Gives a turn one attempt; returns the fuel that it took.
    async fn attempt(self: &Arc<Scheduler>, mut turn: Turn) -> u64 {
        let charm = turn.charm();
        // The rights of this moment: what changed since an attempt before is seen by this one.
        let Some(installed) = self.charms.get(&charm) else {
            // It was uninstalled: its event waits until it is there again.
            self.stage.committer.put_back(turn.queued());
            self.begins_nothing(&charm);
            self.ready.done(charm, false);
            return 0;
        };
        let attempt = self.stage.attempt(&mut turn, &installed).await;
        let fuel = turn.took();
        self.stage.committer.ended(&charm);
        if self.slots.ended(&charm, fuel) {
            self.ready.nudge();
        }
        match attempt {
            Ok(None) => {
                // It came to its end, whatever that is.
                self.stage.suspects.clear(&work_of(turn.queued()));
                self.ready.done(charm, self.has_more(&charm));
            }
            // Nothing speaks for it yet.
            Ok(Some(Wait::Away)) => self.ready.done(charm, self.has_more(&charm)),
            Ok(Some(Wait::Answer(asking))) => {
                self.stage.clone().ask(*asking, self.ready.clone());
                self.ready.done(charm, self.has_more(&charm));
            }
            Ok(Some(wait @ Wait::Room(_))) => {
                if !turn.is_under_way() {
                    self.bench(&charm, |bench| bench.parked.insert(turn.sender()));
                }
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
        fuel
    }

    /// Brings a turn back in line when it has what it waits for. When the host closes, its event waits for the next start.
    async fn wait(self: Arc<Scheduler>, turn: Turn, wait: Wait) {
        let (charm, sender, parked) = (turn.charm(), turn.sender(), matches!(wait, Wait::Room(_)));
        let under_way = turn.is_under_way();
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
            None if parked && !under_way => drop(bench.parked.remove(&sender)),
            None => {}
        });
        if parked {
            self.ready.wake(charm);
        } else {
            self.ready.back(charm, is_favoured);
        }
    }
}
