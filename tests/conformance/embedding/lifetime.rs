//! A host is a handle: cloned, ended by any of its clones, within a time, for all of them (T8).

use std::time::Duration;

use charm_conformance::{Clock, Hold, Home, builder, cell, probe, probe_charm, receipt, run, script, send, until};
use charm_host::{
    Did, EventId, InstallError, NewEvent, Outcome, ReadError, SHUTDOWN_MS, SendError, Status, Unavailable, Value,
};
use futures_util::FutureExt;
use serde_json::json;

fn is_closed<T>(result: Result<T, SendError>) -> bool {
    matches!(result, Err(SendError::Unavailable(Unavailable::Closed)))
}

fn is_unread<T>(result: Result<T, ReadError>) -> bool {
    matches!(result, Err(ReadError::Unavailable(Unavailable::Closed)))
}

fn is_not_installed<T>(result: Result<T, InstallError>) -> bool {
    matches!(result, Err(InstallError::Unavailable(Unavailable::Closed)))
}

/// Handles in several tasks work on one host; one of them ends it, the others answer `Closed`, whatever they are asked.
#[tokio::test(flavor = "multi_thread")]
async fn any_handle_ends_the_host_for_all_and_then_every_call_answers_closed() {
    let host = builder().open().await.unwrap();
    let charm = probe(&host, "a").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let host = host.clone();
        tasks.spawn(async move {
            let event = NewEvent::new(charm, "run", script(json!([["set", format!("x{number}"), [], number]])));
            host.request(event).await.unwrap().committed().unwrap()
        });
    }
    let receipts = tasks.join_all().await;
    let other = host.clone();
    // All that ask at once, and again later, get the same answer.
    let ends = [host.clone(), host.clone(), host.clone()];
    let ends = ends.map(|host| tokio::spawn(async move { host.shutdown().await }));
    for end in ends {
        end.await.unwrap().unwrap();
    }
    drop(host);
    other.shutdown().await.unwrap();
    other.shutdown_within(Duration::ZERO).await.unwrap();

    let (id, event) = (receipts[0].id, || NewEvent::new(charm, "run", &json!([])));
    assert!(is_closed(other.send(event()).await) && is_closed(other.request(event()).await));
    assert!(is_closed(other.send(event().id("mine")).await));
    assert!(is_closed(other.pause(&charm).await) && is_closed(other.resume(&charm).await));
    assert!(is_closed(other.resend(&charm, &id).await) && is_closed(other.discard(&charm, &id).await));
    assert!(is_closed(other.cancel(&charm, &id).await) && is_closed(other.release(&charm, &id).await));
    assert_eq!(other.release_component([0; 32]).await, Err(Unavailable::Closed.into()));
    assert!(is_not_installed(other.install(probe_charm("b")).await));
    assert!(is_not_installed(other.install_all(vec![probe_charm("b")]).await));
    assert!(is_unread(other.get::<Value>(&charm, "x1", "").await));
    assert!(is_unread(other.get_as::<Value>(&other.operator(), &charm, "x1", "").await));
    assert!(is_unread(other.get_at::<Value>(&charm, "x1", "", 1).await));
    assert!(is_unread(other.receipt(&id).await) && is_unread(other.status(&id)));
    assert_eq!(other.cells(&charm).await.unwrap_err(), Unavailable::Closed);
    assert_eq!(other.settled().await, Err(Unavailable::Closed));
    assert_eq!(other.stopped().await, Unavailable::Closed);
    assert!(
        other.verify(&charm).is_err() && other.verify_store().is_err() && other.dead_letters(&charm, 0, 1).is_err()
    );
    let right = charm_host::Right::Read { owner: charm, cells: charm_host::Names::All };
    assert!(is_not_installed(other.grant(charm, right.clone()).await));
    assert!(is_not_installed(other.revoke(charm, right).await));
    assert!(is_not_installed(other.set_rights(charm, vec![]).await) && is_closed(other.uninstall(&charm).await));
    // What it was can still be told.
    assert_eq!((other.counters().committed, other.charms().len()), (8, 1));
}

/// A turn that does not end in time is left behind: nothing of it remains, its event runs in the next host.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_outlasts_the_deadline_runs_in_the_next_host() {
    let home = Home::default();
    let host = home.open().await;
    let charm = probe(&host, "a").await;
    let hold = Hold::new();
    let first = send(&host, charm, json!([["set", "x", [], 1], hold.step()])).await;
    let second = send(&host, charm, json!([["set", "y", [], 2]])).await;
    until("the turn runs", || hold.count() == 1).await;
    // Nobody is kept waiting by another's longer time.
    let long = tokio::spawn({
        let host = host.clone();
        async move { host.shutdown_within(Duration::from_secs(3_600)).await }
    });
    until("intake is closed", || host.resume(&charm).now_or_never().is_some_and(is_closed)).await;
    host.shutdown_within(Duration::ZERO).await.unwrap();
    long.await.unwrap().unwrap();
    hold.release(2);
    let next = home.open().await;
    assert!(matches!(next.status(&first).unwrap(), Status::Waiting { .. }), "its event waits");
    let same = next.install(probe_charm("a")).await.unwrap();
    assert_eq!(same, charm);
    for id in [first, second] {
        assert_eq!(receipt(&next, &id).await.outcome, Outcome::Committed);
    }
    assert_eq!((cell(&next, charm, "x").await, cell(&next, charm, "y").await), (json!(1), json!(2)));
    next.verify_store().unwrap();
    next.shutdown().await.unwrap();
}

