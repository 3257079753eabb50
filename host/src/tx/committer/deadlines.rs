//! Turns under way: goes on with them, and ends their waits when their time is over (S7).

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    Committer, Notice, Refused, Unavailable,
    group::{Group, Haste, Item},
};
use crate::{
    core::{Act, Answered},
    did::Did,
    env::breathe,
    limits::HISTORY_STEP,
    record::Hash,
    rows::{Queued, TurnRow},
    store::{Store, StoreError},
};

impl Committer {
    /// Looks up what became of all that turns under way have sent, before any of them goes on. Blocks.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn recall(&self, store: &dyn Store, turns: &[TurnRow]) -> Result<(), StoreError> {
        for row in turns {
            let mut receipts = Vec::new();
            for number in 0..row.progress.sends as u16 {
                let found = store.receipt(&self.mint.send(row.position, number.into()))?;
                receipts.extend(found.map(|found| (number, found.receipt)));
            }
            self.locked().core.recall(&row.space, row.position, receipts);
        }
        Ok(())
    }

    /// Returns what a turn under way was told as far as it is durable, piece by piece.
    ///
    /// # Errors
    /// When the store is damaged; none when nothing is run any more.
    pub async fn recording(&self, position: u64) -> Option<Result<Vec<Arc<[u8]>>, StoreError>> {
        let store = self.group.store.clone();
        self.group.block(move || store.recording(position)).await
    }

    /// Returns the events of a charm whose turns wait for requests that nobody makes since the host was opened: the caller does.
    pub fn ask(&self, charm: &Did) -> Vec<Arc<Queued>> {
        let core = &mut self.locked().core;
        core.spaces.get_mut(charm).map(|space| space.inbox.underway.ask()).unwrap_or_default()
    }

    /// Returns the hash over what a turn under way was told; none when it is not under way any more.
    pub fn told(&self, queued: &Queued) -> Option<Hash> {
        let core = &self.locked().core;
        let underway = core.spaces.get(&queued.event.to)?.inbox.underway.get(queued.position)?;
        Some(underway.progress.recording)
    }

    /// Returns whether the turn of an event, which was told what has this hash, waits for the answer to a request.
    pub fn lacks_answer(&self, queued: &Queued, told: &Hash) -> bool {
        self.locked().core.lacks_answer(queued, told)
    }

    /// Notes durably that a turn asks for a request that must not be made twice, and all that is committed before (T8). False when
    /// that was noted before: it was perhaps made (A4).
    ///
    /// # Errors
    /// When the host stopped or was shut down first.
    pub async fn note_asked(&self, queued: &Queued, request: Hash) -> Result<bool, Unavailable> {
        let noted = {
            let core = &mut self.open()?.core;
            let requests = core.asked.entry(queued.position).or_default();
            if requests.contains(&request) {
                return Ok(false);
            }
            requests.push(request);
            let (told, noted) = oneshot::channel();
            let (position, requests) = (queued.position, requests.clone());
            self.group.push([Item::Asked { position, requests, told }], Haste::Now);
            noted
        };
        tokio::select! {
            biased;
            Ok(()) = noted => Ok(true),
            why = self.stopped() => Err(why),
        }
    }

    /// Lets a turn go on with the answer to the request that it waits for (A4). One that has ended meanwhile stays as it is.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn answer(&self, queued: &Arc<Queued>, answered: Answered) -> Result<(), Unavailable> {
        match self.act(queued.event.to, Act::Exchange(queued, answered)) {
            Err(Refused::Unavailable(why)) => Err(why),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// What turns under way were told as far as these rows have come is durable: it is in the store.
    pub(super) fn forget_pieces(&self, turns: &[(u64, Option<TurnRow>)]) {
        if turns.is_empty() {
            return;
        }
        let mut locked = self.locked();
        for row in turns.iter().filter_map(|(_, turn)| turn.as_ref()) {
            locked.core.forget_pieces(&row.space, row.position, row.progress.pieces);
        }
    }

    /// Runs until nothing is written any more: lets turns go on that have waited long enough.
    pub async fn keep_deadlines(self: Arc<Committer>) {
        let group: Arc<Group> = self.group.clone();
        tokio::select! {
            () = group.ended() => {}
            () = self.end_waits() => {}
        }
    }

    async fn end_waits(&self) {
        loop {
            let now = self.env.monotonic();
            let (resumed, next) = {
                let mut locked = self.locked();
                (locked.core.expire(now, HISTORY_STEP), locked.core.next_deadline())
            };
            let has_more = resumed.len() == HISTORY_STEP;
            resumed.into_iter().for_each(|charm| (self.notify)(Notice::Work(charm)));
            match next {
                _ if has_more => breathe().await,
                None => self.sooner.notified().await,
                Some(next) => tokio::select! {
                    biased;
                    () = self.sooner.notified() => {}
                    () = self.env.sleep(next.saturating_sub(now)) => {}
                },
            }
        }
    }
}
