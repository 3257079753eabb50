//! How much room an inbox has, and for whom (S12, A6): one rule, asked by a turn when it sends and again by its commit.
//!
//! What a charm sends itself, the receipts on their way to it and what the operator sends have room of their own. All
//! others share: the first event of each always finds room, and more than that takes no more room than it leaves free.
//! So one alone fills half, many fill equal parts, and whoever comes later finds room.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{did::Did, limits::Limits};

/// Who sent an event, as its receiver's inbox sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The charm itself.
    Own,
    /// The operator.
    Operator,
    /// Another charm.
    Charm(Did),
    /// Someone outside. All of them together have the share of one charm: DIDs outside cost nothing.
    Outside(Did),
}

/// Events and their payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub events: usize,
    /// How large, together.
    pub bytes: usize,
}

impl Amount {
    /// Returns one event of that size.
    pub fn one(bytes: usize) -> Amount {
        Amount { events: 1, bytes }
    }

    /// Returns both together.
    pub fn plus(self, more: Amount) -> Amount {
        Amount { events: self.events + more.events, bytes: self.bytes + more.bytes }
    }

    /// Returns what is left without `less`.
    pub fn minus(self, less: Amount) -> Amount {
        Amount { events: self.events.saturating_sub(less.events), bytes: self.bytes.saturating_sub(less.bytes) }
    }

    fn within(self, max: Amount) -> bool {
        self.events <= max.events && self.bytes <= max.bytes
    }

    /// Returns whether `more` takes no more room than it leaves, `used` in all being taken of `max`.
    fn is_fair(self, more: Amount, used: Amount, max: Amount) -> bool {
        let first = self.events == 0 && more.events == 1;
        let (used, after) = (used.plus(more), self.plus(more));
        first || (used.within(max) && after.within(max.minus(used)))
    }
}

/// What waits in one inbox, by who sent it. Changed by the committer only.
#[derive(Debug, Default)]
pub struct Meter {
    rooms: Mutex<Rooms>,
    /// Told when room is given back: one of those that wait looks, and tells the next when it has taken what it needs.
    freed: Notify,
}

/// Room that somebody wants in an inbox.
#[derive(Clone, Debug)]
pub struct Room {
    meter: Arc<Meter>,
    sender: Sender,
    amount: Amount,
}

/// Held by who waited for room until it has taken it: then the next one looks.
#[derive(Debug)]
pub struct Next(Arc<Meter>);

impl Drop for Next {
    fn drop(&mut self) {
        self.0.freed.notify_one();
    }
}

impl Room {
    /// Returns room that there may be later; none when there never is so much.
    pub fn wanted(meter: &Arc<Meter>, sender: Sender, amount: Amount, limits: &Limits) -> Option<Room> {
        let max = Amount { events: limits.inbox_events_max, bytes: limits.inbox_bytes_max };
        let (none, alone) = (Amount::default(), matches!(sender, Sender::Own | Sender::Operator));
        let ever = if alone { amount.within(max) } else { none.is_fair(amount, none, max) };
        ever.then(|| Room { meter: meter.clone(), sender, amount })
    }

    /// Completes when there is room.
    pub async fn free(&self, limits: &Limits) -> Next {
        loop {
            let mut freed = std::pin::pin!(self.meter.freed.notified());
            freed.as_mut().enable();
            if self.meter.has_room(&self.sender, self.amount, limits) {
                return Next(self.meter.clone());
            }
            freed.await;
        }
    }
}

#[derive(Debug, Default)]
struct Rooms {
    /// Sent by the charm itself, and receipts that will come.
    own: Amount,
    operator: Amount,
    /// Each of the others that has something waiting.
    senders: HashMap<Did, Amount>,
    /// Those others together.
    others: Amount,
    /// Those of them who are outside, together.
    outside: Amount,
    /// Events whose turns are under way: they take no room.
    under_way: usize,
}

impl Meter {
    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether `sender` finds room for `more`.
    pub fn has_room(&self, sender: &Sender, more: Amount, limits: &Limits) -> bool {
        let max = Amount { events: limits.inbox_events_max, bytes: limits.inbox_bytes_max };
        let rooms = self.rooms();
        let held = |did| rooms.senders.get(did).copied().unwrap_or_default();
        match sender {
            Sender::Own => rooms.own.plus(more).within(max),
            Sender::Operator => rooms.operator.plus(more).within(max),
            Sender::Charm(did) => held(did).is_fair(more, rooms.others, max),
            Sender::Outside(did) => {
                // As one among all, and then as one among those outside.
                rooms.outside.is_fair(more, rooms.others, max)
                    && held(did).is_fair(more, rooms.others.plus(rooms.outside), max)
            }
        }
    }

    /// Returns what takes up the room that `sender` would use.
    pub fn used(&self, sender: &Sender) -> Amount {
        let rooms = self.rooms();
        match sender {
            Sender::Own => rooms.own,
            Sender::Operator => rooms.operator,
            Sender::Charm(_) | Sender::Outside(_) => rooms.others,
        }
    }

    /// Returns whether one more turn may be under way.
    pub fn may_set_out(&self, limits: &Limits) -> bool {
        self.rooms().under_way < limits.waiting_turns_max
    }

    /// Counts an event whose turn is under way from now on.
    pub fn set_out(&self) {
        self.rooms().under_way += 1;
    }

    /// Counts an event no more whose turn was under way.
    pub fn came_back(&self) {
        self.rooms().under_way -= 1;
    }

    /// Everything that is counted, as text.
    #[cfg(test)]
    pub fn shown(&self) -> String {
        let Rooms { own, operator, ref senders, others, outside, under_way } = *self.rooms();
        let senders: std::collections::BTreeMap<_, _> =
            senders.iter().map(|(did, held)| (did.to_string(), held)).collect();
        format!("{own:?} {operator:?} {senders:?} {others:?} {outside:?} {under_way:?}")
    }

    /// Takes room.
    pub fn add(&self, sender: &Sender, more: Amount) {
        self.rooms().change(sender, |amount| amount.plus(more));
    }

    /// Gives room back.
    pub fn remove(&self, sender: &Sender, less: Amount) {
        self.rooms().change(sender, |amount| amount.minus(less));
        self.freed.notify_one();
    }
}

impl Rooms {
    fn change(&mut self, sender: &Sender, change: impl Fn(Amount) -> Amount) {
        let did = match sender {
            Sender::Own => return self.own = change(self.own),
            Sender::Operator => return self.operator = change(self.operator),
            Sender::Charm(did) => did,
            Sender::Outside(did) => {
                self.outside = change(self.outside);
                did
            }
        };
        self.others = change(self.others);
        let held = change(self.senders.get(did).copied().unwrap_or_default());
        if held.events == 0 {
            self.senders.remove(did);
        } else {
            self.senders.insert(*did, held);
        }
    }
}
