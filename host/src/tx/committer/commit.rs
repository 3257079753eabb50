//! The commit point: a transaction's reads are checked, and what it brings takes place at once, in memory (T4, T5).

use std::{sync::Arc, time::Duration};

use tracing::level_filters::LevelFilter;

use super::{
    Committer, Failure, Notice,
    chain::Chain,
    draft::Draft,
    group::Item,
    inbox::{Growth, Space, Usage},
    state::{Open, State},
};
use crate::{
    did::Did,
    directory::Directory,
    event::EventId,
    log::{say, within},
    meter::{Amount, Sender},
    receipt::{self, Outcome, Receipt},
    record::{self, Record, Sent, Taken, Write},
    store::Queued,
    tx::{
        Cause, Transaction,
        read_set::{Checked, Last},
        versions::{Released, Snapshot},
    },
    value::Value,
};

/// How often the reads of a commit are checked outside the lock before any change of what was read is a conflict.
const CHECKS_MAX: usize = 4;

impl Committer {
    /// Commits a turn: its writes, the acknowledgement of its event, its sends and receipts, as one (T5).
    /// Returns the sequence number in the charm's space.
    ///
    /// What takes long happens before the lock: the reads are checked at some commit, in steps, and what the commit
    /// brings is made ready. Under the lock only what was committed since is looked at, up to a bound: when there is more,
    /// it is checked outside again.
    ///
    /// # Errors
    /// [`Failure`] leaves nothing behind but the event, which still waits.
    pub async fn commit(&self, mut tx: Transaction, queued: &Arc<Queued>) -> Result<u64, Failure> {
        let mut checked = Checked::begin(&tx.snapshot);
        let mut parcel = self.parcel(&mut tx);
        let mut checks = 0;
        let (seq, after) = loop {
            checks += 1;
            let read = tx.reads.check(&tx.snapshot, &mut checked).await;
            let (now, at) = (self.env.now_ms(), self.env.monotonic());
            let mut state = self.open_state().map_err(Failure::Unavailable)?;
            if state.directory.number() != tx.directory.number() {
                drop(state);
                self.check_rights(&mut tx, &mut parcel)?;
                checks -= 1;
                continue;
            }
            let held = match read {
                // A snapshot that was given back shows nothing: what was compared with it says nothing either.
                _ if tx.is_lost() => Err(Cause::Lost { max: self.limits.old_versions_bytes_max }),
                Ok(()) => tx.reads.check_last(&tx.snapshot, &checked, checks == CHECKS_MAX).map_err(Cause::Read),
                Err(conflict) => Err(Cause::Read(conflict)),
            };
            let held = match held {
                Ok(Last::Again) => continue,
                Ok(Last::Holds) => self.check_room(&state, &tx),
                Err(cause) => Err(cause),
            };
            if let Err(cause) = held {
                state.conflicts += 1;
                return Err(Failure::Conflict(cause));
            }
            let usage = state.spaces.get(&tx.writer).map(|space| space.usage).unwrap_or_default();
            let usage = usage.grown(&parcel.growth);
            usage.check(&self.limits).map_err(Failure::Limit)?;

            let charm = tx.writer;
            let seq = state.next_seq(&charm);
            let receipt =
                Receipt { id: queued.event.id, outcome: Outcome::Committed, commit: Some(seq), message: None };
            let Parcel { writes, cells, mut sends, refusals, .. } = parcel;
            let cells = if cells.is_empty() { None } else { Some((cells, tx.snapshot)) };
            sends.extend(refusals);
            let (taken, usage) = (Some((queued, receipt)), Some(usage));
            let commit = Commit { usage, cells, writes, sends, ..Commit::new(charm, (now, at), taken) };
            break (seq, self.publish(&mut state, commit));
        };
        self.tell(after);
        Ok(seq)
    }

    /// Counts a turn whose snapshot was given back as a conflict.
    pub fn lost(&self) -> Failure {
        self.state().conflicts += 1;
        Failure::Conflict(Cause::Lost { max: self.limits.old_versions_bytes_max })
    }

