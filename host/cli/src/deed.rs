//! What changes something: sending an event, sending a dead letter again, dropping one, letting a held event run, pausing
//! a charm; and what only a running host can tell. The same code serves a command that opens the host itself and one that reaches a running host through its
//! socket.

use std::time::Duration;

use charm_host::{Did, EventId, Gone, Host, NewEvent, Outcome, Receipt, SendError, Status, Value};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Exit, Failure, Kind},
    place,
    told::{DerivedLine, Names, Told, TurnLine, WhyTold},
    watched::Asked,
};

/// How long a command that opened the host itself waits for the consequences of its event, in seconds:
/// as long as one HTTP exchange may take.
pub const SETTLE_S: u64 = 30;

/// What is to be done.
#[derive(Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Deed {
    /// Send an event.
    Send {
        /// The charm, by name or DID.
        charm: String,
        /// Its stream.
        stream: String,
        /// What the event carries.
        event: Value,
        /// The sender's own id for it (S9).
        id: Option<String>,
        /// Who sends it; the operator when none (I4).
        sender: Option<String>,
    },
    /// Send the event of a dead letter again.
    Resend {
        /// The charm, by name or DID.
        charm: String,
        /// The event that failed.
        id: String,
    },
    /// Drop a dead letter, or settle an event that waits as `cancelled`.
    Discard {
        /// The charm, by name or DID.
        charm: String,
        /// The event.
        id: String,
    },
    /// Settle an event that has not begun, or whose turn waits, as `cancelled`.
    Cancel {
        /// The charm, by name or DID.
        charm: String,
        /// The event.
        id: String,
    },
    /// Drop all dead letters of a charm.
    DiscardDead {
        /// The charm, by name or DID.
        charm: String,
    },
    /// Let a held event run.
    Release {
        /// The charm, by name or DID.
        charm: String,
        /// The event.
        id: String,
    },
    /// Let a charm begin no more turns.
    Pause {
        /// The charm, by name or DID.
        charm: String,
    },
    /// Let a charm that was paused go on.
    Resume {
        /// The charm, by name or DID.
        charm: String,
    },
    /// Let the past of a charm go.
    Prune {
        /// The charm, by name or DID.
        charm: String,
        /// Its data too.
        data: bool,
    },
    /// Tell which turns have begun and not ended.
    Turns {
        /// The charm, by name or DID; all when none.
        charm: Option<String>,
        /// The position after which the page begins.
        after: u64,
        /// How many.
        max: usize,
    },
    /// Tell what led to an event, and what followed.
    Why {
        /// The event.
        id: String,
    },
    /// Tell what a cell holds, computed where it is derived.
    Get {
        /// The charm, by name or DID.
        charm: String,
        /// Its cell.
        cell: String,
        /// Where in the value.
        path: String,
    },
    /// Tell which cells and families of cells are derived, and compute none.
    Derived {
        /// The charm, by name or DID.
        charm: String,
    },
    /// Tell what there is and then what changes, until one of both ends.
    Watch(Asked),
    /// Nothing: say that a host is there.
    Ping,
}

/// What came of it; `E` tells of an event.
pub enum Done<E> {
    /// Nothing that is to be told.
    Nothing,
    /// There is an event.
    Event(E),
    /// A past has gone.
    Pruned(Pruned),
    /// What was asked for.
    Told(Told),
}

/// The past of a charm that has gone, as it is printed.
#[derive(Serialize, Deserialize)]
pub struct Pruned {
    /// The last commit of what has gone.
    pub floor: u64,
    /// How many commits have gone.
    pub commits: u64,
    /// Who was sent events by them.
    pub receivers: Vec<String>,
}

impl From<Gone> for Pruned {
    fn from(gone: Gone) -> Pruned {
        let Gone { floor, commits, receivers } = gone;
        Pruned { floor, commits, receivers: receivers.iter().map(Did::to_string).collect() }
    }
}

/// What became of an event, as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// The event.
    pub id: String,
    /// An outcome, or `waiting`.
    pub outcome: String,
    /// The receiver's commit.
    pub commit: Option<u64>,
    /// Why it did not commit.
    pub message: Option<String>,
    /// Whether the consequences came to an end too; none when nobody waited for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<bool>,
}

impl Fate {
    /// Returns that of an event that is not settled.
    pub fn waiting(id: String) -> Fate {
        Fate { id, outcome: "waiting".to_owned(), commit: None, message: None, settled: None }
    }

    /// Adds why.
    pub fn because(mut self, why: String) -> Fate {
        self.message = Some(why);
        self
    }

    /// Returns what is known of an event.
    pub fn of(id: &EventId, status: Status) -> Option<Fate> {
        match status {
            Status::Settled(receipt) => Some(receipt.into()),
            Status::Waiting { .. } => Some(Fate::waiting(id.to_string())),
            Status::Unknown => None,
        }
    }

