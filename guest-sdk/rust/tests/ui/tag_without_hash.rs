use charm_sdk::prelude::*;

#[charm(tags("counter"))]
pub struct Counter {
    total: Cell<i64>,
}

#[wish("my counter")]
struct Wanted {
    total: Cell<i64>,
}

fn main() {}
