//! `write/edit`: a map of orders in one cell, each order written at its key: in a cell of 1 MiB over one of 1 KiB; and what
//! reaches the disk for an order, in a small cell and in one that is almost full. `write/edit/append`: items appended to a list
//! of 10^5 over one of 10.

use charm_host::{Did, Host, NewEvent, Outcome, Value};

use crate::{
    report::{Figure, Goal, Report},
    scale::Scale,
    store, world,
};

/// Bytes that an order and its key take in a cell.
const ORDER: f64 = 209.0;
/// Orders in a cell of at most 1 KiB.
const FEW: u32 = 4;

pub async fn run(scale: Scale, report: &mut Report) {
    // So many orders are 1 MiB.
    let most = scale.of([40, 1_000, 5_000, 5_000]);
    let (rounds, orders) = (scale.of([1, 3, 5, 9]), scale.of([4, 100, 300, 1_000]));
    time(report, rounds, orders, most).await;
    append(report, rounds, scale.of([4, 100, 1_000, 1_000]), scale.of([1_000, 100_000, 100_000, 100_000])).await;
    let (among, rounds) = (scale.of([4, 400, 2_000, 2_000]), scale.of([1, 100, 100, 100]));
    for (name, present) in [("first", 1), ("last", most - among)] {
        bytes(report, name, present, among, rounds).await;
    }
}

/// Gives a charm's cell so many orders.
pub async fn fill(host: &Host, charm: Did, orders: u32) {
    let receipt = host.request(NewEvent::new(charm, "orders", &orders)).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{:?}", receipt.message);
}

/// Writes so many orders, one a turn, each at one of `among` keys from `first` on; returns microseconds an order.
pub async fn write(host: &Host, charm: Did, orders: u32, first: u32, among: u32) -> f64 {
    let (start, before) = (std::time::Instant::now(), host.counters().committed);
    let event = Value::encode(&[orders - 1, first, among]).unwrap();
    host.send(NewEvent::new(charm, "order", event)).await.unwrap();
    host.settled().await.unwrap();
    let time = start.elapsed();
    assert_eq!(host.counters().committed - before, u64::from(orders), "every order commits");
    time.as_secs_f64() * 1e6 / f64::from(orders)
}

async fn time(report: &mut Report, rounds: u32, orders: u32, most: u32) {
    let folder = world::folder();
    let host = world::durable(folder.path()).await.host;
    let dids = world::install(&host, 0..2, 1).await;
    fill(&host, dids[0], FEW).await;
    fill(&host, dids[1], most).await;
    let mut figure = Figure::new("write/edit", "us/order", "in a cell of 1 KiB").goal(Goal::AtMost(3.0));
    for round in 0..=rounds {
        let few = write(&host, dids[0], orders, 0, FEW).await;
        let many = write(&host, dids[1], orders, 0, most).await;
        // The first round warms up.
        if round > 0 {
            figure.add(many, few);
        }
    }
    report.add(figure.note(format!("in a cell of {:.0} KiB", f64::from(most) * ORDER / 1024.0)));
    host.shutdown().await.unwrap();
}

/// Appends so many items, one a turn, to the list of that number; returns microseconds an item.
async fn push(host: &Host, charm: Did, items: u32, list: u32) -> f64 {
    let (start, before) = (std::time::Instant::now(), host.counters().committed);
    host.send(NewEvent::new(charm, "item", Value::encode(&[items - 1, list]).unwrap())).await.unwrap();
    host.settled().await.unwrap();
    let time = start.elapsed();
    assert_eq!(host.counters().committed - before, u64::from(items), "every item commits");
    time.as_secs_f64() * 1e6 / f64::from(items)
}

/// A list of `many` items beside one of ten: both begin each round at their length.
async fn append(report: &mut Report, rounds: u32, items: u32, many: u32) {
    let folder = world::folder();
    let host = world::durable(folder.path()).await.host;
    let charm = world::install(&host, 0..1, 1).await[0];
    let mut figure = Figure::new("write/edit/append", "us/item", "to a list of 10 items").goal(Goal::AtMost(1.2));
    for round in 0..=rounds {
        for (list, length) in [(0, 10), (1, many)] {
            let event = Value::encode(&[list, length]).unwrap();
            let receipt = host.request(NewEvent::new(charm, "items", event)).await.unwrap();
            assert_eq!(receipt.outcome, Outcome::Committed, "{:?}", receipt.message);
        }
        let (few, many) = (push(&host, charm, items, 0).await, push(&host, charm, items, 1).await);
        // The first round warms up.
        if round > 0 {
            figure.add(many, few);
        }
    }
    report.add(figure.note(format!("to a list of {many} items")));
    host.shutdown().await.unwrap();
}

/// What an order more gives the disk, of some that are written again and again: room is made ready by the megabyte.
async fn bytes(report: &mut Report, name: &str, present: u32, among: u32, rounds: u32) {
    let few = written(present, among, among).await;
    let many = written(present, among, among * (rounds + 1)).await;
    let mut figure = Figure::new(format!("write/edit/bytes/{name}"), "B/order", "the order and its key");
    figure.add((many - few) / f64::from(among * rounds), ORDER);
    report.add(figure.note(format!("orders {present} to {}", present + among)));
}

/// Returns how many bytes a host gives the disk from its opening to its end when it writes some orders after those present,
/// so many times all together.
async fn written(present: u32, among: u32, orders: u32) -> f64 {
    let folder = world::folder();
    let host = world::durable(folder.path()).await.host;
    let charm = world::install(&host, 0..1, 1).await[0];
    fill(&host, charm, present).await;
    // At its end nothing is behind.
    host.shutdown().await.unwrap();
    drop(host);
    let host = world::durable(folder.path()).await.host;
    world::install(&host, 0..1, 1).await;
    let before = store::written();
    write(&host, charm, orders, present, among).await;
    host.shutdown().await.unwrap();
    (store::written() - before) as f64
}
