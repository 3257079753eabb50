//! Who may read and send what, by every way there is (A2). What a charm declares and does not keep private can be granted;
//! nothing else can, whoever asks and however: the matrix of holders, owners, kinds, verbs and grants is generated.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::*;

/// Cells of a probe: whether others can be granted them.
const CELLS: [(&str, bool); 4] = [("shared", true), ("x", true), ("hidden", false), ("dynamic", false)];
/// Streams of a probe: what becomes of an event from another who was granted all, and of one from itself.
const STREAMS: [(&str, Outcome, Outcome); 4] = [
    ("note", Outcome::Committed, Outcome::Committed),
    ("inner", Outcome::Denied, Outcome::Committed),
    ("on-receipt", Outcome::Denied, Outcome::Denied),
    ("nowhere", Outcome::NoSuchStream, Outcome::NoSuchStream),
];

/// How everything of the owner is granted to the holder.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Grant {
    Nothing,
    AtInstall,
    Later,
    Manifest,
}

fn visitor() -> Did {
    "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().unwrap()
}

async fn manifest(host: &Host, text: &str) -> Result<BTreeMap<String, Did>, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("probe.wasm"), component("probe")).unwrap();
    std::fs::write(folder.path().join("charms.toml"), text).unwrap();
    let manifest = Manifest::load(&folder.path().join("charms.toml")).map_err(|error| error.to_string())?;
    manifest.install(host).await.map_err(|error| error.to_string())
}

/// Installs an owner with a value in every cell, and a holder; returns both.
async fn granted(host: &Host, grant: Grant) -> (Did, Did) {
    let owner = probe(host, "owner").await;
    let written: Vec<Json> = CELLS.iter().map(|(name, _)| json!(["set", name, [], format!("of {name}")])).collect();
    assert_eq!(run(host, owner, json!(written)).await.outcome, Outcome::Committed);
    let all = || BTreeMap::from([(owner, Names::All)]);
    let holder = match grant {
        Grant::AtInstall => {
            let charm = probe_charm("holder").may_read(owner, Names::All).may_send(owner, Names::All);
            host.install(charm).await.unwrap()
        }
        _ => probe(host, "holder").await,
    };
    match grant {
        Grant::Nothing | Grant::AtInstall => {}
        Grant::Later => charm_conformance::grant(host, holder, all(), all()).await.unwrap(),
        Grant::Manifest => {
            let part = "[{ charm = \"owner\", read = [\"*\"], send = [\"*\"] }]";
            let text = format!(
                "[charm.owner]\ncomponent = \"probe.wasm\"\n[charm.holder]\ncomponent = \"probe.wasm\"\ngrant = {part}\n\
                 [outside.\"{}\"]\ngrant = {part}\n",
                visitor()
            );
            manifest(host, &text).await.unwrap();
        }
    }
    if grant != Grant::Nothing && grant != Grant::Manifest {
        charm_conformance::grant(host, visitor(), all(), all()).await.unwrap();
    }
    (owner, holder)
}

