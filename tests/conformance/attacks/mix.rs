//! All attacks mixed at random beside good neighbours, on disk, through restarts; what grows is watched. The long form is
//! `cargo xtask soak attacks`; one thread, so that the log is counted and nothing of other tests.

#![allow(clippy::print_stderr, reason = "the long form tells how it goes")]

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{raw::KINDS, *};

/// Bounds small enough that many turns that run into them fit into a test.
fn tight() -> Limits {
    Limits { fuel_max: 20_000_000, inbox_events_max: 500, turns_max: 8, ..Limits::default() }
}

/// Counts the bytes of the log at the level that a host has by default.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Memory of this process, in MiB; 0 where the system does not tell.
fn memory_mib() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() / 256
}

fn store_bytes(home: &Home) -> u64 {
    let size = |end: &str| std::fs::metadata(format!("{}{end}", home.store().display())).map_or(0, |file| file.len());
    size("") + size("-wal")
}

/// Hostile charms, and a component that is nearly one.
async fn assault(host: &Host, random: &mut Random) {
    match random.below(10) {
        0 => {
            let mut bytes = if random.chance(500) { component("probe") } else { by_hand::charm(&[]) };
            for _ in 0..=random.below(8) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.bits() as u8;
            }
            let _ = host.install(Charm::new("damaged", bytes)).await;
        }
        1 => {
            let (kind, code) = *random.pick(&KINDS);
            host.install(Charm::new(kind, raw::hostile(code))).await.unwrap();
        }
        _ => {
            let charms = host.charms();
            let hostile: Vec<_> =
                charms.iter().filter(|charm| KINDS.iter().any(|(kind, _)| *kind == charm.name)).collect();
            if hostile.is_empty() {
                return;
            }
            let event = NewEvent::new(random.pick(&hostile).did, "run", value(json!(random.below(7))));
            match host.send(event).await {
                Ok(_) | Err(SendError::QueueFull { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A5, A6, S4: whatever comes, the neighbours are served, everything settles, and what grows has a bound.
#[tokio::test]
async fn a_mix_of_attacks_hurts_nobody_and_grows_nothing_without_bound() {
    let (log, mut random) = (Counter::default(), Random::new(seed()));
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let (home, rounds) = (Home::default(), times(2));
    let (mut settled, mut half) = (0, 0);
    for round in 0..rounds {
        let host = home.builder().await.limits(tight()).open().await.unwrap();
        let neighbours = Neighbours::install(&host).await;
        let attack = async {
            for _ in 0..50 {
                assault(&host, &mut random).await;
            }
        };
        let ((), met) = neighbours.beside(&host, attack).await;
        // Hosts end in the middle of things, but for the last.
        if round + 1 == rounds {
            settle(&host).await;
        }
        let counters = counted(&host);
        settled += counters.settled();
        host.shutdown().await.unwrap();
        if round == rounds / 2 {
            half = memory_mib();
        }
        let (memory, store, logged) = (memory_mib(), store_bytes(&home) >> 10, log.0.load(Ordering::Relaxed) >> 10);
        eprintln!(
            "round {round}: memory {memory} MiB, store {store} KiB, log {logged} KiB, {settled} settled, {met:?}, {counters:?}"
        );
    }
    let host = home.builder().await.limits(tight()).open().await.unwrap();
    host.verify_store().unwrap();
    // A turn logs its budget and a little about itself, and leaves at most one cell of 256 KiB, a receipt and a letter.
    let logged = log.0.load(Ordering::Relaxed);
    assert!(logged / settled < (tight().log_bytes_max as u64) * 4, "{logged} bytes of log for {settled} events");
    assert!(store_bytes(&home) / settled < 600 << 10, "{} bytes of store", store_bytes(&home));
    let memory = memory_mib();
    assert!(rounds < 20 || memory < half + half / 4 + 64, "{half} MiB at half time, {memory} MiB at the end");
}
