//! Proves stores: one space with nothing but its DID (I2, I3), or a whole store by the laws that its log obeys
//! (T5, S2-S6, S11). Reads a space's past (C6).
//!
//! A proof is of one picture, what [`Store::load`] gives; a host that commits meanwhile is no matter.

mod chain;
mod derived;
mod edits;
mod floor;
mod laws;
mod replay;
mod state;
mod turns;

use std::collections::BTreeMap;

pub use laws::Law;

use crate::{
    cell::CellId,
    did::Did,
    entry::{ENTRIES_PAGE, LogEntry},
    event::Mint,
    receipt::Outcome,
    record::{self, Body, Hash, Pruned, Record, RecordError, Turn, Write},
    rows::{Image, SpaceRow},
    store::{Store, StoreError},
    value::{self, Tree},
};
use chain::{Chain, Seals};
use derived::Derived;
use floor::Floor;
use replay::Replay;

/// Receipts read at once: each is below 2 KiB (T7).
const RECEIPTS_PAGE: usize = 512;
/// How often a proof begins anew because the past of a space went meanwhile.
const TRIES_MAX: usize = 10;

/// What the proof of a space proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Commits in the space.
    pub commits: u64,
    /// The last of them whose record has gone, 0 for none: a checkpoint stands for those (H1).
    pub floor: u64,
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
    /// Events sent, those refused on the spot included, as far as the log tells what became of them.
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
    /// A later host wrote it.
    #[error("space {space}, commit {seq}: {why}")]
    Unread {
        /// The space.
        space: Did,
        /// The commit's number.
        seq: u64,
        /// What this host does not know.
        why: RecordError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VerifyError {
    fn unread(space: &Did, seq: u64, why: RecordError) -> VerifyError {
        match why {
            RecordError::Malformed => VerifyError::broken(Law::Chain, space, seq, why.to_string()),
            why => VerifyError::Unread { space: *space, seq, why },
        }
    }

    fn broken(law: Law, space: &Did, seq: u64, why: impl Into<String>) -> VerifyError {
        VerifyError::Broken { law, space: *space, seq, why: why.into() }
    }
}

/// Reads a space's log from its start, or from where its checkpoint stands for what has gone: numbers without gaps, unbroken
/// hashes, every record for this DID, the signature by its key over the last head that it signed, and cells equal to what the
/// records write.
///
/// # Errors
/// [`VerifyError`] at the first thing that is wrong.
pub fn verify(store: &dyn Store, space: &Did) -> Result<Verified, VerifyError> {
    while_kept(store, |image| verify_space(store, image, space))
}

/// Looks again when the past of a space went while it was read.
fn while_kept<T>(store: &dyn Store, prove: impl Fn(&Image) -> Result<T, VerifyError>) -> Result<T, VerifyError> {
    let mut image = store.load(None)?;
    for _ in 0..TRIES_MAX {
        let result = prove(&image);
        if result.is_ok() {
            return result;
        }
        let floors = |image: &Image| image.spaces.iter().map(|row| (row.floor, row.receipts_floor)).collect::<Vec<_>>();
        let now = store.load(None)?;
        if now.spaces.iter().zip(floors(&image)).all(|(row, before)| (row.floor, row.receipts_floor) == before) {
            return result;
        }
        image = now;
    }
    Err(StoreError::Failed("pasts go faster than they are read: prove it again, or a copy of it".to_owned()).into())
}

fn verify_space(store: &dyn Store, image: &Image, space: &Did) -> Result<Verified, VerifyError> {
    let row = image.space(space).ok_or(VerifyError::NoSuchSpace(*space))?;
    let live = || image.cells.iter().filter(|cell| cell.space == *space);
    let mut chain = Chain::new(row, 0);
    let mut after = 0;
    let mut cells = Floor::read(store, row, live())?.map(|floor| floor.cells).unwrap_or_default();
    let mut derived = Derived::default();
    // A host that runs meanwhile commits more: the picture above ends at its own head.
    while chain.proof.commits < row.seq {
        let max = (row.seq - chain.proof.commits).min(ENTRIES_PAGE as u64);
        let page = store.log(Some(space), after, max as usize)?;
        let Some(last) = page.last() else { break };
        after = last.order;
        for entry in &page {
            let record = chain.next(entry)?;
            let broken = |law, why| VerifyError::broken(law, space, entry.seq, why);
            if let Some(why) = record.turn().and_then(effect_of_failure) {
                return Err(broken(Law::Cause, why));
            }
            derived.take(&record, &cells).map_err(|why| broken(Law::Cause, why))?;
            replay::write(&mut cells, entry.order, record).map_err(|why| broken(Law::State, why))?;
        }
    }
    chain.end(row)?;
    state::cells(live(), |_, name| cells.remove(name), |_| chain.proof.commits)?;
    match cells.iter().next() {
        Some((name, cell)) => Err(state::cell(space, name, cell.seq)),
        None => Ok(chain.proof),
    }
}

/// Reads the whole log once, in order, and checks every [`Law`]; then compares what it makes with what the store
/// keeps. In memory are the present cells, what waits, how far turns under way have come, and some 150 bytes for each
/// event that the log tells of.
///
/// # Errors
/// [`VerifyError`] at the first thing that is wrong.
pub fn verify_store(store: &dyn Store) -> Result<VerifiedStore, VerifyError> {
    while_kept(store, |image| verify_all(store, image))
}

fn verify_all(store: &dyn Store, image: &Image) -> Result<VerifiedStore, VerifyError> {
    let host = image.spaces.iter().find(|row| row.name == SpaceRow::HOST).map(|row| row.did);
    let pruned = pruned(store, image, host)?;
    let whole = pruned.as_ref().map_or(0, |pruned| pruned.order);
    let mut chains: BTreeMap<Did, Chain> = image.spaces.iter().map(|row| (row.did, Chain::new(row, whole))).collect();
    // When receipts went is told by the host's own space, whose past may have gone too.
    let is_untold = image.spaces.iter().any(|row| Some(row.did) == host && row.floor.seq > 0);
    let expired = image.spaces.iter().filter(|_| is_untold).map(|row| (row.did, row.receipts_floor)).collect();
    let mut replay = Replay::new(host, Mint::new(image.secret), whole, Floor::read_all(store, image)?, expired);
    let mut seals = Seals::new(host, whole, pruned.as_ref().map_or(Hash::default(), |pruned| pruned.entry));
    let mut order = 0;
    while order < image.order {
        let page = store.log(None, order, ENTRIES_PAGE)?;
        if page.is_empty() {
            break;
        }
        for entry in page.iter().filter(|entry| entry.order <= image.order) {
            let broken = |law, why: &str| VerifyError::broken(law, &entry.space, entry.seq, why);
            if order <= whole && entry.order > whole {
                // From here on all is there.
                order = whole;
                let met = replay.meet(pruned.as_ref().map_or(0, |pruned| pruned.position));
                met.map_err(|wrong| broken(wrong.law, wrong.why))?;
            }
            if entry.order != order + 1 && entry.order > whole {
                return Err(broken(Law::Chain, &format!("is host commit {} and comes after {order}", entry.order)));
            }
            let chain = chains.get_mut(&entry.space);
            let record = chain.ok_or_else(|| broken(Law::Chain, "the store does not know the space"))?.next(entry)?;
            if entry.order > whole {
                seals.next(entry)?;
            }
            replay.apply(entry, record).map_err(|wrong| broken(wrong.law, wrong.why))?;
            order = entry.order;
        }
        if page.last().is_some_and(|last| last.order >= image.order) {
            break;
        }
    }
    if let (Some(pruned), Some(host)) = (&pruned, host) {
        let heads = chains.iter().filter_map(|(did, chain)| Some((did, chain.then?)));
        let heads: Vec<_> = heads.collect();
        if record::heads_hash(heads.iter().map(|(did, (seq, head))| (*did, *seq, head))) != pruned.heads {
            let why = format!("the heads of spaces at host commit {whole} are not those that were sealed");
            return Err(VerifyError::broken(Law::Chain, &host, last_commit(image, &host), why));
        }
    }
    state::compare(store, image, chains, replay, seals)
}

/// Returns what the host said last of what has gone.
fn pruned(store: &dyn Store, image: &Image, host: Option<Did>) -> Result<Option<Pruned>, VerifyError> {
    let Some(before) = image.pruned.checked_sub(1) else { return Ok(None) };
    let entry = store.log(None, before, 1)?.pop().filter(|entry| entry.order == image.pruned);
    let read = |entry: LogEntry| {
        Record::from_bytes(&entry.record).map_err(|why| VerifyError::unread(&entry.space, entry.seq, why))
    };
    match entry.map(read).transpose()? {
        Some(Record { space, body: Body::Pruned(pruned), .. })
            if Some(space) == host && pruned.order < image.pruned =>
        {
            Ok(Some(*pruned))
        }
        _ => {
            let Some(space) = host.or(image.spaces.first().map(|row| row.did)) else { return Ok(None) };
            let why = format!("host commit {} does not say what has gone", image.pruned);
            Err(VerifyError::broken(Law::Chain, &space, last_commit(image, &space), why))
        }
    }
}

/// Returns what a failed event must not do and does (T6).
fn effect_of_failure(turn: &Turn) -> Option<&'static str> {
    let failed = turn.receipt.outcome != Outcome::Committed;
    let clean = turn.writes.is_empty() && turn.sends.iter().all(|sent| sent.event.receipt_of.is_some());
    (failed && !clean).then_some("a failed event has effects")
}

