//! Shares (A6): who floods, writes, sends or logs without end gets what others leave, and they get theirs.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::FutureExt;
use serde_json::Value as Json;

use super::*;

/// A victim whose turn waits for a held answer, a flooder and a quiet sender that may send to it, and one outside.
struct Inbox {
    host: Host,
    wire: Wire,
    victim: Did,
    flooder: Did,
    quiet: Did,
    outside: Did,
}

impl Inbox {
    /// What the victim does after its wait stands in `steps`.
    async fn open(limits: Limits, mut steps: Vec<Json>) -> Inbox {
        let wire = Wire::gated();
        let host = builder().transport(wire.clone()).limits(Limits { room_ms_max: 0, ..limits }).open().await.unwrap();
        let victim = host.install(probe_charm("victim").may_call(Wire::grant())).await.unwrap();
        let may_note = |name| probe_charm(name).may_send(victim, only(&["note"]));
        let flooder = host.install(may_note("flooder")).await.unwrap();
        let quiet = host.install(may_note("quiet")).await.unwrap();
        let outside = did();
        grant(&host, outside, [].into(), [(victim, only(&["note"]))].into()).await.unwrap();
        steps.insert(0, json!(["fetch", { "url": WIRE }]));
        send(&host, victim, Json::Array(steps)).await;
        wire.arrived(1).await;
        Inbox { host, wire, victim, flooder, quiet, outside }
    }

    /// Sends notes from a charm, one a turn; returns how many were taken.
    async fn notes(&self, from: Did, text: &str, count: usize) -> usize {
        let mut taken = 0;
        for n in 0..count {
            let step = json!([["try", ["send", of(self.victim, "note"), format!("{text} {n}")]]]);
            taken += usize::from(results(&self.host, from, step).await[0]["ok"].is_string());
        }
        taken
    }

    /// Sends notes from outside; returns how many were taken.
    async fn notes_outside(&self, sender: Did, text: &str, count: usize) -> usize {
        let mut taken = 0;
        for n in 0..count {
            let note = NewEvent::new(self.victim, "note", value(json!(format!("{text} {n}")))).from(sender);
            match self.host.send(note).await {
                Ok(_) => taken += 1,
                Err(error) => assert_eq!(error, SendError::QueueFull { to: self.victim }),
            }
        }
        taken
    }

    /// Lets the victim go on; returns what it was sent, in the order in which it handled it.
    async fn handled(&self) -> Vec<String> {
        self.wire.release(1);
        settle(&self.host).await;
        serde_json::from_value(cell(&self.host, self.victim, "notes").await).unwrap()
    }
}

/// Returns another DID that belongs to no charm.
fn did() -> Did {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&LAST.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    MemoryKeyring::default().create(&zeroize::Zeroizing::new(seed)).unwrap()
}

/// Sends itself its event again, for ever.
const FOR_EVER: &str = "(call $send (call $stream) (local.get $event) (local.get $event-bytes))";

async fn for_ever(host: &Host, name: &str) -> Did {
    host.install(Charm::new(name, raw::charm(&[("in handle", FOR_EVER)]))).await.unwrap()
}

fn notes_on(host: &Host, charm: Did) -> Notes {
    host.spaces().iter().find(|space| space.did == charm).unwrap().notes
}

/// Asserts that whoever has `senders` beside it has its n-th event handled among the first n rounds.
fn is_fair(handled: &[String], senders: usize) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, note) in handled.iter().enumerate() {
        let (sender, _) = note.split_once(' ').unwrap();
        let number = seen.entry(sender).or_default();
        *number += 1;
        if sender != "flood" {
            assert!(index < *number * senders, "{note} is number {index} in {handled:?}");
        }
    }
}

