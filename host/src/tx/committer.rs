//! Decides the order of commits (T4, T5). One lock, one rule: a commit is valid when every read of its
//! transaction would give the same answer now; then all its effects take place at once, in memory, and the
//! whole of it is handed to the group that makes it durable. Later turns may build on it at once; nothing
//! leaves the host before [`Committer::durable`] says so (T8).
//!
//! Nothing long happens under the lock: no disk, no log, no call into the embedder's code, no more than a bound of bytes.

mod chain;
mod commit;
mod draft;
mod figures;
mod group;
mod held;
mod inbox;
mod shares;
mod state;
mod waits;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{oneshot, watch};

use super::{Cause, Unavailable, Versions};
use crate::{
    did::Did,
    directory::Directory,
    env::Env,
    event::{self, Event, EventId, Mint, digest},
    keyring::Keyring,
    limits::{LETTERS_PER_COMMIT_MAX, Limits},
    meter::Meter,
    receipt::{Outcome, Receipt},
    record,
    store::{Image, Notes, Queued, SpaceRow, Store, StoreError},
};
use chain::Chain;
use commit::Commit;
use draft::Draft;
use figures::Figures;
use group::{Group, Item};
use inbox::Growth;
use state::State;

/// Receipts that are noted as durable under one hold of the lock.
const SETTLED_STEP: usize = 256;

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
    /// What had settled until then: see [`State::may_be_settled_since`].
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
    /// Nothing: no event waits, or none may begin.
    Nothing,
    /// Nothing yet: its events come after everybody else's (A6).
    Late,
}

/// A change beside the log that becomes durable: see [`Committer::noted`].
#[derive(Debug)]
pub struct Noted(watch::Receiver<bool>);

