//! Chapter wishes: how a charm finds others (D7).
#![allow(clippy::unwrap_used, reason = "tests")]

mod by_hand;

use std::collections::BTreeMap;

use charm_conformance::{
    Home, builder, component, grant, host, of, only, probe, probes, results, run, send, settle, value,
};
use charm_host::{
    Charm, Did, Host, InstallError, Limits, Manifest, ManifestError, Outcome, Right, SHAPE_BYTES_MAX, WISH_PAGE_MAX,
    WISH_STEPS_MAX, WishMiss,
};
use serde_json::{Value as Json, json};

fn dids(dids: &[Did]) -> Json {
    let mut texts: Vec<_> = dids.to_vec();
    texts.sort();
    texts.iter().map(Did::to_string).collect()
}

/// (D7)
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_finds_none_one_or_many_in_the_order_of_their_dids() {
    let host = host().await;
    let a = probe(&host, "alone").await;
    let wish = |tag: &str| json!([["wish", tag, {"cells": ["shared"], "streams": ["note"]}]]);
    assert_eq!(results(&host, a, wish("#nothing")).await[0], json!([]));
    assert_eq!(results(&host, a, wish("#probe")).await[0], dids(&[a]), "a charm sees itself");
    let [b, c, d, e] = probes(&host, ["b", "c", "d", "e"]).await;
    for _ in 0..3 {
        assert_eq!(results(&host, b, wish("#probe")).await[0], dids(&[b, c, d, e]));
    }
    host.shutdown().await.unwrap();
}

/// (D7)
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_shows_only_what_the_operator_granted() {
    let host = host().await;
    let [a, b, c] = [probe(&host, "a").await, probe(&host, "b").await, probe(&host, "c").await];
    let found = async |wanted: Json| results(&host, a, json!([["wish", "#probe", wanted]])).await[0].clone();
    let (cell, stream) = (json!({"cells": ["shared"]}), json!({"streams": ["note"]}));
    let both = json!({"cells": ["shared"], "streams": ["note"]});
    assert_eq!(found(both.clone()).await, dids(&[a]));
    let read = BTreeMap::from([(b, only(&["shared"])), (c, only(&["notes"]))]);
    grant(&host, a, read, BTreeMap::from([(c, only(&["note"]))])).await.unwrap();
    assert_eq!(found(cell).await, dids(&[a, b]));
    assert_eq!(found(stream).await, dids(&[a, c]));
    assert_eq!(found(both).await, dids(&[a]), "no other may be used for both");
    assert_eq!(found(json!({})).await, dids(&[a, b, c]), "with nothing wanted: those of whom anything may be used");
    host.shutdown().await.unwrap();
}

/// An offered cell must hold nothing that the asker does not expect; a stream must take all that he may send. (D7)
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_another_shape_finds_nobody() {
    let host = host().await;
    let [a, b] = probes(&host, ["a", "b"]).await;
    let found = async |wanted: Json| results(&host, a, json!([["wish", "#probe", wanted]])).await[0].clone();
    let (all, none) = (dids(&[a, b]), json!([]));
    // The probe offers the cell `shaped` and the stream `shaped`, both {n: int}.
    assert_eq!(found(json!({"cells": [["shaped", "{n: int}"]]})).await, all);
    assert_eq!(found(json!({"cells": [["shaped", "{n: int | string}"]]})).await, all);
    assert_eq!(found(json!({"cells": [["shaped", "{n: string}"]]})).await, none);
    assert_eq!(found(json!({"cells": [["shaped", "{n: int, m: int}"]]})).await, none);
    assert_eq!(found(json!({"streams": [["shaped", "{n: int}"]]})).await, all);
    assert_eq!(found(json!({"streams": [["shaped", "{n: int | string}"]]})).await, none);
    assert_eq!(found(json!({"cells": ["private"]})).await, none, "what is not published is not found");
    host.shutdown().await.unwrap();
}

