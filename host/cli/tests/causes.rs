//! `charm turns` and `charm why`: through the socket of a host that runs, and from the store without one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use common::{Folder, Running};
use serde_json::{Value, json};

const TWO: &str = "[charm.a]\ncomponent = \"probe.wasm\"\ngrant = [{ charm = \"b\", send = [\"run\"] }]\n\n[charm.b]\ncomponent = \"probe.wasm\"\n";
/// What steers a terminal, in a message; what turns the direction of text, in a name.
const HOSTILE: &str = "\u{1b}[31mred";
const TURNED: &str = "\u{202e}turned";

/// A folder with a and b, of which a may send to b, and b is paused; the DID of b.
fn folder() -> (Folder, String) {
    let folder = Folder::new(&["probe"], TWO);
    folder.json(0, &["send", "a/note", "1"]);
    folder.json(0, &["pause", "b"]);
    let dids = folder.json(0, &["ls"]);
    let b = dids.as_array().unwrap().iter().find(|charm| charm["name"] == "b").unwrap()["did"].as_str().unwrap();
    let b = b.to_owned();
    (folder, b)
}

/// Sends the event that makes a send to b and wait, and to a stream with a hostile name; returns its id.
fn send(folder: &Folder, b: &str) -> String {
    let refused = json!({ "steps": [["reject", HOSTILE]] });
    let steps = json!({ "steps": [
        ["send", [b, TURNED], 1], ["send", [b, "run"], refused], ["wait", [1], "all", 600_000], ["set", "x", [], 1]
    ]});
    let sent = folder.json(0, &["send", "a/run", &steps.to_string(), "--no-wait"]);
    sent["id"].as_str().unwrap().to_owned()
}

fn turns(folder: &Folder) -> Vec<Value> {
    folder.json(0, &["turns"]).as_array().unwrap().clone()
}

/// Asks until the turn of a waits.
fn waits(folder: &Folder) -> Value {
    for _ in 0..1_000 {
        if let [turn] = &turns(folder)[..]
            && turn["state"] == "waiting"
        {
            return turn.clone();
        }
    }
    panic!("{:?}", turns(folder));
}

fn events(why: &Value) -> Vec<Value> {
    why["events"].as_array().unwrap().clone()
}

