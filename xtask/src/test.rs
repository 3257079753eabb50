//! `cargo xtask test`: builds the guests, then runs every test and check of the repository.

use crate::charms::{self, WORKSPACES, has_packages};
use crate::root;
use anyhow::{Context, Result, bail};
use charm_toolchain::{bare_cargo, cargo, run as run_command};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A step: its name, what it does in one line, and the function that does it.
type Step = (&'static str, &'static str, fn() -> Result<()>);

/// Every step, in the order in which they run.
const STEPS: &[Step] = &[
    ("fmt", "formatting of all workspaces", fmt),
    ("charms", "guests to components", charms),
    ("servers", "the OpenID Connect server that tests talk to", servers),
    ("tests", "tests of the main workspace", tests),
    ("charm-tests", "native tests of the example charms", charm_tests),
    ("clippy", "lints of the main workspace and the example charms", clippy),
];

/// The folder of the npm package that is the OpenID Connect server.
const SERVER: &str = "tests/servers/oidc";

/// Runs every step, or only those named, and stops at the first that fails.
///
/// # Errors
/// When a step fails; its name comes last.
pub fn run(only: &[String]) -> Result<()> {
    if let Some(name) = only.iter().find(|name| STEPS.iter().all(|(step, _, _)| step != name)) {
        let names: Vec<&str> = STEPS.iter().map(|(step, _, _)| *step).collect();
        bail!("no step is named {name}; steps: {}", names.join(" "));
    }
    let start = Instant::now();
    for (name, does, step) in STEPS {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("\n== {name}: {does}");
        let start = Instant::now();
        if let Err(error) = step() {
            bail!("{error:#}\nfailed step: {name}");
        }
        println!("== {name}: ok, {:.1} s", start.elapsed().as_secs_f32());
    }
    println!("\nall steps passed, {:.0} s", start.elapsed().as_secs_f32());
    Ok(())
}

fn fmt() -> Result<()> {
    let list_files = ["fmt", "--all", "--check", "--", "-l"];
    let advice = "the files listed are not formatted; run `cargo fmt --all` there";
    run_command(cargo(root()).args(list_files)).context(advice)?;
    for workspace in guest_workspaces() {
        run_command(bare_cargo(&root().join(workspace)).args(list_files)).context(advice)?;
    }
    Ok(())
}

fn charms() -> Result<()> {
    charms::run(&[])
}

/// Installs the server's packages as its lock file has them, when that changed since the last time.
///
/// # Errors
/// When npm fails.
pub fn servers() -> Result<()> {
    let folder = root().join(SERVER);
    let has_node = Command::new("node").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !has_node || !folder.join("package-lock.json").is_file() {
        let missing = if has_node { SERVER } else { "node on this machine" };
        println!("SKIPPED: no {missing}; the tests that need the server are skipped too");
        return Ok(());
    }
    let changed = |name: &str| fs::metadata(folder.join(name)).and_then(|found| found.modified()).ok();
    if changed("node_modules/.package-lock.json") >= changed("package-lock.json") {
        println!("{SERVER}/node_modules is up to date");
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder).stdin(Stdio::null());
    run_command(&mut npm)
}

/// Leaves out xtask, which has no tests and would be built again in another profile.
fn tests() -> Result<()> {
    run_command(cargo(root()).args(["test", "--workspace", "--exclude", "xtask"]))
}

fn charm_tests() -> Result<()> {
    native("example-charms", &["test", "--workspace"])
}

fn clippy() -> Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"];
    run_command(cargo(root()).args(arguments))?;
    native("example-charms", &arguments)
}

/// Runs cargo on a guest workspace with the ordinary compiler, for this machine.
fn native(workspace: &str, arguments: &[&str]) -> Result<()> {
    let folder = root().join(workspace);
    if !has_packages(&folder) {
        println!("{workspace}: no guests yet");
        return Ok(());
    }
    run_command(bare_cargo(&folder).args(arguments))
}

/// The guest workspaces that have guests.
pub fn guest_workspaces() -> impl Iterator<Item = &'static str> {
    WORKSPACES.into_iter().filter(|workspace| has_packages(&root().join(workspace)))
}
