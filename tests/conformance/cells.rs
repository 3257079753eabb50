//! Cells: values, the boundary they pass, paths, revisions (C1-C4, C6).
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "cells/encodings.rs"]
mod encodings;
#[path = "cells/model.rs"]
mod model;

use std::collections::BTreeMap;

use charm_conformance::*;
use charm_host::{Did, Host, Limits, NewEvent, Outcome, Path, ReadError, SendError, Value};
use encodings::{kinds, malformed};
use ipld_core::ipld::Ipld;
use model::{Edit, apply, edits};
use proptest::prop_assert_eq;
use serde_json::{Value as Json, json};

async fn one_probe() -> (Host, Did) {
    let host = host().await;
    let [charm] = probes(&host, ["cells"]).await;
    (host, charm)
}

/// Runs steps that must commit, each inside `try`; returns what each gave: `{ok}` or the kind of its error.
async fn tried(host: &Host, charm: Did, steps: &[Json]) -> Vec<Json> {
    let steps: Vec<_> = steps.iter().map(|step| json!(["try", step])).collect();
    let results = results(host, charm, json!(steps)).await;
    let told = |result: &Json| match result.get("error") {
        Some(error) => error["kind"].clone(),
        None => result.clone(),
    };
    results.as_array().unwrap().iter().map(told).collect()
}

/// C1
#[tokio::test]
async fn every_kind_of_value_comes_back_as_it_was() {
    let (host, charm) = one_probe().await;
    for (data, kind) in kinds() {
        let wanted = Value::encode(&data).unwrap();
        assert_eq!(wanted.kind(), kind);
        let text = |text: &str| Ipld::String(text.to_owned());
        let set = Ipld::List(vec![text("set"), text("x"), Ipld::List(Vec::new()), data.clone()]);
        let event = Ipld::Map([("steps".to_owned(), Ipld::List(vec![set]))].into());
        let event = NewEvent::new(charm, "run", Value::encode(&event).unwrap());
        assert_eq!(host.request(event).await.unwrap().outcome, Outcome::Committed);
        let stored = value_of(&host, charm, "x").await.unwrap();
        assert_eq!(stored.as_bytes(), wanted.as_bytes(), "{kind}");
        assert_eq!(stored.decode::<Ipld>().unwrap(), data);
    }
}

/// C1: a cell is a name in the space of a DID.
#[tokio::test]
async fn the_same_name_in_two_spaces_is_two_cells() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    run(&host, a, json!([["set", "x", [], "of a"]])).await;
    run(&host, b, json!([["set", "x", [], "of b"]])).await;
    assert_eq!((cell(&host, a, "x").await, cell(&host, b, "x").await), (json!("of a"), json!("of b")));
    let reads = json!([["get", "x", []], ["get", of(b, "x"), []], ["get", of(a, "x"), []]]);
    assert_eq!(results(&host, a, reads).await, json!(["of a", "of b", "of a"]));
    // What a turn has written to its own cell is not what it reads of the other's.
    let reads = json!([["set", "x", [], "new of a"], ["get", of(b, "x"), []], ["get", "x", []]]);
    assert_eq!(results(&host, a, reads).await, json!([null, "of b", "new of a"]));
}

/// C1
#[tokio::test]
async fn a_cell_name_is_1_to_128_bytes_without_slashes_and_control_characters() {
    let (host, charm) = one_probe().await;
    for name in ["a", "with space: and more", "ключ", "x".repeat(128).as_str(), "é".repeat(64).as_str()] {
        let receipt = run(&host, charm, json!([["set", name, [], 1]])).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{name}");
    }
    for name in ["", "line\nbreak", "nul\0", "a/b", "\u{7f}", "x".repeat(129).as_str(), "é".repeat(65).as_str()] {
        assert_eq!(tried(&host, charm, &[json!(["set", name, [], 1])]).await, [json!("invalid")], "{name:?}");
    }
    assert_eq!(host.cells(&charm).await.unwrap().len(), 5 + 1, "and the cell with the results");
}

/// C2: at each place where bytes of a guest come in.
#[tokio::test]
async fn every_form_that_is_not_canonical_is_refused_at_the_boundary() {
    let (host, charm) = one_probe().await;
    run(&host, charm, json!([["set", "x", [], { "kept": 1 }]])).await;
    for (name, bytes) in malformed() {
        let steps = [
            json!(["set-bytes", "x", [], bytes]),
            json!(["set-bytes", "x", ["in", "side"], bytes]),
            json!(["send-bytes", "note", bytes]),
            json!(["send-tag", "note", "on-receipt", bytes]),
        ];
        assert_eq!(tried(&host, charm, &steps).await, vec![json!("invalid"); 4], "{name}");
        assert!(Value::from_bytes(&bytes, 1 << 20, 64).is_err(), "an embedder meets the same: {name}");
    }
    assert_eq!(cell(&host, charm, "x").await, json!({ "kept": 1 }));
    settle(&host).await;
    assert_eq!(cell(&host, charm, "notes").await, Json::Null, "no event left");
}

