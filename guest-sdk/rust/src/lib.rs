//! Charms in Rust: plain structs and functions.
//!
//! A charm is a struct of [`Cell`]s and an `impl` of handlers. Each `pub fn` is a stream that others may send
//! events to; each event is one transaction. `Ok` commits, an `Err` or a panic leaves nothing behind (T6). Only a handler
//! that waits for what it [`Sent`] has more than one.
//!
//! ```
//! use charm_sdk::prelude::*;
//!
//! /// What a cell holds or an event carries.
//! #[data]
//! pub struct Add { amount: i64 }
//!
//! #[charm(tags("#counter"))]
//! pub struct Counter { total: Cell<i64> }
//!
//! #[handlers]
//! impl Counter {
//!     /// Becomes the stream `add`.
//!     pub fn add(&self, event: Add) -> Result<()> {
//!         let total = self.total.get()?.unwrap_or(0);
//!         self.total.set(&(total + event.amount))
//!     }
//! }
//!
//! // The same charm in a unit test, without wasm:
//! # #[cfg(not(target_arch = "wasm32"))] {
//! let host = charm_sdk::testing::Host::new();
//! let counter = host.install::<Counter>("counter");
//! host.deliver(&counter, Counter::ADD, &Add { amount: 2 });
//! assert_eq!(host.cell(&counter, "total"), Some(2));
//! # }
//! ```
//!
//! A charm has no terminal: what `std::println!` and its like print is lost. Inside `#[handlers]` `println!`, `print!`,
//! `eprintln!`, `eprint!` and `dbg!` write to the [`log`]. Elsewhere say `use charm_sdk::println;` (or `log::info`): where
//! the prelude is in scope and that is missing, a build for wasm stops with "`println` is ambiguous". What libraries print
//! is lost all the same.
//!
//! Build charms with overflow checks (`overflow-checks = true` in `[profile.release]`): without, `let n = 8u32 - 9` wraps
//! around and commits; with them it is a fault, of which nothing remains.
//!
//! Where to look: [`Cell`] and [`Cells`] for state, [`Stream`] for sending, [`Link`] for cells and streams in values,
//! [`wish`](macro@wish) for finding other charms,
//! [`Sent`] and [`Settled`] for what became of a send, [`When`], [`commit_and_sleep`] and [`retry!`] for later, [`http`] for
//! requests, [`context`] for time and identity, `testing` for unit tests.

// The macros name this crate as `::charm_sdk`, also when they are used inside it.
extern crate self as charm_sdk;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
mod cell;
mod cells;
mod charm;
pub mod context;
mod derived;
mod error;
mod host;
pub mod http;
mod key;
mod link;
pub mod log;
mod print;
mod receipt;
mod sent;
mod shape;
mod stream;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod value;
mod when;
mod wish;

/// The serde that [`data`] derives with, for modules that a field is written `with`, and for types that are no data:
/// `#[derive(charm_sdk::serde::Deserialize)] #[serde(crate = "charm_sdk::serde")]`.
pub use serde;

pub use cell::{At, Cell, Floats, Integers, Number, Segment};
pub use cells::{Cells, Cleared, Members};
pub use charm::{Charm, Declaration, Handlers};
pub use derived::Derived;
pub use error::{Error, HttpError, Result};
pub use key::Key;
pub use link::{Link, StreamLink};
#[doc(hidden)]
pub use print::{Dbg, printed};
pub use receipt::{Failed, Outcome, Receipt, Settled};
pub use sent::{Sent, cancel, commit_and_settle_all, commit_and_settle_first, commit_and_sleep, commit_and_wait_all};
pub use shape::{Shape, ShapeText};
pub use stream::{EventId, OnCommit, OwnStream, Stream};
pub use value::{Bytes, Cid, Did, Value};
pub use when::When;
pub use wish::{Fitting, Wish, Wished};

/// Makes a struct or enum fit for cells and events.
///
/// Stands for `#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Shape)]`. A field of type `Option` may be missing.
///
/// The shape says what serde's derives write and read: names as serde makes them, ranges of integers, tuples item by item.
/// serde's attributes are followed, or refused when the type is compiled:
///
/// | followed | refused, with what to do instead |
/// |---|---|
/// | `rename`, `rename_all`, `rename_all_fields`, `alias` | another name for reading than for writing |
/// | `default`, `skip`, `skip_serializing`, `skip_deserializing`, `skip_serializing_if` | what would be written and not read again |
/// | `tag`, `tag` with `content`, `untagged`, `transparent`, `flatten` | `untagged` on one variant |
/// | `from` or `try_from` with `into`, of one type | one of them alone |
/// | `deny_unknown_fields`, `other` where all variants are plain | `other` beside variants that carry something |
/// | `bound`, `crate`, `expecting` | `with` and its like, `remote` |
///
/// What the shape can not follow, `#[shape("..")]` can say: on a field that is written `with` a module, or above the whole
/// type. It stands in the words of `wit/README.md` and is taken as it is.
///
/// Two things a shape does not say; what does not fit them is refused when it is decoded, with place and reason. A type
/// that holds itself is `any` there: in `struct Tree { children: Vec<Tree> }` all below the first level. And what only the
/// type's own code knows: that a `char` is one character, that an `f32` does not reach as far as a float, what `try_from`
/// checks.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[data]
/// pub struct Token { access: String, expires_at: u64, scope: Option<String> }
///
/// #[data]
/// pub enum Mode { #[serde(rename = "fast")] Fast, #[serde(rename = "slow")] Slow }
///
/// assert_eq!(Token::shape(), "{access: string, expires_at: u64, scope?: string?}");
/// assert_eq!(Mode::shape(), r#""fast" | "slow""#);
/// ```
pub use charm_sdk_macros::data;

