#![allow(clippy::disallowed_methods, reason = "tests look at the clock")]

use std::{collections::BTreeMap, time::Instant};

use ipld_core::{cid::Cid, ipld::Ipld};
use proptest::{collection, prelude::*};

use super::{Invalid, Kind, Value, scan::HEADS};
use crate::{
    limits::VALUE_DEPTH_MAX,
    path::{Path, Segment},
};

const BYTES_MAX: usize = 1 << 20;

fn check(bytes: &[u8]) -> Result<Value, Invalid> {
    Value::from_bytes(bytes, BYTES_MAX, VALUE_DEPTH_MAX)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

/// Each encoding that canonical DAG-CBOR does not have, with a word of the reason that is given (C2).
#[test]
fn every_other_encoding_is_refused_with_its_reason() {
    let cid = "58 25 00 01 55 12 20 00000000000000000000000000000000 00000000000000000000000000000000";
    let table: &[(&str, &str)] = &[
        ("", "ends too early"),
        // Integers and lengths not in shortest form, in every width.
        ("18 17", "shortest"),
        ("19 00ff", "shortest"),
        ("1a 0000ffff", "shortest"),
        ("1b 00000000ffffffff", "shortest"),
        ("38 00", "shortest"),
        ("58 01 61", "shortest"),
        ("78 01 61", "shortest"),
        ("98 01 f6", "shortest"),
        ("b8 01 61 61 f6", "shortest"),
        ("d9 002a 41 00", "shortest"),
        // Reserved widths and indefinite lengths.
        ("1c", "at byte 0"),
        ("1d", "at byte 0"),
        ("1e", "at byte 0"),
        ("1f", "at byte 0"),
        ("5f 41 00 ff", "at byte 0"),
        ("7f 61 61 ff", "at byte 0"),
        ("9f f6 ff", "at byte 0"),
        ("bf 61 61 f6 ff", "at byte 0"),
        ("ff", "at byte 0"),
        // Floats: 16 and 32 bits, and what is not a number or not finite.
        ("f9 3c00", "short float"),
        ("fa 3f800000", "short float"),
        ("fb 7ff8000000000000", "not finite"),
        ("fb fff8000000000001", "not finite"),
        ("fb 7ff0000000000000", "not finite"),
        ("fb fff0000000000000", "not finite"),
        ("f9 7e00", "short float"),
        ("fb 8000000000000000", "negative zero"),
        // Simple values other than false, true and null.
        ("e0", "simple value"),
        ("f3", "simple value"),
        ("f7", "simple value"),
        ("f8 14", "simple value"),
        ("f8 ff", "simple value"),
        // Maps.
        ("a1 01 f6", "key is not a string"),
        ("a1 41 61 f6", "key is not a string"),
        ("a1 f6 f6", "key is not a string"),
        ("a2 61 61 f6 61 61 f6", "unique and sorted"),
        ("a2 61 62 f6 61 61 f6", "unique and sorted"),
        ("a2 62 6161 f6 61 62 f6", "unique and sorted"),
        ("a1 61 61", "ends too early"),
        // Strings.
        ("61 ff", "UTF-8"),
        ("62 c3 28", "UTF-8"),
        ("63 eda080", "UTF-8"),
        ("a1 61 ff f6", "UTF-8"),
        ("62 61", "ends too early"),
        // Links and other tags.
        ("c1 00", "tag other than 42"),
        ("c0 60", "tag other than 42"),
        ("c2 41 01", "tag other than 42"),
        ("d8 2b 41 00", "tag other than 42"),
        ("d9 d9f7 f6", "tag other than 42"),
        ("d8 2a 60", "link is not bytes"),
        ("d8 2a f6", "link is not bytes"),
        ("d8 2a 40", "not a CID"),
        ("d8 2a 41 00", "not a CID"),
        ("d8 2a 44 01 55 12 20", "not a CID"),
        // More or less than one value.
        ("f6 f6", "after the value (at byte 1)"),
        ("82 01", "ends too early"),
        ("fb 3ff0", "ends too early"),
        ("19 01", "ends too early"),
    ];
    for (text, reason) in table {
        let error = check(&hex(text)).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
        assert!(error.len() < 128, "{text}: an error is one short line");
    }
    let (good, bad) = (format!("d82a {cid}"), format!("d82a {}", cid.replacen("00 01", "01 01", 1)));
    check(&hex(&good)).expect("a link to a raw block");
    assert!(check(&hex(&bad)).expect_err("prefix 0").to_string().contains("not a CID"));
    let longer = hex(&good.replacen("58 25", "58 26", 1)).into_iter().chain([0]).collect::<Vec<_>>();
    assert!(check(&longer).expect_err("bytes after the CID").to_string().contains("not a CID"));
}

/// Every refused encoding is refused anywhere inside a value too, with the offset of the item.
#[test]
fn a_refused_item_is_found_inside_lists_and_maps() {
    for (prefix, at) in [("81", 1), ("82 f6", 2), ("a1 61 61", 3), ("a1 61 61 82 f6", 5)] {
        let bytes = hex(&format!("{prefix} f97e00"));
        let Err(Invalid::NotCanonical { at: found, .. }) = check(&bytes) else { panic!("{prefix}") };
        assert_eq!(found, at, "{prefix}");
    }
}

/// Each kind at the edges of what it holds (C1).
#[test]
fn the_edges_of_every_kind_are_values() {
    for (text, kind) in [
        ("f6", Kind::Null),
        ("f4", Kind::Bool),
        ("f5", Kind::Bool),
        ("00", Kind::Integer),
        ("17", Kind::Integer),
        ("18 18", Kind::Integer),
        ("1b ffffffffffffffff", Kind::Integer),
        ("20", Kind::Integer),
        ("3b ffffffffffffffff", Kind::Integer),
        ("fb 0000000000000000", Kind::Float),
        ("fb 7fefffffffffffff", Kind::Float),
        ("fb 0000000000000001", Kind::Float),
        ("40", Kind::Bytes),
        ("60", Kind::String),
        ("64 f0908581", Kind::String),
        ("80", Kind::List),
        ("a0", Kind::Map),
        ("a2 61 62 f6 62 6161 f6", Kind::Map),
        ("a1 60 a0", Kind::Map),
        ("d82a 45 00 01 55 00 00", Kind::Link),
    ] {
        let bytes = hex(text);
        let value = check(&bytes).expect(text);
        assert_eq!(value.kind(), kind, "{text}");
        assert_eq!(value.as_bytes(), bytes, "{text}");
        let ipld: Ipld = value.decode().expect(text);
        assert_eq!(Value::encode(&ipld).expect(text), value, "{text}");
    }
}

/// What the data model does not hold cannot be encoded either.
#[test]
fn encoding_refuses_what_is_not_in_the_model() {
    assert_eq!(Value::encode(&f64::NAN), Err(Invalid::NotInModel));
    assert_eq!(Value::encode(&f64::INFINITY), Err(Invalid::NotInModel));
    assert_eq!(Value::encode(&BTreeMap::from([(1, "a")])), Err(Invalid::NotInModel));
    assert_eq!(Value::encode(&i128::MAX), Err(Invalid::NotInModel));
    assert_eq!(Value::encode(&nested(VALUE_DEPTH_MAX + 1)), Err(Invalid::TooDeep { max: VALUE_DEPTH_MAX }));
    Value::encode(&nested(VALUE_DEPTH_MAX)).expect("the greatest depth");
}

fn nested(levels: usize) -> Ipld {
    (1..levels).fold(Ipld::Null, |inner, _| Ipld::List(vec![inner]))
}

/// Depth counts levels: a scalar is one; keys of maps and the bytes of links add none.
#[test]
fn depth_is_counted_in_levels() {
    for (text, levels) in [("f6", 1), ("80", 1), ("a0", 1), ("81 80", 2), ("a1 60 f6", 2), ("82 00 81 81 00", 4)] {
        let bytes = hex(text);
        assert_eq!(check(&bytes).expect(text).depth(), levels, "{text}");
        Value::from_bytes(&bytes, BYTES_MAX, levels).expect(text);
        let refused = Value::from_bytes(&bytes, BYTES_MAX, levels - 1);
        assert_eq!(refused, Err(Invalid::TooDeep { max: levels - 1 }), "{text}");
    }
}

/// A few bytes that claim to be much cost no more than their own length (A5).
#[test]
fn bombs_are_refused_at_once() {
    let start = Instant::now();
    assert_eq!(check(&vec![0x81; BYTES_MAX]), Err(Invalid::TooDeep { max: VALUE_DEPTH_MAX }));
    let maps = [0xa1, 0x60].repeat(BYTES_MAX / 2);
    assert_eq!(check(&maps), Err(Invalid::TooDeep { max: VALUE_DEPTH_MAX }));
    let tags = [0xd8, 0x2a].repeat(BYTES_MAX / 2);
    check(&tags).expect_err("tags inside tags");
    for head in ["5b", "7b", "9b", "bb", "db"] {
        for length in ["7fffffffffffffff", "8000000000000000", "ffffffffffffffff", "0000000100000000"] {
            let bomb = hex(&format!("{head} {length}"));
            check(&bomb).expect_err(head);
            check(&[hex("81"), bomb.clone(), vec![0; 1_000]].concat()).expect_err(head);
            check(&[hex("a1 60"), bomb].concat()).expect_err(head);
        }
    }
    let one_too_large = vec![0xf6; BYTES_MAX + 1];
    assert_eq!(check(&one_too_large), Err(Invalid::TooLarge { max: BYTES_MAX }));
    assert!(start.elapsed().as_secs() < 5, "took {:?}", start.elapsed());
}

/// Counts the heads that are read meanwhile.
fn heads<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = HEADS.get();
    let done = work();
    (done, HEADS.get() - before)
}

