//! What somebody with the store and every key may do, one law at a time.

mod cause;
mod derived;
mod exchanged;
mod pruned;
mod state;
mod timed;
mod waited;

pub use cause::CAUSE;
pub use derived::DERIVED;
pub use exchanged::EXCHANGED;
pub use pruned::PRUNED;
pub use state::STATE;
pub use timed::TIMED;
pub use waited::{OUTLIVED, WAITED, ends_in_another_order};

use charm_host::{
    Body, Event, EventId, Law, MESSAGE_BYTES_MAX, OnCommit, Outcome, Receipt, ReceiptRow, Record, Sent, Turn, Write,
};
use serde_json::json;

use super::{Forged, Rows, forged::Line};
use charm_conformance::{value, whole};

/// Where a store is changed.
pub enum Tamper {
    /// In its records: they are hashed, chained and signed again, so that each space still proves itself.
    Log(fn(&mut Forged)),
    /// As `Log`, and a space alone tells too.
    Own(fn(&mut Forged)),
    /// In what the store keeps or shows beside them.
    Rows(fn(&mut Rows)),
}

use Tamper::{Log, Own, Rows as Shown};

/// One line of the table: the law, what is done, and a part of what the proof says.
pub type Case = (Law, &'static str, &'static str, Tamper);

fn failed(record: &Record) -> bool {
    outcome(record).is_some_and(|outcome| outcome != Outcome::Committed)
}

fn committed(record: &Record) -> bool {
    outcome(record) == Some(Outcome::Committed)
}

fn outcome(record: &Record) -> Option<Outcome> {
    record.turn().map(|turn| turn.receipt.outcome)
}

fn sends(record: &Record) -> bool {
    let plain = |sent: &&Sent| sent.event.receipt_of.is_none() && sent.refused.is_none();
    record.turn().is_some_and(|turn| turn.sends.iter().filter(plain).count() > 1)
}

fn refuses(record: &Record) -> bool {
    record.sends().any(|(_, refused)| refused.is_some())
}

fn sends_receipt(record: &Record) -> bool {
    record.turn().is_some_and(|turn| turn.sends.iter().any(|sent| sent.event.receipt_of.is_some()))
}

fn resends(record: &Record) -> bool {
    matches!(record.body, Body::Letters { again: Some(_), .. })
}

fn installs(record: &Record) -> bool {
    matches!(record.body, Body::Installed(_))
}

fn accepts(record: &Record) -> bool {
    matches!(record.body, Body::Accepted(_))
}

/// The event that a record accepts, or sends again.
fn outside(record: &mut Record) -> &mut Event {
    match &mut record.body {
        Body::Accepted(event) | Body::Letters { again: Some(event), .. } => event,
        body => panic!("no event from outside: {body:?}"),
    }
}

/// The events whose dead letters a record drops.
fn dropped(record: &mut Record) -> &mut Vec<EventId> {
    match &mut record.body {
        Body::Letters { dropped, .. } => dropped,
        body => panic!("no letters: {body:?}"),
    }
}

fn write(name: &str) -> Write {
    Write { name: name.into(), previous: 0, edits: vec![whole(Some(value(json!("forged"))))] }
}

fn receipt_sent(record: &mut Record) -> &mut Sent {
    turn(record).sends.iter_mut().find(|sent| sent.event.receipt_of.is_some()).unwrap()
}

fn turn(record: &mut Record) -> &mut Turn {
    match &mut record.body {
        Body::Turn(turn) => turn,
        body => panic!("no turn: {body:?}"),
    }
}

fn status(record: &mut Record) -> &mut Receipt {
    &mut turn(record).receipt
}

const NOBODY: EventId = EventId([7; 16]);

