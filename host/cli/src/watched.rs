//! What is watched, as it is asked for over the socket, and its updates as lines.

use charm_host::{Change, DeadLetter, Host, Queued, ReceiptRow, Status, Update, Value, Watch, WatchError, Watcher};
use serde::{Deserialize, Serialize};

use crate::{
    deed::Fate,
    failure::{Failure, Kind},
    place,
    told::{Names, Who},
};

/// What is to be watched.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// What of the charm.
    pub what: Wanted,
    /// Where to go on.
    pub from: Option<u64>,
    /// Who watches; the operator when none (I4).
    pub reader: Option<String>,
    /// Whether the lines are JSON.
    pub json: bool,
    /// Whether it is enough to be told what there is.
    pub once: bool,
}

/// What can be watched.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// A cell: charm, name, path.
    Cell(String, String, String),
    /// The cells of a charm whose names begin so.
    Cells(String, String),
    /// What becomes of an event.
    Receipt(String),
    /// The receipts that a charm settles.
    Receipts(String),
    /// What waits for a charm.
    Events(String),
    /// The dead letters of a charm.
    Dead(String),
}

impl Asked {
    /// Begins to watch.
    ///
    /// # Errors
    /// Why it cannot be watched.
    pub async fn begin(&self, host: &Host) -> Result<Watcher, Failure> {
        let did = |charm: &String| place::space(&host.spaces(), charm).map(|space| space.did);
        let watch = match &self.what {
            Wanted::Cell(charm, cell, path) => Watch::cell(&did(charm)?, cell).at(path.as_str()),
            Wanted::Cells(charm, prefix) => Watch::cells(&did(charm)?, prefix),
            Wanted::Receipt(id) => {
                Watch::receipt(&id.parse().map_err(|error| Failure::usage(format!("{id}: {error}")))?)
            }
            Wanted::Receipts(charm) => Watch::receipts(&did(charm)?),
            Wanted::Events(charm) => Watch::events(&did(charm)?),
            Wanted::Dead(charm) => Watch::dead_letters(&did(charm)?),
        };
        let watch = match self.from {
            Some(seq) => watch.from(seq),
            None => watch,
        };
        let watcher = match &self.reader {
            Some(reader) => {
                let did = reader.parse().map_err(|error| Failure::usage(format!("--as {reader}: {error}")))?;
                host.watch_as(&did, watch).await
            }
            None => host.watch(watch).await,
        };
        Ok(watcher?)
    }

    /// Returns whether nothing more is to be told after an update: of one thing its state is all there is, of many the last
    /// line says so.
    pub fn ends_with(&self, update: &Update) -> bool {
        let is_one = matches!(self.what, Wanted::Cell(..) | Wanted::Receipt(_));
        self.once && (is_one || matches!(update.change, Change::Listed))
    }

    /// Returns the line that tells an update.
    pub fn line(&self, update: &Update, host: &Host) -> Line {
        let names = Names::of(host.spaces());
        let text = if self.json {
            serde_json::to_string(&UpdateLine::of(update, &names)).unwrap_or_default()
        } else {
            text(update, &names, self.once)
        };
        Line { seq: update.seq, text }
    }
}

/// One update, as it crosses the socket.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// Where to go on.
    pub seq: u64,
    /// As it is printed.
    pub text: String,
}

/// One update for programs.
#[derive(Serialize)]
struct UpdateLine {
    seq: u64,
    skipped: u64,
    #[serde(flatten)]
    change: ChangeLine,
}

#[derive(Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
enum ChangeLine {
    Cell {
        cell: String,
        revision: u64,
        /// There is none where the cell, or its path, holds nothing.
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<Value>,
    },
    Unreadable {
        cell: String,
        why: String,
    },
    Receipt(Fate),
    Event {
        id: String,
        sender: Who,
        stream: String,
        bytes: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        event: Option<Value>,
    },
    Dead {
        id: String,
        sender: Who,
        stream: String,
        outcome: &'static str,
        message: Option<String>,
        failed_at: u64,
    },
    Anew,
    Listed,
}

/// Returns a value if JSON has a text for it.
fn printable(value: &Value) -> Result<Value, String> {
    value.to_json().map(|_| value.clone()).map_err(|error| format!("it has no JSON text: {error}"))
}

