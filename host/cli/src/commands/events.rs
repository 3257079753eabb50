//! `charm events`: the events that wait for a charm, those that are held, and its dead letters (S11).

use charm_host::{Event, Receipt, Value};
use clap::Args;
use serde::Serialize;

use super::{
    Context,
    turns::{now_ms, span},
};
use crate::{
    Globals,
    deed::{Deed, Done},
    failure::{Exit, Failure},
    output::{Output, table},
    place,
};

/// What stands in the list for an event that is held.
const HELD: &str = "held: processes died while it ran; --run lets it, --discard cancels it";

/// Lists by reading the store, also beside a running host. With --json, events come with what they carry.
#[derive(Args)]
pub struct Events {
    /// The charm
    charm: String,
    /// Those that failed, with the reason
    #[arg(long)]
    dead: bool,
    /// List those at positions after this one: the last of the page before
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    /// List no more than so many
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    max: usize,
    /// Send a failed event again, under a new id, and wait until it is settled
    #[arg(long, value_name = "ID", conflicts_with_all = ["dead", "discard"])]
    resend: Option<String>,
    /// Drop a failed event, its receipt stays; or settle one that waits as cancelled
    #[arg(long, value_name = "ID", conflicts_with = "dead")]
    discard: Option<String>,
    /// Drop all failed events; their receipts stay
    #[arg(long, conflicts_with_all = ["dead", "resend", "discard"])]
    discard_dead: bool,
    /// Let an event run that is held because processes died while it ran, and wait until it is settled
    #[arg(long, value_name = "ID", conflicts_with_all = ["dead", "discard", "discard_dead", "resend"])]
    run: Option<String>,
}

#[derive(Serialize)]
struct Line {
    id: String,
    position: u64,
    sender: String,
    stream: String,
    bytes: usize,
    /// What it carries; none when JSON has no text for it.
    event: Option<Value>,
    /// Whether processes died while it ran: it runs when the operator lets it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    held: bool,
    /// It is not begun before this moment, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_after: Option<u64>,
    /// It expires then unless it has begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_at: Option<u64>,
}

#[derive(Serialize)]
struct Discarded<'a> {
    discarded: &'a str,
}

#[derive(Serialize)]
struct DiscardedDead<'a> {
    discarded_dead: &'a str,
}

impl Events {
    pub async fn run(&self, context @ (globals, output, _): Context<'_>) -> Result<Exit, Failure> {
        let charm = self.charm.clone();
        let deed = match (&self.resend, &self.discard, &self.run) {
            (Some(id), ..) => Deed::Resend { charm, id: id.clone() },
            (_, Some(id), _) => Deed::Discard { charm, id: id.clone() },
            (.., Some(id)) => Deed::Release { charm, id: id.clone() },
            (None, None, None) if self.discard_dead => Deed::DiscardDead { charm },
            (None, None, None) => return self.list(globals, output),
        };
        match super::perform(context, deed, true, None).await? {
            Done::Event(fate) => super::print_fate(&self.charm, &fate, output),
            _ if self.discard_dead => {
                let discarded = DiscardedDead { discarded_dead: &self.charm };
                output.print(&discarded, || vec![format!("all dead letters of {} discarded", self.charm)])?;
                Ok(Exit::Done)
            }
            _ => {
                let discarded = self.discard.as_deref().unwrap_or_default();
                output.print(&Discarded { discarded }, || vec![format!("{discarded} discarded")])?;
                Ok(Exit::Done)
            }
        }
    }

    fn list(&self, globals: &Globals, output: &Output) -> Result<Exit, Failure> {
        let archive = place::archive(globals)?;
        let space = place::space(&archive.spaces(), &self.charm)?;
        let lines: Vec<Line> = if self.dead {
            let letters = archive.dead_letters(&space.did, self.after, self.max)?;
            let line = |letter: &charm_host::DeadLetter| {
                line(letter.position, &letter.event, false, Some((&letter.receipt, letter.time_ms)))
            };
            letters.iter().map(line).collect()
        } else {
            let line =
                |queued: &charm_host::Queued| line(queued.position, &queued.event, archive.is_held(queued), None);
            let waiting = archive.waiting(&space.did).filter(|queued| queued.position > self.after);
            waiting.take(self.max).map(line).collect()
        };
        let now = now_ms();
        output.print(&lines, || {
            let row = |line: &Line| {
                let head = [line.id.clone(), line.sender.clone(), line.stream.clone(), line.bytes.to_string()];
                let why = line.message.as_ref().map_or(String::new(), |message| format!(": {message}"));
                let [id, sender, stream, bytes] = head;
                [
                    id,
                    sender,
                    stream,
                    bytes,
                    line.outcome.map_or_else(|| waits(line, now), |outcome| format!("{outcome}{why}")),
                ]
            };
            table(["EVENT", "SENDER", "STREAM", "BYTES", "OUTCOME"], lines.iter().map(row).collect())
        })?;
        if let Some(last) = lines.last().filter(|_| lines.len() == self.max) {
            output.note(&format!("there may be more: --after {}", last.position));
        }
        Ok(Exit::Done)
    }
}

/// Returns what an event waits for.
fn waits(line: &Line, now: u64) -> String {
    let left = |time: Option<u64>| time.and_then(|time| time.checked_sub(now)).map(span);
    let due = left(line.deliver_after).map(|left| format!("due in {left}"));
    let expires = left(line.expires_at).map(|left| format!("expires in {left}"));
    let words = due.or_else(|| Some("waiting".to_owned())).into_iter().chain(expires);
    if line.held { HELD.to_owned() } else { words.collect::<Vec<_>>().join(", ") }
}

fn line(position: u64, event: &Event, held: bool, failed: Option<(&Receipt, u64)>) -> Line {
    Line {
        held,
        position,
        id: event.id.to_string(),
        sender: event.sender.to_string(),
        stream: event.stream.to_string(),
        bytes: event.payload.as_bytes().len(),
        deliver_after: event.deliver_after,
        expires_at: event.expires_at,
        event: event.payload.to_json().is_ok().then(|| event.payload.clone()),
        outcome: failed.map(|(receipt, _)| receipt.outcome.name()),
        message: failed.and_then(|(receipt, _)| receipt.message.clone()),
        failed_at: failed.map(|(_, time)| time),
    }
}
