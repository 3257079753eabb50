//! Chapter derived: cells that are computed from others (D1-D5).
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests, which say what they have met")]

mod attacks;
mod commits;
mod model;
mod watched;

use std::collections::BTreeMap;

use charm_conformance::{builder, cell, component, grant, host, of, results, run, value};
use charm_host::{Charm, Did, Host, InstallError, LIST_BYTES_MAX, Names, NewEvent, Outcome, ReadError};
use serde_json::{Value as Json, json};

/// Cells and families of a deriver that the others may read.
fn shared() -> Names {
    let names = (0..200).map(|number| format!("d{number}"));
    Names::only(names.chain(["x", "y", "z", "pick", "whole", "k", "l", "doc", "f:", "m:"].map(str::to_owned)))
}

/// Installs derivers that may read the shared cells of each other.
async fn derivers<const N: usize>(host: &Host, names: [&str; N]) -> [Did; N] {
    let mut dids = Vec::new();
    for name in names {
        dids.push(host.install(Charm::new(name, component("deriver"))).await.unwrap());
    }
    let read: BTreeMap<Did, Names> = dids.iter().map(|did| (*did, shared())).collect();
    for did in &dids {
        grant(host, *did, read.clone(), BTreeMap::new()).await.unwrap();
    }
    dids.try_into().unwrap()
}

async fn deriver(host: &Host) -> Did {
    let [charm] = derivers(host, ["deriver"]).await;
    charm
}

/// Says what derived cells are computed by.
async fn derive<const N: usize>(host: &Host, charm: Did, formulas: [(&str, Json); N]) {
    let steps = formulas.map(|(name, step)| json!(["set", format!("of-{name}"), [], step]));
    assert_eq!(run(host, charm, json!(&steps[..])).await.outcome, Outcome::Committed);
}

async fn set(host: &Host, charm: Did, name: &str, to: Json) {
    assert_eq!(run(host, charm, json!([["set", name, [], to]])).await.outcome, Outcome::Committed);
}

fn get(cell: impl Into<Json>) -> Json {
    json!(["get", cell.into(), []])
}

/// Reads derived cells in a turn, each inside `try`: returns what each gave, or the kind of its error.
async fn read(host: &Host, charm: Did, cells: &[Json]) -> Vec<Json> {
    let steps: Vec<Json> = cells.iter().map(|cell| json!(["try", get(cell.clone())])).collect();
    let told = results(host, charm, json!(steps)).await;
    let told = told.as_array().unwrap().iter();
    told.map(|told| told.get("ok").or_else(|| told["error"].get("kind")).unwrap().clone()).collect()
}

fn runs(host: &Host) -> u64 {
    host.derivations().runs
}

/// D1, D3: across charms and through several levels, in one turn; and what nobody looks at does not run.
#[tokio::test]
async fn a_read_computes_what_it_needs_and_nothing_else_runs() {
    let host = host().await;
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, a, [("d0", json!(["sum", get("x"), get("y")])), ("d1", json!(["sum", get("d0"), get("d0")]))]).await;
    derive(&host, b, [("d0", json!(["sum", get(of(a, "d1")), get("x")])), ("d1", json!(["panic", "unasked"]))]).await;
    set(&host, a, "x", json!(1)).await;
    set(&host, a, "y", json!(2)).await;
    set(&host, b, "x", json!(10)).await;
    assert_eq!(runs(&host), 0, "nobody has looked");
    assert_eq!(read(&host, b, &[json!("d0")]).await, [16]);
    assert_eq!(runs(&host), 3);
    set(&host, a, "y", json!(3)).await;
    assert_eq!(runs(&host), 3);
    assert_eq!(read(&host, b, &[json!("d0"), of(a, "d0")]).await, [18, 4]);
    assert_eq!(runs(&host), 6);
    // The same for those outside, and after what did not change anything below.
    set(&host, a, "z", json!(7)).await;
    assert_eq!(host.get::<i64>(&b, "d0", "").await.unwrap(), Some(18));
    assert_eq!(runs(&host), 6);
}