    /// Makes ready what a transaction brings. No other commit changes the cells of a charm while its turn runs.
    fn parcel(&self, tx: &mut Transaction) -> Parcel {
        let mut growth = Growth::default();
        let mut writes = Vec::with_capacity(tx.writes.len());
        for (name, value) in &tx.writes {
            let before = self.versions.latest(&tx.writer, name);
            growth.change(before.as_ref().map(|version| version.value.as_ref()), Some(value.as_ref()));
            let previous_order = before.map_or(0, |version| version.order);
            writes.push(Write { name: name.clone(), previous_order, value: value.clone() });
        }
        let cells = std::mem::take(&mut tx.writes).into_iter().collect();
        let sends = std::mem::take(&mut tx.sends).into_iter();
        let sends = sends.map(|(event, fits)| Draft { event, refused: None, fits }).collect();
        let mut parcel = Parcel { writes, cells, growth, sends, refusals: Vec::new() };
        self.judge(&mut parcel, &tx.directory);
        parcel
    }

    /// Decides which sends are delivered, and makes the receipts of those that are not.
    fn judge(&self, parcel: &mut Parcel, directory: &Directory) {
        for Draft { event, refused, .. } in &mut parcel.sends {
            *refused = directory.deliver(&event.sender, &event.to, &event.stream).err();
        }
        parcel.refusals = parcel.sends.iter().filter_map(|draft| self.refusal_receipt(draft)).collect();
    }

    /// Looks at what the transaction read and sends with the rights of now, which are others than it began with: a
    /// read whose right is gone is a conflict (A2).
    fn check_rights(&self, tx: &mut Transaction, parcel: &mut Parcel) -> Result<(), Failure> {
        let directory = self.directory();
        if let Some(cell) = directory.uncovered(&tx.writer, tx.reads.cells()) {
            let cause = Cause::Right { cell: cell.clone() };
            self.state().conflicts += 1;
            return Err(Failure::Conflict(cause));
        }
        self.judge(parcel, &directory);
        tx.directory = directory;
        Ok(())
    }

    /// Checks that there is room for every send.
    fn check_room(&self, state: &State, tx: &Transaction) -> Result<(), Cause> {
        for (did, staged) in &tx.staged {
            let sender = if *did == tx.writer { Sender::Own } else { Sender::Charm(tx.writer) };
            if let Some(Space { inbox, .. }) = state.spaces.get(did)
                && !inbox.meter.has_room(&sender, *staged, &self.limits)
            {
                let Amount { events, bytes } = inbox.meter.used(&sender);
                return Err(Cause::Full { inbox: *did, events, bytes });
            }
        }
        Ok(())
    }

    /// The commit point in memory: publishes the cells, queues what goes out, settles what is settled, hands the record to
    /// the group. What it returns is for [`Committer::tell`], after the lock.
    ///
    /// What could fail is made first. Should the rest fail all the same, the lock is poisoned and the host stops: see
    /// [`Committer::state`].
    pub(super) fn publish(&self, state: &mut State, commit: Commit<'_>) -> After {
        let Commit { charm, usage, now, at, taken, cells, writes, sends: mut drafts, mut buried, letters_of } = commit;
        let mut oldest = None;
        if let Some((queued, receipt)) = &taken {
            let event = &queued.event;
            let receipt_to = |on_commit| Draft::receipt(&self.mint, event.sender, on_commit, receipt);
            drafts.extend(event.on_commit.as_ref().map(receipt_to));
            if receipt.outcome.leaves_letter(event) {
                oldest = state.oldest_letter(&charm, queued.position, &self.limits);
                buried.extend(oldest);
            }
        }
        let seq = state.next_seq(&charm);

        state.advance(&charm, usage);
        let released = match cells {
            Some((cells, snapshot)) => self.versions.apply(&charm, state.order, seq, cells, snapshot),
            None => {
                self.versions.advance(state.order);
                Released::default()
            }
        };
        let (mut chain, mut told) = (Chain::default(), None);
        if let Some((queued, receipt)) = &taken {
            chain = self.follow(state, queued, at);
            if receipt.outcome.leaves_letter(&queued.event) {
                let dropped = state.add_letter(&charm, queued.position, oldest, at);
                told = dropped.map(|count| self.letters_dropped(state, &charm, count));
            }
        }
        let mut wakes = Vec::with_capacity(drafts.len());
        let mut sent = Vec::with_capacity(drafts.len());
        let null = Value::null();
        for Draft { mut event, refused, fits } in drafts {
            let position = match refused {
                Some(_) => {
                    // What is not delivered takes no room in the log.
                    event.payload = null.clone();
                    state.open.insert(event.id, Open::new(None, state.order));
                    None
                }
                None => {
                    state.position += 1;
                    wakes.push(event.to);
                    state.enqueue(Arc::new(Queued { position: state.position, event: event.clone() }), chain, fits);
                    Some(state.position)
                }
            };
            sent.push(Sent { event, position, refused });
        }
        let record = Record {
            version: record::VERSION,
            space: charm,
            seq,
            previous: record::Hash::default(),
            order: state.order,
            time_ms: now,
            taken: taken.as_ref().map(|(queued, receipt)| Taken {
                position: queued.position,
                sender: queued.event.sender,
                stream: queued.event.stream.clone(),
                receipt: receipt.clone(),
                late: state.late.contains(&queued.position),
            }),
            writes,
            sends: sent,
            buried,
        };
        // The level is a number in memory; the embedder's subscriber is asked after the lock.
        let detailed = LevelFilter::current() >= LevelFilter::DEBUG;
        let sends = record.sends.iter().filter(|_| detailed).map(said).collect();
        let said = Said { charm, seq, order: state.order, sends };
        let taken = taken.map(|(queued, _)| queued.clone());
        let position = state.position;
        self.group.push(Item::Commit { record: Box::new(record), taken, position, at, letters_of });
        After { wakes, said, told, released }
    }

