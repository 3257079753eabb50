//! What decides what may happen next in a host.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Effects,
    chain::Chain,
    deadlines::{Deadlines, moment},
    inbox::{Inbox, Usage, Waiting},
    underway::{Standing, Underway},
};
use crate::{
    did::Did,
    event::{Event, EventId, Mint},
    limits::Limits,
    meter::{Amount, Sender},
    receipt::Receipt,
    record::Hash,
    rows::{CellRow, CutRow, Image, InstallRow, Notes, Point, Queued, SpaceRow, TurnRow},
    value::Value,
};

/// Settled events with ids of their senders' own that are remembered: a look-up on disk before the lock takes less time
/// than that many take to settle.
const SETTLED_MAX: usize = 1_024;
/// What the event of a turn that waits carries in memory, in bytes: more than that is on disk until it goes on.
const WAITING_PAYLOAD_BYTES: usize = 1 << 10;
/// Least time between two lines that tell how many dead letters of a charm went.
const DROPS_TOLD: Duration = Duration::from_secs(60);

/// Numbers, spaces, and the events whose outcome the world does not know yet.
pub struct State {
    /// The last commit.
    pub order: u64,
    /// The last position given to an event.
    pub position: u64,
    /// Every space, each at a place of its own: a map has room for more than it holds.
    pub spaces: HashMap<Did, Box<Space>>,
    /// Spaces by the names of their charms.
    pub names: HashMap<Arc<str>, Did>,
    /// Events that wait, or whose receipts are not durable yet.
    pub open: HashMap<EventId, Open>,
    /// How many spaces have each component installed, and how many turns under way began with it.
    pub(super) components: HashMap<Hash, usize>,
    /// When waits end, delayed events are due, and others expire.
    pub(super) deadlines: Deadlines,
    /// Requests that must not be made twice and that turns have asked for since their last commit, by the positions of their events.
    pub asked: BTreeMap<u64, Vec<Hash>>,
    /// Positions of events that were held: out of the order for good.
    pub late: BTreeSet<u64>,
    /// What is decided about the rights of those outside.
    pub kept: BTreeMap<Did, Vec<u8>>,
    /// Bounds.
    pub limits: Arc<Limits>,
    /// Makes event ids.
    pub mint: Arc<Mint>,
    /// How many events with ids of their senders' own have left `open`, and the last of them.
    pub settled: u64,
    settled_ids: VecDeque<EventId>,
}

/// One space.
pub struct Space {
    /// The charm's name.
    pub name: Arc<str>,
    /// Number of its last commit.
    pub seq: u64,
    /// The same commit in the order of the host; 0 for none since the host was opened.
    pub order: u64,
    /// The commit that made the space; 0 when it was there when the host was opened.
    pub made: u64,
    /// Events that wait for it.
    pub inbox: Inbox,
    /// Its dead letters: position and event, oldest first.
    pub dead: VecDeque<(u64, EventId)>,
    /// How full it is.
    pub usage: Usage,
    /// What is installed.
    pub installed: Option<InstallRow>,
    /// What the operator did to it or is told of it.
    pub notes: Notes,
    /// Dead letters that went because there were too many.
    pub letters_dropped: u64,
    /// What is decided about its rights.
    pub kept: Option<Vec<u8>>,
    /// Its commits up to here have gone (H1).
    pub floor: u64,
    /// What its last checkpoint stands for.
    pub checkpoint: Point,
    /// Receipts that its commits up to here settled have gone.
    pub receipts_floor: u64,
    /// When that was last told.
    letters_told: Option<Duration>,
}

impl Space {
    fn new(row: &SpaceRow, made: u64) -> Space {
        Space {
            name: row.name.as_str().into(),
            seq: row.seq,
            order: 0,
            made,
            inbox: Inbox::default(),
            dead: VecDeque::new(),
            usage: Usage::default(),
            installed: row.installed,
            notes: row.notes,
            letters_dropped: row.letters_dropped,
            kept: None,
            floor: row.floor.seq,
            checkpoint: row.checkpoint,
            receipts_floor: row.receipts_floor,
            letters_told: None,
        }
    }
}

