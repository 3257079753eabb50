//! What a message must say: what happened, where, and the next step.

use super::*;

/// Runs steps in a charm and returns what its receipt says.
async fn message(host: &Host, charm: Did, steps: Json) -> String {
    let receipt = run(host, charm, steps).await;
    assert_ne!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    receipt.message.unwrap_or_default()
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

/// A limit says which one it is and what to look for.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_a_limit_is_told_what_to_look_for() {
    let host = builder().limits(Limits { fuel_max: 5_000_000, ..Limits::default() }).open().await.unwrap();
    let a = probe(&host, "a").await;
    says(&message(&host, a, json!([["spin"]])).await, &["over fuel-max 5000000", "an endless loop"]);
    says(&message(&host, a, json!([["recurse"]])).await, &["over stack-bytes-max", "recursion"]);
    host.shutdown().await.unwrap();
}

/// A send that cannot be made names the charm and the stream, in its receipt and in the dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn a_send_to_nobody_names_charm_and_stream() {
    let host = host().await;
    let [a, b] = probes(&host, ["a", "b"]).await;
    let all = |charms: &[Did]| all_of(charms);
    grant(&host, a, all(&[b]), all(&[b, stranger()])).await.unwrap();
    for (to, stream, words) in [
        (b, "nowhere", &["no charm", "is installed that has a stream nowhere"][..]),
        (stranger(), "note", &["no charm", "is installed"]),
        (a, "nowhere", &["no charm", "stream nowhere"]),
    ] {
        run(&host, a, json!([["send", of(to, stream), 1, {"stream": "on-receipt", "tag": 7}]])).await;
        let heard = notes_of_receipts(&host, a).await;
        says(&heard, &[&[to.to_string().as_str()], words].concat());
    }
    grant(&host, a, BTreeMap::new(), BTreeMap::new()).await.unwrap();
    run(&host, a, json!([["send", of(b, "note"), 1, {"stream": "on-receipt", "tag": 7}]])).await;
    let heard = notes_of_receipts(&host, a).await;
    says(&heard, &["no grant lets", &a.to_string(), "send to note of", &b.to_string(), "ask the operator"]);
    host.shutdown().await.unwrap();
}

/// Waits until all is settled; returns the receipts that a charm was told, as text, the last one last.
async fn notes_of_receipts(host: &Host, charm: Did) -> String {
    host.settled().await.unwrap();
    cell(host, charm, "receipts").await.as_array().and_then(|all| all.last()).map(Json::to_string).unwrap_or_default()
}

/// What is damaged in a store says where, and what to do next.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_in_a_store_says_what_to_do() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "x", [], 1], ["set", "gone", [], 1]])).await;
    run(&host, a, json!([["set", "x", [], 2], ["remove", "gone", []]])).await;
    grant(&host, a, all_of(&[a]), BTreeMap::new()).await.unwrap();
    host.shutdown().await.unwrap();
    let archive = Archive::open(home.read_only()).unwrap();
    let commits = archive.commits(Some(&a), 0, 100).unwrap();
    let first = commits.iter().find(|commit| !commit.record.writes().is_empty()).unwrap();
    let change = |sql: &str| rusqlite::Connection::open(home.index()).unwrap().execute(sql, []).unwrap();
    assert_eq!(change(&format!("UPDATE log SET record = x'07' WHERE g = {}", first.order)), 1);
    let entry = format!("log entry {}: record is malformed: run verify", first.order);
    says(&archive.commits(Some(&a), 0, 100).unwrap_err().to_string(), &[&entry]);
    for name in ["x", "gone"] {
        let error = archive.get(&a, name, &Path::root(), Some(first.record.seq)).unwrap_err();
        says(&error.to_string(), &[&entry]);
    }
    let proof = archive.verify(&a).unwrap_err().to_string();
    says(&proof, &["record is malformed (law chain): restore the store from a backup"]);
    assert!(!proof.contains("run verify"), "{proof}");
    for bytes in ["x''", "x'00'", "x'01ff'"] {
        assert_eq!(change(&format!("UPDATE kept SET kept = {bytes}")), 1);
        let error = home.builder().await.open().await.map(drop).unwrap_err().to_string();
        says(&error, &[&format!("the rights of {a} are malformed: restore the store from a backup")]);
    }
}

/// A misfit deep in a map is told with the key, cut.
#[tokio::test]
async fn a_misfit_in_a_map_names_the_key() {
    let shape: Shape = "{*: {location: string}}".parse().unwrap();
    let error = shape.check(&value(json!({ "oslo": { "location": 1 } }))).unwrap_err();
    says(&error.to_string(), &["/oslo/location", "string"]);
    let error = shape.check(&value(json!({ "k\u{202e}".repeat(100_000): { "location": 1 } }))).unwrap_err();
    assert!(error.to_string().len() < 256 && !error.to_string().contains('\u{202e}'), "{error}");
}

/// What is no component says what it is instead, and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_component_says_what_it_is() {
    let host = host().await;
    let install = async |bytes: Vec<u8>| host.install(Charm::new("a", bytes)).await.unwrap_err().to_string();
    let core = b"\0asm\x01\0\0\0".to_vec();
    says(&install(core).await, &["charm a", "it is a core module", "make a component of it"]);
    says(&install(Vec::new()).await, &["charm a", "it is empty"]);
    says(&install(vec![0x7f, b'E', b'L', b'F', 2]).await, &["charm a", "it is no WebAssembly"]);
    says(&install(b"hello".to_vec()).await, &["charm a", "it is no WebAssembly"]);
    says(&install(b"\n(component)".to_vec()).await, &["charm a", "it is text", "make a binary component of it"]);
    host.shutdown().await.unwrap();
}

/// A wish that finds nobody tells the operator which charm lacks what, of those that the charm may see.
#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_finds_nobody_is_told_with_the_reason() {
    let logs = Logs::capture();
    let host = host().await;
    let a = probe(&host, "a").await;
    let told = async |tag: &str, wanted: Json| {
        let id = send(&host, a, json!([["wish", tag, wanted]])).await;
        receipt(&host, &id).await;
        logs.lines(&id.to_string()).into_iter().filter(|line| line.contains("finds no charm")).collect::<String>()
    };
    let nobody = told("#nothing", json!({})).await;
    says(&nobody, &["wish for #nothing finds no charm", "none that publishes it is installed and granted"]);
    let other = told("#probe", json!({"cells": [["shaped", "string"]]})).await;
    says(&other, &["cell shaped of a", &a.to_string(), "has another shape"]);
    let absent = told("#probe", json!({"streams": [["absent", "any"]]})).await;
    says(&absent, &["stream absent of a", "is not declared"]);
    assert_eq!(told("#probe", json!({})).await, "", "one that finds somebody says nothing");
    host.shutdown().await.unwrap();
}