/// C3, A5: a path costs one pass over the bytes, however many levels it goes down and wherever it ends.
#[test]
fn a_path_is_found_in_one_pass() {
    // Each level holds small items before and behind the next level, and one of them holds most of the bytes.
    let levels = VALUE_DEPTH_MAX - 3;
    for (large, maps) in [(1, false), (30, false), (60, false), (1, true), (30, true), (60, true)] {
        let mut deep = Ipld::Integer(1);
        for level in (1..=levels).rev() {
            let filler = Ipld::List(vec![Ipld::Null; if level == large { 100_000 } else { 100 }]);
            deep = match maps {
                true => Ipld::Map(
                    [("a".to_owned(), filler.clone()), ("b".to_owned(), deep), ("c".to_owned(), filler)].into(),
                ),
                false => Ipld::List(vec![filler.clone(), deep, filler]),
            };
        }
        let value = Value::encode(&deep).expect("in the data model");
        let step = if maps { Segment::Key("b".to_owned()) } else { Segment::Index(1) };
        let path = vec![step; levels];
        let items = 2 * value.as_bytes().len() as u64;
        let one = Value::encode(&1).expect("an integer");
        let other = Value::encode("other").expect("a string");
        assert_eq!(heads(|| value.get(&path)).0, Ok(Some(one.as_bytes())));
        let beyond = [path.clone(), vec![Segment::Index(0)]].concat();
        let beside =
            [&path[..levels - 1], &[if maps { Segment::Key("d".to_owned()) } else { Segment::Index(3) }]].concat();
        for (what, count) in [
            ("get", heads(|| value.get(&path).expect("there")).1),
            ("get nothing", heads(|| value.get(&beside).expect("a container")).1),
            ("get through", heads(|| value.get(&beyond).expect_err("a scalar")).1),
            ("set the same", heads(|| Value::set(Some(&value), &path, &one).expect("there")).1),
            ("set", heads(|| Value::set(Some(&value), &path, &other).expect("there")).1),
            ("set new", heads(|| Value::set(Some(&value), &beside, &one).expect("a container")).1),
            ("remove", heads(|| value.remove(&path).expect("there")).1),
        ] {
            assert!(count <= items, "{what}: {count} heads for {items}, maps {maps}, large {large}");
        }
    }
}

