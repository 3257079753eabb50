//! `cargo xtask soak`: the long form of the figures in docs/proof.md, and what is too slow to build for each test run.

use crate::root;
use crate::test::guest_workspaces;
use crate::tools;
use anyhow::{Context, Result, ensure};
use charm_toolchain::{cargo, run as run_command};
use std::process::Command;

/// The chapters whose sizes grow with the effort.
const CHAPTERS: [&str; 8] = ["simulation", "isolation", "crashes", "laws", "contention", "attacks", "derived", "fuzz"];

/// Inputs of each loop of the chapter `fuzz` (of `tests`, and of the command line) for an effort of 1.
const EXECUTIONS: u64 = 500_000;

/// Checks what dependencies come in; configured by `deny.toml`. Not a chapter: its size is fixed.
const DENY: &str = "deny";
const DENY_VERSION: &str = "0.20.2";

/// How much longer than in `cargo xtask test`, when nothing is said: some hours.
const EFFORT: u64 = 10;

/// Runs the random chapters `EFFORT` times as long, or as many times as said, or only those chapters that are named;
/// `CHARM_SEED` says with which seeds. Before them, cargo-deny looks at the dependencies of every platform.
///
/// # Errors
/// When a chapter fails; it prints its seed.
pub fn run(arguments: &[String]) -> Result<()> {
    let (efforts, chapters): (Vec<_>, Vec<_>) = arguments.iter().partition(|word| word.parse::<u64>().is_ok());
    ensure!(efforts.len() <= 1, "usage: cargo xtask soak [EFFORT] [CHAPTER..]");
    let effort = efforts.first().map_or(Ok(EFFORT), |effort| effort.parse()).context("the effort is a number")?;
    for name in &chapters {
        let known = CHAPTERS.contains(&name.as_str()) || *name == DENY;
        ensure!(known, "no chapter is named {name}; chapters: {} {DENY}", CHAPTERS.join(" "));
    }
    let chosen = |name: &str| chapters.is_empty() || chapters.iter().any(|chapter| *chapter == name);
    if chosen(DENY) {
        println!("\n== {DENY}: licences, bans and sources of all dependencies");
        deny()?;
    }
    crate::charms::run(&[])?;
    for chapter in CHAPTERS.into_iter().filter(|chapter| chosen(chapter)) {
        println!("\n== {chapter}, {effort} times as long as in the tests");
        let mut test = cargo(root());
        if chapter == "fuzz" {
            test.env("CHARM_EXECUTIONS", (EXECUTIONS * effort).to_string());
        }
        test.env("CHARM_EFFORT", effort.to_string()).args(["test", "--workspace", "--exclude", "xtask"]);
        run_command(test.args(["--test", chapter, "--", "--nocapture"]))?;
    }
    Ok(())
}

/// Checks the dependencies of every workspace.
fn deny() -> Result<()> {
    let program = tools::installed("cargo-deny", DENY_VERSION)?;
    for workspace in [""].into_iter().chain(guest_workspaces()) {
        let manifest = root().join(workspace).join("Cargo.toml");
        let mut deny = Command::new(&program);
        deny.arg("--manifest-path").arg(&manifest).arg("--config").arg(root().join("deny.toml"));
        deny.args(["check", "bans", "licenses", "sources"]).current_dir(root());
        run_command(&mut deny).with_context(|| format!("see deny.toml; checked {}", manifest.display()))?;
    }
    Ok(())
}
