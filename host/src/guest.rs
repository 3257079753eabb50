//! Charms as wasm: loading components and running one call on a fresh instance.
//!
//! Instances are disposable: each call gets a new one from a pre-linked component, and no state lives in guest
//! memory between turns. Only modules below this one name wasmtime.

mod bindings;
mod budget;
mod calls;
mod code;
mod code_cache;
mod config;
mod ctx;
mod engine;
mod fault;
mod helper;
mod load;
mod log;
mod shelf;
mod threads;
mod wasi;

pub use code_cache::open as open_code_cache;
pub use ctx::Facts;
pub use engine::Guests;
pub use fault::Fault;
pub use helper::{Compiler, compile_helper};
pub use load::LoadError;
pub use shelf::Loaded;
pub use threads::Threads;

use crate::{
    directory::NearMiss,
    http::Outbound,
    meter::Room,
    recording::Recording,
    tx::{Cause, Transaction},
    value::Tree,
};

/// What a call to `handle` ended with. A failure of the host itself never shows here.
pub enum Ended {
    /// The handler returned ok.
    Done(Box<Transaction>),
    /// The handler returned an error text, cut to its bound.
    Rejected(String),
    /// The guest trapped or passed a limit.
    Fault(Fault),
    /// A conflict before its commit, as when the snapshot was given back: whatever the guest did counts for nothing, and the turn
    /// runs again.
    Beaten(Cause),
    /// It asked for an answer that is not recorded yet: what it asked for stands in the outbound. When the answer is there
    /// the turn runs again from its start, and gets it at the same place.
    Waits,
    /// It waits for what it sent: what it did so far is committed, and it goes on by a replay (S7).
    Segment(Box<Transaction>),
    /// It is to be tried again, after so many milliseconds: nothing of it remains (S13).
    Retry(u64),
    /// It needs derived cells that are not ready: when they are, it runs again from its start, on the same snapshot.
    Needs(Box<Transaction>),
    /// It found an inbox full: the turn runs again from its start when there is this room.
    Full(Room),
}

/// The end of one attempt at a turn: the outcome, and what the next attempt goes on from.
pub struct End {
    /// What became of it.
    pub ended: Ended,
    /// The recorder that was lent to the call.
    pub outbound: Outbound,
    /// What the turn was told.
    pub recording: Recording,
    /// Lines of log that it has told.
    pub told: usize,
    /// Fuel that the turn has taken so far.
    pub fuel: u64,
    /// Fuel that this attempt took, with its replay.
    pub took: u64,
    /// Charms that its wishes nearly found.
    pub misses: Vec<NearMiss>,
}

/// The end of one run of a derivation.
pub struct Derived {
    /// What it came to; none when the transaction needs other derived cells first, or has lost its snapshot.
    pub value: Option<Result<Tree, String>>,
    /// Whether the machine ended it, not what it computes: another time it may come to something else.
    pub is_passing: bool,
    /// What it has read.
    pub tx: Option<Box<Transaction>>,
    /// Fuel that it took.
    pub fuel: u64,
}

/// What is lent to one attempt.
pub struct Lent {
    /// Its transaction.
    pub tx: Box<Transaction>,
    /// The turn's HTTP.
    pub outbound: Outbound,
    /// What the turn was told.
    pub recording: Recording,
    /// Lines of log told before.
    pub told: usize,
}
