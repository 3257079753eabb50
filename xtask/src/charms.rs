//! `cargo xtask charms`: builds the guest workspaces and makes each module a component in `target/charms`.

use crate::{root, say};
use anyhow::{Context, Result, bail, ensure};
use charm_toolchain::{Charm, Toolchain, write};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use wasmparser::{ComponentTypeRef, Parser, Payload};

/// The workspaces that hold guests.
pub const WORKSPACES: [&str; 2] = ["example-charms", "tests/guests"];

/// Where components go.
const OUTPUT: &str = "target/charms";

/// Where a standard library for guests is kept.
pub const SYSROOTS: &str = "target/guest-sysroot";

/// What a charm may import (A1).
const OURS: &str = "charm:host/";

/// Guests whose package name starts so may import other interfaces: tests need some that do.
const MAY_IMPORT_OTHERS: &str = "wasi-";

/// Builds every guest, or only the packages named. One run at a time; another one waits.
///
/// # Errors
/// When no toolchain is found, a guest does not build, or a component imports what the host does not offer.
pub fn run(only: &[String]) -> Result<()> {
    let output = root().join(OUTPUT);
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;
    let lock = File::create(root().join("target/.charms-lock")).context("cannot create target/.charms-lock")?;
    lock.lock().context("cannot lock target/.charms-lock")?;

    let toolchain = Toolchain::find(root(), &root().join(SYSROOTS), &say)?;
    let mut seen = BTreeSet::new();
    for workspace in WORKSPACES {
        let folder = root().join(workspace);
        let mut guests = if has_packages(&folder) { toolchain.charms(&folder)? } else { Vec::new() };
        guests.retain(|guest| only.is_empty() || only.contains(&guest.name));
        if guests.is_empty() {
            if only.is_empty() {
                println!("{workspace}: no guests yet");
            }
            continue;
        }
        toolchain.build(&folder, &guests)?;
        for guest in guests {
            ensure!(seen.insert(guest.name.clone()), "two guests are named {}; rename one", guest.name);
            write_component(&guest, &output)?;
        }
    }
    if let Some(name) = only.iter().find(|name| !seen.contains(*name)) {
        bail!("no guest is named {name}; guests are the cdylib packages of {}", WORKSPACES.join(" and "));
    }
    if only.is_empty() {
        remove_others(&output, &seen)?;
    }
    Ok(())
}

/// Says whether any folder holds a package: cargo refuses a workspace without one.
pub fn has_packages(workspace: &Path) -> bool {
    let folders = fs::read_dir(workspace).into_iter().flatten().flatten();
    folders.into_iter().any(|folder| folder.path().join("Cargo.toml").is_file())
}

/// Writes the component of a guest when it differs from the one there, and prints its size.
fn write_component(guest: &Charm, output: &Path) -> Result<()> {
    let name = &guest.name;
    let component = guest.encode()?;
    if !name.starts_with(MAY_IMPORT_OTHERS) {
        check_imports(name, &component)?;
    }
    let is_new = write(&output.join(format!("{name}.wasm")), &component)?;
    println!("{name:<24} {:>8} bytes{}", component.len(), if is_new { "  new" } else { "" });
    Ok(())
}

/// Refuses a component that imports anything but the interfaces of `charm:host`.
fn check_imports(name: &str, component: &[u8]) -> Result<()> {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.with_context(|| format!("cannot read the component of {name}"))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    let import = import.with_context(|| format!("cannot read an import of {name}"))?;
                    let (from, is_alias) = (import.name.name, matches!(import.ty, ComponentTypeRef::Type(_)));
                    ensure!(
                        is_alias || from.starts_with(OURS),
                        "{name} imports {from}, but a charm may import only {OURS}...: find the crate that wants it and \
                         do without (a test guest that needs it is named {MAY_IMPORT_OTHERS}...)"
                    );
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes components of guests that are gone.
fn remove_others(output: &Path, kept: &BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(output).with_context(|| format!("cannot read {}", output.display()))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if !kept.contains(name) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
