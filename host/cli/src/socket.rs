//! The socket of a running host: beside the store, for its user only. One JSON object a line, both ways:
//! a deed goes in; `accepted` with the event's id comes back, then `settled`, `done` or `failed`.

use std::{
    ffi::OsString,
    fs,
    io::{Error, ErrorKind},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use charm_host::Host;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

use crate::{
    deed::{self, Deed, Fate},
    failure::Failure,
};

/// Longest line, in bytes: the largest event, written as JSON.
const LINE_BYTES_MAX: u64 = 4 << 20;

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

/// Serves one client until it goes away.
pub async fn serve(host: Arc<Host>, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(length) if length > 0 => {}
            _ => return,
        }
        let answer = match serde_json::from_slice::<Question>(&line) {
            Ok(question) => work(&host, &question, &mut writer).await,
            Err(_) if !line.ends_with(b"\n") => {
                let max = LINE_BYTES_MAX;
                let failure = Failure::refused("limit", format!("a line is not whole, or over {max} bytes"));
                let _ = tell(&mut writer, &Answer::Failed(failure)).await;
                return;
            }
            Err(error) => Answer::Failed(Failure::usage(format!("not a question to this host: {error}"))),
        };
        if tell(&mut writer, &answer).await.is_err() {
            return;
        }
    }
}

async fn work(host: &Host, question: &Question, writer: &mut (impl AsyncWriteExt + Unpin)) -> Answer {
    let id = match question.deed.start(host).await {
        Ok(Some(id)) => id,
        Ok(None) => return Answer::Done,
        Err(failure) => return Answer::Failed(failure),
    };
    let accepted = Answer::Accepted(id.to_string());
    if !question.wait {
        return accepted;
    }
    // A client that went away is noticed at the next line.
    let _ = tell(writer, &accepted).await;
    match deed::finish(host, &id, Duration::from_secs(question.settle_s)).await {
        Ok(fate) => Answer::Settled(fate),
        Err(failure) => Answer::Failed(failure),
    }
}

async fn tell(writer: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> Result<(), Error> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    writer.write_all(&line).await
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
