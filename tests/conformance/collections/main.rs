//! Chapter collections: cells by prefix, removal by prefix, families (C8).
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../by_hand.rs"]
mod by_hand;

mod attacks;
mod embedders;
mod families;
mod listing;
mod model;
mod phantoms;

use charm_conformance::{results, value};
use charm_host::{Did, Host};
use serde_json::{Value as Json, json};

/// Writes cells, each with its number among them.
async fn fill(host: &Host, charm: Did, names: &[&str]) {
    let steps: Vec<Json> = names.iter().enumerate().map(|(number, name)| json!(["set", name, [], number])).collect();
    results(host, charm, json!(steps)).await;
}

/// Returns what one step gives.
async fn one(host: &Host, charm: Did, step: Json) -> Json {
    results(host, charm, json!([step])).await[0].clone()
}

/// Returns what one step is refused with.
async fn refused(host: &Host, charm: Did, step: Json) -> Json {
    let result = one(host, charm, json!(["try", step])).await;
    assert!(result["ok"].is_null(), "{step} is not refused: {result}");
    result["error"].clone()
}

/// Returns the description of a charm with these families, as bytes.
fn described(families: Json, cells: Json) -> Vec<u8> {
    let run = json!({"run": {"shape": "any"}});
    by_hand::described(value(json!({"families": families, "cells": cells, "streams": run})).as_bytes())
}
