//! `family`: a member of a family of many cells read or written in a turn, and a page of a hundred listed, over the same in a family of a
//! thousand; and what opening such a store and reading one cell of it takes.

use std::time::Instant;

use charm_host::{Archive, Did, FolderStore, Host, NewEvent, Path, Value};

use crate::{
    density::resident,
    report::{Figure, Goal, Report},
    scale::Scale,
    world,
};

/// Members of the family that is the floor.
const FEW: u32 = 1_000;
/// What a turn does.
const DEEDS: [(&str, u32); 3] = [("get", 0), ("set", 1), ("list", 2)];

pub async fn run(scale: Scale, report: &mut Report) {
    let many: u32 = scale.of([2_000, 100_000, 1_000_000, 1_000_000]);
    let (rounds, turns) = (scale.of([1, 5, 5, 9]), scale.of([10, 2_000, 5_000, 10_000]));
    let folder = world::folder();
    let host = world::durable(folder.path()).await.host;
    let dids = world::install(&host, 0..2, 1).await;
    let before = resident();
    for (did, members) in [(dids[0], FEW), (dids[1], many)] {
        for thousand in 0..members / FEW {
            world::request_all(&host, &[did], "members", |_| Value::encode(&thousand).unwrap()).await;
        }
    }
    let each = (resident() - before) / f64::from(many);
    for (name, deed) in DEEDS {
        let figure =
            Figure::new(format!("family/{name}/{many}"), "us/turn", "in a family of 1,000").goal(Goal::AtMost(1.5));
        let mut figure = figure.note(format!("{each:.0} bytes of memory a member"));
        for _ in 0..rounds {
            let few = cost(&host, dids[0], turns, deed, FEW).await;
            figure.add(cost(&host, dids[1], turns, deed, many).await, few);
        }
        report.add(figure);
    }
    host.shutdown().await.unwrap();
    let mut figure = Figure::new(format!("family/look/{many}"), "us", "a cell of the family of 1,000");
    for _ in 0..rounds {
        let few = look(folder.path(), &dids[0]);
        figure.add(look(folder.path(), &dids[1]), few);
    }
    report.add(figure);
}

/// Returns microseconds a turn of a chain.
async fn cost(host: &Host, charm: Did, turns: u32, deed: u32, many: u32) -> f64 {
    let start = Instant::now();
    let event = Value::encode(&[turns - 1, deed, many]).unwrap();
    host.send(NewEvent::new(charm, "member", event)).await.unwrap();
    host.settled().await.unwrap();
    start.elapsed().as_secs_f64() * 1e6 / f64::from(turns)
}

/// Opens the store for reading and gets one cell, as `charm get` does; returns microseconds.
fn look(folder: &std::path::Path, charm: &Did) -> f64 {
    let start = Instant::now();
    let archive = Archive::open(FolderStore::open_read_only(folder.join("store")).unwrap()).unwrap();
    let value = archive.get(charm, "m:0000000007", &Path::root(), None).unwrap();
    assert!(value.is_some(), "it is there");
    start.elapsed().as_secs_f64() * 1e6
}