/// (D7)
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_taken_back_makes_what_was_found_denied() {
    let host = host().await;
    let [a, b] = [probe(&host, "a").await, probe(&host, "b").await];
    run(&host, b, json!([["set", "shared", [], "secret"]])).await;
    let use_it = json!([["try", ["get", of(b, "shared"), []]], ["wish", "#probe", {"cells": ["shared"]}]]);
    grant(&host, a, BTreeMap::from([(b, only(&["shared"]))]), BTreeMap::new()).await.unwrap();
    let seen = results(&host, a, use_it.clone()).await;
    assert_eq!((&seen[0]["ok"], &seen[1]), (&json!("secret"), &dids(&[a, b])));
    grant(&host, a, BTreeMap::new(), BTreeMap::new()).await.unwrap();
    let seen = results(&host, a, use_it).await;
    let denied = json!({"kind": "denied", "owner": b.to_string(), "name": "shared"});
    assert_eq!((&seen[0]["error"], &seen[1]), (&denied, &dids(&[a])));
    host.shutdown().await.unwrap();
}

/// Holding a handle gives no right. (D7, T2)
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_found_by_a_wish_is_read_but_not_written() {
    let host = host().await;
    let mut both = [probe(&host, "a").await, probe(&host, "b").await];
    both.sort();
    // The asker finds itself too: let the other one come first.
    let [b, a] = both;
    run(&host, b, json!([["set", "shared", [], "theirs"]])).await;
    grant(&host, a, BTreeMap::from([(b, only(&["shared"]))]), BTreeMap::new()).await.unwrap();
    let steps = json!([["wish-get", "#probe", "shared", "any"], ["try", ["wish-set", "#probe", "shared", "any", 1]]]);
    let seen = results(&host, a, steps).await;
    assert_eq!(seen[0], "theirs");
    let refused = json!({"kind": "write-isolation", "requested": b.to_string(), "open": a.to_string()});
    assert_eq!(seen[1]["error"], refused);
    host.shutdown().await.unwrap();
}

/// A page holds what is asked for, and as many as a turn may hold handles to: no answer is a fault. (D7, A5)
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_comes_in_pages_that_fit_the_handles() {
    let host = builder().limits(Limits { handles_max: 10, turns_max: 4, ..Limits::default() }).open().await.unwrap();
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut all = probes(&host, names).await;
    all.sort();
    let a = host.did_of("a").unwrap();
    let text = |dids: &[Did]| dids.iter().map(Did::to_string).collect::<Vec<_>>();
    let cursor = |did: Did| json!(did.to_string());
    let page = async |wanted: Json, limit: u32, cursor: Json| {
        let wish = json!(["try", ["wish-page", "#probe", wanted, limit, cursor]]);
        results(&host, a, json!([wish])).await[0].clone()
    };
    let one = || json!({ "cells": ["shared"] });
    let first = page(one(), 3, Json::Null).await;
    assert_eq!(first["ok"], json!({ "found": text(&all[..3]), "next": cursor(all[2]) }));
    let second = page(one(), 3, cursor(all[2])).await;
    assert_eq!(second["ok"], json!({ "found": text(&all[3..6]), "next": cursor(all[5]) }));
    let last = page(one(), 3, cursor(all[5])).await;
    assert_eq!(last["ok"], json!({ "found": text(&all[6..]), "next": null }));
    // Three handles each: three charms fit into ten.
    let three = || json!({ "cells": ["shared", "shaped"], "streams": ["note"] });
    let short = page(three(), 100, Json::Null).await;
    assert_eq!(short["ok"], json!({ "found": text(&all[..3]), "next": cursor(all[2]) }));
    // What did not fit holds no handle: the turn goes on with what it has left.
    let steps = json!([["wish-page", "#probe", three(), 100], ["handles", 10]]);
    assert_eq!(run(&host, a, steps).await.outcome, Outcome::Committed);
    let host = builder().limits(Limits { handles_max: 2, turns_max: 4, ..Limits::default() }).open().await.unwrap();
    let alone = probe(&host, "alone").await;
    let none = results(&host, alone, json!([["try", ["wish-page", "#probe", three(), 1]]])).await;
    assert_eq!(none[0]["error"], json!({ "kind": "limit", "name": "handles-max", "max": 2 }));
    for (limit, cursor) in [(0, Json::Null), (1, json!("a")), (1, json!(""))] {
        let refused = results(&host, alone, json!([["try", ["wish-page", "#probe", {}, limit, cursor]]])).await;
        assert_eq!(refused[0]["error"]["kind"], "invalid", "{limit} {cursor}: {refused}");
    }
}

