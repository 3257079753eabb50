//! What a turn of the probe must do, told without a host: given the cells before it, what it writes, sends and
//! ends with. Replaying the log through it proves that every committed turn is what it would have been alone,
//! at its place in the order of commits: the history is serializable in that order (T3, T4), and each effect
//! is there once (S2). A turn that waits is that for each of its segments: the model keeps where its script stands (S7). What a
//! wait answers depends on the moment: no script looks at it.

use std::collections::BTreeMap;

use charm_conformance::{Random, edited};
use charm_host::{Commit, Did, Event, EventId, Outcome, Record, Sent, TurnSegment, Until, Value, WaitFor};
use ipld_core::ipld::Ipld;

/// Cells of all spaces.
pub type Cells = BTreeMap<(Did, String), Ipld>;

/// The charms of a run: `a` and `b` may do everything with everyone, `c` nothing with `a`.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// In the order of their names.
    pub charms: [Did; 3],
    /// Inboxes have room for next to nothing: sends may find none.
    pub tight: bool,
}

impl Cast {
    fn may(&self, charm: Did, other: Did) -> bool {
        !(charm == self.charms[2] && other == self.charms[0])
    }
}

fn text(text: &str) -> Ipld {
    Ipld::String(text.to_owned())
}

fn number(number: u64) -> Ipld {
    Ipld::Integer(number.into())
}

fn list(items: impl IntoIterator<Item = Ipld>) -> Ipld {
    Ipld::List(items.into_iter().collect())
}

