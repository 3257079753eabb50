//! Makes the ids of events (S9) and the seeds of turns: keyed with the secret of the store.

use sha2::{Digest, Sha256};

use super::EventId;
use crate::did::Did;

/// Makes event ids (see [`EventId`]).
pub struct Mint {
    secret: [u8; 32],
}

impl Mint {
    /// Returns a mint for a store's secret.
    pub fn new(secret: [u8; 32]) -> Mint {
        Mint { secret }
    }

    fn keyed(&self, kind: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(self.secret).chain_update(kind);
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn with_prefix(&self, prefix: [u8; 8], kind: &[u8], parts: &[&[u8]]) -> EventId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&prefix);
        id[8..].copy_from_slice(&self.keyed(kind, parts)[..8]);
        EventId(id)
    }

    fn prefix(position: u64, number: u16) -> [u8; 8] {
        (position << 16 | u64::from(number)).to_be_bytes()
    }

    /// The `number`th send of the turn that handles the event at `position`.
    pub fn send(&self, position: u64, number: usize) -> EventId {
        let prefix = Mint::prefix(position, number as u16);
        self.with_prefix(prefix, b"send", &[&prefix])
    }

    /// An event from outside that got `position`.
    pub fn outside(&self, position: u64) -> EventId {
        let prefix = Mint::prefix(position, u16::MAX);
        self.with_prefix(prefix, b"outside", &[&prefix])
    }

    /// An event from outside with an id of its sender's own (S9).
    pub fn supplied(&self, sender: &Did, supplied: &str) -> EventId {
        let hash = self.keyed(b"supplied", &[sender.public_key(), supplied.as_bytes()]);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        EventId(id)
    }

    /// The event that carries the receipt of `id`.
    pub fn receipt_of(&self, id: &EventId) -> EventId {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&id.0[..8]);
        self.with_prefix(prefix, b"receipt", &[&id.0])
    }

    /// What the keys of the requests are made with that the turn makes which handles `id`.
    pub fn requests(&self, id: &EventId) -> [u8; 32] {
        self.keyed(b"requests", &[&id.0])
    }

    /// Seed of the randomness of the turn that handles `id`.
    pub fn seed(&self, id: &EventId) -> u64 {
        let hash = self.keyed(b"seed", &[&id.0]);
        u64::from_be_bytes(hash[..8].try_into().unwrap_or_default())
    }
}
