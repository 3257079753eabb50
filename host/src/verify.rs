//! Proves stores: one space with nothing but its DID (I2, I3), or a whole store by the laws that its log obeys
//! (T5, S2-S6, S11). Reads a space's past (C6).
//!
//! A proof is of one picture, what [`Store::load`] gives; a host that commits meanwhile is no matter.

mod chain;
mod edits;
mod laws;
mod replay;
mod state;

use std::{collections::BTreeMap, sync::Arc};

pub use laws::Law;

use crate::{
    cell::CellId,
    did::Did,
    event::Mint,
    receipt::Outcome,
    record::{Hash, Record, Turn, Write},
    rows::{Image, SpaceRow},
    store::{Store, StoreError},
    value::{self, Tree},
};
use chain::{Chain, Seals};
use replay::{Cell, Replay};

/// Log entries read at once: a record may be tens of megabytes.
const PAGE: usize = 8;
/// Receipts read at once: each is below 2 KiB (T7).
const RECEIPTS_PAGE: usize = 512;

/// What the proof of a space proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Commits in the space.
    pub commits: u64,
    /// The last commit that the space's own key has signed; those after it are younger than a second, or their host was
    /// killed.
    pub signed: u64,
    /// Hash of the last commit; zeros before the first.
    pub head: Hash,
}

/// What the proof of a store proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedStore {
    /// Every space.
    pub spaces: BTreeMap<Did, Verified>,
    /// Seals of the host's own key.
    pub seals: u64,
    /// Events sent, those refused on the spot included.
    pub sent: u64,
    /// Events with their one receipt.
    pub settled: u64,
    /// Events that wait.
    pub waiting: u64,
    /// Dead letters kept.
    pub dead: u64,
}

impl VerifiedStore {
    /// Returns the commits in all spaces.
    pub fn commits(&self) -> u64 {
        self.spaces.values().map(|space| space.commits).sum()
    }
}

/// What a proof found wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The store knows no such space.
    #[error("no space {0} in this store")]
    NoSuchSpace(Did),
    /// A law is broken.
    #[error("space {space}, commit {seq}: {why} (law {law}): restore the store from a backup")]
    Broken {
        /// The law.
        law: Law,
        /// The space.
        space: Did,
        /// The commit's number; the space's last one for a row that no commit made.
        seq: u64,
        /// What is wrong: names and numbers, never a value.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VerifyError {
    fn broken(law: Law, space: &Did, seq: u64, why: impl Into<String>) -> VerifyError {
        VerifyError::Broken { law, space: *space, seq, why: why.into() }
    }
}

/// Reads a space's log from its start: numbers without gaps, unbroken hashes, every record for this DID, the signature by
/// its key over the last head that it signed, and cells equal to what the records write.
///
/// # Errors
/// [`VerifyError`] at the first thing that is wrong.
pub fn verify(store: &dyn Store, space: &Did) -> Result<Verified, VerifyError> {
    let image = store.load(None)?;
    let row = image.spaces.iter().find(|row| row.did == *space).ok_or(VerifyError::NoSuchSpace(*space))?;
    let mut chain = Chain::new(row);
    let mut after = 0;
    let mut cells: BTreeMap<Arc<str>, Cell> = BTreeMap::new();
    // A host that runs meanwhile commits more: the picture above ends at its own head.
    while chain.proof.commits < row.seq {
        let max = (row.seq - chain.proof.commits).min(PAGE as u64);
        let page = store.log(Some(space), after, max as usize)?;
        let Some(last) = page.last() else { break };
        after = last.order;
        for entry in &page {
            let record = chain.next(entry)?;
            if let Some(why) = record.turn().and_then(effect_of_failure) {
                return Err(VerifyError::broken(Law::Cause, space, record.seq, why));
            }
            let (order, seq) = (entry.order, record.seq);
            for Write { name, edits, .. } in record.writes() {
                let cell = cells.entry(name.clone()).or_insert(Cell { order, seq, value: None });
                (cell.order, cell.seq) = (order, seq);
                let applied = edits::apply(&mut cell.value, edits);
                applied.map_err(|why| VerifyError::broken(Law::State, space, seq, why))?;
            }
        }
    }
    chain.end(row)?;
    let live = image.cells.iter().filter(|cell| cell.space == *space);
    state::cells(live, |_, name| cells.remove(name), |_| chain.proof.commits)?;
    match cells.pop_first() {
        Some((name, cell)) => Err(state::cell(space, &name, cell.seq)),
        None => Ok(chain.proof),
    }
}

