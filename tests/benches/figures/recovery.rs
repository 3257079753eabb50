//! `recovery`: how long a host takes to open, with so many cells and as many commits; after a clean end (`index`), and after
//! it was killed as soon as everything was durable (`tail`).

use std::{fs, path::Path, time::Instant};

use charm_host::Value;

use crate::{
    child,
    report::{Figure, Goal, Report},
    scale::Scale,
    store, world,
};

/// Charms that have the cells.
const CHARMS: usize = 20;
/// Cells that one turn writes.
const CELLS: usize = 1_000;

pub async fn run(scale: Scale, report: &mut Report) {
    let points: &[usize] = scale.of([&[1_000], &[10_000], &[10_000, 100_000], &[10_000, 100_000, 1_000_000]]);
    for point in points {
        for end in ["index", "tail"] {
            let folder = world::folder();
            let child = child::start("recovery", folder.path(), &[*point]);
            let behind = if end == "tail" { child.said.trim().to_owned() } else { "0".to_owned() };
            match end {
                "index" => child.end(),
                _ => child.kill(),
            }
            let mut figure = Figure::new(format!("recovery/{end}/{point}"), "s", "its files, read");
            if *point == 1_000_000 {
                figure = figure.goal(Goal::Value(2.0));
            }
            let store = folder.path().join("store");
            let bytes = read(&store).1;
            let start = Instant::now();
            let host = world::durable(folder.path()).await.host;
            figure.add(start.elapsed().as_secs_f64(), read(&store).0);
            let megabytes = bytes / 1_000_000;
            report.add(
                figure.note(format!("{point} cells, as many commits, {megabytes} MB; {behind} groups in the tail")),
            );
            host.shutdown().await.unwrap();
        }
    }
}

/// Reads every file of the store; returns how long that takes, and how many bytes they are.
fn read(folder: &Path) -> (f64, usize) {
    let start = Instant::now();
    let bytes = store::files(folder).iter().map(|file| fs::read(file).map_or(0, |bytes| bytes.len())).sum();
    (start.elapsed().as_secs_f64(), bytes)
}

/// Makes so many cells and as many commits, says so, and waits.
pub async fn child(folder: &Path, numbers: &[usize]) {
    let host = world::durable(folder).await.host;
    let dids = world::install(&host, 0..CHARMS, 1).await;
    for thousand in 0..numbers[0] / CELLS {
        let charm = &dids[thousand % CHARMS..=thousand % CHARMS];
        world::request_all(&host, charm, "fill", |_| Value::encode(&thousand).unwrap()).await;
    }
    world::chains(&host, &dids).await;
    world::run(&host, &dids, (numbers[0] / CHARMS) as u32).await;
    child::say(&host.counters().lag_groups.to_string());
    host.shutdown().await.unwrap();
}