/// D4: what gives an equal value is not run for again.
#[tokio::test]
async fn an_equal_result_stops_the_wave() {
    let host = host().await;
    let charm = deriver(&host).await;
    let sign = json!(["if", get("x"), ["value", "some"], ["value", "none"]]);
    derive(&host, charm, [("d0", sign), ("d1", get("d0")), ("d2", get("d1"))]).await;
    set(&host, charm, "x", json!(1)).await;
    assert_eq!((read(&host, charm, &[json!("d2")]).await, runs(&host)), (vec![json!("some")], 3));
    set(&host, charm, "x", json!(2)).await;
    assert_eq!((read(&host, charm, &[json!("d2")]).await, runs(&host)), (vec![json!("some")], 4));
    set(&host, charm, "x", json!(0)).await;
    assert_eq!((read(&host, charm, &[json!("d2")]).await, runs(&host)), (vec![json!("none")], 7));
    // An equal write is no write (C4), and another path of the same cell is another value.
    derive(&host, charm, [("d3", json!(["get", "doc", ["title"]]))]).await;
    set(&host, charm, "doc", json!({"title": "old", "text": 1})).await;
    assert_eq!((read(&host, charm, &[json!("d3")]).await, runs(&host)), (vec![json!("old")], 8));
    set(&host, charm, "doc", json!({"title": "old", "text": 2})).await;
    assert_eq!((read(&host, charm, &[json!("d3")]).await, runs(&host)), (vec![json!("old")], 8));
}

/// D3, C8: what ends a page of a listing is below the derived cell too.
#[tokio::test]
async fn a_page_is_derived_anew_when_it_ends_elsewhere() {
    let host = host().await;
    let charm = deriver(&host).await;
    derive(&host, charm, [("d0", json!(["names", null, "f:", 2])), ("d1", json!(["entries", null, "f:", 9]))]).await;
    let large = |part: usize| json!("x".repeat(LIST_BYTES_MAX * part / 10));
    for (name, to) in [("f:1", large(6)), ("f:2", large(6)), ("f:3", json!(1))] {
        set(&host, charm, name, to).await;
    }
    let page = async || {
        let told = read(&host, charm, &[json!("d0"), json!("d1")]).await;
        (!told[0]["next"].is_null(), told[1]["entries"].as_array().unwrap().len())
    };
    assert_eq!(page().await, (true, 1));
    set(&host, charm, "f:2", json!("small")).await;
    assert_eq!(page().await, (true, 3));
    assert_eq!(run(&host, charm, json!([["remove", "f:3", []]])).await.outcome, Outcome::Committed);
    assert_eq!(page().await, (false, 2));
}

/// D5: the `ifElse` of the field reports. What the choice did not take is no dependency.
#[tokio::test]
async fn a_choice_rewires_dependencies_by_itself() {
    let host = host().await;
    let charm = deriver(&host).await;
    let dear = json!(["sum", get("y"), get("y")]);
    derive(&host, charm, [("d0", json!(["if", get("pick"), get("x"), get("d1")])), ("d1", dear)]).await;
    set(&host, charm, "pick", json!(true)).await;
    set(&host, charm, "x", json!("chosen")).await;
    assert_eq!((read(&host, charm, &[json!("d0")]).await, runs(&host)), (vec![json!("chosen")], 1));
    set(&host, charm, "y", json!(4)).await;
    assert_eq!((read(&host, charm, &[json!("d0")]).await, runs(&host)), (vec![json!("chosen")], 1));
    set(&host, charm, "pick", json!(false)).await;
    assert_eq!((read(&host, charm, &[json!("d0")]).await, runs(&host)), (vec![json!(8)], 3));
    set(&host, charm, "x", json!("not looked at")).await;
    assert_eq!((read(&host, charm, &[json!("d0")]).await, runs(&host)), (vec![json!(8)], 3));
    set(&host, charm, "y", json!(5)).await;
    assert_eq!((read(&host, charm, &[json!("d0")]).await, runs(&host)), (vec![json!(10)], 5));
}

