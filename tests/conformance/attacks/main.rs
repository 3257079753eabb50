//! Attacks: hostile charms, each beside good neighbours that must not notice (A5, A6). What is asserted is counted
//! (turns, outcomes, bytes), never timed: how long things take stands in `cargo xtask bench attacks`.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests, which say what they skip")]

mod authority;
#[path = "../by_hand.rs"]
mod by_hand;
mod circles;
mod commits;
mod compile;
mod components;
mod ends;
mod fuel;
mod handles;
mod http;
mod mix;
mod names;
mod neighbours;
mod panics;
mod process;
#[path = "../raw.rs"]
mod raw;
mod shares;
mod slots;
mod text;
mod time;
mod twins;
mod waits;

use charm_conformance::*;
use charm_host::*;
use neighbours::Neighbours;
use serde_json::json;

/// A charm by hand with text in place of some of its parts, installed without any grant.
async fn hostile(host: &Host, name: &str, changes: &[(&str, &str)]) -> Did {
    host.install(Charm::new(name, by_hand::charm(changes))).await.unwrap()
}

/// The neighbour is served: a turn of its own commits.
async fn is_served(host: &Host, neighbour: Did) {
    let receipt = run(host, neighbour, json!([["set", "alive", [], true], ["remove", "alive", []]])).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
}

/// A5: the smallest hostile charm: it traps, and its neighbour goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_that_traps_hurts_nobody() {
    let host = host().await;
    let neighbour = probe(&host, "neighbour").await;
    let evil = hostile(&host, "evil", &[("in handle", "unreachable")]).await;
    let receipt = host.request(NewEvent::new(evil, "run", value(json!(1)))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Faulted, "{receipt:?}");
    is_served(&host, neighbour).await;
}
