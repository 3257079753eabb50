use charm_sdk::prelude::*;

#[charm]
pub struct Counter {
    total: Cell<i64>,
}

#[handlers]
impl Counter {
    pub fn add(&self, step: i64) -> Result<()> {
        self.total.set(&step)
    }
}

#[handlers]
impl Counter {
    pub fn reset(&self, _: ()) -> Result<()> {
        self.total.remove()
    }
}

fn main() {}
