//! Chapter subscriptions: what watchers are told, and when (D6).
#![allow(clippy::unwrap_used, reason = "tests")]

mod ends;
mod events;
mod many;
mod prefixes;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use charm_conformance::{
    GatedStore, Home, Keys, builder, commits, grant, host, json, only, probe, revision, run, send, until,
};
use charm_host::{Change, Did, Host, MemoryStore, Update, Watch, WatchError, Watcher};
use futures_util::FutureExt;
use serde_json::{Value as Json, json};

const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the next thing that a watcher gives.
async fn item(watcher: &mut Watcher) -> Option<Result<Update, WatchError>> {
    tokio::time::timeout(PATIENCE, watcher.next()).await.expect("a watcher is told in time")
}

async fn next(watcher: &mut Watcher) -> Update {
    item(watcher).await.expect("the stream goes on").unwrap()
}

/// Returns how the stream ends, and checks that it has.
async fn end(watcher: &mut Watcher) -> WatchError {
    let end = item(watcher).await.expect("a stream that ends says why").unwrap_err();
    assert_eq!(item(watcher).await, None, "nothing follows");
    end
}

/// Returns the value that an update tells, with its commit and what was skipped.
fn told(update: &Update) -> (Json, u64, u64) {
    let Change::Cell { value, revision, .. } = &update.change else { panic!("{update:?}") };
    (value.as_ref().map_or(Json::Null, json), *revision, update.skipped)
}

async fn next_value(watcher: &mut Watcher) -> (Json, u64, u64) {
    told(&next(watcher).await)
}

/// Sets a cell at a path; returns the commit.
async fn set(host: &Host, charm: Did, cell: &str, path: Json, value: Json) -> u64 {
    run(host, charm, json!([["set", cell, path, value]])).await.commit.unwrap()
}

fn is_quiet(watcher: &mut Watcher) -> bool {
    watcher.next().now_or_never().is_none()
}

/// D6: first what there is, then each value that the cell comes to hold, with the commits that wrote them.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_is_told_what_there_is_and_then_each_change_in_order() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let mut none = host.watch(Watch::cell(&a, "x")).await.unwrap();
    let first = next(&mut none).await;
    assert_eq!((told(&first).0, first.seq), (Json::Null, commits(&host, a)), "nothing is there, and that is told");
    for value in 1..=20 {
        let commit = set(&host, a, "x", json!([]), json!(value)).await;
        assert_eq!(next_value(&mut none).await, (json!(value), commit, 0));
    }
    let removed = run(&host, a, json!([["remove", "x", []]])).await.commit.unwrap();
    let update = next(&mut none).await;
    assert_eq!((told(&update).0, update.seq), (Json::Null, removed));
    let commit = set(&host, a, "x", json!([]), json!("again")).await;
    let mut late = host.watch(Watch::cell(&a, "x")).await.unwrap();
    for watcher in [&mut none, &mut late] {
        assert_eq!(next_value(watcher).await, (json!("again"), commit, 0));
    }
    host.shutdown().await.unwrap();
}

/// T8, D6: nothing is told before the disk has it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_before_it_is_durable() {
    let (store, control) = GatedStore::new(MemoryStore::new());
    let host = builder().store(store).keyring(Keys::default()).open().await.unwrap();
    let a = probe(&host, "a").await;
    let mut watcher = host.watch(Watch::cell(&a, "x")).await.unwrap();
    let mut all = host.watch(Watch::cells(&a, "x")).await.unwrap();
    assert_eq!(next_value(&mut watcher).await.0, Json::Null);
    assert_eq!(next(&mut all).await.change, Change::Listed);
    control.hold();
    let event = tokio::spawn({
        let host = host.clone();
        async move { set(&host, a, "x", json!([]), json!(1)).await }
    });
    until("a commit is held", || control.is_held()).await;
    for _ in 0..50 {
        assert!(is_quiet(&mut watcher) && is_quiet(&mut all), "it is not durable");
        tokio::task::yield_now().await;
    }
    // One that begins now is told what is durable, and that is not there yet.
    let mut late = host.watch(Watch::cell(&a, "x")).await.unwrap();
    assert_eq!(next_value(&mut late).await.0, Json::Null);
    assert!(is_quiet(&mut late));
    control.release();
    let commit = event.await.unwrap();
    for watcher in [&mut watcher, &mut all, &mut late] {
        let update = next(watcher).await;
        assert_eq!((told(&update).0, update.seq), (json!(1), commit));
    }
    host.shutdown().await.unwrap();
}

