//! What a turn of the probe must do, told without a host: given the cells before it, what it writes, sends and
//! ends with. Replaying the log through it proves that every committed turn is what it would have been alone,
//! at its place in the order of commits: the history is serializable in that order (T3, T4), and each effect
//! is there once (S2). A turn that waits is that for each of its segments: the model keeps where its script stands (S7), and
//! how often it was tried again, of which nothing else remains (S13). What a wait answers depends on the moment: no script
//! looks at it. When something may happen at all is told in `times`. What it reads of derived cells is computed anew each time: see
//! `derived`.

mod derived;

use std::{cell::Cell, collections::BTreeMap};

use charm_conformance::edited;
use charm_host::{
    Body, Commit, Did, Event, EventId, Outcome, Record, Sent, TurnRetried, TurnSegment, Until, Value, WaitFor,
};
use ipld_core::ipld::Ipld;

use super::{
    calendar::Calendar,
    script::{EXCHANGE_MS, map, number, text},
    times::{Queued, Times},
};

/// Cells of all spaces.
pub type Cells = BTreeMap<(Did, String), Ipld>;

/// The charms of a run: `a`, `b` and `d` may do everything with everyone, `c` nothing with `a`. `d` derives cells from those of all.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// In the order of their names.
    pub charms: [Did; 4],
    /// Scripts read derived cells.
    pub derives: bool,
    /// Inboxes have room for next to nothing: sends may find none.
    pub tight: bool,
}

impl Cast {
    fn may(&self, charm: Did, other: Did) -> bool {
        !(charm == self.charms[2] && other == self.charms[0])
    }

    /// Returns the charm that derives cells.
    pub fn deriver(&self) -> Did {
        self.charms[3]
    }

    /// Returns what derives a cell, if it is derived.
    fn derivation<'a>(&self, owner: Did, name: &'a str) -> Option<&'a str> {
        let family = name.split(':').next().unwrap_or(name);
        (owner == self.deriver() && ["d0", "d1", "d2", "m"].contains(&family)).then_some(family)
    }
}

/// How a turn ends.
enum End {
    Reject,
    Fault,
    /// With a wait, for these of its sends, or for an answer.
    Wait(WaitFor),
    /// It asks to be tried again after so many milliseconds.
    Retry(u64),
}

/// An event that goes out: to whom, on which stream, what, and when it is delivered and expires.
type Goes = (Did, String, Ipld, [Option<u64>; 2]);

/// Where the script of a turn stands.
#[derive(Clone, Default)]
pub struct Stand {
    /// Segments so far.
    segments: u32,
    /// Steps so far, and what they returned.
    results: Vec<Ipld>,
    /// What it has sent.
    sent: Vec<EventId>,
    /// It waited for the answer to a request, which may have failed.
    fetched: bool,
    /// How often it was tried again.
    retries: u32,
    /// Since which date it waits for time alone, and for how many milliseconds.
    pub sleeps: Option<(u64, u64)>,
}

/// What a turn does, step by step.
struct Turn<'a> {
    cast: &'a Cast,
    charm: Did,
    before: &'a Cells,
    writes: BTreeMap<String, Option<Ipld>>,
    /// Ids that the host gave, in order.
    ids: Box<dyn Iterator<Item = EventId> + 'a>,
    sends: Vec<Goes>,
    /// Events that it withdraws.
    withdraws: Vec<EventId>,
    stand: Stand,
    /// It made a request, which may fail.
    fetched: bool,
    /// It read what others write.
    looked: bool,
    /// Derived cells that it read, which were some value.
    derived: u64,
}

