//! One turn: one event handled in its own transaction by its own charm. Read this first.
//!
//! ```text
//! begin     pin a snapshot, bind the one writer, fix time and seed          (T1, T3)
//! call      handle(stream, event) on a fresh instance; host calls touch only the transaction
//! commit    re-check the reads by value; a conflict runs the turn again     (T4)
//!           else writes, acknowledgement, sends and receipts as one         (T5)  <- the commit point
//! settle    an error, a trap or a limit leaves only receipt and dead letter (T6)
//! segment   a wait for what the turn has sent: what it did so far is committed, its event is not acknowledged. When it goes
//!           on, on a fresh instance, the host tells it again what it told before, up to the wait         (S7, S8)
//! wait      whatever is not there yet ends the attempt: an answer from outside, room in an inbox, time after a conflict.
//!           The turn gives everything back (instance, snapshot, worker) and keeps a few facts and the recorded answers;
//!           when it is there, the turn runs again from its start, and is given the answers at the same places (A4)
//! ```
//!
//! Nothing here touches disk, network or clock but through the committer, the transport and the environment.

mod exchange;
mod resume;

use std::{
    collections::{BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

pub use exchange::Asking;
use futures_util::FutureExt;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    aging::{Aging, Favour},
    charms::Installed,
    core::{Part, Resumed},
    cost,
    derive::Deriver,
    did::Did,
    env::Env,
    guest::{Ended, Facts, Guests, Lent, Loaded},
    http::{Outbound, Transport},
    listing::TurnState,
    live::{Live, Place},
    log::{run_within, say, span},
    meter::{Amount, Next, Room, Sender},
    notices::Notices,
    places::Places,
    receipt::Outcome,
    record::{Progress, Ran},
    recording::{Recording, Sees},
    rows::Queued,
    suspects::Suspects,
    text::{clean, clip_message},
    tx::{Cause, Committer, Failure, Transaction, Tries, Unavailable},
};
use resume::{Lost, rests};

/// First pause after a conflict; doubles up to `PAUSE_MAX`, each time with jitter.
const PAUSE_MIN: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Conflicts after which a turn asks that those who beat it stand back, and charms that it remembers of them.
const FAVOUR_AFTER: u32 = 8;
const RIVALS_MAX: usize = 16;

/// What turns share.
pub struct Stage {
    /// Orders commits.
    pub committer: Arc<Committer>,
    /// Runs guests.
    pub guests: Arc<Guests>,
    /// Computes derived cells.
    pub deriver: Arc<Deriver>,
    /// Clock and randomness.
    pub env: Arc<dyn Env>,
    /// The network.
    pub transport: Arc<dyn Transport>,
    /// Places of turns that wait for HTTP: `exchanges-max`. Of those for requests that its turns wait for a charm has a part.
    pub places: Places,
    /// Lets turns that lost often win.
    pub aging: Arc<Aging>,
    /// What turns do now, for whoever asks.
    pub live: Arc<Live>,
    /// What the operator is told.
    pub notices: Notices,
    /// What processes have died under.
    pub suspects: Arc<Suspects>,
    /// Components that turns under way began with where another is installed now: of each charm the one that ran last.
    pub began: Mutex<HashMap<Did, Arc<Loaded>>>,
}

/// A turn between two attempts: all that it keeps.
pub struct Turn {
    queued: Arc<Queued>,
    /// The descriptor that its event was checked against, 0 for none.
    fits: u64,
    facts: Facts,
    outbound: Outbound,
    /// Lines of log told before it waited.
    told: usize,
    conflicts: Tries,
    pause: Duration,
    /// Charms whose commits beat it.
    rivals: BTreeSet<Did>,
    /// Fuel that its last attempt took.
    took: u64,
    /// How long its last attempt took.
    last_run: Duration,
    /// Its rivals stand back for the next attempt.
    favour: Option<Favour>,
    /// Its place among those that wait.
    place: Option<OwnedSemaphorePermit>,
    /// How long it has waited for room.
    roomless: Duration,
    /// It has waited for room: when its attempt is over, the next that waits looks.
    next: Option<Next>,
    /// How far it came when it is under way.
    progress: Option<Arc<Progress>>,
    /// What it goes on with, until its recording is there.
    resumed: Option<Box<Resumed>>,
    /// What it is told, if its component may wait; none before the first attempt.
    recording: Option<Recording>,
    /// The component that it began with, once that was looked for: it, or why it cannot be had.
    began: Option<Result<Arc<Loaded>, Lost>>,
    /// Where it stands among those that are seen.
    seen: Place,
}

impl Turn {
    /// Returns whose turn it is.
    pub fn charm(&self) -> Did {
        self.queued.event.to
    }

    /// Returns the fuel that its last attempt took.
    pub fn took(&self) -> u64 {
        self.took
    }

    /// Returns whether it has waited, or is tried again: it stands in no line.
    pub fn is_under_way(&self) -> bool {
        self.progress.is_some()
    }

    /// Returns how far it came before its last wait; none when it has not waited.
    fn waited(&self) -> Option<Arc<Progress>> {
        self.progress.clone().filter(|progress| progress.segments > 0)
    }

    /// Returns whether others stand back for its next attempt.
    pub fn is_favoured(&self) -> bool {
        self.favour.is_some()
    }

    /// Returns its event.
    pub fn queued(&self) -> &Queued {
        &self.queued
    }

    /// Returns whose event it handles.
    pub fn sender(&self) -> Did {
        self.queued.event.sender
    }

    fn span(&self, name: &str) -> tracing::Span {
        let event = &self.queued.event;
        span(
            || tracing::info_span!("turn", charm = %event.to, charm_name = name, event = %event.id, sender = %event.sender, stream = %clean(&event.stream)),
        )
    }
}

/// What a turn waits for before its next attempt.
#[derive(Debug)]
pub enum Wait {
    /// Time, after a conflict.
    Pause,
    /// That those who beat it often stand back.
    Favour,
    /// The answer to what its outbound has noted.
    Exchange,
    /// Room in an inbox: meanwhile its charm takes the events of other senders.
    Room(Room),
    /// The component that it began with: another is installed now.
    Component,
    /// What it has sent, or time: the committer has all that is kept of it.
    Away,
    /// The answer to a request, which leaves apart from it; else as `Away`.
    Answer(Box<Asking>),
}

impl Stage {
    /// Begins the turn of an event: its time is the same in every attempt, and so is the seed that its id gives.
    pub fn begin(&self, queued: Arc<Queued>, fits: u64) -> Turn {
        let event = &queued.event;
        // A clock that was set back shows no time before the one that the event waited for.
        let time_ms = self.env.now_ms().max(event.deliver_after.unwrap_or(0));
        let sees = Sees { time_ms, retries: 0 };
        let facts = Facts { charm: event.to, sender: event.sender, event: event.id, sees };
        let seed = self.committer.mint().requests(&event.id);
        let outbound = Outbound::new(self.committer.limits().clone(), seed);
        let seen = self.live.begin(&queued, facts.sees.time_ms);
        Turn {
            queued,
            fits,
            facts,
            outbound,
            told: 0,
            conflicts: Tries::default(),
            pause: PAUSE_MIN,
            rivals: BTreeSet::new(),
            took: 0,
            last_run: Duration::ZERO,
            favour: None,
            place: None,
            roomless: Duration::ZERO,
            next: None,
            progress: None,
            resumed: None,
            recording: None,
            began: None,
            seen,
        }
    }

    /// Goes on with a turn that has what it waited for. Its time does not go back.
    pub fn resume(&self, resumed: Box<Resumed>) -> Turn {
        let mut turn = self.begin(resumed.queued.clone(), 0);
        let (sees, progress) = (&mut turn.facts.sees, &resumed.progress);
        (sees.time_ms, sees.retries) = (sees.time_ms.max(progress.ran.time_ms), progress.retries);
        turn.progress = Some(resumed.progress.clone());
        turn.resumed = Some(resumed);
        turn
    }

    /// Takes an event to its receipt, or to what it has to wait for.
    ///
    /// # Errors
    /// When the host does not write any more; the event still waits then.
    pub async fn attempt(&self, turn: &mut Turn, charm: &Installed) -> Result<Option<Wait>, Unavailable> {
        match self.committer.bring_back(turn.queued.clone()).await {
            Ok(queued) => turn.queued = queued,
            Err(error) => {
                self.cannot_read(turn, &error);
                return Ok(Some(Wait::Pause));
            }
        }
        let (span, queued) = (turn.span(&charm.name), turn.queued.clone());
        turn.seen.stand(TurnState::Runs);
        let start = self.env.monotonic();
        let run = run_within(span, AssertUnwindSafe(self.run(turn, charm, start)).catch_unwind()).await;
        (turn.last_run, turn.favour) = (self.env.monotonic() - start, None);
        if matches!(run, Ok(Ok(None))) && turn.progress.is_some() && !self.committer.has_turns(&turn.charm()) {
            self.older().remove(&turn.charm());
        }
        run.unwrap_or_else(|_| self.panicked(&queued).map(|()| None))
    }

    /// Returns the name of a charm as the operator knows it.
    fn name(&self, charm: &Did) -> String {
        self.committer.name_of(charm).unwrap_or_else(|| charm.to_string())
    }

    /// A bug of the host or of the embedder, not of the charm: the turn's transaction is gone, the host serves the next.
    fn panicked(&self, queued: &Arc<Queued>) -> Result<(), Unavailable> {
        self.notices.panicked(|| self.name(&queued.event.to), &queued.event);
        self.committer.settle(queued, Outcome::Faulted, "the host failed in this turn: see its log")
    }

    async fn run(&self, turn: &mut Turn, charm: &Installed, start: Duration) -> Result<Option<Wait>, Unavailable> {
        let queued = turn.queued.clone();
        let settle = |outcome, message: &str| {
            say(|| tracing::info!(%outcome, why = %clip_message(message), "settled"));
            self.committer.settle(&queued, outcome, message)?;
            // Whoever asked for the receipt of a rejection knows it.
            if outcome.leaves_letter(&queued.event) {
                self.notices.dead(|| self.name(&queued.event.to), &queued.event, outcome, message);
            }
            Ok(None)
        };
        let directory = self.committer.directory();
        // One that goes on from a wait was handed over before.
        if turn.waited().is_none()
            && let Err((outcome, why)) = directory.admits(&queued.event, turn.fits)
        {
            return settle(outcome, &why);
        }
        let loaded = match self.component(turn, charm) {
            Some(Ok(loaded)) => loaded,
            Some(Err(Lost::Ends(why))) => return settle(Outcome::Faulted, &why),
            Some(Err(Lost::Rests(why))) => return Ok(Some(rests(&queued, &why))),
            None => return Ok(Some(Wait::Component)),
        };
        match self.recall(turn, &loaded).await {
            Ok(true) => {}
            Ok(false) => return Ok(Some(Wait::Pause)),
            Err(Lost::Ends(why)) => return settle(Outcome::Faulted, &why),
            Err(Lost::Rests(why)) => return Ok(Some(rests(&queued, &why))),
        }
        let mut recording = turn.recording.take().unwrap_or_default();
        let limits = self.committer.limits();
        let waits_for_room = turn.roomless < Duration::from_millis(limits.room_ms_max);
        let (mut views, mut derived) = self.deriver.views(&queued.event, &directory, turn.waited().is_none()).await;
        let (ended, fuel) = loop {
            recording.rewind();
            let mut outbound = std::mem::take(&mut turn.outbound);
            outbound.rewind(directory.http(&queued.event.to), recording.requests());
            let progress = turn.progress.as_deref();
            let mut tx = Transaction::begin(&self.committer, views, &queued, waits_for_room, progress);
            if loaded.hash != charm.loaded.hash {
                tx.outlive(loaded.descriptor.clone());
            }
            let sees = recording.saw_first().unwrap_or(turn.facts.sees);
            let lent = Lent { tx: Box::new(tx), outbound, recording, told: turn.told };
            let facts = Facts { sees, ..turn.facts.clone() };
            let end = self.guests.handle(&loaded, lent, facts, &queued).await;
            recording = end.recording;
            derived += end.took;
            (turn.outbound, turn.told, turn.took) = (end.outbound, end.told, derived);
            for miss in end.misses {
                say(|| tracing::debug!(owner = %miss.owner, "{miss}"));
                self.live.missed(queued.event.id, miss, self.env.now_ms());
            }
            match end.ended {
                // No other event of the charm is begun meanwhile: nothing is waited for.
                Ended::Needs(tx) => {
                    let (seen, writes, cells) = tx.into_views();
                    views = seen;
                    let bytes = views.view.bytes + views.staged.values().map(|view| view.bytes).sum::<usize>();
                    let view = if writes == 0 { Some(&mut views.view) } else { views.staged.get_mut(&writes) };
                    let max = limits.derive_fuel_max;
                    if derived >= max {
                        return settle(
                            Outcome::Faulted,
                            &format!("over derive-fuel-max {max}: more to be computed than for one turn"),
                        );
                    }
                    if let Some(view) = view {
                        // What is ready in its other views takes room too.
                        let others = bytes - view.bytes;
                        view.bytes += others;
                        derived += self.deriver.make_ready(view, cells, max - derived).await;
                        view.bytes -= others;
                        if view.is_outdated {
                            turn.told = 0;
                            break (Ended::Beaten(Cause::Component), end.fuel);
                        }
                    }
                }
                ended => {
                    if let Ended::Done(tx) | Ended::Segment(tx) = &ended {
                        self.deriver.note(&queued.event, tx.derived());
                    }
                    break (ended, end.fuel);
                }
            }
        };
        let next = turn.next.take();
        let ran = Ran { time_ms: turn.facts.sees.time_ms, fuel, costs: cost::VERSION };
        let recording = turn.recording.insert(recording);
        let failure = match ended {
            Ended::Needs(_) => return settle(Outcome::Faulted, "the turn needs nothing"),
            Ended::Done(tx) => {
                self.committer.commit(*tx, &queued, (ran, charm.loaded.hash), None, &*self.deriver).await
            }
            Ended::Segment(mut tx) => {
                let Some(wait) = tx.take_wait() else { return settle(Outcome::Faulted, "the turn waits for nothing") };
                let ask = recording.asks().cloned();
                let (hash, piece) = recording.piece(turn.facts.sees);
                let part = Part { wait, recording: hash, piece };
                let committed =
                    self.committer.commit(*tx, &queued, (ran, charm.loaded.hash), Some(part), &*self.deriver).await;
                if let Ok(seq) = committed {
                    say(|| tracing::debug!(seq, conflicts = turn.conflicts.attempts, "committed, and waits"));
                    let asking = ask.map(|ask| Box::new(Asking::new(queued, ask, hash, self.committer.order())));
                    return Ok(Some(asking.map_or(Wait::Away, Wait::Answer)));
                }
                committed
            }
            Ended::Retry(after_ms) => {
                self.committer.retry(&queued, after_ms)?;
                say(|| tracing::debug!(after_ms, "is tried again"));
                return Ok(Some(Wait::Away));
            }
            Ended::Beaten(cause) => Err(self.committer.beaten(cause)),
            Ended::Rejected(text) => return settle(Outcome::Rejected, &text),
            Ended::Fault(fault) => return settle(Outcome::Faulted, &fault.message),
            Ended::Waits => {
                turn.conflicts.spend(self.env.monotonic() - start);
                say(|| tracing::debug!("waits for an http exchange"));
                return Ok(Some(Wait::Exchange));
            }
            Ended::Full(room) => {
                turn.conflicts.spend(self.env.monotonic() - start);
                say(|| tracing::debug!("waits for room in an inbox"));
                return Ok(Some(Wait::Room(room)));
            }
        };
        drop(next);
        match failure {
            Ok(seq) => {
                say(|| tracing::debug!(seq, conflicts = turn.conflicts.attempts, "committed"));
                Ok(None)
            }
            Err(Failure::Conflict(cause)) => {
                turn.conflicts.spend(self.env.monotonic() - start);
                turn.seen.met(queued.event.id, &cause, self.env.now_ms());
                // Filled up since the send: the next attempt sees how much is missing.
                if let Cause::Full { inbox, .. } = &cause
                    && waits_for_room
                    && *inbox != queued.event.to
                    && let Some(meter) = directory.inbox(inbox)
                    && let Some(room) = Room::wanted(meter, Sender::Charm(queued.event.to), Amount::one(0), limits)
                {
                    return Ok(Some(Wait::Room(room)));
                }
                self.conflict(turn, &cause).map_or_else(|message| settle(Outcome::ConflictExhausted, &message), Ok)
            }
            Err(Failure::Limit(text)) => settle(Outcome::Faulted, &text),
            Err(Failure::Unavailable(why)) => Err(why),
        }
    }

    /// Counts a conflict; the message says that the time for them is spent.
    fn conflict(&self, turn: &mut Turn, cause: &Cause) -> Result<Option<Wait>, String> {
        let (tries, limits) = (&mut turn.conflicts, self.committer.limits());
        tries.attempts += 1;
        if tries.spent >= Duration::from_millis(limits.conflict_ms_max) {
            return Err(cause.exhausted(tries, limits));
        }
        say(|| tracing::debug!(%cause, attempts = tries.attempts, "conflict: running again"));
        let rivals: &[Did] = match cause {
            Cause::Read(conflict) => &[conflict.cell.owner],
            Cause::Derived { below, .. } => below,
            _ => &[],
        };
        // Its own charm has no other turn.
        let (own, room) = (turn.queued.event.to, RIVALS_MAX.saturating_sub(turn.rivals.len()));
        turn.rivals.extend(rivals.iter().filter(|rival| **rival != own).take(room));
        let favour = turn.conflicts.attempts >= FAVOUR_AFTER && !turn.rivals.is_empty();
        Ok(Some(if favour { Wait::Favour } else { Wait::Pause }))
    }

    /// Waits for what a turn needs before its next attempt, and returns it unless it was settled meanwhile. Holds nothing
    /// but the turn.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub async fn wait(&self, mut turn: Turn, wait: Wait) -> Result<Option<Turn>, Unavailable> {
        let (span, queued) = (turn.span("waits"), turn.queued.clone());
        turn.seen.stand(match &wait {
            Wait::Pause | Wait::Favour => TurnState::Conflict,
            Wait::Exchange => TurnState::Http,
            Wait::Room(_) => TurnState::Room,
            Wait::Component => TurnState::Ready,
            Wait::Away | Wait::Answer(_) => TurnState::Waits,
        });
        let waited = run_within(span, AssertUnwindSafe(self.wait_for(&mut turn, wait)).catch_unwind()).await;
        match waited {
            Ok(waited) => {
                turn.seen.stand(TurnState::Ready);
                waited.map(|()| Some(turn))
            }
            Err(_) => self.panicked(&queued).map(|()| None),
        }
    }

    async fn wait_for(&self, turn: &mut Turn, wait: Wait) -> Result<(), Unavailable> {
        match wait {
            Wait::Pause => self.pause(turn).await,
            Wait::Away | Wait::Answer(_) => {}
            Wait::Component => {
                turn.began = self.look_for(turn).await;
                if turn.began.is_none() {
                    self.pause(turn).await;
                }
            }
            Wait::Favour => {
                turn.favour = self.aging.favour(&turn.rivals, turn.last_run).await;
                if turn.favour.is_none() {
                    self.pause(turn).await;
                }
            }
            Wait::Exchange => {
                if turn.place.is_none() {
                    turn.place = self.places.all().try_acquire_owned().ok();
                }
                let Some(seen) = turn.outbound.seen() else { return Ok(()) };
                if turn.place.is_none() {
                    // Run again when there is a place: until then not even the request is kept.
                    turn.outbound.forget();
                    turn.place = self.places.all().acquire_owned().await.ok();
                    return Ok(());
                }
                self.committer.durable_at_last(seen).await?;
                // The right may be gone since the attempt (A2): then the next one is refused.
                turn.outbound.check_wanted(&self.committer.directory().http(&turn.queued.event.to));
                if let Some(request) = turn.outbound.asks_once()
                    && !self.committer.note_asked(&turn.queued, request).await?
                {
                    turn.outbound.lose();
                }
                turn.outbound.exchange(&*self.transport, &*self.env).await;
                turn.place = None;
            }
            Wait::Room(room) => {
                let (start, limits) = (self.env.monotonic(), self.committer.limits());
                let left = Duration::from_millis(limits.room_ms_max).saturating_sub(turn.roomless);
                turn.next = tokio::select! {
                    biased;
                    next = room.free(limits) => Some(next),
                    () = self.env.sleep(left) => None,
                };
                turn.roomless += self.env.monotonic() - start;
            }
        }
        Ok(())
    }

    /// Waits a random part of the turn's pause, and doubles it.
    async fn pause(&self, turn: &mut Turn) {
        let start = self.env.monotonic();
        let mut byte = [0];
        self.env.random(&mut byte);
        self.env.sleep(turn.pause * (128 + u32::from(byte[0] / 2)) / 256).await;
        turn.pause = (turn.pause * 2).min(PAUSE_MAX);
        let paused = self.env.monotonic() - start;
        turn.conflicts.paused += paused;
        turn.conflicts.spend(paused);
    }
}
