//! What has a text comes back from it: values as DAG-JSON, ids, DIDs and paths, every type with serde (C1, C2, I1).

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use charm_conformance::{Random, seed, times};
use charm_host::{
    Body, CellId, Checkpoint, Cut, DeadLetter, Did, Edit, Event, EventId, EventMark, Install, JsonError, OnCommit,
    Outcome, Path, Pruned, Queued, RECORD_VERSION, Ran, Receipt, ReceiptRow, Record, Segment, Sent, Turn,
    VALUE_DEPTH_MAX, Value, Write,
};
use ipld_core::{cid::Cid, ipld::Ipld};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Texts that somebody will mistake for something else.
const UGLY: [&str; 18] = [
    "",
    "a",
    "/",
    "'",
    "''",
    "\\",
    "\\u{41}",
    "\\\\",
    "a/b",
    "it's",
    "0",
    "7",
    "007",
    "4294967295",
    "4294967296",
    "-1",
    "\u{202e}\u{200b}\n\t\u{7f}",
    "bytes",
];

fn text(random: &mut Random) -> String {
    let parts = random.below(3);
    (0..=parts).map(|_| *random.pick(&UGLY)).collect()
}

fn did(random: &mut Random) -> Did {
    let secret: Vec<u8> = (0..4).flat_map(|_| random.bits().to_be_bytes()).collect();
    let key = ed25519_dalek::SigningKey::from_bytes(&secret.try_into().unwrap());
    Did::from_public_key(key.verifying_key().to_bytes()).unwrap()
}

fn id(random: &mut Random) -> EventId {
    EventId((u128::from(random.bits()) << 64 | u128::from(random.bits())).to_be_bytes())
}

fn float(random: &mut Random) -> f64 {
    loop {
        let float = f64::from_bits(random.bits());
        if float.is_finite() && float.to_bits() != 1 << 63 {
            return float;
        }
    }
}

fn integer(random: &mut Random) -> i128 {
    let edges = [0, 1, -1, i64::MAX.into(), i64::MIN.into(), i128::from(i64::MIN) - 1, u64::MAX.into(), -(1 << 64)];
    match random.below(3) {
        0 => *random.pick(&edges),
        1 => random.bits().into(),
        _ => -1 - i128::from(random.bits()),
    }
}

/// Any value of the data model, of up to so many levels.
fn tree(random: &mut Random, levels: usize) -> Ipld {
    match random.below(if levels > 1 { 9 } else { 7 }) {
        0 => Ipld::Null,
        1 => Ipld::Bool(random.chance(500)),
        2 => Ipld::Integer(integer(random)),
        3 => Ipld::Float(float(random)),
        4 => Ipld::String(text(random)),
        5 => Ipld::Bytes((0..random.below(9)).map(|_| random.bits() as u8).collect()),
        6 => {
            let digest: Vec<u8> = (0..4).flat_map(|_| random.bits().to_be_bytes()).collect();
            let hash = ipld_core::cid::multihash::Multihash::wrap(0x12, &digest).unwrap();
            Ipld::Link(if random.chance(500) { Cid::new_v1(0x71, hash) } else { Cid::new_v0(hash).unwrap() })
        }
        7 => Ipld::List((0..random.below(4)).map(|_| tree(random, levels - 1)).collect()),
        _ => Ipld::Map((0..random.below(4)).map(|_| (text(random), tree(random, levels - 1))).collect()),
    }
}

fn value(random: &mut Random) -> Value {
    Value::encode(&tree(random, 5)).unwrap()
}

/// Returns whether JSON has no text for it: a map somewhere in it has the one key `/`, or an integer is below 64 bits.
fn is_reserved(tree: &Ipld) -> bool {
    match tree {
        Ipld::Integer(integer) => *integer < i64::MIN.into(),
        Ipld::List(items) => items.iter().any(is_reserved),
        Ipld::Map(entries) => entries.keys().eq(["/"]) || entries.values().any(is_reserved),
        _ => false,
    }
}

