//! What happens in one life, from its seed: formulas, reads and changes, as steps of the guest and for the oracle.

use charm_conformance::{Random, of};
use charm_host::{Did, Link, Path, Segment, Value};
use ipld_core::ipld::Ipld;
use serde_json::{Value as Json, json};

use super::oracle::{At, Change, Formula, Read, Steps};

pub const CHARMS: usize = 3;
const DERIVED: u64 = 6;
const KEYS: u64 = 4;
/// `q` is kept to itself; the names of others that links lead to are short, since guests decode links of 64 bytes at most.
pub const PLAIN: [&str; 8] = ["x", "y", "z", "pick", "doc", "k", "l", "q"];
/// Families have this place among derived cells.
const FAMILY: u64 = 3;

/// One step of a turn.
#[derive(Clone, Debug)]
pub enum Step {
    Read(Read),
    Change(At, Steps, Change),
    /// A link, to a place in a cell or to a stream.
    Link(At, Steps, Link),
    RemoveAll,
    /// Ends the transaction.
    Sleep,
}

/// Makes one life of a few charms.
pub struct Life {
    pub random: Random,
    pub dids: [Did; CHARMS],
}

impl Life {
    pub fn below(&mut self, max: u64) -> u64 {
        self.random.below(max)
    }

    pub fn charm(&mut self) -> usize {
        self.below(CHARMS as u64) as usize
    }

    /// A cell that is not derived.
    pub fn plain(&mut self) -> At {
        let charm = self.charm();
        if self.below(5) == 0 { (charm, format!("f:{}", self.below(KEYS))) } else { (charm, self.of(&PLAIN)) }
    }

    fn of(&mut self, names: &[&str]) -> String {
        (*self.random.pick(names)).to_owned()
    }

    pub fn derived(&mut self) -> At {
        let name = if self.below(5) == 0 { "m:".to_owned() } else { "d".to_owned() };
        let number = self.below(if name == "d" { DERIVED } else { KEYS });
        (self.charm(), format!("{name}{number}"))
    }

    /// Mostly of cells with a higher number, so that there are cycles, but not everywhere.
    fn cell(&mut self, above: u64) -> At {
        match self.below(10) {
            0..4 => self.plain(),
            4 => self.derived(),
            5 if above < FAMILY => (self.charm(), format!("m:{}", self.below(KEYS))),
            _ if above + 1 < DERIVED => {
                let number = above + 1 + self.below(DERIVED - above - 1);
                (self.charm(), format!("d{number}"))
            }
            _ => self.plain(),
        }
    }

    /// A place in that cell; where links are likely, below them.
    fn path(&mut self, at: &At) -> Steps {
        let key = |key: &str| Segment::Key(key.to_owned());
        let (inside, further) = (key("t"), key("n"));
        match (&*at.1, self.below(10)) {
            ("doc", 0..4) => vec![inside, further],
            ("doc", 4 | 5) => vec![inside],
            ("k" | "l" | "doc", 0..7) | (_, 0 | 1) => vec![further],
            (_, 7) => vec![Segment::Index(self.below(2) as u32)],
            (_, 8) => vec![inside, further],
            _ => vec![],
        }
    }

    fn get(&mut self, at: At) -> Read {
        let path = self.path(&at);
        Read::Get(at, path)
    }

    fn read(&mut self, above: u64) -> Read {
        match self.below(12) {
            0 => Read::Names(self.charm(), self.prefix(), 1 + self.below(3)),
            1 => Read::Entries(self.charm(), self.prefix()),
            2 => {
                let cells: Vec<At> = (0..=self.below(3)).map(|_| self.cell(above)).collect();
                let path = self.path(&cells[0]);
                Read::Each(cells, path)
            }
            _ => {
                let at = self.cell(above);
                self.get(at)
            }
        }
    }

