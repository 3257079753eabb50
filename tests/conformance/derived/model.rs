//! Random charms, graphs, choices, failures, links, families, merges, writes and reads against an oracle that computes everything
//! anew at each read: equal at every read, also on what a host finds that lost its last commits. What is read again runs nothing
//! again.

mod life;
mod oracle;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use charm_conformance::{Control, GatedStore, Keys, Random, builder, receipt, run, seed, times, value, value_of};
use charm_host::{Did, EventId, Host, Limits, MemoryStore, NewEvent, Outcome, Path, StoreError, Value};
use futures_util::future::join_all;
use ipld_core::ipld::Ipld;
use serde_json::{Value as Json, json};

use super::{derivers, runs};
use life::{CHARMS, Life, Step};
use oracle::{At, Change, Oracle, Read, Refused};

const NAMES: [&str; CHARMS] = ["a", "b", "c"];

type Told = Result<Ipld, Refused>;

/// How often what has happened.
type Met = BTreeMap<&'static str, u64>;

/// One turn: its steps, and whether it fails after them.
struct Turn {
    charm: usize,
    steps: Vec<Step>,
    fails: bool,
}

impl Turn {
    fn random(life: &mut Life, charm: usize, may_sleep: bool) -> Turn {
        let mut steps: Vec<Step> = (0..life.below(9) + 1).map(|_| life.step(charm)).collect();
        steps.retain(|step| may_sleep || !matches!(step, Step::Sleep));
        Turn { charm, steps, fails: life.below(8) == 0 }
    }

    /// Returns the event, whose results go to a cell of that number.
    fn event(&self, dids: &[Did], number: usize) -> NewEvent {
        let mut steps: Vec<Json> = self.steps.iter().map(|step| json!(["try", step.step(dids)])).collect();
        if self.fails {
            steps.push(json!(["reject", "on purpose"]));
        }
        let event = json!({"steps": steps, "out": format!("o{number}")});
        NewEvent::new(dids[self.charm], "run", value(event))
    }

    /// Takes it; returns what each step is told. What fails leaves what it committed at a wait.
    fn take(&self, oracle: &mut Oracle, met: &mut Met) -> Vec<Told> {
        let (mut kept, mut told) = (oracle.clone(), Vec::new());
        for step in &self.steps {
            if matches!(step, Step::Sleep) {
                kept = oracle.clone();
            }
            let one = perform(oracle, self.charm, step);
            let what = match (&one, step) {
                (Err(refused), _) => name(refused),
                (Ok(_), Step::Read(_)) => "value",
                (Ok(_), Step::Sleep) => "wait",
                (Ok(_), _) => "write",
            };
            *met.entry(what).or_default() += 1;
            told.push(one);
        }
        if self.fails {
            *oracle = kept;
            *met.entry("failed turn").or_default() += 1;
        }
        told
    }
}

fn name(refused: &Refused) -> &'static str {
    match refused {
        Refused::Mismatch => "type-mismatch",
        Refused::Isolation => "write-isolation",
        Refused::ReadOnly => "read-only",
        Refused::Denied => "denied",
        Refused::Limit => "limit",
        Refused::Failed => "failed",
        Refused::Cycle(_) => "cycle",
    }
}

/// Lets the oracle take a step of a charm.
fn perform(oracle: &mut Oracle, charm: usize, step: &Step) -> Told {
    match step {
        Step::Read(read) => oracle.told(charm, read),
        Step::Change(at, path, change) => oracle.change(charm, at, path, change).map(|()| Ipld::Null),
        Step::Link(at, path, link) => {
            let link = Change::Set(link.to_value().decode().unwrap());
            oracle.change(charm, at, path, &link).map(|()| Ipld::Null)
        }
        Step::RemoveAll => {
            let members = oracle.listed(charm, charm, "f:")?;
            for (name, _) in &members {
                oracle.cells.remove(&(charm, name.clone()));
            }
            Ok(Ipld::Map([("count".to_owned(), Ipld::Integer(members.len() as i128))].into()))
        }
        Step::Sleep => Ok(Ipld::Null),
    }
}

fn field<'a>(map: &'a Ipld, key: &str) -> Option<&'a Ipld> {
    if let Ipld::Map(entries) = map { entries.get(key) } else { None }
}

fn items(list: &Ipld) -> &[Ipld] {
    if let Ipld::List(items) = list { items } else { panic!("no list: {list:?}") }
}

fn text(value: &Ipld) -> &str {
    if let Ipld::String(text) = value { text } else { panic!("no text: {value:?}") }
}

