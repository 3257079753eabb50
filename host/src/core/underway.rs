//! Turns under way: they have committed a segment, and wait or go on (S7). They hold no room in the inbox and no place in line.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{Effects, chain::Chain};
use crate::{
    event::Event,
    receipt::Receipt,
    record::{Progress, Until, WaitFor},
    rows::{Queued, RecordingRow, TurnRow},
};

/// A turn that has committed a segment, and not ended.
pub struct Underway {
    pub queued: Arc<Queued>,
    pub progress: Arc<Progress>,
    pub chain: Chain,
    /// Receipts of the events that it sent, by their numbers in it.
    pub receipts: BTreeMap<u16, Receipt>,
    /// What it was told, piece by piece, as far as the store may not have it yet.
    pub pieces: BTreeMap<u32, Arc<[u8]>>,
    /// When its wait is over whatever has come.
    pub deadline: Duration,
    /// Somebody makes the request that it waits for.
    pub is_asked: bool,
    pub standing: Standing,
    /// It does not go on until somebody decides.
    pub is_held: bool,
}

/// Where a turn under way stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// What it waits for is not there.
    Waits,
    /// It goes on as soon as its charm is in no other turn.
    Ready,
    /// It has gone on.
    Runs,
}

/// A turn that goes on, with what it waited for.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// Its event.
    pub queued: Arc<Queued>,
    /// How far it has come.
    pub progress: Arc<Progress>,
    /// Receipts of the events that it waited for, in its order; none for what is not settled.
    pub receipts: Vec<Option<Receipt>>,
    /// What it was told, piece by piece; the store has those that are missing.
    pub pieces: BTreeMap<u32, Arc<[u8]>>,
}

impl Underway {
    /// Returns a turn that nothing is known of yet but how far it has come.
    pub fn new(queued: Arc<Queued>, progress: Arc<Progress>, chain: Chain, deadline: Duration) -> Underway {
        let (receipts, pieces) = Default::default();
        let (standing, is_asked, is_held) = (Standing::Runs, false, false);
        Underway { queued, progress, chain, receipts, pieces, deadline, is_asked, standing, is_held }
    }

    /// Notes how far it has come, and the piece of what it was told that leads there.
    pub fn comes_to(&mut self, progress: Arc<Progress>, piece: Option<Arc<[u8]>>, effects: &mut Effects) {
        let Event { id: event, to: space, .. } = self.queued.event;
        let (position, number) = (self.queued.position, progress.pieces);
        if let Some(bytes) = piece {
            self.pieces.insert(number, bytes.clone());
            effects.recording = Some(RecordingRow { position, number, bytes });
        }
        self.progress = progress;
        let progress = Progress::clone(&self.progress);
        effects.turn = Some((position, Some(TurnRow { position, space, event, progress })));
    }

    /// Returns the receipts of what it waits for, in its order.
    pub fn told(&self) -> Vec<Option<Receipt>> {
        let receipt = |(_, number)| self.receipts.get(&number).cloned();
        self.progress.wait.events.iter().map(|event| receipt(event.sent_by())).collect()
    }

    /// Returns whether what it waits for has come. For time nothing comes: that is over when it is.
    pub fn is_over(&self) -> bool {
        let WaitFor { events, until, .. } = &self.progress.wait;
        if self.progress.again_ms.is_some() {
            return false;
        }
        let mut settled = events.iter().map(|event| self.receipts.contains_key(&event.sent_by().1));
        match until {
            Until::All => settled.all(|settled| settled),
            Until::First => settled.any(|settled| settled),
            Until::Time => false,
            Until::Exchange => self.progress.answered,
        }
    }

    /// Returns whether its wait has an end whatever comes: a request has a time of its own.
    pub fn has_deadline(&self) -> bool {
        self.progress.again_ms.is_some() || self.progress.wait.until != Until::Exchange
    }
}

/// The turns under way of one charm, by the positions of their events.
#[derive(Default)]
pub struct Turns {
    all: BTreeMap<u64, Underway>,
    ready: BTreeSet<u64>,
}

impl Turns {
    pub fn get(&self, position: u64) -> Option<&Underway> {
        self.all.get(&position)
    }

    pub fn get_mut(&mut self, position: u64) -> Option<&mut Underway> {
        self.all.get_mut(&position)
    }

    pub fn insert(&mut self, underway: Underway) {
        let position = underway.queued.position;
        self.all.insert(position, underway);
        self.stand(position, Standing::Runs);
    }

    /// Changes where a turn stands.
    pub fn stand(&mut self, position: u64, standing: Standing) {
        let Some(underway) = self.all.get_mut(&position) else { return };
        underway.standing = standing;
        if standing == Standing::Ready {
            self.ready.insert(position)
        } else {
            self.ready.remove(&position)
        };
    }

    pub fn remove(&mut self, position: u64) -> Option<Underway> {
        self.ready.remove(&position);
        self.all.remove(&position)
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn has_ready(&self) -> bool {
        self.ready.iter().any(|position| self.all.get(position).is_some_and(|underway| !underway.is_held))
    }

    /// Returns the events of those that are held.
    pub fn held(&self) -> impl Iterator<Item = &Arc<Queued>> {
        self.all.values().filter(|underway| underway.is_held).map(|underway| &underway.queued)
    }

    /// Lets the first turn go on that has what it waited for, leaving out those at these positions and what is held.
    pub fn resume(&mut self, but: &BTreeSet<u64>) -> Option<Resumed> {
        let is_held = |position: &u64| self.all.get(position).is_none_or(|underway| underway.is_held);
        let ready = |position: &&u64| !but.contains(position) && !is_held(position);
        let position = *self.ready.iter().find(ready)?;
        self.stand(position, Standing::Runs);
        let underway = self.all.get(&position)?;
        let Underway { queued, progress, pieces, .. } = underway;
        let (queued, progress, pieces) = (queued.clone(), progress.clone(), pieces.clone());
        Some(Resumed { queued, progress, receipts: underway.told(), pieces })
    }

    /// Checks that those are ready that stand so.
    #[cfg(test)]
    pub fn check(&self) {
        let ready = self.all.iter().filter(|(_, underway)| underway.standing == Standing::Ready);
        assert!(ready.map(|(position, _)| position).eq(&self.ready), "who is ready");
    }

    /// Returns the events of those whose request nobody makes: from now on the caller does.
    pub fn ask(&mut self) -> Vec<Arc<Queued>> {
        let unasked = |turn: &&mut Underway| turn.progress.lacks_answer() && !turn.is_asked;
        let ask = |turn: &mut Underway| {
            turn.is_asked = true;
            turn.queued.clone()
        };
        self.all.values_mut().filter(unasked).map(ask).collect()
    }

    /// Returns those after a position, in order.
    pub fn after(&self, position: u64) -> impl Iterator<Item = &Underway> {
        self.all.range(position.saturating_add(1)..).map(|(_, underway)| underway)
    }
}
