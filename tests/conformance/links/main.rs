//! Links: values that name cells and streams, and what it means to follow them (C5).
#![allow(clippy::unwrap_used, reason = "tests")]

mod attacks;
mod matrix;

use charm_conformance::*;
use charm_host::{Archive, Did, FolderStore, Host, Link, Outcome, Path, Value};
use serde_json::{Value as Json, json};

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

/// Runs one step in a turn that must commit.
async fn one(host: &Host, charm: Did, step: Json) -> Json {
    tried(host, charm, json!([step])).await.remove(0)
}

/// Returns the link to a place in a cell, as a value.
fn link(owner: Did, name: &str, path: &str) -> Value {
    Link::Cell { owner, name: name.into(), path: path.parse().unwrap() }.to_value()
}

/// C5: a path goes on where a link on it leads; one that ends there means the link.
#[tokio::test]
async fn a_path_that_leads_through_a_link_goes_on_in_the_cell_that_it_names() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    run(&host, b, json!([["set", "x", [], { "items": [{ "name": "of b" }] }]])).await;
    let steps = json!([
        ["set", "own", [], { "deep": { "list": [1, 2] } }],
        ["set-link", "x", ["own"], ["own", ["deep"]]],
        ["set-link", "x", ["other"], [of(b, "x"), ["items", 0]]],
        ["get", "x", ["own", "list", 1]],
        ["get", "x", ["own", "gone"]],
        ["get", "x", ["own"]],
        ["get", "x", ["other", "name"]],
        ["set", "x", ["own", "list", 2], 3],
        ["append", "x", ["own", "list"], 4],
        ["remove", "x", ["own", "list", 0]],
        ["increment", "x", ["own", "n"], 5],
        ["get", "own", []],
        ["follow", "x", ["own"], ["get", "here", ["list"]]],
        ["follow", "x", ["own"], ["set", "here", ["new"], "by a handle"]],
        ["follow", "x", ["other"], ["get", "here", []]],
    ]);
    let told = tried(&host, a, steps).await;
    assert_eq!((&told[3], &told[4]), (&json!(2), &Json::Null));
    assert_eq!(told[5], json!({ "link": [a.to_string(), "own", ["deep"]] }), "the link itself");
    assert_eq!(told[6], json!("of b"));
    assert!(told[7..11].iter().all(Json::is_null), "{told:?}");
    assert_eq!(told[11], json!({ "deep": { "list": [2, 3, 4], "n": 5 } }));
    assert_eq!((&told[12], &told[14]), (&json!([2, 3, 4]), &json!({ "name": "of b" })));
    let own = json!({ "deep": { "list": [2, 3, 4], "n": 5, "new": "by a handle" } });
    assert_eq!(cell(&host, a, "own").await, own);
    // What ends at a link replaces it, and its target stays.
    run(&host, a, json!([["set", "x", ["own"], 1], ["remove", "x", ["other"]]])).await;
    assert_eq!(cell(&host, a, "x").await, json!({ "own": 1 }));
    assert_eq!(cell(&host, a, "own").await, own);
}

/// C5: links that are whole cells, and links behind links.
#[tokio::test]
async fn a_link_may_lead_to_a_link() {
    let host = host().await;
    let charm = probe(&host, "chain").await;
    let steps = json!([
        ["set", "end", [], { "a": { "b": 7 } }],
        ["set-link", "x", [], ["y", ["to"]]],
        ["set-link", "y", ["to"], ["z", []]],
        ["set-link", "z", [], ["end", ["a"]]],
        ["get", "x", ["b"]],
        ["set", "x", ["b"], 8],
        ["get", "x", []],
        ["follow", "x", [], ["get", "here", []]],
        ["follow", "x", [], ["get", "here", ["b"]]],
    ]);
    let told = tried(&host, charm, steps).await;
    assert_eq!(told[4], json!(7));
    assert_eq!(told[6]["link"][1], json!("y"));
    assert_eq!(told[7]["link"][1], json!("z"), "the handle's path ends at a link");
    assert_eq!(told[8], json!(8));
    assert_eq!(cell(&host, charm, "end").await, json!({ "a": { "b": 8 } }));
}

