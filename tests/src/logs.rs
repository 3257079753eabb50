//! Everything that the hosts of a test binary log.

use std::{
    io::Write,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing_subscriber::{
    Layer,
    filter::{FilterExt, Targets, dynamic_filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{decided::Decider, hold::Holder};

/// The finest level of all; but the compiler tells gigabytes of one component.
const FILTER: &str =
    "trace,cranelift_codegen=info,cranelift_frontend=info,regalloc2=info,wasmtime_internal_cranelift=info";

/// The log of this process at the finest level, from the first [`Logs::capture`] on. All tests of a binary
/// share it: look for lines by a DID or an event id.
#[derive(Clone, Default)]
pub struct Logs(Arc<Mutex<Vec<u8>>>);

static CAPTURES: AtomicBool = AtomicBool::new(false);

impl Logs {
    /// Starts to capture; again returns the same.
    pub fn capture() -> Logs {
        CAPTURES.store(true, Ordering::Relaxed);
        Logs::start()
    }

    /// Puts the one subscriber of this process in its place. It captures nothing yet.
    pub(crate) fn start() -> Logs {
        static LOGS: LazyLock<Logs> = LazyLock::new(|| {
            let logs = Logs::default();
            let captures = dynamic_filter_fn(|_, _| CAPTURES.load(Ordering::Relaxed));
            let format = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(logs.clone());
            let format = format.with_filter(captures.and(FILTER.parse::<Targets>().unwrap()));
            let holder = Holder.with_filter(Targets::new().with_target("charm::guest", tracing::Level::TRACE));
            let decider = Decider.with_filter(Targets::new().with_target("charm_host", tracing::Level::INFO));
            tracing_subscriber::registry().with(format).with(holder).with(decider).init();
            logs
        });
        LOGS.clone()
    }

    /// Returns the log so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Returns the lines that hold `part`.
    pub fn lines(&self, part: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logs {
    type Writer = Logs;

    fn make_writer(&self) -> Logs {
        self.clone()
    }
}
