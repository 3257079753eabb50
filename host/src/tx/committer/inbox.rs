//! What the committer keeps of one space: its inbox, its dead letters and how full it is (S12, A5).

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::Arc,
};

use tokio::sync::watch;

use super::chain::Chain;
use crate::{
    did::Did,
    limits::Limits,
    log_share::LogShare,
    meter::{Amount, Meter, Sender},
    store::{Notes, Queued, SpaceRow},
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
    pub notes: Notes,
    /// What the charm may log; none before it is installed.
    pub log: Option<Arc<LogShare>>,
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
            notes: row.notes,
            log: None,
        }
    }
}

/// Events that wait for one charm. Each sender has a line of its own, in the order of sending (S3); senders are served
/// in turn, those outside together as one (A6).
#[derive(Default)]
pub(super) struct Inbox {
    lines: HashMap<Did, Line>,
    /// Whose turn is next; none for those outside.
    order: Rotation<Option<Did>>,
    /// Whose next event ends a chain that is deep and fast at once: served after all others.
    late: Rotation<Option<Did>>,
    /// The same among those outside.
    outside: Rotation<Did>,
    /// Events that are out of their line, until somebody decides. They keep their room.
    held: BTreeMap<u64, (Sender, Waiting)>,
    len: usize,
    pub meter: Arc<Meter>,
}

/// What one sender has waiting, by position. Never empty.
struct Line {
    /// Who it was when the line began: a DID outside may become a charm's.
    sender: Sender,
    events: VecDeque<Waiting>,
}

/// One event, and what led to it.
struct Waiting {
    queued: Arc<Queued>,
    chain: Chain,
}

impl Line {
    fn index(&self, position: u64) -> Result<usize, usize> {
        self.events.binary_search_by_key(&position, |waiting| waiting.queued.position)
    }
}

