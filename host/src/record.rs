//! Commit records: what one commit did, self-contained, hashed and chained (I2, I3).
//!
//! A record is postcard; its hash is SHA-256 over a domain tag and its bytes, and it names the hash of the record before it
//! in the same space. The space's key signs the hash of its last record, the *head*, which covers every record before it.
//! Nothing in a record says where it stands among those of other spaces: that stands in the log's entry
//! ([`crate::LogEntry`]), whose chain the host's own key signs. `docs/format.md` has the bytes.

mod hashes;

use std::sync::Arc;

pub(crate) use hashes::recording_hash;
pub use hashes::{CellsRoot, event_hash, hash, head_message, heads_hash, wait_hash};
use serde::{Deserialize, Serialize};

use crate::{
    did::Did,
    event::{Event, EventId},
    receipt::{Outcome, Receipt},
    value::{Edit, Value},
};

/// Version of the record format; the first byte of every record.
pub const VERSION: u8 = 7;
/// What most records take: their bytes are not moved while they are written.
const RECORD_BYTES: usize = 512;

/// How many kinds of [`Body`] there are.
const KINDS: u32 = 14;

/// SHA-256 of a record, or of a log's entry.
pub type Hash = [u8; 32];

/// Why bytes are no record for this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// They are not exactly one record.
    #[error("record is malformed")]
    Malformed,
    /// A later version of the format.
    #[error(
        "record is of version {0}, and this host reads version {VERSION}: use the host that wrote it, or a later one"
    )]
    Version(u8),
    /// Something happened that this host knows nothing of.
    #[error("record has a body of kind {0}, which this host does not know: use the host that wrote it, or a later one")]
    Body(u32),
}

/// One commit in one space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u8,
    /// The space: the DID that the commit is made for, and whose key signs.
    pub space: Did,
    /// Number in the space, from 1, without gaps.
    pub seq: u64,
    /// Hash of the record before it in the space; zeros for the first.
    pub previous: Hash,
    /// When, in milliseconds since 1970; for people, nothing is ordered by it.
    pub time_ms: u64,
    /// What happened.
    pub body: Body,
}

/// What a commit does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// The space comes to be; always its first record.
    Registered {
        /// The charm's name in the manifest; `@host` and `@operator` are the host's own.
        name: String,
    },
    /// A component is installed: it runs from here on (U1).
    Installed(Box<Install>),
    /// The charm is uninstalled.
    Uninstalled,
    /// What the operator decided about the rights of one DID changed (A2). It stands in the holder's own space, for those
    /// outside in the host's.
    Rights {
        /// Whose.
        holder: Did,
        /// All that is decided now, as the host keeps it; none for nothing.
        kept: Option<Vec<u8>>,
    },
    /// The charm begins no turns any more, or begins them again.
    Paused(bool),
    /// An event from outside waits for the charm.
    Accepted(Event),
    /// Dead letters of the charm are dropped, or one is sent again (S11).
    Letters {
        /// The events whose letters go.
        dropped: Vec<EventId>,
        /// The event that is sent again, under a new id.
        again: Option<Event>,
    },
    /// An event that waited is settled.
    Turn(Box<Turn>),
    /// Says all that the space came to with an earlier commit: what is before that may go (H1).
    Checkpoint(Box<Checkpoint>),
    /// The past of spaces goes. It stands in the host's own space.
    Pruned(Box<Pruned>),
    /// Cells of a charm that is uninstalled are removed, with its data.
    Removed(Vec<Write>),
    /// A turn does what it did so far, and waits (S7).
    Segment(Box<Segment>),
    /// A turn leaves nothing of its present transaction, and is tried again later (S13).
    Retried(Box<Retried>),
    /// The answer to the request that a turn waits for is there (S7, A4).
    Exchanged(Box<Exchanged>),
}

/// What a space came to with one of its commits, so that it can be proved from there.
///
/// The lists leave out what ended between that commit and this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The commit: a number in the same space, before this one's.
    pub seq: u64,
    /// The charm's name.
    pub name: String,
    /// Whether it begins no turns.
    pub paused: bool,
    /// What is installed: SHA-256 of the component, and of what it may do by that install, zeros for nothing.
    pub installed: Option<(Hash, Hash)>,
    /// What is decided about the rights of those whose rights stand in this space.
    pub rights: Vec<(Did, Vec<u8>)>,
    /// How many of its dead letters went because there were too many.
    pub letters_dropped: u64,
    /// Root of its cells: see [`CellsRoot`].
    pub cells: Hash,
    /// Events that wait for it, in the order of their positions.
    pub waiting: Vec<Mark>,
    /// Its dead letters, in the order of their positions.
    pub dead: Vec<Mark>,
    /// Events that its commits sent and that wait for others, by receiver.
    pub sent: Vec<(Did, Mark)>,
    /// Its turns under way, in the order of the positions of their events.
    pub turns: Vec<TurnMark>,
}

