//! Chapter errors: every way to fail, driven with the largest and ugliest input and a secret planted wherever a
//! secret can be: cells, events, tags, requests and answers, keys, components, manifests. Every text is bounded, and
//! the secret is in no receipt, no error, shown or debugged, and nowhere in the log at its finest level (T7, I1).
//!
//! What a charm says on purpose, as its rejection, its panic or its log, is its own: no secret is planted there.
//! Names of charms, cells, streams, files and map keys are names, not secrets: errors tell them, cut.
//! A scan in `tests/tidy` finds each variant of an error that no case here names.
#![allow(clippy::unwrap_used, reason = "tests")]

/// Checks that an error is the one that it should be, and all of its texts; returns what it says.
macro_rules! fails {
    ($secret:expr, $error:expr, $pattern:pat) => {{
        let error = $error;
        assert!(matches!(error, $pattern), "{} is not {}", error, stringify!($pattern));
        $secret.shown(&error)
    }};
}

#[path = "../by_hand.rs"]
mod by_hand;
mod derived;
mod files;
mod guest;
mod http;
mod installs;
mod journal;
mod outside;
mod words;

use std::{
    collections::BTreeMap,
    fmt::{Debug, Display},
};

use charm_conformance::*;
use charm_host::*;
use serde_json::{Value as Json, json};

/// A token that must not be seen, and the log of all tests.
struct Secret {
    text: String,
    /// The same in the ways in which bytes are written.
    forms: Vec<String>,
    logs: Logs,
}

impl Secret {
    /// Returns the secret of a test.
    fn new(test: &str) -> Secret {
        let mut random = Random::new(seed() ^ test.bytes().fold(0, |sum, b| sum * 31 + u64::from(b)));
        let text = format!("s3cr3t-{:016x}{:016x}", random.bits(), random.bits());
        let mut secret = Secret { forms: Vec::new(), logs: Logs::capture(), text };
        secret.add(secret.text.clone().as_bytes());
        secret.forms.push(secret.text.clone());
        secret
    }

    /// Makes more bytes a secret.
    fn add(&mut self, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{bytes:?}");
        let list = list.trim_matches(['[', ']']).to_owned();
        self.forms.extend([hex.to_uppercase(), hex, list, bs58::encode(bytes).into_string()]);
    }

    /// A large text that holds nothing but the secret.
    fn much(&self, bytes: usize) -> String {
        self.text.repeat(bytes / self.text.len() + 1)[..bytes].to_owned()
    }

    #[track_caller]
    fn absent(&self, text: &str) {
        for form in &self.forms {
            let found = text.find(form.as_str());
            assert!(found.is_none(), "the secret is in: {:.600}", &text[found.unwrap_or(0).saturating_sub(200)..]);
        }
    }

    /// Checks a text for people.
    #[track_caller]
    fn told(&self, text: &str) {
        assert!(text.len() <= MESSAGE_BYTES_MAX, "{} bytes: {text}", text.len());
        assert!(!text.chars().any(char::is_control), "{text:?}");
        self.absent(text);
    }

    /// Checks an error and returns what it says.
    #[track_caller]
    fn shown(&self, error: &(impl Display + Debug)) -> String {
        let (text, debug) = (error.to_string(), format!("{error:?}"));
        assert!(debug.len() <= 2 * MESSAGE_BYTES_MAX, "{} bytes: {debug}", debug.len());
        self.told(&text);
        self.absent(&debug);
        self.absent(&format!("{error:#?}"));
        text
    }

    /// Checks a receipt.
    #[track_caller]
    fn receipt(&self, receipt: &Receipt) {
        let json = serde_json::to_string(receipt).unwrap();
        assert!(json.len() <= 2 << 10, "{} bytes: {json}", json.len());
        assert!(Value::encode(receipt).unwrap().as_bytes().len() <= 2 << 10);
        self.told(receipt.message.as_deref().unwrap_or_default());
        self.absent(&json);
        self.absent(&format!("{receipt:?}"));
    }

    /// Checks the receipts of all dead letters of a charm, and what a letter shows of its event.
    #[track_caller]
    fn letters(&self, host: &Host, charm: Did) {
        for letter in host.dead_letters(&charm, 0, usize::MAX).unwrap() {
            self.receipt(&letter.receipt);
            self.absent(&format!("{letter:?}"));
        }
    }
}

/// The log is checked when a test has done everything else.
impl Drop for Secret {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let log = self.logs.text();
            assert!(log.contains("TRACE") && log.contains("DEBUG"), "the log is at its finest level");
            self.absent(&log);
        }
    }
}

/// Text that is hard to print: quotes, line ends, escapes, wide and combining characters.
fn ugly(bytes: usize) -> String {
    let mut text = "\"\\'\n\r\u{1b}[2J\0\u{85}\u{7f}é\u{301}水🦀".repeat(bytes / 24);
    while text.len() < bytes {
        text.push('"');
    }
    text
}

/// Small enough that many hosts can live at once; large values are allowed.
fn roomy() -> Limits {
    Limits {
        turns_max: 4,
        room_ms_max: 0,
        memory_bytes_max: 64 << 20,
        fuel_max: 20_000_000_000,
        value_bytes_max: 11 << 20,
        event_bytes_max: 4 << 20,
        hostcall_bytes_max: 64 << 20,
        write_bytes_max: 32 << 20,
        ..Limits::default()
    }
}

/// Writes 10 MiB of the secret into a cell, in pieces.
async fn fill(host: &Host, charm: Did, cell: &str, secret: &Secret) {
    for index in 0..10 {
        let receipt = run(host, charm, json!([["set", cell, [index], secret.much(1 << 20)]])).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    }
}

/// A DID of nobody.
fn stranger() -> Did {
    "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().unwrap()
}