impl Inbox {
    /// Returns how many events wait, held ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether an event has its turn or waits for it.
    pub fn is_busy(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Returns the event whose turn is next, leaving out senders whose turn is parked.
    pub fn next(&self, parked: &HashSet<Did>) -> Option<&Arc<Queued>> {
        let free = |did: &&Did| !parked.contains(*did);
        let sender = self.order.iter().chain(self.late.iter()).find_map(|share| match share {
            Some(did) => Some(did).filter(free),
            None => self.outside.iter().find(free),
        })?;
        self.lines.get(sender)?.events.front().map(|waiting| &waiting.queued)
    }

    /// Returns whether nothing waits but what is served after everybody else.
    pub fn is_late(&self) -> bool {
        self.order.is_empty() && !self.late.is_empty()
    }

    /// Returns all events, held ones too, in the order in which they were sent.
    pub fn all(&self) -> Vec<Arc<Queued>> {
        let waiting = self.lines.values().flat_map(|line| &line.events);
        let all = waiting.chain(self.held.values().map(|(_, waiting)| waiting));
        let mut all: Vec<_> = all.map(|waiting| waiting.queued.clone()).collect();
        all.sort_unstable_by_key(|queued| queued.position);
        all
    }

    /// Returns whether an event has its turn or waits for it in line.
    pub fn has(&self, queued: &Queued) -> bool {
        self.lines.get(&queued.event.sender).is_some_and(|line| line.index(queued.position).is_ok())
    }

    /// Returns the events that are held.
    pub fn held(&self) -> impl Iterator<Item = &Arc<Queued>> {
        self.held.values().map(|(_, waiting)| &waiting.queued)
    }

    /// Adds an event to its sender's line, at the place that its position gives it.
    pub fn push(&mut self, sender: Sender, queued: Arc<Queued>, chain: Chain) {
        self.meter.add(&sender, amount(&queued));
        self.len += 1;
        self.line_up(sender, Waiting { queued, chain });
    }

    fn line_up(&mut self, sender: Sender, waiting: Waiting) {
        let (did, position) = (waiting.queued.event.sender, waiting.queued.position);
        let line = self.lines.entry(did).or_insert_with(|| Line { sender, events: VecDeque::new() });
        if let Err(index) = line.index(position) {
            line.events.insert(index, waiting);
        }
        self.place(did, sender, false);
    }

    /// Gives a sender its place in the order, by what its line has first; after a turn at the end.
    fn place(&mut self, did: Did, sender: Sender, served: bool) {
        let line = self.lines.get(&did);
        let (sender, late) = match line {
            Some(line) => (line.sender, line.events.front().is_some_and(|waiting| waiting.chain.is_late)),
            None => (sender, false),
        };
        let outside = matches!(sender, Sender::Outside(_));
        if outside {
            self.outside.place(did, line.is_some(), served);
        }
        let (share, more) =
            if outside { (None, !self.outside.is_empty()) } else { (Some(did), self.lines.contains_key(&did)) };
        self.order.place(share, more && !late, served);
        self.late.place(share, more && late, served);
    }

    /// Removes an event, whether it had its turn, waits or is held; returns what led to it. Its sender goes to the end
    /// of the order.
    pub fn take(&mut self, queued: &Queued) -> Option<Chain> {
        let taken = self.leave(queued).or_else(|| self.held.remove(&queued.position));
        let (sender, Waiting { chain, .. }) = taken?;
        self.len -= 1;
        self.meter.remove(&sender, amount(queued));
        Some(chain)
    }

    /// Returns whether an event is not settled yet.
    pub fn holds(&self, queued: &Queued) -> bool {
        let line = self.lines.get(&queued.event.sender);
        line.is_some_and(|line| line.index(queued.position).is_ok()) || self.held.contains_key(&queued.position)
    }

    /// Takes an event out of its line until it is released or taken; those after it go on.
    pub fn hold(&mut self, queued: &Queued) {
        if let Some(held) = self.leave(queued) {
            self.held.insert(queued.position, held);
        }
    }

    /// Puts a held event back at its place.
    pub fn release(&mut self, position: u64) {
        if let Some((sender, waiting)) = self.held.remove(&position) {
            self.line_up(sender, waiting);
        }
    }

    /// Takes an event out of its line.
    fn leave(&mut self, queued: &Queued) -> Option<(Sender, Waiting)> {
        let did = queued.event.sender;
        let line = self.lines.get_mut(&did)?;
        let index = line.index(queued.position).ok()?;
        let (sender, waiting) = (line.sender, line.events.remove(index)?);
        if line.events.is_empty() {
            self.lines.remove(&did);
        }
        self.place(did, sender, true);
        Some((sender, waiting))
    }

    pub fn expect_receipt(&self) {
        self.meter.add(&Sender::Own, Amount::one(0));
    }

    pub fn receipt_arrived(&self) {
        self.meter.remove(&Sender::Own, Amount::one(0));
    }
}

fn amount(queued: &Queued) -> Amount {
    Amount::one(queued.event.payload.as_bytes().len())
}

/// Who is served next: whoever was served goes to the end.
struct Rotation<K> {
    order: BTreeMap<u64, K>,
    places: HashMap<K, u64>,
    last: u64,
}

impl<K> Default for Rotation<K> {
    fn default() -> Rotation<K> {
        Rotation { order: BTreeMap::new(), places: HashMap::new(), last: 0 }
    }
}

impl<K: Copy + Eq + Hash> Rotation<K> {
    fn iter(&self) -> impl Iterator<Item = &K> {
        self.order.values()
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds one at the end unless it is there, or removes it. Whoever was served goes to the end.
    fn place(&mut self, key: K, stays: bool, served: bool) {
        if (served || !stays)
            && let Some(place) = self.places.remove(&key)
        {
            self.order.remove(&place);
        }
        if stays && !self.places.contains_key(&key) {
            self.last += 1;
            self.places.insert(key, self.last);
            self.order.insert(self.last, key);
        }
    }
}

/// How full a space is.
#[derive(Clone, Copy, Default)]
pub(super) struct Usage {
    cells: usize,
    bytes: usize,
}

/// What one commit adds to a space, or takes.
#[derive(Clone, Copy, Default)]
pub(super) struct Growth {
    cells: isize,
    bytes: isize,
}

impl Growth {
    /// Replaces one cell; the outer none is a cell that never was, the inner none one that was removed.
    pub fn change(&mut self, before: Option<Option<&Value>>, after: Option<Option<&Value>>) {
        let size = |cell: Option<Option<&Value>>| cell.flatten().map_or(0, |value| value.as_bytes().len() as isize);
        self.cells += isize::from(after.is_some()) - isize::from(before.is_some());
        self.bytes += size(after) - size(before);
    }
}

impl Usage {
    pub fn grown(self, growth: &Growth) -> Usage {
        let Growth { cells, bytes } = *growth;
        Usage { cells: self.cells.saturating_add_signed(cells), bytes: self.bytes.saturating_add_signed(bytes) }
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
