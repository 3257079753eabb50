//! Chapter contention: up to 64 writers at once on one hot cell. Only its owner writes a cell, one turn at a time
//! (S3, T2), so writers meet in two ways: they all send increments to the owner, or they are charms that read the
//! hot cell in transactions that write their own. Nothing is lost, whatever the number.
//!
//! The tests print a table of each run; only their ratios say something, and a run is short:
//! `CHARM_EFFORT=10 cargo test --workspace --exclude xtask --test contention -- --nocapture --test-threads 1`
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "another chapter uses the rest")]
#[path = "transactions/held.rs"]
mod held;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use charm_conformance::*;
use charm_host::*;
use held::Held;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

const WRITERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Events of a step, however many writers share them.
const EVENTS: u64 = 128;

/// What a step did.
struct Row {
    writers: usize,
    sent: u64,
    kept: u64,
    conflicts: u64,
    seconds: f64,
}

#[allow(clippy::print_stderr, reason = "the figures of docs are made here")]
fn print(title: &str, rows: &[Row]) {
    let speed = |row: &Row| row.sent as f64 / row.seconds;
    eprintln!("\n{title}\nwriters   sent   kept  conflicts  events/s  x 1 writer");
    for row in rows {
        let (Row { writers, sent, kept, conflicts, .. }, ratio) = (row, speed(row) / speed(&rows[0]));
        eprintln!("{writers:>7} {sent:>6} {kept:>6} {conflicts:>10} {:>9.0} {ratio:>11.2}", speed(row));
    }
}

