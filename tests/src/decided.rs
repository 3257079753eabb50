//! What a host has committed in memory, before it is durable: of that it tells in its log alone (T8).

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{LazyLock, Mutex},
};

use charm_host::Did;
use tracing::{
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{Layer, layer::Context};

/// The commits that the log told of each space, by DID.
static DECIDED: LazyLock<Mutex<HashMap<String, Decided>>> = LazyLock::new(Mutex::default);

#[derive(Clone, Copy, Default)]
struct Decided {
    turns: u64,
    last: u64,
}

/// Returns how many events a charm has settled in memory, on all hosts of this process.
pub fn decided(charm: Did) -> u64 {
    DECIDED.lock().unwrap().get(&charm.to_string()).copied().unwrap_or_default().turns
}

/// Returns the number of a charm's last commit in memory.
pub fn last_decided(charm: Did) -> u64 {
    DECIDED.lock().unwrap().get(&charm.to_string()).copied().unwrap_or_default().last
}

/// Where the spans of commits come by.
pub(crate) struct Decider;

impl<S: tracing::Subscriber> Layer<S> for Decider {
    fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if span.metadata().name() == "commit" {
            let mut commit = Commit::default();
            span.record(&mut commit);
            let mut decided = DECIDED.lock().unwrap();
            let decided = decided.entry(commit.space).or_default();
            decided.turns += u64::from(commit.answers);
            decided.last = commit.seq.max(decided.last);
        }
    }
}

#[derive(Default)]
struct Commit {
    space: String,
    seq: u64,
    answers: bool,
}

impl Visit for Commit {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "seq" {
            self.seq = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "space" => self.space = format!("{value:?}"),
            "event" => self.answers = true,
            _ => {}
        }
    }
}
