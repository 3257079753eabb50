//! The host's end of the socket: clients are taken from the moment on that the store is open, until it is closed again.

use std::{
    collections::BTreeMap,
    fs,
    io::Error,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use charm_host::{Host, Unavailable, Value, WatchError};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{
    deed::{self, Deed, Done},
    failure::{Failure, Kind},
    socket::{self, Address, Answer, LINE_BYTES_MAX, Question},
    watched::Asked,
};

/// Clients at the same time, each with a file descriptor, of which a process often has 1,024.
const CLIENTS_MAX: usize = 512;
/// How often a client is looked after that has asked for more, or will ask no more, while its event is waited for. One that
/// closes its end is noticed at once.
const GONE_AFTER: Duration = Duration::from_secs(1);
/// How long a client may take to ask.
const QUESTION_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to read an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Clients that watch something at the same time: they stay, and others need places too.
const WATCHING_MAX: usize = 256;
/// How long clients that watch may take to be told the last of it when the host has ended.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
/// How often a client that waits hears that the host is there.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// How far a host is.
#[derive(Clone)]
enum Phase {
    /// Its charms are being installed.
    Starts,
    /// It takes events.
    Serves(Host),
    /// Running turns end.
    Drains,
}

/// Where clients come in.
pub struct Door {
    listener: Listener,
    clients: JoinSet<()>,
    idle: Arc<Idle>,
    watching: Arc<AtomicUsize>,
    phase: watch::Sender<Phase>,
}

impl Door {
    /// Opens it for a store that this process has open: until the host serves, clients wait.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open(store: &Path) -> Result<Door, Failure> {
        let (phase, _) = watch::channel(Phase::Starts);
        Ok(Door {
            listener: Listener::bind(store)?,
            clients: JoinSet::new(),
            idle: Arc::default(),
            watching: Arc::default(),
            phase,
        })
    }

    /// Returns where clients come in, seen from the working folder.
    pub fn path(&self) -> &Path {
        self.listener.path()
    }

    /// From now on clients are served.
    pub fn serve(&self, host: &Host) {
        self.phase.send_replace(Phase::Serves(host.clone()));
    }

    /// From now on clients are told that the host ends. Those whose event runs still get its receipt.
    pub fn drain(&self) {
        self.phase.send_replace(Phase::Drains);
    }

    /// Lets clients that watch hear the last of it, when the host has ended; none keeps it long.
    pub async fn last_words(&mut self) {
        let watching = self.watching.clone();
        let all = async { while watching.load(Ordering::Relaxed) > 0 && self.clients.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_WORDS_MAX, all).await;
    }

    /// Takes clients while `work` goes on.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(_) = self.clients.join_next() => {}
                client = self.listener.accept() => match client {
                    // One that asks nothing makes room; where all of them have asked, the newcomer is told so.
                    Ok(client) if self.clients.len() < CLIENTS_MAX || self.idle.turn_away() => {
                        self.clients.spawn(attend(self.phase.subscribe(), client, self.idle.clone(), self.watching.clone()));
                    }
                    Ok(client) => refuse(client),
                    // Out of file descriptors, or the client is gone already.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
            }
        }
    }
}

/// The bound socket; removed when dropped.
struct Listener {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl Listener {
    /// Binds the socket of a store that this process has open, so that one already there is a leftover.
    ///
    /// # Errors
    /// When there is something else, or no socket can be made.
    fn bind(store: &Path) -> Result<Listener, Failure> {
        let path = socket::path(store)?;
        let failed = |error: Error| Failure::host(format!("socket {}: {error}", path.display()));
        match fs::symlink_metadata(&path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(&path).map_err(failed)?,
            Ok(_) => return Err(Failure::host(format!("{} is not a socket: remove it", path.display()))),
            Err(_) => {}
        }
        let listener = Address::of(&path).and_then(|address| UnixListener::bind(&address.path)).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let owner = fs::symlink_metadata(&path).map_err(failed)?.uid();
        Ok(Listener { listener, path, owner })
    }

    /// Returns where it listens, seen from the working folder.
    fn path(&self) -> &Path {
        let here = std::env::current_dir().and_then(fs::canonicalize);
        here.ok().and_then(|here| self.path.strip_prefix(here).ok()).unwrap_or(&self.path)
    }

