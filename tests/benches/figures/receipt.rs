//! `receipt/fsync`: from sending an event to its durable receipt, over one sync of the disk.
//!
//! One caller: each request is followed by one append of as many bytes as its commits have, and a sync. Many callers: each
//! sends its next event when it has the receipt of the one before; then the disk is measured alone. `32x100`: 32 callers on
//! 100 charms.

use std::time::Instant;

use charm_host::{Did, Host, NewEvent, Outcome};
use futures_util::future::join_all;

use crate::{
    disk::Disk,
    report::{Figure, Goal, Report, percentile},
    scale::Scale,
    world::{self, turns_left},
};

const UNDER: &str = "append + fdatasync";

pub async fn run(scale: Scale, report: &mut Report) {
    let folder = world::folder();
    let mut disk = Disk::new(folder.path());
    let durable = world::durable(folder.path()).await;
    let dids = world::install(&durable.host, 0..100, 1).await;
    world::chains(&durable.host, &dids).await;

    let mut figures = [
        (50, Figure::new("receipt/fsync/p50", "us", UNDER).goal(Goal::AtMost(1.5))),
        (99, Figure::new("receipt/fsync/p99", "us", UNDER).goal(Goal::AtMost(4.0))),
    ];
    let mut groups_each = 0.0;
    for round in 0..=scale.of([1, 3, 7, 15]) {
        let (mut asked, mut synced, mut groups) = (Vec::new(), Vec::new(), 0);
        for _ in 0..scale.of([5, 300, 1_000, 3_000]) {
            durable.groups.take();
            asked.push(request(durable.host.clone(), dids[0]).await);
            let seen = durable.groups.take();
            groups += seen.len();
            synced.push(disk.append(seen.iter().map(|group| group.bytes).sum()).as_secs_f64() * 1e6);
        }
        // The first round warms up.
        if round > 0 {
            groups_each = groups as f64 / asked.len() as f64;
            for (part, figure) in &mut figures {
                figure.add(percentile(&mut asked, *part), percentile(&mut synced, *part));
            }
        }
    }
    for (_, figure) in figures {
        report.add(figure.note(format!("{groups_each:.1} syncs a request")));
    }
    for callers in [32, 256] {
        for charms in [1, 100] {
            many(scale, report, &durable.host, &dids[..charms], callers, &mut disk).await;
        }
    }
    durable.host.shutdown().await.unwrap();
}

/// Returns how long a request takes, in microseconds.
pub async fn request(host: Host, charm: Did) -> f64 {
    let start = Instant::now();
    let receipt = host.request(NewEvent::new(charm, "turn", turns_left(0))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{:?}", receipt.message);
    start.elapsed().as_secs_f64() * 1e6
}

async fn many(scale: Scale, report: &mut Report, host: &Host, charms: &[Did], callers: usize, disk: &mut Disk) {
    let name = |part: usize| format!("receipt/fsync/{callers}x{}/p{part}", charms.len());
    let mut figures = [50, 99].map(|part| (part, Figure::new(name(part), "us", UNDER)));
    let each = (scale.of([64, 4_000, 20_000, 100_000]) / callers).max(1);
    let mut rates = Vec::new();
    for round in 0..=scale.of([1, 3, 5, 9]) {
        let start = Instant::now();
        let asked = (0..callers).map(|caller| {
            let (host, charm) = (host.clone(), charms[caller % charms.len()]);
            tokio::spawn(async move {
                let mut waits = Vec::with_capacity(each);
                for _ in 0..each {
                    waits.push(request(host.clone(), charm).await);
                }
                waits
            })
        });
        let mut asked: Vec<f64> = join_all(asked).await.into_iter().flat_map(Result::unwrap).collect();
        let rate = asked.len() as f64 / start.elapsed().as_secs_f64();
        let mut synced: Vec<f64> = (0..200).map(|_| disk.append(1_024).as_secs_f64() * 1e6).collect();
        // The first round warms up.
        if round > 0 {
            rates.push(rate);
            for (part, figure) in &mut figures {
                figure.add(percentile(&mut asked, *part), percentile(&mut synced, *part));
            }
        }
    }
    let rate = crate::report::median(rates);
    for (_, figure) in figures {
        report.add(figure.note(format!("{rate:.0} requests/s")));
    }
}
