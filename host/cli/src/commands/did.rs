//! `charm did`: who is who.

use clap::Args;
use serde::Serialize;

use crate::{
    Globals,
    failure::{Exit, Failure},
    output::{Output, table},
    place,
};

/// Reads the store, also beside a running host. @operator is who sends without --as.
#[derive(Args)]
pub struct Did {
    /// Only this charm's
    charm: Option<String>,
}

#[derive(Serialize)]
struct Named {
    name: String,
    did: String,
}

impl Did {
    pub fn run(&self, globals: &Globals, output: &Output) -> Result<Exit, Failure> {
        let spaces = place::archive(globals)?.spaces();
        let named = |space: charm_host::SpaceInfo| Named { name: space.name, did: space.did.to_string() };
        match &self.charm {
            Some(charm) => {
                let one = named(place::space(&spaces, charm)?);
                output.print(&one, || vec![one.did.clone()])?;
            }
            None => {
                let all: Vec<Named> = spaces.into_iter().map(named).collect();
                let row = |one: &Named| [one.name.clone(), one.did.clone()];
                output.print(&all, || table(["NAME", "DID"], all.iter().map(row).collect()))?;
            }
        }
        Ok(Exit::Done)
    }
}
