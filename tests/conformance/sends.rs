//! Chapter sends: when an event goes out, where it is handled, in which order, and who may send what.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use charm_conformance::{
    Hold, WIRE, Wire, all_of, builder, cell, commits, grant, host, of, only, pair, probe, probes, results, run, script,
    send, settle, value, wired,
};
use charm_host::{Did, EventId, Host, Keyring, Limits, MemoryKeyring, NewEvent, Outcome, SendError};
use serde_json::{Value as Json, json};

/// Opens a host with probes that may use everything of each other, and call `wire`.
async fn open<const N: usize>(wire: &Wire, limits: Limits, names: [&str; N]) -> (Host, [Did; N]) {
    let host = builder().transport(wire.clone()).limits(limits).open().await.unwrap();
    let dids = wired(&host, names).await;
    (host, dids)
}

/// A step that waits until the test releases the wire.
fn wait(name: &str) -> Json {
    json!(["fetch", {"url": format!("{WIRE}/{name}")}])
}

fn id(json: &Json) -> EventId {
    json.as_str().unwrap().parse().unwrap()
}

/// Returns the DID of someone outside.
fn outsider() -> Did {
    MemoryKeyring::default().create(&zeroize::Zeroizing::new([7; 32])).unwrap()
}

/// (S1)
#[tokio::test(flavor = "multi_thread")]
async fn an_event_goes_out_with_the_commit_of_its_turn() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let sent = results(&host, a, json!([["set", "x", [], 1], ["send", of(b, "note"), "hello"]])).await;
    let receipt = host.receipt(&id(&sent[1])).await.unwrap().unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed);
    assert_eq!(cell(&host, b, "notes").await, json!(["hello"]));
    host.shutdown().await.unwrap();
}

/// (S1, T6)
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_rejects_or_faults_sends_nothing() {
    let limits = Limits { fuel_max: 50_000_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let ends = [json!(["reject", "no"]), json!(["trap"]), json!(["panic", "no"]), json!(["spin"]), json!(["recurse"])];
    for end in ends {
        let send = json!(["send", of(b, "note"), "lost", {"stream": "on-receipt", "tag": 1}]);
        let receipt = run(&host, a, json!([send, end])).await;
        assert_ne!(receipt.outcome, Outcome::Committed);
    }
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, Json::Null);
    assert_eq!(cell(&host, a, "receipts").await, Json::Null);
    host.shutdown().await.unwrap();
}

/// A conflict throws the first run away with its sends; ids of sends are the same in every run. (S1, S2, T4)
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_runs_again_sends_once() {
    let (wire, hold) = (Wire::open(), Hold::new());
    let (host, [a, b, c]) = open(&wire, Limits::default(), ["a", "b", "c"]).await;
    let steps = json!([["get", of(b, "x"), []], ["send", of(c, "note"), "once"], wait("a"), hold.step()]);
    let event = value(json!({"steps": steps, "out": "out"}));
    let event = host.send(NewEvent::new(a, "run", event)).await.unwrap();
    hold.arrived(1).await;
    run(&host, b, json!([["set", "x", [], "changed"]])).await;
    hold.release(10);
    assert_eq!(host.receipt(&event).await.unwrap().unwrap().outcome, Outcome::Committed);
    let out = cell(&host, a, "out").await;
    assert_eq!(out[0], "changed", "the turn ran twice");
    assert_eq!(wire.count(), 1, "and asked the network once");
    assert_eq!(host.receipt(&id(&out[1])).await.unwrap().unwrap().outcome, Outcome::Committed);
    assert_eq!(cell(&host, c, "notes").await, json!(["once"]));
    host.shutdown().await.unwrap();
}

/// (S1, T4)
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_spends_its_time_on_conflicts_sends_nothing() {
    let hold = Hold::new();
    let limits = Limits { conflict_ms_max: 0, ..Limits::default() };
    let (host, [a, b, c]) = open(&Wire::open(), limits, ["a", "b", "c"]).await;
    let event = send(&host, a, json!([["get", of(b, "x"), []], ["send", of(c, "note"), "lost"], hold.step()])).await;
    hold.arrived(1).await;
    run(&host, b, json!([["set", "x", [], 1]])).await;
    hold.release(1);
    assert_eq!(host.receipt(&event).await.unwrap().unwrap().outcome, Outcome::ConflictExhausted);
    settle(&host).await;
    assert_eq!(cell(&host, c, "notes").await, Json::Null);
    host.shutdown().await.unwrap();
}

