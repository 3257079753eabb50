//! Conflicts on purpose: a reader that a test stops between its reads and its commit.

use charm_conformance::*;
use charm_host::{Did, EventId, Host, HostBuilder, Limits, Names, NewEvent, Outcome, Receipt};
use serde_json::{Value as Json, json};

/// A reader whose turns stop between their reads and their commit, and a writer that goes on.
pub struct Held {
    pub host: Host,
    pub hold: Hold,
    pub wire: Wire,
    pub writer: Did,
    pub reader: Did,
}

impl Held {
    /// Opens the host with both.
    pub async fn new(limits: Limits) -> Held {
        Held::on(builder().limits(limits)).await
    }

    /// As `new`, on what a test has prepared.
    pub async fn on(builder: HostBuilder) -> Held {
        let (hold, wire) = (Hold::new(), Wire::open());
        let host = builder.transport(wire.clone()).open().await.unwrap();
        let [writer] = probes(&host, ["writer"]).await;
        let reader = probe_charm("reader").may_call(Wire::grant()).may_read(writer, Names::All);
        let reader = host.install(reader).await.unwrap();
        Held { host, hold, wire, writer, reader }
    }

    /// Starts a turn of the reader that takes these steps; each of its attempts stops at the step `["stop"]`.
    pub async fn start(&self, mut steps: Vec<Json>) -> EventId {
        for step in &mut steps {
            if *step == json!(["stop"]) {
                *step = self.hold.step();
            }
        }
        steps.insert(0, json!(["log", "info", "an attempt"]));
        let event = value(json!({ "steps": steps, "out": "out" }));
        let came = self.hold.count();
        self.hold.hold();
        let id = self.host.send(NewEvent::new(self.reader, "run", event)).await.unwrap();
        self.hold.arrived(came + 1).await;
        id
    }

    /// Runs steps in a turn of the writer.
    pub async fn write(&self, steps: Json) {
        assert_eq!(run(&self.host, self.writer, steps).await.outcome, Outcome::Committed);
    }

    /// Lets the turn go on, in all its attempts, and returns the receipt.
    pub async fn end(&self, id: EventId) -> Receipt {
        self.hold.release(1_000);
        receipt(&self.host, &id).await
    }
}

/// Returns how often a turn was run from its start, not counting that it waited.
pub fn attempts(id: EventId) -> usize {
    let lines = Logs::capture().lines(&id.to_string());
    lines.iter().filter(|line| line.contains("an attempt")).count()
}
