//! What an operator must know at any level of the log: each kind at most once in `NOTICE_MS`, with how many more there were.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    env::Env,
    event::Event,
    limits::NOTICE_MS,
    log::say,
    receipt::Outcome,
    text::{clean, clip_message},
};

/// When each kind was told last. The kinds are few: words of the host's own.
pub struct Notices {
    env: Arc<dyn Env>,
    told: Mutex<BTreeMap<&'static str, Told>>,
}

struct Told {
    at: Duration,
    /// How many were not told since.
    since: u64,
}

impl Notices {
    /// Returns that nothing was told yet.
    pub fn new(env: Arc<dyn Env>) -> Notices {
        Notices { env, told: Mutex::default() }
    }

    /// Tells that an event of the charm `name` has become a dead letter.
    pub fn dead(&self, name: impl FnOnce() -> String, event: &Event, outcome: Outcome, why: &str) {
        let Some(more) = self.due(outcome.name()) else { return };
        let (name, Event { id, to, stream, .. }) = (name(), event);
        let (stream, why) = (clean(stream), clip_message(why));
        say(|| {
            tracing::warn!(
                charm = %to, %stream, event = %id, %outcome,
                "charm {name}: event {id} for {stream} {outcome}, a dead letter: {why}; charm why {id} tells what it has done, charm events {name} --dead lists it, --resend {id} sends it again{more}"
            );
        });
    }

    /// Tells that the host's own code failed in a turn.
    pub fn panicked(&self, name: impl FnOnce() -> String, event: &Event) {
        let Some(more) = self.due("panicked") else { return };
        let (name, Event { id, to, stream, .. }) = (name(), event);
        let stream = clean(stream);
        say(|| {
            tracing::error!(
                charm = %to, %stream, event = %id,
                "charm {name}: a host call panicked in the turn of event {id} for {stream}: a bug of the host or its embedder, not of the charm; charm events {name} --dead lists the event, --resend {id} sends it again{more}"
            );
        });
    }

    /// Returns what to add when one of this kind is to be told; else counts it.
    fn due(&self, kind: &'static str) -> Option<String> {
        let now = self.env.monotonic();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match told.get_mut(kind) {
            Some(told) if now < told.at + Duration::from_millis(NOTICE_MS) => {
                told.since += 1;
                return None;
            }
            Some(told) => told.since,
            None => 0,
        };
        told.insert(kind, Told { at: now, since: 0 });
        Some(if since == 0 { String::new() } else { format!(" ({since} more like it since the last that was told)") })
    }
}
