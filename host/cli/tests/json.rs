//! docs/json.md tells what commands print with `--json`: each key with its type, both ways, on a store with something of
//! everything. And how far it is told: words and kinds of the page are those of the code.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout},
    thread,
};

use charm_demo_servers::root;
use common::{Folder, OUTSIDER, Running, json::Page};
use serde_json::{Value, json};

/// Two probes of which one may do with the other, with somebody outside, and one with derived cells. Bounds that are small: a
/// chain, lines of log and dead letters are over them at once.
fn manifest(origin: &str) -> String {
    format!(
        "[limits]\ndead-letters-max = 2\nlog-burst-bytes = 0\nlog-bytes-per-second = 0\nchain-burst-events = 1\n\
         chain-events-per-second = 1\n\
         [charm.a]\ncomponent = \"probe.wasm\"\nwishes = {{ \"#probe\" = \"b\" }}\n\
         http = [{{ origin = \"{origin}\", methods = [\"GET\"], private = true }}]\n\
         grant = [{{ charm = \"b\", read = [\"x\"], send = [\"run\", \"note\"] }}]\n\
         [charm.b]\ncomponent = \"probe.wasm\"\n\
         [charm.d]\ncomponent = \"deriver.wasm\"\n\
         [outside.\"{OUTSIDER}\"]\ngrant = [{{ charm = \"a\", read = [\"x\"], send = [\"note\"] }}]\n"
    )
}

/// Answers every request.
fn server() -> String {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", server.local_addr().unwrap());
    thread::spawn(move || {
        for client in server.incoming() {
            let answer = |mut client: TcpStream| {
                let _ = client.read(&mut [0; 4_096]);
                client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\n1")
            };
            let _ = client.and_then(answer);
        }
    });
    origin
}

/// A folder, the page that its commands are compared with, and the DID of b.
struct Place {
    folder: Folder,
    page: Page,
    b: String,
}

impl Place {
    /// Runs a command, looks at what it prints, and returns that.
    #[track_caller]
    fn look(&mut self, name: &str, exit: i32, arguments: &[&str]) -> Value {
        let printed = self.folder.json(exit, arguments);
        self.page.look(name, &printed);
        printed
    }

    /// Sends steps to a charm, and returns the event.
    #[track_caller]
    fn run(&mut self, charm: &str, steps: Value) -> String {
        let steps = json!({ "steps": steps }).to_string();
        let sent = self.look("charm send", 0, &["send", &format!("{charm}/run"), &steps, "--no-wait"]);
        sent["id"].as_str().unwrap().to_owned()
    }

    /// As `look`, until it is so.
    #[track_caller]
    fn until(&mut self, name: &str, arguments: &[&str], is_so: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..500 {
            let printed = self.look(name, 0, arguments);
            if is_so(&printed) {
                return printed;
            }
        }
        panic!("{arguments:?}: {}", self.folder.json(0, arguments));
    }

    /// Asks why until it is told so.
    #[track_caller]
    fn why(&mut self, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.until("charm why", &["why", id], is_so)
    }

    /// Asks why until an event is settled.
    #[track_caller]
    fn settled(&mut self, id: &str) -> Value {
        let of = id.to_owned();
        let is_settled = |event: &Value| event["id"] == of && event["outcome"].is_string();
        self.why(id, |why| why["events"].as_array().unwrap().iter().any(is_settled))
    }
}

/// A command that watches, and its lines.
struct Watching(Child, BufReader<ChildStdout>);