    /// Returns it in one line.
    pub fn line(&self) -> String {
        let Fate { id, outcome, commit, message, .. } = self;
        let of = if *outcome == Outcome::Committed.name() { "as" } else { "after" };
        let commit = commit.map_or(String::new(), |commit| format!(" {of} commit {commit}"));
        let message = message.as_ref().map_or(String::new(), |message| format!(": {message}"));
        format!("{id} {outcome}{commit}{message}")
    }

    /// Returns the exit code that tells it.
    pub fn exit(&self) -> Exit {
        if self.outcome == Outcome::Committed.name() || self.outcome == "waiting" {
            Exit::Done
        } else {
            Exit::NotCommitted
        }
    }
}

impl From<Receipt> for Fate {
    fn from(receipt: Receipt) -> Fate {
        let Receipt { id, outcome, commit, message } = receipt;
        Fate { id: id.to_string(), outcome: outcome.name().to_owned(), commit, message, settled: None }
    }
}

impl Deed {
    /// Returns whether it needs the charms. All else is done before they run: what is to be discarded must not run first,
    /// and what is not held shall not have run before that can be said.
    pub fn needs_charms(&self) -> bool {
        matches!(self, Deed::Send { .. } | Deed::Resend { .. })
    }

    /// Returns whether it only asks.
    pub fn changes_nothing(&self) -> bool {
        match self {
            Deed::Turns { .. } | Deed::Why { .. } | Deed::Get { .. } | Deed::Derived { .. } => true,
            Deed::Watch(_) | Deed::Ping => true,
            Deed::Send { .. } | Deed::Resend { .. } | Deed::Discard { .. } | Deed::Cancel { .. } => false,
            Deed::DiscardDead { .. } | Deed::Release { .. } | Deed::Pause { .. } | Deed::Resume { .. } => false,
            Deed::Prune { .. } => false,
        }
    }

    /// Returns what became of an event that its sender has sent before under the same id (S9): for that no charm is needed,
    /// nor does it matter what has changed since. None when it was not sent before, or is not settled.
    ///
    /// # Errors
    /// When the id was used for another event.
    pub async fn done_before(&self, host: &Host) -> Result<Option<EventId>, Failure> {
        if !matches!(self, Deed::Send { id: Some(_), .. }) {
            return Ok(None);
        }
        match self.start(host).await {
            Ok(Done::Event(id)) => Ok(matches!(host.status(&id)?, Status::Settled(_)).then_some(id)),
            Err(failure) if failure.kind == Kind::IdReused => Err(failure),
            // Without its charm nothing else can be said of it yet.
            _ => Ok(None),
        }
    }

    /// Does it; completes when that is durable. Tells of the new event where there is one.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub async fn start(&self, host: &Host) -> Result<Done<EventId>, Failure> {
        match self {
            Deed::Send { charm, stream, event, id, sender } => {
                let to = place::space(&host.spaces(), charm)?.did;
                let mut new = NewEvent::new(to, stream, event.clone());
                if let Some(sender) = sender {
                    new = new.from(sender.parse().map_err(|error| Failure::usage(format!("--as {sender}: {error}")))?);
                }
                if let Some(id) = id {
                    new = new.id(id);
                }
                let sent = host.send(new).await;
                sent.map(Done::Event).map_err(|error| Failure::from(error).about(&format!("{charm}/{stream}")))
            }
            Deed::Resend { charm, id } => {
                let (did, id) = event(host, charm, id)?;
                let sent = host.resend(&did, &id).await;
                sent.map(Done::Event).map_err(|error| no_letter(error, charm, &id))
            }
            Deed::Cancel { charm, id } => {
                let (did, id) = event(host, charm, id)?;
                host.cancel(&did, &id).await?;
                Ok(Done::Nothing)
            }
            Deed::Discard { charm, id } => {
                let (did, id) = event(host, charm, id)?;
                match host.cancel(&did, &id).await {
                    Err(SendError::NoSuchEvent { .. }) => {
                        host.discard(&did, &id).await.map_err(|error| no_letter(error, charm, &id))?;
                    }
                    cancelled => cancelled?,
                }
                Ok(Done::Nothing)
            }
            Deed::Turns { charm, after, max } => {
                let spaces = host.spaces();
                let charm = charm.as_ref().map(|charm| place::space(&spaces, charm)).transpose()?;
                let turns = host.turns(charm.as_ref().map(|space| &space.did), *after, *max).await?;
                let names = Names::of(spaces);
                Ok(Done::Told(Told::Turns(turns.iter().map(|turn| TurnLine::of(turn, &names)).collect())))
            }
            Deed::Why { id } => {
                let id = parse(id)?;
                let why = host.why(&id).await?.ok_or_else(|| unknown_event(&id))?;
                Ok(Done::Told(Told::Why(Box::new(WhyTold::of(&why, &Names::of(host.spaces()), true)))))
            }
            Deed::Get { charm, cell, path } => {
                let did = place::space(&host.spaces(), charm)?.did;
                Ok(Done::Told(Told::Value(host.get(&did, cell, path.as_str()).await?)))
            }
            Deed::Derived { charm } => {
                let did = place::space(&host.spaces(), charm)?.did;
                let installed = host.charms().into_iter().find(|installed| installed.did == did);
                let derived = installed.map_or_else(Vec::new, |installed| DerivedLine::of(&installed.descriptor));
                Ok(Done::Told(Told::Derived(derived)))
            }
            Deed::Ping => Ok(Done::Nothing),
            Deed::Watch(_) => Err(Failure::usage("a host that runs is watched")),
            Deed::DiscardDead { charm } => {
                host.discard_all(&place::space(&host.spaces(), charm)?.did).await?;
                Ok(Done::Nothing)
            }
            Deed::Pause { charm } => {
                host.pause(&place::space(&host.spaces(), charm)?.did).await?;
                Ok(Done::Nothing)
            }
            Deed::Resume { charm } => {
                host.resume(&place::space(&host.spaces(), charm)?.did).await?;
                Ok(Done::Nothing)
            }
            Deed::Prune { charm, data } => {
                let did = place::space(&host.spaces(), charm)?.did;
                let gone = match data {
                    true => host.uninstall_with_data(&did).await?,
                    false => host.prune(&did).await?,
                };
                Ok(Done::Pruned(gone.into()))
            }
            Deed::Release { charm, id } => {
                let (did, id) = event(host, charm, id)?;
                host.release(&did, &id).await?;
                Ok(Done::Event(id))
            }
        }
    }
}

