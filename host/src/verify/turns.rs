//! What the commits of turns have to be: of one event that waited, with the receipts that were asked for (S1, S3, S5, S6, T6).

use std::collections::VecDeque;

use ipld_core::ipld::Ipld;

use super::{
    Law, effect_of_failure,
    replay::{Letter, Replay, Verdict, fingerprint, must, nameless, wrong},
};
use crate::{
    did::Did,
    entry::LogEntry,
    event::{Event, OnCommit, digest},
    limits::MESSAGE_BYTES_MAX,
    receipt::{self, Outcome, Receipt},
    record::{Record, Sent, Turn},
    rows::{DeadLetter, ReceiptRow},
    value::Value,
};

/// A receipt event that a commit has to send.
struct Due {
    sender: Did,
    on_commit: OnCommit,
    receipt: Receipt,
}

impl Replay {
    /// The end of an event.
    pub fn turn(&mut self, entry: &LogEntry, record: &Record, taken: &Turn) -> Verdict {
        let receipt = &taken.receipt;
        let (position, late) = entry.taken.map_or((0, false), |taken| (taken.position, taken.late));
        must(self.host != Some(record.space), Law::Cause, "the host's own space handles an event")?;
        let runs = taken.ran.is_none() || self.installed.contains_key(&record.space);
        must(runs, Law::Cause, "a turn runs, and no component is installed")?;
        let event = self.waiting.remove(&position).map(|(_, queued)| queued.event);
        if let Some(event) = &event {
            must(event.to == record.space, Law::Cause, "answers an event of another charm")?;
            let same = (event.id, event.sender, &event.stream) == (receipt.id, taken.sender, &taken.stream);
            must(same, Law::Cause, "answers another event than was sent")?;
            self.told.remove(&event.id);
        } else {
            must(position <= self.position, Law::Cause, "answers an event that never was sent")?;
            must(self.may_be_older(entry, taken), Law::Once, "answers an event that was answered before")?;
        }
        let (sender, to) = (taken.sender, record.space);
        if let Some(why) = effect_of_failure(taken) {
            return wrong(Law::Cause, why);
        }
        let cancelled = receipt.outcome == Outcome::Cancelled;
        if !cancelled && !late {
            let last = self.taken.entry((sender, to)).or_default();
            must(position > *last, Law::Order, "answers an event before one that was sent earlier")?;
            *last = position;
        }
        self.charms.insert(record.space);

        let committed = receipt.outcome == Outcome::Committed;
        let status = if committed {
            receipt.commit == Some(record.seq) && receipt.message.is_none()
        } else {
            receipt.commit.is_none() && receipt.message.is_some()
        };
        must(status, Law::Receipt, "a receipt names its commit, or says why there is none")?;
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
        self.sends(entry, record, position, taken, event.as_ref())?;
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

    /// What goes out with a charm's commit: its events, then the receipts that were asked for.
    fn sends(
        &mut self,
        entry: &LogEntry,
        record: &Record,
        position: u64,
        taken: &Turn,
        event: Option<&Event>,
    ) -> Verdict {
        let mut due = VecDeque::new();
        let time_ms = record.time_ms;
        let plain = taken.sends.iter().take_while(|sent| sent.event.receipt_of.is_none()).count();
        let (plain, receipts) = taken.sends.split_at(plain);
        for (number, sent) in plain.iter().enumerate() {
            let Event { id, sender, supplied, awaited, on_commit, payload, .. } = &sent.event;
            must(*sender == entry.space, Law::Cause, "an event goes out in the name of another")?;
            must(!awaited, Law::Cause, "an event of a charm is marked as one from outside")?;
            let made = *id == self.mint.send(position, number) && !supplied;
            must(made, Law::Cause, "an event id that is not of this store's making")?;
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
        let own = event.and_then(|event| event.on_commit.clone());
        due.extend(own.map(|on_commit| Due { sender: taken.sender, on_commit, receipt: taken.receipt.clone() }));
        for sent in receipts {
            let answers = sent.event.receipt_of == Some(taken.receipt.id) && sent.refused.is_none();
            if event.is_none() && due.is_empty() && answers && sent.event.to == taken.sender {
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
        must(due.is_empty(), Law::Receipt, "a receipt that was asked for does not go out")
    }

    /// One receipt event (S6).
    fn receipt(&self, sent: &Sent, due: &Due) -> Verdict {
        let Event { id, sender, to, stream, payload, on_commit, receipt_of: _, supplied, awaited } = &sent.event;
        let home = (*sender, *to, stream) == (due.sender, due.sender, &due.on_commit.stream);
        must(home, Law::Receipt, "a receipt goes to another than asked for it")?;
        let carried = carried(&due.receipt, &due.on_commit.tag);
        must(carried.as_ref() == Some(payload), Law::Receipt, "a receipt carries other than status and tag")?;
        must(on_commit.is_none() && !supplied && !awaited, Law::Receipt, "a receipt asks for a receipt")?;
        must(*id == self.mint.receipt_of(&due.receipt.id), Law::Cause, "an event id that is not of this store's making")
    }
}

/// Returns `{receipt: {id, outcome, commit, message}, tag}`, made here a second time: a proof does not take the
/// host's word.
fn carried(receipt: &Receipt, tag: &Value) -> Option<Value> {
    let map = |entries: [(&str, Ipld); 2]| entries.map(|(key, value)| (key.to_owned(), value)).into_iter();
    let (id, outcome) = (receipt.id.to_string(), receipt.outcome.name().to_owned());
    let commit = receipt.commit.map_or(Ipld::Null, |seq| Ipld::Integer(seq.into()));
    let message = receipt.message.clone().map_or(Ipld::Null, Ipld::String);
    let status = map([("id", Ipld::String(id)), ("outcome", Ipld::String(outcome))])
        .chain(map([("commit", commit), ("message", message)]));
    let whole = map([("receipt", Ipld::Map(status.collect())), ("tag", tag.decode().ok()?)]);
    Value::encode(&Ipld::Map(whole.collect())).ok()
}
