//! The SDK on the real host, and its in-process host beside it: one charm, `tests/guests/author`, one table of what its
//! handlers meet, `sdk.json`, run on both. What one lets through and the other does not would be found by an author too late.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(missing_docs, clippy::unwrap_used, unused_qualifications, reason = "a guest, compiled in place")]
#[path = "../guests/author/src/lib.rs"]
mod author;

use std::{collections::BTreeMap, time::Duration};

use author::{Step, Writer};
use charm_conformance::*;
use charm_host::{Charm, Did, Host, Names, NewEvent, Outcome, Shape, Value};
use charm_sdk::{Value as Data, testing};
use serde::Deserialize;
use serde_json::{Value as Json, json};

const TABLE: &str = include_str!("sdk.json");

#[derive(Deserialize)]
struct Case {
    name: String,
    /// `read` or `send`, and what of the other charm, or `call`, and the wire; `*` is all that can be granted.
    #[serde(default)]
    grants: Vec<(String, String)>,
    steps: Json,
    /// What the steps tell, when the turn commits.
    #[serde(default)]
    told: Vec<String>,
    /// Outcome and message, when it does not.
    receipt: Option<(String, String)>,
}

impl Case {
    fn all() -> Vec<Case> {
        serde_json::from_str(TABLE).unwrap()
    }

    /// The names of one kind that are granted.
    fn granted(&self, right: &str) -> Vec<&str> {
        self.grants.iter().filter(|(kind, _)| kind == right).map(|(_, name)| name.as_str()).collect()
    }

    fn steps(&self, other: &str) -> Json {
        let text = self.steps.to_string();
        let text = text.replace("$128", &"n".repeat(128)).replace("$129", &"n".repeat(129)).replace("$other", other);
        serde_json::from_str(&text).unwrap()
    }

    /// Compares what came out.
    fn compare(
        &self,
        on: &str,
        me: &str,
        other: &str,
        told: Option<Vec<String>>,
        outcome: String,
        message: Option<String>,
    ) {
        let shown = |text: String| text.replace(me, "$me").replace(other, "$other");
        match &self.receipt {
            None => {
                assert_eq!(outcome, "committed", "{on}: {}: {message:?}", self.name);
                let told: Vec<String> = told.unwrap_or_default().into_iter().map(shown).collect();
                assert_eq!(told, self.told, "{on}: {}", self.name);
            }
            Some(receipt) => {
                let found = (outcome, shown(message.unwrap_or_default()));
                assert_eq!((&found, told), (receipt, None), "{on}: {}", self.name);
            }
        }
    }
}

async fn install(host: &Host, name: &str) -> Did {
    host.install(Charm::new(name, component("author"))).await.unwrap()
}

/// T2, C3, D7, S6, S10, S13, A2
#[tokio::test]
async fn the_real_host_does_what_the_table_says() {
    for case in Case::all() {
        let host = builder().transport(Wire::open()).open().await.unwrap();
        let (mut me, other) = (Charm::new("me", component("author")), install(&host, "other").await);
        if !case.granted("call").is_empty() {
            me = me.may_call(Wire::grant());
        }
        let me = host.install(me).await.unwrap();
        let rights = |right: &str| match case.granted(right).as_slice() {
            [] => BTreeMap::new(),
            ["*"] => BTreeMap::from([(other, Names::All)]),
            names => BTreeMap::from([(other, only(names))]),
        };
        grant(&host, me, rights("read"), rights("send")).await.unwrap();
        let event = NewEvent::new(me, "try-out", value(case.steps(&other.to_string())));
        let receipt = host.request(event).await.unwrap();
        let told = value_of(&host, me, "told").await.map(|told| told.decode().unwrap());
        let (me, other) = (me.to_string(), other.to_string());
        case.compare("real host", &me, &other, told, receipt.outcome.to_string(), receipt.message);
    }
}

/// T2, C3, D7, S6, S10, S13, A2
#[test]
fn the_in_process_host_does_what_the_table_says() {
    for case in Case::all() {
        let host = testing::Host::new();
        host.set_time(1_000_000);
        let (me, other) = (host.install::<Writer>("me"), host.install::<Writer>("other"));
        for name in case.granted("read") {
            match name {
                // Here also what can not be granted.
                "*" => ["shaped", "secret", "undeclared", "shelf:"].map(|name| host.grant_read(&me, &other, name)),
                name => [name; 4].map(|name| host.grant_read(&me, &other, name)),
            };
        }
        for name in case.granted("send") {
            host.grant_send(&me, &other, name);
        }
        if !case.granted("call").is_empty() {
            let mut number = 0;
            host.on_http(move |_| {
                number += 1;
                Ok(charm_sdk::http::Response::new(200, number.to_string()))
            });
        }
        let steps: Vec<Step> = serde_json::from_value(case.steps(other.as_str())).unwrap();
        let id = host.send(&me, Writer::TRY_OUT, &steps);
        // What is tried again is due within that.
        host.pass(Duration::from_secs(60));
        let receipt = host.receipt(&id).unwrap();
        let told = host.cell(&me, "told");
        case.compare("in process", me.as_str(), other.as_str(), told, receipt.outcome.to_string(), receipt.message);
    }
}

