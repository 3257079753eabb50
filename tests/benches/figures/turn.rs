//! `turn/bare`, `turn/durable`: what a turn costs over bare wasmtime.
//!
//! The guest reads one cell, writes one and sends one event. A turn goes from the event in the inbox to the next one, on a
//! store in memory and on one on disk.

use crate::{
    bare::Bare,
    report::{Figure, Goal, Report},
    scale::Scale,
    world,
};

pub async fn run(scale: Scale, report: &mut Report) {
    let (rounds, turns) = (scale.of([1, 5, 15, 25]), scale.of([20, 4_000, 4_000, 8_000]));
    let (folder, bare) = (world::folder(), Bare::new());
    let memory = world::builder().open().await.unwrap();
    let disk = world::durable(folder.path()).await.host;
    let (in_memory, on_disk) = (world::install(&memory, 0..1, 1).await, world::install(&disk, 0..1, 1).await);
    world::chains(&memory, &in_memory).await;
    world::chains(&disk, &on_disk).await;
    let under = "bare wasmtime, one thread";
    let mut figures =
        [Figure::new("turn/bare", "us", under).goal(Goal::AtMost(1.5)), Figure::new("turn/durable", "us", under)];
    for round in 0..=rounds {
        let floor = bare.turn(turns, 1) * 1e6;
        for (figure, (host, charms)) in figures.iter_mut().zip([(&memory, &in_memory), (&disk, &on_disk)]) {
            let turn = world::run(host, charms, turns).await.as_secs_f64() * 1e6 / f64::from(turns);
            // The first round warms up.
            if round > 0 {
                figure.add(turn, floor);
            }
        }
    }
    figures.into_iter().for_each(|figure| report.add(figure));
    disk.shutdown().await.unwrap();
}
