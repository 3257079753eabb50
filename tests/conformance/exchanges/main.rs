//! Chapter exchanges: a request that a handler waits for (S7, A4, T8).
#![allow(clippy::unwrap_used, reason = "tests")]

mod crashes;

use std::time::Duration;

use charm_conformance::{
    Clock, Hold, Logs, WIRE, Wire, begin, builder, cell, commits, component, of, receipt, results, run, send, settle,
    until, value, wired,
};
use charm_host::{
    Charm, Did, EventId, Host, HostBuilder, HttpError, Limits, NewEvent, Outcome, Response, Status, TransportError,
};
use serde_json::{Value as Json, json};

/// Opens a host with the probes `a` and `b`, which may call the wire.
async fn open(builder: HostBuilder, wire: &Wire) -> (Host, Did, Did) {
    let host = builder.transport(wire.clone()).open().await.unwrap();
    let [a, b] = wired(&host, ["a", "b"]).await;
    (host, a, b)
}

/// The step that charges a card: a request that must not be made twice, and that is waited for.
fn charge() -> Json {
    json!(["commit-and-fetch", { "method": "POST", "url": format!("{WIRE}/charges"), "body": "9 euro" }])
}

/// S7: a payment server that hangs blocks nobody. With a plain fetch it does: the charm takes nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_blocks_nobody() {
    for (waits, request) in [(true, charge()), (false, json!(["fetch", { "url": format!("{WIRE}/charges") }]))] {
        let wire = Wire::gated();
        let (host, a, _) = open(builder(), &wire).await;
        let first =
            begin(&host, a, json!([["set", "x", [], "is being paid"], request, ["set", "y", [], "paid"]])).await;
        wire.arrived(1).await;
        let second = send(&host, a, json!([["get", "x", []], ["set", "z", [], "served"]])).await;
        if waits {
            assert_eq!(receipt(&host, &second).await.outcome, Outcome::Committed);
            assert_eq!(cell(&host, a, "x").await, "is being paid", "what was done before the request is there");
            assert!(matches!(host.status(&first).unwrap(), Status::Waiting { .. }), "it is not settled");
        }
        wire.release(1);
        let [first, second] = [receipt(&host, &first).await, receipt(&host, &second).await];
        assert_eq!((first.outcome, second.outcome), (Outcome::Committed, Outcome::Committed));
        assert_eq!(first.commit > second.commit, waits, "who was served first");
        assert_eq!(cell(&host, a, "out").await[1]["body"], "1");
        assert_eq!(cell(&host, a, "y").await, "paid");
        host.verify_store().unwrap();
        host.shutdown().await.unwrap();
    }
}

/// T6, S5: what was committed before the charge stays, and the receipt names that commit; the request stays made.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_fails_after_the_charge_keeps_what_it_committed_and_says_so() {
    let wire = Wire::open();
    let (host, a, b) = open(builder(), &wire).await;
    for (end, outcome) in [(json!(["reject", "no"]), Outcome::Rejected), (json!(["trap"]), Outcome::Faulted)] {
        let before = commits(&host, a);
        let note = json!(["send", of(b, "note"), outcome.name()]);
        let steps = json!([["set", "x", [], outcome.name()], note, charge(), ["set", "x", [], "lost"], note, end]);
        let receipt = run(&host, a, steps).await;
        assert_eq!((receipt.outcome, receipt.commit), (outcome, Some(before + 2)), "{receipt:?}");
        assert_eq!(cell(&host, a, "x").await, outcome.name());
    }
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["rejected", "faulted"]));
    assert_eq!(wire.count(), 2, "one charge each");
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// T4: a conflict after the answer goes on with the same answer, and makes no request.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_after_the_answer_repeats_no_request() {
    let (wire, hold) = (Wire::open(), Hold::new());
    let (host, a, b) = open(builder(), &wire).await;
    let event = json!([["log", "info", "said once"], charge(), ["get", of(b, "x"), []], hold.step(), charge()]);
    let id = begin(&host, a, event).await;
    for n in 1..4 {
        hold.arrived(n).await;
        run(&host, b, json!([["set", "x", [], n]])).await;
        hold.release(1);
    }
    hold.arrived(4).await;
    hold.release(1);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let out = cell(&host, a, "out").await;
    assert_eq!((&out[1]["body"], &out[2], &out[4]["body"]), (&json!("1"), &json!(3), &json!("2")), "{out}");
    assert_eq!((wire.count(), host.counters().conflicts), (2, 3));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// A turn sees its exchanges, short calls and waits at their places, whatever came before them; its time moves at each wait.
