//! Events and their ids (S1-S6).

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{did::Did, readable, value::Value};

mod mint;

pub(crate) use mint::Mint;

/// The id of an event and of its receipt: 16 bytes, shown as 32 hexadecimal digits.
///
/// The first 6 bytes count events, the next 2 the sends of a turn; the last 8 are keyed with the store's
/// secret, so ids sort by age and nobody can guess one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId(pub [u8; 16]);

impl EventId {
    /// Returns the position of the event whose turn sent this one, and its number among those that it sent, as the id says
    /// of itself.
    pub(crate) fn sent_by(&self) -> (u64, u16) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        (u64::from_be_bytes([0, 0, a, b, c, d, e, f]), u16::from_be_bytes([g, h]))
    }

    /// Returns the first id that an event could have which the turn of the event at a position sent: before all of them in the
    /// order of ids, and behind those of positions before.
    pub(crate) fn first_of(position: u64) -> EventId {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&position.to_be_bytes()[2..]);
        EventId(id)
    }
}

/// Its last bytes are enough: nobody chooses them.
impl Hash for EventId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

/// A text that is not an event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an event id (expected 32 hexadecimal digits)")]
pub struct EventIdError;

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        readable::write(self, &self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EventId, D::Error> {
        if readable::is_text(deserializer.is_human_readable()) {
            return readable::parse(deserializer);
        }
        Deserialize::deserialize(deserializer).map(EventId)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default() as u8;
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<EventId, EventIdError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(EventIdError);
        }
        let mut id = [0; 16];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| EventIdError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| EventIdError)?;
        }
        Ok(EventId(id))
    }
}

/// An event on its way to one charm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its id, and its receipt's.
    pub id: EventId,
    /// Who sent it.
    pub sender: Did,
    /// The charm that handles it.
    pub to: Did,
    /// The stream it goes to.
    pub stream: Arc<str>,
    /// What it carries.
    pub payload: Value,
    /// Where its receipt goes.
    pub on_commit: Option<OnCommit>,
    /// The event whose receipt this one carries: only the host makes such events (S6).
    pub receipt_of: Option<EventId>,
    /// Whether a sender outside chose the id (S9).
    pub supplied: bool,
    /// Whether its sender asked for the receipt with the event (S11): somebody outside by a request, a charm by a wait that ended
    /// the segment which sent it.
    pub awaited: bool,
    /// It is not begun before this moment, in milliseconds since 1970; until it is settled it takes room of its sender (S10).
    pub deliver_after: Option<u64>,
    /// It expires when it has not begun before this moment, in milliseconds since 1970 (S10).
    pub expires_at: Option<u64>,
}

/// Where a receipt goes (S6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnCommit {
    /// A stream of the sender's own that takes receipts.
    pub stream: Arc<str>,
    /// Comes back as it is.
    pub tag: Value,
}

/// What makes two events from outside the same event (S9).
pub(crate) fn digest(event: &Event) -> [u8; 16] {
    let stream = event.stream.as_bytes();
    let hash = Sha256::new()
        .chain_update(event.to.public_key())
        .chain_update((stream.len() as u64).to_be_bytes())
        .chain_update(stream)
        .chain_update(event.payload.as_bytes())
        .finalize();
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash[..16]);
    digest
}
