//! Streams: how charms ask each other to act (S1-S6).

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::marker::PhantomData;

use crate::value::encode;
use crate::{Did, Result, Sent, Settled, Shape, When, context, host};

/// The id of an event and of its receipt: 32 lower-case hexadecimal digits.
pub type EventId = String;

/// One stream that takes events of type `E`.
///
/// A send goes out with the commit of this turn, or never (S1). The receiver handles it in a transaction of its own.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[wish("#printer")]
/// struct Printer { print: Stream<String> }
///
/// #[charm]
/// pub struct Office { printed: Cell<String> }
///
/// #[handlers]
/// impl Office {
///     pub fn letter(&self, text: String) -> Result<()> {
///         Printer::wish()?.one()?.print.send_then(&text, Self::LETTER_PRINTED, &text)?;
///         Ok(())
///     }
///
///     pub fn letter_printed(&self, done: Settled<String>) -> Result<()> {
///         self.printed.set(&done.committed()?)
///     }
/// }
/// ```
pub struct Stream<E> {
    /// None is this charm.
    owner: Option<Did>,
    name: Cow<'static, str>,
    handle: OnceCell<host::Stream>,
    event: PhantomData<fn(E)>,
}

impl<E> Stream<E> {
    /// What a link names.
    pub(crate) fn of(owner: Did, name: String) -> Self {
        Self::new(Some(owner), Cow::Owned(name), OnceCell::new())
    }

    /// Its owner and its name.
    pub(crate) fn place(&self) -> (Did, String) {
        (self.owner.clone().unwrap_or_else(context::me), self.name.clone().into_owned())
    }

    fn new(owner: Option<Did>, name: Cow<'static, str>, handle: OnceCell<host::Stream>) -> Self {
        Self { owner, name, handle, event: PhantomData }
    }
}

impl<E: Shape> Stream<E> {
    /// Names a stream of the charm `owner`, for a name that is known only when the charm runs.
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// fn answer(words: String) -> Result<Sent> {
    ///     Stream::open(&context::sender(), "answer").send(&words)
    /// }
    /// # let _ = answer;
    /// ```
    pub fn open(owner: &Did, name: impl Into<String>) -> Self {
        Self::new(Some(owner.clone()), Cow::Owned(name.into()), OnceCell::new())
    }

    /// A stream that the host has opened already.
    pub(crate) fn found(owner: Did, name: &'static str, handle: host::Stream) -> Self {
        Self::new(Some(owner), Cow::Borrowed(name), handle.into())
    }

    /// Returns the DID of the charm that handles it.
    pub fn owner(&self) -> Did {
        self.owner.clone().unwrap_or_else(context::me)
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stages an event. Its [`Sent`] can be waited for.
    ///
    /// # Errors
    /// [`QueueFull`](crate::Error::QueueFull), [`TypeMismatch`](crate::Error::TypeMismatch) when the event does not
    /// fit the stream's shape, [`Limit`](crate::Error::Limit). A send that no grant covers is no error here: its
    /// receipt says so.
    pub fn send(&self, event: &E) -> Result<Sent> {
        self.send_with(event, When::at_once())
    }

    /// Stages an event; when its outcome settles, whatever it is, the stream `then` of this charm gets the receipt
    /// and `tag` (S6). The tag is what the handler needs to go on.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_then<C: OnCommit>(&self, event: &E, then: OwnStream<C>, tag: &C::Tag) -> Result<Sent> {
        self.send_with(event, When::at_once().then(then, tag)?)
    }

    /// Stages an event that is handled later, or in time or never: see [`When`].
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Invalid`](crate::Error::Invalid) when it would expire before it is due.
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// fn bid(auction: &Stream<u64>, cents: u64) -> Result<Sent> {
    ///     auction.send_with(&cents, When::at_once().expires_after(Duration::from_secs(30)))
    /// }
    /// # let _ = bid;
    /// ```
    pub fn send_with(&self, event: &E, when: When) -> Result<Sent> {
        self.handle()?.send(encode(event)?, when).map(Sent::new)
    }

    fn handle(&self) -> Result<&host::Stream> {
        if let Some(handle) = self.handle.get() {
            return Ok(handle);
        }
        let handle = host::Stream::open(self.owner.as_ref(), &self.name)?;
        Ok(self.handle.get_or_init(|| handle))
    }
}

impl<E> fmt::Debug for Stream<E> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Stream").field("owner", &self.owner).field("name", &self.name).finish()
    }
}

/// The name of a stream that a charm handles itself. `#[handlers]` makes one constant for each.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[charm]
/// pub struct Counter { left: Cell<u32> }
///
/// #[handlers]
/// impl Counter {
///     pub fn count_down(&self, from: u32) -> Result<()> {
///         if from > 0 {
///             Self::COUNT_DOWN.send(&(from - 1))?; // the next step, in its own transaction
///         }
///         self.left.set(&from)
///     }
/// }
/// ```
pub struct OwnStream<E> {
    name: &'static str,
    event: PhantomData<fn(E)>,
}

impl<E> OwnStream<E> {
    #[doc(hidden)]
    pub const fn new(name: &'static str) -> Self {
        Self { name, event: PhantomData }
    }

    /// Returns its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<E: Shape> OwnStream<E> {
    /// Stages an event for this charm itself.
    ///
    /// # Errors
    /// As [`Stream::send`].
    pub fn send(&self, event: &E) -> Result<Sent> {
        self.send_with(event, When::at_once())
    }

    /// Stages an event for this charm itself that is handled later, or in time or never: see [`When`].
    ///
    /// # Errors
    /// As [`Stream::send_with`].
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    ///
    /// #[charm]
    /// pub struct Clock { struck: Cell<u64> }
    ///
    /// #[handlers]
    /// impl Clock {
    ///     /// Strikes again in an hour.
    ///     pub fn strike(&self, hours: u64) -> Result<()> {
    ///         Self::STRIKE.send_with(&(hours + 1), When::after(Duration::from_secs(3600)))?;
    ///         self.struck.set(&hours)
    ///     }
    /// }
    /// ```
    pub fn send_with(&self, event: &E, when: When) -> Result<Sent> {
        Stream::<E>::new(None, Cow::Borrowed(self.name), OnceCell::new()).send_with(event, when)
    }
}

impl<E> Clone for OwnStream<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for OwnStream<E> {}

impl<E> fmt::Debug for OwnStream<E> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "OwnStream({})", self.name)
    }
}

/// The event of a stream that can take receipts: [`Settled`], and nothing else.
#[diagnostic::on_unimplemented(
    message = "a receipt can not go to a stream whose event is `{Self}`",
    label = "this stream does not take `Settled<..>`",
    note = "write its handler as `pub fn name(&self, done: Settled<Tag>) -> Result<()>`"
)]
pub trait OnCommit: Shape {
    /// What comes back with the receipt.
    type Tag: Shape;
}

impl<Tag: Shape> OnCommit for Settled<Tag> {
    type Tag = Tag;
}
