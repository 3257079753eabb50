//! Chapter receipts: what became of a send, how the sender hears of it, and what is kept of failures.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeMap, time::Duration};

use charm_conformance::{
    Hold, Ledger, WIRE, Wire, all_of, builder, cell, grant, host, note, of, pair, probe, probe_charm, results, run,
    script, send, settle, value, value_of,
};
use charm_host::{
    Archive, Did, EventId, Host, Limits, MemoryStore, NewEvent, Outcome, Path, Receipt, Segment, Status, Value,
};
use serde_json::{Value as Json, json};

fn id(json: &Json) -> EventId {
    json.as_str().unwrap().parse().unwrap()
}

fn wait() -> Json {
    json!(["fetch", {"url": WIRE}])
}

fn with_receipt(to: Json, event: Json, tag: &str) -> Json {
    json!(["send", to, event, {"stream": "on-receipt", "tag": tag}])
}

/// Lets a charm `a` send one event for each outcome, each tagged with the outcome's name; returns host, store,
/// `a`, and the ids by outcome. Conflicts are not run again here: `d` stops while `b` changes what it read.
async fn all_outcomes() -> (Host, MemoryStore, Did, BTreeMap<String, EventId>) {
    let (store, hold) = (MemoryStore::new(), Hold::new());
    let limits = Limits { conflict_ms_max: 0, ..Limits::default() };
    let host = builder().store(store.clone()).limits(limits).open().await.unwrap();
    let [a, b, c, d] = ["a", "b", "c", "d"];
    let [a, b, c] = [probe(&host, a).await, probe(&host, b).await, probe(&host, c).await];
    let d = probe(&host, d).await;
    grant(&host, a, BTreeMap::new(), all_of(&[b, d])).await.unwrap();
    grant(&host, d, all_of(&[b]), BTreeMap::new()).await.unwrap();
    let steps = json!([
        with_receipt(of(b, "note"), json!("fine"), "committed"),
        with_receipt(of(b, "run"), json!({"steps": [["set", "y", [], 1], ["reject", "no"]]}), "rejected"),
        with_receipt(of(b, "run"), json!({"steps": [["set", "y", [], 1], ["trap"]]}), "faulted"),
        with_receipt(of(c, "note"), json!("no"), "denied"),
        with_receipt(of(b, "nowhere"), json!("no"), "no-such-stream"),
        with_receipt(of(d, "run"), json!({"steps": [["get", of(b, "x"), []], hold.step()]}), "conflict-exhausted"),
    ]);
    let seen = results(&host, a, steps).await;
    hold.arrived(1).await;
    run(&host, b, json!([["set", "x", [], 1]])).await;
    hold.release(1);
    let names = ["committed", "rejected", "faulted", "denied", "no-such-stream", "conflict-exhausted"];
    let ids = names.iter().zip(seen.as_array().unwrap()).map(|(name, sent)| ((*name).to_owned(), id(sent)));
    (host, store, a, ids.collect())
}

/// `expired` and `cancelled` come with timers. (S4)
#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_settles_once_and_is_looked_up_later_by_id() {
    let (host, store, _, ids) = all_outcomes().await;
    let mut receipts = Vec::new();
    for (outcome, id) in &ids {
        let receipt = host.receipt(id).await.unwrap().unwrap();
        assert_eq!((receipt.id, receipt.outcome.name()), (*id, outcome.as_str()));
        assert_eq!(receipt.commit.is_some(), receipt.outcome == Outcome::Committed);
        assert_eq!(receipt.message.is_none(), receipt.outcome == Outcome::Committed);
        assert_eq!(host.receipt(id).await.unwrap().unwrap(), receipt, "the same again");
        assert_eq!(host.status(id).unwrap(), Status::Settled(receipt.clone()));
        receipts.push(receipt);
    }
    settle(&host).await;
    host.shutdown().await.unwrap();
    let archive = Archive::open(store).unwrap();
    for receipt in receipts {
        assert_eq!(archive.status(&receipt.id).unwrap(), Status::Settled(receipt));
    }
    Ledger::check(&archive).all_settled();
}