/// S7, T8: a turn that waits is listed and explained by the host that runs, by its store after the host was killed, and by the
/// host that goes on with it; in JSON and in words.
#[test]
fn a_turn_that_waits_is_listed_and_explained_with_a_host_and_without() {
    let (folder, b) = folder();
    let host = Running::start(&folder, &[]);
    let id = send(&folder, &b);
    let turn = waits(&folder);
    assert_eq!(
        (&turn["event"], &turn["charm"]["name"], &turn["sender"]["name"]),
        (&json!(id), &json!("a"), &json!("@operator"))
    );
    assert_eq!(
        (&turn["wait"], &turn["named"], &turn["unsettled"], &turn["segments"]),
        (&json!("all"), &json!(1), &json!(1), &json!(1))
    );
    let waited = &turn["waits_for"][0];
    assert_eq!((&waited["to"]["name"], &waited["to"]["did"]), (&json!("b"), &json!(b)));
    assert_eq!(folder.json(0, &["turns", "b"]), json!([]), "b begins none");
    assert_eq!(folder.json(4, &["turns", "nobody"])["kind"], "not-found");
    let (text, note) = folder.text(0, &["turns"]);
    assert!(text.contains("all of 1, 1 to come") && text.contains("of b") && note.is_empty(), "{text}{note}");

    let live = folder.json(0, &["why", &id]);
    assert_eq!((&live["live"], &live["causes"], &live["more"]), (&json!(true), &json!(0), &json!(0)));
    let [first, refused, sent] = &events(&live)[..] else { panic!("{live}") };
    assert_eq!((&first["state"], &first["outcome"], &first["cause"]), (&json!("waiting"), &Value::Null, &Value::Null));
    assert_eq!((&refused["outcome"], &sent["state"], &sent["cause"]), (&json!("denied"), &json!("queued"), &json!(id)));
    assert_eq!((&first["commits"][0]["segment"], &first["commits"][0]["waits_for"][0]), (&json!(1), &sent["id"]));
    drop(host);

    let (text, note) = folder.text(0, &["turns", "a"]);
    assert!(text.contains("waiting") && note.contains("no host runs"), "{text}{note}");
    let read = folder.json(0, &["why", &id]);
    assert_eq!((&read["live"], &read["events"]), (&json!(false), &live["events"]), "the store tells the same");

    let host = Running::start(&folder, &[]);
    folder.json(0, &["resume", "b"]);
    let done =
        (0..1_000).find_map(|_| Some(folder.json(0, &["why", &id])).filter(|why| why["events"][0]["commit"].is_u64()));
    let done = done.expect("it comes to its end");
    assert_eq!(
        (&done["events"][0]["outcome"], &done["events"][2]["outcome"]),
        (&json!("committed"), &json!("rejected"))
    );
    let middle = folder.json(0, &["why", sent["id"].as_str().unwrap()]);
    assert_eq!(
        (&middle["causes"], &events(&middle)[0]["id"]),
        (&json!(1), &json!(id)),
        "back to the event from outside"
    );
    let (text, _) = folder.text(0, &["why", &id]);
    for part in ["(from outside)", "segment 1", "the end", "a -> b/run", "rejected", "denied", "memory alone"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.chars().any(|c| c != '\n' && charm_host::is_unprintable(c)), "{text:?}");
    assert!(text.contains("[31mred") && text.contains("turned"), "the name and the message are shown, cleaned: {text}");
    assert_eq!(turns(&folder), Vec::<Value>::new());
    assert_eq!(host.stop("TERM"), Some(0));
}

/// An unknown id is told as such, with what to do, with a host and without; what is no id is a wrong command line.
#[test]
fn an_unknown_id_says_so_and_what_to_do() {
    let (folder, _) = folder();
    let unknown = "0".repeat(32);
    let asked = |folder: &Folder| {
        let failure = folder.json(4, &["why", &unknown]);
        assert_eq!(failure["kind"], "not-found");
        assert!(failure["error"].as_str().unwrap().contains("charm events CHARM"), "{failure}");
        assert_eq!(folder.json(2, &["why", "nonsense"])["kind"], "usage");
    };
    asked(&folder);
    let host = Running::start(&folder, &[]);
    asked(&folder);
    assert_eq!(host.stop("TERM"), Some(0));
}

