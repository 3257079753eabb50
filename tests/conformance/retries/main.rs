//! Chapter retries: a turn that asks for it is tried again later (S13).
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{sync::Arc, time::Duration};

use charm_conformance::{
    Clock, Home, begin, builder, cell, commits, component, counted, of, pair, probe_charm, receipt, results, run, send,
    settle, until, wait_all, waiting,
};
use charm_host::{Did, Host, Limits, Outcome};
use serde_json::{Value as Json, json};

const MINUTE: u64 = 60_000;

fn pass(clock: &Clock, ms: u64) {
    clock.jump(ms as i64);
    clock.pass(Duration::from_millis(ms));
}

async fn clocked(limits: Limits) -> (Arc<Clock>, Host, Did, Did) {
    let clock = Clock::new();
    let host = builder().limits(limits).env(clock.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    (clock, host, a, b)
}

/// A step that goes on when the turn was tried again so often, and else asks for that.
fn until_try(tries: u64, after_ms: u64) -> Json {
    json!(["unless-tried", tries, ["retry", after_ms]])
}

/// S13: nothing of the run remains; after the time the event is handed over again, with the count; it is settled at the end alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_tried_again_and_nothing_of_the_run_before_remains() {
    let (clock, host, a, b) = clocked(Limits::default()).await;
    let before = commits(&host, a);
    let id = begin(
        &host,
        a,
        json!([
            ["get", "x", []],
            ["set", "y", [], "never"],
            ["send", of(b, "note"), "once"],
            until_try(2, 10 * MINUTE),
            ["retries"]
        ]),
    )
    .await;
    for n in 1..=2 {
        until("it is to be tried again", || commits(&host, a) == before + 1 + n + (n - 1)).await;
        // Later events of the same sender do not wait for it.
        run(&host, a, json!([["set", "x", [], n]])).await;
        assert_eq!((cell(&host, a, "y").await, counted(&host).waiting), (Json::Null, 1));
        pass(&clock, 9 * MINUTE);
        assert_eq!(counted(&host).waiting, 1, "not before its time");
        pass(&clock, MINUTE);
    }
    let receipt = receipt(&host, &id).await;
    assert_eq!(receipt.outcome, Outcome::Committed);
    let out = cell(&host, a, "out").await;
    assert_eq!((&out[0], &out[4]), (&json!(2), &json!(2)), "on the state of then: {out}");
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["once"]));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// S13, S7: after a wait it goes on from there: what was committed stays, and is not done again.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_wait_it_goes_on_from_there() {
    let (clock, host, a, b) = clocked(Limits::default()).await;
    let before = commits(&host, a);
    let id = begin(
        &host,
        a,
        json!([
            ["retries"],
            ["send", of(b, "note"), "first"],
            wait_all(&[0]),
            ["get", of(b, "x"), []],
            ["send", of(b, "note"), "second"],
            until_try(1, 10 * MINUTE),
            ["retries"],
            wait_all(&[1]),
            until_try(3, 10 * MINUTE),
            ["retries"],
        ]),
    )
    .await;
    for n in 1..=3 {
        // The event, its segment, and the second one after the first try.
        let segments = if n == 1 { 2 } else { 3 };
        until("it is to be tried again", || counted(&host).waiting == 1 && commits(&host, a) == before + segments + n)
            .await;
        run(&host, b, json!([["set", "x", [], n]])).await;
        pass(&clock, 10 * MINUTE);
    }
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let out = cell(&host, a, "out").await;
    assert_eq!((&out[0], &out[3], &out[6], &out[9]), (&json!(0), &json!(1), &json!(1), &json!(3)), "{out}");
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["first", "second"]));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// S13, A5: so often and no more; then the handler decides what becomes of the event.
#[tokio::test(flavor = "multi_thread")]
async fn over_a_bound_it_is_refused_and_the_handler_goes_on() {
    let limits = Limits { retries_max: 3, wait_ms_max: 5, waiting_turns_max: 1, ..Limits::default() };
    let (_clock, host, a, _) = clocked(limits).await;
    let told = results(&host, a, json!([["try", ["retry", 6]], ["try", ["retry", 5]]])).await;
    assert_eq!(told[0]["error"]["name"], "wait-ms-max");
    assert_eq!(told[1]["error"]["name"], "retries-max", "{told}");
    let receipt = run(&host, a, json!([["retry", 0]])).await;
    assert_eq!((receipt.outcome, receipt.commit), (Outcome::Rejected, None), "{receipt:?}");
    host.shutdown().await.unwrap();

    let limits = Limits { waiting_turns_max: 1, ..Limits::default() };
    let (clock, host, a, b) = clocked(limits).await;
    let before = commits(&host, a);
    let first = send(&host, a, json!([until_try(1, MINUTE)])).await;
    until("it waits", || commits(&host, a) == before + 2).await;
    let asked = json!({ "steps": [["try", ["retry", 1]]], "out": "out" });
    run(&host, b, json!([["send", of(a, "run"), asked], wait_all(&[0])])).await.committed().unwrap();
    assert_eq!(cell(&host, a, "out").await[0]["error"]["name"], "waiting-turns-max");
    pass(&clock, MINUTE);
    assert_eq!(charm_conformance::receipt(&host, &first).await.outcome, Outcome::Committed);
    host.shutdown().await.unwrap();
}

/// S13, S8: count and time outlive the host. One that has not waited is handed to whatever is installed then.
#[tokio::test(flavor = "multi_thread")]
async fn count_and_time_outlive_the_host() {
    let home = Home::default();
    let clock = Clock::new();
    let host = home.builder().await.env(clock.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let before = (commits(&host, a), commits(&host, b));
    let fresh = begin(&host, a, json!([until_try(2, 10 * MINUTE), ["retries"]])).await;
    let waited =
        send(&host, b, json!([["send", "note", 1], wait_all(&[0]), until_try(2, 10 * MINUTE), ["set", "x", [], 1]]))
            .await;
    until("both were tried", || commits(&host, a) == before.0 + 2 && commits(&host, b) == before.1 + 4).await;
    pass(&clock, 10 * MINUTE);
    until("both were tried again", || commits(&host, a) == before.0 + 3 && commits(&host, b) == before.1 + 5).await;
    host.shutdown().await.unwrap();
    let next = Clock::new();
    next.jump(19 * MINUTE as i64);
    let host = home.builder().await.env(next.clone()).open().await.unwrap();
    let mut other = component("probe");
    // Other bytes: an empty custom section, named `v`.
    other.extend([0, 2, 1, b'v']);
    host.install(charm_host::Charm::new("a", other)).await.unwrap();
    host.install(probe_charm("b")).await.unwrap();
    assert_eq!(counted(&host).waiting, 2, "not before its time");
    pass(&next, MINUTE);
    for id in [&fresh, &waited] {
        assert_eq!(receipt(&host, id).await.outcome, Outcome::Committed);
    }
    assert_eq!(cell(&host, a, "out").await[1], 2);
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!([1]));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// S13, H2: what is handed over again has to fit its stream again, and the operator may cancel it meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_cancelled_while_it_waits() {
    let (_clock, host, a, _) = clocked(Limits::default()).await;
    let before = commits(&host, a);
    let id = send(&host, a, json!([["retry", MINUTE]])).await;
    until("it waits", || commits(&host, a) == before + 2).await;
    assert_eq!(waiting(&host, a).await.len(), 1);
    host.cancel(&a, &id).await.unwrap();
    let receipt = receipt(&host, &id).await;
    assert_eq!((receipt.outcome, receipt.commit), (Outcome::Cancelled, None), "{receipt:?}");
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}
