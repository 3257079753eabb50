//! The bounds of one answer, on logs that are written by hand.

use super::*;
use crate::{
    keyring::{Keyring, MemoryKeyring},
    record::{Ran, Record, Segment, Sent, Turn, Until, VERSION, Write},
    rows::Batch,
    store::MemoryStore,
    value::{Edit, Value},
};

/// A log of one charm that is written by hand.
struct Log {
    store: MemoryStore,
    charm: Did,
    order: u64,
    position: u64,
}

const RAN: Ran = Ran { time_ms: 1, fuel: 1, costs: 1 };

fn id(position: u64, number: u16) -> EventId {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&(position << 16 | u64::from(number)).to_be_bytes());
    EventId(id)
}

impl Log {
    fn new() -> Log {
        let charm = MemoryKeyring::default().create(&zeroize::Zeroizing::new([1; 32])).expect("a key");
        Log { store: MemoryStore::new(), charm, order: 0, position: 0 }
    }

    fn event(&self, id: EventId) -> Event {
        Event {
            id,
            sender: self.charm,
            to: self.charm,
            stream: "run".into(),
            payload: Value::encode(&1).expect("a value"),
            on_commit: None,
            receipt_of: None,
            supplied: false,
            awaited: false,
            deliver_after: None,
            expires_at: None,
        }
    }

    fn push(&mut self, taken: Option<u64>, sends: u64, body: Body) {
        self.order += 1;
        self.position += sends;
        let record =
            Record { version: VERSION, space: self.charm, seq: self.order, previous: [0; 32], time_ms: 1, body };
        let entry = LogEntry {
            order: self.order,
            space: self.charm,
            seq: self.order,
            position: self.position,
            taken: taken.map(|position| crate::entry::Taken { position, late: false }),
            record: record.to_bytes().into(),
            seal: None,
        };
        self.store.commit(&Batch { log: vec![entry], ..Batch::default() }).expect("it is kept");
    }

    fn outside(&mut self) -> EventId {
        let first = id(self.position + 1, u16::MAX);
        self.push(None, 1, Body::Accepted(self.event(first)));
        first
    }

    /// Ends the turn of the event at a position; it sends so many events and writes so many bytes.
    fn turn(&mut self, event: EventId, position: u64, sends: u16, bytes: usize) {
        let receipt = Receipt { id: event, outcome: receipt::Outcome::Committed, commit: Some(1), message: None };
        let sends = (0..sends).map(|number| Sent { event: self.event(id(position, number)), refused: None });
        let sends: Vec<_> = sends.collect();
        let put = Some(Value::encode(&"x".repeat(bytes)).expect("a value"));
        let edit = Edit { path: crate::path::Path::root(), put };
        let writes = vec![Write { name: "x".into(), previous: 0, edits: vec![edit] }];
        let (count, sender) = (sends.len() as u64, self.charm);
        let turn = Turn { sender, stream: "run".into(), receipt, writes, sends, dropped: None, ran: Some(RAN) };
        self.push(Some(position), count, Body::Turn(Box::new(turn)));
    }

    /// Lets events follow from each other, each sent by the turn of the one before; returns the first and the last.
    fn chain(&mut self, length: u64, bytes: usize) -> (EventId, EventId) {
        let first = self.outside();
        let (mut last, start) = (first, self.position);
        for position in start..start + length {
            self.turn(last, position, 1, bytes);
            last = id(position, 0);
        }
        self.turn(last, start + length, 0, bytes);
        (first, last)
    }

    fn why(&self, id: &EventId) -> Why {
        why(&self.store, self.order, id, &|_, _| None).expect("it is read").expect("it is known")
    }
}

#[test]
fn no_more_causes_are_listed_than_the_bound() {
    let mut log = Log::new();
    let (first, last) = log.chain(WHY_CAUSES_MAX as u64 + 10, 1);
    let told = log.why(&last);
    assert_eq!((told.causes, told.events.len()), (WHY_CAUSES_MAX, WHY_CAUSES_MAX + 1));
    assert_eq!(told.events[0].missing, [Missing::Causes]);
    // From the first of those on, the rest.
    let rest = log.why(&told.events[0].id);
    assert_eq!((rest.causes, rest.events[0].id, &rest.events[0].missing[..]), (10, first, &[][..]));
}

#[test]
fn no_more_events_are_listed_than_the_bound() {
    let mut log = Log::new();
    let (first, _) = log.chain(WHY_EVENTS_MAX as u64 + 10, 1);
    let told = log.why(&first);
    assert_eq!((told.events.len(), told.more), (WHY_EVENTS_MAX, 1));
}

#[test]
fn no_more_commits_are_listed_than_the_bound() {
    let mut log = Log::new();
    let first = log.outside();
    for number in 1..=WHY_COMMITS_MAX as u32 + 5 {
        let wait = WaitFor { events: vec![first], until: Until::All, timeout_ms: 1 };
        let (sender, stream, recording) = (log.charm, "run".into(), [0; 32]);
        let (writes, sends) = (Vec::new(), Vec::new());
        let segment = Segment { event: first, sender, stream, number, writes, sends, ran: RAN, wait, recording };
        log.push(Some(1), 0, Body::Segment(Box::new(segment)));
    }
    log.turn(first, 1, 0, 1);
    let told = log.why(&first);
    let [event] = &told.events[..] else { panic!("one event") };
    assert_eq!((event.commits.len(), &event.missing[..]), (WHY_COMMITS_MAX, &[Missing::Parts][..]));
    assert!(event.receipt.is_some(), "its end is told");
}

#[test]
fn no_more_bytes_of_records_are_read_than_the_bound() {
    let mut log = Log::new();
    let bytes = 8 << 20;
    let within = WHY_BYTES_MAX / bytes;
    let (first, _) = log.chain(within as u64 + 4, bytes);
    let told = log.why(&first);
    let read = told.events.iter().filter(|event| !event.commits.is_empty()).count();
    assert_eq!(read, within, "the records are a little larger than what they write");
    let last = told.events.last().expect("an event");
    assert_eq!((&last.missing[..], &last.receipt), (&[Missing::Parts][..], &None));
}
