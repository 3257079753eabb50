//! What an app that embeds the host relies on: compiled code on disk, panics contained, spans, the example.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests, which print what they measure")]

#[path = "../by_hand.rs"]
mod by_hand;
mod density;
mod http;
mod installs;
mod lifetime;
mod limits;
mod rights;
mod texts;

use std::process::Command;

use charm_conformance::{
    Logs, WIRE, Wire, builder, component, of, pair, probe, probe_charm, program, results, root, run, script,
};
use charm_host::{
    BoxFuture, Compiler, Host, HttpGrant, NewEvent, Outcome, Request, Response, Transport, TransportError,
};
use serde_json::json;

/// Compiled code is kept by content: a second host finds it, and damage to it costs a compilation, no more.
#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_is_kept_on_disk_and_survives_damage() {
    let folder = tempfile::tempdir().unwrap();
    let files = || {
        let mut found = Vec::new();
        let mut folders = vec![folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.path().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        found
    };
    for round in 0..3 {
        let host = Host::builder().code_cache(folder.path()).compiler(Compiler::InProcess).open().await.unwrap();
        let charm = probe(&host, "a").await;
        assert_eq!(run(&host, charm, json!([["log", "info", "hello"]])).await.outcome, Outcome::Committed);
        assert!(!files().is_empty(), "nothing is cached");
        host.shutdown().await.unwrap();
        if round == 1 {
            for file in files() {
                std::fs::write(file, b"damaged").unwrap();
            }
        }
    }
}

struct Broken;

impl Transport for Broken {
    fn exchange(&self, _: Request, _: bool) -> BoxFuture<'_, Result<Response, TransportError>> {
        panic!("a bug in the embedder's transport")
    }
}

/// T6, A5: a panic inside a host call ends that turn; the host and the charm go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_host_call_faults_the_turn_and_the_host_lives_on() {
    let host = builder().transport(Broken).open().await.unwrap();
    let grant = HttpGrant { origin: "http://localhost".into(), methods: vec!["GET".into()], private: false };
    let charm = host.install(probe_charm("a").may_call(grant)).await.unwrap();
    let fetch = json!(["fetch", {"method": "GET", "url": "http://localhost/x", "headers": [], "body": ""}]);
    for _ in 0..3 {
        let receipt = run(&host, charm, json!([["set", "c", [], 1], fetch])).await;
        assert_eq!(receipt.outcome, Outcome::Faulted);
        assert!(!receipt.message.unwrap().contains("bug in"), "the panic's text stays in the log");
    }
    assert_eq!(run(&host, charm, json!([["set", "d", [], 1]])).await.outcome, Outcome::Committed);
    assert_eq!(host.cells(&charm).await.unwrap().len(), 1, "nothing of the faulted turns remains");
    host.shutdown().await.unwrap();
}

/// A3: a request goes to granted origins and methods only, and the host writes its own headers.
#[tokio::test(flavor = "multi_thread")]
async fn http_reaches_granted_origins_and_methods_and_nothing_else() {
    let wire = Wire::open();
    let host = builder().transport(wire.clone()).open().await.unwrap();
    let grant = HttpGrant { methods: vec!["GET".into()], ..Wire::grant() };
    let charm = host.install(probe_charm("a").may_call(grant)).await.unwrap();
    let fetch = |method: &str, url: &str, headers: serde_json::Value| json!(["try", ["fetch", {"method": method, "url": url, "headers": headers, "body": ""}]]);
    let refused = [
        fetch("POST", &format!("{WIRE}/x"), json!([])),
        fetch("GET", "https://other.test/x", json!([])),
        fetch("GET", "http://wire.test/x", json!([])),
        fetch("GET", "https://wire.test:444/x", json!([])),
        fetch("GET", "https://wire.test@other.test/x", json!([])),
        fetch("GET", &format!("{WIRE}/x"), json!([["host", "other.test"]])),
        fetch("GET", &format!("{WIRE}/x"), json!([["x", "a\r\nb: c"]])),
    ];
    let answers = results(&host, charm, json!(refused)).await;
    for (answer, asked) in answers.as_array().unwrap().iter().zip(&refused) {
        assert!(answer.get("error").is_some(), "{asked} gave {answer}");
    }
    assert!(wire.requests().is_empty(), "nothing went out");
    let granted = results(&host, charm, json!([fetch("GET", &format!("{WIRE}/x"), json!([]))])).await;
    assert_eq!(granted[0]["ok"]["status"], 200);
    assert_eq!(wire.requests().len(), 1);
    host.shutdown().await.unwrap();
}

/// Spans name DIDs and event ids, never values.
#[tokio::test(flavor = "multi_thread")]
async fn turn_commit_and_send_are_traced_with_dids_and_event_ids_and_without_values() {
    let logs = Logs::capture();
    let host = builder().open().await.unwrap();
    let (a, b) = pair(&host).await;
    let secret = "sesame-4711";
    let steps = json!([["set", "c", [], secret], ["send", of(b, "note"), {"secret": secret}]]);
    let receipt = host.request(NewEvent::new(a, "run", script(steps))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed);
    // What a commit tells comes after it: at a clean end all of it has been told.
    host.shutdown().await.unwrap();
    let (id, a, b) = (receipt.id.to_string(), a.to_string(), b.to_string());
    let turn = logs.lines(&id);
    assert!(turn.iter().any(|line| line.contains("turn{") && line.contains(&a)), "{turn:?}");
    assert!(turn.iter().any(|line| line.contains("commit")), "{turn:?}");
    assert!(turn.iter().any(|line| line.contains("send") && line.contains(&b)), "{turn:?}");
    assert!(!logs.text().contains(secret), "a value is in the log");
}

/// The example of the README runs.
#[test]
fn the_embedding_example_runs() {
    component("counter");
    let counter = root().join("target/charms/counter.wasm");
    let example = program("examples/embed");
    // `cargo test --workspace` builds it; a single chapter does not.
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let build = build.args(["build", "--quiet", "--workspace", "--exclude", "xtask", "--example", "embed"]);
    assert!(example.exists() || build.status().unwrap().success());
    let output = Command::new(example).arg(counter).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("counted 6"), "{text}");
}