/// T3, D3: a handler that has written a cell reads what is derived from that, through other charms too; nobody else does, and
/// nothing of it is kept when the turn fails.
#[tokio::test]
async fn a_turn_sees_what_its_own_writes_make_of_derived_cells() {
    let host = host().await;
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, b, [("d0", json!(["sum", get(of(a, "x")), ["value", 100]]))]).await;
    derive(&host, a, [("d0", json!(["sum", get("x"), ["value", 1]])), ("d1", get("y"))]).await;
    let steps = json!([
        get("d0"),
        ["set", "x", [], 5],
        get("d0"),
        get(of(b, "d0")),
        ["set", "x", [], 6],
        get("d0"),
        get("d1"),
        ["set", "y", [], "unrelated"],
        get("d0"),
        ["remove", "x", []],
        get("d0"),
    ]);
    let told = results(&host, a, steps.clone()).await;
    let seen: Vec<&Json> = [0, 2, 3, 5, 6, 8, 10].iter().map(|at| &told[*at]).collect();
    assert_eq!(json!(seen), json!([1, 6, 105, 7, null, 7, 1]));
    let mut failing = steps.as_array().unwrap()[..5].to_vec();
    failing.extend([get("d0"), json!(["reject", "after all"])]);
    assert_eq!(run(&host, a, json!(failing)).await.outcome, Outcome::Rejected);
    assert_eq!(read(&host, b, &[of(a, "d0"), json!("d0")]).await, [1, 100]);
}

/// D2: by every way of writing, in every charm; nothing is staged, the transaction goes on.
#[tokio::test]
async fn a_write_to_a_derived_cell_is_read_only_and_names_the_derivation() {
    let host = host().await;
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, a, [("d0", get("x"))]).await;
    set(&host, a, "x", json!({"token": "t"})).await;
    for (writer, target) in [(a, json!("d0")), (b, of(a, "d0")), (a, of(a, "d0"))] {
        let writes = [
            json!(["set", target, [], 1]),
            json!(["set", target, ["token"], "mine"]),
            json!(["set-bytes", target, [], [1]]),
            json!(["remove", target, []]),
            json!(["remove", target, ["token"]]),
        ];
        let mut steps: Vec<Json> = writes.iter().map(|step| json!(["try", step])).collect();
        steps.push(json!(["set", "y", [], "goes on"]));
        let told = results(&host, writer, json!(steps)).await;
        for (step, told) in writes.iter().zip(told.as_array().unwrap()) {
            let wanted = json!({"kind": "read-only", "owner": a.to_string(), "name": "d0", "derivation": "d0"});
            assert_eq!(told["error"], wanted, "{step}");
        }
        assert_eq!(cell(&host, writer, "y").await, "goes on");
    }
    assert_eq!(read(&host, a, &[json!("d0")]).await, [json!({"token": "t"})]);
    // Unhandled it rejects the event: never silence.
    let receipt = run(&host, a, json!([["set", "d0", [], 1]])).await;
    assert_eq!(receipt.outcome, Outcome::Rejected);
    assert!(receipt.message.as_deref().unwrap().contains("read-only"), "{receipt:?}");
}

/// The first field report: "auth.update() silently does nothing". The auth that a charm has from a derivation cannot be
/// updated, and says so; the cell that it comes from is another charm's, and says so too.
#[tokio::test]
async fn auth_update_says_why_it_does_nothing() {
    let host = host().await;
    let [auth, mail] = derivers(&host, ["auth", "mail"]).await;
    set(&host, auth, "x", json!({"token": "old"})).await;
    derive(&host, mail, [("d0", get(of(auth, "x")))]).await;
    let told = results(
        &host,
        mail,
        json!(
            [get("d0"), ["try", ["set", "d0", ["token"], "new"]], ["try", ["set", of(auth, "x"), ["token"], "new"]],]
        ),
    )
    .await;
    assert_eq!(told[0], json!({"token": "old"}));
    assert_eq!((&told[1]["error"]["kind"], &told[1]["error"]["derivation"]), (&json!("read-only"), &json!("d0")));
    assert_eq!(told[2]["error"]["kind"], "write-isolation");
}

