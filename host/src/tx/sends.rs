//! What a transaction sends and withdraws: staged, with the room that it takes (S1, S10, S12).

use std::sync::Arc;

use super::{Times, Transaction, refusal::Refusal};
use crate::{
    cost,
    did::Did,
    event::{Event, EventId, OnCommit},
    limits::{SHAPE_STEPS_MAX, VALUE_DEPTH_MAX},
    meter::{Amount, Room, Sender},
    value::Value,
};

/// What a turn is told of how full inboxes are. That changes while it runs: an attempt that goes on with what another one has
/// seen is told the same.
#[derive(Default)]
pub struct Answers {
    told: Vec<bool>,
    next: usize,
}

impl Answers {
    /// Returns those of an attempt that was told this before.
    pub fn again(told: Vec<bool>) -> Answers {
        Answers { told, next: 0 }
    }

    /// Returns what was told.
    pub fn into_told(self) -> Vec<bool> {
        self.told
    }

    /// Tells the next answer: that of before, or what is so now.
    pub fn tell(&mut self, now: impl FnOnce() -> bool) -> bool {
        if self.next == self.told.len() {
            self.told.push(now());
        }
        self.next += 1;
        self.told[self.next - 1]
    }
}

impl Transaction {
    /// Stages an event; returns its id.
    ///
    /// # Errors
    /// `TypeMismatch`, `Invalid`, `Limit`, `QueueFull`, `NoSuchStream` for an unknown on-commit stream.
    pub fn send(
        &mut self,
        to: Did,
        stream: &Arc<str>,
        payload: &[u8],
        on_commit: Option<(&str, &[u8])>,
        times: Times,
    ) -> Result<EventId, Refusal> {
        let tag_bytes = on_commit.map_or(0, |(_, tag)| tag.len());
        self.cost += cost::SEND + cost::copied(payload.len() + tag_bytes);
        self.check_sends()?;
        let Times { deliver_after, expires_at } = times;
        if expires_at.is_some_and(|expires_at| expires_at <= deliver_after.unwrap_or(0)) {
            return Err(Refusal::Invalid("expires-at is not after deliver-after: it would never begin".to_owned()));
        }
        let max = self.limits.event_bytes_max;
        let looked_at = payload.len().min(max) + tag_bytes.min(self.limits.tag_bytes_max);
        self.cost += cost::scanned(looked_at) + cost::kept(looked_at);
        let payload = Value::from_bytes(payload, max, VALUE_DEPTH_MAX)
            .map_err(|error| Refusal::value(error, "event-bytes-max", max))?;
        let on_commit = on_commit.map(|(stream, tag)| self.on_commit(stream, tag)).transpose()?;
        let bytes = payload.as_bytes().len();
        let carried =
            self.send_bytes + bytes + on_commit.as_ref().map_or(0, |on_commit| on_commit.tag.as_bytes().len());
        if carried > self.limits.send_bytes_max {
            return Err(Refusal::limit("send-bytes-max", self.limits.send_bytes_max));
        }
        let deliver = self.view.directory.deliver(&self.writer, &to, stream);
        let fits = deliver.ok().flatten().map_or(0, |(_, offer)| offer);
        if let Ok(Some((shape, _))) = deliver {
            let mut steps = SHAPE_STEPS_MAX;
            let checked = shape.check_within(&payload, &mut steps);
            self.cost += u64::from(SHAPE_STEPS_MAX - steps) * cost::SHAPE_STEP;
            checked?;
        }
        // A send that will be refused takes no room, and learns nothing about the receiver.
        let goes = deliver.is_ok();
        // What is delayed takes room of its sender (S10).
        let inbox = if deliver_after.is_some() { self.writer } else { to };
        if goes {
            self.reserve(inbox, bytes)?;
        }
        if on_commit.is_some()
            && let Err(full) = self.reserve(self.writer, 0)
        {
            if goes {
                self.release(inbox, bytes);
            }
            return Err(full);
        }
        let id = self.mint.send(self.position, self.first + self.sends.len());
        let event = Event {
            id,
            sender: self.writer,
            to,
            stream: stream.clone(),
            payload,
            on_commit,
            receipt_of: None,
            supplied: false,
            awaited: false,
            deliver_after,
            expires_at,
        };
        self.sends.push((event, fits));
        self.send_bytes = carried;
        Ok(id)
    }

    /// Stages that an event which its charm sent is withdrawn.
    ///
    /// # Errors
    /// `Limit`.
    pub fn cancel(&mut self, event: EventId) -> Result<(), Refusal> {
        self.cost += cost::SEND;
        self.check_sends()?;
        self.withdrawn.push(event);
        Ok(())
    }

    fn check_sends(&self) -> Result<(), Refusal> {
        self.check_pure("streams.send")?;
        let max = self.limits.sends_max;
        let is_full = self.first + self.sends.len() + self.withdrawn.len() >= max;
        if is_full { Err(Refusal::limit("sends-max", max)) } else { Ok(()) }
    }

    fn on_commit(&self, stream: &str, tag: &[u8]) -> Result<OnCommit, Refusal> {
        let max = self.limits.tag_bytes_max;
        let tag = Value::from_bytes(tag, max, VALUE_DEPTH_MAX - 2)
            .map_err(|error| Refusal::value(error, "tag-bytes-max", max))?;
        let own = self.view.directory.get(&self.writer);
        if own.and_then(|entry| entry.descriptor.streams.get(stream)).is_some_and(|declared| declared.receipts) {
            Ok(OnCommit { stream: stream.into(), tag })
        } else {
            Err(Refusal::NoSuchStream { owner: self.writer, name: crate::text::clip(stream, 256).into_owned() })
        }
    }

    fn reserve(&mut self, inbox: Did, bytes: usize) -> Result<(), Refusal> {
        let staged = self.staged.get(&inbox).copied().unwrap_or_default().plus(Amount::one(bytes));
        let sender = if inbox == self.writer { Sender::Own } else { Sender::Charm(self.writer) };
        let meter = self.view.directory.inbox(&inbox);
        let has_room = || meter.is_none_or(|meter| meter.has_room(&sender, staged, &self.limits));
        if !self.answers.tell(has_room)
            && let Some(meter) = meter
        {
            if self.waits_for_room && sender != Sender::Own {
                self.room = Room::wanted(meter, sender, staged, &self.limits);
            }
            return Err(Refusal::QueueFull(inbox));
        }
        self.staged.insert(inbox, staged);
        Ok(())
    }

    fn release(&mut self, inbox: Did, bytes: usize) {
        if let Some(staged) = self.staged.get_mut(&inbox) {
            *staged = staged.minus(Amount::one(bytes));
        }
    }
}
