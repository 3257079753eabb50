//! Charms in Rust: plain structs and functions.
//!
//! A charm is a struct of [`Cell`]s and an `impl` of handlers. Each `pub fn` is a stream that others may send
//! events to; each event is one transaction. `Ok` commits, an `Err` or a panic leaves nothing behind (T6).
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
//! Where to look: [`Cell`] for state, [`Stream`] for sending, [`wish`](macro@wish) for finding other charms,
//! [`Committed`] for what became of a send, [`http`] for requests, [`context`] for time and identity,
//! `testing` for unit tests.

// The macros name this crate as `::charm_sdk`, also when they are used inside it.
extern crate self as charm_sdk;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
mod cell;
mod charm;
pub mod context;
mod error;
mod host;
pub mod http;
pub mod log;
mod receipt;
mod shape;
mod stream;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod value;
mod wish;

pub use cell::{At, Cell, Segment};
pub use charm::{Charm, Declaration, Handlers};
pub use error::{Error, HttpError, Result};
pub use receipt::{Committed, Outcome, Receipt};
pub use shape::{Shape, ShapeText};
pub use stream::{EventId, OnCommit, OwnStream, Stream};
pub use value::{Bytes, Did, Value};
pub use wish::{Wish, Wished};

/// Makes a struct or enum fit for cells and events.
///
/// Stands for `#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Shape)]`. The serde attributes `rename`,
/// `rename_all`, `default` and `skip_serializing_if` are understood. A field of type `Option` may be missing.
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
/// assert_eq!(Token::shape(), "{access: string, expires_at: int, scope?: string?}");
/// assert_eq!(Mode::shape(), r#""fast" | "slow""#);
/// ```
pub use charm_sdk_macros::data;

/// Writes [`Shape`] for a type that derives serde's traits itself. [`data`] does it all at once.
pub use charm_sdk_macros::Shape;

/// Makes a struct of cells a charm.
///
/// Each field is a [`Cell`] of the charm itself, named like the field in kebab-case, and published with the shape
/// of its type. `#[private]` on a field: nobody can be granted to read it.
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
/// can be granted to send there. One that takes [`Committed`] gets events from the host only.
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
        Bytes, Cell, Charm, Committed, Did, Error, EventId, Handlers, Outcome, OwnStream, Receipt, Result, Shape,
        Stream, Value, Wish, charm, context, data, handlers, http, log, reject, wish,
    };
}

/// Leaves the handler with an error: the event is rejected with this text, nothing of the turn remains (T6).
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
