//! What a turn computes with: fuel, time, memory, tables, stack, handles, bytes of host calls.

use super::*;

/// A5, T6
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_fuel_is_stopped() {
    let street = Street::with(Limits { fuel_max: 20_000_000, ..small() }).await;
    street.goes_over(json!([["spin"]]), Outcome::Faulted, "over fuel-max 20000000").await;
}

/// A5: fuel is counted alike each time, so the outcome of a turn near the bound does not depend on luck.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_turn_needs_the_same_fuel() {
    let (first, second) = (least_fuel().await, least_fuel().await);
    assert_eq!(first, second);
}

async fn least_fuel() -> u64 {
    let (mut too_little, mut enough) = (0, 1 << 23);
    assert!(commits_with(enough).await);
    while enough - too_little > 1 {
        let middle = u64::midpoint(too_little, enough);
        *(if commits_with(middle).await { &mut enough } else { &mut too_little }) = middle;
    }
    enough
}

async fn commits_with(fuel_max: u64) -> bool {
    let limits = Limits { fuel_max, turns_max: 1, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let Ok(did) = host.install(probe_charm("a")).await else { return false };
    run(&host, did, json!([["repeat", 100, ["set", "n", ["a"], 1]]])).await.outcome == Outcome::Committed
}

/// A5, T6: the backstop for what fuel misses.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_compute_time_is_stopped() {
    let street = Street::with(Limits { fuel_max: u64::MAX / 2, compute_ms_max: 100, ..small() }).await;
    street.goes_over(json!([["spin"]]), Outcome::Faulted, "over compute-ms-max 100").await;
}

/// A5: a turn that computes long lets the others run meanwhile, on a single thread too.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_spinning_turn_does_not_stop_its_neighbour() {
    let street = Street::with(Limits { fuel_max: u64::MAX / 2, compute_ms_max: 3_000, ..small() }).await;
    let spinning = send(&street.host, street.greedy, json!([["spin"]])).await;
    assert_eq!(note(&street.host, street.neighbour, json!("alive")).await.outcome, Outcome::Committed);
    assert!(
        matches!(street.host.status(&spinning).unwrap(), Status::Waiting { .. }),
        "the neighbour did not wait for it"
    );
    let receipt = soon(street.host.receipt(&spinning)).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Faulted);
}

/// A5: waiting for an answer is not computing.
#[tokio::test(flavor = "multi_thread")]
async fn time_spent_waiting_for_http_is_not_compute_time() {
    let wire = Wire::gated();
    let limits = Limits { compute_ms_max: 20, ..small() };
    let host = builder().limits(limits).transport(wire.clone()).open().await.unwrap();
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    let id = send(&host, a, json!([["fetch", { "url": format!("{WIRE}/") }]])).await;
    wire.arrived(1).await;
    // Longer than the turn may compute, by the clock that interrupts it.
    tokio::time::sleep(Duration::from_millis(150)).await;
    wire.release(1);
    assert_eq!(soon(host.receipt(&id)).await.unwrap().outcome, Outcome::Committed);
}

/// A5, T6
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_memory_is_stopped() {
    let street = Street::with(Limits { memory_bytes_max: 4 << 20, ..small() }).await;
    street.is_taken(json!(["grow", 1 << 20])).await;
    street.goes_over(json!([["grow", 8 << 20]]), Outcome::Faulted, "over memory-bytes-max 4194304").await;
}

/// A5: what a component needs from its start is refused when it is installed.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_starts_over_the_memory_is_refused() {
    let limits = Limits { memory_bytes_max: 4 << 20, ..small() };
    let message =
        refuse_to_install(limits, by_hand::charm(&[("(export \"memory\") 1)", "(export \"memory\") 100)")])).await;
    assert!(message.contains("memory"), "{message}");
}

/// A5, T6
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_table_elements_is_stopped() {
    let limits = Limits { table_elements_max: 200, ..small() };
    let host = builder().limits(limits.clone()).open().await.unwrap();
    let table = "(table $table 10 funcref)";
    let grow = "(if (i32.lt_s (table.grow $table (ref.null func) (i32.const 191)) (i32.const 0)) (then unreachable))";
    let over =
        host.install(Charm::new("over", by_hand::charm(&[("in module", table), ("in handle", grow)]))).await.unwrap();
    let just = grow.replace("191", "190");
    let just =
        host.install(Charm::new("just", by_hand::charm(&[("in module", table), ("in handle", &just)]))).await.unwrap();

    let receipt = soon(host.request(NewEvent::new(over, "run", value(json!(1))))).await;
    assert_eq!(receipt.outcome, Outcome::Faulted);
    assert_eq!(receipt.message.as_deref(), Some("over table-elements-max 200"));
    let receipt = soon(host.request(NewEvent::new(just, "run", value(json!(1))))).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");

    let message = refuse_to_install(limits, by_hand::charm(&[("in module", "(table 201 funcref)")])).await;
    assert!(message.contains("table"), "{message}");
}

/// A5, T6: in a guest's own functions, and in what it compiles to.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_stack_is_stopped() {
    let street = Street::with(Limits { stack_bytes_max: 128 << 10, ..small() }).await;
    street.goes_over(json!([["recurse"]]), Outcome::Faulted, "over stack-bytes-max 131072").await;
    let (endless, call) =
        ("(func $endless (param i64) (call $endless (local.get 0)))", "(call $endless (i64.const 1))");
    let component = by_hand::charm(&[("in module", endless), ("in handle", call)]);
    let endless = street.host.install(Charm::new("endless", component)).await.unwrap();
    let receipt = soon(street.host.request(NewEvent::new(endless, "run", value(json!(1))))).await;
    let told = "over stack-bytes-max 131072: recursion too deep, or without an end";
    assert_eq!(receipt.message.as_deref(), Some(told));
    street.both_go_on().await;
}

/// A5, T6
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_over_its_open_handles_is_stopped() {
    let street = Street::with(Limits { handles_max: 50, ..small() }).await;
    street.is_taken(json!(["handles", 40])).await;
    street.is_taken(json!(["repeat", 200, ["get", "kept", []]])).await;
    street.goes_over(json!([["handles", 60]]), Outcome::Faulted, "over handles-max 50").await;
    // Those that a call is lent count once more.
    let each = |count| json!(["get-each", vec!["kept"; count], []]);
    street.is_taken(each(20)).await;
    street.goes_over(json!([each(30)]), Outcome::Faulted, "over handles-max 50").await;
}

/// A5, T6: whatever the call: a log line, a name, an error text.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_call_over_its_bytes_stops_the_turn() {
    let street = Street::with(Limits { hostcall_bytes_max: 20_000, ..small() }).await;
    street.is_taken(json!(["log", "info", text(10_000)])).await;
    for step in [
        json!(["log", "info", text(30_000)]),
        json!(["get", text(30_000), []]),
        json!(["set", "large", [], text(30_000)]),
        json!(["send", "note", text(30_000)]),
        json!(["wish", text(30_000), {}]),
        json!(["reject", text(30_000)]),
    ] {
        street.goes_over(json!([step]), Outcome::Faulted, "over hostcall-bytes-max 20000").await;
    }
}