impl Turn<'_> {
    fn read(&mut self, owner: Did, cell: &str) -> Ipld {
        self.looked |= owner != self.charm;
        match self.writes.get(cell) {
            Some(written) if owner == self.charm => written.clone().unwrap_or(Ipld::Null),
            _ => self.before.get(&(owner, cell.to_owned())).cloned().unwrap_or(Ipld::Null),
        }
    }

    fn write(&mut self, cell: &str, value: Option<Ipld>) {
        self.writes.insert(cell.to_owned(), value);
    }

    /// Returns whose cell or stream it is, and its name.
    fn address(&self, at: &Ipld) -> (Did, String) {
        match at {
            Ipld::List(parts) => (string(&parts[0]).parse().unwrap(), string(&parts[1]).to_owned()),
            name => (self.charm, string(name).to_owned()),
        }
    }

    fn event(&mut self, event: &Event) -> Result<(), End> {
        let payload = ipld(&event.payload);
        match &*event.stream {
            "run" => self.script(&payload),
            "note" => self.append("notes", payload),
            "on-receipt" => {
                if self.stand.segments == 0 {
                    self.append("receipts", payload.clone())?;
                }
                match field(&payload, "tag") {
                    Some(script) if field(script, "steps").is_some() => self.script(script),
                    _ => Ok(()),
                }
            }
            other => panic!("nobody sends to {other}"),
        }
    }

    fn append(&mut self, cell: &str, item: Ipld) -> Result<(), End> {
        let mut items = match self.read(self.charm, cell) {
            Ipld::List(items) => items,
            Ipld::Null => Vec::new(),
            // A script has put something else there.
            _ => return Err(End::Reject),
        };
        items.push(item);
        self.write(cell, Some(Ipld::List(items)));
        Ok(())
    }

    fn script(&mut self, script: &Ipld) -> Result<(), End> {
        for step in &items(field(script, "steps").unwrap())[self.stand.results.len()..] {
            if let Some(wait) = self.wait(items(step)) {
                self.stand.results.push(Ipld::Null);
                return Err(End::Wait(wait));
            }
            if string(&items(step)[0]) == "commit-and-fetch" {
                self.stand.results.push(map([("status", number(200)), ("body", text("ok"))]));
                self.stand.fetched = true;
                return Err(End::Wait(WaitFor { events: vec![], until: Until::Exchange, timeout_ms: EXCHANGE_MS }));
            }
            let result = self.step(step)?.map_err(|_| End::Reject)?;
            self.stand.results.push(result);
        }
        if let Some(Ipld::String(out)) = field(script, "out") {
            let results = std::mem::take(&mut self.stand.results);
            self.write(out, Some(Ipld::List(results)));
        }
        Ok(())
    }

    /// Returns what a step waits for, if it does.
    fn wait(&self, step: &[Ipld]) -> Option<WaitFor> {
        match (string(&step[0]), &step[1..]) {
            ("wait", [of, until, ms]) => {
                let events = items(of).iter().map(|of| self.stand.sent[integer(of) as usize]).collect();
                let until = if string(until) == "all" { Until::All } else { Until::First };
                Some(WaitFor { events, until, timeout_ms: integer(ms) })
            }
            ("sleep", [ms]) => Some(WaitFor { events: Vec::new(), until: Until::Time, timeout_ms: integer(ms) }),
            _ => None,
        }
    }

    /// The inner error is one that the guest sees.
    fn step(&mut self, step: &Ipld) -> Result<Result<Ipld, Ipld>, End> {
        let parts = items(step);
        Ok(match string(&parts[0]) {
            "get" => {
                let (owner, cell) = self.address(&parts[1]);
                if self.cast.may(self.charm, owner) {
                    Ok(self.get(owner, &cell)?)
                } else {
                    let denied = [("owner", text(&owner.to_string())), ("name", text(&cell)), ("kind", text("denied"))];
                    Err(map(denied))
                }
            }
            "set" => {
                let (owner, cell) = self.address(&parts[1]);
                if let Some(derivation) = self.cast.derivation(owner, &cell) {
                    let at = [("owner", text(&owner.to_string())), ("name", text(&cell))];
                    let why = [("derivation", text(derivation)), ("kind", text("read-only"))];
                    Err(map(at.into_iter().chain(why)))
                } else if owner == self.charm {
                    self.write(&cell, Some(parts[3].clone()));
                    Ok(Ipld::Null)
                } else {
                    let (requested, open) = (text(&owner.to_string()), text(&self.charm.to_string()));
                    Err(map([("requested", requested), ("open", open), ("kind", text("write-isolation"))]))
                }
            }
            "remove" => {
                let (_, cell) = self.address(&parts[1]);
                self.write(&cell, None);
                Ok(Ipld::Null)
            }
            "send" | "send-later" => {
                let (to, stream) = self.address(&parts[1]);
                let payload = if self.cast.may(self.charm, to) { parts[2].clone() } else { Ipld::Null };
                let time = |name| parts.get(3).and_then(|times| field(times, name)).map(integer);
                self.sends.push((to, stream, payload, [time("deliver-after"), time("expires-at")]));
                // A missing id shows when the sends are compared.
                let id = self.ids.next();
                self.stand.sent.push(id.unwrap_or(EventId([0; 16])));
                Ok(id.map_or(Ipld::Null, |id| text(&id.to_string())))
            }
            "cancel" => {
                self.withdraws.push(self.stand.sent[integer(&parts[1]) as usize]);
                Ok(Ipld::Null)
            }
            "unless-tried" if u64::from(self.stand.retries) >= integer(&parts[1]) => Ok(Ipld::Null),
            "unless-tried" => return self.step(items(step).last().unwrap()),
            "retry" => return Err(End::Retry(integer(&parts[1]))),
            "fetch" => {
                self.fetched = true;
                Ok(map([("status", number(200)), ("body", text("ok"))]))
            }
            "try" => Ok(match self.step(&parts[1])? {
                Ok(result) => map([("ok", result)]),
                Err(error) => map([("error", error)]),
            }),
            "reject" => return Err(End::Reject),
            "trap" | "spin" => return Err(End::Fault),
            _ => return self.more(parts),
        })
    }
}

