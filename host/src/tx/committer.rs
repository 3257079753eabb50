//! Decides the order of commits (T4, T5). One lock, one rule: a commit is valid when every read of its
//! transaction would give the same answer now; then all its effects take place at once, in memory, and the
//! whole of it is handed to the group that makes it durable. Later turns may build on it at once; nothing
//! leaves the host before [`Committer::durable`] says so (T8).
//!
//! Nothing long happens under the lock: no disk, no log, no call into the embedder's code, no more than a bound of bytes.

mod chains;
mod commit;
mod deadlines;
mod derived;
mod figures;
mod group;
mod held;
mod history;
mod indexing;
mod installs;
mod item;
mod line;
mod shares;
mod standing;
mod waits;
mod watches;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{Cause, Unavailable, Versions};
use crate::{
    core::{self, Act, Ending, Resumed, State},
    did::Did,
    directory::Directory,
    env::Env,
    event::{self, Event, EventId, Mint, digest},
    keyring::Keyring,
    limits::Limits,
    log_share::LogShare,
    meter::Meter,
    receipt::{Outcome, Receipt},
    rows::{Image, Queued},
    store::{Store, StoreError},
};
use chains::Chains;
use commit::Done;
pub use derived::Derive;
use figures::Figures;
use group::Group;
pub use history::{Gone, Keep};
pub use installs::{Installing, NotInstalled};
pub use watches::{Mark, NoPlace, Part, Place, Present, Told, Topic, Unanswered, Watched};

/// Receipts that are noted as durable under one hold of the lock.
const SETTLED_STEP: usize = 32;
/// Spaces that are added, or components that are installed, under one hold of the lock, in one batch.
const REGISTERED_STEP: usize = 1_000;

/// Why a commit did not take place. Nothing of the transaction remains.
#[derive(Debug)]
pub enum Failure {
    /// Run the turn again.
    Conflict(Cause),
    /// The space would pass a bound.
    Limit(String),
    /// The host does not write any more.
    Unavailable(Unavailable),
}

/// An event from outside that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: EventId,
    /// The commit that holds it.
    pub order: u64,
}

/// What a look-up of a sender's own id has found (S9).
pub enum Seen {
    /// The event was accepted before.
    Before(Accepted),
    /// It is new.
    Never(Unseen),
}

/// An id that was new when it was looked up.
#[derive(Clone, Copy)]
pub struct Unseen {
    id: EventId,
    /// What had settled until then: see `State::may_be_settled_since`.
    settled: u64,
}

/// What the committer tells whoever gives out turns. Never under its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An event waits for that charm.
    Work(Did),
    /// What kept charms from beginning a turn may have changed.
    Room,
    /// Nothing is written any more.
    Stopped,
}

/// Takes the notices of a committer.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// What a charm begins.
pub enum Begun {
    /// The turn of this event, which was checked against the descriptor with that number; 0 for none.
    Event(Arc<Queued>, u64),
    /// A turn goes on that has what it waited for.
    Resumes(Box<Resumed>),
    /// Nothing: no event waits, or none may begin.
    Nothing,
    /// Nothing yet: its events come after everybody else's (A6).
    Late,
}

/// A commit of the operator's that becomes durable: see [`Committer::noted`].
#[derive(Debug)]
pub struct Noted(u64);

/// Orders commits and keeps what they change.
pub struct Committer {
    locked: Mutex<Locked>,
    versions: Arc<Versions>,
    /// The last durable commit.
    durable: watch::Receiver<u64>,
    health: watch::Receiver<group::Health>,
    notify: Notify,
    env: Arc<dyn Env>,
    limits: Arc<Limits>,
    mint: Arc<Mint>,
    /// The host's own space.
    host: Did,
    group: Arc<Group>,
    /// Locked by who makes checkpoints and lets pasts go, one at a time.
    pruning: tokio::sync::Mutex<()>,
    /// A wait ends sooner than all others.
    sooner: tokio::sync::Notify,
}

