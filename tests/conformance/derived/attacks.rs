//! What a hostile derivation, or a hostile graph of them, can do.

use charm_conformance::{builder, cell, host, of, results, run};
use charm_host::{
    DERIVE_BYTES_MAX, DERIVE_DEPTH_MAX, FORESEEN_MAX, LEAVES_MAX, Limits, OUTSIDE_RUNS_MAX, OUTSIDE_RUNS_OF_ONE,
    Outcome, STAGED_VIEWS_MAX,
};
use futures_util::{FutureExt, future::join_all};
use serde_json::{Value as Json, json};

use super::{derive, deriver, derivers, get, read, runs, set};

/// Fan-in: reads one by one are cut short a few times, however many there are, and a group at once.
#[tokio::test]
async fn many_inputs_cost_few_restarts() {
    let host = host().await;
    let charm = deriver(&host).await;
    let inputs: Vec<String> = (0..30).map(|number| format!("d{number}")).collect();
    for name in &inputs {
        derive(&host, charm, [(name.as_str(), json!(["sum", get("x"), get("y")]))]).await;
    }
    let one_by_one: Vec<Json> =
        [json!("sum")].into_iter().chain(inputs.iter().map(|name| get(name.as_str()))).collect();
    derive(&host, charm, [("d30", json!(one_by_one)), ("d31", json!(["sum", ["get-each", inputs, []]]))]).await;
    set(&host, charm, "x", json!(1)).await;
    assert_eq!(read(&host, charm, &[json!("d31")]).await, [30]);
    // The handler once, and the group once.
    assert_eq!((runs(&host), host.derivations().restarts), (31, 1));
    assert_eq!(read(&host, charm, &[json!("d30")]).await, [30]);
    let before = host.derivations();
    assert_eq!(before.restarts, 1, "what is kept is read at once");
    set(&host, charm, "x", json!(2)).await;
    assert_eq!(read(&host, charm, &[json!("d30")]).await, [60]);
    let after = host.derivations();
    assert_eq!(after.runs - before.runs, 31);
    assert!(after.restarts - before.restarts <= 6, "{} restarts for 30 inputs", after.restarts - before.restarts);
}

/// D5, A5: a cycle of many that read much is one small answer, pushes nothing else out and is not computed again.
#[tokio::test]
async fn a_cycle_of_many_that_read_much_is_one_small_answer() {
    let host = host().await;
    let charm = deriver(&host).await;
    let (members, inputs) = (150, 60);
    derive(&host, charm, [("d199", json!(["value", "kept"]))]).await;
    assert_eq!(read(&host, charm, &[json!("d199")]).await, ["kept"]);
    let names: Vec<String> = (0..inputs).map(|number| format!("c{number}")).collect();
    for name in &names {
        set(&host, charm, name, json!(1)).await;
    }
    for number in 0..members {
        let next = format!("d{}", (number + 1) % members);
        let step = json!(["sum", ["sum", ["get-each", names, []]], get(next)]);
        derive(&host, charm, [(format!("d{number}").as_str(), step)]).await;
    }
    assert_eq!(read(&host, charm, &[json!("d0")]).await, ["cycle"]);
    let kept = host.derivations();
    assert!(kept.kept > members && kept.bytes < 2 << 20, "{kept:?}");
    assert_eq!(read(&host, charm, &[json!("d77"), json!("d199")]).await, ["cycle", "kept"]);
    assert_eq!(runs(&host), kept.runs);
    // It hangs on what each of them has read: one that is broken is none any more.
    derive(&host, charm, [("d40", json!(["value", 1]))]).await;
    assert_eq!(read(&host, charm, &[json!("d0")]).await, [40 * inputs + 1]);
}