pub const SIGNER_AND_CHAIN: &[Case] = &[
    (
        Law::Signer,
        "a record of another space",
        "made for another DID",
        Own(|f| {
            let b = f.did("b");
            f.find_in("a", committed).space = b;
        }),
    ),
    (
        Law::Signer,
        "the signature of another space",
        "signature is not by this DID",
        Shown(|r| {
            let (_, signature) = r.space("a").signed.unwrap();
            let row = r.space_mut("b");
            row.signed = Some((row.seq, signature));
        }),
    ),
    (
        Law::Signer,
        "a signature over a commit that is not there",
        "was signed that is not there",
        Shown(|r| {
            let row = r.space_mut("b");
            row.signed = row.signed.map(|(seq, signature)| (seq + 1, signature));
        }),
    ),
    (Law::Chain, "the last seal taken away", "not sealed", Shown(|r| r.log.last_mut().unwrap().seal = None)),
    (
        Law::Chain,
        "a seal by another key",
        "seal does not hold",
        Shown(|r| {
            let (_, signature) = r.space("a").signed.unwrap();
            r.log.last_mut().unwrap().seal = Some(signature);
        }),
    ),
    (
        Law::Chain,
        "another place in the queue than was sealed",
        "seal does not hold",
        Shown(|r| r.log.last_mut().unwrap().position += 1),
    ),
    (Law::Chain, "one space rolled back alone", "comes after", Log(|f| f.roll_back("b"))),
    (
        Law::Chain,
        "a host number left out",
        "comes after",
        Log(|f| {
            let half = f.log.len() / 2;
            f.log[half..].iter_mut().for_each(|line| line.order += 1);
        }),
    ),
    (Law::Chain, "a number left out in a space", "number out of sequence", Own(|f| f.find_in("b", committed).seq += 1)),
    (Law::Chain, "a record that is none", "malformed", Shown(|r| r.last("a").record = [0][..].into())),
    (
        Law::Chain,
        "a record of an earlier version of the chain",
        "does not continue",
        Shown(|r| {
            let a = r.did("a");
            let own: Vec<usize> = (0..r.log.len()).filter(|index| r.log[*index].space == a).collect();
            let mut record = Record::from_bytes(&r.log[own[1]].record).unwrap();
            record.previous = [1; 32];
            r.log[own[1]].record = record.to_bytes().into();
        }),
    ),
    (Law::Chain, "a head of its own", "head is not its last commit", Shown(|r| r.space_mut("b").head[0] ^= 1)),
    (
        Law::Chain,
        "the last commits gone",
        "head is not its last commit",
        Shown(|r| {
            r.log.pop();
            r.image.order -= 1;
        }),
    ),
    (Law::Chain, "the last commits gone, not counted", "head is not its last commit", Shown(|r| drop(r.log.pop()))),
];

pub const ONCE: &[Case] = &[
    (
        Law::Once,
        "an event accepted twice under its own id",
        "goes out a second time",
        Log(|f| {
            let again = f.line(|record| record.sends().any(|(event, _)| event.supplied)).clone();
            f.append(again, 1);
        }),
    ),
    (
        Law::Once,
        "an event handled twice",
        "answered before",
        Log(|f| {
            let b = f.did("b");
            let mut again = f.line(|record| record.space == b && committed(record)).clone();
            let turn = turn(&mut again.record);
            (turn.writes, turn.sends) = (Vec::new(), Vec::new());
            let again = f.append(again, 0);
            status(&mut again.record).commit = Some(again.record.seq);
        }),
    ),
    (
        Law::Once,
        "an event refused as faulted",
        "refused as none can be",
        Log(|f| {
            let sent = turn(f.find(refuses)).sends.iter_mut().find(|sent| sent.refused.is_some()).unwrap();
            sent.refused = Some(Outcome::Faulted);
        }),
    ),
    (Law::Once, "a receipt gone", "is missing", Shown(|r| drop(r.receipts.pop_first()))),
    (
        Law::Once,
        "the receipt of a refused event gone",
        "is missing",
        Shown(|r| {
            let id = r.receipt(|row| row.receipt.outcome == Outcome::Denied).receipt.id;
            r.receipts.remove(&id);
        }),
    ),
    (
        Law::Once,
        "a receipt of an event that never was",
        "not settled",
        Shown(|r| {
            let row = r.receipts.first_key_value().unwrap().1.clone();
            r.receipts.insert(NOBODY, ReceiptRow { receipt: Receipt { id: NOBODY, ..row.receipt }, ..row });
        }),
    ),
    (
        Law::Once,
        "a receipt of an event that waits",
        "not settled",
        Shown(|r| {
            let row = r.receipts.first_key_value().unwrap().1.clone();
            let id = r.image.queued[0].event.id;
            r.receipts.insert(id, ReceiptRow { receipt: Receipt { id, ..row.receipt }, ..row });
        }),
    ),
];

pub const ORDER: &[Case] = &[
    (Law::Order, "a position left out", "not in the order of sends", Log(|f| f.log.last_mut().unwrap().position += 1)),
    (Law::Order, "a position that nobody gets", "not in the order of sends", Log(|f| f.line(sends).position += 1)),
    (
        Law::Order,
        "two events of one sender handled the other way round",
        "sent earlier",
        Log(|f| {
            let a = f.did("a");
            let plain = |line: &Line| {
                let turn = line.record.turn();
                let note = |turn: &Turn| turn.sends.is_empty() && turn.sender == a && &*turn.stream == "note";
                committed(&line.record) && turn.is_some_and(note)
            };
            let b = f.did("b");
            let mut own: Vec<&mut Line> = f.log.iter_mut().filter(|line| line.space == b).collect();
            let first = own.windows(2).position(|pair| plain(pair[0]) && plain(pair[1])).expect("two in a row");
            let (one, two) = own.split_at_mut(first + 1);
            let (one, two) = (&mut *one[first], &mut *two[0]);
            std::mem::swap(&mut one.taken, &mut two.taken);
            std::mem::swap(status(&mut one.record), status(&mut two.record));
            for line in [one, two] {
                status(&mut line.record).commit = Some(line.record.seq);
            }
        }),
    ),
];

