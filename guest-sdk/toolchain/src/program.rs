//! Programs that are started: cargo without what an outer one left behind, and what came of it.

use crate::NO_DOWNLOADS;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// Returns a `cargo` in `folder`, free of what an outer cargo set for the package it runs.
pub fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder).stdin(Stdio::null()).env(NO_DOWNLOADS.0, NO_DOWNLOADS.1);
    // Build scripts watch some of these: left in, they would make the inner cargo build again.
    for name in ["CARGO", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "CARGO_MAKEFLAGS"] {
        cargo.env_remove(name);
    }
    remove_variables(&mut cargo, |name| {
        ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix))
    });
    cargo
}

/// As [`cargo`], and free of settings meant for another workspace: flags, profiles, compilers, target folders.
pub fn bare_cargo(folder: &Path) -> Command {
    let mut cargo = cargo(folder);
    remove_variables(&mut cargo, |name| {
        ["CARGO_TARGET_", "CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_ENCODED_", "RUSTC", "RUSTFLAGS", "RUSTDOC"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    });
    cargo
}

/// Runs a command to its end, with its output on the terminal.
///
/// # Errors
/// When it cannot be started or ends with anything but success; names the program and its arguments.
pub fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// Runs a command to its end and returns what it wrote to standard output.
///
/// # Errors
/// As [`run`].
pub fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(output.status.success(), "`{line}` failed: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` wrote text that is not UTF-8"))
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn remove_variables(command: &mut Command, is_unwanted: impl Fn(&str) -> bool) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(&is_unwanted) {
            command.env_remove(name);
        }
    }
}