/// D5: all members get the same error, whoever asked, whichever was asked first; it heals.
#[tokio::test]
async fn a_cycle_names_its_cells_and_heals() {
    for first in ["d0", "d1", "d2", "d3"] {
        let host = host().await;
        let charm = deriver(&host).await;
        let formulas = [
            ("d0", get("d1")),
            ("d1", json!(["if", get("x"), ["value", "broken"], get("d2")])),
            ("d2", get("d0")),
            // Not in it, but hangs on it.
            ("d3", get("d2")),
            ("d4", get("d4")),
        ];
        derive(&host, charm, formulas).await;
        let all = || async {
            let steps: Vec<Json> = ["d0", "d1", "d2"].iter().map(|name| json!(["try", get(*name)])).collect();
            results(&host, charm, json!(steps)).await
        };
        read(&host, charm, &[json!(first)]).await;
        for told in all().await.as_array().unwrap() {
            assert_eq!(told["error"]["kind"], "cycle");
            let cells = told["error"]["cells"].as_array().unwrap();
            let names: Vec<&Json> = cells.iter().map(|cell| &cell[1]).collect();
            assert_eq!(json!(names), json!(["d0", "d1", "d2"]), "{first} first");
        }
        let told = results(&host, charm, json!([["try", get("d3")], ["try", get("d4")]])).await;
        assert_eq!(told[0]["error"]["kind"], "failed");
        assert_eq!(told[1]["error"]["cells"], json!([of(charm, "d4")]));
        set(&host, charm, "x", json!(1)).await;
        assert_eq!(read(&host, charm, &["d3", "d0"].map(Json::from)).await, ["broken", "broken"]);
        set(&host, charm, "x", json!(0)).await;
        assert_eq!(read(&host, charm, &["d3", "d1"].map(Json::from)).await, ["failed", "cycle"]);
    }
}

/// A cycle that only what the cell read before would make is none.
#[tokio::test]
async fn what_a_derivation_does_not_read_any_more_makes_no_cycle() {
    let host = host().await;
    let charm = deriver(&host).await;
    let pick = |yes: Json, no: Json| json!(["if", get("pick"), yes, no]);
    derive(
        &host,
        charm,
        [
            ("d0", pick(get("d1"), json!(["value", "end"]))),
            ("d1", pick(json!(["value", "end"]), get("d0"))),
            ("d2", json!(["get-each", ["d0", "d1"], []])),
        ],
    )
    .await;
    for round in 0..4 {
        set(&host, charm, "pick", json!(round % 2)).await;
        assert_eq!(read(&host, charm, &[json!("d2")]).await, [json!(["end", "end"])], "round {round}");
    }
}

