//! `charm run`: the host itself.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use crate::{
    Globals,
    failure::{Exit, Failure},
    output::Output,
    place,
    socket::{self, CLIENTS_MAX, Idle, Listener},
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
    pub async fn run(&self, globals: &Globals, output: &Output) -> Result<Exit, Failure> {
        let mut stop = signals()?;
        let manifest = match &self.file {
            None => place::manifest(globals)?,
            Some(file) => place::manifest_in(file, globals)?,
        };
        let host = place::host(&manifest).await?;
        let installed = tokio::select! {
            installed = manifest.install(&host) => installed?,
            _ = stop.recv() => {
                output.note("stopped before all charms were installed");
                return host.shutdown().await.map(|()| Exit::Done).map_err(Failure::from);
            }
        };
        let listener = Listener::bind(&manifest.store)?;
        let charms = installed.iter().map(|(name, did)| Named { name: name.clone(), did: did.to_string() }).collect();
        let started = Started { charms, socket: listener.path().display().to_string() };
        output.print(&started, || {
            let charms = started.charms.iter().map(|charm| format!("{} {}", charm.name, charm.did));
            charms.chain([format!("serving on {}; Ctrl-C ends it", started.socket)]).collect()
        })?;

        let (mut clients, idle) = (JoinSet::new(), Arc::new(Idle::default()));
        let failed = loop {
            tokio::select! {
                _ = stop.recv() => break None,
                why = host.stopped() => break Some(why),
                Some(_) = clients.join_next() => {}
                client = listener.accept() => match client {
                    // One that asks nothing makes room; where all of them have asked, the newcomer is told so.
                    Ok(client) if clients.len() < CLIENTS_MAX || idle.turn_away() => {
                        clients.spawn(socket::serve(host.clone(), client, idle.clone()));
                    }
                    Ok(client) => socket::refuse(client),
                    // Out of file descriptors, or the client is gone already.
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                },
            }
        };
        drop(listener);
        clients.shutdown().await;
        if let Some(why) = failed {
            return Err(why.into());
        }
        output.note(&format!("until now: {}", host.counters()));
        output.note("stopping: running turns end first; the same again ends at once");
        tokio::select! {
            done = host.shutdown() => done.map(|()| Exit::Done).map_err(Failure::from),
            _ = stop.recv() => Err(Failure::host("ended before running turns did; their events wait for the next run")),
        }
    }
}

/// Returns where Ctrl-C and SIGTERM arrive.
fn signals() -> Result<tokio::sync::mpsc::Receiver<()>, Failure> {
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind).map_err(|error| Failure::host(format!("cannot wait for signals: {error}")))?;
        let sender = sender.clone();
        tokio::spawn(async move { while signals.recv().await.is_some() && sender.send(()).await.is_ok() {} });
    }
    Ok(receiver)
}