/// A turn under way, as a checkpoint tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnMark {
    /// Its event.
    pub event: EventId,
    /// How far it has come, without the events that it waits for.
    pub progress: Progress,
    /// Hash over the ids of those: see [`wait_hash`].
    pub waits_for: Hash,
}

impl TurnMark {
    /// Returns the mark of a turn.
    pub fn of(event: EventId, progress: &Progress) -> TurnMark {
        let waits_for = wait_hash(&progress.wait.events);
        let wait = WaitFor { events: Vec::new(), ..progress.wait };
        TurnMark { event, progress: Progress { wait, ..progress.clone() }, waits_for }
    }
}

/// An event, told by its id and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its id.
    pub id: EventId,
    /// Hash of its bytes: see [`event_hash`].
    pub hash: Hash,
}

impl Mark {
    /// Returns the mark of an event.
    pub fn of(event: &Event) -> Mark {
        Mark { id: event.id, hash: event_hash(event) }
    }
}

/// The past of spaces goes, and what proves the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// A commit in the order of the host: from the next one on nothing has gone.
    pub order: u64,
    /// Hash of its entry, which is also that of all entries before it.
    pub entry: Hash,
    /// The last position given to an event up to there.
    pub position: u64,
    /// Hash over the heads of all spaces there: see [`heads_hash`].
    pub heads: Hash,
    /// Whose past goes, each once.
    pub cuts: Vec<Cut>,
}

/// How much of a space's past goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The space.
    pub space: Did,
    /// Its commits up to this one go, which a later checkpoint of it stands for; 0 when they stay.
    pub seq: u64,
    /// The same commit in the order of the host.
    pub order: u64,
    /// Receipts go that its commits up to this one settled.
    pub receipts: u64,
    /// Of receipts that its commits up to this one settled, the messages go.
    pub messages: u64,
}

/// A component as it is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    /// SHA-256 of the component.
    pub component: Hash,
    /// What it tells about itself, as it told it (`wit/README.md`).
    pub description: Value,
    /// What it may do by this install, as the host keeps it; none for nothing.
    pub rights: Option<Vec<u8>>,
}

/// The end of a turn, or of an event that had none: the one place where an outcome is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who sent the event.
    pub sender: Did,
    /// The stream it came on.
    pub stream: Arc<str>,
    /// What became of it.
    pub receipt: Receipt,
    /// Cell writes.
    pub writes: Vec<Write>,
    /// Events that went out with it.
    pub sends: Vec<Sent>,
    /// The event whose dead letter goes because there are too many.
    pub dropped: Option<EventId>,
    /// What ran; none when no guest did.
    pub ran: Option<Ran>,
}

/// A part of a turn, up to a wait. The event that the turn handles is settled by the turn's end alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The event.
    pub event: EventId,
    /// Who sent it.
    pub sender: Did,
    /// The stream it came on.
    pub stream: Arc<str>,
    /// Its number in the turn, from 1.
    pub number: u32,
    /// Cell writes.
    pub writes: Vec<Write>,
    /// Events that went out with it.
    pub sends: Vec<Sent>,
    /// What ran: the time is the segment's, the fuel the turn's so far.
    pub ran: Ran,
    /// What the turn waits for.
    pub wait: WaitFor,
    /// Hash over what the turn was told so far: see [`recording_hash`].
    pub recording: Hash,
}

/// A turn is tried again: from its last wait, or from the start when it has not waited. The event that it handles is settled
/// by the turn's end alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// The event.
    pub event: EventId,
    /// Who sent it.
    pub sender: Did,
    /// The stream it came on.
    pub stream: Arc<str>,
    /// How often that is so now, from 1.
    pub number: u32,
    /// After how long, in milliseconds.
    pub after_ms: u64,
}

/// The answer to the request that a turn waits for, or what became of it. The turn goes on with that; neither request nor answer
/// stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanged {
    /// The event that the turn handles.
    pub event: EventId,
    /// Who sent it.
    pub sender: Did,
    /// The stream it came on.
    pub stream: Arc<str>,
    /// Hash over what the turn was told so far, with the answer: see [`recording_hash`].
    pub recording: Hash,
}

