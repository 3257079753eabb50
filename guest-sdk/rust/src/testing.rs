//! A host in the test's own process: handlers run natively, under the rules of the real one.
//!
//! One transaction per event under one writer (T1, T2), nothing left after an error or a panic (T6), sends that go
//! out with the commit and in order (S1, S3), receipts and on-commit events (S4-S6), waits (S7), events that are due later
//! or expire (S10), turns that are tried again (S13), wishes and grants (D7), equal writes that are none (C4), shapes of
//! events and cells. It has no limits but that of names and of retries, no conflicts and no disk: those are the real host's
//! tests.
//!
//! While a handler waits for what it sent, or for an answer (`commit_and_send`), the queued events are handled, one after the other: those of others too, and of
//! the same charm. The handler goes on where it is: it is not run again from its start, as in the real host. What happens
//! meanwhile is in the test's hands:
//! - The other charm does not answer: [`Host::pause`]. A wait times out when nothing is left to do that could end it; the
//!   time then goes forward by its timeout.
//! - It answers something else, or does something on the way: [`Host::on_event`].
//! - The charm that waits takes another event first: [`Host::send`] both, then [`Host::run_until_idle`]. The second was
//!   there before what the first sends.
//!
//! Time stands still, but while a handler waits or sleeps and nothing is left to do, in [`Host::pass`] and in
//! [`Host::set_time`]: it goes forward from one event that is due to the next. A turn that is to be tried again gets its event
//! again then, with nothing left of the run before. After a wait a real host goes on from there; this one can not, and the
//! event is `faulted`, with words that say so.
//!
//! # Examples
//! ```
//! use charm_sdk::prelude::*;
//! use charm_sdk::testing::Host;
//!
//! #[charm]
//! pub struct Door { open: Cell<bool> }
//!
//! #[handlers]
//! impl Door {
//!     pub fn knock(&self, times: u32) -> Result<()> {
//!         if times < 3 {
//!             reject!("knock three times");
//!         }
//!         self.open.set(&true)
//!     }
//! }
//!
//! let host = Host::new();
//! let door = host.install::<Door>("door");
//!
//! let receipt = host.deliver(&door, Door::KNOCK, &1);
//! assert_eq!((receipt.outcome, receipt.message.as_deref()), (Outcome::Rejected, Some("knock three times")));
//! assert_eq!(host.cell::<bool>(&door, "open"), None);
//!
//! host.deliver(&door, Door::KNOCK, &3).committed().unwrap();
//! assert_eq!(host.cell(&door, "open"), Some(true));
//! ```

pub(crate) mod calls;
mod shapes;
mod state;
mod tree;

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use self::calls::{Again, Fault, Turn, derive};
use self::state::{Event, From, Installed, State};
use crate::__private::event;
use crate::charm::ended;
use crate::http::{Request, Response};
use crate::sent::millis;
use crate::value::{cut, decode, encode};
use crate::{Declaration, Did, Error, EventId, Handlers, Outcome, OwnStream, Receipt, Result, Shape, Value};

/// An in-process host. Clones share one state.
#[derive(Clone, Default)]
pub struct Host {
    state: Rc<RefCell<State>>,
}

impl Host {
    /// Makes a host with no charms, at the time 0, that allows no HTTP.
    pub fn new() -> Self {
        Self::default()
    }

    /// Installs the charm `C` and returns its DID, which depends on `name` only. Installing it again, also as
    /// another type, keeps its cells.
    pub fn install<C: Handlers>(&self, name: &str) -> Did {
        let did = fake_did(name);
        let installed = Installed {
            tags: C::TAGS,
            cells: C::cells().into_iter().chain(C::derived()).collect(),
            streams: C::streams(),
            handle: Rc::new(|stream, event| C::open().handle(stream, event)),
            derive: Rc::new(|name| C::open().derive(name)),
        };
        self.state.borrow_mut().charms.insert(did.clone(), installed);
        did
    }

    /// The DID that [`send`](Self::send) acts as (I4).
    pub fn outside(&self) -> Did {
        fake_did("outside")
    }

    /// Allows `reader` to read one cell of `owner`, or a family as `NAME:`, unless it is private.
    pub fn grant_read(&self, reader: &Did, owner: &Did, cell: &str) {
        self.state.borrow_mut().reads.insert((reader.clone(), owner.clone(), cell.into()));
    }

