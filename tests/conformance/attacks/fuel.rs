//! Attacks on time: host calls that cost a guest nothing, checks that run past its fuel, slices that never end (A5).
//! Fuel decides; what is counted is what it buys, never how long it takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::*;

/// The real world without ticks: a turn is cut by its fuel alone. Its clock stands still, and counts who looks at it: the
/// host does so when a slice begins and when it ends.
struct Untimed {
    world: Arc<SystemEnv>,
    looks: AtomicU64,
}

impl Untimed {
    fn new() -> Arc<Untimed> {
        Arc::new(Untimed { world: SystemEnv::current(), looks: AtomicU64::new(0) })
    }
}

impl Env for Untimed {
    fn now_ms(&self) -> u64 {
        self.world.now_ms()
    }

    fn monotonic(&self) -> Duration {
        self.looks.fetch_add(1, Ordering::Relaxed);
        Duration::from_secs(3_600)
    }

    fn random(&self, bytes: &mut [u8]) {
        self.world.random(bytes);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.world.sleep(duration)
    }

    fn threads(&self) -> usize {
        self.world.threads()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.world.spawn(task);
    }

    fn block(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.world.block(work)
    }

    fn tick(&self, _: Duration, _: Box<dyn FnMut() -> bool + Send>) {}
}

/// As deep as fits inside a script.
const LEVELS: usize = 55;
const BYTES: usize = 100_000;
const FUEL_MAX: u64 = 200_000_000;
const FUEL_SLICE: u64 = 2_000_000;
const SLICES: u64 = FUEL_MAX / FUEL_SLICE;

/// A value of many levels and many bytes, and the path to its deepest item.
fn deep() -> (serde_json::Value, serde_json::Value) {
    let inmost = json!({ "k": 1, "pad": "x".repeat(BYTES) });
    let value = (1..LEVELS).fold(inmost, |inner, _| json!({ "k": inner }));
    (value, json!(vec!["k"; LEVELS]))
}

fn over_fuel(fuel_max: u64) -> String {
    format!("over fuel-max {fuel_max}: an endless loop, or more work than one turn may do")
}

async fn is_over_fuel(host: &Host, charm: Did, fuel_max: u64, steps: serde_json::Value) {
    let receipt = run(host, charm, steps).await;
    assert_eq!(receipt.message, Some(over_fuel(fuel_max)), "{receipt:?}");
    assert_eq!(receipt.outcome, Outcome::Faulted);
}

/// A5, C3: a path costs by its steps, in own writes as in the snapshot, found or not, also where it fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_cannot_search_a_large_value_for_ever() {
    let fuel_max = 200_000_000;
    let host = builder().limits(Limits { fuel_max, ..Limits::default() }).open().await.unwrap();
    let neighbours = Neighbours::install(&host).await;
    let evil = probe(&host, "evil").await;
    let (value, path) = deep();
    let (beside, wrong) = (json!(["k", "k", "other"]), json!(["k", "k", 0]));
    let attack = async {
        for step in [
            json!(["get", "deep", path]),
            json!(["get", "deep", beside]),
            json!(["try", ["get", "deep", wrong]]),
            json!(["set", "deep", path, 1]),
            json!(["try", ["set", "deep", wrong, 1]]),
            json!(["remove", "deep", beside]),
        ] {
            // So many looks are more than the fuel buys; ten are not.
            let written = json!(["set", "deep", [], value]);
            is_over_fuel(&host, evil, fuel_max, json!([written, ["repeat", 60_000, step]])).await;
            let receipt = run(&host, evil, json!([written, ["repeat", 10, step], ["remove", "deep", []]])).await;
            assert_eq!(receipt.outcome, Outcome::Committed, "{step}: {receipt:?}");
        }
    };
    neighbours.beside(&host, attack).await;
}

