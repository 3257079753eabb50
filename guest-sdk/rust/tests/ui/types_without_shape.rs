use std::collections::BTreeMap;

use charm_sdk::prelude::*;

#[data]
pub struct Large {
    sum: u128,
    by_number: BTreeMap<u32, String>,
}

fn main() {}