/// The receipt is an event like any other: from the sender to itself, in a commit of its own. (S6)
#[tokio::test(flavor = "multi_thread")]
async fn on_commit_brings_every_outcome_back_as_an_event_from_the_sender_to_itself() {
    let (host, store, a, ids) = all_outcomes().await;
    for id in ids.values() {
        host.receipt(id).await.unwrap();
    }
    settle(&host).await;
    let events = cell(&host, a, "receipts").await;
    let events = events.as_array().unwrap();
    assert_eq!(events.len(), ids.len());
    for event in events {
        let outcome = event["tag"].as_str().unwrap();
        let receipt: Receipt = host.receipt(&ids[outcome]).await.unwrap().unwrap();
        let Receipt { id, commit, message, .. } = receipt;
        let expected = json!({"id": id.to_string(), "outcome": outcome, "commit": commit, "message": message});
        assert_eq!(event["receipt"], expected);
    }
    host.shutdown().await.unwrap();
    let archive = Archive::open(store).unwrap();
    let commits = archive.commits(Some(&a), 0, 1_000).unwrap();
    let handled = commits.iter().filter_map(|commit| commit.record.turn());
    let handled = handled.filter(|turn| &*turn.stream == "on-receipt");
    let handled: Vec<_> = handled.collect();
    assert_eq!(handled.len(), ids.len(), "each in a turn of its own");
    assert!(handled.iter().all(|taken| taken.sender == a && taken.receipt.outcome == Outcome::Committed));
}

/// (S4)
#[tokio::test(flavor = "multi_thread")]
async fn an_event_waits_until_it_is_settled_and_everyone_who_waits_hears_it() {
    let wire = Wire::gated();
    let host = builder().transport(wire.clone()).open().await.unwrap();
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    let event = send(&host, a, json!([wait()])).await;
    wire.arrived(1).await;
    assert!(matches!(host.status(&event).unwrap(), Status::Waiting { .. }));
    assert_eq!(charm_conformance::waiting(&host, a).await.len(), 1);
    let early = tokio::time::timeout(Duration::ZERO, host.receipt(&event)).await;
    assert!(early.is_err(), "a caller who gives up takes nothing away");
    let release = async { wire.release(1) };
    let (one, two, ()) = tokio::join!(host.receipt(&event), host.receipt(&event), release);
    let one = one.unwrap().unwrap();
    assert_eq!(one.outcome, Outcome::Committed);
    assert_eq!(two.unwrap().unwrap(), one);
    host.shutdown().await.unwrap();
}

/// (S4)
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_id_is_unknown_and_nobody_waits_for_it() {
    let store = MemoryStore::new();
    let host = builder().store(store.clone()).open().await.unwrap();
    for id in [EventId([0; 16]), EventId([255; 16])] {
        assert_eq!(host.status(&id).unwrap(), Status::Unknown);
        assert_eq!(host.receipt(&id).await.unwrap(), None);
        assert_eq!(Archive::open(store.clone()).unwrap().status(&id).unwrap(), Status::Unknown);
    }
    host.shutdown().await.unwrap();
}

/// (S5, T7)
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_bounded_whatever_the_guest_says() {
    let limits = Limits { event_bytes_max: 2 << 20, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let a = probe(&host, "a").await;
    let long = ["x".repeat(1 << 20), "\u{1}\n\r\u{1b}[31m".repeat(1 << 12), "ä€🦀".repeat(1 << 12)];
    for text in long {
        for end in [json!(["reject", text]), json!(["panic", text])] {
            let receipt = charm_conformance::run_unasked(&host, a, json!([end])).await;
            assert!(Value::encode(&receipt).unwrap().as_bytes().len() <= 2_048);
            let message = receipt.message.unwrap();
            assert!(message.len() <= 1_024 && message.ends_with('…'), "{} bytes", message.len());
            assert!(!message.chars().any(char::is_control));
            let letter = host.dead_letters(&a, 0, usize::MAX).unwrap().pop().unwrap();
            assert_eq!(letter.receipt.message.unwrap(), message, "the dead letter says the same");
        }
    }
    let receipt = run(&host, a, json!([["reject", ""]])).await;
    assert_eq!((receipt.outcome, receipt.message.as_deref()), (Outcome::Rejected, Some("")));
    host.shutdown().await.unwrap();
}

/// (S6)
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_comes_back_byte_for_byte() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let deep = [vec![0x81; 61], vec![0x00]].concat();
    let link = [&[0xd8, 0x2a, 0x58, 0x25, 0x00, 0x01, 0x71, 0x12, 0x20][..], &[7; 32]].concat();
    let tags = [
        vec![0xf6],
        vec![0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x3b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0],
        vec![0x43, 0x00, 0xff, 0x80],
        vec![0xa2, 0x60, 0xf4, 0x62, 0xc3, 0xa9, 0x82, 0x01, 0xa0],
        link,
        deep,
    ];
    for tag in &tags {
        let receipt = run(&host, a, json!([["send-tag", of(b, "note"), "on-receipt", tag]])).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    }
    settle(&host).await;
    for (index, tag) in tags.iter().enumerate() {
        let path = Path(vec![Segment::Index(index as u32), Segment::Key("tag".to_owned())]);
        let came = host.get::<Value>(&a, "receipts", &path).await.unwrap().unwrap();
        assert_eq!(came.as_bytes(), tag);
    }
    let too_deep = [vec![0x81; 62], vec![0x00]].concat();
    let seen = results(&host, a, json!([["try", ["send-tag", of(b, "note"), "on-receipt", too_deep]]])).await;
    assert_eq!(seen[0]["error"]["name"], "value-depth-max");
    host.shutdown().await.unwrap();
}

