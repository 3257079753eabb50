//! Chapter growth: what a later version may add, tried on this one; docs/growth.md has the rules.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../by_hand.rs"]
mod by_hand;
mod stores;
mod worlds;
