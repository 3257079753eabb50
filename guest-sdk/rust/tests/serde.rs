//! Shapes agree with serde: each attribute, alone and with others, against what serde's own derives write and read.
#![allow(clippy::unwrap_used, missing_docs, dead_code, reason = "a test")]
#![allow(non_snake_case, non_camel_case_types, reason = "what is tested")]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::marker::PhantomData;
use std::num::{NonZeroI64, NonZeroU8};

use charm_sdk::prelude::*;
use common::agrees;

/// The same names in every style of serde, for a struct, the variants of an enum, and the fields of variants.
macro_rules! styles {
    ($($module:ident: $style:literal),+ $(,)?) => {$(
        mod $module {
            use super::*;

            #[data]
            #[serde(rename_all = $style)]
            pub struct Names {
                plain: u8,
                first_name: u8,
                _id: u8,
                __two: u8,
                trailing_: u8,
                double__inside: u8,
                x1_y2: u8,
                r#type: u8,
                a: u8,
                mixedCase: u8,
                größe_ä: u8,
                #[serde(rename = "as it is")]
                renamed: u8,
            }

            #[data]
            #[serde(rename_all = $style, rename_all_fields = $style)]
            pub enum Variants {
                Plain,
                VeryTasty(u8),
                HTTPServer { _id: u8, first_name: u8 },
                A(u8, bool),
                Z42,
                snake_variant,
                Under_Score,
                #[serde(rename_all = "UPPERCASE")]
                Own { first_name: u8 },
                #[serde(rename = "as it is")]
                Renamed,
            }

            #[data]
            #[serde(tag = "kind", rename_all = $style)]
            pub enum Tagged {
                Plain,
                VeryTasty { _id: u8 },
            }

            #[data]
            #[serde(tag = "kind", content = "value", rename_all = $style, rename_all_fields = $style)]
            pub enum Adjacent {
                Plain,
                VeryTasty(u8),
                Pair(u8, String),
                Some_Fields { _id: u8 },
            }

            #[test]
            fn names_are_those_of_serde() {
                agrees([Names {
                    plain: 1,
                    first_name: 2,
                    _id: 3,
                    __two: 4,
                    trailing_: 5,
                    double__inside: 6,
                    x1_y2: 7,
                    r#type: 8,
                    a: 9,
                    mixedCase: 10,
                    größe_ä: 11,
                    renamed: 12,
                }]);
                agrees([
                    Variants::Plain,
                    Variants::VeryTasty(1),
                    Variants::HTTPServer { _id: 1, first_name: 2 },
                    Variants::A(1, true),
                    Variants::Z42,
                    Variants::snake_variant,
                    Variants::Under_Score,
                    Variants::Own { first_name: 1 },
                    Variants::Renamed,
                ]);
                agrees([Tagged::Plain, Tagged::VeryTasty { _id: 1 }]);
                agrees([
                    Adjacent::Plain,
                    Adjacent::VeryTasty(1),
                    Adjacent::Pair(1, "x".into()),
                    Adjacent::Some_Fields { _id: 1 },
                ]);
            }
        }
    )+};
}

styles! {
    lower: "lowercase",
    upper: "UPPERCASE",
    pascal: "PascalCase",
    camel: "camelCase",
    snake: "snake_case",
    screaming_snake: "SCREAMING_SNAKE_CASE",
    kebab: "kebab-case",
    screaming_kebab: "SCREAMING-KEBAB-CASE",
}

fn seven() -> u8 {
    7
}

fn is_zero(value: &u8) -> bool {
    *value == 0
}

#[data]
struct Fields {
    required: i64,
    optional: Option<String>,
    boxed: Box<Option<u8>>,
    #[serde(default)]
    defaulted: u8,
    #[serde(default = "seven", skip_serializing_if = "is_zero")]
    seven: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    shy: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    list: Vec<(u8, bool)>,
    #[serde(skip)]
    hidden: u8,
    #[serde(skip_serializing, default)]
    read_only: u8,
    #[serde(skip_deserializing)]
    write_only: u8,
    #[serde(rename(serialize = "both", deserialize = "both"))]
    renamed: [i8; 2],
}

#[test]
fn fields_that_may_be_missing() {
    let plain = Fields {
        required: -3,
        optional: None,
        boxed: Box::new(None),
        defaulted: 0,
        seven: 7,
        shy: None,
        list: vec![],
        hidden: 0,
        read_only: 0,
        write_only: 0,
        renamed: [1, -1],
    };
    let full = Fields {
        optional: Some("x".into()),
        boxed: Box::new(Some(3)),
        shy: Some(300),
        list: vec![(1, true), (2, false)],
        ..plain.clone()
    };
    agrees([plain, full]);
}

#[data]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[derive(Default)]
struct Closed {
    first_count: u32,
    _second: i16,
    #[serde(skip)]
    third: bool,
}

#[data]
#[serde(deny_unknown_fields)]
enum ClosedVariants {
    Plain,
    One { a: u8 },
}

