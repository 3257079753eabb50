//! What guests see, and what becomes of their events.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// T7: each refusal of a host call, and its own words when a handler passes it on.
#[tokio::test(flavor = "multi_thread")]
async fn no_refusal_of_a_host_call_is_long_or_tells_a_secret() {
    let secret = Secret::new("refusals");
    let limits = Limits { inbox_events_max: 12, http_url_bytes_max: 2_000, ..roomy() };
    let host = builder().limits(limits).transport(Wire::open()).open().await.unwrap();
    let (a, c) = (probe(&host, "a").await, probe(&host, "c").await);
    let b = host.install(probe_charm("b").may_call(Wire::grant()).may_send(a, Names::All)).await.unwrap();
    let hidden = &secret.text;
    fill(&host, b, "big", &secret).await;
    run(&host, b, json!([["set", "text", [], hidden], ["set", "map", ["k"], hidden]])).await;
    run(&host, b, json!([["set-link", "round", [], ["round", []]], ["set-link", "to", [], [of(c, "x"), []]]])).await;
    let (long, key) = (ugly(100_000), ugly(3_000));
    let not_canonical = [&[0x78, hidden.len() as u8][..], hidden.as_bytes(), hidden.as_bytes()].concat();
    let post = |url: String, name: &str, value: &str| json!(["fetch", { "method": "POST", "url": url, "headers": [[name, value]], "body": hidden }]);
    let fetch = |url: String| post(url, "authorization", hidden);
    let calls = [
        // write-isolation
        json!(["set", of(a, "x"), [], hidden]),
        json!(["remove", of(a, "x"), []]),
        json!(["append", of(a, "x"), [], hidden]),
        json!(["set", "to", [key], hidden]),
        // cycle
        json!(["get", "round", [hidden]]),
        json!(["append", "round", [long], hidden]),
        // denied
        json!(["get", "to", [hidden]]),
        json!(["get", of(c, "x"), [long]]),
        json!(["get", of(c, &"n".repeat(128)), []]),
        // type-mismatch
        json!(["get", "text", [key, "deeper"]]),
        json!(["get", "big", [9, 1]]),
        json!(["set", "big", [key], hidden]),
        json!(["set", "big", [99], hidden]),
        json!(["set", "map", ["k", "deeper"], hidden]),
        json!(["remove", "map", ["k", 0]]),
        json!(["append", "map", [], hidden]),
        json!(["increment", "text", [], 1]),
        json!(["send", of(a, "shaped"), { "n": hidden }]),
        json!(["send", of(a, "shaped"), secret.much(3 << 20)]),
        // invalid
        json!(["set-bytes", "x", [], not_canonical]),
        json!(["send-bytes", of(a, "note"), not_canonical]),
        json!(["send-tag", of(a, "note"), "on-receipt", not_canonical]),
        json!(["get", long, []]),
        json!(["increment", "text", [], hidden]),
        json!(["open-bytes", "cell", not_canonical]),
        json!(["get", [format!("did:key:z{hidden}"), "x"], []]),
        json!(["get", [long, "x"], []]),
        json!(["wish", long, {}]),
        json!(["wish", "#probe", { "cells": [["x", format!("{{{hidden}: oops")]] }]),
        post(WIRE.to_owned(), "x", &format!("{hidden}\n")),
        post(WIRE.to_owned(), &long, hidden),
        post(WIRE.to_owned(), &format!("proxy-{}", "p".repeat(10_000)), hidden),
        post(WIRE.to_owned(), "host", hidden),
        json!(["fetch", { "method": long, "url": WIRE, "body": hidden }]),
        fetch(format!("https://user:{hidden}@wire.test/")),
        fetch(format!("https://wire.test/#{hidden}")),
        fetch(format!("ftp://user:{hidden}@wire.test/?{hidden}")),
        fetch(format!("//{hidden}")),
        // limit
        json!(["send", of(a, "note"), 1, { "stream": "on-receipt", "tag": secret.much(2_000) }]),
        json!(["get", "text", [long]]),
        json!(["wish", "#probe", { "cells": [["x", hidden.repeat(100)]] }]),
        json!(["set", "big", [10], secret.much(1 << 20)]),
        fetch(format!("{WIRE}/?{}", secret.much(3_000))),
        // queue-full
        json!(["repeat", 20, ["send", of(a, "note"), hidden]]),
        json!(["send-later", of(a, "note"), hidden, { "expires-at": 0 }]),
        json!(["cancel", hidden]),
        // no-such-stream
        json!(["send", of(a, "note"), hidden, { "stream": "note", "tag": hidden }]),
        json!(["send", of(a, "note"), hidden, { "stream": long, "tag": hidden }]),
        json!(["send", of(a, "note"), hidden, { "stream": "nowhere", "tag": hidden }]),
        // http-denied
        fetch(format!("https://other.test/{hidden}?token={hidden}")),
        fetch(format!("https://{}.test/?token={hidden}", "a.".repeat(400))),
        json!(["fetch", { "method": "M".repeat(5_000), "url": format!("{WIRE}/?{hidden}") }]),
    ];
    let mut kinds = BTreeSet::new();
    for call in calls {
        let event = value(json!({ "steps": [["try", call]], "out": "out" }));
        let receipt = host.request(NewEvent::new(b, "run", event)).await.unwrap();
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        let seen = cell(&host, b, "out").await;
        let error = seen[0].get("error").unwrap_or_else(|| panic!("{:.80} was not refused", call.to_string()));
        kinds.insert(error["kind"].as_str().unwrap().to_owned());
        let texts = error.as_object().unwrap().values().filter_map(Json::as_str);
        assert!(texts.clone().map(str::len).sum::<usize>() <= MESSAGE_BYTES_MAX, "{error}");
        texts.for_each(|text| secret.told(text));
        // A handler that passes the refusal on.
        let receipt = run(&host, b, json!([call])).await;
        assert_eq!(receipt.outcome, Outcome::Rejected, "{receipt:?}");
        secret.receipt(&receipt);
        fails!(secret, receipt.committed().unwrap_err(), NotCommitted { .. });
    }
    // The rest of HTTP needs a real network: see `http.rs`.
    let all = ["cycle", "denied", "http-denied", "invalid", "limit", "no-such-stream", "queue-full", "type-mismatch"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [&all[..], &["write-isolation"]].concat());
    secret.letters(&host, b);
}

