//! `cargo xtask demo`: builds what the demo needs, runs it, and looks at the store that it leaves behind.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::charms;
use crate::{relative, root};
use anyhow::{Context, Result, anyhow, ensure};
use charm_toolchain::{cargo, output, run as run_command};
use serde_json::Value;

/// Where the demo keeps its store, emptied at each start.
const FOLDER: &str = "target/demo";

/// Runs the demo, then the command line on its store.
///
/// # Errors
/// When something does not build, or a step of the story does not go as told.
pub fn run(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "cargo xtask demo takes no arguments");
    println!("building two charms, the host and the demo; the first time takes some minutes");
    // Both at once: apart, each would build the host with features of its own.
    let mut build = cargo(root());
    build.args(["build", "--quiet", "--package", "charm", "--package", "charm-demo-servers"]);
    build.args(["--bin", "charm", "--example", "demo"]);
    // Beside each other: neither keeps all processors busy all the time.
    let (charms, host) = std::thread::scope(|scope| {
        let charms = scope.spawn(|| charms::run(&["google-auth".to_owned(), "gmail-search".to_owned()]));
        let host = run_command(&mut build);
        (charms.join().unwrap_or_else(|_| Err(anyhow!("the build of the charms panicked"))), host)
    });
    charms?;
    host?;
    let built = target()?.join("debug");
    run_command(Command::new(built.join("examples/demo")).arg(FOLDER).current_dir(root()))?;

    println!("\nThe store is in {FOLDER}. Look at it:");
    let charm = built.join("charm");
    let manifest = format!("{FOLDER}/charms.toml");
    for arguments in ["ls", "get gmail-search/results", "get google-auth/token/version --at 5", "verify"] {
        let arguments: Vec<&str> = ["-m", &manifest].into_iter().chain(arguments.split(' ')).collect();
        println!("\n$ {} {}", relative(&charm), arguments.join(" "));
        run_command(Command::new(&charm).args(arguments).current_dir(root()))?;
    }
    println!("\nOr with any SQLite tool: sqlite3 -readonly {FOLDER}/charm/index.db .tables");
    Ok(())
}

/// Returns cargo's target folder, which the environment may have moved.
fn target() -> Result<PathBuf> {
    let text = output(cargo(root()).args(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cannot read the answer of `cargo metadata`")?;
    let folder = metadata["target_directory"].as_str().context("`cargo metadata` names no target folder")?;
    Ok(Path::new(folder).to_owned())
}
