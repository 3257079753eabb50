//! `wait`: what it takes to go on after another charm's commit, and what turns take that wait for it, many at once.
//!
//! `receipt`: a charm sends to another, waits for that, commits and is acknowledged, beside a plain request to a charm.
//! `many`: in a process of its own so many turns wait, each with an event of 1 KiB, while a neighbour is served. The process is
//! killed; in the next one what they wait for comes, and they all go on, beside the same neighbour.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use charm_conformance::component;
use charm_host::*;
use futures_util::future::join_all;

use crate::{
    child,
    density::resident,
    receipt::request,
    report::{Figure, Goal, Report, median, percentile},
    scale::Scale,
    store,
    world::{self, Durable},
};

/// What the event of a turn that waits carries, in bytes.
const PAYLOAD: usize = 1 << 10;
/// Charms whose turns wait; as many provide what they wait for.
const CHARMS: usize = 10;
/// Callers of the neighbour, and callers that wait.
const CALLERS: usize = 32;

pub async fn run(scale: Scale, report: &mut Report) {
    receipt(scale, report).await;
    many(scale, report).await;
}

/// Installs charms that wait and as many that they wait for; returns both.
async fn install(host: &Host, many: usize) -> (Vec<Did>, Vec<Did>) {
    let bytes = Component::from(component("waiter"));
    let charm = |kind: &'static str| {
        let bytes = bytes.clone();
        (0..many).map(move |number| Charm::new(format!("{kind}{number}"), bytes.clone()))
    };
    let mut waiters = host.install_all(charm("waits").chain(charm("provides")).collect()).await.unwrap();
    let providers = waiters.split_off(many);
    for (waiter, provider) in waiters.iter().zip(&providers) {
        let streams = Names::only(["done"]);
        host.grant(*waiter, Right::Send { owner: *provider, streams }).await.unwrap();
    }
    world::request_all(host, &waiters, "link", |n| Value::encode(&providers[n].to_string()).unwrap()).await;
    (waiters, providers)
}

/// Returns how long a turn takes that waits for another's, in microseconds.
async fn go(host: Host, charm: Did) -> f64 {
    let start = Instant::now();
    let receipt = host.request(NewEvent::new(charm, "go", Value::encode(&0).unwrap())).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{:?}", receipt.message);
    start.elapsed().as_secs_f64() * 1e6
}

async fn receipt(scale: Scale, report: &mut Report) {
    let folder = world::folder();
    let Durable { host, groups } = world::durable(folder.path()).await;
    let plain = world::install(&host, 0..100, 1).await;
    world::chains(&host, &plain).await;
    let (waiters, _) = install(&host, 100).await;
    let mut figures = [50, 99].map(|part| {
        let figure = Figure::new(format!("wait/receipt/p{part}"), "us", "a plain request");
        (part, if part == 50 { figure.goal(Goal::AtMost(2.0)) } else { figure })
    });
    let mut syncs = 0.0;
    for round in 0..=scale.of([1, 3, 7, 15]) {
        let (mut waited, mut asked, mut groups_seen) = (Vec::new(), Vec::new(), 0);
        for _ in 0..scale.of([5, 300, 1_000, 3_000]) {
            asked.push(request(host.clone(), plain[0]).await);
            groups.take();
            waited.push(go(host.clone(), waiters[0]).await);
            groups_seen += groups.take().len();
        }
        // The first round warms up.
        if round > 0 {
            syncs = groups_seen as f64 / waited.len() as f64;
            for (part, figure) in &mut figures {
                figure.add(percentile(&mut waited, *part), percentile(&mut asked, *part));
            }
        }
    }
    for (_, figure) in figures {
        report.add(figure.note(format!("{syncs:.1} syncs a turn that waits")));
    }
    let mut figure = Figure::new(format!("wait/receipt/{CALLERS}x{}", waiters.len()), "turns/s", "plain requests");
    let each = scale.of([2, 50, 300, 1_000]);
    for round in 0..=scale.of([1, 3, 5, 9]) {
        let waited = callers(&host, &waiters, each, go).await;
        let asked = callers(&host, &plain, each, request).await;
        if round > 0 {
            figure.add(waited, asked);
        }
    }
    report.add(figure);
    host.shutdown().await.unwrap();
}

