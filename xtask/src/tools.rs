//! Programs that are not part of Rust, built from source into `target/tools`.

use crate::root;
use anyhow::Result;
use charm_toolchain::{bare_cargo, run};
use std::path::PathBuf;
use std::process::Command;

/// Returns the program of a package of the registry, which is named alike. Builds it when that version is not there
/// yet (some minutes).
///
/// # Errors
/// When it does not build.
pub fn installed(name: &str, version: &str) -> Result<PathBuf> {
    let tools = root().join("target/tools");
    let program = tools.join("bin").join(name);
    let subcommand = name.strip_prefix("cargo-").unwrap_or(name);
    let found = [&["--version"][..], &[subcommand, "--version"]]
        .into_iter()
        .filter_map(|arguments| Command::new(&program).args(arguments).output().ok())
        .any(|found| String::from_utf8_lossy(&found.stdout).trim_end().ends_with(version));
    if !found {
        println!("building {name} {version} into target/tools, once (some minutes)");
        let mut install = bare_cargo(root());
        install.args(["install", "--quiet", "--locked", "--force", "--debug", name, "--version", version, "--root"]);
        run(install.arg(&tools))?;
    }
    Ok(program)
}
