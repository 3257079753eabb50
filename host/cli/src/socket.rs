//! The socket of a running host: in the store's folder, for its user only. One JSON object a line, both ways:
//! a deed goes in; `accepted` with the event's id comes back, then `settled`, `done`, `told` or `failed`; of what is watched an `update` after the
//! other. Meanwhile `starts` says that
//! the host is not ready yet, and `alive` every second that it is there.

use std::{
    fs::File,
    io::{Error, ErrorKind},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

use charm_host::FolderStore;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::{Instant, timeout},
};

use crate::{
    deed::{Deed, Done, Fate, Pruned},
    failure::{Failure, Kind},
    place::Patience,
    told::Told,
    watched::{self, Line},
};

/// Longest line, in bytes: the largest event, written as JSON.
pub const LINE_BYTES_MAX: u64 = 4 << 20;
/// Longest address of a socket, in bytes.
const ADDRESS_BYTES_MAX: usize = 107;
/// How often somebody is called who is too busy to answer.
const CALL_AGAIN: Duration = Duration::from_millis(50);

/// What a client asks.
#[derive(Serialize, Deserialize)]
pub struct Question {
    /// What is to be done.
    #[serde(flatten)]
    pub deed: Deed,
    /// Whether to wait for the receipt.
    pub wait: bool,
    /// How long to wait for what follows, in seconds.
    pub settle_s: u64,
}

/// What the host says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The event is durable.
    Accepted(String),
    /// It is settled.
    Settled(Fate),
    /// It is done, and there is nothing to tell.
    Done,
    /// A past has gone.
    Pruned(Pruned),
    /// What was asked for.
    Told(Told),
    /// What is watched is so now; more follows.
    Update(Line),
    /// It could not be done.
    Failed(Failure),
    /// The host is not ready yet: it is done when it is.
    Starts,
    /// Nothing else, but the host lives.
    Alive,
}

/// Returns where the socket of a store is, however the store is spelled: in its folder.
///
/// # Errors
/// When a folder on the way cannot be looked into.
pub fn path(store: &Path) -> Result<PathBuf, Failure> {
    Ok(FolderStore::locate(store)?.join("socket"))
}

/// The address of a socket. A path that is too long for one is reached through its folder, which is open meanwhile.
pub struct Address {
    pub path: PathBuf,
    _folder: Option<File>,
}

impl Address {
    /// Returns the address of a path.
    ///
    /// # Errors
    /// When the folder of a long one cannot be opened.
    pub fn of(path: &Path) -> Result<Address, Error> {
        let (Some(folder), Some(name), true) =
            (path.parent(), path.file_name(), path.as_os_str().len() > ADDRESS_BYTES_MAX)
        else {
            return Ok(Address { path: path.to_owned(), _folder: None });
        };
        let folder = File::open(folder)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok(Address { path, _folder: Some(folder) })
    }
}

/// What comes of asking.
pub enum Asked {
    /// Nobody listens.
    Nobody,
    /// A host that is ready, or will be.
    Runs,
    /// A host that ends.
    Drains,
    /// It is done.
    Done(Done<Fate>),
}

