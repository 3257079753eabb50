//! Requests that turns wait for (S7, A4). Each leaves apart from its turn, when the commit is durable that says that it is to be
//! made, and its answer is a commit of its own, with which the turn goes on.
//!
//! A host that ends between the two does not know whether it was made: the next one makes it again where that does no harm, and
//! says of every other that it is unknown.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;

use super::{Stage, resume::rests};
use crate::{
    core::Answered,
    did::Did,
    http::{self, FetchError, HttpError},
    log::say,
    record::Hash,
    recording::{self, Ask, Pieces, Told, Unread},
    rows::Queued,
    run_queue::RunQueue,
    tx::{Refusal, Unavailable},
};

/// A request that a turn waits for.
#[derive(Debug)]
pub struct Asking {
    queued: Arc<Queued>,
    /// Hash over what the turn was told before.
    told: Hash,
    /// The commit that says that the request is to be made is not after this one.
    order: u64,
    /// The request; none when a host before may have made it, and the store has it.
    ask: Option<Ask>,
}

impl Asking {
    /// Returns a request that no host has made, of a turn that was told what has this hash.
    pub fn new(queued: Arc<Queued>, ask: Ask, told: Hash, order: u64) -> Asking {
        Asking { queued, told, order, ask: Some(ask) }
    }
}

impl Stage {
    /// Makes a request apart from its turn, unless the host ends before.
    pub fn ask(self: Arc<Stage>, asking: Asking, ready: Arc<RunQueue>) {
        let env = self.env.clone();
        env.spawn(Box::pin(async move {
            tokio::select! {
                biased;
                () = ready.closed() => {}
                () = self.exchange(asking) => {}
            }
        }));
    }

    /// Sees to the requests of a charm's turns whose answers a host before has not recorded.
    pub fn ask_again(self: &Arc<Stage>, charm: &Did, ready: &Arc<RunQueue>) {
        for queued in self.committer.ask(charm) {
            if let Some(told) = self.committer.told(&queued) {
                self.clone().ask(Asking { queued, told, order: 0, ask: None }, ready.clone());
            }
        }
    }

    async fn exchange(&self, mut asking: Asking) {
        // When the host does not write any more, the next one says what became of it.
        if self.committer.durable_at_last(asking.order).await.is_err() {
            return;
        }
        // What a large event carries is on disk alone from now on.
        let event = &asking.queued.event;
        let Some(queued) = self.committer.find(&event.to, &event.id) else { return };
        asking.queued = queued.clone();
        if AssertUnwindSafe(self.make(asking)).catch_unwind().await.is_err() {
            let _ = self.end_panicked(&queued).await;
        }
    }

    /// Ends a turn whose request panicked: its dead letter has all that its event carries, which may be on disk alone.
    async fn end_panicked(&self, queued: &Queued) -> Result<(), Unavailable> {
        let Some(queued) = self.committer.find(&queued.event.to, &queued.event.id) else { return Ok(()) };
        match self.committer.bring_back(queued).await {
            Ok(queued) => self.panicked(&queued),
            // The next host says what became of it.
            Err(error) => {
                say(|| tracing::warn!(%error, "the event of a request that panicked cannot be read"));
                Ok(())
            }
        }
    }

    /// Makes a request and records what came of it. Its time is bounded: that for a place, and its own.
    async fn make(&self, Asking { queued, told, order: _, ask }: Asking) -> Result<(), Unavailable> {
        let limits = self.committer.limits();
        let (is_new, charm) = (ask.is_some(), queued.event.to);
        let (place, ask) = match self.places.take(&charm).now_or_never() {
            Some(place) => (place, ask),
            None => {
                // Until there is a place the request is not kept in memory.
                drop(ask);
                let place = tokio::select! {
                    biased;
                    place = self.places.take(&charm) => place,
                    () = self.env.sleep(Duration::from_millis(limits.http_turn_ms_max)) => None,
                };
                (place, None)
            }
        };
        let ask = match ask {
            Some(ask) => Some(ask),
            None => match self.kept(&queued, &told).await {
                Ok(ask) => ask,
                Err(later) => {
                    rests(&queued, &later.to_string());
                    return Ok(());
                }
            },
        };
        // Who waits no more asks for nothing.
        if !self.committer.lacks_answer(&queued, &told) {
            return Ok(());
        }
        let unknown = |ask: Option<&Ask>| {
            let called = ask.map_or_else(|| "a request".to_owned(), |ask| http::called(&ask.request));
            Told::Http(HttpError::Unknown(called))
        };
        let answer = match ask {
            Some(ask) if place.is_some() && (is_new || ask.is_repeatable) => self.answer_to(&queued, ask).await,
            // It has not left, and does not.
            None if is_new && place.is_some() => {
                Told::Http(HttpError::Connection("the host cannot read the request: it has not left".to_owned()))
            }
            _ if is_new => Told::Refused(Refusal::limit("exchanges-max", limits.exchanges_max)),
            ask => unknown(ask.as_ref()),
        };
        drop(place);
        let (recording, piece) = recording::answer(&told, answer);
        say(|| tracing::debug!(event = %queued.event.id, "the answer to a request is there"));
        self.committer.answer(&queued, Answered { before: told, recording, piece })
    }

    /// Returns the request that a host before was to make; none when it cannot be read, which the turn is told when it goes on.
    ///
    /// # Errors
    /// When only a later host can read it.
    async fn kept(&self, queued: &Queued, told: &Hash) -> Result<Option<Ask>, Unread> {
        let Some(Ok(pieces)) = self.committer.recording(queued.position).await else { return Ok(None) };
        match Pieces::read(&pieces, told) {
            Ok(pieces) => Ok(pieces.into_ask()),
            Err(Unread::Damaged) => Ok(None),
            Err(later) => Err(later),
        }
    }

    /// Makes a request, if it may be made still (A2), and returns what its turn is told.
    async fn answer_to(&self, queued: &Queued, ask: Ask) -> Told {
        let grants = self.committer.directory().http(&queued.event.to);
        let private = match http::covered(&ask.request, &grants) {
            Ok(grant) => grant.private,
            Err(denied) => return Told::Http(denied),
        };
        let timeout = Duration::from_millis(ask.timeout_ms);
        let answer = http::exchange(&*self.transport, &*self.env, ask.request, private, timeout).await;
        match http::told(answer, self.committer.limits()) {
            Ok(answer) => Told::Ok(postcard::to_stdvec(&answer).unwrap_or_default()),
            Err(FetchError::Http(error)) => Told::Http(error),
            Err(FetchError::Limit { name, max }) => Told::Refused(Refusal::Limit { name: name.into(), max }),
            Err(FetchError::Invalid(text)) => Told::Refused(Refusal::Invalid(text)),
            Err(FetchError::Waits) => Told::Http(HttpError::Connection("no answer".to_owned())),
        }
    }
}