/// A6, S12: a flooder takes at most half of an inbox; a quiet charm, the operator, one outside and the victim itself find
/// room for all they send, and each has its n-th event handled in the n-th round.
#[tokio::test(flavor = "multi_thread")]
async fn one_sender_that_floods_an_inbox_hurts_no_other() {
    let own = json!(["repeat", 10, ["send", "note", "own 0", { "stream": "on-receipt", "tag": 1 }]]);
    let inbox = Inbox::open(Limits { inbox_events_max: 60, ..Limits::default() }, vec![own]).await;
    assert_eq!(inbox.notes(inbox.flooder, "flood", 40).await, 30);
    assert_eq!(inbox.notes(inbox.quiet, "quiet", 10).await, 10);
    assert_eq!(inbox.notes_outside(inbox.host.operator(), "operator", 25).await, 25);
    assert_eq!(inbox.notes_outside(inbox.outside, "outside", 5).await, 5);
    let handled = inbox.handled().await;
    assert_eq!(handled.len(), 80, "{handled:?}");
    is_fair(&handled, 6);
    let receipts = cell(&inbox.host, inbox.victim, "receipts").await;
    assert_eq!(receipts.as_array().map(Vec::len), Some(10), "{receipts}");
}

/// A6, S12: the same in bytes: few large events.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_large_events_leaves_room_for_others() {
    let inbox = Inbox::open(Limits { inbox_bytes_max: 100_000, ..Limits::default() }, Vec::new()).await;
    let large = format!("flood {}", "x".repeat(10_000));
    assert_eq!(inbox.notes(inbox.flooder, &large, 10).await, 4);
    assert_eq!(inbox.notes(inbox.quiet, &format!("quiet {}", "x".repeat(1_000)), 10).await, 10);
    // More than the others leave free.
    let operator = format!("operator {}", "x".repeat(6_000));
    assert_eq!(inbox.notes_outside(inbox.host.operator(), &operator, 10).await, 10);
    assert_eq!(inbox.handled().await.len(), 24);
}

/// A6, S12: however many DIDs one outside makes up, together they have the room of one charm, and its turns.
#[tokio::test(flavor = "multi_thread")]
async fn many_dids_outside_have_the_share_of_one_charm() {
    let inbox = Inbox::open(Limits { inbox_events_max: 60, ..Limits::default() }, Vec::new()).await;
    let mut taken = 0;
    for n in 0..60 {
        let sybil = did();
        grant(&inbox.host, sybil, [].into(), [(inbox.victim, only(&["note"]))].into()).await.unwrap();
        taken += inbox.notes_outside(sybil, &format!("flood {n}"), 1).await;
    }
    assert_eq!(taken, 30);
    assert_eq!(inbox.notes(inbox.quiet, "quiet", 10).await, 10);
    assert_eq!(inbox.notes_outside(inbox.host.operator(), "operator", 59).await, 59);
    is_fair(&inbox.handled().await, 4);
}

/// A6, S12: one outside that floods leaves room for another outside, and its turns.
#[tokio::test(flavor = "multi_thread")]
async fn one_outside_that_floods_leaves_room_for_another() {
    let inbox = Inbox::open(Limits { inbox_events_max: 60, ..Limits::default() }, Vec::new()).await;
    let flooder = did();
    grant(&inbox.host, flooder, [].into(), [(inbox.victim, only(&["note"]))].into()).await.unwrap();
    assert_eq!(inbox.notes_outside(flooder, "flood", 60).await, 20);
    assert_eq!(inbox.notes_outside(inbox.outside, "outside", 5).await, 5);
    is_fair(&inbox.handled().await, 2);
}

/// A6, S12: many charms of one author: each fills its part, and the first event of another still finds room.
#[tokio::test(flavor = "multi_thread")]
async fn many_charms_that_flood_leave_a_first_event_for_each_other() {
    let inbox = Inbox::open(Limits { inbox_events_max: 8, ..Limits::default() }, Vec::new()).await;
    for n in 0..8 {
        let name = format!("flooder-{n}");
        let flooder = inbox.host.install(probe_charm(&name).may_send(inbox.victim, only(&["note"]))).await.unwrap();
        assert!(inbox.notes(flooder, "flood", 5).await >= 1);
    }
    assert_eq!(inbox.notes(inbox.quiet, "quiet", 1).await, 1);
    assert_eq!(inbox.notes_outside(inbox.host.operator(), "operator", 7).await, 7);
    is_fair(&inbox.handled().await, 10);
}

