//! What is told of turns and of causes, as it is printed and as it crosses the socket.

use std::collections::{BTreeMap, HashMap};

use charm_host::{
    ConflictInfo, Declaration, Descriptor, Did, EventId, Part, SpaceInfo, TurnInfo, Until, Value, Why, WhyEvent,
    WishMiss,
};
use serde::{Deserialize, Serialize};

/// Most events that are named of those that a segment waited for.
const NAMED_MAX: usize = 8;

/// What a host tells.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// Turns that have begun and not ended.
    Turns(Vec<TurnLine>),
    /// What led to an event, and what followed.
    Why(Box<WhyTold>),
    /// What a cell holds.
    Value(Option<Value>),
    /// What a charm derives.
    Derived(Vec<DerivedLine>),
}

/// A cell, or a family of cells, that a charm derives.
#[derive(Serialize, Deserialize)]
pub struct DerivedLine {
    pub name: String,
    pub is_family: bool,
}

impl DerivedLine {
    /// Returns those of a charm.
    pub fn of(descriptor: &Descriptor) -> Vec<DerivedLine> {
        let derived = |declared: &BTreeMap<String, Declaration>, is_family| {
            let derived = declared.iter().filter(|(_, declared)| declared.derived);
            derived.map(|(name, _)| DerivedLine { name: name.clone(), is_family }).collect::<Vec<_>>()
        };
        let mut lines = derived(&descriptor.cells, false);
        lines.extend(derived(&descriptor.families, true));
        lines
    }
}

/// The names of spaces, by their DIDs.
pub struct Names(HashMap<Did, String>);

impl Names {
    /// Returns those of a store.
    pub fn of(spaces: Vec<SpaceInfo>) -> Names {
        Names(spaces.into_iter().map(|space| (space.did, space.name)).collect())
    }

    /// Returns somebody with the name that the store has for them.
    pub fn who(&self, did: Did) -> Who {
        Who { did: did.to_string(), name: self.0.get(&did).cloned() }
    }
}

/// Somebody, with the name that the store has for them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Who {
    pub did: String,
    pub name: Option<String>,
}

impl Who {
    /// Returns the name for people.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.did)
    }
}

/// A turn that has begun and not ended.
#[derive(Serialize, Deserialize)]
pub struct TurnLine {
    pub position: u64,
    pub event: String,
    pub charm: Who,
    pub sender: Who,
    pub stream: String,
    pub state: String,
    /// Milliseconds since 1970.
    pub since: u64,
    /// Milliseconds since 1970.
    pub until: Option<u64>,
    /// Segments that it has committed, and the commit of the last one.
    pub segments: u32,
    pub commit: Option<u64>,
    /// SHA-256 of the component.
    pub component: Option<String>,
    /// How often it was tried again.
    pub retries: u32,
    /// `all` or `first` of the events that its wait names; `time` when it sleeps, `http` for an answer.
    pub wait: Option<String>,
    pub named: usize,
    /// How many of them are not settled, and some of those.
    pub unsettled: usize,
    pub waits_for: Vec<WaitedLine>,
    pub conflicts: u32,
}

/// An event that is waited for.
#[derive(Serialize, Deserialize)]
pub struct WaitedLine {
    pub event: String,
    pub to: Who,
}

impl TurnLine {
    /// Returns a turn as it is printed.
    pub fn of(turn: &TurnInfo, names: &Names) -> TurnLine {
        let waited = |(event, to): &(EventId, Did)| WaitedLine { event: event.to_string(), to: names.who(*to) };
        TurnLine {
            position: turn.position,
            event: turn.event.to_string(),
            charm: names.who(turn.charm),
            sender: names.who(turn.sender),
            stream: turn.stream.to_string(),
            state: turn.state.name().to_owned(),
            since: turn.since_ms,
            until: turn.until_ms,
            segments: turn.segments,
            commit: turn.commit,
            component: turn.component.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect()),
            retries: turn.retries,
            wait: turn.until.map(|until| word(until).to_owned()),
            named: turn.named,
            unsettled: turn.unsettled,
            waits_for: turn.waits_for.iter().map(waited).collect(),
            conflicts: turn.conflicts,
        }
    }
}

fn word(until: Until) -> &'static str {
    match until {
        Until::All => "all",
        Until::First => "first",
        Until::Time => "time",
        Until::Exchange => "http",
    }
}

/// What led to an event, and what followed from it.
#[derive(Serialize, Deserialize)]
pub struct WhyTold {
    /// The event that was asked for.
    pub event: String,
    /// How many of `events` led to it: they come first, the first cause at the head.
    pub causes: usize,
    /// Events that followed and are left out.
    pub more: usize,
    /// Whether conflicts are told: a host that runs remembers those of the last hours.
    pub live: bool,
    pub events: Vec<WhyLine>,
}

/// One event of it.
#[derive(Serialize, Deserialize)]
pub struct WhyLine {
    pub id: String,
    pub position: Option<u64>,
    /// The event whose turn sent it.
    pub cause: Option<String>,
    /// Whether the operator sent that event again.
    pub again: bool,
    pub sender: Option<Who>,
    pub to: Option<Who>,
    pub stream: Option<String>,
    /// The event whose receipt it carries.
    pub receipt_of: Option<String>,
    /// The commit that sent it.
    pub sent: Option<SentLine>,
    pub commits: Vec<CommitLine>,
    /// An outcome; none when it is not settled, or that is not kept.
    pub outcome: Option<String>,
    pub commit: Option<u64>,
    pub message: Option<String>,
    /// Where it stands when it is not settled.
    pub state: Option<String>,
    pub conflicts: Vec<ConflictLine>,
    /// Charms that its wishes nearly found.
    pub misses: Vec<MissLine>,
    /// What is not there any more, or is left out: `sent`, `commits`, `receipt`, `causes`, `parts`.
    pub missing: Vec<String>,
}

