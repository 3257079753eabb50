//! Events that leave the order of their charm: held until the operator lets them run, or cancelled.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{Accepted, Begun, Committer, Notice, Refused, Unavailable};
use crate::{
    core::{Act, Ending},
    did::Did,
    event::{Event, EventId},
    receipt::Outcome,
    rows::Queued,
};

/// What the receipt of a cancelled event says: it has not begun, or its turn waited.
const CANCELLED: &str = "the operator discarded the event before it ran";
const CANCELLED_WAITING: &str = "the operator discarded the event while its turn waited";

impl Committer {
    /// Takes the events at the positions `held` out of the order; those of `late` were out of it before, and never come
    /// back to their place in the log.
    pub fn hold(&self, held: &BTreeSet<u64>, late: BTreeSet<u64>) {
        let core = &mut self.locked().core;
        for (charm, space) in &mut core.spaces {
            space.inbox.hold_all(held);
            let mut figures = self.group.figures();
            space.inbox.held().for_each(|queued| figures.hold(charm, queued.position));
        }
        core.late = late;
    }

    /// Puts a held event back in line.
    pub fn release(&self, queued: &Queued) {
        let charm = queued.event.to;
        if let Some(space) = self.locked().core.spaces.get_mut(&charm) {
            space.inbox.release(queued.position);
        }
        self.group.figures().release(&charm, queued.position);
        (self.notify)(Notice::Work(charm));
    }

    /// Begins the turn of the event of a charm that is next, leaving out senders whose turn is parked: from now on it is
    /// not cancelled. One that comes after everybody else's must have `waited`.
    /// A turn that has waited goes on first, leaving out those of the `paused` events.
    pub fn begin(&self, charm: &Did, parked: &HashSet<Did>, paused: &BTreeSet<u64>, waited: bool) -> Begun {
        let now = self.env.monotonic();
        let core = &mut self.locked().core;
        let space = core.spaces.get_mut(charm).filter(|space| !space.notes.paused);
        let Some(inbox) = space.map(|space| &mut space.inbox) else { return Begun::Nothing };
        if let Some(resumed) = inbox.underway.resume(paused) {
            return Begun::Resumes(Box::new(resumed));
        }
        if !waited && inbox.is_late() {
            return Begun::Late;
        }
        core.begin(charm, parked, now).map_or(Begun::Nothing, |(queued, fits)| Begun::Event(queued, fits))
    }

    /// Lets an event wait whose turn has not begun after all.
    pub fn put_back(&self, queued: &Queued) {
        let mut locked = self.locked();
        let before = locked.core.next_deadline();
        locked.core.put_back(queued);
        if locked.core.next_deadline() != before {
            self.sooner.notify_one();
        }
    }

    /// Returns whether an event waits for a charm whose turn could begin.
    pub fn has_next(&self, charm: &Did, parked: &HashSet<Did>) -> bool {
        let core = &self.locked().core;
        core.spaces.get(charm).is_some_and(|space| !space.notes.paused && space.inbox.has_next(parked, &self.limits))
    }

    /// Returns an event that waits for a charm, or runs.
    pub fn find(&self, charm: &Did, id: &EventId) -> Option<Arc<Queued>> {
        self.locked().core.waiting(charm, id)
    }

    /// Settles an event that waits, or whose turn waits, as `cancelled`. The operator has seen it: it becomes no dead letter.
    ///
    /// # Errors
    /// `Refused::Gone`, `Refused::Running`, `Refused::Unavailable`.
    pub async fn cancel(&self, charm: &Did, id: &EventId) -> Result<Accepted, Refused> {
        let (now, mut locked, queued) = loop {
            let queued = self.find(charm, id).ok_or(Refused::Gone)?;
            // One that is settled meanwhile is found no more.
            if let Err(error) = self.bring_back(queued).await
                && self.find(charm, id).is_some()
            {
                return Err(Refused::Store(error));
            }
            let (now, locked) = (self.now(), self.open().map_err(Refused::Unavailable)?);
            let queued = locked.core.waiting(charm, id).ok_or(Refused::Gone)?;
            // A segment that became durable meanwhile has put it away.
            if !queued.event.payload.is_away() {
                break (now, locked, queued);
            }
        };
        if locked.core.spaces.get(charm).is_some_and(|space| space.inbox.has_begun(&queued)) {
            return Err(Refused::Running);
        }
        let inbox = locked.core.spaces.get(charm).map(|space| &space.inbox);
        let waits = inbox.is_some_and(|inbox| inbox.underway.get(queued.position).is_some());
        let why = if waits { CANCELLED_WAITING } else { CANCELLED };
        let ending = Ending { failed: Some((Outcome::Cancelled, why.to_owned())), ..Ending::default() };
        let (done, after) =
            self.perform(&mut locked, *charm, now, Act::Settle(&queued, Box::new(ending)), None, &[])?;
        drop(locked);
        self.tell(after);
        Ok(Accepted { id: *id, order: done.order })
    }

    /// Returns the events of a charm that are held. Completes when that is durable.
    ///
    /// # Errors
    /// When the host stops first, or the disk is full.
    pub async fn held(&self, charm: &Did) -> Result<Vec<Event>, Unavailable> {
        let (held, order): (Vec<_>, _) = {
            let core = &self.locked().core;
            let held = core.spaces.get(charm).into_iter().flat_map(|space| space.inbox.held());
            (held.cloned().collect(), core.order)
        };
        self.durable(order).await?;
        self.of_whole(held, |queued| queued.event.clone()).await
    }
}
