//! The shapes that `#[data]` writes.
#![allow(dead_code, missing_docs, reason = "a test")]

use std::collections::{BTreeMap, HashMap};

use charm_sdk::prelude::*;

#[data]
#[serde(rename_all = "camelCase")]
struct Names {
    first_name: String,
    #[serde(rename = "last name")]
    last_name: Option<String>,
    #[serde(default)]
    visits: u64,
}

#[data]
#[serde(rename_all = "kebab-case")]
enum Choice {
    NotYet,
    One(u8),
    Both { left: i64, right: f64 },
    Pair(String, bool),
}

#[data]
struct Tree {
    label: String,
    children: Vec<Tree>,
}

#[data]
struct Wrapper(Bytes);

#[data]
struct Empty {}

#[data]
struct Page<T> {
    items: Vec<T>,
    next: Option<Box<Page<T>>>,
}

#[test]
fn shapes_follow_serde() {
    for (shape, expected) in [
        (Names::shape(), r#"{firstName: string, "last name"?: string?, visits?: u64}"#),
        (
            Choice::shape(),
            r#""not-yet" | {one: u8, *: never} | {both: {left: int, right: float}, *: never} | {pair: [string, bool], *: never}"#,
        ),
        (
            Option::<Choice>::shape(),
            r#"("not-yet" | {one: u8, *: never} | {both: {left: int, right: float}, *: never} | {pair: [string, bool], *: never})?"#,
        ),
        (Tree::shape(), "{label: string, children: [any]}"),
        (Wrapper::shape(), "bytes"),
        (Empty::shape(), "{}"),
        (Page::<u8>::shape(), "{items: [u8], next?: any?}"),
        (BTreeMap::<String, HashMap<Did, bool>>::shape(), "{*: {*: bool}}"),
        (<()>::shape(), "null"),
        (Option::<Option<u8>>::shape(), "(u8?)?"),
        (<[i16; 3]>::shape(), "[i16, i16, i16]"),
        (<(usize, isize)>::shape(), "[u32, i32]"),
        (<(f32,)>::shape(), "[float,]"),
        (
            Settled::<u8>::shape(),
            r#"{receipt: {id: string, outcome: "committed" | "rejected" | "faulted" | "conflict-exhausted" | "denied" | "no-such-stream" | "expired" | "cancelled" | "misfit", commit?: u64?, message?: string?}, tag: u8}"#,
        ),
    ] {
        assert_eq!(shape, expected);
    }
}