#[tokio::test(flavor = "multi_thread")]
async fn short_calls_waits_and_exchanges_go_together() {
    let wire = Wire::open();
    let (host, a, b) = open(builder(), &wire).await;
    let fetch = json!(["fetch", { "url": format!("{WIRE}/short") }]);
    let steps = json!([
        fetch,
        ["context"],
        charge(),
        ["context"],
        fetch,
        ["send", of(b, "note"), 1],
        ["wait", [0], "all", 60_000],
        charge(),
        ["get", of(b, "notes"), []],
        charge(),
        fetch,
        ["context"],
    ]);
    let out = results(&host, a, steps).await;
    let bodies: Vec<&Json> = [0, 2, 4, 7, 9, 10].iter().map(|n| &out[*n]["body"]).collect();
    assert_eq!(bodies, ["1", "2", "3", "4", "5", "6"], "{out}");
    assert_eq!(out[8], json!([1]));
    let times: Vec<u64> = [1, 3, 11].iter().map(|n| out[*n]["time"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(wire.count(), 6);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// A4: each request has a time of its own, which ends in an answer: the handler goes on with that.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_a_timeout_of_its_own() {
    let (clock, wire) = (Clock::new(), Wire::gated());
    let (host, a, b) = open(builder().env(clock.clone()), &wire).await;
    let short = json!({ "method": "POST", "url": format!("{WIRE}/charges"), "timeout-ms": 5_000 });
    let attempt = |step: Json| json!([["try", step], ["set", "x", [], "went on"]]);
    let first = begin(&host, a, attempt(json!(["commit-and-fetch", short]))).await;
    let second = begin(&host, b, attempt(charge())).await;
    wire.arrived(2).await;
    clock.pass(Duration::from_millis(4_900));
    assert_eq!(host.counters().waiting, 2, "not before its time");
    clock.pass(Duration::from_millis(100));
    assert_eq!(receipt(&host, &first).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, a, "out").await[0]["error"]["kind"], "http-timeout");
    assert!(matches!(host.status(&second).unwrap(), Status::Waiting { .. }));
    clock.pass(Duration::from_secs(25));
    assert_eq!(receipt(&host, &second).await.outcome, Outcome::Committed, "the host's own time is over");
    assert_eq!(cell(&host, b, "x").await, "went on");
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// Fills the one place of exchanges by a request of `b` that hangs.
async fn fill(host: &Host, b: Did, wire: &Wire) -> EventId {
    let hangs = begin(host, b, json!([charge()])).await;
    wire.arrived(1).await;
    hangs
}

fn one_place() -> HostBuilder {
    builder().limits(Limits { exchanges_max: 1, ..Limits::default() })
}

/// A2: the right is looked at when the request leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_was_taken_back_before_the_request_leaves_denies_it() {
    let wire = Wire::gated();
    let (host, a, b) = open(one_place(), &wire).await;
    let hangs = fill(&host, b, &wire).await;
    let before = commits(&host, a);
    let id = begin(&host, a, json!([["set", "x", [], 1], ["try", charge()]])).await;
    until("it waits", || commits(&host, a) == before + 2).await;
    host.set_rights(a, Vec::new()).await.unwrap();
    wire.release(1);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let error = cell(&host, a, "out").await[1]["error"].clone();
    assert_eq!(error["kind"], "http-denied", "{error}");
    receipt(&host, &hangs).await;
    assert_eq!(wire.count(), 1, "it never left");
    // Before the commit it is refused at once.
    let before = commits(&host, a);
    let told = results(&host, a, json!([["try", charge()]])).await;
    assert_eq!(told[0]["error"]["kind"], "http-denied");
    assert_eq!(commits(&host, a) - before, 2, "nothing was committed by it");
    host.shutdown().await.unwrap();
}

/// A5: what there is no place for in time never leaves, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_its_place_only_so_long() {
    let (clock, wire) = (Clock::new(), Wire::gated());
    let limits = Limits { exchanges_max: 1, http_turn_ms_max: 20_000, http_timeout_ms: 1 << 30, ..Limits::default() };
    let (host, a, b) = open(builder().limits(limits).env(clock.clone()), &wire).await;
    let hangs = fill(&host, b, &wire).await;
    let before = commits(&host, a);
    let id = begin(&host, a, json!([["try", charge()]])).await;
    until("it waits", || commits(&host, a) == before + 2).await;
    until("its time for a place is over", || {
        clock.pass(Duration::from_secs(1));
        !matches!(host.status(&id).unwrap(), Status::Waiting { .. })
    })
    .await;
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let error = cell(&host, a, "out").await[0]["error"].clone();
    assert_eq!(error, json!({ "kind": "limit", "name": "exchanges-max", "max": 1 }));
    wire.release(1);
    receipt(&host, &hangs).await;
    assert_eq!(wire.count(), 1, "it never left");
    host.shutdown().await.unwrap();
}

