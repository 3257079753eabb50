//! Families: shapes, rights, names, members that do not fit.

use std::collections::BTreeMap;

use charm_conformance::{
    Hold, all_of, component, grant, host, of, only, pair, patched, probe_charm, receipt, run, steps, value,
};
use charm_host::{Charm, InstallError, Names, NewEvent, Outcome, Right};
use serde_json::{Value as Json, json};

use crate::{described, fill, one, refused};

/// (C8, C2)
#[tokio::test(flavor = "multi_thread")]
async fn the_shape_of_a_family_holds_for_each_member() {
    let host = host().await;
    let (a, _) = pair(&host).await;
    let fits = run(
        &host,
        a,
        json!([["set", "sized:1", [], {"n": 1}], ["set", "sized:1", ["m"], "more"], ["set", "sized", [], "a cell"]]),
    )
    .await;
    assert_eq!(fits.outcome, Outcome::Committed, "{fits:?}");
    for step in [
        json!(["set", "sized:2", [], "none"]),
        json!(["set", "sized:1", ["n"], "text"]),
        json!(["remove", "sized:1", ["n"]]),
    ] {
        let misfit = run(&host, a, json!([["set", "x", [], 1], step])).await;
        assert_eq!(misfit.outcome, Outcome::Faulted, "{step}");
        let message = misfit.message.unwrap();
        assert!(message.contains("does not fit its declared shape") && message.contains("cell sized:"), "{message}");
    }
    assert_eq!(
        one(&host, a, json!(["entries", null, "sized:", 9])).await["entries"],
        json!([["sized:1", {"n": 1, "m": "more"}]])
    );
    host.shutdown().await.unwrap();
}

/// (C8, A2)
#[tokio::test(flavor = "multi_thread")]
async fn a_family_is_granted_as_a_whole_and_listed_with_its_grant_only() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    fill(&host, b, &["items:1", "items:2", "drawer:1", "free:1"]).await;
    let list = |prefix: &str| json!(["names", b.to_string(), prefix, 10]);
    let denied = async |step: Json| assert_eq!(refused(&host, a, step.clone()).await["kind"], "denied", "{step}");
    denied(list("items:")).await;
    denied(json!(["get", of(b, "items:1"), []])).await;
    let read = |names: Names| BTreeMap::from([(b, names)]);
    grant(&host, a, read(only(&["items:"])), BTreeMap::new()).await.unwrap();
    assert_eq!(one(&host, a, list("items:")).await["names"], json!(["items:1", "items:2"]));
    assert_eq!(one(&host, a, list("items:2")).await["names"], json!(["items:2"]));
    assert_eq!(one(&host, a, json!(["get", of(b, "items:2"), []])).await, json!(1));
    let entries = one(&host, a, json!(["entries", b.to_string(), "items:", 10])).await;
    assert_eq!(entries["entries"], json!([["items:1", 0], ["items:2", 1]]));
    for prefix in ["", "i", "items", "item:", "drawer:", "free:", "sized:", "itemsx:", "Items:", ":"] {
        denied(list(prefix)).await;
    }
    // A span that begins elsewhere is still of the family.
    let elsewhere = json!(["names", b.to_string(), "items:", 10, "a", "zzzz"]);
    assert_eq!(one(&host, a, elsewhere).await["names"], json!(["items:1", "items:2"]));
    denied(json!(["get", of(b, "items"), []])).await;
    grant(&host, a, read(Names::All), BTreeMap::new()).await.unwrap();
    assert_eq!(one(&host, a, list("items:")).await["names"], json!(["items:1", "items:2"]));
    assert_eq!(one(&host, a, list("sized:")).await["names"], json!([]));
    for prefix in ["", "drawer:", "free:", "items"] {
        denied(list(prefix)).await;
    }
    denied(json!(["get", of(b, "drawer:1"), []])).await;
    assert_eq!(
        one(&host, b, json!(["names", null, "drawer:", 10])).await["names"],
        json!(["drawer:1"]),
        "its own it lists all"
    );
    host.shutdown().await.unwrap();
}

