//! Attacks: what is no link, links that lead nowhere, in circles, and too far (C5, A5).

use charm_host::{Limits, NewEvent};
use ipld_core::ipld::Ipld;

use super::*;

/// The value of a CID that carries these bytes.
fn carrying(content: &[u8]) -> Vec<u8> {
    assert!((24..124).contains(&content.len()));
    [&[0xd8, 0x2a, 0x58, content.len() as u8 + 5, 0, 1, 0x71, 0, content.len() as u8], content].concat()
}

fn content(owner: &str, name: &str, path: Ipld) -> Vec<u8> {
    let parts = vec![Ipld::String(owner.to_owned()), Ipld::String(name.to_owned()), path];
    Value::encode(&Ipld::List(parts)).unwrap().as_bytes().to_vec()
}

/// C2: what is no value is refused; what is a CID and no link stays plain data, and nothing is behind it.
#[tokio::test]
async fn forged_links_are_refused_or_plain_data() {
    let host = host().await;
    let charm = probe(&host, "forger").await;
    let owner = charm.to_string();
    run(&host, charm, json!([["set", "y", ["n"], 1]])).await;
    let none = || Ipld::List(vec![]);
    let good = content(&owner, "y", none());
    // As the host makes it.
    assert_eq!(carrying(&good), link(charm, "y", "").as_bytes());
    assert_eq!(one(&host, charm, json!(["open-bytes", "cell", carrying(&good)])).await, Json::Null);

    let long_head = [&[0x98, 3], &good[1..]].concat();
    let plain = [
        content(&owner, "", none()),
        content(&owner, "a\nb", none()),
        content(&owner, "y", Ipld::Null),
        content(&owner, "y", Ipld::List(vec![Ipld::Integer(-1)])),
        content(&owner[..owner.len() - 1], "y", none()),
        content("did:web:example.org", "some-name", none()),
        content(&format!("{owner} "), "y", none()),
        long_head,
        [&good[..], &[0]].concat(),
        vec![0xff; 60],
        vec![0x81; 100],
    ];
    for content in plain {
        let bytes = carrying(&content);
        let steps = json!([
            ["open-bytes", "cell", bytes],
            ["open-bytes", "stream", bytes],
            ["set-bytes", "x", [], bytes],
            ["get", "x", ["n"]],
            ["set", "x", ["n"], 1],
        ]);
        let told = tried(&host, charm, steps).await;
        assert_eq!(told[0], json!({ "kind": "invalid", "why": "link: not a link to a cell" }), "{content:?}");
        assert_eq!(told[1], json!({ "kind": "invalid", "why": "link: not a link to a stream" }));
        assert_eq!(told[2], Json::Null, "it is a value");
        for told in &told[3..] {
            let mismatch = json!({ "kind": "type-mismatch", "at": "/", "expected": "map", "actual": "link" });
            assert_eq!(*told, mismatch, "{content:?}");
        }
    }
    // No CID: a wrong length, a length in two bytes, no zero in front, another version, nothing.
    let whole = carrying(&good);
    let mut malformed = vec![vec![0xd8, 0x2a, 0x40], vec![0xd8, 0x2a, 0x41, 0], vec![0xd8, 0x2a, 0x60]];
    for (at, byte) in [(0, 0xd9), (1, 0x2b), (3, whole[3] - 1), (4, 1), (5, 2), (8, whole[8] - 1), (8, 0x80)] {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        malformed.push(bytes);
    }
    for bytes in malformed {
        let steps =
            json!([["open-bytes", "cell", bytes], ["set-bytes", "x", [], bytes], ["send-bytes", "note", bytes]]);
        for told in tried(&host, charm, steps).await {
            assert_eq!(told["kind"], json!("invalid"), "{bytes:?}");
        }
    }
    let large = json!(["open-bytes", "cell", vec![0; charm_host::LINK_BYTES_MAX + 1]]);
    assert_eq!(one(&host, charm, large).await["name"], json!("link-bytes-max"));
}

/// C5: circles, from the shortest on; the error names the cells in order.
#[tokio::test]
async fn links_in_a_circle_end_in_a_typed_error_with_their_cells() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let me = |name: &str| json!([a.to_string(), name]);
    let steps = json!([
        ["set-link", "self", [], ["self", []]],
        ["set-link", "inner", ["k"], ["inner", ["k"]]],
        ["set-link", "x", [], ["y", ["to"]]],
        ["set-link", "y", ["to"], [of(b, "x"), []]],
        ["set-link", "start", [], ["x", []]],
        ["set-link", "grows", ["k"], ["grows", ["k", "k"]]],
    ]);
    run(&host, a, steps).await;
    run(&host, b, json!([["set-link", "x", [], [of(a, "x"), []]]])).await;
    grant(&host, b, all_of(&[a]), all_of(&[a])).await.unwrap();
    for verb in ["get", "set", "append", "remove", "increment"] {
        let step = |cell: &str, path: Json| match verb {
            "get" | "remove" => json!([verb, cell, path]),
            _ => json!([verb, cell, path, 1]),
        };
        let steps = json!([
            step("self", json!(["n"])),
            step("inner", json!(["k", "n"])),
            step("x", json!(["n"])),
            step("start", json!(["n"])),
            step("grows", json!(["k", "n"])),
            ["set", "alive", [], 1],
        ]);
        let told = tried(&host, a, steps).await;
        let cycle = |cells: Json| json!({ "kind": "cycle", "cells": cells });
        assert_eq!(told[0], cycle(json!([me("self")])), "{verb}");
        assert_eq!(told[1], cycle(json!([me("inner")])), "{verb}");
        let round = cycle(json!([me("x"), me("y"), of(b, "x")]));
        assert_eq!((&told[2], &told[3]), (&round, &round), "{verb}");
        assert_eq!(told[4], json!({ "kind": "limit", "name": "links-max", "max": 16 }), "{verb}");
        assert_eq!(told[5], Json::Null, "the transaction goes on");
    }
}

