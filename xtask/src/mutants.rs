//! `cargo xtask mutants`: breaks the host in every way that cargo-mutants knows, and looks whether a test fails.

use crate::root;
use crate::tools;
use anyhow::{Result, ensure};
use charm_toolchain::{output, run as run_command};
use std::process::Command;

const VERSION: &str = "27.1.0";

/// What decides about transactions, queues, commits and who may reach whom.
const FILES: [&str; 9] = [
    "host/src/tx.rs",
    "host/src/tx/*.rs",
    "host/src/tx/committer/*.rs",
    "host/src/turn.rs",
    "host/src/scheduler.rs",
    "host/src/run_queue.rs",
    "host/src/directory.rs",
    "host/src/charms.rs",
    "host/src/record.rs",
];

/// The chapters that must notice. Each mutant builds all of them, 15 seconds, and runs them until one does.
const CHAPTERS: [&str; 18] = [
    "transactions",
    "sends",
    "inboxes",
    "receipts",
    "recovery",
    "durability",
    "limits",
    "identity",
    "wishes",
    "cells",
    "counters",
    "laws",
    "embedding",
    "bad_input",
    "wasi",
    "contention",
    "errors",
    "simulation",
];

/// Long tests that would notice little that those before them do not.
const SKIPPED: [&str; 7] =
    ["the_same_seed", "a_power_cut", "an_error_at", "a_full_disk_at", "flips", "a_long_log", "the_embedding_example"];

/// Runs it on the files above, in place: the tree must be clean, and is clean again at the end. Further words go to
/// cargo-mutants, for example `--shard 1/8`. What survives is in `target/mutants.out/missed.txt`.
///
/// # Errors
/// When the tree is not clean, or a mutant survives.
pub fn run(arguments: &[String]) -> Result<()> {
    let changes = output(Command::new("git").args(["status", "--porcelain"]).current_dir(root()))?;
    ensure!(changes.is_empty(), "commit or stash first: mutants are made in place");
    crate::charms::run(&[])?;
    let program = tools::installed("cargo-mutants", VERSION)?;
    let mut mutants = Command::new(program);
    mutants.current_dir(root()).args(["mutants", "--in-place", "--output", "target", "--no-shuffle", "--colors=never"]);
    mutants.args(["--timeout", "300", "--build-timeout", "600", "--test-workspace=true"]);
    for file in FILES {
        mutants.args(["--file", file]);
    }
    // For the build too: else it builds the whole workspace, and the host twice.
    let cargo = |argument: String| format!("--cargo-arg={argument}");
    let lean = ["--config=profile.dev.package.charm-host.opt-level=0", "--exclude=xtask", "--lib"];
    mutants.args(lean.map(|argument| cargo(argument.to_owned())));
    mutants.args(CHAPTERS.map(|chapter| cargo(format!("--test={chapter}"))));
    mutants.args(arguments).args(["--", "--"]);
    for test in SKIPPED {
        mutants.args(["--skip", test]);
    }
    run_command(&mut mutants)
}
