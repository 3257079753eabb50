//! What became of a send (S4, S5).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Shape, ShapeText, data};

/// How a send ended. The set is closed (S4): a text outside it does not decode, so it is never taken for success.
///
/// # Examples
/// ```
/// use charm_sdk::Outcome;
/// assert_eq!(Outcome::ConflictExhausted.to_string(), "conflict-exhausted");
/// ```
#[data]
#[derive(Copy, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The receiver handled it; what it wrote is there to be read.
    Committed,
    /// The receiver's handler returned an error. What it committed at a wait before is there all the same.
    Rejected,
    /// The receiver trapped or went over a limit.
    Faulted,
    /// The receiver's commit conflicted for too long.
    ConflictExhausted,
    /// No grant covers the send.
    Denied,
    /// There is no such charm or stream.
    NoSuchStream,
    /// Its time ran out before it was handled.
    Expired,
    /// It was taken back before it was handled.
    Cancelled,
    /// It does not fit the shape that the stream has by now.
    Misfit,
}

impl fmt::Display for Outcome {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Committed => "committed",
            Self::Rejected => "rejected",
            Self::Faulted => "faulted",
            Self::ConflictExhausted => "conflict-exhausted",
            Self::Denied => "denied",
            Self::NoSuchStream => "no-such-stream",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Misfit => "misfit",
        })
    }
}

/// The status of a send: never a transaction, a handle or the content of a cell (S5).
#[data]
pub struct Receipt {
    /// The id of the event.
    pub id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The number of the receiver's last commit of this turn, also when it failed after a wait (S5).
    pub commit: Option<u64>,
    /// What the receiver or the host says about it. At most 1 KiB.
    pub message: Option<String>,
}

impl Receipt {
    /// Goes on only when the send was committed.
    ///
    /// # Errors
    /// [`Error::NotCommitted`] for every other outcome.
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    ///
    /// let receipt = Receipt { id: "0".repeat(32), outcome: Outcome::Expired, commit: None, message: None };
    /// assert_eq!(receipt.committed().unwrap_err().to_string(), "the event was expired");
    /// ```
    pub fn committed(&self) -> Result<()> {
        match self.outcome {
            Outcome::Committed => Ok(()),
            outcome => Err(Error::NotCommitted { outcome, message: self.message.clone().unwrap_or_default() }),
        }
    }
}

/// The event of an on-commit stream: what became of a send, and the tag that was sent along (S6).
///
/// It comes for every outcome, and what it holds is had in one way: [`committed`](Self::committed) yields the tag when the
/// receiver committed; otherwise it is an error, and `?` rejects this event too. A handler that has something to do then
/// matches on it: [`Failed`] holds the tag as well. A handler that leaves it unused does not compile, so none takes a
/// failure for a success.
///
/// It is handled in this charm's own fresh transaction, whose snapshot includes the receiver's commit. Only the host
/// sends to such a stream: what anybody else sends there is `denied`.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[charm]
/// pub struct Sender { seen: Cell<String>, lost: Cell<Vec<String>> }
///
/// #[handlers]
/// impl Sender {
///     /// Goes on, or is rejected as well.
///     pub fn done(&self, done: Settled<String>) -> Result<()> {
///         self.seen.set(&done.committed()?)
///     }
///
///     /// Takes note of what did not work.
///     pub fn done_or_lost(&self, done: Settled<String>) -> Result<()> {
///         match done.committed() {
///             Ok(text) => self.seen.set(&text),
///             Err(failed) => {
///                 let mut lost = self.lost.get()?.unwrap_or_default();
///                 lost.push(format!("{}: {}", failed.tag, failed.receipt.outcome));
///                 self.lost.set(&lost)
///             }
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use = "it may have failed: `committed()?` goes on only after a commit, `match` decides"]
pub struct Settled<Tag> {
    receipt: Receipt,
    tag: Tag,
}

/// A send that did not commit. With `?` it becomes [`Error::NotCommitted`].
#[derive(Clone, Debug, PartialEq)]
pub struct Failed<Tag> {
    /// What became of the send.
    pub receipt: Receipt,
    /// What [`Stream::send_then`](crate::Stream::send_then) was given.
    pub tag: Tag,
}

impl<Tag> Settled<Tag> {
    /// Makes one, for tests.
    pub fn new(receipt: Receipt, tag: Tag) -> Self {
        Self { receipt, tag }
    }

    /// Returns what [`Stream::send_then`](crate::Stream::send_then) was given, when the send committed.
    ///
    /// # Errors
    /// [`Failed`] for every other outcome.
    pub fn committed(self) -> Result<Tag, Failed<Tag>> {
        let Self { receipt, tag } = self;
        match receipt.outcome {
            Outcome::Committed => Ok(tag),
            _ => Err(Failed { receipt, tag }),
        }
    }
}

impl<Tag> From<Failed<Tag>> for Error {
    fn from(failed: Failed<Tag>) -> Self {
        let Receipt { outcome, message, .. } = failed.receipt;
        Self::NotCommitted { outcome, message: message.unwrap_or_default() }
    }
}

impl<Tag> fmt::Display for Failed<Tag> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "the event was {}", self.receipt.outcome)
    }
}

impl<Tag: Shape> Shape for Settled<Tag> {
    const RECEIPT: bool = true;

    fn write_shape(to: &mut ShapeText) {
        to.text("{");
        to.field::<Receipt>("receipt", false);
        to.field::<Tag>("tag", false);
        to.text("}");
    }
}