/// C5: a link that another charm holds leads to one's own cell, and is written through.
#[tokio::test]
async fn a_link_to_ones_own_cell_inside_anothers_is_writable() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    run(&host, a, json!([["set", "mine", [], { "done": false }]])).await;
    run(
        &host,
        b,
        json!([
            ["set-link", "x", ["todo", 0], [of(a, "mine"), []]],
            ["set-link", "unshared", [0], [of(a, "mine"), []]]
        ]),
    )
    .await;
    let steps = json!([
        ["set", of(b, "x"), ["todo", 0, "done"], true],
        ["set", of(b, "x"), ["todo", 0], true],
        ["set", of(b, "x"), ["todo", 1], true],
        ["set", of(b, "unshared"), [0, "done"], "no grant"],
    ]);
    let told = tried(&host, a, steps).await;
    assert_eq!(told[0], Json::Null);
    for (told, why) in
        told[1..].iter().zip(["what holds the link is b's", "and so is what is beside it", "not even read"])
    {
        assert_eq!(told["kind"], json!("write-isolation"), "{why}");
        assert_eq!(told["requested"], json!(b.to_string()), "{why}");
    }
    assert_eq!(cell(&host, a, "mine").await, json!({ "done": true }));
}

/// C5: streams are named by links of their own.
#[tokio::test]
async fn a_link_to_a_stream_is_sent_to_and_is_no_cell() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let steps = json!([
        ["set-link", "x", ["note"], [of(b, "note")]],
        ["set-link", "x", ["own"], ["note"]],
        ["set-link", "x", ["cell"], [of(b, "x"), []]],
        ["follow", "x", ["note"], ["send", "here", "hello"]],
        ["follow", "x", ["own"], ["send", "here", "to myself"]],
        ["follow", "x", ["cell"], ["send", "here", "no stream"]],
        ["follow", "x", ["note"], ["get", "here", []]],
        ["get", "x", ["note", "deeper"]],
        ["get", "x", ["note"]],
    ]);
    let told = tried(&host, a, steps).await;
    assert_eq!(told[5], json!({ "kind": "invalid", "why": "link: to a cell, not to a stream" }));
    assert_eq!(told[6], json!({ "kind": "invalid", "why": "link: to a stream, not to a cell" }));
    assert_eq!((&told[7]["kind"], &told[7]["actual"]), (&json!("type-mismatch"), &json!("link")));
    assert_eq!(told[8], json!({ "link": [b.to_string(), "note"] }));
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["hello"]));
    assert_eq!(cell(&host, a, "notes").await, json!(["to myself"]));
}

/// T4: what a path leads through is read by value, and so is what is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_changes_between_read_and_commit_is_a_conflict() {
    let logs = Logs::capture();
    for (change, again, sees) in [
        // The link leads elsewhere.
        (json!([["set-link", "x", ["to"], ["z", []]]]), true, "in z"),
        // What it leads to changes.
        (json!([["set", "y", ["n"], "new in y"]]), true, "new in y"),
        // The same link again, and what is beside both.
        (
            json!([["set-link", "x", ["to"], ["y", []]], ["set", "x", ["other"], 1], ["set", "y", ["m"], 1]]),
            false,
            "in y",
        ),
    ] {
        let (hold, host) = (Hold::new(), host().await);
        let (a, b) = pair(&host).await;
        let steps =
            json!([["set", "y", ["n"], "in y"], ["set", "z", ["n"], "in z"], ["set-link", "x", ["to"], ["y", []]]]);
        run(&host, b, steps).await;
        let steps =
            json!({ "steps": [["get", of(b, "x"), ["to", "n"]], hold.step(), ["set", "mine", [], 1]], "out": "out" });
        let id = host.send(charm_host::NewEvent::new(a, "run", value(steps))).await.unwrap();
        hold.arrived(1).await;
        assert_eq!(run(&host, b, change).await.outcome, Outcome::Committed);
        hold.release(1_000);
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
        assert_eq!(cell(&host, a, "out").await[0], json!(sees));
        let conflicts = logs.lines(&id.to_string()).iter().filter(|line| line.contains("running again")).count();
        assert_eq!(conflicts > 0, again, "{sees}");
    }
}

