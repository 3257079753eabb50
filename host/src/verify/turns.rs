//! What the commits of turns have to be: of one event that waited, with the receipts that were asked for (S1, S3, S5, S6, T6).

use std::{collections::VecDeque, sync::Arc};

use super::{
    Law, effect_of_failure,
    replay::{Letter, Replay, Verdict, fingerprint, must, nameless, wrong},
};
use crate::{
    did::Did,
    entry::LogEntry,
    event::{Event, EventId, OnCommit, digest},
    limits::MESSAGE_BYTES_MAX,
    receipt::{self, Outcome, Receipt},
    record::{Exchanged, Hash, Progress, Ran, Record, Retried, Segment, Sent, Turn, TurnMark, Until, WaitFor},
    rows::{DeadLetter, Queued, ReceiptRow, TurnRow},
    value::{Data, Value},
};

/// A receipt event that a commit has to send.
struct Due {
    sender: Did,
    on_commit: OnCommit,
    receipt: Receipt,
}

/// A turn that has committed a segment and not ended.
pub(super) struct Underway {
    /// The commit that says so, in the order of the host.
    pub order: u64,
    pub row: TurnRow,
    /// Hash over the events that it waits for, where only a checkpoint tells of it: then the row has neither those nor its position.
    pub told: Option<Hash>,
}

impl Underway {
    /// Returns a turn as a checkpoint tells of it.
    pub fn told(space: Did, order: u64, mark: &TurnMark) -> Underway {
        let row = TurnRow { position: 0, space, event: mark.event, progress: mark.progress.clone() };
        Underway { order, row, told: Some(mark.waits_for) }
    }

    /// Returns whether a store keeps it so; `is_at` says whether its event stands at a position.
    pub fn is(&self, row: &TurnRow, is_at: impl Fn(&TurnRow) -> bool) -> bool {
        let Some(waits_for) = self.told else { return self.row == *row };
        let mark = TurnMark { event: self.row.event, progress: self.row.progress.clone(), waits_for };
        row.space == self.row.space && is_at(row) && TurnMark::of(row.event, &row.progress) == mark
    }
}

/// What a commit says of the event that it handles, to its end or a part of the way.
struct Handled<'a> {
    position: u64,
    late: bool,
    event: EventId,
    sender: Did,
    stream: &'a Arc<str>,
    ran: Option<Ran>,
}

/// What the events of a commit go out with.
enum With<'a> {
    /// A wait for these events.
    Wait(&'a [EventId]),
    /// The end of an event, if the log tells of that.
    End(&'a Turn, Option<&'a Event>),
}

/// What is wrong with a turn that goes on too early.
const UNANSWERED: &str = "a turn goes on before the answer is there that it waits for";

/// Returns whether a turn that has come so far does not wait for the answer to a request.
fn goes_on(progress: &Progress) -> bool {
    progress.wait.until != Until::Exchange || progress.answered
}

impl Replay {
    /// An event that waited for this charm, and the turn that is in it, if one is under way.
    fn handles(&self, entry: &LogEntry, handled: &Handled<'_>) -> Verdict {
        let Handled { position, event: id, sender, stream, ran, .. } = handled;
        must(self.host != Some(entry.space), Law::Cause, "the host's own space handles an event")?;
        let is_installed = self.installed.contains_key(&entry.space);
        must(ran.is_none() || is_installed, Law::Cause, "a turn runs, and no component is installed")?;
        if let Some((_, Queued { event, .. })) = self.waiting.get(position) {
            let is_out = handled.late || event.deliver_after.is_none();
            must(is_out, Law::Order, "an event that was delayed has a place in the order")?;
            must(event.to == entry.space, Law::Cause, "answers an event of another charm")?;
            let same = (event.id, event.sender, &event.stream) == (*id, *sender, *stream);
            must(same, Law::Cause, "answers another event than was sent")?;
        } else {
            must(*position <= self.position, Law::Cause, "answers an event that never was sent")?;
            let older = self.may_be_older(entry, id, sender);
            must(older, Law::Once, "answers an event that was answered before")?;
        }
        let Some(Underway { row, .. }) = self.underway.get(id) else { return Ok(()) };
        must([0, *position].contains(&row.position), Law::Cause, "answers another event than was sent")?;
        let Some(ran) = ran.filter(|_| row.progress.segments > 0) else { return Ok(()) };
        must(ran.fuel >= row.progress.ran.fuel, Law::Cause, "a turn gets fuel back")
    }

