//! Chapter history: the past of a charm goes, what it holds stays, and the rest is proved (H1, C6, S9).
#![allow(clippy::unwrap_used, reason = "tests")]

mod crashes;
mod kept;
mod random;
mod twice;

use std::time::Duration;

use charm_conformance::*;
use charm_host::*;
use serde_json::{Value as Json, json};

/// A word that is looked for in files.
const SECRET: &str = "the-secret-that-was-rotated";

fn root() -> Path {
    Path::root()
}

async fn at(host: &Host, charm: Did, name: &str, seq: u64) -> Result<Option<Json>, ReadError> {
    Ok(host.get_at::<Value>(&charm, name, &root(), seq).await?.map(|value| json(&value)))
}

/// C6: what was before is compacted, by name; what is kept is as it was, also of a cell that was removed and made again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_reads_as_before_and_what_has_gone_says_so() {
    let home = Home::default();
    let mut host = home.open().await;
    let a = probe(&host, "a").await;
    for n in 0..3 {
        run(&host, a, json!([["set", "x", [], n], ["set", "still", [], "s"], ["set", "list", ["k"], n]])).await;
    }
    let gone = host.prune(&a).await.unwrap();
    let floor = gone.floor;
    assert_eq!((gone.commits, gone.receivers), (floor, vec![]));
    let steps = [
        json!([["remove", "x", []], ["set", "list", ["k"], 9]]),
        json!([["set", "list", ["l"], 10]]),
        json!([["set", "x", [], "again"], ["remove", "still", []]]),
        json!([["set", "x", [], "more"]]),
    ];
    let mut seqs = vec![floor];
    for steps in steps {
        seqs.push(run(&host, a, steps).await.commit.unwrap());
    }
    let expected = [
        (json!(2), json!("s"), json!({"k": 2})),
        (Json::Null, json!("s"), json!({"k": 9})),
        (Json::Null, json!("s"), json!({"k": 9, "l": 10})),
        (json!("again"), Json::Null, json!({"k": 9, "l": 10})),
        (json!("more"), Json::Null, json!({"k": 9, "l": 10})),
    ];
    for round in 0..2 {
        for (seq, (x, still, list)) in seqs.iter().zip(&expected) {
            for (name, expected) in [("x", x), ("still", still), ("list", list)] {
                let found = at(&host, a, name, *seq).await.unwrap().unwrap_or_default();
                assert_eq!(&found, expected, "{name} at {seq}, round {round}");
            }
        }
        let archive = Archive::open(home.read_only()).unwrap();
        let found = archive.get(&a, "x", &root(), Some(floor)).unwrap().map(|value| json(&value));
        assert_eq!(found, Some(json!(2)), "an archive too");
        for refused in [
            at(&host, a, "x", floor - 1).await.unwrap_err(),
            archive.get(&a, "x", &root(), Some(floor - 1)).unwrap_err(),
        ] {
            let text = format!("commit {} of {a} is compacted: the oldest that can be read is {floor}", floor - 1);
            assert_eq!(refused.to_string(), text);
        }
        let proof = archive.verify_store().unwrap();
        assert_eq!((proof.spaces[&a].floor, archive.verify(&a).unwrap()), (floor, proof.spaces[&a]));
        host.shutdown().await.unwrap();
        host = home.open().await;
    }
}

/// H1: wherever it was: cells, events that waited, dead letters, messages, sends; the journal, the index, its log.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_gone_is_in_no_file_of_the_store() {
    let home = Home::default();
    let host = home.open().await;
    let [a, b] = [probe(&host, "a").await, probe(&host, "b").await];
    run(&host, a, json!([["set", "token", [], SECRET], ["set", format!("{SECRET}-name"), [], 1]])).await;
    run(&host, a, json!([["set", "big", [], SECRET.repeat(1_000)]])).await;
    run(&host, a, json!([["set", "big", ["k"], SECRET]])).await;
    run(&host, a, json!([["reject", SECRET]])).await;
    note(&host, a, json!(SECRET)).await;
    run(&host, a, json!([["get", "token", []], ["trap"]])).await;
    // It goes from the cells, as a person asks who wants to be forgotten.
    let names = host.cells(&a).await.unwrap();
    let steps: Vec<Json> = names.iter().map(|cell| json!(["remove", cell.name, []])).collect();
    run(&host, a, json!(steps)).await;
    run(&host, b, json!([["set", "x", [], "others stay"]])).await;
    assert!(!files_with(&home.store(), SECRET).is_empty(), "it is there until it is pruned");
    let letters = host.dead_letters(&a, 0, 9).unwrap();
    assert!(!letters.is_empty());
    let gone = host.prune(&a).await.unwrap();
    assert_eq!(files_with(&home.store(), SECRET), Vec::<String>::new(), "beside the host that runs");
    let receipt = host.receipt(&letters[0].event.id).await.unwrap().unwrap();
    assert_eq!((receipt.outcome, receipt.message), (letters[0].receipt.outcome, None), "its outcome is known still");
    assert_eq!(cell(&host, b, "x").await, json!("others stay"));
    host.shutdown().await.unwrap();
    assert_eq!(files_with(&home.store(), SECRET), Vec::<String>::new());
    let archive = Archive::open(home.read_only()).unwrap();
    assert_eq!(archive.verify_store().unwrap().spaces[&a].floor, gone.floor);
}

