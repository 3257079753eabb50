//! Logs: what the host and its charms say, on standard error.

use std::io::{self, IsTerminal, Write, stderr};

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{Globals, failure::Failure, output::clean, stderr::Stderr};

/// Starts logging as `--log` or `CHARM_LOG` says: lines for people, or with `--json` one object a line. Without either,
/// warnings; what became of an event is told to the operator of a host that `serves`, other commands print it themselves.
///
/// # Errors
/// `usage` for a filter that does not parse.
pub fn start(globals: &Globals, serves: bool, to: &Stderr) -> Result<(), Failure> {
    let default = if serves { "warn" } else { "warn,charm_host::notices=off" };
    let filter: Targets = globals
        .log
        .as_deref()
        .unwrap_or(default)
        .parse()
        .map_err(|_| Failure::usage("--log is not a filter: write a level like debug, or charm_host=debug,warn"))?;
    let colours = !globals.json && stderr().is_terminal();
    let to = to.clone();
    let writer = move || Lines { colours, to: to.clone() };
    let lines = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(writer);
    let registry = tracing_subscriber::registry().with(filter);
    if globals.json {
        registry.with(lines.json()).init();
    } else {
        registry.with(lines.with_ansi(colours)).init();
    }
    Ok(())
}

/// Lines on their way to standard error, which no thread that runs turns waits for. The host cleans what guests say; libraries below it may quote them too.
struct Lines {
    /// The formatter's own escapes pass.
    colours: bool,
    to: Stderr,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches('\n');
        let clean = match self.colours {
            true => text.split('\u{1b}').map(clean).collect::<Vec<_>>().join("\u{1b}"),
            false => clean(text),
        };
        self.to.line(&clean);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
