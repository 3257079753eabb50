//! Mergeable writes: append, add-unique, remove-by-value and increment (C3, C4, C7, T2).
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use charm_conformance::*;
use charm_host::{Archive, Did, FolderStore, Host, Limits, MemoryStore, Outcome};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value as Json, json};

const OPS: [&str; 4] = ["append", "add-unique", "remove-by-value", "increment"];

async fn one_probe() -> (Host, Did) {
    let host = host().await;
    let charm = probe(&host, "merges").await;
    (host, charm)
}

/// Runs steps in a turn that must commit, each inside `try`; returns what each gave: its result, or its error.
async fn tried(host: &Host, charm: Did, steps: Json) -> Vec<Json> {
    let steps: Vec<_> = steps.as_array().unwrap().iter().map(|step| json!(["try", step])).collect();
    let told = |mut result: Json| match result.get_mut("ok") {
        Some(result) => result.take(),
        None => result["error"].take(),
    };
    let results = results(host, charm, json!(steps)).await;
    results.as_array().unwrap().iter().cloned().map(told).collect()
}

/// C3: what is missing is made, and the rest of the turn sees it.
#[tokio::test]
async fn merges_make_what_is_missing_and_are_seen_by_the_reads_that_follow() {
    let (host, charm) = one_probe().await;
    let steps = json!([
        ["append", "list", [], "a"],
        ["append", "list", [], "b"],
        ["add-unique", "list", [], "a"],
        ["add-unique", "list", [], "c"],
        ["get", "list", []],
        ["remove-by-value", "list", [], "b"],
        ["get", "list", []],
        ["append", "doc", ["by", "day", 0], 7],
        ["increment", "doc", ["count"], 3],
        ["increment", "doc", ["count"], -1],
        ["increment", "doc", ["ratio"], 0.5],
        ["get", "doc", []],
        ["remove-by-value", "nothing", ["there"], 1],
        ["get", "nothing", []],
    ]);
    let told = results(&host, charm, steps).await;
    assert_eq!(told[4], json!(["a", "b", "c"]));
    assert_eq!(told[6], json!(["a", "c"]));
    let doc = json!({ "by": { "day": [[7]] }, "count": 2, "ratio": 0.5 });
    assert_eq!((&told[11], &told[13]), (&doc, &Json::Null));
    assert_eq!(cell(&host, charm, "list").await, json!(["a", "c"]));
    assert_eq!(cell(&host, charm, "doc").await, doc);
    // In a turn of their own.
    run(&host, charm, json!([["append", "list", [], "a"], ["remove-by-value", "list", [], "a"]])).await;
    assert_eq!(cell(&host, charm, "list").await, json!(["c"]), "every equal item goes");
}

/// C3: refused by kind, with nothing staged.
#[tokio::test]
async fn what_is_no_list_or_no_number_is_a_type_mismatch() {
    let (host, charm) = one_probe().await;
    let before = json!({ "text": "words", "list": [1], "n": 1, "null": null, "map": {} });
    run(&host, charm, json!([["set", "x", [], before]])).await;
    let mismatch = |at: &str, expected: &str, actual: &str| json!({ "kind": "type-mismatch", "at": at, "expected": expected, "actual": actual });
    let number = "integer or float";
    for (op, path, wanted) in [
        ("append", json!([]), mismatch("/", "list", "map")),
        ("append", json!(["text"]), mismatch("/text", "list", "string")),
        ("add-unique", json!(["null"]), mismatch("/null", "list", "null")),
        ("remove-by-value", json!(["n"]), mismatch("/n", "list", "integer")),
        ("increment", json!(["text"]), mismatch("/text", number, "string")),
        ("increment", json!(["list"]), mismatch("/list", number, "list")),
        ("increment", json!([]), mismatch("/", number, "map")),
        ("increment", json!(["n", "deeper"]), mismatch("/n", "map", "integer")),
        ("append", json!(["list", "key"]), mismatch("/list", "map", "list")),
        ("append", json!(["list", 2]), mismatch("/list/2", "an index of at most the list's length", "missing")),
    ] {
        for by in [1, 0] {
            if op == "append" || by == 1 {
                assert_eq!(
                    tried(&host, charm, json!([[op, "x", path, by]])).await,
                    std::slice::from_ref(&wanted),
                    "{op} {path}"
                );
            }
        }
    }
    let told = tried(&host, charm, json!([["increment", "x", ["text"], 0], ["increment", "x", ["n"], "1"]])).await;
    assert_eq!(told[0], mismatch("/text", number, "string"), "also by 0");
    assert_eq!(told[1]["why"], json!("by: expected an integer or a float, found string"));
    assert_eq!(cell(&host, charm, "x").await, before);
}

