//! The guest that benches waits: raw, so that the host is what is measured.
//!
//! `link` takes the DID of a peer. `go` takes anything, sends to `done` of the peer, waits for that a week at most, and writes.
//! `done` writes.

wit_bindgen::generate!({ path: "../../../wit", world: "charm" });

use charm::host::waits::{Until, commit_and_wait};
use charm::host::{cells, context, streams};
use exports::charm::host::guest::Guest;

const WEEK_MS: u64 = 7 * 24 * 3_600 * 1_000;

struct Waiter;

export!(Waiter);

impl Guest for Waiter {
    fn describe() -> Vec<u8> {
        let mut bytes = b"\xa1\x67streams\xa3".to_vec();
        for (name, shape) in [("go", "any"), ("done", "int"), ("link", "string")] {
            text(&mut bytes, name);
            bytes.extend(b"\xa1\x65shape");
            text(&mut bytes, shape);
        }
        bytes
    }

    fn handle(stream: String, event: Vec<u8>) -> Result<(), String> {
        match stream.as_str() {
            "go" => go(),
            "link" => open("peer")?.set(&[], &event).map_err(told),
            _ => write(),
        }
    }
}

fn go() -> Result<(), String> {
    let peer = open("peer")?.get(&[]).map_err(told)?.unwrap_or_default();
    // A DID is a string of 24 to 255 bytes.
    let peer = peer.get(2..).and_then(|did| std::str::from_utf8(did).ok()).ok_or("no peer")?;
    let stream = streams::open(Some(peer), "done").map_err(told)?;
    let options = streams::SendOptions { on_commit: None, deliver_after: None, expires_at: None };
    let sent = streams::send(&stream, &[0], &options).map_err(told)?;
    let receipts = commit_and_wait(&[sent], Until::All, WEEK_MS).map_err(told)?;
    match receipts.first() {
        Some(Some(receipt)) if receipt.outcome == "committed" => write(),
        _ => Err("not committed".into()),
    }
}

/// Writes what no turn wrote before: an equal value is no write.
fn write() -> Result<(), String> {
    open("output")?.set(&[], &[&[0x48], &context::random().to_be_bytes()[..]].concat()).map_err(told)
}

fn open(name: &str) -> Result<cells::Cell, String> {
    cells::open(None, name).map_err(told)
}

/// Appends a text of fewer than 24 bytes.
fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(0x60 | text.len() as u8);
    bytes.extend(text.as_bytes());
}

fn told(error: charm::host::types::Error) -> String {
    format!("{error:?}")
}
