//! The laws, by name; `docs/laws.md` spells them out.

use std::fmt;

/// What every store obeys. Errors and `docs/laws.md` name a law by its lower-case word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Law {
    /// One DID per commit, and its key signs: the last commit of every space is signed (I2, I3).
    Signer,
    /// Commits of a space and of the host are numbered without a gap and chained by their hashes (I3).
    Chain,
    /// Every event goes out once and is settled once, or waits; nothing handles it after its end (S2, S4, S7).
    Once,
    /// No effect without cause: a charm's commit handles an event that waited for it; a failed end does nothing (S1, S7, T6).
    Cause,
    /// Positions are given in the order of sends, and events begun in that order for each sender and charm (S3).
    Order,
    /// Receipts are status only, and come back exactly where they were asked for (S5, S6, T7).
    Receipt,
    /// What the store keeps is what the log makes: cells, queue, turns under way, receipts, dead letters, heads (T5, C6, S11).
    State,
}

impl Law {
    /// Every law.
    pub const ALL: [Law; 7] = [Law::Signer, Law::Chain, Law::Once, Law::Cause, Law::Order, Law::Receipt, Law::State];

    /// Returns the law's name.
    pub fn name(self) -> &'static str {
        match self {
            Law::Signer => "signer",
            Law::Chain => "chain",
            Law::Once => "once",
            Law::Cause => "cause",
            Law::Order => "order",
            Law::Receipt => "receipt",
            Law::State => "state",
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