/// T7, S5, S11: each outcome that can happen, with secrets in the event, in the cells, in the tag and on the wire.
#[tokio::test(flavor = "multi_thread")]
async fn no_receipt_is_long_or_tells_a_secret_whatever_became_of_the_event() {
    let (secret, hold) = (Secret::new("receipts"), Hold::new());
    let (store, wire) = (MemoryStore::new(), Wire::gated());
    let limits = Limits { conflict_ms_max: 0, fuel_max: 200_000_000, space_bytes_max: 13 << 20, ..roomy() };
    let host = builder().store(store.clone()).transport(wire.clone()).limits(limits).open().await.unwrap();
    let [a, b, c] = [probe(&host, "a").await, probe(&host, "b").await, probe(&host, "c").await];
    let d = host.install(probe_charm("d").may_call(Wire::grant())).await.unwrap();
    grant(&host, a, BTreeMap::new(), all_of(&[b, d])).await.unwrap();
    grant(&host, d, all_of(&[b]), BTreeMap::new()).await.unwrap();
    fill(&host, b, "big", &secret).await;
    let hidden = &secret.text;
    let name = "\"\\".repeat(64);
    run(&host, b, json!([["set", name, ["k"], hidden]])).await;
    let fetch = json!(["fetch", { "url": format!("{WIRE}/?token={hidden}"), "method": "POST", "body": hidden,
        "headers": { "authorization": hidden } }]);
    let read = json!(["get", "big", []]);
    let cases = [
        (of(b, "note"), json!(secret.much(500_000)), Outcome::Committed),
        (of(b, "run"), json!([read, ["reject", ugly(1 << 20)]]), Outcome::Rejected),
        (of(b, "run"), json!([["set", "x", [], hidden], ["reject", "\"".repeat(1 << 20)]]), Outcome::Rejected),
        (of(b, "run"), json!([["reject", "\\".repeat(1 << 20)]]), Outcome::Rejected),
        (of(b, "run"), json!([["reject", "é\"".repeat(1 << 19)]]), Outcome::Rejected),
        (of(b, "run"), json!([read, ["get", "big", [0, "into"]]]), Outcome::Rejected),
        (of(b, "run"), json!([read, ["panic", ugly(1 << 20)]]), Outcome::Faulted),
        (of(b, "run"), json!([["panic", "\"".repeat(1 << 20)]]), Outcome::Faulted),
        (of(b, "run"), json!([["set", "x", [], hidden], ["trap"]]), Outcome::Faulted),
        (of(b, "run"), json!([["set", "x", [], hidden], ["spin"]]), Outcome::Faulted),
        (of(b, "run"), json!([["set", "x", [], hidden], ["recurse"]]), Outcome::Faulted),
        (of(b, "run"), json!([["grow", 100 << 20]]), Outcome::Faulted),
        (of(b, "run"), json!([["handles", 5_000]]), Outcome::Faulted),
        (of(b, "run"), json!([["set", "shaped", [], { "n": hidden }]]), Outcome::Faulted),
        (of(b, "run"), json!([["set", "shaped", [ugly(1_000)], hidden]]), Outcome::Faulted),
        (of(b, "run"), json!([["set", "more", [], secret.much(3 << 20)]]), Outcome::Faulted),
        (of(c, "note"), json!(hidden), Outcome::Denied),
        (of(b, &"é\"".repeat(42)), json!(hidden), Outcome::NoSuchStream),
        (of(d, "run"), json!([fetch, ["get", of(b, &name), ["k"]], hold.step()]), Outcome::ConflictExhausted),
    ];
    let mut sent = Vec::new();
    for (to, event, outcome) in cases {
        let is_script = to[1] == "run";
        let event = if is_script { json!({ "steps": event }) } else { event };
        let send = json!(["send", to, event, { "stream": "on-receipt", "tag": { "secret": hidden } }]);
        let id: EventId = results(&host, a, json!([send])).await[0].as_str().unwrap().parse().unwrap();
        sent.push((id, outcome));
    }
    wire.arrived(1).await;
    let answer = Response {
        status: 500,
        headers: vec![("set-cookie".to_owned(), secret.text.clone())],
        body: secret.much(1_000).into_bytes(),
    };
    secret.absent(&format!("{answer:?} {:?}", wire.requests()));
    wire.answer(Ok(answer));
    wire.release(1);
    hold.arrived(1).await;
    run(&host, b, json!([["set", name, ["k"], format!("{hidden} and new")]])).await;
    hold.release(1);
    for (id, outcome) in &sent {
        let receipt = receipt(&host, id).await;
        assert_eq!(receipt.outcome, *outcome, "{receipt:?}");
        secret.receipt(&receipt);
    }
    settle(&host).await;
    let outcomes: BTreeSet<&str> = sent.iter().map(|(_, outcome)| outcome.name()).collect();
    // Nothing expires in this version, and nothing is cancelled here (S4); for what does not fit any more see below.
    let elsewhere = |outcome: &Outcome| matches!(outcome, Outcome::Expired | Outcome::Cancelled | Outcome::Misfit);
    let all = Outcome::ALL.into_iter().filter(|outcome| !elsewhere(outcome));
    assert_eq!(outcomes, all.map(Outcome::name).collect());
    // What came back as events: the status without the tag, which the sender chose.
    let events = cell(&host, a, "receipts").await;
    assert_eq!(events.as_array().unwrap().len(), sent.len());
    for event in events.as_array().unwrap() {
        assert!(event["receipt"].to_string().len() <= 2 << 10);
        secret.absent(&event["receipt"].to_string());
    }
    for charm in [a, b, c, d] {
        secret.letters(&host, charm);
        for event in waiting(&host, charm).await {
            secret.absent(&format!("{event:?}"));
        }
    }
    host.shutdown().await.unwrap();
    let commits = Archive::open(store).unwrap().commits(None, 0, 1_000).unwrap();
    commits.iter().for_each(|commit| secret.absent(&format!("{commit:?}")));
}

