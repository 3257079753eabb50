//! `derived`: what a read of a derived cell costs, beside a read of a cell that is written: when nothing below it has changed, when
//! something else has, and when one input has, in graphs of several sizes. The cost of one changed input follows what hangs on it
//! and is read, not the graph.
//!
//! `chain`: each cell is the one before and one more. `fan-in`: a sum of sums of many inputs, of which one changes. `fan-out`: many
//! cells of one input, of which one is read. `lattice`: each cell of a layer is the sum of two of the layer below.

use std::time::Instant;

use charm_conformance::{component, of, steps, value};
use charm_host::*;
use serde_json::{Value as Json, json};

use crate::{
    report::{Figure, Goal, Report},
    scale::Scale,
    world,
};

/// Derived cells of one charm.
const EACH: usize = 200;
/// Formulas that are written by one event: some are of a hundred cells.
const WRITTEN: usize = 16;

pub async fn run(scale: Scale, report: &mut Report) {
    let rounds = scale.of([1, 5, 9, 15]);
    for size in scale.of([vec![4_usize], vec![10, 1_000], vec![10, 100, 1_000], vec![10, 100, 1_000, 4_000]]) {
        let graph = Graph::new(size, |at, cell| match at {
            0 => json!(["sum", get("x"), ["value", 1]]),
            _ => json!(["sum", get(cell(at - 1)), ["value", 1]]),
        });
        graph.await.measure(report, &format!("chain/{size}"), rounds, size).await;
    }
    for size in scale.of([vec![4_usize], vec![100, 10_000], vec![100, 1_000, 10_000], vec![100, 1_000, 10_000]]) {
        // Sums of a hundred inputs each, and a sum of those.
        let groups = size.div_ceil(100);
        let graph = Graph::new(size + groups + 1, |at, cell| {
            let sum = |cells: Vec<Json>| json!(["sum", ["get-each", cells, []]]);
            if at < size {
                json!(["sum", get(if at == 0 { "x" } else { "y" }), ["value", 1]])
            } else if at < size + groups {
                let first = (at - size) * 100;
                sum((first..size.min(first + 100)).map(cell).collect())
            } else {
                sum((size..size + groups).map(cell).collect())
            }
        });
        graph.await.measure(report, &format!("fan-in/{size}"), rounds, 3).await;
    }
    for size in scale.of([vec![4_usize], vec![10_000], vec![100, 10_000], vec![100, 10_000]]) {
        let graph = Graph::new(size, |_, _| json!(["sum", get("x"), ["value", 1]]));
        graph.await.measure(report, &format!("fan-out/{size}"), rounds, 1).await;
    }
    for size in scale.of([vec![2_usize], vec![10, 30], vec![10, 30], vec![10, 30, 100]]) {
        let graph = Graph::new(size * size, |at, cell| match (at / size, at % size) {
            (0, 0) => json!(["sum", get("x"), ["value", 1]]),
            (0, _) => json!(["sum", get("y"), ["value", 1]]),
            (_, place) => {
                let below = at - size;
                json!(["sum", get(cell(below)), get(cell(below - place + (place + 1) % size))])
            }
        });
        // Of each layer one more cell than of the layer below hangs on the input, and all of those that lead to the last are read.
        graph.await.measure(report, &format!("lattice/{size}x{size}"), rounds, size * size).await;
    }
}

fn get(cell: impl Into<Json>) -> Json {
    json!(["get", cell.into(), []])
}

/// Charms whose derived cells are one graph, in memory: what is measured is computing.
struct Graph {
    host: Host,
    charms: Vec<Did>,
    last: Json,
}

impl Graph {
    /// Makes a graph of so many derived cells, the last of which is read.
    async fn new(size: usize, formula: impl Fn(usize, &dyn Fn(usize) -> Json) -> Json) -> Graph {
        let limits = Limits { memo_bytes_max: 256 << 20, ..Limits::default() };
        let host = world::builder().limits(limits).open().await.unwrap();
        let bytes = Component::from(component("deriver"));
        let charms = (0..size.div_ceil(EACH)).map(|number| Charm::new(format!("c{number}"), bytes.clone())).collect();
        let charms: Vec<Did> = host.install_all(charms).await.unwrap();
        for holder in &charms {
            for owner in &charms {
                host.grant(*holder, Right::Read { owner: *owner, cells: Names::All }).await.unwrap();
            }
        }
        let cell = |at: usize| of(charms[at / EACH], &format!("d{}", at % EACH));
        // All leaves are those of the first charm.
        let leaf = |step: Json| -> Json {
            let text = step.to_string();
            let of_first = |name: &str| of(charms[0], name).to_string();
            let text = text.replace("[\"get\",\"x\"", &format!("[\"get\",{}", of_first("x")));
            serde_json::from_str(&text.replace("[\"get\",\"y\"", &format!("[\"get\",{}", of_first("y")))).unwrap()
        };
        for (number, charm) in charms.iter().enumerate() {
            let cells = number * EACH..size.min((number + 1) * EACH);
            let writes = cells.map(|at| json!(["set", format!("of-d{}", at % EACH), [], leaf(formula(at, &cell))]));
            for writes in writes.collect::<Vec<_>>().chunks(WRITTEN) {
                turn(&host, *charm, writes.to_vec()).await;
            }
        }
        let last = cell(size - 1);
        Graph { host, charms, last }
    }

    /// Adds three figures, each beside a turn that reads a cell.
    async fn measure(self, report: &mut Report, name: &str, rounds: u32, changed: usize) {
        let Graph { host, charms, last } = &self;
        let reader = charms[charms.len() - 1];
        let figure = |kind: &str| Figure::new(format!("derived/{name}/{kind}"), "us/turn", "a turn that reads a cell");
        let mut same = figure("same").goal(Goal::AtMost(1.5));
        let mut beside = figure("beside").goal(Goal::AtMost(2.0));
        let mut one = figure("changed");
        let runs = || host.derivations().runs;
        let mut computed = 0;
        for round in 0..=rounds {
            turn(host, charms[0], vec![json!(["set", "x", [], round])]).await;
            let before = runs();
            let changed = time(host, reader, last).await;
            computed = runs() - before;
            // What computing leaves behind is no part of the floor.
            turn(host, reader, vec![get(of(charms[0], "x"))]).await;
            let plain = time(host, reader, &of(charms[0], "x")).await;
            let unchanged = time(host, reader, last).await;
            turn(host, charms[0], vec![json!(["set", "z", [], round])]).await;
            let others = time(host, reader, last).await;
            // The first round computes everything.
            if round > 0 {
                same.add(unchanged, plain);
                beside.add(others, plain);
                one.add(changed, plain);
            }
        }
        assert!(computed <= changed as u64, "{name}: {computed} runs for one input");
        report.add(same);
        report.add(beside);
        report.add(one.note(format!("{computed} derivations run")));
        self.host.shutdown().await.unwrap();
    }
}

async fn turn(host: &Host, charm: Did, list: Vec<Json>) {
    let event = NewEvent::new(charm, "run", value(steps(json!(list))));
    let receipt = host.request(event).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{:?}", receipt.message);
}

/// Returns how long a turn takes that reads a cell, in microseconds.
async fn time(host: &Host, charm: Did, cell: &Json) -> f64 {
    let start = Instant::now();
    turn(host, charm, vec![get(cell.clone())]).await;
    start.elapsed().as_secs_f64() * 1e6
}
