//! What the committer keeps of one space: its inbox, its dead letters and how full it is (S12, A5).

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::watch;

use crate::{
    directory::Meter,
    limits::Limits,
    store::{Queued, SpaceRow},
    value::Value,
};

/// One space.
pub(super) struct Space {
    pub name: String,
    pub seq: u64,
    /// Whether the space itself is durable.
    pub durable: watch::Receiver<bool>,
    pub inbox: Inbox,
    /// Positions of dead letters, oldest first.
    pub dead: VecDeque<u64>,
    pub usage: Usage,
}

impl Space {
    pub fn new(row: &SpaceRow, durable: watch::Receiver<bool>) -> Space {
        Space {
            name: row.name.clone(),
            seq: row.seq,
            durable,
            inbox: Inbox::default(),
            dead: VecDeque::new(),
            usage: Usage::default(),
        }
    }
}

/// Events that wait for one charm, in order.
#[derive(Default)]
pub(super) struct Inbox {
    events: VecDeque<Arc<Queued>>,
    /// Receipts that will come: each has its room reserved when the send is committed.
    expected: usize,
    bytes: usize,
    pub meter: Arc<Meter>,
}

impl Inbox {
    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn front(&self) -> Option<&Arc<Queued>> {
        self.events.front()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Queued>> {
        self.events.iter()
    }

    pub fn has_room(&self, events: usize, bytes: usize, limits: &Limits) -> bool {
        self.events.len() + self.expected + events <= limits.inbox_events_max
            && self.bytes + bytes <= limits.inbox_bytes_max
    }

    /// Returns its events, expected receipts included, and their payload bytes.
    pub fn filled(&self) -> (usize, usize) {
        (self.events.len() + self.expected, self.bytes)
    }

    pub fn push(&mut self, queued: Arc<Queued>) {
        self.bytes += queued.event.payload.as_bytes().len();
        self.events.push_back(queued);
        self.publish();
    }

    pub fn take(&mut self, queued: &Queued) {
        if let Some(index) = self.events.iter().position(|waiting| waiting.position == queued.position) {
            self.events.remove(index);
            self.bytes -= queued.event.payload.as_bytes().len();
        }
        self.publish();
    }

    pub fn expect_receipt(&mut self) {
        self.expected += 1;
        self.publish();
    }

    pub fn receipt_arrived(&mut self) {
        self.expected = self.expected.saturating_sub(1);
        self.publish();
    }

    fn publish(&self) {
        self.meter.events.store(self.events.len() + self.expected, Ordering::Relaxed);
        self.meter.bytes.store(self.bytes, Ordering::Relaxed);
    }
}

/// How full a space is.
#[derive(Clone, Copy, Default)]
pub(super) struct Usage {
    cells: usize,
    bytes: usize,
}

impl Usage {
    /// Replaces one cell; the outer none is a cell that never was, the inner none one that was removed.
    pub fn change(&mut self, before: Option<Option<&Value>>, after: Option<Option<&Value>>) {
        let size = |cell: Option<Option<&Value>>| cell.flatten().map_or(0, |value| value.as_bytes().len());
        self.cells = self.cells + usize::from(after.is_some()) - usize::from(before.is_some());
        self.bytes = self.bytes + size(after) - size(before);
    }

    pub fn check(&self, limits: &Limits) -> Result<(), String> {
        if self.cells > limits.cells_max {
            Err(format!("over cells-max {}", limits.cells_max))
        } else if self.bytes > limits.space_bytes_max {
            Err(format!("over space-bytes-max {}", limits.space_bytes_max))
        } else {
            Ok(())
        }
    }
}
