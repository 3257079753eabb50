//! Logs: what the host and its charms say, on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::{Globals, failure::Failure};

/// Starts logging as `--log` or `CHARM_LOG` says: lines for people, or with `--json` one object a line.
///
/// # Errors
/// `usage` for a filter that does not parse.
pub fn start(globals: &Globals) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&globals.log)
        .map_err(|_| Failure::usage("--log is not a filter: write a level like debug, or charm_host=debug,warn"))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    if globals.json {
        subscriber.json().init();
    } else {
        subscriber.with_ansi(stderr().is_terminal()).init();
    }
    Ok(())
}
