//! Derived cells at the commit (T4): compared by value, without a run of the handler where that is the same.

use std::time::Duration;

use charm_conformance::{Clock, Hold, begin, builder, cell, component, host, of, patched, receipt, results, until};
use charm_host::{Charm, Did, EventId, Host, Limits, Names, Outcome};
use serde_json::{Value as Json, json};

use super::{derive, derivers, get, grant, read, runs, send, set};

/// A turn of `b` that reads the derived `d0` of `a` and stops before its commit: returns its event.
async fn held(host: &Host, hold: &Hold, a: Did, b: Did, path: Json) -> EventId {
    let steps = json!([["try", ["get", of(a, "d0"), path]], hold.step(), ["set", "y", [], "done"]]);
    let id = begin(host, b, steps).await;
    hold.arrived(1).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_value_commits_without_another_run_of_the_handler() {
    let (host, hold) = (host().await, Hold::new());
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, a, [("d0", json!(["if", get("d1"), ["value", "some"], ["value", "none"]])), ("d1", get("x"))]).await;
    set(&host, a, "x", json!(1)).await;
    let id = held(&host, &hold, a, b, json!([])).await;
    set(&host, a, "x", json!(2)).await;
    let before = runs(&host);
    hold.release(1);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!((hold.count(), host.counters().conflicts), (1, 0));
    assert_eq!(runs(&host), before + 2, "it was computed again outside of the turn");
    assert_eq!(cell(&host, b, "out").await[0], json!({"ok": "some"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_value_is_a_conflict_and_the_handler_runs_again() {
    let (host, hold) = (host().await, Hold::new());
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, a, [("d0", json!(["sum", get("d1"), get("d1")])), ("d1", get("x"))]).await;
    set(&host, a, "x", json!(1)).await;
    let id = held(&host, &hold, a, b, json!([])).await;
    set(&host, a, "x", json!(2)).await;
    hold.release(2);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!((hold.count(), host.counters().conflicts), (2, 1));
    assert_eq!(cell(&host, b, "out").await[0], json!({"ok": 4}));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_path_that_was_read_counts() {
    let (host, hold) = (host().await, Hold::new());
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, a, [("d0", get("x"))]).await;
    set(&host, a, "x", json!({"read": 1, "other": 1})).await;
    let id = held(&host, &hold, a, b, json!(["read"])).await;
    set(&host, a, "x", json!({"read": 1, "other": 2})).await;
    hold.release(1);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!((hold.count(), host.counters().conflicts), (1, 0));
}

/// A failure and a cycle are answers too: they are compared as values are.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_heals_is_a_conflict() {
    let (host, hold) = (host().await, Hold::new());
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, a, [("d0", json!(["if", get("x"), ["value", 1], get("d0")]))]).await;
    let id = held(&host, &hold, a, b, json!([])).await;
    set(&host, a, "x", json!(1)).await;
    hold.release(2);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!((hold.count(), cell(&host, b, "out").await[0].clone()), (2, json!({"ok": 1})));
}

/// A2: the right of the derivation's charm is a dependency, and so is the reader's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_was_taken_back_is_a_conflict() {
    for holder in ["reader", "charm of the derivation"] {
        let (host, hold) = (host().await, Hold::new());
        let [a, b, c] = derivers(&host, ["a", "b", "c"]).await;
        derive(&host, a, [("d0", json!(["try", get(of(c, "x"))]))]).await;
        set(&host, c, "x", json!("of c")).await;
        let id = held(&host, &hold, a, b, json!([])).await;
        let loser = if holder == "reader" { b } else { a };
        grant(&host, loser, [].into(), [].into()).await.unwrap();
        hold.release(2);
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
        assert_eq!(hold.count(), 2, "{holder}");
        let told = &cell(&host, b, "out").await[0];
        let error = if holder == "reader" { &told["error"] } else { &told["ok"]["error"] };
        assert_eq!(error["kind"], "denied", "{holder}: {told}");
    }
}

/// T4: what was read with the turn's own writes is checked with them.
#[tokio::test(flavor = "multi_thread")]
async fn own_writes_are_part_of_what_is_checked() {
    let (host, hold) = (host().await, Hold::new());
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, b, [("d0", json!(["sum", get("x"), get(of(a, "x"))]))]).await;
    set(&host, a, "x", json!(100)).await;
    let steps = json!([["set", "x", [], 1], get("d0"), ["set", "x", [], 2], get("d0"), hold.step()]);
    let id = begin(&host, b, steps).await;
    hold.arrived(1).await;
    set(&host, a, "z", json!("unrelated")).await;
    set(&host, a, "x", json!(200)).await;
    hold.release(2);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let told = cell(&host, b, "out").await;
    assert_eq!((hold.count(), &told[1], &told[3]), (2, &json!(201), &json!(202)));
}

