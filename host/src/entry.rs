//! A record's place in the host: what its own key signs, once for each durable batch (I3).
//!
//! Entries form one chain over all spaces. Each has the hash of the one before it in its own; the host's key signs the hash
//! of the last entry of a batch, the *seal*, which covers every entry before it.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    did::Did,
    record::{self, Hash},
};

const ENTRY_TAG: &[u8] = b"charm entry v1\0";
const SEAL_TAG: &[u8] = b"charm seal v1\0";

/// Log entries read at once: a record may be tens of megabytes.
pub const ENTRIES_PAGE: usize = 8;

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Number in the host, from 1, over all spaces: the order of commits.
    pub order: u64,
    /// The space.
    pub space: Did,
    /// Number in the space.
    pub seq: u64,
    /// The last position given to an event, after it: the events that go out with it and wait have the last ones.
    pub position: u64,
    /// The event that it handles.
    pub taken: Option<Taken>,
    /// The record's bytes.
    #[serde(with = "crate::bytes::record")]
    pub record: Arc<[u8]>,
    /// Signature of the host over the chain up to here, on the last entry of each batch.
    #[serde(with = "crate::bytes::seal")]
    pub seal: Option<[u8; 64]>,
}

/// The place of an event that is handled, to its end or a part of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its position in the queue.
    pub position: u64,
    /// Whether it was held: events that were sent after it were answered before.
    pub late: bool,
}

/// Records hold values: debug output is their length.
impl fmt::Debug for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit {}: record {} of {}, {} bytes", self.order, self.seq, self.space, self.record.len())
    }
}

impl LogEntry {
    /// Returns whether it handles the event at a position.
    pub(crate) fn handles(&self, position: u64) -> bool {
        self.taken.is_some_and(|taken| taken.position == position)
    }

    /// Returns its hash, which is also that of all entries before it; `previous` is that of the one before.
    pub fn hash(&self, previous: &Hash) -> Hash {
        entry_hash(previous, self.order, self.position, self.taken, &record::hash(&self.record))
    }
}

/// Returns the hash of an entry whose record has this hash.
pub(crate) fn entry_hash(previous: &Hash, order: u64, position: u64, taken: Option<Taken>, record: &Hash) -> Hash {
    let (at, late) = taken.map_or((0, false), |taken| (taken.position, taken.late));
    Sha256::new()
        .chain_update(ENTRY_TAG)
        .chain_update(previous)
        .chain_update(order.to_be_bytes())
        .chain_update(position.to_be_bytes())
        .chain_update(at.to_be_bytes())
        .chain_update([u8::from(late)])
        .chain_update(record)
        .finalize()
        .into()
}

/// Returns what the host's key signs for the entry `order` with that hash.
pub fn seal_message(host: &Did, order: u64, hash: &Hash) -> Vec<u8> {
    [SEAL_TAG, host.public_key(), &order.to_be_bytes(), hash].concat()
}
