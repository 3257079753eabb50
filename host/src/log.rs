//! Calls to the embedder's subscriber. It may panic: then what was to be said is lost, and nothing else.
//!
//! Whatever the host tells while others depend on it goes through here: turns, commits, what is dropped in an unwinding.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
};

use tracing::Span;

/// Says something.
pub fn say(call: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(call));
}

/// Makes a span; none when that panics.
pub fn span(make: impl FnOnce() -> Span) -> Span {
    catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| Span::none())
}

/// Does `work`, which only says things, within a span.
pub fn within(make: impl FnOnce() -> Span, work: impl FnOnce()) {
    let span = Scope(Some(span(make)));
    span.enter(work);
}

/// A span that is left and closed without a panic.
struct Scope(Option<Span>);

impl Scope {
    /// Does what does not panic within the span.
    fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let entered = catch_unwind(AssertUnwindSafe(|| self.0.as_ref().map(Span::enter)));
        let done = work();
        say(|| drop(entered));
        done
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let span = self.0.take();
        say(|| drop(span));
    }
}

/// Completes with a future that runs within a span. It must not panic: what panics is caught within.
pub async fn run_within<F: Future>(span: Span, future: F) -> F::Output {
    let (scope, mut future) = (Scope(Some(span)), pin!(future));
    poll_fn(|context| scope.enter(|| future.as_mut().poll(context))).await
}