/// The receiver sees who sent, writes its own space in a commit of its own, and what becomes of it leaves the
/// sender's commit as it is. (S2, I4, T1)
#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_handled_in_the_receivers_own_transaction() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let inner = value(json!({"steps": [["context"], ["set", "x", [], 1]], "out": "seen"}));
    let inner: Json = inner.decode().unwrap();
    let failing = json!({"steps": [["set", "y", [], 1], ["reject", "no"]]});
    let steps = json!([["set", "mine", [], 1], ["send", of(b, "run"), inner], ["send", of(b, "run"), failing]]);
    let made = commits(&host, b);
    let sent = results(&host, a, steps).await;
    let receipt = host.receipt(&id(&sent[1])).await.unwrap().unwrap();
    assert_eq!((receipt.outcome, receipt.commit), (Outcome::Committed, Some(made + 1)), "the receiver's first turn");
    let seen = cell(&host, b, "seen").await;
    assert_eq!(seen[0]["sender"], a.to_string());
    assert_eq!(seen[0]["self"], b.to_string());
    assert_eq!(seen[0]["event"], sent[1]);
    assert_eq!(cell(&host, a, "x").await, Json::Null);
    assert_eq!(host.receipt(&id(&sent[2])).await.unwrap().unwrap().outcome, Outcome::Rejected);
    assert_eq!(cell(&host, a, "mine").await, 1, "the sender's commit stands");
    host.shutdown().await.unwrap();
}

/// (S3)
#[tokio::test(flavor = "multi_thread")]
async fn events_from_one_sender_to_one_charm_arrive_in_order_under_load() {
    let host = host().await;
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    let mut last = Vec::new();
    for turn in 0..10 {
        for sender in [a, b] {
            let notes = (0..50).map(|n| json!(["send", of(c, "note"), [sender.to_string(), turn * 50 + n]]));
            last.push(send(&host, sender, notes.collect()).await);
        }
    }
    for event in last {
        assert_eq!(host.receipt(&event).await.unwrap().unwrap().outcome, Outcome::Committed);
    }
    settle(&host).await;
    let notes = cell(&host, c, "notes").await;
    assert_eq!(notes.as_array().unwrap().len(), 1_000);
    for sender in [a, b] {
        let of_sender = notes.as_array().unwrap().iter().filter(|note| note[0] == sender.to_string());
        let numbers: Vec<u64> = of_sender.map(|note| note[1].as_u64().unwrap()).collect();
        assert_eq!(numbers, Vec::from_iter(0..500));
    }
    host.shutdown().await.unwrap();
}

/// (S3)
#[tokio::test(flavor = "multi_thread")]
async fn events_from_outside_arrive_in_the_order_of_sending() {
    let host = host().await;
    let a = probe(&host, "a").await;
    for n in 0..100 {
        host.send(NewEvent::new(a, "note", value(json!(n)))).await.unwrap();
    }
    settle(&host).await;
    assert_eq!(cell(&host, a, "notes").await, Json::from_iter(0..100));
    host.shutdown().await.unwrap();
}

/// (S3)
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_has_one_turn_at_a_time_and_others_do_not_wait_for_it() {
    let wire = Wire::gated();
    let (host, [a, b]) = open(&wire, Limits::default(), ["a", "b"]).await;
    let first = send(&host, a, json!([wait("a1")])).await;
    let second = send(&host, a, json!([wait("a2")])).await;
    wire.arrived(1).await;
    let other = send(&host, b, json!([wait("b1")])).await;
    wire.arrived(2).await;
    wire.release(3);
    for event in [first, second, other] {
        assert_eq!(host.receipt(&event).await.unwrap().unwrap().outcome, Outcome::Committed);
    }
    let urls: Vec<_> = wire.requests().into_iter().map(|request| request.url).collect();
    assert_eq!(urls, ["a1", "b1", "a2"].map(|name| format!("{WIRE}/{name}")));
    host.shutdown().await.unwrap();
}

/// (S2, S3)
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_may_send_to_itself_and_handles_it_in_a_later_turn() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let steps = json!([["send", "note", "later"], ["get", "notes", []], ["get", of(a, "notes"), []]]);
    let seen = results(&host, a, steps).await;
    assert_eq!((&seen[1], &seen[2]), (&Json::Null, &Json::Null));
    settle(&host).await;
    assert_eq!(cell(&host, a, "notes").await, json!(["later"]));
    host.shutdown().await.unwrap();
}

