//! Transactions: one writer, one snapshot, conflicts by value and path, all or nothing (T1-T7, A4).
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "transactions/held.rs"]
mod held;

use charm_conformance::*;
use charm_host::{Limits, NewEvent, Outcome};
use held::{Held, attempts};
use serde_json::{Value as Json, json};

// One writer.

/// T1, T2: the writer is bound before the guest starts, not by its first write.
#[tokio::test]
async fn the_first_write_of_a_turn_does_not_choose_its_writer() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let seen = results(&host, a, json!([["try", ["set", of(b, "x"), [], 1]], ["set", "x", [], 1]])).await;
    let error = json!({ "kind": "write-isolation", "requested": b.to_string(), "open": a.to_string() });
    assert_eq!(seen, json!([{ "error": error }, null]));
}

/// T2: whatever leads there.
#[tokio::test]
async fn no_route_leads_into_the_cell_of_another_did() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let [c] = probes(&host, ["c"]).await;
    grant(&host, a, all_of(&[b]), all_of(&[b])).await.unwrap();
    let before = (commits(&host, b), commits(&host, c));
    for (owner, step) in [
        (b, json!(["set", of(b, "x"), [], 1])),
        (b, json!(["set", of(b, "x"), ["deep", 0], 1])),
        (b, json!(["remove", of(b, "x"), []])),
        (b, json!(["set-bytes", of(b, "x"), [], [0xff]])),
        (c, json!(["set", of(c, "without-a-grant"), [], 1])),
        (host.operator(), json!(["set", of(host.operator(), "x"), [], 1])),
    ] {
        let seen = results(&host, a, json!([["try", step]])).await;
        let error = json!({ "kind": "write-isolation", "requested": owner.to_string(), "open": a.to_string() });
        assert_eq!(seen, json!([{ "error": error }]), "{step}");
    }
    assert_eq!((commits(&host, b), commits(&host, c)), before);
    // Now through a handle. A wish finds its own charm too, and lists by DID: the later one finds the other first.
    let (first, second) = (a.min(b), a.max(b));
    grant(&host, second, all_of(&[first]), all_of(&[])).await.unwrap();
    let seen = results(&host, second, json!([["try", ["wish-set", "#probe", "shared", "any", 1]]])).await;
    let error = json!({ "kind": "write-isolation", "requested": first.to_string(), "open": second.to_string() });
    assert_eq!(seen, json!([{ "error": error }]), "a handle gives no right");
}

/// T2: forged text is no DID, or is a DID that is not the writer's.
#[tokio::test]
async fn a_did_in_another_spelling_is_refused() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let (text, before) = (b.to_string(), commits(&host, b));
    let key = text.strip_prefix("did:key:").unwrap();
    for forged in [
        String::new(),
        format!("{text} "),
        format!(" {text}"),
        format!("{text}#{key}"),
        format!("{text}\0"),
        format!("DID:KEY:{key}"),
        format!("did:key:{}", key.replacen('z', "Z", 1)),
        format!("did:web:{key}"),
        text.replace('M', "%4D"),
        text[..text.len() - 1].to_owned(),
        format!("{text}{text}"),
        format!("did:key:z{}", "1".repeat(100_000)),
    ] {
        for step in [json!(["set", [forged, "x"], [], 1]), json!(["get", [forged, "x"], []])] {
            let seen = results(&host, a, json!([["try", step]])).await;
            assert_eq!(seen[0]["error"]["kind"], "invalid", "{forged:.80}");
        }
    }
    let looks_foreign = format!("{text}:x");
    assert_eq!(run(&host, a, json!([["set", looks_foreign, [], 1]])).await.outcome, Outcome::Committed);
    assert_eq!(commits(&host, b), before, "a name is only a name");
}

// One snapshot.

