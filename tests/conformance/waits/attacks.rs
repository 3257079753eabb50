//! Turns under way, and everything that may happen to them meanwhile.

use std::time::Duration;

use charm_conformance::{GatedStore, Home, Keys, Logs, Wire, note, probe_charm};
use charm_host::{
    Archive, Charm, Did, EventId, FileKeyring, FolderStore, Host, MemoryStore, RECEIPTS_PAUSE_MS, Receipt, Store,
    StoreError,
};

use super::*;

#[allow(dead_code, reason = "one charm by hand is enough here")]
#[path = "../raw.rs"]
mod raw;

/// The longest wait that a host allows, as it comes.
const WEEK_MS: u64 = 7 * 24 * 3_600_000;

/// Fails when something does not end: a test that hangs names nothing.
async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn ended(host: &Host, id: &EventId) -> Receipt {
    in_time("the turn ends", host.receipt(id)).await.unwrap().unwrap()
}

/// The fuel of each part of a turn: its segments, and its end.
fn fuel(archive: &Archive, event: &EventId) -> Vec<u64> {
    let commits = archive.commits(None, 0, usize::MAX >> 1).unwrap();
    let of = commits.iter().filter(|commit| commit.record.handles() == Some(*event));
    of.filter_map(|commit| {
        let record = &commit.record;
        record.segment().map(|segment| segment.ran.fuel).or_else(|| Some(record.turn()?.ran?.fuel))
    })
    .collect()
}

/// A host on a store, as the next process opens it.
async fn next(store: &MemoryStore, keys: &Keys, limits: Limits) -> Host {
    builder().store(store.clone()).keyring(keys.clone()).limits(limits).open().await.unwrap()
}

/// Waits for each of them, with work before and after.
fn waits_for(others: &[Did]) -> Json {
    let part = |(at, other): (usize, &Did)| {
        let other = *other;
        let send = json!(["send", of(other, "note"), at]);
        [send, wait_all(&[at]), json!(["get", of(other, "notes"), []]), json!(["context"])]
    };
    json!(others.iter().enumerate().flat_map(part).collect::<Vec<_>>())
}

/// S8, A5: replays take no fuel of the turn: it is the same, to the unit, in slices of any size, and whether or not a host ended
/// between.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_takes_the_same_fuel_however_often_it_is_replayed() {
    let mut all = Vec::new();
    for (fuel_slice, ends) in [(1_000_000, false), (700, false), (5_000, true), (1 << 40, true)] {
        let (store, keys) = (MemoryStore::new(), Keys::default());
        let limits = Limits { fuel_slice, ..Limits::default() };
        let mut host = next(&store, &keys, limits.clone()).await;
        let names = ["a", "b", "c", "d"];
        let charms = probes(&host, names).await;
        let (a, others) = (charms[0], &charms[1..]);
        for other in others {
            host.pause(other).await.unwrap();
        }
        let segments = || Store::load(&store, None).unwrap().turns.first().map_or(0, |row| row.progress.segments);
        let id = send(&host, a, waits_for(others)).await;
        for (n, other) in (1..).zip(others) {
            until("it waits", || segments() == n).await;
            if ends {
                host.shutdown().await.unwrap();
                host = next(&store, &keys, limits.clone()).await;
                assert_eq!(probes(&host, names).await, charms);
            }
            host.resume(other).await.unwrap();
        }
        assert_eq!(ended(&host, &id).await.outcome, Outcome::Committed);
        host.shutdown().await.unwrap();
        all.push(fuel(&Archive::open(store).unwrap(), &id));
    }
    assert_eq!(all[0].len(), 4, "{all:?}");
    assert!(all[0].is_sorted(), "{all:?}");
    assert!(all.iter().all(|fuel| *fuel == all[0]), "{all:?}");
}

