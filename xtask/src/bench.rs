//! `cargo xtask bench`: figures as ratios, taken side by side in one run.

use anyhow::{Result, ensure};

/// Builds the guests and runs every bench; `--json` prints one object a line.
pub fn run(arguments: &[String]) -> Result<()> {
    let json = arguments.iter().any(|argument| argument == "--json");
    ensure!(arguments.len() == usize::from(json), "usage: cargo xtask bench [--json]");
    let build = std::process::Command::new("cargo")
        .current_dir(crate::root())
        .args(["xtask", "charms", "bench"])
        .stdout(std::io::stderr())
        .status()?;
    ensure!(build.success(), "the bench guest did not build");
    let mut bench = std::process::Command::new("cargo");
    bench.current_dir(crate::root()).args(["bench", "--quiet", "--package", "charm-host", "--bench", "turn", "--"]);
    bench.args(json.then_some("--json"));
    ensure!(bench.status()?.success(), "a bench failed");
    Ok(())
}
