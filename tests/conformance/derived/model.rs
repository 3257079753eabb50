//! Random charms, graphs, choices, failures, writes and reads against an oracle that computes everything anew at each read: equal
//! at every read. What is read again runs nothing again.

use std::collections::{BTreeMap, BTreeSet};

use charm_conformance::{Keys, Random, builder, of, results, run};
use charm_host::{Did, Host, Limits, MemoryStore, Outcome};
use serde_json::{Value as Json, json};

use super::{derivers, runs};

const CHARMS: usize = 3;
const DERIVED: u64 = 6;
const PLAIN: [&str; 4] = ["x", "y", "z", "pick"];

/// A cell: whose, and its name.
type At = (usize, String);

/// What a derived cell is computed by.
#[derive(Clone, Debug)]
enum Formula {
    Value(i64),
    Get(At),
    Sum(Vec<Formula>),
    If(Box<[Formula; 3]>),
    Fail,
    /// Whether it is refused, and goes on.
    Caught(At),
    /// Several at once.
    Each(Vec<At>),
}

/// What a read gives: a value, or the kind of an error with the cells of a cycle.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Value(Json),
    Failed,
    Cycle(Vec<String>),
}

enum Unwound {
    Failed,
    /// These need each other; the first of them stands here in the stack.
    Cycle(usize, Vec<At>),
}

#[derive(Clone, Default)]
struct Model {
    cells: BTreeMap<At, Json>,
    formulas: BTreeMap<At, Formula>,
}

fn number(value: &Json) -> i64 {
    value.as_i64().unwrap_or(0)
}

impl Model {
    fn is_derived(at: &At) -> bool {
        at.1.starts_with('d')
    }

    fn read(&self, at: &At) -> Seen {
        self.get(at, &mut Vec::new()).unwrap_or_else(|_| unreachable!("nothing below the first"))
    }

    fn get(&self, at: &At, stack: &mut Vec<At>) -> Result<Seen, Unwound> {
        if !Self::is_derived(at) {
            return Ok(Seen::Value(self.cells.get(at).cloned().unwrap_or(Json::Null)));
        }
        if let Some(place) = stack.iter().position(|below| below == at) {
            return Err(Unwound::Cycle(place, stack[place..].to_vec()));
        }
        let Some(formula) = self.formulas.get(at) else { return Ok(Seen::Value(Json::Null)) };
        stack.push(at.clone());
        let computed = self.compute(formula, stack);
        stack.pop();
        match computed {
            Ok(value) => Ok(Seen::Value(value)),
            Err(Unwound::Failed) => Ok(Seen::Failed),
            Err(Unwound::Cycle(place, cells)) if place == stack.len() => Ok(cycle(&cells)),
            Err(unwound) => Err(unwound),
        }
    }

    fn compute(&self, formula: &Formula, stack: &mut Vec<At>) -> Result<Json, Unwound> {
        let get = |at: &At, stack: &mut Vec<At>| match self.get(at, stack)? {
            Seen::Value(value) => Ok(value),
            Seen::Failed | Seen::Cycle(_) => Err(Unwound::Failed),
        };
        Ok(match formula {
            Formula::Value(value) => json!(value),
            Formula::Get(at) => get(at, stack)?,
            Formula::Fail => return Err(Unwound::Failed),
            // What needs itself is in a cycle, whatever it makes of that.
            Formula::Caught(at) => json!(i64::from(!matches!(self.get(at, stack)?, Seen::Value(_)))),
            Formula::Sum(parts) => {
                let mut sum = 0;
                for part in parts {
                    match self.compute(part, stack)? {
                        Json::Array(list) => sum += list.iter().map(number).sum::<i64>(),
                        one => sum += number(&one),
                    }
                }
                json!(sum)
            }
            Formula::If(parts) => {
                let yes = !matches!(self.compute(&parts[0], stack)?, Json::Null | Json::Bool(false))
                    && self.compute(&parts[0], stack)? != json!(0);
                self.compute(&parts[if yes { 1 } else { 2 }], stack)?
            }
            Formula::Each(cells) => {
                json!(cells.iter().map(|at| get(at, stack)).collect::<Result<Vec<_>, _>>()?)
            }
        })
    }
}