/// What the committer's one lock protects.
struct Locked {
    core: State,
    /// Who may do what from the next commit on: swapped under the lock, so that a change has its place in their order.
    directory: Arc<Directory>,
    /// Who waits for the receipt of an event.
    waiting: HashMap<EventId, Vec<oneshot::Sender<Receipt>>>,
    /// What each charm may log; none before it is installed.
    logs: HashMap<Did, Arc<LogShare>>,
    /// Attempts that were thrown away at their commit.
    conflicts: u64,
    closed: bool,
}

impl Locked {
    /// Returns whether somebody outside waits for the receipt of an event.
    fn awaits(&self, queued: &Queued) -> bool {
        let Queued { space, event, .. } = queued;
        // A charm that waits goes on before anything is durable.
        let outside = *space == event.to && event.sender != event.to;
        (event.awaited && outside) || self.waiting.contains_key(&event.id)
    }
}

impl Committer {
    /// Starts from what the store holds.
    pub fn start(
        store: Arc<dyn Store>,
        keyring: Arc<dyn Keyring>,
        env: Arc<dyn Env>,
        limits: Arc<Limits>,
        notify: Notify,
        image: Image,
        host: Did,
    ) -> Arc<Committer> {
        let keep = Keep { history_bytes: limits.history_bytes_max, receipts_ms: limits.receipts_ms };
        let now = (env.now_ms(), env.monotonic());
        let (figures, core) = (Figures::load(&image, keep), State::load(&image, limits.clone(), now));
        let (order, mint) = (image.order, core.mint.clone());
        let (told, durable) = watch::channel(order);
        let (felt, health) = watch::channel(group::Health::default());
        let chains = Chains::new(&image, host, env.monotonic());
        let group = Group::new(store, keyring, env.clone(), limits.clone(), chains, figures, told, felt);
        let (directory, waiting, logs, conflicts, closed) = Default::default();
        let committer = Arc::new(Committer {
            locked: Mutex::new(Locked { core, directory, waiting, logs, conflicts, closed }),
            versions: Arc::new(Versions::load(order, image.cells, limits.old_versions_bytes_max)),
            durable,
            health,
            notify,
            env: env.clone(),
            limits,
            mint,
            host,
            group: group.clone(),
            pruning: tokio::sync::Mutex::default(),
            sooner: tokio::sync::Notify::new(),
        });
        env.spawn(Box::pin(committer.clone().keep_deadlines()));
        env.spawn(Box::pin(group.clone().keep_index()));
        env.spawn(Box::pin(committer.clone().keep_history()));
        env.spawn(Box::pin(group.run(committer.clone())));
        committer
    }

    /// Returns the moment: in milliseconds since 1970, and on the clock that never goes back.
    fn now(&self) -> (u64, Duration) {
        (self.env.now_ms(), self.env.monotonic())
    }