/// C3: a sum is exact, or refused.
#[tokio::test]
async fn a_sum_beyond_the_data_model_is_refused_and_never_wraps() {
    let (host, charm) = one_probe().await;
    let refused = |told: &Json| (told["expected"].as_str().unwrap().to_owned(), told["actual"].clone());
    // -2^64 is written raw: JSON here has no such number.
    let least = [vec![0x3b], vec![0xff; 8]].concat();
    let steps = json!([
        ["set", "x", [], u64::MAX],
        ["increment", "x", [], 1],
        ["increment", "x", [], u64::MAX],
        ["increment", "x", [], -1],
        ["get", "x", []],
        ["set-bytes", "y", [], least],
        ["increment", "y", [], -1],
        ["increment", "y", [], u64::MAX],
        ["get", "y", []],
        ["set", "z", [], f64::MAX],
        ["increment", "z", [], f64::MAX],
        ["increment", "x", [], 0.5],
        ["increment", "z", [], u64::MAX],
    ]);
    let told = tried(&host, charm, steps).await;
    let integer = || ("an integer from -2^64 to 2^64-1".to_owned(), json!("integer out of range"));
    assert_eq!([refused(&told[1]), refused(&told[2]), refused(&told[6])], [integer(), integer(), integer()]);
    assert_eq!((&told[4], &told[8]), (&json!(u64::MAX - 1), &json!(-1)));
    assert_eq!(refused(&told[10]), ("a finite float".to_owned(), json!("float out of range")));
    for mixed in [&told[11], &told[12]] {
        let wanted = ("an integer from -2^53 to 2^53 beside a float".to_owned(), json!("integer out of range"));
        assert_eq!(refused(mixed), wanted);
    }
    assert_eq!(cell(&host, charm, "z").await, json!(f64::MAX));
}

/// C4
#[tokio::test]
async fn what_changes_nothing_is_no_write() {
    let (host, charm) = one_probe().await;
    run(&host, charm, json!([["set", "x", [], { "list": [1, [2]], "n": 1 }]])).await;
    let before = revision(&host, charm, "x").await;
    for steps in [
        json!([["add-unique", "x", ["list"], 1], ["add-unique", "x", ["list"], [2]]]),
        json!([["remove-by-value", "x", ["list"], 2], ["remove-by-value", "x", ["gone"], 1]]),
        json!([["increment", "x", ["n"], 0], ["increment", "x", ["n"], 0.0], ["increment", "x", ["gone"], 0]]),
        json!([["increment", "x", ["n"], 5], ["increment", "x", ["n"], -5]]),
        json!([["append", "x", ["list"], 3], ["remove-by-value", "x", ["list"], 3]]),
        json!([["increment", "gone", [], 0], ["remove-by-value", "gone", [], 0]]),
    ] {
        let receipt = run(&host, charm, steps.clone()).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        assert_eq!(revision(&host, charm, "x").await, before, "{steps}");
    }
    assert_eq!(host.cells(&charm).await.unwrap().len(), 1, "nothing was made");
}

/// T2: of any kind, into a cell that may be read and into one that may not.
#[tokio::test]
async fn a_merge_into_another_charms_cell_is_write_isolation() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    run(&host, b, json!([["set", "x", [], [1]], ["set", "own", [], [1]]])).await;
    for op in OPS {
        for (name, path) in [("x", json!([])), ("own", json!([])), ("x", json!([0])), ("new", json!(["k"]))] {
            let told = tried(&host, a, json!([[op, of(b, name), path, 1], ["append", "mine", [], 1]])).await;
            assert_eq!(told[0]["kind"], json!("write-isolation"), "{op}");
            assert_eq!((&told[0]["requested"], &told[0]["open"]), (&json!(b.to_string()), &json!(a.to_string())));
            assert_eq!(told[1], Json::Null, "the transaction goes on");
        }
    }
    assert_eq!(cell(&host, b, "x").await, json!([1]));
}

