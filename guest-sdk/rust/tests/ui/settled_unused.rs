use charm_sdk::prelude::*;

#[charm]
pub struct Sender {
    seen: Cell<bool>,
}

#[handlers]
impl Sender {
    pub fn done(&self, done: Settled<()>) -> Result<()> {
        self.seen.set(&true)
    }
}

mod underscored {
    use super::*;

    #[charm]
    pub struct Other {
        seen: Cell<bool>,
    }

    #[handlers]
    impl Other {
        pub fn done(&self, _: Settled<()>) -> Result<()> {
            self.seen.set(&true)
        }
    }
}

fn main() {}
