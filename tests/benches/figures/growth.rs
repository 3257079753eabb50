//! `growth`: what an event costs as a host grows in one direction, over what it costs while that is small. A curve that is
//! flat stays near 1.

use std::time::Instant;

use charm_host::{Did, Host, NewEvent, Value};
use futures_util::future::join_all;

use crate::{
    edit,
    report::{Figure, Report},
    scale::Scale,
    world::{self, turns_left},
};

/// Events that are timed at each point.
fn events(scale: Scale) -> u32 {
    scale.of([20, 2_000, 5_000, 20_000])
}

pub async fn run(scale: Scale, report: &mut Report) {
    let most = scale.of([1_000, 10_000, 100_000, 1_000_000]);
    let points: Vec<usize> = [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|point| *point <= most).collect();
    history(scale, report, &points).await;
    cells(scale, report, &points).await;
    bytes(scale, report).await;
    charms(scale, report, &points).await;
    queue(report, &points).await;
}

/// A curve: its points are over the first.
struct Curve<'a> {
    report: &'a mut Report,
    name: &'static str,
    first: Option<f64>,
}

impl Curve<'_> {
    fn add(&mut self, point: usize, cost: f64) {
        let first = *self.first.get_or_insert(cost);
        let mut figure = Figure::new(format!("growth/{}/{point}", self.name), "us/event", "the first of the curve");
        figure.add(cost, first);
        self.report.add(figure);
    }
}

fn curve<'a>(report: &'a mut Report, name: &'static str) -> Curve<'a> {
    Curve { report, name, first: None }
}

/// Returns what an event costs of chains of so many, in microseconds: the cheapest of some, since the rest is noise.
async fn cost(host: &Host, charms: &[Did], events: u32) -> f64 {
    let each = (events / charms.len() as u32).max(1);
    let mut costs = Vec::new();
    for _ in 0..3 {
        costs.push(world::run(host, charms, each).await.as_secs_f64() * 1e6 / f64::from(each * charms.len() as u32));
    }
    costs.into_iter().fold(f64::MAX, f64::min)
}

/// Commits that were before.
async fn history(scale: Scale, report: &mut Report, points: &[usize]) {
    let (folder, events) = (world::folder(), events(scale));
    let host = world::durable(folder.path()).await.host;
    let dids = world::install(&host, 0..1, 1).await;
    world::chains(&host, &dids).await;
    let (mut curve, mut present) = (curve(report, "history"), 3 * events as usize);
    world::run(&host, &dids, events).await;
    curve.add(0, cost(&host, &dids, events).await);
    for point in points {
        if *point > present {
            world::run(&host, &dids, (point - present) as u32).await;
            curve.add(*point, cost(&host, &dids, events).await);
            present = point + 3 * events as usize;
        }
    }
    host.shutdown().await.unwrap();
}

/// Cells that a charm and its neighbours have.
async fn cells(scale: Scale, report: &mut Report, points: &[usize]) {
    let (folder, events) = (world::folder(), events(scale));
    let host = world::durable(folder.path()).await.host;
    let dids = world::install(&host, 0..20, 1).await;
    world::chains(&host, &dids[..1]).await;
    world::run(&host, &dids[..1], events).await;
    let (mut curve, mut thousands) = (curve(report, "cells"), 0);
    curve.add(2, cost(&host, &dids[..1], events).await);
    for point in points {
        for thousand in thousands..point / 1_000 {
            // 90,000 to a charm.
            let charm = thousand / 90;
            world::request_all(&host, &dids[charm..=charm], "fill", |_| Value::encode(&thousand).unwrap()).await;
        }
        thousands = point / 1_000;
        curve.add(*point, cost(&host, &dids[..1], events).await);
    }
    host.shutdown().await.unwrap();
}

/// Bytes of the cell that is written at a path.
async fn bytes(scale: Scale, report: &mut Report) {
    let (folder, writes) = (world::folder(), scale.of([5, 50, 200, 1_000]));
    let host = world::durable(folder.path()).await.host;
    let charm = world::install(&host, 0..1, 1).await[0];
    edit::fill(&host, charm, 4).await;
    edit::write(&host, charm, writes, 0, 4).await;
    let mut curve = curve(report, "cell-bytes");
    for orders in [4, 48, 490, 5_000].into_iter().take(scale.of([2, 3, 4, 4])) {
        edit::fill(&host, charm, orders).await;
        curve.add(orders as usize * 209, edit::write(&host, charm, writes, 0, orders).await);
    }
    host.shutdown().await.unwrap();
}

/// Charms that are installed; up to 100 of them have events.
async fn charms(scale: Scale, report: &mut Report, points: &[usize]) {
    let (folder, events, most) = (world::folder(), events(scale), scale.of([10, 1_000, 10_000, 100_000]));
    let host = world::durable(folder.path()).await.host;
    let (mut curve, mut dids) = (curve(report, "charms"), Vec::new());
    for point in [1, 10, 100].iter().chain(points).filter(|point| **point <= most) {
        let more = world::install(&host, dids.len()..*point, 1).await;
        world::chains(&host, &more[..more.len().min(100)]).await;
        dids.extend(more);
        let busy: Vec<Did> = dids.iter().take(100).copied().collect();
        world::run(&host, &busy, 1).await;
        curve.add(*point, cost(&host, &busy, events).await);
    }
    host.shutdown().await.unwrap();
}

/// Events that wait for one charm when it begins to take them.
async fn queue(report: &mut Report, points: &[usize]) {
    let folder = world::folder();
    let host = world::durable(folder.path()).await.host;
    let dids = world::install(&host, 0..1, 1).await;
    world::chains(&host, &dids).await;
    let mut curve = curve(report, "queue");
    for point in points {
        host.pause(&dids[0]).await.unwrap();
        for begin in (0..*point).step_by(1_000) {
            let send = |_| host.send(NewEvent::new(dids[0], "turn", turns_left(0)));
            for sent in join_all((begin..(begin + 1_000).min(*point)).map(send)).await {
                sent.unwrap();
            }
        }
        let start = Instant::now();
        host.resume(&dids[0]).await.unwrap();
        host.settled().await.unwrap();
        curve.add(*point, start.elapsed().as_secs_f64() * 1e6 / *point as f64);
    }
    host.shutdown().await.unwrap();
}