    /// Allows `sender` to send to one stream of `owner`, unless it is private.
    pub fn grant_send(&self, sender: &Did, owner: &Did, stream: &str) {
        self.state.borrow_mut().sends.insert((sender.clone(), owner.clone(), stream.into()));
    }

    /// Pins a tag for `who`: its wishes for that find `owner` alone, if it fits (D7).
    pub fn pin(&self, who: &Did, tag: &str, owner: &Did) {
        self.state.borrow_mut().pins.insert((who.clone(), tag.into()), owner.clone());
    }

    /// Takes back every grant that `to` has at `owner`.
    pub fn revoke(&self, to: &Did, owner: &Did) {
        let state = &mut *self.state.borrow_mut();
        for grants in [&mut state.reads, &mut state.sends] {
            grants.retain(|(subject, object, _)| (subject, object) != (to, owner));
        }
    }

    /// Queues an event from outside, which needs no grant, and returns its id. To a stream that takes receipts it is
    /// `denied`.
    pub fn send<E: Shape>(&self, to: &Did, stream: OwnStream<E>, event: &E) -> EventId {
        let (sender, value) = (self.outside(), encode(event).expect("the event can be encoded"));
        let state = &mut *self.state.borrow_mut();
        let id = state.next_id();
        let event = Event::new(id.clone(), From::Outside, sender, to.clone(), stream.name().into(), value);
        state.queue.push_back(event);
        id
    }

    /// Sends an event from outside, runs until nothing is left to do, and returns the receipt of the event.
    ///
    /// # Panics
    /// As [`run_until_idle`](Self::run_until_idle), when the charm is paused, and when the event is to be tried again later:
    /// [`send`](Self::send) it then, and let time [`pass`](Self::pass).
    pub fn deliver<E: Shape>(&self, to: &Did, stream: OwnStream<E>, event: &E) -> Receipt {
        let id = self.send(to, stream, event);
        self.run_until_idle();
        self.receipt(&id).expect("every event settles, unless its charm is paused or it is to be tried again later")
    }

    /// Handles queued events, and those that they lead to, as far as they are due, and returns how many there were.
    ///
    /// # Panics
    /// After 10,000 events: charms that send to each other for ever.
    pub fn run_until_idle(&self) -> usize {
        self.state.borrow_mut().taken = 0;
        while self.step() {}
        self.state.borrow().taken
    }

    /// Lets time pass, from one event that is due to the next: each is handled at its time, with what it leads to, and what
    /// has not begun in time expires. Returns how many were handled.
    ///
    /// # Panics
    /// As [`run_until_idle`](Self::run_until_idle).
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// use charm_sdk::testing::Host;
    ///
    /// const MINUTE: Duration = Duration::from_secs(60);
    ///
    /// #[charm]
    /// pub struct Clock { struck: Cell<u64> }
    ///
    /// #[handlers]
    /// impl Clock {
    ///     pub fn strike(&self, times: u64) -> Result<()> {
    ///         Self::STRIKE.send_with(&(times + 1), When::after(MINUTE))?;
    ///         self.struck.set(&times)
    ///     }
    /// }
    ///
    /// let host = Host::new();
    /// let clock = host.install::<Clock>("clock");
    /// host.deliver(&clock, Clock::STRIKE, &1);
    /// assert_eq!(host.pass(2 * MINUTE), 2);
    /// assert_eq!(host.cell(&clock, "struck"), Some(3));
    /// ```
    pub fn pass(&self, time: Duration) -> usize {
        self.state.borrow_mut().taken = 0;
        self.run_for(millis(time), || false);
        self.state.borrow().taken
    }

    /// Handles what is due, and lets time pass from one thing that happens by itself to the next, for so long at most.
    fn run_for(&self, ms: u64, is_over: impl Fn() -> bool) {
        let end = self.state.borrow().time.saturating_add(ms);
        while !is_over() {
            if self.step() {
                continue;
            }
            let state = &mut *self.state.borrow_mut();
            if state.time >= end {
                return;
            }
            state.set_time(state.next_time().map_or(end, |next| next.min(end)));
        }
    }

    /// Handles the next event of a charm that is not paused. False when there is none.
    fn step(&self) -> bool {
        let next = self.state.borrow_mut().next();
        let Some(event) = next else { return false };
        self.take(event);
        true
    }

