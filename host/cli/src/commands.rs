//! The commands: one file each.

mod backup;
mod build;
mod cancel;
mod check;
mod describe;
mod did;
mod events;
mod get;
mod ls;
mod pause;
mod prune;
mod receipt;
mod release;
mod run;
mod send;
mod turns;
mod verify;
mod watch;
mod why;

use std::time::Duration;

use charm_host::{Host, Manifest};
use clap::Subcommand;

use crate::{
    Globals,
    deed::{self, Deed, Done, Fate},
    failure::{Exit, Failure},
    output::Output,
    place::{self, Patience},
    signals::Signals,
    socket::{self, Asked, Question},
    told::Told,
};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the charms of a manifest until Ctrl-C
    Run(run::Run),
    /// Send an event, and wait until it is settled
    Send(send::Send),
    /// Print the value of a cell, or a part of it
    Get(get::Get),
    /// List the charms, or the cells of one
    Ls(ls::Ls),
    /// Tell what became of an event
    Receipt(receipt::Receipt),
    /// List the events that wait for a charm, or those that failed
    Events(events::Events),
    /// Print what there is, and then what changes: cells, events, receipts, dead letters
    Watch(watch::Watch),
    /// List the turns that have begun and not ended, and what they wait for
    Turns(turns::Turns),
    /// Tell what led to an event, and what followed from it
    Why(why::Why),
    /// Settle an event that has not begun, or whose turn waits, as cancelled
    Cancel(cancel::Cancel),
    /// Let a charm begin no more turns
    Pause(pause::Pause),
    /// Let a charm that was paused go on
    Resume(pause::Resume),
    /// Let the past of a charm go, up to now
    Prune(prune::Prune),
    /// Let a component be installed though processes died while it was described
    Release(release::Release),
    /// Build the charm in a folder to a component
    Build(build::Build),
    /// Show what a component or a charm offers, asks for and is given
    Describe(describe::Describe),
    /// Look at a manifest: what would be refused, and what looks wrong
    Check(check::Check),
    /// Print DIDs: of one charm, or of all and of the host
    Did(did::Did),
    /// Prove the whole store, or one space, from the first commit
    Verify(verify::Verify),
    /// Copy the whole store, also beside a running host
    Backup(backup::Backup),
}

/// What a command that changes something works with.
type Context<'a> = (&'a Globals, &'a Output, &'a Signals);

/// Runs a command.
///
/// # Errors
/// Why it gave nothing; the exit code is inside.
pub async fn run(command: &Command, globals: &Globals, output: &Output, signals: &Signals) -> Result<Exit, Failure> {
    let context = (globals, output, signals);
    match command {
        Command::Run(command) => command.run(globals, output, signals).await,
        Command::Send(command) => command.run(context).await,
        Command::Get(command) => command.run(context).await,
        Command::Ls(command) => command.run(context).await,
        Command::Receipt(command) => command.run(globals, output),
        Command::Events(command) => command.run(context).await,
        Command::Watch(command) => command.run(context).await,
        Command::Turns(command) => command.run(context).await,
        Command::Why(command) => command.run(context).await,
        Command::Cancel(command) => command.run(context).await,
        Command::Pause(command) => command.run(context).await,
        Command::Resume(command) => command.run(context).await,
        Command::Prune(command) => command.run(context).await,
        Command::Release(command) => command.run(context).await,
        Command::Build(command) => command.run(output).await,
        Command::Describe(command) => command.run(globals, output).await,
        Command::Check(command) => command.run(globals, output).await,
        Command::Did(command) => command.run(globals, output),
        Command::Verify(command) => command.run(globals, output),
        Command::Backup(command) => command.run(globals, output),
    }
}

