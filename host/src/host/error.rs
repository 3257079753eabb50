//! What an embedder can get back, by operation. Texts are bounded and hold no values (T7).

use crate::{
    did::Did,
    event::EventId,
    keyring::KeyError,
    limits::LimitError,
    store::StoreError,
    tx::Unavailable,
    value::{Invalid, Mismatch},
};

/// Why a host does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keyring does not open or lacks a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The host stopped while it opened.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The folder of compiled code is not the host's alone: what is in there runs as the host.
    #[error("code cache {file}: {why}")]
    CodeCache {
        /// The folder, or a file in it.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// The certificates of authorities are of no use.
    #[error("ca: {why}: give certificates in PEM form, one after the other")]
    Ca {
        /// What is wrong.
        why: String,
    },
    /// A limit is out of the range in which a host runs.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The engine does not start with these limits.
    #[error("engine does not start: {0}")]
    Engine(String),
}

/// Why a charm is not installed. Charms installed before are untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The name is not usable.
    #[error("charm name {name}: {why}")]
    Name {
        /// As given, cut.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The file is larger than `component-bytes-max`.
    #[error("charm {charm}: component of {bytes} bytes is over component-bytes-max {max}")]
    TooLarge {
        /// The charm.
        charm: String,
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Not a component, or a broken one.
    #[error("charm {charm}: not a valid component: {why}")]
    Malformed {
        /// The charm.
        charm: String,
        /// What the engine says, cut.
        why: String,
    },
    /// It imports what no charm gets (A1).
    #[error(
        "charm {charm}: imports {import}, which a charm does not get: charms import charm:host@0.2 and of WASI 0.2 only clocks, random and stdio"
    )]
    Import {
        /// The charm.
        charm: String,
        /// The import.
        import: String,
    },
    /// It was built for another version of the world.
    #[error(
        "charm {charm}: built for {built_for}, this host serves charm:host@0.2: build it again with the SDK of this version"
    )]
    Version {
        /// The charm.
        charm: String,
        /// What it imports or exports.
        built_for: String,
    },
    /// It is built for another world.
    #[error(
        "charm {charm}: not a component of the world charm:host/charm: {why}: build it again with the SDK of this host, or use a later host"
    )]
    World {
        /// The charm.
        charm: String,
        /// What is missing or different, cut.
        why: String,
    },
    /// It needs more than the limits of this host allow.
    #[error("charm {charm}: over a limit of this host: {why}")]
    Limit {
        /// The charm.
        charm: String,
        /// What the engine says, cut.
        why: String,
    },
    /// It has to be compiled, and the embedder named nobody who does.
    #[error(
        "charm {charm}: not in the code cache, and nobody compiles: build the host with Compiler::Helper, or Compiler::InProcess for trusted components"
    )]
    NoCompiler {
        /// The charm.
        charm: String,
    },
    /// The helper that compiles does not work.
    #[error("charm {charm}: not compiled: {why}")]
    Compiler {
        /// The charm.
        charm: String,
        /// What is wrong, cut.
        why: String,
    },
    /// It is not the component that is pinned.
    #[error("charm {charm}: sha256 {wanted} is pinned, the component has {found}: correct the pin or the file")]
    OtherComponent {
        /// The charm.
        charm: String,
        /// As pinned, in hexadecimal.
        wanted: String,
        /// Of the component, in hexadecimal.
        found: String,
    },
    /// Processes have died while it was described, alone too.
    #[error("charm {charm}: held: processes died while component {sha256} was described: replace it, or let it run")]
    Deadly {
        /// The charm.
        charm: String,
        /// SHA-256 of the component.
        sha256: String,
    },
    /// `describe` failed or told something malformed.
    #[error("charm {charm}: describe failed: {why}")]
    Describe {
        /// The charm.
        charm: String,
        /// What is wrong, cut.
        why: String,
    },
    /// A cell that the component derives holds a value: nobody could read it any more.
    #[error(
        "charm {charm}: the component derives cell {cell}, which holds a value: let the component before it remove that, or derive \
         a cell of another name"
    )]
    DerivesValue {
        /// The charm.
        charm: String,
        /// The cell, or the family of cells as `NAME:`.
        cell: String,
    },
    /// The manifest pins another DID than the store has for that name.
    #[error(
        "charm {charm}: the manifest says {wanted}, the store has {found}: correct the manifest or use the right store"
    )]
    OtherDid {
        /// The charm.
        charm: String,
        /// As pinned.
        wanted: Did,
        /// As stored.
        found: Did,
    },
    /// The manifest pins a DID that the store has under another name.
    #[error("charm {charm}: {did} is {name} in the store: correct the manifest")]
    OtherName {
        /// The charm.
        charm: String,
        /// As pinned.
        did: Did,
        /// Whose it is.
        name: String,
    },
    /// A grant does not make sense.
    #[error("charm {charm}: grant: {why}")]
    Grant {
        /// The holder.
        charm: String,
        /// What is wrong.
        why: String,
    },
    /// The keyring refused.
    #[error("charm {charm}: {error}")]
    Key {
        /// The charm.
        charm: String,
        /// Why.
        error: KeyError,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host is not running.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why an event from outside is not taken. Nothing of it remains, except where said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No charm of that DID is installed.
    #[error("no charm {to} is installed")]
    NoSuchCharm {
        /// As asked.
        to: Did,
    },
    /// The charm has no usable key: nothing can be committed in its space.
    #[error("charm {to}: {why}")]
    Key {
        /// The charm.
        to: Did,
        /// What is wrong with the key, and what to do.
        why: String,
    },
    /// The charm has no such stream.
    #[error("charm {to} has no stream {stream}; it has: {known}")]
    NoSuchStream {
        /// The charm.
        to: Did,
        /// As asked, cut.
        stream: String,
        /// What it has, cut.
        known: String,
    },
    /// The event does not fit the stream's shape.
    #[error("event does not fit stream {stream}: {mismatch}")]
    Shape {
        /// The stream.
        stream: String,
        /// Where and why.
        mismatch: Mismatch,
    },
    /// What the event carries cannot be encoded.
    #[error("event is not a value: {0}")]
    Payload(Invalid),
    /// A bound is passed.
    #[error("event is over {name} {max}")]
    Limit {
        /// The bound's name.
        name: &'static str,
        /// Its value.
        max: u64,
    },
    /// The supplied event id is empty or too long.
    #[error("supplied event id: {0}")]
    Id(String),
    /// The same sender used this id for another event (S9).
    #[error("event id was used before for another event: {id}")]
    IdReused {
        /// The first event.
        id: EventId,
    },
    /// The sender is a charm: only its own turns send in its name.
    #[error("{sender} is a charm: nobody else sends in its name")]
    Impersonation {
        /// As asked.
        sender: Did,
    },
    /// The sender has no grant for that stream.
    #[error("{sender} has no grant to send to {stream} of {to}: add one to charms.toml")]
    Denied {
        /// Who asked.
        sender: Did,
        /// The charm.
        to: Did,
        /// The stream.
        stream: String,
    },
    /// Nobody but the host sends there (S6).
    #[error("stream {stream} of {to} takes receipts of its own sends, from the host only")]
    TakesReceipts {
        /// The charm.
        to: Did,
        /// The stream.
        stream: String,
    },
    /// The dead letter is not there any more.
    #[error("no such dead letter: it was dropped or sent again")]
    NoSuchLetter,
    /// No such event waits for the charm.
    #[error("no event {id} waits for that charm: it is settled, or was never sent")]
    NoSuchEvent {
        /// As asked.
        id: EventId,
    },
    /// The event's turn has begun: it ends by itself, at a limit at the latest.
    #[error("the event runs: it ends by itself, at a limit at the latest")]
    Running,
    /// The event waits in line.
    #[error("event {id} is not held: it waits for its turn")]
    NotHeld {
        /// As asked.
        id: EventId,
    },
    /// The inbox is full (S12). Send again later.
    #[error("inbox of {to} is full: send again later")]
    QueueFull {
        /// The charm.
        to: Did,
    },
    /// The store failed to look something up. The host runs on.
    #[error(transparent)]
    Store(StoreError),
    /// The host is not running, or not yet able to say that the event is durable.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<StoreError> for SendError {
    fn from(error: StoreError) -> SendError {
        SendError::Store(error.bounded())
    }
}
