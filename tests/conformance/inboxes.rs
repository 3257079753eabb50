//! Chapter inboxes: full ones push back, before the sender's commit, and lose nothing (S12).
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use charm_conformance::{
    Hold, Ledger, WIRE, Wire, all_of, builder, cell, grant, of, probe, probe_charm, results, run, send, settle, value,
};
use charm_host::{Archive, Did, EventId, Host, Limits, MemoryStore, NewEvent, Outcome, SendError};
use serde_json::{Value as Json, json};

/// A host in memory with small inboxes, a network that waits for the test, and probes that may do all with each other.
struct Small {
    host: Host,
    store: MemoryStore,
    wire: Wire,
}

impl Small {
    async fn open<const N: usize>(inbox_events_max: usize, names: [&str; N]) -> (Small, [Did; N]) {
        let (store, wire) = (MemoryStore::new(), Wire::gated());
        let limits = Limits { inbox_events_max, conflict_ms_max: 10_000, room_ms_max: 0, ..Limits::default() };
        let host = builder().store(store.clone()).transport(wire.clone()).limits(limits).open().await.unwrap();
        let mut dids = Vec::new();
        for name in names {
            dids.push(host.install(probe_charm(name).may_call(Wire::grant())).await.unwrap());
        }
        for did in &dids {
            grant(&host, *did, all_of(&dids), all_of(&dids)).await.unwrap();
        }
        (Small { host, store, wire }, dids.try_into().unwrap())
    }

    /// Lets a charm wait in a turn, which keeps one place of its inbox; `count` charms wait then.
    async fn block(&self, charm: Did, count: usize) -> EventId {
        let event = send(&self.host, charm, json!([wait()])).await;
        self.wire.arrived(count).await;
        event
    }

    /// Shuts down and checks that everything that was ever sent has its one outcome; returns how many that are.
    async fn end(self) -> usize {
        self.wire.release(1_000);
        settle(&self.host).await;
        self.host.shutdown().await.unwrap();
        Ledger::check(&Archive::open(self.store).unwrap()).all_settled()
    }
}

fn wait() -> Json {
    json!(["fetch", {"url": WIRE}])
}

fn note(to: Did, text: &str) -> Json {
    json!(["try", ["send", of(to, "note"), text]])
}

fn note_with_receipt(to: Did, text: &str) -> Json {
    json!(["try", ["send", of(to, "note"), text, {"stream": "on-receipt", "tag": text}]])
}

/// (S12)
#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_refuses_the_send_and_the_sender_goes_on() {
    // Of the room that others share, one alone takes half.
    let (small, [a, b]) = Small::open(4, ["a", "b"]).await;
    small.block(b, 1).await;
    let seen = results(&small.host, a, json!([note(b, "1"), note(b, "2"), note(b, "3")])).await;
    assert_eq!(seen[2]["error"], json!({"kind": "queue-full", "inbox": b.to_string()}));
    let receipt = run(&small.host, a, json!([["set", "x", [], 1], ["send", of(b, "note"), "4"]])).await;
    assert_eq!(receipt.outcome, Outcome::Rejected, "the probe gives up: nothing of its turn remains");
    assert_eq!(cell(&small.host, a, "x").await, Json::Null);
    small.wire.release(1);
    settle(&small.host).await;
    assert_eq!(cell(&small.host, b, "notes").await, json!(["1", "2"]));
    let seen = results(&small.host, a, json!([note(b, "5")])).await;
    assert!(seen[0]["ok"].is_string(), "there is room again");
    small.end().await;
}

/// (S12)
#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_refuses_those_outside_and_keeps_what_it_took() {
    let (small, [a]) = Small::open(5, ["a"]).await;
    small.block(a, 1).await;
    let mut taken = Vec::new();
    let full = loop {
        match small.host.send(NewEvent::new(a, "note", value(json!(taken.len())))).await {
            Ok(id) => taken.push(id),
            Err(error) => break error,
        }
    };
    assert_eq!(full, SendError::QueueFull { to: a });
    assert_eq!(taken.len(), 4);
    small.wire.release(1);
    for id in &taken {
        assert_eq!(small.host.receipt(id).await.unwrap().unwrap().outcome, Outcome::Committed);
    }
    assert_eq!(cell(&small.host, a, "notes").await, json!([0, 1, 2, 3]));
    assert_eq!(small.end().await, 5);
}

/// (S12, A5)
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_is_bounded_in_bytes_too() {
    let (wire, limits) = (Wire::gated(), Limits { inbox_bytes_max: 1_000, ..Limits::default() });
    let host = builder().transport(wire.clone()).limits(limits).open().await.unwrap();
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    let event = send(&host, a, json!([wait()])).await;
    wire.arrived(1).await;
    let large = || NewEvent::new(a, "note", value(json!("x".repeat(400))));
    host.send(large()).await.unwrap();
    host.send(large()).await.unwrap();
    assert_eq!(host.send(large()).await, Err(SendError::QueueFull { to: a }));
    wire.release(1);
    host.receipt(&event).await.unwrap();
    settle(&host).await;
    host.send(large()).await.unwrap();
    host.shutdown().await.unwrap();
}

