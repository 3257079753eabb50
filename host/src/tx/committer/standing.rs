//! Where events stand that are not settled: for whoever asks, a few rows under each hold of the lock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Committer;
use crate::{
    core::{Standing, State, Underway},
    did::Did,
    env::breathe,
    event::EventId,
    limits::{HISTORY_STEP, TURN_EVENTS_SHOWN, WAITING_STEP},
    listing::{TurnInfo, TurnState},
    record::Hash,
    rows::Queued,
};

impl Committer {
    /// Returns a durable event whose receipt is not durable yet, and where it stands: `Runs` stands for all that whoever gives
    /// it attempts knows better.
    pub fn standing(&self, id: &EventId) -> Option<(Arc<Queued>, TurnState)> {
        let core = &self.locked().core;
        let open = core.open.get(id).filter(|open| self.is_durable(open.order))?;
        let queued = open.queued.clone()?;
        let Some(inbox) = core.spaces.get(&queued.event.to).map(|space| &space.inbox) else {
            return Some((queued, TurnState::Queued));
        };
        let state = match inbox.underway.get(queued.position) {
            Some(underway) => state_of(underway),
            None if inbox.is_held(&queued) => TurnState::Held,
            None if inbox.is_delayed(&queued) => TurnState::Delayed,
            None if inbox.has_begun(&queued) || !inbox.holds(&queued) => TurnState::Runs,
            None => TurnState::Queued,
        };
        Some((queued, state))
    }

    /// Returns the component that a charm has installed.
    pub fn installed(&self, charm: &Did) -> Option<Hash> {
        Some(self.locked().core.spaces.get(charm)?.installed?.component)
    }

    /// Returns up to `max` turns that have committed a segment, whose events have positions after `after`, by position; of one
    /// charm or of all.
    pub async fn underway(&self, charm: Option<&Did>, after: u64, max: usize) -> BTreeMap<u64, TurnInfo> {
        let charms = charm.map_or_else(|| self.group.figures().dids(), |charm| vec![*charm]);
        let mut found = BTreeMap::new();
        for (number, charm) in charms.iter().enumerate() {
            if number % HISTORY_STEP == HISTORY_STEP - 1 {
                breathe().await;
            }
            let mut from = Some(after);
            while let Some(start) = from {
                from = self.some_underway(charm, start, max, &mut found);
                while found.len() > max {
                    found.pop_last();
                }
            }
        }
        found
    }

    /// Adds some of the turns of a charm, as many as may be looked at under the lock; returns where to go on.
    fn some_underway(&self, charm: &Did, after: u64, max: usize, found: &mut BTreeMap<u64, TurnInfo>) -> Option<u64> {
        let now = self.now();
        let core = &self.locked().core;
        let mut looked_at = 0;
        for underway in core.spaces.get(charm)?.inbox.underway.after(after) {
            let position = underway.queued.position;
            if found.len() >= max && found.keys().next_back().is_none_or(|last| position > *last) {
                return None;
            }
            found.insert(position, info(core, underway, now));
            looked_at += 1 + underway.progress.wait.events.len();
            if looked_at >= WAITING_STEP {
                return Some(position);
            }
        }
        None
    }
}

fn state_of(underway: &Underway) -> TurnState {
    match underway.standing {
        Standing::Runs => TurnState::Runs,
        _ if underway.is_held => TurnState::Held,
        Standing::Waits if underway.progress.again_ms.is_some() => TurnState::Retry,
        Standing::Waits if underway.progress.lacks_answer() => TurnState::Http,
        Standing::Waits => TurnState::Waits,
        Standing::Ready => TurnState::Ready,
    }
}

fn info(core: &State, underway: &Underway, (now_ms, at): (u64, Duration)) -> TurnInfo {
    let Underway { queued, progress, receipts, .. } = underway;
    let state = state_of(underway);
    let wait = &progress.wait;
    // One that is to be tried again waits for time alone: its last wait is over.
    let events = if progress.again_ms.is_some() { &[][..] } else { &wait.events };
    let open = events.iter().filter(|event| !receipts.contains_key(&event.sent_by().1));
    let receiver = |event: &EventId| Some((*event, core.open.get(event)?.queued.as_ref()?.event.to));
    let waits_for: Vec<_> = open.clone().filter_map(receiver).take(TURN_EVENTS_SHOWN).collect();
    let left = || u64::try_from(underway.deadline.saturating_sub(at).as_millis()).unwrap_or(u64::MAX);
    TurnInfo {
        position: queued.position,
        charm: queued.event.to,
        event: queued.event.id,
        sender: queued.event.sender,
        stream: queued.event.stream.clone(),
        state,
        since_ms: progress.since_ms,
        until_ms: matches!(state, TurnState::Waits | TurnState::Retry).then(|| now_ms.saturating_add(left())),
        retries: progress.retries,
        segments: progress.segments,
        commit: (progress.segments > 0).then_some(progress.seq),
        component: progress.began_with(),
        until: (state != TurnState::Runs && progress.again_ms.is_none()).then_some(wait.until),
        waits_for,
        unsettled: open.count(),
        named: events.len(),
        conflicts: 0,
    }
}
