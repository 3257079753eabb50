//! Commit records: what one commit did, self-contained, hashed and chained (I2, I3).
//!
//! A record is postcard; its hash is SHA-256 over a domain tag and its bytes, and it names the hash of the
//! record before it in the same space. The space's key signs the hash of a space's last record in each
//! durable batch, so every record is covered by a signature over it or over a later one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    did::Did,
    event::Event,
    receipt::{Outcome, Receipt},
    value::Value,
};

/// Version of the record format; the first byte of every record.
pub const VERSION: u8 = 3;
const RECORD_TAG: &[u8] = b"charm commit v3\0";
const HEAD_TAG: &[u8] = b"charm head v1\0";

/// SHA-256 of a record.
pub type Hash = [u8; 32];

/// One commit in one space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u8,
    /// The space: the DID that the commit is made for, and whose key signs.
    pub space: Did,
    /// Number in the space, from 1, without gaps.
    pub seq: u64,
    /// Hash of the record before it in the space; zeros for the first.
    pub previous: Hash,
    /// Number in the host, from 1, over all spaces: the order of commits.
    pub order: u64,
    /// When, in milliseconds since 1970; for people, nothing is ordered by it.
    pub time_ms: u64,
    /// The event that it acknowledges; none in the host's own space.
    pub taken: Option<Taken>,
    /// Cell writes.
    pub writes: Vec<Write>,
    /// Events that went out with it.
    pub sends: Vec<Sent>,
    /// Positions of dead letters that were dropped or sent again (S11).
    pub buried: Vec<u64>,
}

/// The acknowledgement of an event: the one place where its outcome is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Position in the queue.
    pub position: u64,
    /// Who sent it.
    pub sender: Did,
    /// The stream it came on.
    pub stream: Arc<str>,
    /// What became of it.
    pub receipt: Receipt,
    /// Whether it was held: events that were sent after it were answered before.
    pub late: bool,
}

/// One cell written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The cell's name in the record's space.
    pub name: Arc<str>,
    /// `order` of the record that wrote the cell before, 0 for none: history walks along it (C6).
    pub previous_order: u64,
    /// The new value; none removes. In text a list of it or of nothing: null is a value.
    #[serde(with = "written")]
    pub value: Option<Value>,
}

mod written {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::{readable, value::Value};

    pub fn serialize<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
        if readable::is_text(serializer.is_human_readable()) {
            return value.as_slice().serialize(serializer);
        }
        value.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        if readable::is_text(deserializer.is_human_readable()) {
            return Vec::deserialize(deserializer).map(|mut list| list.pop());
        }
        Option::deserialize(deserializer)
    }
}

/// One event that went out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The event.
    pub event: Event,
    /// Position in the queue; none for an event that was refused on the spot.
    pub position: Option<u64>,
    /// Why it was refused.
    pub refused: Option<Outcome>,
}

impl Record {
    /// Returns the bytes that are stored and hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a record holds nothing that postcard refuses")
    }

    /// Reads stored bytes; none when they are not exactly one record of this version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Record> {
        let (record, rest) = postcard::take_from_bytes::<Record>(bytes).ok()?;
        // Only one byte string stands for a record: postcard alone would accept padded integers.
        let exact = rest.is_empty() && record.version == VERSION && record.to_bytes() == bytes;
        exact.then_some(record)
    }
}

/// Returns the hash of a record's bytes.
pub fn hash(bytes: &[u8]) -> Hash {
    Sha256::new().chain_update(RECORD_TAG).chain_update(bytes).finalize().into()
}

/// Returns what a space's key signs for its head.
pub fn head_message(space: &Did, seq: u64, hash: &Hash) -> Vec<u8> {
    [HEAD_TAG, space.public_key(), &seq.to_be_bytes(), hash].concat()
}