/// A receipt always finds room: its place is kept from the send on. (S6, S12)
#[tokio::test(flavor = "multi_thread")]
async fn receipts_on_their_way_have_their_room() {
    let (small, [a, b, c, d]) = Small::open(4, ["a", "b", "c", "d"]).await;
    small.block(b, 1).await;
    small.block(c, 2).await;
    let steps = json!([
        note_with_receipt(b, "1"),
        note_with_receipt(b, "2"),
        note_with_receipt(c, "3"),
        note_with_receipt(c, "4"),
        note_with_receipt(d, "5"),
        note(d, "6"),
        note(a, "7"),
    ]);
    let seen = results(&small.host, a, steps).await;
    let full = json!({"kind": "queue-full", "inbox": a.to_string()});
    assert_eq!(seen[4]["error"], full, "four receipts fill the room that the sender has in its own inbox");
    assert!(seen[5]["ok"].is_string(), "a send without a receipt needs no room of one's own");
    assert_eq!(seen[6]["error"], full, "the room for receipts is that for sends to oneself");
    small.block(a, 3).await;
    for n in 0..3 {
        small.host.send(NewEvent::new(a, "note", value(json!(n)))).await.expect("receipts take no room of others");
    }
    let one_more = small.host.send(NewEvent::new(a, "note", value(json!("more")))).await;
    assert_eq!(one_more, Err(SendError::QueueFull { to: a }), "one event that runs and three more");
    small.wire.release(3);
    settle(&small.host).await;
    let receipts = cell(&small.host, a, "receipts").await;
    let mut tags: Vec<_> = receipts.as_array().unwrap().iter().map(|event| event["tag"].as_str().unwrap()).collect();
    tags.sort();
    assert_eq!(tags, ["1", "2", "3", "4"]);
    assert_eq!(cell(&small.host, c, "notes").await, json!(["3", "4"]));
    // What has come leaves its room.
    for n in 0..5 {
        let seen = results(&small.host, a, json!([note_with_receipt(b, &format!("after {n}"))])).await;
        assert!(seen[0]["ok"].is_string(), "{seen}");
        settle(&small.host).await;
        small.host.send(NewEvent::new(a, "note", value(json!("after")))).await.unwrap();
        settle(&small.host).await;
    }
    small.end().await;
}

/// A denied send keeps no room, and a full inbox tells nothing to those who may not send there. (S12, A1)
#[tokio::test(flavor = "multi_thread")]
async fn a_send_without_a_grant_does_not_learn_that_an_inbox_is_full() {
    let (small, [b]) = Small::open(2, ["b"]).await;
    let a = probe(&small.host, "a").await;
    small.block(b, 1).await;
    small.host.send(NewEvent::new(b, "note", value(json!(1)))).await.unwrap();
    let seen = results(&small.host, a, json!([note(b, "1"), note(b, "2"), note(b, "3")])).await;
    for sent in seen.as_array().unwrap() {
        let id: EventId = sent["ok"].as_str().unwrap().parse().unwrap();
        assert_eq!(small.host.receipt(&id).await.unwrap().unwrap().outcome, Outcome::Denied);
    }
    small.end().await;
}

/// The inbox had room when the send was staged, and is full at the commit: the turn runs again and sees it. (S12)
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_fills_up_before_the_commit_is_seen_by_the_next_run() {
    let (small, [a, b, c, d]) = Small::open(4, ["a", "b", "c", "d"]).await;
    let hold = Hold::new();
    let event = json!({"steps": [note(b, "1"), note(b, "2"), hold.step()], "out": "out"});
    let event = small.host.send(NewEvent::new(a, "run", value(event))).await.unwrap();
    hold.arrived(1).await;
    small.block(b, 1).await;
    for other in [c, d] {
        let seen = results(&small.host, other, json!([note(b, "first")])).await;
        assert!(seen[0]["ok"].is_string(), "{seen}");
    }
    hold.release(10);
    assert_eq!(small.host.receipt(&event).await.unwrap().unwrap().outcome, Outcome::Committed);
    let seen = cell(&small.host, a, "out").await;
    assert!(seen[0]["ok"].is_string(), "the first event of a sender always finds room: {seen}");
    assert_eq!(seen[1]["error"]["kind"], "queue-full");
    small.wire.release(1);
    settle(&small.host).await;
    assert_eq!(cell(&small.host, b, "notes").await, json!(["first", "first", "1"]));
    small.end().await;
}

/// Each event makes two for the other charm, as far as there is room. (S12)
#[tokio::test(flavor = "multi_thread")]
async fn two_charms_that_fill_each_others_inboxes_do_not_hang_and_lose_nothing() {
    for max in [1, 2, 3, 10] {
        let (small, [a, b]) = Small::open(max, ["a", "b"]).await;
        let mut event = json!({"steps": [["send", "note", "end"]]});
        for n in 0..12 {
            let to = if n % 2 == 0 { a } else { b };
            let receipt = json!({"stream": "on-receipt", "tag": n});
            event = json!({"steps": [["repeat", 2, ["try", ["send", of(to, "run"), event, receipt]]]]});
        }
        let mut accepted = 0;
        for _ in 0..20 {
            for charm in [a, b] {
                let sent = small.host.send(NewEvent::new(charm, "run", value(event.clone()))).await;
                accepted += usize::from(sent.is_ok());
            }
        }
        assert!(accepted > 0);
        let total = tokio::time::timeout(Duration::from_secs(60), small.end()).await.expect("it comes to rest");
        assert!(total >= accepted);
    }
}
