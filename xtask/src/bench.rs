//! `cargo xtask bench`: figures as ratios, taken side by side in one run.

use anyhow::{Result, ensure};
use std::process::{Command, Stdio};

use crate::root;

/// Builds the guests and measures turns against bare wasmtime, `--json` with one object a line; or, for `attacks`, how
/// long a neighbour waits beside each hostile charm, or only those that are named.
///
/// # Errors
/// When something does not build, or a bench fails.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(("attacks", kinds)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return bench("probe", &["--package", "charm-conformance", "--bench", "attacks", "--"], kinds);
    }
    let is_json = arguments.iter().all(|argument| argument == "--json") && arguments.len() <= 1;
    ensure!(is_json, "usage: cargo xtask bench [--json | attacks [KIND..]]");
    bench("bench", &["--package", "charm-host", "--bench", "turn", "--"], arguments)
}

/// Builds a guest, then runs a bench.
fn bench(guest: &str, which: &[&str], arguments: &[String]) -> Result<()> {
    let mut build = Command::new("cargo");
    build.current_dir(root()).args(["xtask", "charms", guest]).stdout(Stdio::from(std::io::stderr()));
    ensure!(build.status()?.success(), "the guest {guest} did not build");
    let mut bench = Command::new("cargo");
    bench.current_dir(root()).args(["bench", "--quiet"]).args(which).args(arguments);
    ensure!(bench.status()?.success(), "a bench failed");
    Ok(())
}