/// (S2)
#[tokio::test(flavor = "multi_thread")]
async fn two_charms_may_send_back_and_forth() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let mut event = json!({"steps": [["send", of(a, "note"), "end"]]});
    for n in (0..16).rev() {
        let to = if n % 2 == 0 { b } else { a };
        event = json!({"steps": [["send", "note", n], ["send", of(to, "run"), event]]});
    }
    host.send(NewEvent::new(a, "run", value(event))).await.unwrap();
    settle(&host).await;
    assert_eq!(cell(&host, a, "notes").await, json!([0, 2, 4, 6, 8, 10, 12, 14, "end"]));
    assert_eq!(cell(&host, b, "notes").await, json!([1, 3, 5, 7, 9, 11, 13, 15]));
    host.shutdown().await.unwrap();
}

/// (S1; `streams.send`: type-mismatch)
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_does_not_fit_the_stream_is_refused_at_the_send_and_says_where() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let wrong = |event: Json| json!(["try", ["send", of(b, "shaped"), event]]);
    let steps = json!([wrong(json!({"n": "x"})), wrong(json!({})), wrong(json!(1)), wrong(json!({"n": 1}))]);
    let before = commits(&host, b);
    let seen = results(&host, a, steps).await;
    assert_eq!(seen[0]["error"], json!({"kind": "type-mismatch", "at": "/n", "expected": "int", "actual": "string"}));
    assert_eq!(seen[1]["error"]["actual"], "missing");
    assert_eq!(seen[2]["error"]["actual"], "integer");
    assert_eq!(host.receipt(&id(&seen[3]["ok"])).await.unwrap().unwrap().outcome, Outcome::Committed);
    assert_eq!(commits(&host, b), before + 1, "nothing else arrived");
    host.shutdown().await.unwrap();
}

/// (S1)
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_a_value_is_refused_at_the_send() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    // {"b": 0, "a": 0}: keys out of order; then two values; then nothing.
    let bad = [vec![0xa2, 0x61, 0x62, 0x00, 0x61, 0x61, 0x00], vec![0x00, 0x00], vec![]];
    let steps: Json = bad.iter().map(|bytes| json!(["try", ["send-bytes", of(b, "note"), bytes]])).collect();
    let seen = results(&host, a, steps).await;
    for refused in seen.as_array().unwrap() {
        assert_eq!(refused["error"]["kind"], "invalid", "{refused}");
    }
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, Json::Null);
    host.shutdown().await.unwrap();
}

/// (A5)
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_may_send_so_many_events_with_so_large_tags_and_no_more() {
    let limits = Limits { sends_max: 3, tag_bytes_max: 100, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let tagged = |size: usize| {
        let tag = "x".repeat(size);
        json!(["try", ["send", of(b, "note"), "t", {"stream": "on-receipt", "tag": tag}]])
    };
    let plain = json!(["try", ["send", of(b, "note"), "p"]]);
    let seen = results(&host, a, json!([tagged(99), tagged(98), plain, plain, plain])).await;
    assert_eq!(seen[0]["error"], json!({"kind": "limit", "name": "tag-bytes-max", "max": 100}));
    assert!((1..4).all(|n| seen[n]["ok"].is_string()), "{seen}");
    assert_eq!(seen[4]["error"], json!({"kind": "limit", "name": "sends-max", "max": 3}));
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["t", "p", "p"]));
    host.shutdown().await.unwrap();
}

/// Without a grant a sender learns nothing: not whether the charm or the stream exists, nor what it takes. (S4, A1)
#[tokio::test(flavor = "multi_thread")]
async fn a_send_without_a_grant_is_denied_and_the_turn_goes_on() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let b = probe(&host, "b").await;
    let to = [of(b, "note"), of(b, "shaped"), of(b, "nowhere"), of(outsider(), "note")];
    let steps: Json = to.iter().map(|to| json!(["send", to, "x"])).collect();
    let seen = results(&host, a, steps).await;
    for sent in seen.as_array().unwrap() {
        let receipt = host.receipt(&id(sent)).await.unwrap().unwrap();
        assert_eq!((receipt.outcome, receipt.commit), (Outcome::Denied, None));
        assert!(receipt.message.unwrap().contains("grant"));
    }
    assert_eq!(cell(&host, b, "notes").await, Json::Null);
    assert!(host.dead_letters(&b, 0, usize::MAX).unwrap().is_empty(), "nothing of it reached the receiver");
    host.shutdown().await.unwrap();
}