/// (A2)
#[tokio::test(flavor = "multi_thread")]
async fn what_no_family_is_cannot_be_granted_as_one() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let refusal = async |name: &str| {
        let right = Right::Read { owner: b, cells: only(&[name]) };
        host.grant(a, right).await.unwrap_err().to_string()
    };
    let private = refusal("drawer:").await;
    assert!(private.contains("is private: nobody can be granted it"), "{private}");
    for name in ["drawer", "drawer:1"] {
        let private = refusal(name).await;
        assert!(private.contains("is of a family that is private: nobody can be granted it"), "{private}");
    }
    for name in ["items", "items:1", "items::"] {
        let member = refusal(name).await;
        assert!(member.contains("is of a family, which is granted as a whole: items:"), "{member}");
    }
    let near = refusal("item").await;
    assert!(near.contains("is not declared") && near.contains("did you mean items:?"), "{near}");
    for name in ["free:1", "free:", ":", "x:"] {
        assert!(refusal(name).await.contains("is not declared"), "{name}");
    }
    host.grant(a, Right::Read { owner: b, cells: only(&["items:"]) }).await.unwrap();
    host.shutdown().await.unwrap();
}

/// (A2) A grant by name covers what it named, whatever the author makes of the name later; one of all covers what is public now.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_widens_no_grant_that_names_what_it_covers() {
    let host = host().await;
    let (a, _) = pair(&host).await;
    let (public, private) = (|| json!({"shape": "any"}), || json!({"shape": "any", "private": true}));
    let upgrade = async |families: Json, cells: Json| {
        host.install(Charm::new("changing", described(families, cells))).await.unwrap()
    };
    let charm = upgrade(json!({}), json!({"f": public(), "g": private()})).await;
    let allows = async |cells: [bool; 4], listings: [bool; 2]| {
        for (cell, allowed) in ["f", "f:1", "g", "g:1"].into_iter().zip(cells) {
            let told = run(&host, a, json!([["get", of(charm, cell), []]])).await;
            assert_eq!(told.outcome == Outcome::Committed, allowed, "{cell}: {told:?}");
        }
        for (family, allowed) in ["f:", "g:"].into_iter().zip(listings) {
            let told = run(&host, a, json!([["names", charm.to_string(), family, 10]])).await;
            assert_eq!(told.outcome == Outcome::Committed, allowed, "{family}: {told:?}");
        }
    };
    let right = |names: Names| Right::Read { owner: charm, cells: names };
    host.grant(a, right(only(&["f"]))).await.unwrap();
    allows([true, false, false, false], [false, false]).await;
    upgrade(json!({"f": public(), "g": public()}), json!({})).await;
    allows([false; 4], [false; 2]).await;
    host.grant(a, right(only(&["f:"]))).await.unwrap();
    allows([false, true, false, false], [true, false]).await;
    upgrade(json!({"g": public()}), json!({"f": public()})).await;
    allows([true, false, false, false], [false, false]).await;
    host.revoke(a, right(only(&["f"]))).await.unwrap();
    allows([false; 4], [false; 2]).await;
    upgrade(json!({"f": private()}), json!({"g": public()})).await;
    allows([false; 4], [false; 2]).await;
    host.grant(a, right(Names::All)).await.unwrap();
    allows([false, false, true, false], [false, false]).await;
    upgrade(json!({"f": public()}), json!({"g": private()})).await;
    allows([false, true, false, false], [true, false]).await;
    host.shutdown().await.unwrap();
}

/// (A2, T4) The right to list is a part of what was read.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_whose_right_is_taken_back_before_the_commit_is_denied() {
    let (hold, host) = (Hold::new(), host().await);
    let (a, b) = pair(&host).await;
    grant(&host, a, all_of(&[b]), BTreeMap::new()).await.unwrap();
    let script = json!([["names", b.to_string(), "items:", 10], hold.step()]);
    let id = host.send(NewEvent::new(a, "run", value(steps(script)))).await.unwrap();
    hold.arrived(1).await;
    grant(&host, a, BTreeMap::new(), BTreeMap::new()).await.unwrap();
    hold.release(1_000);
    let told = receipt(&host, &id).await;
    assert_eq!(told.outcome, Outcome::Rejected, "{told:?}");
    assert!(told.message.unwrap().contains("denied"));
    host.shutdown().await.unwrap();
}

