//! Nothing leaves before it is durable, and what happens when the disk does not take it (T5, T8).
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use charm_conformance::*;
use charm_host::{
    Archive, Did, Host, InstallError, Limits, MemoryStore, Names, NewEvent, OpenError, Outcome, ReadError, SendError,
    StoreError, Unavailable, Value,
};
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;

/// A host on a disk that the test owns.
struct Disk {
    host: Arc<Host>,
    control: Control,
    wire: Wire,
    a: Did,
    b: Did,
}

impl Disk {
    async fn new(limits: Limits) -> Disk {
        let (store, control) = GatedStore::new(MemoryStore::new());
        let wire = Wire::open();
        let host = builder().store(store).transport(wire.clone()).limits(limits).open().await.unwrap();
        let a = host.install(probe_charm("a")).await.unwrap();
        let b = host.install(probe_charm("b").may_call(Wire::grant()).may_read(a, Names::All)).await.unwrap();
        Disk { host: host.into(), control, wire, a, b }
    }

    fn request(&self, charm: Did, steps: Json) -> JoinHandle<Result<charm_host::Receipt, SendError>> {
        let host = self.host.clone();
        tokio::spawn(async move { host.request(NewEvent::new(charm, "run", script(steps))).await })
    }

    /// Waits until a charm's turn has committed in memory.
    async fn committed(&self, charm: Did, count: u64) {
        until("the turn commits in memory", || decided(charm) >= count).await;
    }
}

/// Returns whether a task stays unfinished for a while in which everything else is at rest.
async fn waits<T>(task: &mut JoinHandle<T>) -> bool {
    tokio::time::timeout(Duration::from_millis(30), task).await.is_err()
}

async fn done<T>(task: JoinHandle<T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), task).await.expect("in time").unwrap()
}

/// T8
#[tokio::test]
async fn no_answer_leaves_before_its_commit_is_durable_while_later_turns_go_on() {
    let disk = Disk::new(Limits::default()).await;
    disk.control.hold();
    let mut sent = disk.request(disk.a, json!([["set", "x", [], 1]]));
    disk.committed(disk.a, 1).await;
    let mut second = disk.request(disk.a, json!([["get", "x", []], ["set", "x", [], 2]]));
    let mut third = disk.request(disk.b, json!([["get", of(disk.a, "x"), []], ["set", "y", [], 1]]));
    disk.committed(disk.a, 2).await;
    disk.committed(disk.b, 1).await;
    assert!(waits(&mut sent).await && waits(&mut second).await && waits(&mut third).await, "no receipt leaves");
    let host = disk.host.clone();
    let mut read = tokio::spawn(async move { value_of(&host, disk.a, "x").await });
    let (host, event) = (disk.host.clone(), NewEvent::new(disk.a, "note", value(json!(1))));
    let mut accepted = tokio::spawn(async move { host.send(event).await });
    assert!(waits(&mut read).await, "no read from outside is answered");
    assert!(waits(&mut accepted).await, "no event is confirmed");
    disk.control.release();
    for task in [sent, second, third] {
        assert_eq!(done(task).await.unwrap().outcome, Outcome::Committed);
    }
    assert_eq!(done(read).await, Some(value(json!(2))));
    assert!(done(accepted).await.is_ok());
}

