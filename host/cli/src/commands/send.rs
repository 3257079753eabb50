//! `charm send`: an event from the operator, or from someone outside.

use std::io::Read;

use charm_host::Value;
use clap::Args;

use super::Context;
use crate::{
    deed::{Deed, Done},
    failure::{Exit, Failure},
    place,
};

/// Longest event text, in bytes.
const TEXT_BYTES_MAX: u64 = 2 << 20;

/// Sends through the host that runs on the store, or opens the host for it. Prints the receipt.
#[derive(Args)]
pub struct Send {
    /// CHARM/STREAM
    #[arg(value_name = "CHARM/STREAM")]
    to: String,
    /// What the event carries, as JSON; - reads it from standard input
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    event: String,
    /// An id of your own: sent again with the same one, the event is handled once
    #[arg(long)]
    id: Option<String>,
    /// Send as someone outside, whom the manifest grants what they may send; default is the operator
    #[arg(long = "as", value_name = "DID")]
    sender: Option<String>,
    /// Do not wait for the receipt; charm receipt tells it later
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the events that follow from it [default: 30, or 0 when a host runs]
    #[arg(long, value_name = "SECONDS")]
    settle: Option<u64>,
}

impl Send {
    pub async fn run(&self, context @ (_, output, _): Context<'_>) -> Result<Exit, Failure> {
        let (charm, stream) = place::stream(&self.to)?;
        let event = if self.event == "-" { Value::from_json(&read_input()?)? } else { Value::from_json(&self.event)? };
        let (id, sender) = (self.id.clone(), self.sender.clone());
        let deed = Deed::Send { charm: charm.to_owned(), stream: stream.to_owned(), event, id, sender };
        match super::perform(context, deed, !self.no_wait, self.settle).await? {
            Done::Event(fate) => super::print_fate(charm, &fate, output),
            _ => Err(Failure::host("the host gave no receipt")),
        }
    }
}

fn read_input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(TEXT_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(Failure::usage(format!("standard input is over {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text)
}