/// (S6; `streams.send`: no-such-stream)
#[tokio::test(flavor = "multi_thread")]
async fn on_commit_must_name_a_stream_of_the_senders_own() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let steps = json!([["try", ["send", of(b, "note"), "x", {"stream": "nowhere", "tag": 1}]]]);
    let seen = results(&host, a, steps).await;
    let error = json!({"kind": "no-such-stream", "owner": a.to_string(), "name": "nowhere"});
    assert_eq!(seen[0]["error"], error);
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, Json::Null, "nothing was sent");
    host.shutdown().await.unwrap();
}

/// (S6, S11)
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_receipts_that_fails_leaves_a_dead_letter_and_nothing_else() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let failing = json!({"steps": [["reject", "not now"]]});
    let sent = results(&host, a, json!([["send", of(b, "note"), "x", {"stream": "on-receipt", "tag": failing}]])).await;
    settle(&host).await;
    assert_eq!(host.receipt(&id(&sent[0])).await.unwrap().unwrap().outcome, Outcome::Committed);
    assert_eq!(cell(&host, b, "notes").await, json!(["x"]));
    note(&host, a, json!("next")).await;
    let letters = host.dead_letters(&a, 0, usize::MAX).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].event.sender, letters[0].receipt.outcome), (a, Outcome::Rejected));
    assert!(host.dead_letters(&b, 0, usize::MAX).unwrap().is_empty());
    assert_eq!(cell(&host, a, "notes").await, json!(["next"]));
    host.shutdown().await.unwrap();
}

/// Only the host sends to a stream that takes receipts. (S6)
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_cannot_be_forged() {
    let store = MemoryStore::new();
    let host = builder().store(store.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let forged =
        json!({"receipt": {"id": "0".repeat(32), "outcome": "committed", "commit": 1, "message": null}, "tag": 1});
    let sent = results(&host, b, json!([["send", of(a, "on-receipt"), forged]])).await;
    settle(&host).await;
    assert_eq!(host.receipt(&id(&sent[0])).await.unwrap().unwrap().outcome, Outcome::Denied);
    host.shutdown().await.unwrap();
    let commits = Archive::open(store).unwrap().commits(Some(&a), 0, 10).unwrap();
    assert!(commits.iter().all(|commit| commit.taken.is_none()), "nothing was handed over");
}

/// (S9)
#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_and_event_from_outside_is_handled_once() {
    let (store, wire, keys) = (MemoryStore::new(), Wire::gated(), tempfile::tempdir().unwrap());
    let keyring = || charm_host::FileKeyring::open(keys.path().join("keys")).unwrap();
    let open = async || builder().store(store.clone()).keyring(keyring()).transport(wire.clone()).open().await.unwrap();
    let host = open().await;
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    let steps = || script(json!([wait(), ["send", "note", "effect"]]));
    let event = || NewEvent::new(a, "run", steps()).id("order-1");
    // Again while it is in flight.
    let first = host.send(event()).await.unwrap();
    wire.arrived(1).await;
    assert_eq!(host.send(event()).await.unwrap(), first);
    let release = async { wire.release(1) };
    let (one, two, ()) = tokio::join!(host.request(event()), host.request(event()), release);
    let receipt = one.unwrap();
    assert_eq!((receipt.id, receipt.outcome), (first, Outcome::Committed));
    assert_eq!(two.unwrap(), receipt);
    // Again when it is settled, and after a restart.
    assert_eq!(host.request(event()).await.unwrap(), receipt);
    settle(&host).await;
    host.shutdown().await.unwrap();
    let host = open().await;
    host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    assert_eq!(host.request(event()).await.unwrap(), receipt);
    assert_eq!(cell(&host, a, "notes").await, json!(["effect"]));
    assert_eq!(wire.count(), 1);
    host.shutdown().await.unwrap();
}

