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

/// The last commit that the log told of each space, by DID.
static DECIDED: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

/// Returns the number of a charm's last commit in memory, on a host with a [`GatedStore`](crate::GatedStore).
pub fn decided(charm: Did) -> u64 {
    DECIDED.lock().unwrap().get(&charm.to_string()).copied().unwrap_or(0)
}

/// Where the spans of commits come by.
pub(crate) struct Decider;

impl<S: tracing::Subscriber> Layer<S> for Decider {
    fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if span.metadata().name() == "commit" {
            let mut commit = Commit::default();
            span.record(&mut commit);
            let mut decided = DECIDED.lock().unwrap();
            let last = decided.entry(commit.space).or_default();
            *last = commit.seq.max(*last);
        }
    }
}

#[derive(Default)]
struct Commit {
    space: String,
    seq: u64,
}

impl Visit for Commit {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "seq" {
            self.seq = value;
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "space" {
            self.space = format!("{value:?}");
        }
    }
}
