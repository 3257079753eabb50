//! A long queue and a kill.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use charm_conformance::{Ledger, WIRE, Wire, times};
use charm_host::{Limits, Outcome, Status};

use super::{
    place::{Place, acks},
    victim::Victim,
};

/// Events of the short form.
const EVENTS: u64 = 100_000;
const CHARMS: [&str; 4] = ["a", "b", "c", "d"];
/// Longest time to fill and to settle the short form.
const PATIENCE: Duration = Duration::from_secs(600);

/// Events of several senders wait for several charms, none of which ends a turn, when the host is killed. The next
/// host gives each its turn. (S2, S3, S4, T5)
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_queued_events_survive_a_kill_and_settle_once_each_in_their_order() {
    let (events, folder) = (times(EVENTS), tempfile::tempdir().unwrap());
    let charm = |name: &str| {
        format!("[charm.{name}]\ncomponent = \"probe.wasm\"\nhttp = [{{ origin = \"{WIRE}\", methods = [\"GET\"] }}]\n")
    };
    let place = Place::with(folder.path(), &CHARMS.map(charm).concat());
    let started = Instant::now();
    let mut victim = Victim::spawn(&place, "queue", &[events], &[]);
    victim.wait_within("full", PATIENCE * times(1) as u32);
    let queued = acks(&victim.kill());
    assert_eq!(queued.len() as u64, events);
    let filled = started.elapsed();

    let started = Instant::now();
    let limits = Limits { inbox_events_max: events as usize, ..Limits::default() };
    let host = place.builder().limits(limits).transport(Wire::open()).open().await.unwrap();
    let opened = started.elapsed();
    let waiting: usize = host.spaces().iter().map(|space| space.waiting).sum();
    assert_eq!(waiting as u64, events + CHARMS.len() as u64, "all of them, and what each charm was doing");

    let started = Instant::now();
    let charms = place.install(&host).await;
    tokio::time::timeout(PATIENCE * times(1) as u32, host.settled()).await.expect("the events settle in time").unwrap();
    let settled = started.elapsed();
    host.shutdown().await.unwrap();

    let started = Instant::now();
    let archive = place.archive();
    assert_eq!(Ledger::check(&archive).all_settled() as u64, events + CHARMS.len() as u64, "one receipt each");
    // The effects of each sender on each charm, in the order of commits.
    let mut effects: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for did in charms.values() {
        for commit in archive.commits(Some(did), 0, usize::MAX >> 1).unwrap() {
            let Some(turn) = commit.record.turn() else { continue };
            let sender = turn.sender;
            let numbers = turn.writes.iter().map(|write| write.edits[0].put.as_ref().unwrap().decode::<u64>().unwrap());
            effects.entry((*did, sender)).or_default().extend(numbers);
        }
    }
    let mut numbers = BTreeSet::new();
    for ((charm, sender), effects) in &effects {
        assert!(effects.is_sorted(), "events of {sender} for {charm} are handled in the order of sending");
        for number in effects {
            assert!(numbers.insert(*number), "event {number} has its effect once");
        }
    }
    assert!(numbers.into_iter().eq(0..events), "no effect is missing");
    for (number, id) in &queued {
        let status = archive.status(id).unwrap();
        let committed = matches!(&status, Status::Settled(receipt) if receipt.outcome == Outcome::Committed);
        assert!(committed, "event {number} was queued and is {status:?}");
    }
    let checked = started.elapsed();
    eprintln!("{events} events: filled in {filled:?}, opened in {opened:?}, settled in {settled:?}");
    eprintln!("checked in {checked:?}: one effect and one receipt each, in order");
}