/// S13, S8: what a turn committed at a wait stays, and is not done again. The in-process host can not do that.
#[tokio::test]
async fn a_turn_that_has_waited_is_tried_again_from_there() {
    let steps = json!([{ "set": [{ "cell": "x" }, 1] }, { "sleep": 1 }, { "retry": 2 }, { "get": { "cell": "x" } }]);
    let host = host().await;
    let charm = install(&host, "charm").await;
    let receipt = try_out(&host, charm, steps.clone()).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    let told: Vec<String> = value_of(&host, charm, "told").await.unwrap().decode().unwrap();
    assert_eq!(told, ["set", "slept as long: true", "2 tries", "Some(1)"]);

    let host = testing::Host::new();
    let charm = host.install::<Writer>("charm");
    let steps: Vec<Step> = serde_json::from_value(steps).unwrap();
    let receipt = host.deliver(&charm, Writer::TRY_OUT, &steps);
    assert_eq!(receipt.outcome, charm_sdk::Outcome::Faulted);
    assert!(receipt.message.unwrap().contains("can not try a turn again that has waited"));
}

/// Who does not wait, or ask to be tried again, asks the host for no such call: a turn that could wait is recorded (S8).
#[tokio::test]
async fn a_charm_asks_for_the_calls_that_it_makes() {
    let host = host().await;
    for (name, expected) in [("author", [true, true]), ("gmail-search", [true, false]), ("till", [false, false])] {
        let imports = host.describe(Charm::new(name, component(name))).await.unwrap().imports;
        let asks = |interface: &str| imports.iter().any(|import| import.contains(interface));
        assert_eq!(["/waits@", "/retries@"].map(asks), expected, "{name}: {imports:?}");
    }
}

async fn try_out(host: &Host, charm: Did, steps: Json) -> charm_host::Receipt {
    host.request(NewEvent::new(charm, "try-out", value(steps))).await.unwrap()
}

/// Charms are built with overflow checks: what wraps around leaves nothing behind (T6).
#[tokio::test]
async fn a_number_that_wraps_around_is_a_fault_with_the_words_of_the_panic() {
    let host = host().await;
    let charm = install(&host, "charm").await;
    let receipt = try_out(&host, charm, json!([{ "less": { "from": 9, "much": 8 } }])).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    let receipt =
        try_out(&host, charm, json!([{ "set": [{ "cell": "x" }, 1] }, { "less": { "from": 8, "much": 9 } }])).await;
    let message = receipt.message.unwrap();
    assert_eq!(receipt.outcome, Outcome::Faulted);
    assert!(message.starts_with("panicked: attempt to subtract with overflow ("), "{message}");
    assert_eq!(value_of(&host, charm, "x").await, None);
}

/// The profile that the example charms are built with, and that authors copy, is the one of the test above.
#[test]
fn the_workspaces_of_charms_are_built_with_overflow_checks() {
    for workspace in ["example-charms", "tests/guests"] {
        let path = root().join(workspace).join("Cargo.toml");
        let manifest: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
        assert_eq!(manifest["profile"]["release"]["overflow-checks"], toml::Value::Boolean(true), "{workspace}");
    }
}

/// T6
#[tokio::test]
async fn a_panic_is_told_once_with_its_place() {
    let host = host().await;
    let charm = install(&host, "charm").await;
    let message = try_out(&host, charm, json!([{ "panic": "out of paper" }])).await.message.unwrap();
    assert!(message.starts_with("panicked: out of paper (") && message.contains("lib.rs:"), "{message}");
    assert_eq!(message.matches("panicked").count(), 1, "{message}");
}

/// What `println!` and its like print in a charm is logged.
#[tokio::test]
async fn what_a_charm_prints_is_logged() {
    let logs = Logs::capture();
    let host = host().await;
    let charm = install(&host, "charm").await;
    let receipt = try_out(&host, charm, json!([{ "print": "hear me" }])).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    let own = logs.lines(&charm.to_string());
    for (level, words) in [
        ("INFO", "hear me 1"),
        ("WARN", "hear me 2"),
        ("INFO", "hear me 3"),
        ("WARN", "hear me 4"),
        ("WARN", "] words = "),
    ] {
        assert!(own.iter().any(|line| line.contains(level) && line.contains(words)), "{words}: {own:#?}");
    }
    let steps: Vec<Step> = serde_json::from_value(json!([{ "print": "hear me" }])).unwrap();
    let host = testing::Host::new();
    let charm = host.install::<Writer>("charm");
    host.deliver(&charm, Writer::TRY_OUT, &steps);
    let logged = host.logged();
    assert_eq!(logged[..4], ["info: hear me 1", "warn: hear me 2", "info: hear me 3", "warn: hear me 4"]);
    assert!(logged[4].starts_with("warn: [") && logged[4].ends_with("] words = \"hear me\""), "{logged:?}");
}

