use charm_sdk::prelude::*;

#[charm]
pub struct Counter {
    total: i64,
}

#[handlers]
impl Counter {
    pub fn add(&self, event: i64) -> Result<()> {
        reject!("{}", self.total + event)
    }
}

fn main() {}
