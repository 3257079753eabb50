//! Chapter truth: what a host has said stays so, whatever changes (S9); what it says is durable (T8); what no longer fits
//! is not handed over (H2); what failed is kept, and what goes is counted (S11).
#![allow(clippy::unwrap_used, reason = "tests")]

mod answers;
#[path = "../by_hand.rs"]
mod by_hand;
mod changes;
mod letters;
mod misfits;

use charm_conformance::*;
use charm_host::{Charm, Did, Keyring};
use serde_json::json;

/// Returns a charm that takes everything of this shape on the stream `run`, and receipts on `back`.
fn taking(name: &str, shape: &str) -> Charm {
    on(name, "run", json!({ "shape": shape }))
}

/// Returns a charm with this one stream, and `back` for receipts.
fn on(name: &str, stream: &str, declared: serde_json::Value) -> Charm {
    let streams = json!({ stream: declared, "back": { "shape": "any", "receipts": true } });
    let description = value(json!({ "streams": streams }));
    Charm::new(name, by_hand::described(description.as_bytes()))
}

/// Returns somebody outside, whose key is in the keyring too.
fn visitor(keys: &Keys) -> Did {
    keys.create(&zeroize::Zeroizing::new([3; 32])).unwrap()
}
