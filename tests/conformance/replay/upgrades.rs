//! A turn runs on with the component that began it, whatever is installed meanwhile (S7, U1).

use charm_conformance::{
    Hold, Home, Wire, all_of, cell, commits, grant, of, probe_charm, receipt, steps, until, value, wait_all,
};
use charm_host::{Charm, Component, Did, EventId, Host, NewEvent, Outcome, Receipt, Store};
use serde_json::{Value as Json, json};

use crate::by_hand::{CHARM, described};

/// A component that handles every event of `run` with ok and does nothing, with these cells declared.
fn other(cells: Json) -> Charm {
    Charm::new("a", described(value(json!({ "cells": cells, "streams": {"run": {"shape": "any"}} })).as_bytes()))
}

fn any_x() -> Charm {
    other(json!({"x": {"shape": "any"}}))
}

/// Opens a host with the probe `a`, which may use `b`, a charm that handles everything and is paused.
async fn open(home: &Home) -> (Host, Did, Did) {
    let host = home.builder().await.transport(Wire::open()).open().await.unwrap();
    let b = host.install(Charm::new("b", charm_conformance::assembled(CHARM))).await.unwrap();
    let a = host.install(probe_charm("a")).await.unwrap();
    grant(&host, a, all_of(&[b]), all_of(&[b])).await.unwrap();
    host.pause(&b).await.unwrap();
    (host, a, b)
}

/// Begins a turn of `a` that waits for `b` and then does `rest`.
async fn begin(host: &Host, a: Did, b: Did, rest: &[Json]) -> EventId {
    let made = commits(host, a);
    let mut event = vec![json!(["set", "x", [], {"n": 1}]), json!(["send", of(b, "run"), 1]), wait_all(&[0])];
    event.extend_from_slice(rest);
    let id = host.send(NewEvent::new(a, "run", value(steps(json!(event))))).await.unwrap();
    until("it waits", || commits(host, a) == made + 2).await;
    id
}

fn probe_hash() -> [u8; 32] {
    Component::from(charm_conformance::component("probe")).sha256()
}

fn has_probe(home: &Home) -> bool {
    home.read_only().load(None).unwrap().components.contains(&probe_hash())
}

async fn end(host: &Host, b: &Did, id: &EventId) -> Receipt {
    host.resume(b).await.unwrap();
    let receipt = receipt(host, id).await;
    host.verify_store().unwrap();
    receipt
}

/// Upgraded, restarted in between, uninstalled and put back: the turn goes on with the code that began it, the next event runs the
/// new one, and the bytes of the old one are kept just as long as a turn needs them.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_goes_on_with_the_component_that_began_it() {
    for how in ["upgraded", "restarted", "uninstalled"] {
        let home = Home::default();
        let (mut host, a, b) = open(&home).await;
        let ids = [begin(&host, a, b, &[json!(["set", "x", [], "first"])]).await, begin(&host, a, b, &[]).await];
        if how == "uninstalled" {
            host.uninstall(&a).await.unwrap();
            host.resume(&b).await.unwrap();
            until("b has handled both", || commits(&host, b) > 4 && host.counters().waiting == 2).await;
            host.verify_store().unwrap();
        }
        host.install(any_x()).await.unwrap();
        if how == "restarted" {
            host.verify_store().unwrap();
            host.shutdown().await.unwrap();
            host = home.builder().await.open().await.unwrap();
            host.install(Charm::new("b", charm_conformance::assembled(CHARM))).await.unwrap();
            host.install(any_x()).await.unwrap();
        }
        let next = host.send(NewEvent::new(a, "run", value(steps(json!([["set", "x", [], "next"]]))))).await.unwrap();
        assert_eq!(receipt(&host, &next).await.outcome, Outcome::Committed, "{how}");
        if how != "uninstalled" {
            assert_eq!(cell(&host, a, "x").await, json!({"n": 1}), "{how}: the new component does nothing");
            assert!(has_probe(&home), "{how}");
        }
        for id in ids {
            assert_eq!(end(&host, &b, &id).await.outcome, Outcome::Committed, "{how}");
        }
        assert_eq!(cell(&host, a, "x").await, "first", "{how}: the old one goes on");
        host.shutdown().await.unwrap();
        assert!(!has_probe(&home), "{how}: nothing needs it any more");
    }
}

