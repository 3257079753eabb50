//! What changes something: sending an event, sending a dead letter again, dropping one, letting a held event run, pausing
//! a charm. The same code serves a command that opens the host itself and one that reaches a running host through its
//! socket.

use std::time::Duration;

use charm_host::{DeadLetter, Did, Event, EventId, Host, NewEvent, Outcome, Receipt, SendError, Status, Value};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Exit, Failure},
    place,
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
    /// Nothing: say that a host is there.
    Ping,
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
            Status::Waiting => Some(Fate::waiting(id.to_string())),
            Status::Unknown => None,
        }
    }

    /// Returns it in one line.
    pub fn line(&self) -> String {
        let Fate { id, outcome, commit, message, .. } = self;
        let commit = commit.map_or(String::new(), |commit| format!(" as commit {commit}"));
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

    /// Does it; completes when that is durable. Returns the new event, none where there is none.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub async fn start(&self, host: &Host) -> Result<Option<EventId>, Failure> {
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
                sent.map(Some).map_err(|error| Failure::from(error).about(&format!("{charm}/{stream}")))
            }
            Deed::Resend { charm, id } => {
                let letter = letter(host, charm, id)?;
                Ok(Some(host.resend(&letter.event.to, &letter.event.id).await?))
            }
            Deed::Discard { charm, id } => {
                let space = place::space(&host.spaces(), charm)?;
                let id: EventId = id.parse().map_err(|error| Failure::usage(format!("{id}: {error}")))?;
                match host.cancel(&space.did, &id).await {
                    Err(SendError::NoSuchEvent { .. }) => {
                        let letter = letter(host, charm, &id.to_string())?;
                        host.discard(&letter.event.to, &letter.event.id).await?;
                    }
                    cancelled => cancelled?,
                }
                Ok(None)
            }
            Deed::Ping => Ok(None),
            Deed::Pause { charm } => {
                host.pause(&place::space(&host.spaces(), charm)?.did).await?;
                Ok(None)
            }
            Deed::Resume { charm } => {
                host.resume(&place::space(&host.spaces(), charm)?.did).await?;
                Ok(None)
            }
            Deed::Release { charm, id } => {
                let space = place::space(&host.spaces(), charm)?;
                let id: EventId = id.parse().map_err(|error| Failure::usage(format!("{id}: {error}")))?;
                host.release(&space.did, &id).await?;
                Ok(Some(id))
            }
        }
    }
}

fn letter(host: &Host, charm: &str, id: &str) -> Result<DeadLetter, Failure> {
    let space = place::space(&host.spaces(), charm)?;
    let letters = host.dead_letters(&space.did)?;
    letters.into_iter().find(|letter| letter.event.id.to_string() == id).ok_or_else(|| {
        Failure::not_found(format!("no dead letter {id} of {charm}: charm events {charm} --dead lists them"))
    })
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
        for space in host.spaces() {
            let among = |events: Vec<Event>| events.iter().any(|event| event.id == *id);
            let charm = &space.name;
            if space.held > 0 && among(host.held(&space.did)) {
                return held(charm, id);
            }
            if space.notes.paused && among(host.waiting(&space.did)) {
                return paused(charm);
            }
            if place::is_charm(charm) && !installed(host, &space.did) && among(host.waiting(&space.did)) {
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
