//! Events that are delayed or expire, and turns that are tried again (S10, S13).

use charm_host::{Body, Event, Law, Outcome, Record, TurnRetried};

use super::{Case, Forged, Tamper, turn};

use Tamper::Log;

fn is_retried(record: &Record) -> bool {
    matches!(record.body, Body::Retried(_))
}

fn retried(forged: &mut Forged) -> &mut TurnRetried {
    match &mut forged.find(is_retried).body {
        Body::Retried(retried) => retried,
        body => panic!("not tried again: {body:?}"),
    }
}

fn expired(record: &Record) -> bool {
    record.turn().is_some_and(|turn| turn.receipt.outcome == Outcome::Expired)
}

/// The first event that goes out with a commit and is such a one.
fn sent(forged: &mut Forged, is: fn(&Event) -> bool) -> &mut Event {
    let has = |record: &Record| record.turn().is_some_and(|turn| turn.sends.iter().any(|sent| is(&sent.event)));
    let sends = &mut turn(forged.find(has)).sends;
    &mut sends.iter_mut().find(|sent| is(&sent.event)).unwrap().event
}

pub const TIMED: &[Case] = &[
    (
        Law::Cause,
        "a turn tried again out of its number",
        "tried again out of its number",
        Log(|f| retried(f).number = 2),
    ),
    (
        Law::Cause,
        "a turn of another sender's event tried again",
        "another event than was sent",
        Log(|f| {
            let b = f.did("b");
            retried(f).sender = b;
        }),
    ),
    (Law::Cause, "a turn tried again without a place", "no event", Log(|f| f.line(is_retried).taken = None)),
    (
        Law::Once,
        "a turn tried again after its end",
        "answered before",
        Log(|f| {
            let line = f.line(is_retried).clone();
            f.append(line, 0);
        }),
    ),
    (
        Law::Cause,
        "an event expires that does not",
        "an event expires that does not",
        Log(|f| sent(f, |event| event.expires_at.is_some()).expires_at = None),
    ),
    (
        Law::Cause,
        "an event expires that has begun",
        "an event expires that does not",
        Log(|f| {
            let tried = retried(f).event;
            let why = f.find(expired).turn().unwrap().receipt.clone();
            let event = sent(f, |event| event.expires_at.is_some()).clone();
            let end = turn(f.find(|record| record.turn().is_some_and(|turn| turn.receipt.id == tried)));
            (end.receipt.outcome, end.receipt.commit) = (why.outcome, None);
            (end.receipt.message, end.ran) = (why.message, None);
            end.writes.clear();
            assert!(event.id != tried);
        }),
    ),
    (
        Law::Order,
        "a delayed event with a place in the order",
        "that was delayed has a place",
        Log(|f| {
            let delayed = sent(f, |event| event.deliver_after.is_some()).id;
            f.line(|record| record.handles() == Some(delayed)).taken.as_mut().unwrap().late = false;
        }),
    ),
    (
        Law::Receipt,
        "a receipt that waits for a time",
        "a receipt waits for a time",
        Log(|f| sent(f, |event| event.receipt_of.is_some()).deliver_after = Some(1)),
    ),
    (
        Law::Cause,
        "an event from outside that waits for a time",
        "an event from outside waits for a time",
        Log(|f| match &mut f.find(|record| matches!(record.body, Body::Accepted(_))).body {
            Body::Accepted(event) => event.expires_at = Some(1),
            body => panic!("not accepted: {body:?}"),
        }),
    ),
];