/// What was due.
#[derive(Default)]
pub struct Due {
    /// Charms that have something to do.
    pub wakes: Vec<Did>,
    /// Events that expire.
    pub expired: Vec<Arc<Queued>>,
}

/// An event that waits, or whose receipt is not durable yet.
pub struct Open {
    /// The event; none when it was refused on the spot.
    pub queued: Option<Arc<Queued>>,
    /// The commit that sent it, in the order of the host.
    pub order: u64,
}

impl State {
    /// Returns the state that a store holds, at this moment: in milliseconds since 1970, and on the clock that never goes back.
    /// Turns under way know nothing yet of what they have sent: see [`State::recall`].
    pub fn load(image: &Image, limits: Arc<Limits>, now: (u64, Duration)) -> State {
        let mut state = State {
            order: image.order,
            position: image.position,
            spaces: HashMap::with_capacity(image.spaces.len()),
            names: HashMap::with_capacity(image.spaces.len()),
            open: HashMap::new(),
            components: HashMap::new(),
            deadlines: Deadlines::default(),
            asked: image.asked.iter().cloned().collect(),
            late: BTreeSet::new(),
            kept: BTreeMap::new(),
            limits,
            mint: Arc::new(Mint::new(image.secret)),
            settled: 0,
            settled_ids: VecDeque::new(),
        };
        image.spaces.iter().for_each(|row| state.add_space(row, 0));
        for InstallRow { component, .. } in image.spaces.iter().filter_map(|row| row.installed) {
            *state.components.entry(component).or_default() += 1;
        }
        for CutRow { space, floor, receipts, .. } in &image.cuts {
            if let Some(space) = state.spaces.get_mut(space) {
                space.floor = space.floor.max(floor.seq);
                space.receipts_floor = space.receipts_floor.max(*receipts);
            }
        }
        for (holder, kept) in &image.kept {
            match state.spaces.get_mut(holder) {
                Some(space) => space.kept = Some(kept.clone()),
                None => drop(state.kept.insert(*holder, kept.clone())),
            }
        }
        for CellRow { space, value, .. } in &image.cells {
            if let (Some(space), Some(value)) = (state.spaces.get_mut(space), value) {
                space.usage = space.usage.with_cell(value);
            }
        }
        let mut turns: BTreeMap<u64, &TurnRow> = image.turns.iter().map(|row| (row.position, row)).collect();
        for queued in &image.queued {
            let queued = Arc::new(queued.clone());
            match turns.remove(&queued.position) {
                Some(row) => state.restore(queued, row, now),
                None => state.enqueue(queued, Chain::default(), 0, now),
            }
        }
        for (did, position, event) in &image.dead {
            if let Some(space) = state.spaces.get_mut(did) {
                space.dead.push_back((*position, *event));
            }
        }
        state
    }

