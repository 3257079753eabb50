//! Chapter replay: a turn that waits goes on by a replay, in this host or in the next (S8).
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../by_hand.rs"]
mod by_hand;
mod upgrades;

use std::time::Duration;

use charm_conformance::{
    Clock, Hold, Home, Logs, WIRE, Wire, begin, builder, cell, commits, of, probe_charm, receipt, run, settle, steps,
    until, value, wait_all, wired,
};
use charm_host::{
    Archive, Body, Did, Host, HostBuilder, Limits, LogEntry, MemoryStore, NewEvent, Outcome, Record, Store, VerifyError,
};
use serde_json::json;

/// Opens a host with the probes `a` and `b`, which may use all of each other and call the wire.
async fn open(builder: HostBuilder, wire: &Wire) -> (Host, Did, Did) {
    let host = builder.transport(wire.clone()).open().await.unwrap();
    let [a, b] = wired(&host, ["a", "b"]).await;
    (host, a, b)
}

/// The host ends before the provider has run, after it, or between two waits: the turn goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_waits_goes_on_in_the_next_host() {
    for moment in ["before", "between", "behind"] {
        let (home, wire, hold) = (Home::default(), Wire::open(), Hold::new());
        let (host, a, b) = open(home.builder().await, &wire).await;
        host.pause(if moment == "behind" { &a } else { &b }).await.unwrap();
        let event = json!([
            ["set", "x", [], "set once"],
            ["send", of(b, "note"), 1],
            wait_all(&[0]),
            ["get", of(b, "notes"), []],
            ["send", of(b, "note"), 2],
            wait_all(&[1, 0]),
            ["get", of(b, "notes"), []],
        ]);
        let id = match moment {
            "behind" => {
                host.resume(&a).await.unwrap();
                let event = json!([
                    ["send", of(b, "run"), steps(json!([hold.step()]))],
                    wait_all(&[0]),
                    ["set", "x", [], "set once"]
                ]);
                let id = begin(&host, a, event).await;
                hold.arrived(1).await;
                host.pause(&a).await.unwrap();
                hold.release(1);
                until("the provider is done", || host.counters().waiting == 1).await;
                id
            }
            _ => begin(&host, a, event).await,
        };
        until("it waits", || commits(&host, a) >= 5).await;
        if moment == "between" {
            host.resume(&b).await.unwrap();
            receipt(&host, &id).await;
        }
        host.shutdown().await.unwrap();
        Archive::open(home.read_only()).unwrap().verify_store().unwrap();
        let (host, a, b) = open(home.builder().await, &wire).await;
        for charm in [a, b] {
            host.resume(&charm).await.unwrap();
        }
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed, "{moment}");
        settle(&host).await;
        assert_eq!(cell(&host, a, "x").await, "set once");
        if moment != "behind" {
            assert_eq!(cell(&host, b, "notes").await, json!([1, 2]), "{moment}: each is handled once");
            let out = cell(&host, a, "out").await;
            assert_eq!((&out[3], &out[6]), (&json!([1]), &json!([1, 2])), "{moment}: it sees what it waited for");
        }
        host.verify_store().unwrap();
        host.shutdown().await.unwrap();
    }
}

