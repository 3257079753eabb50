//! What is printed: lines and tables for people, or JSON. Control characters never reach the terminal.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use charm_host::is_unprintable;
use serde::Serialize;

use crate::{failure::Failure, stderr::Stderr};

/// Where results go.
#[derive(Clone)]
pub struct Output {
    json: bool,
    stderr: Stderr,
}

impl Output {
    /// Returns an output for people, or for programs.
    pub fn new(json: bool, stderr: Stderr) -> Output {
        Output { json, stderr }
    }

    /// Prints `value` as JSON, or else the lines.
    ///
    /// # Errors
    /// When standard output fails; a reader that went away is no failure.
    pub fn print(&self, value: &impl Serialize, lines: impl FnOnce() -> Vec<String>) -> Result<(), Failure> {
        let mut text = String::new();
        if self.json {
            let json = serde_json::to_string(value).map_err(|error| Failure::host(format!("no JSON: {error}")))?;
            text = clean(&json) + "\n";
        } else {
            for line in lines() {
                text.push_str(&clean(&line));
                text.push('\n');
            }
        }
        // Where both go to one place, what was said before stands before the result.
        self.finish();
        write(&text).map(drop)
    }

    /// Prints one of many lines, which is JSON where that was asked for; false when nobody reads any more.
    ///
    /// # Errors
    /// When standard output fails.
    pub fn line(&self, text: &str) -> Result<bool, Failure> {
        write(&(clean(text) + "\n"))
    }

    /// Prints a failure on standard error.
    pub fn failure(&self, failure: &Failure) {
        let text = if self.json {
            clean(&serde_json::to_string(failure).unwrap_or_default())
        } else {
            let mut lines = failure.error.lines().map(clean);
            let first = format!("error: {}", lines.next().unwrap_or_default());
            lines.fold(first, |text, line| text + "\n" + &line)
        };
        self.stderr.line(&text);
    }

    /// Waits until standard error has taken what was said, but not for long.
    pub fn finish(&self) {
        self.stderr.finish();
    }

    /// Tells people something on standard error that changes nothing about the result.
    pub fn note(&self, text: &str) {
        if !self.json {
            self.stderr.line(&format!("note: {}", clean(text)));
        }
    }
}

/// Writes to standard output; false when its reader went away.
fn write(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::output(format!("standard output does not take it: {error}"))),
    }
}

/// Escapes what is not printable, as JSON does: in JSON text such characters stand only in strings.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(clean, "\\u{unit:04x}");
            }
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Lays rows out in columns under a head.
pub fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> Vec<String> {
    let rows: Vec<[String; N]> =
        std::iter::once(head.map(str::to_owned)).chain(rows).map(|row| row.map(|cell| clean(&cell))).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_passes() {
        assert_eq!(clean("a\u{1b}[31m\n\u{9b}2J\u{202e}é"), "a\\u001b[31m\\u000a\\u009b2J\\u202eé");
    }

    #[test]
    fn cleaned_json_is_the_same_json() {
        let text = "\u{202e}\u{2028}\u{61c}\u{feff}\u{e0041}\u{85}\u{7f} é\"\\";
        let json = clean(&serde_json::to_string(text).expect("JSON"));
        assert!(!json.chars().any(is_unprintable), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).expect(&json), text);
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![["a".to_owned(), "1".to_owned()], ["longer".to_owned(), "2".to_owned()]];
        assert_eq!(table(["NAME", "N"], rows), ["NAME    N", "a       1", "longer  2"]);
    }
}