    /// The beginning of a turn that its first commit shows.
    fn begins(&mut self, entry: &LogEntry, handled: &Handled<'_>) -> Verdict {
        let last = self.taken.entry((handled.sender, entry.space)).or_default();
        must(
            handled.late || handled.position > *last,
            Law::Order,
            "answers an event before one that was sent earlier",
        )?;
        if !handled.late {
            *last = handled.position;
        }
        Ok(())
    }

    /// A part of a turn, up to a wait.
    pub fn segment(&mut self, entry: &LogEntry, record: &Record, segment: &Segment) -> Verdict {
        let (position, late) = entry.taken.map_or((0, false), |taken| (taken.position, taken.late));
        let Segment { event, sender, ref stream, number, ran, ref wait, recording, .. } = *segment;
        let handled = Handled { position, late, event, sender, stream, ran: Some(ran) };
        self.handles(entry, &handled)?;
        let before = self.underway.remove(&event).map(|underway| underway.row.progress);
        if before.is_none() {
            self.begins(entry, &handled)?;
        }
        must(before.as_ref().is_none_or(goes_on), Law::Cause, UNANSWERED)?;
        self.charms.insert(entry.space);
        let (segments, first) = before.as_ref().map_or((0, 0), |before| (before.segments, before.sends));
        must(number == segments + 1, Law::Cause, "a segment out of its number")?;
        let sends =
            first + self.sends(entry, record.time_ms, (position, first), &segment.sends, With::Wait(&wait.events))?;
        let is_own = |id: &EventId| {
            let number = u16::from_be_bytes([id.0[6], id.0[7]]);
            u32::from(number) < sends && *id == self.mint.send(position, number.into())
        };
        let for_events = matches!(wait.until, Until::All | Until::First);
        let waits = wait.events.is_empty() != for_events && wait.events.iter().all(is_own);
        must(waits, Law::Cause, "a turn waits for nothing that it has sent")?;
        let retries = before.as_ref().map_or(0, |before| before.retries);
        let pieces = before.as_ref().map_or(0, |before| before.pieces) + 1;
        let began = before.and_then(|before| before.began_with());
        let component = began.or(self.installed.get(&entry.space).map(|row| row.component)).unwrap_or_default();
        let (segments, seq, since_ms, wait) = (number, record.seq, record.time_ms, wait.clone());
        let (answered, again_ms) = (false, None);
        let progress = Progress {
            component,
            segments,
            sends,
            seq,
            since_ms,
            ran,
            wait,
            recording,
            pieces,
            answered,
            retries,
            again_ms,
        };
        let row = TurnRow { position, space: entry.space, event, progress };
        self.underway.insert(event, Underway { order: entry.order, row, told: None });
        Ok(())
    }

    /// A turn that is tried again.
    pub fn retried(&mut self, entry: &LogEntry, record: &Record, retried: &Retried) -> Verdict {
        let (position, late) = entry.taken.map_or((0, false), |taken| (taken.position, taken.late));
        let Retried { event, sender, ref stream, number, after_ms } = *retried;
        let handled = Handled { position, late, event, sender, stream, ran: None };
        self.handles(entry, &handled)?;
        let before = self.underway.remove(&event);
        let told = before.as_ref().and_then(|before| before.told);
        let before = before.map(|before| before.row.progress);
        if before.is_none() {
            self.begins(entry, &handled)?;
        }
        self.charms.insert(entry.space);
        let retries = before.as_ref().map_or(0, |before| before.retries);
        must(number == retries + 1, Law::Cause, "a turn is tried again out of its number")?;
        must(before.as_ref().is_none_or(goes_on), Law::Cause, UNANSWERED)?;
        let anew = || Progress {
            component: Hash::default(),
            segments: 0,
            sends: 0,
            seq: 0,
            since_ms: 0,
            ran: Ran { time_ms: 0, fuel: 0, costs: 0 },
            wait: WaitFor { events: Vec::new(), until: Until::Time, timeout_ms: 0 },
            recording: Hash::default(),
            pieces: 0,
            answered: false,
            retries: 0,
            again_ms: None,
        };
        let (since_ms, retries, again_ms) = (record.time_ms, number, Some(after_ms));
        let progress = Progress { since_ms, retries, again_ms, ..before.unwrap_or_else(anew) };
        let row = TurnRow { position, space: entry.space, event, progress };
        self.underway.insert(event, Underway { order: entry.order, row, told });
        Ok(())
    }