/// Asks the host that runs on this store, and waits while it starts.
///
/// # Errors
/// What the host says; that it went away, says nothing, or does not come to an end with its start.
pub async fn ask(store: &Path, question: &Question, patience: &mut Patience<'_>) -> Result<Asked, Failure> {
    let path = path(store)?;
    let at = path.display();
    let failed = |error: Error| Failure::host(format!("host at {at}: {error}"));
    let bound = patience.bound();
    let silent = |accepted: &Option<String>| {
        let of_event = match accepted {
            Some(id) => format!("; the event is kept: later ask charm receipt {id}"),
            None if question.deed.changes_nothing() => String::new(),
            None => "; what was asked of it may still be done: send an event again with --id".to_owned(),
        };
        let seconds = bound.as_secs();
        Failure::in_use(format!(
            "the host at {at} has said nothing for {seconds} s: its process is stopped or overloaded{of_event}"
        ))
    };
    let Some(stream) = connect(&path, bound).await.map_err(failed)? else { return Ok(Asked::Nobody) };
    let Some(stream) = stream else { return Err(silent(&None)) };
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(question).map_err(|error| Failure::host(error.to_string()))?;
    line.push(b'\n');
    match timeout(bound, writer.write_all(&line)).await {
        Ok(written) => written.map_err(failed)?,
        Err(_) => return Err(silent(&None)),
    }
    let mut lines = BufReader::new(reader).lines();
    let (mut accepted, mut starts) = (None, false);
    loop {
        let Ok(line) = timeout(bound, lines.next_line()).await else { return Err(silent(&accepted)) };
        let Some(line) = line.map_err(failed)? else { break };
        match serde_json::from_str(&line) {
            Ok(Answer::Accepted(id)) if question.wait => accepted = Some(id),
            Ok(Answer::Accepted(id)) => return Ok(Asked::Done(Done::Event(Fate::waiting(id)))),
            Ok(Answer::Settled(fate)) => return Ok(Asked::Done(Done::Event(fate))),
            Ok(Answer::Done | Answer::Starts) if matches!(question.deed, Deed::Ping) => return Ok(Asked::Runs),
            Ok(Answer::Done) => return Ok(Asked::Done(Done::Nothing)),
            Ok(Answer::Pruned(pruned)) => return Ok(Asked::Done(Done::Pruned(pruned))),
            Ok(Answer::Told(told)) => return Ok(Asked::Done(Done::Told(told))),
            Ok(Answer::Failed(failure)) if failure.kind == Kind::HostDrains => return Ok(Asked::Drains),
            Ok(Answer::Failed(failure)) => return Err(failure),
            Ok(Answer::Starts) => {
                starts = true;
                patience.say("host starts: waiting until it is ready");
            }
            Ok(Answer::Alive) if starts && accepted.is_none() && patience.is_over() => {
                let seconds = bound.as_secs();
                let text = format!("the host at {at} still starts after {seconds} s: try again, or with --timeout");
                return Err(Failure::in_use(text));
            }
            Ok(Answer::Alive | Answer::Update(_)) => {}
            Err(_) => return Err(another_language()),
        }
    }
    Err(match accepted {
        None if question.deed.changes_nothing() => Failure::host("the host stopped before it answered"),
        Some(id) => Failure::host(format!("the host stopped; the event is kept: later ask charm receipt {id}")),
        None => Failure::host("the host stopped before it took the event: send it again with --id"),
    })
}

/// What is told of a host whose answer is none to the question.
pub fn another_language() -> Failure {
    Failure::host("the host there speaks another language: use the same version")
}

/// How watching ends.
pub enum Heard {
    /// Nobody listens.
    Nobody,
    /// The host has ended.
    HostEnded,
    /// All is told, or whoever is told wants no more.
    Enough,
}

/// Asks the host that runs on this store to be told what changes. `told` says whether it wants more.
///
/// # Errors
/// What the host says; that it says nothing.
pub async fn watch(
    store: &Path,
    asked: watched::Asked,
    patience: &mut Patience<'_>,
    told: &mut (dyn FnMut(Line) -> Result<bool, Failure> + Send),
) -> Result<Heard, Failure> {
    let path = path(store)?;
    let at = path.display();
    let failed = |error: Error| Failure::host(format!("host at {at}: {error}"));
    let bound = patience.bound();
    let silent = || {
        let seconds = bound.as_secs();
        Failure::in_use(format!(
            "the host at {at} has said nothing for {seconds} s: its process is stopped or overloaded"
        ))
    };
    let Some(stream) = connect(&path, bound).await.map_err(failed)? else { return Ok(Heard::Nobody) };
    let (reader, mut writer) = stream.ok_or_else(silent)?.into_split();
    let question = Question { deed: Deed::Watch(asked), wait: false, settle_s: 0 };
    let mut line = serde_json::to_vec(&question).map_err(|error| Failure::host(error.to_string()))?;
    line.push(b'\n');
    timeout(bound, writer.write_all(&line)).await.map_err(|_| silent())?.map_err(failed)?;
    let mut lines = BufReader::new(reader).lines();
    loop {
        // One that is killed ends so too.
        let Ok(Some(line)) = timeout(bound, lines.next_line()).await.map_err(|_| silent())? else {
            return Ok(Heard::HostEnded);
        };
        match serde_json::from_str(&line) {
            Ok(Answer::Update(line)) => {
                if !told(line)? {
                    return Ok(Heard::Enough);
                }
            }
            Ok(Answer::Done) => return Ok(Heard::Enough),
            Ok(Answer::Failed(failure)) if failure.kind == Kind::HostDrains => return Ok(Heard::HostEnded),
            Ok(Answer::Failed(failure)) => return Err(failure),
            Ok(Answer::Starts) => patience.say("host starts: waiting until it is ready"),
            Ok(Answer::Alive) => {}
            _ => return Err(another_language()),
        }
    }
}

/// Calls who listens at a path: none when nobody does, and none inside when nobody answers the call in time.
async fn connect(path: &Path, bound: Duration) -> Result<Option<Option<UnixStream>>, Error> {
    let end = Instant::now() + bound;
    loop {
        let address = match Address::of(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            address => address?,
        };
        match UnixStream::connect(&address.path).await {
            Ok(stream) => return Ok(Some(Some(stream))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            // More have called than it has places for callers.
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Some(None)),
            Err(error) => return Err(error),
        }
        tokio::time::sleep(CALL_AGAIN).await;
    }
}