/// C4, D6: a write that leaves what is at the path as it was is no update, whether it writes the same or writes beside it.
#[tokio::test(flavor = "multi_thread")]
async fn an_equal_value_at_the_path_is_no_update() {
    let host = host().await;
    let a = probe(&host, "a").await;
    set(&host, a, "x", json!([]), json!({"a": {"b": 1}, "c": 1})).await;
    let mut watcher = host.watch(Watch::cell(&a, "x").at("/a/b")).await.unwrap();
    assert_eq!(next_value(&mut watcher).await.0, json!(1));
    set(&host, a, "x", json!(["c"]), json!(2)).await;
    set(&host, a, "x", json!([]), json!({"a": {"b": 1, "d": 1}, "c": 3})).await;
    let commit = set(&host, a, "x", json!(["a", "b"]), json!(2)).await;
    let (value, revision, _) = next_value(&mut watcher).await;
    assert_eq!((value, revision), (json!(2), commit));
    run(&host, a, json!([["remove", "x", ["a"]]])).await;
    assert_eq!(next_value(&mut watcher).await.0, Json::Null);
    // What has another kind than the path asks for is told, and heals.
    set(&host, a, "x", json!([]), json!({"a": "text"})).await;
    let update = next(&mut watcher).await;
    let Change::Unreadable { why, .. } = &update.change else { panic!("{update:?}") };
    assert!(why.contains("string") && !why.contains("text"), "kinds, never a value: {why}");
    set(&host, a, "x", json!([]), json!({"a": {"b": 7}})).await;
    assert_eq!(next_value(&mut watcher).await.0, json!(7));
    host.shutdown().await.unwrap();
}

/// D6: who is slow is told the last state, and how many it has missed.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_skips_states_and_is_told_how_many() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let mut watcher = host.watch(Watch::cell(&a, "x")).await.unwrap();
    next(&mut watcher).await;
    let mut reads = host.watch(Watch::cell(&a, "x")).await.unwrap();
    let mut commit = 0;
    for value in 1..=7 {
        commit = set(&host, a, "x", json!([]), json!(value)).await;
        while next_value(&mut reads).await.0 != value {}
    }
    assert_eq!(next_value(&mut watcher).await, (json!(7), commit, 6), "a slot, not a queue");
    let commit = set(&host, a, "x", json!([]), json!(8)).await;
    assert_eq!(next_value(&mut watcher).await, (json!(8), commit, 0));
    host.shutdown().await.unwrap();
}

/// D6: every state under load is told or counted, in order, and nothing is told twice.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_each_state_is_told_or_counted() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let mut watcher = host.watch(Watch::cell(&a, "count")).await.unwrap();
    next(&mut watcher).await;
    const TURNS: u64 = 300;
    for value in 1..=TURNS {
        send(&host, a, json!([["set", "count", [], value]])).await;
    }
    let (mut last, mut sum) = (0, 0);
    while last < TURNS {
        let (value, _, skipped) = next_value(&mut watcher).await;
        let value = value.as_u64().unwrap();
        assert!(value > last, "in order: {value} after {last}");
        sum += 1 + skipped;
        assert_eq!(sum, value, "each is told or counted");
        last = value;
    }
    host.shutdown().await.unwrap();
}

/// D6: a watcher goes on where another one was: what has not changed since is not told again, also after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_goes_on_where_another_was() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    let first = set(&host, a, "x", json!([]), json!(1)).await;
    let mut watcher = host.watch(Watch::cell(&a, "x")).await.unwrap();
    let seen = next(&mut watcher).await.seq;
    assert_eq!(seen, first);
    set(&host, a, "y", json!([]), json!(1)).await;
    let mut same = host.watch(Watch::cell(&a, "x").from(seen)).await.unwrap();
    let second = set(&host, a, "x", json!([]), json!(2)).await;
    assert_eq!(next_value(&mut same).await, (json!(2), second, 0), "what it had is not told again");
    drop((watcher, same));
    host.shutdown().await.unwrap();
    let host = home.open().await;
    probe(&host, "a").await;
    let mut newer = host.watch(Watch::cell(&a, "x").from(seen)).await.unwrap();
    assert_eq!(next_value(&mut newer).await.0, json!(2), "what was written since is told at once");
    let mut same = host.watch(Watch::cell(&a, "x").from(second)).await.unwrap();
    let last = commits(&host, a);
    assert_eq!(
        host.watch(Watch::cell(&a, "x").from(last + 1)).await.err(),
        Some(WatchError::NoSuchCommit { charm: a, seq: last + 1, last })
    );
    let third = set(&host, a, "x", json!([]), json!(3)).await;
    assert_eq!(next_value(&mut same).await, (json!(3), third, 0));
    assert_eq!(revision(&host, a, "x").await, Some(third));
    host.shutdown().await.unwrap();
}
