//! The world's clock jumps, years at once, forwards and back, between turns and inside of them. The order of commits,
//! deadlines and what a turn sees do not depend on it.

use super::*;

/// Ten years in milliseconds.
const TEN_YEARS: i64 = 10 * 365 * 24 * 3_600_000;

/// Jumps that end where they began, past 1970 and far beyond any date.
const JUMPS: [i64; 10] =
    [TEN_YEARS, -2 * TEN_YEARS, TEN_YEARS, -1, 1, -3_600_000, i64::MIN / 4, i64::MAX / 2, i64::MIN / 2, 86_400_000];

/// S3, S4: events are handled in the order of sending, each settles once, and the store proves itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_years_changes_no_order_and_no_outcome() {
    let clock = Clock::new();
    let host = builder().env(clock.clone()).open().await.unwrap();
    let neighbours = Neighbours::install(&host).await;
    let a = probe(&host, "a").await;
    let attack = async {
        let mut ids = Vec::new();
        for (number, jump) in JUMPS.into_iter().cycle().take(100).enumerate() {
            clock.jump(jump);
            ids.push(host.send(NewEvent::new(a, "note", value(json!(number)))).await.unwrap());
        }
        for id in ids {
            assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
        }
    };
    neighbours.beside(&host, attack).await;
    assert_eq!(cell(&host, a, "notes").await, json!((0..100).collect::<Vec<_>>()));
    host.verify_store().unwrap();
}

/// T4: a turn sees one time, in each of its attempts, whatever the clock does while it waits and while it runs; the jump
/// is no time that it has spent, neither of that for its requests nor of that for its conflicts.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_in_a_turn_is_not_seen_by_it() {
    for jump in JUMPS {
        let (clock, wire, hold) = (Clock::new(), Wire::gated(), Hold::new());
        let host = builder().env(clock.clone()).transport(wire.clone()).open().await.unwrap();
        let writer = probe(&host, "writer").await;
        let reader = probe_charm("reader").may_call(Wire::grant()).may_read(writer, only(&["shared"]));
        let reader = host.install(reader).await.unwrap();
        let event = json!({ "out": "out", "steps": [
            ["context"], ["get", of(writer, "shared"), []], ["fetch", { "url": WIRE }], ["context"],
            ["fetch", { "url": WIRE }], hold.step(), ["context"],
        ] });
        let before = clock.now_ms();
        let id = host.send(NewEvent::new(reader, "run", value(event))).await.unwrap();
        for request in 1..=2 {
            wire.arrived(request).await;
            clock.jump(jump);
            wire.release(1);
        }
        // The turn has read what changes now: it runs again, after the jump. From the first conflict on its time counts.
        for round in 1..=2 {
            hold.arrived(round).await;
            clock.jump(jump);
            run(&host, writer, json!([["set", "shared", [], round]])).await;
            hold.release(1);
        }
        hold.release(1);
        let receipt = receipt(&host, &id).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{jump}: {receipt:?}");
        let seen = cell(&host, reader, "out").await;
        assert_eq!(seen[1], json!(2), "{jump}: it ran again");
        assert_eq!([&seen[3]["time"], &seen[6]["time"]], [&seen[0]["time"]; 2], "{jump}: {seen}");
        let time = seen[0]["time"].as_u64().unwrap();
        assert!((before..before + 60_000).contains(&time), "{jump}: the time at which it was first taken: {seen}");
        host.verify_store().unwrap();
    }
}
