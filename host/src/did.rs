//! Identities: `did:key` names of Ed25519 keys (I1, I4).

use std::{
    cell::RefCell,
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    str::FromStr,
    sync::LazyLock,
};

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::readable;

const PREFIX: &str = "did:key:z";
/// Multicodec `ed25519-pub` (0xed) as a varint.
const MULTICODEC: [u8; 2] = [0xed, 0x01];

/// The DID of a charm or of anyone outside: an Ed25519 public key.
///
/// Displayed and parsed as `did:key:z6Mk…`; debug output is the same text, and in JSON and values it stands so too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Did([u8; 32]);

/// Folded with keys of this process first: maps by DID are looked into at every step of a turn, and whoever makes up a DID
/// can choose its bytes.
impl Hash for Did {
    fn hash<H: Hasher>(&self, state: &mut H) {
        static KEYS: LazyLock<[u64; 4]> =
            LazyLock::new(|| [0_u8, 1, 2, 3].map(|number| RandomState::new().hash_one(number)));
        let keys = &*KEYS;
        let (words, _) = self.0.as_chunks::<8>();
        let word = |at: usize| u64::from_le_bytes(words[at]) ^ keys[at];
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            product as u64 ^ (product >> 64) as u64
        };
        state.write_u64(fold(word(0), word(1)).rotate_left(32) ^ fold(word(2), word(3)));
    }
}

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

/// DIDs that are shown or read over and over are so at once.
const TEXTS: usize = 1 << 9;

/// A DID as text: all have the same length.
type Text = [u8; PREFIX.len() + 47];
/// A DID's key and its text.
type Shown = ([u8; 32], Text);

thread_local! {
    /// DIDs shown on this thread, each at a place by its key.
    static SHOWN: RefCell<Box<[Shown]>> = RefCell::new(vec![([0; 32], [0; PREFIX.len() + 47]); TEXTS].into());
    /// DIDs read on this thread, each at a place by the end of its text.
    static READ: RefCell<Box<[Shown]>> = RefCell::new(vec![([0; 32], [0; PREFIX.len() + 47]); TEXTS].into());
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
        let place = usize::from(u16::from_le_bytes([self.0[0], self.0[1]])) % TEXTS;
        let text = SHOWN.with_borrow_mut(|shown| {
            let (key, text) = &mut shown[place];
            if *key != self.0 {
                let mut bytes = [0; 34];
                bytes[..2].copy_from_slice(&MULTICODEC);
                bytes[2..].copy_from_slice(&self.0);
                (*key, *text) = (self.0, [0; PREFIX.len() + 47]);
                text[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
                // What begins with the two bytes of the key type has 47 digits.
                let _ = bs58::encode(bytes).onto(&mut text[PREFIX.len()..]);
            }
            *text
        });
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
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
        let Ok(bytes) = Text::try_from(text.as_bytes()) else { return Did::read(text) };
        let place = usize::from(u16::from_le_bytes([bytes[bytes.len() - 1], bytes[bytes.len() - 2]])) % TEXTS;
        let known = READ.with_borrow(|read| Some(read[place]).filter(|(_, text)| *text == bytes));
        if let Some((key, _)) = known {
            return Ok(Did(key));
        }
        let did = Did::read(text)?;
        READ.with_borrow_mut(|read| read[place] = (did.0, bytes));
        Ok(did)
    }
}

#[cfg(test)]
impl Did {
    /// Returns one for each number, for tests.
    pub fn numbered(number: u8) -> Did {
        let key = ed25519_dalek::SigningKey::from_bytes(&[number; 32]).verifying_key();
        Did::from_public_key(key.to_bytes()).expect("a key")
    }
}

impl Did {
    fn read(text: &str) -> Result<Did, DidError> {
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
