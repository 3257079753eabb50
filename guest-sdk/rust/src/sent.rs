//! Events that this turn sent, and waiting: for what becomes of them, or for time (S7, S10).

use std::time::Duration;

use crate::{Error, EventId, Receipt, Result, host};

/// An event that this turn has sent.
///
/// Most handlers need nothing of it. To go on with what the receiver did there are two ways: [`Stream::send_then`] takes a
/// stream of this charm that gets the receipt as an event of its own, and the functions here, all called `commit_and_..`,
/// wait inside the handler: `commit_and_wait` and `commit_and_wait_all` go on only after a success, those with `settle`
/// return what became of each.
///
/// # What waiting does
/// It first **commits** what the handler has done so far: its writes are there for everybody, its events go out. The
/// receiver then handles the event in its own transaction, and the handler goes on in a fresh one, which sees what the
/// receiver wrote. From there all is as before: `Ok` commits, an `Err` or a panic leaves nothing of *this* transaction.
///
/// ```
/// use charm_sdk::prelude::*;
///
/// #[wish("#google-auth")]
/// struct Auth { token: Cell<String>, refresh_token: Stream<()> }
///
/// #[charm]
/// pub struct Search { results: Cell<Vec<String>> }
///
/// #[handlers]
/// impl Search {
///     pub fn search(&self, query: String) -> Result<()> {
///         let auth = Auth::wish()?.one()?;
///         auth.refresh_token.send(&())?.commit_and_wait(Duration::from_secs(10))?;
///         let token = auth.token.need()?; // the new one
///         self.results.set(&look_for(&query, &token)?)
///     }
/// }
/// # fn look_for(_: &str, _: &str) -> Result<Vec<String>> { Ok(vec![]) }
/// ```
///
/// # What can happen meanwhile
/// While the handler waits, this charm takes other events. What was read before the wait may have changed after it, so read
/// it again:
///
/// ```
/// # use charm_sdk::prelude::*;
/// # #[charm]
/// # pub struct Shop { sold: Cell<u32> }
/// # #[handlers]
/// # impl Shop { pub fn ship(&self, _: ()) -> Result<()> { Ok(()) } }
/// # impl Shop {
/// fn wrong(&self) -> Result<()> {
///     let sold = self.sold.get()?.unwrap_or(0);
///     Self::SHIP.send(&())?.commit_and_wait(Duration::from_secs(10))?;
///     self.sold.set(&(sold + 1)) // forgets what was sold during the wait
/// }
///
/// fn right(&self) -> Result<()> {
///     Self::SHIP.send(&())?.commit_and_wait(Duration::from_secs(10))?;
///     let sold = self.sold.get()?.unwrap_or(0);
///     self.sold.set(&(sold + 1))
/// }
/// # }
/// ```
///
/// # What stays when the handler fails afterwards
/// All that was committed at the wait. `?` rejects the event, and its sender is told so, but nothing is taken back. Write
/// before a wait only what is true however it ends:
///
/// ```
/// # use charm_sdk::prelude::*;
/// # #[charm]
/// # pub struct Orders { state: Cell<String> }
/// # #[handlers]
/// # impl Orders { pub fn pay(&self, _: ()) -> Result<()> { Ok(()) } }
/// # impl Orders {
/// fn wrong(&self) -> Result<()> {
///     self.state.set(&"paid".into())?; // stays, also when nobody pays
///     Self::PAY.send(&())?.commit_and_wait(Duration::from_secs(10))
/// }
///
/// fn right(&self) -> Result<()> {
///     self.state.set(&"waits for its payment".into())?;
///     match Self::PAY.send(&())?.commit_and_wait(Duration::from_secs(10)) {
///         Ok(()) => self.state.set(&"paid".into()),
///         Err(Error::NotCommitted { .. }) => self.state.set(&"not paid".into()),
///         Err(other) => Err(other), // in time nobody knows: the payment may still come
///     }
/// }
/// # }
/// ```
///
/// # How the host does it
/// A handler that waits holds no instance. To go on, the host runs it again from its start, on a fresh one, and tells each
/// host call what it was told before, up to the wait: nothing is done or sent twice, also after a restart of the host. Code
/// before a wait must therefore ask the same things again. It does, unless it depends on something outside of the
/// event, the cells and [`context`](crate::context); a charm has no such thing.
///
/// [`Stream::send_then`]: crate::Stream::send_then
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    id: EventId,
}

