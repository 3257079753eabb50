//! The commit point: a transaction's reads are checked, and what it brings takes place at once, in memory (T4, T5).

use std::{sync::Arc, time::Duration};

use tracing::level_filters::LevelFilter;

use super::{Committer, Derive, Failure, Locked, Notice, group::Haste, item::Item};
use crate::{
    cell::CellId,
    core::{Act, Commit, Decided, Draft, Effects, Ending, Growth, Live, Part, Refused},
    did::Did,
    directory::Directory,
    event::EventId,
    log::{say, within},
    path::Path,
    receipt::{self, Outcome},
    record::{Body, Hash, Ran, Write},
    rows::Queued,
    tx::{
        Cause, Transaction,
        read_set::{Checked, Last},
        staged::Written,
        versions::{Change, Released, Snapshot},
    },
    value::Tree,
};

/// What the receipt of a withdrawn event says.
const WITHDRAWN: &str = "its sender withdrew the event before it began";
/// How often the reads of a commit are checked outside the lock before any change of what was read is a conflict.
const CHECKS_MAX: usize = 4;

impl Committer {
    /// Commits a turn: its writes, the acknowledgement of its event, its sends and receipts, as one (T5).
    /// With a `part` it is a segment of the turn, which waits then: its event is acknowledged by a later one (S7).
    /// Returns the sequence number in the charm's space. `ran` is what ran, and of which component.
    ///
    /// What takes long happens before the lock: the reads are checked at some commit, in steps, and what the commit
    /// brings is made ready. Under the lock only what was committed since is looked at, up to a bound: when there is more,
    /// it is checked outside again.
    ///
    /// # Errors
    /// [`Failure`] leaves nothing behind but the event, which still waits.
    pub async fn commit(
        &self,
        mut tx: Transaction,
        queued: &Arc<Queued>,
        ran: (Ran, Hash),
        part: Option<Part>,
        derive: &dyn Derive,
    ) -> Result<u64, Failure> {
        let mut checked = Checked::begin(&tx.view.snapshot);
        let (mut ending, cells) = self.ending(&mut tx, ran);
        let mut checks = 0;
        let (done, after) = loop {
            checks += 1;
            let derived = self.prove_derived(&mut tx, derive, &cells).await;
            let read = tx.reads.check(&tx.view.snapshot, &mut checked).await;
            let now = self.now();
            let mut locked = self.open().map_err(Failure::Unavailable)?;
            let number = locked.directory.number();
            let is_proved = tx.proved.as_ref().is_none_or(|proved| derived.is_err() || proved.directory == number);
            if number != tx.view.directory.number() || !is_proved {
                drop(locked);
                self.check_rights(&mut tx, &mut ending)?;
                checks -= 1;
                continue;
            }
            let held = match read {
                // A snapshot that was given back shows nothing: what was compared with it says nothing either.
                _ if tx.is_lost() => Err(Cause::Lost { max: self.limits.old_versions_bytes_max }),
                Ok(()) => tx.reads.check_last(&tx.view.snapshot, &checked, checks == CHECKS_MAX).map_err(Cause::Read),
                Err(conflict) => Err(Cause::Read(conflict)),
            };
            let held = match (held, derived) {
                (Ok(Last::Holds), Ok(())) => self.prove_derived_last(&tx, checks == CHECKS_MAX),
                (held, Ok(())) | (held @ Err(_), _) => held,
                (Ok(_), Err(cause)) => Err(cause),
            };
            match held {
                Ok(Last::Again) => continue,
                Ok(Last::Holds) => {}
                Err(cause) => {
                    locked.conflicts += 1;
                    return Err(Failure::Conflict(cause));
                }
            }
            let charm = tx.writer;
            let cells = if cells.is_empty() { None } else { Some((cells, tx.view.snapshot)) };
            let act = match part {
                Some(part) => Act::Segment(queued, Box::new(ending), part),
                None => Act::Settle(queued, Box::new(ending)),
            };
            let performed = self.perform(&mut locked, charm, now, act, cells, &tx.withdrawn);
            break performed.map_err(|refused| match refused {
                Refused::NoRoom { inbox, used } => {
                    locked.conflicts += 1;
                    Failure::Conflict(Cause::Full { inbox, events: used.events, bytes: used.bytes })
                }
                Refused::Replaced => {
                    locked.conflicts += 1;
                    Failure::Conflict(Cause::Component)
                }
                Refused::Limit(text) => Failure::Limit(text),
                // Its turn may have panicked after its commit: the event is settled.
                Refused::Gone | Refused::Known | Refused::Full => {
                    Failure::Limit("the event was settled meanwhile".to_owned())
                }
            })?;
        };
        self.tell(after);
        Ok(done.seq)
    }

