//! What the committer's one lock protects.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::oneshot;

use super::{
    chain::Chain,
    inbox::{Space, Usage},
};
use crate::{
    counters::Counters,
    did::Did,
    directory::Directory,
    event::{Event, EventId, digest},
    limits::Limits,
    meter::{Amount, Sender},
    receipt::Receipt,
    store::{Queued, SpaceRow},
};

/// Settled events with ids of their senders' own that are remembered: a look-up on disk before the lock takes less time
/// than that many take to settle.
const SETTLED_MAX: usize = 1_024;

/// Numbers, spaces, and the events whose outcome the world does not know yet.
#[derive(Default)]
pub(super) struct State {
    /// The last commit.
    pub order: u64,
    /// The last position given to an event.
    pub position: u64,
    pub spaces: HashMap<Did, Space>,
    /// Events accepted whose receipts are not durable yet.
    pub open: HashMap<EventId, Open>,
    /// Positions of events that were held: out of the order for good.
    pub late: BTreeSet<u64>,
    pub closed: bool,
    /// All but `waiting`, which the inboxes know.
    pub counters: Counters,
    /// Who may do what from the next commit on: swapped under the lock, so that a change has its place in their order.
    pub directory: Arc<Directory>,
    /// How many events with ids of their senders' own have left `open`, and the last of them.
    pub settled: u64,
    pub settled_ids: VecDeque<EventId>,
}

#[derive(Default)]
pub(super) struct Open {
    /// Of an event whose id its sender chose.
    pub digest: Option<[u8; 16]>,
    pub waiting: Vec<oneshot::Sender<Receipt>>,
}

impl State {
    /// Returns the counters of this moment.
    pub fn counters(&self) -> Counters {
        let waiting = self.spaces.values().map(|space| space.inbox.len() as u64).sum();
        Counters { waiting, ..self.counters }
    }

    /// Gives the next commit its numbers.
    pub fn advance(&mut self, charm: &Did, usage: Usage) -> u64 {
        self.order += 1;
        let Some(space) = self.spaces.get_mut(charm) else { return 0 };
        space.usage = usage;
        space.seq += 1;
        space.seq
    }

    /// Returns who sent an event, as its receiver's inbox sees it.
    fn sender(&self, event: &Event) -> Sender {
        match self.spaces.get(&event.sender) {
            Some(_) if event.sender == event.to => Sender::Own,
            Some(space) if space.name == SpaceRow::OPERATOR => Sender::Operator,
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
        if open.digest.is_some() {
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

    pub fn enqueue(&mut self, queued: Arc<Queued>, chain: Chain) {
        let event = &queued.event;
        self.open
            .entry(event.id)
            .or_insert_with(|| Open { digest: event.supplied.then(|| digest(event)), waiting: Vec::new() });
        if event.on_commit.is_some()
            && let Some(sender) = self.spaces.get_mut(&event.sender)
        {
            sender.inbox.expect_receipt();
        }
        let sender = self.sender(event);
        if let Some(space) = self.spaces.get_mut(&event.to) {
            space.inbox.push(sender, queued, chain);
        }
    }

    /// Returns an event that waits for a charm, or runs.
    pub fn waiting(&self, charm: &Did, id: &EventId) -> Option<Arc<Queued>> {
        let mut events = self.spaces.get(charm)?.inbox.all().into_iter();
        events.find(|queued| queued.event.id == *id)
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

    /// Makes room for one more dead letter; returns the one that goes.
    pub fn bury_oldest(&mut self, charm: &Did, position: u64, limits: &Limits) -> Vec<u64> {
        let Some(space) = self.spaces.get_mut(charm) else { return Vec::new() };
        space.dead.push_back(position);
        let over = space.dead.len() > limits.dead_letters_max;
        over.then(|| space.dead.pop_front()).flatten().into_iter().collect()
    }
}