/// What a turn was told, as the oracle says it.
fn seen(told: &Ipld, step: Option<&Step>, dids: &[Did]) -> Told {
    if let Some(value) = field(told, "ok") {
        return match (value, step) {
            // Where the next page would begin is the host's matter.
            (Ipld::Map(entries), Some(Step::RemoveAll)) => {
                Ok(Ipld::Map(entries.clone().into_iter().filter(|(key, _)| key != "next").collect()))
            }
            _ => Ok(value.clone()),
        };
    }
    let error = field(told, "error").unwrap();
    Err(match text(field(error, "kind").unwrap()) {
        "type-mismatch" => Refused::Mismatch,
        "write-isolation" => Refused::Isolation,
        "read-only" => Refused::ReadOnly,
        "denied" => Refused::Denied,
        "limit" if field(error, "name").is_some_and(|name| text(name) == "links-max") => Refused::Limit,
        "failed" => Refused::Failed,
        "cycle" => {
            let at = |cell: &Ipld| -> At {
                let charm = dids.iter().position(|did| text(&items(cell)[0]) == did.to_string()).unwrap();
                (charm, text(&items(cell)[1]).to_owned())
            };
            let mut cells: Vec<At> = items(field(error, "cells").unwrap()).iter().map(at).collect();
            cells.sort();
            Refused::Cycle(cells)
        }
        _ => panic!("{error:?}"),
    })
}

/// Returns what a cell of that name holds.
async fn ipld(host: &Host, charm: Did, name: &str) -> Ipld {
    value_of(host, charm, name).await.map_or(Ipld::Null, |value| value.decode().unwrap())
}

/// The disk of a life, and the host that runs on it.
struct World {
    memory: MemoryStore,
    keys: Keys,
    limits: Limits,
    running: Option<(Host, Control)>,
}

impl World {
    fn host(&self) -> &Host {
        &self.running.as_ref().unwrap().0
    }

    /// Starts a host: what the one before kept is gone, what is durable is there.
    async fn start(&mut self) -> [Did; CHARMS] {
        let (store, control) = GatedStore::new(self.memory.clone());
        let host = builder().limits(self.limits.clone()).store(store).keyring(self.keys.clone()).open().await.unwrap();
        let dids = derivers(&host, NAMES).await;
        self.running = Some((host, control));
        dids
    }

    async fn restart(&mut self) -> [Did; CHARMS] {
        self.running.take().unwrap().0.shutdown().await.unwrap();
        self.start().await
    }

    /// Lets turns run on what is not durable yet, and loses all of that.
    async fn crash(&mut self, events: Vec<NewEvent>) -> [Did; CHARMS] {
        let (host, control) = self.running.take().unwrap();
        control.hold();
        let lose = async {
            tokio::time::sleep(Duration::from_millis(4)).await;
            control.fail(Some(StoreError::Failed("power cut".to_owned())));
            control.release();
        };
        let requests = join_all(events.into_iter().map(|event| host.request(event)));
        for answer in tokio::join!(requests, lose).0 {
            assert!(answer.is_err(), "nothing leaves: {answer:?}");
        }
        drop(host);
        control.closed().await;
        self.start().await
    }
}

/// A life: its oracle, and the host that must say the same.
struct Lives {
    seed: u64,
    round: u64,
    life: Life,
    oracle: Oracle,
    world: World,
}

impl Lives {
    /// Some turns of one charm, one after the other, which do not wait for each other's being durable.
    fn turns(&mut self) -> Vec<Turn> {
        let (charm, count) = (self.life.charm(), self.life.below(3).max(1));
        (0..count).map(|_| Turn::random(&mut self.life, charm, count == 1)).collect()
    }

    async fn act(&mut self, met: &mut Met) {
        let turns = self.turns();
        let dids = self.life.dids;
        let mut ids: Vec<EventId> = Vec::new();
        for (number, turn) in turns.iter().enumerate() {
            ids.push(self.world.host().send(turn.event(&dids, number)).await.unwrap());
        }
        for (number, (turn, id)) in turns.iter().zip(&ids).enumerate() {
            let at = format!("seed {}, round {}, turn {number}", self.seed, self.round);
            let outcome = receipt(self.world.host(), id).await.outcome;
            assert_eq!(outcome, if turn.fails { Outcome::Rejected } else { Outcome::Committed }, "{at}");
        }
        for (number, turn) in turns.iter().enumerate() {
            let wanted = turn.take(&mut self.oracle, met);
            if turn.fails {
                continue;
            }
            let told = ipld(self.world.host(), dids[turn.charm], &format!("o{number}")).await;
            for (place, (wanted, step)) in wanted.into_iter().zip(&turn.steps).enumerate() {
                let told = seen(&items(&told)[place], Some(step), &dids);
                let at = format!("seed {}, round {}, turn {number}", self.seed, self.round);
                let Oracle { cells, formulas, .. } = &self.oracle;
                let all = format!("{:?} of {}; then {cells:?} {formulas:?}", turn.steps, turn.charm);
                assert_eq!(told, wanted, "{at}, step {place} of {all}");
            }
        }
    }

