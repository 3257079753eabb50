//! What a transaction that reads much, or long, can do to those who commit meanwhile (A5, A6, T4).

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::*;

/// A5, T4, C7: paths of cells that others have made large. Only the way there is looked at, and what the reads gave: nobody waits,
/// and one attempt is enough, though all of it together is more than is compared at most.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_compares_much_holds_nobody_up() {
    compares_much(20_000, 48).await;
    compares_much(60_000, 28).await;
}

/// A turn reads so many paths of cells that others then make so large.
async fn compares_much(entries: u32, paths: usize) {
    // The time that a turn is held here counts.
    let limits = Limits { event_bytes_max: 1 << 20, compute_ms_max: 60_000, ..Limits::default() };
    let (host, hold) = (builder().limits(limits).open().await.unwrap(), Hold::new());
    let neighbours = Neighbours::install(&host).await;
    let (owner, reader) = pair(&host).await;
    let names = ["x", "y", "z", "token", "count", "hot", "version"];
    for name in names {
        run(&host, owner, json!([["set", name, [], {"kept": 1}]])).await;
    }
    // Paths that are not there, before and after: every answer stays the same.
    let keys = (0..paths).map(|number| format!("{number:0>64}"));
    let reads = keys.flat_map(|path| names.map(|name| json!(["get", of(owner, name), [path]])));
    let mut steps: Vec<_> = reads.collect();
    steps.push(hold.step());
    let id = send(&host, reader, json!(steps)).await;
    hold.arrived(1).await;
    let wide: BTreeMap<String, u8> = (0..entries).map(|number| (format!("k{number}"), 0)).collect();
    for name in names {
        let receipt = run(&host, owner, json!([["set", name, [], wide]])).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    }
    hold.hold();
    let ended = async {
        hold.release(100);
        receipt(&host, &id).await
    };
    let (receipt, _) = neighbours.beside(&host, ended).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    assert_eq!(hold.count(), 1, "attempts");
    let bytes = names.len() * paths * Value::encode(&wide).unwrap().as_bytes().len();
    assert!(bytes > RECHECK_BYTES_MAX / 2, "{bytes} bytes are too few to be an attack");
}

/// A5, T3: a bound on what is kept for open snapshots alone. Whoever looks longest runs again, and ends well.
#[tokio::test(flavor = "multi_thread")]
async fn old_versions_are_bounded_and_the_turn_with_the_oldest_snapshot_runs_again() {
    let large = "x".repeat(200 << 10);
    for (old_versions_bytes_max, attempts) in [(1 << 20, 1), (100 << 10, 2)] {
        let limits = Limits { old_versions_bytes_max, ..Limits::default() };
        let (host, hold) = (builder().limits(limits).open().await.unwrap(), Hold::new());
        let neighbours = Neighbours::install(&host).await;
        let (writer, reader) = pair(&host).await;
        // Each round another value: an equal one is no write (C4).
        let write = async |round| {
            let receipt = run(&host, writer, json!([["set", "large", [], format!("{round}{large}")]])).await;
            assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        };
        write(0).await;
        let steps = json!([["get", of(writer, "x"), []], hold.step(), ["set", "done", [], true]]);
        let id = send(&host, reader, steps).await;
        hold.arrived(1).await;
        let flood = async {
            for round in 1..8 {
                write(round).await;
            }
        };
        neighbours.beside(&host, flood).await;
        hold.release(2);
        let receipt = receipt(&host, &id).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        assert_eq!(hold.count(), attempts, "{old_versions_bytes_max}");
        assert_eq!(cell(&host, reader, "done").await, json!(true));
    }
}

/// T4, A6: a writer that never stops, and a reader that computes longer than the writer's turns take: after a few conflicts
/// the writer stands back while the reader runs once more, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_always_loses_gets_its_turn() {
    let host = host().await;
    let (writer, reader) = pair(&host).await;
    let (over, round) = (AtomicBool::new(false), AtomicU64::new(0));
    let write = async || {
        while !over.load(Ordering::Relaxed) {
            let round = round.fetch_add(1, Ordering::Relaxed);
            let receipt = run(&host, writer, json!([["set", "hot", [], round]])).await;
            assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        }
    };
    let read = async || {
        let mut before = 0;
        for turn in 0..3 {
            // Another turn of the writer in any case: it was not held back for good.
            until("the writer goes on", || round.load(Ordering::Relaxed) > before).await;
            let steps =
                json!([["get", of(writer, "hot"), []], ["repeat", 4_000, ["context"]], ["set", "turn", [], turn]]);
            let receipt = run(&host, reader, steps).await;
            assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
            before = round.load(Ordering::Relaxed);
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(write(), write(), write(), read());
    let counters = host.counters();
    assert!(counters.conflicts > 0, "the reader never lost: {counters}");
}

/// A5, T4: values that were changed and changed back are compared byte by byte, up to `RECHECK_BYTES_MAX` in one commit: beyond
/// that a change of a cell that was read is a conflict, and the turn runs again. Nobody waits for either.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_would_compare_more_than_its_bound_runs_again() {
    const DEPTH: usize = 8;
    let length = 700_000;
    let nested = |filler: &str| (0..DEPTH).fold(json!(filler.repeat(length)), |inner, _| json!({ "k": inner }));
    for (names, attempts) in [(&["x", "y", "z"][..], 1), (&["x", "y", "z", "token", "count", "hot", "version"], 2)] {
        let compared = 2 * names.len() * DEPTH * length;
        assert_eq!(compared > RECHECK_BYTES_MAX, attempts > 1, "{compared}");
        // The time that a turn is held here counts.
        let limits = Limits {
            event_bytes_max: 1 << 20,
            memory_bytes_max: 256 << 20,
            turns_max: 8,
            compute_ms_max: 60_000,
            ..Limits::default()
        };
        let (host, hold) = (builder().limits(limits).open().await.unwrap(), Hold::new());
        let neighbours = Neighbours::install(&host).await;
        let (owner, reader) = pair(&host).await;
        let set = async |filler| {
            for name in names {
                let receipt = run(&host, owner, json!([["set", name, [], nested(filler)]])).await;
                assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
            }
        };
        set("a").await;
        let paths = (1..=DEPTH).map(|depth| vec!["k"; depth]);
        let reads = paths.flat_map(|path| names.iter().map(move |name| json!(["get", of(owner, name), path])));
        let steps: Vec<_> = reads.chain([hold.step()]).collect();
        let id = send(&host, reader, json!(steps)).await;
        hold.arrived(1).await;
        set("b").await;
        set("a").await;
        let ended = async {
            hold.release(2);
            receipt(&host, &id).await
        };
        let (receipt, _) = neighbours.beside(&host, ended).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        assert_eq!(hold.count(), attempts, "{} cells", names.len());
    }
}
