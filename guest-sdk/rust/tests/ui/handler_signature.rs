use charm_sdk::prelude::*;

#[charm]
pub struct Counter {
    total: Cell<i64>,
}

#[handlers]
impl Counter {
    pub fn no_event(&self) -> Result<()> {
        Ok(())
    }

    pub fn two_events(&self, first: i64, second: i64) -> Result<()> {
        self.total.set(&(first + second))
    }

    pub fn no_result(&self, event: i64) {
        let _ = event;
    }

    pub fn changes_itself(&mut self, event: i64) -> Result<()> {
        self.total.set(&event)
    }

    pub fn new(total: i64) -> Self {
        todo!("{total}")
    }

    pub async fn waits(&self, event: i64) -> Result<()> {
        self.total.set(&event)
    }

    pub fn borrows(&self, event: &str) -> Result<()> {
        let _ = event;
        Ok(())
    }
}

fn main() {}
