//! Every bound that a turn can hit (A5, T6): it ends in a typed outcome that names the bound and its value,
//! leaves nothing behind but its receipt, and the neighbours go on.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../by_hand.rs"]
mod by_hand;
mod compute;
mod data;
mod inbox;
mod outside;
mod space;

use std::{fmt::Display, time::Duration};

use charm_conformance::*;
use charm_host::*;
use serde_json::{Value as Json, json};

/// A host with a greedy charm and its neighbour, both probes that may read and send everything of each other.
struct Street {
    host: Host,
    greedy: Did,
    neighbour: Did,
}

/// Limits that are small where it saves time.
fn small() -> Limits {
    Limits { turns_max: 4, room_ms_max: 0, ..Limits::default() }
}

impl Street {
    async fn with(limits: Limits) -> Street {
        Street::on(builder().limits(limits)).await
    }

    async fn on(builder: HostBuilder) -> Street {
        let host = builder.open().await.unwrap();
        let [greedy, neighbour] = probes(&host, ["greedy", "neighbour"]).await;
        let street = Street { host, greedy, neighbour };
        let kept = run(&street.host, greedy, json!([["set", "kept", [], "as it was"]])).await;
        assert_eq!(kept.outcome, Outcome::Committed, "{kept:?}");
        street
    }

    /// Runs steps that stage something and then pass a bound; the turn ends as `outcome`, and its message says
    /// `words` and names nothing else.
    async fn goes_over(&self, steps: Json, outcome: Outcome, words: &str) {
        let Json::Array(steps) = steps else { panic!("steps are a list") };
        let mut script = vec![
            json!(["set", "kept", [], "changed"]),
            json!(["set", "left", [], "behind"]),
            json!(["send", of(self.neighbour, "note"), "from a turn that failed"]),
        ];
        script.extend(steps);
        let before = commits(&self.host, self.neighbour);
        let receipt = run(&self.host, self.greedy, Json::Array(script)).await;
        assert_eq!(receipt.outcome, outcome, "{receipt:?}");
        assert_eq!(receipt.commit, None);
        let message = receipt.message.as_ref().unwrap();
        assert!(message.contains(words), "{message}");
        assert_bounded(message);
        self.left_nothing(&receipt).await;
        assert_eq!(commits(&self.host, self.neighbour), before, "nothing was sent");
        self.both_go_on().await;
    }

    async fn left_nothing(&self, receipt: &Receipt) {
        assert_eq!(cell(&self.host, self.greedy, "kept").await, json!("as it was"));
        assert_eq!(cell(&self.host, self.greedy, "left").await, Json::Null);
        // Whoever asks is told of a rejection (S11).
        let letter = self.host.dead_letter(&receipt.id).unwrap().map(|letter| letter.receipt);
        assert_eq!(letter.as_ref(), Some(receipt).filter(|receipt| receipt.outcome != Outcome::Rejected));
    }

    async fn both_go_on(&self) {
        for charm in [self.neighbour, self.greedy] {
            let receipt = run(&self.host, charm, json!([["set", "alive", [], true], ["remove", "alive", []]])).await;
            assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        }
    }

    /// Runs one step that is refused with a bound; the turn goes on and commits.
    async fn is_refused(&self, step: Json, name: &str, max: u64) {
        let steps = json!([["set", "before", [], 1], ["try", step], ["get", "before", []]]);
        let results = results(&self.host, self.greedy, steps).await;
        let refusal = json!({ "error": { "kind": "limit", "name": name, "max": max } });
        assert_eq!(results, json!([null, refusal, 1]));
        self.both_go_on().await;
    }

    /// Runs one step that is just within its bound.
    async fn is_taken(&self, step: Json) {
        let receipt = run(&self.host, self.greedy, json!([step])).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    }
}

/// T7: at most 1 KiB, one line, no backtrace and nothing of the engine's insides.
fn assert_bounded(message: &str) {
    assert!(message.len() <= MESSAGE_BYTES_MAX, "{} bytes", message.len());
    for noise in ["backtrace", "wasm function", "  0:", "\n", "wasmtime", "src/guest"] {
        assert!(!message.contains(noise), "{noise:?} in {message}");
    }
}

/// A text of that many bytes.
fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

/// Waits for anything that must come.
async fn soon<T, E: Display>(what: impl Future<Output = Result<T, E>>) -> T {
    let result = tokio::time::timeout(Duration::from_secs(60), what).await.expect("comes in time");
    result.unwrap_or_else(|error| panic!("{error}"))
}

async fn refuse_to_install(limits: Limits, component: Vec<u8>) -> String {
    let host = builder().limits(limits).open().await.unwrap();
    let error = host.install(Charm::new("large", component)).await.unwrap_err();
    let message = error.to_string();
    assert_bounded(&message);
    assert!(matches!(error, InstallError::Limit { .. } | InstallError::TooLarge { .. }), "{error:?}");
    probe(&host, "neighbour").await;
    message
}