/// S8, A5: a turn whose fuel ends about a wait is out of fuel, on this side of it or on the other, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_runs_out_of_fuel_about_a_wait_is_out_of_fuel() {
    let run_with = async |fuel_max: u64| {
        let (store, keys) = (MemoryStore::new(), Keys::default());
        let host = next(&store, &keys, Limits { fuel_max, ..Limits::default() }).await;
        let (a, b) = pair(&host).await;
        let id = send(&host, a, json!([["send", of(b, "note"), 1], wait_all(&[0]), ["set", "x", [], 1]])).await;
        let receipt = ended(&host, &id).await;
        settle(&host).await;
        host.verify_store().unwrap();
        host.shutdown().await.unwrap();
        (receipt, fuel(&Archive::open(store).unwrap(), &id))
    };
    let (_, whole) = run_with(Limits::default().fuel_max).await;
    assert_eq!(whole.len(), 2, "{whole:?}");
    for (at, of) in whole.iter().enumerate() {
        for fuel_max in [of - 5_001, of - 1, *of, of + 1] {
            let (receipt, taken) = run_with(fuel_max).await;
            let shown = format!("{fuel_max} of {whole:?}: {receipt:?} {taken:?}");
            if at == 1 && fuel_max > *of {
                assert_eq!((receipt.outcome, taken), (Outcome::Committed, whole.clone()), "{shown}");
                continue;
            }
            assert_eq!(receipt.outcome, Outcome::Faulted, "{shown}");
            assert!(receipt.message.unwrap().starts_with("over fuel-max"), "{shown}");
            let is_behind = fuel_max > whole[0];
            assert_eq!((receipt.commit.is_some(), taken.len()), (is_behind, usize::from(is_behind)), "{shown}");
        }
    }
}

/// U1, S8: what is recorded is decided by the component that runs, not by the one that had the attempt before.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_began_with_a_component_that_does_not_wait_waits_with_the_next() {
    let wire = Wire::gated();
    let host = builder().transport(wire.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let asks = raw::hostile("(call $get-url (i32.const 81) (i32.const 18) (i32.const 0) (i32.const 0))");
    host.install(Charm::new("a", asks).may_call(Wire::grant())).await.unwrap();
    let told = json!([["get", of(b, "notes"), []], ["send", of(b, "note"), 1], wait_all(&[0]), ["set", "x", [], 1]]);
    let id = send(&host, a, told).await;
    wire.arrived(1).await;
    host.install(probe_charm("a")).await.unwrap();
    wire.release(1);
    let receipt = ended(&host, &id).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    host.shutdown().await.unwrap();
}

/// S5, S7: receipts go with time, but not those that a turn under way is told of: after the next start too.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_stays_while_its_senders_turn_is_under_way() {
    let (store, keys, clock, hold) = (MemoryStore::new(), Keys::default(), Clock::new(), Hold::new());
    let limits = Limits { receipts_ms: 1_000, ..Limits::default() };
    let open = async || {
        let host = builder().store(store.clone()).keyring(keys.clone()).limits(limits.clone());
        host.env(clock.clone()).open().await.unwrap()
    };
    let host = open().await;
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    let slow = json!(["send", of(c, "run"), steps(json!([hold.step()]))]);
    let waits = json!([["send", of(b, "note"), 1], slow, ["wait", [0, 1], "all", WEEK_MS], ["set", "x", [], 1]]);
    let id = send(&host, a, waits).await;
    hold.arrived(1).await;
    until("b has handled it", || counted(&host).waiting == 2).await;
    let other = note(&host, b, json!(2)).await.id;
    for _ in 0..3 {
        clock.jump(10_000);
        clock.pass(Duration::from_millis(RECEIPTS_PAUSE_MS));
        note(&host, b, json!(3)).await;
    }
    until("receipts go", || matches!(host.status(&other).unwrap(), Status::Unknown)).await;
    host.shutdown_within(Duration::ZERO).await.unwrap();
    hold.release(1);
    let host = open().await;
    assert_eq!(probes(&host, ["a", "b", "c"]).await, [a, b, c]);
    hold.arrived(2).await;
    hold.release(1);
    assert_eq!(ended(&host, &id).await.outcome, Outcome::Committed);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// U1, S7: uninstalled while it waits, and over its time: it goes on when it is back, with what is there then.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_that_is_uninstalled_while_its_turn_waits_goes_on_when_it_is_back() {
    for in_time in [true, false] {
        let (clock, hold) = (Clock::new(), Hold::new());
        let host = builder().env(clock.clone()).open().await.unwrap();
        let (a, b) = pair(&host).await;
        let slow = json!(["send", of(b, "run"), steps(json!([hold.step()]))]);
        let event = steps(json!([slow, ["wait", [0], "all", 5_000], ["get", "x", []]]));
        let event = json!({ "steps": event["steps"], "out": "out" });
        let id = host.send(NewEvent::new(a, "run", value(event))).await.unwrap();
        hold.arrived(1).await;
        host.uninstall(&a).await.unwrap();
        if in_time {
            hold.release(1);
            until("b has handled it", || counted(&host).waiting == 1).await;
        } else {
            clock.jump(6_000);
            clock.pass(Duration::from_secs(6));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(matches!(host.status(&id).unwrap(), Status::Waiting { .. }));
        assert_eq!(pair(&host).await, (a, b));
        assert_eq!(ended(&host, &id).await.outcome, Outcome::Committed);
        assert_eq!(cell(&host, a, "out").await[1][0].is_null(), !in_time);
        hold.release(1);
        settle(&host).await;
        host.shutdown().await.unwrap();
    }
}