/// D3: a failure reaches the reader with the derivation's name and words, stands like a value, and heals when the input does.
#[tokio::test]
async fn failures_and_limits_reach_the_reader_and_heal() {
    let host =
        builder().limits(charm_host::Limits { fuel_max: 50_000_000, ..Default::default() }).open().await.unwrap();
    let charm = deriver(&host).await;
    let broken = |step: Json| json!(["if", get("x"), ["value", 7], step]);
    derive(
        &host,
        charm,
        [
            ("d0", broken(json!(["reject", "no luck"]))),
            ("d1", broken(json!(["panic", "boom"]))),
            ("d2", broken(json!(["spin"]))),
            ("d3", broken(json!(["recurse"]))),
            ("whole", broken(json!(["value", "no number"]))),
        ],
    )
    .await;
    let names = ["d0", "d1", "d2", "d3", "whole"];
    let words = ["no luck", "panicked: ", "over fuel-max", "over stack-bytes-max", "does not fit its shape"];
    let steps: Vec<Json> = names.iter().map(|name| json!(["try", get(*name)])).collect();
    let told = results(&host, charm, json!(steps)).await;
    for ((name, words), told) in names.iter().zip(words).zip(told.as_array().unwrap()) {
        let error = &told["error"];
        assert_eq!((&error["kind"], &error["name"]), (&json!("failed"), &json!(name)));
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    let before = runs(&host);
    read(&host, charm, &names.map(Json::from)).await;
    assert_eq!(runs(&host), before, "a failure is kept like a value");
    let outside = host.get::<i64>(&charm, "d0", "").await;
    assert!(matches!(&outside, Err(ReadError::Underivable(why)) if why.contains("no luck")), "{outside:?}");
    set(&host, charm, "x", json!(1)).await;
    assert_eq!(read(&host, charm, &names.map(Json::from)).await, [7, 7, 7, 7, 7]);
}

/// A2, D1: a derivation reads with the rights of the charm that exports it, its readers need a right to it alone.
#[tokio::test]
async fn a_derivation_reads_with_the_rights_of_its_charm() {
    let host = host().await;
    let [a, b, c] = derivers(&host, ["a", "b", "c"]).await;
    derive(&host, b, [("d0", json!(["try", get(of(a, "x"))])), ("inner", get("x"))]).await;
    set(&host, a, "x", json!("of a")).await;
    grant(&host, c, [(b, Names::only(["d0"]))].into(), BTreeMap::new()).await.unwrap();
    let cells = [of(b, "d0"), of(a, "x"), of(b, "inner"), of(b, "d1")];
    let read_b = || read(&host, c, &cells);
    assert_eq!(json!(read_b().await), json!([{"ok": "of a"}, "denied", "denied", "denied"]));
    grant(&host, b, BTreeMap::new(), BTreeMap::new()).await.unwrap();
    let told = read_b().await;
    assert_eq!(told[0]["error"]["kind"], "denied", "{told:?}");
    grant(&host, b, [(a, Names::only(["x"]))].into(), BTreeMap::new()).await.unwrap();
    assert_eq!(read_b().await[0], json!({"ok": "of a"}));
    grant(&host, c, BTreeMap::new(), BTreeMap::new()).await.unwrap();
    assert_eq!(read_b().await[0], "denied");
    let denied = host.get_as::<Json>(&c, &b, "d0", "").await;
    assert!(matches!(denied, Err(ReadError::Denied { .. })), "{denied:?}");
}

/// D1: it computes from cells alone.
#[tokio::test]
async fn a_derivation_writes_sends_waits_and_asks_for_nothing() {
    let host = host().await;
    let charm = deriver(&host).await;
    let pure = [
        json!(["set", "x", [], 1]),
        json!(["remove", "x", []]),
        json!(["send", "run", {"steps": []}]),
        json!(["sleep", 1]),
        json!(["retry", 1]),
        json!(["fetch", {"url": "https://mail.example/"}]),
        json!(["commit-and-fetch", {"url": "https://mail.example/"}]),
    ];
    for step in pure {
        derive(&host, charm, [("d0", json!(["try", step])), ("d1", json!(["try", ["context"]]))]).await;
        let told = read(&host, charm, &[json!("d0"), json!("d1")]).await;
        assert_eq!((&told[0]["error"]["kind"], &told[0]["error"]["code"]), (&json!("other"), &json!("pure")), "{step}");
        assert_eq!(told[1], "failed");
    }
    let told = host.get::<Json>(&charm, "d1", "").await.unwrap_err().to_string();
    assert!(told.contains("no sender, event, time or randomness"), "{told}");
}

/// S8: a turn that goes on after a wait is told the derived values that it was told.
#[tokio::test]
async fn a_replay_is_told_the_derived_values_that_were_told() {
    let host = host().await;
    let charm = deriver(&host).await;
    derive(&host, charm, [("d0", json!(["sum", get("x"), ["value", 1]]))]).await;
    set(&host, charm, "x", json!(1)).await;
    let told = results(
        &host,
        charm,
        json!([
            get("d0"),
            ["send", "run", {"steps": [["set", "x", [], 10]]}],
            ["wait", [0], "all", 60_000],
            get("d0"),
            ["set", "x", [], 20],
            get("d0"),
        ]),
    )
    .await;
    assert_eq!((&told[0], &told[3], &told[5]), (&json!(2), &json!(11), &json!(21)));
}

/// Another component derives it otherwise, or not any more; `wish` inside a derivation follows who is there (D7).
#[tokio::test]
async fn who_is_installed_is_a_dependency_too() {
    let host = host().await;
    let [a] = derivers(&host, ["a"]).await;
    let wish = json!(["wish", "#deriver", {"cells": [["x", "any"]]}]);
    derive(&host, a, [("d0", wish)]).await;
    assert_eq!(read(&host, a, &[json!("d0")]).await, [json!([a.to_string()])]);
    let b = host.install(Charm::new("b", component("deriver"))).await.unwrap();
    grant(&host, a, [(b, Names::only(["x"]))].into(), BTreeMap::new()).await.unwrap();
    let mut both = [a.to_string(), b.to_string()];
    both.sort();
    assert_eq!(read(&host, a, &[json!("d0")]).await, [json!(both)]);
    host.uninstall(&b).await.unwrap();
    assert_eq!(read(&host, a, &[json!("d0")]).await, [json!([a.to_string()])]);
}

/// C5: a link in a derived value keeps the owner of what it names: one's own cell can be written through it, another's not.
#[tokio::test]
async fn a_path_goes_through_links_in_a_derived_value() {
    let host = host().await;
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, b, [("d0", get("doc")), ("d1", json!(["get", "d0", ["own", "n"]]))]).await;
    set(&host, a, "x", json!({"n": "of a"})).await;
    let steps = json!([
        ["set-link", "doc", ["own"], ["x", []]],
        ["set-link", "doc", ["other"], [of(a, "x"), []]],
        ["set", "x", [], {"n": 1}],
    ]);
    assert_eq!(run(&host, b, steps).await.outcome, Outcome::Committed);
    let told = results(
        &host,
        b,
        json!([
            ["get", "d0", ["own", "n"]],
            ["get", "d0", ["other", "n"]],
            ["set", "d0", ["own", "n"], 2],
            ["try", ["set", "d0", ["other", "n"], 2]],
            ["try", ["set", "d0", ["own"], 2]],
            get("d1"),
        ]),
    )
    .await;
    assert_eq!((&told[0], &told[1], &told[5]), (&json!(1), &json!("of a"), &json!(2)));
    assert_eq!(told[3]["error"]["kind"], "write-isolation");
    assert_eq!(told[4]["error"]["kind"], "read-only");
    assert_eq!(cell(&host, b, "x").await, json!({"n": 2}));
}

