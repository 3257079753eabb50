//! Sending an event and waiting for what becomes of it.

use std::time::Duration;

use super::{Host, NewEvent, SendError};
use crate::{
    archive::ReadError,
    meter::{Amount, Room, Sender},
    receipt::Receipt,
    tx::{Accepted, Unavailable},
};

impl Host {
    /// Sends an event and waits for its durable receipt; before that, at most `room-ms-max`, for room in a full inbox (S12).
    ///
    /// # Errors
    /// As `send`; `Unavailable` also when the host stops or the disk is full before the event is settled: with an
    /// id of its own it can be sent again for the same receipt.
    pub async fn request(&self, event: NewEvent) -> Result<Receipt, SendError> {
        let accepted = self.accept_with_patience(event).await?;
        match self.receipt(&accepted.id).await {
            Ok(Some(receipt)) => Ok(receipt),
            Ok(None) | Err(ReadError::Unavailable(Unavailable::Closed)) => Err(Unavailable::Closed.into()),
            Err(ReadError::Unavailable(why)) => Err(why.into()),
            Err(error) => Err(Unavailable::stopped(&error).into()),
        }
    }

    /// As `accept`, but waits for room.
    async fn accept_with_patience(&self, event: NewEvent) -> Result<Accepted, SendError> {
        let env = &self.stage.env;
        let end = env.monotonic() + Duration::from_millis(self.limits.room_ms_max);
        let mut _next = None;
        loop {
            let accepted = self.accept(event.clone()).await;
            let bytes = event.payload.as_ref().map_or(0, |payload| payload.as_bytes().len());
            let (sender, amount) = (event.sender.unwrap_or(self.operator), Amount::one(bytes));
            let sender = if sender == self.operator { Sender::Operator } else { Sender::Outside(sender) };
            let left = end.saturating_sub(env.monotonic());
            let directory = self.directory();
            let room = directory.inbox(&event.to).and_then(|meter| Room::wanted(meter, sender, amount, &self.limits));
            let (Err(SendError::QueueFull { .. }), Some(room), false) = (&accepted, room, left.is_zero()) else {
                return accepted;
            };
            _next = tokio::select! {
                biased;
                next = room.free(&self.limits) => Some(next),
                () = env.sleep(left) => None,
                ill = self.stage.committer.unhealthy() => return Err(ill.into()),
            };
        }
    }
}