/// S10, S13: what waits for time says so and is cancelled, with a host and without.
#[test]
fn what_waits_for_time_is_told_and_cancelled() {
    let (folder, b) = folder();
    let host = Running::start(&folder, &[]);
    let due = 4_000_000_000_000_u64;
    let later = json!(["send-later", [b, "run"], { "steps": [] }, { "deliver-after": due, "expires-at": due + 1 }]);
    let run = |steps: Value| {
        let sent = folder.json(0, &["send", "a/run", &json!({ "steps": [steps] }).to_string(), "--no-wait"]);
        sent["id"].as_str().unwrap().to_owned()
    };
    run(later);
    let (sleeps, tried) = (run(json!(["sleep", 600_000])), run(json!(["retry", 600_000])));
    let stand = |event: &str| {
        let turn = turns(&folder).into_iter().find(|turn| turn["event"] == event);
        turn.map_or_else(Vec::new, |turn| vec![turn["state"].clone(), turn["wait"].clone(), turn["segments"].clone()])
    };
    let is_there = (0..1_000).any(|_| {
        stand(&sleeps) == [json!("waiting"), json!("time"), json!(1)] && stand(&tried)[..1] == [json!("retry")]
    });
    assert!(is_there, "{:?}", turns(&folder));
    let (text, _) = folder.text(0, &["turns"]);
    assert!(text.contains("time; 9 min") && text.contains("try 2; 9 min"), "{text}");
    let (text, _) = folder.text(0, &["why", &tried]);
    assert!(text.contains("to be tried again: try 1 more, after 10 min"), "{text}");
    let waits = folder.json(0, &["events", "b"])[0].clone();
    assert_eq!((&waits["deliver_after"], &waits["expires_at"]), (&json!(due), &json!(due + 1)));
    assert!(folder.text(0, &["events", "b"]).0.contains("due in "));
    let delayed = waits["id"].as_str().unwrap();
    let state = folder.json(0, &["why", delayed])["events"].as_array().unwrap().last().unwrap()["state"].clone();
    assert_eq!(state, "delayed");
    assert_eq!(folder.json(0, &["cancel", "a", &sleeps]), json!({ "cancelled": sleeps }));
    assert_eq!(folder.json(4, &["cancel", "a", &sleeps])["kind"], "not-found");
    assert_eq!(host.stop("TERM"), Some(0));
    assert_eq!(stand(&tried)[..1], [json!("retry")], "without a host it is read from the store");
    for (charm, id) in [("a", &*tried), ("b", delayed)] {
        folder.json(0, &["cancel", charm, id]);
    }
    for id in [&*sleeps, &tried, delayed] {
        assert_eq!(folder.json(3, &["receipt", id])["outcome"], "cancelled");
    }
    assert_eq!(turns(&folder), Vec::<Value>::new());
}

/// Pages, as of events.
#[test]
fn turns_come_in_pages() {
    let (folder, b) = folder();
    let host = Running::start(&folder, &[]);
    send(&folder, &b);
    let first = waits(&folder);
    send(&folder, &b);
    while turns(&folder).iter().filter(|turn| turn["state"] == "waiting").count() < 2 {}
    let (_, note) = folder.text(0, &["turns", "--max", "1"]);
    let after = first["position"].to_string();
    assert!(note.contains(&format!("--after {after}")), "{note}");
    let rest = folder.json(0, &["turns", "--after", &after]);
    assert_eq!(rest.as_array().unwrap().len(), 1);
    assert_ne!(rest[0]["event"], first["event"]);
    assert_eq!(host.stop("TERM"), Some(0));
}

