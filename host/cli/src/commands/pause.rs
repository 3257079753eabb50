//! `charm pause` and `charm resume` (A6).

use clap::Args;
use serde::Serialize;

use super::Context;
use crate::{
    deed::Deed,
    failure::{Exit, Failure},
    output::Output,
};

/// Through the host that runs on the store, or on the store itself. The turn that runs ends, events stay and go on
/// coming; it lasts until charm resume, whoever runs the charm.
#[derive(Args)]
pub struct Pause {
    /// The charm
    charm: String,
}

/// What waits goes on, at once when a host runs.
#[derive(Args)]
pub struct Resume {
    /// The charm
    charm: String,
}

#[derive(Serialize)]
struct State<'a> {
    charm: &'a str,
    paused: bool,
}

impl Pause {
    pub async fn run(&self, context @ (_, output, _): Context<'_>) -> Result<Exit, Failure> {
        super::perform(context, Deed::Pause { charm: self.charm.clone() }, false, None).await?;
        print(&self.charm, true, output)
    }
}

impl Resume {
    pub async fn run(&self, context @ (_, output, _): Context<'_>) -> Result<Exit, Failure> {
        super::perform(context, Deed::Resume { charm: self.charm.clone() }, false, None).await?;
        print(&self.charm, false, output)
    }
}

fn print(charm: &str, paused: bool, output: &Output) -> Result<Exit, Failure> {
    let word = if paused { "paused" } else { "resumed" };
    output.print(&State { charm, paused }, || vec![format!("{charm} {word}")])?;
    Ok(Exit::Done)
}
