//! `charm`: runs charms, sends events to them and looks at their cells. The first embedder of `charm-host`:
//! it uses nothing but the library's public API.

mod author;
mod commands;
mod deed;
mod failure;
mod logs;
mod output;
mod place;
mod serve;
mod signals;
mod socket;
mod stderr;
mod told;
mod watched;

use std::process::ExitCode;

use clap::{Args, Parser};

use failure::{Exit, Failure};
use output::Output;
use signals::Signals;
use stderr::Stderr;

/// A host of charms: runs them, sends events to them, looks at their cells.
#[derive(Parser)]
#[command(name = "charm", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: commands::Command,
}

/// What every command takes.
#[derive(Args)]
struct Globals {
    /// The manifest; commands that only read need none when --store is given
    #[arg(short, long, global = true, value_name = "FILE")]
    manifest: Option<std::path::PathBuf>,
    /// The store, instead of the manifest's
    #[arg(long, global = true, value_name = "FILE")]
    store: Option<std::path::PathBuf>,
    /// Print JSON only: one object or array on standard output, errors as one object on standard error
    #[arg(long, global = true)]
    json: bool,
    /// What to log on standard error, like `debug` or `charm_host=debug,warn` [default: warn]
    #[arg(long, global = true, value_name = "FILTER", env = "CHARM_LOG")]
    log: Option<String>,
    /// How long to wait for others: a command that has the store, a host that starts, ends or says nothing
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

const AFTER_HELP: &str = "\
Charms are named as in the manifest, or by DID. In a path, digits are a list index: items/0/name.
JSON stands for values as DAG-JSON: bytes are {\"/\": {\"bytes\": BASE64}}, links are {\"/\": CID}.

Exit codes:
  0  done; for an event: committed
  1  the host or the store failed
  2  the command line, the manifest or a charm in it is wrong
  3  the event is settled, but not committed: rejected, faulted, conflict-exhausted, ...
  4  not found: store, charm, cell, value, receipt, ...
  5  the event was refused before it was sent: shape, denied, queue-full, ...
  6  a space does not prove itself
  7  the store is in use by a program that does not answer, or not in time
  8  done, but standard output did not take it: standard error says what

Files beside the manifest: charm (the store), keys/, cache/. A running host listens on charm/socket.";

fn main() -> ExitCode {
    if let Some(exit) = charm_host::compile_helper(std::env::args_os()) {
        return exit;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let Ok(stderr) = Stderr::start(cli.globals.json) else { return ExitCode::from(Exit::Host as u8) };
    let output = Output::new(cli.globals.json, stderr.clone());
    let panics = stderr.clone();
    std::panic::set_hook(Box::new(move |panic| panics.line(&output::clean(&panic.to_string()))));
    let run = || {
        let signals = Signals::start(output.clone())?;
        logs::start(&cli.globals, matches!(cli.command, commands::Command::Run(_)), &stderr)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::host(format!("cannot start threads: {error}")))?;
        let end = runtime.block_on(commands::run(&cli.command, &cli.globals, &output, &signals));
        // Whatever still blocks a thread of its own ends with the process.
        runtime.shutdown_background();
        end
    };
    let exit = run().unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit
    });
    output.finish();
    ExitCode::from(exit as u8)
}

/// Prints help, the version, or what is wrong with the command line.
fn misused(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let line = lines.join(" ").trim_start_matches("error: ").to_owned();
        if let Ok(stderr) = Stderr::start(true) {
            let output = Output::new(true, stderr);
            output.failure(&Failure::usage(format!("{line}; see charm --help")));
            output.finish();
        }
        return ExitCode::from(Exit::Usage as u8);
    }
    // Nothing is left to be said when the terminal is gone.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { 0 })
}
