//! The conformance suite of the charm runtime: a black box over the public API of `charm-host`, driven through
//! real wasm guests. Chapters are in `conformance/`; this library is what they share.
//!
//! Most tests are plain data: they send scripts to the guest [`probe`] and look at what the host calls gave.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clock;
mod decided;
mod edits;
mod hold;
mod hosts;
pub mod isolation;
mod ledger;
mod logs;
mod probe;
mod seeds;
mod stores;
mod wire;

use std::{collections::BTreeSet, path::PathBuf};

use charm_host::{Names, Value};

pub use clock::Clock;
pub use decided::{decided, last_decided};
pub use edits::{edited, whole, written};
pub use hold::Hold;
pub use hosts::{Home, builder, contents, copy_store, files_with, host, quiet_builder};
pub use ledger::Ledger;
pub use logs::Logs;
pub use probe::{
    all_of, begin, cell, cells_of, commits, counted, grant, note, of, pair, probe, probe_charm, probes, receipt,
    results, revision, run, run_unasked, script, send, settle, steps, streams_of, until, value_of, wait_all, waiting,
    wired,
};
pub use seeds::{Random, seed, times};
pub use stores::{Control, GatedStore, Keys};
pub use wire::{WIRE, Wire};

/// Returns a component that `cargo xtask charms` built.
///
/// # Panics
/// When it is not there.
#[track_caller]
pub fn component(name: &str) -> Vec<u8> {
    let path = target().join("charms").join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|_| panic!("{} is missing: run cargo xtask charms", path.display()))
}

/// Returns a component, or a part of one, in which a text is another one of the same length.
///
/// # Panics
/// When the text is not there, or the other is longer or shorter.
pub fn patched(mut bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let is_there = |at: &usize| bytes[*at..].starts_with(from.as_bytes());
    let places: Vec<usize> = (0..bytes.len()).filter(is_there).collect();
    assert!(!places.is_empty(), "{from} is there");
    places.into_iter().for_each(|at| bytes[at..at + from.len()].copy_from_slice(to.as_bytes()));
    bytes
}

/// Makes a component of its text. What is no such text stays as it is: to be refused.
pub fn assembled(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|_| text.into())
}

/// Returns the root of the repository that this runs in.
///
/// # Panics
/// Outside of any.
pub fn root() -> PathBuf {
    charm_demo_servers::root().unwrap()
}

/// Returns where cargo has put a program of this repository: tests are in `target/<profile>/deps`.
///
/// # Panics
/// Never, in a test.
pub fn program(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(name)
}

fn target() -> PathBuf {
    root().join("target")
}

/// Returns a value from JSON.
///
/// # Panics
/// For what the data model does not hold.
pub fn value(json: serde_json::Value) -> Value {
    Value::encode(&json).unwrap()
}

/// Decodes a value to JSON.
///
/// # Panics
/// For bytes and links, which JSON does not have.
pub fn json(value: &Value) -> serde_json::Value {
    value.decode().unwrap()
}

/// Returns the names that a grant covers.
pub fn only(names: &[&str]) -> Names {
    Names::Only(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>())
}