    /// Returns the next client. Others than the host's user and root are turned away: between the making of the
    /// socket and its mode, a lax umask may have let them in.
    ///
    /// # Errors
    /// When the socket fails.
    async fn accept(&self) -> Result<UnixStream, Error> {
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
struct Idle {
    waiting: Mutex<BTreeMap<u64, Arc<Notify>>>,
    next: AtomicU64,
}

impl Idle {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns the one away that has been idle longest; false when none is.
    fn turn_away(&self) -> bool {
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
async fn attend(mut phase: watch::Receiver<Phase>, stream: UnixStream, idle: Arc<Idle>, watching: Arc<AtomicUsize>) {
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
            Ok(question) => {
                let mut client = Client { reader: reader.get_ref(), writer: &mut writer };
                match &question.deed {
                    Deed::Watch(asked) => {
                        let answer = show(&mut phase, asked, &mut client, &watching).await;
                        if let Some(answer) = answer {
                            let _ = tell(&mut writer, &answer).await;
                        }
                        return;
                    }
                    _ => work(&mut phase, &question, &mut client).await,
                }
            }
            Err(_) if !line.ends_with(b"\n") => {
                let max = LINE_BYTES_MAX;
                let failure = Failure::new(Kind::Limit, format!("a line is not whole, or over {max} bytes"));
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

/// A client that waits for an answer.
struct Client<'a> {
    reader: &'a OwnedReadHalf,
    writer: &'a mut OwnedWriteHalf,
}

impl Client<'_> {
    /// Completes when it has closed its end. One that only has nothing more to ask still listens.
    async fn gone(&self) {
        loop {
            let _ = self.reader.ready(Interest::READABLE).await;
            if self.writer.ready(Interest::WRITABLE).await.is_ok_and(|ready| ready.is_write_closed()) {
                return;
            }
            tokio::time::sleep(GONE_AFTER).await;
        }
    }

    /// Completes with what `work` gives. Meanwhile it hears that the host is there; none when it is gone.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.gone() => return None,
                () = tokio::time::sleep(ALIVE_EVERY) => {}
            }
            tell(self.writer, &Answer::Alive).await.ok()?;
        }
    }
}

/// Tells a client that all places are taken. One that does not take the answer at once does without.
fn refuse(client: UnixStream) {
    let failure = Failure::host(format!("{CLIENTS_MAX} clients wait for this host: try again later"));
    if let Ok(line) = line(&Answer::Failed(failure)) {
        let _ = client.try_write(&line);
    }
}

fn question(line: &[u8]) -> Result<Question, Failure> {
    let no_question = |why: String| Failure::usage(format!("not a question to this host: {why}"));
    let text = str::from_utf8(line).map_err(|error| no_question(error.to_string()))?;
    let told = |error: serde_json::Error| no_question(error.to_string());
    let Carried { event } = serde_json::from_str(text).map_err(told)?;
    let event = event.map(|event| Value::from_json(event.get())).transpose()?;
    let mut question: Question = serde_json::from_str(text).map_err(told)?;
    if let (Deed::Send { event: read, .. }, Some(event)) = (&mut question.deed, event) {
        *read = event;
    }
    Ok(question)
}

/// What an event carries, as it stands in the line: read with the rest of it, its numbers might change.
#[derive(Deserialize)]
struct Carried<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
}

/// Does what is asked; none when the client went away meanwhile, or the host ended first. Its event stays.
async fn work(phase: &mut watch::Receiver<Phase>, question: &Question, client: &mut Client<'_>) -> Option<Answer> {
    let host = match ready(phase, client).await? {
        Ok(host) => host,
        Err(failure) => return Some(Answer::Failed(failure)),
    };
    let id = match client.beside(question.deed.start(&host)).await? {
        Ok(Done::Event(id)) => id,
        Ok(Done::Pruned(pruned)) => return Some(Answer::Pruned(pruned)),
        Ok(Done::Told(told)) => return Some(Answer::Told(told)),
        Ok(Done::Nothing) => return Some(Answer::Done),
        Err(failure) => return Some(Answer::Failed(failure)),
    };
    let accepted = Answer::Accepted(id.to_string());
    if !question.wait {
        return Some(accepted);
    }
    tell(client.writer, &accepted).await.ok()?;
    let fate = client.beside(deed::finish(&host, &id, Duration::from_secs(question.settle_s))).await?;
    match fate {
        Ok(fate) => Some(Answer::Settled(fate)),
        Err(_) if matches!(*phase.borrow(), Phase::Drains) => None,
        Err(failure) => Some(Answer::Failed(failure)),
    }
}

/// One of the clients that watch.
struct Watching(Arc<AtomicUsize>);

impl Watching {
    /// Returns a place; none when all are taken.
    fn begin(count: &Arc<AtomicUsize>) -> Option<Watching> {
        let place = |taken| (taken < WATCHING_MAX).then_some(taken + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place).ok().map(|_| Watching(count.clone()))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Shows a client what it watches, as fast as it reads: one that does not read is not cut, and holds no more than its place.
/// Returns the last answer; none when the client went away.
async fn show(
    phase: &mut watch::Receiver<Phase>,
    asked: &Asked,
    client: &mut Client<'_>,
    watching: &Arc<AtomicUsize>,
) -> Option<Answer> {
    let Some(_place) = Watching::begin(watching) else {
        let text = format!("{WATCHING_MAX} clients watch this host: try again when one has ended");
        return Some(Answer::Failed(Failure::new(Kind::Limit, text)));
    };
    let host = match ready(phase, client).await? {
        Ok(host) => host,
        Err(failure) => return Some(Answer::Failed(failure)),
    };
    let mut watcher = match asked.begin(&host).await {
        Ok(watcher) => watcher,
        Err(failure) => return Some(Answer::Failed(failure)),
    };
    let mut is_told = false;
    loop {
        let answer = tokio::select! {
            biased;
            update = watcher.next() => match update {
                Some(Ok(update)) => {
                    is_told = asked.ends_with(&update);
                    Answer::Update(asked.line(&update, &host))
                }
                Some(Err(WatchError::Unavailable(Unavailable::Closed))) => return Some(Answer::Failed(Failure::drains())),
                Some(Err(end)) => return Some(Answer::Failed(end.into())),
                None => return Some(Answer::Done),
            },
            () = client.gone() => return None,
            () = tokio::time::sleep(ALIVE_EVERY) => Answer::Alive,
        };
        client.writer.write_all(&line(&answer).ok()?).await.ok()?;
        if is_told {
            return Some(Answer::Done);
        }
    }
}

/// Returns the host when it serves; none when the client went away first.
async fn ready(phase: &mut watch::Receiver<Phase>, client: &mut Client<'_>) -> Option<Result<Host, Failure>> {
    loop {
        let now = phase.borrow_and_update().clone();
        match now {
            Phase::Serves(host) => return Some(Ok(host)),
            Phase::Drains => return Some(Err(Failure::drains())),
            Phase::Starts => tell(client.writer, &Answer::Starts).await.ok()?,
        }
        client.beside(phase.changed()).await?.ok()?;
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
