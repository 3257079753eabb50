//! `charm get`: a cell's value.

use charm_host::{Path, Value};
use clap::Args;
use serde::Serialize;

use std::time::Duration;

use super::{Context, Heard, ask};
use crate::{
    deed::Deed,
    failure::{Exit, Failure},
    place,
    told::Told,
};

/// Prints the value as JSON. Reads the store, also beside a running host; a derived cell is computed by the host that runs.
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
    pub async fn run(&self, context @ (globals, output, _): Context<'_>) -> Result<Exit, Failure> {
        let (charm, cell, path) = place::cell(&self.cell)?;
        let archive = place::archive(globals)?;
        let space = place::space(&archive.spaces(), charm)?;
        let value =
            archive.get(&space.did, &cell, &path, self.at).map_err(|error| Failure::from(error).about(&self.cell))?;
        let value = match value {
            // The store has nothing of a cell that is derived.
            None if self.at.is_none() => self.computed(context, charm, &cell, &path).await?,
            value => value,
        };
        let Some(value) = value else {
            let when = self.at.map_or(String::new(), |seq| format!(" at commit {seq}"));
            return Err(Failure::not_found(format!(
                "no value in {}{when}; charm ls {charm} lists its cells, and charm run computes those that are derived",
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

    /// Asks the host that runs, if there is one. One that does not answer is not taken for one that has no value.
    async fn computed(
        &self,
        context: Context<'_>,
        charm: &str,
        cell: &str,
        path: &Path,
    ) -> Result<Option<Value>, Failure> {
        let (charm, cell, path) = (charm.to_owned(), cell.to_owned(), path.to_string());
        let asked = ask(context, Deed::Get { charm, cell, path }, Duration::MAX).await;
        match asked.map_err(|failure| failure.about(&self.cell))? {
            Heard::Told(Told::Value(value)) => Ok(value),
            Heard::NoAnswer(failure) => {
                let what = "the store has no value there, and what a running host derives is not known";
                Err(failure.about(&format!("{}: {what}", self.cell)))
            }
            _ => Ok(None),
        }
    }
}