    /// Counts a conflict that a turn meets where nothing is locked: before its commit, or in the rights that hold then.
    pub fn beaten(&self, cause: Cause) -> Failure {
        self.locked().conflicts += 1;
        Failure::Conflict(cause)
    }

    /// Makes ready what a transaction brings. No other commit changes the cells of a charm while its turn runs.
    fn ending(&self, tx: &mut Transaction, ran: (Ran, Hash)) -> (Ending, Vec<Change>) {
        while tx.finish_next().is_some() {}
        let mut growth = Growth::default();
        let mut writes = Vec::with_capacity(tx.written.len());
        let mut cells = Vec::with_capacity(tx.written.len());
        for (name, Written { after, edits, replaced, .. }) in std::mem::take(&mut tx.written) {
            // A name that was removed begins anew.
            let before = self.versions.latest(&tx.writer, &name).filter(|version| version.value.is_some());
            growth.change(
                before.as_ref().and_then(|version| version.value.as_ref()).map(Tree::len),
                after.as_ref().map(Tree::len),
            );
            let previous = before.map_or(0, |version| version.seq);
            writes.push(Write { name: name.clone(), previous, edits });
            cells.push(Change { name, value: after, replaced });
        }
        let sends = std::mem::take(&mut tx.sends).into_iter();
        let sends = sends.map(|(event, fits)| Draft { event, refused: None, fits }).collect();
        let staged = std::mem::take(&mut tx.staged);
        let mut ending = Ending { failed: None, ran: Some(ran), writes, growth, sends, staged };
        self.judge(&mut ending, &tx.view.directory);
        (ending, cells)
    }

    /// Decides which sends are delivered, and makes the receipts of those that are not.
    fn judge(&self, ending: &mut Ending, directory: &Directory) {
        ending.sends.retain(|draft| draft.event.receipt_of.is_none());
        for Draft { event, refused, .. } in &mut ending.sends {
            *refused = directory.deliver(&event.sender, &event.to, &event.stream).err();
        }
        let refusals: Vec<Draft> = ending.sends.iter().filter_map(|draft| self.refusal_receipt(draft)).collect();
        ending.sends.extend(refusals);
    }

    /// Looks at what the transaction read and sends with the rights of now, which are others than it began with: a
    /// read whose right is gone is a conflict (A2).
    fn check_rights(&self, tx: &mut Transaction, ending: &mut Ending) -> Result<(), Failure> {
        let directory = self.directory();
        let listed: Vec<CellId> = tx.reads.listed().collect();
        if let Some(cell) = directory.uncovered(&tx.writer, tx.reads.cells().chain(&listed)) {
            return Err(self.beaten(Cause::Right { cell: cell.clone() }));
        }
        // One that was written is derived from now on: it is another cell.
        if let Some(cell) = tx.reads.written().find(|cell| directory.derivation(&cell.owner, &cell.name).is_some()) {
            let cause = Cause::Derived { cell: cell.clone(), path: Path::root(), below: Vec::new() };
            return Err(self.beaten(cause));
        }
        self.judge(ending, &directory);
        tx.view.directory = directory;
        Ok(())
    }