/// Orders commits and keeps what they change.
pub struct Committer {
    state: Mutex<State>,
    versions: Arc<Versions>,
    durable: watch::Receiver<group::Progress>,
    notify: Notify,
    env: Arc<dyn Env>,
    limits: Arc<Limits>,
    mint: Arc<Mint>,
    /// The host's own space: events from outside enter the log there.
    host: Did,
    group: Arc<Group>,
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
        let figures = Figures::load(&image);
        let Image { secret, order, position, spaces, cells, queued, dead, kept: _ } = image;
        let heads = spaces.iter().map(|row| (row.did, row.head)).collect();
        let mut state = State { order, position, ..State::default() };
        let (_, durable) = watch::channel(true);
        for row in &spaces {
            state.add_space(row, &durable);
        }
        for cell in &cells {
            if let Some(space) = state.spaces.get_mut(&cell.space) {
                let mut growth = Growth::default();
                growth.change(None, Some(cell.value.as_ref()));
                space.usage = space.usage.grown(&growth);
            }
        }
        for queued in queued {
            state.enqueue(Arc::new(queued), Chain::default(), 0);
        }
        for (did, position) in dead {
            if let Some(space) = state.spaces.get_mut(&did) {
                space.dead.push_back(position);
            }
        }
        let (progress, durable) = watch::channel(group::Progress { order, ..Default::default() });
        let group = Group::new(store, keyring, env.clone(), limits.clone(), heads, figures, progress);
        let committer = Arc::new(Committer {
            state: Mutex::new(state),
            versions: Arc::new(Versions::load(order, cells, limits.old_versions_bytes_max)),
            durable,
            notify,
            env: env.clone(),
            limits,
            mint: Arc::new(Mint::new(secret)),
            host,
            group: group.clone(),
        });
        env.spawn(Box::pin(group.run(committer.clone())));
        committer
    }

    /// Locks the state. After a panic half-way through a commit memory and log may differ: the host stops.
    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        if state.is_err() || self.versions.is_poisoned() {
            self.group.stop(Unavailable::Stopped { reason: "a commit panicked".to_owned() });
        }
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns who may do what now.
    pub fn directory(&self) -> Arc<Directory> {
        self.state().directory.clone()
    }

    /// Lets another directory hold from the next commit on (A2).
    /// What is kept of it in the store becomes durable with or before any commit that it allows.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn swap_directory(
        &self,
        directory: Directory,
        kept: Vec<(Did, Option<Vec<u8>>)>,
    ) -> Result<Noted, Unavailable> {
        let directory = Arc::new(directory);
        let (done, durable) = watch::channel(kept.is_empty());
        let mut state = self.open_state()?;
        if !kept.is_empty() {
            self.group.push(Item::Kept { kept, done });
        }
        let before = std::mem::replace(&mut state.directory, directory);
        drop(state);
        // The picture before may be the last of its kind: it is given back outside the lock.
        drop(before);
        Ok(Noted(durable))
    }

    /// Completes when what was noted is durable.
    ///
    /// # Errors
    /// When the host stops first, or the disk is full.
    pub async fn noted(&self, Noted(mut durable): Noted) -> Result<(), Unavailable> {
        tokio::select! {
            biased;
            Ok(_) = durable.wait_for(|durable| *durable) => Ok(()),
            ill = self.unhealthy() => Err(ill),
        }
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
        let (meters, pending) = self.add_spaces(spaces);
        for mut durable in pending {
            tokio::select! {
                biased;
                Ok(_) = durable.wait_for(|durable| *durable) => {}
                ill = self.unhealthy() => return Err(ill),
            }
        }
        Ok(meters)
    }

    fn add_spaces(&self, spaces: &[(Did, Arc<str>)]) -> (Vec<Arc<Meter>>, Vec<watch::Receiver<bool>>) {
        let (mut rows, mut meters, mut pending) = (Vec::new(), Vec::with_capacity(spaces.len()), Vec::new());
        let (done, durable) = watch::channel(false);
        let mut state = self.state();
        for (did, name) in spaces {
            if !state.spaces.contains_key(did) {
                let (name, notes) = (name.to_string(), Notes::default());
                let row =
                    SpaceRow { did: *did, name, seq: 0, head: record::Hash::default(), letters_dropped: 0, notes };
                state.add_space(&row, &durable);
                rows.push(row);
            }
            let Some(space) = state.spaces.get(did) else { continue };
            meters.push(space.inbox.meter.clone());
            if !*space.durable.borrow() && !space.durable.same_channel(&durable) {
                pending.push(space.durable.clone());
            }
        }
        if !rows.is_empty() {
            pending.push(durable);
            self.group.push(Item::Spaces { rows, done });
        }
        (meters, pending)
    }

    /// Returns the DID that the store has for a charm's name.
    pub fn did_of(&self, name: &str) -> Option<Did> {
        self.state().names.get(name).copied()
    }

    /// Returns the name that the store has for a DID.
    pub fn name_of(&self, did: &Did) -> Option<String> {
        self.state().spaces.get(did).map(|space| space.name.to_string())
    }

    /// Returns how full the inbox of every space is.
    pub fn meters(&self) -> BTreeMap<Did, Arc<Meter>> {
        self.state().spaces.iter().map(|(did, space)| (*did, space.inbox.meter.clone())).collect()
    }

    /// Returns the last commit of a space in the order of the host, durable or not; 0 for none since the host was opened.
    pub fn last_order(&self, space: &Did) -> u64 {
        self.state().spaces.get(space).map_or(0, |space| space.order)
    }

    /// Returns the last commit of all, durable or not.
    pub fn order(&self) -> u64 {
        self.state().order
    }

    /// Returns up to `max` events that wait for a charm after a position, in the order in which they were sent.
    /// Completes when all that is durable.
    ///
    /// # Errors
    /// When the host stops first, or the disk is full.
    pub async fn waiting(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<Queued>, Unavailable> {
        let (page, order) = {
            let state = self.state();
            (state.spaces.get(charm).map(|space| space.inbox.page(after, max)).unwrap_or_default(), state.order)
        };
        self.durable(order).await?;
        Ok(page.iter().map(|queued| Queued::clone(queued)).collect())
    }

    /// Settles an event without a transaction: a failure, or a stream that is not there (T6). It becomes a dead letter
    /// unless its sender is told (S11). One that is settled already stays as it is: its turn may have panicked after its commit.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn settle(&self, queued: &Arc<Queued>, outcome: Outcome, message: &str) -> Result<(), Unavailable> {
        let charm = queued.event.to;
        let now = (self.env.now_ms(), self.env.monotonic());
        let mut state = self.open_state()?;
        if !state.spaces.get(&charm).is_some_and(|space| space.inbox.holds(queued)) {
            return Ok(());
        }
        let message = crate::text::clip_message(message).into_owned();
        let receipt = Receipt { id: queued.event.id, outcome, commit: None, message: Some(message) };
        let after = self.publish(&mut state, Commit::new(charm, now, Some((queued, receipt))));
        drop(state);
        self.tell(after);
        Ok(())
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
        let settled = {
            let state = self.state();
            if let Some(open) = state.open.get(&id) {
                return same(open.queued.as_ref().map(|queued| event::digest(&queued.event)), open.order);
            }
            state.settled
        };
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
        let now = (self.env.now_ms(), self.env.monotonic());
        let mut state = self.open_state().map_err(Refused::Unavailable)?;
        if let Some(Unseen { id, settled }) = unseen
            && (state.open.contains_key(&id) || state.may_be_settled_since(settled, &id))
        {
            return Ok(None);
        }
        if let Some(why) = &self.durable.borrow().waits {
            return Err(Refused::Unavailable(why.clone()));
        }
        if !state.has_room(event, &self.limits) {
            return Err(Refused::Full);
        }
        let supplied = unseen.is_some();
        let id = unseen.map_or_else(|| self.mint.outside(state.position + 1), |unseen| unseen.id);
        let draft = Draft { event: Event { id, supplied, ..event.clone() }, refused: None, fits };
        let after = self.publish(&mut state, Commit { sends: vec![draft], ..Commit::new(self.host, now, None) });
        let accepted = Accepted { id, order: state.order };
        drop(state);
        self.tell(after);
        Ok(Some(accepted))
    }

    /// Drops a dead letter, or sends its event again under a new id from the same sender (S11).
    ///
    /// # Errors
    /// `Refused::Full`, `Refused::Gone`, `Refused::Unavailable`.
    pub fn end_letter(&self, charm: &Did, position: u64, resend: Option<Event>) -> Result<Accepted, Refused> {
        let now = (self.env.now_ms(), self.env.monotonic());
        let mut state = self.open_state().map_err(Refused::Unavailable)?;
        let full = resend.as_ref().is_some_and(|event| !state.has_room(event, &self.limits));
        let dead = state.spaces.get_mut(charm).map(|space| &mut space.dead).ok_or(Refused::Gone)?;
        let index = dead.iter().position(|dead| *dead == position).ok_or(Refused::Gone)?;
        if full {
            return Err(Refused::Full);
        }
        dead.remove(index);
        let id = self.mint.outside(state.position + 1);
        let again = |event| Event { id, on_commit: None, supplied: false, awaited: false, ..event };
        let draft = |event| Draft { event: again(event), refused: None, fits: 0 };
        let (sends, buried) = (resend.map(draft).into_iter().collect(), vec![position]);
        let commit = Commit { sends, buried, letters_of: *charm, ..Commit::new(self.host, now, None) };
        let after = self.publish(&mut state, commit);
        let accepted = Accepted { id, order: state.order };
        drop(state);
        self.tell(after);
        Ok(accepted)
    }

    /// Drops up to `LETTERS_PER_COMMIT_MAX` dead letters of a charm, the first first; returns how many, and the commit.
    ///
    /// # Errors
    /// `Refused::Gone` when there is no such charm, `Refused::Unavailable`.
    pub fn drop_letters(&self, charm: &Did) -> Result<(usize, u64), Refused> {
        let now = (self.env.now_ms(), self.env.monotonic());
        let mut state = self.open_state().map_err(Refused::Unavailable)?;
        let dead = state.spaces.get_mut(charm).map(|space| &mut space.dead).ok_or(Refused::Gone)?;
        let buried: Vec<u64> = dead.drain(..dead.len().min(LETTERS_PER_COMMIT_MAX)).collect();
        let count = buried.len();
        if count == 0 {
            return Ok((0, state.order));
        }
        let commit = Commit { buried, letters_of: *charm, ..Commit::new(self.host, now, None) };
        let after = self.publish(&mut state, commit);
        let order = state.order;
        drop(state);
        self.tell(after);
        Ok((count, order))
    }

    /// Stops at once: what is not durable yet may be lost, and was not acknowledged.
    pub fn abandon(&self) {
        self.state().closed = true;
        self.group.close();
    }

    /// Returns for whom a durable event waits whose receipt is not durable yet, and whether it is held.
    pub fn waits_for(&self, id: &EventId) -> Option<(Did, bool)> {
        let state = self.state();
        let open = state.open.get(id).filter(|open| open.order <= self.durable.borrow().order)?;
        let queued = open.queued.as_ref()?;
        let to = queued.event.to;
        Some((to, state.spaces.get(&to).is_some_and(|space| space.inbox.is_held(queued))))
    }

    /// Returns whether the host still writes.
    ///
    /// # Errors
    /// When it was shut down or stopped.
    pub fn health(&self) -> Result<(), Unavailable> {
        self.open_state().map(drop)
    }

    /// Registers interest in a receipt: a channel when the event is open, none when it is settled or unknown.
    pub fn watch(&self, id: &EventId) -> Option<oneshot::Receiver<Receipt>> {
        let mut state = self.state();
        let (sender, receiver) = oneshot::channel();
        let open = state.open.get_mut(id)?;
        // Waiters that gave up leave their place to this one.
        open.waiting.retain(|waiting| !waiting.is_closed());
        open.waiting.push(sender);
        Some(receiver)
    }

    /// Takes no more commits, and completes when the last one is durable.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub async fn close(&self) -> Result<(), Unavailable> {
        let order = {
            let mut state = self.state();
            state.closed = true;
            state.order
        };
        let flushed = self.durable(order).await;
        let closed = self.group.finish().await;
        flushed.and(closed.map_err(|error| Unavailable::stopped(&error)))
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State>, Unavailable> {
        let state = self.state();
        if let Some(stopped) = &self.durable.borrow().stopped {
            return Err(stopped.clone());
        }
        if state.closed { Err(Unavailable::Closed) } else { Ok(state) }
    }

    /// Called by the group when receipts are durable.
    fn settled(&self, receipts: &[Receipt]) {
        for some in receipts.chunks(SETTLED_STEP) {
            let mut state = self.state();
            let settled: Vec<_> = some.iter().map(|receipt| state.settle(&receipt.id)).collect();
            drop(state);
            for (receipt, waiting) in some.iter().zip(settled) {
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

#[cfg(test)]
mod tests;
