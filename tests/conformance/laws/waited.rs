//! A story of turns that wait, told by hand at the end of a real store: nobody needs to have run them.

use std::sync::Arc;

use charm_conformance::{edited, json as decoded, value, whole};
use charm_host::{
    Body, CellRow, DeadLetter, Did, Event, EventId, Hash, OnCommit, Outcome, Progress, Queued, Ran, Receipt,
    ReceiptRow, Record, Sent, Taken, Turn, TurnRow, TurnSegment, Until, WaitFor, Write,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::forged::{Forged, Line, Rows};

/// Tells the story of tamperings/waited.rs on a store in which three events wait for "d", the first of them from "a", which
/// wants its receipt. Returns it a moment before its end as well: since then one turn has gone on, and three have ended.
pub fn waited(rows: &Rows) -> [Forged; 2] {
    let mut story = Story(Forged::of(rows));
    let [b, c, d] = ["b", "c", "d"].map(|name| rows.did(name));
    let of = |to: Did| move |queued: &&Queued| queued.event.to == to;
    let [first, second, third] =
        rows.image.queued.iter().filter(of(d)).map(|queued| queued.position).collect::<Vec<_>>()[..]
    else {
        panic!("three events wait")
    };
    story.segment(first, &[b, c], &[0]);
    let [.., told, receipt] = &story.0.rows.image.queued[..] else { panic!("both went out") };
    let (told, receipt) = (told.position, receipt.position);
    story.end(told, None, &[]);
    story.segment(first, &[b], &[2, 0]);
    story.segment(second, &[b], &[0]);
    story.segment(third, &[b], &[0, 0]);
    story.segment(receipt, &[b], &[0]);
    let before = story.0.clone();
    story.add(d, None, Body::Paused(true));
    story.add(d, None, Body::Paused(false));
    story.segment(receipt, &[], &[0]);
    story.end(third, None, &[]);
    story.end(first, None, &[b]);
    story.end(second, Some(Outcome::Faulted), &[]);
    [before, story.0]
}

struct Story(Forged);

impl Story {
    fn id(&self, kind: &str, prefix: [u8; 8], part: &[u8]) -> EventId {
        let hash = Sha256::new().chain_update(self.0.rows.image.secret).chain_update(kind);
        let hash = hash.chain_update((part.len() as u64).to_be_bytes()).chain_update(part).finalize();
        EventId([prefix, hash[..8].try_into().unwrap()].concat().try_into().unwrap())
    }

    /// The id of what the turn of the event there sends under that number.
    fn sent(&self, position: u64, number: u64) -> EventId {
        let prefix = (position << 16 | number).to_be_bytes();
        self.id("send", prefix, &prefix)
    }

    fn queued(&self, position: u64) -> Queued {
        self.0.rows.image.queued.iter().find(|queued| queued.position == position).unwrap().clone()
    }

    fn progress(&self, position: u64) -> Option<Progress> {
        let turns = &self.0.rows.image.turns;
        turns.iter().find(|turn| turn.position == position).map(|turn| turn.progress.clone())
    }

    /// The number of the next commit of a space.
    fn next(&self, space: Did) -> u64 {
        1 + self.0.log.iter().filter(|line| line.space == space).count() as u64
    }

    /// One more write of a cell.
    fn write(&self, space: Did) -> Write {
        let before = self.0.rows.image.cells.iter().find(|cell| (cell.space, &*cell.name) == (space, "waited"));
        let edit = whole(Some(value(json!(self.next(space)))));
        Write { name: "waited".into(), previous: before.map_or(0, |cell| cell.seq), edits: vec![edit] }
    }

    /// What a turn sends, the first of it with that number; "c" takes nothing. Then the receipts that were asked for.
    fn sends(&self, position: u64, first: u64, to: &[Did], end: Option<&Receipt>) -> Vec<Sent> {
        let own = self.queued(position).event;
        let (c, mut sends, mut due) = (self.0.did("c"), Vec::new(), Vec::new());
        for (number, to) in (first..).zip(to.iter().copied()) {
            let refused = (to == c).then_some(Outcome::Denied);
            let on_commit = refused.map(|_| OnCommit { stream: "on-receipt".into(), tag: value(json!("denied")) });
            let event = Event {
                id: self.sent(position, number),
                sender: own.to,
                to,
                stream: "note".into(),
                payload: value(if refused.is_some() { json!(null) } else { json!(number) }),
                on_commit: on_commit.clone(),
                receipt_of: None,
                supplied: false,
                awaited: false,
            };
            due.extend(on_commit.map(|on_commit| (own.to, on_commit, refusal(&event))));
            sends.push(Sent { event, refused });
        }
        due.extend(end.and_then(|receipt| Some((own.sender, own.on_commit.clone()?, receipt.clone()))));
        let receipts = due.into_iter().map(|(home, OnCommit { stream, tag }, receipt)| {
            let Receipt { id, outcome, commit, message } = receipt;
            let status = json!({"id": id.to_string(), "outcome": outcome.name(), "commit": commit, "message": message});
            let event = Event {
                id: self.id("receipt", id.0[..8].try_into().unwrap(), &id.0),
                sender: home,
                to: home,
                stream,
                payload: value(json!({"receipt": status, "tag": decoded(&tag)})),
                on_commit: None,
                receipt_of: Some(id),
                supplied: false,
                awaited: false,
            };
            Sent { event, refused: None }
        });
        sends.extend(receipts);
        sends
    }

    /// A part of the turn of the event there, which writes a cell, sends, and waits for what it has sent under these numbers.
    fn segment(&mut self, position: u64, to: &[Did], waits: &[u64]) {
        let Event { id: event, sender, to: space, stream, .. } = self.queued(position).event;
        let before = self.progress(position);
        let (segments, first) = before.as_ref().map_or((0, 0), |before| (before.segments, before.sends));
        let wait = WaitFor {
            events: waits.iter().map(|number| self.sent(position, *number)).collect(),
            until: Until::All,
            timeout_ms: 60_000,
        };
        let piece: Arc<[u8]> = format!("piece {segments} of {position}").into_bytes().into();
        let told = before.map(|before| before.recording).unwrap_or_default();
        let segment = TurnSegment {
            event,
            sender,
            stream,
            number: segments + 1,
            writes: vec![self.write(space)],
            sends: self.sends(position, first.into(), to, None),
            ran: ran(segments + 1),
            wait,
            recording: recording_hash(&told, &piece),
        };
        self.0.rows.recordings.entry(position).or_default().push(piece);
        self.add(space, Some(position), Body::Segment(Box::new(segment)));
    }

    /// The end of the turn of the event there.
    fn end(&mut self, position: u64, failed: Option<Outcome>, to: &[Did]) {
        let (event, before) = (self.queued(position).event, self.progress(position));
        let (segments, first) = before.as_ref().map_or((0, 0), |before| (before.segments, before.sends));
        let commit = if failed.is_some() { before.map(|before| before.seq) } else { Some(self.next(event.to)) };
        let outcome = failed.unwrap_or(Outcome::Committed);
        let receipt = Receipt { id: event.id, outcome, commit, message: failed.map(|_| "it trapped".to_owned()) };
        let turn = Turn {
            sender: event.sender,
            stream: event.stream.clone(),
            writes: if failed.is_some() { Vec::new() } else { vec![self.write(event.to)] },
            sends: self.sends(position, first.into(), to, Some(&receipt)),
            receipt,
            dropped: None,
            ran: failed.is_none().then(|| ran(segments + 1)),
        };
        self.add(event.to, Some(position), Body::Turn(Box::new(turn)));
    }

    /// Adds a commit, and makes the rows that follow from it.
    fn add(&mut self, space: Did, handles: Option<u64>, body: Body) {
        let handled = handles.map(|position| self.queued(position));
        let before = handles.and_then(|position| self.progress(position));
        let forged = &mut self.0;
        let waits: Vec<Event> = match &body {
            Body::Turn(turn) => plain(&turn.sends),
            Body::Segment(segment) => plain(&segment.sends),
            _ => Vec::new(),
        };
        let line = forged.log.last().unwrap().clone();
        let taken = handles.map(|position| Taken { position, late: false });
        let record = Record { space, body, ..line.record };
        let line = forged.append(Line { space, taken, record, ..line }, waits.len() as u64).clone();
        let (order, record, rows) = (line.order, line.record, &mut forged.rows);
        let (seq, time_ms) = (record.seq, record.time_ms);
        for (position, event) in (rows.image.position + 1..).zip(waits) {
            rows.image.queued.push(Queued { position, space, event });
        }
        rows.image.position = line.position;
        for Write { name, edits, .. } in record.writes() {
            let cells = &mut rows.image.cells;
            let old = cells.iter().position(|cell| (cell.space, &cell.name) == (space, name));
            let old = old.and_then(|at| cells.remove(at).value);
            cells.push(CellRow { space, name: name.clone(), order, seq, value: edited(old, edits) });
        }
        let row = |receipt: Receipt, sender, to| {
            (receipt.id, ReceiptRow { receipt, sender, to, digest: None, space, seq, time_ms })
        };
        let refused = record.sends().filter(|(_, refused)| refused.is_some());
        rows.receipts.extend(refused.map(|(event, _)| row(refusal(event), event.sender, event.to)));
        let Some(Queued { position, event, .. }) = handled else { return };
        rows.image.turns.retain(|turn| turn.position != position);
        if let Some(segment) = record.segment() {
            let sent = segment.sends.iter().filter(|sent| sent.event.receipt_of.is_none()).count() as u32;
            let progress = Progress {
                component: rows.space("d").installed.unwrap().component,
                segments: segment.number,
                sends: before.map_or(0, |before| before.sends) + sent,
                seq,
                since_ms: time_ms,
                ran: segment.ran,
                wait: segment.wait.clone(),
                recording: segment.recording,
            };
            rows.image.turns.push(TurnRow { position, space, event: event.id, progress });
            rows.image.turns.sort_by_key(|turn| turn.position);
        }
        if let Some(turn) = record.turn() {
            let receipt = turn.receipt.clone();
            rows.recordings.remove(&position);
            rows.image.queued.retain(|queued| queued.position != position);
            rows.receipts.extend([row(receipt.clone(), event.sender, event.to)]);
            if receipt.outcome != Outcome::Committed {
                rows.image.dead.push((space, position, event.id));
                rows.dead.insert(position, DeadLetter { position, time_ms, event, receipt });
            }
        }
    }
}

/// Those that get a place in the queue.
fn plain(sends: &[Sent]) -> Vec<Event> {
    sends.iter().filter(|sent| sent.refused.is_none()).map(|sent| sent.event.clone()).collect()
}

fn ran(segments: u32) -> Ran {
    Ran { time_ms: 1_700_000_000_000, fuel: 1_000 * u64::from(segments), costs: 1 }
}

fn refusal(event: &Event) -> Receipt {
    let Event { id, sender, to, stream, .. } = event;
    let message = format!("no grant lets {sender} send to {stream} of {to}: ask the operator for one");
    Receipt { id: *id, outcome: Outcome::Denied, commit: None, message: Some(message) }
}

fn recording_hash(before: &Hash, piece: &[u8]) -> Hash {
    Sha256::new().chain_update(b"charm recording v1\0").chain_update(before).chain_update(piece).finalize().into()
}