/// C2: bytes of a guest.
#[tokio::test]
async fn what_is_not_canonical_is_refused_by_every_merge() {
    let (host, charm) = one_probe().await;
    for bytes in [vec![], vec![0x18, 1], vec![0xf9, 0, 0], vec![1, 1], vec![0xff], [vec![0x81; 63], vec![0]].concat()] {
        for op in OPS {
            let told = tried(&host, charm, json!([["merge-bytes", op, "x", ["k"], bytes]])).await;
            let deep = bytes.len() == 64;
            assert_eq!(told[0]["kind"], json!(if deep { "limit" } else { "invalid" }), "{op} {bytes:?}");
        }
    }
    assert_eq!(cell(&host, charm, "x").await, Json::Null);
}

/// A5: at each bound, nothing of the call is staged.
#[tokio::test]
async fn a_merge_over_a_bound_is_refused_whole() {
    let limits = Limits { writes_max: 10, write_bytes_max: 2_000, value_bytes_max: 1_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let charm = probe(&host, "greedy").await;
    run(&host, charm, json!([["set", "x", [], vec![1; 11]], ["set", "y", [], vec![1; 9]]])).await;
    let told = tried(&host, charm, json!([["remove-by-value", "x", [], 1], ["get", "x", []]])).await;
    assert_eq!(told[0], json!({ "kind": "limit", "name": "writes-max", "max": 10 }));
    assert_eq!(told[1], json!(vec![1; 11]));
    // Nine, and the cell with the results.
    let told = tried(&host, charm, json!([["remove-by-value", "y", [], 1], ["get", "y", []]])).await;
    assert_eq!(told, [Json::Null, json!([])]);

    let text = |bytes: usize| "x".repeat(bytes);
    run(&host, charm, json!([["set", "x", [], [text(900)]], ["remove", "y", []]])).await;
    for op in ["append", "add-unique"] {
        let told = tried(&host, charm, json!([[op, "x", [], text(100)], [op, "x", [], text(80)]])).await;
        assert_eq!(told[0], json!({ "kind": "limit", "name": "value-bytes-max", "max": 1_000 }));
        assert_eq!(told[1], Json::Null);
        run(&host, charm, json!([["remove-by-value", "x", [], text(80)]])).await;
    }
    let told = tried(
        &host,
        charm,
        json!([["append", "a", [], text(950)], ["append", "b", [], text(950)], ["append", "c", [], text(200)]]),
    )
    .await;
    assert_eq!(told[2], json!({ "kind": "limit", "name": "write-bytes-max", "max": 2_000 }));
    // Taking items out carries their places.
    run(&host, charm, json!([["set", "x", [], { "k": { "list": [1, 1] } }]])).await;
    let fill = |bytes: usize| {
        json!([
            ["append", "a", [], text(900)],
            ["append", "b", [], text(bytes)],
            ["remove-by-value", "x", ["k", "list"], 1]
        ])
    };
    assert_eq!(tried(&host, charm, fill(900)).await[2], Json::Null);

    let path = vec!["k"; 63];
    for op in OPS {
        let told = tried(&host, charm, json!([[op, "deep", path, 1]])).await;
        let wanted = json!({ "kind": "limit", "name": "path-segments-max", "max": 64 });
        assert_eq!(told[0] == wanted, op != "increment", "{told:?}");
    }
}

/// A5: whole, also where only the bytes of all of it are too many.
#[tokio::test]
async fn removals_that_are_too_many_bytes_together_leave_nothing_staged() {
    let limits = Limits { write_bytes_max: 400, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let charm = probe(&host, "greedy").await;
    let key = "k".repeat(96);
    run(&host, charm, json!([["set", "x", [key, 0], 1], ["append", "x", [key], 1], ["append", "x", [key], 1]])).await;
    run(&host, charm, json!([["append", "x", [key], 1], ["append", "x", [key], 2]])).await;
    // Four times the key and an index are 400 bytes; with one byte of another cell that is too much.
    let remove = json!(["remove-by-value", "x", [key], 1]);
    let over = run(&host, charm, json!([["set", "y", [], 1], remove])).await;
    assert_eq!(over.message.as_deref(), Some("limit name=write-bytes-max max=400"));
    let steps = json!([["set", "y", [], 1], ["try", remove], ["append", "x", [key], 3]]);
    assert_eq!(run(&host, charm, steps).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, charm, "x").await, json!({ key.clone(): [1, 1, 1, 1, 2, 3] }));
    assert_eq!(run(&host, charm, json!([remove])).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, charm, "x").await, json!({ key: [2, 3] }));
}

/// Numbers that take so many bytes as a list.
fn large_list(bytes: usize) -> Vec<String> {
    (0..bytes / 102).map(|number| format!("{number:0100}")).collect()
}