    /// Lets one thing happen, with the cells that it changes, and events that its charm withdraws; what is left is for [`Committer::tell`], after the lock.
    pub(super) fn perform(
        &self,
        locked: &mut Locked,
        space: Did,
        (now, at): (u64, Duration),
        act: Act<'_>,
        cells: Option<(Vec<Change>, Snapshot)>,
        withdrawn: &[EventId],
    ) -> Result<(Done, After), Refused> {
        let decided = locked.core.decide(space, now, act)?;
        let (done, mut after, item) = self.happen(locked, decided, at, cells);
        // Who waits for a commit says so, who waits for a receipt is known.
        let haste = match &item {
            Item::Commit { effects, .. } if effects.taken.as_ref().is_some_and(|queued| locked.awaits(queued)) => {
                Haste::Now
            }
            // Its sender waits for the end of its turn.
            Item::Commit { commit, .. } if matches!(&commit.record.body, Body::Accepted(event) if event.awaited) => {
                Haste::Later
            }
            _ => Haste::Soon,
        };
        if withdrawn.is_empty() {
            self.group.push([item], haste);
            return Ok((done, after));
        }
        let mut items = vec![item];
        for queued in withdrawn.iter().filter_map(|id| locked.core.withdraw(&space, id)).collect::<Vec<_>>() {
            let failed = Some((Outcome::Cancelled, WITHDRAWN.to_owned()));
            let ending = Box::new(Ending { failed, ..Ending::default() });
            let Ok(decided) = locked.core.decide(queued.event.to, now, Act::Settle(&queued, ending)) else { continue };
            let (_, more, item) = self.happen(locked, decided, at, None);
            after.more.push(more);
            items.push(item.joined());
        }
        self.group.push(items, haste);
        Ok((done, after))
    }

    /// Lets several things happen, in order, which reach the group at once; what is refused does not.
    pub(super) fn perform_all<'a>(
        &self,
        locked: &mut Locked,
        (now, at): (u64, Duration),
        acts: impl Iterator<Item = (Did, Act<'a>)>,
    ) -> Vec<After> {
        let (mut afters, mut items) = (Vec::new(), Vec::new());
        for (space, act) in acts {
            let Ok(decided) = locked.core.decide(space, now, act) else { continue };
            let (_, after, item) = self.happen(locked, decided, at, None);
            afters.push(after);
            items.push(item);
        }
        self.group.push(items, Haste::Soon);
        afters
    }

    /// The commit point in memory: what is decided happens, and its cells are published. Whoever holds the lock hands it to
    /// the group.
    ///
    /// What could fail is made first. Should the rest fail all the same, the lock is poisoned and the host stops: see
    /// [`Committer::locked`].
    fn happen(
        &self,
        locked: &mut Locked,
        decided: Decided,
        at: Duration,
        cells: Option<(Vec<Change>, Snapshot)>,
    ) -> (Done, After, Item) {
        let Decided { commit, fits, growth, component, piece } = decided;
        let (space, seq, order) = (commit.record.space, commit.record.seq, commit.order);
        let before = locked.core.next_deadline();
        let effects = locked.core.apply(&commit, Live { at, fits, growth, component, piece });
        if locked.core.next_deadline() != before {
            self.sooner.notify_one();
        }
        let released = match cells {
            Some((cells, snapshot)) => self.versions.apply(&space, order, seq, cells, snapshot),
            None => {
                self.versions.advance(order);
                Released::default()
            }
        };
        let told = self.follow(locked, &space, &effects);
        // The level is a number in memory; the embedder's subscriber is asked after the lock.
        let detailed = LevelFilter::current() >= LevelFilter::DEBUG;
        let sends = if detailed { said(&commit) } else { Vec::new() };
        let done = Done { seq, order, queued: effects.queued.first().map(|queued| queued.event.id) };
        let event = commit.record.handles();
        let said = Said { charm: space, done, event, sends };
        let wakes = effects.wakes().collect();
        let item = Item::Commit { commit: Box::new(commit), effects: Box::new(effects), at, joined: false };
        (done, After { wakes, said, told, released, more: Vec::new() }, item)
    }

