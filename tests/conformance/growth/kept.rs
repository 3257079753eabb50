//! A store with every kind of commit but that of removed cells, which went with its past, and components of every interface, as
//! 0.2.0 made them: `tests/data/0.2.0`. This version opens, proves and runs them.
//!
//! The store is as a host leaves it that is killed: some of it stands in the journal alone, and turns are under way. Its keys are
//! in the same folder; they are nobody's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use charm_conformance::*;
use charm_host::{
    Archive, Body, Charm, Commit, Did, FileKeyring, FolderStore, Host, Names, NewEvent, Outcome, Right, Value,
};
use serde_json::{Value as Json, json};

/// How long turns wait there: it is over when a test opens the store.
const LONG_MS: u64 = 20_000;
const CHARMS: [&str; 5] = ["anna", "ben", "calls", "derives", "left"];

fn data() -> PathBuf {
    root().join("tests/data/0.2.0")
}

fn kept(name: &str) -> Vec<u8> {
    fs::read(data().join(name)).unwrap()
}

fn charm(name: &str, component: impl Fn(&str) -> Vec<u8>) -> Charm {
    let guest = if name == "derives" { "deriver" } else { "probe" };
    let charm = Charm::new(name, component(guest));
    if name == "calls" { charm.may_call(Wire::grant()) } else { charm }
}