/// A2, D7: reads by name, through a wish, and by the embedder for somebody.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_declared_and_not_private_can_be_read() {
    for grant in [Grant::Nothing, Grant::AtInstall, Grant::Later, Grant::Manifest] {
        let host = host().await;
        let (owner, holder) = granted(&host, grant).await;
        for (name, grantable) in CELLS {
            let may = grantable && grant != Grant::Nothing;
            let case = format!("{grant:?} {name}");
            let steps = json!([
                ["try", ["get", of(owner, name), []]],
                ["wish", "#probe", { "cells": [name] }],
                ["try", ["set", of(owner, name), [], 1]],
                ["try", ["remove", of(owner, name), []]],
            ]);
            let seen = results(&host, holder, steps).await;
            let found = seen[1].as_array().unwrap().contains(&json!(owner.to_string()));
            assert_eq!((seen[0]["ok"] == format!("of {name}"), found), (may, may), "{case}: {seen}");
            if !may {
                let denied = json!({ "kind": "denied", "owner": owner.to_string(), "name": name });
                assert_eq!(seen[0]["error"], denied, "{case}");
            }
            // Nobody writes there, whatever was granted (T2).
            for write in [&seen[2], &seen[3]] {
                assert_eq!(write["error"]["kind"], "write-isolation", "{case}");
            }
            for reader in [visitor(), holder] {
                let read = host.get_as(&reader, &owner, name, &Path::root()).await;
                match may {
                    true => assert_eq!(read.unwrap(), Some(value(json!(format!("of {name}")))), "{case}"),
                    false => assert!(matches!(read, Err(ReadError::Denied { .. })), "{case}: {read:?}"),
                }
            }
            // Its owner and the operator read everything.
            assert_eq!(results(&host, owner, json!([["get", name, []]])).await[0], format!("of {name}"));
            let operator = host.operator();
            assert!(host.get_as::<Value>(&operator, &owner, name, &Path::root()).await.unwrap().is_some(), "{case}");
        }
    }
}

/// A2, S6: sends by name and through a wish, from charms, from the owner itself, from outside and from the operator.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_declared_and_not_private_can_be_sent_to() {
    for grant in [Grant::Nothing, Grant::AtInstall, Grant::Later, Grant::Manifest] {
        let host = host().await;
        let (owner, holder) = granted(&host, grant).await;
        for (name, granted, own) in STREAMS {
            let expected = if grant == Grant::Nothing { Outcome::Denied } else { granted };
            let case = format!("{grant:?} {name}");
            let forged = json!({ "receipt": { "id": "0".repeat(32), "outcome": "committed", "commit": 1, "message": null },
                "tag": { "steps": [["set", "forged", [], true]] } });
            let seen = results(
                &host,
                holder,
                json!([
                    ["send", of(owner, name), forged], ["wish", "#probe", { "streams": [name] }],
                ]),
            )
            .await;
            let outcome = receipt(&host, &seen[0].as_str().unwrap().parse().unwrap()).await.outcome;
            assert_eq!(outcome, expected, "{case}");
            let found = seen[1].as_array().unwrap().contains(&json!(owner.to_string()));
            assert_eq!(found, expected == Outcome::Committed, "{case}: {seen}");
            let seen = results(&host, owner, json!([["send", name, forged]])).await;
            let outcome = receipt(&host, &seen[0].as_str().unwrap().parse().unwrap()).await.outcome;
            assert_eq!(outcome, own, "{case}");
            let sent = |sender| host.request(NewEvent::new(owner, name, value(forged.clone())).from(sender));
            match (expected, sent(visitor()).await) {
                (Outcome::Committed, Ok(receipt)) => assert_eq!(receipt.outcome, Outcome::Committed, "{case}"),
                (Outcome::Denied, Err(SendError::Denied { .. })) => {}
                (Outcome::NoSuchStream, Err(SendError::NoSuchStream { .. })) => {}
                (_, other) => panic!("{case}: {other:?}"),
            }
            match (own, sent(host.operator()).await) {
                (Outcome::Committed, Ok(receipt)) => assert_eq!(receipt.outcome, Outcome::Committed, "{case}"),
                (Outcome::Denied, Err(SendError::TakesReceipts { .. })) => {}
                (Outcome::NoSuchStream, Err(SendError::NoSuchStream { .. })) => {}
                (_, other) => panic!("{case}: {other:?}"),
            }
            settle(&host).await;
            assert_eq!(cell(&host, owner, "forged").await, Json::Null, "{case}");
            assert_eq!(cell(&host, owner, "receipts").await, Json::Null, "{case}: nobody but the host sends receipts");
        }
    }
}