/// C1: every value but those with a reserved map or an integer below -2^63 has a text, and the text is that value: by the library's own way and through
/// serde, alone and inside something else.
#[test]
fn every_value_comes_back_from_its_json_text() {
    let mut random = Random::new(seed());
    let mut reserved = 0;
    for _ in 0..times(20_000) {
        let tree = tree(&mut random, 5);
        let value = Value::encode(&tree).unwrap();
        if is_reserved(&tree) {
            assert!(matches!(value.to_json(), Err(JsonError::NotInModel { .. })), "{tree:?}");
            assert!(serde_json::to_string(&value).is_err(), "{tree:?}");
            reserved += 1;
            continue;
        }
        let text = value.to_json().unwrap();
        assert_eq!(Value::from_json(&text).as_ref(), Ok(&value), "{text}");
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value, "{text}");
        let inside = serde_json::to_string(&BTreeMap::from([("in", [&value])])).unwrap();
        assert_eq!(serde_json::from_str::<BTreeMap<String, [Value; 1]>>(&inside).unwrap()["in"][0], value, "{inside}");
    }
    assert!(reserved > 10, "{reserved}");
}

/// C1: a double is the same double after its text, whatever its bits.
#[test]
fn every_double_comes_back_from_its_json_text() {
    let mut random = Random::new(seed());
    let edges = [0.999_999_999_999_999_9, 0.1, 5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN, 1e22, 1e23, 0.0, 9.0e15];
    let random = (0..times(100_000)).map(|_| float(&mut random));
    for float in edges.into_iter().chain(random.collect::<Vec<_>>()) {
        let value = Value::encode(&float).unwrap();
        let text = value.to_json().unwrap();
        assert_eq!(Value::from_json(&text).as_ref(), Ok(&value), "{text}");
        let read: f64 = serde_json::from_str(&text).unwrap();
        assert_eq!(read.to_bits(), float.to_bits(), "{text}");
    }
}

