//! Why something happened: what led to an event, back to the one from outside, and all that followed from it. Read from the
//! log, so it is there after a restart, as far as the past of the charms is (H1).
//!
//! An event has a position; the commit that sent it is the first whose last position is not before that one. It handles the
//! event whose turn sent it, which has a position too: so the way back needs no more than the log. The way forward goes over
//! the commits that handle an event, and what they send.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    core::Commit,
    did::Did,
    entry::{ENTRIES_PAGE, LogEntry},
    event::{Event, EventId},
    limits::{WHY_BYTES_MAX, WHY_CAUSES_MAX, WHY_COMMITS_MAX, WHY_EVENTS_MAX},
    listing::TurnState,
    live::{ConflictInfo, WishMiss},
    receipt::{self, Receipt},
    record::{Body, WaitFor},
    store::{Store, StoreError},
};

/// What led to an event, and what followed from it. Bounded: [`WHY_EVENTS_MAX`](crate::WHY_EVENTS_MAX) events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// The event that was asked for.
    pub event: EventId,
    /// What led to it, the first cause first; then the event itself; then what followed, nearest first. Each names the event
    /// before it that is its cause.
    pub events: Vec<WhyEvent>,
    /// How many of those led to it: its own place in the list.
    pub causes: usize,
    /// Events that are left out though their senders are listed; what followed from them is left out with them.
    pub more: usize,
}

/// One event of a [`Why`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyEvent {
    /// Its id.
    pub id: EventId,
    /// Its place among all events; none when it was refused on the spot, or when that has gone.
    pub position: Option<u64>,
    /// The event whose turn sent it; of one that the operator sent again, that one. None for an event from outside.
    pub cause: Option<EventId>,
    /// Whether the operator sent it again (S11).
    pub is_again: bool,
    /// Who sent it.
    pub sender: Option<Did>,
    /// Who handles it.
    pub to: Option<Did>,
    /// The stream it goes to.
    pub stream: Option<Arc<str>>,
    /// The event whose receipt it carries (S6).
    pub receipt_of: Option<EventId>,
    /// The commit that sent it: its space, and its number there.
    pub sent: Option<(Did, u64)>,
    /// What its turn committed, in the space of its receiver: segments, and the end.
    pub commits: Vec<Part>,
    /// What became of it; none when it is not settled.
    pub receipt: Option<Receipt>,
    /// Where it stands when it is not settled.
    pub state: Option<TurnState>,
    /// What threw attempts at its turn away, as far as the host that runs remembers.
    pub conflicts: Vec<ConflictInfo>,
    /// Charms that its wishes nearly found, as far as the host that runs remembers.
    pub misses: Vec<WishMiss>,
    /// What cannot be told of it.
    pub missing: Vec<Missing>,
}

/// What one commit did with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number in the space.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// Number of the segment, and what it waits for; none for the end of the turn.
    pub segment: Option<(u32, WaitFor)>,
    /// How often the turn was tried again with this, and after how many milliseconds it was to be (S13).
    pub retry: Option<(u32, u64)>,
    /// Whether it is the answer to the request that the turn waited for (S7).
    pub is_answer: bool,
    /// How many cells it writes.
    pub writes: usize,
    /// How many events it sends, receipts included.
    pub sends: usize,
}

/// What is not there any more, or is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The commit that sent the event: the past of its space has gone.
    Sent,
    /// What its turn committed and sent: the past of its receiver has gone.
    Commits,
    /// What became of it: its receipt is not kept any more.
    Receipt,
    /// What led to it: over a bound.
    Causes,
    /// Commits of its turn: over a bound.
    Parts,
}

impl Missing {
    /// Returns the name as it stands on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Missing::Sent => "sent",
            Missing::Commits => "commits",
            Missing::Receipt => "receipt",
            Missing::Causes => "causes",
            Missing::Parts => "parts",
        }
    }
}