/// T3
#[tokio::test]
async fn a_turn_reads_its_own_writes_at_any_path() {
    let host = host().await;
    let (a, _) = pair(&host).await;
    run(&host, a, json!([["set", "x", [], { "old": 1 }]])).await;
    let seen = results(
        &host,
        a,
        json!([
            ["get", "x", ["old"]],
            ["set", "x", ["new", 0], 2],
            ["get", "x", []],
            ["remove", "x", ["old"]],
            ["get", "x", ["old"]],
            ["get", "x", ["new"]],
            ["remove", "x", []],
            ["get", "x", []],
            ["set", "x", [0], 3],
            ["get", of(a, "x"), []],
        ]),
    )
    .await;
    assert_eq!(seen, json!([1, null, { "old": 1, "new": [2] }, null, null, [2], null, null, null, [3]]));
}

/// T3: the second read of a turn is as old as the first, over one space and over two.
#[tokio::test(flavor = "multi_thread")]
async fn all_reads_of_a_turn_see_one_moment() {
    let held = Held::new(Limits::default()).await;
    let Held { host, wire, writer, reader, .. } = &held;
    let [other] = probes(host, ["other"]).await;
    grant(host, *reader, all_of(&[*writer, other]), all_of(&[])).await.unwrap();
    let set = async |n: u64| {
        run(host, other, json!([["set", "z", [], n]])).await;
        held.write(json!([["set", "x", [], n], ["set", "y", [], n]])).await;
    };
    for (owner, name) in [(*writer, "y"), (other, "z")] {
        set(1).await;
        let tell = json!(["fetch-with", { "url": WIRE }, of(owner, name), []]);
        let id = held.start(vec![json!(["get", of(*writer, "x"), []]), json!(["stop"]), tell]).await;
        // The turn has read the first cell; each of the three moves on.
        let came = wire.count();
        set(2).await;
        assert_eq!(held.end(id).await.outcome, Outcome::Committed);
        let told: Vec<_> = wire.requests()[came..].iter().map(|request| request.body.clone()).collect();
        assert_eq!(told, [b"1", b"2"], "{name}: the first attempt saw only the old state, the last only the new one");
    }
}

/// T3, T4: many rounds, everything at once.
#[tokio::test(flavor = "multi_thread")]
async fn cells_that_are_always_written_together_are_never_read_apart() {
    const ROUNDS: usize = 60;
    let host = host().await;
    let [writer, one, two] = probes(&host, ["writer", "one", "two"]).await;
    let mut sent = Vec::new();
    for round in 0..ROUNDS {
        let n = json!({ "round": round });
        send(&host, writer, json!([["set", "x", [], n], ["set", "y", ["is"], n], ["set", "z", [], n]])).await;
        for reader in [one, two] {
            let both = json!([
                ["get", of(writer, "x"), ["round"]],
                ["repeat", 200, ["get", "own", []]],
                ["get", of(writer, "y"), ["is", "round"]],
                ["get", of(writer, "z"), ["round"]],
            ]);
            let event = value(json!({ "steps": both, "out": format!("out-{round}") }));
            sent.push(host.send(NewEvent::new(reader, "run", event)).await.unwrap());
        }
    }
    settle(&host).await;
    for (index, id) in sent.iter().enumerate() {
        assert_eq!(receipt(&host, id).await.outcome, Outcome::Committed);
        let reader = [one, two][index % 2];
        let seen = cell(&host, reader, &format!("out-{}", index / 2)).await;
        assert!(seen[0] == seen[2] && seen[2] == seen[3], "{seen}");
    }
}

// Conflicts.