/// C2: 64 levels, counted with the path.
#[tokio::test]
async fn a_value_deeper_than_64_levels_is_refused_by_its_bound() {
    let (host, charm) = one_probe().await;
    let nested = |levels: usize| -> Vec<u8> { [vec![0x81; levels - 1], vec![0x00]].concat() };
    let path = |steps: usize| vec!["k"; steps];
    let fits = [
        json!(["set-bytes", "x", [], nested(64)]),
        json!(["set-bytes", "y", path(10), nested(54)]),
        json!(["set-bytes", "z", path(63), nested(1)]),
    ];
    let null = json!({ "ok": null });
    assert_eq!(tried(&host, charm, &fits).await, vec![null; 3]);
    let deep = [
        json!(["set-bytes", "x", [], nested(65)]),
        json!(["set-bytes", "x", [], nested(60_000)]),
        json!(["set-bytes", "x", path(10), nested(55)]),
        json!(["send-bytes", "note", nested(65)]),
    ];
    let results = results(&host, charm, json!(deep.map(|step| json!(["try", step])))).await;
    for result in results.as_array().unwrap() {
        assert_eq!(result["error"]["kind"], "limit", "{result}");
        assert_eq!(result["error"]["name"], "value-depth-max", "{result}");
    }
}

/// C2, A5
#[tokio::test]
async fn a_value_larger_than_its_bound_is_refused_whole_or_grown_piece_by_piece() {
    let limits = Limits { value_bytes_max: 1_000, event_bytes_max: 4_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let [charm] = probes(&host, ["cells"]).await;
    // A string of more than 255 bytes has a head of 3.
    let text = |bytes: usize| "x".repeat(bytes - 3);
    let steps = [
        json!(["set", "x", [], text(1_000)]),
        json!(["set", "x", [], text(1_001)]),
        json!(["set", "y", [0], text(900)]),
        json!(["set", "y", [1], "x".repeat(98)]),
        json!(["set", "y", [1], "x".repeat(97)]),
    ];
    let (ok, limit) = (json!({ "ok": null }), json!("limit"));
    // A list of two has a head of 1, a string of 97 one of 2: 1 + 900 + 99 fit, one more does not.
    let expected = [ok.clone(), limit.clone(), ok.clone(), limit, ok];
    assert_eq!(tried(&host, charm, &steps).await, expected);
    assert_eq!(value_of(&host, charm, "y").await.unwrap().as_bytes().len(), 1_000);
    let large = NewEvent::new(charm, "note", value(json!("x".repeat(4_000))));
    assert_eq!(host.request(large).await, Err(SendError::Limit { name: "event-bytes-max", max: 4_000 }));
}

/// C3
#[tokio::test]
async fn reading_what_is_missing_gives_none() {
    let (host, charm) = one_probe().await;
    run(&host, charm, json!([["set", "x", [], { "a": { "b": 1 }, "list": [10, 20], "null": null }]])).await;
    let reads = [
        json!(["get", "never-set", []]),
        json!(["get", "never-set", ["a", 0]]),
        json!(["get", "x", ["c"]]),
        json!(["get", "x", ["a", "c"]]),
        json!(["get", "x", ["c", "d", 0]]),
        json!(["get", "x", ["list", 2]]),
        json!(["get", "x", ["list", u32::MAX]]),
    ];
    assert_eq!(tried(&host, charm, &reads).await, vec![json!({ "ok": null }); 7]);
    let there = [json!(["get", "x", ["a", "b"]]), json!(["get", "x", ["list", 1]])];
    assert_eq!(tried(&host, charm, &there).await, [json!({ "ok": 1 }), json!({ "ok": 20 })]);
    let outside = host.get(&charm, "x", &"/list/1".parse::<Path>().unwrap()).await.unwrap();
    assert_eq!(json(&outside.unwrap()), json!(20), "an embedder reads by path too");
}

/// C3: for reads, writes and removals alike; the error names the place and the kinds.
#[tokio::test]
async fn a_path_through_a_value_of_another_kind_is_a_type_mismatch() {
    let (host, charm) = one_probe().await;
    let whole = json!({ "n": 1, "text": "t", "null": null, "list": [], "map": {}, "deep": [{ "f": 0.5 }] });
    run(&host, charm, json!([["set", "x", [], whole]])).await;
    for (path, at, expected, actual) in [
        (json!([0]), "/", "list", "map"),
        (json!(["n", "a"]), "/n", "map", "integer"),
        (json!(["n", 0]), "/n", "list", "integer"),
        (json!(["text", 0]), "/text", "list", "string"),
        (json!(["null", "a"]), "/null", "map", "null"),
        (json!(["list", "a"]), "/list", "map", "list"),
        (json!(["map", 0]), "/map", "list", "map"),
        (json!(["deep", 0, "f", "a", "b"]), "/deep/0/f", "map", "float"),
    ] {
        let error = json!({ "error": { "kind": "type-mismatch", "at": at, "expected": expected, "actual": actual } });
        let steps = [json!(["get", "x", path]), json!(["set", "x", path, 1]), json!(["remove", "x", path])];
        let results = results(&host, charm, json!(steps.map(|step| json!(["try", step])))).await;
        assert_eq!(results, json!([error, error, error]), "{path}");
    }
    assert_eq!(cell(&host, charm, "x").await, whole);
}

/// C3
#[tokio::test]
async fn writing_below_what_is_missing_makes_its_parents() {
    let (host, charm) = one_probe().await;
    for (path, expected) in [
        (json!(["a", "b", "c"]), json!({ "a": { "b": { "c": 7 } } })),
        (json!([0, "a", 0]), json!([{ "a": [7] }])),
        (json!(["0"]), json!({ "0": 7 })),
    ] {
        run(&host, charm, json!([["remove", "x", []], ["set", "x", path, 7]])).await;
        assert_eq!(cell(&host, charm, "x").await, expected);
    }
}

/// C3
#[tokio::test]
async fn a_list_grows_at_its_end_and_nowhere_else() {
    let (host, charm) = one_probe().await;
    let steps = [
        json!(["set", "x", [1], "too far"]),
        json!(["set", "x", [0], "a"]),
        json!(["set", "x", [1], "b"]),
        json!(["set", "x", [3], "too far"]),
        json!(["set", "x", [0], "A"]),
        json!(["set", "x", [2, "new"], "c"]),
    ];
    let (ok, mismatch) = (json!({ "ok": null }), json!("type-mismatch"));
    let expected = [mismatch.clone(), ok.clone(), ok.clone(), mismatch, ok.clone(), ok];
    assert_eq!(tried(&host, charm, &steps).await, expected);
    assert_eq!(cell(&host, charm, "x").await, json!(["A", "b", { "new": "c" }]));
}

/// C3
#[tokio::test]
async fn removing_takes_out_a_key_an_item_or_the_cell() {
    let (host, charm) = one_probe().await;
    let whole = json!({ "a": 1, "list": [0, 1, 2], "map": { "k": {} } });
    run(&host, charm, json!([["set", "x", [], whole], ["set", "y", [], 1]])).await;
    let removals = json!([["remove", "x", ["a"]], ["remove", "x", ["list", 1]], ["remove", "x", ["map", "k"]]]);
    run(&host, charm, removals).await;
    assert_eq!(cell(&host, charm, "x").await, json!({ "list": [0, 2], "map": {} }));
    run(&host, charm, json!([["remove", "x", []]])).await;
    assert_eq!(value_of(&host, charm, "x").await, None);
    assert_eq!(host.cells(&charm).await.unwrap().len(), 1, "a removed cell is not listed");
}

/// C3, C4
#[tokio::test]
async fn removing_what_is_not_there_is_no_write() {
    let (host, charm) = one_probe().await;
    run(&host, charm, json!([["set", "x", [], { "list": [1] }]])).await;
    let before = revision(&host, charm, "x").await;
    let steps = [
        json!(["remove", "never-set", []]),
        json!(["remove", "never-set", ["a", "b"]]),
        json!(["remove", "x", ["b"]]),
        json!(["remove", "x", ["b", "c"]]),
        json!(["remove", "x", ["list", 1]]),
    ];
    assert_eq!(tried(&host, charm, &steps).await, vec![json!({ "ok": null }); 5]);
    assert_eq!(revision(&host, charm, "x").await, before);
}

/// C2: whatever order keys are written in.
#[tokio::test]
async fn what_paths_put_together_is_canonical_too() {
    let (host, charm) = one_probe().await;
    let keys = ["bb", "a", "ccc", "b", "", "aa", "z"];
    let steps: Vec<_> = keys.iter().map(|key| json!(["set", "x", ["m", key], key])).collect();
    run(&host, charm, json!(steps)).await;
    let whole: BTreeMap<_, _> = keys.iter().map(|key| (*key, *key)).collect();
    assert_eq!(value_of(&host, charm, "x").await, Some(value(json!({ "m": whole }))));
}

/// C3: no deeper than a value.
#[tokio::test]
async fn a_path_of_64_steps_is_refused_by_its_bound() {
    let (host, charm) = one_probe().await;
    let path = vec!["k"; 64];
    let steps = [json!(["get", "x", path]), json!(["set", "x", path, 1]), json!(["remove", "x", path])];
    assert_eq!(tried(&host, charm, &steps).await, vec![json!("limit"); 3]);
}

/// C4
#[tokio::test]
async fn writing_an_equal_value_is_no_write() {
    let (host, charm) = one_probe().await;
    run(&host, charm, json!([["set", "x", [], { "a": [1, 2] }]])).await;
    let (written, before) = (revision(&host, charm, "x").await, commits(&host, charm));
    for steps in [
        json!([["set", "x", [], { "a": [1, 2] }]]),
        json!([["set", "x", ["a"], [1, 2]]]),
        json!([["set", "x", ["a", 1], 2]]),
        json!([["set", "x", ["a", 1], 3], ["set", "x", ["a", 1], 2]]),
        json!([["remove", "x", []], ["set", "x", [], { "a": [1, 2] }]]),
        json!([["set", "gone", [], 1], ["remove", "gone", []]]),
    ] {
        assert_eq!(run(&host, charm, steps).await.outcome, Outcome::Committed);
    }
    assert_eq!(revision(&host, charm, "x").await, written, "no new revision");
    assert_eq!(commits(&host, charm), before + 12, "the events were acknowledged all the same");
    run(&host, charm, json!([["set", "x", ["a", 1], 3]])).await;
    assert_eq!(revision(&host, charm, "x").await, Some(before + 14));
}

/// C6: also in a host that was started again, and beside it.
#[tokio::test]
async fn every_revision_stays_addressable_by_its_number() {
    let home = Home::default();
    let host = home.open().await;
    let charm = probe(&host, "cells").await;
    let steps = [
        json!([["set", "x", [], { "n": 1 }]]),
        json!([["set", "other", [], 1]]),
        json!([["set", "x", ["n"], 2], ["set", "x", ["n"], 3]]),
        json!([["set", "x", ["n"], 3]]),
        json!([["remove", "x", []]]),
        json!([["reject", "a failed turn is a commit without writes"]]),
        json!([["set", "x", [], { "n": 4 }], ["set", "other", [], 2]]),
    ];
    let first = commits(&host, charm);
    for steps in steps {
        run(&host, charm, steps).await;
    }
    // Before everything, and after each event and its turn.
    let expected = [None, Some(1), Some(1), Some(3), Some(3), None, None, Some(4)];
    let last = first + 14;
    let n: Path = "/n".parse().unwrap();
    let mut host = host;
    for _ in 0..2 {
        for (turn, expected) in expected.iter().enumerate() {
            let seq = first + 2 * turn as u64;
            let seen = host.get_at(&charm, "x", &n, seq).await.unwrap();
            assert_eq!(seen.map(|value| json(&value)), expected.map(|n| json!(n)), "at {seq}");
        }
        let late = host.get_at::<Value>(&charm, "x", &n, last + 1).await.unwrap_err();
        assert!(
            matches!(late, ReadError::NoSuchCommit { seq, last: at, .. } if (seq, at) == (last + 1, last)),
            "{late}"
        );
        host.shutdown().await.unwrap();
        host = home.open().await;
    }
    let stranger = host.operator();
    let archive = charm_host::Archive::open(charm_host::FolderStore::open_read_only(home.store()).unwrap()).unwrap();
    for (turn, expected) in expected.iter().enumerate() {
        let seq = first + 2 * turn as u64;
        let seen = archive.get(&charm, "x", &n, Some(seq)).unwrap();
        assert_eq!(seen.map(|value| json(&value)), expected.map(|n| json!(n)), "at {seq}");
    }
    assert_eq!(archive.get(&stranger, "x", &n, None).unwrap(), None);
}

/// C3: against a model that knows no bytes.
#[test]
fn any_sequence_of_writes_and_removals_gives_what_the_model_gives() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (host, charm) = runtime.block_on(one_probe());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let checked = runner.run(&edits(), |edits| {
        let mut model = None;
        let expected: Vec<bool> = edits.iter().map(|edit| apply(&mut model, edit)).collect();
        let mut steps = vec![json!(["remove", "x", []])];
        steps.extend(edits.iter().map(|Edit { path, value }| match value {
            Some(value) => json!(["set", "x", path, value]),
            None => json!(["remove", "x", path]),
        }));
        let done = runtime.block_on(tried(&host, charm, &steps));
        let done: Vec<bool> = done[1..].iter().map(Json::is_object).collect();
        prop_assert_eq!(done, expected);
        prop_assert_eq!(runtime.block_on(value_of(&host, charm, "x")), model.map(value));
        Ok(())
    });
    checked.unwrap();
    runtime.block_on(host.shutdown()).unwrap();
}
