//! One space, commit by commit: numbers, hashes, the signature by its own key; and the host's seals over all (I2, I3).

use super::{Law, Verified, VerifyError};
use crate::{
    did::Did,
    entry::{LogEntry, seal_message},
    record::{self, Hash, Record},
    rows::{Image, SpaceRow},
};

/// A space as far as it is read.
pub(super) struct Chain {
    space: Did,
    /// What its own key has signed: the commit's number, and the signature.
    signed: Option<(u64, [u8; 64])>,
    /// The checkpoint that stands for the records that have gone, which its own key has to have signed; 0 for none.
    point: u64,
    /// The host's commit from which on all records of all spaces are there.
    whole: u64,
    /// The head of the space at that commit.
    pub then: Option<(u64, Hash)>,
    pub proof: Verified,
}

impl Chain {
    pub fn new(row: &SpaceRow, whole: u64) -> Chain {
        let floor = row.floor.seq;
        let proof = Verified { commits: floor, floor, signed: 0, head: Hash::default() };
        Chain { space: row.did, signed: row.signed, point: row.floor.at, whole, then: None, proof }
    }

    /// Reads the next entry of the space.
    pub fn next(&mut self, entry: &LogEntry) -> Result<Record, VerifyError> {
        let Chain { space, proof, .. } = self;
        let broken = |law, why| VerifyError::broken(law, space, proof.commits + 1, why);
        let record =
            Record::from_bytes(&entry.record).map_err(|error| VerifyError::unread(space, proof.commits + 1, error))?;
        if record.space != *space || entry.space != *space {
            return Err(broken(Law::Signer, "made for another DID"));
        }
        if record.seq != proof.commits + 1 || record.seq != entry.seq {
            return Err(broken(Law::Chain, "number out of sequence"));
        }
        if proof.floor > 0 && proof.commits == proof.floor {
            // What the first one that is there follows has gone. A checkpoint in what comes says what it was.
            proof.head = record.previous;
            self.then = Some((proof.floor, proof.head));
        }
        if record.previous != proof.head {
            return Err(broken(Law::Chain, "does not continue the commit before it"));
        }
        let head = record::hash(&entry.record);
        if let Some((_, signature)) = self.signed.filter(|(seq, _)| *seq == record.seq) {
            if !space.verify(&record::head_message(space, record.seq, &head), &signature) {
                return Err(broken(Law::Signer, "signature is not by this DID"));
            }
            proof.signed = record.seq;
        }
        (proof.commits, proof.head) = (record.seq, head);
        if entry.order <= self.whole {
            self.then = Some((record.seq, head));
        }
        Ok(record)
    }

    /// Compares the end of the chain with the head that the store keeps.
    pub fn end(&self, row: &SpaceRow) -> Result<(), VerifyError> {
        let broken = |law, why| Err(VerifyError::broken(law, &self.space, self.proof.commits, why));
        if row.seq != self.proof.commits || row.head != self.proof.head {
            return broken(Law::Chain, "the space's head is not its last commit");
        }
        if self.signed.is_some_and(|(seq, _)| seq != self.proof.signed) {
            return broken(Law::Signer, "a commit was signed that is not there");
        }
        if self.proof.signed < self.point {
            return broken(
                Law::Signer,
                "this DID has not signed the checkpoint that stands for commits that have gone",
            );
        }
        Ok(())
    }
}

/// The chain of all entries, as far as it is read.
pub(super) struct Seals {
    host: Option<Did>,
    end: Hash,
    /// The last entry, and whether it is sealed.
    last: Option<(Did, u64, bool)>,
    pub order: u64,
    pub count: u64,
}

impl Seals {
    /// Begins behind a commit whose hash is known.
    pub fn new(host: Option<Did>, order: u64, end: Hash) -> Seals {
        Seals { host, end, last: None, order, count: 0 }
    }

    /// Reads the next entry.
    pub fn next(&mut self, entry: &LogEntry) -> Result<(), VerifyError> {
        self.end = entry.hash(&self.end);
        self.order = entry.order;
        self.last = Some((entry.space, entry.seq, entry.seal.is_some()));
        let Some(seal) = &entry.seal else { return Ok(()) };
        let holds = |host: &Did| host.verify(&seal_message(host, entry.order, &self.end), seal);
        if !self.host.as_ref().is_some_and(holds) {
            return Err(VerifyError::broken(Law::Chain, &entry.space, entry.seq, "the host's seal does not hold"));
        }
        self.count += 1;
        Ok(())
    }

    /// Compares the end of the log with what the store keeps.
    pub fn end(&self, image: &Image) -> Result<(), VerifyError> {
        match self.last {
            Some((space, seq, false)) => {
                Err(VerifyError::broken(Law::Chain, &space, seq, "the last commit is not sealed by the host"))
            }
            Some((space, seq, true)) if image.order == self.order && image.end != self.end => {
                Err(VerifyError::broken(Law::State, &space, seq, "the hash of the log's end is not the log's"))
            }
            _ => Ok(()),
        }
    }
}