    /// The answer to the request that a turn waits for.
    pub fn exchanged(&mut self, entry: &LogEntry, exchanged: &Exchanged) -> Verdict {
        let (position, late) = entry.taken.map_or((0, false), |taken| (taken.position, taken.late));
        let Exchanged { event, sender, ref stream, recording } = *exchanged;
        self.handles(entry, &Handled { position, late, event, sender, stream, ran: None })?;
        let waits = self.underway.get_mut(&event).filter(|underway| !goes_on(&underway.row.progress));
        let Some(Underway { order, row, .. }) = waits else {
            return wrong(Law::Cause, "an answer to a request that no turn waits for");
        };
        *order = entry.order;
        let Progress { recording: told, pieces, answered, .. } = &mut row.progress;
        (*told, *pieces, *answered) = (recording, *pieces + 1, true);
        Ok(())
    }

    /// The end of an event.
    pub fn turn(&mut self, entry: &LogEntry, record: &Record, taken: &Turn) -> Verdict {
        let receipt = &taken.receipt;
        let (position, late) = entry.taken.map_or((0, false), |taken| (taken.position, taken.late));
        let (sender, to) = (taken.sender, record.space);
        let handled = Handled { position, late, event: receipt.id, sender, stream: &taken.stream, ran: taken.ran };
        self.handles(entry, &handled)?;
        let event = self.waiting.remove(&position).map(|(_, queued)| queued.event);
        self.told.remove(&receipt.id);
        let before = self.underway.remove(&receipt.id).map(|underway| underway.row.progress);
        if let Some(why) = effect_of_failure(taken) {
            return wrong(Law::Cause, why);
        }
        let (cancelled, expired) = (receipt.outcome == Outcome::Cancelled, receipt.outcome == Outcome::Expired);
        let may_expire = event.as_ref().is_none_or(|event| event.expires_at.is_some());
        must(!expired || (may_expire && before.is_none()), Law::Cause, "an event expires that does not")?;
        if before.is_none() && !cancelled && !expired {
            self.begins(entry, &handled)?;
        }
        self.charms.insert(record.space);

        let committed = receipt.outcome == Outcome::Committed;
        must(!committed || before.as_ref().is_none_or(goes_on), Law::Cause, UNANSWERED)?;
        let waited = before.as_ref().filter(|before| before.segments > 0);
        let commit = if committed { Some(record.seq) } else { waited.map(|before| before.seq) };
        let status = receipt.commit == commit && receipt.message.is_some() != committed;
        let why = match waited.filter(|_| !committed) {
            Some(_) => "a failure after a wait names the last commit of its turn, and says why",
            None => "a receipt names its commit, or says why there is none",
        };
        must(status, Law::Receipt, why)?;
        let bounded = receipt.message.as_ref().is_none_or(|message| message.len() <= MESSAGE_BYTES_MAX);
        must(bounded, Law::Receipt, "a receipt's message is longer than its bound")?;
        // Whoever asked for the receipt is told of a rejection.
        let asked = event.as_ref().is_some_and(|event| event.awaited || event.on_commit.is_some());
        let told = receipt.outcome == Outcome::Rejected && asked;
        let failed = !(committed || cancelled || told);
        if let Some(event) = event.as_ref().filter(|_| failed) {
            let letter =
                DeadLetter { position, time_ms: record.time_ms, event: event.clone(), receipt: receipt.clone() };
            let letter = Letter {
                order: entry.order,
                position,
                to: event.to,
                fingerprint: fingerprint(&letter),
                again: fingerprint(&nameless(event)),
            };
            self.dead.insert(event.id, letter);
        } else if failed {
            self.letters_told.insert(receipt.id, (to, None));
        }
        must(failed || taken.dropped.is_none(), Law::Cause, "a dead letter goes that need not")?;
        if let Some(dropped) = &taken.dropped {
            self.bury(entry, dropped)?;
            *self.letters_dropped.entry(record.space).or_default() += 1;
        }
        let first = before.map_or(0, |before| before.sends);
        self.sends(entry, record.time_ms, (position, first), &taken.sends, With::End(taken, event.as_ref()))?;
        let digest = event.as_ref().map(|event| event.supplied.then(|| digest(event)));
        let row = ReceiptRow {
            receipt: receipt.clone(),
            sender,
            to,
            digest: None,
            space: to,
            seq: record.seq,
            time_ms: record.time_ms,
        };
        self.settle(row, digest, entry.order, event.is_some())
    }