#[data]
#[serde(tag = "t", deny_unknown_fields)]
enum ClosedTagged {
    Plain,
    One { a: u8 },
}

#[data]
#[serde(tag = "t", content = "c", deny_unknown_fields)]
enum ClosedAdjacent {
    Plain,
    One(u8),
    Two { a: u8 },
}

#[test]
fn unknown_keys_are_refused_by_shape_and_type() {
    agrees([Closed::default(), Closed { first_count: 1, _second: -1, third: false }]);
    agrees([ClosedVariants::Plain, ClosedVariants::One { a: 1 }]);
    agrees([ClosedTagged::Plain, ClosedTagged::One { a: 1 }]);
    agrees([ClosedAdjacent::Plain, ClosedAdjacent::One(1), ClosedAdjacent::Two { a: 1 }]);
}

#[data]
#[serde(untagged)]
enum Untagged {
    Nothing,
    Number(u8),
    Text(String),
    Pair(i8, bool),
    Fields { a: u8, b: Option<f64> },
    Other { c: Vec<u64> },
}

#[data]
#[serde(tag = "type")]
struct Tagged {
    a: u8,
}

#[data]
#[serde(transparent)]
struct Transparent {
    inner: Option<u16>,
    #[serde(skip)]
    cached: u8,
}

#[data]
struct UsesTransparent {
    maybe: Transparent,
}

#[data]
#[serde(from = "(u8, u8)", into = "(u8, u8)")]
struct Point {
    x: u8,
    y: u8,
}

impl From<(u8, u8)> for Point {
    fn from((x, y): (u8, u8)) -> Self {
        Self { x, y }
    }
}

impl From<Point> for (u8, u8) {
    fn from(point: Point) -> Self {
        (point.x, point.y)
    }
}

#[data]
#[serde(rename_all = "kebab-case")]
enum Colour {
    Red,
    DarkRed,
    #[serde(other)]
    Unknown,
}

#[data]
enum Skipped {
    One(u8),
    #[serde(skip)]
    Two(u8),
    #[serde(skip_serializing)]
    Three,
}

#[test]
fn representations_of_enums_and_newtypes() {
    agrees([
        Untagged::Nothing,
        Untagged::Number(1),
        Untagged::Text("x".into()),
        Untagged::Pair(-1, true),
        Untagged::Fields { a: 1, b: Some(0.5) },
        Untagged::Other { c: vec![u64::MAX] },
    ]);
    agrees([Tagged { a: 1 }]);
    agrees([UsesTransparent { maybe: Transparent { inner: None, cached: 0 } }]);
    agrees([UsesTransparent { maybe: Transparent { inner: Some(1), cached: 0 } }]);
    agrees([Point { x: 1, y: 2 }]);
    agrees([Colour::Red, Colour::DarkRed, Colour::Unknown]);
    agrees([Skipped::One(1)]);
}

#[data]
struct Unit;
#[data]
struct New(u32);
#[data]
struct Two(u32, Option<String>);
#[data]
struct Zero();
#[data]
struct NoFields {}
#[data]
enum Kinds {
    Unit,
    New(Two),
    Zero(),
    NoFields {},
    Deep { inner: Vec<Kinds2> },
}
#[data]
enum Kinds2 {
    A(BTreeMap<String, i8>),
    B,
}
#[data]
struct Generic<T> {
    items: Vec<T>,
    marker: PhantomData<T>,
    next: Option<Box<T>>,
    array: [T; 2],
}

#[test]
fn structs_of_all_kinds() {
    agrees([Unit]);
    agrees([New(7)]);
    agrees([Two(7, None), Two(8, Some("x".into()))]);
    agrees([Zero()]);
    agrees([NoFields {}]);
    agrees([
        Kinds::Unit,
        Kinds::New(Two(1, None)),
        Kinds::Zero(),
        Kinds::NoFields {},
        Kinds::Deep { inner: vec![Kinds2::B, Kinds2::A([("x".to_owned(), -1)].into())] },
    ]);
    agrees([Generic { items: vec![1u8], marker: PhantomData, next: None, array: [2, 3] }]);
    agrees([Generic {
        items: vec![Kinds2::B],
        marker: PhantomData,
        next: Some(Box::new(Kinds2::B)),
        array: [Kinds2::B, Kinds2::B],
    }]);
}

#[test]
fn types_of_the_library() {
    agrees([(1u8, "x".to_owned(), true)]);
    agrees([[1i64, 2, 3]]);
    agrees([(1u8,)]);
    agrees([VecDeque::from([1u16])]);
    agrees([BTreeSet::from(["x".to_owned()])]);
    agrees([HashMap::from([(Did::from("did:key:z6Mk"), 1.5f64)])]);
    agrees([NonZeroU8::MIN]);
    agrees([NonZeroI64::MAX, NonZeroI64::new(-1).unwrap()]);
    agrees([Some(Some(1u8))]);
    agrees([Bytes::from(vec![1, 2, 3])]);
    agrees([vec![1usize]]);
    agrees([-1isize]);
}