/// T4: a read still holds when reading it now gives the same.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_changed_answer_to_a_read_is_a_conflict() {
    Logs::capture();
    let held = Held::new(Limits::default()).await;
    let set = |path: Json, to: Json| json!([["set", "doc", path, to]]);
    let cases = [
        ("the same path", json!(["a"]), vec![set(json!(["a"]), json!(2))], true),
        ("another key", json!(["a"]), vec![set(json!(["new"]), json!(2))], false),
        ("a key beside", json!(["b", "c", 0]), vec![set(json!(["b", "c", 1]), json!(9))], false),
        ("an item of what was read", json!(["b"]), vec![set(json!(["b", "c", 0]), json!(9))], true),
        ("a part of the whole", json!([]), vec![set(json!(["b", "c", 0]), json!(9))], true),
        ("there and back", json!(["a"]), vec![set(json!(["a"]), json!(2)), set(json!(["a"]), json!(1))], false),
        ("the whole, written equal", json!([]), vec![set(json!(["a"]), json!(1))], false),
        ("another value of equal size", json!(["a"]), vec![set(json!(["a"]), json!("1"))], true),
        ("what was missing comes", json!(["new"]), vec![set(json!(["new"]), json!(null))], true),
        ("another missing one comes", json!(["new"]), vec![set(json!(["newer"]), json!(1))], false),
        ("the list grows to the index read", json!(["b", "c", 2]), vec![set(json!(["b", "c", 2]), json!(1))], true),
        ("the list stays below it", json!(["b", "c", 3]), vec![set(json!(["b", "c", 2]), json!(1))], false),
        ("the cell goes", json!(["a"]), vec![json!([["remove", "doc", []]])], true),
        ("the cell goes, nothing was there", json!(["new"]), vec![json!([["remove", "doc", []]])], false),
        ("a refusal stays the same", json!(["a", "b"]), vec![set(json!(["a"]), json!(2))], false),
        ("a refusal becomes another", json!(["a", "b"]), vec![set(json!(["a"]), json!("2"))], true),
        ("a refusal becomes none", json!(["a", "b"]), vec![set(json!(["a"]), json!({ "b": 1 }))], true),
    ];
    for (name, path, changes, conflicts) in cases {
        held.write(json!([["set", "doc", [], { "a": 1, "b": { "c": [1, 2] } }]])).await;
        let read = json!(["try", ["get", of(held.writer, "doc"), path]]);
        let id = held.start(vec![read.clone(), json!(["stop"])]).await;
        for change in changes {
            held.write(change).await;
        }
        assert_eq!(held.end(id).await.outcome, Outcome::Committed, "{name}");
        assert_eq!(attempts(id), if conflicts { 2 } else { 1 }, "{name}");
        if conflicts {
            let now = results(&held.host, held.reader, json!([read])).await;
            let seen = cell(&held.host, held.reader, "out").await;
            assert_eq!(seen[0], now[0], "{name}: the second attempt saw the new state");
        }
    }
}

/// T4: a cell that was not there is a read too.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_comes_into_being_is_a_conflict_and_one_that_was_never_seen_is_none() {
    Logs::capture();
    for (change, conflicts) in [
        (json!([["set", "fresh", [], 1]]), true),
        (json!([["set", "fresh", [], 1], ["remove", "fresh", []]]), false),
        (json!([["set", "other", [], 1]]), false),
    ] {
        let held = Held::new(Limits::default()).await;
        let id = held.start(vec![json!(["get", of(held.writer, "fresh"), []]), json!(["stop"])]).await;
        held.write(change).await;
        assert_eq!(held.end(id).await.outcome, Outcome::Committed);
        assert_eq!(attempts(id), if conflicts { 2 } else { 1 });
    }
}

/// T4, A4: a rerun gets the recorded answers in their order; only a request that differs leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_rerun_repeats_no_request() {
    Logs::capture();
    let held = Held::new(Limits::default()).await;
    let Held { host, wire, writer, reader, .. } = &held;
    held.write(json!([["set", "x", [], "old"]])).await;
    for body in ["first", "second", "told old", "told new"] {
        wire.answer_text(200, body);
    }
    let post = json!({ "url": format!("{WIRE}/pay"), "method": "POST", "body": "7 EUR" });
    let tell = json!(["fetch-with", { "url": WIRE }, of(*writer, "x"), []]);
    let id = held.start(vec![json!(["fetch", post]), json!(["fetch", post]), tell, json!(["stop"])]).await;
    held.write(json!([["set", "x", [], "new"]])).await;
    assert_eq!(held.end(id).await.outcome, Outcome::Committed);
    assert_eq!(attempts(id), 2);
    let sent: Vec<_> = wire.requests().iter().map(|request| String::from_utf8(request.body.clone()).unwrap()).collect();
    assert_eq!(sent, ["7 EUR", "7 EUR", "\"old\"", "\"new\""], "paid twice as asked, not four times");
    let seen = cell(host, *reader, "out").await;
    let answer = |body: &str| json!({ "status": 200, "body": body });
    assert_eq!(seen, json!([null, answer("first"), answer("second"), answer("told new"), null]));
}