/// A page holds no more than the host keeps in memory for it. (A5)
#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_at_most_wish_page_max_charms() {
    let host = builder().open().await.unwrap();
    let small =
        by_hand::described(value(json!({ "tags": ["#small"], "streams": { "run": { "shape": "any" } } })).as_bytes());
    let mut all = BTreeMap::new();
    for n in 0..WISH_PAGE_MAX + 1 {
        all.insert(host.install(Charm::new(format!("n{n}"), small.clone())).await.unwrap(), only(&["run"]));
    }
    let a = probe(&host, "a").await;
    grant(&host, a, BTreeMap::new(), all).await.unwrap();
    let seen = results(&host, a, json!([["wish-page", "#small", {}, 1_000_000]])).await;
    assert_eq!(seen[0]["found"].as_array().unwrap().len(), WISH_PAGE_MAX);
    assert!(seen[0]["next"].is_string());
}

/// A charm whose shape takes long to compare is not found, and hides no other. (D7, A5)
#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_shape_hides_nobody() {
    let host = host().await;
    // So many alternatives on both sides that comparing them takes more than a charm's part of the steps.
    let words = |count: usize| (0..count).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join("|");
    let shape = words(500);
    assert!(500 * 500 / 2 > WISH_STEPS_MAX && shape.len() < SHAPE_BYTES_MAX);
    let charm = |shape: &str| {
        let cells = json!({ "c": { "shape": shape } });
        by_hand::described(value(json!({ "tags": ["#greedy"], "cells": cells })).as_bytes())
    };
    let mut greedy = Vec::new();
    for n in 0..20 {
        greedy.push(host.install(Charm::new(format!("greedy-{n}"), charm(&shape))).await.unwrap());
    }
    let modest = host.install(Charm::new("modest", charm("\"0\""))).await.unwrap();
    let a = probe(&host, "a").await;
    let all = greedy.iter().chain([&modest]).map(|did| (*did, only(&["c"]))).collect();
    grant(&host, a, all, BTreeMap::new()).await.unwrap();
    let (mut found, mut cursor) = (Vec::new(), Json::Null);
    loop {
        let wanted = json!({ "cells": [["c", shape]] });
        let page = results(&host, a, json!([["wish-page", "#greedy", wanted, 100, cursor]])).await[0].clone();
        found.extend(page["found"].as_array().unwrap().clone());
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(found, [json!(modest.to_string())]);
}

/// (D7; `discovery.wish`: invalid)
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_wish_is_invalid_and_says_why() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let wish = |tag: &str, shape: &str| json!(["try", ["wish", tag, {"cells": [["shared", shape]]}]]);
    let steps = json!([wish("probe", "any"), wish("#", "any"), wish("#probe", "{n: }"), wish("#probe", "")]);
    for refused in results(&host, a, steps).await.as_array().unwrap() {
        assert_eq!(refused["error"]["kind"], "invalid", "{refused}");
        assert!(!refused["error"]["why"].as_str().unwrap().is_empty());
    }
    assert_eq!(run(&host, a, json!([["wish", "#none", {}]])).await.outcome, Outcome::Committed);
    host.shutdown().await.unwrap();
}

