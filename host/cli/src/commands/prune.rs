//! `charm prune`: the past of a charm goes (H1).

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::{
    deed::{Deed, Done, Pruned},
    failure::{Exit, Failure},
    output::Output,
    place,
};

/// Through the host that runs on the store, or on the store itself: the records of the charm's commits, its dead letters and
/// the messages of its receipts are in no file of the store any more. Its cells stay, readable as of now and later. What it
/// sent is its receivers', which are named; copies of the store are not touched.
#[derive(Args)]
pub struct Prune {
    /// The charm
    charm: String,
    /// Its cells and the events that wait for it go too; the charm must not be in the manifest
    #[arg(long)]
    data: bool,
}

#[derive(Serialize)]
struct Printed<'a> {
    charm: &'a str,
    #[serde(flatten)]
    pruned: &'a Pruned,
}

impl Prune {
    pub async fn run(&self, context @ (globals, output, _): Context<'_>) -> Result<Exit, Failure> {
        let Prune { charm, data } = self;
        if *data && place::manifest(globals)?.charms.contains_key(charm) {
            return Err(Failure::usage(format!("--data: {charm} is in the manifest: take it out first")));
        }
        // Where there is no store, none is made for this.
        place::space(&place::archive(globals)?.spaces(), charm)?;
        match super::perform(context, Deed::Prune { charm: charm.clone(), data: *data }, false, None).await? {
            Done::Pruned(pruned) => print(charm, &pruned, output),
            _ => Err(Failure::host("the host does not say what has gone")),
        }
    }
}

fn print(charm: &str, pruned: &Pruned, output: &Output) -> Result<Exit, Failure> {
    output.print(&Printed { charm, pruned }, || {
        let Pruned { floor, commits, receivers } = pruned;
        let mut lines = vec![format!("{charm} pruned: {commits} commits have gone, up to commit {floor}")];
        if !receivers.is_empty() {
            lines.push(format!("what it sent is theirs: {}", receivers.join(" ")));
        }
        lines
    })?;
    Ok(Exit::Done)
}
