use ipld_core::ipld::Ipld;
use proptest::{collection, option, prelude::*};
use serde_json::json;

use super::*;
use crate::value::HEADS;

fn shape(text: &str) -> Shape {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn value(json: serde_json::Value) -> Value {
    Value::encode(&json).expect("in the data model")
}

#[test]
fn text_round_trips() {
    for text in [
        "any",
        "{token: string, expires_at: int, scopes?: [string]}",
        "{*: {\"a b\": float?}}",
        "\"on\" | \"off\" | null",
        "[{}]",
        "(int | string)?",
        "{n: u32, *: int(1..9)}",
        "[u8, string?]",
        "[int,]",
        "[]",
        "{a: any, *: never}",
        "int(-18446744073709551616..18446744073709551615)",
    ] {
        let parsed = shape(text);
        assert_eq!(shape(&parsed.to_string()), parsed, "{text} -> {parsed}");
    }
}

#[test]
fn malformed_text_is_refused_with_its_place() {
    for (text, at) in [
        ("", 0),
        ("strin", 5),
        ("{a int}", 3),
        ("[int", 4),
        ("{a: int, a: int}", 15),
        ("int int", 4),
        ("\"x", 0),
        ("[int, string", 12),
        ("int(1..)", 7),
        ("int(2..1)", 9),
        ("int(0..18446744073709551616)", 7),
        ("u128", 4),
        ("{*: int, *: int}", 15),
        ("[,]", 1),
    ] {
        assert_eq!(text.parse::<Shape>().expect_err(text).at, at, "{text}");
    }
    assert!("[".repeat(10_000).parse::<Shape>().is_err());
}

#[test]
fn values_fit_or_the_place_is_named() {
    let token = shape("{token: string, expires: int, scopes?: [string]}");
    assert_eq!(token.check(&value(json!({"token": "t", "expires": 1, "more": true}))), Ok(()));
    let error = token.check(&value(json!({"token": "t", "expires": "soon"}))).expect_err("misfit");
    assert_eq!((error.at.as_str(), error.expected.as_str(), error.actual.as_str()), ("/expires", "int", "string"));
    let error = token.check(&value(json!({"token": "t"}))).expect_err("misfit");
    assert_eq!((error.at.as_str(), error.actual.as_str()), ("/expires", "missing"));
    let error = token.check(&value(json!({"token": "t", "expires": 1, "scopes": [1]}))).expect_err("misfit");
    assert_eq!(error.at, "/scopes/0");
    let error = shape("{a: {b: int}?}").check(&value(json!({"a": {"b": true}}))).expect_err("misfit");
    assert_eq!(error.at, "/a/b");
    let error =
        shape("{a: int, b: {*: [int]}}").check(&value(json!({"a": 1, "b": {"k": [1, 2, "x"]}}))).expect_err("misfit");
    assert_eq!((error.at.as_str(), error.expected.as_str()), ("/b/k/2", "int"));
    let error =
        shape("[{a: int, b: int, c?: int}]").check(&value(json!([{"a": 1, "b": 1}, {"c": 1}]))).expect_err("misfit");
    assert_eq!((error.at.as_str(), error.actual.as_str()), ("/1/a", "missing"));
    // Of two alternatives that are like the value, none is told.
    let error = shape("{a: [int] | [string]}").check(&value(json!({"a": [true]}))).expect_err("misfit");
    assert_eq!((error.at.as_str(), error.expected.as_str(), error.actual.as_str()), ("/a", "[int] | [string]", "list"));
    assert_eq!(shape("float").check(&value(json!(1))), Ok(()));
    for (text, json, at, expected, actual) in [
        ("{a: [u32]}", json!({"a": [1, -2]}), "/a/1", "u32", "integer out of range"),
        ("{a: u32?}", json!({"a": -1}), "/a", "u32", "integer out of range"),
        ("{a: int(-9..-1) | int(1..9)}", json!({"a": 0}), "/a", "int(-9..-1) | int(1..9)", "integer out of range"),
        ("{a: [int, string]?}", json!({"a": [1]}), "/a", "[int, string]", "list of 1"),
        ("{a: int(1..9)}", json!({"a": 10}), "/a", "int(1..9)", "integer out of range"),
        ("{a: [int, string]}", json!({"a": [1]}), "/a", "[int, string]", "list of 1"),
        ("[int, string]", json!([1, 2]), "/1", "string", "integer"),
        ("{a: int, *: never}", json!({"a": 1, "b": 2}), "/b", "never", "integer"),
        ("{a: int, *: bool}", json!({"a": 1, "b": 2}), "/b", "bool", "integer"),
    ] {
        let error = shape(text).check(&value(json)).expect_err(text);
        assert_eq!((error.at.as_str(), error.expected.as_str(), error.actual.as_str()), (at, expected, actual));
    }
    assert_eq!(shape("\"a\"|\"b\"").check(&value(json!("b"))), Ok(()));
}

#[test]
fn fits_is_a_sound_order() {
    for (a, b, yes) in [
        ("int", "any", true),
        ("any", "int", false),
        ("int", "float", true),
        ("\"a\"", "string", true),
        ("int", "int?", true),
        ("int?", "int", false),
        ("{a: int, b: int}", "{a: int}", true),
        ("{a: int}", "{a: int, b: int}", false),
        ("{a: int}", "{a: int, b?: int}", true),
        ("{a?: int}", "{a: int}", false),
        ("[int]", "[float]", true),
        ("{*: int}", "{a: int}", false),
        ("{a: int}", "{*: int}", false),
        ("u8", "u16", true),
        ("u8", "i16", true),
        ("u32", "int", true),
        ("u64", "int", false),
        ("i64", "int", true),
        ("int", "i64", true),
        ("int", "u64", false),
        ("u64", "int(-18446744073709551616..18446744073709551615)", true),
        ("u32", "float", true),
        ("int(-128..-1) | int(1..127)", "i8", true),
        ("[int, int]", "[int]", true),
        ("[int]", "[int, int]", false),
        ("[u8, u8]", "[int, float]", true),
        ("[u8]", "[]", false),
        ("never", "int", true),
        ("int", "never", false),
        ("{a: int, *: never}", "{*: int}", true),
        ("{a: int, *: string}", "{*: int}", false),
        ("{a: int, *: never}", "{a: int, b?: bool}", true),
        ("{a: int, *: int}", "{a: int, b?: bool}", false),
        ("{a: int}", "{a: int, *: never}", false),
    ] {
        assert_eq!(shape(a).fits(&shape(b)), yes, "{a} fits {b}");
    }
}

/// A5: where a value does not fit is known from the one pass that checks it, however deep that is.
#[test]
fn a_misfit_far_down_costs_one_pass() {
    const LEVELS: usize = 58;
    let wanted = shape(&format!("{}int{}", "{k: ".repeat(LEVELS), "}".repeat(LEVELS)));
    let one_of = shape(&format!("{}int{}", "{k: bool | ".repeat(LEVELS), "}".repeat(LEVELS)));
    let filler = vec![Ipld::Null; 20_000];
    let mut deep = Ipld::String("x".to_owned());
    for level in 0..LEVELS {
        let more = if level % 10 == 0 { filler.clone() } else { Vec::new() };
        deep = Ipld::Map([("k".to_owned(), deep), ("a".to_owned(), Ipld::List(more))].into());
    }
    let deep = Value::encode(&deep).expect("in the data model");
    for shape in [wanted, one_of] {
        let before = HEADS.get();
        let error = shape.check(&deep).expect_err("misfit");
        let count = HEADS.get() - before;
        assert!(error.at.starts_with("/k/k/k/k") && error.expected.ends_with("int"), "{error}");
        assert!(count <= 2 * deep.as_bytes().len() as u64, "{count} heads");
    }
}

/// A5: nested alternatives that all fit until the end are tried until the steps are used up, no longer.
#[test]
fn a_check_ends_with_its_steps() {
    let nested = (0..8).fold("int".to_owned(), |inner, _| format!("{{a: {inner}}}|{{a: {inner}}}"));
    let deep = (0..8).fold(json!("x"), |inner, _| json!({ "a": inner }));
    let mut steps = SHAPE_STEPS_MAX;
    shape(&nested).check_within(&value(deep.clone()), &mut steps).expect_err("misfit");
    assert!(SHAPE_STEPS_MAX - steps > 256, "every alternative was tried");
    let mut steps = 100;
    let error = shape(&nested).check_within(&value(deep), &mut steps).expect_err("out of steps");
    assert!(error.expected.contains("is checked in") && steps == 0, "{error}");
    // Fields that nobody has are looked for as well.
    let optional = shape(&format!("[{{{}}}]", (0..300).map(|n| format!("k{n}?: int")).collect::<Vec<_>>().join(",")));
    let empty = value(json!(vec![json!({}); 10_000]));
    let mut steps = SHAPE_STEPS_MAX;
    optional.check_within(&empty, &mut steps).expect_err("out of steps");
    assert_eq!(steps, 0);
}

// -- against a model on trees --

fn kind_of(value: &Ipld) -> Kind {
    match value {
        Ipld::Null => Kind::Null,
        Ipld::Bool(_) => Kind::Bool,
        Ipld::Integer(_) => Kind::Integer,
        Ipld::Float(_) => Kind::Float,
        Ipld::String(_) => Kind::String,
        Ipld::Bytes(_) => Kind::Bytes,
        Ipld::List(_) => Kind::List,
        Ipld::Map(_) => Kind::Map,
        Ipld::Link(_) => Kind::Link,
    }
}

fn holds(shape: &Shape, value: &Ipld) -> bool {
    match (shape, value) {
        (Shape::Any, _) => true,
        (Shape::Kind(Kind::Float), Ipld::Integer(_)) => true,
        (Shape::Int(range), Ipld::Integer(found)) => range.contains(found),
        (Shape::Kind(kind), _) => *kind == kind_of(value),
        (Shape::Literal(text), Ipld::String(found)) => text == found,
        (Shape::List(item), Ipld::List(items)) => items.iter().all(|value| holds(item, value)),
        (Shape::Tuple(items), Ipld::List(found)) => {
            items.len() == found.len() && items.iter().zip(found).all(|(item, value)| holds(item, value))
        }
        (Shape::Map { fields, rest }, Ipld::Map(entries)) => {
            let named = fields
                .iter()
                .all(|(key, field)| entries.get(key).map_or(field.optional, |value| holds(&field.shape, value)));
            let mut others = entries.iter().filter(|(key, _)| !fields.contains_key(*key));
            named && others.all(|(_, value)| rest.as_ref().is_none_or(|rest| holds(rest, value)))
        }
        (Shape::OneOf(shapes), _) => shapes.iter().any(|shape| holds(shape, value)),
        _ => false,
    }
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Any),
        prop::sample::select(vec![Kind::Null, Kind::Bool, Kind::Float, Kind::String, Kind::Bytes])
            .prop_map(Shape::Kind),
        prop::sample::select(WIDTHS.to_vec()).prop_map(|(_, range)| Shape::Int(range)),
        (-2i128..20, 0i128..20).prop_map(|(first, more)| Shape::Int(first..=first + more)),
        "[ab]{0,2}".prop_map(Shape::Literal),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let field = (any::<bool>(), inner.clone()).prop_map(|(optional, shape)| Field { optional, shape });
        prop_oneof![
            inner.clone().prop_map(|item| Shape::List(Box::new(item))),
            collection::vec(inner.clone(), 0..4).prop_map(Shape::Tuple),
            (collection::btree_map("[abc]{1,2}", field, 0..4), option::of(inner.clone()))
                .prop_map(|(fields, rest)| Shape::Map { fields, rest: rest.map(Box::new) }),
            option::of(collection::vec(inner, 2..4)).prop_map(|shapes| Shape::OneOf(shapes.unwrap_or_default())),
        ]
    })
}

