//! Turns under way: goes on with them, and ends their waits when their time is over (S7).

use std::sync::Arc;

use super::{Committer, Notice, group::Group};
use crate::{
    component::Component,
    did::Did,
    env::breathe,
    limits::HISTORY_STEP,
    record::Hash,
    rows::TurnRow,
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

    /// Returns what a turn under way was told in the segments that are durable, a piece for each.
    ///
    /// # Errors
    /// When the store is damaged; none when nothing is run any more.
    pub async fn recording(&self, position: u64) -> Option<Result<Vec<Arc<[u8]>>, StoreError>> {
        let store = self.group.store.clone();
        self.group.block(move || store.recording(position)).await
    }

    /// Returns a component from the store.
    ///
    /// # Errors
    /// When the store is damaged; none when nothing is run any more.
    pub async fn component(&self, hash: Hash) -> Option<Result<Option<Component>, StoreError>> {
        let store = self.group.store.clone();
        self.group.block(move || store.component(&hash)).await
    }

    /// Returns whether turns of a charm are under way.
    pub fn has_turns(&self, charm: &Did) -> bool {
        self.locked().core.spaces.get(charm).is_some_and(|space| !space.inbox.underway.is_empty())
    }

    /// What turns under way were told as far as these rows have come is durable: it is in the store.
    pub(super) fn forget_pieces(&self, turns: &[(u64, Option<TurnRow>)]) {
        if turns.is_empty() {
            return;
        }
        let mut locked = self.locked();
        for row in turns.iter().filter_map(|(_, turn)| turn.as_ref()) {
            locked.core.forget_pieces(&row.space, row.position, row.progress.segments);
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