/// T7: as much of a large circle as fits.
#[tokio::test]
async fn a_circle_of_long_names_is_told_in_a_kibibyte() {
    let host = host().await;
    let charm = probe(&host, "round").await;
    let max = charm_host::LINKS_MAX;
    let name = |n: usize| format!("{:0>128}", n % max);
    let links: Vec<Json> = (0..max).map(|n| json!(["set-link", name(n), [], [name(n + 1), []]])).collect();
    run(&host, charm, json!(links)).await;
    let told = one(&host, charm, json!(["get", name(3), ["n"]])).await;
    let wanted: Vec<Json> = (3..8).map(|n| json!([charm.to_string(), name(n)])).collect();
    assert_eq!(told, json!({ "kind": "cycle", "cells": wanted }));
    let bytes: usize =
        wanted.iter().flat_map(|pair| pair.as_array().unwrap()).map(|text| text.as_str().unwrap().len()).sum();
    assert!(bytes <= charm_host::MESSAGE_BYTES_MAX, "{bytes}");
}

/// A5: at the bound, and one over it.
#[tokio::test]
async fn a_chain_of_links_is_followed_to_its_bound() {
    let host = host().await;
    let charm = probe(&host, "chain").await;
    let max = charm_host::LINKS_MAX;
    let mut steps = vec![json!(["set", "c0", ["n"], 7])];
    steps.extend((1..=max + 1).map(|n| json!(["set-link", format!("c{n}"), [], [format!("c{}", n - 1), []]])));
    run(&host, charm, json!(steps)).await;
    for verb in ["get", "remove"] {
        let (last, over) = (format!("c{max}"), format!("c{}", max + 1));
        let told = tried(&host, charm, json!([[verb, over, ["n"]], [verb, last, ["n"]]])).await;
        assert_eq!(told[0], json!({ "kind": "limit", "name": "links-max", "max": max }), "{verb}");
        assert!(!told[1].is_object(), "{told:?}");
    }
    assert_eq!(cell(&host, charm, "c0").await, json!({}));
    // The path that comes out is bounded like any other.
    run(&host, charm, json!([["set-link", "p", ["a"], ["q", vec!["k"; 62]]]])).await;
    let told = tried(
        &host,
        charm,
        json!([["get", "p", ["a", "b"]], ["get", "p", ["a", "b", "c"]], ["set-link", "x", [], ["q", vec!["k"; 64]]]]),
    )
    .await;
    assert_eq!(told[0], Json::Null);
    for told in &told[1..] {
        assert_eq!(told["name"], json!("path-segments-max"), "{told}");
    }
}

/// C5: a link in an event leads the receiver where the receiver may go.
#[tokio::test]
async fn a_link_in_an_event_is_followed_with_the_rights_of_who_reads_it() {
    let host = host().await;
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    run(&host, c, json!([["set", "x", ["n"], "shared"], ["set", "table", ["n"], "not granted"]])).await;
    run(&host, b, json!([["set", "hidden", ["n"], "b's own"]])).await;
    // As a confused deputy would like it: to the receiver's own private cell, and to a stranger's.
    for target in [link(c, "x", ""), link(c, "table", ""), link(b, "hidden", "")] {
        let sent = host.request(NewEvent::new(b, "note", target.clone())).await.unwrap();
        assert_eq!(sent.outcome, Outcome::Committed);
        run(&host, a, json!([["send-bytes", of(b, "note"), target.as_bytes()]])).await;
    }
    settle(&host).await;
    let get = |number: usize| json!(["get", "notes", [number, "n"]]);
    let told = tried(&host, b, json!((0..6).map(get).collect::<Vec<_>>())).await;
    assert_eq!((&told[0], &told[1]), (&json!("shared"), &json!("shared")));
    let denied = json!({ "kind": "denied", "owner": c.to_string(), "name": "table" });
    assert_eq!((&told[2], &told[3]), (&denied, &denied));
    assert_eq!((&told[4], &told[5]), (&json!("b's own"), &json!("b's own")), "its own, by its own rights");
    // The same through the cell of the receiver: the reader's rights, not the holder's.
    grant(&host, a, all_of(&[b]), all_of(&[b])).await.unwrap();
    let read = |number: usize| json!(["get", of(b, "notes"), [number, "n"]]);
    for told in tried(&host, a, json!((0..6).map(read).collect::<Vec<_>>())).await {
        assert_eq!(told["kind"], json!("denied"));
    }
}

/// A5: each link on the way is paid for.
#[tokio::test]
async fn links_are_not_followed_for_nothing() {
    let fuel_max = 5_000_000;
    let host = builder().limits(Limits { fuel_max, ..Limits::default() }).open().await.unwrap();
    let charm = probe(&host, "runner").await;
    let steps =
        json!([["set", "y", ["n"], 1], ["set-link", "x", [], ["y", []]], ["set-link", "round", [], ["round", []]]]);
    run(&host, charm, steps).await;
    let often = |step: Json| json!([["repeat", 450, step]]);
    assert_eq!(run(&host, charm, often(json!(["get", "y", ["n"]]))).await.outcome, Outcome::Committed);
    for step in [json!(["get", "x", ["n"]]), json!(["set", "x", ["n"], 1]), json!(["try", ["get", "round", ["n"]]])] {
        let receipt = run(&host, charm, often(step.clone())).await;
        assert_eq!(receipt.outcome, Outcome::Faulted, "{step}");
        assert!(receipt.message.unwrap().starts_with("over fuel-max"));
    }
}