impl Sent {
    pub(crate) fn new(id: EventId) -> Self {
        Self { id }
    }

    /// Returns the id of the event, which is also the id of its receipt.
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// fn ask(printer: &Stream<String>, asked: &Cell<EventId>) -> Result<()> {
    ///     asked.set(printer.send(&"a letter".into())?.id())
    /// }
    /// # let _ = ask;
    /// ```
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// Commits what this handler has done so far, waits until the event is settled, and goes on only when its receiver
    /// committed. See [`Sent`] for what can happen meanwhile, and what stays.
    ///
    /// # Errors
    /// [`NotCommitted`](Error::NotCommitted) when it came to another outcome, [`TimedOut`](Error::TimedOut) when it came
    /// to none in time. After [`Limit`](Error::Limit) nothing was committed, and the handler goes on where it was.
    pub fn commit_and_wait(&self, timeout: Duration) -> Result<()> {
        self.commit_and_settle(timeout)?.ok_or(Error::TimedOut)?.committed()
    }

    /// Commits what this handler has done so far, waits until the event is settled, and returns its receipt: of every
    /// outcome, and `None` when there is none in time.
    ///
    /// # Errors
    /// After [`Limit`](Error::Limit) nothing was committed, and the handler goes on where it was.
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// fn print(printer: &Stream<String>, log: &Cell<String>) -> Result<()> {
    ///     let letter = printer.send(&"a letter".into())?;
    ///     log.set(&match letter.commit_and_settle(Duration::from_secs(60))? {
    ///         Some(receipt) => receipt.outcome.to_string(),
    ///         None => "not yet".into(),
    ///     })
    /// }
    /// # let _ = print;
    /// ```
    pub fn commit_and_settle(&self, timeout: Duration) -> Result<Option<Receipt>> {
        Ok(commit_and_settle_all([self], timeout)?.pop().flatten())
    }

    /// Withdraws the event: see [`cancel`].
    ///
    /// # Errors
    /// As [`cancel`].
    pub fn cancel(&self) -> Result<()> {
        cancel(&self.id)
    }
}

/// Withdraws an event that this charm sent, in whichever turn: with the commit of this one it is
/// [`Cancelled`](crate::Outcome::Cancelled), unless it has begun by then. One that has begun, is settled, or was sent by
/// another stays as it is: its receipt says what became of it.
///
/// # Errors
/// [`Invalid`](Error::Invalid) for what is no id, [`Limit`](Error::Limit).
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[charm]
/// pub struct Alarm { set: Cell<EventId>, rang: Cell<String> }
///
/// #[handlers]
/// impl Alarm {
///     pub fn set(&self, words: String) -> Result<()> {
///         self.stop(())?;
///         let ring = Self::RING.send_with(&words, When::after(Duration::from_secs(60)))?;
///         self.set.set(ring.id())
///     }
///
///     pub fn stop(&self, _: ()) -> Result<()> {
///         self.set.get()?.map_or(Ok(()), |set| cancel(&set))
///     }
///
///     pub fn ring(&self, words: String) -> Result<()> {
///         self.rang.set(&words)
///     }
/// }
/// # #[cfg(not(target_arch = "wasm32"))] {
/// let host = charm_sdk::testing::Host::new();
/// let alarm = host.install::<Alarm>("alarm");
/// host.deliver(&alarm, Alarm::SET, &"tea".into());
/// host.deliver(&alarm, Alarm::STOP, &());
/// host.pass(Duration::from_secs(60));
/// assert_eq!(host.cell::<String>(&alarm, "rang"), None);
/// # }
/// ```
pub fn cancel(id: &str) -> Result<()> {
    host::cancel(id)
}