impl WhyEvent {
    fn unknown(id: EventId) -> WhyEvent {
        WhyEvent {
            id,
            position: None,
            cause: None,
            is_again: false,
            sender: None,
            to: None,
            stream: None,
            receipt_of: None,
            sent: None,
            commits: Vec::new(),
            receipt: None,
            state: None,
            conflicts: Vec::new(),
            misses: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Takes in what the event says of itself.
    fn learn(&mut self, event: &Event) {
        (self.sender, self.to, self.stream) = (Some(event.sender), Some(event.to), Some(event.stream.clone()));
        self.receipt_of = event.receipt_of;
    }

    fn of(event: &Event, position: Option<u64>) -> WhyEvent {
        let mut known = WhyEvent { position, ..WhyEvent::unknown(event.id) };
        known.learn(event);
        known
    }

    fn misses(&mut self, what: Missing) {
        if !self.missing.contains(&what) {
            self.missing.push(what);
        }
    }
}

/// An event that is not settled: it, its position, and where it stands. The event itself only as far as it is at hand.
pub type Found = (Option<(Event, u64)>, TurnState);

/// Reads what is to be told. `last` is a commit of the host that is not before any that matters; `find` finds events that are
/// not settled, by id and, where that is known, position: it is asked before the log, so what it does not find is settled there.
///
/// # Errors
/// When the store is damaged.
pub fn why(
    store: &dyn Store,
    last: u64,
    id: &EventId,
    find: &dyn Fn(&EventId, Option<u64>) -> Option<Found>,
) -> Result<Option<Why>, StoreError> {
    let mut reader = Reader { store, last, find, left: WHY_BYTES_MAX, commits: WHY_COMMITS_MAX };
    let Some(asked) = reader.locate(id)? else { return Ok(None) };
    let mut events = reader.causes(asked)?;
    events.reverse();
    let causes = events.len() - 1;
    let (mut more, mut rest) = (0, VecDeque::new());
    // What will not be listed is counted, and not kept.
    let mut line_up = |listed: usize, rest: &mut VecDeque<WhyEvent>, followed: Vec<WhyEvent>| {
        let room = WHY_EVENTS_MAX.saturating_sub(listed + rest.len());
        more += followed.len().saturating_sub(room);
        rest.extend(followed.into_iter().take(room));
    };
    let listed = events.len();
    for (place, event) in events.iter_mut().enumerate() {
        let followed = reader.fill(event)?;
        if place == causes {
            line_up(listed, &mut rest, followed);
        }
    }
    while let Some(mut next) = rest.pop_front() {
        let followed = reader.fill(&mut next)?;
        events.push(next);
        line_up(events.len(), &mut rest, followed);
    }
    Ok(Some(Why { event: *id, events, causes, more }))
}

struct Reader<'a> {
    store: &'a dyn Store,
    last: u64,
    find: &'a dyn Fn(&EventId, Option<u64>) -> Option<Found>,
    /// Bytes of records that may still be read.
    left: usize,
    /// Commits that may still be listed.
    commits: usize,
}

/// The events of a commit, each with its position unless it was refused.
fn sends(commit: &Commit) -> impl Iterator<Item = (&Event, Option<u64>, Option<receipt::Outcome>)> {
    let waiting = commit.record.sends().filter(|(_, refused)| refused.is_none()).count() as u64;
    let mut position = commit.position.saturating_sub(waiting);
    commit.record.sends().map(move |(event, refused)| {
        position += u64::from(refused.is_none());
        (event, refused.is_none().then_some(position), refused)
    })
}

fn read(entry: &LogEntry) -> Result<Commit, StoreError> {
    Commit::read(entry).map_err(|error| StoreError::unread(entry.order, error))
}

impl Reader<'_> {
    /// Returns the commit that sent the event at a position; none when it has gone.
    fn sent(&self, position: u64) -> Result<Option<Commit>, StoreError> {
        // The first entry after `low` is the wanted one, or before it; that after `high` is not before it.
        let (mut low, mut high) = (0, self.last);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.store.log(None, middle, 1)?.first() {
                Some(entry) if entry.position < position => low = entry.order,
                _ => high = middle,
            }
        }
        let Some(entry) = self.store.log(None, low, 1)?.pop() else { return Ok(None) };
        let commit = read(&entry)?;
        // Where pasts have gone it is that of a later event.
        let is_sent = sends(&commit).any(|(_, at, _)| at == Some(position));
        Ok(is_sent.then_some(commit))
    }

    /// Finds an event by its id, wherever something of it is left.
    fn locate(&self, id: &EventId) -> Result<Option<WhyEvent>, StoreError> {
        if let Some((Some((event, position)), _)) = (self.find)(id, None) {
            return Ok(Some(WhyEvent::of(&event, Some(position))));
        }
        let row = self.store.receipt(id)?;
        if let Some(row) = &row
            && let Some(entry) = self.store.entry(&row.space, row.seq)?
        {
            let commit = read(&entry)?;
            if let Some(taken) = commit.taken.filter(|_| commit.record.handles() == Some(*id)) {
                let mut event = WhyEvent::unknown(*id);
                (event.position, event.sender, event.to) = (Some(taken.position), Some(row.sender), Some(row.to));
                event.stream = commit.record.turn().map(|turn| turn.stream.clone());
                return Ok(Some(event));
            }
            if let Some(event) = self.sent_in(&commit, id) {
                return Ok(Some(event));
            }
        }
        if let Some(event) = self.by_id(id)? {
            return Ok(Some(event));
        }
        Ok(row.map(|row| WhyEvent { sender: Some(row.sender), to: Some(row.to), ..WhyEvent::unknown(*id) }))
    }

    /// Finds an event by what its id says of it: where its receipt, or the commit that settled it, has gone.
    fn by_id(&self, id: &EventId) -> Result<Option<WhyEvent>, StoreError> {
        let (position, number) = id.sent_by();
        if number == u16::MAX {
            let sent = self.sent(position)?;
            return Ok(sent.and_then(|commit| self.sent_in(&commit, id)));
        }
        let mut after = 0;
        loop {
            let page = self.store.handled(position, after, ENTRIES_PAGE)?;
            let Some(last) = page.last() else { return Ok(None) };
            after = last.order;
            for entry in &page {
                if let Some(event) = self.sent_in(&read(entry)?, id) {
                    return Ok(Some(event));
                }
            }
        }
    }

    fn sent_in(&self, commit: &Commit, id: &EventId) -> Option<WhyEvent> {
        let (event, position, refused) = sends(commit).find(|(event, ..)| event.id == *id)?;
        let mut found = WhyEvent::of(event, position);
        if let Some(outcome) = refused {
            found.receipt = Some(receipt::refused(event, outcome));
            (found.cause, found.sent) = (commit.record.handles(), Some((commit.record.space, commit.record.seq)));
        }
        Some(found)
    }

    /// Returns an event and what led to it, nearest first.
    fn causes(&self, asked: WhyEvent) -> Result<Vec<WhyEvent>, StoreError> {
        let mut chain = Vec::new();
        let mut event = asked;
        loop {
            let sent = match (event.position, event.sent) {
                (Some(position), _) => self.sent(position)?,
                // It was refused on the spot.
                (None, Some((space, seq))) => self.store.entry(&space, seq)?.as_ref().map(read).transpose()?,
                (None, None) => None,
            };
            let Some(commit) = sent else {
                event.misses(Missing::Sent);
                chain.push(event);
                return Ok(chain);
            };
            let record = &commit.record;
            if let Some((own, ..)) = sends(&commit).find(|(own, ..)| own.id == event.id) {
                event.learn(own);
            }
            event.sent = Some((record.space, record.seq));
            let next = match &record.body {
                Body::Letters { dropped, .. } => {
                    (event.is_again, event.cause) = (true, dropped.first().copied());
                    event.cause.map(|before| self.locate(&before)).transpose()?.flatten()
                }
                _ => record.handles().zip(commit.taken).map(|(id, taken)| {
                    event.cause = Some(id);
                    let (sender, stream) = match &record.body {
                        Body::Turn(turn) => (Some(turn.sender), Some(turn.stream.clone())),
                        Body::Segment(segment) => (Some(segment.sender), Some(segment.stream.clone())),
                        Body::Exchanged(exchanged) => (Some(exchanged.sender), Some(exchanged.stream.clone())),
                        Body::Retried(retried) => (Some(retried.sender), Some(retried.stream.clone())),
                        _ => (None, None),
                    };
                    let (position, to) = (Some(taken.position), Some(record.space));
                    WhyEvent { position, sender, to, stream, ..WhyEvent::unknown(id) }
                }),
            };
            let is_over = next.is_some() && chain.len() >= WHY_CAUSES_MAX;
            if is_over {
                event.misses(Missing::Causes);
            }
            chain.push(event);
            match next {
                Some(next) if !is_over => event = next,
                _ => return Ok(chain),
            }
        }
    }

    /// Adds what became of an event; returns what its turn has sent.
    fn fill(&mut self, event: &mut WhyEvent) -> Result<Vec<WhyEvent>, StoreError> {
        let mut followed = Vec::new();
        if event.receipt.is_some() {
            return Ok(followed);
        }
        let found = (self.find)(&event.id, event.position);
        if let Some(position) = event.position {
            self.commits(event, position, &mut followed)?;
        }
        let begins_late = event.commits.first().and_then(|part| part.segment.as_ref()).is_some_and(|(at, _)| *at > 1);
        if begins_late {
            event.misses(Missing::Commits);
        }
        if event.receipt.is_some() {
            return Ok(followed);
        }
        if let Some((_, state)) = found {
            event.state = Some(state);
            return Ok(followed);
        }
        event.receipt = self.store.receipt(&event.id)?.map(|row| row.receipt);
        // Over a bound nothing is known of what was not read.
        if !event.missing.contains(&Missing::Parts) {
            event.misses(Missing::Commits);
            if event.receipt.is_none() {
                event.misses(Missing::Receipt);
            }
        }
        Ok(followed)
    }

    /// Reads the commits that handle an event.
    fn commits(&mut self, event: &mut WhyEvent, position: u64, followed: &mut Vec<WhyEvent>) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            if self.left == 0 {
                event.misses(Missing::Parts);
                return Ok(());
            }
            let page = self.store.handled(position, after, ENTRIES_PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.order;
            for entry in &page {
                self.left = self.left.saturating_sub(entry.record.len());
                let commit = read(entry)?;
                let record = &commit.record;
                for (sent, at, refused) in sends(&commit) {
                    let mut next = WhyEvent::of(sent, at);
                    (next.cause, next.sent) = (Some(event.id), Some((record.space, record.seq)));
                    next.receipt = refused.map(|outcome| receipt::refused(sent, outcome));
                    followed.push(next);
                }
                if let Some(turn) = record.turn() {
                    event.receipt = Some(turn.receipt.clone());
                }
                let Some(commits) = self.commits.checked_sub(1) else {
                    event.misses(Missing::Parts);
                    continue;
                };
                self.commits = commits;
                let segment = record.segment().map(|segment| (segment.number, segment.wait.clone()));
                let (writes, sends) = (record.writes().len(), record.sends().count());
                let retry = match &record.body {
                    Body::Retried(retried) => Some((retried.number, retried.after_ms)),
                    _ => None,
                };
                let (seq, time_ms, is_answer) = (record.seq, record.time_ms, record.exchanged().is_some());
                event.commits.push(Part { seq, time_ms, segment, retry, is_answer, writes, sends });
            }
            if page.len() < ENTRIES_PAGE {
                return Ok(());
            }
        }
    }
}

/// Adds what a host remembers of wishes.
pub fn add_misses(why: &mut Why, misses: Vec<WishMiss>) {
    for miss in misses {
        if let Some(event) = why.events.iter_mut().find(|event| event.id == miss.event) {
            event.misses.push(miss);
        }
    }
}

/// Adds the conflicts that a host remembers, with who won as far as the log says.
///
/// # Errors
/// When the store is damaged.
pub fn add_conflicts(why: &mut Why, store: &dyn Store, conflicts: Vec<ConflictInfo>) -> Result<(), StoreError> {
    for mut met in conflicts {
        if let Some(cell) = &met.cell
            && let Some(entry) = store.entry(&cell.owner, met.found)?
        {
            met.winner = read(&entry)?.record.handles();
        }
        if let Some(event) = why.events.iter_mut().find(|event| event.id == met.event) {
            event.conflicts.push(met);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