/// A5: what one read may have computed is bounded, told with the bound's name, and nothing of it sticks.
#[tokio::test]
async fn what_a_read_may_have_computed_is_bounded() {
    let limits = Limits { fuel_max: 20_000_000, derive_fuel_max: 30_000_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let charm = deriver(&host).await;
    let dear = json!(["repeat", 20_000, ["value", 1]]);
    let all: Vec<String> = (0..12).map(|number| format!("d{number}")).collect();
    for name in &all {
        derive(&host, charm, [(name.as_str(), json!(["if", get("x"), ["value", 0], dear]))]).await;
    }
    derive(&host, charm, [("d20", json!(["get-each", all, []]))]).await;
    let mut told = Vec::new();
    for _ in 0..20 {
        told = results(&host, charm, json!([["try", get("d20")]])).await.as_array().unwrap().clone();
        if told[0].get("ok").is_some() {
            break;
        }
        let error = told[0]["error"].to_string();
        assert!(error.contains("derive-fuel-max"), "{error}");
    }
    assert_eq!(told[0]["ok"], json!(vec![1; 12]), "who comes again gets further");
}

/// D4: what is kept and holds is read at once, however much the handler has done before.
#[tokio::test]
async fn what_is_kept_is_read_without_another_run_of_the_handler() {
    let limits = Limits { fuel_max: 20_000_000, derive_fuel_max: 30_000_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let charm = deriver(&host).await;
    set(&host, charm, "x", json!(7)).await;
    let mut steps = vec![json!(["repeat", 20_000, ["value", 1]])];
    for number in 0..12 {
        let name = format!("d{number}");
        derive(&host, charm, [(name.as_str(), get("x"))]).await;
        assert_eq!(host.get::<i64>(&charm, &name, "").await.unwrap(), Some(7));
        steps.push(get(name));
    }
    let before = host.derivations();
    let receipt = run(&host, charm, json!(steps)).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{:?}", receipt.message);
    assert_eq!((host.derivations().runs, host.derivations().restarts), (before.runs, before.restarts));
}

/// A5: what is kept is bounded for each charm; what has gone is computed again.
#[tokio::test]
async fn what_is_kept_is_bounded_for_each_charm() {
    let host = builder().limits(Limits { memo_bytes_max: 64 << 10, ..Limits::default() }).open().await.unwrap();
    let [a, b] = derivers(&host, ["a", "b"]).await;
    set(&host, a, "x", json!("x".repeat(20_000))).await;
    derive(&host, b, [("d0", json!(["value", "kept"]))]).await;
    assert_eq!(read(&host, b, &[json!("d0")]).await, ["kept"]);
    for number in 0..16 {
        derive(&host, a, [(format!("d{number}").as_str(), get("x"))]).await;
        assert_eq!(read(&host, a, &[json!(format!("d{number}"))]).await[0].as_str().unwrap().len(), 20_000);
        assert!(host.derivations().bytes <= 2 * (64 << 10), "{:?}", host.derivations());
    }
    let before = runs(&host);
    assert_eq!(read(&host, b, &[json!("d0")]).await, ["kept"]);
    assert_eq!(runs(&host), before, "the charm beside it keeps what it has");
    assert_eq!(read(&host, a, &[json!("d0")]).await[0].as_str().unwrap().len(), 20_000);
}

/// A5: a chain without an end is no cycle, and ends all the same.
#[tokio::test]
async fn a_chain_without_end_is_bounded() {
    let host = host().await;
    let charm = deriver(&host).await;
    set(&host, charm, "x", json!(1_000)).await;
    assert_eq!(read(&host, charm, &[json!("down:0")]).await, [1_000]);
    set(&host, charm, "x", json!(1_000_000_000)).await;
    let told = results(&host, charm, json!([["try", get("down:0")], ["try", get("down:999999990")]])).await;
    assert_eq!(told[0]["error"]["kind"], "failed", "{told}");
    assert_eq!(told[1]["ok"], 1_000_000_000);
    let derivations = host.derivations();
    assert!(derivations.runs <= 2 * DERIVE_DEPTH_MAX as u64 + 2_000, "{derivations:?}");
}

/// A5: what is held for one reader is bounded, whatever is kept for all.
#[tokio::test]
async fn what_one_reader_holds_is_bounded() {
    let host = host().await;
    let charm = deriver(&host).await;
    for part in 0..5 {
        let write = json!([["set", "doc", [part.to_string()], "d".repeat(200_000)]]);
        assert_eq!(run(&host, charm, write).await.outcome, Outcome::Committed);
    }
    let many = DERIVE_BYTES_MAX / 1_000_000 + 1;
    let steps: Vec<Json> = (0..many).map(|n| json!(["try", ["get", format!("wide:{n}"), ["0", "x"]]])).collect();
    let told = results(&host, charm, json!(steps)).await;
    assert_eq!(told[0]["error"]["kind"], "type-mismatch");
    assert_eq!(told[many - 1]["error"], json!({"kind": "limit", "name": "derive-bytes-max", "max": DERIVE_BYTES_MAX}));
    let told = results(&host, charm, json!([["try", ["get", format!("wide:{many}"), ["0", "x"]]]])).await;
    assert_eq!(told[0]["error"]["kind"], "type-mismatch", "another turn begins anew");
}

/// A5: so is what stands on the way to a cell: each run that was cut short remembers what it has read.
#[tokio::test]
async fn what_stands_on_the_way_to_a_cell_is_bounded() {
    let (members, each) = (190, DERIVE_BYTES_MAX / 150 / 192);
    let host = host().await;
    let charm = deriver(&host).await;
    let names: Vec<String> = (0..each).map(|number| format!("c{number}")).collect();
    let next = |number: usize| get(format!("d{}", (number + 1) % members));
    let groups: Vec<Json> = names.chunks(400).map(|group| json!(["sum", ["get-each", group, []]])).collect();
    let step = |number| Json::Array([vec![json!("sum")], groups.clone(), vec![next(number)]].concat());
    for number in 0..members {
        derive(&host, charm, [(format!("d{number}").as_str(), step(number))]).await;
    }
    let told = results(&host, charm, json!([["try", get("d0")]])).await;
    assert_ne!(told[0]["error"]["kind"], "cycle", "{told}");
    let restarts = host.derivations().restarts;
    assert!(restarts < members as u64, "{restarts} runs were cut short on the way");
    // The same without what fills the way is the cycle that it is.
    for number in 0..members {
        derive(&host, charm, [(format!("d{number}").as_str(), next(number))]).await;
    }
    assert_eq!(read(&host, charm, &[json!("d0")]).await, ["cycle"]);
}

/// D3: as often as a turn likes, but what it wrote in between is kept for so many reads alone.
#[tokio::test]
async fn reads_between_own_writes_are_bounded() {
    let host = host().await;
    let charm = deriver(&host).await;
    derive(&host, charm, [("d0", get("x"))]).await;
    let steps: Vec<Json> =
        (0..STAGED_VIEWS_MAX + 6).flat_map(|n| [json!(["set", "x", [], n]), json!(["try", get("d0")])]).collect();
    let told = results(&host, charm, json!(steps)).await;
    assert_eq!((&told[1]["ok"], &told[127]["ok"]), (&json!(0), &json!(63)));
    assert_eq!(told[129]["error"], json!({"kind": "limit", "name": "staged-views-max", "max": STAGED_VIEWS_MAX}));
    assert_eq!(cell(&host, charm, "d0").await, 69);
}

/// A derivation that runs for ever, or asks for everything, harms who reads it, within the reader's bounds.
#[tokio::test]
async fn a_neighbour_goes_on_beside_a_hostile_graph() {
    let host = builder().limits(Limits { fuel_max: 50_000_000, ..Limits::default() }).open().await.unwrap();
    let [evil, reader, neighbour] = derivers(&host, ["evil", "reader", "neighbour"]).await;
    let ring: Vec<Json> =
        (0..31).map(|n| json!(["get-each", [format!("d{}", (n + 1) % 31), format!("d{n}")], []])).collect();
    for (number, step) in ring.into_iter().enumerate() {
        derive(&host, evil, [(format!("d{number}").as_str(), step)]).await;
    }
    derive(&host, evil, [("d31", json!(["spin"]))]).await;
    let told = read(&host, reader, &[of(evil, "d7"), of(evil, "d31")]).await;
    assert_eq!(told, ["cycle", "failed"]);
    assert_eq!(run(&host, neighbour, json!([["set", "y", [], 1]])).await.outcome, Outcome::Committed);
}

/// D3: of more cells than are remembered one by one, and of more reads than are foreseen, all are still right.
#[tokio::test]
async fn more_than_is_remembered_is_computed_all_the_same() {
    let host = host().await;
    let [a, b] = derivers(&host, ["a", "b"]).await;
    const { assert!(2 * 190 > FORESEEN_MAX && 2 * 190 > LEAVES_MAX) };
    let own: Vec<String> = (0..190).map(|number| format!("leaf-{number}")).collect();
    let names: Vec<String> = (0..190).map(|number| format!("d{number}")).collect();
    for charm in [a, b] {
        let leaves = own.iter().map(|leaf| json!(["set", leaf, [], 1]));
        let formulas =
            own.iter().zip(&names).map(|(leaf, name)| json!(["set", format!("of-{name}"), [], get(leaf.as_str())]));
        let steps: Vec<Json> = leaves.chain(formulas).collect();
        assert_eq!(run(&host, charm, json!(steps)).await.outcome, Outcome::Committed);
        derive(&host, charm, [("d190", json!(["sum", ["get-each", names, []]]))]).await;
    }
    derive(&host, b, [("d191", json!(["sum", get("d190"), get(of(a, "d190"))]))]).await;
    let all: Vec<Json> = [a, b].iter().flat_map(|charm| names.iter().map(|name| of(*charm, name))).collect();
    assert_eq!(read(&host, b, &[json!("d191")]).await, [380]);
    for round in 1..5 {
        assert_eq!(read(&host, b, &all).await.len(), 380);
        // One write alone, of each charm, and one among so many that they are not looked at one by one.
        set(&host, a, "leaf-77", json!(10 * round)).await;
        assert_eq!(read(&host, b, &[json!("d191")]).await, [378 + 11 * round]);
        set(&host, b, "leaf-7", json!(1 + round)).await;
        assert_eq!(read(&host, b, &[json!("d191")]).await, [379 + 11 * round]);
        let others: Vec<Json> = (0..300).map(|n| json!(["set", format!("other-{n}"), [], round])).collect();
        let last = [json!(["set", "leaf-77", [], 10 * round + 1])];
        assert_eq!(run(&host, a, json!([others, last.into()].concat())).await.outcome, Outcome::Committed);
        assert_eq!(read(&host, b, &[json!("d191")]).await, [380 + 11 * round]);
    }
}

/// A6: those outside have slots of their own, and wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn those_outside_take_no_slot_of_a_turn() {
    let limits = Limits { turns_max: 1, fuel_max: 100_000_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let charm = deriver(&host).await;
    let dear = json!(["sum", get("x"), ["repeat", 2_000, ["value", 1]]]);
    let names: Vec<String> = (0..4 * OUTSIDE_RUNS_MAX).map(|number| format!("d{number}")).collect();
    for name in &names {
        derive(&host, charm, [(name.as_str(), dear.clone())]).await;
    }
    let outside = join_all(names.iter().map(|name| host.get::<i64>(&charm, name, "")));
    let turns = join_all((0..8).map(|n| run(&host, charm, json!([["set", "y", [], n]]))));
    let (outside, turns) = tokio::join!(outside, turns);
    assert!(outside.into_iter().all(|value| value.unwrap() == Some(1)));
    assert!(turns.iter().all(|receipt| receipt.outcome == Outcome::Committed));
}

/// A6: a charm whose cells are dear, with many outside who read them, keeps nobody from reading those of another.
#[tokio::test]
async fn those_outside_have_places_of_each_charm() {
    let host = builder().limits(Limits { fuel_max: 50_000_000, ..Limits::default() }).open().await.unwrap();
    let [dear, cheap] = derivers(&host, ["dear", "cheap"]).await;
    let names: Vec<String> = (0..16 * OUTSIDE_RUNS_MAX).map(|number| format!("d{number}")).collect();
    let formulas: Vec<Json> = names.iter().map(|name| json!(["set", format!("of-{name}"), [], ["spin"]])).collect();
    run(&host, dear, json!(formulas)).await;
    derive(&host, cheap, [("d0", json!(["value", 7]))]).await;
    let mut others: Vec<_> = names.iter().map(|name| Box::pin(host.get::<i64>(&dear, name, ""))).collect();
    // All of them are there before, whether they are polled again or not.
    others.iter_mut().for_each(|other| assert!(other.as_mut().now_or_never().is_none()));
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    let before = runs(&host);
    assert_eq!(host.get::<i64>(&cheap, "d0", "").await.unwrap(), Some(7));
    assert!(runs(&host) - before <= OUTSIDE_RUNS_OF_ONE as u64 + 1, "{} ran before it", runs(&host) - before);
    assert!(join_all(others).await.iter().all(Result::is_err), "each is told its own");
}