    /// Locks the state. After a panic half-way through a commit memory and log may differ: the host stops.
    fn locked(&self) -> MutexGuard<'_, Locked> {
        let locked = self.locked.lock();
        if locked.is_err() || self.versions.is_poisoned() {
            self.group.stop(Unavailable::Stopped { reason: "a commit panicked".to_owned() });
        }
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the state for something new.
    fn open(&self) -> Result<MutexGuard<'_, Locked>, Unavailable> {
        let locked = self.locked();
        if let Some(stopped) = &self.health.borrow().stopped {
            return Err(stopped.clone());
        }
        if locked.closed { Err(Unavailable::Closed) } else { Ok(locked) }
    }

    /// Lets one thing happen that is no turn's.
    fn act(&self, space: Did, act: Act<'_>) -> Result<Done, Refused> {
        let now = self.now();
        let mut locked = self.open().map_err(Refused::Unavailable)?;
        let (done, after) = self.perform(&mut locked, space, now, act, None, &[])?;
        drop(locked);
        self.tell(after);
        Ok(done)
    }

    /// Returns who may do what now.
    pub fn directory(&self) -> Arc<Directory> {
        self.locked().directory.clone()
    }

    /// Lets another directory hold from the next commit on (A2). What the operator decided so about single DIDs enters the
    /// log.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn swap_directory(
        &self,
        directory: Directory,
        kept: Vec<(Did, Option<Vec<u8>>)>,
    ) -> Result<Noted, Unavailable> {
        let (directory, now) = (Arc::new(directory), self.now());
        let mut locked = self.open()?;
        let space_of = |holder| if locked.core.spaces.contains_key(&holder) { holder } else { self.host };
        let acts: Vec<_> =
            kept.into_iter().map(|(holder, kept)| (space_of(holder), Act::Rights(holder, kept))).collect();
        let afters = self.perform_all(&mut locked, now, acts.into_iter());
        self.group.watches.swap(directory.number());
        let before = std::mem::replace(&mut locked.directory, directory);
        let order = locked.core.order;
        drop(locked);
        self.group.watches.swapped();
        // The picture before may be the last of its kind: it is given back outside the lock.
        drop(before);
        afters.into_iter().for_each(|after| self.tell(after));
        Ok(Noted(order))
    }

    /// Completes when what was noted is durable.
    ///
    /// # Errors
    /// When the host stops first, or the disk is full.
    pub async fn noted(&self, Noted(order): Noted) -> Result<(), Unavailable> {
        self.durable(order).await
    }

    /// Returns all cells.
    pub fn versions(&self) -> &Arc<Versions> {
        &self.versions
    }

    /// Returns the bounds.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Returns the maker of event ids.
    pub fn mint(&self) -> &Arc<Mint> {
        &self.mint
    }

    /// Adds those spaces that are not there, all in one batch; completes when all are durable, whoever added them. Returns how
    /// full the inbox of each is.
    ///
    /// # Errors
    /// When the host stops first, or the disk is full.
    pub async fn register(&self, spaces: &[(Did, Arc<str>)]) -> Result<Vec<Arc<Meter>>, Unavailable> {
        let (mut meters, mut order) = (Vec::with_capacity(spaces.len()), 0);
        for some in spaces.chunks(REGISTERED_STEP) {
            let (now, mut locked) = (self.now(), self.locked());
            let acts = some.iter().map(|(did, name)| (*did, Act::Register(name)));
            let afters = self.perform_all(&mut locked, now, acts);
            for space in some.iter().filter_map(|(did, _)| locked.core.spaces.get(did)) {
                order = order.max(space.made);
                meters.push(space.inbox.meter.clone());
            }
            drop(locked);
            afters.into_iter().for_each(|after| self.tell(after));
        }
        self.durable(order).await?;
        Ok(meters)
    }

    /// Returns the DID that the store has for a charm's name.
    pub fn did_of(&self, name: &str) -> Option<Did> {
        self.locked().core.names.get(name).copied()
    }

    /// Returns the name that the store has for a DID.
    pub fn name_of(&self, did: &Did) -> Option<String> {
        self.locked().core.spaces.get(did).map(|space| space.name.to_string())
    }

    /// Returns how full the inbox of every space is.
    pub fn meters(&self) -> BTreeMap<Did, Arc<Meter>> {
        self.locked().core.spaces.iter().map(|(did, space)| (*did, space.inbox.meter.clone())).collect()
    }

    /// Returns the last commit of a space in the order of the host, durable or not; 0 for none since the host was opened.
    pub fn last_order(&self, space: &Did) -> u64 {
        self.locked().core.spaces.get(space).map_or(0, |space| space.order)
    }

    /// Returns the last commit of all, durable or not.
    pub fn order(&self) -> u64 {
        self.locked().core.order
    }

    /// Returns up to `max` events that wait for a charm after a position, in the order in which they were sent.
    /// Completes when all that is durable.
    ///
    /// # Errors
    /// When the host stops first, the disk is full, or the store is damaged.
    pub async fn waiting(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<Queued>, Unavailable> {
        let (page, order) = {
            let core = &self.locked().core;
            (core.spaces.get(charm).map(|space| space.inbox.page(after, max)).unwrap_or_default(), core.order)
        };
        self.durable(order).await?;
        self.of_whole(page, Queued::clone).await
    }

    /// Settles an event without a transaction: a failure, or a stream that is not there (T6). It becomes a dead letter
    /// unless its sender is told (S11). One that is settled already stays as it is: its turn may have panicked after its commit.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn settle(&self, queued: &Arc<Queued>, outcome: Outcome, message: &str) -> Result<(), Unavailable> {
        let message = crate::text::clip_message(message).into_owned();
        let ending = Ending { failed: Some((outcome, message)), ..Ending::default() };
        match self.act(queued.event.to, Act::Settle(queued, Box::new(ending))) {
            Err(Refused::Unavailable(why)) => Err(why),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Lets a turn be tried again later; nothing of its present transaction remains (S13). One that is settled already stays as it is.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn retry(&self, queued: &Arc<Queued>, after_ms: u64) -> Result<(), Unavailable> {
        match self.act(queued.event.to, Act::Retry(queued, after_ms)) {
            Err(Refused::Unavailable(why)) => Err(why),
            Ok(_) => Ok(()),
            // What its handler was told may hold no more.
            Err(_) => self.settle(queued, Outcome::Faulted, "the turn could not be tried again"),
        }
    }

    /// Looks up whether its sender has sent an event under this id before (S9), whatever has changed since.
    ///
    /// # Errors
    /// `Refused::Reused` when it was another event; `Refused::Store`.
    pub async fn look_up(&self, event: &Event, supplied: &str) -> Result<Seen, Refused> {
        let (id, digest) = (self.mint.supplied(&event.sender, supplied), digest(event));
        let same = |found: Option<[u8; 16]>, order| {
            let is_same = found == Some(digest);
            let accepted = Accepted { id, order };
            if is_same { Ok(Seen::Before(accepted)) } else { Err(Refused::Reused(accepted)) }
        };
        let (open, settled) = {
            let core = &self.locked().core;
            (core.open.get(&id).map(|open| (open.queued.clone(), open.order)), core.settled)
        };
        if let Some((queued, order)) = open {
            let Some(queued) = queued else { return same(None, order) };
            let charm = queued.event.to;
            match self.whole(queued).await {
                Ok(queued) => return same(Some(event::digest(&queued.event)), order),
                Err(error) if self.find(&charm, &id).is_some() => return Err(Refused::Store(error)),
                // It is settled meanwhile: there is a receipt.
                Err(_) => {}
            }
        }
        // Outside the lock: the disk may be slow. `accept` notices when the answer is old.
        match self.group.receipt(id).await {
            Ok(Some(row)) => same(row.digest, 0),
            Ok(None) => Ok(Seen::Never(Unseen { id, settled })),
            Err(error) => Err(self.health().err().map_or(Refused::Store(error), Refused::Unavailable)),
        }
    }

    /// Accepts an event from outside that fits the descriptor `fits`; one with an id of its sender's own after
    /// [`Committer::look_up`]. None when that is to be asked again.
    ///
    /// # Errors
    /// `Refused::Full`, `Refused::Unavailable`.
    pub fn accept(&self, event: &Event, fits: u64, unseen: Option<Unseen>) -> Result<Option<Accepted>, Refused> {
        let now = self.now();
        let mut locked = self.open().map_err(Refused::Unavailable)?;
        if let Some(Unseen { id, settled }) = unseen
            && (locked.core.open.contains_key(&id) || locked.core.may_be_settled_since(settled, &id))
        {
            return Ok(None);
        }
        if let Some(why) = &self.health.borrow().waits {
            return Err(Refused::Unavailable(why.clone()));
        }
        let supplied = unseen.map(|unseen| unseen.id);
        let (done, after) =
            self.perform(&mut locked, event.to, now, Act::Accept(event.clone(), supplied, fits), None, &[])?;
        drop(locked);
        self.tell(after);
        // What is accepted waits.
        let id = done.queued.ok_or(Refused::Gone)?;
        Ok(Some(Accepted { id, order: done.order }))
    }

    /// Drops a dead letter, or sends its event again under a new id from the same sender (S11). Returns the event that it
    /// ends as.
    ///
    /// # Errors
    /// `Refused::Full`, `Refused::Gone`, `Refused::Unavailable`.
    pub fn end_letter(&self, charm: &Did, letter: EventId, resend: Option<Event>) -> Result<Accepted, Refused> {
        let act = resend.map_or(Act::Drop(letter), |event| Act::Resend(letter, event));
        let Done { order, queued, .. } = self.act(*charm, act)?;
        Ok(Accepted { id: queued.unwrap_or(letter), order })
    }

    /// Drops up to `LETTERS_PER_COMMIT_MAX` dead letters of a charm, the first first; returns how many, and the commit.
    ///
    /// # Errors
    /// `Refused::Gone` when there is no such charm, `Refused::Unavailable`.
    pub fn drop_letters(&self, charm: &Did) -> Result<(usize, u64), Refused> {
        let now = self.now();
        let mut locked = self.open().map_err(Refused::Unavailable)?;
        let before = locked.core.spaces.get(charm).map(|space| space.dead.len()).ok_or(Refused::Gone)?;
        if before == 0 {
            return Ok((0, locked.core.order));
        }
        let (done, after) = self.perform(&mut locked, *charm, now, Act::DropAll, None, &[])?;
        let left = locked.core.spaces.get(charm).map_or(0, |space| space.dead.len());
        drop(locked);
        self.tell(after);
        Ok((before - left, done.order))
    }

    /// Stops at once: what is not durable yet may be lost, and was not acknowledged.
    pub fn abandon(&self) {
        self.locked().closed = true;
        self.group.close();
    }

    /// Returns for whom a durable event waits whose receipt is not durable yet, and whether it is held.
    pub fn waits_for(&self, id: &EventId) -> Option<(Did, bool)> {
        let core = &self.locked().core;
        let open = core.open.get(id).filter(|open| self.is_durable(open.order))?;
        let queued = open.queued.as_ref()?;
        let to = queued.event.to;
        Some((to, core.spaces.get(&to).is_some_and(|space| space.inbox.is_held(queued))))
    }

    /// Returns whether the host still writes.
    ///
    /// # Errors
    /// When it was shut down or stopped.
    pub fn health(&self) -> Result<(), Unavailable> {
        self.open().map(drop)
    }

    /// Takes no more commits, and completes when the last one is durable.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn close(&self) -> Result<(), Unavailable> {
        let order = {
            let mut locked = self.locked();
            locked.closed = true;
            locked.core.order
        };
        let flushed = self.durable(order).await;
        let closed = self.group.finish().await;
        flushed.and(closed.map_err(|error| Unavailable::stopped(&error)))
    }

    /// Called by the group when receipts are durable.
    fn settled(&self, receipts: &[(Did, Receipt)]) {
        for some in receipts.chunks(SETTLED_STEP) {
            let (mut waiting, mut gone) = (Vec::new(), Vec::with_capacity(some.len()));
            let mut locked = self.locked();
            for (sender, receipt) in some {
                gone.extend(locked.core.settle(&receipt.id));
                if receipt.message.is_some() {
                    locked.core.forget_message(sender, &receipt.id);
                }
                waiting.extend(locked.waiting.remove(&receipt.id).map(|waiting| (receipt, waiting)));
            }
            drop(locked);
            for (receipt, waiting) in waiting {
                for waiting in waiting {
                    let _ = waiting.send(receipt.clone());
                }
            }
        }
    }
}

/// Why an event from outside is not accepted.
#[derive(Debug)]
pub enum Refused {
    /// The inbox is full.
    Full,
    /// The id was used for another event, which that commit holds.
    Reused(Accepted),
    /// There is no such dead letter, or no such event waits.
    Gone,
    /// The event has begun.
    Running,
    /// The store failed to look the id up.
    Store(StoreError),
    /// The host does not write now.
    Unavailable(Unavailable),
}

impl From<core::Refused> for Refused {
    fn from(refused: core::Refused) -> Refused {
        match refused {
            core::Refused::Full | core::Refused::NoRoom { .. } => Refused::Full,
            core::Refused::Gone | core::Refused::Known | core::Refused::Replaced | core::Refused::Limit(_) => {
                Refused::Gone
            }
        }
    }
}

#[cfg(test)]
mod tests;