/// C7: what the host hands to its store for an item: the same beside one item and beside a mebibyte.
#[tokio::test]
async fn an_item_is_moved_written_and_logged_alone() {
    let memory = MemoryStore::new();
    let (store, control) = GatedStore::new(memory.clone());
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    control.look(move |batch| {
        let records = batch.log.iter().map(|entry| entry.record.len());
        let edits = batch.cells.iter().flat_map(|write| &write.edits);
        let cells = edits.map(|edit| edit.put.as_ref().map_or(0, |value| value.as_bytes().len()));
        count.fetch_add(records.chain(cells).sum(), Ordering::Relaxed);
    });
    let limits = Limits { event_bytes_max: 1 << 20, ..Limits::default() };
    let host = builder().store(store).limits(limits).open().await.unwrap();
    let charm = probe(&host, "list").await;
    let mut costs = Vec::new();
    for (name, bytes) in [("x", 1_020), ("y", 1_000_000)] {
        let list = large_list(bytes);
        run(&host, charm, json!([["set", name, ["list"], list]])).await;
        let mut of = Vec::new();
        for step in [
            json!(["append", name, ["list"], "one more"]),
            json!(["add-unique", name, ["list"], "another"]),
            json!(["remove-by-value", name, ["list"], list[0]]),
            json!(["increment", name, ["n"], 1]),
        ] {
            settle(&host).await;
            let before = written.load(Ordering::Relaxed);
            assert_eq!(run(&host, charm, json!([step])).await.outcome, Outcome::Committed);
            settle(&host).await;
            of.push(written.load(Ordering::Relaxed) - before);
        }
        costs.push(of);
    }
    for (small, large) in costs[0].iter().zip(&costs[1]) {
        // Positions in the large list take a byte or two more.
        assert!(large - small <= 16, "{costs:?}");
        assert!(*large < 1_500, "{costs:?}");
    }
    host.shutdown().await.unwrap();
    Archive::open(memory).unwrap().verify_store().unwrap();
}

/// A5, C7: fuel decides what an append needs by the item, what has to look at the list by the list, and each item taken out.
#[tokio::test]
async fn what_a_merge_looks_at_is_paid_for() {
    let home = Home::default();
    let wide = Limits { event_bytes_max: 1 << 20, ..Limits::default() };
    let host = home.builder().await.limits(wide.clone()).open().await.unwrap();
    let charm = probe(&host, "list").await;
    run(&host, charm, json!([["set", "x", [], large_list(1_000_000)], ["set", "ones", [], vec![1; 9_000]]])).await;
    host.shutdown().await.unwrap();
    // A look at the list is 2 a byte.
    let host = home.builder().await.limits(Limits { fuel_max: 1_900_000, ..wide.clone() }).open().await.unwrap();
    probe(&host, "list").await;
    let append = json!([["append", "x", [], "a"], ["append", "x", [], "b"], ["increment", "n", [], 1]]);
    assert_eq!(run(&host, charm, append).await.outcome, Outcome::Committed);
    for op in ["add-unique", "remove-by-value"] {
        for item in [json!("not there"), json!(large_list(1_000)[0])] {
            let receipt = run(&host, charm, json!([["try", [op, "x", [], item]]])).await;
            assert_eq!(receipt.outcome, Outcome::Faulted, "{op}: {receipt:?}");
            assert!(receipt.message.unwrap().starts_with("over fuel-max"), "{op}");
        }
    }
    assert_eq!(run(&host, charm, json!([["remove-by-value", "ones", [], 2]])).await.outcome, Outcome::Committed);
    assert_eq!(run(&host, charm, json!([["remove-by-value", "ones", [], 1]])).await.outcome, Outcome::Faulted);
    host.shutdown().await.unwrap();
    let host = home.builder().await.limits(wide).open().await.unwrap();
    probe(&host, "list").await;
    assert_eq!(run(&host, charm, json!([["remove-by-value", "ones", [], 1]])).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, charm, "ones").await, json!([]));
}

/// S8: a turn that goes on is told what it merged before, and merges nothing twice.
#[tokio::test]
async fn a_turn_that_waits_merges_once() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    run(&host, a, json!([["set", "list", [], ["gone", "kept"]]])).await;
    let steps = json!([
        ["append", "list", [], "before"],
        ["increment", "n", [], 1],
        ["add-unique", "list", [], "once"],
        ["remove-by-value", "list", [], "gone"],
        ["try", ["append", "n", [], 1]],
        ["send", of(b, "note"), 1],
        ["wait", [0], "all", 60_000],
        ["append", "list", [], "after"],
        ["increment", "n", [], 1],
        ["get", "list", []],
    ]);
    let told = results(&host, a, steps).await;
    assert_eq!(told[4]["error"]["kind"], json!("type-mismatch"));
    assert_eq!(told[9], json!(["kept", "before", "once", "after"]));
    assert_eq!(cell(&host, a, "n").await, json!(2));
}

