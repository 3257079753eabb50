//! `density`: what an installed charm takes of memory, how long many take to install, and how fast many are beside one.

use std::{collections::HashMap, path::Path, time::Instant};

use charm_conformance::Random;

use crate::{
    bare::Bare,
    child,
    report::{Figure, Goal, Report, median},
    scale::Scale,
    world,
};

/// Components that all charms are of.
const COMPONENTS: usize = 100;

pub async fn run(scale: Scale, report: &mut Report) {
    let charms = scale.of([8, 1_000, 10_000, 100_000]);
    let components = charms.min(COMPONENTS);
    let mut memory = Figure::new("density/memory", "B/charm", "name, key and place in a map").goal(Goal::Value(4096.0));
    let mut install = Figure::new("density/install_all", "s", "key files and one sync").goal(Goal::Value(2.0));
    for _ in 0..scale.of([1, 1, 3, 1]) {
        let folder = world::folder();
        let child = child::start("density", folder.path(), &[charms, components]);
        let figures: Vec<f64> = child.said.split_whitespace().map(|word| word.parse().unwrap()).collect();
        memory.add(figures[0], figures[1]);
        install.add(figures[2], key_files(charms.min(10_000)));
        child.end();
    }
    report.add(memory.note(format!("{charms} charms of {components} components, beyond the first {components}")));
    report.add(install.note(format!("{} charms", charms.min(10_000))));
    for components in [1, components] {
        speed(scale, report, components).await;
    }
}

/// Prints the memory of a charm, the same of a map that holds as little as can be, and the time of one `install_all`.
pub async fn child(folder: &Path, numbers: &[usize]) {
    let [charms, components] = *numbers else { panic!("charms and components") };
    let beyond = (charms - components).max(1) as f64;
    let before = resident();
    let mut random = Random::new(1);
    let mut map = HashMap::new();
    for number in components..charms {
        let [did, secret] = [0; 2].map(|_: i32| std::array::from_fn::<u8, 32, _>(|_| random.below(256) as u8));
        map.insert(did, (format!("c{number}"), secret, number % components));
    }
    let floor = (resident() - before) / beyond;
    let host = world::durable(folder).await.host;
    world::install(&host, 0..components, components).await;
    let before = resident();
    // A few at a time: who installs holds the bytes of all components, and what was freed may stay in the process.
    for start in (components..charms).step_by(components) {
        world::install(&host, start..(start + components).min(charms), components).await;
    }
    let each = (resident() - before) / beyond;
    let start = Instant::now();
    world::install(&host, charms..charms + charms.min(10_000), components).await;
    let seconds = start.elapsed().as_secs_f64();
    child::say(&format!("{each} {floor} {seconds}"));
    assert_eq!(map.len(), charms - components, "the floor is still there");
    host.shutdown().await.unwrap();
}

/// Returns the memory of this process, in bytes.
pub fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or(f64::NAN) * 4096.0
}

/// Writes so many files of a key's size and makes them durable with one sync; returns the seconds.
fn key_files(many: usize) -> f64 {
    let folder = world::folder();
    let start = Instant::now();
    for number in 0..many {
        std::fs::write(folder.path().join(number.to_string()), [7; 32]).unwrap();
    }
    let synced = std::process::Command::new("sync").arg("-f").arg(folder.path()).status();
    assert!(synced.unwrap().success(), "sync -f works");
    start.elapsed().as_secs_f64()
}

/// Compares chains over 1,000 charms with one chain, on a store in memory.
async fn speed(scale: Scale, report: &mut Report, components: usize) {
    let (charms, turns) = (scale.of([5, 200, 1_000, 1_000]), scale.of([10, 10_000, 20_000, 50_000]));
    let host = world::builder().open().await.unwrap();
    let dids = world::install(&host, 0..charms, components).await;
    world::chains(&host, &dids).await;
    let name = format!("density/speed/{charms}-of-{components}");
    let mut figure = Figure::new(name, "turns/s", "one charm alone").goal(Goal::AtLeast(0.8));
    let (bare_one, bare_many) = (Bare::new(), Bare::of(components));
    let (mut busy, mut bare) = ([const { Vec::new() }; 2], Vec::new());
    for round in 0..=scale.of([1, 3, 7, 15]) {
        // Turns a second, and microseconds of processor a turn.
        let rate = async |dids: &[_]| {
            let (each, before) = (turns / dids.len() as u32, world::processor());
            let turns = f64::from(each * dids.len() as u32);
            let rate = turns / world::run(&host, dids, each).await.as_secs_f64();
            (rate, (world::processor() - before) * 1e6 / turns)
        };
        let (one, many) = (rate(&dids[..1]).await, rate(&dids).await);
        let floor = bare_one.turn(turns, 1) / bare_many.turn(turns, 1);
        // The first round warms up.
        if round > 0 {
            figure.add(many.0, one.0);
            busy[0].push(many.1);
            busy[1].push(one.1);
            bare.push(floor);
        }
    }
    let [many, one] = busy.map(median);
    let bare = median(bare);
    report.add(figure.note(format!(
        "store in memory; {many:.0} us of processor a turn, alone {one:.0}; bare wasmtime, so many components beside one: {bare:.2}"
    )));
    host.shutdown().await.unwrap();
}