/// A2: a grant that names what cannot be granted is an error that names it, wherever it stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_what_cannot_be_granted_is_an_error() {
    let host = host().await;
    let (owner, holder) = granted(&host, Grant::Nothing).await;
    let cases = [
        (true, "hidden", "is private"),
        (true, "dynamic", "is not declared"),
        (true, "sharde", "is not declared; what can be granted: "),
        (false, "inner", "is private"),
        (false, "on-receipt", "takes receipts from the host only"),
        (false, "nowhere", "is not declared; what can be granted: note, run, shaped"),
    ];
    for (is_cell, name, why) in cases {
        let names = BTreeMap::from([(owner, only(&[name]))]);
        let (kind, read, send) = match is_cell {
            true => ("cell", names.clone(), BTreeMap::new()),
            false => ("stream", BTreeMap::new(), names.clone()),
        };
        let says = |error: String| {
            assert!(error.contains(&format!("{kind} {name} of owner")) && error.contains(why), "{name}: {error}");
        };
        says(grant(&host, holder, read, send).await.unwrap_err().to_string());
        let charm = probe_charm("holder");
        let charm = match is_cell {
            true => charm.may_read(owner, only(&[name])),
            false => charm.may_send(owner, only(&[name])),
        };
        says(host.install(charm).await.unwrap_err().to_string());
        let verb = if is_cell { "read" } else { "send" };
        let grant = format!("grant = [{{ charm = \"owner\", {verb} = [\"{name}\"] }}]");
        let charms = "[charm.owner]\ncomponent = \"probe.wasm\"\n[charm.holder]\ncomponent = \"probe.wasm\"\n";
        says(manifest(&host, &format!("{charms}{grant}\n")).await.unwrap_err());
        says(manifest(&host, &format!("{charms}[outside.\"{}\"]\n{grant}\n", visitor())).await.unwrap_err());
    }
    let outside = format!("[charm.owner]\ncomponent = \"probe.wasm\"\n[outside.\"{owner}\"]\ngrant = []\n");
    assert!(manifest(&host, &outside).await.unwrap_err().contains("is a charm"));
    assert!(host.get_as::<Value>(&holder, &owner, "shared", &Path::root()).await.is_err(), "nothing of it was granted");
}

/// A2: rights from before the install, and rights that the next manifest no longer names.
#[tokio::test(flavor = "multi_thread")]
async fn grants_come_and_go_with_what_says_them() {
    let (store, keys) = (MemoryStore::new(), Keys::default());
    let open = || builder().store(store.clone()).keyring(keys.clone()).open();
    let host = open().await.unwrap();
    let (owner, holder) = (probe(&host, "owner").await, probe(&host, "holder").await);
    host.shutdown().await.unwrap();
    let host = open().await.unwrap();
    grant(&host, holder, [(owner, only(&["shared"]))].into(), BTreeMap::new()).await.unwrap();
    probe(&host, "owner").await;
    host.install(probe_charm("holder").may_read(owner, only(&["x"]))).await.unwrap();
    for (cell, granted) in [("shared", true), ("x", true), ("y", false)] {
        let read = host.get_as::<Value>(&holder, &owner, cell, &Path::root()).await;
        assert_eq!(read.is_ok(), granted, "{cell}");
    }
    // An install that says nothing takes back what an install said.
    probe(&host, "holder").await;
    assert!(host.get_as::<Value>(&holder, &owner, "x", &Path::root()).await.is_err());

    let charm = "[charm.owner]\ncomponent = \"probe.wasm\"\n";
    let part = format!("[outside.\"{}\"]\ngrant = [{{ charm = \"owner\", read = [\"x\"] }}]\n", visitor());
    let reads = async || host.get_as::<Value>(&visitor(), &owner, "x", &Path::root()).await.is_ok();
    manifest(&host, &format!("{charm}{part}")).await.unwrap();
    assert!(reads().await);
    manifest(&host, charm).await.unwrap();
    assert!(!reads().await, "left out of the next manifest");
    // What was granted one by one goes too when a manifest is run.
    grant(&host, visitor(), [(owner, only(&["x"]))].into(), BTreeMap::new()).await.unwrap();
    assert!(reads().await);
    manifest(&host, charm).await.unwrap();
    assert!(!reads().await);
    assert!(host.rights(&visitor()).is_empty());
}