    /// What goes out with a commit of a turn: its events, the first of which has the number that `place` says beside the turn's
    /// position; then the receipts that were asked for, with the turn's end also that of its event. Returns how many events.
    fn sends(
        &mut self,
        entry: &LogEntry,
        time_ms: u64,
        place: (u64, u32),
        sends: &[Sent],
        with: With<'_>,
    ) -> Verdict<u32> {
        let mut due = VecDeque::new();
        let (waited, end) = match with {
            With::Wait(events) => (events, None),
            With::End(turn, event) => (&[][..], Some((turn, event))),
        };
        let plain = sends.iter().take_while(|sent| sent.event.receipt_of.is_none()).count();
        let (plain, receipts) = sends.split_at(plain);
        for (number, sent) in (place.1 as usize..).zip(plain) {
            let Event { id, sender, supplied, awaited, on_commit, payload, .. } = &sent.event;
            must(*sender == entry.space, Law::Cause, "an event goes out in the name of another")?;
            let made = *id == self.mint.send(place.0, number) && !supplied;
            must(made, Law::Cause, "an event id that is not of this store's making")?;
            must(
                *awaited == waited.contains(id),
                Law::Cause,
                "an event says wrongly whether its sender waits for its receipt",
            )?;
            self.queue(&sent.event, sent.refused, entry)?;
            if let Some(outcome) = sent.refused {
                let known = matches!(outcome, Outcome::Denied | Outcome::NoSuchStream);
                must(known && *payload == Value::null(), Law::Once, "an event is refused as none can be")?;
                let receipt = receipt::refused(&sent.event, outcome);
                let (sender, to, space, seq) = (*sender, sent.event.to, entry.space, entry.seq);
                let row = ReceiptRow { receipt: receipt.clone(), sender, to, digest: None, space, seq, time_ms };
                self.settle(row, Some(None), entry.order, true)?;
                due.extend(on_commit.clone().map(|on_commit| Due { sender, on_commit, receipt }));
            }
        }
        let own = end.and_then(|(turn, event)| Some((turn, event?.on_commit.clone()?)));
        due.extend(own.map(|(turn, on_commit)| Due { sender: turn.sender, on_commit, receipt: turn.receipt.clone() }));
        let untold = end.filter(|(_, event)| event.is_none()).map(|(turn, _)| turn);
        for sent in receipts {
            let answers = |turn: &Turn| sent.event.receipt_of == Some(turn.receipt.id) && sent.event.to == turn.sender;
            if due.is_empty() && sent.refused.is_none() && untold.is_some_and(answers) {
                // Whether it was asked for has gone from the log.
                self.queue(&sent.event, None, entry)?;
                continue;
            }
            let due = due.pop_front().filter(|due| sent.event.receipt_of == Some(due.receipt.id));
            let Some(due) = due else { return wrong(Law::Receipt, "a receipt goes out that nobody asked for") };
            self.receipt(sent, &due)?;
            must(sent.refused.is_none(), Law::Receipt, "a receipt that was asked for is refused")?;
            self.queue(&sent.event, None, entry)?;
        }
        must(due.is_empty(), Law::Receipt, "a receipt that was asked for does not go out")?;
        Ok(plain.len() as u32)
    }

    /// One receipt event (S6).
    fn receipt(&self, sent: &Sent, due: &Due) -> Verdict {
        let Event { id, sender, to, stream, payload, on_commit, receipt_of: _, .. } = &sent.event;
        let Event { supplied, awaited, deliver_after, expires_at, .. } = &sent.event;
        let home = (*sender, *to, stream) == (due.sender, due.sender, &due.on_commit.stream);
        must(home, Law::Receipt, "a receipt goes to another than asked for it")?;
        let carried = carried(&due.receipt, &due.on_commit.tag);
        must(carried.as_ref() == Some(payload), Law::Receipt, "a receipt carries other than status and tag")?;
        must(on_commit.is_none() && !supplied && !awaited, Law::Receipt, "a receipt asks for a receipt")?;
        let at_once = deliver_after.is_none() && expires_at.is_none();
        must(at_once, Law::Receipt, "a receipt waits for a time")?;
        must(*id == self.mint.receipt_of(&due.receipt.id), Law::Cause, "an event id that is not of this store's making")
    }
}

/// Returns `{receipt: {id, outcome, commit, message}, tag}`, made here a second time: a proof does not take the
/// host's word.
fn carried(receipt: &Receipt, tag: &Value) -> Option<Value> {
    let map = |entries: [(&str, Data); 2]| entries.map(|(key, value)| (key.to_owned(), value)).into_iter();
    let (id, outcome) = (receipt.id.to_string(), receipt.outcome.name().to_owned());
    let commit = receipt.commit.map_or(Data::Null, |seq| Data::Integer(seq.into()));
    let message = receipt.message.clone().map_or(Data::Null, Data::String);
    let status = map([("id", Data::String(id)), ("outcome", Data::String(outcome))])
        .chain(map([("commit", commit), ("message", message)]));
    let whole = map([("receipt", Data::Map(status.collect())), ("tag", tag.decode().ok()?)]);
    Value::encode(&Data::Map(whole.collect())).ok()
}