/// T7, S4, H2: events that find at their turn that their stream is gone, or has another shape.
#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_of_an_event_that_waited_for_a_stream_in_vain_tells_no_secret() {
    let secret = Secret::new("waited");
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    host.shutdown().await.unwrap();
    let host = home.open().await;
    let b = probe(&host, "b").await;
    grant(&host, b, BTreeMap::new(), all_of(&[a])).await.unwrap();
    let tag = json!({ "stream": "on-receipt", "tag": secret.text });
    let misfit = json!({ "n": secret.much(100_000) });
    let steps = json!([["send", of(a, "not-any-more"), secret.text, tag], ["send", of(a, "shaped"), misfit, tag]]);
    let sent = results(&host, b, steps).await;
    probe(&host, "a").await;
    for (id, outcome) in sent.as_array().unwrap().iter().zip([Outcome::NoSuchStream, Outcome::Misfit]) {
        let receipt = receipt(&host, &id.as_str().unwrap().parse().unwrap()).await;
        assert_eq!(receipt.outcome, outcome);
        secret.receipt(&receipt);
    }
    secret.letters(&host, a);
    host.shutdown().await.unwrap();
}

/// T7: a text that only just fits as bytes and must be cut as JSON grew by the mark of the cut, and the store that
/// held it no longer proved itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_fits_but_for_its_quotes_is_cut_within_the_bound() {
    let store = MemoryStore::new();
    let host = builder().store(store.clone()).open().await.unwrap();
    let charm = probe(&host, "a").await;
    for plain in 250..262 {
        let text = format!("{}{}", "a".repeat(plain), "\"".repeat(1_024 - plain));
        let receipt = run(&host, charm, json!([["reject", text]])).await;
        let message = receipt.message.clone().unwrap();
        assert!(message.len() <= MESSAGE_BYTES_MAX, "{} bytes", message.len());
        assert!(serde_json::to_string(&receipt).unwrap().len() <= 2_048);
    }
    host.shutdown().await.unwrap();
    Archive::open(store).unwrap().verify_store().unwrap();
}
