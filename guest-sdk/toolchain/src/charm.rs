//! The packages that build a charm, and the component of each.

use crate::{TARGET, Toolchain, output};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use wit_component::ComponentEncoder;

/// The release profile of a charm whose workspace has none. Small components load and start fast: "s" is a fifth smaller than
/// 3. A number that grows too large is a panic, which leaves nothing behind, and not another number.
const PROFILE: [&str; 6] =
    ["opt-level=\"s\"", "lto=true", "codegen-units=1", "panic=\"abort\"", "strip=true", "overflow-checks=true"];

/// A package that builds a charm.
pub struct Charm {
    /// The name of the package.
    pub name: String,
    /// Where its component belongs: in `charms` in the target folder of its workspace.
    pub component: PathBuf,
    /// The module that cargo writes.
    module: PathBuf,
}

impl Toolchain {
    /// Lists what builds a charm: the package in `folder`, or all of a workspace that is no package itself.
    ///
    /// # Errors
    /// When there is no `Cargo.toml`, cargo does not understand it, or nothing in it builds a module.
    pub fn charms(&self, folder: &Path) -> Result<Vec<Charm>> {
        let manifest = folder.join("Cargo.toml");
        let manifest = fs::canonicalize(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        let metadata = self.metadata(folder)?;
        let target = metadata["target_directory"].as_str().context("`cargo metadata` names no target folder")?;
        let (built, components) = (Path::new(target).join(TARGET).join("release"), Path::new(target).join("charms"));
        let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_here = |package: &&Value| {
            let its = package["manifest_path"].as_str().map(fs::canonicalize);
            its.and_then(Result::ok).is_some_and(|its| its == manifest)
        };
        let here: Vec<&Value> = packages.iter().filter(is_here).collect();
        let mut charms = Vec::new();
        for package in if here.is_empty() { packages.iter().collect() } else { here } {
            for target in package["targets"].as_array().into_iter().flatten() {
                let is_module =
                    target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"));
                if let (true, Some(package), Some(name)) =
                    (is_module, package["name"].as_str(), target["name"].as_str())
                {
                    charms.push(Charm {
                        name: package.to_owned(),
                        component: components.join(format!("{package}.wasm")),
                        module: built.join(name.replace('-', "_")).with_extension("wasm"),
                    });
                }
            }
        }
        if charms.is_empty() {
            bail!(
                "{} builds no charm: write crate-type = [\"cdylib\", \"rlib\"] below [lib] in its Cargo.toml",
                folder.display()
            );
        }
        Ok(charms)
    }

    /// Builds charms of the workspace in `folder`, each with the release profile of the workspace, or one for charms where
    /// there is none.
    ///
    /// # Errors
    /// When they do not build: the compiler has said why on standard error.
    pub fn build(&self, folder: &Path, charms: &[Charm]) -> Result<()> {
        let metadata = self.metadata(folder)?;
        let root = metadata["workspace_root"].as_str().context("`cargo metadata` names no workspace")?;
        let text = fs::read_to_string(Path::new(root).join("Cargo.toml")).context("cannot read the workspace")?;
        let mut build = self.cargo(folder);
        // All settings before the subcommand: cargo forgets these for any that stand after it.
        if !text.lines().any(|line| line.trim_start().starts_with("[profile.release]")) {
            build
                .args(PROFILE.iter().flat_map(|setting| ["--config".to_owned(), format!("profile.release.{setting}")]));
        }
        build.args(["build", "--release", "--quiet", "--target", TARGET]);
        for charm in charms {
            build.args(["--package", &charm.name]);
        }
        let status = build.status().context("cannot start cargo")?;
        let names = charms.iter().map(|charm| charm.name.as_str()).collect::<Vec<_>>().join(", ");
        ensure!(status.success(), "cargo does not build {names}: what it says stands above");
        Ok(())
    }

    fn metadata(&self, folder: &Path) -> Result<Value> {
        let text = output(self.cargo(folder).args(["metadata", "--quiet", "--no-deps", "--format-version=1"]))?;
        serde_json::from_str(&text).context("cannot read the answer of `cargo metadata`")
    }
}

impl Charm {
    /// Makes the component of a charm that is built.
    ///
    /// # Errors
    /// When its module is not there, or was not made with an SDK of charms.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let module = fs::read(&self.module).with_context(|| format!("cannot read {}", self.module.display()))?;
        let component =
            ComponentEncoder::default().validate(true).module(&module).and_then(|mut encoder| encoder.encode());
        component.with_context(|| format!("cannot make a component of {}", self.name))
    }
}

/// Writes a component, whole or not at all; says whether it differs from the one that was there.
///
/// # Errors
/// When the file system refuses.
pub fn write(path: &Path, component: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == component) {
        return Ok(false);
    }
    let folder = path.parent().context("a component is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let fresh = path.with_extension("unfinished");
    fs::write(&fresh, component).with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("cannot rename to {}", path.display()))?;
    Ok(true)
}