/// C2: what would be changed on the way in is refused, with its place and without what stands there.
#[test]
fn what_json_would_change_is_refused_with_its_place() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let long = "9".repeat(10_000);
    for (text, at) in [
        ("18446744073709551616", "/"),
        (r#"{"\"": [1, -9223372036854775809]}"#, r#"/"/1"#),
        (&format!("[[{long}]]"), "/0/0"),
        ("[1, 1e400]", "/1"),
        ("[-1e400]", "/0"),
        (r#"{"a": 1e99999999999999999999}"#, "/a"),
        ("1e-400", "/"),
        ("[-0]", "/0"),
        ("-0.0", "/"),
        ("[-0e5]", "/0"),
        (r#"{"a": {"b": 1, "b": 1}}"#, "/a"),
        (r#"{"a": [{"/": 1}]}"#, "/a/0"),
        (r#"{"/": null}"#, "/"),
        (r#"{"/": {"bytes": "AA=="}}"#, "/"),
        (r#"{"/": {"bytes": "AB"}}"#, "/"),
        (r#"{"/": {"bytes": 1}}"#, "/"),
        (r#"{"/": {"bytes": "AA", "more": 1}}"#, "/"),
        (r#"{"/": "no cid"}"#, "/"),
        (r#"{"/": "BAFYREICLP443LAVOGVHJ3D2OB2CXBFUSCNI2K5JK7BEBJZG7KHL3ESABWQ"}"#, "/"),
        (r#"["\ud800"]"#, "/0"),
        (r#"{"k": {"\udc00": 1}}"#, "/k"),
        (&deep(VALUE_DEPTH_MAX + 1), &"/0".repeat(VALUE_DEPTH_MAX)),
        (&deep(100_000), &"/0".repeat(VALUE_DEPTH_MAX)),
    ] {
        let shown: String = text.chars().take(60).collect();
        match Value::from_json(text) {
            Err(JsonError::NotInModel { at: found, why }) => assert_eq!(found, at, "{shown}: {why}"),
            other => panic!("{shown}: {other:?}"),
        }
        // Through serde too: without the place, but refused all the same.
        assert!(serde_json::from_str::<Value>(text).is_err(), "{shown}");
        assert!(serde_json::from_str::<Vec<Value>>(&format!("[{text}]")).is_err(), "{shown}");
    }
    for text in ["", " ", "{", "1 2", "[1,]", "nul", "01", "1.", ".5", "+1", "NaN", "'a'", "\"\n\"", "\"\\x\""] {
        assert!(matches!(Value::from_json(text), Err(JsonError::Syntax(_))), "{text}");
    }
    for text in [
        &deep(VALUE_DEPTH_MAX),
        "\"99999999999999999999\"",
        " [ 1 , 1e-320, -9223372036854775808, 18446744073709551615 ] ",
    ] {
        assert!(Value::from_json(text).is_ok(), "{text}");
    }
}

/// Checks that something comes back from JSON, from JSON that was read already, from records' bytes, and from inside a value.
#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(thing: &T) {
    let text = serde_json::to_string(thing).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), thing, "{text}");
    assert_eq!(&serde_json::from_reader::<_, T>(text.as_bytes()).unwrap(), thing, "{text}");
    let bytes = postcard::to_stdvec(thing).unwrap();
    assert_eq!(&postcard::from_bytes::<T>(&bytes).unwrap(), thing, "{text}");
    assert_eq!(&Value::encode(thing).unwrap().decode::<T>().unwrap(), thing, "{text}");
}

/// A value that has a text.
fn payload(random: &mut Random) -> Value {
    loop {
        let value = value(random);
        if value.to_json().is_ok() {
            return value;
        }
    }
}

fn path(random: &mut Random) -> Path {
    let step = |random: &mut Random| match random.below(3) {
        0 => Segment::Index(random.bits() as u32),
        1 => Segment::Index(random.below(3) as u32),
        _ => Segment::Key(text(random)),
    };
    Path((0..random.below(4)).map(|_| step(random)).collect())
}

fn receipt(random: &mut Random) -> Receipt {
    let message = random.chance(500).then(|| text(random));
    let commit = random.chance(500).then(|| random.bits());
    Receipt { id: id(random), outcome: *random.pick(&Outcome::ALL), commit, message }
}

fn event(random: &mut Random) -> Event {
    let on_commit = OnCommit { stream: text(random).into(), tag: payload(random) };
    Event {
        id: id(random),
        sender: did(random),
        to: did(random),
        stream: text(random).into(),
        payload: payload(random),
        on_commit: random.chance(500).then_some(on_commit),
        receipt_of: random.chance(500).then(|| id(random)),
        supplied: random.chance(500),
        awaited: random.chance(500),
        deliver_after: random.chance(500).then(|| random.bits()),
        expires_at: random.chance(500).then(|| random.bits()),
    }
}

/// I1: every type with serde comes back from JSON, where ids, DIDs and paths are the text that they print, and from the
/// bytes of records.
#[test]
fn every_type_with_serde_comes_back_from_text_and_from_bytes() {
    let mut random = Random::new(seed());
    let random = &mut random;
    for _ in 0..times(300) {
        let (did, id, path) = (did(random), id(random), path(random));
        for (text, printed) in [
            (serde_json::to_value(did), did.to_string()),
            (serde_json::to_value(id), id.to_string()),
            (serde_json::to_value(&path), path.to_string()),
        ] {
            assert_eq!(text.unwrap(), printed);
        }
        assert_eq!(path.to_string().parse::<Path>(), Ok(path.clone()));
        comes_back(&did);
        comes_back(&id);
        comes_back(&path);
        path.0.iter().for_each(comes_back);
        comes_back(&CellId { owner: did, name: Arc::from(text(random)) });
        comes_back(&payload(random));
        comes_back(&receipt(random));
        let event = event(random);
        comes_back(&event);
        let queued = Queued { position: random.bits(), space: did, event: event.clone() };
        comes_back(&queued);
        comes_back(&DeadLetter { position: 1, time_ms: random.bits(), event: event.clone(), receipt: receipt(random) });
        let digest = random.chance(500).then_some(id.0);
        let (seq, time_ms) = (random.bits(), random.bits());
        comes_back(&ReceiptRow { receipt: receipt(random), sender: did, to: did, digest, space: did, seq, time_ms });
        let edit = Edit { path: path.clone(), put: random.chance(500).then(|| payload(random)) };
        let turn = Turn {
            sender: did,
            stream: text(random).into(),
            receipt: receipt(random),
            writes: vec![Write { name: text(random).into(), previous: 1, edits: vec![edit] }],
            sends: vec![Sent { event: event.clone(), refused: Some(*random.pick(&Outcome::ALL)) }],
            dropped: random.chance(500).then_some(id),
            ran: random.chance(500).then(|| Ran { time_ms: random.bits(), fuel: random.bits(), costs: 1 }),
        };
        let install = Install { component: [5; 32], description: payload(random), rights: Some(vec![1]) };
        let marked = event.clone();
        let bodies = [
            Body::Registered { name: text(random) },
            Body::Installed(Box::new(install)),
            Body::Uninstalled,
            Body::Rights { holder: did, kept: random.chance(500).then(|| vec![2]) },
            Body::Paused(random.chance(500)),
            Body::Accepted(event.clone()),
            Body::Letters { dropped: vec![id], again: random.chance(500).then_some(event) },
            Body::Removed(turn.writes.clone()),
            Body::Turn(Box::new(turn)),
            Body::Checkpoint(Box::new(Checkpoint {
                seq: 1,
                name: text(random),
                paused: random.chance(500),
                installed: random.chance(500).then_some(([6; 32], [7; 32])),
                rights: vec![(did, vec![1])],
                letters_dropped: random.bits(),
                cells: [3; 32],
                waiting: vec![EventMark::of(&marked)],
                dead: vec![EventMark::of(&marked)],
                turns: Vec::new(),
                sent: vec![(did, EventMark::of(&marked))],
            })),
            Body::Pruned(Box::new(Pruned {
                order: random.bits(),
                entry: [4; 32],
                position: random.bits(),
                heads: [5; 32],
                cuts: vec![Cut { space: did, seq: random.bits(), order: random.bits(), receipts: 1, messages: 2 }],
            })),
        ];
        for body in bodies {
            let (seq, time_ms) = (random.bits(), random.bits());
            comes_back(&Record { version: RECORD_VERSION, space: did, seq, previous: [7; 32], time_ms, body });
        }
    }
    assert_eq!(serde_json::to_value(Outcome::ConflictExhausted).unwrap(), "conflict-exhausted");
}

/// I1: a key that is none is refused from text and from bytes alike.
#[test]
fn a_did_is_checked_wherever_it_is_read() {
    // The point of order one, and a number that is no point.
    for bytes in [
        [0; 32],
        {
            let mut one = [0; 32];
            one[0] = 1;
            one
        },
        [0xff; 32],
    ] {
        assert!(postcard::from_bytes::<Did>(&bytes).is_err(), "{bytes:?}");
        let multicodec = [&[0xed, 0x01][..], &bytes].concat();
        let text = format!("did:key:z{}", bs58::encode(multicodec).into_string());
        assert!(text.parse::<Did>().is_err() && serde_json::from_str::<Did>(&format!("{text:?}")).is_err(), "{text}");
    }
    let mut random = Random::new(seed());
    let did = did(&mut random);
    for wrong in
        ["\"did:key:z6Mk\"".to_owned(), format!("{:?}", did.public_key()), "null".to_owned(), format!("\" {did}\"")]
    {
        assert!(serde_json::from_str::<Did>(&wrong).is_err(), "{wrong}");
    }
}

/// C1: a value inside what is encoded is a part of it, and names are the text that charms know.
#[test]
fn values_and_names_inside_a_value_are_parts_of_it() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        buyer: Did,
        event: EventId,
        what: Value,
    }
    let mut random = Random::new(seed());
    for _ in 0..times(100) {
        let order = Order { buyer: did(&mut random), event: id(&mut random), what: value(&mut random) };
        let whole = Value::encode(&order).unwrap();
        let tree: BTreeMap<String, Ipld> = whole.decode().unwrap();
        assert_eq!(tree["buyer"], Ipld::String(order.buyer.to_string()));
        assert_eq!(tree["event"], Ipld::String(order.event.to_string()));
        assert_eq!(tree["what"], order.what.decode().unwrap());
        assert_eq!(whole.decode::<Order>().unwrap(), order);
        assert_eq!(Value::encode(&order.what).unwrap(), order.what);
        assert_eq!(order.what.decode::<Value>().unwrap(), order.what);
    }
}