/// T4: neither of two turns may decide on what the other has just changed.
#[tokio::test(flavor = "multi_thread")]
async fn two_turns_that_read_what_the_other_writes_do_not_both_win() {
    let (host, hold) = (host().await, Hold::new());
    let (a, b) = (probe(&host, "a").await, probe(&host, "b").await);
    for charm in [a, b] {
        grant(&host, charm, all_of(&[a, b]), all_of(&[a, b])).await.unwrap();
        run(&host, charm, json!([["set", "on-call", [], true]])).await;
    }
    let mut sent = Vec::new();
    for (own, other) in [(a, b), (b, a)] {
        let steps = json!([["get", of(other, "on-call"), []], hold.step(), ["set", "on-call", [], false]]);
        let event = value(json!({ "steps": steps, "out": "out" }));
        sent.push(host.send(NewEvent::new(own, "run", event)).await.unwrap());
    }
    hold.arrived(2).await;
    hold.release(1_000);
    for id in &sent {
        assert_eq!(receipt(&host, id).await.outcome, Outcome::Committed);
    }
    let seen = [cell(&host, a, "out").await[0].clone(), cell(&host, b, "out").await[0].clone()];
    assert!(seen.contains(&json!(true)) && seen.contains(&json!(false)), "one came first: {seen:?}");
}

/// T4, T7: loud, small, and without a word of what the cells hold. It was 363 KB.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_runs_out_of_time_in_conflicts_says_where_and_never_what() {
    let held = Held::new(Limits { conflict_ms_max: 0, ..Limits::default() }).await;
    let (secret, name) = ("s3cr3t".repeat(40_000), "n".repeat(128));
    for index in 0..4 {
        held.write(json!([["set", name, ["items", index], secret]])).await;
    }
    let seen = revision(&held.host, held.writer, &name).await.unwrap();
    let steps = [json!(["get", of(held.writer, &name), ["items", 3]]), json!(["stop"]), json!(["set", "x", [], 1])];
    let id = held.start(steps.to_vec()).await;
    held.write(json!([["set", "unrelated", [], 1]])).await;
    held.write(json!([["set", name, ["items", 3], "s3cr3t and new"]])).await;
    let receipt = held.end(id).await;
    assert_eq!((receipt.outcome, receipt.commit), (Outcome::ConflictExhausted, None));
    let message = receipt.message.clone().unwrap();
    let writer = held.writer;
    let place = format!("cell {name} of {writer} at /items/3 was read at revision {seen} and is at {} now", seen + 4);
    assert!(message.starts_with(&place), "{message}");
    assert!(message.len() <= 1 << 10 && !message.contains("s3cr3t"), "{message}");
    assert!(charm_host::Value::encode(&receipt).unwrap().as_bytes().len() <= 2 << 10);
    assert_eq!(cell(&held.host, held.reader, "x").await, Json::Null, "nothing of the turn remains (T6)");
    assert_eq!(held.host.dead_letters(&held.reader, 0, usize::MAX).unwrap()[0].receipt, receipt);
    assert_eq!(run(&held.host, held.reader, json!([["set", "x", [], 2]])).await.outcome, Outcome::Committed);
}

// All or nothing.