impl Watching {
    fn start(folder: &Folder, arguments: &[&str]) -> Watching {
        let mut child = folder.command(&[&["watch", "--json"], arguments].concat()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Watching(child, lines)
    }

    /// Looks at lines until one tells this change.
    fn until(&mut self, page: &mut Page, change: &str) {
        loop {
            let mut line = String::new();
            assert!(self.1.read_line(&mut line).unwrap() > 0, "no {change} is told");
            let told: Value = serde_json::from_str(&line).unwrap();
            page.look("charm watch", &told);
            if told["change"] == change {
                return;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Turns that wait, run again, are tried again, wished and went: as a host tells them.
fn causes(place: &mut Place, origin: &str) {
    let b = place.b.clone();
    let of_b = |stream: &str| json!([b, stream]);
    // It waits for an answer, and then for what it sends to a charm that is paused.
    let derived = place.look("charm ls CHARM", 0, &["ls", "d"]);
    assert!(derived.as_array().unwrap().iter().any(|cell| cell["family"] == true), "{derived}");
    place.look("charm pause", 0, &["pause", "b"]);
    let sends = json!(["send", of_b("run"), { "steps": [["reject", "no"]] }, { "stream": "on-receipt", "tag": 1 }]);
    let fetch = json!(["commit-and-fetch", { "url": format!("{origin}/x") }]);
    let waits = place.run("a", json!([fetch, sends, ["wait", [0], "all", 600_000], ["set", "x", [], 1]]));
    let named = |turn: &Value| turn["wait"] == "all";
    place.until("charm turns", &["turns"], |turns| turns.as_array().unwrap().iter().any(named));
    let why = place.why(&waits, |why| why["events"].as_array().unwrap().len() > 1);
    assert_eq!(why["events"][1]["state"], "queued");
    place.look("charm resume", 0, &["resume", "b"]);
    place.settled(&waits);
    place.why(&waits, |why| why["events"].as_array().unwrap().iter().any(|event| event["receipt_of"].is_string()));
    // It sleeps, and is tried again.
    let tried = place.run("a", json!([["unless-tried", 1, ["retry", 1]], ["sleep", 1], ["set", "y", [], 1]]));
    place.settled(&tried);
    // It wishes for what nobody has quite so.
    let wishes = place.run("a", json!([["wish", "#probe", { "cells": [["shaped", "{n: string}"]] }]]));
    place.settled(&wishes);
    place.why(&wishes, |why| why["events"][0]["misses"].as_array().is_some_and(|misses| !misses.is_empty()));
    // It reads what another writes meanwhile.
    let conflict = (0..50).any(|_| {
        let reads = json!([["get", of_b("x"), []], ["repeat", 20_000, ["context"]], ["set", "z", [], 1]]);
        let reads = place.run("a", reads);
        for number in 0..4 {
            place.run("b", json!([["set", "x", [], number]]));
        }
        place.settled(&reads)["events"][0]["conflicts"].as_array().is_some_and(|conflicts| !conflicts.is_empty())
    });
    assert!(conflict, "a conflict is met");
    // A chain that is long and fast, lines of log over their rate, and more letters than are kept.
    let chain = (0..4).fold(json!({ "steps": [] }), |event, _| json!({ "steps": [["send", "run", event]] }));
    place.run("a", json!([["repeat", 3, ["log", "error", "a line"]], ["send", "run", chain]]));
    for _ in 0..4 {
        let dead = place.run("a", json!([["reject", "no"]]));
        place.settled(&dead);
    }
    place.until("charm ls", &["ls"], |charms| charms[0]["chain"].is_u64() && charms[0]["dropped"].is_u64());
    let letters = place.look("charm events", 0, &["events", "a", "--dead"]);
    let id = |number: usize| letters[number]["id"].as_str().unwrap().to_owned();
    let again = place.look("charm events --resend", 3, &["events", "a", "--resend", &id(1)]);
    let again = place.look("charm why", 0, &["why", again["id"].as_str().unwrap()]);
    assert!(again.to_string().contains("\"again\":true"), "{again}");
    place.look("charm receipt", 3, &["receipt", &id(0)]);
    let letters = place.look("charm events", 0, &["events", "a", "--dead"]);
    place.look("charm events --discard", 0, &["events", "a", "--discard", letters[0]["id"].as_str().unwrap()]);
    place.look("charm events --discard-dead", 0, &["events", "a", "--discard-dead"]);
}

/// What is watched.
fn watched(place: &mut Place) {
    let Place { folder, page, .. } = &mut *place;
    let mut receipts = Watching::start(folder, &["a", "--receipts"]);
    let mut letters = Watching::start(folder, &["a", "--dead"]);
    let mut events = Watching::start(folder, &["b", "--events"]);
    let mut cells = Watching::start(folder, &["a"]);
    let mut derived = Watching::start(folder, &["d/d0"]);
    folder.json(0, &["pause", "b"]);
    folder.json(0, &["send", "b/note", "{\"text\": 1}", "--no-wait"]);
    let done = folder.json(0, &["send", "a/note", "1"]);
    let dead = folder.json(3, &["send", "a/run", "{\"steps\": [[\"reject\", \"no\"]]}"]);
    folder.json(0, &["send", "d/run", "{\"steps\": [[\"set\", \"of-d0\", [], [\"reject\", \"no\"]]]}"]);
    for (watching, change) in [
        (&mut receipts, "receipt"),
        (&mut letters, "dead"),
        (&mut events, "event"),
        (&mut cells, "listed"),
        (&mut derived, "unreadable"),
    ] {
        watching.until(page, change);
    }
    for event in [done, dead] {
        Watching::start(folder, &["--receipt", event["id"].as_str().unwrap()]).until(page, "receipt");
    }
    folder.json(0, &["resume", "b"]);
}

/// Every command that has something to print, on one store.
#[test]
fn every_key_that_is_printed_is_in_the_page_and_every_key_of_the_page_is_printed() {
    let origin = server();
    let folder = Folder::new(&["probe", "deriver"], &manifest(&origin));
    folder.json(0, &["send", "a/run", "{\"steps\": [[\"set\", \"x\", [], {\"n\": 1}]]}"]);
    let b = folder.json(0, &["did", "b"])["did"].as_str().unwrap().to_owned();
    let mut place = Place { folder, page: Page::read(), b };
    let host = Running::start(&place.folder, &["--json"]);
    place.page.look("charm run", &serde_json::from_str(&host.lines[0]).unwrap());
    causes(&mut place, &origin);
    watched(&mut place);
    let sleeps = place.run("a", json!([["sleep", 600_000]]));
    place.until("charm turns", &["turns"], |turns| turns[0]["wait"] == "time");
    place.look("charm cancel", 0, &["cancel", "a", &sleeps]);
    let due = 4_000_000_000_000_u64;
    let b = place.b.clone();
    let later = json!(["send-later", [b, "note"], 1, { "deliver-after": due, "expires-at": due + 1 }]);
    let later = place.run("a", json!([later]));
    place.settled(&later);
    assert_eq!(place.look("charm events", 0, &["events", "b"])[0]["deliver_after"], due);
    assert_eq!(host.stop("TERM"), Some(0));

    // Without a host.
    place.look("charm send", 0, &["send", "a/note", "1"]);
    place.look("charm get", 0, &["get", "a/x", "--at", "4"]);
    place.look("charm ls CHARM", 0, &["ls", "a"]);
    place.look("charm did", 0, &["did"]);
    place.look("charm did CHARM", 0, &["did", "a"]);
    place.look("charm backup", 0, &["backup", "copy"]);
    for what in ["a", "b", "d", "probe.wasm"] {
        place.look("charm describe", 0, &["describe", what]);
    }
    assert!(!place.look("charm check", 0, &["check"]).as_array().unwrap().is_empty());
    held(&mut place);
    let pruned = place.look("charm prune", 0, &["prune", "a"]);
    assert!(!pruned["receivers"].as_array().unwrap().is_empty(), "{pruned}");
    place.look("charm ls", 0, &["ls"]);
    let missing = place.look("charm why", 0, &["why", &later]);
    assert!(!missing["events"][0]["missing"].as_array().unwrap().is_empty(), "{missing}");
    damaged(&mut place);
    errors(&mut place);
    let elsewhere = "charm build";
    place.page.is_met(|name| name != elsewhere, &[]);
}

/// An event and a component that are held: hosts died under them, says the list beside the store.
fn held(place: &mut Place) {
    let suspects = place.folder.path("charm/suspects");
    place.look("charm pause", 0, &["pause", "b"]);
    place.look("charm send", 0, &["send", "b/note", "1"]);
    assert_eq!(place.look("charm ls", 0, &["ls"])[1]["paused"], true);
    place.look("charm resume", 0, &["resume", "b"]);
    let event = place.look("charm events", 0, &["events", "b"])[1].clone();
    let (id, position) = (event["id"].as_str().unwrap(), &event["position"]);
    let sha256 = place.folder.json(0, &["describe", "d"])["sha256"].as_str().unwrap().to_owned();
    fs::write(&suspects, format!("event {id} {position} 3 true\ncomponent {sha256} 3\n")).unwrap();
    assert_eq!(place.look("charm events", 0, &["events", "b"])[1]["held"], true);
    assert_eq!(place.look("charm ls", 0, &["ls"])[1]["held"], 1);
    place.look("charm release", 0, &["release", &sha256]);
    place.look("charm events --run", 0, &["events", "b", "--run", id]);
}

/// Spaces that prove themselves, and one that does not.
fn damaged(place: &mut Place) {
    place.look("charm verify", 0, &["verify"]);
    place.look("charm verify CHARM", 0, &["verify", "a"]);
    let store = rusqlite::Connection::open(place.folder.path("charm/index.db")).unwrap();
    assert_eq!(store.execute("UPDATE cell SET value = x'02' WHERE name = 'z'", []).unwrap(), 1);
    drop(store);
    place.look("charm verify", 6, &["verify"]);
    place.look("charm verify CHARM", 6, &["verify", "a"]);
}

/// Errors, and lines of the log before one.
fn errors(place: &mut Place) {
    for (exit, arguments) in [
        (2, &["get"][..]),
        (2, &["get", "a"]),
        (2, &["run", "probe.wasm"]),
        (4, &["get", "a/absent"]),
        (5, &["send", "a/shaped", "{}"]),
    ] {
        let output = place.folder.command(&[&["--json", "--log", "debug"], arguments].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let (error, log) = said.lines().rev().map(|line| serde_json::from_str(line).unwrap()).fold(
            (None, Vec::new()),
            |(error, mut log), line: Value| match error {
                None => (Some(line), log),
                error => {
                    log.push(line);
                    (error, log)
                }
            },
        );
        let error = error.unwrap();
        place.page.look("An error", &error);
        assert_eq!(error["exit"], exit);
        for line in log {
            place.page.look("A line of the log", &line);
        }
    }
}

/// Returns the words that stand behind `=>` in a piece of the source that begins so.
fn arms(file: &str, start: &str) -> BTreeSet<String> {
    let source = fs::read_to_string(root().unwrap().join(file)).unwrap();
    let piece =
        source.split(start).nth(1).unwrap_or_else(|| panic!("{file} has no {start}")).split("\n}\n").next().unwrap();
    piece.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// Closed lists of words stand in the page as the code has them.
#[test]
fn the_page_has_every_word_and_no_other() {
    let page = Page::read();
    let words = |key: &str| page.words("Words", Some(key));
    let outcomes = charm_host::Outcome::ALL.map(|outcome| outcome.name().to_owned());
    let outcomes: BTreeSet<String> = outcomes.into_iter().chain(["waiting", "unknown"].map(str::to_owned)).collect();
    assert_eq!(words("outcome"), outcomes);
    assert_eq!(words("state"), arms("host/src/listing.rs", "impl TurnState {"));
    assert_eq!(words("missing"), arms("host/src/why.rs", "impl Missing {"));
    assert_eq!(words("kind"), arms("host/src/value/scan.rs", "impl fmt::Display for Kind {"));
    assert_eq!(words("wait"), arms("host/cli/src/told.rs", "fn word(until: Until)"));
    let watched = fs::read_to_string(root().unwrap().join("host/cli/src/watched.rs")).unwrap();
    let changes = watched.split("enum ChangeLine {\n").nth(1).unwrap().split("\n}\n").next().unwrap();
    let changes = changes.lines().filter(|line| line.starts_with("    ") && line.as_bytes()[4].is_ascii_uppercase());
    let changes = changes.map(|line| line.trim().split([' ', '(', ',']).next().unwrap().to_ascii_lowercase());
    assert_eq!(words("change"), changes.collect::<BTreeSet<_>>());
}
