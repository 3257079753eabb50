//! `cargo xtask fetch`: downloads everything that the other commands need.

use crate::test::{guest_workspaces, servers};
use crate::{root, say};
use anyhow::{Result, ensure};
use charm_toolchain::{TARGET, bare_cargo, cargo, fetch, output, run as run_command};
use std::process::Command;

/// Downloads the crates of every workspace and of the guests' standard library, the packages of Debian's compiler where
/// guests need it, and those of the OpenID Connect server. Builds nothing; what is there already is not asked for again.
///
/// # Errors
/// When a download fails: run it again.
pub fn run(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "cargo xtask fetch takes no arguments");
    let host = output(Command::new("rustc").args(["--print", "host-tuple"]).current_dir(root()))?;
    let host = ["fetch", "--locked", "--target", host.trim()];
    run_command(cargo(root()).args(host))?;
    for workspace in guest_workspaces() {
        run_command(bare_cargo(&root().join(workspace)).args(host).args(["--target", TARGET]))?;
    }
    fetch(root(), &host, &say)?;
    servers()
}
