//! What somebody with the store and every key may do, one law at a time.

mod cause;
mod state;

pub use cause::CAUSE;
pub use state::STATE;

use charm_host::{EventId, Law, MESSAGE_BYTES_MAX, OnCommit, Outcome, Receipt, ReceiptRow, Record, Sent, Write};
use serde_json::json;

use super::{Forged, Rows};
use charm_conformance::value;

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
    record.taken.as_ref().map(|taken| taken.receipt.outcome)
}

fn sends(record: &Record) -> bool {
    record.sends.iter().filter(|sent| sent.event.receipt_of.is_none() && sent.position.is_some()).count() > 1
}

fn refuses(record: &Record) -> bool {
    record.sends.iter().any(|sent| sent.refused.is_some())
}

fn sends_receipt(record: &Record) -> bool {
    record.sends.iter().any(|sent| sent.event.receipt_of.is_some())
}

fn resends(record: &Record) -> bool {
    record.taken.is_none() && !record.buried.is_empty() && !record.sends.is_empty()
}

fn accepts(record: &Record) -> bool {
    record.taken.is_none() && record.buried.is_empty()
}

fn write(name: &str) -> Write {
    Write { name: name.into(), previous_order: 0, value: Some(value(json!("forged"))) }
}

fn receipt_sent(record: &mut Record) -> &mut Sent {
    record.sends.iter_mut().find(|sent| sent.event.receipt_of.is_some()).unwrap()
}

fn taken(record: &mut Record) -> &mut charm_host::Taken {
    record.taken.as_mut().unwrap()
}

fn status(record: &mut Record) -> &mut Receipt {
    &mut taken(record).receipt
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
        "the last signature taken away",
        "last commit is not signed",
        Shown(|r| r.last("b").signature = None),
    ),
    (
        Law::Signer,
        "the signature of another space",
        "signature is not by this DID",
        Shown(|r| {
            r.last("b").signature = r.last("a").signature;
        }),
    ),
    (Law::Chain, "one space rolled back to an older signed head", "comes after", Log(|f| f.roll_back("b"))),
    (
        Law::Chain,
        "a host number left out",
        "comes after",
        Log(|f| {
            let half = f.log.len() / 2;
            f.log[half..].iter_mut().for_each(|line| line.record.order += 1);
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
            let mut again = f.find(|record| record.sends.iter().any(|sent| sent.event.supplied)).clone();
            again.sends[0].position = Some(f.rows.image.position + 1);
            f.append(again);
        }),
    ),
    (
        Law::Once,
        "an event handled twice",
        "answered before",
        Log(|f| {
            let mut again = f.find_in("b", committed).clone();
            (again.writes, again.sends) = (Vec::new(), Vec::new());
            let seq = f.append(again).seq;
            status(&mut f.log.last_mut().unwrap().record).commit = Some(seq);
        }),
    ),
    (
        Law::Once,
        "an event refused and queued",
        "one of the two",
        Log(|f| {
            let sent = f.find(refuses).sends.iter_mut().find(|sent| sent.refused.is_some()).unwrap();
            sent.position = Some(1);
        }),
    ),
    (
        Law::Once,
        "an event neither refused nor queued",
        "one of the two",
        Log(|f| f.find(sends).sends[0].position = None),
    ),
    (
        Law::Once,
        "an event refused as faulted",
        "refused as none can be",
        Log(|f| {
            let sent = f.find(refuses).sends.iter_mut().find(|sent| sent.refused.is_some()).unwrap();
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
    (
        Law::Order,
        "two positions swapped",
        "not in the order of sends",
        Log(|f| {
            let sent = &mut f.find_in("a", sends).sends;
            let position = sent[0].position;
            sent[0].position = sent[1].position;
            sent[1].position = position;
        }),
    ),
    (
        Law::Order,
        "a position left out",
        "not in the order of sends",
        Log(|f| {
            let sent = f.log.last_mut().unwrap().record.sends.last_mut().unwrap();
            sent.position = sent.position.map(|position| position + 1);
        }),
    ),
    (
        Law::Order,
        "two events of one sender handled the other way round",
        "sent earlier",
        Log(|f| {
            let a = f.did("a");
            let plain = |record: &Record| {
                committed(record)
                    && record.sends.is_empty()
                    && record.taken.as_ref().is_some_and(|taken| taken.sender == a && &*taken.stream == "note")
            };
            let b = f.did("b");
            let own = f.log.iter_mut().map(|line| &mut line.record).filter(|record| record.space == b);
            let mut own: Vec<&mut Record> = own.collect();
            let first = own.windows(2).position(|pair| plain(pair[0]) && plain(pair[1])).expect("two in a row");
            let (one, two) = own.split_at_mut(first + 1);
            std::mem::swap(&mut one[first].taken, &mut two[0].taken);
            (status(one[first]).commit, status(two[0]).commit) = (Some(one[first].seq), Some(two[0].seq));
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
            f.find_in("b", sends_receipt).sends.pop();
        }),
    ),
    (
        Law::Receipt,
        "a receipt of a refused send that does not go out",
        "does not go out",
        Log(|f| {
            f.find(|record| refuses(record) && sends_receipt(record))
                .sends
                .retain(|sent| sent.event.receipt_of.is_none());
        }),
    ),
    (
        Law::Receipt,
        "a receipt that goes out twice",
        "nobody asked for",
        Log(|f| {
            let sends = &mut f.find_in("b", sends_receipt).sends;
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
