//! Proves a space from its first commit with nothing but its DID (I2, I3), and reads its past (C6).

use std::collections::BTreeMap;

use crate::{
    did::Did,
    limits::NAME_BYTES_MAX,
    receipt::Outcome,
    record::{self, Hash, Record},
    store::{CellRow, Store, StoreError},
    value::Value,
};

const PAGE: usize = 512;

/// What `verify` proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Commits in the space.
    pub commits: u64,
    /// Signatures checked.
    pub signatures: u64,
    /// Hash of the last commit; zeros before the first.
    pub head: Hash,
}

/// What `verify` found wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The store knows no such space.
    #[error("no space {0} in this store")]
    NoSuchSpace(Did),
    /// A commit does not prove what it should.
    #[error("space {space}, commit {seq}: {why}: restore the store from a backup")]
    Commit {
        /// The space.
        space: Did,
        /// The commit's number.
        seq: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The present state is not what the commits make.
    #[error("space {space}, cell {cell}: value differs from the log: restore the store from a backup")]
    Cell {
        /// The space.
        space: Did,
        /// The cell, cut.
        cell: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads a space's log from its start: numbers without gaps, unbroken hashes, every record for this DID,
/// signatures by its key up to the last record, and cells equal to what the records write.
///
/// # Errors
/// [`VerifyError`] at the first thing that is wrong.
pub fn verify(store: &dyn Store, space: &Did) -> Result<Verified, VerifyError> {
    let image = store.load([0; 32])?;
    let row = image.spaces.iter().find(|row| row.did == *space).ok_or(VerifyError::NoSuchSpace(*space))?;
    let mut proof = Verified { commits: 0, signatures: 0, head: Hash::default() };
    let (mut after, mut signed) = (0, true);
    let mut cells: BTreeMap<String, (u64, Option<Value>)> = BTreeMap::new();
    // A host that runs meanwhile commits more: the picture above ends at its own head.
    while proof.commits < row.seq {
        let max = PAGE.min((row.seq - proof.commits) as usize);
        let page = store.log(Some(space), after, max)?;
        let Some(last) = page.last() else { break };
        after = last.g;
        for entry in &page {
            let wrong = |why| VerifyError::Commit { space: *space, seq: proof.commits + 1, why };
            let record = Record::from_bytes(&entry.record).ok_or_else(|| wrong("record is malformed"))?;
            if record.space != *space || entry.space != *space {
                return Err(wrong("made for another DID"));
            }
            if record.seq != proof.commits + 1 || record.seq != entry.seq || record.g != entry.g {
                return Err(wrong("number out of sequence"));
            }
            if record.previous != proof.head {
                return Err(wrong("does not continue the commit before it"));
            }
            let failed = record.taken.as_ref().is_some_and(|taken| taken.receipt.outcome != Outcome::Committed);
            if failed && !(record.writes.is_empty() && record.sends.iter().all(|sent| sent.receipt_of.is_some())) {
                return Err(wrong("a failed event has effects"));
            }
            let head = record::hash(&entry.record);
            if let Some(signature) = &entry.signature {
                if !space.verify(&record::head_message(space, record.seq, &head), signature) {
                    return Err(wrong("signature is not by this DID"));
                }
                proof.signatures += 1;
            }
            signed = entry.signature.is_some();
            (proof.commits, proof.head) = (record.seq, head);
            for write in record.writes {
                cells.insert(write.name, (record.g, write.value));
            }
        }
    }
    let wrong = |why| VerifyError::Commit { space: *space, seq: proof.commits, why };
    if !signed {
        return Err(wrong("last commit is not signed"));
    }
    if row.seq != proof.commits || row.head != proof.head {
        return Err(wrong("the space's head is not its last commit"));
    }
    for CellRow { name, g, value, .. } in image.cells.iter().filter(|cell| cell.space == *space) {
        if cells.remove(&**name) != Some((*g, value.clone())) {
            return Err(cell_error(*space, name));
        }
    }
    match cells.pop_first() {
        Some((cell, _)) => Err(cell_error(*space, &cell)),
        None => Ok(proof),
    }
}

/// Names a cell of a store that may hold anything.
fn cell_error(space: Did, cell: &str) -> VerifyError {
    VerifyError::Cell { space, cell: crate::error::clip(cell, NAME_BYTES_MAX).into_owned() }
}

/// Returns the value that a cell had after commit `seq` of its space. `g` is the commit that wrote its
/// present value, 0 for none. Walks back one log entry per revision in between.
///
/// # Errors
/// When the store is damaged.
pub fn value_at(store: &dyn Store, name: &str, mut g: u64, seq: u64) -> Result<Option<Value>, StoreError> {
    while g != 0 {
        let entry = store.entry(g)?;
        let record = entry.and_then(|entry| Record::from_bytes(&entry.record));
        let damaged = || StoreError::Failed(format!("log entry {g} is missing or malformed: run verify"));
        let record = record.ok_or_else(damaged)?;
        let write = record.writes.into_iter().find(|write| write.name == name).ok_or_else(damaged)?;
        if record.seq <= seq {
            return Ok(write.value);
        }
        g = write.previous_g;
    }
    Ok(None)
}
