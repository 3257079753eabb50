//! `charm watch`: what there is, and then what changes (D6).

use clap::Args;

use super::Context;
use crate::{
    failure::{Exit, Failure},
    place::{self, Patience},
    socket::{self, Heard},
    watched::{Asked, Wanted},
};

/// Asks the host that runs, and prints a line for what there is and for each later state, until Ctrl-C or the end of the host.
/// Nothing is told that is not durable. Whoever reads slowly skips states, and each line says how many.
///
/// Each line begins with the commit of the charm (with --events: the position) up to which all is told: --from goes on there.
#[derive(Args)]
pub struct Watch {
    /// The charm: all its cells; or CHARM/CELL, or a part of it: CHARM/CELL/items/0/name
    #[arg(value_name = "CHARM[/CELL[/PATH]]", required_unless_present = "receipt")]
    charm: Option<String>,
    /// Those cells of the charm whose names begin so
    #[arg(long, value_name = "PREFIX", conflicts_with_all = ["events", "receipts", "dead", "receipt"])]
    prefix: Option<String>,
    /// The events that wait for the charm
    #[arg(long, conflicts_with_all = ["receipts", "dead", "receipt"])]
    events: bool,
    /// The receipts of the events that the charm handles
    #[arg(long, conflicts_with_all = ["dead", "receipt"])]
    receipts: bool,
    /// The events of the charm that failed
    #[arg(long, conflicts_with = "receipt")]
    dead: bool,
    /// What becomes of one event; ends with its receipt
    #[arg(long, value_name = "ID", conflicts_with_all = ["charm", "from"])]
    receipt: Option<String>,
    /// Go on after this commit: what a line before began with
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Print what there is, and end
    #[arg(long, conflicts_with = "from")]
    once: bool,
    /// Watch as this DID, with its rights
    #[arg(long = "as", value_name = "DID")]
    reader: Option<String>,
}

impl Watch {
    fn wanted(&self) -> Result<Wanted, Failure> {
        if let Some(id) = &self.receipt {
            return Ok(Wanted::Receipt(id.clone()));
        }
        let charm = self.charm.clone().unwrap_or_default();
        let of_charm = self.prefix.is_some() || self.events || self.receipts || self.dead;
        if charm.contains('/') {
            if of_charm {
                return Err(Failure::usage(format!("{charm} names a cell: name the charm alone")));
            }
            let (charm, cell, path) = place::cell(&charm)?;
            return Ok(Wanted::Cell(charm.to_owned(), cell, path.to_string()));
        }
        Ok(match (&self.prefix, self.events, self.receipts, self.dead) {
            (_, true, ..) => Wanted::Events(charm),
            (_, _, true, _) => Wanted::Receipts(charm),
            (.., true) => Wanted::Dead(charm),
            (prefix, ..) => Wanted::Cells(charm, prefix.clone().unwrap_or_default()),
        })
    }

    pub async fn run(&self, (globals, output, signals): Context<'_>) -> Result<Exit, Failure> {
        let (what, json) = (self.wanted()?, globals.json);
        let asked = Asked { what, from: self.from, reader: self.reader.clone(), json, once: self.once };
        let store = match &globals.store {
            Some(store) => store.clone(),
            None => place::manifest(globals)?.store,
        };
        let mut last = None;
        let heard = {
            let mut patience = Patience::new(globals, output);
            let mut told = |line: crate::watched::Line| {
                last = Some(line.seq);
                output.line(&line.text)
            };
            tokio::select! {
                biased;
                () = signals.asked() => Heard::Enough,
                heard = socket::watch(&store, asked, &mut patience, &mut told) => heard?,
            }
        };
        match heard {
            Heard::Nobody => {
                let store = store.display();
                Err(Failure::not_found(format!("no host runs on {store}: charm run starts one, charm get reads cells")))
            }
            Heard::Enough => Ok(Exit::Done),
            Heard::HostEnded if self.once => {
                Err(Failure::in_use("the host has ended before all was told: ask again when one runs"))
            }
            Heard::HostEnded => {
                let from = last.map_or(String::new(), |seq| format!(": --from {seq} goes on when one runs again"));
                output.note(&format!("the host has ended{from}"));
                Ok(Exit::Done)
            }
        }
    }
}