/// A6: a charm whose server hangs leaves places to the others, however many of its turns wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_takes_no_more_than_its_share_of_the_places() {
    let wire = Wire::gated();
    let limits = Limits { exchanges_max: 16, ..Limits::default() };
    let (host, a, b) = open(builder().limits(limits), &wire).await;
    let before = commits(&host, a);
    for _ in 0..16 {
        begin(&host, a, json!([charge()])).await;
    }
    until("all wait", || commits(&host, a) == before + 32).await;
    wire.arrived(2).await;
    for n in [3, 4] {
        begin(&host, b, json!([charge(), ["set", "x", [], n]])).await;
    }
    wire.arrived(4).await;
    assert!(wire.requests()[2..].iter().all(|request| request.method == "POST"));
    wire.release(18);
    settle(&host).await;
    assert_eq!((wire.count(), cell(&host, b, "x").await != Json::Null), (18, true));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// A5: each bound is told by name, before the commit where it is known then; what came of a request is told in any case.
#[tokio::test(flavor = "multi_thread")]
async fn over_a_bound_a_request_is_refused_by_name() {
    let limits = Limits {
        waits_max: 3,
        http_requests_max: 3,
        http_request_bytes_max: 50_000,
        recording_bytes_max: 40_000,
        ..Limits::default()
    };
    let wire = Wire::open();
    let (host, a, _) = open(builder().limits(limits), &wire).await;
    let refused = async |steps: Json, commits_more: u64| {
        let before = commits(&host, a);
        let told = results(&host, a, steps).await;
        let error = told.as_array().unwrap().last().unwrap()["error"].clone();
        assert_eq!(error["kind"], "limit", "{told}");
        assert_eq!(commits(&host, a) - before, 2 + commits_more, "{error}");
        error["name"].as_str().unwrap().to_owned()
    };
    let body = |bytes: usize| json!(["try", ["commit-and-fetch", { "method": "POST", "url": WIRE, "body": "x".repeat(bytes) }]]);
    let (attempt, fetch) = (json!(["try", charge()]), json!(["fetch", { "url": WIRE }]));
    assert_eq!(refused(json!([charge(), fetch, fetch, attempt]), 2).await, "http-requests-max");
    assert_eq!(refused(json!([body(45_000)]), 0).await, "recording-bytes-max");
    assert_eq!(refused(json!([body(55_000)]), 0).await, "http-request-bytes-max");
    assert_eq!(wire.count(), 3);
    wire.answer(Err(TransportError::TooLarge("http-response-bytes-max")));
    assert_eq!(refused(json!([attempt]), 2).await, "http-response-bytes-max");
    // An answer that is more than is kept of a turn is told all the same; then the turn waits no more.
    wire.answer_text(200, &"y".repeat(50_000));
    let told = results(&host, a, json!([charge(), ["try", charge()], ["fetch", { "url": WIRE }]])).await;
    assert_eq!(told[0]["body"].as_str().unwrap().len(), 50_000);
    assert_eq!(told[1]["error"]["name"], "recording-bytes-max");
    assert_eq!(told[2]["status"], 200);
    let malformed = json!([["try", ["commit-and-fetch", { "url": "nonsense" }]]]);
    assert_eq!(results(&host, a, malformed).await[0]["error"]["kind"], "invalid");
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    // Waits of both kinds count together.
    let limits = Limits { waits_max: 1, ..Limits::default() };
    let (host, a, _) = open(builder().limits(limits), &wire).await;
    let told = results(&host, a, json!([charge(), ["try", charge()]])).await;
    assert_eq!(told[1]["error"]["name"], "waits-max");
    host.shutdown().await.unwrap();
}

