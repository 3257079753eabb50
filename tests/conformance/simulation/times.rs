//! When things may happen, told without a host: delayed events and those that expire, turns that sleep or are tried again, events
//! that are withdrawn (S10, S13).

use std::collections::BTreeMap;

use charm_host::{Did, Event, EventId, Outcome, Ran, Record};

use super::{
    calendar::Calendar,
    model::{Replay, Stand},
};

/// An event that waits.
#[derive(Clone)]
pub struct Queued {
    pub event: Event,
    /// The date of the commit that sent it.
    since: u64,
}

/// What is known of times in a log.
#[derive(Default)]
pub struct Times {
    calendar: Calendar,
    /// Events that the last commit withdrew and that are not settled yet, and whether they must be: they cannot have begun.
    cancelling: BTreeMap<u64, (EventId, bool)>,
    /// Events that were withdrawn when they had begun, and the date of that.
    too_late: BTreeMap<EventId, u64>,
}

impl Times {
    pub fn new(calendar: Calendar) -> Times {
        Times { calendar, ..Times::default() }
    }

    /// Takes the next record: what the one before withdrew has its end by now.
    pub fn take(&mut self, record: &Record) -> Result<(), String> {
        if let Some(done) = record.turn().filter(|done| done.receipt.outcome == Outcome::Cancelled) {
            let withdrawn = self.cancelling.iter().find(|(_, (id, _))| *id == done.receipt.id);
            let position = withdrawn.map(|(position, _)| *position);
            let position =
                position.ok_or_else(|| format!("event {} is cancelled, and nobody wanted it", done.receipt.id))?;
            self.cancelling.remove(&position);
            return Ok(());
        }
        self.end()
    }

    /// Checks that nothing is left that must be settled.
    pub fn end(&mut self) -> Result<(), String> {
        match self.cancelling.values().find(|(_, must)| *must) {
            Some((id, _)) => Err(format!("event {id} was withdrawn before it can have begun, and is not cancelled")),
            None => {
                self.cancelling.clear();
                Ok(())
            }
        }
    }

    /// Notes an event that waits from now on.
    pub fn queue(event: &Event, record: &Record) -> Queued {
        Queued { event: event.clone(), since: record.time_ms }
    }

    /// Notes that the commit of a charm withdraws events.
    fn withdraw(&mut self, position: u64, queued: &Queued, record: &Record, is_new: bool) {
        let Queued { event, since } = queued;
        let waits = |after| !self.calendar.may_be_due(after, *since, record.time_ms);
        let must = is_new || event.deliver_after.is_some_and(waits);
        self.cancelling.insert(position, (event.id, must));
        self.too_late.entry(event.id).or_insert(record.time_ms);
    }

    /// Checks that an event may have begun whose turn has its first commit now, or may have expired.
    fn begins(&self, queued: &Queued, record: &Record, ran: Option<&Ran>) -> Result<(), String> {
        let Queued { event, since } = queued;
        let Event { id, deliver_after, expires_at, .. } = event;
        let expired = record.turn().is_some_and(|done| done.receipt.outcome == Outcome::Expired);
        let due = if expired { *expires_at } else { *deliver_after };
        if expired && due.is_none() {
            return Err("it expired, and had no time for that".to_owned());
        }
        if due.is_some_and(|due| !self.calendar.may_be_due(due, *since, record.time_ms)) {
            return Err(format!("{} before its time", if expired { "it expired" } else { "it was begun" }));
        }
        let Some(ran) = ran else { return Ok(()) };
        if deliver_after.is_some_and(|after| ran.time_ms < after) {
            return Err("it saw a time before the one that it waited for".to_owned());
        }
        // Where the calendar was set back it saw the time that it waited for, which tells nothing.
        if *deliver_after == Some(ran.time_ms) {
            return Ok(());
        }
        if expires_at.is_some_and(|time| !self.calendar.may_be_to_come(time, *since, ran.time_ms)) {
            return Err("it was begun after it had expired".to_owned());
        }
        match self.too_late.get(id) {
            Some(then) if !self.calendar.may_have_begun(ran.time_ms, *then) => {
                Err("it was begun after it was withdrawn".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Checks that a turn which slept, or waited to be tried again, may go on.
    fn goes_on(&self, stand: &Stand, record: &Record) -> Result<(), String> {
        match stand.sleeps {
            Some((since, ms)) if !self.calendar.may_have_passed(ms, since, record.time_ms) => {
                Err(format!("it goes on before {ms} ms have passed"))
            }
            _ => Ok(()),
        }
    }
}

impl Replay {
    /// Checks that this commit of the turn of an event may come now.
    pub fn in_time(&self, position: u64, queued: &Queued, record: &Record) -> Result<(), String> {
        let ran = record.turn().map_or_else(|| record.segment().map(|part| &part.ran), |done| done.ran.as_ref());
        match (self.underway.get(&position), record.turn().map(|done| done.receipt.outcome)) {
            (_, Some(Outcome::Cancelled)) => Ok(()),
            (Some(_), Some(Outcome::Expired)) => Err("it expired, and had begun".to_owned()),
            (Some(stand), _) => self.times.goes_on(stand, record),
            (None, _) => self.times.begins(queued, record, ran),
        }
    }

    /// Withdraws events that a charm has sent, if they wait and none of their turns is under way.
    pub fn withdraw(&mut self, charm: Did, events: &[EventId], record: &Record) {
        for (position, queued) in &self.queued {
            let event = &queued.event;
            let waits = event.sender == charm && event.receipt_of.is_none() && !self.underway.contains_key(position);
            if waits && events.contains(&event.id) {
                let is_new = record.sends().any(|(sent, _)| sent.id == event.id);
                self.times.withdraw(*position, queued, record, is_new);
            }
        }
    }
}
