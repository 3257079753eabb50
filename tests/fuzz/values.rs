//! The scanner and the editor of values (C2, C3).

use charm_conformance::Random;
use charm_host::{Path, VALUE_DEPTH_MAX, Value};
use ipld_core::ipld::Ipld;

use super::{change, corpus, fuzz, tree};

fn scan(bytes: &[u8]) -> Option<Value> {
    Value::from_bytes(bytes, 1 << 20, VALUE_DEPTH_MAX).ok()
}

fn encode(tree: &Ipld) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(tree).unwrap()
}

fn levels(tree: &Ipld) -> usize {
    1 + match tree {
        Ipld::List(items) => items.iter().map(levels).max().unwrap_or(0),
        Ipld::Map(entries) => entries.values().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

/// C2: the scanner accepts exactly what an independent codec decodes and encodes to the same bytes.
#[test]
fn the_scanner_takes_canonical_values_and_nothing_else() {
    let make = |random: &mut Random, base: &[u8]| {
        let made = random.chance(500).then(|| encode(&tree::value(random, 6)));
        change(random, made.as_deref().unwrap_or(base))
    };
    fuzz("values", 400_000, &corpus("values"), make, |bytes| {
        let decoded = serde_ipld_dagcbor::from_slice::<Ipld>(bytes).ok();
        let canonical = decoded.filter(|tree| {
            let again = serde_ipld_dagcbor::to_vec(tree);
            levels(tree) <= VALUE_DEPTH_MAX && again.is_ok_and(|again| again == bytes)
        });
        let found = scan(bytes);
        assert_eq!(found.is_some(), canonical.is_some());
        if let (Some(value), Some(tree)) = (found, canonical) {
            assert_eq!(value.as_bytes(), bytes);
            assert_eq!(value.decode::<Ipld>().unwrap(), tree);
            assert_eq!(value.depth(), levels(&tree));
        }
    });
}

/// C3: whatever is written where, the bytes stay canonical and are those of the tree changed alike. The input is a seed.
#[test]
fn the_editor_does_what_it_does_on_a_tree() {
    let seeds: Vec<Vec<u8>> = (0_u64..16).map(|seed| seed.to_le_bytes().into()).collect();
    let make = |random: &mut Random, _: &[u8]| random.bits().to_le_bytes().into();
    fuzz("editor", 150_000, &seeds, make, |seed| {
        let mut random = Random::new(u64::from_le_bytes(seed.try_into().unwrap()));
        let mut tree = tree::value(&mut random, 5);
        let mut value = scan(&encode(&tree)).unwrap();
        for _ in 0..4 {
            let path = tree::path(&mut random, &tree);
            let found = value.get(&path).map(|found| found.map(<[u8]>::to_vec)).ok();
            assert_eq!(found, tree::get(&tree, &path).map(|found| found.map(encode)).ok(), "get {path:?}");
            if random.chance(700) || path.is_empty() {
                let new = tree::value(&mut random, 3);
                let wanted = tree::set(Some(tree.clone()), &path, &new).ok();
                // None: it is there already (C4).
                let found = Value::set(Some(&value), &path, &scan(&encode(&new)).unwrap());
                let found = found.map(|found| found.unwrap_or_else(|| value.clone())).ok();
                assert_eq!(found.as_ref().map(Value::as_bytes), wanted.as_ref().map(encode).as_deref(), "set {path:?}");
                (tree, value) = (wanted.unwrap_or(tree), found.unwrap_or(value));
            } else {
                let mut smaller = tree.clone();
                let wanted = tree::remove(&mut smaller, &path).ok();
                let found = value.remove(&path).ok();
                assert_eq!(found.as_ref().map(Option::is_some), wanted, "remove {path:?}");
                if let Some(Some(found)) = found {
                    (tree, value) = (smaller, found);
                }
            }
            assert_eq!(value.as_bytes(), encode(&tree));
            assert!(scan(value.as_bytes()).is_some(), "canonical");
        }
    });
}

/// C3: text of paths, which people type: what is shown of a path reads back as the same, unless it holds what is escaped.
#[test]
fn paths_read_back() {
    fuzz("paths", 300_000, &corpus("paths"), change, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(path) = text.parse::<Path>()
            && !text.contains(charm_host::is_unprintable)
        {
            assert_eq!(path.to_string().parse::<Path>().unwrap(), path);
        }
    });
}