/// Returns the least fuel that a turn needs which reads and writes the cell `deep`, as `history` leaves it: between these.
async fn least_fuel(
    history: impl Fn(&serde_json::Value) -> Vec<serde_json::Value>,
    (mut too_little, mut enough): (u64, u64),
) -> u64 {
    let (value, path) = deep();
    // The history is made with fuel enough; the turn that is looked at comes after a restart.
    let home = Home::default();
    let host = home.builder().await.open().await.unwrap();
    let charm = host.install(probe_charm("a")).await.unwrap();
    for steps in history(&value) {
        assert_eq!(run(&host, charm, steps).await.outcome, Outcome::Committed);
    }
    host.shutdown().await.unwrap();
    while enough - too_little > 1 {
        let middle = u64::midpoint(too_little, enough);
        let limits = Limits { fuel_max: middle, ..Limits::default() };
        let host = home.builder().await.limits(limits).open().await.unwrap();
        // What it writes is removed at the end: it finds the same in each run.
        let steps = json!([["get", "deep", path], ["set", "deep", ["k", "n"], 2], ["remove", "deep", ["k", "n"]]]);
        let commits = match host.install(probe_charm("a").pinned(charm)).await {
            Ok(_) => run(&host, charm, steps).await.outcome == Outcome::Committed,
            Err(_) => false,
        };
        host.shutdown().await.unwrap();
        *(if commits { &mut enough } else { &mut too_little }) = middle;
    }
    enough
}

/// A5: what a call costs does not depend on what happened to the cell before, or to others.
#[tokio::test(flavor = "multi_thread")]
async fn fuel_is_the_same_whatever_happened_before() {
    let short = |value: &serde_json::Value| vec![json!([["set", "deep", [], value]])];
    let long = |value: &serde_json::Value| {
        let others = (0..40).map(|n| json!([["set", format!("other-{n}"), [], value], ["set", "deep", [], n]]));
        others.chain([json!([["set", "deep", [], value]])]).collect::<Vec<_>>()
    };
    let first = least_fuel(short, (0, 1 << 23)).await;
    assert!(first > 30_000, "the calls cost by their steps: {first}");
    assert_eq!(least_fuel(long, (first - 2, first + 2)).await, first);
}

/// Returns in how many slices a turn of these steps ran out of fuel.
async fn slices(steps: serde_json::Value) -> u64 {
    let env = Untimed::new();
    let limits = Limits { fuel_max: FUEL_MAX, fuel_slice: FUEL_SLICE, ..Limits::default() };
    let host = builder().env(env.clone()).limits(limits).open().await.unwrap();
    let evil = probe(&host, "evil").await;
    let before = env.looks.load(Ordering::Relaxed);
    is_over_fuel(&host, evil, FUEL_MAX, steps).await;
    // The clock is looked at where a slice begins, where it ends, and where the guest gets in line for the next.
    (env.looks.load(Ordering::Relaxed) - before) / 3
}

/// A5: what host calls cost counts in the slice of fuel after which others run, without a tick too.
#[tokio::test(flavor = "current_thread")]
async fn host_calls_alone_fill_slices() {
    let (value, path) = deep();
    let slices = slices(json!([["set", "deep", [], value], ["repeat", 5_000, ["get", "deep", path]]])).await;
    assert!((SLICES / 2..SLICES * 2).contains(&slices), "{slices} instead of {SLICES} slices");
}

/// A5: after host calls that end in the middle of a slice, a guest that only computes has whole slices again.
#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_computes_after_host_calls_is_not_cut_finer() {
    let (value, path) = deep();
    for calls in 1..12 {
        let steps = json!([["set", "deep", [], value], ["repeat", calls, ["get", "deep", path]], ["spin"]]);
        let slices = slices(steps).await;
        assert!((SLICES / 2..SLICES * 2).contains(&slices), "{slices} instead of {SLICES} slices");
    }
}

/// A5: the backstop counts time on a thread by the clock, not ticks: while the clock stands still, none passes.
#[tokio::test(flavor = "multi_thread")]
async fn ticks_are_not_time() {
    let fuel_max = 1_000_000_000;
    let limits = Limits { fuel_max, compute_ms_max: 1, ..Limits::default() };
    let host = builder().env(Clock::new()).limits(limits).open().await.unwrap();
    let evil = probe(&host, "evil").await;
    is_over_fuel(&host, evil, fuel_max, json!([["spin"]])).await;
}