fn map(entries: impl IntoIterator<Item = (&'static str, Ipld)>) -> Ipld {
    Ipld::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn of(charm: Did, name: &str) -> Ipld {
    list([text(&charm.to_string()), text(name)])
}

/// Returns a random event for the stream `run`; `tag` makes its values its own.
pub fn script(cast: &Cast, tag: u64, depth: u64, random: &mut Random) -> Ipld {
    let (mut steps, mut sends, mut waits) = (Vec::new(), 0, false);
    for part in 0..1 + random.below(5) {
        let other = *random.pick(&cast.charms);
        let cell = *random.pick(&["x", "y", "notes", "out"]);
        let value = number(tag * 10 + part);
        let kind = random.below(20);
        let step = match kind {
            0..5 => list([text("get"), of(other, cell), list([])]),
            5 => list([text("get"), text(cell), list([])]),
            6 => list([text("try"), list([text("get"), of(other, cell), list([])])]),
            7..10 => {
                let both = |cell: &str| list([text("set"), text(cell), list([]), value.clone()]);
                steps.push(both("x"));
                both("y")
            }
            10 => list([text("remove"), text(if part % 2 == 0 { "x" } else { "y" }), list([])]),
            11..14 => list([text("send"), of(other, "note"), value]),
            14 | 15 => {
                let back = match random.below(3) {
                    0 if depth > 0 => script(cast, tag * 10 + part, depth - 1, random),
                    _ => value.clone(),
                };
                let on_commit = map([("stream", text("on-receipt")), ("tag", back)]);
                list([text("send"), of(other, "note"), value, on_commit])
            }
            16 if depth > 0 => {
                let inner = script(cast, tag * 10 + part, depth - 1, random);
                list([text("send"), of(other, "run"), inner])
            }
            17 => list([text("try"), list([text("set"), of(other, cell), list([]), value])]),
            18 => list([text("fetch"), map([("url", text(super::run::PAUSE))])]),
            _ => {
                waits = true;
                let method = text(if part % 2 == 0 { "GET" } else { "POST" });
                let request =
                    [("url", text(super::run::PAUSE)), ("method", method), ("timeout-ms", number(EXCHANGE_MS))];
                list([text("commit-and-fetch"), map(request)])
            }
        };
        steps.push(step);
        sends += usize::from(matches!(kind, 11..=15) || (kind == 16 && depth > 0));
        if sends > 0 && random.chance(250) {
            let of = (0..1 + random.below(3)).map(|_| number(random.below(sends as u64)));
            let (of, until) = (list(of.collect::<Vec<_>>()), text(if random.chance(500) { "all" } else { "first" }));
            steps.push(list([text("wait"), of, until, number(*random.pick(&[0, 1, 20, 5_000, 3_600_000]))]));
            waits = true;
        }
    }
    match random.below(30) {
        0 => steps.push(list([text("reject"), text("on purpose")])),
        1 => steps.push(list([text("trap")])),
        2 => steps.push(list([text("spin")])),
        _ => {}
    }
    let out = if random.chance(700) && !waits { text("out") } else { Ipld::Null };
    map([("steps", Ipld::List(steps)), ("out", out)])
}

/// How long a request may take that a turn waits for, in milliseconds.
const EXCHANGE_MS: u64 = 5_000;

/// How a turn ends.
enum End {
    Reject,
    Fault,
    /// With a wait, for these of its sends, or for an answer.
    Wait(WaitFor),
}

/// Where the script of a turn stands.
#[derive(Clone, Default)]
struct Stand {
    /// Segments so far.
    segments: u32,
    /// Steps so far, and what they returned.
    results: Vec<Ipld>,
    /// What it has sent.
    sent: Vec<EventId>,
    /// It waited for the answer to a request, which may have failed.
    fetched: bool,
}

/// What a turn does, step by step.
struct Turn<'a> {
    cast: &'a Cast,
    charm: Did,
    before: &'a Cells,
    writes: BTreeMap<String, Option<Ipld>>,
    /// Ids that the host gave, in order.
    ids: Box<dyn Iterator<Item = EventId> + 'a>,
    sends: Vec<(Did, String, Ipld)>,
    stand: Stand,
    /// It made a request, which may fail.
    fetched: bool,
    /// It read what others write.
    looked: bool,
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
            if let [kind, of, until, Ipld::Integer(ms)] = items(step)
                && string(kind) == "wait"
            {
                self.stand.results.push(Ipld::Null);
                let sent = |of: &Ipld| match of {
                    Ipld::Integer(number) => self.stand.sent[*number as usize],
                    other => panic!("no number: {other:?}"),
                };
                let until = if string(until) == "all" { Until::All } else { Until::First };
                let events = items(of).iter().map(sent).collect();
                return Err(End::Wait(WaitFor { events, until, timeout_ms: *ms as u64 }));
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

    /// The inner error is one that the guest sees.
    fn step(&mut self, step: &Ipld) -> Result<Result<Ipld, Ipld>, End> {
        let parts = items(step);
        Ok(match string(&parts[0]) {
            "get" => {
                let (owner, cell) = self.address(&parts[1]);
                if self.cast.may(self.charm, owner) {
                    Ok(self.read(owner, &cell))
                } else {
                    let denied = [("owner", text(&owner.to_string())), ("name", text(&cell)), ("kind", text("denied"))];
                    Err(map(denied))
                }
            }
            "set" => {
                let (owner, cell) = self.address(&parts[1]);
                if owner == self.charm {
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
            "send" => {
                let (to, stream) = self.address(&parts[1]);
                let refused = !self.cast.may(self.charm, to);
                self.sends.push((to, stream, if refused { Ipld::Null } else { parts[2].clone() }));
                // A missing id shows when the sends are compared.
                let id = self.ids.next();
                self.stand.sent.push(id.unwrap_or(EventId([0; 16])));
                Ok(id.map_or(Ipld::Null, |id| text(&id.to_string())))
            }
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
            other => panic!("no script says {other}"),
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
    queued: BTreeMap<u64, Event>,
    /// Turns that have committed a segment, by the positions of their events.
    underway: BTreeMap<u64, Stand>,
    /// Segments so far.
    pub segments: u64,
    /// When each event entered the log.
    pub order: BTreeMap<EventId, usize>,
    /// Turns that failed because the host did.
    pub bugs: u64,
    /// Turns by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
}

impl Replay {
    /// Takes the next record.
    ///
    /// # Errors
    /// What differs from what the model makes of it.
    pub fn take(&mut self, cast: &Cast, commit: &Commit) -> Result<(), String> {
        let record = &commit.record;
        if let (Some(taken), Some(part)) = (commit.taken, record.segment()) {
            let event = self.queued.get(&taken.position).ok_or("an event is handled that does not wait")?;
            let stand = self.segment(cast, record, part, event, taken.position);
            let stand = stand.map_err(|why| {
                format!("commit {} of {}, segment of event {}: {why}", record.seq, record.space, event.id)
            })?;
            self.underway.insert(taken.position, stand);
            self.segments += 1;
        }
        if let (Some(taken), Some(done)) = (commit.taken, record.turn()) {
            let event = self.queued.remove(&taken.position).ok_or("an event is taken that does not wait")?;
            *self.outcomes.entry(done.receipt.outcome.name()).or_default() += 1;
            let message = done.receipt.message.as_deref();
            self.bugs += u64::from(message.is_some_and(|message| message.starts_with("the host failed")));
            let stand = self.underway.remove(&taken.position).unwrap_or_default();
            self.turn(cast, record, done, &event, stand)
                .map_err(|why| format!("commit {} of {}, event {}: {why}", record.seq, record.space, event.id))?;
        }
        let waiting = record.sends().filter(|(_, refused)| refused.is_none()).count() as u64;
        let mut position = commit.position - waiting;
        for (event, refused) in record.sends() {
            self.order.insert(event.id, self.order.len());
            if refused.is_none() {
                position += 1;
                self.queued.insert(position, event.clone());
            }
        }
        for write in record.writes() {
            let cell = (record.space, write.name.to_string());
            match self.written(record.space, write) {
                Some(value) => self.cells.insert(cell, value),
                None => self.cells.remove(&cell),
            };
        }
        Ok(())
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
            stand,
            looked: false,
        };
        (turn.event(event), turn)
    }

    fn segment(
        &self,
        cast: &Cast,
        record: &Record,
        part: &TurnSegment,
        event: &Event,
        position: u64,
    ) -> Result<Stand, String> {
        let stand = self.underway.get(&position).cloned().unwrap_or_default();
        let (end, turn) = self.run(cast, record, &part.sends, event, stand);
        match end {
            Err(End::Wait(wait)) if wait == part.wait => {}
            Err(End::Wait(wait)) => return Err(format!("it waits for {:?}, alone for {wait:?}", part.wait)),
            _ => return Err("it waits, and alone it does not".to_owned()),
        }
        let Turn { writes, sends, mut stand, .. } = turn;
        self.compare(record, writes, &part.writes, sends, &part.sends)?;
        stand.segments += 1;
        if stand.segments == part.number { Ok(stand) } else { Err(format!("it is segment {}", part.number)) }
    }

    fn turn(
        &self,
        cast: &Cast,
        record: &Record,
        done: &charm_host::Turn,
        event: &Event,
        stand: Stand,
    ) -> Result<(), String> {
        let outcome = done.receipt.outcome;
        let (end, turn) = self.run(cast, record, &done.sends, event, stand);
        let Turn { writes, sends, fetched, looked, .. } = turn;
        let message = done.receipt.message.as_deref().unwrap_or_default();
        let allowed = match (&end, outcome) {
            (Ok(()), Outcome::Committed) | (Err(End::Reject), Outcome::Rejected) => true,
            (Err(End::Fault), Outcome::Faulted) => true,
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
                Ok(())
            } else {
                Err("it failed and left something behind".to_owned())
            };
        }
        self.compare(record, writes, &done.writes, sends, &done.sends)
    }

    /// Compares what was written and sent with what would have been.
    fn compare(
        &self,
        record: &Record,
        mut writes: BTreeMap<String, Option<Ipld>>,
        written: &[charm_host::Write],
        sends: Vec<(Did, String, Ipld)>,
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
        let found: Vec<_> =
            own(sent).map(|sent| (sent.event.to, sent.event.stream.to_string(), ipld(&sent.event.payload))).collect();
        if found == sends { Ok(()) } else { Err(format!("it sent {} events, alone {}", found.len(), sends.len())) }
    }
}

/// Those that the turn itself has sent.
fn own(sends: &[Sent]) -> impl Iterator<Item = &Sent> {
    sends.iter().filter(|sent| sent.event.receipt_of.is_none())
}