/// T8: the request of a turn depends on all that its snapshot shows.
#[tokio::test]
async fn no_request_goes_out_before_what_its_turn_has_read_is_durable() {
    let disk = Disk::new(Limits::default()).await;
    // What is durable already must not count for what is not.
    done(disk.request(disk.a, json!([["set", "x", [], "asked"]]))).await.unwrap();
    disk.control.hold();
    let first = disk.request(disk.a, json!([["set", "x", [], "paid"]]));
    disk.committed(disk.a, 2).await;
    let mut second = disk.request(disk.b, json!([["fetch-with", { "url": WIRE }, of(disk.a, "x"), []]]));
    assert!(waits(&mut second).await);
    assert_eq!(disk.wire.count(), 0, "the request is held back");
    disk.control.release();
    assert_eq!(done(first).await.unwrap().outcome, Outcome::Committed);
    assert_eq!(done(second).await.unwrap().outcome, Outcome::Committed);
    assert_eq!(disk.wire.requests()[0].body, b"\"paid\"");
    // Also of a turn that read nothing: its event must be durable.
    disk.control.hold();
    let mut alone = disk.request(disk.b, json!([["fetch", { "url": WIRE }]]));
    assert!(waits(&mut alone).await);
    assert_eq!(disk.wire.count(), 1, "the request is held back");
    disk.control.release();
    assert_eq!(done(alone).await.unwrap().outcome, Outcome::Committed);
}

/// T8, A5: commits that wait for the disk have a bound; turns wait then.
#[tokio::test]
async fn a_slow_disk_holds_turns_back_and_loses_none() {
    let disk = Disk::new(Limits { commits_pending_max: 8, turns_max: 2, ..Limits::default() }).await;
    disk.control.hold();
    let ask = |n| disk.request(disk.a, json!([["set", "list", [n], n]]));
    let mut tasks = vec![ask(0)];
    until("the first turn commits", || decided(disk.a) >= 1).await;
    tasks.extend((1..100).map(ask));
    disk.control.release();
    for task in tasks {
        assert_eq!(done(task).await.unwrap().outcome, Outcome::Committed);
    }
    assert_eq!(cell(&disk.host, disk.a, "list").await, json!((0..100).collect::<Vec<_>>()));
}

/// T8: what a failed write has left on the disk is unknown, so there is no second try.
#[tokio::test]
async fn a_host_whose_disk_fails_stops_with_a_typed_error() {
    for written in [false, true] {
        let disk = Disk::new(Limits::default()).await;
        assert_eq!(done(disk.request(disk.a, json!([["set", "x", [], 1]]))).await.unwrap().outcome, Outcome::Committed);
        let before = disk.control.count();
        disk.control.fail_next(StoreError::Failed("input/output error".to_owned()), written);
        let stopped = done(disk.request(disk.a, json!([["set", "x", [], 2]]))).await;
        let Err(SendError::Unavailable(Unavailable::Stopped { reason })) = &stopped else { panic!("{stopped:?}") };
        assert!(reason.contains("input/output error"), "{reason}");
        let event = || NewEvent::new(disk.a, "note", value(json!(1)));
        assert!(matches!(disk.host.send(event()).await, Err(SendError::Unavailable(Unavailable::Stopped { .. }))));
        let again = disk.host.request(event()).await;
        assert!(matches!(again, Err(SendError::Unavailable(Unavailable::Stopped { .. }))), "{again:?}");
        // A new charm, and one that has its space already.
        for name in ["late", "a"] {
            let install = disk.host.install(probe_charm(name)).await;
            assert!(matches!(install, Err(InstallError::Unavailable(_))), "{install:?}");
        }
        let written_again = tokio::time::timeout(Duration::from_millis(30), disk.control.more_than(before + 1)).await;
        assert!(written_again.is_err(), "nothing is written any more, nor tried again");
    }
}

/// T8: a read does not show what may be lost.
#[tokio::test]
async fn a_stopped_host_shows_nothing_that_is_not_durable() {
    let disk = Disk::new(Limits::default()).await;
    done(disk.request(disk.a, json!([["set", "x", [], "kept"], ["set", "y", [], "kept"]]))).await.unwrap();
    disk.control.hold();
    let task = disk.request(disk.a, json!([["set", "x", [], "lost"]]));
    disk.committed(disk.a, 2).await;
    disk.control.fail(Some(StoreError::Failed("broken".to_owned())));
    disk.control.release();
    assert!(done(task).await.is_err());
    let root = charm_host::Path::root();
    let seen = disk.host.get::<Value>(&disk.a, "x", &root).await;
    assert!(matches!(seen, Err(ReadError::Unavailable(Unavailable::Stopped { .. }))), "{seen:?}");
    assert_eq!(cell(&disk.host, disk.a, "y").await, json!("kept"), "what is durable stays readable");
}

