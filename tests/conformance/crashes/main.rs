//! Chapter crashes: what is left when the process is killed, when the power is cut, when a sync fails and when the
//! disk is really full. The host is a process of its own (`tests/crash/host.rs`); what it acknowledges goes to a file
//! outside that process and off the disk that fails.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[path = "../by_hand.rs"]
mod by_hand;
mod deaths;
mod disk;
mod full;
mod kills;
mod place;
mod power;
mod queue;
mod syncs;
mod times;
mod victim;

use std::io::Write;

/// Says in the output of the test, whatever its result, that it proved nothing here.
fn skipped(why: &str) {
    // Not `eprintln!`, which a test that passes does not show.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