    pub(super) fn add_space(&mut self, row: &SpaceRow, made: u64) {
        let space = Space::new(row, made);
        self.names.entry(space.name.clone()).or_insert(row.did);
        self.spaces.insert(row.did, Box::new(space));
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
    pub fn has_room(&self, event: &Event) -> bool {
        let more = Amount::one(event.payload.as_bytes().len());
        let room = |space: &Space| space.inbox.meter.has_room(&self.sender(event), more, &self.limits);
        self.spaces.get(&event.to).is_some_and(|space| room(space))
    }

    /// Takes an event whose receipt is durable out of `open`, and returns it.
    pub fn settle(&mut self, id: &EventId) -> Option<Open> {
        let open = self.open.remove(id)?;
        if open.queued.as_ref().is_some_and(|queued| queued.event.supplied) {
            self.settled += 1;
            self.settled_ids.push_back(*id);
            if self.settled_ids.len() > SETTLED_MAX {
                self.settled_ids.pop_front();
            }
        }
        Some(open)
    }

    /// Returns whether that event may have left `open` since `settled` was read.
    pub fn may_be_settled_since(&self, settled: u64, id: &EventId) -> bool {
        let since = (self.settled - settled) as usize;
        since > self.settled_ids.len() || self.settled_ids.iter().rev().take(since).any(|settled| settled == id)
    }

    /// Adds a turn that was under way when the host ended.
    fn restore(&mut self, queued: Arc<Queued>, row: &TurnRow, (now_ms, at): (u64, Duration)) {
        self.expect(&queued);
        let (charm, position) = (queued.event.to, queued.position);
        let progress = Arc::new(row.progress.clone());
        if let Some(component) = progress.began_with() {
            *self.components.entry(component).or_default() += 1;
        }
        // A clock that was set back lets it wait once more as long as it wanted to, at most.
        let (timeout, since) = (progress.waits_ms(), progress.since_ms);
        let left = since.saturating_add(timeout).saturating_sub(now_ms).min(timeout);
        let deadline = at.saturating_add(Duration::from_millis(left));
        let Some(space) = self.spaces.get_mut(&charm) else { return };
        space.inbox.meter.set_out();
        space.inbox.add_underway(Underway::new(queued, progress, Chain::default(), deadline));
        self.wait(&charm, position, &mut Effects::default());
        self.put_away(&charm, position);
    }

    /// Tells a turn under way what became of events that it has sent, by their numbers; returns whether it goes on by that.
    pub fn recall(&mut self, charm: &Did, position: u64, receipts: impl IntoIterator<Item = (u16, Receipt)>) -> bool {
        let Some(turns) = self.spaces.get_mut(charm).map(|space| &mut space.inbox.underway) else { return false };
        let Some(underway) = turns.get_mut(position) else { return false };
        underway.receipts.extend(receipts);
        let goes_on = underway.standing == Standing::Waits && underway.is_over();
        if goes_on {
            self.deadlines.remove(underway.deadline, *charm, position);
            turns.stand(position, Standing::Ready);
        }
        goes_on
    }

    /// Lets happen what is due, up to `max` of it.
    pub fn fall_due(&mut self, now: Duration, max: usize) -> Due {
        let mut due = Due::default();
        while due.wakes.len() + due.expired.len() < max
            && let Some((at, charm, position)) = self.deadlines.pop(now)
        {
            let Some(space) = self.spaces.get_mut(&charm) else { continue };
            if space.inbox.underway.get(position).is_some() {
                space.inbox.underway.stand(position, Standing::Ready);
                due.wakes.push(charm);
            } else if let Some(queued) = space.inbox.line_up_delayed(position) {
                due.wakes.push(charm);
                if let (Some(expires_at), Some(after)) = (queued.event.expires_at, queued.event.deliver_after) {
                    self.deadlines.expire(at + Duration::from_millis(expires_at.saturating_sub(after)), queued);
                }
            } else if let Some(queued) = self.deadlines.expiring(position)
                && !space.inbox.has_begun(queued)
            {
                due.expired.push(queued.clone());
            }
        }
        due
    }

    /// Returns when the next is due.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first()
    }

    /// Begins the turn of the event of a charm that is next, leaving out senders whose turn is parked, and those whose next
    /// event expires now; returns the descriptor too that it was checked against.
    pub fn begin(&mut self, charm: &Did, parked: &HashSet<Did>, now: Duration) -> Option<(Arc<Queued>, u64)> {
        let (limits, inbox) = (&self.limits, &mut self.spaces.get_mut(charm)?.inbox);
        let mut begun = inbox.begin(parked, limits)?;
        if self.deadlines.is_over(begun.0.position, now) {
            let mut parked = parked.clone();
            while self.deadlines.is_over(begun.0.position, now) {
                inbox.put_back(&begun.0);
                parked.insert(begun.0.event.sender);
                begun = inbox.begin(&parked, limits)?;
            }
        }
        Some(begun)
    }

