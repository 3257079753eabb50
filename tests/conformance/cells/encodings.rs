//! Values of each kind, and bytes that are no value (C1, C2).

use std::collections::BTreeMap;

use charm_host::Kind;
use ipld_core::{cid::Cid, ipld::Ipld};

/// One value of each kind, and the edges of each.
pub fn kinds() -> Vec<(Ipld, Kind)> {
    let cid = Cid::try_from("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy").unwrap();
    let map = |entries: [(&str, Ipld); 2]| {
        Ipld::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    vec![
        (Ipld::Null, Kind::Null),
        (Ipld::Bool(false), Kind::Bool),
        (Ipld::Bool(true), Kind::Bool),
        (Ipld::Integer(0), Kind::Integer),
        (Ipld::Integer(u64::MAX.into()), Kind::Integer),
        (Ipld::Integer(-(1 << 64)), Kind::Integer),
        (Ipld::Float(1.0), Kind::Float),
        (Ipld::Float(f64::MIN_POSITIVE / 2.0), Kind::Float),
        (Ipld::Float(f64::MAX), Kind::Float),
        (Ipld::String(String::new()), Kind::String),
        (Ipld::String("naïve \u{1f980} \0".to_owned()), Kind::String),
        (Ipld::Bytes(Vec::new()), Kind::Bytes),
        (Ipld::Bytes((0..=255).collect()), Kind::Bytes),
        (Ipld::List(Vec::new()), Kind::List),
        (Ipld::List(vec![Ipld::Integer(1), Ipld::List(vec![Ipld::Null])]), Kind::List),
        (Ipld::Map(BTreeMap::new()), Kind::Map),
        (map([("", Ipld::Integer(1)), ("longer", Ipld::Float(0.5))]), Kind::Map),
        (Ipld::Link(cid), Kind::Link),
    ]
}

/// Everything that is not the canonical form of one value.
pub fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let hex = |text: &str| -> Vec<u8> {
        let digits: Vec<_> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    };
    let forms = [
        ("nothing", ""),
        ("23 in two bytes", "18 17"),
        ("255 in three bytes", "19 00ff"),
        ("65535 in five bytes", "1a 0000ffff"),
        ("2^32-1 in nine bytes", "1b 00000000ffffffff"),
        ("-24 in two bytes", "38 17"),
        ("length of bytes not shortest", "58 01 00"),
        ("length of a string not shortest", "78 01 61"),
        ("length of a list not shortest", "98 01 00"),
        ("length of a map not shortest", "b8 01 6161 00"),
        ("indefinite bytes", "5f 4100 ff"),
        ("indefinite string", "7f 6161 ff"),
        ("indefinite list", "9f 00 ff"),
        ("indefinite map", "bf 6161 00 ff"),
        ("a break", "ff"),
        ("reserved length", "1c"),
        ("NaN", "fb 7ff8000000000000"),
        ("NaN with a payload", "fb fff8000000000001"),
        ("Infinity", "fb 7ff0000000000000"),
        ("-Infinity", "fb fff0000000000000"),
        ("negative zero: equal values have equal bytes", "fb 8000000000000000"),
        ("a half float", "f9 3c00"),
        ("a single float", "fa 3fc00000"),
        ("undefined", "f7"),
        ("a simple value", "e0"),
        ("a simple value of two bytes", "f8 20"),
        ("false in two bytes", "f8 14"),
        ("the same key twice", "a2 6161 00 6161 01"),
        ("keys not in order", "a2 6162 00 6161 01"),
        ("a long key before a short one", "a2 626161 00 6162 01"),
        ("an integer key", "a1 00 00"),
        ("a bytes key", "a1 4161 00"),
        ("a date tag", "c0 60"),
        ("a bignum", "c2 49 010000000000000000"),
        ("self-described CBOR", "d9d9f7 00"),
        ("tag 42 not shortest", "d9002a 4100"),
        ("a link to a number", "d82a 00"),
        ("a link without bytes", "d82a 40"),
        ("a link without its zero", "d82a 4101"),
        ("a link to no CID", "d82a 43 00ffff"),
        ("not UTF-8", "61 ff"),
        ("a surrogate", "63 eda080"),
        ("an overlong character", "62 c0af"),
        ("a key that is not UTF-8", "a1 61ff 00"),
        ("an integer cut off", "19 01"),
        ("a string cut off", "62 61"),
        ("a list cut off", "82 00"),
        ("a map without its last value", "a1 6161"),
        ("a list of 2^63", "9b 8000000000000000"),
        ("a string of 2^64-1", "7b ffffffffffffffff"),
        ("two values", "00 00"),
        ("a fault deep inside", "81 a1 6161 82 00 f7"),
    ];
    forms.into_iter().map(|(name, text)| (name, hex(text))).collect()
}
