//! What steps over several cells do, told without a host: derived cells, which are computed anew at each read (D3), families
//! (C8), and mergeable writes (C3).

use charm_host::Did;
use ipld_core::ipld::Ipld;

use super::{
    super::script::{list, map, text},
    End, Turn, integer, items, string,
};

/// What a step gives, or an error that the guest sees.
type Told = Result<Ipld, Ipld>;

impl Turn<'_> {
    /// Takes a step that looks at several cells, or merges.
    pub(super) fn more(&mut self, step: &[Ipld]) -> Result<Told, End> {
        Ok(match (string(&step[0]), &step[1..]) {
            ("get-each", [cells, _]) => {
                let cells: Vec<_> = items(cells).iter().map(|cell| self.address(cell)).collect();
                Ok(list(cells.iter().map(|(owner, name)| self.get(*owner, name)).collect::<Result<Vec<_>, End>>()?))
            }
            ("all-names" | "entries", [owner, prefix, _]) => {
                let (owner, prefix) = (string(owner).parse().unwrap(), string(prefix));
                if !self.cast.may(self.charm, owner) {
                    return Ok(Err(text("denied")));
                }
                Ok(shown(string(&step[0]), self.listed(owner, prefix)))
            }
            ("increment", [cell, _, by]) => match (self.read(self.charm, string(cell)), integer(by)) {
                (number @ (Ipld::Integer(_) | Ipld::Null), by) => {
                    if by > 0 {
                        self.write(string(cell), Some(Ipld::Integer(whole(&number) + i128::from(by))));
                    }
                    Ok(Ipld::Null)
                }
                _ => Err(text("type-mismatch")),
            },
            (merge @ ("append" | "add-unique" | "remove-by-value"), [cell, _, item]) => {
                let cell = string(cell);
                let (is_there, mut list) = match self.read(self.charm, cell) {
                    Ipld::List(items) => (true, items),
                    Ipld::Null => (false, Vec::new()),
                    _ => return Ok(Err(text("type-mismatch"))),
                };
                let has = list.contains(item);
                match merge {
                    "remove-by-value" => list.retain(|other| other != item),
                    "add-unique" if has => {}
                    _ => list.push(item.clone()),
                }
                if is_there || !list.is_empty() {
                    self.write(cell, Some(Ipld::List(list)));
                }
                Ok(Ipld::Null)
            }
            other => panic!("no script says {other:?}"),
        })
    }

    /// Reads a cell that the charm may read. A derived one that has no value ends the script.
    pub(super) fn get(&mut self, owner: Did, name: &str) -> Result<Ipld, End> {
        match self.cast.derivation(owner, name) {
            Some(_) => {
                let value = self.derived(name).ok_or(End::Reject)?;
                self.derived += u64::from(value != Ipld::Null);
                Ok(value)
            }
            None => Ok(self.read(owner, name)),
        }
    }

    /// Returns the cells of a space that hold something, in order.
    fn listed(&mut self, owner: Did, prefix: &str) -> Vec<(String, Ipld)> {
        self.looked |= owner != self.charm;
        let from = (owner, prefix.to_owned());
        let before =
            self.before.range(from..).take_while(|((whose, name), _)| *whose == owner && name.starts_with(prefix));
        let mut cells: std::collections::BTreeMap<String, Ipld> =
            before.map(|((_, name), value)| (name.clone(), value.clone())).collect();
        for (name, value) in self.writes.iter().filter(|(name, _)| owner == self.charm && name.starts_with(prefix)) {
            match value {
                Some(value) => cells.insert(name.clone(), value.clone()),
                None => cells.remove(name),
            };
        }
        cells.into_iter().collect()
    }

    /// Computes a derived cell from the cells before the turn and what it has written; none when its derivation fails.
    fn derived(&mut self, name: &str) -> Option<Ipld> {
        // Also its own cells: others write below them.
        self.looked = true;
        let (family, key) = name.split_once(':').unwrap_or((name, ""));
        match self.read(self.cast.deriver(), &format!("of-{family}")) {
            Ipld::Null => Some(Ipld::Null),
            formula => self.computed(&formula, key),
        }
    }

    fn computed(&mut self, formula: &Ipld, key: &str) -> Option<Ipld> {
        let parts = items(formula);
        Some(match string(&parts[0]) {
            "get" => {
                let (owner, name) = match &parts[1] {
                    Ipld::List(_) => self.address(&parts[1]),
                    own => (self.cast.deriver(), string(own).to_owned()),
                };
                return self.get(owner, &name).ok();
            }
            "kin" => self.read(string(&parts[1]).parse().unwrap(), &format!("{}:{key}", string(&parts[2]))),
            op @ ("all-names" | "entries") => {
                shown(op, self.listed(string(&parts[1]).parse().unwrap(), string(&parts[2])))
            }
            "sum" => {
                let mut sum = 0;
                for part in &parts[1..] {
                    match self.computed(part, key)? {
                        Ipld::List(items) => sum += items.iter().map(whole).sum::<i128>(),
                        one => sum += whole(&one),
                    }
                }
                Ipld::Integer(sum)
            }
            "if" => {
                let is_no = matches!(self.computed(&parts[1], key)?, Ipld::Null | Ipld::Integer(0));
                return self.computed(&parts[if is_no { 3 } else { 2 }], key);
            }
            "reject" => return None,
            other => panic!("no formula says {other}"),
        })
    }
}

/// Returns a number; what is none counts as 0.
fn whole(value: &Ipld) -> i128 {
    if let Ipld::Integer(number) = value { *number } else { 0 }
}

/// Returns what a listing shows.
fn shown(op: &str, cells: Vec<(String, Ipld)>) -> Ipld {
    match op {
        "all-names" => list(cells.into_iter().map(|(name, _)| text(&name))),
        _ => {
            let entries = list(cells.into_iter().map(|(name, value)| list([text(&name), value])));
            map([("entries", entries), ("next", Ipld::Null)])
        }
    }
}
