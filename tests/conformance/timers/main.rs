//! Chapter timers: delayed events, events that expire, turns that sleep, and events that their sender withdraws (S10).
#![allow(clippy::unwrap_used, reason = "tests")]

mod attacks;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use charm_conformance::{
    Clock, Hold, Home, builder, cell, commits, counted, host, of, pair, probes, receipt, results, run, send, settle,
    steps, until, wait_all, waiting,
};
use charm_host::{Did, EventId, Host, Limits, Outcome, Status};
use serde_json::{Value as Json, json};

const MINUTE: u64 = 60_000;

/// The date, in milliseconds since 1970.
fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

/// Lets time pass, on both clocks.
fn pass(clock: &Clock, ms: u64) {
    clock.jump(ms as i64);
    clock.pass(Duration::from_millis(ms));
}

async fn clocked() -> (Arc<Clock>, Host, Did, Did) {
    let clock = Clock::new();
    let host = builder().env(clock.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    (clock, host, a, b)
}

fn later(to: Did, event: impl Into<Json>, times: Json) -> Json {
    json!(["send-later", of(to, "note"), event.into(), times])
}

async fn send_later(host: &Host, from: Did, to: Did, event: &str, times: Json) -> EventId {
    results(host, from, json!([later(to, event, times)])).await[0].as_str().unwrap().parse().unwrap()
}

/// S10: it is begun when it is due, never before, and once. What its sender sends later does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_event_is_begun_when_it_is_due_and_not_before() {
    let (clock, host, a, b) = clocked().await;
    let due = now() + 10 * MINUTE;
    let id = send_later(&host, a, b, "delayed", json!({ "deliver-after": due })).await;
    run(&host, a, json!([["send", of(b, "note"), "at once"]])).await;
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["at once"]));
    assert!(matches!(host.status(&id).unwrap(), Status::Waiting { to, .. } if to == b));
    assert_eq!(waiting(&host, b).await[0].deliver_after, Some(due), "it is shown with what waits");
    // The commit was after `now`: so long it is not due for certain.
    pass(&clock, 10 * MINUTE - 30_000);
    run(&host, b, json!([["set", "x", [], 1]])).await;
    assert_eq!(counted(&host).waiting, 1, "not before it is due");
    pass(&clock, 30_000);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    pass(&clock, 20 * MINUTE);
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["at once", "delayed"]));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// S3, S10: as they fall due; those that are due together in the order of sending.
#[tokio::test(flavor = "multi_thread")]
async fn delayed_events_are_begun_as_they_are_due() {
    let (clock, host, a, b) = clocked().await;
    let at = |minutes: u64| json!({ "deliver-after": now() + 60 * MINUTE + minutes * MINUTE });
    let together = at(2);
    let sends = [
        ("third", at(3)),
        ("second", together.clone()),
        ("after second", together),
        ("first", at(1)),
        ("past", json!({ "deliver-after": 1 })),
    ];
    let sends: Vec<Json> = sends.into_iter().map(|(event, times)| later(b, event, times)).collect();
    run(&host, a, json!(sends)).await;
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["past"]), "a time that is over delays nothing");
    pass(&clock, 60 * MINUTE);
    for waits in [3, 1, 0] {
        pass(&clock, MINUTE);
        until("those that are due are handled", || counted(&host).waiting == waits).await;
    }
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["past", "first", "second", "after second", "third"]));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// S10, S2: a timer outlives the host: what fell due meanwhile is begun at once, the rest when it is due, each once.
#[tokio::test(flavor = "multi_thread")]
async fn a_timer_outlives_the_host() {
    let home = Home::default();
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    let (soon, late) = (now() + 10 * MINUTE, now() + 30 * MINUTE);
    let first = send_later(&host, a, b, "soon", json!({ "deliver-after": soon })).await;
    let second = send_later(&host, a, b, "late", json!({ "deliver-after": late })).await;
    let third = send_later(&host, a, b, "gone", json!({ "deliver-after": soon, "expires-at": soon + 1 })).await;
    host.pause(&b).await.unwrap();
    host.shutdown().await.unwrap();
    let clock = Clock::new();
    clock.jump(20 * MINUTE as i64);
    let host = home.builder().await.env(clock.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    assert_eq!(receipt(&host, &third).await.outcome, Outcome::Expired, "also while its receiver is paused");
    host.resume(&b).await.unwrap();
    assert_eq!(receipt(&host, &first).await.outcome, Outcome::Committed);
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["soon"]));
    pass(&clock, 10 * MINUTE);
    assert_eq!(receipt(&host, &second).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, b, "notes").await, json!(["soon", "late"]));
    run(&host, a, json!([["send", of(b, "note"), "plain"]])).await;
    settle(&host).await;
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    let host = home.open().await;
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["soon", "late", "plain"]), "once");
    host.shutdown().await.unwrap();
}

