//! Sending an event and waiting for what becomes of it.

use std::time::Duration;

use super::{Host, NewEvent, SendError, send_error};
use crate::{
    archive::ReadError,
    did::Did,
    event::{Event, EventId},
    limits::SUPPLIED_ID_BYTES_MAX,
    meter::{Amount, Room, Sender},
    receipt::Receipt,
    text::clip,
    tx::{Accepted, Refused, Seen, Unavailable},
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
            Err(ReadError::Store(error)) => Err(error.into()),
            Err(error) => Err(Unavailable::stopped(&error).into()),
        }
    }

    /// As `accept`, but waits for room.
    async fn accept_with_patience(&self, event: NewEvent) -> Result<Accepted, SendError> {
        let env = &self.stage.env;
        let end = env.monotonic() + Duration::from_millis(self.limits.room_ms_max);
        let mut _next = None;
        loop {
            let accepted = self.accept(event.clone(), true).await;
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

    /// Accepts an event from outside. One whose id its sender has used before is looked up before anything is checked
    /// (S9). With `awaited` its sender asks for the receipt (S11).
    pub(super) async fn accept(&self, event: NewEvent, awaited: bool) -> Result<Accepted, SendError> {
        self.check_readable()?;
        let NewEvent { to, stream, payload, sender, id: supplied } = event;
        let payload = payload.map_err(SendError::Payload)?;
        let sender = sender.unwrap_or(self.operator);
        if let Some(supplied) = &supplied
            && !(1..=SUPPLIED_ID_BYTES_MAX).contains(&supplied.len())
        {
            return Err(SendError::Id(format!("give 1 to {SUPPLIED_ID_BYTES_MAX} bytes")));
        }
        let (id, stream, committer) = (EventId([0; 16]), stream.into(), &self.stage.committer);
        let (on_commit, receipt_of, supplied_id) = (None, None, supplied.as_deref());
        let (deliver_after, expires_at, supplied) = (None, None, false);
        let event = Event {
            id,
            sender,
            to,
            stream,
            payload,
            on_commit,
            receipt_of,
            supplied,
            awaited,
            deliver_after,
            expires_at,
        };
        loop {
            let unseen = match supplied_id {
                None => None,
                Some(supplied) => match committer.look_up(&event, supplied).await {
                    Ok(Seen::Before(accepted)) => return Ok(accepted),
                    Ok(Seen::Never(unseen)) => Some(unseen),
                    Err(refused) => return Err(self.refused(refused, to).await),
                },
            };
            self.check_open()?;
            let fits = self.check(&event)?;
            match committer.accept(&event, fits, unseen) {
                Ok(Some(accepted)) => return Ok(accepted),
                // Somebody sent it meanwhile.
                Ok(None) => {}
                Err(refused) => return Err(self.refused(refused, to).await),
            }
        }
    }

    /// Checks an event from outside; returns the number of the descriptor that it fits.
    fn check(&self, event: &Event) -> Result<u64, SendError> {
        let Event { sender, to, stream, payload, .. } = event;
        let (sender, to, directory) = (*sender, *to, self.directory());
        let shown = || clip(stream, 128).into_owned();
        // An event in a charm's own name could pass for a receipt (S6).
        if directory.inbox(&sender).is_some() {
            return Err(SendError::Impersonation { sender });
        }
        if !directory.may_send(&sender, &to, stream) {
            return Err(SendError::Denied { sender, to, stream: shown() });
        }
        let Some(entry) = directory.get(&to) else {
            // One that the store knows may lack nothing but its key.
            self.check_key(&to)?;
            return Err(SendError::NoSuchCharm { to });
        };
        let Some(declared) = entry.descriptor.streams.get(&**stream) else {
            let known = entry.descriptor.streams.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(SendError::NoSuchStream { to, stream: shown(), known: clip(&known, 512).into_owned() });
        };
        if declared.receipts {
            return Err(SendError::TakesReceipts { to, stream: shown() });
        }
        let max = self.limits.event_bytes_max;
        if payload.as_bytes().len() > max {
            return Err(SendError::Limit { name: "event-bytes-max", max: max as u64 });
        }
        let checked = declared.shape.check(payload);
        checked.map_err(|mismatch| SendError::Shape { stream: stream.to_string(), mismatch })?;
        Ok(entry.offer)
    }

    /// Returns what is told of a refusal. It may come from what is not durable yet: then it waits for that (T8).
    pub(super) async fn refused(&self, refused: Refused, to: Did) -> SendError {
        let committer = &self.stage.committer;
        let order = match &refused {
            Refused::Reused(accepted) => accepted.order,
            Refused::Gone | Refused::Running => committer.order(),
            Refused::Full | Refused::Store(_) | Refused::Unavailable(_) => 0,
        };
        if let Err(why) = committer.durable(order).await {
            return why.into();
        }
        send_error(refused, to)
    }
}