/// T8, S9: what was acknowledged is there; what was not can be sent again and happens once.
#[tokio::test]
async fn after_a_failed_disk_the_next_host_has_all_that_was_acknowledged_and_an_id_makes_the_rest_safe() {
    for written in [false, true] {
        let memory = MemoryStore::new();
        let keys = Keys::default();
        let event = |n: u64, did: Did| NewEvent::new(did, "note", value(json!(n))).id(format!("note {n}"));
        {
            let (store, control) = GatedStore::new(memory.clone());
            let host = builder().store(store).keyring(keys.clone()).open().await.unwrap();
            let a = probe(&host, "a").await;
            for n in 0..10 {
                assert_eq!(host.request(event(n, a)).await.unwrap().outcome, Outcome::Committed);
            }
            control.fail_next(StoreError::Failed("power".to_owned()), written);
            assert!(host.request(event(10, a)).await.is_err());
        }
        let host = builder().store(memory).keyring(keys).open().await.unwrap();
        let a = probe(&host, "a").await;
        for n in (0..=10).rev() {
            assert_eq!(host.request(event(n, a)).await.unwrap().outcome, Outcome::Committed, "{n}");
        }
        let notes = cell(&host, a, "notes").await;
        assert_eq!(notes, json!((0..=10).collect::<Vec<_>>()), "each once, in order; written: {written}");
        host.verify(&a).unwrap();
    }
}

/// T8, S9: a full disk is not a broken one. Whoever waits is told; what was accepted happens once all the same.
#[tokio::test]
async fn a_full_disk_is_waited_out_and_nothing_is_lost() {
    let disk = Disk::new(Limits::default()).await;
    let note = |n: u64| NewEvent::new(disk.a, "note", value(json!(n))).id(format!("note {n}"));
    assert_eq!(disk.host.request(note(1)).await.unwrap().outcome, Outcome::Committed);
    done(disk.request(disk.b, json!([["set", "kept", [], 1]]))).await.unwrap();
    disk.control.fail(Some(StoreError::Full));
    let full = Err(SendError::Unavailable(Unavailable::DiskFull));
    assert_eq!(disk.host.request(note(2)).await, full, "accepted, but not durable");
    assert_eq!(disk.host.request(note(3)).await, full, "not accepted: the disk is known to be full");
    assert_eq!(cell(&disk.host, disk.b, "kept").await, json!(1), "what is durable stays readable");
    disk.control.fail(None);
    settle(&disk.host).await;
    for n in [2, 3, 2] {
        let sent_again = || async { disk.host.request(note(n)).await };
        let mut receipt = sent_again().await;
        while receipt == full {
            receipt = sent_again().await;
        }
        assert_eq!(receipt.unwrap().outcome, Outcome::Committed);
    }
    assert_eq!(cell(&disk.host, disk.a, "notes").await, json!([1, 2, 3]), "each once");
    disk.host.verify(&disk.a).unwrap();
}

/// T8: a full disk is tried again after 10 ms, and after pauses that double up to a second.
#[tokio::test]
async fn a_full_disk_is_tried_again_less_and_less_often() {
    let (clock, (store, control)) = (Clock::new(), GatedStore::new(MemoryStore::new()));
    let host = builder().store(store).env(clock.clone()).open().await.unwrap();
    let a = probe(&host, "a").await;
    // The heads of what was made are signed first: what is slept from here on is for the disk.
    settle(&host).await;
    let before = clock.slept().len();
    for _ in 0..9 {
        control.fail_next(StoreError::Full, false);
    }
    // Told or not: it is the first that finds out.
    let _ = host.send(NewEvent::new(a, "note", value(json!(1)))).await;
    settle(&host).await;
    assert_eq!(cell(&host, a, "notes").await, json!([1]));
    let pauses = [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000];
    let slept: Vec<Duration> = clock.slept().split_off(before);
    let for_heads = slept.iter().take_while(|slept| slept.as_millis() > 900).count();
    assert_eq!(slept[for_heads..], pauses.map(Duration::from_millis));
}

