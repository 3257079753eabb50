//! A host to be killed, which says on its standard output what it has done.
//!
//! `crash-host work MANIFEST FIRST [END]` prints `ready`, then sends events numbered from FIRST on and prints
//! `ack NUMBER ID` for each that has its receipt. A line on its standard input, or the event before END, makes it
//! print `stopping`, shut down and print `stopped`.
//!
//! `crash-host times MANIFEST FIRST DATE` does the same with turns that wait, sleep, delay events from that date on, withdraw some
//! and are tried again.
//!
//! `crash-host queue MANIFEST EVENTS` fills the inboxes of all charms while none of them gets a turn done, prints
//! `queued NUMBER ID` for each event that is durable, `full`, and waits.
//!
//! `crash-host fill MANIFEST EVENTS` queues events for the charms `a` and `b` while neither gets a turn done: for `a`
//! first one that logs `die`, and prints its id as `deadly ID`; then notes for both, prints `full`, and waits.
//!
//! `crash-host deadly MANIFEST` aborts in the host call of a guest that logs `die`. It prints `held ID` for each event
//! that is held, `settled` when nothing else waits, and waits.
//!
//! `crash-host charge MANIFEST` has `a` and `b` make a request that must not be made twice, `a` as a wait and `b` as a short call, and
//! prints the id of each event as `asked ID`; no answer comes. It prints `charged` when both have left, and waits.
//!
//! Whatever goes wrong is printed as `failed WHY`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program of the tests")]

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use charm_conformance::{WIRE, Wire, all_of, grant, of, quiet_builder, script, value};
use charm_host::{Did, FileKeyring, FolderStore, Host, HostBuilder, Limits, Manifest, NewEvent, Outcome};
use futures_util::future::join_all;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Events in flight: those that work, and those that mostly wait.
const WORKERS: u64 = 8;
const WAITERS: u64 = 32;

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    // Other chapters have it compile for them.
    if let Some(exit) = charm_host::compile_helper(std::env::args_os()) {
        return exit;
    }
    run();
    ExitCode::SUCCESS
}

#[tokio::main(worker_threads = 2)]
async fn run() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| args.get(index).map(|number| number.parse().unwrap());
    let manifest = Manifest::load(Path::new(&args[1])).unwrap();
    let done = match args[0].as_str() {
        "work" => work(&manifest, number(2).unwrap(), number(3).unwrap_or(u64::MAX), WORKERS, write).await,
        "times" => {
            let date = number(3).unwrap();
            work(&manifest, number(2).unwrap(), u64::MAX, WAITERS, move |number, b| times(number, b, date)).await
        }
        "queue" => queue(&manifest, number(2).unwrap()).await,
        "fill" => fill(&manifest, number(2).unwrap()).await,
        "deadly" => deadly(&manifest).await,
        "charge" => charge(&manifest).await,
        other => panic!("no mode is named {other}"),
    };
    match done {
        Ok(()) => println!("stopped"),
        Err(why) => println!("failed {why}"),
    }
}

fn home(manifest: &Manifest) -> Result<HostBuilder, Failed> {
    Ok(quiet_builder().store(FolderStore::open(&manifest.store)?).keyring(FileKeyring::open(&manifest.keys)?))
}

async fn work(
    manifest: &Manifest,
    first: u64,
    end: u64,
    at_once: u64,
    steps: impl Fn(u64, Did) -> Json + Copy + Send + 'static,
) -> Result<(), Failed> {
    let host = Arc::new(home(manifest)?.open().await?);
    // All at once: what waited since the last time needs every charm and every grant.
    let dids = manifest.install(&host).await?;
    println!("ready");
    let next = Arc::new(AtomicU64::new(first));
    let mut workers = JoinSet::new();
    for _ in 0..at_once {
        workers.spawn(send(host.clone(), dids["a"], dids["b"], next.clone(), end, steps));
    }
    let ended = async {
        while let Some(ended) = workers.join_next().await {
            ended.unwrap()?;
        }
        Ok::<(), Failed>(())
    };
    tokio::select! {
        () = told_to_stop() => {}
        ended = ended => ended?,
    }
    println!("stopping");
    // Turns and batches go on; nobody waits for their receipts any more.
    workers.shutdown().await;
    Ok(Arc::into_inner(host).unwrap().shutdown().await?)
}

async fn told_to_stop() {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        if !std::io::stdin().read_line(&mut String::new()).is_ok_and(|bytes| bytes > 0) {
            // Whoever wanted this host is gone.
            std::process::exit(1);
        }
        let _ = tell.send(());
    });
    let _ = told.await;
}

/// Each event makes `a` take these steps, after which `b` has a note with its number.
async fn send(
    host: Arc<Host>,
    a: Did,
    b: Did,
    next: Arc<AtomicU64>,
    end: u64,
    steps: impl Fn(u64, Did) -> Json,
) -> Result<(), Failed> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return Ok(());
        }
        let event = NewEvent::new(a, "run", script(steps(number, b))).id(format!("event {number}"));
        let receipt = host.request(event).await?;
        assert_eq!(receipt.outcome, Outcome::Committed);
        println!("ack {number} {}", receipt.id);
    }
}

/// It writes a cell; the receipts of some notes come back to `a`.
fn write(number: u64, b: Did) -> Json {
    let mut send = json!(["send", of(b, "note"), number]);
    if number.is_multiple_of(8) {
        send.as_array_mut().unwrap().push(json!({"stream": "on-receipt", "tag": number}));
    }
    json!([["set", "last", [], number], send])
}