/// Commits what this handler has done so far, and goes on in a fresh transaction when so much time is over. Meanwhile this
/// charm takes other events, and time runs on while the host is down. What can happen meanwhile, and what stays, is as with
/// every wait: see [`Sent`]. A handler that need not go on sends itself an event for later instead: [`When::after`].
///
/// # Errors
/// After [`Limit`](Error::Limit) nothing was committed, and the handler goes on where it was.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[charm]
/// pub struct Oven { state: Cell<String> }
///
/// #[handlers]
/// impl Oven {
///     pub fn bake(&self, minutes: u64) -> Result<()> {
///         self.state.set(&"on".into())?; // for everybody to see
///         commit_and_sleep(Duration::from_secs(60 * minutes))?;
///         if self.state.need()? == "on" {
///             self.state.set(&"done".into())?; // nobody has turned it off
///         }
///         Ok(())
///     }
/// }
/// ```
///
/// [`When::after`]: crate::When::after
pub fn commit_and_sleep(time: Duration) -> Result<()> {
    host::sleep(millis(time))
}

/// Commits what this handler has done so far, waits until all these events are settled, and goes on only when the
/// receiver of each committed. See [`Sent`] for what can happen meanwhile, and what stays.
///
/// # Errors
/// Those of [`Sent::commit_and_wait`], of the first event that has one. [`Invalid`](Error::Invalid) for no event: nothing
/// was committed, and the handler goes on where it was.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
/// fn print_all(printer: &Stream<String>, letters: &[String]) -> Result<()> {
///     let sent = letters.iter().map(|letter| printer.send(letter)).collect::<Result<Vec<_>>>()?;
///     commit_and_wait_all(&sent, Duration::from_secs(60))
/// }
/// # let _ = print_all;
/// ```
pub fn commit_and_wait_all<'a>(events: impl IntoIterator<Item = &'a Sent>, timeout: Duration) -> Result<()> {
    let receipts = commit_and_settle_all(events, timeout)?;
    receipts.into_iter().try_for_each(|receipt| receipt.ok_or(Error::TimedOut)?.committed())
}

/// Commits what this handler has done so far, waits until all these events are settled, and returns their receipts in the
/// order of the events: of every outcome, and `None` for what is not settled in time.
///
/// # Errors
/// [`Invalid`](Error::Invalid) for no event, [`Limit`](Error::Limit): nothing was committed, and the handler goes on where
/// it was.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
/// fn print_all(printer: &Stream<String>, letters: &[String], printed: &Cell<u64>) -> Result<()> {
///     let sent = letters.iter().map(|letter| printer.send(letter)).collect::<Result<Vec<_>>>()?;
///     let receipts = commit_and_settle_all(&sent, Duration::from_secs(60))?;
///     printed.set(&(receipts.iter().flatten().filter(|receipt| receipt.committed().is_ok()).count() as u64))
/// }
/// # let _ = print_all;
/// ```
pub fn commit_and_settle_all<'a>(
    events: impl IntoIterator<Item = &'a Sent>,
    timeout: Duration,
) -> Result<Vec<Option<Receipt>>> {
    settle(events, false, timeout)
}

/// Commits what this handler has done so far, waits until at least one of these events is settled, and returns the
/// receipts of all that are settled by then, in the order of the events: only `None` when none is in time. What is still
/// open can be waited for again.
///
/// # Errors
/// As [`commit_and_settle_all`].
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
/// fn print_somewhere(printers: [&Stream<String>; 2]) -> Result<()> {
///     let [here, there] = printers.map(|printer| printer.send(&"a letter".into()));
///     let first = commit_and_settle_first([&here?, &there?], Duration::from_secs(60))?;
///     first.into_iter().flatten().next().ok_or(Error::TimedOut)?.committed()
/// }
/// # let _ = print_somewhere;
/// ```
pub fn commit_and_settle_first<'a>(
    events: impl IntoIterator<Item = &'a Sent>,
    timeout: Duration,
) -> Result<Vec<Option<Receipt>>> {
    settle(events, true, timeout)
}

/// The one way to the host's call: a charm that takes no such way does not import it, and its turns are not recorded.
fn settle<'a>(
    events: impl IntoIterator<Item = &'a Sent>,
    first: bool,
    timeout: Duration,
) -> Result<Vec<Option<Receipt>>> {
    let ids: Vec<EventId> = events.into_iter().map(|sent| sent.id.clone()).collect();
    host::wait(&ids, first, millis(timeout))
}

/// What is left of a millisecond counts as a whole one: never less than was asked for.
pub(crate) fn millis(time: Duration) -> u64 {
    let part = time.subsec_nanos().div_ceil(1_000_000);
    time.as_secs().saturating_mul(1000).saturating_add(part.into())
}
