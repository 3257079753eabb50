//! `cargo xtask soak`: the long form of the figures in docs/proof.md.

use crate::root;
use crate::toolchain::{cargo, run as run_command};
use anyhow::{Context, Result, ensure};

/// The chapters whose sizes grow with the effort.
const CHAPTERS: [&str; 5] = ["simulation", "isolation", "crashes", "laws", "contention"];

/// How much longer than in `cargo xtask test`, when nothing is said: some hours.
const EFFORT: u64 = 10;

/// Runs the random chapters `EFFORT` times as long, or as many times as said, or only those chapters that are named;
/// `CHARM_SEED` says with which seeds.
///
/// # Errors
/// When a chapter fails; it prints its seed.
pub fn run(arguments: &[String]) -> Result<()> {
    let (efforts, chapters): (Vec<_>, Vec<_>) = arguments.iter().partition(|word| word.parse::<u64>().is_ok());
    ensure!(efforts.len() <= 1, "usage: cargo xtask soak [EFFORT] [CHAPTER..]");
    let effort = efforts.first().map_or(Ok(EFFORT), |effort| effort.parse()).context("the effort is a number")?;
    for name in &chapters {
        ensure!(CHAPTERS.contains(&name.as_str()), "no chapter is named {name}; chapters: {}", CHAPTERS.join(" "));
    }
    crate::charms::run(&[])?;
    for chapter in CHAPTERS {
        if !chapters.is_empty() && !chapters.iter().any(|name| *name == chapter) {
            continue;
        }
        println!("\n== {chapter}, {effort} times as long as in the tests");
        let mut test = cargo(root());
        test.env("CHARM_EFFORT", effort.to_string()).args(["test", "--workspace", "--exclude", "xtask"]);
        run_command(test.args(["--test", chapter, "--", "--nocapture"]))?;
    }
    Ok(())
}