/// T8: what nobody waits for shares the sync of others, and is durable soon all the same; who waits for a receipt hurries it.
#[tokio::test(flavor = "multi_thread")]
async fn commits_that_nobody_waits_for_share_a_sync_and_who_waits_hurries_them() {
    const TURNS: u64 = 12;
    let (clock, (store, control)) = (Clock::new(), GatedStore::new(MemoryStore::new()));
    let host = builder().store(store).env(clock.clone()).open().await.unwrap();
    let a = probe(&host, "a").await;
    let chain = (1..TURNS).fold(json!([]), |next, _| json!([["send", of(a, "run"), { "steps": next }]]));
    clock.be_patient(true);
    let before = control.count();
    host.send(NewEvent::new(a, "run", script(chain))).await.unwrap();
    until("all turns commit in memory", || decided(a) == TURNS).await;
    assert_eq!(control.count(), before + 1, "only the event was waited for");
    clock.be_patient(false);
    until("all is durable", || host.counters().committed == TURNS).await;
    let after = control.count();
    assert!(after <= before + 2, "the first turns may go with the event");
    clock.be_patient(true);
    run(&host, a, json!([["set", "x", [], 1]])).await;
    assert_eq!(control.count(), after + 1, "the event of a request goes with its turn");
    // What is changed and leaves nothing to write holds nobody up either.
    clock.be_patient(false);
    let (hold, b) = (Hold::new(), probe(&host, "b").await);
    host.send(NewEvent::new(a, "run", script(json!([hold.step()])))).await.unwrap();
    hold.arrived(1).await;
    assert_eq!(probe(&host, "b").await, b, "installed again, as it is");
    hold.release(1);
    until("that turn is durable too", || host.counters().committed == TURNS + 2).await;
}

/// T8: when a host has shut down, it writes nothing more: another may have the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_has_shut_down_on_a_full_disk_does_not_go_on_trying() {
    let (store, control) = GatedStore::new(MemoryStore::new());
    let host = builder().store(store).env(Clock::new()).open().await.unwrap();
    control.fail(Some(StoreError::Full));
    let refused = host.install(probe_charm("a")).await.unwrap_err();
    assert!(matches!(refused, InstallError::Unavailable(Unavailable::DiskFull)), "{refused}");
    control.hold();
    until("the host tries again", || control.is_held()).await;
    let mut ends = tokio::spawn(async move { host.shutdown().await });
    assert!(waits(&mut ends).await, "a write is under way");
    control.release();
    // That the charm has a space is a commit: it is given up, and was not acknowledged.
    assert_eq!(done(ends).await, Err(Unavailable::DiskFull));
    control.closed().await;
    let tried = control.count();
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(control.count(), tried);
}

