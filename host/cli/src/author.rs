//! What the commands for authors share: the user's caches, and a host that describes components and keeps nothing.

use std::path::{Path, PathBuf};

use charm_host::{Charm, Compiler, Declaration, Description, Host, Limits};
use serde::Serialize;

use crate::failure::Failure;

/// Returns the folder where things are kept that can be made again, as the environment says.
pub fn cache() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let home = || named("HOME").map(|home| home.join(".cache"));
    named("XDG_CACHE_HOME").or_else(home).unwrap_or_else(std::env::temp_dir).join("charm")
}

/// Opens a host in memory with these limits, that trusts these authorities and compiles into this folder, in a process with limits.
///
/// # Errors
/// When the folder is open to others, what is trusted is no certificate, or the machine fails.
pub async fn host(code: &Path, ca: Vec<u8>, limits: Limits) -> Result<Host, Failure> {
    let helper = std::env::current_exe().map_err(|error| Failure::host(format!("cannot find myself: {error}")))?;
    Ok(Host::builder().compiler(Compiler::Helper(helper)).code_cache(code).ca(ca).limits(limits).open().await?)
}

/// Describes a component, as a host with these limits does. Errors call it by the name.
///
/// # Errors
/// Whatever an install would refuse it for.
pub async fn describe(name: &str, component: Vec<u8>, limits: Limits) -> Result<Description, Failure> {
    let plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
    let name: String = name.to_ascii_lowercase().replace('_', "-").chars().filter(plain).take(64).collect();
    let host = host(&cache().join("code"), Vec::new(), limits).await?;
    let name = if name.is_empty() { "charm".to_owned() } else { name };
    let described = host.describe(Charm::new(name, component)).await;
    host.shutdown().await?;
    Ok(described.map_err(charm_host::ManifestError::from)?)
}

/// A cell or a stream, as it is listed.
#[derive(Serialize)]
pub struct Offer {
    pub name: String,
    pub shape: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub receipts: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub derived: bool,
}

impl Offer {
    pub fn new((name, declared): (&String, &Declaration)) -> Offer {
        let Declaration { shape, private, receipts, derived, .. } = declared;
        let (private, receipts, derived) = (*private, *receipts, *derived);
        Offer { name: name.clone(), shape: shape.to_string(), private, receipts, derived }
    }

    /// Who may use it.
    pub fn whose(&self) -> &'static str {
        match (self.receipts, self.private, self.derived) {
            (true, ..) => "receipts of its own sends",
            (_, true, true) => "derived, private",
            (_, true, _) => "private",
            (.., true) => "derived, can be granted",
            _ => "can be granted",
        }
    }
}

/// Writes a hash in hexadecimal.
pub fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
