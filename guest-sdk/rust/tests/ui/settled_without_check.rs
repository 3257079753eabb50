use charm_sdk::prelude::*;

#[charm]
pub struct Sender {
    seen: Cell<String>,
}

#[handlers]
impl Sender {
    pub fn done(&self, done: Settled<String>) -> Result<()> {
        self.seen.set(&done.tag)
    }
}

fn main() {}