impl UpdateLine {
    fn of(update: &Update, names: &Names) -> UpdateLine {
        let change = match &update.change {
            Change::Cell { name, revision, value } => match value.as_ref().map(printable).transpose() {
                Ok(value) => ChangeLine::Cell { cell: name.to_string(), revision: *revision, value },
                Err(why) => ChangeLine::Unreadable { cell: name.to_string(), why },
            },
            Change::Unreadable { name, why } => ChangeLine::Unreadable { cell: name.to_string(), why: why.clone() },
            Change::Status(status) => ChangeLine::Receipt(fate(status)),
            Change::Settled(row) => ChangeLine::Receipt(row.receipt.clone().into()),
            Change::Waits(queued) => {
                let event = &queued.event;
                ChangeLine::Event {
                    id: event.id.to_string(),
                    sender: names.who(event.sender),
                    stream: event.stream.to_string(),
                    bytes: event.payload.as_bytes().len(),
                    event: printable(&event.payload).ok(),
                }
            }
            Change::Letter(letter) => ChangeLine::Dead {
                id: letter.event.id.to_string(),
                sender: names.who(letter.event.sender),
                stream: letter.event.stream.to_string(),
                outcome: letter.receipt.outcome.name(),
                message: letter.receipt.message.clone(),
                failed_at: letter.time_ms,
            },
            Change::Anew => ChangeLine::Anew,
            _ => ChangeLine::Listed,
        };
        UpdateLine { seq: update.seq, skipped: update.skipped, change }
    }
}

fn fate(status: &Status) -> Fate {
    match status {
        Status::Settled(receipt) => receipt.clone().into(),
        Status::Waiting { .. } => Fate::waiting(String::new()),
        Status::Unknown => Fate { outcome: "unknown".to_owned(), ..Fate::waiting(String::new()) },
    }
}

/// Returns an update as people read it.
fn text(update: &Update, names: &Names, once: bool) -> String {
    let told = match &update.change {
        Change::Cell { name, value: None, .. } => format!("{name} holds nothing"),
        Change::Cell { name, value: Some(value), .. } => match value.to_json() {
            Ok(json) => format!("{name} = {json}"),
            Err(error) => format!("{name} has no JSON text: {error}"),
        },
        Change::Unreadable { name, why } => format!("{name} cannot be read now: {why}"),
        Change::Status(Status::Settled(receipt)) => Fate::from(receipt.clone()).line(),
        Change::Status(status) => fate(status).outcome,
        Change::Settled(row) => {
            let ReceiptRow { receipt, sender, .. } = &**row;
            format!("{} (sent by {})", Fate::from(receipt.clone()).line(), names.who(*sender).shown())
        }
        Change::Waits(queued) => {
            let Queued { event, .. } = &**queued;
            let (sender, bytes) = (names.who(event.sender), event.payload.as_bytes().len());
            format!("{} waits: {} from {}, {bytes} bytes", event.id, event.stream, sender.shown())
        }
        Change::Letter(letter) => {
            let DeadLetter { event, receipt, .. } = &**letter;
            let sender = names.who(event.sender);
            format!("{} is dead: {} from {}, {}", event.id, event.stream, sender.shown(), why(receipt))
        }
        Change::Anew => "begins anew: what went meanwhile is not known any more; all there is follows".to_owned(),
        _ if once => "that is all there is".to_owned(),
        _ => "that is all there is; what changes follows".to_owned(),
    };
    match update.skipped {
        0 => format!("{} {told}", update.seq),
        skipped => format!("{} {told} ({skipped} skipped)", update.seq),
    }
}

fn why(receipt: &charm_host::Receipt) -> String {
    let message = receipt.message.as_ref().map_or(String::new(), |message| format!(": {message}"));
    format!("{}{message}", receipt.outcome.name())
}

impl From<WatchError> for Failure {
    fn from(error: WatchError) -> Failure {
        let text = error.to_string();
        match error {
            WatchError::Store(error) => error.into(),
            WatchError::NoSuchCharm { .. } | WatchError::NoSuchCommit { .. } => Failure::not_found(text),
            WatchError::Denied { .. } | WatchError::OperatorOnly { .. } => Failure::new(Kind::Denied, text),
            WatchError::TooMany { .. } => Failure::new(Kind::Limit, text),
            WatchError::Path(_) | WatchError::Name(_) => Failure::usage(text),
            _ => Failure::host(text),
        }
    }
}
