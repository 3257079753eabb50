//! Receipts: what became of a send (S4, S5).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    event::{Event, EventId},
    limits::NAME_BYTES_MAX,
    text::clip,
};

/// What became of an event. A closed set (S4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The receiver handled it and its transaction is durable.
    Committed,
    /// The receiver's handler returned an error; nothing of its turn remains.
    Rejected,
    /// The receiver's handler trapped or passed a limit; nothing of its turn remains.
    Faulted,
    /// The turn met conflicting commits until its time budget was spent (T4).
    ConflictExhausted,
    /// The sender has no grant for that stream.
    Denied,
    /// There is no such charm or stream.
    NoSuchStream,
    /// The event was not taken in time.
    Expired,
    /// The event was withdrawn before it was taken.
    Cancelled,
    /// The event does not fit its stream any more; it was not handed over (H2).
    Misfit,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 9] = [
        Outcome::Committed,
        Outcome::Rejected,
        Outcome::Faulted,
        Outcome::ConflictExhausted,
        Outcome::Denied,
        Outcome::NoSuchStream,
        Outcome::Expired,
        Outcome::Cancelled,
        Outcome::Misfit,
    ];

    /// Returns the name as it stands in receipts and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Committed => "committed",
            Outcome::Rejected => "rejected",
            Outcome::Faulted => "faulted",
            Outcome::ConflictExhausted => "conflict-exhausted",
            Outcome::Denied => "denied",
            Outcome::NoSuchStream => "no-such-stream",
            Outcome::Expired => "expired",
            Outcome::Cancelled => "cancelled",
            Outcome::Misfit => "misfit",
        }
    }
}

impl Outcome {
    /// Returns whether an event that ends so becomes a dead letter: every failure, but no rejection that the sender is
    /// told of (S11). What was cancelled the operator has seen.
    pub(crate) fn leaves_letter(self, event: &Event) -> bool {
        match self {
            Outcome::Committed | Outcome::Cancelled => false,
            Outcome::Rejected => !event.awaited && event.on_commit.is_none(),
            _ => true,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Status only: never a transaction, a handle or cell content (S5). At most 2 KiB encoded (T7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The event's id.
    pub id: EventId,
    /// What became of it.
    pub outcome: Outcome,
    /// The receiver's sequence number when committed.
    pub commit: Option<u64>,
    /// Why not, in at most 1 KiB of text.
    pub message: Option<String>,
}

impl Receipt {
    /// Returns whether the message is missing that every failure has.
    pub(crate) fn is_bare(&self) -> bool {
        self.outcome != Outcome::Committed && self.message.is_none()
    }

    /// Goes on only when the event was committed.
    ///
    /// # Errors
    /// [`NotCommitted`] for every other outcome.
    ///
    /// # Examples
    /// ```
    /// # async fn example(host: charm_host::Host, counter: charm_host::Did) -> Result<(), Box<dyn std::error::Error>> {
    /// use charm_host::NewEvent;
    ///
    /// let receipt = host.request(NewEvent::new(counter, "add", &1)).await?.committed()?;
    /// # drop(receipt);
    /// # Ok(())
    /// # }
    /// ```
    pub fn committed(self) -> Result<Receipt, NotCommitted> {
        if self.outcome == Outcome::Committed { Ok(self) } else { Err(NotCommitted { receipt: self }) }
    }
}

/// An event that came to another end than a commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {}: {}: {}", receipt.id, receipt.outcome, receipt.message.as_deref().unwrap_or("nothing more is known"))]
pub struct NotCommitted {
    /// What became of it, and why.
    pub receipt: Receipt,
}

/// The receipt of an event that was refused on the spot. The log holds its outcome alone: these texts belong to the
/// store's format.
pub(crate) fn refused(event: &Event, outcome: Outcome) -> Receipt {
    let Event { id, sender, to, stream, .. } = event;
    let stream = clip(stream, NAME_BYTES_MAX);
    let message = match outcome {
        Outcome::Denied => format!("no grant lets {sender} send to {stream} of {to}: ask the operator for one"),
        _ => format!("no charm {to} is installed that has a stream {stream}"),
    };
    Receipt { id: *id, outcome, commit: None, message: Some(message) }
}
