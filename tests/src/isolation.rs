//! What concurrent transactions see of each other: a workload from a seed, a recorder of what clients saw, and a
//! check of the record. Knows no host: the chapter `isolation` drives one with it, and a small database with
//! planted bugs that qualify the check.
//!
//! A [`Workload`] hands out [`Transaction`]s. Clients note in a [`History`] when each begins and how it ends;
//! [`check`] then looks for anything that no order of the transactions explains, one by one and each between its
//! begin and its end (strict serializability), with the crate `adya`, which does what Elle does (Kingsbury and
//! Alvaro, VLDB 2020). [`History::replay`] is a second check, for who knows the order of commits.

mod check;
mod history;
mod workload;

pub use check::{Anomalies, check};
pub use history::{History, Seen};
pub use workload::{End, Key, Kind, Step, Transaction, Workload, told};

/// Longest text about one history, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