/// C6, C7: what stands in the log as edits is the same list after a restart, and each state before.
#[tokio::test]
async fn a_merged_list_is_the_same_after_a_restart() {
    let home = Home::default();
    let host = home.open().await;
    let charm = probe(&host, "list").await;
    let mut states = Vec::new();
    for number in 0..60 {
        let op = OPS[number % 3];
        let receipt =
            run(&host, charm, json!([[op, "list", ["of"], number % 7], ["increment", "list", ["n"], number]])).await;
        states.push((receipt.commit.unwrap(), cell(&host, charm, "list").await));
    }
    host.shutdown().await.unwrap();
    let host = home.open().await;
    assert_eq!(cell(&host, charm, "list").await, states[59].1);
    host.shutdown().await.unwrap();
    let archive = Archive::open(FolderStore::open_read_only(home.store()).unwrap()).unwrap();
    archive.verify_store().unwrap();
    for (seq, state) in states {
        let found = archive.get(&charm, "list", &charm_host::Path::root(), Some(seq)).unwrap().unwrap();
        assert_eq!(json(&found), state, "at {seq}");
    }
}

/// What a plain model makes of a step; the error that it is refused by.
fn model(whole: &mut Json, op: &str, key: Option<&str>, item: i64) -> Result<(), &'static str> {
    let missing = matches!(op, "remove-by-value") || op == "increment" && item == 0;
    let place = match key {
        None => whole,
        Some(key) => {
            if whole.is_null() && !missing {
                *whole = json!({});
            }
            match whole {
                Json::Null => return Ok(()),
                Json::Object(map) if missing && !map.contains_key(key) => return Ok(()),
                Json::Object(map) => map.entry(key).or_insert(Json::Null),
                _ => return Err("type-mismatch"),
            }
        }
    };
    match (op, place) {
        ("remove-by-value", Json::Null) => {}
        ("increment", Json::Null) if item == 0 => {}
        ("increment", place @ Json::Null) => *place = json!(item),
        ("increment", Json::Number(number)) => *number = (number.as_i64().unwrap() + item).into(),
        ("append" | "add-unique", place @ Json::Null) => *place = json!([item]),
        ("append", Json::Array(list)) => list.push(json!(item)),
        ("add-unique", Json::Array(list)) if list.contains(&json!(item)) => {}
        ("add-unique", Json::Array(list)) => list.push(json!(item)),
        ("remove-by-value", Json::Array(list)) => list.retain(|other| *other != json!(item)),
        _ => return Err("type-mismatch"),
    }
    Ok(())
}

/// C3: over turns, against a model that holds plain data.
#[test]
fn any_sequence_of_merges_gives_what_the_model_gives() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (host, charm) = runtime.block_on(one_probe());
    let step = (0..4_usize, prop::option::of("[ab]"), -2..3_i64);
    let turns = vec(vec(step, 1..8), 1..4);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let checked = runner.run(&turns, |turns| {
        runtime.block_on(run(&host, charm, json!([["remove", "x", []]])));
        let mut whole = Json::Null;
        for turn in turns {
            let (mut steps, mut expected) = (Vec::new(), Vec::new());
            for (op, key, item) in turn {
                let path: Vec<_> = key.iter().collect();
                steps.push(json!([OPS[op], "x", path, item]));
                let mut changed = whole.clone();
                let refused = model(&mut changed, OPS[op], key.as_deref(), item).err();
                if refused.is_none() {
                    whole = changed;
                }
                expected.push(refused.map_or(Json::Null, Json::from));
                steps.push(json!(["get", "x", []]));
                expected.push(whole.clone());
            }
            let told = runtime.block_on(tried(&host, charm, json!(steps)));
            let told: Vec<Json> = told.into_iter().map(|told| told.get("kind").cloned().unwrap_or(told)).collect();
            prop_assert_eq!(told, expected);
            prop_assert_eq!(runtime.block_on(cell(&host, charm, "x")), whole.clone());
        }
        Ok(())
    });
    checked.unwrap();
    runtime.block_on(host.shutdown()).unwrap();
}
