use charm_sdk::prelude::*;

#[charm]
pub struct Counter {
    total: Cell<i64>,
}

#[handlers]
impl Counter {
    pub fn add(&self, event: i64) -> Result<i64> {
        self.total.set(&event)?;
        Ok(event)
    }
}

fn main() {}
