//! What a turn costs over bare wasmtime, side by side in one run.
//!
//! The guest reads one cell, writes one and sends one event. Bare: instantiate, call, drop of the same
//! component on one thread, its host calls answered by stubs. A turn: the same through the host, from the
//! event in the inbox to the next one, on a store in memory (`turn/bare`) and on SQLite (`turn/durable`).
//! Figures are ratios, each the median over rounds; the rounds alternate, so that a slow moment hits both.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement looks at the clock and prints")]

use std::{path::PathBuf, time::Instant};

use charm_host::{Compiler, Did, FileKeyring, Host, HostBuilder, Limits, NewEvent, Outcome, Path, SqliteStore, Value};

#[path = "turn/bare.rs"]
mod bare;

const ROUNDS: usize = 15;
const TURNS: u32 = 4_000;
/// The guest stops here.
const BASE: u32 = 100_000;

fn event(left: u32) -> Value {
    Value::encode(&left).expect("an integer is in the data model")
}

fn floor(bare: &bare::Bare) -> f64 {
    let start = Instant::now();
    for left in 0..TURNS {
        bare.call(event(BASE + left + 1).as_bytes()).expect("the guest runs");
    }
    start.elapsed().as_secs_f64() / f64::from(TURNS)
}

/// Runs a chain of turns, each started by the event that the one before sent.
async fn round(host: &Host, charm: Did) -> f64 {
    let done = event(BASE);
    let start = Instant::now();
    let receipt =
        host.request(NewEvent::new(charm, "turn", event(BASE + TURNS - 1))).await.expect("the event is taken");
    assert_eq!(receipt.outcome, Outcome::Committed, "{:?}", receipt.message);
    while host.get(&charm, "output", &Path::root()).await.expect("the host runs").as_ref() != Some(&done) {
        tokio::task::yield_now().await;
    }
    start.elapsed().as_secs_f64() / f64::from(TURNS)
}

fn builder() -> HostBuilder {
    // A bench writes for as long as it runs: no rate of writing, and no chain is late.
    let unbound = Limits { disk_bytes_per_second: 1 << 48, chain_events_per_second: 1 << 48, ..Limits::default() };
    Host::builder().compiler(Compiler::InProcess).limits(unbound)
}

async fn open(builder: HostBuilder, bytes: &[u8]) -> (Host, Did) {
    let host = builder.open().await.expect("the host opens");
    let did = host.install(charm_host::Charm::new("bench", bytes.to_vec())).await.expect("the guest loads");
    (host, did)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[tokio::main]
async fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let path = PathBuf::from("../target/charms/bench.wasm");
    let bytes = std::fs::read(&path).expect("run cargo xtask charms first");
    let folder = std::env::temp_dir().join(format!("charm-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the store");

    let bare = bare::Bare::new(&bytes).expect("bare wasmtime loads the guest");
    let (memory, in_memory) = open(builder(), &bytes).await;
    let store = SqliteStore::open(folder.join("charm.db")).expect("the store opens");
    let keys = FileKeyring::open(folder.join("keys")).expect("the keyring opens");
    let (disk, on_disk) = open(builder().store(store).keyring(keys), &bytes).await;
    let (mut turns, mut durable) = (Vec::new(), Vec::new());
    for number in 0..=ROUNDS {
        let floor = floor(&bare);
        let turn = round(&memory, in_memory).await / floor;
        let synced = round(&disk, on_disk).await / floor;
        // The first round warms up.
        if number > 0 {
            turns.push(turn);
            durable.push(synced);
        }
    }
    for (name, figures) in [("turn/bare", turns), ("turn/durable", durable)] {
        let value = median(figures);
        if json {
            println!("{{\"name\":\"{name}\",\"value\":{value:.2},\"unit\":\"x bare wasmtime\"}}");
        } else {
            println!("{name:<14} {value:.2} x bare wasmtime (instantiate + call + drop)");
        }
    }
    drop((memory, disk));
    let _ = std::fs::remove_dir_all(folder);
}