    /// Reads some cells twice in turns, and from outside.
    async fn look(&mut self, met: &mut Met) {
        let (dids, reader) = (self.life.dids, self.life.charm());
        let host = self.world.host();
        let cells: BTreeSet<At> = (0..=self.life.below(4)).map(|_| self.life.derived()).collect();
        let reads: Vec<Read> = cells.iter().map(|at| Read::Get(at.clone(), vec![])).collect();
        let steps: Vec<Json> = reads.iter().map(|read| json!(["try", read.step(&dids)])).collect();
        let event = || NewEvent::new(dids[reader], "run", value(json!({"steps": steps, "out": "out"})));
        assert_eq!(host.request(event()).await.unwrap().outcome, Outcome::Committed);
        let told = ipld(host, dids[reader], "out").await;
        let at = format!("seed {}, round {}", self.seed, self.round);
        for (read, told) in reads.iter().zip(items(&told)) {
            let told = seen(told, None, &dids);
            assert_eq!(told, self.oracle.told(reader, read), "{at}: {read:?}; {:?}", self.oracle.formulas);
            let what = told.as_ref().map_or_else(name, |_| "value");
            *met.entry(what).or_default() += 1;
        }
        let before = runs(host);
        assert_eq!(host.request(event()).await.unwrap().outcome, Outcome::Committed);
        assert_eq!(ipld(host, dids[reader], "out").await, told);
        assert!(self.seed.is_multiple_of(2) || runs(host) == before, "{at}: {cells:?}");
        for at in &cells {
            let outside = host.get::<Value>(&dids[at.0], &at.1, &Path::root()).await;
            match self.oracle.told(at.0, &Read::Get(at.clone(), vec![])) {
                Ok(wanted) => {
                    let found: Ipld = outside.unwrap().unwrap().decode().unwrap();
                    assert_eq!(found, wanted, "seed {}, round {}, {at:?}", self.seed, self.round);
                }
                Err(_) => assert!(outside.is_err(), "seed {}, round {}", self.seed, self.round),
            }
        }
    }

    /// Compares all that is stored.
    async fn compare(&self) {
        for (charm, did) in self.life.dids.iter().enumerate() {
            let stored = self.world.host().cells(did).await.unwrap();
            let names = stored.iter().map(|cell| &*cell.name).filter(|name| !name.starts_with('o'));
            let stored: BTreeSet<At> = names.map(|name| (charm, name.to_owned())).collect();
            let wanted = self.oracle.cells.keys().filter(|at| at.0 == charm).cloned().collect();
            assert_eq!(stored, wanted, "seed {}", self.seed);
            for at in stored {
                let found = ipld(self.world.host(), *did, &at.1).await;
                assert_eq!(found, self.oracle.cells[&at], "seed {}: {at:?}", self.seed);
            }
        }
    }
}

async fn live(seed: u64, rounds: u64, met: &mut Met) {
    // In every other life hardly anything is kept.
    let memo_bytes_max = if seed.is_multiple_of(2) { 2 << 10 } else { 1 << 20 };
    let limits = Limits { memo_bytes_max, ..Limits::default() };
    let mut world = World { memory: MemoryStore::new(), keys: Keys::default(), limits, running: None };
    let dids = world.start().await;
    let life = Life { random: Random::new(seed), dids };
    let oracle = Oracle { dids, cells: BTreeMap::new(), formulas: BTreeMap::new(), led: Rc::default() };
    let mut all = Lives { seed, round: 0, life, oracle, world };
    for round in 0..rounds {
        all.round = round;
        match all.life.below(40) {
            0..12 => {
                let ((charm, name), formula) = all.life.formula_of_any();
                let write = json!([["set", format!("of-{name}"), [], formula.step(&dids)]]);
                assert_eq!(run(all.world.host(), dids[charm], write).await.outcome, Outcome::Committed);
                all.oracle.formulas.insert((charm, name), formula);
            }
            12 if round % 2 == 0 => {
                let found = all.world.restart().await;
                assert_eq!(found, dids);
                *met.entry("restart").or_default() += 1;
            }
            13 if round % 2 == 0 => {
                let events = (0..3).flat_map(|_| all.turns()).map(|turn| turn.event(&dids, 0)).collect();
                let found = all.world.crash(events).await;
                assert_eq!(found, dids);
                *met.entry("crash").or_default() += 1;
            }
            14..32 => all.act(met).await,
            _ => all.look(met).await,
        }
    }
    all.compare().await;
    let [reads, changes] = all.oracle.led.get();
    *met.entry("read through a link").or_default() += reads;
    *met.entry("change through a link").or_default() += changes;
    let World { running, .. } = all.world;
    running.unwrap().0.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn random_graphs_agree_with_an_oracle_that_computes_everything() {
    let (first, mut met) = (seed(), Met::new());
    for seed in first..first + times(12) {
        live(seed, 60, &mut met).await;
    }
    eprintln!("{met:?}");
    for what in [
        "value",
        "write",
        "wait",
        "restart",
        "crash",
        "failed turn",
        "read through a link",
        "change through a link",
        "type-mismatch",
        "write-isolation",
        "read-only",
        "denied",
        "failed",
        "cycle",
    ] {
        assert!(met.get(what).is_some_and(|count| *count > 0), "{what} was never met: {met:?}");
    }
}
