//! Nothing that a charm says reaches a terminal as it is (A5, T7).
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use std::{
    io::{BufRead, BufReader, Read},
    process::Command,
};

use common::Folder;
use serde_json::{Value, json};

const HIDDEN: &str = "\u{9b}\u{85}\u{7f}\u{2028}\u{61c}\u{202e}\u{2066}\u{200b}\u{feff}\u{ad}\u{e0041}";

/// Few enough lines for a pipe that nobody reads before the end.
const LOG: &str = "charm_host=debug,charm::guest=debug";

#[track_caller]
fn is_clean(text: &str) {
    assert!(!text.contains(|c: char| HIDDEN.contains(c) || c == '\u{1b}'), "{text:?}");
}

/// Log lines for people and for programs, receipts, dead letters and values.
#[test]
fn nothing_hidden_in_the_text_of_a_charm_reaches_the_terminal() {
    let folder = Folder::new(&["probe"], "[charm.probe]\ncomponent = \"probe.wasm\"\n");
    let (cell, words) = (HIDDEN.replace(char::is_control, ""), format!("{HIDDEN}\u{1b}[2J\n"));
    let write = json!({ "steps": [["set", cell, [], { &words: words }], ["log", "warn", words]] }).to_string();
    let reject = json!({ "steps": [["log", "error", words], ["reject", words]] }).to_string();
    for is_json in [false, true] {
        let form = if is_json { vec!["--json", "run", "--log", LOG] } else { vec!["run", "--log", LOG] };
        let mut host = folder.command(&form).spawn().unwrap();
        let mut output = BufReader::new(host.stdout.take().unwrap()).lines();
        assert!(output.any(|line| line.is_ok_and(|line| line.contains("serving on") || line.starts_with('{'))));
        let (committed, _) = folder.text(0, &["send", "probe/run", &write]);
        let (out, err) = folder.text(3, &["send", "probe/run", &reject]);
        let (dead, _) = folder.text(0, &["events", "probe", "--dead"]);
        let (listed, _) = folder.text(0, &["ls", "probe"]);
        let (value, _) = folder.text(0, &["get", &format!("probe/'{cell}'")]);
        let (programs, _) = folder.text(0, &["--json", "get", &format!("probe/'{cell}'")]);
        for text in [&committed, &out, &err, &dead, &listed, &value, &programs] {
            is_clean(text);
        }
        let read: Value = serde_json::from_str(&programs).unwrap();
        assert_eq!(read["value"][&words], json!(words), "JSON keeps what it escapes");

        assert!(Command::new("kill").arg(host.id().to_string()).status().unwrap().success());
        let mut log = String::new();
        host.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert_eq!(host.wait().unwrap().code(), Some(0));
        is_clean(&log);
        let said: Vec<_> = log.lines().filter(|line| line.contains("charm::guest")).collect();
        assert_eq!(said.len(), 2, "{log}");
        for line in log.lines().filter(|_| is_json) {
            assert!(line.matches("\"message\":").count() <= 1, "{line}");
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if line["target"] == "charm::guest" {
                let fields = &line["fields"];
                assert!(fields["charm"].as_str().unwrap().starts_with("did:key:"), "{line}");
                assert_eq!(fields["event"].as_str().unwrap().len(), 32, "{line}");
                assert!(fields["message"].as_str().unwrap().ends_with("\\u{1b}[2J\\n"), "{line}");
            }
        }
    }
}