/// A5: every host call costs, also one that fails or gives nothing.
#[tokio::test(flavor = "multi_thread")]
async fn every_host_call_costs_fuel() {
    // 20,000 calls with few instructions around each are within the fuel; with the calls they are not.
    let (fuel_max, calls) = (1_000_000, 20_000);
    let host = builder().limits(Limits { fuel_max, ..Limits::default() }).open().await.unwrap();
    let neighbours = Neighbours::install(&host).await;
    let handle = |call: &str| {
        format!(
            "(local.set $handle (call $cell)) (local.set $i (call $stream)) (local.set $n (i32.const {calls}))
             (loop $again {call}
               (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))"
        )
    };
    let named = "(i32.const 64) (i32.const 3)";
    for (call, costs) in [
        (String::new(), false),
        ("(call $cell-owner (local.get $handle) (i32.const 512))".to_owned(), true),
        ("(call $cell-get (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 512))".to_owned(), true),
        // No value: refused.
        (
            "(call $cell-set (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))"
                .to_owned(),
            true,
        ),
        ("(call $cell-remove (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 512))".to_owned(), true),
        // No DID and no name: refused.
        (format!("(call $cells-open (i32.const 1) {named} {named} (i32.const 512))"), true),
        (format!("(call $streams-open (i32.const 1) {named} {named} (i32.const 512))"), true),
        ("(call $cells-open (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))".to_owned(), true),
        ("(call $log (i32.const 0) (i32.const 0) (i32.const 0))".to_owned(), true),
        ("(call $panicked (i32.const 0) (i32.const 0))".to_owned(), true),
        ("(call $self-did (i32.const 512))".to_owned(), true),
        ("(drop (call $time))".to_owned(), true),
        ("(call $cell-drop (call $cell))".to_owned(), true),
        // No value, no tag, no grant: refused.
        ("(call $send (local.get $i) (i32.const 0) (i32.const 0))".to_owned(), true),
        (format!("(call $wish {} (i32.const 512))", "(i32.const 0) ".repeat(13)), true),
        ("(call $get-url (i32.const 81) (i32.const 18) (i32.const 0) (i32.const 0))".to_owned(), true),
    ] {
        let component = raw::charm(&[("in handle", &handle(&call))]);
        let evil = host.install(Charm::new("evil", component)).await.unwrap();
        let attack = async { host.request(NewEvent::new(evil, "run", value(json!(1)))).await.unwrap() };
        let (receipt, _) = neighbours.beside(&host, attack).await;
        let expected = if costs { Outcome::Faulted } else { Outcome::Committed };
        assert_eq!(receipt.outcome, expected, "{call}: {receipt:?}");
        assert_eq!(receipt.message.is_some_and(|message| message == over_fuel(fuel_max)), costs, "{call}");
    }
}

/// A5: what a call is given is paid for, whatever becomes of it: here texts that are no names.
#[tokio::test(flavor = "multi_thread")]
async fn texts_cost_fuel_by_their_length() {
    let fuel_max = 5_000_000;
    let host = builder().limits(Limits { fuel_max, ..Limits::default() }).open().await.unwrap();
    for call in ["cells-open", "streams-open"] {
        for (calls, outcome) in [(2, Outcome::Committed), (10, Outcome::Faulted)] {
            let code = format!(
                "(call $grow (i32.const 32)) (local.set $n (i32.const {calls}))
                 (loop $again
                   (call ${call} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 131072) (i32.const 1048576) (i32.const 512))
                   (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))"
            );
            let evil = host.install(Charm::new("evil", raw::charm(&[("in handle", &code)]))).await.unwrap();
            let receipt = host.request(NewEvent::new(evil, "run", value(json!(1)))).await.unwrap();
            assert_eq!(receipt.outcome, outcome, "{calls} of {call}: {receipt:?}");
        }
    }
}