fn cycle(cells: &[At]) -> Seen {
    let mut names: Vec<String> = cells.iter().map(|(charm, name)| format!("{charm}/{name}")).collect();
    names.sort();
    Seen::Cycle(names)
}

fn step(formula: &Formula, dids: &[Did]) -> Json {
    let at = |(charm, name): &At| of(dids[*charm], name);
    match formula {
        Formula::Value(value) => json!(["value", value]),
        Formula::Get(cell) => json!(["get", at(cell), []]),
        Formula::Fail => json!(["reject", "as it was told"]),
        Formula::Caught(cell) => json!(["caught", ["get", at(cell), []]]),
        Formula::Sum(parts) => {
            let parts = parts.iter().map(|part| step(part, dids));
            json!([json!("sum")].into_iter().chain(parts).collect::<Vec<_>>())
        }
        Formula::If(parts) => {
            json!(["if", step(&parts[0], dids), step(&parts[1], dids), step(&parts[2], dids)])
        }
        Formula::Each(cells) => json!(["get-each", cells.iter().map(at).collect::<Vec<_>>(), []]),
    }
}

/// Makes one life of a few charms.
struct Life {
    seeds: Random,
    model: Model,
}

impl Life {
    fn below(&mut self, max: u64) -> u64 {
        self.seeds.below(max)
    }

    fn plain(&mut self) -> At {
        (self.below(CHARMS as u64) as usize, PLAIN[self.below(4) as usize].to_owned())
    }

    fn derived(&mut self) -> At {
        (self.below(CHARMS as u64) as usize, format!("d{}", self.below(DERIVED)))
    }

    /// Mostly of cells with a higher number, so that there are cycles, but not everywhere.
    fn cell(&mut self, above: u64) -> At {
        match self.below(10) {
            0..4 => self.plain(),
            4 => self.derived(),
            _ if above + 1 < DERIVED => {
                let number = above + 1 + self.below(DERIVED - above - 1);
                (self.below(CHARMS as u64) as usize, format!("d{number}"))
            }
            _ => self.plain(),
        }
    }

    fn formula(&mut self, above: u64, depth: u32) -> Formula {
        match self.below(if depth == 0 { 4 } else { 13 }) {
            0 => Formula::Value(self.below(3) as i64),
            1..4 => Formula::Get(self.cell(above)),
            4 if self.below(4) == 0 => Formula::Fail,
            4..8 => Formula::Sum((0..=self.below(3)).map(|_| self.formula(above, depth - 1)).collect()),
            12 => Formula::Caught(self.cell(above)),
            8 => Formula::Each((0..=self.below(4)).map(|_| self.cell(above)).collect()),
            _ => {
                let choice = Formula::Get(self.plain());
                Formula::If(Box::new([choice, self.formula(above, depth - 1), self.formula(above, depth - 1)]))
            }
        }
    }
}

/// What a turn was told, as the oracle says it.
fn seen(told: &Json, dids: &[Did]) -> Seen {
    if let Some(value) = told.get("ok") {
        return Seen::Value(value.clone());
    }
    let error = &told["error"];
    match error["kind"].as_str() {
        Some("failed") => Seen::Failed,
        Some("cycle") => {
            let name = |cell: &Json| {
                let charm = dids.iter().position(|did| cell[0] == json!(did.to_string())).unwrap();
                format!("{charm}/{}", cell[1].as_str().unwrap())
            };
            let mut names: Vec<String> = error["cells"].as_array().unwrap().iter().map(name).collect();
            names.sort();
            Seen::Cycle(names)
        }
        other => panic!("{other:?}: {told}"),
    }
}

