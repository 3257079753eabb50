use charm_sdk::prelude::*;

pub struct Add {
    pub amount: i64,
}

#[charm]
pub struct Counter {
    total: Cell<i64>,
}

#[handlers]
impl Counter {
    pub fn add(&self, event: Add) -> Result<()> {
        self.total.set(&event.amount)
    }
}

fn main() {}