/// Without a time of one's own it is `SHUTDOWN_MS`, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn running_turns_have_a_minute_to_end() {
    let clock = Clock::new();
    let host = builder().env(clock.clone()).open().await.unwrap();
    let charm = probe(&host, "a").await;
    let hold = Hold::new();
    send(&host, charm, json!([hold.step()])).await;
    until("the turn runs", || hold.count() == 1).await;
    let end = tokio::spawn({
        let host = host.clone();
        async move { host.shutdown().await }
    });
    until("intake is closed", || host.resume(&charm).now_or_never().is_some_and(is_closed)).await;
    clock.pass(Duration::from_millis(SHUTDOWN_MS - 1));
    assert!(!end.is_finished());
    clock.pass(Duration::from_millis(1));
    end.await.unwrap().unwrap();
    hold.release(1);
}

/// A turn that ends in time is drained: its commit is durable when the host has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_ends_within_the_deadline_is_committed() {
    let home = Home::default();
    let host = home.open().await;
    let charm = probe(&host, "a").await;
    let hold = Hold::new();
    let id = send(&host, charm, json!([["set", "x", [], 1], hold.step()])).await;
    until("the turn runs", || hold.count() == 1).await;
    let end = tokio::spawn({
        let host = host.clone();
        async move { host.shutdown().await }
    });
    until("intake is closed", || host.resume(&charm).now_or_never().is_some_and(is_closed)).await;
    // While it drains, what is there can be read.
    assert!(host.get::<Value>(&charm, "x", "").await.unwrap().is_none());
    hold.release(1);
    end.await.unwrap().unwrap();
    let next = home.open().await;
    assert!(matches!(next.status(&id).unwrap(), Status::Settled(receipt) if receipt.outcome == Outcome::Committed));
    next.shutdown().await.unwrap();
}

/// While one handle lives the host does; when the last is dropped it stops, and lets go of its store.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_handle_that_is_dropped_stops_the_host() {
    let home = Home::default();
    let host = home.open().await;
    let charm = probe(&host, "a").await;
    let other = host.clone();
    drop(host);
    assert_eq!(run(&other, charm, json!([["set", "x", [], 1]])).await.outcome, Outcome::Committed);
    drop(other);
    let next = home.open().await;
    assert_eq!(next.install(probe_charm("a")).await.unwrap(), charm);
    assert_eq!(next.get::<i64>(&charm, "x", "").await.unwrap(), Some(1));
    next.shutdown().await.unwrap();
}

/// Events and reads are as typed as the embedder wants them.
#[tokio::test(flavor = "multi_thread")]
async fn events_and_reads_take_and_give_types_of_the_embedder() {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Seen {
        from: Did,
        event: EventId,
    }
    let host = builder().open().await.unwrap();
    let charm = probe(&host, "a").await;
    let seen = Seen { from: host.operator(), event: EventId([7; 16]) };
    host.request(NewEvent::new(charm, "note", &seen)).await.unwrap().committed().unwrap();
    let raw: Value = host.get(&charm, "notes", "/0").await.unwrap().unwrap();
    assert_eq!(raw.decode::<Seen>().unwrap(), seen);
    assert_eq!(host.get::<Vec<Seen>>(&charm, "notes", "").await.unwrap().unwrap(), [seen]);
    let from: String = host.get(&charm, "notes", "/0/from").await.unwrap().unwrap();
    assert_eq!(from, host.operator().to_string());
    assert_eq!(host.get::<String>(&charm, "notes", "/1").await.unwrap(), None);
    assert!(matches!(host.get::<i64>(&charm, "notes", "/0/from").await, Err(ReadError::Type { .. })));
    assert!(matches!(host.get::<i64>(&charm, "notes", "0").await, Err(ReadError::Path(_))));
    assert!(matches!(host.get_at::<Value>(&charm, "notes", "x", 1).await, Err(ReadError::Path(_))));
    let refused = host.send(NewEvent::new(charm, "note", &f64::NAN)).await;
    assert!(matches!(refused, Err(SendError::Payload(_))));

    let rejected = host.request(NewEvent::new(charm, "run", script(json!([["reject", "not today"]])))).await.unwrap();
    let error = rejected.clone().committed().unwrap_err();
    assert_eq!(error.receipt, rejected);
    assert_eq!(error.to_string(), format!("event {}: rejected: not today", rejected.id));
    host.shutdown().await.unwrap();
}