async fn live(seed: u64, rounds: u64, met: &mut BTreeSet<&'static str>) {
    let mut life = Life { seeds: Random::new(seed), model: Model::default() };
    let store = MemoryStore::new();
    let keys = Keys::default();
    // In every other life hardly anything is kept.
    let memo_bytes_max = if seed.is_multiple_of(2) { 2 << 10 } else { 1 << 20 };
    let open = || async {
        let limits = Limits { memo_bytes_max, ..Limits::default() };
        builder().limits(limits).store(store.clone()).keyring(keys.clone()).open().await.unwrap()
    };
    let mut host: Host = open().await;
    let names = ["a", "b", "c"];
    let dids = derivers(&host, names).await;
    for round in 0..rounds {
        match life.below(10) {
            0..3 => {
                let at = life.derived();
                let above = at.1[1..].parse().unwrap();
                let formula = life.formula(above, 3);
                let write = json!([["set", format!("of-{}", at.1), [], step(&formula, &dids)]]);
                assert_eq!(run(&host, dids[at.0], write).await.outcome, Outcome::Committed);
                life.model.formulas.insert(at, formula);
            }
            3..6 => {
                let (at, value) = (life.plain(), life.below(3));
                let write = json!([["set", at.1, [], value]]);
                assert_eq!(run(&host, dids[at.0], write).await.outcome, Outcome::Committed);
                life.model.cells.insert(at, json!(value));
            }
            6 if round % 17 == 0 => {
                // What was kept is gone, what is durable is there.
                drop(host.shutdown().await);
                host = open().await;
                assert_eq!(derivers(&host, names).await, dids);
            }
            // A turn that reads, writes and reads again, and then fails.
            7 => {
                let reader = life.below(CHARMS as u64) as usize;
                let mut model = life.model.clone();
                let (mut steps, mut wanted) = (Vec::new(), Vec::new());
                for _ in 0..life.below(6) + 2 {
                    if life.below(3) == 0 {
                        let (name, value) = (PLAIN[life.below(4) as usize], life.below(3));
                        steps.push(json!(["set", name, [], value]));
                        model.cells.insert((reader, name.to_owned()), json!(value));
                        wanted.push(None);
                    } else {
                        let at = life.derived();
                        steps.push(json!(["try", ["get", of(dids[at.0], &at.1), []]]));
                        wanted.push(Some((at.clone(), model.read(&at))));
                    }
                }
                let told = results(&host, dids[reader], json!(steps)).await;
                for (told, wanted) in told.as_array().unwrap().iter().zip(wanted) {
                    if let Some((at, wanted)) = wanted {
                        assert_eq!(seen(told, &dids), wanted, "seed {seed}, round {round}: {at:?} in {steps:?}");
                    }
                }
                life.model = model;
            }
            _ => {
                let reader = life.below(CHARMS as u64) as usize;
                let cells: BTreeSet<At> = (0..=life.below(4)).map(|_| life.derived()).collect();
                let steps: Vec<Json> =
                    cells.iter().map(|at| json!(["try", ["get", of(dids[at.0], &at.1), []]])).collect();
                let told = results(&host, dids[reader], json!(steps)).await;
                for (at, told) in cells.iter().zip(told.as_array().unwrap()) {
                    let seen = seen(told, &dids);
                    assert_eq!(seen, life.model.read(at), "seed {seed}, round {round}: {at:?}");
                    met.insert(match seen {
                        Seen::Value(_) => "value",
                        Seen::Failed => "failed",
                        Seen::Cycle(_) => "cycle",
                    });
                }
                let before = runs(&host);
                assert_eq!(results(&host, dids[reader], json!(steps)).await, told);
                assert!(seed.is_multiple_of(2) || runs(&host) == before, "seed {seed}, round {round}: {cells:?}");
                if let Some(at) = cells.first() {
                    let outside = host.get::<Json>(&dids[at.0], &at.1, "").await;
                    match life.model.read(at) {
                        Seen::Value(wanted) => assert_eq!(outside.unwrap().unwrap(), wanted, "seed {seed}, {round}"),
                        _ => assert!(outside.is_err(), "seed {seed}, round {round}"),
                    }
                }
            }
        }
    }
    host.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn random_graphs_agree_with_an_oracle_that_computes_everything() {
    let (first, mut met) = (charm_conformance::seed(), BTreeSet::new());
    for seed in first..first + charm_conformance::times(8) {
        live(seed, 100, &mut met).await;
    }
    assert_eq!(met.len(), 3, "{met:?}");
}