/// D3, D4: where a link leads is a dependency, also when that is to no cell.
#[tokio::test]
async fn a_link_that_comes_to_lead_to_a_cell_is_followed() {
    let host = host().await;
    let charm = deriver(&host).await;
    derive(&host, charm, [("d0", json!(["caught", ["get", "doc", ["to", "n"]]]))]).await;
    for (link, caught) in [(json!(["run"]), 1), (json!(["x", []]), 0), (json!(["note"]), 1)] {
        let steps = json!([["set", "x", [], {"n": 1}], ["set-link", "doc", ["to"], link]]);
        assert_eq!(run(&host, charm, steps).await.outcome, Outcome::Committed);
        assert_eq!(read(&host, charm, &[json!("d0")]).await, [caught], "{link}");
    }
}

/// C8: a family may be derived, member by member; and a derivation that lists cells hangs on which there are.
#[tokio::test]
async fn families_are_derived_and_listed() {
    let host = host().await;
    let charm = deriver(&host).await;
    set(&host, charm, "x", json!(7)).await;
    let members = [json!("times:2"), json!("times:30"), json!("times:x")];
    assert_eq!(read(&host, charm, &members).await, [json!(14), json!(210), json!("failed")]);
    let told = results(&host, charm, json!([["try", ["set", "times:2", [], 1]]])).await;
    assert_eq!((&told[0]["error"]["kind"], &told[0]["error"]["derivation"]), (&json!("read-only"), &json!("times")));

    derive(
        &host,
        charm,
        [("d0", json!(["all-names", null, "item:", 2])), ("d1", json!(["entries", null, "item:", 10]))],
    )
    .await;
    for (name, value) in [("item:b", 1), ("item:c", 1)] {
        set(&host, charm, name, json!(value)).await;
    }
    let d0 = [json!("d0")];
    let names = || read(&host, charm, &d0);
    assert_eq!(names().await, [json!(["item:b", "item:c"])]);
    let before = runs(&host);
    set(&host, charm, "item:b", json!(2)).await;
    set(&host, charm, "other", json!(2)).await;
    assert_eq!((names().await, runs(&host)), (vec![json!(["item:b", "item:c"])], before), "the names are the same");
    assert_eq!(read(&host, charm, &[json!("d1")]).await[0]["entries"], json!([["item:b", 2], ["item:c", 1]]));
    set(&host, charm, "item:a", json!(0)).await;
    assert_eq!(names().await, [json!(["item:a", "item:b", "item:c"])]);
    let own =
        results(&host, charm, json!([["remove", "item:b", []], get("d0"), ["set", "item:d", [], 1], get("d0")])).await;
    assert_eq!((&own[1], &own[3]), (&json!(["item:a", "item:c"]), &json!(["item:a", "item:c", "item:d"])));
    assert_eq!(
        read(&host, charm, &[json!("d1")]).await[0]["entries"],
        json!([["item:a", 0], ["item:c", 1], ["item:d", 1]])
    );
}