    /// Returns what the operator is told of dead letters that went.
    fn letters_dropped(&self, state: &State, charm: &Did, count: u64) -> String {
        let name = state.spaces.get(charm).map_or("", |space| &space.name);
        let max = self.limits.dead_letters_max;
        format!(
            "charm {name} ({charm}): more than dead-letters-max {max} dead letters: the oldest go, {count} so far: charm \
             events {name} --dead lists those that are left"
        )
    }

    /// Does what follows a commit and needs no lock: wakes, logs, gives memory back.
    pub(super) fn tell(&self, after: After) {
        let After { wakes, said, told, released } = after;
        wakes.into_iter().for_each(|did| (self.notify)(Notice::Work(did)));
        self.versions.release(released);
        if let Some(told) = told {
            say(|| tracing::warn!("{told}"));
        }
        let commit = || tracing::info_span!("commit", space = %said.charm, seq = said.seq, order = said.order);
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
    }

    fn refusal_receipt(&self, draft: &Draft) -> Option<Draft> {
        let outcome = draft.refused?;
        let on_commit = draft.event.on_commit.as_ref()?;
        let receipt = receipt::refused(&draft.event, outcome);
        Some(Draft::receipt(&self.mint, draft.event.sender, on_commit, &receipt))
    }
}

/// One commit on its way to [`Committer::publish`].
pub(super) struct Commit<'a> {
    pub charm: Did,
    /// How full the space is after it; none when that stays.
    pub usage: Option<Usage>,
    pub now: u64,
    /// The same moment on the clock that never goes back.
    pub at: Duration,
    pub taken: Option<(&'a Arc<Queued>, Receipt)>,
    /// The cells that it writes, and the snapshot that they were read from; none when it writes nothing.
    pub cells: Option<(Cells, Snapshot)>,
    pub writes: Vec<Write>,
    pub sends: Vec<Draft>,
    /// Dead letters that go, and whose they are.
    pub buried: Vec<u64>,
    pub letters_of: Did,
}

impl<'a> Commit<'a> {
    /// Returns one that writes and sends nothing.
    pub fn new(charm: Did, (now, at): (u64, Duration), taken: Option<(&'a Arc<Queued>, Receipt)>) -> Commit<'a> {
        let (usage, cells, writes, sends, buried) = Default::default();
        Commit { charm, usage, now, at, taken, cells, writes, sends, buried, letters_of: charm }
    }
}

/// Cells as a commit leaves them; none is a removal.
type Cells = Vec<(Arc<str>, Option<Value>)>;

/// What a transaction brings to its commit.
struct Parcel {
    writes: Vec<Write>,
    cells: Cells,
    growth: Growth,
    sends: Vec<Draft>,
    /// The receipts of those that are refused.
    refusals: Vec<Draft>,
}

/// What is left to do after the lock.
pub(super) struct After {
    wakes: Vec<Did>,
    said: Said,
    /// What the operator is told.
    told: Option<String>,
    released: Released,
}

/// What the log says of a commit: names only.
struct Said {
    charm: Did,
    seq: u64,
    order: u64,
    sends: Vec<(EventId, Did, Arc<str>, Option<Outcome>)>,
}

fn said(sent: &Sent) -> (EventId, Did, Arc<str>, Option<Outcome>) {
    (sent.event.id, sent.event.to, sent.event.stream.clone(), sent.refused)
}
