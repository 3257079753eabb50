//! Effects without a cause (S1, S11, T6).

use charm_conformance::value;
use charm_host::{Law, OnCommit};
use serde_json::json;

use super::{
    Case, NOBODY,
    Tamper::{Log, Own, Rows as Shown},
    accepts, committed, failed, receipt_sent, resends, sends, sends_receipt, status, taken, write,
};

pub const CAUSE: &[Case] = &[
    (
        Law::Cause,
        "a charm's commit without an event",
        "answers no event",
        Log(|f| f.find_in("a", committed).taken = None),
    ),
    (
        Law::Cause,
        "a commit for an event that was not sent",
        "never was sent",
        Log(|f| {
            taken(f.find_in("b", committed)).position = 1 << 20;
        }),
    ),
    (
        Law::Cause,
        "an event handled by another charm",
        "event of another charm",
        Log(|f| {
            let (b, d) = (f.did("b"), f.did("d"));
            let first = taken(f.find_in("b", committed)).position;
            let mut all = f.log.iter_mut().flat_map(|line| &mut line.record.sends);
            let event = &mut all.find(|sent| sent.position == Some(first)).unwrap().event;
            assert_eq!(std::mem::replace(&mut event.to, d), b);
        }),
    ),
    (
        Law::Cause,
        "another sender",
        "another event than was sent",
        Log(|f| {
            let b = f.did("b");
            taken(f.find_in("b", committed)).sender = b;
        }),
    ),
    (
        Law::Cause,
        "another stream",
        "another event than was sent",
        Log(|f| {
            taken(f.find_in("b", committed)).stream = "run-all".into();
        }),
    ),
    (
        Law::Cause,
        "another event's id",
        "another event than was sent",
        Log(|f| status(f.find_in("b", failed)).id = NOBODY),
    ),
    (
        Law::Cause,
        "a failed event that writes",
        "has effects",
        Own(|f| f.find_in("b", failed).writes = vec![write("y")]),
    ),
    (
        Law::Cause,
        "a failed event that sends",
        "has effects",
        Own(|f| {
            let sent = f.find(sends).sends[0].clone();
            f.find_in("b", failed).sends.insert(0, sent);
        }),
    ),
    (
        Law::Cause,
        "an event of a charm that says that somebody outside asked for its receipt",
        "marked as one from outside",
        Log(|f| f.find(sends).sends[0].event.awaited = true),
    ),
    (
        Law::Cause,
        "the host's own space written",
        "own space is written",
        Log(|f| {
            f.find(accepts).writes = vec![write("y")];
        }),
    ),
    (
        Law::Cause,
        "the host's own space handling an event",
        "handles an event",
        Log(|f| {
            let taken = f.find_in("b", committed).taken.clone();
            f.find(accepts).taken = taken;
        }),
    ),
    (
        Law::Cause,
        "the host accepting nothing",
        "accepts one event, sends one again",
        Log(|f| f.find(accepts).sends.clear()),
    ),
    (
        Law::Cause,
        "the host accepting two events",
        "accepts one event, sends one again",
        Log(|f| {
            let record = f.find(accepts);
            record.sends.push(record.sends[0].clone());
        }),
    ),
    (
        Law::Cause,
        "an event from outside that asks for a receipt",
        "asks for one",
        Log(|f| {
            f.find(accepts).sends[0].event.on_commit =
                Some(OnCommit { stream: "on-receipt".into(), tag: value(json!(1)) });
        }),
    ),
    (
        Law::Cause,
        "an event from outside in a charm's name",
        "in the name of a charm",
        Log(|f| {
            let a = f.did("a");
            f.log.iter_mut().map(|line| &mut line.record).rfind(|record| accepts(record)).unwrap().sends[0]
                .event
                .sender = a;
        }),
    ),
    (
        Law::Cause,
        "an event in the name of another charm",
        "in the name of another",
        Log(|f| {
            let b = f.did("b");
            f.find_in("a", sends).sends[0].event.sender = b;
        }),
    ),
    (
        Law::Cause,
        "an event with an id of somebody's choice",
        "not of this store's making",
        Log(|f| {
            f.find_in("a", sends).sends[0].event.id = NOBODY;
        }),
    ),
    (
        Law::Cause,
        "an event from outside with another id",
        "not of this store's making",
        Log(|f| {
            f.find(|record| accepts(record) && !record.sends[0].event.supplied).sends[0].event.id = NOBODY;
        }),
    ),
    (
        Law::Cause,
        "a receipt event with another id",
        "not of this store's making",
        Log(|f| {
            receipt_sent(f.find(sends_receipt)).event.id = NOBODY;
        }),
    ),
    (Law::Cause, "another secret", "not of this store's making", Shown(|r| r.image.secret[31] ^= 1)),
    (
        Law::Cause,
        "an event for a charm that is not there",
        "not there",
        Log(|f| {
            let host = f.did("@host");
            f.find_in("a", sends).sends[0].event.to = host;
        }),
    ),
    (
        Law::Cause,
        "another event sent again",
        "than that of the dead letter",
        Log(|f| {
            f.find(resends).sends[0].event.payload = value(json!("forged"));
        }),
    ),
    (
        Law::Cause,
        "a dead letter dropped that is not there",
        "not there",
        Log(|f| {
            f.find(|record| record.taken.is_none() && !record.buried.is_empty()).buried[0] += 1 << 20;
        }),
    ),
    (
        Law::Cause,
        "a dead letter dropped by a turn that committed",
        "need not",
        Log(|f| {
            let dead = taken(f.find_in("b", failed)).position;
            let later = f.log.iter_mut().map(|line| &mut line.record).rfind(|record| committed(record)).unwrap();
            later.buried.push(dead);
        }),
    ),
];
