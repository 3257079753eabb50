//! `charm watch`: what there is, and then what changes, over the socket of a running host (D6).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Stdio},
};

use common::{Folder, Running};
use serde_json::{Value, json};

/// A command that watches.
struct Watching {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watching {
    fn start(folder: &Folder, arguments: &[&str]) -> Watching {
        let mut command = folder.command(&[&["watch"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Watching { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn json(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
    }

    /// Waits until it has ended; returns the exit code, and what it said last.
    fn end(mut self) -> (Option<i32>, String) {
        assert_eq!(self.line(), "", "nothing more is printed");
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

/// D6: a line for what there is and for each later state, and a clean end with Ctrl-C and with the host.
#[test]
fn a_cell_is_watched_until_ctrl_c_or_the_end_of_the_host() {
    let folder = Folder::counter();
    let host = Running::start(&folder, &[]);
    let mut watches = Watching::start(&folder, &["counter/count"]);
    let mut json = Watching::start(&folder, &["counter", "--prefix", "co", "--json"]);
    assert!(watches.line().ends_with(" count holds nothing"));
    assert_eq!(json.json()["change"], "listed");
    let commit = folder.json(0, &["send", "counter/add", "3"])["commit"].as_u64().unwrap();
    assert_eq!(watches.line(), format!("{commit} count = 3"));
    assert_eq!(
        json.json(),
        json!({"seq": commit, "skipped": 0, "change": "cell", "cell": "count", "revision": commit, "value": 3})
    );
    watches.signal("INT");
    assert_eq!(watches.end(), (Some(0), String::new()));
    assert_eq!(host.stop("TERM"), Some(0));
    assert_eq!(json.end(), (Some(0), String::new()));
}

/// D6, S4, S11: receipts, what waits, dead letters, and one event.
#[test]
fn receipts_and_dead_letters_are_watched() {
    let folder = Folder::counter();
    let host = Running::start(&folder, &[]);
    let mut receipts = Watching::start(&folder, &["counter", "--receipts", "--json"]);
    let mut dead = Watching::start(&folder, &["counter", "--dead"]);
    let mut events = Watching::start(&folder, &["counter", "--events"]);
    assert_eq!(receipts.json()["change"], "listed");
    assert!(dead.line().contains("that is all there is"));
    assert!(events.line().contains("that is all there is"));
    let id = folder.json(0, &["send", "counter/add", "9223372036854775807"])["id"].as_str().unwrap().to_owned();
    let told = receipts.json();
    assert_eq!((&told["id"], &told["outcome"], &told["seq"]), (&json!(id), &json!("committed"), &told["commit"]));
    let fails = folder.json(3, &["send", "counter/add", "1"])["id"].as_str().unwrap().to_owned();
    assert_eq!(receipts.json()["outcome"], "rejected");
    let line = dead.line();
    assert!(line.contains(&fails) && line.contains("rejected"), "{line}");
    let mut one = Watching::start(&folder, &["--receipt", &id]);
    assert!(one.line().contains(&format!("{id} committed")));
    assert_eq!(one.end().0, Some(0), "it ends with the receipt");
    for arguments in [&["counter", "--from", "100"][..], &["nobody"]] {
        let mut arguments = arguments.to_vec();
        arguments.insert(0, "watch");
        assert_eq!(folder.json(4, &arguments)["kind"], "not-found");
    }
    let denied = folder.json(5, &["watch", "counter/count", "--as", common::OUTSIDER]);
    assert_eq!(denied["kind"], "denied");
    assert_eq!(folder.json(2, &["watch", "counter/count", "--dead"])["kind"], "usage");
    assert_eq!(host.stop("TERM"), Some(0));
    let none = folder.json(4, &["watch", "counter"]);
    assert!(none["error"].as_str().unwrap().contains("charm run"), "{none}");
}

/// D6: a host that is killed ends the watching, and from the last line on nothing that lasts is lost.
#[test]
fn after_a_host_is_killed_watching_goes_on_from_the_last_line() {
    let folder = Folder::counter();
    let mut seq = 0;
    let mut sum = 0;
    for round in 0..3 {
        let host = Running::start(&folder, &[]);
        let from = seq.to_string();
        let mut arguments = vec!["counter/count", "--json"];
        if round > 0 {
            arguments.extend(["--from", &from]);
        }
        let mut watching = Watching::start(&folder, &arguments);
        if round == 0 {
            assert_eq!(watching.json()["value"], Value::Null);
        } else {
            // What was sent when nobody watched.
            let told = watching.json();
            assert_eq!(told["value"], sum, "{told}");
        }
        for _ in 0..5 {
            folder.json(0, &["send", "counter/add", "1"]);
            sum += 1;
            let told = watching.json();
            assert_eq!((&told["value"], &told["skipped"]), (&json!(sum), &json!(0)));
            seq = told["seq"].as_u64().unwrap();
        }
        assert_eq!(host.stop("KILL"), None);
        let (exit, said) = watching.end();
        assert_eq!(exit, Some(0), "{said}");
        folder.json(0, &["send", "counter/add", "1"]);
        sum += 1;
    }
}

/// D6: with `--once` what there is now, and the end; nothing less for a host that ends first.
#[test]
fn watching_once_prints_what_there_is_and_ends() {
    let folder = Folder::counter();
    let host = Running::start(&folder, &[]);
    assert!(folder.text(0, &["watch", "counter/count", "--once"]).0.ends_with(" count holds nothing\n"));
    let commit = folder.json(0, &["send", "counter/add", "3"])["commit"].as_u64().unwrap();
    assert_eq!(folder.text(0, &["watch", "counter/count", "--once"]).0, format!("{commit} count = 3\n"));
    let all = format!("{commit} count = 3\n{commit} that is all there is\n");
    assert_eq!(folder.text(0, &["watch", "counter", "--once"]).0, all);
    let dead = folder.json(3, &["send", "counter/add", "9223372036854775807"])["id"].as_str().unwrap().to_owned();
    let (letters, _) = folder.text(0, &["watch", "counter", "--dead", "--once"]);
    assert!(
        letters.lines().next().unwrap().contains(&dead) && letters.ends_with("that is all there is\n"),
        "{letters}"
    );
    assert_eq!(letters.lines().count(), 2, "{letters}");
    folder.json(0, &["pause", "counter"]);
    let waits = folder.json(0, &["send", "counter/add", "1", "--no-wait"])["id"].as_str().unwrap().to_owned();
    // It is told that the event waits, and does not stay for its receipt.
    assert_eq!(folder.json(0, &["watch", "--receipt", &waits, "--once"])["outcome"], "waiting");
    let (events, _) = folder.text(0, &["watch", "counter", "--events", "--once"]);
    assert!(events.contains(&format!("{waits} waits")) && events.lines().count() == 2, "{events}");
    assert_eq!(folder.json(2, &["watch", "counter", "--once", "--from", "1"])["kind"], "usage");
    assert_eq!(host.stop("TERM"), Some(0));
}