/// T4: where a link leads is read by value, also when that is to no cell.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_no_cell_that_changes_between_read_and_commit_is_a_conflict() {
    let (hold, host) = (Hold::new(), host().await);
    let (a, b) = pair(&host).await;
    run(&host, b, json!([["set", "y", ["n"], "in y"], ["set-link", "x", ["to"], ["run"]]])).await;
    let told = one(&host, a, json!(["get", of(b, "x"), ["to", "n"]])).await;
    assert_eq!((&told["kind"], &told["actual"]), (&json!("type-mismatch"), &json!("link")));
    let read = json!(["try", ["get", of(b, "x"), ["to", "n"]]]);
    let steps = json!({ "steps": [read, hold.step(), ["set", "mine", [], 1]], "out": "out" });
    let id = host.send(charm_host::NewEvent::new(a, "run", value(steps))).await.unwrap();
    hold.arrived(1).await;
    run(&host, b, json!([["set-link", "x", ["to"], ["y", []]]])).await;
    hold.release(1_000);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, a, "out").await[0], json!({ "ok": "in y" }));
}

/// S8: a turn that goes on follows what it followed before.
#[tokio::test]
async fn a_turn_that_waits_is_told_again_where_links_led() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    run(&host, a, json!([["set", "y", ["n"], 1], ["set-link", "x", ["to"], ["y", []]]])).await;
    let steps = json!([
        ["increment", "x", ["to", "n"], 1],
        ["set-link", "x", ["to"], ["z", []]],
        ["send", of(b, "note"), 1],
        wait_all(&[0]),
        ["increment", "x", ["to", "n"], 10],
    ]);
    assert_eq!(run(&host, a, steps).await.outcome, Outcome::Committed);
    assert_eq!((cell(&host, a, "y").await, cell(&host, a, "z").await), (json!({ "n": 2 }), json!({ "n": 10 })));
}

/// C1, C2: a link is a value like any other: in text, in the log, for the laws, in the next host.
#[tokio::test]
async fn links_are_values_that_are_kept_shown_and_proved() {
    let home = Home::default();
    let host = home.open().await;
    let charm = probe(&host, "links").await;
    let name = "n".repeat(128);
    run(&host, charm, json!([["set-link", "x", ["a"], [name, ["k", 0]]], ["set-link", "x", ["s"], ["run"]]])).await;
    run(&host, charm, json!([["append-link", "x", ["l"], ["y", []]], ["append-link", "x", ["l"], ["z", []]]])).await;
    run(&host, charm, json!([["set", "y", [], 1], ["set", "x", ["n"], 1], ["remove", "x", ["l", 0]]])).await;
    let found: Value = host.get(&charm, "x", "/a").await.unwrap().unwrap();
    assert_eq!(found, link(charm, &name, "/k/0"));
    let whole: Value = host.get(&charm, "x", &Path::root()).await.unwrap().unwrap();
    let text = whole.to_json().unwrap();
    assert_eq!(Value::from_json(&text).unwrap(), whole, "{text}");
    host.shutdown().await.unwrap();
    Archive::open(FolderStore::open_read_only(home.store()).unwrap()).unwrap().verify_store().unwrap();
    let host = home.open().await;
    probe(&host, "links").await;
    assert_eq!(one(&host, charm, json!(["get", "x", ["l", 0]])).await, json!({ "link": [charm.to_string(), "z", []] }));
    // Equal links are equal values (C4).
    let before = revision(&host, charm, "x").await;
    run(&host, charm, json!([["set-link", "x", ["s"], ["run"]]])).await;
    assert_eq!(revision(&host, charm, "x").await, before);
}