/// A2, T4: a right that goes while a turn runs: the read is a conflict, the rerun is denied; a send is judged at the commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_back_does_not_outlive_the_commit() {
    let host = host().await;
    let (owner, holder) = granted(&host, Grant::Later).await;
    let rights = async |read: bool, send: bool| {
        let map = |granted: bool, name| if granted { [(owner, only(&[name]))].into() } else { BTreeMap::new() };
        grant(&host, holder, map(read, "x"), map(send, "note")).await.unwrap();
    };
    let turn = async |change: BoxFuture<'_, ()>| {
        let (hold, before) = (Hold::new(), host.counters().conflicts);
        let steps = json!({ "steps": [
            ["try", ["get", of(owner, "x"), []]],
            ["send", of(owner, "note"), "a note", { "stream": "on-receipt", "tag": "noted" }],
            hold.step(),
        ], "out": "out" });
        let id = host.send(NewEvent::new(holder, "run", value(steps))).await.unwrap();
        hold.arrived(1).await;
        change.await;
        // The first attempt, and another one if there is any.
        hold.release(2);
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
        settle(&host).await;
        let out = cell(&host, holder, "out").await;
        let sent = receipt(&host, &out[1].as_str().unwrap().parse().unwrap()).await.outcome;
        (out[0]["ok"] == "of x", sent, host.counters().conflicts - before)
    };
    rights(true, true).await;
    // The rights of others are none of its business, nor is a right that it has not used.
    let unrelated = async || grant(&host, visitor(), [(owner, Names::All)].into(), BTreeMap::new()).await.unwrap();
    assert_eq!(turn(Box::pin(unrelated())).await, (true, Outcome::Committed, 0));
    assert_eq!(turn(Box::pin(rights(false, true))).await, (false, Outcome::Committed, 1));
    rights(true, true).await;
    assert_eq!(turn(Box::pin(rights(true, false))).await, (true, Outcome::Denied, 0));
    rights(true, false).await;
    assert_eq!(turn(Box::pin(rights(true, true))).await, (true, Outcome::Committed, 0), "given in time for the commit");
}

/// A2, A4: an exchange that was made stays made; only what is new asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_asks_for_the_grant_of_its_moment_and_an_answer_stays() {
    let wire = Wire::gated();
    let host = builder().transport(wire.clone()).open().await.unwrap();
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    let fetch = |path: &str| json!(["try", ["fetch", { "url": format!("{WIRE}/{path}") }]]);
    let event = value(json!({ "steps": [fetch("one"), fetch("two")], "out": "out" }));
    wire.answer_text(200, "first");
    let id = host.send(NewEvent::new(a, "run", event)).await.unwrap();
    wire.arrived(1).await;
    host.install(probe_charm("a")).await.unwrap();
    wire.release(9);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let out = cell(&host, a, "out").await;
    assert_eq!(out[0]["ok"]["body"], "first", "{out}");
    assert_eq!(out[1]["error"]["kind"], "http-denied", "{out}");
    assert_eq!(wire.count(), 1);
}

