//! Isolation: no transaction sees what it must not (T3, T4, S2).
//!
//! Random transactions on charms of one host, many at a time, each one event in one turn; some send another one.
//! Clients record what they asked, when, and what came of it. Checked is strict serializability over all spaces together: one order of
//! the transactions explains every read, and keeps the order in time of what did not overlap. Twice, each check
//! for itself: from the record alone (the checker `adya`), and by repeating the transactions one by one in the
//! order of commits that the log has.
//!
//! First the checks themselves: a small database with planted bugs runs the same workload.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests, which tell their figures")]

mod host;
mod reference;

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use charm_conformance::{
    isolation::{Kind, check},
    seed, times,
};
use host::Figures;
use reference::Bug;

/// Transactions of a history of the reference.
const REFERENCE_LENGTH: usize = 400;
/// Each bug, and what the checker calls it when the keys are lists.
const BUGS: [(Bug, &str); 13] = [
    (Bug::DirtyWrite, "G0"),
    (Bug::AbortedRead, "G1a"),
    (Bug::IntermediateRead, "G1b"),
    (Bug::LostUpdate, "lost-update"),
    (Bug::StaleSnapshot, "G-single-item-realtime"),
    (Bug::ReadSkew, "G-single-item"),
    (Bug::WriteSkew, "G2-item"),
    (Bug::LongFork, "G-nonadjacent-item"),
    (Bug::RealTimeReversal, "G0-realtime"),
    (Bug::DoubleDelivery, "duplicate-elements"),
    (Bug::LostWrite, "G0-realtime"),
    (Bug::OrphanedSend, "G1a"),
    (Bug::RepeatedSend, "duplicate-elements"),
];

/// T3, T4, S1, S2: a check that never fails proves nothing.
#[test]
fn each_planted_bug_is_called_by_its_name() {
    let first = seed();
    for (bug, name) in BUGS {
        let (mut lists, mut named, mut registers, mut noticed, mut refused) = (0, 0, 0, 0, 0);
        for seed in first..first + times(36) {
            let (history, order) = reference::run(seed, REFERENCE_LENGTH, Some(bug));
            let kinds = check(&history).err().map(|anomalies| anomalies.kinds).unwrap_or_default();
            match Kind::of(seed) {
                Kind::Lists => (lists, named) = (lists + 1, named + usize::from(kinds.iter().any(|kind| kind == name))),
                Kind::Registers => (registers, noticed) = (registers + 1, noticed + usize::from(!kinds.is_empty())),
            }
            refused += usize::from(history.replay(&order).is_err());
        }
        println!("{bug:?}: {name} in {named} of {lists}, noticed in {noticed} of {registers}, replay {refused}");
        assert!(named * 4 > lists, "{bug:?}: {name} only in {named} of {lists} histories of lists");
        assert!(noticed > 0, "{bug:?}: in none of {registers} histories of registers");
        assert!(refused * 4 > lists + registers, "{bug:?}: the order of commits explains too much");
    }
}

/// A check that fails without a reason proves nothing either.
#[test]
fn a_database_without_a_bug_checks_clean() {
    let first = seed();
    let (mut committed, mut unknown) = (0, 0);
    for seed in first..first + times(200) {
        let (history, order) = reference::run(seed, REFERENCE_LENGTH, None);
        check(&history).unwrap_or_else(|anomalies| panic!("CHARM_SEED={seed}: {anomalies}"));
        history.replay(&order).unwrap_or_else(|why| panic!("CHARM_SEED={seed}: {why}"));
        let counts = history.counts();
        (committed, unknown) = (committed + counts.0, unknown + counts.2);
    }
    assert!(unknown * 200 > committed, "answers got lost: {unknown} of {committed}");
}

/// T3, T4, S1, S2
#[test]
fn a_million_transactions_are_strictly_serializable() {
    let (histories, length) = (times(1_000), 1_000);
    let figures = many(histories, length, false, "a_million_transactions");
    println!("{figures:?}");
    assert_eq!(figures.unknown, 0, "nothing failed");
    assert!(figures.committed as u64 > histories * length * 9 / 10, "{figures:?}");
    assert!(figures.reruns * 200 > histories * length, "the transactions met: {figures:?}");
}

/// T3, T4, T5, T8, S1, S2, S9: a store that fails, a host that is dropped, a disk that is full. What no client learnt may have
/// happened or not; what a client asks the next host for, with the same id, happens once.
#[test]
fn answers_that_never_came_leave_no_anomaly_when_the_host_is_opened_again() {
    let figures = many(times(80), 500, true, "answers_that_never_came");
    println!("{figures:?}");
    let Figures { unknown, unknown_committed, settled_later, .. } = figures;
    assert!(unknown_committed > 0 && unknown_committed < unknown, "some happened, some did not: {figures:?}");
    assert!(settled_later > 0, "some were asked for again: {figures:?}");
}

/// Runs that many histories, on two threads.
fn many(histories: u64, length: u64, faults: bool, test: &str) -> Figures {
    let (first, next, all) = (seed(), AtomicU64::new(0), Mutex::new(Ok(Figures::default())));
    let work = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        loop {
            let seed = first + next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + histories || all.lock().unwrap().is_err() {
                return;
            }
            let result = runtime.block_on(host::run(seed, length as u32, faults));
            let mut all = all.lock().unwrap();
            match (&mut *all, result) {
                (Ok(all), Ok(figures)) => *all += figures,
                (Ok(_), Err(why)) => *all = Err((seed, why)),
                (Err(_), _) => return,
            }
        }
    };
    std::thread::scope(|scope| [scope.spawn(work), scope.spawn(work)].map(|thread| thread.join().unwrap()));
    all.into_inner().unwrap().unwrap_or_else(|(seed, why)| {
        let kind = Kind::of(seed);
        panic!(
            "history of seed {seed}, {kind:?}: {why}\nrun it first, the threads meet otherwise each time: \
             CHARM_SEED={seed} cargo test --workspace --exclude xtask --test isolation {test}"
        )
    })
}