/// What a turn waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitFor {
    /// Events that it sent; none when it waits for something else.
    pub events: Vec<EventId>,
    /// How many of them are to be settled.
    pub until: Until,
    /// How long it waits at most, in milliseconds.
    pub timeout_ms: u64,
}

/// How much of what a turn waits for is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Until {
    /// All of it.
    All,
    /// One at least.
    First,
    /// Nothing but the time.
    Time,
    /// No event, but the answer to the request that the segment ends with.
    Exchange,
}

/// How far a turn under way has come: what its segments add up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// SHA-256 of the component that runs it; zeros when it begins anew.
    pub component: Hash,
    /// How many segments it has committed; none when it was only tried again.
    pub segments: u32,
    /// How many events these have sent, without receipts.
    pub sends: u32,
    /// The commit of the last one, in the charm's space.
    pub seq: u64,
    /// Since when it waits, in milliseconds since 1970.
    pub since_ms: u64,
    /// What ran, in the last one.
    pub ran: Ran,
    /// What it waits for.
    pub wait: WaitFor,
    /// Hash over what it was told so far.
    pub recording: Hash,
    /// In how many pieces that is: one for each segment, and one for each answer to a request that it waited for.
    pub pieces: u32,
    /// The answer to the request that it waits for is there.
    pub answered: bool,
    /// How often it was tried again.
    pub retries: u32,
    /// How long it waits before it is tried again, in milliseconds; none when it waits for what its last segment says.
    pub again_ms: Option<u64>,
}

impl Progress {
    /// Returns whether it waits for the answer to a request.
    pub(crate) fn lacks_answer(&self) -> bool {
        self.wait.until == Until::Exchange && !self.answered
    }

    /// Returns how far the turn has come with the answer that it waits for.
    pub(crate) fn with_answer(&self, recording: Hash) -> Progress {
        Progress { recording, pieces: self.pieces + 1, answered: true, ..self.clone() }
    }

    /// Returns the component that the turn goes on with; none when it begins anew.
    pub(crate) fn began_with(&self) -> Option<Hash> {
        (self.segments > 0).then_some(self.component)
    }

    /// Returns how long it waits at most, in milliseconds.
    pub(crate) fn waits_ms(&self) -> u64 {
        self.again_ms.unwrap_or(self.wait.timeout_ms)
    }

    /// Returns how far a turn has come that is tried again, by that record. One that has committed no segment begins anew, with
    /// whatever component is installed then.
    pub(crate) fn again(before: Option<&Progress>, record: &Record, retried: &Retried) -> Progress {
        let fresh = || Progress {
            component: Hash::default(),
            segments: 0,
            sends: 0,
            seq: 0,
            since_ms: 0,
            ran: Ran { time_ms: 0, fuel: 0, costs: 0 },
            wait: WaitFor { events: Vec::new(), until: Until::Time, timeout_ms: 0 },
            recording: Hash::default(),
            pieces: 0,
            answered: false,
            retries: 0,
            again_ms: None,
        };
        let before = before.cloned().unwrap_or_else(fresh);
        let (since_ms, again_ms) = (record.time_ms, Some(retried.after_ms));
        Progress { since_ms, retries: retried.number, again_ms, ..before }
    }

    /// Returns how far a turn has come with one more segment, which is that record.
    pub(crate) fn after(before: Option<&Progress>, component: Hash, record: &Record, segment: &Segment) -> Progress {
        let sent = segment.sends.iter().filter(|sent| sent.event.receipt_of.is_none()).count() as u32;
        let Segment { number, ran, ref wait, recording, .. } = *segment;
        Progress {
            component: before.and_then(Progress::began_with).unwrap_or(component),
            segments: number,
            sends: before.map_or(0, |before| before.sends) + sent,
            seq: record.seq,
            since_ms: record.time_ms,
            ran,
            wait: wait.clone(),
            recording,
            pieces: before.map_or(0, |before| before.pieces) + 1,
            answered: false,
            retries: before.map_or(0, |before| before.retries),
            again_ms: None,
        }
    }
}

/// What it takes to run a turn again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The time that the turn saw, in milliseconds since 1970.
    pub time_ms: u64,
    /// The fuel that it took.
    pub fuel: u64,
    /// Version of the table that says what a host call costs.
    pub costs: u16,
}

