//! The bytes of a component: shared by all who are made from them, and known by their hash.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use sha2::{Digest, Sha256};

/// The bytes of a component. Clones share them, and their hash is taken once: make charms of the same component from clones
/// of one of these.
///
/// # Examples
/// ```
/// use charm_host::{Charm, Component};
///
/// let counter = Component::from(b"\0asm".to_vec());
/// let charms: Vec<Charm> = (0..1_000).map(|n| Charm::new(format!("counter-{n}"), counter.clone())).collect();
/// # drop(charms);
/// ```
#[derive(Clone, Default)]
pub struct Component(Arc<Inner>);

#[derive(Default)]
struct Inner {
    bytes: Arc<[u8]>,
    sha256: OnceLock<[u8; 32]>,
}

impl Component {
    /// Returns the bytes.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.0.bytes
    }

    /// Returns their SHA-256.
    pub fn sha256(&self) -> [u8; 32] {
        *self.0.sha256.get_or_init(|| Sha256::digest(&self.0.bytes).into())
    }
}

impl From<Vec<u8>> for Component {
    fn from(bytes: Vec<u8>) -> Component {
        Component(Arc::new(Inner { bytes: bytes.into(), sha256: OnceLock::new() }))
    }
}

impl PartialEq for Component {
    fn eq(&self, other: &Component) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Component {}

/// Debug output is how many bytes there are.
impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Component({} bytes)", self.0.bytes.len())
    }
}