/// What a replay is told is what was told before, whatever has changed since: cells, rights, the world outside.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_told_what_the_first_run_was_told() {
    let (home, wire, logs) = (Home::default(), Wire::open(), Logs::capture());
    wire.answer_text(200, "the first answer");
    let (host, a, b) = open(home.builder().await, &wire).await;
    run(&host, b, json!([["set", "x", [], "old"], ["set", "y", [], "old"]])).await;
    host.pause(&b).await.unwrap();
    let line = "said in the first run";
    let event = json!([
        ["get", of(b, "x"), []],
        ["try", ["get", of(b, "hidden"), []]],
        ["set", "x", [], "mine"],
        ["get", "x", []],
        ["remove", "x", []],
        ["wish", "#probe", {"cells": [["x", "any"]]}],
        ["fetch", {"url": format!("{WIRE}/once")}],
        ["log", "info", line],
        ["context"],
        ["try", ["wait", [], "all", 1]],
        ["send", of(b, "note"), 1],
        wait_all(&[0]),
        ["get", of(b, "x"), []],
        ["context"],
    ]);
    let id = begin(&host, a, event).await;
    until("it waits", || commits(&host, a) >= 5).await;
    host.shutdown().await.unwrap();
    wire.answer_text(200, "another answer");
    let host = home.builder().await.transport(wire.clone()).open().await.unwrap();
    let b = host.install(probe_charm("b")).await.unwrap();
    host.resume(&b).await.unwrap();
    run(&host, b, json!([["set", "x", [], "new"]])).await;
    // Without any right but to read what it reads last.
    let a = host.install(probe_charm("a").may_read("b", charm_conformance::only(&["x"]))).await.unwrap();
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let out = cell(&host, a, "out").await;
    assert_eq!((&out[0], &out[12]), (&json!("old"), &json!("new")), "{out}");
    assert_eq!(out[1]["error"]["kind"], "denied");
    assert_eq!(out[3], "mine");
    assert_eq!(out[5].as_array().unwrap().len(), 2, "both that publish the tag");
    assert_eq!(out[6]["body"], "the first answer");
    assert_eq!(wire.requests().len(), 1);
    assert_eq!(out[9]["error"]["kind"], "invalid");
    assert_ne!(out[8]["random"], out[13]["random"]);
    assert_eq!(out[8]["event"], out[13]["event"]);
    assert!(out[8]["time"].as_u64() <= out[13]["time"].as_u64());
    assert_eq!(logs.lines(line).len(), 1, "a line is said once");
    settle(&host).await;
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// S8: the first difference is named, the turn is faulted, and what it had committed stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_asks_something_else_is_faulted_and_names_the_first_difference() {
    let get = json!(["get", "x", []]);
    let cases = [
        (get.clone(), json!(["set", "x", [], 1]), "call 2 was cells.get and is cells.set now"),
        (get.clone(), json!(["get", "y", []]), "call 2, cells.get, is given something else than before"),
        (get.clone(), json!(["reject", "early"]), "the handler ended before call 2, cells.get"),
        (get.clone(), json!(["trap"]), "the handler ended before call 2, cells.get: over memory-bytes-max"),
        (get, json!(["spin"]), "the replay takes more than twice the fuel"),
        (
            json!(["repeat", 0, ["trap"]]),
            json!(["get", "x", []]),
            "call 3 was waits.commit-and-wait and is cells.get now",
        ),
    ];
    for (first, other, expected) in cases {
        let (home, wire) = (Home::default(), Wire::open());
        let limits = |pages: usize| Limits { memory_bytes_max: pages << 16, ..Limits::default() };
        let (host, a, b) = open(home.builder().await.limits(limits(200)), &wire).await;
        host.pause(&b).await.unwrap();
        let event =
            json!([["set", "z", [], "kept"], ["grown", 100, first, other], ["send", of(b, "note"), 1], wait_all(&[0])]);
        let event = if expected.contains("call 3 was") {
            json!([["set", "z", [], "kept"], ["send", of(b, "note"), 1], ["grown", 100, first, other], wait_all(&[0])])
        } else {
            event
        };
        let id = begin(&host, a, event).await;
        until("it waits", || commits(&host, a) >= 5).await;
        host.shutdown().await.unwrap();
        let (host, a, b) = open(home.builder().await.limits(limits(60)), &wire).await;
        host.resume(&b).await.unwrap();
        let receipt = receipt(&host, &id).await;
        assert_eq!(receipt.outcome, Outcome::Faulted, "{expected}");
        let message = receipt.message.unwrap();
        assert!(message.starts_with(&format!("nondeterminism: {expected}")), "{message}");
        assert!(receipt.commit.is_some(), "it names its segment");
        assert_eq!(cell(&host, a, "z").await, "kept");
        host.verify_store().unwrap();
        host.shutdown().await.unwrap();
    }
}

/// Replays take no fuel of the turn, and the turn has no more than its own: what is in the record is the same however often it is run
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn replays_take_no_fuel_of_the_turn() {
    let work = json!(["repeat", 2_000, ["context"]]);
    let (wire, store) = (Wire::open(), MemoryStore::new());
    let parts = |b: Did| {
        let note = json!(["send", of(b, "note"), 1]);
        json!([work, note, wait_all(&[0]), work, note, wait_all(&[1]), work, note, wait_all(&[2]), work])
    };
    let (host, a, b) = open(builder().store(store.clone()), &wire).await;
    assert_eq!(run(&host, a, parts(b)).await.outcome, Outcome::Committed);
    let ran = fuel_of(&store, a);
    let each = ran[2] - ran[1];
    assert_eq!(ran.len(), 4);
    assert!((each * 9 / 10..each * 11 / 10).contains(&(ran[3] - ran[2])), "each part takes its own: {ran:?}");
    host.shutdown().await.unwrap();
    // So much is enough, and a little less is not.
    for (fuel_max, outcome) in [(ran[3] + 1, Outcome::Committed), (ran[3] - each / 2, Outcome::Faulted)] {
        let (host, a, b) = open(builder().limits(Limits { fuel_max, ..Limits::default() }), &wire).await;
        let receipt = run(&host, a, parts(b)).await;
        assert_eq!(receipt.outcome, outcome, "{receipt:?}");
        assert!(receipt.message.is_none_or(|message| message.starts_with("over fuel-max")));
        host.shutdown().await.unwrap();
    }
}

/// The fuel that stands in the segments and the end of a charm's turns, in order.
fn fuel_of(store: &MemoryStore, charm: Did) -> Vec<u64> {
    let log = store.log(Some(&charm), 0, 100).unwrap();
    let fuel = |entry: &LogEntry| match Record::from_bytes(&entry.record).unwrap().body {
        Body::Segment(segment) => Some(segment.ran.fuel),
        Body::Turn(turn) => turn.ran.map(|ran| ran.fuel),
        _ => None,
    };
    log.iter().filter_map(fuel).collect()
}

