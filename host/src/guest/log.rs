//! What a guest says, on its way to the host's log: cleaned, cut, each line with charm and event, within a budget (A5).

use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Level, level_filters::LevelFilter};

use crate::{
    did::Did,
    event::EventId,
    limits::{LOG_LINE_BYTES, MESSAGE_BYTES_MAX},
    log::say,
    log_share::LogShare,
    text::clip,
};

/// Who speaks.
pub enum Speaker {
    /// A charm that handles an event.
    Turn(Did, EventId),
    /// A charm that computes the derived cell of that name.
    Derive(Did, String),
    /// A charm that is described; it may have no DID yet.
    Describe(String),
}

/// The lines of one turn. When it is dropped, it logs what was printed, and what the budget did not hold.
pub struct Log {
    speaker: Speaker,
    bytes_max: usize,
    /// Bytes of the budget left.
    left: usize,
    /// Lines so far.
    lines: usize,
    /// Lines that the turn has told before it waited: they are not told again.
    pub told: usize,
    /// Says nothing: a replay has told it before.
    pub muted: bool,
    /// Lines that were cut or left out.
    lines_cut: u64,
    /// Bytes of them that are not logged.
    bytes_cut: u64,
    /// What was printed through WASI, if it could be.
    output: Option<Output>,
    /// What the charm may log over all its turns.
    pub share: Option<Arc<LogShare>>,
}

/// What a guest prints: takes everything, keeps the first bytes, counts the rest.
#[derive(Clone)]
pub struct Output(Arc<Mutex<Printed>>);

struct Printed {
    muted: bool,
    kept: Vec<u8>,
    bytes_max: usize,
    lines_cut: u64,
    bytes_cut: u64,
}

impl Output {
    /// Takes bytes.
    pub fn take(&self, bytes: &[u8]) {
        let mut printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if printed.muted {
            return;
        }
        let (head, tail) = bytes.split_at(bytes.len().min(printed.bytes_max - printed.kept.len()));
        printed.kept.extend_from_slice(head);
        printed.bytes_cut += tail.len() as u64;
        printed.lines_cut += tail.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}

impl Log {
    /// Returns an empty log with a budget of `log-bytes-max`.
    pub fn new(speaker: Speaker, bytes_max: usize) -> Log {
        let (lines_cut, bytes_cut, output, share) = Default::default();
        let (lines, told, muted) = (0, 0, false);
        Log { speaker, bytes_max, left: bytes_max, lines, told, muted, lines_cut, bytes_cut, output, share }
    }

    /// Returns where the guest prints to. Its lines come after the others.
    pub fn output(&mut self) -> Output {
        let printed =
            Printed { muted: self.muted, kept: Vec::new(), bytes_max: self.bytes_max, lines_cut: 0, bytes_cut: 0 };
        self.output.get_or_insert_with(|| Output(Arc::new(Mutex::new(printed)))).clone()
    }

    /// Speaks from here on.
    pub fn unmute(&mut self) {
        self.muted = false;
        if let Some(Output(printed)) = &self.output {
            printed.lock().unwrap_or_else(PoisonError::into_inner).muted = false;
        }
    }

    /// Logs a text as one line, as far as the budget goes.
    pub fn line(&mut self, level: Level, text: &str) {
        if self.muted {
            return;
        }
        if self.left == 0 || text.len() > self.left {
            self.lines_cut += 1;
            self.bytes_cut += text.len().saturating_sub(self.left) as u64;
        }
        if self.left == 0 {
            return;
        }
        let text = clip(text, MESSAGE_BYTES_MAX.min(self.left));
        self.left = self.left.saturating_sub(LOG_LINE_BYTES + text.len());
        self.lines += 1;
        if self.lines > self.told {
            self.write(level, &text);
        }
    }

    /// Ends an attempt that will be made again after a wait: what is told at the end, the last one tells. Returns how many
    /// lines are told.
    pub fn wait(&mut self) -> usize {
        (self.output, self.lines_cut, self.bytes_cut) = (None, 0, 0);
        self.lines.max(self.told)
    }

    /// Writes a line, as far as the charm's share of the log goes.
    fn write(&self, level: Level, text: &str) {
        if LevelFilter::current() < level {
            return;
        }
        let Some(share) = &self.share else { return self.say(level, text) };
        if share.takes(LOG_LINE_BYTES + text.len()) {
            self.say(level, text);
        }
        if let Some(lines) = share.tell() {
            self.say(Level::WARN, &format!("over log-bytes-per-second: {lines} more lines are dropped"));
        }
    }

    /// Charm and event are fields of the line: it may be read without the spans around it.
    fn say(&self, level: Level, text: &str) {
        use tracing::field::display;
        let (charm, event): (&dyn std::fmt::Display, _) = match &self.speaker {
            Speaker::Turn(charm, event) => (charm, Some(display(event))),
            Speaker::Derive(charm, _) => (charm, None),
            Speaker::Describe(name) => (name, None),
        };
        let derived = if let Speaker::Derive(_, name) = &self.speaker { Some(name.as_str()) } else { None };
        match level {
            Level::ERROR => say(|| tracing::error!(target: "charm::guest", %charm, event, derived, "{text}")),
            Level::WARN => say(|| tracing::warn!(target: "charm::guest", %charm, event, derived, "{text}")),
            Level::INFO => say(|| tracing::info!(target: "charm::guest", %charm, event, derived, "{text}")),
            _ => say(|| tracing::debug!(target: "charm::guest", %charm, event, derived, "{text}")),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(Output(printed)) = self.output.take() {
            let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
            self.lines_cut += printed.lines_cut;
            self.bytes_cut += printed.bytes_cut;
            let kept = std::mem::take(&mut printed.kept);
            String::from_utf8_lossy(&kept).lines().for_each(|line| self.line(Level::INFO, line));
        }
        let (lines, bytes) = (self.lines_cut, self.bytes_cut);
        if lines + bytes > 0 {
            let text = format!("log-bytes-max reached: {lines} lines are cut or left out, {bytes} bytes of them");
            self.write(Level::WARN, &text);
            if let Some(share) = &self.share {
                share.cut(lines);
            }
        }
    }
}
