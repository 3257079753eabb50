//! Lets a commit happen.

use std::{sync::Arc, time::Duration};

use super::{
    Commit, Effects, Open, State,
    chain::Chain,
    inbox::Growth,
    underway::{Standing, Underway},
};
use crate::{
    component::Component,
    did::Did,
    event::{Event, EventId},
    receipt::{self, Receipt},
    record::{Body, Cut, Exchanged, Hash, Progress, Turn},
    rows::{CutRow, InstallRow, Point, Queued, SpaceRow},
};

/// What only the living host knows of a commit. Nothing that lasts depends on it but the bytes of a component, and of what a
/// turn was told, of which the log has the hashes.
#[derive(Debug, Default)]
pub struct Live {
    /// The moment, on the clock that never goes back.
    pub at: Duration,
    /// For each event that will wait, the descriptor that it was checked against, 0 for none.
    pub fits: Vec<u64>,
    /// What the commit adds to its space.
    pub growth: Growth,
    /// What it installs.
    pub component: Option<Component>,
    /// What a turn that waits was told, or the answer that it waits for.
    pub piece: Option<Arc<[u8]>>,
}

impl State {
    /// Returns why a commit of a log cannot be the next one; `apply` is for those that can. What was decided here can.
    ///
    /// # Errors
    /// What is wrong with it.
    #[cfg(test)]
    pub fn follows(&self, commit: &Commit) -> Result<(), &'static str> {
        let record = &commit.record;
        let space = self.spaces.get(&record.space);
        let new = matches!(record.body, Body::Registered { .. });
        if commit.order != self.order + 1 {
            return Err("is out of its order");
        }
        if new == space.is_some() {
            return Err(if new { "makes a space that is there" } else { "is of a space that is not there" });
        }
        if record.seq != space.map_or(0, |space| space.seq) + 1 {
            return Err("is out of its order in its space");
        }
        let waits = record.sends().filter(|(_, refused)| refused.is_none()).count() as u64;
        if commit.position != self.position + waits {
            return Err("gives other positions than the next ones");
        }
        let answered = record.handles().map(|event| self.waiting(&record.space, &event).map(|at| at.position));
        if answered != commit.taken.map(|taken| Some(taken.position)) {
            return Err("handles an event that does not wait");
        }
        Ok(())
    }

    /// Lets a commit happen, and returns what follows from it.
    pub fn apply(&mut self, commit: &Commit, mut live: Live) -> Effects {
        let (record, mut effects) = (&commit.record, Effects::default());
        let charm = record.space;
        self.order = commit.order;
        let order = self.order;
        match &record.body {
            Body::Registered { name } => self.add_space(&SpaceRow::new(charm, name.clone()), order),
            Body::Installed(install) => {
                let row = Some(InstallRow::of(install));
                effects.components = self.install(&charm, row, live.component.take());
            }
            Body::Uninstalled => effects.components = self.install(&charm, None, None),
            Body::Rights { holder, kept } => {
                self.kept.remove(holder);
                match (self.spaces.get_mut(holder), kept) {
                    (Some(space), kept) => space.kept = kept.clone(),
                    (None, Some(kept)) => drop(self.kept.insert(*holder, kept.clone())),
                    (None, None) => {}
                }
            }
            Body::Checkpoint(checkpoint) => {
                if let Some(space) = self.spaces.get_mut(&charm) {
                    space.checkpoint = Point::of(checkpoint, record.seq);
                }
            }
            Body::Pruned(pruned) => effects.cuts = pruned.cuts.iter().filter_map(|cut| self.cut(cut)).collect(),
            Body::Paused(paused) => {
                if let Some(space) = self.spaces.get_mut(&charm) {
                    (space.notes.paused, space.notes.chain) = (*paused, 0);
                    effects.notes = Some(space.notes);
                }
            }
            _ => {}
        }
        if let Some(space) = self.spaces.get_mut(&charm) {
            (space.seq, space.order) = (record.seq, order);
            space.usage = space.usage.grown(&live.growth);
        }
        let mut chain = Chain::default();
        match (record.turn(), record.segment()) {
            (Some(turn), _) => chain = self.take(turn, commit, live.at, &mut effects),
            (_, Some(segment)) => {
                let next = |before: Option<&Progress>, of| Progress::after(before, of, record, segment);
                chain = self.set_out(segment.event, next, commit, &mut live, &mut effects);
            }
            _ if let Body::Retried(retried) = &record.body => {
                let next = |before: Option<&Progress>, _| Progress::again(before, record, retried);
                self.set_out(retried.event, next, commit, &mut live, &mut effects);
            }
            _ => effects.buried = self.bury(&charm, record.dropped()),
        }
        if let Body::Exchanged(exchanged) = &record.body {
            self.exchanged(&charm, exchanged, &mut live, &mut effects);
        }
        let mut fits = live.fits.into_iter();
        let mut position = self.position;
        for (event, refused) in record.sends() {
            if let Some(outcome) = refused {
                self.open.insert(event.id, Open { queued: None, order });
                self.answer(event, || receipt::refused(event, outcome), &mut effects);
                continue;
            }
            position += 1;
            let queued = Arc::new(Queued { position, space: charm, event: event.clone() });
            effects.queued.push(queued.clone());
            self.enqueue(queued, chain, fits.next().unwrap_or(0), (record.time_ms, live.at));
        }
        self.position = position;
        if let (Some(taken), Some(turn)) = (effects.taken.clone(), record.turn()) {
            self.answer(&taken.event, || turn.receipt.clone(), &mut effects);
        }
        if let (Some((_, Some(_))), None, Some(taken)) = (&effects.turn, record.exchanged(), commit.taken) {
            self.wait(&charm, taken.position, &mut effects);
        }
        effects
    }

    /// Lets a turn be under way, which comes so far with a commit; returns what leads to all that it sends.
    fn set_out(
        &mut self,
        event: EventId,
        next: impl FnOnce(Option<&Progress>, Hash) -> Progress,
        commit: &Commit,
        live: &mut Live,
        effects: &mut Effects,
    ) -> Chain {
        let charm = commit.record.space;
        let Some(queued) = self.waiting(&charm, &event) else { return Chain::default() };
        let Some(space) = self.spaces.get_mut(&charm) else { return Chain::default() };
        let component = space.installed.map(|row| row.component).unwrap_or_default();
        let (position, inbox) = (queued.position, &mut space.inbox);
        effects.asked = self.asked.remove(&position).map(|_| position);
        let before = inbox.underway.get(position).map(|underway| &*underway.progress);
        let is_first = before.is_none();
        let progress = Arc::new(next(before, component));
        if before.and_then(Progress::began_with).is_none()
            && let Some(component) = progress.began_with()
        {
            *self.components.entry(component).or_default() += 1;
        }
        let deadline = live.at.saturating_add(Duration::from_millis(progress.waits_ms()));
        if is_first {
            let left = inbox.set_out(&queued);
            let (chain, due) = left.map_or_else(Default::default, |left| (left.chain, left.due));
            inbox.add_underway(Underway::new(queued.clone(), progress.clone(), chain, deadline));
            self.left(&queued, due);
        }
        let turn = self.spaces.get_mut(&charm).and_then(|space| space.inbox.underway.get_mut(position));
        let Some(underway) = turn else { return Chain::default() };
        // In a log that is read again nobody's time is over, and none goes on before it commits.
        self.deadlines.remove(std::mem::replace(&mut underway.deadline, deadline), charm, position);
        underway.is_asked = true;
        underway.comes_to(progress, live.piece.take(), effects);
        if commit.record.sends().next().is_none() {
            return underway.chain;
        }
        let (chain, is_new) = underway.chain.next(&self.limits, live.at);
        if is_new {
            effects.deep = Some(chain.depth);
        }
        chain
    }

    /// Lets a turn go on with the answer that it waits for.
    fn exchanged(&mut self, charm: &Did, exchanged: &Exchanged, live: &mut Live, effects: &mut Effects) {
        let Some(queued) = self.waiting(charm, &exchanged.event) else { return };
        let Some(turns) = self.spaces.get_mut(charm).map(|space| &mut space.inbox.underway) else { return };
        let Some(underway) = turns.get_mut(queued.position) else { return };
        let progress = Arc::new(underway.progress.with_answer(exchanged.recording));
        underway.comes_to(progress, live.piece.take(), effects);
        turns.stand(queued.position, Standing::Ready);
        effects.resumes.push(*charm);
    }

    /// Lets a turn wait, or go on at once when what it waits for is there.
    pub(super) fn wait(&mut self, charm: &Did, position: u64, effects: &mut Effects) {
        let Some(turns) = self.spaces.get_mut(charm).map(|space| &mut space.inbox.underway) else { return };
        let Some(underway) = turns.get(position) else { return };
        if underway.is_over() {
            turns.stand(position, Standing::Ready);
            effects.resumes.push(*charm);
        } else {
            let deadline = underway.has_deadline().then_some(underway.deadline);
            turns.stand(position, Standing::Waits);
            if let Some(deadline) = deadline {
                self.deadlines.add(deadline, *charm, position);
            }
        }
    }

    /// Tells the turn that sent an event what became of it, if it is under way.
    fn answer(&mut self, event: &Event, receipt: impl FnOnce() -> Receipt, effects: &mut Effects) {
        let (position, number) = event.id.sent_by();
        if event.receipt_of.is_some() || event.supplied {
            return;
        }
        let sender = self.spaces.get(&event.sender);
        let is_under_way = sender.is_some_and(|space| space.inbox.underway.get(position).is_some());
        if is_under_way
            && self.mint.send(position, number.into()) == event.id
            && self.recall(&event.sender, position, [(number, receipt())])
        {
            effects.resumes.push(event.sender);
        }
    }

    /// Notes what is installed; returns the component that is needed from now on, and the one that is not any more.
    fn install(
        &mut self,
        charm: &Did,
        row: Option<InstallRow>,
        component: Option<Component>,
    ) -> Vec<(Hash, Option<Component>)> {
        let Some(space) = self.spaces.get_mut(charm) else { return Vec::new() };
        let before = std::mem::replace(&mut space.installed, row);
        let mut changed = Vec::new();
        if let Some(InstallRow { component: hash, .. }) = row {
            let users = self.components.entry(hash).or_default();
            *users += 1;
            if *users == 1 {
                changed.extend(component.map(|component| (hash, Some(component))));
            }
        }
        if let Some(InstallRow { component: hash, .. }) = before {
            changed.extend(self.spare(hash));
        }
        changed
    }

    /// Notes that one less needs a component; returns it when nothing needs it any more.
    fn spare(&mut self, hash: Hash) -> Option<(Hash, Option<Component>)> {
        let users = self.components.get_mut(&hash)?;
        *users -= 1;
        let is_last = *users == 0;
        is_last.then(|| self.components.remove(&hash)).map(|_| (hash, None))
    }

    /// Lets the past of a space go.
    fn cut(&mut self, cut: &Cut) -> Option<CutRow> {
        let space = self.spaces.get_mut(&cut.space)?;
        let mut floor = Point::default();
        if cut.seq > 0 {
            floor = Point { seq: cut.seq, order: cut.order, at: space.checkpoint.at };
            space.floor = cut.seq;
        }
        space.receipts_floor = cut.receipts;
        Some(CutRow { space: cut.space, floor, receipts: cut.receipts, messages: cut.messages })
    }

    /// Takes the event that a commit answers out of its inbox; returns what leads to all that the commit sends.
    fn take(&mut self, turn: &Turn, commit: &Commit, at: Duration, effects: &mut Effects) -> Chain {
        let charm = commit.record.space;
        let Some(queued) = self.waiting(&charm, &turn.receipt.id) else { return Chain::default() };
        let underway = self.spaces.get(&charm).and_then(|space| space.inbox.underway.get(queued.position));
        if let Some(began_with) = underway.map(|underway| underway.progress.began_with()) {
            // What waited for a place may begin.
            if self.spaces.get(&charm).is_some_and(|space| space.inbox.is_at_bound(&self.limits)) {
                effects.resumes.push(charm);
            }
            effects.turn = Some((queued.position, None));
            effects.components.extend(began_with.and_then(|component| self.spare(component)));
        }
        effects.asked = self.asked.remove(&queued.position).map(|_| queued.position);
        let (chain, is_new) = self.dequeue(&queued).next(&self.limits, at);
        if is_new {
            effects.deep = Some(chain.depth);
        }
        effects.is_letter = turn.receipt.outcome.leaves_letter(&queued.event);
        if effects.is_letter
            && let Some(space) = self.spaces.get_mut(&charm)
        {
            space.dead.push_back((queued.position, queued.event.id));
        }
        if let Some(dropped) = turn.dropped {
            effects.buried = self.bury(&charm, &[dropped]);
            effects.letters_gone = self.count_gone(&charm, at);
        }
        effects.taken = Some(queued);
        chain
    }
}