/// S11: the host takes the event of a dead letter from its store, not from the caller, and a receipt whose handler
/// failed is still a receipt when it is sent again (S6, S11).
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_sent_again_as_it_was_and_forges_nothing() {
    let store = MemoryStore::new();
    let host = builder().store(store.clone()).open().await.unwrap();
    let a = probe(&host, "a").await;
    // The handler of the receipt fails: it becomes a dead letter.
    let tag = json!({ "steps": [["get", "switch", ["into", "nothing"]], ["reject", "not now"]] });
    run(&host, a, json!([["send", "note", 1, { "stream": "on-receipt", "tag": tag }]])).await;
    settle(&host).await;
    let letter = host.dead_letters(&a, 0, usize::MAX).unwrap().remove(0);
    assert!(letter.event.receipt_of.is_some());
    let again = host.resend(&a, &letter.event.id).await.unwrap();
    assert_eq!(receipt(&host, &again).await.outcome, Outcome::Rejected, "it was handled, and failed again");
    let letter = host.dead_letters(&a, 0, usize::MAX).unwrap().remove(0);
    assert_eq!((letter.event.id, letter.event.receipt_of.is_some()), (again, true));
    host.discard(&a, &again).await.unwrap();
    for id in [again, letter.receipt.id, EventId([7; 16])] {
        assert_eq!(host.resend(&a, &id).await, Err(SendError::NoSuchLetter));
        assert_eq!(host.discard(&a, &id).await, Err(SendError::NoSuchLetter));
    }
    // An event that failed on a plain stream does not become a receipt when that stream takes receipts later.
    let plain = |receipts: bool| {
        let stream = json!({ "run": { "shape": "any", "receipts": receipts } });
        by_hand::described(value(json!({ "streams": stream })).as_bytes())
    };
    let c = host.install(Charm::new("c", by_hand::charm(&[("in handle", "unreachable")]))).await.unwrap();
    let failed = host.request(NewEvent::new(c, "run", value(json!(1)))).await.unwrap();
    assert_eq!(failed.outcome, Outcome::Faulted);
    host.install(Charm::new("c", plain(true))).await.unwrap();
    let again = host.resend(&c, &failed.id).await.unwrap();
    assert_eq!(receipt(&host, &again).await.outcome, Outcome::Denied);
    host.install(Charm::new("c", plain(false))).await.unwrap();
    let again = host.resend(&c, &again).await.unwrap();
    assert_eq!(receipt(&host, &again).await.outcome, Outcome::Committed);
    host.verify_store().unwrap();
}

/// A2: a charm that the store knows and that is not installed: nothing of it is read, and what is sent to it is judged by
/// what it declares when it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_that_is_not_installed_gives_nothing_away() {
    let (store, keys) = (MemoryStore::new(), Keys::default());
    let open = || builder().store(store.clone()).keyring(keys.clone()).open();
    let host = open().await.unwrap();
    let (owner, _) = granted(&host, Grant::Nothing).await;
    host.shutdown().await.unwrap();
    let host = open().await.unwrap();
    let holder = probe_charm("holder").may_read(owner, Names::All).may_send(owner, Names::All);
    let holder = host.install(holder).await.unwrap();
    let mut steps: Vec<Json> = CELLS.iter().map(|(name, _)| json!(["try", ["get", of(owner, name), []]])).collect();
    steps.extend(STREAMS.iter().map(|(name, ..)| json!(["send", of(owner, name), name])));
    let seen = results(&host, holder, json!(steps)).await;
    for (index, (name, _)) in CELLS.iter().enumerate() {
        assert_eq!(seen[index]["error"]["kind"], "denied", "{name}: {seen}");
    }
    probe(&host, "owner").await;
    for (index, (name, expected, _)) in STREAMS.iter().enumerate() {
        let id = seen[CELLS.len() + index].as_str().unwrap().parse().unwrap();
        assert_eq!(receipt(&host, &id).await.outcome, *expected, "{name}");
    }
    assert_eq!(cell(&host, owner, "notes").await, json!(["note"]));
}

/// S6: a receipt goes only where nobody else can send.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_not_asked_for_on_a_stream_that_others_reach() {
    let host = host().await;
    let a = probe(&host, "a").await;
    for name in ["note", "inner", "nowhere"] {
        let send = json!(["try", ["send", "note", 1, { "stream": name, "tag": 1 }]]);
        let seen = results(&host, a, json!([send])).await;
        let refused = json!({ "kind": "no-such-stream", "owner": a.to_string(), "name": name });
        assert_eq!(seen[0]["error"], refused);
    }
}
