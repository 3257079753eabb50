//! Whether something may happen now, and the commit that it makes then.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Commit, Draft, Space, State,
    inbox::{Growth, Inbox},
};
use crate::{
    component::Component,
    did::Did,
    entry::Taken,
    event::{Event, EventId},
    limits::LETTERS_PER_COMMIT_MAX,
    meter::{Amount, Sender},
    receipt::{Outcome, Receipt},
    record::{
        self, Body, Checkpoint, Cut, Exchanged, Hash, Install, Pruned, Ran, Record, Retried, Segment, Sent, Turn,
        WaitFor, Write,
    },
    rows::{InstallRow, Queued},
    value::Value,
};

/// What somebody wants to happen in a space.
pub enum Act<'a> {
    /// The space comes to be, under that name.
    Register(&'a str),
    /// This component is installed.
    Install(Box<Install>, Component),
    /// The charm is uninstalled.
    Uninstall,
    /// This is decided about the rights of a DID.
    Rights(Did, Option<Vec<u8>>),
    /// The charm begins no turns, or begins them again.
    Pause(bool),
    /// An event from outside, with the id that its sender chose, if it did, and the descriptor that it was checked against.
    Accept(Event, Option<EventId>, u64),
    /// A dead letter is sent again.
    Resend(EventId, Event),
    /// A dead letter is dropped.
    Drop(EventId),
    /// The oldest dead letters are dropped, up to a bound.
    DropAll,
    /// What the space came to with one of its commits is written down (H1).
    Checkpoint(Box<Checkpoint>),
    /// The past of spaces goes.
    Prune(Box<Pruned>),
    /// Cells are removed by the operator.
    Remove(Vec<Write>, Growth),
    /// An event that waits is settled.
    Settle(&'a Arc<Queued>, Box<Ending>),
    /// A turn does what it did so far, and waits.
    Segment(&'a Arc<Queued>, Box<Ending>, Part),
    /// A turn leaves nothing, and is tried again after so many milliseconds.
    Retry(&'a Arc<Queued>, u64),
    /// The answer to the request that a turn waits for is there.
    Exchange(&'a Arc<Queued>, Answered),
}

/// How an event is settled, and what goes with it.
#[derive(Default)]
pub struct Ending {
    /// The outcome, and why; none when it is committed.
    pub failed: Option<(Outcome, String)>,
    /// What ran, and the component that was installed then, whose shapes hold.
    pub ran: Option<(Ran, Hash)>,
    /// Cell writes.
    pub writes: Vec<Write>,
    /// What they add to the space.
    pub growth: Growth,
    /// Events that go out, then the receipts of those that are refused.
    pub sends: Vec<Draft>,
    /// What they take in each inbox.
    pub staged: BTreeMap<Did, Amount>,
}

/// What a segment of a turn has beside what an ending has.
pub struct Part {
    /// What the turn waits for.
    pub wait: WaitFor,
    /// Hash over what the turn was told so far.
    pub recording: Hash,
    /// What it was told in this segment.
    pub piece: Arc<[u8]>,
}

/// The answer to the request that a turn waits for.
pub struct Answered {
    /// Hash over what the turn was told before it.
    pub before: Hash,
    /// The same with the answer.
    pub recording: Hash,
    /// The answer, as the turn is told it.
    pub piece: Arc<[u8]>,
}

/// A commit that may happen, and what only the living host knows of it.
pub struct Decided {
    /// The commit.
    pub commit: Commit,
    /// For each event that will wait, the descriptor that it was checked against, 0 for none.
    pub fits: Vec<u64>,
    /// What it adds to the space.
    pub growth: Growth,
    /// What it installs.
    pub component: Option<Component>,
    /// What a turn that waits was told, or the answer that it waits for.
    pub piece: Option<Arc<[u8]>>,
}

/// Why something may not happen.
#[derive(Debug)]
pub enum Refused {
    /// There is no such space, event or dead letter.
    Gone,
    /// It is so already.
    Known,
    /// Another component is installed than ran, or none.
    Replaced,
    /// There is no room for the event.
    Full,
    /// An inbox that the turn sends to has filled up.
    NoRoom {
        /// Whose.
        inbox: Did,
        /// What the sender has there.
        used: Amount,
    },
    /// The space would pass a bound.
    Limit(String),
}

impl State {
    /// Returns whether something may happen now, as the commit that it makes. Changes nothing.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn decide(&self, space: Did, time_ms: u64, act: Act<'_>) -> Result<Decided, Refused> {
        let (mut fits, mut growth, mut taken, mut component) = (Vec::new(), Growth::default(), None, None);
        let (mut piece, mut position) = (None, self.position);
        let body = match act {
            Act::Register(_) if self.spaces.contains_key(&space) => return Err(Refused::Known),
            Act::Register(name) => Body::Registered { name: name.to_owned() },
            Act::Install(install, of) => {
                let installed = self.spaces.get(&space).ok_or(Refused::Gone)?.installed;
                if installed == Some(InstallRow::of(&install)) {
                    return Err(Refused::Known);
                }
                component = Some(of);
                Body::Installed(install)
            }
            Act::Uninstall => {
                self.spaces.get(&space).and_then(|space| space.installed).ok_or(Refused::Gone)?;
                Body::Uninstalled
            }
            Act::Rights(holder, kept) => Body::Rights { holder, kept },
            Act::Pause(paused) => Body::Paused(paused),
            Act::Accept(event, supplied, of) => {
                let event = self.outside(event, supplied)?;
                (position, fits) = (position + 1, vec![of]);
                Body::Accepted(event)
            }
            Act::Resend(letter, event) => {
                self.letter(&space, &letter)?;
                let event = self.outside(again(&event), None)?;
                (position, fits) = (position + 1, vec![0]);
                Body::Letters { dropped: vec![letter], again: Some(event) }
            }
            Act::Drop(letter) => {
                self.letter(&space, &letter)?;
                Body::Letters { dropped: vec![letter], again: None }
            }
            Act::DropAll => {
                let dead = &self.spaces.get(&space).ok_or(Refused::Gone)?.dead;
                let dropped = dead.iter().take(LETTERS_PER_COMMIT_MAX).map(|(_, event)| *event).collect();
                Body::Letters { dropped, again: None }
            }
            Act::Checkpoint(checkpoint) => {
                let seq = self.spaces.get(&space).ok_or(Refused::Gone)?.seq;
                if checkpoint.seq == 0 || checkpoint.seq > seq {
                    return Err(Refused::Gone);
                }
                Body::Checkpoint(checkpoint)
            }
            Act::Prune(pruned) => {
                if pruned.order > self.order || !pruned.cuts.iter().all(|cut| self.can_cut(cut, pruned.order)) {
                    return Err(Refused::Gone);
                }
                Body::Pruned(pruned)
            }
            Act::Remove(writes, of) => {
                growth = of;
                Body::Removed(writes)
            }
            Act::Settle(queued, ending) => {
                self.check(&space, queued, &ending)?;
                taken = Some(self.place(queued));
                growth = ending.growth;
                let turn = self.end(space, queued, *ending, &mut fits);
                position += fits.len() as u64;
                Body::Turn(Box::new(turn))
            }
            Act::Segment(queued, ending, part) => {
                self.check(&space, queued, &ending)?;
                taken = Some(self.place(queued));
                growth = ending.growth;
                piece = Some(part.piece.clone());
                let segment = self.part(&space, queued, *ending, part, &mut fits)?;
                position += fits.len() as u64;
                Body::Segment(Box::new(segment))
            }
            Act::Retry(queued, after_ms) => {
                taken = Some(self.place(queued));
                Body::Retried(Box::new(self.retried(&space, queued, after_ms)?))
            }
            Act::Exchange(queued, Answered { before, recording, piece: of }) => {
                if !self.lacks_answer(queued, &before) {
                    return Err(Refused::Gone);
                }
                (taken, piece) = (Some(self.place(queued)), Some(of));
                let Event { id: event, sender, ref stream, .. } = queued.event;
                Body::Exchanged(Box::new(Exchanged { event, sender, stream: stream.clone(), recording }))
            }
        };
        let seq = self.spaces.get(&space).map_or(1, |space| space.seq + 1);
        let previous = Hash::default();
        let record = Record { version: record::VERSION, space, seq, previous, time_ms, body };
        let commit = Commit { order: self.order + 1, position, taken, record };
        Ok(Decided { commit, fits, growth, component, piece })
    }

    /// Returns whether the turn of an event, which was told what has this hash, waits for the answer to a request.
    pub fn lacks_answer(&self, queued: &Queued, told: &Hash) -> bool {
        let underway = self.spaces.get(&queued.event.to).and_then(|space| space.inbox.underway.get(queued.position));
        underway.is_some_and(|turn| turn.progress.lacks_answer() && turn.progress.recording == *told)
    }

    /// Returns the place of an event that is handled.
    fn place(&self, queued: &Queued) -> Taken {
        let late = self.late.contains(&queued.position) || queued.event.deliver_after.is_some();
        Taken { position: queued.position, late }
    }

    /// Returns whether a space's past may go: a checkpoint stands for it, and it has not gone.
    fn can_cut(&self, cut: &Cut, order: u64) -> bool {
        let Some(space) = self.spaces.get(&cut.space) else { return false };
        let records = cut.seq == 0 || (cut.seq == space.checkpoint.seq && cut.seq > space.floor && cut.order <= order);
        let messages = cut.messages <= cut.seq.max(space.floor);
        records && messages && cut.receipts >= space.receipts_floor && cut.receipts <= space.seq
    }

    /// Returns an event from outside as it enters the log.
    fn outside(&self, event: Event, supplied: Option<EventId>) -> Result<Event, Refused> {
        if !self.has_room(&event) {
            return Err(Refused::Full);
        }
        let id = supplied.unwrap_or_else(|| self.mint.outside(self.position + 1));
        Ok(Event { id, supplied: supplied.is_some(), ..event })
    }

    fn letter(&self, charm: &Did, letter: &EventId) -> Result<(), Refused> {
        let dead = self.spaces.get(charm).map(|space| &space.dead).ok_or(Refused::Gone)?;
        if dead.iter().any(|(_, event)| event == letter) { Ok(()) } else { Err(Refused::Gone) }
    }

    /// Checks that the event still waits, and that there is room for all that its turn leaves.
    fn check(&self, charm: &Did, queued: &Queued, ending: &Ending) -> Result<(), Refused> {
        let space = self.spaces.get(charm).filter(|space| space.inbox.holds(queued)).ok_or(Refused::Gone)?;
        if ending.failed.is_some() {
            return Ok(());
        }
        let installed = space.installed.map(|row| row.component);
        if ending.ran.is_some_and(|(_, component)| installed != Some(component)) {
            return Err(Refused::Replaced);
        }
        for (did, staged) in &ending.staged {
            let sender = if did == charm { Sender::Own } else { Sender::Charm(*charm) };
            if let Some(Space { inbox, .. }) = self.spaces.get(did).map(Box::as_ref)
                && !inbox.meter.has_room(&sender, *staged, &self.limits)
            {
                return Err(Refused::NoRoom { inbox: *did, used: inbox.meter.used(&sender) });
            }
        }
        space.usage.grown(&ending.growth).check(&self.limits).map_err(Refused::Limit)
    }

    /// Returns the end of an event: the receipt is made here, and goes to whom asked for it (S6).
    fn end(&self, charm: Did, queued: &Queued, ending: Ending, fits: &mut Vec<u64>) -> Turn {
        let event = &queued.event;
        let Ending { failed, ran, writes, sends: mut drafts, .. } = ending;
        let (outcome, message) = failed.map_or((Outcome::Committed, None), |(outcome, why)| (outcome, Some(why)));
        let committed = outcome == Outcome::Committed;
        let space = self.spaces.get(&charm);
        let commit = match committed {
            true => space.map(|space| space.seq + 1),
            // What it committed before stays.
            false => space
                .and_then(|space| space.inbox.underway.get(queued.position))
                .filter(|underway| underway.progress.segments > 0)
                .map(|underway| underway.progress.seq),
        };
        let receipt = Receipt { id: event.id, outcome, commit, message };
        let receipt_to = |on_commit| Draft::receipt(&self.mint, event.sender, on_commit, &receipt);
        drafts.extend(event.on_commit.as_ref().map(receipt_to));
        let dropped = outcome.leaves_letter(event).then(|| self.oldest_letter(&charm, event.id)).flatten();
        let (sends, ran) = (go_out(drafts, fits), ran.map(|(ran, _)| ran));
        Turn { sender: event.sender, stream: event.stream.clone(), receipt, writes, sends, dropped, ran }
    }

    /// Returns a part of a turn: the event stays where it is.
    fn part(
        &self,
        charm: &Did,
        queued: &Queued,
        ending: Ending,
        part: Part,
        fits: &mut Vec<u64>,
    ) -> Result<Segment, Refused> {
        let event = &queued.event;
        let Ending { ran, writes, sends, .. } = ending;
        let inbox = &self.spaces.get(charm).ok_or(Refused::Gone)?.inbox;
        self.may_set_out(inbox, queued)?;
        let segments = inbox.underway.get(queued.position).map_or(0, |underway| underway.progress.segments);
        let (ran, _) = ran.ok_or(Refused::Gone)?;
        let (stream, sends) = (event.stream.clone(), go_out(sends, fits));
        let Part { wait, recording, .. } = part;
        let (event, sender, number) = (event.id, event.sender, segments + 1);
        Ok(Segment { event, sender, stream, number, writes, sends, ran, wait, recording })
    }

    /// Returns that a turn is tried again.
    fn retried(&self, charm: &Did, queued: &Queued, after_ms: u64) -> Result<Retried, Refused> {
        let inbox = &self.spaces.get(charm).ok_or(Refused::Gone)?.inbox;
        if !inbox.holds(queued) {
            return Err(Refused::Gone);
        }
        self.may_set_out(inbox, queued)?;
        let number = inbox.underway.get(queued.position).map_or(0, |underway| underway.progress.retries) + 1;
        let Event { id: event, sender, ref stream, .. } = queued.event;
        Ok(Retried { event, sender, stream: stream.clone(), number, after_ms })
    }

    /// Returns whether the turn of an event may be under way, or is.
    fn may_set_out(&self, inbox: &Inbox, queued: &Queued) -> Result<(), Refused> {
        if inbox.underway.get(queued.position).is_some() || inbox.meter.may_set_out(&self.limits) {
            return Ok(());
        }
        Err(Refused::Limit(format!("over waiting-turns-max {}", self.limits.waiting_turns_max)))
    }
}

/// Returns the event of a dead letter as it is sent again: at once, and nobody asks for its receipt.
fn again(event: &Event) -> Event {
    let event = event.clone();
    Event { on_commit: None, awaited: false, deliver_after: None, expires_at: None, ..event }
}

/// Returns events as they go out; those that will wait give what they were checked against.
fn go_out(drafts: Vec<Draft>, fits: &mut Vec<u64>) -> Vec<Sent> {
    let sent = drafts.into_iter().map(|Draft { mut event, refused, fits: of }| {
        if refused.is_some() {
            // What is not delivered takes no room in the log.
            event.payload = Value::null();
        } else {
            fits.push(of);
        }
        Sent { event, refused }
    });
    sent.collect()
}
