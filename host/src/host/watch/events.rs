//! Watching events: what waits for a charm, and what becomes of one.

use std::collections::VecDeque;

use super::{Change, Seat, Update, WatchError};
use crate::{
    did::Did,
    event::EventId,
    limits::WATCH_EVENTS_PAGE,
    listing::Status,
    rows::{Queued, ReceiptRow},
    tx::Mark,
};

/// What waits for a charm.
pub struct Waiting {
    charm: Did,
    /// The position up to which all is told.
    position: u64,
    /// What was read and not told yet.
    page: VecDeque<Queued>,
    /// What had come when it began, or when it was last counted.
    counted: Option<Mark>,
    /// How many of those that came since are told, and how many are gone.
    told: u64,
    skipped: u64,
    listed: bool,
}

impl Waiting {
    pub fn new(charm: Did, from: Option<u64>) -> Waiting {
        let (page, counted, told, skipped, listed) = Default::default();
        Waiting { charm, position: from.unwrap_or(0), page, counted, told, skipped, listed }
    }

    pub async fn next(&mut self, seat: &mut Seat) -> Result<Update, WatchError> {
        loop {
            seat.told();
            seat.check(|_, _| None).await?;
            if self.counted.is_none() {
                // What is in memory now is durable and counted then; what is counted beyond that is told by its position.
                let (_, order) = seat.committer().position();
                seat.committer().durable_at_last(order).await?;
                self.counted = Some(seat.marked());
            }
            if self.page.is_empty() {
                self.read(seat).await?;
            }
            if let Some(queued) = self.page.pop_front() {
                self.position = queued.position;
                return Ok(self.update(Change::Waits(Box::new(queued))));
            }
            if !self.listed {
                self.listed = true;
                return Ok(self.update(Change::Listed));
            }
            seat.wait().await?;
        }
    }

    /// Reads what is next. When that is all, those that came and are not among them are gone.
    async fn read(&mut self, seat: &Seat) -> Result<(), WatchError> {
        let mark = seat.marked();
        let page = seat.committer().waiting(&self.charm, self.position, WATCH_EVENTS_PAGE).await?;
        let since = self.counted.unwrap_or(mark);
        let came = |queued: &&Queued| queued.position > since.position && queued.position <= mark.position;
        self.told += page.iter().filter(came).count() as u64;
        let is_all = page.len() < WATCH_EVENTS_PAGE && page.last().is_none_or(|last| last.position <= mark.position);
        if is_all {
            self.skipped += (mark.number - since.number).saturating_sub(self.told);
            (self.counted, self.told) = (Some(mark), 0);
        }
        self.page = page.into();
        Ok(())
    }

    fn update(&mut self, change: Change) -> Update {
        Update { seq: self.position, skipped: std::mem::take(&mut self.skipped), change }
    }
}

/// What becomes of one event.
pub struct OneEvent {
    event: EventId,
    last: Option<Status>,
}

impl OneEvent {
    pub fn new(event: EventId) -> OneEvent {
        OneEvent { event, last: None }
    }

    /// Returns none after the receipt.
    pub async fn next(&mut self, seat: &mut Seat) -> Result<Option<Update>, WatchError> {
        while !matches!(self.last, Some(Status::Settled(_))) {
            seat.told();
            let mark = seat.marked();
            let event = self.event;
            let row = seat.look(move |store| store.receipt(&event)).await?;
            let waits = seat.committer().waits_for(&event);
            let seq = row.as_ref().map_or(0, |row| row.seq);
            let status = match (row, waits) {
                (Some(ReceiptRow { receipt, .. }), _) => Status::Settled(receipt),
                (None, Some((to, is_held))) => Status::Waiting { to, is_held },
                // It is settled meanwhile.
                (None, None) if seat.marked() != mark => continue,
                (None, None) => Status::Unknown,
            };
            if self.last.as_ref() != Some(&status) {
                self.last = Some(status.clone());
                return Ok(Some(Update { seq, skipped: 0, change: Change::Status(status) }));
            }
            seat.wait().await?;
        }
        Ok(None)
    }
}