/// S10: a date that jumps while the host runs moves no timer; its receiver sees no time before the one that it waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_jumps_moves_no_timer_while_the_host_runs() {
    let (clock, host, a, b) = clocked().await;
    let due = now() + 10 * MINUTE;
    let event = json!({ "steps": [["context"]], "out": "out" });
    let times = json!({ "deliver-after": due });
    let sent = results(&host, a, json!([["send-later", of(b, "run"), event, times]])).await;
    let id: EventId = sent[0].as_str().unwrap().parse().unwrap();
    clock.jump(60 * MINUTE as i64);
    run(&host, b, json!([["set", "x", [], 1]])).await;
    assert_eq!(counted(&host).waiting, 1, "the date went forward: no time has passed");
    clock.jump(-120 * MINUTE as i64);
    clock.pass(Duration::from_millis(10 * MINUTE));
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed, "the date went back: the time has passed");
    assert!(cell(&host, b, "out").await[0]["time"].as_u64().unwrap() >= due);
    host.shutdown().await.unwrap();
}

/// S10, S12: a delayed event takes room of its sender until it is settled, and none of its receiver.
#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_event_takes_room_of_its_sender() {
    let clock = Clock::new();
    let limits = Limits { inbox_events_max: 2, ..Limits::default() };
    let host = builder().env(clock.clone()).limits(limits).open().await.unwrap();
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    let times = json!({ "deliver-after": now() + 10 * MINUTE });
    let full = json!(["try", later(b, 3, times.clone())]);
    let told = results(&host, a, json!([later(b, 1, times.clone()), later(b, 2, times.clone()), full])).await;
    assert_eq!(
        (&told[2]["error"]["kind"], &told[2]["error"]["inbox"]),
        (&json!("queue-full"), &json!(a.to_string())),
        "{told}"
    );
    let own = results(&host, a, json!([["try", ["send", "note", 1]]])).await;
    assert_eq!(own[0]["error"]["kind"], "queue-full", "its own room is taken");
    host.pause(&b).await.unwrap();
    let others = results(&host, c, json!([["send", of(b, "note"), "c"], later(b, "c later", times.clone())])).await;
    assert!(others[1].is_string(), "the receiver's room is free, and so is that of another: {others}");
    pass(&clock, 11 * MINUTE);
    host.resume(&b).await.unwrap();
    settle(&host).await;
    until("all are handled", || counted(&host).waiting == 0).await;
    assert_eq!(cell(&host, b, "notes").await.as_array().unwrap().len(), 4);
    let again = results(&host, a, json!([later(b, 4, times.clone()), later(b, 5, times)])).await;
    assert!(again[1].is_string(), "its room is free again");
    host.shutdown().await.unwrap();
}

/// S4, S10: what has not begun in time is `expired`; its sender is told as of every end, and it is a dead letter. What has begun in
/// time goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_begun_in_time_expires_and_what_has_goes_on() {
    let (clock, host, a, b) = clocked().await;
    let (before, times) = (commits(&host, b), json!({ "expires-at": now() + 10 * MINUTE }));
    let script = steps(json!([["sleep", 20 * MINUTE], ["set", "x", [], "in time"]]));
    let told = results(&host, a, json!([["send-later", of(b, "run"), script, times]])).await;
    let begun: EventId = told[0].as_str().unwrap().parse().unwrap();
    until("it has begun", || counted(&host).waiting == 1 && commits(&host, b) == before + 1).await;
    host.pause(&b).await.unwrap();
    let event = json!({ "steps": [later(b, "never", times), ["wait", [0], "all", 60 * MINUTE]], "out": "out" });
    let waits = host.send(charm_host::NewEvent::new(a, "run", charm_conformance::value(event))).await.unwrap();
    until("it waits", || counted(&host).waiting == 3).await;
    pass(&clock, 11 * MINUTE);
    assert_eq!(receipt(&host, &waits).await.outcome, Outcome::Committed);
    let out = cell(&host, a, "out").await;
    assert_eq!((&out[1][0]["outcome"], &out[1][0]["commit"]), (&json!("expired"), &Json::Null), "{out}");
    host.resume(&b).await.unwrap();
    pass(&clock, 10 * MINUTE);
    assert_eq!(receipt(&host, &begun).await.outcome, Outcome::Committed);
    assert_eq!((cell(&host, b, "x").await, cell(&host, b, "notes").await), (json!("in time"), Json::Null));
    let dead = host.dead_letters(&b, 0, 10).unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].receipt.outcome, Outcome::Expired);
    let again = host.resend(&b, &dead[0].event.id).await.unwrap();
    assert_eq!(receipt(&host, &again).await.outcome, Outcome::Committed, "sent again it does not expire (S11)");
    for times in [json!({ "expires-at": 0 }), json!({ "deliver-after": 5, "expires-at": 5 })] {
        let told = results(&host, a, json!([["try", later(b, 1, times)]])).await;
        assert_eq!(told[0]["error"]["kind"], "invalid", "{told}");
    }
    let past = send_later(&host, a, b, "past", json!({ "expires-at": 1 })).await;
    assert_eq!(receipt(&host, &past).await.outcome, Outcome::Expired);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// S7, S10: a turn that sleeps lets its charm take others, and goes on in time, in the next host too.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_sleeps_and_goes_on_in_time() {
    let home = Home::default();
    let clock = Clock::new();
    let host = home.builder().await.env(clock.clone()).open().await.unwrap();
    let (a, _) = pair(&host).await;
    let before = commits(&host, a);
    let event = json!({ "steps": [
        ["set", "x", [], "before"], ["context"], ["sleep", 10 * MINUTE], ["context"], ["get", "x", []], ["sleep", 5 * MINUTE], ["context"],
    ], "out": "out" });
    let id = host.send(charm_host::NewEvent::new(a, "run", charm_conformance::value(event))).await.unwrap();
    until("it sleeps", || commits(&host, a) == before + 2).await;
    run(&host, a, json!([["set", "x", [], "meanwhile"]])).await;
    pass(&clock, 9 * MINUTE);
    assert_eq!(counted(&host).waiting, 1, "not before its time");
    pass(&clock, MINUTE);
    until("it sleeps again", || commits(&host, a) == before + 5).await;
    host.shutdown().await.unwrap();
    let next = Clock::new();
    next.jump(14 * MINUTE as i64);
    let host = home.builder().await.env(next.clone()).open().await.unwrap();
    pair(&host).await;
    assert_eq!(counted(&host).waiting, 1, "not before its time");
    pass(&next, MINUTE);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let out = cell(&host, a, "out").await;
    let time = |at: usize| out[at]["time"].as_u64().unwrap();
    assert!(time(3) >= time(1) + 10 * MINUTE && time(6) >= time(3) + 5 * MINUTE, "{out}");
    assert_eq!(out[4], "meanwhile");
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// A5: a sleep has the bounds of a wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_sleep_has_the_bounds_of_a_wait() {
    let limits = Limits { waits_max: 1, wait_ms_max: 5, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let (a, _) = pair(&host).await;
    let told = results(&host, a, json!([["try", ["sleep", 6]], ["sleep", 5], ["try", ["sleep", 1]]])).await;
    assert_eq!(
        (&told[0]["error"]["name"], &told[2]["error"]["name"]),
        (&json!("wait-ms-max"), &json!("waits-max")),
        "{told}"
    );
    host.shutdown().await.unwrap();
}