/// What the operator sends is checked by the shapes that the SDK wrote: the refusal names place and reason.
#[tokio::test]
async fn a_number_out_of_range_is_refused_with_its_place() {
    let host = host().await;
    let charm = install(&host, "charm").await;
    let refused = |event: Json| host.request(NewEvent::new(charm, "take-shaped", value(event)));
    let error = refused(json!({ "n": -2 })).await.unwrap_err().to_string();
    assert!(error.contains("/n") && error.contains("u32") && error.contains("integer out of range"), "{error}");
    let receipt = refused(json!({ "n": 2, "ratio": 5 })).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
}

// -- shapes, at random --

fn leaf(random: &mut Random) -> String {
    let words = [
        "any",
        "never",
        "null",
        "bool",
        "int",
        "u8",
        "u16",
        "u32",
        "u64",
        "i8",
        "i16",
        "i32",
        "i64",
        "float",
        "string",
        "bytes",
        "link",
        "\"a\"",
        "\"b\\\"\"",
        "int(1..9)",
        "int(-9..-1)",
        "int(0..255)",
    ];
    (*random.pick(&words)).to_owned()
}

fn shape(random: &mut Random, depth: u32) -> String {
    if depth == 0 {
        return leaf(random);
    }
    let mut inner = || shape(random, depth - 1);
    let (one, two) = (inner(), inner());
    match random.below(12) {
        0 => format!("[{one}]"),
        1 => format!("[{one}, {two}]"),
        2 => format!("[{one},]"),
        3 => "[]".to_owned(),
        4 => format!("{{*: {one}}}"),
        5 => format!("{{a: {one}, \"b c\"?: {two}}}"),
        6 => format!("{{a?: {one}, b: {two}, *: {}}}", leaf(random)),
        7 => format!("({one})?"),
        8 => format!("{one} | {two}"),
        9 => format!("({one} | {two}) | null"),
        _ => leaf(random),
    }
}

fn tree(random: &mut Random, depth: u32) -> Data {
    match random.below(if depth == 0 { 7 } else { 10 }) {
        0 => Data::Null,
        1 => Data::Bool(true),
        2 | 3 => {
            let ends =
                [-(1i128 << 64), -129, -128, -9, -1, 0, 1, 9, 127, 128, 255, 256, 1 << 31, 1 << 63, (1 << 64) - 1];
            Data::Integer(*random.pick(&ends))
        }
        4 => Data::Float(0.5),
        5 => Data::String((*random.pick(&["a", "b\"", ""])).to_owned()),
        6 => Data::Bytes(vec![1]),
        7 => Data::List((0..random.below(4)).map(|_| tree(random, depth - 1)).collect()),
        _ => {
            let keys = ["a", "b", "b c", "more"];
            let some = keys.into_iter().filter(|_| random.below(2) == 0).collect::<Vec<_>>();
            Data::Map(some.into_iter().map(|key| (key.to_owned(), tree(random, depth - 1))).collect())
        }
    }
}

/// The in-process host takes a value, and lets one shape do for another, where the real one does; in the same words.
#[test]
fn both_hosts_read_shapes_alike() {
    let mut random = Random::new(5);
    let mut fits = [0, 0];
    for _ in 0..20_000 {
        let (text, other) = (shape(&mut random, 3), shape(&mut random, 2));
        let parsed: Shape = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        for value in [tree(&mut random, 2), tree(&mut random, 2)] {
            let real = parsed.check(&Value::encode(&value).unwrap());
            let real = real.map_err(|misfit| (misfit.at, misfit.expected, misfit.actual));
            let fake = testing::check(&value, &text).map_err(|error| match error {
                charm_sdk::Error::TypeMismatch { at, expected, actual } => (at, expected, actual),
                other => panic!("{other}"),
            });
            fits[usize::from(real.is_ok())] += 1;
            assert_eq!(fake, real, "{text}: {value:?}");
        }
        let real = parsed.fits(&other.parse().unwrap());
        assert_eq!(testing::fits(&text, &other), real, "{text} for {other}");
        // What a shape lets in, a wider one lets in too, but for keys that it does not name.
        assert_eq!(parsed.to_string().parse::<Shape>().unwrap(), parsed, "{text}");
    }
    assert!(fits.iter().all(|count| *count > 2_000), "{fits:?}");
}