/// Looks at the counters all the time that `work` takes: the law holds at every moment, and at the end nothing waits
/// and everything was committed. Returns what was sent and thrown away meanwhile, and the seconds.
async fn watched(host: &Arc<Host>, work: impl Future<Output = ()>) -> (u64, u64, f64) {
    let done = Arc::new(AtomicBool::new(false));
    let (before, start, watch) = (counted(host), Instant::now(), (host.clone(), done.clone()));
    let watch = tokio::spawn(async move {
        while !watch.1.load(Ordering::Relaxed) {
            counted(&watch.0);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    work.await;
    host.settled().await.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    watch.await.unwrap();
    let after = counted(host);
    assert_eq!((after.waiting, after.sent), (0, after.committed), "all settle as committed: {after}");
    (after.sent - before.sent, after.conflicts - before.conflicts, seconds)
}

async fn request(host: &Host, to: Did, stream: &str, event: Json) {
    let receipt = host.request(NewEvent::new(to, stream, value(event))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
}

async fn count(host: &Host, counter: Did) -> u64 {
    cell(host, counter, "count").await.as_u64().unwrap_or(0)
}

/// Writers that send increments to the owner of one cell: half of them outside, half of them charms.
async fn increments(title: &str, builder: HostBuilder) {
    let host = Arc::new(builder.open().await.unwrap());
    let counter = host.install(Charm::new("counter", component("counter"))).await.unwrap();
    let mut charms = Vec::new();
    for number in 0..WRITERS[6] / 2 {
        let charm = probe_charm(&format!("writer-{number}")).may_send(counter, only(&["add"]));
        charms.push(host.install(charm).await.unwrap());
    }
    let mut rows = Vec::new();
    for writers in WRITERS {
        let (before, each) = (count(&host, counter).await, times(EVENTS) / writers as u64);
        // A turn sends at most `sends-max` events.
        let turns: Vec<u64> = (0..each).step_by(100).map(|sent| (each - sent).min(100)).collect();
        let scripts = turns.len() * (writers / 2);
        let work = async {
            let mut tasks = JoinSet::new();
            for writer in 0..writers {
                let (host, charm, turns) = (host.clone(), charms[writer / 2], turns.clone());
                if writer % 2 == 0 {
                    tasks.spawn(async move {
                        for _ in 0..each {
                            request(&host, counter, "add", json!(1)).await;
                        }
                    });
                } else {
                    tasks.spawn(async move {
                        for sends in turns {
                            let steps = json!([["repeat", sends, ["send", of(counter, "add"), 1]]]);
                            request(&host, charm, "run", json!({ "steps": steps })).await;
                        }
                    });
                }
            }
            while tasks.join_next().await.transpose().unwrap().is_some() {}
        };
        let (all, conflicts, seconds) = watched(&host, work).await;
        let (sent, kept) = (each * writers as u64, count(&host, counter).await - before);
        assert_eq!((kept, all), (sent, sent + scripts as u64), "{writers} writers");
        rows.push(Row { writers, sent, kept, conflicts, seconds });
    }
    print(title, &rows);
    Arc::into_inner(host).unwrap().shutdown().await.unwrap();
}

/// S2, S3, T4: the number kept is the number sent.
#[tokio::test(flavor = "multi_thread")]
async fn increments_of_one_cell_are_all_kept_whatever_the_number_of_writers() {
    increments("increments of one cell, store in memory", builder()).await;
}

/// S2, S3, T5: the same when each is durable.
#[tokio::test(flavor = "multi_thread")]
async fn increments_of_one_cell_are_all_kept_on_disk_too() {
    let home = Home::default();
    increments("increments of one cell, SQLite", home.builder().await).await;
}

/// Charms that read a hot cell and write their own while its owner changes it. The first turn of each stops after its
/// read until the cell has changed, so that each meets at least one conflict; then all run freely.
async fn readers(title: &str, builder: HostBuilder) {
    let hold = Hold::new();
    // A slot for each reader, for the owner and for the charm that feeds it.
    // Patient, so that no slow machine decides.
    let limits = Limits { conflict_ms_max: 600_000, turns_max: WRITERS[6] + 2, ..Limits::default() };
    let host = Arc::new(builder.limits(limits).open().await.unwrap());
    let hot = host.install(Charm::new("hot", component("counter"))).await.unwrap();
    let feeder = host.install(probe_charm("feeder").may_send(hot, only(&["add"]))).await.unwrap();
    let mut charms = Vec::new();
    for number in 0..WRITERS[6] {
        let charm = probe_charm(&format!("reader-{number}")).may_read(hot, only(&["count"]));
        charms.push(host.install(charm).await.unwrap());
    }
    let (mut rows, mut turns) = (Vec::new(), vec![0; charms.len()]);
    for writers in WRITERS {
        let each = times(EVENTS) / writers as u64;
        // The same in every step: the owner's work is a part of its time.
        let feeds = times(EVENTS).div_ceil(100);
        let (first, came) = (count(&host, hot).await, hold.count());
        hold.hold();
        let work = async {
            for turn in 0..each {
                for (charm, done) in charms[..writers].iter().zip(&mut turns) {
                    let steps = json!([["get", of(hot, "count"), []], hold.step(), ["set", "done", [*done], turn]]);
                    let event = value(json!({ "steps": steps, "out": "seen" }));
                    host.send(NewEvent::new(*charm, "run", event)).await.unwrap();
                    *done += 1;
                }
            }
            hold.arrived(came + writers).await;
            request(&host, hot, "add", json!(1)).await;
            hold.release(1_000_000);
            for _ in 0..feeds {
                let steps = json!([["repeat", 100, ["send", of(hot, "add"), 1]]]);
                request(&host, feeder, "run", json!({ "steps": steps })).await;
            }
        };
        let (all, conflicts, seconds) = watched(&host, work).await;
        let sent = each * writers as u64;
        assert_eq!(all, sent + 1 + feeds + feeds * 100);
        assert!(conflicts >= writers as u64, "{conflicts} conflicts of {writers} readers");
        let last = count(&host, hot).await;
        assert_eq!(last - first, 1 + feeds * 100, "the owner's increments are all kept");
        let mut kept = 0;
        for (charm, done) in charms[..writers].iter().zip(&turns) {
            let list = cell(&host, *charm, "done").await;
            assert_eq!(list.as_array().unwrap().len(), *done);
            kept += each;
            let seen = cell(&host, *charm, "seen").await[0].as_u64().unwrap();
            assert!(
                (first + 1..=last).contains(&seen),
                "no turn committed with what it read before the change: {seen}"
            );
        }
        rows.push(Row { writers, sent, kept, conflicts, seconds });
    }
    print(title, &rows);
    Arc::into_inner(host).unwrap().shutdown().await.unwrap();
}

/// T4, T3: each commits in the end, within its time.
#[tokio::test(flavor = "multi_thread")]
async fn turns_that_read_one_hot_cell_all_commit_whatever_their_number() {
    readers("turns that read one hot cell, store in memory", builder()).await;
}

/// T4, T5
#[tokio::test(flavor = "multi_thread")]
async fn turns_that_read_one_hot_cell_all_commit_on_disk_too() {
    let home = Home::default();
    readers("turns that read one hot cell, SQLite", home.builder().await).await;
}

// What a turn says that gives up.

/// Checks the size of a receipt and returns its message.
fn message(receipt: &Receipt) -> &str {
    assert_eq!((receipt.outcome, receipt.commit), (Outcome::ConflictExhausted, None), "{receipt:?}");
    // Room for numbers of 20 digits, where the test has small ones.
    let (json, message) = (serde_json::to_string(receipt).unwrap(), receipt.message.as_ref().unwrap());
    assert!(json.len() <= 2_048 - 100 && message.len() <= MESSAGE_BYTES_MAX - 100, "{} {}", json.len(), message.len());
    assert!(!message.chars().any(char::is_control), "{message:?}");
    message
}

/// Returns attempts, pauses, and the milliseconds of all and of the pauses.
fn tries(message: &str) -> [u128; 4] {
    let (_, rest) = message.split_once("; ").unwrap();
    let numbers: Vec<u128> = rest.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect();
    let words = format!(
        "{} attempts in {} ms, with {} pauses of {} ms in all; ",
        numbers[0], numbers[1], numbers[2], numbers[3]
    );
    assert!(rest.starts_with(&words), "{rest}");
    [numbers[0], numbers[2], numbers[1], numbers[3]]
}

/// T7: with the longest name, the longest path, quotes and control characters in both, and 10 MiB in the cell, the
/// diagnosis is whole: only the path is cut. It must never be its end, where the revisions and the remedy stand.
#[tokio::test(flavor = "multi_thread")]
async fn the_diagnosis_of_a_turn_that_gives_up_is_whole_in_the_worst_case() {
    let limits = Limits {
        conflict_ms_max: 0,
        value_bytes_max: 12 << 20,
        event_bytes_max: 2 << 20,
        write_bytes_max: 32 << 20,
        ..Limits::default()
    };
    let held = Held::new(limits).await;
    let secret = format!("s3cr3t-{:x}", Random::new(seed()).bits());
    let name = format!("{}é", "\"'\\<".repeat(32)).chars().skip(2).collect::<String>();
    assert_eq!(name.len(), NAME_BYTES_MAX);
    // The most steps, and in them the most bytes: quotes, line ends, escapes, and characters of four bytes.
    let (steps, key) = (PATH_SEGMENTS_MAX - 1, "\u{1b}[2J\"'\n\0\u{85}\u{2028}🦀");
    let mut path: Vec<String> = (0..steps - 1).map(|step| format!("{key}{step:02}")).collect();
    path.push(key.repeat(200));
    let over: usize = path.iter().map(String::len).sum::<usize>() - PATH_BYTES_MAX;
    let last = path.pop().unwrap();
    let mut end = last.len() - over;
    while !last.is_char_boundary(end) {
        end -= 1;
    }
    path.push(format!("{}{}", &last[..end], "x".repeat(last.len() - over - end)));
    assert_eq!(path.iter().map(String::len).sum::<usize>(), PATH_BYTES_MAX);
    let piece = secret.repeat((1 << 20) / secret.len());
    for index in 0..10 {
        held.write(json!([["set", name, ["much", index], piece]])).await;
    }
    held.write(json!([["set", name, path, secret]])).await;
    let seen = revision(&held.host, held.writer, &name).await.unwrap();
    let id = held.start(vec![json!(["get", of(held.writer, &name), path]), json!(["stop"])]).await;
    held.write(json!([["set", name, path, format!("{secret} and new")]])).await;
    let receipt = held.end(id).await;
    assert!(value_of(&held.host, held.writer, &name).await.unwrap().as_bytes().len() > 9 << 20);
    let message = message(&receipt);
    let cell = format!("cell {name} of {} at /'\\u{{1b}}[2J\"''\\u{{a}}\\u{{0}}\\u{{85}}", held.writer);
    assert!(message.starts_with(&cell), "{message}");
    let revisions = format!("… was read at revision {seen} and is at {} now; 1 attempts in ", seen + 2);
    assert!(message.contains(&revisions), "{message}");
    assert!(message.ends_with("; read less, or a narrower path, of cells that others write often"), "{message}");
    assert_eq!(tries(message)[1], 0, "no pause after the last attempt");
    assert!(!format!("{receipt:?}").contains(&secret));
    assert_eq!(
        held.host.dead_letters(&held.reader, 0, usize::MAX).unwrap()[0].receipt,
        receipt,
        "and the dead letter says the same"
    );
    assert_eq!(counted(&held.host).conflict_exhausted, 1);
}

/// T4, T7: between attempts a turn waits a random part of a pause that doubles, from 0.2 ms on, and at least half of it; a
/// turn that gives up says how often and how long it tried. After one conflict more the writer would stand back for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_gives_up_says_how_often_and_how_long_it_tried() {
    let limits = Limits { conflict_ms_max: 46, ..Limits::default() };
    let clock = Clock::new();
    let Held { host, hold, writer, reader, .. } = Held::on(builder().limits(limits).env(clock.clone())).await;
    let id = send(&host, reader, json!([["get", of(writer, "hot"), []], hold.step()])).await;
    // Seven attempts of 6 ms; the pauses between them fill the time up. It starts with the first conflict.
    for attempt in 0..7 {
        hold.arrived(attempt + 1).await;
        run(&host, writer, json!([["set", "hot", [], attempt]])).await;
        clock.pass(Duration::from_millis(6));
        hold.release(1);
    }
    let receipt = receipt(&host, &id).await;
    let pauses = (0..6).map(|n| Duration::from_micros(200 << n));
    let pauses: Vec<_> = pauses.zip([128, 255].into_iter().cycle()).map(|(pause, part)| pause * part / 256).collect();
    assert_eq!(clock.slept(), pauses);
    let paused = pauses.iter().sum::<Duration>().as_millis();
    assert_eq!(tries(message(&receipt)), [7, 6, paused + 36, paused]);
    assert_eq!(counted(&host).conflicts, 7, "each attempt met one");
}

/// S12, T7: the other thing that a commit can meet says whose inbox, how full, and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_receiver_fills_up_meanwhile_says_whose_and_what_to_do() {
    let wire = Wire::gated();
    let limits = Limits { conflict_ms_max: 0, room_ms_max: 0, inbox_events_max: 4, ..Limits::default() };
    let host = builder().transport(wire.clone()).limits(limits).open().await.unwrap();
    let full = host.install(probe_charm("full").may_call(Wire::grant())).await.unwrap();
    let hold = Hold::new();
    let may_send = |name| probe_charm(name).may_send(full, Names::All);
    let sender = host.install(may_send("sender")).await.unwrap();
    let stop = json!(["fetch", { "url": WIRE }]);
    let late = json!(["send", of(full, "note"), "late"]);
    let id = send(&host, sender, json!([late, late, hold.step()])).await;
    hold.arrived(1).await;
    send(&host, full, json!([stop])).await;
    wire.arrived(1).await;
    // Two events of others leave room for one more, and the turn has staged two.
    for name in ["first", "second"] {
        let other = host.install(may_send(name)).await.unwrap();
        run(&host, other, json!([["send", of(full, "note"), "s3cr3t"]])).await;
    }
    hold.release(1);
    let receipt = receipt(&host, &id).await;
    let message = message(&receipt);
    assert!(message.starts_with(&format!("inbox of {full} filled up, with 2 events of ")), "{message}");
    assert_eq!(tries(message)[..2], [1, 0]);
    let remedy = "; send less at once, or raise inbox-events-max 4 or inbox-bytes-max 67108864";
    assert!(message.ends_with(remedy) && !message.contains("s3cr3t"), "{message}");
    wire.release(1);
    settle(&host).await;
    assert_eq!(cell(&host, full, "notes").await, json!(["s3cr3t", "s3cr3t"]), "nothing of the turn was sent");
}
