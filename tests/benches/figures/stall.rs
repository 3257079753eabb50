//! `stall`: the longest pause of commits at full load, beside the longest sync of the disk in the same time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    disk::Disk,
    report::{Figure, Goal, Report},
    scale::Scale,
    world,
};

/// Charms that send to each other as fast as they can.
const CHARMS: usize = 100;

pub async fn run(scale: Scale, report: &mut Report) {
    let span = Duration::from_millis(scale.of([200, 5_000, 20_000, 60_000]));
    let folder = world::folder();
    let durable = world::durable(folder.path()).await;
    let dids = world::install(&durable.host, 0..CHARMS, 1).await;
    world::ring(&durable.host, &dids).await;
    let over = Arc::new(AtomicBool::new(false));
    let syncs = {
        let (mut disk, over) = (Disk::new(folder.path()), over.clone());
        std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                longest = longest.max(disk.append(4_096));
                std::thread::sleep(Duration::from_millis(2));
            }
            longest
        })
    };
    durable.groups.take();
    let start = Instant::now();
    world::begin(&durable.host, &dids, 100_000_000).await;
    tokio::time::sleep(span).await;
    let groups = durable.groups.take();
    over.store(true, Ordering::Relaxed);
    let synced = syncs.join().unwrap().as_secs_f64() * 1e3;
    let ends = std::iter::once(start).chain(groups.iter().map(|group| group.end)).collect::<Vec<_>>();
    let pause = ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default().as_secs_f64() * 1e3;
    let commits: usize = groups.iter().map(|group| group.commits).sum();
    let mut figure = Figure::new("stall", "ms", "longest sync meanwhile").goal(Goal::Beyond(50.0));
    figure.add(pause, synced);
    let seconds = span.as_secs_f64();
    report.add(figure.note(format!("{seconds:.0} s, {:.0} commits/s", commits as f64 / seconds)));
    durable.host.shutdown().await.unwrap();
}
