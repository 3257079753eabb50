//! Adds to the counter of another charm, waits for that, and counts itself: what benches measure beside their peers.

use charm_sdk::prelude::*;

#[charm]
pub struct Relay {
    counter: Cell<Did>,
    count: Cell<i64>,
}

#[handlers]
impl Relay {
    pub fn link(&self, counter: Did) -> Result<()> {
        self.counter.set(&counter)
    }

    pub fn add(&self, step: i64) -> Result<()> {
        let Some(counter) = self.counter.get()? else { reject!("no counter is linked") };
        Stream::open(&counter, "add").send(&step)?.commit_and_wait(Duration::from_secs(60))?;
        let count = self.count.get()?.unwrap_or(0);
        self.count.set(&(count + step))
    }
}
