//! The repository's own commands: `cargo xtask <command>`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a developer's tool: it talks to its terminal and starts programs"
)]

mod bench;
mod charms;
mod demo;
mod fetch;
mod mutants;
mod soak;
mod test;
mod tools;

use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

/// A subcommand: its name, what it does in one line, and the function that does it.
type Command = (&'static str, &'static str, fn(&[String]) -> Result<()>);

/// Every subcommand; one line each.
const COMMANDS: &[Command] = &[
    (
        "bench",
        "figures beside their floors: bench [NAME..] [--quick | --full] [--peers] [--json]; `attacks`: what a neighbour waits",
        bench::run,
    ),
    ("charms", "build the guests into target/charms; names build only those", charms::run),
    ("demo", "two charms and one expired token, from building to looking at the store", demo::run),
    ("fetch", "download everything that the other commands need, and build nothing", fetch::run),
    (
        "mutants",
        "break transactions, queue, commits and grants in every way: does a test notice? a night",
        mutants::run,
    ),
    ("soak", "the random tests for hours, and cargo-deny: soak [EFFORT] [CHAPTER..]", soak::run),
    ("test", "build the guests, then run every test and check", test::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map(String::as_str).unwrap_or_default();
    let Some((_, _, run)) = COMMANDS.iter().find(|(command, _, _)| *command == name) else {
        eprintln!("usage: cargo xtask <command>\n");
        for (command, does, _) in COMMANDS {
            eprintln!("  {command:<8} {does}");
        }
        return ExitCode::from(2);
    };
    match run(&arguments[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Tells what the toolchain does.
fn say(line: &str) {
    println!("{}", line.replace(&format!("{}/", root().display()), ""));
}

/// Returns a path as seen from the root of the repository.
fn relative(path: &Path) -> std::path::Display<'_> {
    path.strip_prefix(root()).unwrap_or(path).display()
}

/// The root of the repository that cargo runs this in: a copied folder, with its `target`, is a repository of its own.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let here = std::env::current_dir().unwrap_or_default();
        let of_cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
        let is_root = |folder: &&Path| folder.join("xtask/Cargo.toml").is_file();
        let mut above = of_cargo.ancestors().chain(here.ancestors());
        above.find(is_root).map_or(here.clone(), Path::to_owned)
    })
}