    /// The turn of an event has not begun after all, or not gone on.
    pub fn put_back(&mut self, queued: &Queued) {
        if let Some(space) = self.spaces.get_mut(&queued.event.to) {
            space.inbox.put_back(queued);
            self.deadlines.put_back(queued.position);
        }
    }

    /// What a turn was told up to a piece is durable: the store has it, and its event.
    pub fn forget_pieces(&mut self, charm: &Did, position: u64, piece: u32) {
        if let Some(underway) = self.under_way(charm, position) {
            underway.pieces = underway.pieces.split_off(&(piece + 1));
            self.put_away(charm, position);
        }
    }

    /// A receipt is durable: the store has its message.
    pub fn forget_message(&mut self, sender: &Did, id: &EventId) {
        let (position, number) = id.sent_by();
        let receipt = self.under_way(sender, position).and_then(|underway| underway.receipts.get_mut(&number));
        if let Some(receipt) = receipt.filter(|receipt| receipt.id == *id) {
            receipt.message = None;
        }
    }

    fn under_way(&mut self, charm: &Did, position: u64) -> Option<&mut Underway> {
        self.spaces.get_mut(charm)?.inbox.underway.get_mut(position)
    }

    /// Lets the payload of a durable event go that is large, unless its turn runs.
    fn put_away(&mut self, charm: &Did, position: u64) {
        let Some(underway) = self.under_way(charm, position) else { return };
        let queued = &underway.queued;
        if underway.standing != Standing::Runs && queued.event.payload.as_bytes().len() > WAITING_PAYLOAD_BYTES {
            let event = Event { payload: Value::away(), ..queued.event.clone() };
            let away = Queued { event, ..**queued };
            self.bring_back(&Arc::new(away));
        }
    }

    /// The event of a turn under way is in memory so.
    pub fn bring_back(&mut self, queued: &Arc<Queued>) {
        let Some(underway) = self.under_way(&queued.event.to, queued.position) else { return };
        underway.queued = queued.clone();
        if let Some(open) = self.open.get_mut(&queued.event.id) {
            open.queued = Some(queued.clone());
        }
    }

    /// Notes that an event is open, and that its sender expects a receipt.
    fn expect(&mut self, queued: &Arc<Queued>) {
        let event = &queued.event;
        self.open.insert(event.id, Open { queued: Some(queued.clone()), order: self.order });
        if event.on_commit.is_some()
            && let Some(sender) = self.spaces.get_mut(&event.sender)
        {
            sender.inbox.expect_receipt();
        }
    }

    /// Puts an event where it waits: in line, or beside it until it is due.
    pub(super) fn enqueue(&mut self, queued: Arc<Queued>, chain: Chain, fits: u64, now: (u64, Duration)) {
        self.expect(&queued);
        let event = &queued.event;
        let (sender, charm, position) = (self.sender(event), event.to, queued.position);
        let (after, expires_at) = (event.deliver_after, event.expires_at);
        let due = after.filter(|after| *after > now.0).map(|after| moment(after, now));
        if let (Some(_), Some(from)) = (after, self.spaces.get(&event.sender)) {
            from.inbox.meter.add(&Sender::Own, Amount::one(event.payload.as_bytes().len()));
        }
        let of_tree = self.is_of_tree(event);
        let Some(space) = self.spaces.get_mut(&charm) else { return };
        // A delayed send begins a chain of its own (A6).
        let chain = if after.is_some() { Chain::default() } else { chain };
        match (due, expires_at) {
            (Some(due), _) => self.deadlines.add(due, charm, position),
            (None, Some(expires_at)) => self.deadlines.expire(moment(expires_at, now), queued.clone()),
            (None, None) => {}
        }
        space.inbox.push(sender, Waiting { queued, chain, fits, begun: false, of_tree }, due);
    }

    /// Returns whether the turn that sent an event is under way: it may wait for it.
    fn is_of_tree(&self, event: &Event) -> bool {
        let inbox = self.spaces.get(&event.sender).map(|space| &space.inbox).filter(|inbox| !inbox.underway.is_empty());
        let sent_by = |inbox: &Inbox| inbox.underway.get(event.id.sent_by().0).is_some();
        event.receipt_of.is_none() && !event.supplied && inbox.is_some_and(sent_by)
    }

