//! What cells hold and derived cells come to, told without a host: everything is computed anew at each read.

use std::{cell::Cell, collections::BTreeMap, rc::Rc};

use charm_host::{Did, Link, Segment, Value};
use ipld_core::ipld::Ipld;

/// Links on one way, at most.
const LINKS_MAX: usize = 16;

/// A cell: whose, and its name.
pub type At = (usize, String);
/// Keys and indexes.
pub type Steps = Vec<Segment>;

/// What is read.
#[derive(Clone, Debug)]
pub enum Read {
    Get(At, Steps),
    /// Several at once.
    Each(Vec<At>, Steps),
    /// The names of cells with that prefix, in pages of so many.
    Names(usize, &'static str, u64),
    /// Names and values of cells with that prefix.
    Entries(usize, &'static str),
}

/// What a derived cell is computed by.
#[derive(Clone, Debug)]
pub enum Formula {
    Value(i64),
    Read(Read),
    Sum(Vec<Formula>),
    If(Box<[Formula; 3]>),
    Fail,
    /// Whether it is refused, and goes on.
    Caught(Read),
    /// The key of the member that is derived.
    Key,
    /// The member of another family with that key.
    Kin(usize, &'static str),
}

/// What a turn makes of a place.
#[derive(Clone, Debug)]
pub enum Change {
    Set(Ipld),
    Remove,
    Append(Ipld),
    AddUnique(Ipld),
    RemoveByValue(Ipld),
    Increment(i64),
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    Mismatch,
    Isolation,
    ReadOnly,
    Denied,
    Limit,
    Failed,
    /// These need each other, or links go round through them; sorted.
    Cycle(Vec<At>),
}

type Told<T> = Result<T, Refused>;

/// The derivations below do not end either: these need each other, and the first of them stands here in the stack.
pub struct Round(usize, Vec<At>);

/// Why a derivation has no value.
enum Ended {
    Failed,
    Round(Round),
}

impl From<Round> for Ended {
    fn from(round: Round) -> Ended {
        Ended::Round(round)
    }
}

impl From<Refused> for Ended {
    fn from(_: Refused) -> Ended {
        Ended::Failed
    }
}

/// What a path leads to.
enum Way<'a> {
    Found(&'a Ipld),
    Nothing,
    /// A link, after so many steps.
    Link(usize, &'a Ipld),
    Wrong,
}

#[derive(Clone)]
pub struct Oracle {
    pub dids: [Did; 3],
    pub cells: BTreeMap<At, Ipld>,
    /// By charm, and name of the cell or family.
    pub formulas: BTreeMap<At, Formula>,
    /// Reads and changes so far that a link led to where they could be made.
    pub led: Rc<Cell<[u64; 2]>>,
}

/// Returns whether a cell is derived.
pub fn is_derived(at: &At) -> bool {
    at.1.starts_with("m:") || (at.1.starts_with('d') && at.1 != "doc")
}

/// Returns what a guest shows of what it was told: a link as what it names.
fn shown(value: Ipld) -> Ipld {
    let Ipld::Link(_) = &value else { return value };
    let step = |step: &Segment| match step {
        Segment::Key(key) => Ipld::String(key.clone()),
        Segment::Index(index) => Ipld::Integer((*index).into()),
    };
    let parts = match Link::from_value(&Value::encode(&value).unwrap()).unwrap() {
        Link::Cell { owner, name, path } => {
            let path = Ipld::List(path.0.iter().map(step).collect());
            vec![Ipld::String(owner.to_string()), Ipld::String(name.to_string()), path]
        }
        Link::Stream { owner, name } => vec![Ipld::String(owner.to_string()), Ipld::String(name.to_string())],
    };
    Ipld::Map([("link".to_owned(), Ipld::List(parts))].into())
}

fn number(value: &Ipld) -> i128 {
    if let Ipld::Integer(number) = value { *number } else { 0 }
}

impl Oracle {
    fn may_read(reader: usize, at: &At) -> bool {
        reader == at.0 || at.1 != "q"
    }

    /// Returns what a reader is told.
    pub fn told(&self, reader: usize, read: &Read) -> Told<Ipld> {
        self.read(reader, read, &mut Vec::new()).unwrap_or_else(|_| unreachable!("nothing below the first"))
    }

    fn read(&self, reader: usize, read: &Read, stack: &mut Vec<At>) -> Result<Told<Ipld>, Round> {
        Ok(match read {
            Read::Get(at, path) => self.get(reader, at, path, stack)?,
            Read::Each(cells, path) => {
                let mut values = Vec::new();
                for at in cells {
                    match self.get(reader, at, path, stack)? {
                        Ok(value) => values.push(value),
                        Err(refused) => return Ok(Err(refused)),
                    }
                }
                Ok(Ipld::List(values))
            }
            Read::Names(owner, prefix, _) => self
                .listed(reader, *owner, prefix)
                .map(|entries| Ipld::List(entries.into_iter().map(|(name, _)| Ipld::String(name)).collect())),
            Read::Entries(owner, prefix) => self.listed(reader, *owner, prefix).map(|entries| {
                let entries = entries.into_iter().map(|(name, value)| Ipld::List(vec![Ipld::String(name), value]));
                let entries = Ipld::List(entries.collect());
                Ipld::Map([("entries".to_owned(), entries), ("next".to_owned(), Ipld::Null)].into())
            }),
        })
    }

    /// Returns the cells that hold something, in order.
    pub fn listed(&self, reader: usize, owner: usize, prefix: &str) -> Told<Vec<(String, Ipld)>> {
        if reader != owner && !prefix.contains(':') {
            return Err(Refused::Denied);
        }
        let of = self.cells.iter().filter(|((whose, name), _)| *whose == owner && name.starts_with(prefix));
        Ok(of.map(|((_, name), value)| (name.clone(), value.clone())).collect())
    }

    /// Returns what a cell holds as a reader sees it; none for nothing.
    fn seen(&self, reader: usize, at: &At, stack: &mut Vec<At>) -> Result<Told<Option<Ipld>>, Round> {
        if !Oracle::may_read(reader, at) {
            return Ok(Err(Refused::Denied));
        }
        if is_derived(at) { Ok(self.derive(at, stack)?.map(Some)) } else { Ok(Ok(self.cells.get(at).cloned())) }
    }

    fn get(&self, reader: usize, at: &At, path: &[Segment], stack: &mut Vec<At>) -> Result<Told<Ipld>, Round> {
        let told = self.follow(reader, 0, (at, path), stack, |oracle, at, path, stack| {
            let value = oracle.seen(reader, at, stack)?;
            Ok(value.and_then(|value| match walk(value.as_ref(), path) {
                Way::Found(value) => Ok(value.clone()),
                Way::Nothing => Ok(Ipld::Null),
                Way::Link(..) | Way::Wrong => Err(Refused::Mismatch),
            }))
        })?;
        Ok(told.map(shown))
    }

    /// Makes a call, a read (0) or a change (1), at a place, or where the links on the way lead.
    fn follow<T>(
        &self,
        reader: usize,
        kind: usize,
        (at, path): (&At, &[Segment]),
        stack: &mut Vec<At>,
        mut call: impl FnMut(&Oracle, &At, &[Segment], &mut Vec<At>) -> Result<Told<T>, Round>,
    ) -> Result<Told<T>, Round> {
        let mut way = vec![(at.clone(), path.to_vec())];
        loop {
            let (at, path) = way.last().unwrap().clone();
            let refused = match call(self, &at, &path, stack)? {
                Err(refused @ (Refused::Mismatch | Refused::Isolation | Refused::ReadOnly)) => refused,
                done => {
                    let mut led = self.led.get();
                    led[kind] += u64::from(done.is_ok() && way.len() > 1);
                    self.led.set(led);
                    return Ok(done);
                }
            };
            // What cannot be read leads nowhere.
            let value = self.seen(reader, &at, stack)?.unwrap_or_default();
            let Way::Link(steps, link) = walk(value.as_ref(), &path) else { return Ok(Err(refused)) };
            let link = Link::from_value(&Value::encode(link).unwrap()).unwrap();
            let Link::Cell { owner, name, path: base } = link else { return Ok(Err(refused)) };
            let owner = self.dids.iter().position(|did| *did == owner).unwrap();
            let next = ((owner, name.to_string()), [base.0, path[steps..].to_vec()].concat());
            if let Some(start) = way.iter().position(|been| *been == next) {
                let mut round: Vec<At> = way.drain(start..).map(|(at, _)| at).collect();
                round.sort();
                return Ok(Err(Refused::Cycle(round)));
            }
            if way.len() > LINKS_MAX {
                return Ok(Err(Refused::Limit));
            }
            way.push(next);
        }
    }

    fn derive(&self, at: &At, stack: &mut Vec<At>) -> Result<Told<Ipld>, Round> {
        if let Some(place) = stack.iter().position(|below| below == at) {
            return Err(Round(place, stack[place..].to_vec()));
        }
        let family = at.1.split(':').next().unwrap().to_owned();
        let Some(formula) = self.formulas.get(&(at.0, family)) else { return Ok(Ok(Ipld::Null)) };
        stack.push(at.clone());
        let computed = self.compute(at, formula, stack);
        stack.pop();
        match computed {
            Ok(value) => Ok(Ok(value)),
            Err(Ended::Failed) => Ok(Err(Refused::Failed)),
            Err(Ended::Round(Round(place, mut cells))) if place == stack.len() => {
                cells.sort();
                Ok(Err(Refused::Cycle(cells)))
            }
            Err(Ended::Round(round)) => Err(round),
        }
    }

    fn compute(&self, of: &At, formula: &Formula, stack: &mut Vec<At>) -> Result<Ipld, Ended> {
        let key = of.1.split_once(':').map_or("", |(_, key)| key);
        Ok(match formula {
            Formula::Value(value) => Ipld::Integer((*value).into()),
            Formula::Read(read) => self.read(of.0, read, stack)??,
            Formula::Fail => return Err(Ended::Failed),
            // What needs itself is in a cycle, whatever it makes of that.
            Formula::Caught(read) => Ipld::Integer(self.read(of.0, read, stack)?.is_err().into()),
            Formula::Key => Ipld::String(key.to_owned()),
            Formula::Kin(owner, family) => self.get(of.0, &(*owner, format!("{family}:{key}")), &[], stack)??,
            Formula::Sum(parts) => {
                let mut sum = 0;
                for part in parts {
                    match self.compute(of, part, stack)? {
                        Ipld::List(list) => sum += list.iter().map(number).sum::<i128>(),
                        one => sum += number(&one),
                    }
                }
                Ipld::Integer(sum)
            }
            Formula::If(parts) => {
                let choice = self.compute(of, &parts[0], stack)?;
                let is_no = matches!(choice, Ipld::Null | Ipld::Bool(false) | Ipld::Integer(0));
                self.compute(of, &parts[if is_no { 2 } else { 1 }], stack)?
            }
        })
    }

    /// Takes a change that a charm makes at a place.
    pub fn change(&mut self, writer: usize, at: &At, path: &[Segment], change: &Change) -> Told<()> {
        let left = self.follow(writer, 1, (at, path), &mut Vec::new(), |oracle, at, path, _| {
            Ok(match () {
                () if is_derived(at) => Err(Refused::ReadOnly),
                () if at.0 != writer => Err(Refused::Isolation),
                () => changed(oracle.cells.get(at), path, change).map(|value| (at.clone(), value)),
            })
        });
        let left = left.unwrap_or_else(|_| unreachable!("nothing below the first"));
        left.map(|(at, value)| match value {
            Some(value) => drop(self.cells.insert(at, value)),
            None => drop(self.cells.remove(&at)),
        })
    }
}

fn walk<'a>(value: Option<&'a Ipld>, path: &[Segment]) -> Way<'a> {
    let Some(mut value) = value else { return Way::Nothing };
    for (steps, step) in path.iter().enumerate() {
        let next = match (value, step) {
            (Ipld::Link(_), _) => return Way::Link(steps, value),
            (Ipld::Map(entries), Segment::Key(key)) => entries.get(key),
            (Ipld::List(items), Segment::Index(index)) => items.get(*index as usize),
            _ => return Way::Wrong,
        };
        let Some(next) = next else { return Way::Nothing };
        value = next;
    }
    Way::Found(value)
}

/// Returns what a change leaves in a cell.
fn changed(value: Option<&Ipld>, path: &[Segment], change: &Change) -> Told<Option<Ipld>> {
    let list = || match walk(value, path) {
        Way::Found(Ipld::List(items)) => Ok(items.clone()),
        Way::Nothing => Ok(Vec::new()),
        _ => Err(Refused::Mismatch),
    };
    let unchanged = || Ok(value.cloned());
    match change {
        Change::Set(to) => put(value, path, to.clone()).map(Some),
        Change::Remove => removed(value, path),
        Change::AddUnique(item) if list()?.contains(item) => unchanged(),
        Change::Append(item) | Change::AddUnique(item) => {
            let mut items = list()?;
            items.push(item.clone());
            put(value, path, Ipld::List(items)).map(Some)
        }
        Change::RemoveByValue(item) if !list()?.contains(item) => unchanged(),
        Change::RemoveByValue(item) => {
            let mut items = list()?;
            items.retain(|other| other != item);
            put(value, path, Ipld::List(items)).map(Some)
        }
        Change::Increment(by) => {
            let number = match walk(value, path) {
                Way::Found(Ipld::Integer(number)) => *number,
                Way::Nothing => 0,
                _ => return Err(Refused::Mismatch),
            };
            if *by == 0 { unchanged() } else { put(value, path, Ipld::Integer(number + i128::from(*by))).map(Some) }
        }
    }
}

/// Returns a value with another at a path: parents that are missing are made.
fn put(value: Option<&Ipld>, path: &[Segment], to: Ipld) -> Told<Ipld> {
    let Some((step, rest)) = path.split_first() else { return Ok(to) };
    match (value, step) {
        (None, Segment::Key(key)) => Ok(Ipld::Map([(key.clone(), put(None, rest, to)?)].into())),
        (None, Segment::Index(0)) => Ok(Ipld::List(vec![put(None, rest, to)?])),
        (Some(Ipld::Map(entries)), Segment::Key(key)) => {
            let mut entries = entries.clone();
            let inside = put(entries.get(key), rest, to)?;
            entries.insert(key.clone(), inside);
            Ok(Ipld::Map(entries))
        }
        (Some(Ipld::List(items)), Segment::Index(index)) if *index as usize <= items.len() => {
            let (mut items, index) = (items.clone(), *index as usize);
            let inside = put(items.get(index), rest, to)?;
            match items.get_mut(index) {
                Some(item) => *item = inside,
                None => items.push(inside),
            }
            Ok(Ipld::List(items))
        }
        _ => Err(Refused::Mismatch),
    }
}

fn removed(value: Option<&Ipld>, path: &[Segment]) -> Told<Option<Ipld>> {
    let Some((step, rest)) = path.split_first() else { return Ok(None) };
    match (value, step) {
        (None, _) => Ok(None),
        (Some(Ipld::Map(entries)), Segment::Key(key)) => {
            let mut entries = entries.clone();
            match removed(entries.get(key), rest)? {
                Some(inside) => drop(entries.insert(key.clone(), inside)),
                None => drop(entries.remove(key)),
            }
            Ok(Some(Ipld::Map(entries)))
        }
        (Some(Ipld::List(items)), Segment::Index(index)) => {
            let (mut items, index) = (items.clone(), *index as usize);
            if index < items.len() {
                match removed(items.get(index), rest)? {
                    Some(inside) => items[index] = inside,
                    None => drop(items.remove(index)),
                }
            }
            Ok(Some(Ipld::List(items)))
        }
        _ => Err(Refused::Mismatch),
    }
}