/// A6: a charm that sends itself an event for ever is named once, and a pause stops it, over a restart too, until it
/// is resumed. Nothing that waits is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_without_end_is_named_once_and_a_pause_stops_it() {
    let store = MemoryStore::new();
    let limits = Limits { chain_burst_events: 50, ..Limits::default() };
    let keyring = Keys::default();
    let open = || builder().store(store.clone()).keyring(keyring.clone()).limits(limits.clone()).open();
    let host = open().await.unwrap();
    let chain = for_ever(&host, "chain").await;
    host.send(NewEvent::new(chain, "run", value(json!(1)))).await.unwrap();
    until("the chain is named", || notes_on(&host, chain).chain > 0).await;
    let named = notes_on(&host, chain).chain;
    assert!((51..500).contains(&named), "{named}");
    until("it goes on", || decided(chain) > 2 * named).await;
    assert_eq!(notes_on(&host, chain).chain, named, "it is named once");

    host.pause(&chain).await.unwrap();
    settle(&host).await;
    let before = commits(&host, chain);
    host.send(NewEvent::new(chain, "run", value(json!(2)))).await.unwrap();
    host.shutdown().await.unwrap();

    let host = open().await.unwrap();
    let again = for_ever(&host, "chain").await;
    assert_eq!(again, chain);
    is_served(&host, probe(&host, "neighbour").await).await;
    assert!(notes_on(&host, chain).paused);
    let waiting = waiting(&host, chain).await.len() as u64;
    assert!(commits(&host, chain) <= before + 2, "the event that came, and at most the turn that ran then");
    assert_eq!(waiting, 2, "the chain's event and the one that came");
    host.resume(&chain).await.unwrap();
    until("it goes on", || commits(&host, chain) > before + 10).await;
    host.pause(&chain).await.unwrap();
    let stranger = did();
    assert_eq!(host.pause(&stranger).await, Err(SendError::NoSuchCharm { to: stranger }));
}

/// Charms that are paused, each with notes that wait, and a disk that can be held.
struct Disk {
    host: Host,
    control: Control,
    charms: Vec<Did>,
}

impl Disk {
    async fn open(limits: Limits, notes: &[(&str, usize)]) -> Disk {
        let (store, control) = GatedStore::new(MemoryStore::new());
        let host = builder().store(store).limits(limits).open().await.unwrap();
        let mut charms = Vec::new();
        for (name, count) in notes {
            let charm = probe(&host, name).await;
            host.pause(&charm).await.unwrap();
            for n in 0..*count {
                host.send(NewEvent::new(charm, "note", value(json!(n)))).await.unwrap();
            }
            charms.push(charm);
        }
        Disk { host, control, charms }
    }

    /// Lets a charm go on while the disk is held: nothing comes back from there.
    fn resume(&self, charm: Did) {
        assert!(self.host.resume(&charm).now_or_never().is_none());
    }

    async fn commits(&self, charm: Did, count: u64) {
        until("as many turns commit as may", || decided(charm) >= count).await;
    }
}

/// A6: while the disk does not keep up, a charm that writes without end has an eighth of the commits that wait for it,
/// and the others get theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_that_writes_without_end_leaves_others_their_commits() {
    let limits = Limits { commits_pending_max: 16, ..Limits::default() };
    let disk = Disk::open(limits, &[("first", 1), ("bulk", 12), ("second", 2)]).await;
    let [first, bulk, second] = disk.charms[..] else { panic!("three charms") };
    disk.control.hold();
    disk.resume(first);
    disk.commits(first, 1).await;
    disk.resume(bulk);
    disk.commits(bulk, 2).await;
    disk.resume(second);
    disk.commits(second, 2).await;
    assert_eq!(decided(bulk), 2, "it has its share, and is passed over");
    disk.control.release();
    settle(&disk.host).await;
    disk.commits(bulk, 12).await;
}

