//! `cargo xtask bench attacks`: how long a neighbour waits beside hostile charms, and beside honest ones of the same number
//! that are as busy. Ratios of one run; nothing fails by a clock.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a bench measures and prints")]

#[path = "../conformance/raw.rs"]
#[allow(dead_code, reason = "shared with the chapter attacks")]
mod raw;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use charm_conformance::*;
use charm_host::*;
use serde_json::json;

/// Charms that are busy beside the neighbour.
const BUSY: usize = 8;
/// How long each is measured.
const SPAN: Duration = Duration::from_secs(3);

/// What a neighbour waited, and what was seen of the host meanwhile.
struct Seen {
    turns: usize,
    p50: Duration,
    p99: Duration,
    max: Duration,
    /// Longest wait for the host's state, which is behind the commit lock, by a thread that always asks.
    lock: Duration,
    /// Longest time that the same takes with a lock of its own: what the machine adds.
    own: Duration,
    /// Longest time until a task that was woken on another thread ran.
    step: Duration,
}

/// Asks a neighbour for one turn after another beside busy charms that all do `code`.
fn measure(workers: usize, code: &str, asked: u8) -> Seen {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
    runtime.block_on(async {
        let home = Home::default();
        let host = Arc::new(home.open().await);
        let neighbour = probe(&host, "neighbour").await;
        run(&host, neighbour, json!([["set", "n", [], 0]])).await;
        let over = Arc::new(AtomicBool::new(false));
        let mut busy = Vec::new();
        for number in 0..BUSY {
            let charm = host.install(Charm::new(format!("busy-{number}"), raw::hostile(code))).await.unwrap();
            let (host, over) = (host.clone(), over.clone());
            busy.push(tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    // Two at a time: there is always one that waits for its turn.
                    let ask = || host.request(NewEvent::new(charm, "run", value(json!(asked))));
                    let _ = futures_util::future::join(ask(), ask()).await;
                }
            }));
        }
        let watch = {
            let (host, over) = (host.clone(), over.clone());
            std::thread::spawn(move || {
                longest(&over, || {
                    host.counters();
                })
            })
        };
        let own = {
            let (own, over) = (std::sync::Mutex::new(()), over.clone());
            std::thread::spawn(move || longest(&over, || drop(own.lock())))
        };
        let (wake, mut woken) = tokio::sync::mpsc::unbounded_channel::<Instant>();
        let pulse = tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            while let Some(at) = woken.recv().await {
                longest = longest.max(at.elapsed());
            }
            longest
        });
        let beat = {
            let over = over.clone();
            std::thread::spawn(move || {
                longest(&over, || {
                    let _ = wake.send(Instant::now());
                })
            })
        };
        let asking = {
            let (host, over) = (host.clone(), over.clone());
            tokio::spawn(async move {
                let (mut waits, start) = (Vec::new(), Instant::now());
                while start.elapsed() < SPAN {
                    let asked = Instant::now();
                    let receipt = host
                        .request(NewEvent::new(neighbour, "run", script(json!([["set", "n", [], waits.len()]]))))
                        .await;
                    assert_eq!(receipt.unwrap().outcome, Outcome::Committed);
                    waits.push(asked.elapsed());
                }
                over.store(true, Ordering::Relaxed);
                waits
            })
        };
        let mut waits = asking.await.unwrap();
        waits.sort_unstable();
        let at = |part: usize| waits[(waits.len() * part / 100).min(waits.len() - 1)];
        let (p50, p99, max) = (at(50), at(99), at(100));
        beat.join().unwrap();
        let (lock, own, step) = (watch.join().unwrap(), own.join().unwrap(), pulse.await.unwrap());
        for task in busy {
            task.abort();
        }
        Seen { turns: waits.len(), p50, p99, max, lock, own, step }
    })
}

/// The longest of many calls.
fn longest(over: &AtomicBool, call: impl Fn()) -> Duration {
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        call();
        longest = longest.max(start.elapsed());
        std::thread::sleep(Duration::from_micros(200));
    }
    longest
}

/// What honest charms do: compute a little or as much as their fuel allows, and write a little; send two events more, each
/// one less, as often as the event says; or write the largest value there is and read it ten times.
fn honest() -> [(&'static str, String); 4] {
    let compute = |loops: &str| {
        format!(
            "(loop $work (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $work (i32.lt_u (local.get $i) (i32.const {loops}))))
             (call $set (call $cell))"
        )
    };
    let send = "(if (i32.load8_u (local.get $event)) (then
        (i32.store8 (local.get $event) (i32.sub (i32.load8_u (local.get $event)) (i32.const 1)))
        (local.set $handle (call $stream))
        (call $send (local.get $handle) (local.get $event) (i32.const 1))
        (call $send (local.get $handle) (local.get $event) (i32.const 1))))";
    let large = "(call $grow (i32.const 20)) (i32.store (i32.const 65536) (i32.const 0xff0f005a)) (i32.store8 (i32.const 65540) (i32.const 0))
        (local.set $handle (call $cell))
        (call $cell-set (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 1048325) (i32.const 512))
        (loop $again (call $cell-get (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 512))
          (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $again (i32.lt_u (local.get $i) (i32.const 10))))
        (call $cell-remove (local.get $handle) (i32.const 0) (i32.const 0) (i32.const 512))";
    let busy = compute("100000000");
    [
        ("honest", compute("1000")),
        ("honest-sends", send.to_owned()),
        ("honest-large", large.to_owned()),
        ("honest-busy", busy),
    ]
}

/// Returns which honest charms load the host as those of a kind do, and what both are asked.
fn same_load(kind: &str) -> (&'static str, u8) {
    match kind {
        // 127 turns for one event, or 121.
        "honest-sends" => ("honest-sends", 6),
        "multiply" => ("honest-sends", 4),
        "honest-large" | "deep" | "large" | "items" => ("honest-large", 4),
        "honest" => ("honest", 4),
        _ => ("honest-busy", 4),
    }
}

fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    println!(
        "a neighbour beside {BUSY} busy charms, {SPAN:?} each; times in ms; p99 against honest charms of the same load\n"
    );
    println!(
        "{:<14} {:>6} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7} {:>8}",
        "beside", "turns", "p50", "p99", "max", "p99 x", "lock", "own", "step"
    );
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let mut honest_p99 = HashMap::new();
    let honest = honest();
    for (kind, code) in honest.iter().map(|(kind, code)| (*kind, code.as_str())).chain(raw::KINDS) {
        if !only.is_empty() && !kind.starts_with("honest") && !only.iter().any(|name| name == kind) {
            continue;
        }
        let (like, asked) = same_load(kind);
        let (seen, one) = (measure(2, code, asked), measure(1, code, asked));
        if kind.starts_with("honest") {
            honest_p99.insert(kind, seen.p99);
        }
        let ratio = honest_p99.get(like).map_or(f64::NAN, |honest| seen.p99.as_secs_f64() / honest.as_secs_f64());
        let Seen { turns, p50, p99, max, .. } = seen;
        // With one worker each busy thread has a processor of its own on the smallest machine: nobody who holds the lock,
        // or is in a step, stands aside for another thread.
        let [p50, p99, max, lock, own, step] = [p50, p99, max, one.lock, one.own, one.step].map(ms);
        println!(
            "{kind:<14} {turns:>6} {p50:>8.2} {p99:>8.2} {max:>8.2} {ratio:>7.1} {lock:>7.2} {own:>7.2} {step:>8.2}"
        );
    }
}
