//! What is durable, in numbers: what the host tells of its spaces and events (T8).

use std::collections::{BTreeSet, HashMap};

use super::{
    Committer,
    history::{Keep, Keeps},
};
use crate::{
    core::{Commit, Effects},
    counters::Counters,
    did::Did,
    listing::SpaceInfo,
    receipt::Outcome,
    record::Body,
    rows::{Image, Notes, SpaceRow},
    store::Lag,
};

/// The numbers of all spaces, as of the last durable batch.
#[derive(Default)]
pub(super) struct Figures {
    spaces: HashMap<Did, SpaceInfo>,
    /// Positions of events that are held.
    held: BTreeSet<u64>,
    /// All but `waiting` and `conflicts`.
    counters: Counters,
    /// The last commit of each space that its own key has signed.
    signed: HashMap<Did, u64>,
    /// How much of their past spaces keep.
    keeps: Keeps,
}

/// What a commit is, for what charms keep of their past.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something happened.
    Work,
    /// What a space came to is written down: its past is no reason for another one.
    Checkpoint,
    /// Pasts go.
    Pruned,
}

/// What one item of a batch changes in them.
pub(super) enum Change {
    /// There is one more space.
    Space(Box<SpaceRow>),
    /// A charm has other notes.
    Notes(Did, Notes),
    /// A space has that commit, with a record of so many bytes.
    Commit { space: Did, seq: u64, bytes: usize, kind: Kind },
    /// The past of a space has gone up to its last checkpoint, that commit.
    Cut(Did, u64),
    /// An event went out, and waits for that charm unless it was refused.
    Sent(Option<Did>),
    /// An event ended so; it had waited for that charm at that position.
    Settled(Outcome, Option<(Did, u64)>),
    /// A charm has one dead letter more.
    Letter(Did),
    /// A charm has so many dead letters less; because there were too many, or somebody dropped them.
    Buried { charm: Did, count: u64, too_many: bool },
}

/// Adds what a commit changes.
pub(super) fn changes(commit: &Commit, effects: &Effects, bytes: usize, into: &mut Vec<Change>) {
    let record = &commit.record;
    if let Body::Registered { name } = &record.body {
        into.push(Change::Space(Box::new(SpaceRow::new(record.space, name.clone()))));
    }
    let kind = match &record.body {
        Body::Checkpoint(_) => Kind::Checkpoint,
        Body::Pruned(_) => Kind::Pruned,
        _ => Kind::Work,
    };
    into.push(Change::Commit { space: record.space, seq: record.seq, bytes, kind });
    into.extend(effects.cuts.iter().filter(|cut| cut.floor.seq > 0).map(|cut| Change::Cut(cut.space, cut.floor.seq)));
    into.extend(effects.notes.map(|notes| Change::Notes(record.space, notes)));
    for (event, refused) in record.sends() {
        into.push(Change::Sent(refused.is_none().then_some(event.to)));
        into.extend(refused.map(|outcome| Change::Settled(outcome, None)));
    }
    if let (Some(turn), Some(queued)) = (record.turn(), &effects.taken) {
        into.push(Change::Settled(turn.receipt.outcome, Some((record.space, queued.position))));
        into.extend(effects.is_letter.then_some(Change::Letter(record.space)));
    }
    let (count, too_many) = (effects.buried.len() as u64, effects.taken.is_some());
    if count > 0 {
        into.push(Change::Buried { charm: record.space, count, too_many });
    }
}

fn info(row: &SpaceRow) -> SpaceInfo {
    SpaceInfo {
        did: row.did,
        name: row.name.clone(),
        commits: row.seq,
        waiting: 0,
        held: 0,
        dead: 0,
        letters_dropped: row.letters_dropped,
        history_bytes: row.history_bytes,
        floor: row.floor.seq,
        notes: row.notes,
    }
}

impl Figures {
    /// Returns those of what a store holds.
    pub fn load(image: &Image, usual: Keep) -> Figures {
        let spaces = image.spaces.iter().map(|row| (row.did, info(row))).collect();
        let counters = Counters { found: image.queued.len() as u64, ..Counters::default() };
        let signed = image.spaces.iter().filter_map(|row| Some((row.did, row.signed?.0))).collect();
        let mut figures = Figures { spaces, held: BTreeSet::new(), counters, signed, keeps: Keeps::load(image, usual) };
        for queued in &image.queued {
            figures.space(&queued.event.to, |space| space.waiting += 1);
        }
        for cut in image.cuts.iter().filter(|cut| cut.floor.seq > 0) {
            figures.apply(&[Change::Cut(cut.space, cut.floor.seq)]);
        }
        for (charm, ..) in &image.dead {
            figures.space(charm, |space| space.dead += 1);
        }
        figures
    }