    /// Leaves the events of a charm in the queue from now on: who waits for one sees it time out.
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// use charm_sdk::testing::Host;
    ///
    /// #[charm]
    /// pub struct Printer { printed: Cell<String> }
    ///
    /// #[handlers]
    /// impl Printer {
    ///     pub fn print(&self, text: String) -> Result<()> {
    ///         self.printed.set(&text)
    ///     }
    /// }
    ///
    /// #[charm]
    /// pub struct Office { state: Cell<String> }
    ///
    /// #[handlers]
    /// impl Office {
    ///     pub fn letter(&self, printer: Did) -> Result<()> {
    ///         let sent = Stream::open(&printer, "print").send(&"Dear all".to_string())?;
    ///         let receipt = sent.commit_and_settle(Duration::from_secs(60))?;
    ///         self.state.set(&receipt.map_or("late", |_| "printed").into())
    ///     }
    /// }
    ///
    /// let host = Host::new();
    /// let (printer, office) = (host.install::<Printer>("printer"), host.install::<Office>("office"));
    /// host.grant_send(&office, &printer, "print");
    ///
    /// host.pause(&printer);
    /// host.deliver(&office, Office::LETTER, &printer).committed().unwrap();
    /// assert_eq!(host.cell(&office, "state"), Some("late".to_string()));
    ///
    /// host.resume(&printer);
    /// host.run_until_idle();
    /// assert_eq!(host.cell(&printer, "printed"), Some("Dear all".to_string()));
    /// ```
    pub fn pause(&self, charm: &Did) {
        self.state.borrow_mut().paused.insert(charm.clone());
    }

    /// Ends [`pause`](Self::pause).
    pub fn resume(&self, charm: &Did) {
        self.state.borrow_mut().paused.remove(charm);
    }

    /// Handles the events of one stream in place of its charm from now on, in that charm's transaction: what `handle` does
    /// with cells, sends and errors is done by the charm.
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// use charm_sdk::testing::Host;
    ///
    /// #[charm]
    /// pub struct Printer { printed: Cell<String> }
    ///
    /// #[handlers]
    /// impl Printer {
    ///     pub fn print(&self, text: String) -> Result<()> {
    ///         self.printed.set(&text)
    ///     }
    /// }
    ///
    /// let host = Host::new();
    /// let printer = host.install::<Printer>("printer");
    /// host.on_event(&printer, Printer::PRINT, |text: String| {
    ///     Cell::own("printed").set(&format!("smudged {text}"))?;
    ///     if text.is_empty() {
    ///         reject!("out of paper");
    ///     }
    ///     Ok(())
    /// });
    /// host.deliver(&printer, Printer::PRINT, &"letter".into()).committed().unwrap();
    /// assert_eq!(host.cell(&printer, "printed"), Some("smudged letter".to_string()));
    /// assert_eq!(host.deliver(&printer, Printer::PRINT, &String::new()).outcome, Outcome::Rejected);
    /// ```
    pub fn on_event<E: Shape>(&self, charm: &Did, stream: OwnStream<E>, handle: impl Fn(E) -> Result<()> + 'static) {
        let handle = move |stream: &str, bytes: &[u8]| handle(event(stream, bytes)?);
        self.state.borrow_mut().stand_ins.insert((charm.clone(), stream.name().into()), Rc::new(handle));
    }

    /// Returns what became of an event, `None` while it is queued.
    pub fn receipt(&self, id: &str) -> Option<Receipt> {
        self.state.borrow().receipts.get(id).cloned()
    }

    /// Returns the receipts of all events that did not commit, also of on-commit events (S11).
    pub fn dead_letters(&self) -> Vec<Receipt> {
        self.state.borrow().dead_letters.clone()
    }

    /// Reads a cell as the operator: no grant needed. A derived cell is computed.
    ///
    /// # Panics
    /// When the cell holds something that is not a `T`, and when a derived cell can not be computed.
    pub fn cell<T: Shape>(&self, owner: &Did, name: &str) -> Option<T> {
        let is_derived = self.state.borrow().derives(owner, name);
        let value = match is_derived {
            true => Some(derive(&self.state, owner, name).unwrap_or_else(|error| panic!("{error}"))),
            false => self.state.borrow().spaces.get(owner).and_then(|cells| cells.get(name)).cloned(),
        };
        let bytes = encode(&value?).expect("a stored value can be encoded");
        Some(decode(&bytes, &format_args!("cell `{name}`")).unwrap_or_else(|error| panic!("{error}")))
    }

