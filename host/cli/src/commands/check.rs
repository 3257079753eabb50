//! `charm check`: what `charm run` would refuse in a manifest, and what looks wrong there.

use std::path::{Path, PathBuf};

use charm_host::{FileKeyring, Finding, Keyring, Manifest, SpaceInfo};
use clap::Args;
use serde::Serialize;

use crate::{
    Globals, author,
    failure::{Exit, Failure},
    output::Output,
    place,
};

/// Looks at a manifest and its components and runs nothing: says all that `charm run` would refuse, and what it would take
/// and looks wrong, like a charm that asks for HTTP and may call nobody. Reads the store and the keys where they are.
#[derive(Args)]
pub struct Check {
    /// The manifest [default: charms.toml]
    #[arg(value_name = "MANIFEST", conflicts_with = "manifest")]
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Told {
    refused: bool,
    text: String,
}

impl Check {
    pub async fn run(&self, globals: &Globals, output: &Output) -> Result<Exit, Failure> {
        let manifest = match &self.file {
            None => place::manifest(globals)?,
            Some(file) => place::manifest_in(file, globals)?,
        };
        let mut told = Vec::new();
        let mut tell = |refused: bool, text: String| told.push(Told { refused, text });
        let spaces = match spaces(&manifest) {
            Ok(spaces) => spaces,
            Err(failure) => {
                tell(true, failure.error);
                Vec::new()
            }
        };
        keys(&manifest, &spaces, &mut tell);
        // The host's own code, where it is: what is compiled here need not be compiled again.
        let user = author::cache().join("code");
        let code: &Path = if manifest.cache.is_dir() { &manifest.cache } else { &user };
        let host = async { author::host(code, place::authorities(&manifest)?, manifest.limits.clone()).await };
        match host.await {
            Err(failure) => tell(true, failure.error),
            Ok(host) => {
                let found = manifest.check(&host, &spaces).await;
                host.shutdown().await?;
                told.extend(found.into_iter().map(|Finding { is_refused, text }| Told { refused: is_refused, text }));
            }
        }
        output.print(&told, || {
            let line = |told: &Told| format!("{}: {}", if told.refused { "refused" } else { "looks wrong" }, told.text);
            let mut lines: Vec<String> = told.iter().map(line).collect();
            if lines.is_empty() {
                let names: Vec<&str> = manifest.charms.keys().map(String::as_str).collect();
                lines.push(format!(
                    "all is well: {}",
                    if names.is_empty() { "no charms".into() } else { names.join(", ") }
                ));
            }
            lines
        })?;
        Ok(if told.iter().any(|told| told.refused) { Exit::Usage } else { Exit::Done })
    }
}

/// Returns the spaces of the manifest's store, as far as there is one.
fn spaces(manifest: &Manifest) -> Result<Vec<SpaceInfo>, Failure> {
    if !manifest.store.exists() {
        return Ok(Vec::new());
    }
    Ok(place::archive_of(&manifest.store)?.spaces())
}

/// Looks whether the keys are there that the charms of the manifest need. Without its key a charm of the store is left out.
fn keys(manifest: &Manifest, spaces: &[SpaceInfo], tell: &mut impl FnMut(bool, String)) {
    let of_store = |name: &String| spaces.iter().find(|space| space.name == *name).map(|space| space.did);
    if !manifest.keys.exists() {
        if let Some(name) = manifest.charms.keys().find(|name| of_store(name).is_some()) {
            tell(
                true,
                format!("no folder {}: the store has charms with keys from there, {name}", manifest.keys.display()),
            );
        }
        return;
    }
    let keyring = match FileKeyring::open(&manifest.keys) {
        Ok(keyring) => keyring,
        Err(error) => return tell(true, error.to_string()),
    };
    for (name, spec) in &manifest.charms {
        let pinned = || spec.did.as_ref()?.parse().ok();
        if let Some(Err(error)) = of_store(name).or_else(pinned).map(|did| keyring.check(&did)) {
            tell(of_store(name).is_none(), format!("charm {name}: {error}"));
        }
    }
}