/// Returns the number of a space's last commit.
fn last_commit(image: &Image, space: &Did) -> u64 {
    image.space(space).map_or(0, |row| row.seq)
}

/// Returns the value that a cell had after commit `seq` of its space, which is not before the space's floor. `present` is what it
/// holds now, and the commit that wrote it. Walks back one log entry per revision, to one that wrote the whole value; where the
/// cell was removed since, it reads the log up to there.
///
/// # Errors
/// When the store is damaged.
pub fn value_at(
    store: &dyn Store,
    cell: &CellId,
    present: Option<(u64, Tree)>,
    seq: u64,
) -> Result<Option<Tree>, StoreError> {
    let mut result = walk(store, cell, present.clone(), seq);
    // The past may have gone meanwhile, as far as to a commit before that one.
    for _ in 1..TRIES_MAX {
        if result.is_ok() {
            break;
        }
        result = walk(store, cell, present.clone(), seq);
    }
    result
}

fn walk(store: &dyn Store, cell: &CellId, present: Option<(u64, Tree)>, seq: u64) -> Result<Option<Tree>, StoreError> {
    let damaged =
        |seq| StoreError::Failed(format!("commit {seq} of {} is missing or malformed: run verify", cell.owner));
    let mut at = match present {
        Some((last, value)) if last <= seq => return Ok(Some(value)),
        Some((last, _)) => last,
        None => 0,
    };
    let mut found: Vec<Write> = Vec::new();
    let mut value = None;
    loop {
        if at == 0 {
            // It was removed meanwhile, and began anew.
            return value_before(store, cell, seq);
        }
        let Some(entry) = store.entry(&cell.owner, at)? else {
            let held = store.past(&cell.owner, Some(&cell.name))?.pop().filter(|held| held.seq == at);
            value = held.ok_or_else(|| damaged(at))?.value.map(Tree::new);
            break;
        };
        let record = Record::from_bytes(&entry.record).map_err(|why| StoreError::unread(entry.order, why))?;
        let write = record.into_writes().into_iter().find(|write| write.name == cell.name);
        let write = write.ok_or_else(|| damaged(at))?;
        if write.previous >= at {
            return Err(damaged(at));
        }
        let (previous, is_whole) = (write.previous, write.edits.first().is_some_and(|edit| edit.path.is_root()));
        if at <= seq {
            found.push(write);
            if is_whole {
                break;
            }
        }
        at = previous;
    }
    let apply = |value, write: Write| value::apply(value, &write.edits).map_err(|_| damaged(seq));
    found.into_iter().rev().try_fold(value, apply)
}

