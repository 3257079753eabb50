//! `durable/journal`: turns a second that are durable, against the slower of two floors.
//!
//! One floor appends what the store was given, group by group, to a file, and syncs after each; the other runs the same guest
//! on bare wasmtime, on as many threads as there are charms, at most one a processor. Half of the figures are of charms that
//! send to themselves (`chain`), half of charms that send to the next (`ring`).

use crate::{
    bare::Bare,
    disk::Disk,
    report::{Figure, Goal, Report, median},
    scale::Scale,
    world,
};

pub async fn run(scale: Scale, report: &mut Report) {
    let (bare, folder) = (Bare::new(), world::folder());
    let mut disk = Disk::new(folder.path());
    for (kind, charms) in [("chain", 1), ("chain", 100), ("chain", 1_000), ("ring", 100), ("ring", 1_000)] {
        if charms <= scale.of([1, 1_000, 1_000, 1_000]) || (kind, charms) == ("ring", 100) && scale == Scale::Smoke {
            measure(scale, report, kind, charms.min(scale.of([3, 1_000, 1_000, 1_000])), &bare, &mut disk).await;
        }
    }
}

async fn measure(scale: Scale, report: &mut Report, kind: &str, charms: usize, bare: &Bare, disk: &mut Disk) {
    let (rounds, turns) = (scale.of([1, 3, 7, 15]), scale.of([40, 20_000, 40_000, 100_000]));
    let folder = world::folder();
    let durable = world::durable(folder.path()).await;
    let dids = world::install(&durable.host, 0..charms, 1).await;
    match kind {
        "chain" => world::chains(&durable.host, &dids).await,
        _ => world::ring(&durable.host, &dids).await,
    }
    let each = turns / charms as u32;
    let turns = f64::from(each * charms as u32);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(charms) as u32;
    let mut figure = Figure::new(format!("durable/journal/{kind}/{charms}"), "turns/s", "").goal(Goal::AtLeast(0.7));
    let [mut of_disk, mut of_wasm, mut in_group, mut of_turn, mut busy] = [const { Vec::new() }; 5];
    for round in 0..=rounds {
        durable.groups.take();
        let before = world::processor();
        let rate = turns / world::run(&durable.host, &dids, each).await.as_secs_f64();
        let (groups, used) = (durable.groups.take(), world::processor() - before);
        let synced: f64 = groups.iter().map(|group| disk.append(group.bytes).as_secs_f64()).sum();
        let (wasm, synced) = (1.0 / bare.turn(turns as u32, threads), turns / synced);
        // The first round warms up.
        if round > 0 || scale == Scale::Smoke {
            figure.add(rate, wasm.min(synced));
            of_disk.push(synced);
            of_wasm.push(wasm);
            in_group.push(turns / groups.len() as f64);
            busy.push(used * 1e6 / turns);
            of_turn.push(groups.iter().map(|group| group.bytes).sum::<usize>() as f64 / turns);
        }
    }
    let [of_disk, of_wasm, in_group, of_turn, busy] = [of_disk, of_wasm, in_group, of_turn, busy].map(median);
    let under = if of_disk < of_wasm { "same groups, synced" } else { "bare wasmtime" };
    let note = format!(
        "synced {of_disk:.0}/s, wasm {of_wasm:.0}/s on {threads}; {in_group:.0} turns a sync, {of_turn:.0} bytes and {busy:.0} us of processor a turn"
    );
    report.add(figure.under(under).note(note));
    durable.host.shutdown().await.unwrap();
}