/// S4: a sender withdraws what has not begun: with its own commit, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_withdraws_what_has_not_begun() {
    let (host, hold) = (host().await, Hold::new());
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    let times = json!({ "deliver-after": now() + 60 * MINUTE });
    let delayed = send_later(&host, a, b, "withdrawn", times.clone()).await;
    let script = steps(json!([hold.step(), ["set", "x", [], "done"]]));
    let begun = results(&host, a, json!([["send", of(b, "run"), script]])).await[0].as_str().unwrap().to_owned();
    hold.arrived(1).await;
    let waits = results(&host, a, json!([["send", of(b, "note"), "waits"]])).await[0].as_str().unwrap().to_owned();
    let cancel = |id: &str| json!(["cancel", id]);
    // Another's, a turn that fails, and one that has begun: nothing happens.
    run(&host, c, json!([cancel(&waits), cancel(&delayed.to_string())])).await;
    run(&host, a, json!([cancel(&waits), ["reject", "no"]])).await;
    run(&host, a, json!([cancel(&begun), cancel(&"0".repeat(32))])).await;
    assert_eq!(counted(&host).waiting, 3);
    let nonsense = results(&host, a, json!([["try", cancel("nonsense")]])).await;
    assert_eq!(nonsense[0]["error"]["kind"], "invalid");
    let own = later(b, "at once", times);
    run(&host, a, json!([cancel(&delayed.to_string()), cancel(&waits), own, ["cancel", 0], ["set", "x", [], 1]])).await;
    for id in [delayed, waits.parse().unwrap()] {
        let receipt = receipt(&host, &id).await;
        assert_eq!((receipt.outcome, receipt.commit), (Outcome::Cancelled, None), "{receipt:?}");
    }
    assert_eq!(counted(&host).waiting, 1, "what a turn withdraws of its own goes too");
    hold.release(1);
    assert_eq!(receipt(&host, &begun.parse().unwrap()).await.outcome, Outcome::Committed);
    settle(&host).await;
    assert_eq!((cell(&host, b, "x").await, cell(&host, b, "notes").await), (json!("done"), Json::Null));
    assert!(host.dead_letters(&b, 0, 10).unwrap().is_empty(), "it is what its sender wanted");
    // Who waits for it is told.
    let times = json!({ "deliver-after": now() + 60 * MINUTE });
    let event = json!([later(b, 1, times), wait_all(&[0])]);
    let waits = send(&host, a, event).await;
    until("it waits", || counted(&host).waiting == 2).await;
    let id = waiting(&host, b).await[0].id.to_string();
    run(&host, a, json!([cancel(&id)])).await;
    assert_eq!(receipt(&host, &waits).await.outcome, Outcome::Committed);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}