/// C3: the ends of the greatest list of the smallest items.
#[test]
fn paths_into_a_large_value_lead_where_they_say() {
    let items = BYTES_MAX as u32 - 5;
    let bytes = [vec![0x9a], items.to_be_bytes().to_vec(), vec![0xf6; items as usize]].concat();
    let value = check(&bytes).expect("a list of nulls");
    let last = [Segment::Index(items - 1)];
    assert_eq!(value.get(&last), Ok(Some(&[0xf6][..])));
    assert_eq!(value.get(&[Segment::Index(items)]), Ok(None));
    let one = Value::encode(&1).expect("an integer");
    let set = Value::set(Some(&value), &last, &one).expect("in the list").expect("another value");
    assert_eq!(set.get(&last), Ok(Some(one.as_bytes())));
    let shorter = set.remove(&last).expect("a list").expect("it was there");
    assert_eq!(shorter.as_bytes().len(), bytes.len() - 1);
}

/// Values are kept out of logs (T7).
#[test]
fn debug_output_shows_no_content() {
    let value = Value::encode("the secret word").expect("a string");
    assert_eq!(format!("{value:?}"), "string of 16 bytes");
}

// -- against an independent codec --

fn link() -> impl Strategy<Value = Ipld> {
    prop::sample::select(vec![
        "bafkreifw7plhl6mofk6sfvhnfh64qmkq73oeqwl6sloru6rehaoujituke",
        "bafyreidj5idub6mapiupjwjsyyxhyhedxycv4vihfsicm2vt46o7morwlm",
        "QmRgutAxd8t7oGkSm4wmeuByG6M51wcTso6cubDdQtuEfL",
        "bafkqabiaaebagba",
    ])
    .prop_map(|text| Ipld::Link(Cid::try_from(text).expect("a CID")))
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[ab]{0,3}", 1 => "[a-zé水𐅑]{0,4}", 1 => "[a-z]{30,40}"]
}