/// A failure is an outcome too: a new try takes a new id. (S9)
#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_of_a_failed_event_returns_the_failure() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let event = || NewEvent::new(a, "run", script(json!([["reject", "no"]]))).id("x");
    let receipt = host.request(event()).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Rejected);
    assert_eq!(host.request(event()).await.unwrap(), receipt);
    assert!(host.dead_letters(&a, 0, usize::MAX).unwrap().is_empty(), "its sender asked, and is told again (S11)");
    host.shutdown().await.unwrap();
}

/// (S9)
#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_for_another_event_is_refused_and_of_another_sender_is_another_event() {
    use charm_host::{Keyring, MemoryKeyring, SendError};
    let host = host().await;
    let (a, b) = pair(&host).await;
    let other = MemoryKeyring::default().create(&zeroize::Zeroizing::new([3; 32])).unwrap();
    grant(&host, other, BTreeMap::new(), all_of(&[a])).await.unwrap();
    let event = |to, stream: &str, n: u32| NewEvent::new(to, stream, value(json!(n))).id("x");
    let first = host.send(event(a, "note", 1)).await.unwrap();
    for reused in [event(a, "note", 2), event(a, "run", 1), event(b, "note", 1)] {
        assert_eq!(host.send(reused).await, Err(SendError::IdReused { id: first }));
    }
    host.receipt(&first).await.unwrap();
    assert_eq!(host.send(event(a, "note", 2)).await, Err(SendError::IdReused { id: first }), "also when it is settled");
    let theirs = host.send(event(a, "note", 2).from(other)).await.unwrap();
    assert_ne!(theirs, first);
    settle(&host).await;
    assert_eq!(cell(&host, a, "notes").await, json!([1, 2]));
    host.shutdown().await.unwrap();
}

/// (S9)
#[tokio::test(flavor = "multi_thread")]
async fn ids_from_outside_are_any_text_of_1_to_128_bytes() {
    use charm_host::SendError;
    let host = host().await;
    let a = probe(&host, "a").await;
    let event = |id: &str| NewEvent::new(a, "note", value(json!(id))).id(id);
    for wrong in [String::new(), "x".repeat(129), "é".repeat(65)] {
        assert!(matches!(host.send(event(&wrong)).await, Err(SendError::Id(_))));
    }
    let operator = host.operator().to_string();
    let longest = "x".repeat(128);
    let ids =
        ["x", " x", "x ", "X", "x\0", "x\0y", "x/y", "x%2Fy", "x:y", "x|y", "é", "e\u{301}", "\n", &operator, &longest];
    let mut events = std::collections::BTreeSet::new();
    for id in ids {
        events.insert(host.request(event(id)).await.unwrap().id);
    }
    assert_eq!(events.len(), ids.len(), "all different");
    assert_eq!(cell(&host, a, "notes").await, json!(ids));
    host.shutdown().await.unwrap();
}

/// (S11)
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_event_becomes_a_dead_letter_and_does_not_block_the_next() {
    let host = host().await;
    let a = probe(&host, "a").await;
    note(&host, a, json!("before")).await;
    let poison = host.send(NewEvent::new(a, "run", script(json!([["set", "x", [], 1], ["trap"]])))).await.unwrap();
    note(&host, a, json!("after")).await;
    assert_eq!(cell(&host, a, "notes").await, json!(["before", "after"]));
    assert_eq!(cell(&host, a, "x").await, Json::Null);
    let letters = host.dead_letters(&a, 0, usize::MAX).unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.event.id, letter.event.sender, letter.event.to), (poison, host.operator(), a));
    assert_eq!(&*letter.event.stream, "run");
    assert_eq!(letter.receipt, host.receipt(&poison).await.unwrap().unwrap());
    assert_eq!(letter.receipt.outcome, Outcome::Faulted);
    assert!(letter.receipt.message.as_ref().unwrap().contains("unreachable"), "{:?}", letter.receipt);
    host.shutdown().await.unwrap();
}

