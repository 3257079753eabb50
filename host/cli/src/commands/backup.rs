//! `charm backup`: a whole copy of the store.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::{
    Globals,
    failure::{Exit, Failure},
    output::Output,
    place,
};

/// Copies the store to a folder that is not there yet: all that was acknowledged before, also beside a running host. The
/// copy is a store: look at it with --store, or put it in place of one that is lost. The keys are no part of it.
#[derive(Args)]
pub struct Backup {
    /// The folder to make; until all of it is there its name ends in .part
    folder: PathBuf,
}

#[derive(Serialize)]
struct Copied {
    backup: PathBuf,
}

impl Backup {
    pub fn run(&self, globals: &Globals, output: &Output) -> Result<Exit, Failure> {
        place::archive(globals)?.backup(&self.folder)?;
        let copied = Copied { backup: self.folder.clone() };
        output.print(&copied, || vec![format!("the store is copied to {}", self.folder.display())])?;
        Ok(Exit::Done)
    }
}