pub const RECEIPT: &[Case] = &[
    (
        Law::Receipt,
        "a receipt that carries a value",
        "other than status and tag",
        Log(|f| {
            let payload = &mut receipt_sent(f.find(sends_receipt)).event.payload;
            let mut whole: serde_json::Value = payload.decode().unwrap();
            whole["receipt"]["value"] = json!(1);
            *payload = value(whole);
        }),
    ),
    (
        Law::Receipt,
        "a receipt with another tag",
        "other than status and tag",
        Log(|f| {
            let payload = &mut receipt_sent(f.find(sends_receipt)).event.payload;
            let mut whole: serde_json::Value = payload.decode().unwrap();
            whole["tag"] = json!("forged");
            *payload = value(whole);
        }),
    ),
    (
        Law::Receipt,
        "a receipt that tells another outcome",
        "other than status and tag",
        Log(|f| {
            let payload = &mut receipt_sent(f.find(sends_receipt)).event.payload;
            let mut whole: serde_json::Value = payload.decode().unwrap();
            whole["receipt"]["outcome"] = json!("expired");
            *payload = value(whole);
        }),
    ),
    (
        Law::Receipt,
        "a receipt to another charm",
        "to another than asked",
        Log(|f| {
            let b = f.did("b");
            receipt_sent(f.find_in("b", sends_receipt)).event.to = b;
        }),
    ),
    (
        Law::Receipt,
        "a receipt from the receiver",
        "to another than asked",
        Log(|f| {
            let b = f.did("b");
            receipt_sent(f.find_in("b", sends_receipt)).event.sender = b;
        }),
    ),
    (
        Law::Receipt,
        "a receipt on another stream",
        "to another than asked",
        Log(|f| {
            receipt_sent(f.find(sends_receipt)).event.stream = "note".into();
        }),
    ),
    (
        Law::Receipt,
        "a receipt that asks for a receipt",
        "asks for a receipt",
        Log(|f| {
            receipt_sent(f.find(sends_receipt)).event.on_commit =
                Some(OnCommit { stream: "on-receipt".into(), tag: value(json!(1)) });
        }),
    ),
    (
        Law::Receipt,
        "a receipt that does not go out",
        "does not go out",
        Log(|f| {
            turn(f.find_in("b", sends_receipt)).sends.pop();
        }),
    ),
    (
        Law::Receipt,
        "a receipt of a refused send that does not go out",
        "does not go out",
        Log(|f| {
            let record = f.find(|record| refuses(record) && sends_receipt(record));
            turn(record).sends.retain(|sent| sent.event.receipt_of.is_none());
        }),
    ),
    (
        Law::Receipt,
        "a receipt that goes out twice",
        "nobody asked for",
        Log(|f| {
            let sends = &mut turn(f.find_in("b", sends_receipt)).sends;
            sends.push(sends.last().unwrap().clone());
        }),
    ),
    (
        Law::Receipt,
        "a receipt of another event",
        "nobody asked for",
        Log(|f| {
            receipt_sent(f.find(sends_receipt)).event.receipt_of = Some(NOBODY);
        }),
    ),
    (
        Law::Receipt,
        "a message over its bound",
        "longer than its bound",
        Log(|f| {
            status(f.find_in("b", failed)).message = Some("x".repeat(MESSAGE_BYTES_MAX + 1));
        }),
    ),
    (
        Law::Receipt,
        "a commit that gives a reason",
        "names its commit",
        Log(|f| {
            status(f.find_in("b", committed)).message = Some("why".to_owned());
        }),
    ),
    (
        Law::Receipt,
        "a receipt that names another commit",
        "names its commit",
        Log(|f| {
            status(f.find_in("b", committed)).commit = Some(1 << 20);
        }),
    ),
    (
        Law::Receipt,
        "a failure without a reason",
        "names its commit",
        Log(|f| status(f.find_in("b", failed)).message = None),
    ),
    (
        Law::Receipt,
        "a failure that names a commit",
        "names its commit",
        Log(|f| {
            let record = f.find_in("b", failed);
            status(record).commit = Some(record.seq);
        }),
    ),
];