    /// An event that took room of its sender takes none any more.
    pub(super) fn give_back(&mut self, event: &Event) {
        if let (Some(_), Some(from)) = (event.deliver_after, self.spaces.get(&event.sender)) {
            from.inbox.meter.remove(&Sender::Own, Amount::one(event.payload.as_bytes().len()));
        }
    }

    /// Returns an event that waits for a charm, or runs.
    pub fn waiting(&self, charm: &Did, id: &EventId) -> Option<Arc<Queued>> {
        let queued = self.open.get(id)?.queued.as_ref().filter(|queued| queued.event.to == *charm)?;
        self.spaces.get(charm)?.inbox.holds(queued).then(|| queued.clone())
    }

    /// Returns an event that a charm has sent and that has not begun.
    pub fn withdraw(&self, sender: &Did, id: &EventId) -> Option<Arc<Queued>> {
        let queued = self.open.get(id)?.queued.as_ref().filter(|queued| queued.event.sender == *sender)?;
        let inbox = &self.spaces.get(&queued.event.to)?.inbox;
        let waits = inbox.holds(queued) && !inbox.has_begun(queued) && inbox.underway.get(queued.position).is_none();
        (waits && queued.event.receipt_of.is_none()).then(|| queued.clone())
    }

    /// Removes an event from its inbox; returns what led to it.
    pub(super) fn dequeue(&mut self, queued: &Queued) -> Chain {
        let (charm, position) = (queued.event.to, queued.position);
        let Some(space) = self.spaces.get_mut(&charm) else { return Chain::default() };
        let chain = if let Some(Underway { deadline, chain, .. }) = space.inbox.come_back(position) {
            self.deadlines.remove(deadline, charm, position);
            Some(chain)
        } else {
            let taken = space.inbox.take(queued);
            self.left(queued, taken.as_ref().and_then(|taken| taken.due));
            taken.map(|taken| taken.chain)
        };
        if queued.event.on_commit.is_some()
            && let Some(sender) = self.spaces.get_mut(&queued.event.sender)
        {
            sender.inbox.receipt_arrived();
        }
        chain.unwrap_or_default()
    }

    /// Returns the event whose dead letter goes when there is one more.
    pub(super) fn oldest_letter(&self, charm: &Did, event: EventId) -> Option<EventId> {
        let dead = &self.spaces.get(charm)?.dead;
        let oldest = || dead.front().map_or(event, |(_, event)| *event);
        (dead.len() >= self.limits.dead_letters_max).then(oldest)
    }

    /// An event is not in its inbox any more that was not under way; it would have been due then.
    pub(super) fn left(&mut self, queued: &Queued, due: Option<Duration>) {
        self.deadlines.keep(queued.position);
        if let Some(due) = due {
            self.deadlines.remove(due, queued.event.to, queued.position);
        }
        self.give_back(&queued.event);
    }

    /// Takes dead letters out; returns their positions.
    pub(super) fn bury(&mut self, charm: &Did, events: &[EventId]) -> Vec<u64> {
        let Some(space) = self.spaces.get_mut(charm) else { return Vec::new() };
        let mut buried = Vec::with_capacity(events.len());
        for event in events {
            // They go oldest first, nearly always.
            let index = space.dead.iter().position(|(_, dead)| dead == event);
            buried.extend(index.and_then(|index| space.dead.remove(index)).map(|(position, _)| position));
        }
        buried
    }

    /// Counts a dead letter that went because there were too many; returns how many have gone so, when that is to be told.
    pub(super) fn count_gone(&mut self, charm: &Did, now: Duration) -> Option<u64> {
        let space = self.spaces.get_mut(charm)?;
        space.letters_dropped += 1;
        if space.letters_told.is_some_and(|told| now < told + DROPS_TOLD) {
            return None;
        }
        space.letters_told = Some(now);
        Some(space.letters_dropped)
    }
}