/// D7: by DID one charm is found, if it may be used and fits, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_one_charm_finds_that_one_or_nobody() {
    let host = host().await;
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    let stranger = probe(&host, "stranger").await;
    let found = async |owner: &str, cell: &str| {
        let wanted = json!({"cells": [cell], "owner": owner});
        results(&host, a, json!([["try", ["wish", "#probe", wanted]]])).await[0].clone()
    };
    assert_eq!(found(&b.to_string(), "shared").await["ok"], dids(&[b]));
    assert_eq!(found(&c.to_string(), "shared").await["ok"], dids(&[c]));
    assert_eq!(found(&a.to_string(), "shared").await["ok"], dids(&[a]), "itself");
    assert_eq!(found(&b.to_string(), "private").await["ok"], json!([]), "what it does not offer");
    assert_eq!(found(&stranger.to_string(), "shared").await["ok"], json!([]), "nothing of it is granted");
    assert_eq!(found("did:key:nobody", "shared").await["error"]["kind"], "invalid");
    let page = json!(["wish-page", "#probe", {"owner": b.to_string()}, 1, Json::Null]);
    assert_eq!(results(&host, a, json!([page])).await[0], json!({"found": dids(&[b]), "next": null}));
    host.shutdown().await.unwrap();
}

/// D7: two that claim one tag are both found, with their DIDs; the operator can pin one, and then that one alone is. It stands in the
/// store, as grants do.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_claim_a_tag_the_operator_can_pin_one() {
    let home = Home::default();
    let host = home.open().await;
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    let wish = || json!([["wish", "#probe", {"cells": ["shared"]}]]);
    assert_eq!(results(&host, a, wish()).await[0], dids(&[a, b, c]), "all that claim it are shown");
    let pin = |owner| Right::Wish { tag: "#probe".to_owned(), owner };
    host.grant(a, pin(b)).await.unwrap();
    assert!(host.rights(&a).contains(&pin(b)));
    assert_eq!(results(&host, a, wish()).await[0], dids(&[b]));
    assert_eq!(results(&host, b, wish()).await[0], dids(&[a, b, c]), "others are not bound by it");
    let unknown = Right::Wish { tag: "#other".to_owned(), owner: b };
    assert!(
        matches!(host.grant(a, unknown).await, Err(InstallError::Grant { why, .. }) if why.contains("does not publish"))
    );
    host.shutdown().await.unwrap();
    let host = home.open().await;
    for name in ["a", "b", "c"] {
        let all = [a, b, c]
            .into_iter()
            .fold(Charm::new(name, component("probe")), |charm, owner| charm.may_read(owner, only(&["shared"])));
        host.install(all).await.unwrap();
    }
    assert_eq!(results(&host, a, wish()).await[0], dids(&[b]), "also in the next host");
    host.grant(a, pin(c)).await.unwrap();
    assert_eq!(results(&host, a, wish()).await[0], dids(&[c]), "another takes its place");
    host.revoke(a, pin(c)).await.unwrap();
    assert_eq!(results(&host, a, wish()).await[0], dids(&[a, b, c]));
    // One that does not fit is said, and nobody is found in its place.
    host.grant(a, pin(b)).await.unwrap();
    let misses = nearly(&host, a, json!({"cells": [["shaped", "{n: string}"]]})).await;
    let [miss] = &misses[..] else { panic!("{misses:?}") };
    assert_eq!((miss.owner, &*miss.tag), (b, "#probe"));
    host.shutdown().await.unwrap();
}

/// Wishes once, finds nobody, and returns what the host remembers of that.
async fn nearly(host: &Host, charm: Did, wanted: Json) -> Vec<WishMiss> {
    let event = send(host, charm, json!([["wish", "#probe", wanted]])).await;
    settle(host).await;
    let why = host.why(&event).await.unwrap().unwrap();
    why.events.into_iter().find(|told| told.id == event).unwrap().misses
}

