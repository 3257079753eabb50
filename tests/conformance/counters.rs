//! Chapter counters: what a host has counted since it was opened, and the law that holds at every moment.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use charm_conformance::*;
use charm_host::{Archive, Counters, Host, Limits, MemoryStore, NewEvent, Outcome};
use serde_json::json;

/// As `counted`, of a host where nothing waits.
#[track_caller]
fn settled(host: &Host) -> Counters {
    let counters = counted(host);
    assert_eq!((counters.waiting, counters.found + counters.sent), (0, counters.settled()), "{counters:?}");
    counters
}

/// What the counters say is what the log says. (S4, S6, T4)
#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_counted_once_when_it_is_sent_and_once_under_its_outcome() {
    let (store, hold) = (MemoryStore::new(), Hold::new());
    let limits = Limits { conflict_ms_max: 0, ..Limits::default() };
    let host = builder().store(store.clone()).limits(limits).open().await.unwrap();
    assert_eq!(counted(&host), Counters::default());
    let [a, b, c] = [probe(&host, "a").await, probe(&host, "b").await, probe(&host, "c").await];
    let d = probe(&host, "d").await;
    grant(&host, a, BTreeMap::new(), all_of(&[b, d])).await.unwrap();
    grant(&host, d, all_of(&[b]), BTreeMap::new()).await.unwrap();
    let back = json!({"stream": "on-receipt", "tag": 1});
    let steps = json!([
        ["send", of(b, "note"), "fine", back],
        ["send", of(b, "run"), {"steps": [["reject", "no"]]}, back],
        ["send", of(b, "run"), {"steps": [["trap"]]}, back],
        ["send", of(c, "note"), "no", back],
        ["send", of(b, "nowhere"), "no"],
        ["send", of(d, "run"), {"steps": [["get", of(b, "x"), []], hold.step()]}],
    ]);
    run(&host, a, steps).await;
    hold.arrived(1).await;
    let under_way = counted(&host);
    assert!(under_way.waiting >= 1 && under_way.conflicts == 0, "what runs counts as waiting: {under_way:?}");
    run(&host, b, json!([["set", "x", [], 1]])).await;
    hold.release(1);
    settle(&host).await;
    let counters = settled(&host);
    // The script, six sends, one change from outside, four receipts.
    assert_eq!((counters.found, counters.sent), (0, 12));
    let outcomes = Outcome::ALL.map(|outcome| counters.of(outcome));
    assert_eq!(outcomes, [7, 1, 1, 1, 1, 1, 0, 0, 0], "{counters}");
    assert_eq!(counters.conflicts, 1, "the one attempt of the turn that gave up");
    assert_eq!(
        counters.to_string(),
        "12 sent: 7 committed, 1 rejected, 1 faulted, 1 conflict-exhausted, 1 denied, 1 no-such-stream; 0 waiting, 1 conflicts"
    );
    host.shutdown().await.unwrap();
    let ledger = Ledger::check(&Archive::open(store).unwrap());
    assert_eq!(ledger.all_settled() as u64, counters.sent);
    for outcome in Outcome::ALL {
        let logged = ledger.settled.values().filter(|settled| **settled == outcome).count();
        assert_eq!(logged as u64, counters.of(outcome), "{outcome}");
    }
}

/// What is an error at once leaves no event; the same id again is the same event. (S9, S11)
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_before_it_is_sent_and_what_is_sent_again_under_its_id_is_not_counted() {
    let host = host().await;
    let (a, b) = (probe(&host, "a").await, probe(&host, "b").await);
    for event in [NewEvent::new(a, "nowhere", value(json!(1))), NewEvent::new(a, "note", value(json!(1))).from(b)] {
        host.send(event).await.unwrap_err();
    }
    assert_eq!(counted(&host), Counters::default());
    for _ in 0..3 {
        host.request(NewEvent::new(a, "note", value(json!(1))).id("order")).await.unwrap();
    }
    assert_eq!(settled(&host), only_so(1, 1, 0));
    run_unasked(&host, a, json!([["reject", "no"]])).await;
    let letter = host.dead_letters(&a, 0, usize::MAX).unwrap().pop().unwrap();
    let again = host.resend(&letter.event.to, &letter.event.id).await.unwrap();
    receipt(&host, &again).await;
    assert_eq!(settled(&host), only_so(3, 1, 2), "a dead letter sent again is a new event");
    host.discard(&a, &host.dead_letters(&a, 0, usize::MAX).unwrap().pop().unwrap().event.id).await.unwrap();
    assert_eq!(settled(&host), only_so(3, 1, 2), "a dropped one is none");
    host.shutdown().await.unwrap();
}

/// The counters of a host that only commits and rejects.
fn only_so(sent: u64, committed: u64, rejected: u64) -> Counters {
    let mut counters = Counters::default();
    (counters.sent, counters.committed, counters.rejected) = (sent, committed, rejected);
    counters
}

/// S2: an event that outlives its host is counted as found by the next one, not as sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_waited_when_the_host_was_opened_is_counted_as_found() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    host.shutdown().await.unwrap();
    // Known to the store, and not installed: its events wait.
    let host = home.open().await;
    let b = probe(&host, "b").await;
    grant(&host, b, BTreeMap::new(), all_of(&[a])).await.unwrap();
    let sends = json!([["repeat", 3, ["send", of(a, "note"), "later", {"stream": "on-receipt"}]]]);
    assert_eq!(run(&host, b, sends).await.outcome, Outcome::Committed);
    let before = counted(&host);
    assert_eq!((before.found, before.sent, before.committed, before.waiting), (0, 4, 1, 3));
    host.shutdown().await.unwrap();
    let host = home.open().await;
    let opened = counted(&host);
    assert_eq!((opened.found, opened.sent, opened.settled(), opened.waiting), (3, 0, 0, 3));
    probes(&host, ["a", "b"]).await;
    settle(&host).await;
    let after = settled(&host);
    assert_eq!((after.found, after.sent, after.committed), (3, 3, 6), "three notes, and their receipts");
    let told = after.to_string();
    assert!(told.starts_with("3 found, 3 sent: 6 committed; 0 waiting, 0 conflicts"), "{told}");
    host.shutdown().await.unwrap();
}

/// T8: the order of commits is ahead of the disk; the counters are not.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_and_not_yet_durable_is_not_counted() {
    let (store, disk) = GatedStore::new(MemoryStore::new());
    let host = builder().store(store).open().await.unwrap();
    let a = probe(&host, "a").await;
    disk.hold();
    let request = host.request(NewEvent::new(a, "note", value(json!(1))));
    tokio::pin!(request);
    assert!(look(request.as_mut()).await.is_none(), "no receipt before the disk has it");
    until("the turn commits in memory", || decided(a) == 1).await;
    assert!(look(request.as_mut()).await.is_none());
    assert_eq!(counted(&host), Counters::default());
    disk.release();
    assert_eq!(request.await.unwrap().outcome, Outcome::Committed);
    assert_eq!(settled(&host), only_so(1, 1, 0));
}

/// Looks at a future once.
async fn look<F: Future>(future: F) -> Option<F::Output> {
    tokio::time::timeout(std::time::Duration::ZERO, future).await.ok()
}
