//! Standard error. One thread writes it, so that nobody waits for whoever reads it, or does not: what does not fit in line
//! is dropped, counted, and told when it goes on.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

/// Lines that wait to be written: a burst of a busy host.
const LINES_MAX: usize = 10_000;
/// Bytes of them.
const BYTES_MAX: usize = 4 << 20;
/// How long the end waits for lines that are not written.
const END_MAX: Duration = Duration::from_secs(2);
/// Least time between two lines that tell what was dropped.
const TELL: Duration = Duration::from_secs(1);

/// Where lines go. Clones are the same.
#[derive(Clone)]
pub struct Stderr(Arc<Inner>);

struct Inner {
    queue: Mutex<Queue>,
    changed: Condvar,
    json: bool,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A line is being written.
    writes: bool,
    /// Lines that were dropped, or could not be written, and were not told.
    dropped: u64,
}

impl Stderr {
    /// Starts the thread that writes; with `json` what it has to say itself is an object.
    ///
    /// # Errors
    /// When there are no more threads.
    pub fn start(json: bool) -> io::Result<Stderr> {
        let stderr = Stderr(Arc::new(Inner { queue: Mutex::default(), changed: Condvar::new(), json }));
        let inner = stderr.0.clone();
        std::thread::Builder::new().name("charm-stderr".to_owned()).spawn(move || inner.write(io::stderr()))?;
        Ok(stderr)
    }

    /// Puts a line in line. Never waits for whoever reads.
    pub fn line(&self, text: &str) {
        let line = format!("{text}\n").into_bytes();
        let mut queue = self.0.queue();
        if queue.lines.len() >= LINES_MAX || queue.bytes + line.len() > BYTES_MAX {
            queue.dropped += 1;
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, but not for long.
    pub fn finish(&self) {
        let end = Instant::now() + END_MAX;
        let mut queue = self.0.queue();
        while queue.writes || !queue.lines.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.0.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes whatever comes, for ever.
    fn write(&self, mut to: impl Write) {
        let mut told = None;
        loop {
            let line = self.next();
            let written = to.write_all(&line).and_then(|()| to.flush());
            let mut queue = self.queue();
            queue.dropped += u64::from(written.is_err());
            let is_time = told.is_none_or(|at: Instant| at.elapsed() >= TELL);
            let dropped = queue.dropped;
            if written.is_ok() && dropped > 0 && (is_time || queue.lines.is_empty()) {
                queue.dropped = 0;
                drop(queue);
                told = Some(Instant::now());
                if to.write_all(self.told(dropped).as_bytes()).is_err() {
                    self.queue().dropped += dropped;
                }
                queue = self.queue();
            }
            queue.writes = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.writes = true;
                return line;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says how many lines were dropped, as the log says things.
    fn told(&self, lines: u64) -> String {
        let text = format!("{lines} lines are missing here: they were not read in time, or could not be written");
        let mut time = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        if self.json {
            let fields = serde_json::json!({ "message": text, "lines": lines });
            let line =
                serde_json::json!({ "timestamp": time, "level": "WARN", "fields": fields, "target": "charm::log" });
            return format!("{line}\n");
        }
        format!("{time}  WARN charm::log: {text}\n")
    }
}