/// Reads the whole log once, in order, and checks every [`Law`]; then compares what it makes with what the store
/// keeps. In memory are the present cells, what waits, and some 100 bytes for each event that was ever sent.
///
/// # Errors
/// [`VerifyError`] at the first thing that is wrong.
pub fn verify_store(store: &dyn Store) -> Result<VerifiedStore, VerifyError> {
    let image = store.load(None)?;
    let host = image.spaces.iter().find(|row| row.name == SpaceRow::HOST).map(|row| row.did);
    let mut chains: BTreeMap<Did, Chain> = image.spaces.iter().map(|row| (row.did, Chain::new(row))).collect();
    let mut replay = Replay::new(host, Mint::new(image.secret));
    let mut seals = Seals::new(host);
    let mut order = 0;
    while order < image.order {
        let page = store.log(None, order, PAGE)?;
        if page.is_empty() {
            break;
        }
        for entry in page.iter().filter(|entry| entry.order <= image.order) {
            let broken = |law, why: &str| VerifyError::broken(law, &entry.space, entry.seq, why);
            if entry.order != order + 1 {
                return Err(broken(Law::Chain, &format!("is host commit {} and comes after {order}", entry.order)));
            }
            let chain = chains.get_mut(&entry.space);
            let record = chain.ok_or_else(|| broken(Law::Chain, "the store does not know the space"))?.next(entry)?;
            seals.next(entry)?;
            replay.apply(entry, record).map_err(|wrong| broken(wrong.law, wrong.why))?;
            order = entry.order;
        }
        if page.last().is_some_and(|last| last.order >= image.order) {
            break;
        }
    }
    state::compare(store, &image, chains, replay, seals)
}

/// Returns what a failed event must not do and does (T6).
fn effect_of_failure(turn: &Turn) -> Option<&'static str> {
    let failed = turn.receipt.outcome != Outcome::Committed;
    let clean = turn.writes.is_empty() && turn.sends.iter().all(|sent| sent.event.receipt_of.is_some());
    (failed && !clean).then_some("a failed event has effects")
}

/// Returns the number of a space's last commit.
fn last_commit(image: &Image, space: &Did) -> u64 {
    image.spaces.iter().find(|row| row.did == *space).map_or(0, |row| row.seq)
}

/// Returns the value that a cell had after commit `seq` of its space. `last` is the commit that wrote its present value,
/// 0 for none. Walks back one log entry per revision, to one that wrote the whole value.
///
/// # Errors
/// When the store is damaged.
pub fn value_at(store: &dyn Store, cell: &CellId, mut last: u64, seq: u64) -> Result<Option<Tree>, StoreError> {
    let damaged =
        |seq| StoreError::Failed(format!("commit {seq} of {} is missing or malformed: run verify", cell.owner));
    let mut found: Vec<Write> = Vec::new();
    while last != 0 {
        let entry = store.entry(&cell.owner, last)?;
        let record = entry.and_then(|entry| Record::from_bytes(&entry.record)).ok_or_else(|| damaged(last))?;
        let write = record.writes().iter().find(|write| write.name == cell.name).ok_or_else(|| damaged(last))?;
        let previous = write.previous;
        if last <= seq {
            let is_whole = write.edits.first().is_some_and(|edit| edit.path.is_root());
            found.push(write.clone());
            if is_whole {
                break;
            }
        }
        if previous >= last {
            return Err(damaged(last));
        }
        last = previous;
    }
    let apply = |value, write: Write| value::apply(value, &write.edits).map_err(|_| damaged(seq));
    found.into_iter().rev().try_fold(None, apply)
}