/// (C8, U1) Old members stay as they are; what is wrong with one is its own matter.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_fit_any_more_blocks_nobody_but_itself() {
    let host = host().await;
    let (a, _) = pair(&host).await;
    // Its component of before declares no family `sized`: what is there fits no shape.
    let charm = host.install(Charm::new("changing", patched(component("probe"), "sized", "siz3d"))).await.unwrap();
    assert_eq!(run(&host, charm, json!([["set", "sized:old", [], "text"]])).await.outcome, Outcome::Committed);
    assert_eq!(host.install(probe_charm("changing")).await.unwrap(), charm);
    assert_eq!(run(&host, charm, json!([["set", "sized:new", [], {"n": 1}]])).await.outcome, Outcome::Committed);
    let narrow = json!([["sized:new", {"n": 1}], ["sized:old", "text"]]);
    assert_eq!(one(&host, charm, json!(["entries", null, "sized:", 10])).await["entries"], narrow);
    grant(&host, a, all_of(&[charm]), BTreeMap::new()).await.unwrap();
    let listed = one(&host, a, json!(["entries", charm.to_string(), "sized:", 10])).await;
    assert_eq!(listed["entries"], narrow, "others see it as it is");
    let beside = run(&host, charm, json!([["set", "sized:new", ["n"], 2], ["set", "sized:third", [], {"n": 3}]])).await;
    assert_eq!(beside.outcome, Outcome::Committed);
    let itself = run(&host, charm, json!([["set", "sized:old", [], "other text"]])).await;
    assert_eq!(itself.outcome, Outcome::Faulted);
    assert_eq!(run(&host, charm, json!([["set", "sized:old", [], {"n": 0}]])).await.outcome, Outcome::Committed);
    host.shutdown().await.unwrap();
}

/// (C1)
#[tokio::test(flavor = "multi_thread")]
async fn names_keep_families_members_and_paths_apart() {
    let host = host().await;
    let (a, _) = pair(&host).await;
    for step in [json!(["set", "a/b", [], 1]), json!(["get", "items:a/b", []]), json!(["send", "a/b", 1])] {
        let error = refused(&host, a, step).await;
        assert_eq!(error, json!({"kind": "invalid", "why": "name holds /, which begins a path"}));
    }
    let any = || json!({"shape": "any"});
    let install = async |families: Json, cells: Json| host.install(Charm::new("odd", described(families, cells))).await;
    let wrong = [
        (json!({}), json!({"a:b": any()}), "cell a:b: its name holds :"),
        (json!({"a:b": any()}), json!({}), "family a:b: its name holds :"),
        (json!({"a/b": any()}), json!({}), "family: name holds /"),
        (json!({}), json!({"a/b": any()}), "cell: name holds /"),
        (json!({"a": any()}), json!({"a": any()}), "family a: a cell has that name too"),
        (json!({"a": {}}), json!({}), "family a: shape: no text"),
        (json!([]), json!({}), "families is no map"),
    ];
    for (families, cells, why) in wrong {
        let error = install(families, cells).await.unwrap_err();
        assert!(matches!(error, InstallError::Describe { .. }) && error.to_string().contains(why), "{error}");
    }
    install(json!({"a": any(), "b": {"shape": "int", "private": true, "later": 1}}), json!({"c": any()}))
        .await
        .unwrap();
    host.shutdown().await.unwrap();
}

/// (D7) A name that ends in `:` asks for a family.
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_can_ask_for_a_family() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let found = async |wanted: Json| one(&host, a, json!(["wish", "#probe", {"cells": [wanted]}])).await;
    let (only_a, both) = (json!([a.to_string()]), {
        let mut both = [a, b];
        both.sort();
        json!(both.map(|did| did.to_string()))
    });
    assert_eq!(found(json!(["sized:", "{n: int}"])).await, only_a, "not granted");
    grant(&host, a, all_of(&[b]), BTreeMap::new()).await.unwrap();
    assert_eq!(found(json!(["sized:", "{n: int}"])).await, both);
    assert_eq!(found(json!(["sized:", "{n: string}"])).await, json!([]), "another shape");
    assert_eq!(found(json!(["sized", "{n: int}"])).await, json!([]), "that is no cell");
    assert_eq!(found(json!(["drawer:", "any"])).await, only_a, "private");
    host.shutdown().await.unwrap();
}
