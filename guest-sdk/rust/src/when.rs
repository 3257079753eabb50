//! When an event is handled, until when, and what then (S10).

use std::time::Duration;

use crate::sent::millis;
use crate::value::encode;
use crate::{OnCommit, OwnStream, Result, context};

/// What is asked of one send beside the event: see [`Stream::send_with`](crate::Stream::send_with).
///
/// Times are of the wall and outlive the host. An event that is not handled yet takes room of its sender. What is sent
/// later does not wait for it. [`Sent::cancel`](crate::Sent::cancel) withdraws it.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// const HOUR: Duration = Duration::from_secs(3600);
///
/// #[charm]
/// pub struct Reminders { due: Cell<Vec<String>>, missed: Cell<Vec<String>> }
///
/// #[handlers]
/// impl Reminders {
///     /// In an hour, within the hour after that; and tells what came of it.
///     pub fn remind(&self, of: String) -> Result<()> {
///         Self::DUE.send_with(&of, When::after(HOUR).expires_after(HOUR).then(Self::DONE, &of)?)?;
///         Ok(())
///     }
///
///     pub fn due(&self, of: String) -> Result<()> {
///         let mut due = self.due.get()?.unwrap_or_default();
///         due.push(of);
///         self.due.set(&due)
///     }
///
///     pub fn done(&self, done: Settled<String>) -> Result<()> {
///         let Err(failed) = done.committed() else { return Ok(()) };
///         let mut missed = self.missed.get()?.unwrap_or_default();
///         missed.push(format!("{}: {}", failed.tag, failed.receipt.outcome));
///         self.missed.set(&missed)
///     }
/// }
/// # #[cfg(not(target_arch = "wasm32"))] {
/// let host = charm_sdk::testing::Host::new();
/// let reminders = host.install::<Reminders>("reminders");
/// host.deliver(&reminders, Reminders::REMIND, &"tea".into());
/// assert_eq!(host.cell::<Value>(&reminders, "due"), None);
/// host.pass(HOUR);
/// assert_eq!(host.cell(&reminders, "due"), Some(vec!["tea".to_string()]));
///
/// host.deliver(&reminders, Reminders::REMIND, &"cake".into());
/// host.pause(&reminders);
/// host.pass(2 * HOUR);
/// host.resume(&reminders);
/// host.run_until_idle();
/// assert_eq!(host.cell(&reminders, "missed"), Some(vec!["cake: expired".to_string()]));
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "`send_with` takes it"]
pub struct When {
    pub(crate) deliver_after: Option<u64>,
    pub(crate) expires_at: Option<u64>,
    /// The stream that gets the receipt, and the tag.
    pub(crate) then: Option<(&'static str, Vec<u8>)>,
}

impl When {
    /// In line at once, as [`Stream::send`](crate::Stream::send) does it.
    pub fn at_once() -> Self {
        Self { deliver_after: None, expires_at: None, then: None }
    }

    /// Not before so much time after [`context::time`].
    pub fn after(time: Duration) -> Self {
        Self::at(context::time().saturating_add(millis(time)))
    }

    /// Not before that time, in milliseconds since 1970-01-01T00:00:00Z. One that is over delays nothing.
    pub fn at(time: u64) -> Self {
        Self { deliver_after: Some(time), ..Self::at_once() }
    }

    /// [`Expired`](crate::Outcome::Expired) when it has not begun so long after it was due, or after [`context::time`]. What
    /// has begun goes on.
    pub fn expires_after(self, time: Duration) -> Self {
        let due = self.deliver_after.unwrap_or_default().max(context::time());
        self.expires_at(due.saturating_add(millis(time)))
    }

    /// [`Expired`](crate::Outcome::Expired) when it has not begun at that time, in milliseconds since
    /// 1970-01-01T00:00:00Z. What has begun goes on.
    pub fn expires_at(self, time: u64) -> Self {
        Self { expires_at: Some(time), ..self }
    }

    /// When the outcome settles, the stream `then` of this charm gets the receipt and `tag`, as with
    /// [`Stream::send_then`](crate::Stream::send_then).
    ///
    /// # Errors
    /// [`Invalid`](crate::Error::Invalid) for a tag that is not in the data model.
    pub fn then<C: OnCommit>(self, then: OwnStream<C>, tag: &C::Tag) -> Result<Self> {
        Ok(Self { then: Some((then.name(), encode(tag)?)), ..self })
    }
}