/// A6: alone it may use all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_that_writes_alone_has_the_disk() {
    let limits = Limits { commits_pending_max: 16, ..Limits::default() };
    let disk = Disk::open(limits, &[("bulk", 12)]).await;
    disk.control.hold();
    disk.resume(disk.charms[0]);
    disk.commits(disk.charms[0], 12).await;
    disk.control.release();
    settle(&disk.host).await;
}

/// A6: the same in bytes: of large commits one waits at a time, and they leave room for small ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_that_writes_much_leaves_others_their_bytes() {
    let limits = Limits { commit_bytes_pending_max: 400_000, ..Limits::default() };
    let disk = Disk::open(limits, &[("first", 1), ("bulk", 0), ("second", 5)]).await;
    let [first, bulk, second] = disk.charms[..] else { panic!("three charms") };
    for n in 0..5 {
        let note =
            NewEvent::new(bulk, "run", script(json!([["set", "much", [], format!("{n} {}", "x".repeat(60_000))]])));
        disk.host.send(note).await.unwrap();
    }
    disk.host.resume(&bulk).await.unwrap();
    settle(&disk.host).await;
    disk.host.pause(&bulk).await.unwrap();
    for n in 0..5 {
        let note =
            NewEvent::new(bulk, "run", script(json!([["set", "much", [], format!("{n} {}", "y".repeat(60_000))]])));
        disk.host.send(note).await.unwrap();
    }
    disk.control.hold();
    disk.resume(first);
    disk.commits(first, 1).await;
    disk.resume(bulk);
    disk.commits(bulk, 6).await;
    disk.resume(second);
    disk.commits(second, 5).await;
    assert_eq!(decided(bulk), 6, "it has its share, and is passed over");
    disk.control.release();
    settle(&disk.host).await;
    disk.commits(bulk, 10).await;
}

/// A6: many charms that each have one large commit on its way leave room for small ones too.
#[tokio::test(flavor = "multi_thread")]
async fn charms_that_write_much_together_leave_others_their_bytes() {
    let limits = Limits { commit_bytes_pending_max: 400_000, ..Limits::default() };
    let bulk: Vec<String> = (0..8).map(|number| format!("bulk-{number}")).collect();
    let mut names = vec![("first", 1), ("second", 3)];
    names.extend(bulk.iter().map(|name| (&**name, 0)));
    let disk = Disk::open(limits, &names).await;
    let (first, second, bulk) = (disk.charms[0], disk.charms[1], &disk.charms[2..]);
    // A first one while the disk keeps up: as large as its last one a charm's next commit is taken to be.
    for round in ["x", "y"] {
        for charm in bulk {
            let much = json!([["set", "much", [], round.repeat(60_000)]]);
            let id = send(&disk.host, *charm, much).await;
            if round == "x" {
                disk.host.resume(charm).await.unwrap();
                assert_eq!(receipt(&disk.host, &id).await.outcome, Outcome::Committed);
                disk.host.pause(charm).await.unwrap();
            }
        }
    }
    disk.control.hold();
    disk.resume(first);
    disk.commits(first, 1).await;
    bulk.iter().for_each(|charm| disk.resume(*charm));
    let large = || bulk.iter().map(|charm| decided(*charm) - 1).sum::<u64>();
    until("as many large commits as may", || large() >= 5).await;
    disk.resume(second);
    disk.commits(second, 3).await;
    assert_eq!(large(), 5, "the last of them leaves as much room as it takes");
    disk.control.release();
    settle(&disk.host).await;
    assert_eq!(large(), 8);
}

/// A6: who has written its burst begins no turn before its rate allows it; others do.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_over_its_rate_of_writing_waits_and_nobody_else_does() {
    let limits = Limits { disk_bytes_per_second: 1, disk_burst_bytes: 30_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let (bulk, neighbour) = (probe(&host, "bulk").await, probe(&host, "neighbour").await);
    run(&host, bulk, json!([["set", "much", [], "x".repeat(31_000 - 2 * ROW_BYTES)]])).await;
    host.send(NewEvent::new(bulk, "note", value(json!(1)))).await.unwrap();
    for _ in 0..10 {
        is_served(&host, neighbour).await;
    }
    assert_eq!((decided(bulk), waiting(&host, bulk).await.len()), (1, 1));
}

