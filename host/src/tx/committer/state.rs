//! What the committer's one lock protects.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{
    chain::Chain,
    inbox::{Space, Usage},
};
use crate::{
    did::Did,
    directory::Directory,
    event::{Event, EventId},
    limits::Limits,
    meter::{Amount, Sender},
    receipt::Receipt,
    store::{Queued, SpaceRow},
};

/// Settled events with ids of their senders' own that are remembered: a look-up on disk before the lock takes less time
/// than that many take to settle.
const SETTLED_MAX: usize = 1_024;
/// Least time between two lines that tell how many dead letters of a charm went.
const DROPS_TOLD: Duration = Duration::from_secs(60);

/// Numbers, spaces, and the events whose outcome the world does not know yet.
#[derive(Default)]
pub(super) struct State {
    /// The last commit.
    pub order: u64,
    /// The last position given to an event.
    pub position: u64,
    pub spaces: HashMap<Did, Space>,
    /// Their DIDs by name.
    pub names: HashMap<Arc<str>, Did>,
    /// Events accepted whose receipts are not durable yet.
    pub open: HashMap<EventId, Open>,
    /// Positions of events that were held: out of the order for good.
    pub late: BTreeSet<u64>,
    pub closed: bool,
    /// Attempts that were thrown away at their commit.
    pub conflicts: u64,
    /// Who may do what from the next commit on: swapped under the lock, so that a change has its place in their order.
    pub directory: Arc<Directory>,
    /// How many events with ids of their senders' own have left `open`, and the last of them.
    pub settled: u64,
    pub settled_ids: VecDeque<EventId>,
}

/// An event whose receipt is not durable yet.
pub(super) struct Open {
    /// The event; none when it was refused on the spot.
    pub queued: Option<Arc<Queued>>,
    /// The commit that sent it, in the order of the host.
    pub order: u64,
    /// Who waits for the receipt.
    pub waiting: Vec<oneshot::Sender<Receipt>>,
}

impl Open {
    pub fn new(queued: Option<Arc<Queued>>, order: u64) -> Open {
        Open { queued, order, waiting: Vec::new() }
    }
}

impl State {
    /// Adds a space, and `durable` tells when it is.
    pub fn add_space(&mut self, row: &SpaceRow, durable: &watch::Receiver<bool>) {
        let space = Space::new(row, durable.clone());
        self.names.entry(space.name.clone()).or_insert(row.did);
        self.spaces.insert(row.did, space);
    }

    /// Returns the number that the next commit of a space gets.
    pub fn next_seq(&self, charm: &Did) -> u64 {
        self.spaces.get(charm).map_or(0, |space| space.seq + 1)
    }

    /// Gives the next commit its numbers.
    pub fn advance(&mut self, charm: &Did, usage: Option<Usage>) {
        self.order += 1;
        let Some(space) = self.spaces.get_mut(charm) else { return };
        space.usage = usage.unwrap_or(space.usage);
        space.seq += 1;
        space.order = self.order;
    }

    /// Returns who sent an event, as its receiver's inbox sees it.
    fn sender(&self, event: &Event) -> Sender {
        match self.spaces.get(&event.sender) {
            Some(_) if event.sender == event.to => Sender::Own,
            Some(space) if *space.name == *SpaceRow::OPERATOR => Sender::Operator,
            Some(_) => Sender::Charm(event.sender),
            None => Sender::Outside(event.sender),
        }
    }

    /// Returns whether there is room for an event from outside, or one that is sent again.
    pub fn has_room(&self, event: &Event, limits: &Limits) -> bool {
        let more = Amount::one(event.payload.as_bytes().len());
        let room = |space: &Space| space.inbox.meter.has_room(&self.sender(event), more, limits);
        self.spaces.get(&event.to).is_some_and(room)
    }

    /// Takes an event whose receipt is durable out of `open`; returns who waits for it.
    pub fn settle(&mut self, id: &EventId) -> Vec<oneshot::Sender<Receipt>> {
        let Some(open) = self.open.remove(id) else { return Vec::new() };
        if open.queued.is_some_and(|queued| queued.event.supplied) {
            self.settled += 1;
            self.settled_ids.push_back(*id);
            if self.settled_ids.len() > SETTLED_MAX {
                self.settled_ids.pop_front();
            }
        }
        open.waiting
    }

    /// Returns whether that event may have left `open` since `settled` was read.
    pub fn may_be_settled_since(&self, settled: u64, id: &EventId) -> bool {
        let since = (self.settled - settled) as usize;
        since > self.settled_ids.len() || self.settled_ids.iter().rev().take(since).any(|settled| settled == id)
    }

    pub fn enqueue(&mut self, queued: Arc<Queued>, chain: Chain, fits: u64) {
        let event = &queued.event;
        self.open.insert(event.id, Open::new(Some(queued.clone()), self.order));
        if event.on_commit.is_some()
            && let Some(sender) = self.spaces.get_mut(&event.sender)
        {
            sender.inbox.expect_receipt();
        }
        let sender = self.sender(event);
        if let Some(space) = self.spaces.get_mut(&event.to) {
            space.inbox.push(sender, queued, chain, fits);
        }
    }

    /// Returns an event that waits for a charm, or runs.
    pub fn waiting(&self, charm: &Did, id: &EventId) -> Option<Arc<Queued>> {
        let queued = self.open.get(id)?.queued.as_ref().filter(|queued| queued.event.to == *charm)?;
        self.spaces.get(charm)?.inbox.holds(queued).then(|| queued.clone())
    }

    /// Removes an event from its inbox; returns what led to it.
    pub fn dequeue(&mut self, queued: &Queued) -> Chain {
        let chain = self.spaces.get_mut(&queued.event.to).and_then(|space| space.inbox.take(queued));
        if queued.event.on_commit.is_some()
            && let Some(sender) = self.spaces.get_mut(&queued.event.sender)
        {
            sender.inbox.receipt_arrived();
        }
        chain.unwrap_or_default()
    }

    /// Returns the dead letter that goes when there is one more.
    pub fn oldest_letter(&self, charm: &Did, position: u64, limits: &Limits) -> Option<u64> {
        let dead = &self.spaces.get(charm)?.dead;
        (dead.len() >= limits.dead_letters_max).then(|| dead.front().copied().unwrap_or(position))
    }

    /// Adds a dead letter; `oldest` goes. Returns how many have gone so, when that is to be told.
    pub fn add_letter(&mut self, charm: &Did, position: u64, oldest: Option<u64>, now: Duration) -> Option<u64> {
        let space = self.spaces.get_mut(charm)?;
        space.dead.push_back(position);
        oldest.and_then(|_| space.dead.pop_front())?;
        space.letters_dropped += 1;
        if space.letters_told.is_some_and(|told| now < told + DROPS_TOLD) {
            return None;
        }
        space.letters_told = Some(now);
        Some(space.letters_dropped)
    }
}