/// Makes a store with all that this version writes.
async fn story(host: &Host, wire: &Wire) {
    let mut dids = BTreeMap::new();
    for name in CHARMS.into_iter().chain(["cleared"]) {
        dids.insert(name, host.install(charm(name, component)).await.unwrap());
    }
    let [anna, ben, derives] = ["anna", "ben", "derives"].map(|name| dids[name]);
    let all: Vec<Did> = dids.values().copied().collect();
    for did in [anna, ben, derives] {
        grant(host, did, all_of(&all), all_of(&all)).await.unwrap();
    }
    // A past that goes: checkpoint and pruned.
    run(host, anna, json!([["set", "old", [], 1], ["remove", "old", []], ["set", "x", [], 5]])).await;
    host.prune(&anna).await.unwrap();
    let link = json!([of(ben, "doc"), []]);
    let writes = json!([
        ["set", "doc", [], { "list": [1, 2], "text": "kept" }],
        ["append", "doc", ["list"], 3],
        ["add-unique", "doc", ["list"], 3],
        ["remove-by-value", "doc", ["list"], 1],
        ["increment", "count", [], 7],
        ["set-link", "y", [], link],
        ["set", "items:1", [], "one"],
        ["set", "items:2", [], "two"],
    ]);
    assert_eq!(run(host, anna, writes).await.outcome, Outcome::Committed);
    run(host, ben, json!([["set", "doc", [], { "title": "of ben" }]])).await;
    let sum = json!(["sum", ["get", "x", []], ["get", of(anna, "x"), []]]);
    run(host, derives, json!([["set", "x", [], 2], ["set", "of-d1", [], sum]])).await;
    // Receipts, refusals, failures, dead letters.
    let tag = json!({ "stream": "on-receipt", "tag": "told" });
    run(host, anna, json!([["send", of(ben, "note"), 1, tag], ["send", of(ben, "nowhere"), 2]])).await;
    for _ in 0..3 {
        run_unasked(host, ben, json!([["set", "lost", [], 1], ["reject", "no"]])).await;
    }
    run_unasked(host, ben, json!([["trap"]])).await;
    settle(host).await;
    let letters = host.dead_letters(&ben, 0, usize::MAX).unwrap();
    host.discard(&ben, &letters[0].event.id).await.unwrap();
    host.resend(&ben, &letters[1].event.id).await.unwrap();
    settle(host).await;
    // Turns that waited, were tried again, got an answer.
    let charge = json!(["commit-and-fetch", { "method": "POST", "url": WIRE }]);
    let waits =
        json!([["send", of(ben, "note"), 3], ["wait", [0], "all", LONG_MS], charge, ["set", "token", [], "paid"]]);
    grant(host, dids["calls"], all_of(&all), all_of(&all)).await.unwrap();
    assert_eq!(run(host, dids["calls"], waits).await.outcome, Outcome::Committed);
    let again = json!([["unless-tried", 1, ["retry", 1]], ["set", "z", [], "tried again"]]);
    assert_eq!(run(host, anna, again).await.outcome, Outcome::Committed);
    // Rights of one outside, and charms that go.
    let outside: Did = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".parse().unwrap();
    host.grant(outside, Right::Read { owner: anna, cells: Names::only(["x"]) }).await.unwrap();
    host.grant(anna, Right::Wish { tag: "#probe".to_owned(), owner: ben }).await.unwrap();
    run(host, dids["left"], json!([["set", "x", [], "stays"]])).await;
    host.uninstall(&dids["left"]).await.unwrap();
    run(host, dids["cleared"], json!([["set", "x", [], "goes"]])).await;
    host.uninstall(&dids["cleared"]).await.unwrap();
    host.uninstall_with_data(&dids["cleared"]).await.unwrap();
    // Under way at the end: a wait for a charm that is paused, for time, for another try; and what waits.
    host.pause(&ben).await.unwrap();
    let before = decided(anna);
    let note = |n: u32| json!(["send", of(ben, "note"), n]);
    send(
        host,
        anna,
        json!([["set", "a1", [], 1], note(10), ["wait", [0], "all", LONG_MS * 200], ["set", "a1", [], 2]]),
    )
    .await;
    send(host, anna, json!([["set", "a2", [], 1], ["sleep", LONG_MS], ["set", "a2", [], 2]])).await;
    send(host, anna, json!([["unless-tried", 1, ["retry", LONG_MS]], ["set", "a3", [], 2]])).await;
    // Two that were told all that a recording holds, and that wait for time and for an answer.
    let calls = decided(dids["calls"]);
    let every = json!([
        ["set", "told", [], { "list": [1], "count": 1 }],
        ["get", "told", ["count"]],
        ["get-each", ["told", "none"], []],
        ["remove", "told", ["nothing"]],
        ["append", "told", ["list"], 2],
        ["add-unique", "told", ["list"], 2],
        ["remove-by-value", "told", ["list"], 1],
        ["increment", "told", ["count"], 1],
        ["names", null, "", 10],
        ["entries", null, "t", 10],
        ["remove-all", null, "none:", 10],
        ["wish-page", "#probe", { "owner": ben.to_string() }, 1_000],
        ["log", "info", "kept"],
        ["send-later", of(ben, "note"), 99, { "deliver-after": LONG_MS * 100_000 }],
        ["cancel", 0],
    ]);
    let then = |last: &[Json]| json!([every.as_array().unwrap(), last].concat());
    let fetch = json!(["fetch", { "method": "GET", "url": WIRE, "timeout-ms": 9_000 }]);
    send(host, dids["calls"], then(&[fetch, json!(["sleep", LONG_MS]), json!(["increment", "slept", [], 1])])).await;
    until("it sleeps", || decided(dids["calls"]) > calls).await;
    wire.hold();
    let (asked, ask) = (wire.count() + 1, json!({ "method": "POST", "url": WIRE, "repeatable": true }));
    let answered = [json!(["commit-and-fetch", ask]), json!(["increment", "answered", [], 1])];
    send(host, dids["calls"], then(&answered)).await;
    until("it asks", || wire.count() == asked).await;
    let later = json!(["send-later", of(derives, "run"), steps(json!([["set", "y", [], "later"]])), { "deliver-after": LONG_MS }]);
    run(host, anna, json!([later])).await;
    until("they wait", || decided(anna) >= before + 4).await;
    host.send(NewEvent::new(ben, "note", value(json!("from outside")))).await.unwrap();
}