fn ipld(value: &Value) -> Ipld {
    value.decode().unwrap()
}

fn items(value: &Ipld) -> &[Ipld] {
    match value {
        Ipld::List(items) => items,
        other => panic!("no list: {other:?}"),
    }
}

fn integer(value: &Ipld) -> u64 {
    match value {
        Ipld::Integer(number) => *number as u64,
        other => panic!("no number: {other:?}"),
    }
}

fn string(value: &Ipld) -> &str {
    match value {
        Ipld::String(text) => text,
        other => panic!("no string: {other:?}"),
    }
}

fn field<'a>(value: &'a Ipld, key: &str) -> Option<&'a Ipld> {
    match value {
        Ipld::Map(entries) => entries.get(key).filter(|value| **value != Ipld::Null),
        _ => None,
    }
}

/// The log, replayed record by record.
#[derive(Default)]
pub struct Replay {
    cells: Cells,
    pub queued: BTreeMap<u64, Queued>,
    /// Turns that have committed a segment or are to be tried again, by the positions of their events.
    pub underway: BTreeMap<u64, Stand>,
    pub times: Times,
    /// Segments so far.
    pub segments: u64,
    /// How often turns were tried again.
    pub retried: u64,
    /// Delayed events that were begun.
    pub delayed: u64,
    /// Derived cells that committed turns have read, of which some value came.
    pub derived: Cell<u64>,
    /// When each event entered the log.
    pub order: BTreeMap<EventId, usize>,
    /// Turns that failed because the host did.
    pub bugs: u64,
    /// Turns by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
}

impl Replay {
    /// Returns the model of a log in whose dates the calendar stands.
    pub fn new(calendar: Calendar) -> Replay {
        Replay { times: Times::new(calendar), ..Replay::default() }
    }