fn ipld() -> impl Strategy<Value = Ipld> {
    let integer = prop_oneof![
        any::<i8>().prop_map(i128::from),
        any::<i64>().prop_map(i128::from),
        any::<u64>().prop_map(|n| -1 - i128::from(n)),
        any::<u64>().prop_map(i128::from),
    ];
    let leaf = prop_oneof![
        Just(Ipld::Null),
        any::<bool>().prop_map(Ipld::Bool),
        integer.prop_map(Ipld::Integer),
        prop::num::f64::NORMAL.prop_map(Ipld::Float),
        collection::vec(any::<u8>(), 0..40).prop_map(Ipld::Bytes),
        key().prop_map(Ipld::String),
        link(),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..30).prop_map(Ipld::List),
            collection::btree_map(key(), inner, 0..6).prop_map(Ipld::Map),
        ]
    })
}

pub(super) fn encode(ipld: &Ipld) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(ipld).expect("in the data model")
}

fn levels(ipld: &Ipld) -> usize {
    1 + match ipld {
        Ipld::List(items) => items.iter().map(levels).max().unwrap_or(0),
        Ipld::Map(entries) => entries.values().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

/// One change to some bytes: what a careless encoder, a cut connection or an attacker does.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Put(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Delete(prop::sample::Index),
    Cut(prop::sample::Index),
    Append(u8),
    /// Exchanges two stretches: keys out of order, lengths that do not fit.
    Swap(prop::sample::Index, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let byte = || {
        let telling = vec![0x18, 0x19, 0x1b, 0x1f, 0x5f, 0x78, 0x9f, 0xa1, 0xbf, 0xd8, 0x2a, 0xf7, 0xf9, 0xfa, 0xfb];
        prop_oneof![any::<u8>(), prop::sample::select(telling)]
    };
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (at(), byte()).prop_map(|(at, byte)| Change::Put(at, byte)),
        (at(), byte()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        at().prop_map(Change::Delete),
        at().prop_map(Change::Cut),
        byte().prop_map(Change::Append),
        (at(), at()).prop_map(|(a, b)| Change::Swap(a, b)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let end = bytes.len();
    match change {
        Change::Flip(at, bits) => bytes[at.index(end)] ^= bits,
        Change::Put(at, byte) => bytes[at.index(end)] = *byte,
        Change::Insert(at, byte) => bytes.insert(at.index(end), *byte),
        Change::Delete(at) => drop(bytes.remove(at.index(end))),
        Change::Cut(at) => bytes.truncate(at.index(end)),
        Change::Append(byte) => bytes.push(*byte),
        Change::Swap(a, b) => bytes.swap(a.index(end), b.index(end)),
    }
}

/// What the independent codec accepts of canonical bytes: decoding and encoding again changes nothing.
fn oracle(bytes: &[u8], depth_max: usize) -> bool {
    let Ok(ipld) = serde_ipld_dagcbor::from_slice::<Ipld>(bytes) else { return false };
    levels(&ipld) <= depth_max && serde_ipld_dagcbor::to_vec(&ipld).is_ok_and(|again| again == bytes)
}

/// C2: they agree on every pair of first bytes, whatever telling bytes follow.
#[test]
fn the_scanner_agrees_on_every_beginning() {
    let tails: [&[u8]; 4] = [&[], &[0; 8], &[0xff; 8], &[0xf0, 0, 0, 0, 0, 0, 0]];
    for (first, second) in (0..=255).flat_map(|first| (0..=255).map(move |second| (first, second))) {
        for tail in tails {
            for cut in [0, 1, 2].into_iter().filter(|cut| *cut <= tail.len()) {
                let bytes = [&[first, second], &tail[cut..]].concat();
                assert_eq!(check(&bytes).is_ok(), oracle(&bytes, VALUE_DEPTH_MAX), "{bytes:02x?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// C2: the scanner and an independent codec agree on what one canonical value is.
    #[test]
    fn the_scanner_accepts_exactly_what_decodes_and_encodes_to_itself(
        ipld in ipld(), changes in collection::vec(change(), 0..4), depth_max in 1_usize..8,
    ) {
        let mut bytes = encode(&ipld);
        changes.iter().for_each(|change| apply(&mut bytes, change));
        let found = Value::from_bytes(&bytes, BYTES_MAX, depth_max);
        prop_assert_eq!(found.is_ok(), oracle(&bytes, depth_max), "{:02x?}: {:?}", bytes, found);
        if let Ok(value) = found {
            prop_assert_eq!(Value::encode(&value.decode::<Ipld>().expect("accepted")).expect("accepted"), value);
        }
    }

    /// The same for bytes that never were a value.
    #[test]
    fn the_scanner_agrees_on_any_bytes(bytes in collection::vec(any::<u8>(), 0..24)) {
        prop_assert_eq!(check(&bytes).is_ok(), oracle(&bytes, VALUE_DEPTH_MAX), "{:02x?}", bytes);
    }
}

// -- paths against a model --

/// Why the model refuses: the number of steps that were taken before.
pub(super) type Wrong = usize;

fn model_get<'a>(value: &'a Ipld, path: &[Segment], depth: usize) -> Result<Option<&'a Ipld>, Wrong> {
    let Some(segment) = path.get(depth) else { return Ok(Some(value)) };
    let child = match (value, segment) {
        (Ipld::Map(entries), Segment::Key(key)) => entries.get(key),
        (Ipld::List(items), Segment::Index(index)) => items.get(*index as usize),
        _ => return Err(depth),
    };
    child.map_or(Ok(None), |child| model_get(child, path, depth + 1))
}

/// Writes at a path as one does who decodes, changes and encodes.
pub(super) fn model_set(current: Option<Ipld>, path: &[Segment], depth: usize, new: &Ipld) -> Result<Ipld, Wrong> {
    let Some(segment) = path.get(depth) else { return Ok(new.clone()) };
    match (current, segment) {
        (None, Segment::Key(_)) => model_set(Some(Ipld::Map(BTreeMap::new())), path, depth, new),
        (None, Segment::Index(_)) => model_set(Some(Ipld::List(Vec::new())), path, depth, new),
        (Some(Ipld::Map(mut entries)), Segment::Key(key)) => {
            let child = model_set(entries.remove(key), path, depth + 1, new)?;
            entries.insert(key.clone(), child);
            Ok(Ipld::Map(entries))
        }
        (Some(Ipld::List(mut items)), Segment::Index(index)) => {
            let index = *index as usize;
            if index < items.len() {
                items[index] = model_set(Some(items[index].clone()), path, depth + 1, new)?;
            } else if index == items.len() {
                items.push(model_set(None, path, depth + 1, new)?);
            } else {
                return Err(depth + 1);
            }
            Ok(Ipld::List(items))
        }
        _ => Err(depth),
    }
}

pub(super) fn model_remove(value: &mut Ipld, path: &[Segment], depth: usize) -> Result<bool, Wrong> {
    let last = depth + 1 == path.len();
    match (value, &path[depth]) {
        (Ipld::Map(entries), Segment::Key(key)) if last => Ok(entries.remove(key).is_some()),
        (Ipld::Map(entries), Segment::Key(key)) => {
            entries.get_mut(key).map_or(Ok(false), |child| model_remove(child, path, depth + 1))
        }
        (Ipld::List(items), Segment::Index(index)) => {
            let index = *index as usize;
            if index >= items.len() {
                return Ok(false);
            }
            if last {
                items.remove(index);
                return Ok(true);
            }
            model_remove(&mut items[index], path, depth + 1)
        }
        _ => Err(depth),
    }
}

fn segment() -> impl Strategy<Value = Segment> {
    prop_oneof![key().prop_map(Segment::Key), (0_u32..4).prop_map(Segment::Index)]
}

/// A path that mostly leads somewhere: the steps of a walk through the value, then a few that are made up.
fn path_into(ipld: &Ipld, choices: &[prop::sample::Index], made_up: &[Segment]) -> Vec<Segment> {
    let (mut path, mut value) = (Vec::new(), ipld);
    for choice in choices {
        match value {
            Ipld::Map(entries) if !entries.is_empty() => {
                let (key, child) = entries.iter().nth(choice.index(entries.len())).expect("in range");
                path.push(Segment::Key(key.clone()));
                value = child;
            }
            Ipld::List(items) if !items.is_empty() => {
                let index = choice.index(items.len());
                path.push(Segment::Index(index as u32));
                value = &items[index];
            }
            _ => break,
        }
    }
    path.extend(made_up.iter().cloned());
    path
}

fn at(path: &[Segment], steps: usize) -> String {
    let text = Path(path[..steps].to_vec()).to_string();
    if text.is_empty() { "/".to_owned() } else { text }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// C3: get, set and remove on canonical bytes do what they do on a tree, errors and their places included.
    #[test]
    fn get_set_and_remove_do_what_they_do_on_a_tree(
        ipld in ipld(),
        new in ipld(),
        walk in collection::vec(any::<prop::sample::Index>(), 0..5),
        made_up in collection::vec(segment(), 0..3),
    ) {
        let value = Value::encode(&ipld).expect("in the data model");
        let path = path_into(&ipld, &walk, &made_up);

        match (value.get(&path), model_get(&ipld, &path, 0)) {
            (Ok(found), Ok(wanted)) => prop_assert_eq!(found.map(<[u8]>::to_vec), wanted.map(encode)),
            (Err(mismatch), Err(steps)) => prop_assert_eq!(mismatch.at, at(&path, steps)),
            (found, wanted) => prop_assert!(false, "get {:?}: {:?}, model {:?}", path, found, wanted),
        }

        let written = Value::encode(&new).expect("in the data model");
        match (Value::set(Some(&value), &path, &written), model_set(Some(ipld.clone()), &path, 0, &new)) {
            (Ok(None), Ok(wanted)) => prop_assert_eq!(wanted, ipld.clone()),
            (Ok(Some(found)), Ok(wanted)) => {
                prop_assert_ne!(&wanted, &ipld);
                prop_assert_eq!(found.as_bytes(), &encode(&wanted)[..]);
                check(found.as_bytes()).expect("canonical");
                prop_assert_eq!(found.get(&path).expect("just written"), Some(written.as_bytes()));
            }
            (Err(mismatch), Err(steps)) => prop_assert_eq!(mismatch.at, at(&path, steps)),
            (found, wanted) => prop_assert!(false, "set {:?}: {:?}, model {:?}", path, found, wanted),
        }

        if !path.is_empty() {
            let mut smaller = ipld.clone();
            match (value.remove(&path), model_remove(&mut smaller, &path, 0)) {
                (Ok(Some(found)), Ok(true)) => {
                    prop_assert_eq!(found.as_bytes(), &encode(&smaller)[..]);
                    check(found.as_bytes()).expect("canonical");
                }
                (Ok(None), Ok(false)) => {}
                (Err(mismatch), Err(steps)) => prop_assert_eq!(mismatch.at, at(&path, steps)),
                (found, wanted) => prop_assert!(false, "remove {:?}: {:?}, model {:?}", path, found, wanted),
            }
        }
    }

    /// C3: a write into nothing makes the parents that its path names.
    #[test]
    fn a_write_into_nothing_makes_its_parents(path in collection::vec(segment(), 0..5), new in ipld()) {
        let written = Value::encode(&new).expect("in the data model");
        match (Value::set(None, &path, &written), model_set(None, &path, 0, &new)) {
            (Ok(Some(found)), Ok(wanted)) => prop_assert_eq!(found.as_bytes(), &encode(&wanted)[..]),
            (Err(mismatch), Err(steps)) => prop_assert_eq!(mismatch.at, at(&path, steps)),
            (found, wanted) => prop_assert!(false, "{:?}: {:?}, model {:?}", path, found, wanted),
        }
    }
}

/// The form in records and rows: a length and the canonical bytes, as a list of bytes has; anything else is refused.
#[test]
fn a_value_is_stored_as_its_length_and_its_bytes() {
    let bytes = [vec![0x98, 0x80], vec![0xf6; 128]].concat();
    let stored = postcard::to_stdvec(&check(&bytes).expect("a list")).expect("a value is stored");
    assert_eq!(stored, postcard::to_stdvec(&bytes).expect("a list of bytes"));
    assert_eq!(stored, [vec![0x82, 0x01], bytes.clone()].concat());
    assert_eq!(postcard::from_bytes::<Value>(&stored).expect("the same value").as_bytes(), bytes);
    for malformed in [&[1, 0xff][..], &[2, 0x00, 0x00], &[0], &[9, 0x00]] {
        assert!(postcard::from_bytes::<Value>(malformed).is_err(), "{malformed:?}");
    }
}
