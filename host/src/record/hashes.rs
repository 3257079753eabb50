//! What is hashed and signed of records and of what they stand for. Each begins with what it is.

use sha2::{Digest, Sha256};

use super::Hash;
use crate::{
    did::Did,
    event::{Event, EventId},
};

const RECORD_TAG: &[u8] = b"charm commit v7\0";
const RECORDING_TAG: &[u8] = b"charm recording v1\0";
const WAIT_TAG: &[u8] = b"charm wait v1\0";
const HEAD_TAG: &[u8] = b"charm head v1\0";
const CELLS_TAG: &[u8] = b"charm cells v1\0";
const EVENT_TAG: &[u8] = b"charm event v1\0";
const HEADS_TAG: &[u8] = b"charm heads v1\0";

/// Returns the hash of a record's bytes.
pub fn hash(bytes: &[u8]) -> Hash {
    Sha256::new().chain_update(RECORD_TAG).chain_update(bytes).finalize().into()
}

/// Returns the hash over what a turn was told, piece by piece: `before` is that without the last one, zeros for none, `piece` what it
/// was told in that.
pub(crate) fn recording_hash(before: &Hash, piece: &[u8]) -> Hash {
    Sha256::new().chain_update(RECORDING_TAG).chain_update(before).chain_update(piece).finalize().into()
}

/// Returns the hash over the events that a turn waits for.
pub fn wait_hash(events: &[EventId]) -> Hash {
    let hash = Sha256::new().chain_update(WAIT_TAG);
    events.iter().fold(hash, |hash, event| hash.chain_update(event.0)).finalize().into()
}

/// Returns what a space's key signs for its head.
pub fn head_message(space: &Did, seq: u64, hash: &Hash) -> Vec<u8> {
    [HEAD_TAG, space.public_key(), &seq.to_be_bytes(), hash].concat()
}

/// Returns the hash of an event's bytes.
pub fn event_hash(event: &Event) -> Hash {
    let bytes = postcard::to_stdvec(event).expect("an event holds nothing that postcard refuses");
    Sha256::new().chain_update(EVENT_TAG).chain_update(bytes).finalize().into()
}

/// The root of a space's cells: each that holds a value with its name, the number of the commit that wrote it and its bytes,
/// added in the order of the names.
pub struct CellsRoot(Sha256);

impl Default for CellsRoot {
    fn default() -> CellsRoot {
        CellsRoot(Sha256::new().chain_update(CELLS_TAG))
    }
}

impl CellsRoot {
    /// Adds the next cell.
    pub fn add(&mut self, name: &str, seq: u64, value: &[u8]) {
        self.0.update((name.len() as u64).to_be_bytes());
        self.0.update(name);
        self.0.update(seq.to_be_bytes());
        self.0.update(Sha256::digest(value));
    }

    /// Returns the root.
    pub fn end(self) -> Hash {
        self.0.finalize().into()
    }
}

/// Returns the hash over the heads of spaces: DID, number and hash of the last record of each, in the order of the DIDs.
pub fn heads_hash<'a>(heads: impl Iterator<Item = (&'a Did, u64, &'a Hash)>) -> Hash {
    let mut hash = Sha256::new().chain_update(HEADS_TAG);
    for (did, seq, head) in heads {
        hash.update(did.public_key());
        hash.update(seq.to_be_bytes());
        hash.update(head);
    }
    hash.finalize().into()
}