/// A value that would be hidden by a derivation is not: such a component is refused, by name.
#[tokio::test]
async fn a_component_that_derives_a_cell_which_holds_a_value_is_refused() {
    let host = host().await;
    let charm = host.install(Charm::new("one", component("probe"))).await.unwrap();
    assert_eq!(run(&host, charm, json!([["set", "whole", [], 1]])).await.outcome, Outcome::Committed);
    let refused = host.install(Charm::new("one", component("deriver"))).await.unwrap_err();
    assert!(matches!(&refused, InstallError::DerivesValue { cell, .. } if cell == "whole"), "{refused}");
    assert_eq!(run(&host, charm, json!([["remove", "whole", []]])).await.outcome, Outcome::Committed);
    // A member of a family, and only that, hides what is derived of a family; other cells may be named like it.
    let named = json!([["set", "times", [], 1], ["set", "whole:1", [], 1], ["set", "times:3", [], 1]]);
    assert_eq!(run(&host, charm, named).await.outcome, Outcome::Committed);
    let refused = host.install(Charm::new("one", component("deriver"))).await.unwrap_err();
    assert!(matches!(&refused, InstallError::DerivesValue { cell, .. } if cell == "times:"), "{refused}");
    assert_eq!(run(&host, charm, json!([["remove", "times:3", []]])).await.outcome, Outcome::Committed);
    assert_eq!(host.install(Charm::new("one", component("deriver"))).await.unwrap(), charm);
    assert_eq!(read(&host, charm, &[json!("whole")]).await, ["failed"]);
}

/// An event for `run` whose sender does not wait.
async fn send(host: &Host, charm: Did, steps: Json) -> charm_host::EventId {
    host.send(NewEvent::new(charm, "run", value(json!({ "steps": steps })))).await.unwrap()
}