    /// Takes the end of the log.
    ///
    /// # Errors
    /// What had to follow.
    pub fn end(&mut self) -> Result<(), String> {
        self.times.end()
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// What differs from what the model makes of it.
    pub fn take(&mut self, cast: &Cast, commit: &Commit) -> Result<(), String> {
        let record = &commit.record;
        let at = || format!("commit {} of {}", record.seq, record.space);
        self.times.take(record).map_err(|why| format!("{}: {why}", at()))?;
        let mut withdraws = Vec::new();
        if let (Some(taken), Some(_)) = (commit.taken, record.handles()) {
            let queued = self.queued.get(&taken.position).ok_or("an event is handled that does not wait")?.clone();
            let told = |why| format!("{}, event {}: {why}", at(), queued.event.id);
            withdraws = self.handle(cast, record, taken.position, &queued).map_err(told)?;
        }
        let waiting = record.sends().filter(|(_, refused)| refused.is_none()).count() as u64;
        let mut position = commit.position - waiting;
        for (event, refused) in record.sends() {
            self.order.insert(event.id, self.order.len());
            if refused.is_none() {
                position += 1;
                self.queued.insert(position, Times::queue(event, record));
            }
        }
        self.withdraw(record.space, &withdraws, record);
        for write in record.writes() {
            let cell = (record.space, write.name.to_string());
            match self.written(record.space, write) {
                Some(value) => self.cells.insert(cell, value),
                None => self.cells.remove(&cell),
            };
        }
        Ok(())
    }

    /// Takes a commit that handles an event; returns what it withdraws.
    fn handle(&mut self, cast: &Cast, record: &Record, position: u64, queued: &Queued) -> Result<Vec<EventId>, String> {
        self.in_time(position, queued, record)?;
        let (event, before) = (&queued.event, self.underway.get(&position));
        let is_first = before.is_none();
        let mut stand = before.cloned().unwrap_or_default();
        let (next, withdraws) = match &record.body {
            Body::Segment(part) => self.segment(cast, record, part, event, stand)?,
            Body::Retried(retried) => {
                self.retried += 1;
                self.again(cast, record, retried, event, &stand)?;
                (stand.retries, stand.sleeps) = (retried.number, Some((record.time_ms, retried.after_ms)));
                (stand, Vec::new())
            }
            Body::Turn(done) => {
                let outcome = done.receipt.outcome;
                *self.outcomes.entry(outcome.name()).or_default() += 1;
                let message = done.receipt.message.as_deref();
                self.bugs += u64::from(message.is_some_and(|message| message.starts_with("the host failed")));
                let withdraws = self.turn(cast, record, done, event, stand)?;
                self.queued.remove(&position);
                self.underway.remove(&position);
                self.delayed += u64::from(is_first && event.deliver_after.is_some() && done.ran.is_some());
                return Ok(withdraws);
            }
            _ => return Ok(Vec::new()),
        };
        self.segments += u64::from(record.segment().is_some());
        self.delayed += u64::from(is_first && event.deliver_after.is_some());
        self.underway.insert(position, next);
        Ok(withdraws)
    }

    /// Returns what a write makes of its cell.
    fn written(&self, space: Did, write: &charm_host::Write) -> Option<Ipld> {
        let before = self.cells.get(&(space, write.name.to_string()));
        edited(before.map(|before| Value::encode(before).unwrap()), &write.edits).as_ref().map(ipld)
    }

    /// Lets the script of an event go on from where it stands.
    fn run<'a>(
        &'a self,
        cast: &'a Cast,
        record: &Record,
        sends: &'a [Sent],
        event: &Event,
        stand: Stand,
    ) -> (Result<(), End>, Turn<'a>) {
        let mut turn = Turn {
            cast,
            charm: record.space,
            before: &self.cells,
            writes: BTreeMap::new(),
            ids: Box::new(own(sends).map(|sent| sent.event.id)),
            sends: Vec::new(),
            fetched: stand.fetched,
            withdraws: Vec::new(),
            stand,
            looked: false,
            derived: 0,
        };
        (turn.event(event), turn)
    }

    fn segment(
        &self,
        cast: &Cast,
        record: &Record,
        part: &TurnSegment,
        event: &Event,
        stand: Stand,
    ) -> Result<(Stand, Vec<EventId>), String> {
        let (end, turn) = self.run(cast, record, &part.sends, event, stand);
        match end {
            Err(End::Wait(wait)) if wait == part.wait => {}
            Err(End::Wait(wait)) => return Err(format!("it waits for {:?}, alone for {wait:?}", part.wait)),
            _ => return Err("it waits, and alone it does not".to_owned()),
        }
        let Turn { writes, sends, mut stand, withdraws, derived, .. } = turn;
        self.compare(record, writes, &part.writes, sends, &part.sends)?;
        self.derived.update(|count| count + derived);
        stand.segments += 1;
        stand.sleeps = (part.wait.until == Until::Time).then_some((record.time_ms, part.wait.timeout_ms));
        if stand.segments == part.number {
            Ok((stand, withdraws))
        } else {
            Err(format!("it is segment {}", part.number))
        }
    }