/// T8, T5: a batch has at most 1,024 commits, and values and payloads of 8 MiB but for the commit that goes over. What it
/// makes void itself is not in it: older values of a cell, events that came and went.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded_and_holds_nothing_that_it_makes_void_itself() {
    const EVENTS: u64 = 2_000;
    let limits = Limits { commits_pending_max: 100_000, commit_bytes_pending_max: 1 << 30, ..Limits::default() };
    let disk = Disk::new(limits).await;
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = sizes.clone();
    disk.control.look(move |batch| {
        let cells: BTreeSet<_> = batch.cells.iter().map(|row| (row.space, row.name.clone())).collect();
        assert_eq!(cells.len(), batch.cells.len(), "a cell stands once");
        assert!(batch.queued.iter().all(|queued| !batch.taken.contains(&queued.position)), "taken or queued");
        assert!(batch.dead.iter().all(|letter| !batch.buried.contains(&letter.position)), "buried or dead");
        let bytes: usize = batch.log.iter().map(|entry| entry.record.len()).sum();
        seen.lock().unwrap().push((batch.log.len(), bytes));
    });
    disk.control.hold();
    for (charm, events, bytes) in [(disk.a, EVENTS, 1), (disk.b, 60, 200_000)] {
        // Each is accepted and handled; none is acknowledged yet.
        for n in 0..events {
            let steps = json!([["set", "x", [], format!("{n} {}", "x".repeat(bytes))]]);
            let (host, event) = (disk.host.clone(), NewEvent::new(charm, "run", script(steps)));
            tokio::spawn(async move { host.send(event).await });
        }
        disk.committed(charm, events).await;
    }
    disk.control.release();
    settle(&disk.host).await;
    let sizes = sizes.lock().unwrap();
    assert_eq!(sizes.iter().map(|(commits, _)| *commits).max(), Some(1_024), "{sizes:?}");
    // Records are a little more than what they carry.
    let (most, over) = (8 << 20, 300_000);
    assert!(sizes.iter().all(|(_, bytes)| *bytes < most + over), "{sizes:?}");
    assert!(sizes.iter().any(|(_, bytes)| *bytes > most - over), "{sizes:?}");
    disk.host.verify(&disk.a).unwrap();
}

/// A host that found the disk full while it opened said so, but a task of it kept the store: no other host could open
/// it until the process ended. (T8)
#[tokio::test]
async fn a_host_that_does_not_open_on_a_full_disk_lets_go_of_the_store() {
    let (store, control) = GatedStore::new(MemoryStore::new());
    control.fail(Some(StoreError::Full));
    let refused = builder().store(store).open().await.err();
    assert!(matches!(refused, Some(OpenError::Unavailable(Unavailable::DiskFull))), "{refused:?}");
    control.closed().await;
}

/// An install that the disk refused left its space in memory; the next one found it there and handed out a DID that
/// a crash would have taken back. (T8)
#[tokio::test]
async fn a_charm_that_a_full_disk_refused_is_installed_only_when_its_space_is_durable() {
    let memory = MemoryStore::new();
    let (store, control) = GatedStore::new(memory.clone());
    let host = builder().store(store).open().await.unwrap();
    control.fail(Some(StoreError::Full));
    for _ in 0..2 {
        let refused = host.install(probe_charm("a")).await;
        assert!(matches!(refused, Err(InstallError::Unavailable(Unavailable::DiskFull))), "{refused:?}");
    }
    control.fail(None);
    let install = async {
        loop {
            match host.install(probe_charm("a")).await {
                Err(InstallError::Unavailable(Unavailable::DiskFull)) => tokio::task::yield_now().await,
                installed => return installed.unwrap(),
            }
        }
    };
    let a = tokio::time::timeout(Duration::from_secs(30), install).await.expect("there is space again");
    drop(host);
    let archive = Archive::open(memory).unwrap();
    assert!(archive.spaces().iter().any(|space| space.did == a), "the store knows whom it was handed out for");
}

/// T5, T8: shutting down makes everything durable that has run.
#[tokio::test]
async fn what_ran_before_a_shutdown_is_there_after_it() {
    let home = Home::default();
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    let note = json!(["send", of(b, "note"), 1, { "stream": "on-receipt" }]);
    let ids = [send(&host, a, json!([["repeat", 50, note]])).await, send(&host, b, json!([["set", "x", [], 1]])).await];
    host.shutdown().await.unwrap();
    let host = home.open().await;
    assert_eq!((host.did_of("a"), host.did_of("b")), (Some(a), Some(b)));
    pair(&host).await;
    for id in ids {
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    }
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await.as_array().unwrap().len(), 50);
    assert_eq!(cell(&host, a, "receipts").await.as_array().unwrap().len(), 50);
    assert_eq!(cell(&host, b, "x").await, json!(1));
}
