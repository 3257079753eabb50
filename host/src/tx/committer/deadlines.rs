//! What only time brings about: waits that are over, delayed events that are due, others that expire (S7, S10); and what
//! turns under way go on with.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    Committer, Locked, Notice, Refused,
    commit::After,
    group::{Group, Haste},
    item::Item,
};
use crate::{
    component::Component,
    core::{Act, Answered, Due, Ending},
    did::Did,
    env::breathe,
    event::EventId,
    limits::HISTORY_STEP,
    receipt::{Outcome, Receipt},
    record::Hash,
    rows::{Queued, TurnRow},
    store::{Store, StoreError},
    tx::Unavailable,
};

/// What the receipt of an expired event says.
const EXPIRED: &str = "it had not begun when it expired: its sender can send it again, with more time";
/// Receipts that are read at once.
const RECEIPTS_PAGE: usize = 512;

impl Committer {
    /// Looks up what became of all that turns under way have sent, before any of them goes on. Their rows are in the order of
    /// positions, as the ids of what they sent are: a page of receipts tells of many turns. Blocks.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn recall(&self, store: &dyn Store, turns: &[TurnRow]) -> Result<(), StoreError> {
        let (mut page, mut told) = (BTreeMap::new(), EventId([0; 16]));
        for TurnRow { space, position, .. } in turns {
            let (mut first, end) = (EventId::first_of(*position), EventId::first_of(position + 1));
            if told < end {
                page.clear();
            }
            while told < end {
                let some = store.receipts(Some(&first), RECEIPTS_PAGE)?;
                first = some.last().map_or(first, |row| row.receipt.id);
                told = if some.len() < RECEIPTS_PAGE { EventId([u8::MAX; 16]) } else { first };
                page.extend(some.into_iter().map(|row| (row.receipt.id, row.receipt)));
            }
            let own = page.range(EventId::first_of(*position)..end).filter_map(|(id, receipt)| {
                let number = id.sent_by().1;
                let receipt = Receipt { message: None, ..receipt.clone() };
                (self.mint.send(*position, number.into()) == *id).then_some((number, receipt))
            });
            self.locked().core.recall(space, *position, own);
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

    /// Returns an event with its payload, which is on disk when it is large and its turn waits.
    ///
    /// # Errors
    /// When the store is damaged, or nothing is run any more.
    pub(super) async fn whole(&self, queued: Arc<Queued>) -> Result<Arc<Queued>, StoreError> {
        if !queued.event.payload.is_away() {
            return Ok(queued);
        }
        let (store, position) = (self.group.store.clone(), queued.position);
        let found = self.group.block(move || store.queued(position)).await;
        let gone = || StoreError::Failed(format!("the event at position {position} is not there any more"));
        found.ok_or_else(gone)??.map(Arc::new).ok_or_else(gone)
    }

    /// Returns something of each of several events, as `whole` has it, one after the other. One that is settled meanwhile is
    /// left out.
    pub(super) async fn of_whole<T>(
        &self,
        some: Vec<Arc<Queued>>,
        of: impl Fn(&Queued) -> T,
    ) -> Result<Vec<T>, Unavailable> {
        let mut all = Vec::with_capacity(some.len());
        for queued in some {
            let (charm, id) = (queued.event.to, queued.event.id);
            match self.whole(queued).await {
                Ok(queued) => all.push(of(&queued)),
                Err(error) if self.find(&charm, &id).is_some() => return Err(Unavailable::stopped(&error)),
                Err(_) => {}
            }
        }
        Ok(all)
    }

    /// Returns the event of a turn with its payload, which is in memory from now on.
    ///
    /// # Errors
    /// As `whole`.
    pub async fn bring_back(&self, queued: Arc<Queued>) -> Result<Arc<Queued>, StoreError> {
        if !queued.event.payload.is_away() {
            return Ok(queued);
        }
        let whole = self.whole(queued).await?;
        self.locked().core.bring_back(&whole);
        Ok(whole)
    }

    /// Adds the messages of receipts that the store alone has.
    ///
    /// # Errors
    /// When the store is damaged; none when nothing is run any more.
    pub async fn messages(&self, receipts: &mut [Option<Receipt>]) -> Option<Result<(), StoreError>> {
        let mut lack: Vec<&mut Receipt> = receipts.iter_mut().flatten().filter(|receipt| receipt.is_bare()).collect();
        if lack.is_empty() {
            return Some(Ok(()));
        }
        let (store, ids) = (self.group.store.clone(), lack.iter().map(|receipt| receipt.id).collect::<Vec<_>>());
        let found = move || ids.iter().map(|id| store.receipt(id)).collect::<Result<Vec<_>, _>>();
        let found = self.group.block(found).await?;
        Some(found.map(|found| {
            for (receipt, row) in lack.iter_mut().zip(found) {
                receipt.message = row.and_then(|row| row.receipt.message);
            }
        }))
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
