//! `cargo xtask bench`: figures beside their floors, taken side by side in one run.

use anyhow::{Context, Result, ensure};
use charm_toolchain::run as run_command;
use std::fs;
use std::process::{Command, Stdio};

use crate::root;

/// The npm package with the runtimes that `--peers` measures, and where they are installed.
const PEERS: (&str, &str) = ("tests/peers", "target/peers");

/// What the benches take beside names.
const FLAGS: [&str; 4] = ["--json", "--quick", "--full", "--peers"];

/// Builds the guests and runs the benches whose names begin as said, or all; `--json` prints one object a line. Or, for
/// `attacks`, measures how long a neighbour waits beside each hostile charm, or only those that are named.
///
/// # Errors
/// When something does not build, or a bench fails.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some(("attacks", kinds)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return bench(&["probe"], "attacks", kinds);
    }
    let known = arguments.iter().all(|argument| !argument.starts_with('-') || FLAGS.contains(&argument.as_str()));
    ensure!(
        known,
        "usage: cargo xtask bench [NAME..] [--quick | --full] [--peers] [--json], or bench attacks [KIND..]"
    );
    if arguments.iter().any(|argument| argument == "--peers") {
        peers()?;
    }
    bench(&["bench", "counter", "relay", "waiter"], "figures", arguments)
}

/// Builds guests, then runs a bench.
fn bench(guests: &[&str], name: &str, arguments: &[String]) -> Result<()> {
    let mut build = Command::new("cargo");
    build.current_dir(root()).args(["xtask", "charms"]).args(guests).stdout(Stdio::from(std::io::stderr()));
    ensure!(build.status()?.success(), "the guests {} did not build", guests.join(" and "));
    let mut bench = Command::new("cargo");
    bench.current_dir(root()).args(["bench", "--quiet", "--package", "charm-conformance", "--bench", name, "--"]);
    ensure!(bench.args(arguments).status()?.success(), "a bench failed");
    Ok(())
}

/// Installs what `--peers` measures, as the lock file has it.
fn peers() -> Result<()> {
    let [from, to] = [root().join(PEERS.0), root().join(PEERS.1)];
    fs::create_dir_all(&to).with_context(|| format!("cannot create {}", PEERS.1))?;
    for entry in fs::read_dir(&from).with_context(|| format!("cannot read {}", PEERS.0))? {
        let path = entry?.path();
        fs::copy(&path, to.join(path.file_name().unwrap_or_default()))?;
    }
    let lock = fs::read(to.join("package-lock.json"))?;
    if fs::read(to.join("installed")).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&to).stdin(Stdio::null());
    run_command(npm.stdout(Stdio::from(std::io::stderr()))).context("npm installs what is measured beside ours")?;
    fs::write(to.join("installed"), lock).context("cannot write into target/peers")
}