/// One cell written, by its edits: what is written, not what the cell holds (C7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The cell's name in the record's space.
    pub name: Arc<str>,
    /// Number of the record that wrote the cell before, 0 for none: history walks along it (C6).
    pub previous: u64,
    /// What changes, in the order in which it applies; at least one.
    pub edits: Vec<Edit>,
}

/// One event that went out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The event.
    pub event: Event,
    /// Why it was refused on the spot; else it waits.
    pub refused: Option<Outcome>,
}

impl Record {
    /// Returns the event that led to the commit; none for what the operator did.
    pub fn cause(&self) -> Option<EventId> {
        match &self.body {
            Body::Turn(turn) => Some(turn.receipt.id),
            Body::Segment(segment) => Some(segment.event),
            Body::Retried(retried) => Some(retried.event),
            Body::Exchanged(exchanged) => Some(exchanged.event),
            Body::Accepted(event) => Some(event.id),
            Body::Letters { dropped, again: Some(_) } => dropped.first().copied(),
            _ => None,
        }
    }

    /// Returns the end of the event that the commit settles.
    pub fn turn(&self) -> Option<&Turn> {
        match &self.body {
            Body::Turn(turn) => Some(turn),
            _ => None,
        }
    }

    /// Returns the part of a turn that ends with a wait.
    pub fn segment(&self) -> Option<&Segment> {
        match &self.body {
            Body::Segment(segment) => Some(segment),
            _ => None,
        }
    }

    /// Returns the answer to a request that a turn waits for.
    pub fn exchanged(&self) -> Option<&Exchanged> {
        match &self.body {
            Body::Exchanged(exchanged) => Some(exchanged),
            _ => None,
        }
    }

    /// Returns the event that it handles, to its end or not.
    pub fn handles(&self) -> Option<EventId> {
        match &self.body {
            Body::Turn(turn) => Some(turn.receipt.id),
            Body::Segment(segment) => Some(segment.event),
            Body::Retried(retried) => Some(retried.event),
            Body::Exchanged(exchanged) => Some(exchanged.event),
            _ => None,
        }
    }

    /// Returns the cells that it writes.
    pub fn writes(&self) -> &[Write] {
        match &self.body {
            Body::Turn(turn) => &turn.writes,
            Body::Segment(segment) => &segment.writes,
            Body::Removed(writes) => writes,
            _ => &[],
        }
    }

    /// Returns the cells that it writes, to keep.
    pub(crate) fn into_writes(self) -> Vec<Write> {
        match self.body {
            Body::Turn(turn) => turn.writes,
            Body::Segment(segment) => segment.writes,
            Body::Removed(writes) => writes,
            _ => Vec::new(),
        }
    }

    /// Returns the events that go out with it, each with why it was refused; in the order of their positions.
    pub fn sends(&self) -> impl Iterator<Item = (&Event, Option<Outcome>)> {
        let outside = match &self.body {
            Body::Accepted(event) | Body::Letters { again: Some(event), .. } => Some(event),
            _ => None,
        };
        let sent: &[Sent] = match &self.body {
            Body::Turn(turn) => &turn.sends,
            Body::Segment(segment) => &segment.sends,
            _ => &[],
        };
        outside.into_iter().map(|event| (event, None)).chain(sent.iter().map(|sent| (&sent.event, sent.refused)))
    }

    /// Returns the events whose dead letters go.
    pub fn dropped(&self) -> &[EventId] {
        match &self.body {
            Body::Letters { dropped, .. } => dropped,
            Body::Turn(turn) => turn.dropped.as_slice(),
            _ => &[],
        }
    }

    /// Returns the bytes that are stored and hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = Vec::with_capacity(RECORD_BYTES);
        postcard::to_extend(self, bytes).expect("a record holds nothing that postcard refuses")
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// When they are not exactly one record of this version, with a body that this host knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Record, RecordError> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&version) if version > VERSION => return Err(RecordError::Version(version)),
            _ => return Err(RecordError::Malformed),
        }
        match postcard::take_from_bytes::<Record>(bytes) {
            // Only one byte string stands for a record: postcard alone would accept padded integers.
            Ok((record, [])) if record.to_bytes() == bytes => Ok(record),
            Ok(_) => Err(RecordError::Malformed),
            Err(_) => {
                let head = postcard::take_from_bytes::<(u8, Did, u64, Hash, u64, u32)>(bytes);
                let unknown = head.ok().map(|((.., kind), _)| kind).filter(|kind| *kind >= KINDS);
                Err(unknown.map_or(RecordError::Malformed, RecordError::Body))
            }
        }
    }
}
