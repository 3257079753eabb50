//! What the in-process host keeps between turns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::calls::Ended;
use super::shapes;
use super::{Declaration, Did, Error, EventId, Outcome, Receipt, Request, Response, Result};
use crate::value::encode;
use crate::{Value, data};

/// Runs one handler of a charm: the stream, and the event.
pub type Handle = Rc<dyn Fn(&str, &[u8]) -> Result<()>>;

/// Computes a derived cell of a charm.
pub type Derive = Rc<dyn Fn(&str) -> Result<Vec<u8>>>;

/// Answers HTTP requests.
type Answer = Box<dyn FnMut(&Request) -> Result<Response>>;

type Grants = BTreeSet<(Did, Did, String)>;

#[derive(Default)]
pub struct State {
    pub charms: BTreeMap<Did, Installed>,
    /// Cells by owner and name.
    pub spaces: BTreeMap<Did, BTreeMap<String, Value>>,
    /// How often a cell changed.
    pub revisions: BTreeMap<(Did, String), u64>,
    /// How many commits a charm has.
    pub commits: BTreeMap<Did, u64>,
    /// (who, whose, cell).
    pub reads: Grants,
    /// (who, whose, stream).
    pub sends: Grants,
    /// What the operator has pinned: who wishes for which tag finds whom alone.
    pub pins: BTreeMap<(Did, String), Did>,
    /// All events that are due, in the order of sending: in order for each pair of charms too (S3).
    pub queue: VecDeque<Event>,
    /// Events that are not due yet, by time and number.
    pub later: BTreeMap<(u64, u64), Event>,
    pub receipts: BTreeMap<EventId, Receipt>,
    /// What did not commit, in the order of settling (S11).
    pub dead_letters: Vec<Receipt>,
    /// What handles the events of a stream instead of its charm.
    pub stand_ins: BTreeMap<(Did, String), Handle>,
    pub http: Option<Answer>,
    pub requests: Vec<Request>,
    pub logged: Vec<String>,
    pub time: u64,
    /// Charms whose events stay in the queue.
    pub paused: BTreeSet<Did>,
    /// How many events were handled since the test began to run them.
    pub taken: usize,
    ids: u64,
    /// How many events were put off.
    put_off: u64,
}

/// The most events of one run.
const EVENTS_MAX: usize = 10_000;

/// What the receipt of an expired event says.
const EXPIRED: &str = "it had not begun when it expired: its sender can send it again, with more time";

/// What the receipt of a withdrawn event says.
const WITHDRAWN: &str = "its sender withdrew the event before it began";

pub struct Installed {
    pub tags: &'static [&'static str],
    pub cells: Vec<Declaration>,
    pub streams: Vec<Declaration>,
    pub handle: Handle,
    pub derive: Derive,
}

impl Installed {
    /// What is declared of a cell: by itself, or by its family.
    pub fn cell(&self, name: &str) -> Option<&Declaration> {
        let named = |name: &str, family| self.cells.iter().find(|cell| cell.name == name && cell.family == family);
        named(name, false).or_else(|| named(name.split_once(':')?.0, true))
    }
}

pub struct Event {
    pub id: EventId,
    pub sender: Did,
    pub to: Did,
    pub stream: String,
    pub value: Vec<u8>,
    /// A stream of the sender, and the tag.
    pub on_commit: Option<(String, Value)>,
    pub from: From,
    pub deliver_after: Option<u64>,
    /// None also when it has begun.
    pub expires_at: Option<u64>,
    /// How often it was tried again: then it has begun.
    pub retries: u32,
}

/// Who made an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum From {
    Charm,
    Outside,
    /// The host, to bring a receipt.
    Host,
}

impl Event {
    pub fn new(id: EventId, from: From, sender: Did, to: Did, stream: String, value: Vec<u8>) -> Self {
        let (on_commit, deliver_after, expires_at) = (None, None, None);
        Self { id, sender, to, stream, value, on_commit, from, deliver_after, expires_at, retries: 0 }
    }
}