/// What was told stands in the store while the turn is under way, by the hash that the log has, and goes with its end. Damage is
/// found before anything is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_recording_goes_with_its_turn_and_a_damaged_one_is_found() {
    let (home, wire) = (Home::default(), Wire::open());
    let event = |b: Did| json!([["get", of(b, "x"), []], ["send", of(b, "note"), 1], wait_all(&[0])]);
    let (host, a, b) = open(home.builder().await, &wire).await;
    run(&host, b, json!([["set", "x", [], "what it reads"]])).await;
    host.pause(&b).await.unwrap();
    let id = begin(&host, a, event(b)).await;
    until("it waits", || commits(&host, a) >= 5).await;
    host.shutdown().await.unwrap();
    let store = home.read_only();
    let [row] = &store.load(None).unwrap().turns[..] else { panic!("one turn is under way") };
    assert_eq!((row.space, row.event, row.progress.segments), (a, id, 1));
    assert_eq!(store.recording(row.position).unwrap().len(), 1);
    drop(store);
    let index = rusqlite::Connection::open(home.index()).unwrap();
    let bytes: Vec<u8> = index.query_row("SELECT bytes FROM recording", [], |row| row.get(0)).unwrap();
    let at = bytes.windows(4).position(|window| window == b"what").unwrap();
    let damaged = [&bytes[..at], b"that", &bytes[at + 4..]].concat();
    index.execute("UPDATE recording SET bytes = ?1", [damaged]).unwrap();
    drop(index);
    let proof = Archive::open(home.read_only()).unwrap().verify_store();
    assert!(matches!(proof, Err(VerifyError::Broken { .. })), "{proof:?}");
    let (host, _, b) = open(home.builder().await, &wire).await;
    host.resume(&b).await.unwrap();
    let receipt = receipt(&host, &id).await;
    assert_eq!((receipt.outcome, receipt.message.as_deref()), (Outcome::Faulted, Some("recording: it is damaged")));
    settle(&host).await;
    host.shutdown().await.unwrap();
    let store = home.read_only();
    assert!(store.load(None).unwrap().turns.is_empty());
    assert!(store.recording(1).unwrap().is_empty());
}

/// The next host knows what became of all that each turn has sent, however many receipts that are.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_host_knows_what_became_of_a_thousand_sends() {
    let (home, wire) = (Home::default(), Wire::open());
    let (host, a, b) = open(home.builder().await, &wire).await;
    host.pause(&b).await.unwrap();
    let mut ids = Vec::new();
    for sends in [3, 1_000, 1, 600, 2] {
        let made = commits(&host, a);
        let send = json!(["send", of(b, "shaped"), {"n": sends}]);
        let mut event = vec![send; sends];
        event.extend([json!(["wait", [0, sends - 1], "all", 3_600_000])]);
        let event = value(json!({ "steps": event, "out": format!("out {sends}") }));
        ids.push(host.send(NewEvent::new(a, "run", event)).await.unwrap());
        until("it waits", || commits(&host, a) == made + 2).await;
    }
    host.pause(&a).await.unwrap();
    host.resume(&b).await.unwrap();
    until("all is handled", || host.counters().waiting == 5).await;
    host.shutdown().await.unwrap();
    let (host, a, _) = open(home.builder().await, &wire).await;
    host.resume(&a).await.unwrap();
    for (id, sends) in ids.iter().zip([3, 1_000, 1, 600, 2]) {
        assert_eq!(receipt(&host, id).await.outcome, Outcome::Committed);
        let told = cell(&host, a, &format!("out {sends}")).await;
        let told: Vec<_> = told[sends].as_array().unwrap().iter().map(|told| &told["outcome"]).collect();
        assert_eq!(told, ["committed"; 2]);
    }
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// A wait's time runs on while there is no host.
#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_runs_on_over_a_restart() {
    let (home, wire, clock) = (Home::default(), Wire::open(), Clock::new());
    let (host, a, b) = open(home.builder().await.env(clock.clone()), &wire).await;
    host.pause(&b).await.unwrap();
    let id = begin(&host, a, json!([["send", of(b, "note"), 1], ["wait", [0], "all", 10_000_000]])).await;
    until("it waits", || commits(&host, a) >= 5).await;
    host.shutdown().await.unwrap();
    clock.jump(9_000_000);
    let (host, a, b) = open(home.builder().await.env(clock.clone()), &wire).await;
    clock.pass(Duration::from_secs(800));
    assert_eq!(host.counters().waiting, 2, "not before its time");
    clock.jump(1_000_000);
    clock.pass(Duration::from_secs(300));
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, a, "out").await[1], json!([null]));
    host.resume(&b).await.unwrap();
    settle(&host).await;
    host.shutdown().await.unwrap();
}