/// All that can be read of a store, but for times and ids.
fn picture(archive: &Archive) -> Json {
    let spaces = archive.spaces().into_iter().map(|space| {
        let cells = archive.cells(&space.did).unwrap().into_iter().map(|cell| {
            let value = archive.get(&space.did, &cell.name, &charm_host::Path::root(), None).unwrap().unwrap();
            (cell.name.to_string(), json!([cell.revision, hex(value.as_bytes())]))
        });
        let told = json!({
            "did": space.did.to_string(), "commits": space.commits, "waiting": space.waiting, "dead": space.dead,
            "floor": space.floor, "cells": cells.collect::<serde_json::Map<_, _>>(),
            "turns": archive.turns(Some(&space.did), 0, 100).len(),
        });
        (space.name, told)
    });
    let commits = archive.commits(None, 0, usize::MAX >> 1).unwrap();
    let kinds: BTreeSet<&str> = commits.iter().map(kind).collect();
    json!({ "spaces": spaces.collect::<serde_json::Map<_, _>>(), "kinds": kinds, "commits": commits.len() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a commit is. A kind that comes later stands in the data of the version that brings it.
fn kind(commit: &Commit) -> &'static str {
    match commit.record.body {
        Body::Registered { .. } => "registered",
        Body::Installed(_) => "installed",
        Body::Uninstalled => "uninstalled",
        Body::Rights { .. } => "rights",
        Body::Paused(_) => "paused",
        Body::Accepted(_) => "accepted",
        Body::Letters { .. } => "letters",
        Body::Turn(_) => "turn",
        Body::Checkpoint(_) => "checkpoint",
        Body::Pruned(_) => "pruned",
        Body::Removed(_) => "removed",
        Body::Segment(_) => "segment",
        Body::Retried(_) => "retried",
        Body::Exchanged(_) => "exchanged",
    }
}

/// Copies files to a folder that is closed to others; what is after the last byte of a journal that is not zero stays behind.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (name, kind) = (entry.file_name().into_string().unwrap(), entry.file_type().unwrap());
        if kind.is_dir() {
            copy(&entry.path(), &to.join(&name));
        } else if kind.is_file() && !name.ends_with("-shm") {
            let mut bytes = fs::read(entry.path()).unwrap();
            if name.ends_with(".log") {
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                bytes.truncate(end.next_multiple_of(512));
            }
            fs::write(to.join(&name), bytes).unwrap();
            fs::set_permissions(to.join(&name), fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// Makes the data anew: `CHARM_BLESS=1 cargo test -p charm-conformance --test growth make_the_data -- --ignored`. Only for a version
/// that nobody has yet.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes the data of this version"]
async fn make_the_data() {
    assert!(std::env::var_os("CHARM_BLESS").is_some(), "it writes over what is kept");
    let home = Home::default();
    let wire = Wire::open();
    let host = home.builder().await.transport(wire.clone()).open().await.unwrap();
    story(&host, &wire).await;
    for made in ["store", "keys", "wit"] {
        let _ = fs::remove_dir_all(data().join(made));
    }
    copy(&home.store(), &data().join("store"));
    copy(&home.keys(), &data().join("keys"));
    host.shutdown().await.unwrap();
    fs::create_dir_all(data().join("wit")).unwrap();
    for file in fs::read_dir(root().join("wit")).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "wit") {
            fs::copy(&file, data().join("wit").join(file.file_name().unwrap())).unwrap();
        }
    }
    for guest in ["probe", "deriver"] {
        fs::write(data().join(format!("{guest}.wasm")), component(guest)).unwrap();
    }
    let home = tempfile::tempdir().unwrap();
    copy(&data().join("store"), &home.path().join("store"));
    let picture = picture(&Archive::open(FolderStore::open_read_only(home.path().join("store")).unwrap()).unwrap());
    fs::write(data().join("store.json"), serde_json::to_string_pretty(&picture).unwrap() + "\n").unwrap();
}

async fn open(home: &Path) -> Host {
    let store = FolderStore::open(home.join("store")).unwrap();
    let keys = FileKeyring::open(home.join("keys")).unwrap();
    builder().store(store).keyring(keys).transport(Wire::open()).open().await.unwrap()
}

fn archive(home: &Path) -> Archive {
    Archive::open(FolderStore::open_read_only(home.join("store")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_of_0_2_0_is_read_proved_and_run() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    copy(&data().join("store"), &home.join("store"));
    copy(&data().join("keys"), &home.join("keys"));
    let told: Json = serde_json::from_slice(&kept("store.json")).unwrap();
    // `removed` goes with the past that it ends; its bytes are among the vectors of chapter `format`.
    assert_eq!(told["kinds"].as_array().unwrap().len(), 13, "every kind of commit that stays: {}", told["kinds"]);
    let before = archive(home);
    assert_eq!(picture(&before), told);
    before.verify_store().unwrap();
    for space in before.spaces() {
        before.verify(&space.did).unwrap();
    }

    // A host goes on with it: what waited is taken, turns under way end, with the components that began them.
    let host = open(home).await;
    for name in CHARMS {
        host.install(charm(name, |guest| kept(&format!("{guest}.wasm")))).await.unwrap();
    }
    let [anna, ben, calls, derives, left] = CHARMS.map(|name| host.did_of(name).unwrap());
    host.resume(&ben).await.unwrap();
    settle(&host).await;
    assert_eq!(host.turns(None, 0, 100).await.unwrap().len(), 0, "no turn is under way");
    for (owner, cell, holds) in [
        (anna, "a1", json!(2)),
        (anna, "a2", json!(2)),
        (anna, "a3", json!(2)),
        (anna, "z", json!("tried again")),
        (anna, "count", json!(7)),
        (anna, "doc", json!({ "list": [2, 3], "text": "kept" })),
        (calls, "slept", json!(1)),
        (calls, "answered", json!(1)),
        (derives, "y", json!("later")),
        (derives, "d1", json!(7)),
        (left, "x", json!("stays")),
    ] {
        assert_eq!(cell_of(&host, owner, cell).await, holds, "{cell}");
    }
    let notes: Vec<Json> = host.get(&ben, "notes", "").await.unwrap().unwrap();
    assert_eq!(notes, [json!(1), json!(3), json!(10), json!("from outside")], "each once, in its order");

    // And with new turns.
    let found =
        results(&host, anna, json!([["get", "y", ["title"]], ["set", "x", [], 6], ["wish", "#probe", {}]])).await;
    assert_eq!((&found[0], &found[2]), (&json!("of ben"), &json!([ben.to_string()])), "links and pins");
    assert_eq!(cell_of(&host, derives, "d1").await, json!(8));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    archive(home).verify_store().unwrap();
    let script = root().join("tests/format/verify.py");
    match Command::new("python3").arg(script).arg(home.join("store/index.db")).output() {
        Ok(run) => assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr)),
        Err(_) => eprintln!("SKIPPED: there is no python3 here"),
    }
}

async fn cell_of(host: &Host, owner: Did, cell: &str) -> Json {
    host.get::<Json>(&owner, cell, "").await.unwrap().unwrap()
}

/// What authors have built for 0.2.0 is what this host runs: every interface is imported by one of these.
#[tokio::test]
async fn the_components_of_0_2_0_ask_for_every_interface() {
    let mut imports = BTreeSet::new();
    for guest in ["probe", "deriver"] {
        let told = host().await.describe(charm(guest, |_| kept(&format!("{guest}.wasm")))).await.unwrap();
        imports.extend(told.imports);
    }
    for file in fs::read_dir(data().join("wit")).unwrap().map(|file| file.unwrap().path()) {
        let interface = file.file_stem().unwrap().to_str().unwrap();
        let is_imported = imports.contains(&format!("charm:host/{interface}@0.2.0"));
        assert!(is_imported || ["guest", "derivations", "world"].contains(&interface), "{interface}: {imports:?}");
    }
}

/// The values of a picture are values.
#[test]
fn the_picture_is_of_values() {
    let told: Json = serde_json::from_slice(&kept("store.json")).unwrap();
    let doc = told["spaces"]["anna"]["cells"]["doc"][1].as_str().unwrap();
    let bytes: Vec<u8> =
        (0..doc.len()).step_by(2).map(|at| u8::from_str_radix(&doc[at..at + 2], 16).unwrap()).collect();
    assert_eq!(Value::from_bytes(&bytes, 1 << 20, 64).unwrap(), value(json!({ "list": [2, 3], "text": "kept" })));
}