/// H1: whose past goes does not matter to another charm; what it sent is there, and is named.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_is_the_receivers() {
    let home = Home::default();
    let host = home.open().await;
    let [a, b, c] = [probe(&host, "a").await, probe(&host, "b").await, probe(&host, "c").await];
    grant(&host, a, all_of(&[]), all_of(&[b, c])).await.unwrap();
    host.pause(&c).await.unwrap();
    run(&host, a, json!([["send", of(b, "note"), SECRET], ["send", of(c, "note"), "waits"]])).await;
    until("b has it", || host.spaces().iter().any(|space| space.did == b && space.waiting == 0)).await;
    until("b has it", || counted(&host).waiting == 1).await;
    let gone = host.prune(&a).await.unwrap();
    let mut receivers = vec![b, c];
    receivers.sort();
    assert_eq!(gone.receivers, receivers);
    assert!(!files_with(&home.store(), SECRET).is_empty(), "it is in the cells and the log of b");
    // What waits is proved by the sender's checkpoint, also when the receiver's past goes and when it is settled.
    let check = async || {
        let store = home.read_only();
        Archive::open(store).unwrap().verify_store().unwrap()
    };
    assert_eq!(check().await.waiting, 1);
    host.prune(&c).await.unwrap();
    assert_eq!(check().await.waiting, 1);
    host.resume(&c).await.unwrap();
    until("c has it", || host.spaces().iter().all(|space| space.waiting == 0)).await;
    assert_eq!(json(&host.get::<Value>(&c, "notes", &root()).await.unwrap().unwrap()), json!(["waits"]));
    host.prune(&c).await.unwrap();
    host.prune(&a).await.unwrap();
    assert_eq!(check().await.waiting, 0);
    let missing = host.prune(&host.operator()).await;
    assert!(missing.is_ok(), "the operator's own space is one too");
    host.shutdown().await.unwrap();
}

/// U1, H1: what is left is a name, a DID and a key.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_that_is_uninstalled_takes_its_data_along() {
    let home = Home::default();
    let host = home.open().await;
    let [a, b] = [probe(&host, "a").await, probe(&host, "b").await];
    grant(&host, b, all_of(&[]), all_of(&[a])).await.unwrap();
    let names: Vec<String> = (0..2 * HISTORY_STEP + 9).map(|n| format!("cell {n}")).collect();
    for some in names.chunks(100) {
        let steps: Vec<Json> = some.iter().map(|name| json!(["set", name, [], SECRET])).collect();
        run(&host, a, json!(steps)).await;
    }
    host.pause(&a).await.unwrap();
    run(&host, b, json!([["send", of(a, "note"), SECRET, {"stream": "on-receipt", "tag": "t"}]])).await;
    for _ in 0..WAITING_STEP {
        host.send(NewEvent::new(a, "note", value(json!(1)))).await.unwrap();
    }
    let waits = host.send(NewEvent::new(a, "note", value(json!(SECRET)))).await.unwrap();
    let others = host.cells(&b).await.unwrap().len();
    host.uninstall_with_data(&a).await.unwrap();
    assert_eq!(host.receipt(&waits).await.unwrap().unwrap().outcome, Outcome::Cancelled);
    assert!(host.cells(&a).await.unwrap().is_empty());
    let gone = host.uninstall_with_data(&a).await.unwrap();
    assert!(gone.floor > WAITING_STEP as u64, "again, as after a crash");
    host.prune(&b).await.unwrap();
    assert_eq!(files_with(&home.store(), SECRET), Vec::<String>::new(), "nor with its sender, whose past goes too");
    assert!(host.cells(&b).await.unwrap().len() >= others);
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
    // It begins anew, as it was named.
    assert_eq!(probe(&host, "a").await, a);
    host.resume(&a).await.unwrap();
    run(&host, a, json!([["set", "x", [], 1]])).await;
    host.shutdown().await.unwrap();
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
    let host = home.open().await;
    let nobody = host.prune(&"did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().unwrap()).await;
    assert!(matches!(nobody, Err(SendError::NoSuchCharm { .. })));
    host.shutdown().await.unwrap();
}

/// A5, C6: one cell a message, for ever.
#[tokio::test]
async fn names_of_removed_cells_are_free_again() {
    let host = builder().limits(Limits { cells_max: 3, ..Limits::default() }).open().await.unwrap();
    let a = probe(&host, "a").await;
    for n in 0..20 {
        let steps = json!([["set", format!("message {n}"), [], n]]);
        assert_eq!(run(&host, a, steps).await.outcome, Outcome::Committed);
        if n > 1 {
            run(&host, a, json!([["remove", format!("message {}", n - 2), []]])).await;
        }
    }
    let first = run(&host, a, json!([["set", "message 0", [], "again"]])).await.commit.unwrap();
    assert_eq!(at(&host, a, "message 0", first).await.unwrap(), Some(json!("again")));
    let full = run(&host, a, json!([["set", "one more", [], 1]])).await;
    assert!(full.message.unwrap().contains("cells-max 3"));
}