/// T4: what was read before it hung on the turn's own writes is another value with them, whatever is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_derivation_that_is_rewired_onto_own_writes_is_a_conflict() {
    let (host, hold) = (host().await, Hold::new());
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, b, [("d0", json!(["if", get(of(a, "pick")), get("x"), ["value", 0]]))]).await;
    set(&host, b, "x", json!(0)).await;
    let steps = json!([["set", "x", [], 9], get("d0"), hold.step(), ["set", "y", [], 1]]);
    let id = begin(&host, b, steps).await;
    hold.arrived(1).await;
    set(&host, a, "pick", json!(true)).await;
    hold.release(2);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!((hold.count(), cell(&host, b, "out").await[1].clone()), (2, json!(9)));
}

/// T3, T4: the same when the turn writes later what the derivation hung on before, or puts back what it hangs on now.
#[tokio::test(flavor = "multi_thread")]
async fn a_derivation_that_is_rewired_onto_own_writes_is_a_conflict_whatever_else_is_written() {
    let later = (json!(["set", "z", [], 1]), json!(["set", "y", [], 1]));
    let put_back = (json!(["set", "x", [], 0]), json!(["set", "y", [], 0]));
    for (after, last) in [later, put_back] {
        let (host, hold) = (host().await, Hold::new());
        let [a, b] = derivers(&host, ["a", "b"]).await;
        let unpicked = json!(["if", get("y"), ["value", 0], ["value", 0]]);
        derive(&host, b, [("d0", json!(["if", get(of(a, "pick")), get("x"), unpicked]))]).await;
        set(&host, b, "x", json!(0)).await;
        let steps = json!([["set", "x", [], 9], get("d0"), after, last, hold.step()]);
        let id = begin(&host, b, steps).await;
        hold.arrived(1).await;
        set(&host, a, "pick", json!(true)).await;
        hold.release(3);
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
        assert_eq!(cell(&host, b, "out").await[1], json!(9), "{last}");
    }
}

/// U1: a cell that was read as it was written, and is derived at the commit, is another cell.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_is_derived_from_now_on_is_a_conflict() {
    let (host, hold) = (host().await, Hold::new());
    let plain = host.install(Charm::new("a", component("probe"))).await.unwrap();
    let [b] = derivers(&host, ["b"]).await;
    grant(&host, b, [(plain, Names::only(["x"]))].into(), [].into()).await.unwrap();
    derive(&host, b, [("d0", json!(["caught", get(of(plain, "d5"))]))]).await;
    let id = begin(&host, b, json!([get("d0"), hold.step(), ["set", "y", [], 1]])).await;
    hold.arrived(1).await;
    host.install(Charm::new("a", component("deriver"))).await.unwrap();
    grant(&host, b, [(plain, Names::only(["d5"]))].into(), [].into()).await.unwrap();
    hold.release(2);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!((hold.count(), cell(&host, b, "out").await[0].clone()), (2, json!(0)));
}

/// T4, U1: what a turn reads of a charm whose component was replaced since it began is a conflict, and no failure of the turn.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_below_a_turn_is_a_conflict() {
    let (host, hold) = (host().await, Hold::new());
    let [a, b] = derivers(&host, ["a", "b"]).await;
    derive(&host, a, [("d0", get("x"))]).await;
    set(&host, a, "x", json!("of a")).await;
    let id = begin(&host, b, json!([hold.step(), get(of(a, "d0")), ["set", "y", [], "done"]])).await;
    hold.arrived(1).await;
    host.install(Charm::new("a", patched(component("deriver"), "private", "x-later"))).await.unwrap();
    hold.release(2);
    let receipt = receipt(&host, &id).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    assert_eq!((hold.count(), host.counters().conflicts), (2, 1));
    assert_eq!(cell(&host, b, "out").await[1], json!("of a"));
}

