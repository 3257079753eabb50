//! The socket of a running host: beside the store, for its user only. One JSON object a line, both ways:
//! a deed goes in; `accepted` with the event's id comes back, then `settled`, `done` or `failed`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{Error, ErrorKind},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use charm_host::{Host, Value};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};

use crate::{
    deed::{self, Deed, Fate},
    failure::Failure,
};

/// Longest line, in bytes: the largest event, written as JSON.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// Clients at the same time, each with a file descriptor, of which a process often has 1,024.
pub const CLIENTS_MAX: usize = 512;
/// How long a client may take to ask.
const QUESTION_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to read an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How often a client is looked after that has asked for more, or will ask no more, while its event is waited for.
const GONE_AFTER: Duration = Duration::from_secs(1);

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
    /// The dead letter is gone.
    Done,
    /// It could not be done.
    Failed(Failure),
}

/// Returns the socket's path: the store's with `.sock`.
pub fn path(store: &Path) -> PathBuf {
    let mut name = OsString::from(store);
    name.push(".sock");
    name.into()
}

/// The bound socket; removed when dropped.
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl Listener {
    /// Binds the socket of a store that this process has open, so that one already there is a leftover.
    ///
    /// # Errors
    /// When the path is too long for a socket, or there is something else.
    pub fn bind(store: &Path) -> Result<Listener, Failure> {
        let path = path(store);
        let failed = |error: Error| Failure::host(format!("socket {}: {error}", path.display()));
        match fs::symlink_metadata(&path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(&path).map_err(failed)?,
            Ok(_) => return Err(Failure::host(format!("{} is not a socket: remove it", path.display()))),
            Err(_) => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let owner = fs::symlink_metadata(&path).map_err(failed)?.uid();
        Ok(Listener { listener, path, owner })
    }

    /// Returns where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the next client. Others than the host's user and root are turned away: between the making of the
    /// socket and its mode, a lax umask may have let them in.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn accept(&self) -> Result<UnixStream, Error> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let user = stream.peer_cred()?.uid();
            if user == self.owner || user == 0 {
                return Ok(stream);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A leftover does no harm: the next host replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Clients that have not asked anything yet, longest first. They hold no place.
#[derive(Default)]
pub struct Idle {
    waiting: Mutex<BTreeMap<u64, Arc<Notify>>>,
    next: AtomicU64,
}

impl Idle {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns the one away that has been idle longest; false when none is.
    pub fn turn_away(&self) -> bool {
        let longest = self.waiting().pop_first();
        longest.map(|(_, client)| client.notify_one()).is_some()
    }

    /// Completes with what `read` gives; none when it takes too long, or when others need the place.
    async fn during<T>(&self, read: impl Future<Output = T>) -> Option<T> {
        let (number, away) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::new(Notify::new()));
        self.waiting().insert(number, away.clone());
        let end = tokio::select! {
            biased;
            end = read => Some(end),
            () = away.notified() => None,
            () = tokio::time::sleep(QUESTION_MAX) => None,
        };
        self.waiting().remove(&number);
        end
    }
}

/// Serves one client until it goes away, is idle, or does not take its answers.
pub async fn serve(host: Host, stream: UnixStream, idle: Arc<Idle>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(LINE_BYTES_MAX);
        match idle.during(limited.read_until(b'\n', &mut line)).await {
            Some(Ok(length)) if length > 0 => {}
            _ => return,
        }
        let answer = match question(&line) {
            Ok(question) => work(&host, &question, reader.get_ref(), &mut writer).await,
            Err(_) if !line.ends_with(b"\n") => {
                let max = LINE_BYTES_MAX;
                let failure = Failure::refused("limit", format!("a line is not whole, or over {max} bytes"));
                let _ = tell(&mut writer, &Answer::Failed(failure)).await;
                return;
            }
            Err(failure) => Some(Answer::Failed(failure)),
        };
        let Some(answer) = answer else { return };
        if tell(&mut writer, &answer).await.is_err() {
            return;
        }
    }
}

/// Tells a client that all places are taken. One that does not take the answer at once does without.
pub fn refuse(client: UnixStream) {
    let failure = Failure::host(format!("{CLIENTS_MAX} clients wait for this host: try again later"));
    if let Ok(line) = line(&Answer::Failed(failure)) {
        let _ = client.try_write(&line);
    }
}

fn question(line: &[u8]) -> Result<Question, Failure> {
    let no_question = |why: String| Failure::usage(format!("not a question to this host: {why}"));
    let text = str::from_utf8(line).map_err(|error| no_question(error.to_string()))?;
    let told = |error: serde_json::Error| no_question(error.to_string());
    let Asked { event } = serde_json::from_str(text).map_err(told)?;
    let event = event.map(|event| Value::from_json(event.get())).transpose()?;
    let mut question: Question = serde_json::from_str(text).map_err(told)?;
    if let (Deed::Send { event: read, .. }, Some(event)) = (&mut question.deed, event) {
        *read = event;
    }
    Ok(question)
}

/// What an event carries, as it stands in the line: read with the rest of it, its numbers might change.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
}

