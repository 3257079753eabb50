//! Stops turns in the middle: between what a turn has read and its commit.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing_subscriber::{Layer, layer::Context};

use crate::Logs;

/// A place in scripts where turns stop until the test lets them go on: a line of log, which the subscriber of this
/// process keeps waiting. It blocks the thread of the turn: give the test `flavor = "multi_thread"`. When the test ends,
/// whatever it comes to, all go on.
#[derive(Clone)]
pub struct Hold(Arc<Held>);

/// What a test has of a place.
struct Held(Arc<Inner>);

struct Inner {
    name: String,
    arrived: watch::Sender<usize>,
    released: watch::Sender<usize>,
}

static HOLDS: Mutex<Vec<Arc<Inner>>> = Mutex::new(Vec::new());

impl Hold {
    /// Returns a place where no turn goes on yet.
    pub fn new() -> Hold {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Logs::start();
        let name = format!("held at {}.", NUMBER.fetch_add(1, Ordering::Relaxed));
        let inner = Arc::new(Inner { name, arrived: watch::Sender::new(0), released: watch::Sender::new(0) });
        HOLDS.lock().unwrap().push(inner.clone());
        Hold(Arc::new(Held(inner)))
    }

    fn inner(&self) -> &Inner {
        &self.0.0
    }

    /// Returns the step that stops there.
    pub fn step(&self) -> Json {
        json!(["log", "info", self.inner().name])
    }

    /// Lets `count` more turns go on, those that came first first.
    pub fn release(&self, count: usize) {
        self.inner().released.send_modify(|released| *released += count);
    }

    /// Lets all turns go on that came so far, and none that comes from now on.
    pub fn hold(&self) {
        self.inner().released.send_replace(*self.inner().arrived.borrow());
    }

    /// Returns how many turns have come so far.
    pub fn count(&self) -> usize {
        *self.inner().arrived.borrow()
    }

    /// Waits until `count` turns have come in all.
    ///
    /// # Panics
    /// When that takes longer than 30 s.
    pub async fn arrived(&self, count: usize) {
        let mut arrived = self.inner().arrived.subscribe();
        let wait = arrived.wait_for(|now| *now >= count);
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("a turn comes in time").unwrap();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HOLDS.lock().unwrap_or_else(PoisonError::into_inner).retain(|hold| !Arc::ptr_eq(hold, &self.0));
        self.0.released.send_replace(usize::MAX);
    }
}

impl Inner {
    fn stop(&self) {
        let mut number = 0;
        self.arrived.send_modify(|arrived| {
            *arrived += 1;
            number = *arrived;
        });
        let mut released = self.released.subscribe();
        let released = released.wait_for(|released| *released >= number);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(released).map(drop).unwrap());
    }
}

impl Default for Hold {
    fn default() -> Hold {
        Hold::new()
    }
}

/// Where the lines come by.
pub(crate) struct Holder;

impl<S: tracing::Subscriber> Layer<S> for Holder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "charm::guest" {
            return;
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        let found = HOLDS.lock().unwrap().iter().find(|hold| text.0.contains(&hold.name)).cloned();
        if let Some(hold) = found {
            hold.stop();
        }
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{value:?} "));
    }
}