/// A5: the calls of WASI cost as well.
#[tokio::test(flavor = "multi_thread")]
async fn calls_of_wasi_cost_fuel() {
    let fuel_max = 5_000_000;
    let host = builder().limits(Limits { fuel_max, ..Limits::default() }).open().await.unwrap();
    for (calls, outcome) in [(1_000, Outcome::Committed), (20_000, Outcome::Faulted)] {
        let code = format!(
            "(local $n i32) (local.set $n (i32.const {calls}))
             (loop $again (drop (call $random)) (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))"
        );
        let import = r#"(import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
            (core func $random (canon lower (func $random "get-random-u64")))"#;
        let changes = [
            ("in component", import),
            ("in module", r#"(import "wasi" "random" (func $random (result i64)))"#),
            ("with", r#"(with "wasi" (instance (export "random" (func $random))))"#),
            ("in handle", &*code),
        ];
        let evil = hostile(&host, "evil", &changes).await;
        let receipt = host.request(NewEvent::new(evil, "run", value(json!(1)))).await.unwrap();
        assert_eq!(receipt.outcome, outcome, "{receipt:?}");
    }
}

/// The fuel of a turn is the same in every run, however often ticks and slices stop the guest, also while it makes room for
/// an answer: a tick once took or gave what was left of a slice.
#[tokio::test(flavor = "multi_thread")]
async fn the_fuel_of_a_turn_is_the_same_in_every_run() {
    let limits = Limits { fuel_max: 4_000_000, fuel_slice: 100_000, compute_ms_max: 600_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    // Asks for a text, and makes room for it at length; so many times as the event says, in tens.
    let code = "
        (local.set $n (i32.mul (i32.and (i32.load8_u (local.get $event)) (i32.const 31)) (i32.const 10)))
        (loop $again (call $self-did (i32.const 512))
          (br_if $again (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0))))";
    for grow in ["", "(drop (memory.grow (i32.const 0)))"] {
        let room = format!(
            "(local $i i32) (local.set $i (i32.const 6000))
             (loop $again {grow} (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))"
        );
        let component = raw::charm(&[("in realloc", &room), ("in handle", code)]);
        let charm = host.install(Charm::new("evil", component)).await.unwrap();
        let commits = async |tens: u8| {
            let receipt = host.request(NewEvent::new(charm, "run", value(json!(tens)))).await.unwrap();
            if receipt.outcome != Outcome::Committed {
                assert_eq!(receipt.message, Some(over_fuel(4_000_000)));
            }
            receipt.outcome == Outcome::Committed
        };
        let mut most = 0;
        for tens in 1..24 {
            most = if commits(tens).await { tens } else { most };
        }
        assert!((1..23).contains(&most), "the fuel ends at some time: {most}");
        for run in 0..12 {
            assert!(commits(most).await, "run {run}: {most} tens have once been paid for");
            assert!(!commits(most + 1).await, "run {run}: {most} tens were all that there was fuel for");
        }
    }
}

/// A5: an event that misfits far down is refused at the price of looking at it once, and refusals are paid for.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_cannot_have_misfits_explained_for_ever() {
    let limits = Limits { fuel_max: FUEL_MAX, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let neighbours = Neighbours::install(&host).await;
    let shape = format!("{}int{}", "{k: ".repeat(LEVELS), "}".repeat(LEVELS));
    let component = by_hand::described(value(json!({ "streams": { "run": { "shape": shape } } })).as_bytes());
    let hand = host.install(Charm::new("hand", component)).await.unwrap();

    // Sends the event that it is given on, so many times: next to nothing of its fuel goes to the guest itself.
    let evil = async |name: &str, times: u32| {
        let data = format!("(data (i32.const 1024) \"{hand}\")");
        let code = format!(
            "(call $streams-open (i32.const 1) (i32.const 1024) (i32.const {}) (i32.const 64) (i32.const 3) (i32.const 512))
             (local.set $handle (i32.load (i32.const 520))) (local.set $n (i32.const {times}))
             (loop $again (call $send (local.get $handle) (local.get $event) (local.get $event-bytes))
               (if (i32.eqz (call $was-refused)) (then unreachable))
               (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))",
            hand.to_string().len()
        );
        let component = raw::charm(&[("in module", &data), ("in handle", &code)]);
        host.install(Charm::new(name, component).may_send(hand, Names::All)).await.unwrap()
    };
    // 40,000 items beside the way down to the one that misfits.
    let misfit = (0..LEVELS).fold(json!("x"), |inner, level| match level % 10 {
        0 => json!({ "k": inner, "a": vec![0; 40_000 / LEVELS.div_ceil(10)] }),
        _ => json!({ "k": inner }),
    });
    // Without the price of its bytes, or that of looking at them, the fuel would do for 500.
    let (few, many) = (evil("few", 300).await, evil("many", 500).await);
    let attack = async {
        let sends = async |charm| host.request(NewEvent::new(charm, "run", value(misfit.clone()))).await.unwrap();
        let (few, many) = (sends(few).await, sends(many).await);
        assert_eq!(few.outcome, Outcome::Committed, "{few:?}");
        assert_eq!(many.message, Some(over_fuel(FUEL_MAX)), "{many:?}");
    };
    neighbours.beside(&host, attack).await;
}

/// A charm that writes a list of half a million integers to each of its three cells, which are declared so.
fn large_writer() -> Vec<u8> {
    let shape = json!({ "shape": "[int]" });
    let cells = json!({ "run": shape, "any": shape, "cell": shape });
    let description = value(json!({ "cells": cells, "streams": { "run": { "shape": "any" } } }));
    let bytes: String = description.as_bytes().iter().map(|byte| format!("\\{byte:02x}")).collect();
    let length = description.as_bytes().len();
    let set = |at: u32, length: u32| {
        format!(
            "(call $cells-open (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {at}) (i32.const {length}) (i32.const 512))
             (call $cell-set (i32.load (i32.const 520)) (i32.const 0) (i32.const 0)
               (i32.const 131072) (i32.const 500005) (i32.const 512))"
        )
    };
    // The head of a list of 500,000 items, and so many times 1.
    let code = format!(
        "(call $grow (i32.const 10)) (i32.store8 (i32.const 131072) (i32.const 0x9a))
         (i32.store (i32.const 131073) (i32.const 0x20a10700))
         (memory.fill (i32.const 131077) (i32.const 1) (i32.const 500000)) {}{}{}",
        set(64, 3),
        set(67, 3),
        set(70, 4)
    );
    raw::charm(&[
        ("in module", &format!("(data (i32.const 1024) \"{bytes}\")")),
        ("(i32.store (i32.const 16) (i32.const 300))", "(i32.store (i32.const 16) (i32.const 1024))"),
        ("(i32.const 25)", &format!("(i32.const {length})")),
        ("in handle", &code),
    ])
}

/// A5: what a turn leaves written is checked from its own fuel, and others run between two cells.
#[tokio::test(flavor = "current_thread")]
async fn written_cells_are_checked_from_the_fuel_of_the_turn_and_in_slices() {
    for (fuel_max, outcome) in [(15_000_000, Outcome::Faulted), (60_000_000, Outcome::Committed)] {
        let env = Untimed::new();
        // The guest itself takes less than a slice; the check of a cell takes less too.
        let limits = Limits { fuel_max, fuel_slice: 16_000_000, ..Limits::default() };
        let host = builder().env(env.clone()).limits(limits).open().await.unwrap();
        let evil = host.install(Charm::new("evil", large_writer())).await.unwrap();
        let before = env.looks.load(Ordering::Relaxed);
        let receipt = host.request(NewEvent::new(evil, "run", value(json!(1)))).await.unwrap();
        let slices = // The clock is looked at where a slice begins, where it ends, and where the guest gets in line for the next.
    (env.looks.load(Ordering::Relaxed) - before) / 3;
        assert_eq!(receipt.outcome, outcome, "{receipt:?}");
        match outcome {
            Outcome::Committed => assert!(slices > 3, "{slices} slices"),
            _ => assert_eq!(receipt.message, Some(over_fuel(fuel_max))),
        }
    }
}