/// T3, S12: an attempt that goes on with what another one has had computed is told of inboxes what that one was told: it makes the
/// same writes, and what was derived from those is right.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_goes_on_is_told_of_inboxes_what_was_told_before() {
    let limits = Limits { inbox_events_max: 4, room_ms_max: 0, ..Limits::default() };
    let (host, hold, full) = (builder().limits(limits).open().await.unwrap(), Hold::new(), Hold::new());
    let [a, b] = derivers(&host, ["a", "b"]).await;
    grant(&host, b, [].into(), [(a, Names::only(["note"]))].into()).await.unwrap();
    derive(&host, b, [("d0", get("x"))]).await;
    assert_eq!(read(&host, b, &[json!("d0")]).await, [Json::Null]);
    let runs = begin(&host, a, json!([full.step()])).await;
    full.arrived(1).await;
    let note = json!(["send", of(a, "note"), 1]);
    assert_eq!(
        results(&host, b, json!([["caught", note], ["caught", note], ["caught", note]])).await,
        json!([0, 0, 1])
    );
    let told = |word| json!(["set", "x", [], word]);
    let steps = json!([["if", ["caught", note], told("no room"), told("room")], hold.step(), get("d0")]);
    let id = begin(&host, b, steps).await;
    hold.arrived(1).await;
    full.release(1);
    assert_eq!(receipt(&host, &runs).await.outcome, Outcome::Committed);
    until("there is room again", || host.counters().waiting == 1).await;
    hold.release(2);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!((&cell(&host, b, "out").await[2], cell(&host, b, "x").await), (&json!("no room"), json!("no room")));
}

/// T4, A6: a turn that is beaten often by those who write below what it reads gets its turn too: they stand back.
#[tokio::test(flavor = "multi_thread")]
async fn writers_below_stand_back_for_a_reader_that_always_loses() {
    const CONFLICTS: usize = 8;
    let limits = Limits { conflict_ms_max: 3_600_000, compute_ms_max: 60_000, ..Limits::default() };
    let (clock, hold, writes) = (Clock::new(), Hold::new(), Hold::new());
    let host = builder().limits(limits).env(clock.clone()).open().await.unwrap();
    let [a, b, c] = derivers(&host, ["a", "b", "c"]).await;
    derive(&host, a, [("d0", get("x"))]).await;
    let id = begin(&host, c, json!([get(of(a, "d0")), hold.step(), ["set", "y", [], "done"]])).await;
    for conflict in 0..CONFLICTS {
        hold.arrived(conflict + 1).await;
        set(&host, a, "x", json!(conflict)).await;
        // They stand back as long as the last attempt took, and a little.
        clock.pass(Duration::from_secs(5));
        hold.release(1);
    }
    hold.arrived(CONFLICTS + 1).await;
    let write = begin(&host, a, json!([writes.step(), ["set", "x", [], "late"]])).await;
    for round in 0..5 {
        set(&host, b, "y", json!(round)).await;
    }
    assert_eq!(writes.count(), 0, "a stands back, and b goes on");
    hold.release(1);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!((hold.count(), cell(&host, c, "out").await[0].clone()), (CONFLICTS + 1, json!(CONFLICTS - 1)));
    writes.release(1);
    assert_eq!(receipt(&host, &write).await.outcome, Outcome::Committed);
}

/// D3, T3: `x + y` is 100 in every commit, so it is in every read of what is derived from both, while four turns change them.
#[tokio::test(flavor = "multi_thread")]
async fn readers_never_see_a_half_of_a_commit() {
    let host = host().await;
    let [a, b, c] = derivers(&host, ["a", "b", "c"]).await;
    grant(&host, c, [(b, Names::only(["d0"])), (a, Names::only(["x", "y"]))].into(), [].into()).await.unwrap();
    derive(&host, a, [("d0", get("x")), ("d1", get("y"))]).await;
    derive(&host, b, [("d0", json!(["sum", get(of(a, "d0")), get(of(a, "d1"))]))]).await;
    set(&host, a, "x", json!(100)).await;
    let check = json!(["if", ["sum", get(of(b, "d0")), ["value", -100]], ["panic", "half"], ["value", 1]]);
    let mut events = Vec::new();
    for round in 0..60 {
        let (x, y) = (round, 100 - round);
        events.push(send(&host, a, json!([["set", "x", [], x], ["set", "y", [], y]])).await);
        if round > 0 {
            events.push(send(&host, c, json!([check, ["set", "z", [], round]])).await);
        }
        if round % 7 == 1 {
            assert_eq!(host.get::<i64>(&b, "d0", "").await.unwrap(), Some(100));
        }
    }
    for id in events {
        let receipt = receipt(&host, &id).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    }
    assert_eq!(read(&host, c, &[of(b, "d0")]).await, [100]);
}