    /// What begins with the last is not for others, and derived members are listed for nobody.
    fn prefix(&mut self) -> &'static str {
        ["f:", "f:", "f:1", "m:", "f"][self.below(5) as usize]
    }

    /// Returns whose derived cell or family gets a formula, and which.
    pub fn formula_of_any(&mut self) -> (At, Formula) {
        if self.below(5) == 0 {
            return ((self.charm(), "m".to_owned()), self.formula(FAMILY, 3, true));
        }
        let number = self.below(DERIVED);
        ((self.charm(), format!("d{number}")), self.formula(number, 3, false))
    }

    fn formula(&mut self, above: u64, depth: u32, is_member: bool) -> Formula {
        if is_member && self.below(3) == 0 {
            let family = if self.below(5) == 0 { "m" } else { "f" };
            return if self.below(4) == 0 { Formula::Key } else { Formula::Kin(self.charm(), family) };
        }
        match self.below(if depth == 0 { 4 } else { 13 }) {
            0 => Formula::Value(self.below(3) as i64),
            1..4 | 8 => Formula::Read(self.read(above)),
            4 if self.below(4) == 0 => Formula::Fail,
            4..8 => Formula::Sum((0..=self.below(3)).map(|_| self.formula(above, depth - 1, is_member)).collect()),
            12 => Formula::Caught(self.read(above)),
            _ => {
                let choice = self.plain();
                let choice = Formula::Read(self.get(choice));
                let (yes, no) = (self.formula(above, depth - 1, is_member), self.formula(above, depth - 1, is_member));
                Formula::If(Box::new([choice, yes, no]))
            }
        }
    }

    /// A step of a turn of that charm.
    pub fn step(&mut self, writer: usize) -> Step {
        match self.below(24) {
            0..7 => {
                let at = self.derived();
                Step::Read(self.get(at))
            }
            7..11 => Step::Read(self.read(0)),
            11..15 => {
                let link = match self.below(12) {
                    0 => Link::Stream { owner: self.dids[self.charm()], name: "run".into() },
                    _ => self.link(),
                };
                let (name, path) = match self.below(6) {
                    0 | 1 => ("doc", vec![Segment::Key("t".to_owned())]),
                    2 => ("f:1", vec![]),
                    3 | 4 => ("k", vec![]),
                    _ => ("l", vec![]),
                };
                Step::Link((writer, name.to_owned()), path, link)
            }
            15 if self.below(3) == 0 => Step::RemoveAll,
            15 if self.below(4) == 0 => Step::Sleep,
            _ => {
                let at = self.place(writer);
                let path = self.path(&at);
                Step::Change(at, path, self.change())
            }
        }
    }

    /// Where a charm writes: mostly where it may, and often below what may be a link.
    fn place(&mut self, writer: usize) -> At {
        match self.below(12) {
            0 => self.derived(),
            1 | 2 => (self.charm(), self.of(&["k", "l", "doc"])),
            3..6 => (writer, self.of(&["k", "l", "doc"])),
            _ => (writer, self.plain().1),
        }
    }

    fn link(&mut self) -> Link {
        let (charm, name) = match self.below(4) {
            0 => self.derived(),
            1 => (self.charm(), self.of(&["k", "l"])),
            _ => self.plain(),
        };
        // What a link carries is 64 bytes at most.
        let path = match self.below(4) {
            0 if name.len() == 1 => vec![Segment::Key("n".to_owned())],
            1 if name.len() < 3 => vec![Segment::Index(0)],
            _ => vec![],
        };
        let name = if name.len() > 3 { "x".to_owned() } else { name };
        Link::Cell { owner: self.dids[charm], name: name.into(), path: Path(path) }
    }

    fn change(&mut self) -> Change {
        let item = Ipld::Integer(self.below(3).into());
        match self.below(12) {
            0 => Change::Remove,
            1 => Change::Append(item),
            2 => Change::AddUnique(item),
            3 => Change::RemoveByValue(item),
            4 | 5 => Change::Increment(self.below(4) as i64 - 1),
            6 => Change::Set(Ipld::List(vec![item; self.below(3) as usize])),
            7..9 => Change::Set(Ipld::Map([("n".to_owned(), item)].into())),
            _ => Change::Set(item),
        }
    }
}

fn json_path(path: &[Segment]) -> Json {
    let step = |step: &Segment| match step {
        Segment::Key(key) => json!(key),
        Segment::Index(index) => json!(index),
    };
    json!(path.iter().map(step).collect::<Vec<_>>())
}

fn json_of(value: &Ipld) -> Json {
    Value::encode(value).unwrap().decode().unwrap()
}

impl Read {
    /// Returns the step of the guest.
    pub fn step(&self, dids: &[Did]) -> Json {
        let at = |(charm, name): &At| of(dids[*charm], name);
        match self {
            Read::Get(cell, path) => json!(["get", at(cell), json_path(path)]),
            Read::Each(cells, path) => {
                json!(["get-each", cells.iter().map(at).collect::<Vec<_>>(), json_path(path)])
            }
            Read::Names(owner, prefix, page) => json!(["all-names", dids[*owner].to_string(), prefix, page]),
            Read::Entries(owner, prefix) => json!(["entries", dids[*owner].to_string(), prefix, 100]),
        }
    }
}

impl Formula {
    /// Returns the step of the guest.
    pub fn step(&self, dids: &[Did]) -> Json {
        match self {
            Formula::Value(value) => json!(["value", value]),
            Formula::Read(read) => read.step(dids),
            Formula::Fail => json!(["reject", "as it was told"]),
            Formula::Caught(read) => json!(["caught", read.step(dids)]),
            Formula::Key => json!(["key"]),
            Formula::Kin(owner, family) => json!(["kin", dids[*owner].to_string(), family, []]),
            Formula::Sum(parts) => {
                let parts = parts.iter().map(|part| part.step(dids));
                json!([json!("sum")].into_iter().chain(parts).collect::<Vec<_>>())
            }
            Formula::If(parts) => json!(["if", parts[0].step(dids), parts[1].step(dids), parts[2].step(dids)]),
        }
    }
}

impl Step {
    /// Returns the step of the guest.
    pub fn step(&self, dids: &[Did]) -> Json {
        match self {
            Step::Read(read) => read.step(dids),
            Step::RemoveAll => json!(["remove-all", null, "f:", 100]),
            Step::Sleep => json!(["sleep", 0]),
            Step::Link((charm, name), path, link) => {
                let link = match link {
                    Link::Cell { owner, name, path } => json!([of(*owner, name), json_path(&path.0)]),
                    Link::Stream { owner, name } => json!([of(*owner, name)]),
                };
                json!(["set-link", of(dids[*charm], name), json_path(path), link])
            }
            Step::Change((charm, name), path, change) => {
                let (at, path) = (of(dids[*charm], name), json_path(path));
                match change {
                    Change::Set(to) => json!(["set", at, path, json_of(to)]),
                    Change::Remove => json!(["remove", at, path]),
                    Change::Append(item) => json!(["append", at, path, json_of(item)]),
                    Change::AddUnique(item) => json!(["add-unique", at, path, json_of(item)]),
                    Change::RemoveByValue(item) => json!(["remove-by-value", at, path, json_of(item)]),
                    Change::Increment(by) => json!(["increment", at, path, by]),
                }
            }
        }
    }
}
