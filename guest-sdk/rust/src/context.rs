//! What a turn may know about itself. All of it is the same in every rerun of the turn.
//!
//! # Examples
//! ```
//! use charm_sdk::prelude::*;
//!
//! fn expired(expires_at: u64) -> bool {
//!     expires_at <= context::time()
//! }
//! # let _ = expired;
//! ```

use crate::{Did, EventId, host};

/// Returns the DID of this charm.
pub fn me() -> Did {
    host::me()
}

/// Returns the DID that sent the event: a charm, or someone outside (I4).
pub fn sender() -> Did {
    host::sender()
}

/// Returns the id of the event.
pub fn event() -> EventId {
    host::event()
}

/// Returns the turn's time in milliseconds since 1970-01-01T00:00:00Z. It does not move between two waits: after a wait
/// ([`Sent`](crate::Sent)) it is the time of going on, never less than before.
pub fn time() -> u64 {
    host::time()
}

/// Returns the next 64 bits of the turn's randomness, seeded from the event. Not for keys.
pub fn random() -> u64 {
    host::random()
}

/// Returns how often this turn was tried again because its handler asked for that ([`retry!`](crate::retry)): 0 at first.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// /// Twice as long each time, from a second on.
/// fn pause() -> Duration {
///     Duration::from_secs(1 << context::retries())
/// }
/// # let _ = pause;
/// ```
pub fn retries() -> u32 {
    host::retries()
}