/// The operator may settle a turn that waits for an answer; the answer that comes later is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_is_cancelled_is_told_no_answer() {
    let (wire, logs) = (Wire::gated(), Logs::capture());
    let (host, a, _) = open(builder(), &wire).await;
    let id = begin(&host, a, json!([["set", "x", [], "kept"], charge(), ["set", "x", [], "lost"]])).await;
    wire.arrived(1).await;
    host.cancel(&a, &id).await.unwrap();
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Cancelled);
    let before = commits(&host, a);
    wire.release(2);
    // What comes later has its turns, in order: the answer is no commit.
    assert_eq!(results(&host, a, json!([charge(), ["get", "x", []]])).await[1], "kept");
    assert_eq!(commits(&host, a) - before, 4, "the event, a segment, its answer and the end");
    assert_eq!(logs.lines("ERROR"), Vec::<String>::new());
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// A charm that is paused or uninstalled gets its answer, and goes on when it may.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_charm_that_may_not_go_on_is_kept() {
    let wire = Wire::gated();
    let (host, a, _) = open(builder(), &wire).await;
    for (n, uninstall) in [(1, false), (2, true)] {
        let id = begin(&host, a, json!([charge(), ["set", "x", [], n]])).await;
        wire.arrived(n).await;
        if uninstall {
            host.uninstall(&a).await.unwrap();
        } else {
            host.pause(&a).await.unwrap();
        }
        let before = commits(&host, a);
        wire.release(1);
        until("the answer is there", || commits(&host, a) == before + 1).await;
        assert!(matches!(host.status(&id).unwrap(), Status::Waiting { .. }), "it does not go on");
        if uninstall {
            wired(&host, ["a"]).await;
        } else {
            host.resume(&a).await.unwrap();
        }
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
        assert_eq!((cell(&host, a, "out").await[0]["body"].clone(), wire.count()), (json!(n.to_string()), n));
    }
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

fn key(request: &charm_host::Request) -> Option<String> {
    let named = |(name, value): &(String, String)| name.eq_ignore_ascii_case("idempotency-key").then(|| value.clone());
    let mut found = request.headers.iter().filter_map(named);
    let key = found.next();
    assert_eq!(found.next(), None, "one at most");
    key
}

