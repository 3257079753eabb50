//! What only time brings about: waits that are over, delayed events that are due, others that expire (S7, S10); and what
//! turns under way go on with.

use std::{sync::Arc, time::Duration};

use super::{Committer, Locked, Notice, commit::After, group::Group};
use crate::{
    core::{Act, Due, Ending},
    env::breathe,
    limits::HISTORY_STEP,
    receipt::Outcome,
    rows::{Queued, TurnRow},
    store::{Store, StoreError},
};

/// What the receipt of an expired event says.
const EXPIRED: &str = "it had not begun when it expired: its sender can send it again, with more time";

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

    /// Runs until nothing is written any more: lets happen what is due.
    pub async fn keep_deadlines(self: Arc<Committer>) {
        let group: Arc<Group> = self.group.clone();
        tokio::select! {
            () = group.ended() => {}
            () = self.keep_time() => {}
        }
    }

    async fn keep_time(&self) {
        loop {
            let now = self.now();
            let (wakes, afters, next) = {
                let mut locked = self.locked();
                let Due { mut wakes, expired } = locked.core.fall_due(now.1, HISTORY_STEP);
                // What was behind them may begin.
                wakes.extend(expired.iter().map(|queued| queued.event.to));
                let afters = if locked.closed { Vec::new() } else { self.settle_expired(&mut locked, now, &expired) };
                (wakes, afters, locked.core.next_deadline())
            };
            wakes.into_iter().for_each(|charm| (self.notify)(Notice::Work(charm)));
            afters.into_iter().for_each(|after| self.tell(after));
            match next {
                // No more than a step at once.
                Some(next) if next <= now.1 => breathe().await,
                None => self.sooner.notified().await,
                Some(next) => tokio::select! {
                    biased;
                    () = self.sooner.notified() => {}
                    () = self.env.sleep(next.saturating_sub(now.1)) => {}
                },
            }
        }
    }

    /// Settles events that have not begun in time.
    fn settle_expired(&self, locked: &mut Locked, now: (u64, Duration), expired: &[Arc<Queued>]) -> Vec<After> {
        let acts = expired.iter().map(|queued| {
            let failed = Some((Outcome::Expired, EXPIRED.to_owned()));
            (queued.event.to, Act::Settle(queued, Box::new(Ending { failed, ..Ending::default() })))
        });
        self.perform_all(locked, now, acts)
    }
}
