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
        (Names::shape(), r#"{firstName: string, "last name"?: string?, visits?: int}"#),
        (Choice::shape(), r#""not-yet" | {one: int} | {both: {left: int, right: float}} | {pair: [string | bool]}"#),
        (
            Option::<Choice>::shape(),
            r#"("not-yet" | {one: int} | {both: {left: int, right: float}} | {pair: [string | bool]})?"#,
        ),
        (Tree::shape(), "{label: string, children: [any]}"),
        (Wrapper::shape(), "bytes"),
        (Empty::shape(), "{}"),
        (Page::<u8>::shape(), "{items: [int], next?: any?}"),
        (BTreeMap::<String, HashMap<String, bool>>::shape(), "{*: {*: bool}}"),
        (<()>::shape(), "null"),
        (Option::<Option<u8>>::shape(), "(int?)?"),
        (
            Committed::<u8>::shape(),
            r#"{receipt: {id: string, outcome: "committed" | "rejected" | "faulted" | "conflict-exhausted" | "denied" | "no-such-stream" | "expired" | "cancelled", commit?: int?, message?: string?}, tag: int}"#,
        ),
    ] {
        assert_eq!(shape, expected);
    }
}