    fn space(&mut self, did: &Did, change: impl FnOnce(&mut SpaceInfo)) {
        if let Some(space) = self.spaces.get_mut(did) {
            change(space);
        }
    }

    /// Takes in what is durable now.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match *change {
                Change::Space(ref row) => drop(self.spaces.entry(row.did).or_insert_with(|| info(row))),
                Change::Notes(charm, notes) => self.space(&charm, |space| space.notes = notes),
                Change::Commit { space: did, seq, bytes, kind } => {
                    let mut history = 0;
                    self.space(&did, |space| {
                        (space.commits, space.history_bytes) = (seq, space.history_bytes + bytes as u64);
                        history = space.history_bytes;
                    });
                    if kind == Kind::Checkpoint {
                        self.keeps.checkpoint(&did);
                    } else {
                        self.keeps.grown(&did, history);
                    }
                    self.keeps.work += u64::from(kind == Kind::Work);
                }
                Change::Cut(did, floor) => {
                    let gone = self.keeps.cut(&did);
                    self.space(&did, |space| {
                        (space.floor, space.history_bytes) = (floor, space.history_bytes.saturating_sub(gone));
                    });
                }
                Change::Sent(to) => {
                    self.counters.sent += 1;
                    if let Some(to) = to {
                        self.space(&to, |space| space.waiting += 1);
                    }
                }
                Change::Settled(outcome, waited) => {
                    self.counters.settle(outcome);
                    if let Some((charm, position)) = waited {
                        self.space(&charm, |space| space.waiting -= 1);
                        self.release(&charm, position);
                    }
                }
                Change::Letter(charm) => self.space(&charm, |space| space.dead += 1),
                Change::Buried { charm, count, too_many } => self.space(&charm, |space| {
                    space.dead -= count as usize;
                    space.letters_dropped += if too_many { count } else { 0 };
                }),
            }
        }
    }

    /// Takes in which heads their own keys have signed.
    pub fn sign(&mut self, signed: &[(Did, u64, [u8; 64])]) {
        self.signed.extend(signed.iter().map(|(did, seq, _)| (*did, *seq)));
    }

    /// Returns the last commit of a space that its own key has signed.
    pub fn signed(&self, space: &Did) -> u64 {
        self.signed.get(space).copied().unwrap_or(0)
    }

    /// Returns what the records of a space take, in bytes.
    pub fn history(&self, space: &Did) -> u64 {
        self.spaces.get(space).map_or(0, |space| space.history_bytes)
    }

    /// Returns how much of their past spaces keep.
    pub fn keeps(&mut self) -> &mut Keeps {
        &mut self.keeps
    }

    /// Returns every space that is durable, in no order.
    pub fn dids(&self) -> Vec<Did> {
        self.spaces.keys().copied().collect()
    }

    /// Counts an event as held.
    pub fn hold(&mut self, charm: &Did, position: u64) {
        if self.held.insert(position) {
            self.space(charm, |space| space.held += 1);
        }
    }

    /// Counts an event as held no more.
    pub fn release(&mut self, charm: &Did, position: u64) {
        if !self.held.is_empty() && self.held.remove(&position) {
            self.space(charm, |space| space.held -= 1);
        }
    }
}

impl Committer {
    /// Returns every space that is durable, by name.
    pub fn spaces(&self) -> Vec<SpaceInfo> {
        let mut spaces: Vec<SpaceInfo> = self.group.figures().spaces.values().cloned().collect();
        spaces.sort_by(|a, b| a.name.cmp(&b.name));
        spaces
    }

    /// Returns the DID of the space with this name, once it is durable.
    pub fn durable_did_of(&self, name: &str) -> Option<Did> {
        let did = self.did_of(name)?;
        self.group.figures().spaces.contains_key(&did).then_some(did)
    }

    /// Returns the number of a space's last durable commit; none when there is no such space.
    pub fn last_commit(&self, space: &Did) -> Option<u64> {
        self.group.figures().spaces.get(space).map(|space| space.commits)
    }

    /// Returns what was counted so far.
    pub fn counters(&self) -> Counters {
        let conflicts = self.locked().conflicts;
        let counters = self.group.figures().counters;
        let waiting = counters.found + counters.sent - counters.settled();
        let Lag { groups, bytes } = self.group.store.lag();
        let (lag_groups, lag_bytes) = (groups as u64, bytes as u64);
        Counters { waiting, conflicts, lag_groups, lag_bytes, ..counters }
    }
}
