//! `charm receipt`: what became of an event.

use clap::Args;

use charm_host::Status;

use crate::{
    Globals,
    deed::{Fate, held},
    failure::{Exit, Failure},
    output::Output,
    place,
};

/// Reads the store, also beside a running host. The exit code tells the outcome, as with send.
#[derive(Args)]
pub struct Receipt {
    /// The event's id
    id: String,
}

impl Receipt {
    pub fn run(&self, globals: &Globals, output: &Output) -> Result<Exit, Failure> {
        let id = self.id.parse().map_err(|error| Failure::usage(format!("{}: {error}", self.id)))?;
        let archive = place::archive(globals)?;
        let missing =
            || Failure::not_found(format!("no event {id} in this store, or its receipt is not kept any more"));
        let status = archive.status(&id)?;
        let holder = match &status {
            Status::Waiting { to, is_held: true } => archive.spaces().into_iter().find(|space| space.did == *to),
            _ => None,
        };
        let mut fate = Fate::of(&id, status).ok_or_else(missing)?;
        if let Some(space) = holder {
            fate = fate.because(held(&space.name, &id));
        }
        output.print(&fate, || vec![fate.line()])?;
        Ok(fate.exit())
    }
}
