//! `charm run`: the host itself.

use std::{path::PathBuf, pin::Pin};

use charm_host::{Host, Manifest};
use clap::Args;
use serde::Serialize;

use crate::{
    Globals,
    failure::{Exit, Failure},
    output::Output,
    place::{self, Patience},
    serve::Door,
    signals::Signals,
};

/// Opens the store, installs every charm of the manifest, and serves until Ctrl-C or SIGTERM: then running turns
/// end, everything becomes durable, and waiting events stay for the next run. A second signal ends at once.
///
/// Meanwhile `charm send` reaches this host through the socket beside the store.
#[derive(Args)]
pub struct Run {
    /// The manifest [default: charms.toml]
    #[arg(value_name = "MANIFEST", conflicts_with = "manifest")]
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Started {
    charms: Vec<Named>,
    socket: String,
}

#[derive(Serialize)]
struct Named {
    name: String,
    did: String,
}

impl Run {
    pub async fn run(&self, globals: &Globals, output: &Output, signals: &Signals) -> Result<Exit, Failure> {
        let stop = signals.asked();
        tokio::pin!(stop);
        let manifest = match &self.file {
            None => place::manifest(globals)?,
            Some(file) => place::manifest_in(file, globals)?,
        };
        let mut patience = Patience::new(globals, output);
        let host = tokio::select! {
            biased;
            () = &mut stop => {
                output.note("stopped before the store was opened");
                return Ok(Exit::Done);
            }
            host = place::host(&manifest, &mut patience) => host?,
        };
        let end = self.serve(&manifest, &host, stop, output).await;
        // Whatever it ended with: what is durable is put away.
        let closed = host.shutdown().await;
        end.and_then(|exit| closed.map(|()| exit).map_err(Failure::from))
    }

    /// Installs the charms and serves, until told to stop; then drains.
    async fn serve(
        &self,
        manifest: &Manifest,
        host: &Host,
        mut stop: Pin<&mut impl Future<Output = ()>>,
        output: &Output,
    ) -> Result<Exit, Failure> {
        let mut door = Door::open(&manifest.store)?;
        let installed = tokio::select! {
            installed = door.during(manifest.install(host)) => installed?,
            () = &mut stop => {
                output.note("stopped before all charms were installed");
                return Ok(Exit::Done);
            }
        };
        let charms = installed.iter().map(|(name, did)| Named { name: name.clone(), did: did.to_string() }).collect();
        let started = Started { charms, socket: door.path().display().to_string() };
        door.serve(host);
        let printed = output.print(&started, || {
            let charms = started.charms.iter().map(|charm| format!("{} {}", charm.name, charm.did));
            charms.chain([format!("serving on {}; Ctrl-C ends it", started.socket)]).collect()
        });
        if let Err(failure) = printed {
            // It serves all the same.
            output.note(&failure.error);
        }
        let failed = door
            .during(async {
                tokio::select! {
                    () = stop => None,
                    why = host.stopped() => Some(why),
                }
            })
            .await;
        door.drain();
        if let Some(why) = failed {
            return Err(why.into());
        }
        output.note(&format!("until now: {}", host.counters()));
        output.note("stopping: running turns end first; the same again ends at once");
        let ended = door.during(host.shutdown()).await;
        door.last_words().await;
        ended?;
        Ok(Exit::Done)
    }
}