    /// Notes what the operator is told of a charm, beside the log; returns what is told at once.
    fn follow(&self, locked: &mut Locked, charm: &Did, effects: &Effects) -> Option<String> {
        let dropped = locked.logs.get(charm).map_or(0, |log| log.dropped());
        let space = locked.core.spaces.get_mut(charm)?;
        let is_turn = effects.taken.is_some() || effects.turn.is_some();
        if is_turn && (effects.deep.is_some() || dropped > space.notes.dropped) {
            space.notes.dropped = space.notes.dropped.max(dropped);
            let told = effects.deep.map(|depth| {
                space.notes.chain = depth;
                format!(
                    "charm {name} ({charm}): a chain of {depth} events, faster than {} a second, is served after everybody \
                     else: charm pause {name} stops it",
                    self.limits.chain_events_per_second,
                    name = space.name,
                )
            });
            self.group.push([Item::Notes { charm: *charm, notes: space.notes, told }], Haste::Soon);
        }
        let count = effects.letters_gone?;
        let (name, max) = (&space.name, self.limits.dead_letters_max);
        Some(format!(
            "charm {name} ({charm}): more than dead-letters-max {max} dead letters: the oldest go, {count} so far: charm \
             events {name} --dead lists those that are left"
        ))
    }

    /// Does what follows a commit and needs no lock: wakes, logs, gives memory back.
    pub(super) fn tell(&self, after: After) {
        let After { wakes, said, told, released, more } = after;
        wakes.into_iter().for_each(|did| (self.notify)(Notice::Work(did)));
        self.versions.release(released);
        if let Some(told) = told {
            say(|| tracing::warn!("{told}"));
        }
        let event = said.event.map(tracing::field::display);
        let commit =
            || tracing::info_span!("commit", space = %said.charm, seq = said.done.seq, order = said.done.order, event);
        within(commit, || {
            for (id, to, stream, refused) in &said.sends {
                let stream = crate::text::clean(stream);
                let send = || tracing::debug_span!("send", event = %id, %to, %stream);
                within(send, || match refused {
                    Some(outcome) => say(|| tracing::debug!(%outcome, "refused")),
                    None => say(|| tracing::debug!("queued")),
                });
            }
            say(|| tracing::debug!("committed"));
        });
        more.into_iter().for_each(|after| self.tell(after));
    }

    fn refusal_receipt(&self, draft: &Draft) -> Option<Draft> {
        let outcome = draft.refused?;
        let on_commit = draft.event.on_commit.as_ref()?;
        let receipt = receipt::refused(&draft.event, outcome);
        Some(Draft::receipt(&self.mint, draft.event.sender, on_commit, &receipt))
    }
}

/// What has happened.
#[derive(Clone, Copy)]
pub(super) struct Done {
    /// Its number in its space.
    pub seq: u64,
    /// Its number in the host.
    pub order: u64,
    /// The first event that waits from now on.
    pub queued: Option<EventId>,
}

/// What is left to do after the lock.
pub(super) struct After {
    wakes: Vec<Did>,
    said: Said,
    /// What the operator is told.
    told: Option<String>,
    released: Released,
    /// Of what happened with it.
    more: Vec<After>,
}

/// What the log says of a commit: names only.
struct Said {
    charm: Did,
    done: Done,
    /// The event that it handles.
    event: Option<EventId>,
    sends: Vec<(EventId, Did, Arc<str>, Option<Outcome>)>,
}

fn said(commit: &Commit) -> Vec<(EventId, Did, Arc<str>, Option<Outcome>)> {
    let sends = commit.record.sends();
    sends.map(|(event, refused)| (event.id, event.to, event.stream.clone(), refused)).collect()
}
