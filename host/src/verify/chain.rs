//! One space, commit by commit: numbers, hashes, signatures (I2, I3).

use super::{Law, Verified, VerifyError};
use crate::{
    did::Did,
    record::{self, Hash, Record},
    store::{LogEntry, SpaceRow},
};

/// A space as far as it is read.
pub(super) struct Chain {
    space: Did,
    pub proof: Verified,
    /// Whether the last commit is signed.
    signed: bool,
}

impl Chain {
    pub fn new(space: Did) -> Chain {
        Chain { space, proof: Verified { commits: 0, signatures: 0, head: Hash::default() }, signed: true }
    }

    /// Reads the next entry of the space.
    pub fn next(&mut self, entry: &LogEntry) -> Result<Record, VerifyError> {
        let Chain { space, proof, .. } = self;
        let broken = |law, why| VerifyError::broken(law, space, proof.commits + 1, why);
        let record = Record::from_bytes(&entry.record).ok_or_else(|| broken(Law::Chain, "record is malformed"))?;
        if record.space != *space || entry.space != *space {
            return Err(broken(Law::Signer, "made for another DID"));
        }
        if record.seq != proof.commits + 1 || record.seq != entry.seq || record.order != entry.order {
            return Err(broken(Law::Chain, "number out of sequence"));
        }
        if record.previous != proof.head {
            return Err(broken(Law::Chain, "does not continue the commit before it"));
        }
        let head = record::hash(&entry.record);
        if let Some(signature) = &entry.signature {
            if !space.verify(&record::head_message(space, record.seq, &head), signature) {
                return Err(broken(Law::Signer, "signature is not by this DID"));
            }
            proof.signatures += 1;
        }
        self.signed = entry.signature.is_some();
        (proof.commits, proof.head) = (record.seq, head);
        Ok(record)
    }

    /// Compares the end of the chain with the head that the store keeps.
    pub fn end(&self, row: &SpaceRow) -> Result<(), VerifyError> {
        let broken = |law, why| Err(VerifyError::broken(law, &self.space, self.proof.commits, why));
        if !self.signed {
            return broken(Law::Signer, "last commit is not signed");
        }
        if row.seq != self.proof.commits || row.head != self.proof.head {
            return broken(Law::Chain, "the space's head is not its last commit");
        }
        Ok(())
    }
}
