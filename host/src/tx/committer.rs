//! Decides the order of commits (T4, T5). One lock, one rule: a commit is valid when every read of its
//! transaction would give the same answer now; then all its effects take place at once, in memory, and the
//! whole of it is handed to the group that makes it durable. Later turns may build on it at once; nothing
//! leaves the host before [`Committer::durable`] says so (T8).

mod draft;
mod group;
mod inbox;
mod state;
mod waits;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{oneshot, watch};

use super::{Cause, Mint, Transaction, Versions};
use crate::{
    archive::SpaceInfo,
    counters::Counters,
    did::Did,
    env::Env,
    error::Unavailable,
    event::{Event, EventId, digest},
    keyring::Keyring,
    limits::Limits,
    meter::{Amount, Meter, Sender},
    queue::Ready,
    receipt::{self, Outcome, Receipt},
    record::{self, Record, Sent, Taken, Write},
    store::{Image, Queued, SpaceRow, Store, StoreError},
};
use draft::Draft;
use group::{Group, Item};
use inbox::Space;
use state::{Open, State};

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
    pub g: u64,
}

/// Orders commits and keeps what they change.
pub struct Committer {
    state: Mutex<State>,
    versions: Arc<Versions>,
    durable: watch::Receiver<group::Progress>,
    ready: Arc<Ready>,
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
        ready: Arc<Ready>,
        image: Image,
        host: Did,
    ) -> Arc<Committer> {
        let Image { secret, g, position, spaces, cells, queued, dead } = image;
        let heads = spaces.iter().map(|row| (row.did, row.head)).collect();
        let counters = Counters { found: queued.len() as u64, ..Counters::default() };
        let mut state = State { g, position, spaces: HashMap::new(), open: HashMap::new(), closed: false, counters };
        let (_, durable) = watch::channel(true);
        for row in &spaces {
            state.spaces.insert(row.did, Space::new(row, durable.clone()));
        }
        for cell in &cells {
            if let Some(space) = state.spaces.get_mut(&cell.space) {
                space.usage.change(None, Some(cell.value.as_ref()));
            }
        }
        for queued in queued {
            state.enqueue(Arc::new(queued));
        }
        for (did, position) in dead {
            if let Some(space) = state.spaces.get_mut(&did) {
                space.dead.push_back(position);
            }
        }
        let (progress, durable) = watch::channel(group::Progress { g, ..Default::default() });
        let group = Group::new(store, keyring, env.clone(), heads, progress);
        let committer = Arc::new(Committer {
            state: Mutex::new(state),
            versions: Arc::new(Versions::load(g, cells)),
            durable,
            ready,
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
            let row = SpaceRow { did, name: name.to_owned(), seq: 0, head: record::Hash::default() };
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
            dead: space.dead.len(),
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

    /// Returns the event of a charm whose turn is next, leaving out senders whose turn is parked.
    pub fn next(&self, charm: &Did, parked: &HashSet<Did>) -> Option<Arc<Queued>> {
        self.state().spaces.get(charm)?.inbox.next(parked).cloned()
    }

    /// Returns the events that wait for a charm, in the order in which they were sent, and the positions of its dead letters.
    pub fn waiting(&self, charm: &Did) -> (Vec<Arc<Queued>>, Vec<u64>) {
        let state = self.state();
        let Some(space) = state.spaces.get(charm) else { return Default::default() };
        (space.inbox.all(), space.dead.iter().copied().collect())
    }

    /// Commits a turn: its writes, the acknowledgement of its event, its sends and receipts, as one (T5).
    /// Returns the sequence number in the charm's space.
    ///
    /// # Errors
    /// [`Failure`] leaves nothing behind but the event, which still waits.
    pub fn commit(&self, tx: Transaction, queued: &Arc<Queued>) -> Result<u64, Failure> {
        let charm = tx.writer;
        let now = self.env.now_ms();
        let mut state = self.open_state().map_err(Failure::Unavailable)?;
        if let Err(cause) = self.check(&state, &tx) {
            state.counters.conflicts += 1;
            return Err(Failure::Conflict(cause));
        }
        let (writes, usage) = self.writes(&state, &tx)?;

        let seq = state.advance(&charm, usage);
        let sends = tx.sends.into_iter().map(|event| Draft::judge(event, &tx.directory)).collect();
        let receipt = Receipt { id: queued.event.id, outcome: Outcome::Committed, commit: Some(seq), message: None };
        let g = state.g;
        self.versions.apply(&charm, g, seq, tx.writes.into_iter());
        let commit = Commit { charm, seq, now, taken: Some((queued, receipt)), writes, sends, buried: Vec::new() };
        self.publish(&mut state, commit);
        Ok(seq)
    }

    /// Settles an event without a transaction: a failure, or a stream that is not there (T6). It becomes a dead letter.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn settle(&self, queued: &Arc<Queued>, outcome: Outcome, message: &str) -> Result<(), Unavailable> {
        let charm = queued.event.to;
        let now = self.env.now_ms();
        let mut state = self.open_state()?;
        let message = crate::error::clip_message(message).into_owned();
        let receipt = Receipt { id: queued.event.id, outcome, commit: None, message: Some(message) };
        let usage = state.spaces.get(&charm).map(|space| space.usage).unwrap_or_default();
        let seq = state.advance(&charm, usage);
        let buried = state.bury_oldest(&charm, queued.position, &self.limits);
        let taken = Some((queued, receipt));
        let commit = Commit { charm, seq, now, taken, writes: Vec::new(), sends: Vec::new(), buried };
        self.publish(&mut state, commit);
        Ok(())
    }

    /// Accepts an event from outside. With an id of the sender's own, the same event again is the same (S9).
    ///
    /// # Errors
    /// `Refused::Full`, `Refused::Reused`, `Refused::Unavailable`.
    pub fn accept(&self, event: Event, supplied: Option<&str>) -> Result<Accepted, Refused> {
        let now = self.env.now_ms();
        let mut state = self.open_state().map_err(Refused::Unavailable)?;
        if self.durable.borrow().full {
            return Err(Refused::Unavailable(Unavailable::DiskFull));
        }
        let id = supplied.map(|supplied| self.mint.supplied(&event.sender, supplied));
        if let Some(id) = id
            && let Some(open) = state.open.get(&id)
        {
            let same = open.digest == Some(digest(&event));
            return if same { Ok(Accepted { id, g: state.g }) } else { Err(Refused::Reused(id)) };
        }
        // Under the lock: an event leaves `open` only after its receipt is in the store.
        if let Some(id) = id
            && let Some(row) = self.group.store().receipt(&id).map_err(Refused::Store)?
        {
            let same = row.digest == Some(digest(&event));
            return if same { Ok(Accepted { id, g: 0 }) } else { Err(Refused::Reused(id)) };
        }
        if !state.has_room(&event, &self.limits) {
            return Err(Refused::Full);
        }
        let id = id.unwrap_or_else(|| self.mint.outside(state.position + 1));
        let event = Event { id, supplied: supplied.is_some(), ..event };
        self.commit_outside(&mut state, now, vec![Draft { event, refused: None, receipt_of: None }], Vec::new());
        Ok(Accepted { id, g: state.g })
    }

    /// Drops a dead letter, or sends its event again under a new id from the same sender (S11).
    ///
    /// # Errors
    /// `Refused::Full`, `Refused::Gone`, `Refused::Unavailable`.
    pub fn bury(&self, charm: &Did, position: u64, resend: Option<Event>) -> Result<Accepted, Refused> {
        let now = self.env.now_ms();
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
        let sends = resend.map(|event| Draft {
            event: Event { id, on_commit: None, supplied: false, ..event },
            refused: None,
            receipt_of: None,
        });
        self.commit_outside(&mut state, now, sends.into_iter().collect(), vec![position]);
        Ok(Accepted { id, g: state.g })
    }

    fn commit_outside(&self, state: &mut State, now: u64, sends: Vec<Draft>, buried: Vec<u64>) {
        let seq = state.advance(&self.host, Default::default());
        self.publish(state, Commit { charm: self.host, seq, now, taken: None, writes: Vec::new(), sends, buried });
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
        let g = {
            let mut state = self.state();
            state.closed = true;
            state.g
        };
        let flushed = self.durable(g).await;
        self.group.finish();
        flushed
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State>, Unavailable> {
        let state = self.state();
        if let Some(stopped) = &self.durable.borrow().stopped {
            return Err(stopped.clone());
        }
        if state.closed { Err(Unavailable::Closed) } else { Ok(state) }
    }

    /// Checks that every read still holds and that there is room for every send.
    fn check(&self, state: &State, tx: &Transaction) -> Result<(), Cause> {
        tx.reads.check(&self.versions).map_err(Cause::Read)?;
        for (did, staged) in &tx.staged {
            let sender = if *did == tx.writer { Sender::Own } else { Sender::Charm(tx.writer) };
            if let Some(Space { inbox, .. }) = state.spaces.get(did)
                && !inbox.meter.has_room(&sender, *staged, &self.limits)
            {
                let Amount { events, bytes } = inbox.meter.used(&sender);
                return Err(Cause::Full { inbox: *did, events, bytes });
            }
        }
        Ok(())
    }

    /// Returns the record's writes and how full the space is after them.
    fn writes(&self, state: &State, tx: &Transaction) -> Result<(Vec<Write>, inbox::Usage), Failure> {
        let mut usage = state.spaces.get(&tx.writer).map(|space| space.usage).unwrap_or_default();
        let mut writes = Vec::with_capacity(tx.writes.len());
        for (name, value) in &tx.writes {
            let before = self.versions.latest(&tx.writer, name);
            usage.change(before.as_ref().map(|version| version.value.as_ref()), Some(value.as_ref()));
            let previous_g = before.map_or(0, |version| version.g);
            writes.push(Write { name: name.to_string(), previous_g, value: value.clone() });
        }
        usage.check(&self.limits).map_err(Failure::Limit)?;
        Ok((writes, usage))
    }

    /// The commit point in memory: queues what goes out, settles what is settled, hands the record to the group.
    fn publish(&self, state: &mut State, commit: Commit<'_>) {
        let Commit { charm, seq, now, taken, writes, sends, buried } = commit;
        let _span = tracing::info_span!("commit", space = %charm, seq, g = state.g).entered();
        if writes.is_empty() {
            self.versions.advance(state.g);
        }
        let mut drafts = sends;
        let refused: Vec<Draft> = drafts.iter().filter_map(|draft| self.refusal_receipt(draft)).collect();
        drafts.extend(refused);
        if let Some((queued, receipt)) = &taken {
            state.dequeue(queued);
            state.counters.settle(receipt.outcome);
            drafts.extend(
                queued
                    .event
                    .on_commit
                    .as_ref()
                    .map(|on_commit| Draft::receipt(&self.mint, queued.event.sender, on_commit, receipt)),
            );
        }
        state.counters.sent += drafts.len() as u64;
        let mut sent = Vec::with_capacity(drafts.len());
        for Draft { event, refused, receipt_of } in drafts {
            let _span =
                tracing::debug_span!("send", event = %event.id, to = %event.to, stream = event.stream).entered();
            let position = match refused {
                Some(outcome) => {
                    tracing::debug!(%outcome, "refused");
                    state.counters.settle(outcome);
                    state.open.insert(event.id, Open::default());
                    None
                }
                None => {
                    tracing::debug!("queued");
                    state.position += 1;
                    self.ready.wake(event.to);
                    state.enqueue(Arc::new(Queued { position: state.position, event: event.clone() }));
                    Some(state.position)
                }
            };
            sent.push(Sent { event, position, refused, receipt_of });
        }
        let record = Record {
            version: record::VERSION,
            space: charm,
            seq,
            previous: record::Hash::default(),
            g: state.g,
            time_ms: now,
            taken: taken.as_ref().map(|(queued, receipt)| Taken {
                position: queued.position,
                sender: queued.event.sender,
                stream: queued.event.stream.clone(),
                receipt: receipt.clone(),
            }),
            writes,
            sends: sent,
            buried,
        };
        tracing::debug!("committed");
        let taken = taken.map(|(queued, _)| queued.clone());
        self.group.push(Item::Commit { record: Box::new(record), taken, position: state.position });
    }

    fn refusal_receipt(&self, draft: &Draft) -> Option<Draft> {
        let outcome = draft.refused?;
        let on_commit = draft.event.on_commit.as_ref()?;
        let receipt = receipt::refused(draft.event.id, outcome);
        Some(Draft::receipt(&self.mint, draft.event.sender, on_commit, &receipt))
    }

    /// Called by the group when receipts are durable.
    fn settled(&self, receipts: &[Receipt]) {
        let mut state = self.state();
        for receipt in receipts {
            if let Some(open) = state.open.remove(&receipt.id) {
                for waiting in open.waiting {
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
    /// There is no such dead letter.
    Gone,
    /// The store failed to look the id up.
    Store(StoreError),
    /// The host does not write now.
    Unavailable(Unavailable),
}

/// One commit on its way to [`Committer::publish`].
struct Commit<'a> {
    charm: Did,
    seq: u64,
    now: u64,
    taken: Option<(&'a Arc<Queued>, Receipt)>,
    writes: Vec<Write>,
    sends: Vec<Draft>,
    buried: Vec<u64>,
}