/// D1: cells and families that a charm derives are listed and marked, in their places and pages, and none is computed.
#[test]
fn derived_cells_are_listed_beside_a_host_and_not_computed() {
    let folder = Folder::new(&["deriver"], "[charm.d]\ncomponent = \"deriver.wasm\"\n");
    // Who computes it waits for ever.
    folder.json(0, &["send", "d/run", "{\"steps\": [[\"set\", \"of-d0\", [], [\"spin\"]]]}"]);
    let names = |arguments: &[&str]| -> Vec<String> {
        let cells = folder.json(0, &[&["ls"], arguments].concat());
        cells.as_array().unwrap().iter().map(|cell| cell["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["d"]), ["of-d0"], "without a host: what the store has");
    let host = Running::start(&folder, &[]);
    let all = names(&["d", "--max", "1000"]);
    assert_eq!((all.len(), all.is_sorted()), (1 + 200 + 2 + 4, true), "{all:?}");
    let cells = folder.json(0, &["ls", "d/d0"]);
    let did = &folder.json(0, &["did", "d"])["did"];
    assert_eq!(cells, json!([{ "name": "d0", "did": did, "derived": true }]));
    assert_eq!(names(&["d/times:3"]), ["times"], "a member is one of its family");
    assert_eq!(names(&["d/of"]), ["of-d0"]);
    // Page by page they are the same.
    let (mut pages, mut page) = (Vec::new(), names(&["d", "--max", "7"]));
    while let Some(last) = page.last().cloned() {
        pages.append(&mut page);
        page = names(&["d", "--max", "7", "--after", &last]);
    }
    assert_eq!(pages, all);
    let (text, note) = folder.text(0, &["ls", "d", "--after", "of-", "--max", "2"]);
    assert!(
        text.contains("of-d0 ") && text.contains("times ") && text.contains("-         derived family  -"),
        "{text}"
    );
    assert!(note.contains("there may be more: --after times"), "{note}");
    assert_eq!(host.stop("TERM"), Some(0));
}

/// A2, C8: a family is shown as a grant names it, and one that is named as a cell is refused with that name.
#[test]
fn a_family_is_shown_as_it_is_granted() {
    let manifest = |name: &str| {
        let grant = format!("grant = [{{ charm = \"d\", read = [\"{name}\"] }}]");
        format!("[charm.d]\ncomponent = \"deriver.wasm\"\n[charm.e]\ncomponent = \"deriver.wasm\"\n{grant}\n")
    };
    let folder = Folder::new(&["deriver"], &manifest("times:"));
    let (text, _) = folder.text(0, &["describe", "d"]);
    assert!(text.contains("\ntimes:  derived, can be granted  any") && text.contains("lets e: read times:"), "{text}");
    folder.text(0, &["check"]);
    let folder = Folder::new(&["deriver"], &manifest("times"));
    let (text, notes) = folder.text(2, &["check"]);
    let why = "cell times of d is of a family, which is granted as a whole: times:";
    assert!((text + &notes).contains(why));
}

/// A host that is stopped is not taken for none.
#[test]
fn a_host_that_does_not_answer_is_told_from_none() {
    let (folder, _) = folder();
    let id = folder.json(0, &["send", "a/note", "1"])["id"].as_str().unwrap().to_owned();
    let told = |arguments: &[&str]| {
        let (text, notes) = folder.text(0, &[arguments, &["--timeout", "1"]].concat());
        text + &notes
    };
    assert!(told(&["turns"]).contains("no host runs"));
    assert!(told(&["why", &id]).contains("only a host that runs remembers them"));
    assert!(!told(&["ls", "a"]).contains("host"));
    let absent =
        |folder: &Folder| folder.json(4, &["get", "a/absent", "--timeout", "1"])["error"].as_str().unwrap().to_owned();
    assert!(absent(&folder).ends_with("charm run computes those that are derived"));
    let host = Running::start(&folder, &[]);
    let pid = host.child.id().to_string();
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    };
    signal("STOP");
    // What the store has is told all the same, and a program is told that it is not all.
    for (exit, arguments) in [(7, &["turns"][..]), (0, &["why", &id]), (7, &["ls", "a"])] {
        let arguments = [arguments, &["--timeout", "1"]].concat();
        let (out, err) = folder.text(exit, &arguments);
        let told = format!("{out}{err}");
        assert!(told.contains("a host runs, but did not answer") && !told.contains("no host runs"), "{told}");
        assert!(told.contains("has said nothing for 1 s") && !told.contains("--id"), "{told}");
        assert!(out.lines().count() >= if exit == 0 { 2 } else { 1 }, "{out}");
        let (out, err) = folder.text(exit, &[&arguments[..], &["--json"]].concat());
        serde_json::from_str::<Value>(&out).unwrap();
        if exit == 7 {
            let error: Value = serde_json::from_str(&err).unwrap();
            assert_eq!((&error["kind"], &error["exit"]), (&json!("store-in-use"), &json!(7)), "{err}");
        }
    }
    let listed = folder.text(7, &["ls", "a", "--timeout", "1"]).0;
    assert!(listed.contains("notes"), "{listed}");
    // A script does not take a silent host for no value.
    let silent = folder.json(7, &["get", "a/absent", "--timeout", "1"]);
    let why = silent["error"].as_str().unwrap();
    assert_eq!(silent["kind"], "store-in-use");
    assert!(why.contains("the store has no value there") && why.contains("has said nothing for 1 s"), "{why}");
    signal("CONT");
    assert_eq!(host.stop("TERM"), Some(0));
}
