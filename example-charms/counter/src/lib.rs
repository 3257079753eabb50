//! Counts. The smallest charm that does something.

use charm_sdk::prelude::*;

#[charm(tags("#counter"))]
pub struct Counter {
    count: Cell<i64>,
}

#[handlers]
impl Counter {
    /// Adds to the count, which starts at 0.
    pub fn add(&self, step: i64) -> Result<()> {
        let count = self.count.get()?.unwrap_or(0);
        let Some(sum) = count.checked_add(step) else { reject!("the count would pass 64 bits") };
        self.count.set(&sum)
    }
}
