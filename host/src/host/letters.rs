//! Failed events: looked at, sent again, dropped (S11).

use super::{Host, SendError};
use crate::{
    archive::ReadError,
    did::Did,
    event::{Event, EventId},
    limits::LETTERS_PER_COMMIT_MAX,
    rows::DeadLetter,
    tx::Refused,
};

impl Host {
    /// Returns up to `max` durable dead letters of a charm (S11), at positions after `after`, in the order in which the
    /// events were sent; 0 starts at the first.
    ///
    /// # Errors
    /// `Store`; `Unavailable` when the host has ended.
    pub fn dead_letters(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<DeadLetter>, ReadError> {
        self.check_readable()?;
        Ok(self.store.dead_letters(charm, after, max)?)
    }

    /// Returns the durable dead letter of an event (S11).
    ///
    /// # Errors
    /// `Store`; `Unavailable` when the host has ended.
    pub fn dead_letter(&self, event: &EventId) -> Result<Option<DeadLetter>, ReadError> {
        self.check_readable()?;
        Ok(self.store.dead_letter_of(event)?)
    }

    /// Sends the event of a dead letter of `charm` again, from the same sender under a new id, and drops the letter
    /// (S11). Completes when that is durable.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn resend(&self, charm: &Did, event: &EventId) -> Result<EventId, SendError> {
        self.check_open()?;
        let letter = self.letter(charm, event)?;
        self.end_letter(charm, *event, Some(letter.event)).await
    }

    /// Drops a dead letter of `charm`; its receipt stays. Completes when that is durable.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn discard(&self, charm: &Did, event: &EventId) -> Result<(), SendError> {
        self.check_open()?;
        self.letter(charm, event)?;
        self.end_letter(charm, *event, None).await.map(drop)
    }

    /// Drops all dead letters that `charm` has now; their receipts stay. Returns how many. Completes when that is durable.
    ///
    /// # Errors
    /// `NoSuchCharm`, `Unavailable`.
    pub async fn discard_all(&self, charm: &Did) -> Result<u64, SendError> {
        self.check_open()?;
        let (committer, mut dropped) = (&self.stage.committer, 0);
        loop {
            let (count, order) = match committer.drop_letters(charm) {
                Ok(step) => step,
                Err(Refused::Gone) => return Err(SendError::NoSuchCharm { to: *charm }),
                Err(refused) => return Err(self.refused(refused, *charm).await),
            };
            dropped += count as u64;
            committer.durable(order).await?;
            if count < LETTERS_PER_COMMIT_MAX {
                return Ok(dropped);
            }
        }
    }

    async fn end_letter(&self, charm: &Did, letter: EventId, resend: Option<Event>) -> Result<EventId, SendError> {
        let accepted = match self.stage.committer.end_letter(charm, letter, resend) {
            Ok(accepted) => accepted,
            Err(refused) => return Err(self.refused(refused, *charm).await),
        };
        self.stage.committer.durable(accepted.order).await?;
        Ok(accepted.id)
    }

    /// Returns what the store says of a dead letter, whatever the caller has.
    fn letter(&self, charm: &Did, event: &EventId) -> Result<DeadLetter, SendError> {
        let letter = self.store.dead_letter_of(event)?;
        letter.filter(|letter| letter.event.to == *charm).ok_or(SendError::NoSuchLetter)
    }
}