/// Does what is asked; none when the client went away meanwhile. Its event stays, nobody waits for it.
async fn work(host: &Host, question: &Question, reader: &OwnedReadHalf, writer: &mut OwnedWriteHalf) -> Option<Answer> {
    let id = match question.deed.start(host).await {
        Ok(Some(id)) => id,
        Ok(None) => return Some(Answer::Done),
        Err(failure) => return Some(Answer::Failed(failure)),
    };
    let accepted = Answer::Accepted(id.to_string());
    if !question.wait {
        return Some(accepted);
    }
    tell(writer, &accepted).await.ok()?;
    tokio::select! {
        fate = deed::finish(host, &id, Duration::from_secs(question.settle_s)) => Some(match fate {
            Ok(fate) => Answer::Settled(fate),
            Err(failure) => Answer::Failed(failure),
        }),
        () = gone(reader, writer) => None,
    }
}

/// Completes when the client has closed its end. One that only has nothing more to ask still listens.
async fn gone(reader: &OwnedReadHalf, writer: &OwnedWriteHalf) {
    loop {
        let _ = reader.ready(Interest::READABLE).await;
        if writer.ready(Interest::WRITABLE).await.is_ok_and(|ready| ready.is_write_closed()) {
            return;
        }
        tokio::time::sleep(GONE_AFTER).await;
    }
}

fn line(answer: &Answer) -> Result<Vec<u8>, Error> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    Ok(line)
}

async fn tell(writer: &mut OwnedWriteHalf, answer: &Answer) -> Result<(), Error> {
    tokio::time::timeout(ANSWER_MAX, writer.write_all(&line(answer)?)).await?
}

/// Asks the host that runs on this store; none when nobody listens. `None` inside is no event.
///
/// # Errors
/// What the host says, or that it went away.
pub async fn ask(store: &Path, question: &Question) -> Result<Option<Option<Fate>>, Failure> {
    let path = path(store);
    let failed = |error: Error| Failure::host(format!("host at {}: {error}", path.display()));
    let stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        // A path too long for a socket is `InvalidInput`: no host listens there either.
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::InvalidInput) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(question).map_err(|error| Failure::host(error.to_string()))?;
    line.push(b'\n');
    writer.write_all(&line).await.map_err(failed)?;
    let mut lines = BufReader::new(reader.take(2 * LINE_BYTES_MAX)).lines();
    let mut accepted = None;
    while let Some(line) = lines.next_line().await.map_err(failed)? {
        match serde_json::from_str(&line) {
            Ok(Answer::Accepted(id)) if question.wait => accepted = Some(id),
            Ok(Answer::Accepted(id)) => return Ok(Some(Some(Fate::waiting(id)))),
            Ok(Answer::Settled(fate)) => return Ok(Some(Some(fate))),
            Ok(Answer::Done) => return Ok(Some(None)),
            Ok(Answer::Failed(failure)) => return Err(failure),
            Err(_) => return Err(Failure::host("the host there speaks another language: use the same version")),
        }
    }
    Err(match accepted {
        Some(id) => Failure::host(format!("the host stopped; the event is kept: later ask charm receipt {id}")),
        None => Failure::host("the host stopped before it took the event: send it again with --id"),
    })
}