/// D7: what a near miss lacks is told to people: the tag, the charm, the cell or stream, the grant, or the place and the shapes there.
#[tokio::test(flavor = "multi_thread")]
async fn a_near_miss_says_why() {
    let host = host().await;
    let [a, b] = [probe(&host, "a").await, probe(&host, "b").await];
    let why = async |wanted: Json| {
        let misses = nearly(&host, a, wanted).await;
        assert!(misses.iter().all(|miss| miss.tag == "#probe" && miss.count == 1), "{misses:?}");
        misses.into_iter().map(|miss| (miss.owner, miss.why)).collect::<BTreeMap<_, _>>()
    };
    let nothing = why(json!({"cells": [["shaped", "{n: string}"]]})).await;
    assert_eq!(nothing[&b], format!("charm b ({b}) publishes it, and nothing of it is granted"));
    assert_eq!(nothing[&a], format!("cell shaped of a ({a}) has another shape at /n: it offers int, asked is string"));
    grant(&host, a, BTreeMap::from([(b, only(&["shared"]))]), BTreeMap::new()).await.unwrap();
    let told = why(json!({"cells": [["shared", "any"], ["shaped", "{n: int, m: int}"]]})).await;
    assert!(told[&b].contains("cell shaped of b") && told[&b].contains("(by m)"), "{}", told[&b]);
    let told = why(json!({"streams": [["shaped", "{n: int | string}"]]})).await;
    assert!(told[&b].ends_with("at /n: it offers int, asked is int | string"), "{}", told[&b]);
    let told = why(json!({"cells": ["absent"]})).await;
    assert_eq!(told[&b], format!("cell absent of b ({b}) is not declared"));
    // Others are found: the near miss is told all the same.
    let told = why(json!({"cells": ["token"]})).await;
    assert_eq!(told, BTreeMap::from([(b, format!("cell token of b ({b}) is not granted"))]));
    host.shutdown().await.unwrap();
}

/// D7: a pin stands in the manifest, by name or DID; one that names nobody, or one that does not publish the tag, is refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_stands_in_the_manifest() {
    let home = Home::default();
    let file = home.path().join("charms.toml");
    std::fs::write(home.path().join("probe.wasm"), component("probe")).unwrap();
    let host = host().await;
    let install = async |wishes: &str| {
        let text = format!(
            "[charm.a]\ncomponent = \"probe.wasm\"\n{wishes}\ngrant = [{{ charm = \"b\", read = [\"shared\"] }}, {{ charm = \"c\", read = [\"shared\"] }}]\n\
             [charm.b]\ncomponent = \"probe.wasm\"\n[charm.c]\ncomponent = \"probe.wasm\"\n"
        );
        std::fs::write(&file, text).unwrap();
        Manifest::load(&file)?.install(&host).await
    };
    let all = install("").await.unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| all[name]);
    let wish = || json!([["wish", "#probe", {"cells": ["shared"]}]]);
    assert_eq!(results(&host, a, wish()).await[0], dids(&[a, b, c]));
    install("wishes = { \"#probe\" = \"c\" }").await.unwrap();
    assert_eq!(results(&host, a, wish()).await[0], dids(&[c]));
    install(&format!("wishes = {{ \"#probe\" = \"{b}\" }}")).await.unwrap();
    assert_eq!(results(&host, a, wish()).await[0], dids(&[b]));
    for (wishes, words) in [
        ("wishes = { \"#probe\" = \"d\" }", "wishes: #probe names d, neither a charm of this manifest nor a DID"),
        ("wishes = { \"#other\" = \"b\" }", "does not publish #other; it publishes: #probe"),
    ] {
        let error = install(wishes).await.unwrap_err();
        assert!(matches!(&error, ManifestError::Install(InstallError::Grant { .. })), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    install("").await.unwrap();
    assert_eq!(results(&host, a, wish()).await[0], dids(&[a, b, c]), "what is left out is gone");
    host.shutdown().await.unwrap();
}