/// Writes [`Shape`] for a type that derives serde's traits itself. [`data`] does it all at once.
pub use charm_sdk_macros::Shape;

/// Makes a struct of cells a charm.
///
/// Each field is a [`Cell`] or a family of [`Cells`] of the charm itself, named like the field in kebab-case, and published with
/// the shape of its type. `#[private]` on a field: nobody can be granted to read it.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[charm(tags("#notes"))]
/// pub struct Notes {
///     last_note: Cell<String>, // the cell `last-note`
///     #[private]
///     draft: Cell<String>,
/// }
/// # let _ = |n: Notes| (n.last_note, n.draft);
/// assert_eq!(Notes::TAGS, ["#notes"]);
/// ```
pub use charm_sdk_macros::charm;

/// Makes each `pub fn` of an `impl` a stream of the charm, and the type a component.
///
/// A handler is `pub fn name(&self, event: Event) -> Result<()>`. It becomes the stream `name` in kebab-case and
/// the constant `NAME`, an [`OwnStream`]. Functions without `pub` stay what they are. `#[private]` on a handler: nobody
/// can be granted to send there. One that takes [`Settled`] gets events from the host only, and compiles only when it
/// looks at what became of the send.
///
/// `#[derived] pub fn name(&self) -> Result<T>` becomes the derived cell `name` and the constant `NAME`, a [`Derived`]: the host
/// computes it when somebody reads it, and again only when something that it has read has another value (D1-D5). It reads
/// cells, of other charms too, and derived ones; a write, a send or a request there is an error.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[charm]
/// pub struct Greeter { greeting: Cell<String> }
///
/// #[handlers]
/// impl Greeter {
///     pub fn say_hello(&self, to: String) -> Result<()> {
///         self.greeting.set(&self.words(&to))
///     }
///
///     fn words(&self, to: &str) -> String {
///         format!("Hello, {to}")
///     }
/// }
/// assert_eq!(Greeter::SAY_HELLO.name(), "say-hello");
/// ```
pub use charm_sdk_macros::handlers;

/// Describes another charm by its tag and by the cells and streams that it must offer (D7).
///
/// The struct gets a function `wish()`, which asks the host each time it is called.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[wish("#clock")]
/// struct Clock { now: Cell<u64>, set_alarm: Stream<u64> }
///
/// fn wake_in_an_hour() -> Result<()> {
///     let clock = Clock::wish()?.one()?;
///     let now = clock.now.need()?;
///     clock.set_alarm.send(&(now + 3_600_000))?;
///     Ok(())
/// }
/// # let _ = wake_in_an_hour;
/// ```
pub use charm_sdk_macros::wish;

/// What a charm needs in scope: `use charm_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Bytes, Cell, Cells, Charm, Derived, Did, Error, EventId, Fitting, Handlers, Link, Outcome, OwnStream, Receipt,
        Result, Sent, Settled, Shape, Stream, StreamLink, Value, When, Wish, cancel, charm, commit_and_settle_all,
        commit_and_settle_first, commit_and_sleep, commit_and_wait_all, context, data, handlers, http, log, reject,
        retry, wish,
    };
    pub use std::time::Duration;
    // Against those of `std`, whose words nobody would ever see: outside of `#[handlers]` the compiler asks which one.
    #[cfg(target_arch = "wasm32")]
    pub use crate::{dbg, eprint, eprintln, print, println};
}

/// Leaves the handler with an error: the event is rejected with this text, nothing of its transaction remains (T6).
///
/// Takes what `format!` takes. The text reaches the sender, so keep secrets out of it. Cut at 1 KiB.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// fn check(amount: i64) -> Result<()> {
///     if amount < 0 {
///         reject!("an amount is not negative, this one is {amount}");
///     }
///     Ok(())
/// }
/// assert_eq!(check(-1).unwrap_err().to_string(), "an amount is not negative, this one is -1");
/// ```
#[macro_export]
macro_rules! reject {
    ($($words:tt)*) => {
        return ::core::result::Result::Err($crate::Error::reject(::core::format_args!($($words)*)))
    };
}

/// Leaves the handler with an error that has its turn tried again after a time (S13): nothing of its present transaction
/// remains, and the handler gets its event again.
///
/// Takes a `Duration` and what `format!` takes. Meanwhile the charm takes other events. The event settles when the turn ends
/// in another way; its sender learns nothing before. Where the host refuses, after 16 times unless its operator says another
/// number (`retries-max`), the event is rejected with the limit's name and these words: keep secrets out of them.
/// [`context::retries`] says how often it was tried again.
///
/// A handler that has waited ([`Sent`]) goes on from its last wait: what it committed there stays, and is not done again. The
/// answer that it waited for ([`commit_and_send`](http::Request::commit_and_send)) is the same again: to ask the server again, use
/// [`send`](http::Request::send), or a loop with [`commit_and_sleep`].
///
/// It is an error like others: `?` in a helper passes it on, and [`Error::retry_after`] makes one without leaving.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// fn weather(city: &str) -> Result<String> {
///     let answer = http::Request::get("https://weather.example/now").query(&[("city", city)]).send()?;
///     match answer.status {
///         200 => answer.json(),
///         503 => retry!(Duration::from_secs(5), "no weather for {city}: the server is down"),
///         status => reject!("the weather server answered {status}"),
///     }
/// }
/// # let _ = weather;
/// ```
#[macro_export]
macro_rules! retry {
    ($after:expr, $($words:tt)*) => {
        return ::core::result::Result::Err($crate::Error::retry_after($after, ::core::format_args!($($words)*)))
    };
}
