//! `charm prune`: the past of a charm goes (H1).

use std::collections::BTreeSet;

use charm_host::{Archive, Did};
use clap::Args;
use serde::Serialize;

use super::Context;
use crate::{
    deed::Deed,
    failure::{Exit, Failure},
    output::Output,
    place,
};

/// Commits that are looked at at once.
const PAGE: usize = 256;

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
struct Pruned<'a> {
    charm: &'a str,
    /// The last commit of what has gone.
    floor: u64,
    /// How many commits have gone.
    commits: u64,
    /// Who was sent events by them.
    receivers: Vec<String>,
}

impl Prune {
    pub async fn run(&self, context @ (globals, output, _): Context<'_>) -> Result<Exit, Failure> {
        let Prune { charm, data } = self;
        if *data && place::manifest(globals)?.charms.contains_key(charm) {
            return Err(Failure::usage(format!("--data: {charm} is in the manifest: take it out first")));
        }
        let archive = place::archive(globals)?;
        let space = place::space(&archive.spaces(), charm)?;
        let sent = receivers(&archive, &space.did)?;
        super::perform(context, Deed::Prune { charm: charm.clone(), data: *data }, false, None).await?;
        let after = place::space(&place::archive(globals)?.spaces(), charm)?;
        let receivers: Vec<String> = sent.iter().map(Did::to_string).collect();
        print(&Pruned { charm, floor: after.floor, commits: after.floor - space.floor, receivers }, output)
    }
}

/// Returns who was sent events by commits of a space.
fn receivers(archive: &Archive, space: &Did) -> Result<BTreeSet<Did>, Failure> {
    let (mut receivers, mut after) = (BTreeSet::new(), 0);
    loop {
        let page = archive.commits(Some(space), after, PAGE)?;
        let Some(last) = page.last() else { return Ok(receivers) };
        after = last.order;
        let sends = page.iter().flat_map(|commit| commit.record.sends());
        receivers.extend(sends.map(|(event, _)| event.to).filter(|to| to != space));
    }
}

fn print(pruned: &Pruned<'_>, output: &Output) -> Result<Exit, Failure> {
    output.print(pruned, || {
        let Pruned { charm, floor, commits, receivers } = pruned;
        let mut lines = vec![format!("{charm} pruned: {commits} commits have gone, up to commit {floor}")];
        if !receivers.is_empty() {
            lines.push(format!("what it sent is theirs: {}", receivers.join(" ")));
        }
        lines
    })?;
    Ok(Exit::Done)
}