/// It waits for the note, sleeps before it, delays it, is tried again before or after a wait, or withdraws another one.
fn times(number: u64, b: Did, date: u64) -> Json {
    let note = json!(["send", of(b, "note"), number]);
    let later = |note: Json, after: u64| json!(["send-later", of(b, "note"), note, { "deliver-after": date + after }]);
    let tried = |times: u64| json!(["unless-tried", times, ["retry", 10]]);
    let wait = json!(["wait", [0], "all", 60_000]);
    match number % 6 {
        0 => json!([note, wait, ["sleep", 5]]),
        1 => json!([["sleep", 20], note]),
        2 => json!([later(json!(number), 2 * number)]),
        3 => json!([note, tried(3)]),
        4 => json!([later(json!(number), 2 * number), tried(1), wait, tried(3)]),
        _ => json!([later(json!("withdrawn"), 86_400_000), note, ["sleep", 10], ["cancel", 0]]),
    }
}

/// Some who are no charms.
const OUTSIDERS: [&str; 4] = [
    "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp",
    "did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG",
    "did:key:z6MknGc3ocHs3zdPiJbnaaqDi58NGb4pk1Sp9WxWufuXSdxf",
    "did:key:z6MkvqoYXQfDDJRv8L4wKzxYeuKyVZBfi9Qo6Ro8MiLH3kDQ",
];
/// Events of one sender for one charm that are sent at once.
const AT_ONCE: usize = 250;

/// The first event of each charm waits for an answer that does not come. Each of the others sets the cell
/// of its sender to its number.
async fn queue(manifest: &Manifest, events: u64) -> Result<(), Failed> {
    let limits = Limits { inbox_events_max: events as usize, ..Limits::default() };
    let wire = Wire::gated();
    let host = Arc::new(home(manifest)?.limits(limits).transport(wire.clone()).open().await?);
    let dids: BTreeMap<String, Did> = manifest.install(&host).await?;
    let dids: Vec<Did> = dids.into_values().collect();
    for did in &dids {
        charm_conformance::send(&host, *did, json!([["fetch", {"url": WIRE}]])).await;
    }
    wire.arrived(dids.len()).await;
    for sender in OUTSIDERS {
        grant(&host, sender.parse()?, BTreeMap::new(), all_of(&dids)).await.unwrap();
    }
    let senders = OUTSIDERS.len();
    let lanes = senders * dids.len();
    let lane = |lane: usize| {
        let (host, to, sender) =
            (host.clone(), dids[lane / senders], OUTSIDERS[lane % senders].parse::<Did>().unwrap());
        tokio::spawn(async move {
            let numbers: Vec<u64> = (lane as u64..events).step_by(lanes).collect();
            for numbers in numbers.chunks(AT_ONCE) {
                let send = |number: &u64| {
                    let steps = script(json!([["set", sender.to_string(), [], number]]));
                    host.send(NewEvent::new(to, "run", steps).from(sender))
                };
                let ids = join_all(numbers.iter().map(send)).await;
                let mut said = String::new();
                for (number, id) in numbers.iter().zip(ids) {
                    said += &format!("queued {number} {}\n", id?);
                }
                std::io::stdout().lock().write_all(said.as_bytes())?;
            }
            Ok::<(), Failed>(())
        })
    };
    let lanes: Vec<_> = (0..lanes).map(lane).collect();
    join_all(lanes).await.into_iter().try_for_each(Result::unwrap)?;
    println!("full");
    told_to_stop().await;
    Ok(())
}

async fn charge(manifest: &Manifest) -> Result<(), Failed> {
    let wire = Wire::gated();
    let host = home(manifest)?.transport(wire.clone()).open().await?;
    let dids = manifest.install(&host).await?;
    for (name, step) in [("a", "commit-and-fetch"), ("b", "fetch")] {
        let steps = json!({"steps": [["try", [step, {"method": "POST", "url": WIRE}]]], "out": "out"});
        let id = host.send(NewEvent::new(dids[name], "run", value(steps))).await?;
        println!("asked {id}");
    }
    wire.arrived(2).await;
    println!("charged");
    told_to_stop().await;
    Ok(())
}

async fn fill(manifest: &Manifest, events: u64) -> Result<(), Failed> {
    let wire = Wire::gated();
    let host = home(manifest)?.transport(wire.clone()).open().await?;
    let dids = manifest.install(&host).await?;
    let (a, b) = (dids["a"], dids["b"]);
    for did in [a, b] {
        charm_conformance::send(&host, did, json!([["fetch", {"url": WIRE}]])).await;
    }
    wire.arrived(2).await;
    let deadly = host.send(NewEvent::new(a, "run", script(json!([["log", "error", "die"]])))).await?;
    println!("deadly {deadly}");
    for did in [a, b] {
        let notes = (0..events).map(|number| host.send(NewEvent::new(did, "note", value(json!(number)))));
        join_all(notes).await.into_iter().try_for_each(|sent| sent.map(drop))?;
    }
    println!("full");
    told_to_stop().await;
    Ok(())
}

/// Ends the process when a log line says so.
struct Deadly;

impl Write for Deadly {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if line.windows(3).any(|word| word == b"die") {
            std::process::abort();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn deadly(manifest: &Manifest) -> Result<(), Failed> {
    let guests = Targets::new().with_target("charm::guest", tracing::Level::ERROR);
    tracing_subscriber::registry().with(guests).with(tracing_subscriber::fmt::layer().with_writer(|| Deadly)).init();
    let host = home(manifest)?.transport(Wire::open()).open().await?;
    let dids = manifest.install(&host).await?;
    for did in dids.values() {
        for event in host.held(did).await? {
            println!("held {}", event.id);
        }
    }
    host.settled().await?;
    println!("settled");
    told_to_stop().await;
    Ok(host.shutdown().await?)
}