/// Returns the value that a cell had after commit `seq`, from what it held at the floor on.
fn value_before(store: &dyn Store, cell: &CellId, seq: u64) -> Result<Option<Tree>, StoreError> {
    let first =
        || -> Result<u64, StoreError> { Ok(store.log(Some(&cell.owner), 0, 1)?.first().map_or(0, |entry| entry.seq)) };
    for _ in 0..TRIES_MAX {
        let before = first()?;
        if before > seq + 1 {
            break;
        }
        let value = value_from_floor(store, cell, seq);
        if first()? == before {
            return value;
        }
    }
    Err(StoreError::Failed(format!("commit {seq} of {} has gone", cell.owner)))
}

fn value_from_floor(store: &dyn Store, cell: &CellId, seq: u64) -> Result<Option<Tree>, StoreError> {
    let damaged = |seq| StoreError::Failed(format!("commit {seq} of {} is malformed: run verify", cell.owner));
    let held = store.past(&cell.owner, Some(&cell.name))?.pop();
    let mut value = held.and_then(|held| held.value).map(Tree::new);
    let mut after = 0;
    loop {
        let page = store.log(Some(&cell.owner), after, ENTRIES_PAGE)?;
        let Some(last) = page.last() else { return Ok(value) };
        after = last.order;
        for entry in page {
            if entry.seq > seq {
                return Ok(value);
            }
            let record = Record::from_bytes(&entry.record).map_err(|why| StoreError::unread(entry.order, why))?;
            for write in record.into_writes().into_iter().filter(|write| write.name == cell.name) {
                value = value::apply(value, &write.edits).map_err(|_| damaged(entry.seq))?;
            }
        }
    }
}
