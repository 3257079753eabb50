//! Decides the order of commits (T4, T5). One lock, one rule: a commit is valid when every read of its
//! transaction would give the same answer now; then all its effects take place at once, in memory, and the
//! whole of it is handed to the group that makes it durable. Later turns may build on it at once; nothing
//! leaves the host before [`Committer::durable`] says so (T8).
//!
//! Nothing long happens under the lock: no disk, no log, no call into the embedder's code, no more than a bound of bytes.

mod chain;
mod commit;
mod draft;
mod group;
mod held;
mod inbox;
mod shares;
mod state;
mod waits;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{Cause, Unavailable, Versions};
use crate::{
    counters::Counters,
    did::Did,
    directory::Directory,
    env::Env,
    event::{Event, EventId, Mint, digest},
    keyring::Keyring,
    limits::Limits,
    listing::SpaceInfo,
    meter::Meter,
    receipt::{Outcome, Receipt},
    record,
    store::{Image, Notes, Queued, SpaceRow, Store, StoreError},
};
use chain::Chain;
use commit::{After, Commit};
use draft::Draft;
use group::{Group, Item};
use inbox::{Growth, Space};
use state::{Open, State};

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
    /// The turn of this event.
    Event(Arc<Queued>),
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
        let Image { secret, order, position, spaces, cells, queued, dead, kept: _ } = image;
        let heads = spaces.iter().map(|row| (row.did, row.head)).collect();
        let counters = Counters { found: queued.len() as u64, ..Counters::default() };
        let mut state = State { order, position, counters, ..State::default() };
        let (_, durable) = watch::channel(true);
        for row in &spaces {
            state.spaces.insert(row.did, Space::new(row, durable.clone()));
        }
        for cell in &cells {
            if let Some(space) = state.spaces.get_mut(&cell.space) {
                let mut growth = Growth::default();
                growth.change(None, Some(cell.value.as_ref()));
                space.usage = space.usage.grown(&growth);
            }
        }
        for queued in queued {
            state.enqueue(Arc::new(queued), Chain::default());
        }
        for (did, position) in dead {
            if let Some(space) = state.spaces.get_mut(&did) {
                space.dead.push_back(position);
            }
        }
        let (progress, durable) = watch::channel(group::Progress { order, ..Default::default() });
        let group = Group::new(store, keyring, env.clone(), limits.clone(), heads, progress);
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Adds a space unless it is there; completes when it is durable, whoever added it.
    ///
    /// # Errors
    /// When the host stops first, or the disk is full.
    pub async fn register(&self, did: Did, name: &str) -> Result<Arc<Meter>, Unavailable> {
        let (meter, mut durable) = self.add_space(did, name);
        tokio::select! {
            biased;
            Ok(_) = durable.wait_for(|durable| *durable) => Ok(meter),
            ill = self.unhealthy() => Err(ill),
        }
    }

    fn add_space(&self, did: Did, name: &str) -> (Arc<Meter>, watch::Receiver<bool>) {
        let mut state = self.state();
        let space = state.spaces.entry(did).or_insert_with(|| {
            let (name, notes) = (name.to_owned(), Notes::default());
            let row = SpaceRow { did, name, seq: 0, head: record::Hash::default(), notes };
            let (done, durable) = watch::channel(false);
            let space = Space::new(&row, durable);
            self.group.push(Item::Space { row, done });
            space
        });
        (space.inbox.meter.clone(), space.durable.clone())
    }

    /// Returns the DID that the store has for a charm's name.
    pub fn did_of(&self, name: &str) -> Option<Did> {
        self.state().spaces.iter().find(|(_, space)| space.name == name).map(|(did, _)| *did)
    }

    /// Returns the name that the store has for a DID.
    pub fn name_of(&self, did: &Did) -> Option<String> {
        self.state().spaces.get(did).map(|space| space.name.clone())
    }

    /// Returns how full the inbox of every space is.
    pub fn meters(&self) -> BTreeMap<Did, Arc<Meter>> {
        self.state().spaces.iter().map(|(did, space)| (*did, space.inbox.meter.clone())).collect()
    }

    /// Returns every space, by name.
    pub fn spaces(&self) -> Vec<SpaceInfo> {
        let state = self.state();
        let info = |(did, space): (&Did, &Space)| SpaceInfo {
            did: *did,
            name: space.name.clone(),
            commits: space.seq,
            waiting: space.inbox.len(),
            held: space.inbox.held().count(),
            dead: space.dead.len(),
            notes: space.notes,
        };
        let mut spaces: Vec<_> = state.spaces.iter().map(info).collect();
        spaces.sort_by(|a, b| a.name.cmp(&b.name));
        spaces
    }

    /// Returns what was counted so far.
    pub fn counters(&self) -> Counters {
        self.state().counters()
    }

    /// Returns the number of a space's last commit.
    pub fn last_commit(&self, space: &Did) -> Option<u64> {
        self.state().spaces.get(space).map(|space| space.seq)
    }

    /// Returns the events that wait for a charm, in the order in which they were sent, and the positions of its dead letters.
    pub fn waiting(&self, charm: &Did) -> (Vec<Arc<Queued>>, Vec<u64>) {
        let state = self.state();
        let Some(space) = state.spaces.get(charm) else { return Default::default() };
        (space.inbox.all(), space.dead.iter().copied().collect())
    }

    /// Settles an event without a transaction: a failure, or a stream that is not there (T6). It becomes a dead letter.
    /// One that is settled already stays as it is: its turn may have panicked after its commit.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn settle(&self, queued: &Arc<Queued>, outcome: Outcome, message: &str) -> Result<(), Unavailable> {
        let charm = queued.event.to;
        let (now, at) = (self.env.now_ms(), self.env.monotonic());
        let mut state = self.open_state()?;
        if !state.spaces.get(&charm).is_some_and(|space| space.inbox.holds(queued)) {
            return Ok(());
        }
        let message = crate::text::clip_message(message).into_owned();
        let receipt = Receipt { id: queued.event.id, outcome, commit: None, message: Some(message) };
        let usage = state.spaces.get(&charm).map(|space| space.usage).unwrap_or_default();
        let seq = state.advance(&charm, usage);
        self.versions.advance(state.order);
        let buried = state.bury_oldest(&charm, queued.position, &self.limits);
        let taken = Some((queued, receipt));
        let commit = Commit { charm, seq, now, at, taken, writes: Vec::new(), sends: Vec::new(), buried };
        let after = self.publish(&mut state, commit);
        drop(state);
        self.tell(after);
        Ok(())
    }

    /// Accepts an event from outside. With an id of the sender's own, the same event again is the same (S9).
    ///
    /// # Errors
    /// `Refused::Full`, `Refused::Reused`, `Refused::Unavailable`.
    pub async fn accept(&self, event: Event, supplied: Option<&str>) -> Result<Accepted, Refused> {
        let id = supplied.map(|supplied| self.mint.supplied(&event.sender, supplied));
        let digest = id.map(|_| digest(&event));
        let same =
            |id, order, found| if found == digest { Ok(Accepted { id, order }) } else { Err(Refused::Reused(id)) };
        loop {
            // Before the lock: the disk may be slow. Under it, `settled` tells whether the answer may be old.
            let settled = self.open_state().map_err(Refused::Unavailable)?.settled;
            if let Some(id) = id
                && let Some(row) = self.group.receipt(id).await.map_err(Refused::Store)?
            {
                return same(id, 0, row.digest);
            }
            let now = (self.env.now_ms(), self.env.monotonic());
            let mut state = self.open_state().map_err(Refused::Unavailable)?;
            if let Some(why) = &self.durable.borrow().waits {
                return Err(Refused::Unavailable(why.clone()));
            }
            if let Some(id) = id {
                if let Some(open) = state.open.get(&id) {
                    return same(id, state.order, open.digest);
                }
                if state.may_be_settled_since(settled, &id) {
                    continue;
                }
            }
            if !state.has_room(&event, &self.limits) {
                return Err(Refused::Full);
            }
            let id = id.unwrap_or_else(|| self.mint.outside(state.position + 1));
            let event = Event { id, supplied: supplied.is_some(), ..event };
            if digest.is_some() {
                state.open.insert(id, Open { digest, waiting: Vec::new() });
            }
            let after = self.commit_outside(&mut state, now, vec![Draft { event, refused: None }], Vec::new());
            let accepted = Accepted { id, order: state.order };
            drop(state);
            self.tell(after);
            return Ok(accepted);
        }
    }

    /// Drops a dead letter, or sends its event again under a new id from the same sender (S11).
    ///
    /// # Errors
    /// `Refused::Full`, `Refused::Gone`, `Refused::Unavailable`.
    pub fn bury(&self, charm: &Did, position: u64, resend: Option<Event>) -> Result<Accepted, Refused> {
        let now = (self.env.now_ms(), self.env.monotonic());
        let mut state = self.open_state().map_err(Refused::Unavailable)?;
        let next = state.position + 1;
        let full = resend.as_ref().is_some_and(|event| !state.has_room(event, &self.limits));
        let space = state.spaces.get_mut(charm).ok_or(Refused::Gone)?;
        let index = space.dead.iter().position(|dead| *dead == position).ok_or(Refused::Gone)?;
        if full {
            return Err(Refused::Full);
        }
        space.dead.remove(index);
        let id = self.mint.outside(next);
        let sends =
            resend.map(|event| Draft { event: Event { id, on_commit: None, supplied: false, ..event }, refused: None });
        let after = self.commit_outside(&mut state, now, sends.into_iter().collect(), vec![position]);
        let accepted = Accepted { id, order: state.order };
        drop(state);
        self.tell(after);
        Ok(accepted)
    }

    fn commit_outside(
        &self,
        state: &mut State,
        (now, at): (u64, Duration),
        sends: Vec<Draft>,
        buried: Vec<u64>,
    ) -> After {
        let seq = state.advance(&self.host, Default::default());
        self.versions.advance(state.order);
        let writes = Vec::new();
        self.publish(state, Commit { charm: self.host, seq, now, at, taken: None, writes, sends, buried })
    }

    /// Stops at once: what is not durable yet may be lost, and was not acknowledged.
    pub fn abandon(&self) {
        self.state().closed = true;
        self.group.close();
    }

    /// Returns whether an event is accepted and its receipt not durable yet.
    pub fn is_open(&self, id: &EventId) -> bool {
        self.state().open.contains_key(id)
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
    /// The id was used for another event.
    Reused(EventId),
    /// There is no such dead letter, or no such event waits.
    Gone,
    /// The event has begun.
    Running,
    /// The store failed to look the id up.
    Store(StoreError),
    /// The host does not write now.
    Unavailable(Unavailable),
}