/// S8: what a turn was told cannot be read for a while: it goes on when it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_goes_on_when_its_recording_can_be_read_again() {
    let logs = Logs::capture();
    let (store, control) = GatedStore::new(MemoryStore::new());
    let host = builder().store(store).open().await.unwrap();
    let (a, b) = pair(&host).await;
    host.pause(&b).await.unwrap();
    let before = commits(&host, a);
    let id = send(&host, a, json!([["send", of(b, "note"), 1], wait_all(&[0]), ["set", "x", [], 1]])).await;
    until("it waits", || commits(&host, a) == before + 2).await;
    control.fail_look_ups(Some(StoreError::Failed("the disk is away".to_owned())));
    host.resume(&b).await.unwrap();
    until("b has handled it", || counted(&host).waiting == 1).await;
    until("it is told", || !logs.lines(&id.to_string()).iter().all(|line| !line.contains("the disk is away"))).await;
    control.fail_look_ups(None);
    assert_eq!(ended(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, a, "x").await, 1);
    host.shutdown().await.unwrap();
}

/// A5: limits that are less in the next host end no turn by another name than theirs.
#[tokio::test(flavor = "multi_thread")]
async fn limits_that_shrink_between_two_hosts_are_met_by_their_names() {
    type Set = fn(&mut Limits);
    let less: [(&str, Set); 4] = [
        ("over fuel-max", |limits| limits.fuel_max = 20_000),
        ("recording-bytes-max", |limits| limits.recording_bytes_max = 0),
        ("waits-max", |limits| limits.waits_max = 0),
        ("sends-max", |limits| limits.sends_max = 0),
    ];
    for (name, shrink) in less {
        let (store, keys, mut limits) = (MemoryStore::new(), Keys::default(), Limits::default());
        let host = next(&store, &keys, limits.clone()).await;
        let (a, b) = pair(&host).await;
        host.pause(&b).await.unwrap();
        let before = commits(&host, a);
        let event = json!([
            ["set", "x", [], 1],
            ["send", of(b, "note"), 1],
            wait_all(&[0]),
            ["set", "x", [], 2],
            ["send", of(b, "note"), 1],
            wait_all(&[1])
        ]);
        let id = send(&host, a, event).await;
        until("it waits", || commits(&host, a) == before + 2).await;
        host.shutdown().await.unwrap();
        shrink(&mut limits);
        let host = next(&store, &keys, limits).await;
        assert_eq!(pair(&host).await, (a, b));
        host.resume(&b).await.unwrap();
        let receipt = ended(&host, &id).await;
        assert!(receipt.outcome != Outcome::Committed, "{receipt:?}");
        assert!(receipt.message.as_ref().unwrap().contains(name), "{name}: {receipt:?}");
        assert_eq!((receipt.commit, cell(&host, a, "x").await), (Some(before + 2), json!(1)), "{name}");
        host.verify_store().unwrap();
        host.shutdown().await.unwrap();
    }
}