/// The commit that sent an event.
#[derive(Serialize, Deserialize)]
pub struct SentLine {
    pub space: Who,
    pub commit: u64,
}

/// A commit of a turn.
#[derive(Serialize, Deserialize)]
pub struct CommitLine {
    pub commit: u64,
    /// Milliseconds since 1970.
    pub time: u64,
    /// Number of the segment; none for the end of the turn.
    pub segment: Option<u32>,
    /// The turn was tried again, for so many times now, and after how long.
    pub retry: Option<u32>,
    pub after_ms: Option<u64>,
    /// It is the answer to the request that the turn waited for.
    pub answer: bool,
    /// `all` or `first` of the events that it waited for, `time` when it slept, `http` for an answer; how many those are, some of them, and how long at most.
    pub wait: Option<String>,
    pub named: usize,
    pub waits_for: Vec<String>,
    pub timeout_ms: Option<u64>,
    pub writes: usize,
    pub sends: usize,
}

/// Attempts that were thrown away.
#[derive(Serialize, Deserialize)]
pub struct ConflictLine {
    /// Milliseconds since 1970, the last time.
    pub time: u64,
    pub count: u32,
    pub text: String,
    /// The cell whose read did not hold.
    pub owner: Option<Who>,
    pub cell: Option<String>,
    pub path: Option<String>,
    /// The revision that was read, and the commit that won.
    pub seen: Option<u64>,
    pub found: Option<u64>,
    /// The event whose turn won.
    pub winner: Option<String>,
}

impl WhyTold {
    /// Returns it as it is printed.
    pub fn of(why: &Why, names: &Names, live: bool) -> WhyTold {
        let events = why.events.iter().map(|event| WhyLine::of(event, names)).collect();
        WhyTold { event: why.event.to_string(), causes: why.causes, more: why.more, live, events }
    }
}

impl WhyLine {
    fn of(event: &WhyEvent, names: &Names) -> WhyLine {
        let receipt = event.receipt.as_ref();
        WhyLine {
            id: event.id.to_string(),
            position: event.position,
            cause: event.cause.map(|id| id.to_string()),
            again: event.is_again,
            sender: event.sender.map(|did| names.who(did)),
            to: event.to.map(|did| names.who(did)),
            stream: event.stream.as_ref().map(ToString::to_string),
            receipt_of: event.receipt_of.map(|id| id.to_string()),
            sent: event.sent.map(|(space, commit)| SentLine { space: names.who(space), commit }),
            commits: event.commits.iter().map(CommitLine::of).collect(),
            outcome: receipt.map(|receipt| receipt.outcome.name().to_owned()),
            commit: receipt.and_then(|receipt| receipt.commit),
            message: receipt.and_then(|receipt| receipt.message.clone()),
            state: event.state.map(|state| state.name().to_owned()),
            conflicts: event.conflicts.iter().map(|met| ConflictLine::of(met, names)).collect(),
            misses: event.misses.iter().map(|miss| MissLine::of(miss, names)).collect(),
            missing: event.missing.iter().map(|missing| missing.name().to_owned()).collect(),
        }
    }
}

impl CommitLine {
    fn of(part: &Part) -> CommitLine {
        let (segment, wait) = part.segment.as_ref().map(|(number, wait)| (*number, wait)).unzip();
        let named = wait.map_or(&[][..], |wait| &wait.events);
        CommitLine {
            commit: part.seq,
            time: part.time_ms,
            segment,
            retry: part.retry.map(|(number, _)| number),
            after_ms: part.retry.map(|(_, after_ms)| after_ms),
            answer: part.is_answer,
            wait: wait.map(|wait| word(wait.until).to_owned()),
            named: named.len(),
            waits_for: named.iter().take(NAMED_MAX).map(ToString::to_string).collect(),
            timeout_ms: wait.map(|wait| wait.timeout_ms),
            writes: part.writes,
            sends: part.sends,
        }
    }
}

/// A charm that a wish nearly found.
#[derive(Serialize, Deserialize)]
pub struct MissLine {
    /// Milliseconds since 1970, the last time.
    pub time: u64,
    pub count: u32,
    pub tag: String,
    pub owner: Who,
    pub why: String,
}

impl MissLine {
    fn of(miss: &WishMiss, names: &Names) -> MissLine {
        let WishMiss { time_ms, count, tag, owner, why, .. } = miss.clone();
        MissLine { time: time_ms, count, tag, owner: names.who(owner), why }
    }
}

impl ConflictLine {
    fn of(met: &ConflictInfo, names: &Names) -> ConflictLine {
        let cell = met.cell.as_ref();
        ConflictLine {
            time: met.time_ms,
            count: met.count,
            text: met.text.clone(),
            owner: cell.map(|cell| names.who(cell.owner)),
            cell: cell.map(|cell| cell.name.to_string()),
            path: cell.map(|_| met.path.clone()),
            seen: cell.map(|_| met.seen),
            found: cell.map(|_| met.found),
            winner: met.winner.map(|id| id.to_string()),
        }
    }
}
