//! Identities: `did:key` names of Ed25519 keys (I1, I4).

use std::{cell::RefCell, fmt, str::FromStr};

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::readable;

const PREFIX: &str = "did:key:z";
/// Multicodec `ed25519-pub` (0xed) as a varint.
const MULTICODEC: [u8; 2] = [0xed, 0x01];

/// The DID of a charm or of anyone outside: an Ed25519 public key.
///
/// Displayed and parsed as `did:key:z6Mk…`; debug output is the same text, and in JSON and values it stands so too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Did([u8; 32]);

/// A text that is not a usable DID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DidError {
    /// Not `did:key:z…` in base58btc.
    #[error("not a did:key in base58btc (expected did:key:z6Mk…)")]
    Syntax,
    /// Another key type, or a key of the wrong length.
    #[error("not an Ed25519 did:key (expected did:key:z6Mk…)")]
    KeyType,
    /// Bytes that are no curve point, not the canonical form of one, or a point of small order.
    #[error("not a safe Ed25519 key")]
    WeakKey,
}

thread_local! {
    /// Keys that were found good on this thread, each at a place of its own: there are few DIDs, read over and over.
    static GOOD: RefCell<Box<[[u8; 32]]>> = RefCell::new(vec![[0; 32]; 1 << 10].into());
}

impl Did {
    /// Returns the DID of a public key.
    ///
    /// # Errors
    /// `WeakKey` when the bytes are not the canonical form of a curve point of large order.
    pub fn from_public_key(bytes: [u8; 32]) -> Result<Did, DidError> {
        let place = usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % (1 << 10);
        // The place of a key that was not seen holds zeros, which are no good key.
        if bytes != [0; 32] && GOOD.with_borrow(|good| good[place] == bytes) {
            return Ok(Did(bytes));
        }
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| DidError::WeakKey)?;
        // A non-canonical encoding decompresses to a point that encodes differently.
        let canonical = VerifyingKey::from(key.to_edwards()).to_bytes() == bytes;
        if key.is_weak() || !canonical {
            return Err(DidError::WeakKey);
        }
        GOOD.with_borrow_mut(|good| good[place] = bytes);
        Ok(Did(bytes))
    }

    /// Returns the public key.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns whether `signature` over `message` was made with this DID's key, by the strict rules
    /// (no malleable signatures, no small-order points).
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

impl Serialize for Did {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        readable::write(self, &self.0, serializer)
    }
}

/// The key is checked, whatever the format.
impl<'de> Deserialize<'de> for Did {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Did, D::Error> {
        if readable::is_text(deserializer.is_human_readable()) {
            return readable::parse(deserializer);
        }
        Did::from_public_key(Deserialize::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&MULTICODEC);
        bytes[2..].copy_from_slice(&self.0);
        write!(f, "{PREFIX}{}", bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Did {
    type Err = DidError;

    fn from_str(text: &str) -> Result<Did, DidError> {
        let base58 = text.strip_prefix(PREFIX).ok_or(DidError::Syntax)?;
        // 34 bytes are at most 47 base58 digits; anything longer is no Ed25519 key.
        if base58.len() > 64 {
            return Err(DidError::KeyType);
        }
        let bytes = bs58::decode(base58).into_vec().map_err(|_| DidError::Syntax)?;
        let key: [u8; 32] =
            bytes.strip_prefix(&MULTICODEC).and_then(|key| key.try_into().ok()).ok_or(DidError::KeyType)?;
        Did::from_public_key(key)
    }
}