/// A value that fits, mostly: what the shape asks for, with a few changes.
fn like(shape: &Shape, choices: &mut dyn Iterator<Item = u8>) -> Ipld {
    let mut choose = || choices.next().unwrap_or_default();
    match shape {
        _ if choose() % 16 == 15 => Ipld::Bool(true),
        Shape::Any | Shape::Kind(Kind::Float) => Ipld::Integer(i128::from(choose())),
        Shape::Int(range) => {
            let ends = [*range.start(), *range.end(), range.start() - 1, range.end() + 1, 1];
            Ipld::Integer(ends[usize::from(choose()) % 5].clamp(*INT.start(), *INT.end()))
        }
        Shape::Kind(Kind::Null) => Ipld::Null,
        Shape::Kind(Kind::Bool) => Ipld::Bool(false),
        Shape::Kind(Kind::Bytes) => Ipld::Bytes(vec![choose(); 3]),
        Shape::Kind(_) => Ipld::String("text".to_owned()),
        Shape::Literal(text) => Ipld::String(text.clone()),
        Shape::List(item) => Ipld::List((0..choose() % 4).map(|_| like(item, choices)).collect()),
        Shape::Tuple(items) => {
            let short = usize::from(choose().is_multiple_of(8));
            Ipld::List(items.iter().skip(short).map(|item| like(item, choices)).collect())
        }
        Shape::Map { fields, rest } => {
            let mut entries: BTreeMap<String, Ipld> = BTreeMap::new();
            for (key, field) in fields {
                if !(field.optional && choices.next().unwrap_or_default().is_multiple_of(2)) {
                    entries.insert(key.clone(), like(&field.shape, choices));
                }
            }
            for more in 0..choices.next().unwrap_or_default() % 4 {
                let value = rest.as_ref().map_or(Ipld::List(vec![Ipld::Null]), |rest| like(rest, choices));
                entries.insert(format!("more{more}"), value);
            }
            Ipld::Map(entries)
        }
        Shape::OneOf(shapes) if shapes.is_empty() => Ipld::Null,
        Shape::OneOf(shapes) => {
            let at = choose() as usize % shapes.len();
            like(&shapes[at], choices)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// C2, H2: a value fits on its bytes if it fits as a tree.
    #[test]
    fn values_fit_as_they_do_as_trees(shape in any_shape(), choices in collection::vec(any::<u8>(), 0..60)) {
        let tree = like(&shape, &mut choices.into_iter());
        let value = Value::encode(&tree).expect("in the data model");
        let found = shape.check(&value);
        prop_assert_eq!(found.is_ok(), holds(&shape, &tree), "{} for {:?}: {:?}", shape, tree, found);
    }
}

/// C7: where an edit alone is looked at, it decides as a look at the whole does.
#[test]
fn an_edit_is_judged_as_the_whole_is() {
    use crate::value::{Edit, Tree, apply};
    let value = |json: &serde_json::Value| Value::encode(json).expect("in the data model");
    let orders = r#"{"open": {"id": int, "total": u8, "note"?: string, "tags"?: [string]}, "pair": [int, string], "way": {"a": int} | {"b": int} | [int], "more": {*: {"n": int}?}}"#;
    let shape: Shape = orders.replace('"', "").parse().expect("a shape");
    let before = serde_json::json!({
        "open": {"id": 1, "total": 2, "note": "x", "tags": ["a", "b"]},
        "pair": [1, "one"], "way": {"a": 1}, "more": {"k": {"n": 1}, "none": null}, "beside": [1],
    });
    shape.check(&value(&before)).expect("it fits");
    let puts = [
        serde_json::json!(null),
        serde_json::json!(1),
        serde_json::json!(-1),
        serde_json::json!(300),
        serde_json::json!("s"),
        serde_json::json!([]),
        serde_json::json!([1, "x"]),
        serde_json::json!({}),
        serde_json::json!({"a": 1}),
        serde_json::json!({"n": 1}),
        serde_json::json!({"n": "x"}),
        serde_json::json!({"id": 1, "total": 1}),
    ];
    let paths = [
        "/open",
        "/open/id",
        "/open/total",
        "/open/note",
        "/open/tags",
        "/open/tags/0",
        "/open/tags/2",
        "/open/else",
        "/pair",
        "/pair/0",
        "/pair/1",
        "/pair/2",
        "/way",
        "/way/a",
        "/way/b",
        "/more",
        "/more/k",
        "/more/k/n",
        "/more/k/m",
        "/more/none",
        "/more/new",
        "/beside",
        "/beside/0",
        "/beside/1",
        "/new",
    ];
    let (mut fit, mut misfit) = (0, 0);
    for path in paths {
        let path: crate::path::Path = path.parse().expect("a path");
        for put in puts.iter().map(Some).chain([None]) {
            let edit = Edit { path: path.clone(), put: put.map(value) };
            let tree = Tree::new(value(&before));
            let Ok(Some(after)) = apply(Some(tree), std::slice::from_ref(&edit)) else { continue };
            let whole = shape.check(&after.to_value());
            for is_moved in [false, true] {
                let edits = std::slice::from_ref(&edit);
                let found = shape.check_edits(&after, edits, is_moved, &mut { SHAPE_STEPS_MAX });
                assert_eq!(found.is_ok(), whole.is_ok(), "{edit:?}: {found:?}, the whole: {whole:?}");
                if let (Err(found), Err(whole)) = (found, &whole) {
                    assert!(is_moved || found.at == whole.at, "{edit:?}: {found:?}, the whole: {whole:?}");
                }
            }
            *(if whole.is_ok() { &mut fit } else { &mut misfit }) += 1;
        }
    }
    assert!(fit > 80 && misfit > 100, "{fit} fit, {misfit} do not");
}

/// C7: a map of many is not looked through for one of its entries.
#[test]
fn an_edit_in_a_large_value_is_judged_in_few_steps() {
    use crate::value::{Edit, Tree};
    let shape: Shape = "{*: {id: int, lines: [{n: int}]}}".parse().expect("a shape");
    let order = |n: usize| serde_json::json!({"id": n, "lines": [{"n": n}, {"n": 1}]});
    let orders: BTreeMap<String, _> = (0..2_000).map(|n| (format!("{n:04}"), order(n))).collect();
    let tree = Tree::new(Value::encode(&orders).expect("in the data model"));
    for (path, put) in [("/'0100'", order(1)), ("/'1999'/lines/1/n", serde_json::json!(5)), ("/'3000'", order(2))] {
        let put = Value::encode(&put).expect("in the data model");
        let edit = Edit { path: path.parse().expect("a path"), put: Some(put.clone()) };
        let after = Tree::put(Some(&tree), &edit.path.0, &put).expect("its parent is there");
        let mut steps = SHAPE_STEPS_MAX;
        shape.check_edits(&after, &[edit], false, &mut steps).expect("it fits");
        assert!(SHAPE_STEPS_MAX - steps < 40, "{path}: {} steps", SHAPE_STEPS_MAX - steps);
    }
}

/// C7: a value that only a look at all of it decides on is looked at once, however many edits are in it.
#[test]
fn many_edits_in_one_value_are_judged_by_one_look() {
    use crate::{
        path::Path,
        value::{Edit, Tree},
    };
    let shape: Shape = "{Draft: [u32], *: never} | {Final: [u32], *: never}".parse().expect("a shape");
    let mut after =
        Tree::new(Value::encode(&BTreeMap::from([("Draft", vec![7_u32; 2_000])])).expect("in the data model"));
    let mut edits = Vec::new();
    for index in 0..1_000 {
        let put = Value::encode(&index).expect("in the data model");
        let path: Path = format!("/Draft/{index}").parse().expect("a path");
        after = Tree::put(Some(&after), &path.0, &put).expect("its parent is there");
        edits.push(Edit { path, put: Some(put) });
    }
    let mut steps = SHAPE_STEPS_MAX;
    shape.check_edits(&after, &edits, false, &mut steps).expect("it fits");
    assert!(SHAPE_STEPS_MAX - steps < 20_000, "{} steps", SHAPE_STEPS_MAX - steps);
    // One that does not fit is found among them.
    let put = Value::encode("no number").expect("in the data model");
    let path: Path = "/Draft/500".parse().expect("a path");
    let after = Tree::put(Some(&after), &path.0, &put).expect("its parent is there");
    edits[500].put = Some(put);
    assert!(shape.check_edits(&after, &edits, false, &mut { SHAPE_STEPS_MAX }).is_err());
}

#[test]
fn where_two_shapes_differ_is_found_in_a_bounded_number_of_steps() {
    let misfit = |from: &str, into: &str| {
        let (from, into) = (shape(from), shape(into));
        assert!(!from.fits(&into));
        let Misfit { at, from, into, lacks } = from.misfit(&into, &mut { crate::limits::MISFIT_STEPS_MAX });
        (crate::value::at(&at), from.to_string(), into.to_string(), lacks.map(str::to_owned))
    };
    let told = |at: &str, from: &str, into: &str| (at.to_owned(), from.to_owned(), into.to_owned(), None);
    assert_eq!(misfit("int", "string"), told("/", "int", "string"));
    assert_eq!(misfit("{a: {b: int}, c: int}", "{a: {b: string}}"), told("/a/b", "int", "string"));
    assert_eq!(misfit("[{a: int}]", "[{a: string}]"), told("/0/a", "int", "string"));
    let lacks = misfit("{a: {b: int}}", "{a: {b: int, c: int}}");
    assert_eq!((lacks.0, lacks.3), ("/a".to_owned(), Some("c".to_owned())));
    let optional = misfit("{a?: int}", "{a: int}");
    assert_eq!((optional.0, optional.3), ("/".to_owned(), Some("a".to_owned())));
    let (from, into) = (shape("{a: {b: int}}"), shape("{a: {b: string}}"));
    assert!(from.misfit(&into, &mut 0).at.is_empty(), "without steps it stays at the top");
}