/// Lets callers on charms ask so often each; returns how many are answered a second.
async fn callers<F: Future<Output = f64> + Send + 'static>(
    host: &Host,
    charms: &[Did],
    each: usize,
    ask: fn(Host, Did) -> F,
) -> f64 {
    let start = Instant::now();
    let calls = (0..CALLERS).map(|caller| {
        let (host, charm) = (host.clone(), charms[caller % charms.len()]);
        tokio::spawn(async move {
            for _ in 0..each {
                ask(host.clone(), charm).await;
            }
        })
    });
    for called in join_all(calls).await {
        called.unwrap();
    }
    (CALLERS * each) as f64 / start.elapsed().as_secs_f64()
}

async fn many(scale: Scale, report: &mut Report) {
    let turns = scale.of([20, 10_000, 100_000, 100_000]);
    let each = scale.of([2, 50, 200, 500]);
    let folder = world::folder();
    let numbers = |said: &str| said.split_whitespace().map(|word| word.parse().unwrap()).collect::<Vec<f64>>();
    let waiting = child::start("waiting", folder.path(), &[turns, each]);
    let before = numbers(&waiting.said);
    waiting.kill();
    let again = child::start("going-on", folder.path(), &[turns]);
    let after = numbers(&again.said);
    again.end();
    let figure = |name: &str, unit, under| Figure::new(format!("wait/many/{name}"), unit, under);
    let mut add = |figure: Figure, value: f64, floor: f64, note: String| {
        let mut figure = figure.note(note);
        figure.add(value, floor);
        report.add(figure);
    };
    let mib = |bytes: f64| bytes * turns as f64 / f64::from(1 << 20);
    let memory = figure("memory", "B/turn", "a map of what they carry").goal(Goal::Value(f64::from(1 << 30) / 1e5));
    let note = format!("{turns} turns wait, {:.0} MiB, {:.0} MiB in the next host", mib(before[0]), mib(after[1]));
    add(memory, before[0], before[1], note);
    let neighbour = figure("neighbour", "turns/s", "before any waits").goal(Goal::AtLeast(0.9));
    add(neighbour, before[2], before[3], format!("{CALLERS} callers, beside {turns} turns that wait"));
    add(figure("open", "s", "its files, read"), after[0], after[2], format!("{turns} turns wait"));
    let settle = figure("settle", "turns/s", "events that they wait for, sent");
    add(settle, after[3], before[4], "what all wait for comes, in the next host".to_owned());
    let beside = figure("beside/p50", "us", "beside as many plain charms");
    let note = format!("a neighbour's request while they go on; p99 {:.0} us; alone {:.0} us", after[6], after[7]);
    add(beside, after[4], after[5], note);
}

/// Lets turns wait and says: bytes of each, of a map of what their events carry, what a neighbour is served a second then and
/// before, and how many begin to wait a second.
pub async fn waiting(folder: &Path, numbers: &[usize]) {
    let [turns, each] = *numbers else { panic!("turns, and requests of a caller") };
    let payload = |number: usize| Value::encode(&format!("{number:0$}", PAYLOAD - 3)).unwrap();
    let before = resident();
    let map: BTreeMap<usize, Box<[u8]>> =
        (0..turns).map(|number| (number, payload(number).as_bytes().into())).collect();
    let floor = (resident() - before) / turns as f64;
    let host = open(folder, turns).await;
    let neighbour = world::install(&host, 0..1, 1).await;
    world::chains(&host, &neighbour).await;
    let (waiters, providers) = install(&host, CHARMS).await;
    for provider in &providers {
        host.pause(provider).await.unwrap();
    }
    served(&host, &neighbour, each).await;
    let alone = served(&host, &neighbour, each).await;
    let (before, start) = (resident(), Instant::now());
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let senders = (0..8 * CALLERS).map(|_| {
        let (host, waiters, next) = (host.clone(), waiters.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= turns {
                    break;
                }
                let event = NewEvent::new(waiters[number % CHARMS], "go", payload(number));
                host.send(event).await.unwrap();
            }
        })
    });
    for sent in join_all(senders).await {
        sent.unwrap();
    }
    until(|| host.counters().waiting == 2 * turns as u64).await;
    let begun = turns as f64 / start.elapsed().as_secs_f64();
    until(|| host.counters().lag_groups == 0).await;
    let bytes = (resident() - before) / turns as f64;
    let beside = served(&host, &neighbour, each).await;
    assert_eq!(map.len(), turns, "the floor is still there");
    child::say(&format!("{bytes} {floor} {beside} {alone} {begun}"));
}

