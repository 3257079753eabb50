//! Counts turns that run again after a conflict, in all hosts of this process: without any the tests prove nothing.

use std::sync::{
    Once,
    atomic::{AtomicU64, Ordering},
};

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::{
    filter::filter_fn,
    layer::{Context, Layer, SubscriberExt},
    util::SubscriberInitExt,
};

static COUNT: AtomicU64 = AtomicU64::new(0);

struct Count;

impl<S: Subscriber> Layer<S> for Count {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts to count; again changes nothing.
pub fn count() {
    static START: Once = Once::new();
    // The one event of the host that tells a cause.
    let is_rerun = |metadata: &Metadata<'_>| metadata.is_event() && metadata.fields().field("cause").is_some();
    START.call_once(|| tracing_subscriber::registry().with(Count.with_filter(filter_fn(is_rerun))).init());
}

/// Returns how many there were.
pub fn so_far() -> u64 {
    COUNT.load(Ordering::Relaxed)
}
