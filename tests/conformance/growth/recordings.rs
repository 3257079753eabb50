//! Turns under way: what a later host has told one, or the component of a later world, lets it rest until that host is back.

use charm_conformance::*;
use charm_host::{Did, NewEvent, Outcome};
use rusqlite::Connection;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Leaves a charm whose turn has committed a segment, and goes on when a host is opened; returns the charm.
async fn waits(home: &Home, wire: &Wire, wait: serde_json::Value) -> Did {
    let host = home.builder().await.transport(wire.clone()).open().await.unwrap();
    let charm = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    let before = decided(charm);
    let steps = json!([["set", "x", [], 1], wait, ["set", "x", [], 2]]);
    host.send(NewEvent::new(charm, "run", script(steps))).await.unwrap();
    until("it waits", || decided(charm) == before + 1).await;
    host.shutdown().await.unwrap();
    charm
}

fn hash(before: &[u8], piece: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(b"charm recording v1\0").chain_update(before).chain_update(piece).finalize().into()
}

/// Has the one piece of the one turn under way begin with another version, as if a host of that version had left it.
fn set_version(home: &Home, version: u8) {
    let index = Connection::open(home.index()).unwrap();
    let mut piece: Vec<u8> = index.query_row("SELECT bytes FROM recording", [], |row| row.get(0)).unwrap();
    let mut progress: Vec<u8> = index.query_row("SELECT progress FROM turn", [], |row| row.get(0)).unwrap();
    let old = hash(&[0; 32], &piece);
    piece[0] = version;
    let at = progress.windows(32).position(|bytes| bytes == old).unwrap();
    progress[at..at + 32].copy_from_slice(&hash(&[0; 32], &piece));
    index.execute("UPDATE recording SET bytes = ?1", [piece]).unwrap();
    index.execute("UPDATE turn SET progress = ?1", [progress]).unwrap();
}

/// S8: a turn is not ended because this host cannot read what it was told; its charm takes other events, and the host that can
/// goes on with it. A request that it waits for is neither made nor answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_a_later_host_has_recorded_rests_and_goes_on_there() {
    let asks = json!(["commit-and-fetch", { "method": "POST", "url": WIRE, "repeatable": true }]);
    for wait in [json!(["sleep", 2_000]), asks] {
        let (home, held) = (Home::default(), Wire::gated());
        let charm = waits(&home, &held, wait).await;
        set_version(&home, 2);
        let (logs, wire) = (Logs::capture(), Wire::open());
        let host = home.builder().await.transport(wire.clone()).open().await.unwrap();
        host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
        let of_charm = || logs.lines(&charm.to_string());
        until("it rests", || of_charm().iter().any(|line| line.contains("a turn rests until a host is opened"))).await;
        let other = run(&host, charm, json!([["set", "y", [], 1]])).await;
        assert_eq!(other.outcome, Outcome::Committed, "others go on");
        assert_eq!(host.turns(Some(&charm), 0, 9).await.unwrap().len(), 1, "it is under way");
        assert_eq!(host.dead_letters(&charm, 0, 9).unwrap().len(), 0);
        assert_eq!(host.get::<i64>(&charm, "x", "").await.unwrap(), Some(1));
        assert_eq!(wire.requests().len(), 0);
        host.shutdown().await.unwrap();
        set_version(&home, 1);
        let host = home.builder().await.transport(wire.clone()).open().await.unwrap();
        host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
        settle(&host).await;
        assert_eq!(host.get::<i64>(&charm, "x", "").await.unwrap(), Some(2));
        host.verify_store().unwrap();
        host.shutdown().await.unwrap();
    }
}