/// Returns how many requests of a neighbour are answered a second, the middle of some rounds.
async fn served(host: &Host, neighbour: &[Did], each: usize) -> f64 {
    let mut rounds = Vec::new();
    for _ in 0..5 {
        rounds.push(callers(host, neighbour, each, request).await);
    }
    median(rounds)
}

/// Lets them all go on and says: seconds to open, bytes of each turn, seconds to read the files, turns a second; how long a
/// neighbour's request takes meanwhile and beside as many charms that wait for nothing, the longest of a hundred meanwhile, and
/// how long one takes alone.
pub async fn going_on(folder: &Path, numbers: &[usize]) {
    let turns = numbers[0];
    let start = Instant::now();
    let files = store::files(&folder.join("store"));
    files.iter().for_each(|file| drop(std::fs::read(file)));
    let (read, before, start) = (start.elapsed().as_secs_f64(), resident(), Instant::now());
    let host = open(folder, turns).await;
    let opened = start.elapsed().as_secs_f64();
    let bytes = (resident() - before) / turns as f64;
    let neighbour = world::install(&host, 0..1, 1).await[0];
    let (_, providers) = install(&host, CHARMS).await;
    let plain = world::install(&host, 1..2 * CHARMS + 1, 1).await;
    world::chains(&host, &plain).await;
    let waits = 2 * turns as u64;
    let idle = async { tokio::time::sleep(Duration::from_millis(200)).await };
    let ([idle, _], _) = beside(&host, neighbour, idle).await;
    let busy = async {
        world::begin(&host, &plain, turns as u32 / 10).await;
        until(|| host.counters().waiting <= waits + 1).await;
    };
    let ([busy, _], _) = beside(&host, neighbour, busy).await;
    let going_on = async {
        for provider in &providers {
            host.resume(provider).await.unwrap();
        }
        until(|| host.counters().waiting <= 1).await;
    };
    let ([p50, p99], time) = beside(&host, neighbour, going_on).await;
    let rate = turns as f64 / time;
    child::say(&format!("{opened} {bytes} {read} {rate} {p50} {busy} {p99} {idle}"));
    host.shutdown().await.unwrap();
}

/// Returns how long requests of a neighbour take while something happens, the middle one and the longest of a hundred, in
/// microseconds; and how long that takes, in seconds.
async fn beside(host: &Host, neighbour: Did, work: impl Future<Output = ()>) -> ([f64; 2], f64) {
    let (start, done, mut asked) = (Instant::now(), Arc::new(AtomicBool::new(false)), Vec::new());
    let (asking, ended) = (host.clone(), done.clone());
    let asks = tokio::spawn(async move {
        while !ended.load(Ordering::Relaxed) {
            asked.push(request(asking.clone(), neighbour).await);
        }
        [50, 99].map(|part| percentile(&mut asked, part))
    });
    work.await;
    let time = start.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    (asks.await.unwrap(), time)
}

async fn open(folder: &Path, turns: usize) -> Host {
    let keys = FileKeyring::open(folder.join("keys")).unwrap();
    let limits = Limits { waiting_turns_max: turns, ..world::limits() };
    world::builder().limits(limits).store(store::open(folder)).keyring(keys).open().await.unwrap()
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