/// An on-commit event as `wit/streams.wit` says.
#[data]
struct Settled {
    receipt: Receipt,
    tag: Value,
}

impl State {
    pub fn next_id(&mut self) -> EventId {
        self.ids += 1;
        format!("{:032x}", self.ids)
    }

    /// Puts an event in line, or off until it is due.
    fn queue(&mut self, event: Event) {
        match event.deliver_after {
            Some(due) if due > self.time => {
                self.put_off += 1;
                self.later.insert((due, self.put_off), event);
            }
            _ => self.queue.push_back(event),
        }
        self.expire();
    }

    /// Sets the time: events are due by it, or expire.
    pub fn set_time(&mut self, time: u64) {
        self.time = time;
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= time) {
            self.queue.push_back(first.remove());
        }
        self.expire();
    }

    fn expire(&mut self) {
        let now = self.time;
        let is_over = |event: &Event| event.expires_at.is_some_and(|expires_at| expires_at <= now);
        while let Some(event) = self.queue.iter().position(is_over).and_then(|at| self.queue.remove(at)) {
            self.settle(&event, Outcome::Expired, None, Some(EXPIRED.into()));
        }
    }

    /// When the next thing happens by itself, after now.
    pub fn next_time(&self) -> Option<u64> {
        let due = self.later.keys().map(|(due, _)| *due);
        let over = self.queue.iter().filter_map(|event| event.expires_at);
        due.chain(over).filter(|time| *time > self.time).min()
    }

    /// Puts off an event whose handler asks for that (S13).
    pub fn try_again(&mut self, event: Event, after_ms: u64) {
        let due = self.time.saturating_add(after_ms);
        self.queue(Event { deliver_after: Some(due), expires_at: None, retries: event.retries + 1, ..event });
    }

    /// Settles an event that its sender takes back, unless it has begun (S4).
    fn withdraw(&mut self, sender: &Did, id: &str) {
        let is_meant = |event: &Event| {
            event.id == id && event.sender == *sender && event.from == From::Charm && event.retries == 0
        };
        let due = self.queue.iter().position(is_meant).and_then(|at| self.queue.remove(at));
        let later = || self.later.extract_if(.., |_, event| is_meant(event)).next().map(|(_, event)| event);
        if let Some(event) = due.or_else(later) {
            self.settle(&event, Outcome::Cancelled, None, Some(WITHDRAWN.into()));
        }
    }

    /// Takes the next event that may be handled out of the queue.
    pub fn next(&mut self) -> Option<Event> {
        let at = self.queue.iter().position(|event| !self.paused.contains(&event.to))?;
        assert!(self.taken < EVENTS_MAX, "still events after 10,000: do charms send to each other for ever?");
        self.taken += 1;
        self.queue.remove(at)
    }

    pub fn may_read(&self, reader: &Did, owner: &Did, cell: &str) -> bool {
        let declared = || self.charms.get(owner)?.cell(cell);
        // A member is granted with its family, as `NAME:`.
        let granted = cell.find(':').map_or(cell, |end| &cell[..=end]);
        reader == owner
            || self.reads.contains(&(reader.clone(), owner.clone(), granted.into()))
                && declared().is_some_and(|declared| !declared.private)
    }

    /// Whether a cell is computed from others.
    pub fn derives(&self, owner: &Did, cell: &str) -> bool {
        self.charms.get(owner).and_then(|charm| charm.cell(cell)).is_some_and(|declared| declared.derived)
    }

    /// Whether anything of `owner` was granted: only then is it there for a wish (D7).
    pub fn may_see(&self, who: &Did, owner: &Did) -> bool {
        let granted = |grants: &Grants| grants.iter().any(|(subject, object, _)| subject == who && object == owner);
        who == owner || granted(&self.reads) || granted(&self.sends)
    }

    /// Checks that what a transaction leaves written fits the declared shapes; what is wrong is the text of a fault.
    fn check_written(&self, charm: &Did, turn: &Ended) -> Result<(), String> {
        let declared = self.charms.get(charm);
        for (name, value) in &turn.writes {
            let shape = declared.and_then(|charm| charm.cell(name)).map(|declared| &declared.shape);
            if let (Some(shape), Some(value)) = (shape, value)
                && let Err(Error::TypeMismatch { at, expected, actual }) = shapes::check(value, shape)
            {
                let why = format!("type mismatch at {at}: expected {expected}, found {actual}");
                return Err(format!("cell {name} does not fit its declared shape: {why}"));
            }
        }
        Ok(())
    }

    fn stream(&self, owner: &Did, stream: &str) -> Option<&Declaration> {
        self.charms.get(owner)?.streams.iter().find(|declared| declared.name == stream)
    }

    pub fn may_send(&self, sender: &Did, owner: &Did, stream: &str) -> bool {
        let declared = self.stream(owner, stream);
        !declared.is_some_and(|declared| declared.receipts)
            && (sender == owner
                || self.sends.contains(&(sender.clone(), owner.clone(), stream.into()))
                    && !declared.is_some_and(|declared| declared.private))
    }

    /// Finds what handles an event, or the outcome of an event that nothing may handle.
    pub fn handler(&self, event: &Event) -> Result<Handle, Outcome> {
        let takes_receipts = self.stream(&event.to, &event.stream).is_some_and(|declared| declared.receipts);
        let allowed = match event.from {
            From::Charm => self.may_send(&event.sender, &event.to, &event.stream),
            From::Outside => !takes_receipts,
            From::Host => true,
        };
        if !allowed {
            return Err(Outcome::Denied);
        }
        let charm = self.charms.get(&event.to).ok_or(Outcome::NoSuchStream)?;
        self.stream(&event.to, &event.stream).ok_or(Outcome::NoSuchStream)?;
        let stand_in = self.stand_ins.get(&(event.to.clone(), event.stream.clone()));
        Ok(Rc::clone(stand_in.unwrap_or(&charm.handle)))
    }

    /// Makes a transaction's writes and sends real, all at once (T5), and returns the number of the commit, or the text of
    /// a fault.
    pub fn commit(&mut self, charm: &Did, turn: Ended) -> Result<u64, String> {
        self.check_written(charm, &turn)?;
        let space = self.spaces.entry(charm.clone()).or_default();
        for (name, value) in turn.writes {
            if space.get(&name) == value.as_ref() {
                continue;
            }
            *self.revisions.entry((charm.clone(), name.clone())).or_default() += 1;
            match value {
                Some(value) => space.insert(name, value),
                None => space.remove(&name),
            };
        }
        turn.sends.into_iter().for_each(|event| self.queue(event));
        turn.withdrawn.iter().for_each(|id| self.withdraw(charm, id));
        let commits = self.commits.entry(charm.clone()).or_default();
        *commits += 1;
        Ok(*commits)
    }

    /// Keeps the receipt, and sends it on to the sender's on-commit stream (S6).
    pub fn settle(&mut self, event: &Event, outcome: Outcome, commit: Option<u64>, message: Option<String>) {
        let receipt = Receipt { id: event.id.clone(), outcome, commit, message };
        if !matches!(receipt.outcome, Outcome::Committed | Outcome::Cancelled) {
            self.dead_letters.push(receipt.clone());
        }
        self.receipts.insert(event.id.clone(), receipt.clone());
        let Some((stream, tag)) = event.on_commit.clone() else { return };
        let value = encode(&Settled { receipt, tag }).expect("a receipt can be encoded");
        let id = self.next_id();
        let to = event.sender.clone();
        self.queue.push_back(Event::new(id, From::Host, to.clone(), to, stream, value));
    }
}

/// The answer to a request that nobody answers.
pub fn http_denied(request: &Request) -> Error {
    let origin: Vec<&str> = request.url.splitn(4, '/').take(3).collect();
    Error::Http(crate::HttpError::Denied(format!("{} {}", request.method, origin.join("/"))))
}
