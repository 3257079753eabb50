//! What is told of turns: those that are under way now, and why something happened.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::oneshot;

use super::Host;
use crate::{
    archive::ReadError,
    did::Did,
    event::EventId,
    limits::TURNS_PAGE_MAX,
    listing::{TurnInfo, TurnState},
    live::Present,
    store::{Store, StoreError},
    tx::Unavailable,
    why::{self, Why},
};

impl Host {
    /// Returns up to `max` turns that run, or that have begun and wait for something, whose events have positions after
    /// `after`, in the order in which those were sent; of one charm or of all. 0 starts at the first; a page has no more than
    /// [`TURNS_PAGE_MAX`](crate::TURNS_PAGE_MAX). Completes when what it tells is durable.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn turns(&self, charm: Option<&Did>, after: u64, max: usize) -> Result<Vec<TurnInfo>, Unavailable> {
        self.check_readable()?;
        let (committer, max) = (&self.stage.committer, max.min(TURNS_PAGE_MAX));
        let present = self.stage.live.page(charm, after, max);
        let mut turns: BTreeMap<u64, TurnInfo> = committer.underway(charm, after, max).await;
        for present in present {
            let position = present.queued.position;
            match turns.get_mut(&position) {
                Some(turn) if turn.state == TurnState::Runs => {
                    (turn.state, turn.since_ms) = (present.state, present.since_ms);
                    turn.conflicts = present.conflicts;
                }
                Some(_) => {}
                None => drop(turns.insert(position, info(&present, committer.installed(&present.queued.event.to)))),
            }
        }
        committer.durable(committer.order()).await?;
        Ok(turns.into_values().take(max).collect())
    }

    /// Tells why an event happened: what led to it, back to the event from outside, and what followed from it; none when there
    /// is no such event, or nothing of it is kept any more. Read from the log: what has gone with the past of a charm is named
    /// as missing (H1). Conflicts are those that this host remembers. Completes when what it tells is durable.
    ///
    /// # Errors
    /// `Store`, `Unavailable`.
    ///
    /// # Examples
    /// ```
    /// # async fn example(host: charm_host::Host, id: charm_host::EventId) -> Result<(), charm_host::ReadError> {
    /// if let Some(why) = host.why(&id).await? {
    ///     let first = &why.events[0];
    ///     println!("it began with {}, and {} events led to it", first.id, why.causes);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn why(&self, id: &EventId) -> Result<Option<Why>, ReadError> {
        self.check_readable()?;
        let (committer, live, id) = (self.stage.committer.clone(), self.stage.live.clone(), *id);
        // From here on what is not found among events that wait is in the log.
        let last = committer.order();
        committer.durable(last).await?;
        let told = self.read(move |store| {
            why::why(store, last, &id, &|id, _| {
                let (queued, state) = committer.standing(id)?;
                let present = live.get(queued.position).filter(|_| state == TurnState::Runs);
                let state = present.map_or(state, |present| present.state);
                Some((Some((queued.event.clone(), queued.position)), state))
            })
        });
        let Some(mut why) = told.await? else { return Ok(None) };
        let events = why.events.iter().map(|event| event.id).collect();
        let (conflicts, misses) = (self.stage.live.conflicts_of(&events), self.stage.live.misses_of(&events));
        // Where turns stand, and who won, may be news of this moment.
        self.stage.committer.durable(self.stage.committer.order()).await?;
        let why = self.read(move |store| {
            why::add_conflicts(&mut why, store, conflicts)?;
            why::add_misses(&mut why, misses);
            Ok(why)
        });
        Ok(Some(why.await?))
    }

    /// Reads the store where blocking hurts nobody.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let (store, (sender, receiver)) = (self.store.clone(), oneshot::channel());
        self.stage.env.block(Box::new(move || drop(sender.send(read(&*store))))).await;
        Ok(receiver.await.map_err(|_| Unavailable::RuntimeEnded)??)
    }
}

fn info(present: &Present, component: Option<[u8; 32]>) -> TurnInfo {
    let Present { queued, state, since_ms, conflicts, .. } = present;
    TurnInfo {
        position: queued.position,
        charm: queued.event.to,
        event: queued.event.id,
        sender: queued.event.sender,
        stream: Arc::clone(&queued.event.stream),
        state: *state,
        since_ms: *since_ms,
        until_ms: None,
        retries: 0,
        segments: 0,
        commit: None,
        component,
        until: None,
        waits_for: Vec::new(),
        unsettled: 0,
        named: 0,
        conflicts: *conflicts,
    }
}
