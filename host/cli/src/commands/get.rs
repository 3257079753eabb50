//! `charm get`: a cell's value.

use charm_host::Value;
use clap::Args;
use serde::Serialize;

use crate::{
    Globals,
    failure::{Exit, Failure},
    output::Output,
    place,
};

/// Prints the value as JSON. Reads the store, also beside a running host.
#[derive(Args)]
pub struct Get {
    /// CHARM/CELL, or a part of it: CHARM/CELL/items/0/name
    #[arg(value_name = "CHARM/CELL[/PATH]")]
    cell: String,
    /// As it was after this commit of the charm
    #[arg(long, value_name = "SEQ")]
    at: Option<u64>,
}

#[derive(Serialize)]
struct Found {
    charm: String,
    did: String,
    cell: String,
    path: String,
    at: Option<u64>,
    value: Value,
}

impl Get {
    pub fn run(&self, globals: &Globals, output: &Output) -> Result<Exit, Failure> {
        let (charm, cell, path) = place::cell(&self.cell)?;
        let archive = place::archive(globals)?;
        let space = place::space(&archive.spaces(), charm)?;
        let value =
            archive.get(&space.did, &cell, &path, self.at).map_err(|error| Failure::from(error).about(&self.cell))?;
        let Some(value) = value else {
            let when = self.at.map_or(String::new(), |seq| format!(" at commit {seq}"));
            return Err(Failure::not_found(format!(
                "no value in {}{when}; charm ls {charm} lists its cells",
                self.cell
            )));
        };
        let no_text = |error| Failure::host(format!("{} has no JSON text: {error}", self.cell));
        value.to_json().map_err(no_text)?;
        let (path, did) = (path.to_string(), space.did.to_string());
        let found = Found { charm: space.name, did, cell, path, at: self.at, value };
        output.print(&found, || {
            let text = serde_json::to_string_pretty(&found.value).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        })?;
        Ok(Exit::Done)
    }
}
