//! Derived cells that are watched (D6): computed when something below them was written, once for all who watch.

use std::time::Duration;

use charm_conformance::{GatedStore, Keys, builder, grant, host, json as shown, of, results, until};
use charm_host::{Change, MemoryStore, Names, OUTSIDE_RUNS_OF_ONE, Watch, WatchError, Watcher};
use futures_util::{FutureExt, future::join_all};
use serde_json::{Value as Json, json};

use super::{derive, derivers, get, runs, set};

async fn next(watcher: &mut Watcher) -> Result<Change, WatchError> {
    let next = tokio::time::timeout(Duration::from_secs(30), watcher.next()).await;
    next.expect("a watcher is told in time").expect("the stream goes on").map(|update| update.change)
}

async fn value(watcher: &mut Watcher) -> Json {
    match next(watcher).await.unwrap() {
        Change::Cell { value, .. } => value.as_ref().map_or(Json::Null, shown),
        Change::Unreadable { why, .. } => json!({ "why": why }),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_a_derived_cell_is_told_each_value_that_it_comes_to() {
    let host = host().await;
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, a, [("d0", json!(["if", get("pick"), get("x"), get("y")]))]).await;
    let broken = json!(["if", get(of(a, "z")), ["reject", "broken"], ["sum", get(of(a, "d0")), ["value", 100]]]);
    derive(&host, b, [("d0", broken)]).await;
    let mut watcher = host.watch(Watch::cell(&b, "d0")).await.unwrap();
    assert_eq!(value(&mut watcher).await, 100);
    set(&host, a, "y", json!(1)).await;
    assert_eq!(value(&mut watcher).await, 101);
    // No part of what it hangs on now, and then it is.
    set(&host, a, "x", json!(5)).await;
    set(&host, a, "pick", json!(true)).await;
    assert_eq!(value(&mut watcher).await, 105);
    set(&host, a, "y", json!(2)).await;
    set(&host, a, "x", json!(6)).await;
    assert_eq!(value(&mut watcher).await, 106);
    set(&host, a, "z", json!(1)).await;
    assert!(value(&mut watcher).await["why"].as_str().unwrap().contains("broken"));
    set(&host, a, "z", json!(0)).await;
    assert_eq!(value(&mut watcher).await, 106);
    // An equal value is no update.
    set(&host, a, "y", json!(3)).await;
    set(&host, a, "x", json!(6)).await;
    set(&host, a, "x", json!(7)).await;
    assert_eq!(value(&mut watcher).await, 107);
}

/// A5: what nobody watches any more is not computed: who comes after those who have gone does not wait for them.
#[tokio::test]
async fn nothing_is_computed_for_watchers_who_have_gone() {
    let host = host().await;
    let [charm] = derivers(&host, ["charm"]).await;
    let names: Vec<String> = (0..40).map(|number| format!("d{number}")).collect();
    let formulas: Vec<Json> = names.iter().map(|name| json!(["set", format!("of-{name}"), [], ["spin"]])).collect();
    charm_conformance::run(&host, charm, json!(formulas)).await;
    derive(&host, charm, [("d50", json!(["value", 7]))]).await;
    let (first, others) = names.split_at(OUTSIDE_RUNS_OF_ONE);
    let mut dear: Vec<_> = first.iter().map(|name| Box::pin(host.get::<i64>(&charm, name, ""))).collect();
    dear.iter_mut().for_each(|dear| assert!(dear.as_mut().now_or_never().is_none()));
    for name in others {
        let watcher = host.watch(Watch::cell(&charm, name)).await.unwrap();
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        drop(watcher);
    }
    assert_eq!(host.get::<i64>(&charm, "d50", "").await.unwrap(), Some(7));
    assert!(join_all(dear).await.iter().all(Result::is_err), "they spin until they are stopped");
    assert!(runs(&host) <= 2 * OUTSIDE_RUNS_OF_ONE as u64 + 1, "{} ran", runs(&host));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watchers_cost_one_computation() {
    let host = host().await;
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, a, [("d0", json!(["sum", get("x"), ["value", 1]]))]).await;
    let mut watchers = Vec::new();
    for _ in 0..1_000 {
        watchers.push(host.watch(Watch::cell(&a, "d0")).await.unwrap());
    }
    for watcher in &mut watchers {
        assert_eq!(value(watcher).await, 1);
    }
    assert_eq!(runs(&host), 1);
    for round in 1..5 {
        set(&host, a, "x", json!(round)).await;
        for watcher in &mut watchers {
            assert_eq!(value(watcher).await, round + 1);
        }
        assert_eq!(runs(&host), 1 + round as u64);
    }
    // What is not below it computes nothing.
    set(&host, a, "y", json!(1)).await;
    set(&host, b, "x", json!(1)).await;
    results(&host, b, json!([get(of(a, "d0"))])).await;
    assert_eq!(runs(&host), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_ends_it_and_one_of_the_derivation_is_told() {
    let host = host().await;
    let [a, b, c] = derivers(&host, ["a", "b", "c"]).await;
    derive(&host, b, [("d0", json!(["try", get(of(a, "x"))]))]).await;
    set(&host, a, "x", json!(1)).await;
    let mut watcher = host.watch_as(&c, Watch::cell(&b, "d0")).await.unwrap();
    assert_eq!(value(&mut watcher).await, json!({"ok": 1}));
    grant(&host, b, [].into(), [].into()).await.unwrap();
    assert_eq!(value(&mut watcher).await["error"]["kind"], "denied");
    grant(&host, b, [(a, Names::only(["x"]))].into(), [].into()).await.unwrap();
    assert_eq!(value(&mut watcher).await, json!({"ok": 1}));
    grant(&host, c, [].into(), [].into()).await.unwrap();
    assert!(matches!(next(&mut watcher).await, Err(WatchError::Denied { .. })));
}

/// D7: who is there may be all that a derived cell hangs on.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_a_derived_wish_is_told_who_comes_and_goes() {
    let host = host().await;
    let [a] = derivers(&host, ["a"]).await;
    derive(&host, a, [("d0", json!(["wish", "#probe", {"cells": [["x", "any"]]}]))]).await;
    let mut watcher = host.watch(Watch::cell(&a, "d0")).await.unwrap();
    assert_eq!(value(&mut watcher).await, json!([]));
    let probe = charm_conformance::probe(&host, "probe").await;
    grant(&host, a, [(probe, Names::only(["x"]))].into(), [].into()).await.unwrap();
    assert_eq!(value(&mut watcher).await, json!([probe.to_string()]));
    host.uninstall(&probe).await.unwrap();
    assert_eq!(value(&mut watcher).await, json!([]));
}

/// T8: no value and no failure is told before what it hangs on is durable.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_before_what_it_hangs_on_is_durable() {
    let (store, control) = GatedStore::new(MemoryStore::new());
    let host = builder().store(store).keyring(Keys::default()).open().await.unwrap();
    let [a] = derivers(&host, ["a"]).await;
    derive(&host, a, [("d0", json!(["if", get("x"), ["reject", "no luck"], ["value", 1]]))]).await;
    let mut watcher = host.watch(Watch::cell(&a, "d0")).await.unwrap();
    assert_eq!(value(&mut watcher).await, 1);
    control.hold();
    let event = tokio::spawn({
        let host = host.clone();
        async move { set(&host, a, "x", json!(1)).await }
    });
    until("a commit is held", || control.is_held()).await;
    let mut asked = Box::pin(host.get::<i64>(&a, "d0", ""));
    for _ in 0..50 {
        assert!(asked.as_mut().now_or_never().is_none(), "told before it is durable");
        assert!(watcher.next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    until("it is computed all the same", || runs(&host) == 2).await;
    assert!(asked.as_mut().now_or_never().is_none(), "told before it is durable");
    control.release();
    event.await.unwrap();
    assert!(asked.await.unwrap_err().to_string().contains("no luck"));
    assert!(value(&mut watcher).await["why"].is_string());
}