/// A6: it goes on when its rate allows it. On one thread: nothing that the host did before wakes it by chance.
#[tokio::test(flavor = "current_thread")]
async fn a_charm_over_its_rate_of_writing_goes_on_in_time() {
    let clock = Clock::new();
    let limits = Limits { disk_bytes_per_second: 1_000, disk_burst_bytes: 20_000, ..Limits::default() };
    let host = builder().env(clock.clone()).limits(limits).open().await.unwrap();
    let bulk = probe(&host, "bulk").await;
    run(&host, bulk, json!([["set", "much", [], "x".repeat(60_000)]])).await;
    let id = host.send(NewEvent::new(bulk, "note", value(json!(1)))).await.unwrap();
    clock.pass(Duration::from_secs(10));
    is_served(&host, probe(&host, "neighbour").await).await;
    assert_eq!(decided(bulk), 1, "it is ahead by more than the burst");
    clock.pass(Duration::from_secs(40));
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
}

/// A6: a chain that is deep and fast has its turns when nobody else wants one.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_without_end_is_served_after_everybody_else() {
    let store = MemoryStore::new();
    let limits = Limits { chain_burst_events: 50, chain_events_per_second: 10, turns_max: 1, ..Limits::default() };
    let host = builder().store(store.clone()).limits(limits).open().await.unwrap();
    let honest = probe(&host, "honest").await;
    host.pause(&honest).await.unwrap();
    for n in 0..100 {
        host.send(NewEvent::new(honest, "note", value(json!(n)))).await.unwrap();
    }
    let chain = for_ever(&host, "chain").await;
    host.send(NewEvent::new(chain, "run", value(json!(1)))).await.unwrap();
    until("the chain is named", || notes_on(&host, chain).chain > 0).await;
    host.resume(&honest).await.unwrap();
    until("the honest charm is served", || decided(honest) == 100).await;
    host.pause(&chain).await.unwrap();
    host.shutdown().await.unwrap();
    let commits = Archive::open(store).unwrap().commits(None, 0, usize::MAX >> 1).unwrap();
    let turns = commits.iter().filter(|commit| commit.taken.is_some());
    let turns: Vec<Did> = turns.map(|commit| commit.record.space).collect();
    let first = turns.iter().position(|space| *space == honest).unwrap();
    let last = turns.iter().rposition(|space| *space == honest).unwrap();
    let between = turns[first..last].iter().filter(|space| **space == chain).count();
    assert!(between <= 3, "{between} turns of the chain");
}

/// A5: what a charm logs over all its turns is bounded: the rest is dropped, which is told once and stands in the notes.
/// Others log as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_that_logs_without_end_fills_no_log() {
    let logs = Logs::capture();
    let limits = Limits { log_bytes_per_second: 1, log_burst_bytes: 10_000, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let (loud, neighbour) = (probe(&host, "loud").await, probe(&host, "neighbour").await);
    for turn in 0..10 {
        let line = format!("flood {turn} {}", "x".repeat(1_000));
        run(&host, loud, json!([["repeat", 15, ["log", "warn", line]], ["set", "n", [], turn]])).await;
        run(&host, neighbour, json!([["log", "info", format!("heard {turn} {neighbour}")]])).await;
    }
    let of = |part: &str| logs.lines(part).iter().filter(|line| line.contains(&loud.to_string())).count();
    assert!((9..12).contains(&of(" flood ")), "{} lines of a kilobyte", of(" flood "));
    assert_eq!(of("lines are dropped"), 1);
    assert_eq!(logs.lines(" heard ").iter().filter(|line| line.contains(&neighbour.to_string())).count(), 10);
    assert!(notes_on(&host, loud).dropped > 0);
    assert_eq!(notes_on(&host, neighbour).dropped, 0);
}