    /// A turn is tried again: all that remains of it is how often.
    fn again(
        &self,
        cast: &Cast,
        record: &Record,
        retried: &TurnRetried,
        event: &Event,
        stand: &Stand,
    ) -> Result<(), String> {
        match self.run(cast, record, &[], event, stand.clone()).0 {
            Err(End::Retry(ms)) if ms == retried.after_ms => {}
            _ => return Err("it is tried again, and alone it is not".to_owned()),
        }
        if retried.number == stand.retries + 1 {
            return Ok(());
        }
        Err(format!("it is tried again for the {}. time, after {} times", retried.number, stand.retries))
    }

    fn turn(
        &self,
        cast: &Cast,
        record: &Record,
        done: &charm_host::Turn,
        event: &Event,
        stand: Stand,
    ) -> Result<Vec<EventId>, String> {
        let outcome = done.receipt.outcome;
        let (end, turn) = self.run(cast, record, &done.sends, event, stand);
        let Turn { writes, sends, fetched, looked, withdraws, derived, .. } = turn;
        let message = done.receipt.message.as_deref().unwrap_or_default();
        let allowed = match (&end, outcome) {
            (Ok(()), Outcome::Committed) | (Err(End::Reject), Outcome::Rejected) => true,
            (Err(End::Fault), Outcome::Faulted) => true,
            // Whether these may be `times` knows.
            (_, Outcome::Expired | Outcome::Cancelled) => done.ran.is_none(),
            // The network failed it, it had too little fuel, the host had a bug, or others were always faster.
            (_, Outcome::Rejected) => fetched || (cast.tight && message.starts_with("queue-full")),
            (_, Outcome::Faulted) => message.starts_with("over fuel-max") || message.starts_with("the host failed"),
            (Ok(()) | Err(End::Wait(_)), Outcome::ConflictExhausted) => looked,
            _ => false,
        };
        if !allowed {
            return Err(format!("it ended as {}, which it could not: {message}", outcome.name()));
        }
        if outcome != Outcome::Committed {
            return if done.writes.is_empty() && own(&done.sends).next().is_none() {
                Ok(Vec::new())
            } else {
                Err("it failed and left something behind".to_owned())
            };
        }
        self.compare(record, writes, &done.writes, sends, &done.sends)?;
        self.derived.update(|count| count + derived);
        Ok(withdraws)
    }

    /// Compares what was written and sent with what would have been.
    fn compare(
        &self,
        record: &Record,
        mut writes: BTreeMap<String, Option<Ipld>>,
        written: &[charm_host::Write],
        sends: Vec<Goes>,
        sent: &[Sent],
    ) -> Result<(), String> {
        writes.retain(|cell, value| self.cells.get(&(record.space, cell.clone())) != value.as_ref());
        let value = |write: &charm_host::Write| (write.name.to_string(), self.written(record.space, write));
        let found: BTreeMap<_, Option<Ipld>> = written.iter().map(value).collect();
        if found != writes {
            let differs = |cell: &&String| found.get(*cell) != writes.get(*cell);
            let cell = found.keys().chain(writes.keys()).find(differs).unwrap();
            let show = |value: Option<&Option<Ipld>>| {
                let mut text = format!("{value:?}");
                text.truncate(text.floor_char_boundary(600));
                text
            };
            let (found, expected) = (show(found.get(cell)), show(writes.get(cell)));
            return Err(format!("cell {cell}: the turn wrote\n  {found}\nalone it would have written\n  {expected}"));
        }
        let goes = |Event { to, stream, payload, deliver_after, expires_at, .. }: &Event| {
            (*to, stream.to_string(), ipld(payload), [*deliver_after, *expires_at])
        };
        let found: Vec<_> = own(sent).map(|sent| goes(&sent.event)).collect();
        if found == sends { Ok(()) } else { Err(format!("it sent {} events, alone {}", found.len(), sends.len())) }
    }
}

/// Those that the turn itself has sent.
fn own(sends: &[Sent]) -> impl Iterator<Item = &Sent> {
    sends.iter().filter(|sent| sent.event.receipt_of.is_none())
}