/// T5: what a turn does is one record in its space's log.
#[tokio::test]
async fn a_commit_is_one_record_of_writes_acknowledgement_and_sends() {
    let home = Home::default();
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    let steps = json!([
        ["set", "x", [], 1],
        ["remove", "never", []],
        ["send", of(b, "note"), "one", { "stream": "on-receipt", "tag": 1 }],
        ["set", "y", [], 2],
        ["send", "note", "two"],
    ]);
    let receipt = run(&host, a, steps).await;
    settle(&host).await;
    host.shutdown().await.unwrap();
    let store = charm_host::FolderStore::open_read_only(home.store()).unwrap();
    let commits = charm_host::Archive::open(store).unwrap().commits(Some(&a), 0, 100).unwrap();
    let turns: Vec<_> = commits.iter().filter_map(|commit| commit.record.turn()).collect();
    let turn = turns[0];
    assert_eq!(turn.receipt, receipt);
    assert_eq!(turn.writes.iter().map(|write| &*write.name).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(turn.sends.iter().map(|sent| sent.event.to).collect::<Vec<_>>(), [b, a]);
    assert_eq!(turns.len(), 3, "the turn, its own note, and the receipt's turn");
    assert_eq!(turns.iter().filter(|turn| turn.writes.iter().any(|write| &*write.name == "receipts")).count(), 1);
}

/// T6: also when the turn itself ended well.
#[tokio::test]
async fn a_turn_that_leaves_a_cell_in_another_shape_than_declared_leaves_nothing() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let good = json!([["set", "shaped", [], "not yet"], ["set", "shaped", [], { "n": 1 }]]);
    assert_eq!(run(&host, a, good).await.outcome, Outcome::Committed, "only what is left counts");
    let note = json!(["send", of(b, "note"), 1]);
    let receipt = run(&host, a, json!([["set", "other", [], 1], note, ["set", "shaped", ["n"], "s3cr3t"]])).await;
    assert_eq!(receipt.outcome, Outcome::Faulted);
    let message = receipt.message.unwrap();
    assert!(message.contains("cell shaped") && message.contains("int") && !message.contains("s3cr3t"), "{message}");
    settle(&host).await;
    assert_eq!(cell(&host, a, "shaped").await, json!({ "n": 1 }));
    assert_eq!((cell(&host, a, "other").await, cell(&host, b, "notes").await), (Json::Null, Json::Null));
}

/// T7: whatever a guest says.
#[tokio::test]
async fn words_of_a_guest_are_cut_to_their_bound() {
    let host = host().await;
    let (a, _) = pair(&host).await;
    for text in ["x".repeat(200_000), "\u{1f980}".repeat(50_000), "\u{1b}[31m\n".repeat(20_000), "\0".repeat(100_000)] {
        for op in ["reject", "panic"] {
            let receipt = run(&host, a, json!([[op, text]])).await;
            let message = receipt.message.as_ref().unwrap();
            let max = if op == "panic" { 256 + "panicked: ".len() } else { 1 << 10 };
            assert!(message.len() <= max, "{op}: {} bytes", message.len());
            assert!(!message.chars().any(char::is_control), "{message:?}");
            assert!(charm_host::Value::encode(&receipt).unwrap().as_bytes().len() <= 2 << 10);
        }
    }
}

/// T7: names inside errors are cut at 256 bytes.
#[tokio::test]
async fn errors_of_host_calls_are_small_however_large_what_they_name() {
    let host = host().await;
    let (a, _) = pair(&host).await;
    let long = "long".repeat(20_000);
    let calls = [
        json!(["get", "x", [long, "deeper"]]),
        json!(["set", "x", [long, "deeper"], 1]),
        json!(["get", long, []]),
        json!(["get", [long, "x"], []]),
        json!(["send", long, 1]),
        json!(["send", "note", 1, { "stream": long }]),
        json!(["wish", long, {}]),
        json!(["wish", "#probe", { "cells": [[long, "any"]] }]),
        json!(["wish", "#probe", { "cells": [["x", long]] }]),
        json!(["fetch", { "url": format!("https://{long}") }]),
        json!(["fetch", { "url": WIRE, "method": long }]),
        json!(["fetch", { "url": WIRE, "headers": [[long, "x"]] }]),
    ];
    run(&host, a, json!([["set", "x", [long], "a scalar"]])).await;
    for call in calls {
        let seen = results(&host, a, json!([["try", call]])).await;
        let error = seen[0].get("error").unwrap_or_else(|| panic!("{:.60} was not refused", call.to_string()));
        for (field, text) in error.as_object().unwrap() {
            assert!(text.as_str().is_none_or(|text| text.len() <= 256), "{field} of {:.60}", call.to_string());
        }
    }
}