/// Has something done: by the host that runs on the store, or by one opened for it.
async fn perform(
    (globals, output, signals): Context<'_>,
    deed: Deed,
    wait: bool,
    settle_s: Option<u64>,
) -> Result<Done<Fate>, Failure> {
    let store = match &globals.store {
        Some(store) => store.clone(),
        None => place::manifest(globals)?.store,
    };
    let question = Question { deed, wait, settle_s: settle_s.unwrap_or(0) };
    let mut patience = Patience::new(globals, output);
    let (manifest, host) = loop {
        match socket::ask(&store, &question, &mut patience).await? {
            Asked::Done(done) => return Ok(done),
            Asked::Runs => return Ok(Done::Nothing),
            Asked::Drains => patience.drains().await?,
            Asked::Nobody => {
                let manifest = place::manifest(globals)?;
                match place::open(&manifest).await {
                    Err(failure) if failure.exit == Exit::InUse => patience.others(failure).await?,
                    host => break (manifest, host?),
                }
            }
        }
    };
    let settle = Duration::from_secs(settle_s.unwrap_or(deed::SETTLE_S));
    let done = tokio::select! {
        done = perform_alone(&manifest, &host, &question, settle) => done,
        () = signals.asked() => Err(Failure::host("stopped by a signal; events that wait stay for the next run")),
    };
    let closed = host.shutdown().await;
    let done = done?;
    closed.map_err(|error| match &done {
        Done::Event(fate) => Failure::from(error).about(&fate.line()),
        _ => error.into(),
    })?;
    Ok(done)
}

/// What comes of asking the host that runs for what it tells.
enum Heard {
    /// It tells that.
    Told(Told),
    /// None runs.
    NoHost,
    /// One runs, but did not answer: that is why.
    NoAnswer(Failure),
}

/// Asks the host that runs on the store for what it tells, and waits for it so long at most.
///
/// # Errors
/// What the host says instead.
async fn ask((globals, output, _): Context<'_>, deed: Deed, within: Duration) -> Result<Heard, Failure> {
    let store = match &globals.store {
        Some(store) => store.clone(),
        None => place::manifest(globals)?.store,
    };
    if !store.exists() {
        return Ok(Heard::NoHost);
    }
    let question = Question { deed, wait: false, settle_s: 0 };
    match socket::ask(&store, &question, &mut Patience::within(within, globals, output)).await {
        Ok(Asked::Done(Done::Told(told))) => Ok(Heard::Told(told)),
        Ok(Asked::Nobody) => Ok(Heard::NoHost),
        Ok(Asked::Drains) => Ok(Heard::NoAnswer(Failure::drains())),
        Ok(Asked::Done(_) | Asked::Runs) => Ok(Heard::NoAnswer(socket::another_language())),
        Err(failure) if matches!(failure.exit, Exit::Host | Exit::InUse) => Ok(Heard::NoAnswer(failure)),
        Err(failure) => Err(failure),
    }
}

/// Has something done by a host that was opened for it.
async fn perform_alone(
    manifest: &Manifest,
    host: &Host,
    question: &Question,
    settle: Duration,
) -> Result<Done<Fate>, Failure> {
    if let Some(id) = question.deed.done_before(host).await? {
        return Ok(Done::Event(deed::finish(host, &id, Duration::ZERO).await?));
    }
    if question.deed.needs_charms() {
        manifest.install(host).await?;
    }
    let id = match question.deed.start(host).await? {
        Done::Event(id) => id,
        Done::Pruned(pruned) => return Ok(Done::Pruned(pruned)),
        Done::Told(told) => return Ok(Done::Told(told)),
        Done::Nothing => return Ok(Done::Nothing),
    };
    if !question.wait {
        return Ok(Done::Event(Fate::waiting(id.to_string())));
    }
    if !question.deed.needs_charms() {
        manifest.install(host).await?;
    }
    Ok(Done::Event(deed::finish(host, &id, settle).await?))
}

/// Prints what became of an event, and how to go on when it is not all well.
fn print_fate(charm: &str, fate: &Fate, output: &Output) -> Result<Exit, Failure> {
    output.print(fate, || vec![fate.line()]).map_err(|failure| failure.about(&fate.line()))?;
    if fate.exit() != Exit::Done {
        let left = match fate.commit {
            Some(commit) => format!("what it committed up to commit {commit}, before it waited, stays"),
            None => "nothing changed but its receipt".to_owned(),
        };
        output.note(&format!("{left}; charm events {charm} --dead lists the event"));
    }
    if fate.settled == Some(false) {
        output.note("events that followed from it still wait; they go on when a host runs");
    }
    Ok(fate.exit())
}