/// What cannot be had any more is said by name, and what was committed stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_component_is_gone_is_faulted_by_name() {
    for (change, why) in [
        ("DELETE FROM component WHERE hash = ?1", "is not in the store any more"),
        ("UPDATE component SET bytes = x'00' WHERE hash = ?1", "cannot be loaded: "),
    ] {
        let home = Home::default();
        let (host, a, b) = open(&home).await;
        let id = begin(&host, a, b, &[json!(["set", "x", [], "never"])]).await;
        host.install(any_x()).await.unwrap();
        host.shutdown().await.unwrap();
        let index = rusqlite::Connection::open(home.index()).unwrap();
        assert_eq!(index.execute(change, [probe_hash()]).unwrap(), 1);
        drop(index);
        let host = home.builder().await.open().await.unwrap();
        host.install(Charm::new("b", charm_conformance::assembled(CHARM))).await.unwrap();
        host.install(any_x()).await.unwrap();
        host.resume(&b).await.unwrap();
        let Receipt { outcome, message, .. } = receipt(&host, &id).await;
        let hash: String = probe_hash().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = format!("component: {hash} began this turn and {why}");
        let message = message.unwrap();
        assert_eq!((outcome, message.starts_with(&expected)), (Outcome::Faulted, true), "{message}");
        assert_eq!(cell(&host, a, "x").await, json!({"n": 1}));
        host.shutdown().await.unwrap();
    }
}

/// What it writes and sends has to fit what is installed now.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_component_writes_fits_the_new_one() {
    let set = |name: &str, value: Json| json!(["set", name, [], value]);
    let answered = |b: Did| json!(["send", of(b, "run"), 1, {"stream": "on-receipt", "tag": 1}]);
    let shaped = json!({"x": {"shape": "{n: int}"}});
    for (cells, rest, outcome, why) in [
        (shaped.clone(), Some(set("x", json!({"n": 2}))), Outcome::Committed, ""),
        (shaped.clone(), Some(set("x", json!("two"))), Outcome::Faulted, "cell x does not fit its declared shape"),
        (json!({}), Some(set("x", json!(2))), Outcome::Faulted, "cell x is not declared by the component that is"),
        (json!({}), Some(set("its own", json!(2))), Outcome::Committed, ""),
        (json!({}), Some(json!(["remove", "x", []])), Outcome::Committed, ""),
        (shaped, None, Outcome::Rejected, "no-such-stream"),
    ] {
        let home = Home::default();
        let (host, a, b) = open(&home).await;
        let id = begin(&host, a, b, &[rest.unwrap_or_else(|| answered(b))]).await;
        host.install(other(cells)).await.unwrap();
        let receipt = end(&host, &b, &id).await;
        assert_eq!(receipt.outcome, outcome, "{why}: {receipt:?}");
        assert!(receipt.message.unwrap_or_default().contains(why), "{why}");
        host.shutdown().await.unwrap();
    }
}

/// What is installed while it runs counts too: it runs again, and is looked at with the shapes that hold then.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_comes_while_an_old_one_runs_is_heeded() {
    let (home, hold) = (Home::default(), Hold::new());
    let (host, a, b) = open(&home).await;
    let id = begin(&host, a, b, &[json!(["set", "x", [], "a text"]), hold.step()]).await;
    host.install(any_x()).await.unwrap();
    host.resume(&b).await.unwrap();
    hold.arrived(1).await;
    host.install(other(json!({"x": {"shape": "{n: int}"}}))).await.unwrap();
    hold.release(2);
    let receipt = end(&host, &b, &id).await;
    assert_eq!(receipt.outcome, Outcome::Faulted);
    assert!(receipt.message.unwrap().starts_with("cell x does not fit its declared shape"));
    assert_eq!(hold.count(), 2, "it ran twice");
    host.shutdown().await.unwrap();
}