mod hex {
    use charm_sdk::serde::de::Error;
    use charm_sdk::serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &u8, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{value:x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
        u8::from_str_radix(&String::deserialize(from)?, 16).map_err(|_| D::Error::custom("no hexadecimal number"))
    }
}

#[data]
struct Given {
    #[serde(with = "hex")]
    #[shape("string")]
    hex: u8,
}

#[data]
#[shape("{a: u8, b: u8}")]
struct ByHand {
    a: u8,
    b: u8,
}

#[test]
fn what_a_shape_can_not_follow_is_given() {
    assert_eq!(Given::shape(), "{hex: string}");
    let value = common::written(Given { hex: 255 }).unwrap();
    assert_eq!(common::read::<Given>(value).unwrap(), Given { hex: 255 });
    agrees([ByHand { a: 1, b: 2 }]);
}

#[data]
struct Aliased {
    #[serde(alias = "older", alias = "oldest")]
    name: u8,
    #[serde(default, alias = "past")]
    since: u64,
    plain: bool,
}

#[data]
#[serde(rename_all = "lowercase")]
enum AliasedVariants {
    #[serde(alias = "uno")]
    One,
    #[serde(alias = "dos", alias = "due")]
    Two(u8),
}

#[data]
#[serde(tag = "kind")]
enum AliasedTagged {
    #[serde(alias = "uno")]
    One {
        #[serde(alias = "b")]
        a: u8,
    },
}

#[test]
fn other_names_are_read() {
    agrees([Aliased { name: 1, since: 2, plain: true }]);
    agrees([AliasedVariants::One, AliasedVariants::Two(2)]);
    agrees([AliasedTagged::One { a: 1 }]);
    let older = Value::Map([("older".into(), Value::Integer(3)), ("plain".into(), Value::Bool(true))].into());
    charm_sdk::testing::check(&older, &Aliased::shape()).unwrap();
    assert_eq!(common::read::<Aliased>(older), Ok(Aliased { name: 3, since: 0, plain: true }));
    charm_sdk::testing::check(&Value::String("uno".into()), &AliasedVariants::shape()).unwrap();
}

#[data]
struct Inner {
    b: u8,
    #[serde(default)]
    c: i16,
}

#[data]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Variant {
    Plain,
    Some { d: u8 },
}

#[data]
struct Flat {
    a: u8,
    #[serde(flatten)]
    inner: Inner,
    #[serde(flatten)]
    variant: Variant,
    last: Option<bool>,
}

#[data]
struct MaybeFlat {
    a: u8,
    #[serde(flatten)]
    inner: Option<Inner>,
}

#[data]
struct WithRest {
    a: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, u16>,
}

#[data]
struct WithAny {
    a: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[data]
enum Carries {
    One { e: u8 },
    Two(u16),
}

#[data]
struct FlatCarries {
    a: u8,
    #[serde(flatten)]
    carries: Carries,
}

#[data]
enum FlatInside {
    Variant {
        a: u8,
        #[serde(flatten)]
        inner: Inner,
    },
}

#[data]
#[serde(deny_unknown_fields)]
struct Strict {
    f: u8,
}

#[data]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    Created(Inner),
    Changed(Strict),
    Moved(Variant),
    Named(BTreeMap<String, u8>),
    Carried(Carries),
    Gone,
}

#[test]
fn what_is_flattened_or_tagged_is_merged() {
    let inner = Inner { b: 2, c: -3 };
    agrees([
        Flat { a: 1, inner: inner.clone(), variant: Variant::Plain, last: None },
        Flat { a: 1, inner: inner.clone(), variant: Variant::Some { d: 1 }, last: Some(true) },
    ]);
    agrees([MaybeFlat { a: 1, inner: None }, MaybeFlat { a: 1, inner: Some(inner.clone()) }]);
    agrees([WithRest { a: 1, rest: [("x".to_owned(), 300)].into() }, WithRest { a: 1, rest: [].into() }]);
    agrees([WithAny { a: 1, rest: [("x".to_owned(), Value::Bool(true))].into() }]);
    agrees([FlatCarries { a: 1, carries: Carries::One { e: 1 } }, FlatCarries { a: 1, carries: Carries::Two(1) }]);
    agrees([FlatInside::Variant { a: 1, inner: inner.clone() }]);
    agrees([
        Event::Created(inner),
        Event::Changed(Strict { f: 1 }),
        Event::Moved(Variant::Some { d: 1 }),
        Event::Named([("x".to_owned(), 1)].into()),
        Event::Carried(Carries::Two(7)),
        Event::Gone,
    ]);
    assert_eq!(
        Flat::shape(),
        r#"{a: u8, last?: bool?, b: u8, c?: i16, kind: "plain"} | {a: u8, last?: bool?, b: u8, c?: i16, kind: "some", d: u8}"#
    );
}