/// A4: a request that is repeatable carries a key, an author's own stays, and no other carries one.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeatable_request_carries_a_key_of_its_own() {
    let wire = Wire::open();
    let (host, a, _) = open(builder(), &wire).await;
    let request = json!({ "method": "POST", "url": WIRE, "repeatable": true });
    let own =
        json!({ "method": "POST", "url": WIRE, "repeatable": true, "headers": { "Idempotency-Key": "\"mine\"" } });
    let steps = json!([
        ["commit-and-fetch", request],
        ["fetch", request],
        ["fetch", request],
        ["commit-and-fetch", request],
        ["fetch", request],
        ["commit-and-fetch", own],
        charge()
    ]);
    results(&host, a, steps).await;
    let keys: Vec<Option<String>> = wire.requests().iter().map(key).collect();
    assert_eq!(keys.len(), 7);
    let mut made: Vec<&str> = keys[..5].iter().map(|key| key.as_deref().unwrap()).collect();
    let is_string = |key: &&str| key.len() == 34 && key.starts_with('"') && key.ends_with('"');
    assert!(made.iter().all(is_string), "structured strings: {made:?}");
    made.sort_unstable();
    made.dedup();
    assert_eq!(made.len(), 5, "each request has its own");
    assert_eq!((keys[5].as_deref(), &keys[6]), (Some("\"mine\""), &None));
    host.shutdown().await.unwrap();
}

/// A charm that only makes short calls imports no wait: its turns are not recorded, and pay nothing for those that are.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_with_short_calls_alone_is_not_recorded() {
    let imports = |name: &str| {
        let component = component(name);
        component.windows(16).any(|window| window == b"charm:host/waits")
    };
    assert!(!imports("google-auth"), "it refreshes with a short call");
    assert!(imports("author"), "it can wait");
    let host = builder().open().await.unwrap();
    host.install(Charm::new("google-auth", component("google-auth"))).await.unwrap();
    host.shutdown().await.unwrap();
}

/// T7: what a turn is told of an exchange that failed, it is told in each of its kinds.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_exchange_is_told_as_it_failed() {
    let wire = Wire::open();
    let (host, a, _) = open(builder(), &wire).await;
    for (error, kind) in [
        (HttpError::Connection("reset".into()), "http-connection"),
        (HttpError::Address("nowhere".into()), "http-address"),
        (HttpError::Timeout, "http-timeout"),
    ] {
        wire.answer(Err(TransportError::Http(error)));
        let told = results(&host, a, json!([["try", charge()]])).await;
        assert_eq!(told[0]["error"]["kind"], kind, "{told}");
    }
    wire.answer(Ok(Response { status: 500, headers: Vec::new(), body: b"sorry".to_vec() }));
    assert_eq!(results(&host, a, json!([charge()])).await[0], json!({ "status": 500, "body": "sorry" }));
    host.shutdown().await.unwrap();
}

/// A network that panics.
struct Broken;

impl charm_host::Transport for Broken {
    fn exchange(&self, _: charm_host::Request, _: bool) -> charm_host::BoxFuture<'_, Result<Response, TransportError>> {
        panic!("the network of the embedder is broken")
    }
}

/// S11: a network that panics ends the turn whose request it was to make; the dead letter has all that its event carried, also
/// where that is on disk while the turn waits.
#[tokio::test(flavor = "multi_thread")]
async fn the_letter_of_a_request_that_panicked_has_all_that_its_event_carried() {
    for fill in [0, 3_000] {
        let host = builder().transport(Broken).open().await.unwrap();
        let [a, _] = wired(&host, ["a", "b"]).await;
        let event = value(json!({ "steps": [charge()], "fill": "x".repeat(fill) }));
        let sent = NewEvent::new(a, "run", event.clone()).id("once");
        let id = host.send(sent.clone()).await.unwrap();
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Faulted);
        let letters = host.dead_letters(&a, 0, 9).unwrap();
        assert_eq!((letters.len(), &letters[0].event.payload), (1, &event), "{fill}");
        assert_eq!(host.send(sent).await.unwrap(), id, "{fill}: the same event");
        host.verify_store().unwrap();
        host.shutdown().await.unwrap();
    }
}