/// (S11)
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_sent_again_under_a_new_id_from_the_same_sender() {
    let host = host().await;
    let [a, b] = [probe(&host, "a").await, probe(&host, "b").await];
    grant(&host, b, BTreeMap::new(), all_of(&[a])).await.unwrap();
    // The event needs a grant that is not there yet.
    let inner = json!({"steps": [["get", of(b, "x"), []], ["context"]], "out": "out"});
    let sent = results(&host, b, json!([["send", of(a, "run"), inner]])).await;
    settle(&host).await;
    let failed = host.receipt(&id(&sent[0])).await.unwrap().unwrap();
    assert_eq!(failed.outcome, Outcome::Rejected);
    let letter = host.dead_letters(&a, 0, usize::MAX).unwrap().pop().unwrap();
    grant(&host, a, all_of(&[b]), BTreeMap::new()).await.unwrap();
    let again = host.resend(&letter.event.to, &letter.event.id).await.unwrap();
    assert_ne!(again, failed.id);
    assert_eq!(host.receipt(&again).await.unwrap().unwrap().outcome, Outcome::Committed);
    assert_eq!(cell(&host, a, "out").await[1]["sender"], b.to_string());
    assert_eq!(host.receipt(&failed.id).await.unwrap().unwrap(), failed, "the first receipt stays");
    settle(&host).await;
    assert_eq!(value_of(&host, b, "receipts").await, None, "the sender asked for no receipt");
    assert!(host.dead_letters(&a, 0, usize::MAX).unwrap().is_empty());
    let gone = Err(charm_host::SendError::NoSuchLetter);
    assert_eq!(host.resend(&letter.event.to, &letter.event.id).await, gone);
    assert_eq!(host.discard(&letter.event.to, &letter.event.id).await, gone.map(drop));
    host.shutdown().await.unwrap();
}

/// (S11)
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_dropped_and_its_receipt_stays() {
    let store = MemoryStore::new();
    let host = builder().store(store.clone()).open().await.unwrap();
    let a = probe(&host, "a").await;
    let mut receipts = Vec::new();
    for n in 0..3 {
        receipts.push(charm_conformance::run_unasked(&host, a, json!([["reject", format!("{n}")]])).await);
    }
    let letters = host.dead_letters(&a, 0, usize::MAX).unwrap();
    host.discard(&letters[1].event.to, &letters[1].event.id).await.unwrap();
    let left: Vec<_> =
        host.dead_letters(&a, 0, usize::MAX).unwrap().into_iter().map(|letter| letter.event.id).collect();
    assert_eq!(left, [receipts[0].id, receipts[2].id]);
    assert_eq!(host.receipt(&receipts[1].id).await.unwrap().unwrap(), receipts[1]);
    host.shutdown().await.unwrap();
    Ledger::check(&Archive::open(store).unwrap()).all_settled();
}

/// (S11, A5)
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_bounded_and_the_oldest_goes_first() {
    for max in [0, 1, 3] {
        let store = MemoryStore::new();
        let limits = Limits { dead_letters_max: max, ..Limits::default() };
        let host = builder().store(store.clone()).limits(limits).open().await.unwrap();
        let a = probe(&host, "a").await;
        let mut receipts = Vec::new();
        for n in 0..6 {
            receipts.push(charm_conformance::run_unasked(&host, a, json!([["reject", format!("{n}")]])).await);
        }
        let left: Vec<_> =
            host.dead_letters(&a, 0, usize::MAX).unwrap().into_iter().map(|letter| letter.receipt).collect();
        assert_eq!(left, receipts[6 - max..]);
        for receipt in &receipts {
            assert_eq!(host.status(&receipt.id).unwrap(), Status::Settled(receipt.clone()));
        }
        host.shutdown().await.unwrap();
        Ledger::check(&Archive::open(store).unwrap()).all_settled();
    }
}