/// Reads a charm's name and an event's id.
fn event(host: &Host, charm: &str, id: &str) -> Result<(Did, EventId), Failure> {
    let space = place::space(&host.spaces(), charm)?;
    Ok((space.did, parse(id)?))
}

fn parse(id: &str) -> Result<EventId, Failure> {
    id.parse().map_err(|error| Failure::usage(format!("{id}: {error}")))
}

/// Says that nothing is known of an event, and what to do.
pub fn unknown_event(id: &EventId) -> Failure {
    Failure::not_found(format!(
        "no event {id} in this store, or nothing of it is kept any more: charm events CHARM lists those that wait, --dead \
         those that failed"
    ))
}

fn no_letter(error: SendError, charm: &str, id: &EventId) -> Failure {
    match error {
        SendError::NoSuchLetter => {
            Failure::not_found(format!("no dead letter {id} of {charm}: charm events {charm} --dead lists them"))
        }
        error => error.into(),
    }
}

/// How often it is asked whether an event waits for the operator, of whom nobody tells.
const ASK: Duration = Duration::from_millis(100);

/// Waits for the receipt of an event, and then up to `settle` for everything that follows from it: until no
/// installed charm has an event waiting. An event that waits for the operator is not waited for.
///
/// # Errors
/// When the host stops first.
pub async fn finish(host: &Host, id: &EventId, settle: Duration) -> Result<Fate, Failure> {
    let receipt = tokio::select! {
        biased;
        receipt = host.receipt(id) => receipt?,
        why = stands(host, id) => return Ok(Fate::waiting(id.to_string()).because(why)),
    };
    let mut fate = Fate::from(receipt.ok_or_else(|| Failure::host(format!("no receipt for event {id}")))?);
    if settle.is_zero() {
        return Ok(fate);
    }
    fate.settled = match tokio::time::timeout(settle, host.settled()).await {
        Ok(done) => done.map(|()| Some(true))?,
        Err(_) => Some(false),
    };
    Ok(fate)
}

/// Completes when an event waits for the operator, and says for what.
async fn stands(host: &Host, id: &EventId) -> String {
    loop {
        if let Ok(Status::Waiting { to, is_held }) = host.status(id)
            && let Some(space) = host.spaces().into_iter().find(|space| space.did == to)
        {
            let charm = &space.name;
            if is_held {
                return held(charm, id);
            }
            if space.notes.paused {
                return paused(charm);
            }
            if place::is_charm(charm) && !installed(host, &to) {
                return format!("{charm} is not in the manifest; the event runs when it is");
            }
        }
        tokio::time::sleep(ASK).await;
    }
}

fn installed(host: &Host, charm: &Did) -> bool {
    host.charms().iter().any(|installed| installed.did == *charm)
}

/// Says that an event is held, and what the operator can do.
pub fn held(charm: &str, id: &EventId) -> String {
    format!("held, processes died while it ran; charm events {charm} --run {id} lets it run, --discard cancels it")
}

/// Says that a charm is paused, and what the operator can do.
pub fn paused(charm: &str) -> String {
    format!("{charm} is paused; charm resume {charm} lets it go on")
}
