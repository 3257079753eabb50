//! Values as trees: random ones, and what reading and writing by path does to them (C1, C3).

use std::collections::BTreeMap;

use charm_conformance::Random;
use charm_host::Segment;
use ipld_core::{cid::Cid, ipld::Ipld};

/// A CID of a raw block.
const CID: &str = "bafkreifw7plhl6mofk6sfvhnfh64qmkq73oeqwl6sloru6rehaoujituke";

/// Returns a key; the same ones come often.
pub fn key(random: &mut Random) -> String {
    match random.below(8) {
        0 => String::new(),
        1 => "k".repeat(random.below(40) as usize),
        2 => (*random.pick(&["é", "水", "\u{202e}", "a/b", "'", "0", "\n"])).to_owned(),
        _ => (*random.pick(&["a", "b", "n", "name", "items"])).to_owned(),
    }
}

/// Returns a value of at most so many levels.
pub fn value(random: &mut Random, levels: u64) -> Ipld {
    match random.below(if levels > 1 { 12 } else { 8 }) {
        0 => Ipld::Null,
        1 => Ipld::Bool(random.chance(500)),
        2 => Ipld::Integer(i128::from(random.bits() as i64)),
        3 => Ipld::Integer(*random.pick(&[0, 23, 24, 255, 256, 65_535, 65_536, i128::from(u64::MAX), -1, -24, -25])),
        4 => Ipld::Float(*random.pick(&[0.0, 1.5, -1e300, 1e-300, f64::MAX, f64::MIN_POSITIVE])),
        5 => Ipld::String(key(random)),
        6 => Ipld::Bytes(vec![random.bits() as u8; random.below(30) as usize]),
        7 => Ipld::Link(Cid::try_from(CID).unwrap()),
        8 | 9 => Ipld::List((0..random.below(6)).map(|_| value(random, levels - 1)).collect()),
        _ => Ipld::Map((0..random.below(6)).map(|_| (key(random), value(random, levels - 1))).collect()),
    }
}

/// Returns a path that mostly leads somewhere: a walk through the value, then perhaps a step that is made up.
pub fn path(random: &mut Random, mut value: &Ipld) -> Vec<Segment> {
    let mut path = Vec::new();
    while random.chance(750) {
        match value {
            Ipld::Map(entries) if !entries.is_empty() => {
                let (key, child) = entries.iter().nth(random.below(entries.len() as u64) as usize).unwrap();
                path.push(Segment::Key(key.clone()));
                value = child;
            }
            Ipld::List(items) if !items.is_empty() => {
                let index = random.below(items.len() as u64) as usize;
                path.push(Segment::Index(index as u32));
                value = &items[index];
            }
            _ => break,
        }
    }
    while random.chance(250) {
        let index = random.chance(500);
        path.push(if index { Segment::Index(random.below(7) as u32) } else { Segment::Key(key(random)) });
    }
    path
}

/// A path leads through a value of another kind, or past the end of a list.
#[derive(Debug)]
pub struct Wrong;

/// What stands at a path.
pub fn get<'a>(value: &'a Ipld, path: &[Segment]) -> Result<Option<&'a Ipld>, Wrong> {
    let Some((step, rest)) = path.split_first() else { return Ok(Some(value)) };
    let child = match (value, step) {
        (Ipld::Map(entries), Segment::Key(key)) => entries.get(key),
        (Ipld::List(items), Segment::Index(index)) => items.get(*index as usize),
        _ => return Err(Wrong),
    };
    child.map_or(Ok(None), |child| get(child, rest))
}

/// The value with another at a path; missing parents are made.
pub fn set(current: Option<Ipld>, path: &[Segment], new: &Ipld) -> Result<Ipld, Wrong> {
    let Some((step, rest)) = path.split_first() else { return Ok(new.clone()) };
    let made = || match step {
        Segment::Key(_) => Ipld::Map(BTreeMap::new()),
        Segment::Index(_) => Ipld::List(Vec::new()),
    };
    match (current.unwrap_or_else(made), step) {
        (Ipld::Map(mut entries), Segment::Key(key)) => {
            let child = set(entries.remove(key), rest, new)?;
            entries.insert(key.clone(), child);
            Ok(Ipld::Map(entries))
        }
        (Ipld::List(mut items), Segment::Index(index)) => {
            let index = *index as usize;
            match items.get(index).cloned() {
                Some(item) => items[index] = set(Some(item), rest, new)?,
                None if index == items.len() => items.push(set(None, rest, new)?),
                None => return Err(Wrong),
            }
            Ok(Ipld::List(items))
        }
        _ => Err(Wrong),
    }
}

/// Removes what stands at a path; says whether anything did.
pub fn remove(value: &mut Ipld, path: &[Segment]) -> Result<bool, Wrong> {
    let (last, rest) = (path.len() == 1, &path[1..]);
    match (value, &path[0]) {
        (Ipld::Map(entries), Segment::Key(key)) if last => Ok(entries.remove(key).is_some()),
        (Ipld::Map(entries), Segment::Key(key)) => entries.get_mut(key).map_or(Ok(false), |child| remove(child, rest)),
        (Ipld::List(items), Segment::Index(index)) if (*index as usize) < items.len() => {
            let index = *index as usize;
            if last {
                items.remove(index);
                return Ok(true);
            }
            remove(&mut items[index], rest)
        }
        (Ipld::List(_), Segment::Index(_)) => Ok(false),
        _ => Err(Wrong),
    }
}
