//! Effects without a cause (S1, S11, T6).

use charm_conformance::value;
use charm_host::{Body, Law, OnCommit, Record, Taken};
use serde_json::json;

use super::{
    Case, NOBODY,
    Tamper::{Log, Own, Rows as Shown},
    accepts, committed, dropped, failed, installs, outside, receipt_sent, resends, sends, sends_receipt, status, turn,
    write,
};
use crate::forged::Line;

pub const CAUSE: &[Case] = &[
    (
        Law::Cause,
        "a turn of no event",
        "no event",
        Log(|f| {
            let a = f.did("a");
            f.line(|record| record.space == a && committed(record)).taken = None;
        }),
    ),
    (
        Law::Cause,
        "a commit for an event that was not sent",
        "never was sent",
        Log(|f| {
            let b = f.did("b");
            let line = f.line(|record| record.space == b && committed(record));
            line.taken = Some(Taken { position: 1 << 20, late: false });
        }),
    ),
    (
        Law::Cause,
        "an event handled by another charm",
        "event of another charm",
        Log(|f| {
            let (b, d) = (f.did("b"), f.did("d"));
            let a = f.did("a");
            let of_a = |record: &Record| committed(record) && record.turn().is_some_and(|turn| turn.sender == a);
            let first = status(f.find_in("b", of_a)).id;
            let all = f.log.iter_mut().filter(|line| line.record.turn().is_some());
            let mut all = all.flat_map(|line| &mut turn(&mut line.record).sends);
            let event = &mut all.find(|sent| sent.event.id == first).unwrap().event;
            assert_eq!(std::mem::replace(&mut event.to, d), b);
        }),
    ),
    (
        Law::Cause,
        "another sender",
        "another event than was sent",
        Log(|f| {
            let b = f.did("b");
            turn(f.find_in("b", committed)).sender = b;
        }),
    ),
    (
        Law::Cause,
        "another stream",
        "another event than was sent",
        Log(|f| {
            turn(f.find_in("b", committed)).stream = "run-all".into();
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
        Own(|f| turn(f.find_in("b", failed)).writes = vec![write("y")]),
    ),
    (
        Law::Cause,
        "a failed event that sends",
        "has effects",
        Own(|f| {
            let sent = turn(f.find(sends)).sends[0].clone();
            turn(f.find_in("b", failed)).sends.insert(0, sent);
        }),
    ),
    (
        Law::Cause,
        "an event that says that its sender waits for it, sent by a turn that does not wait",
        "says wrongly whether",
        Log(|f| turn(f.find(sends)).sends[0].event.awaited = true),
    ),
    (
        Law::Cause,
        "the host's own space handling an event",
        "handles an event",
        Log(|f| {
            let (b, host) = (f.did("b"), f.did("@host"));
            let line = f.line(|record| record.space == b && committed(record)).clone();
            let record = Record { space: host, ..line.record };
            f.append(Line { space: host, record, ..line }, 0);
        }),
    ),
    (
        Law::Cause,
        "the host's own space paused",
        "is no charm",
        Log(|f| {
            let host = f.did("@host");
            let line = f.line(|record| record.space == host).clone();
            let record = Record { body: Body::Paused(true), ..line.record };
            f.append(Line { record, ..line }, 0);
        }),
    ),
    (
        Law::Cause,
        "a component installed that is installed",
        "installed again",
        Log(|f| {
            let line = f.line(installs).clone();
            f.append(line, 0);
        }),
    ),
    (
        Law::Cause,
        "a component installed in the host's own space",
        "is no charm",
        Log(|f| {
            let (host, line) = (f.did("@host"), f.line(installs).clone());
            let record = Record { space: host, ..line.record };
            f.append(Line { space: host, record, ..line }, 0);
        }),
    ),
    (
        Law::Cause,
        "a charm uninstalled that is not installed",
        "is not installed",
        Log(|f| f.find(installs).body = Body::Uninstalled),
    ),
    (
        Law::Cause,
        "a turn of a charm that is not installed",
        "no component is installed",
        Log(|f| f.find_in("b", installs).body = Body::Paused(false)),
    ),
    (
        Law::Cause,
        "a space made twice",
        "begins with its name",
        Log(|f| {
            let line = f.log[0].clone();
            f.append(line, 0);
        }),
    ),
    (
        Law::Cause,
        "the rights of another",
        "rights of another",
        Log(|f| {
            let (a, b) = (f.did("a"), f.did("b"));
            let line = f.line(|record| record.space == b).clone();
            let record = Record { body: Body::Rights { holder: a, kept: None }, ..line.record };
            f.append(Line { taken: None, record, ..line }, 0);
        }),
    ),
    (
        Law::Cause,
        "an event from outside in another charm's space",
        "in another charm's space",
        Log(|f| {
            let d = f.did("d");
            outside(f.find(accepts)).to = d;
        }),
    ),
    (Law::Cause, "no dead letter dropped", "are dropped, or one", Log(|f| dropped(f.find(resends)).clear())),
    (
        Law::Cause,
        "an event from outside that asks for a receipt",
        "asks for one",
        Log(|f| {
            outside(f.find(accepts)).on_commit = Some(OnCommit { stream: "on-receipt".into(), tag: value(json!(1)) });
        }),
    ),
    (
        Law::Cause,
        "an event from outside in a charm's name",
        "in the name of a charm",
        Log(|f| {
            let a = f.did("a");
            let b = f.did("b");
            let of_b = |record: &&mut Record| accepts(record) && record.space == b;
            outside(f.log.iter_mut().map(|line| &mut line.record).rfind(of_b).unwrap()).sender = a;
        }),
    ),
    (
        Law::Cause,
        "an event in the name of another charm",
        "in the name of another",
        Log(|f| {
            let b = f.did("b");
            turn(f.find_in("a", sends)).sends[0].event.sender = b;
        }),
    ),
    (
        Law::Cause,
        "an event with an id of somebody's choice",
        "not of this store's making",
        Log(|f| {
            turn(f.find_in("a", sends)).sends[0].event.id = NOBODY;
        }),
    ),
    (
        Law::Cause,
        "an event from outside with another id",
        "not of this store's making",
        Log(|f| {
            let plain = |record: &Record| accepts(record) && record.sends().all(|(event, _)| !event.supplied);
            outside(f.find(plain)).id = NOBODY;
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
            turn(f.find_in("a", sends)).sends[0].event.to = host;
        }),
    ),
    (
        Law::Cause,
        "another event sent again",
        "than that of the dead letter",
        Log(|f| {
            outside(f.find(resends)).payload = value(json!("forged"));
        }),
    ),
    (
        Law::Cause,
        "a dead letter dropped that is not there",
        "not there",
        Log(|f| {
            dropped(f.find(|record| matches!(record.body, Body::Letters { .. })))[0] = NOBODY;
        }),
    ),
    (
        Law::Cause,
        "a dead letter dropped by a turn that committed",
        "need not",
        Log(|f| {
            let dead = status(f.find_in("b", failed)).id;
            let later = f.log.iter_mut().map(|line| &mut line.record).rfind(|record| committed(record)).unwrap();
            turn(later).dropped = Some(dead);
        }),
    ),
];
