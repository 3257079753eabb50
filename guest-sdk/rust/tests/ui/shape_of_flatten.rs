use charm_sdk::prelude::*;

#[data]
pub struct Inner {
    a: u32,
}

#[data]
pub struct Outer {
    #[serde(flatten)]
    inner: Inner,
}

fn main() {}