/// (S4)
#[tokio::test(flavor = "multi_thread")]
async fn a_send_to_a_charm_or_stream_that_is_not_there_settles_as_no_such_stream() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let nobody = outsider();
    grant(&host, a, BTreeMap::new(), all_of(&[b, nobody])).await.unwrap();
    let seen = results(&host, a, json!([["send", of(b, "nowhere"), 1], ["send", of(nobody, "note"), 1]])).await;
    for sent in seen.as_array().unwrap() {
        let receipt = host.receipt(&id(sent)).await.unwrap().unwrap();
        assert_eq!(receipt.outcome, Outcome::NoSuchStream);
    }
    host.shutdown().await.unwrap();
}

/// (D7)
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_covers_the_streams_it_names_and_its_loss_counts_from_the_next_turn() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let b = probe(&host, "b").await;
    let steps = json!([["send", of(b, "note"), 1], ["send", of(b, "run"), {"steps": []}]]);
    let outcomes = async |host: &Host| {
        let seen = results(host, a, steps.clone()).await;
        let mut outcomes = Vec::new();
        for sent in seen.as_array().unwrap() {
            outcomes.push(host.receipt(&id(sent)).await.unwrap().unwrap().outcome);
        }
        outcomes
    };
    grant(&host, a, BTreeMap::new(), BTreeMap::from([(b, only(&["note"]))])).await.unwrap();
    assert_eq!(outcomes(&host).await, [Outcome::Committed, Outcome::Denied]);
    grant(&host, a, BTreeMap::new(), BTreeMap::new()).await.unwrap();
    assert_eq!(outcomes(&host).await, [Outcome::Denied, Outcome::Denied]);
    host.shutdown().await.unwrap();
}

/// (I4)
#[tokio::test(flavor = "multi_thread")]
async fn a_send_from_outside_is_refused_with_a_reason_and_leaves_nothing() {
    let host = builder().limits(Limits { event_bytes_max: 1_000, ..Limits::default() }).open().await.unwrap();
    let a = probe(&host, "a").await;
    let before = host.spaces();
    let refused = async |to: Did, stream: &str, payload: Json| {
        host.send(NewEvent::new(to, stream, value(payload))).await.unwrap_err()
    };
    assert_eq!(refused(outsider(), "note", json!(1)).await, SendError::NoSuchCharm { to: outsider() });
    let SendError::NoSuchStream { stream, known, .. } = refused(a, "nowhere", json!(1)).await else { panic!() };
    assert_eq!(stream, "nowhere");
    assert!(known.contains("note") && known.contains("run"), "{known}");
    let SendError::Shape { stream, mismatch } = refused(a, "shaped", json!({"n": "x"})).await else { panic!() };
    assert_eq!((stream.as_str(), mismatch.at.as_str(), mismatch.expected.as_str()), ("shaped", "/n", "int"));
    let limit = refused(a, "note", json!("x".repeat(1_000))).await;
    assert_eq!(limit, SendError::Limit { name: "event-bytes-max", max: 1_000 });
    assert_eq!(host.spaces(), before);
    host.shutdown().await.unwrap();
}

/// (I4, D7)
#[tokio::test(flavor = "multi_thread")]
async fn someone_outside_sends_what_a_grant_covers_and_is_seen_as_the_sender() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let event = |stream: &str| NewEvent::new(a, stream, script(json!([["context"]]))).from(outsider());
    let denied = |stream: &str| SendError::Denied { sender: outsider(), to: a, stream: stream.to_owned() };
    assert_eq!(host.send(event("run")).await, Err(denied("run")));
    assert_eq!(host.send(event("nowhere")).await, Err(denied("nowhere")), "nobody learns what exists");
    grant(&host, outsider(), BTreeMap::new(), BTreeMap::from([(a, only(&["run"]))])).await.unwrap();
    let seen = value(json!({"steps": [["context"]], "out": "seen"}));
    let receipt = host.request(NewEvent::new(a, "run", seen).from(outsider())).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed);
    assert_eq!(cell(&host, a, "seen").await[0]["sender"], outsider().to_string());
    assert_eq!(host.send(event("note")).await, Err(denied("note")));
    grant(&host, outsider(), BTreeMap::new(), BTreeMap::new()).await.unwrap();
    assert_eq!(host.send(event("run")).await, Err(denied("run")));
    host.shutdown().await.unwrap();
}
