//! Chapter growth: what a later version may add, tried on this one; docs/growth.md has the rules.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they skip")]

#[path = "../by_hand.rs"]
mod by_hand;
mod kept;
mod recordings;
mod stores;
mod worlds;
