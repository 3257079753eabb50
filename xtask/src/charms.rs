//! `cargo xtask charms`: builds the guest workspaces and makes each module a component in `target/charms`.

use crate::root;
use crate::toolchain::{self, TARGET, Toolchain};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use wasmparser::{ComponentTypeRef, Parser, Payload};
use wit_component::ComponentEncoder;

/// The workspaces that hold guests.
pub const WORKSPACES: [&str; 2] = ["example-charms", "tests/guests"];

/// Where components go.
const OUTPUT: &str = "target/charms";

/// What a charm may import (A1).
const OURS: &str = "charm:host/";

/// Guests whose package name starts so may import other interfaces: tests need some that do.
const MAY_IMPORT_OTHERS: &str = "wasi-";

/// A package that builds a module.
struct Guest {
    package: String,
    /// The module that cargo writes.
    module: PathBuf,
}

/// Builds every guest, or only the packages named. One run at a time; another one waits.
///
/// # Errors
/// When no toolchain is found, a guest does not build, or a component imports what the host does not offer.
pub fn run(only: &[String]) -> Result<()> {
    let output = root().join(OUTPUT);
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;
    let lock = File::create(root().join("target/.charms-lock")).context("cannot create target/.charms-lock")?;
    lock.lock().context("cannot lock target/.charms-lock")?;

    let toolchain = Toolchain::find()?;
    let mut seen = BTreeSet::new();
    for workspace in WORKSPACES {
        let folder = root().join(workspace);
        let mut guests = if has_packages(&folder) { guests(&toolchain, &folder)? } else { Vec::new() };
        guests.retain(|guest| only.is_empty() || only.contains(&guest.package));
        if guests.is_empty() {
            if only.is_empty() {
                println!("{workspace}: no guests yet");
            }
            continue;
        }
        let mut build = toolchain.cargo(&folder);
        build.args(["build", "--release", "--quiet", "--target", TARGET]);
        for guest in &guests {
            build.args(["--package", &guest.package]);
        }
        toolchain::run(&mut build)?;
        for guest in guests {
            ensure!(seen.insert(guest.package.clone()), "two guests are named {}; rename one", guest.package);
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

/// Lists the packages of a workspace that build a module.
fn guests(toolchain: &Toolchain, folder: &Path) -> Result<Vec<Guest>> {
    let mut command = toolchain.cargo(folder);
    let text = toolchain::output(command.args(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cannot read the answer of `cargo metadata`")?;
    let built = metadata["target_directory"].as_str().context("`cargo metadata` names no target folder")?;
    let built = Path::new(built).join(TARGET).join("release");
    let mut guests = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            let is_module = target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"));
            if let (true, Some(package), Some(name)) = (is_module, package["name"].as_str(), target["name"].as_str()) {
                let module = built.join(name.replace('-', "_")).with_extension("wasm");
                guests.push(Guest { package: package.to_owned(), module });
            }
        }
    }
    Ok(guests)
}

/// Writes the component of a guest when it differs from the one there, and prints its size.
fn write_component(guest: &Guest, output: &Path) -> Result<()> {
    let name = &guest.package;
    let module = fs::read(&guest.module).with_context(|| format!("cannot read {}", guest.module.display()))?;
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .with_context(|| format!("cannot make a component of {name}"))?;
    if !name.starts_with(MAY_IMPORT_OTHERS) {
        check_imports(name, &component)?;
    }
    let path = output.join(format!("{name}.wasm"));
    let is_same = fs::read(&path).is_ok_and(|old| old == component);
    if !is_same {
        let fresh = output.join(format!("{name}.unfinished"));
        fs::write(&fresh, &component).with_context(|| format!("cannot write {}", fresh.display()))?;
        fs::rename(&fresh, &path).with_context(|| format!("cannot rename to {}", path.display()))?;
    }
    println!("{name:<24} {:>8} bytes{}", component.len(), if is_same { "" } else { "  new" });
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