    /// Returns how often the cell changed. An equal write does not count (C4).
    pub fn revisions(&self, owner: &Did, name: &str) -> u64 {
        self.state.borrow().revisions.get(&(owner.clone(), name.into())).copied().unwrap_or(0)
    }

    /// Answers HTTP requests from now on. Without it every request is refused as denied.
    pub fn on_http(&self, answer: impl FnMut(&Request) -> Result<Response> + 'static) {
        self.state.borrow_mut().http = Some(Box::new(answer));
    }

    /// Returns the HTTP requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.borrow().requests.clone()
    }

    /// Returns the log so far: level and words, like `info: found 2 messages`.
    pub fn logged(&self) -> Vec<String> {
        self.state.borrow().logged.clone()
    }

    /// Sets the time of the turns to come, in milliseconds since 1970-01-01T00:00:00Z. What is due by then the next run
    /// handles, what has not begun by then expires; [`pass`](Self::pass) lets each thing happen at its time.
    pub fn set_time(&self, time: u64) {
        self.state.borrow_mut().set_time(time);
    }

    /// Handles one event in transactions of its own.
    fn take(&self, event: Event) {
        let found = self.state.borrow().handler(&event);
        let handle = match found {
            Ok(handle) => handle,
            Err(outcome) => {
                let Event { sender, to, stream, .. } = &event;
                let words = match outcome {
                    Outcome::Denied => {
                        format!("no grant lets {sender} send to {stream} of {to}: ask the operator for one")
                    }
                    _ => format!("no charm {to} is installed that has a stream {stream}"),
                };
                return self.state.borrow_mut().settle(&event, outcome, None, Some(words));
            }
        };
        let turn = Turn::begin(Rc::clone(&self.state), &event);
        let result = catch_unwind(AssertUnwindSafe(|| ended(handle(&event.stream, &event.value))));
        let (ended, committed) = turn.end();
        let state = &mut *self.state.borrow_mut();
        let (outcome, commit, message) = match result {
            Ok(Ok(())) => match state.commit(&event.to, ended) {
                Ok(commit) => (Outcome::Committed, Some(commit), None),
                Err(words) => (Outcome::Faulted, committed, Some(words)),
            },
            Ok(Err(error)) => (Outcome::Rejected, committed, Some(error.to_string())),
            Err(panic) => match panic.downcast::<Again>() {
                Ok(again) => return state.try_again(event, again.0),
                Err(panic) => (Outcome::Faulted, committed, Some(panic_text(panic))),
            },
        };
        state.settle(&event, outcome, commit, message);
    }
}

/// Checks a value against a shape, as the host does with every event and every cell that is left written.
///
/// # Errors
/// [`Error::TypeMismatch`], which names the place.
///
/// # Panics
/// When `shape` is no shape.
///
/// # Examples
/// ```
/// use charm_sdk::{Value, testing};
/// let refusal = testing::check(&Value::Integer(-2), "u32").unwrap_err();
/// assert_eq!(refusal.to_string(), "needed u32 at /, found integer out of range");
/// ```
pub fn check(value: &Value, shape: &str) -> Result<()> {
    shapes::check(value, shape)
}

/// Returns whether what fits `shape` fits `other`: what [`wish`](macro@crate::wish) asks of cells, and the other way
/// round of streams.
///
/// # Panics
/// When one of them is no shape.
pub fn fits(shape: &str, other: &str) -> bool {
    shapes::fits(shape, other)
}

impl std::fmt::Debug for Host {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Host")
    }
}

/// A `did:key` of the right form whose key comes from the name.
fn fake_did(name: &str) -> Did {
    let mut bytes = vec![0xed, 0x01];
    let mut seed = name.bytes().fold(0, |seed, byte| calls::mix(seed ^ u64::from(byte)));
    while bytes.len() < 34 {
        seed = calls::mix(seed);
        bytes.extend(seed.to_le_bytes());
    }
    format!("did:key:z{}", bs58::encode(bytes).into_string()).into()
}

fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let panic = match panic.downcast::<Fault>() {
        Ok(fault) => return fault.0,
        Err(panic) => panic,
    };
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", cut(words.unwrap_or("without words"), 256))
}
