//! Chapter wishes: how a charm finds others (D7).
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use charm_conformance::{host, of, only, probe, probes, results, run};
use charm_host::{Did, Outcome};
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
    let read = BTreeMap::from([(b, only(&["shared"])), (c, only(&["other"]))]);
    host.grant(a, read, BTreeMap::from([(c, only(&["note"]))]));
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
    host.grant(a, BTreeMap::from([(b, only(&["shared"]))]), BTreeMap::new());
    let seen = results(&host, a, use_it.clone()).await;
    assert_eq!((&seen[0]["ok"], &seen[1]), (&json!("secret"), &dids(&[a, b])));
    host.grant(a, BTreeMap::new(), BTreeMap::new());
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
    host.grant(a, BTreeMap::from([(b, only(&["shared"]))]), BTreeMap::new());
    let steps = json!([["wish-get", "#probe", "shared", "any"], ["try", ["wish-set", "#probe", "shared", "any", 1]]]);
    let seen = results(&host, a, steps).await;
    assert_eq!(seen[0], "theirs");
    let refused = json!({"kind": "write-isolation", "requested": b.to_string(), "open": a.to_string()});
    assert_eq!(seen[1]["error"], refused);
    host.shutdown().await.unwrap();
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
