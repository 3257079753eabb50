//! `charm build`: from the source of a charm to its component.

use std::path::{Path, PathBuf};

use charm_host::Limits;
use charm_toolchain::{Toolchain, write};
use clap::Args;
use serde::Serialize;

use crate::{
    author,
    failure::{Exit, Failure},
    output::Output,
};

/// Builds the charm in a folder, or all charms of a workspace, into target/charms: finds a compiler for wasm, makes
/// components of what it builds and asks each what it is, as a host does that installs it.
///
/// Cargo's own settings hold, like CARGO_NET_OFFLINE. Without a [profile.release] in the workspace it is one for charms:
/// small, and with overflow checks.
#[derive(Args)]
pub struct Build {
    /// The folder with its Cargo.toml [default: the working folder]
    folder: Option<PathBuf>,
}

#[derive(Serialize)]
struct Built {
    name: String,
    file: String,
    bytes: usize,
    sha256: String,
}

impl Build {
    pub async fn run(&self, output: &Output) -> Result<Exit, Failure> {
        let folder = self.folder.as_deref().unwrap_or(Path::new("."));
        if !folder.join("Cargo.toml").is_file() {
            return Err(Failure::usage(format!("no Cargo.toml in {}: name the folder of a charm", folder.display())));
        }
        let toolchain = Toolchain::find(folder, &author::cache().join("sysroots"), &|line| output.note(line));
        let toolchain = toolchain.map_err(|error| Failure::host(format!("{error:#}")))?;
        let wrong = |error| Failure::charm(format!("{error:#}"));
        let charms = toolchain.charms(folder).map_err(wrong)?;
        toolchain.build(folder, &charms).map_err(wrong)?;
        let mut built = Vec::new();
        for charm in charms {
            let component = charm.encode().map_err(wrong)?;
            let described = author::describe(&charm.name, component.clone(), Limits::default());
            let (bytes, description) = (component.len(), described.await?);
            write(&charm.component, &component).map_err(|error| Failure::host(format!("{error:#}")))?;
            let file = std::env::current_dir().ok().and_then(|here| charm.component.strip_prefix(here).ok());
            let file = file.unwrap_or(&charm.component).display().to_string();
            built.push(Built { name: charm.name, file, bytes, sha256: author::hex(&description.sha256) });
        }
        output
            .print(&built, || built.iter().map(|charm| format!("{}: {} bytes", charm.file, charm.bytes)).collect())?;
        Ok(Exit::Done)
    }
}