/// H1: a past goes while turns of its charm are under way, which go on from where they were, in the next host too; what they were
/// told of another's past is still so when that has gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_past_goes_while_turns_of_its_charm_are_under_way_and_they_go_on() {
    let (store, keys, hold) = (MemoryStore::new(), Keys::default(), Hold::new());
    let host = next(&store, &keys, Limits::default()).await;
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    run(&host, a, json!([["trap"]])).await;
    let slow = json!(["send", of(c, "run"), steps(json!([hold.step()]))]);
    let again = json!(["send", of(c, "run"), steps(json!([hold.step(), ["set", "x", [], 1]]))]);
    // What waits long is on disk, and told all the same.
    let long = "x".repeat(5_000);
    let event = json!([
        ["set", "x", [], "first"],
        ["send", of(b, "run"), steps(json!([["reject", "no"], long]))],
        slow,
        wait_all(&[0, 1]),
        again,
        wait_all(&[2]),
        ["set", "x", [], "last"]
    ]);
    let id = send(&host, a, event).await;
    hold.arrived(1).await;
    until("b has handled it", || counted(&host).waiting == 2).await;
    for charm in [a, b] {
        in_time("it goes", host.prune(&charm)).await.unwrap();
    }
    assert!(host.spaces().iter().find(|space| space.did == a).unwrap().floor > 0);
    host.verify_store().unwrap();
    host.shutdown_within(Duration::ZERO).await.unwrap();
    hold.release(1);
    let host = next(&store, &keys, Limits::default()).await;
    host.verify_store().unwrap();
    assert_eq!(probes(&host, ["a", "b", "c"]).await, [a, b, c]);
    hold.arrived(2).await;
    hold.release(1);
    hold.arrived(3).await;
    // Its first segment has gone, the second stands in the log.
    host.verify_store().unwrap();
    in_time("it goes again", host.prune(&a)).await.unwrap();
    host.verify_store().unwrap();
    hold.release(1);
    assert_eq!(ended(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, a, "x").await, "last");
    host.verify_store().unwrap();
    in_time("it goes", host.prune(&a)).await.unwrap();
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// A copy of a store has the turns that are under way: a host goes on with them there.
#[tokio::test(flavor = "multi_thread")]
async fn turns_under_way_go_on_in_a_copy_of_their_store() {
    let (home, hold) = (Home::default(), Hold::new());
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    let slow = json!(["send", of(b, "run"), steps(json!([hold.step()]))]);
    let id = send(&host, a, json!([["set", "x", [], 1], slow, wait_all(&[0]), ["set", "x", [], 2]])).await;
    hold.arrived(1).await;
    let to = home.path().join("copy");
    host.backup(&to).unwrap();
    host.shutdown_within(Duration::ZERO).await.unwrap();
    hold.release(1);
    Archive::open(FolderStore::open_read_only(&to).unwrap()).unwrap().verify_store().unwrap();
    let store = FolderStore::open(&to).unwrap();
    let host = builder().store(store).keyring(FileKeyring::open(home.keys()).unwrap()).open().await.unwrap();
    assert_eq!(pair(&host).await, (a, b));
    hold.arrived(2).await;
    hold.release(1);
    assert_eq!(ended(&host, &id).await.outcome, Outcome::Committed);
    assert_eq!(cell(&host, a, "x").await, 2);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// S8, S11: a replay says nothing again, also behind an exchange and a conflict; a dead letter sent again is a turn from the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_says_nothing_again_and_a_letter_sent_again_begins_anew() {
    let (logs, wire) = (Logs::capture(), Wire::open());
    let host = builder().transport(wire.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    let fetch = json!(["fetch", { "url": "https://wire.test/x" }]);
    let event = json!([
        ["log", "info", "first line"],
        fetch,
        ["log", "info", "second line"],
        ["send", of(b, "note"), 1],
        wait_all(&[0]),
        ["log", "info", "third line"],
        fetch,
        ["log", "info", "fourth line"],
        ["send", of(b, "note"), 2],
        wait_all(&[1]),
        ["trap"]
    ]);
    let first = run(&host, a, event).await;
    assert_eq!((first.outcome, first.commit.is_some()), (Outcome::Faulted, true), "{first:?}");
    let said = |id: &EventId| {
        let lines = logs.lines(&id.to_string());
        let said = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
        ["first line", "second line", "third line", "fourth line"].map(said)
    };
    assert_eq!((said(&first.id), wire.count()), ([1; 4], 2));
    let again = host.resend(&a, &first.id).await.unwrap();
    assert_eq!(receipt(&host, &again).await.outcome, Outcome::Faulted);
    settle(&host).await;
    assert_eq!((said(&again), wire.count()), ([1; 4], 4));
    assert_eq!(cell(&host, b, "notes").await, json!([1, 2, 1, 2]), "what was committed at its waits stays");
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}
