//! The chains of a host as they grow: each space's own, signed by its key, and that of all entries, sealed by the host's
//! (I3).

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    core::Commit,
    did::Did,
    entry::{LogEntry, entry_hash, seal_message},
    keyring::{KeyError, Keyring},
    log::say,
    record::{self, Body, Hash},
    rows::{Batch, Image, SpaceRow},
};

/// Time until a space's own key signs its head, or begins to with those before it: it is on the disk within a second.
const SIGN_HEADS: Duration = Duration::from_millis(900);

/// Heads that are signed with one batch: a few milliseconds of work.
const HEADS_MAX: usize = 128;

/// The last record of a space.
struct Head {
    seq: u64,
    hash: Hash,
    /// The space's own key has signed it, or is to sign it now.
    is_signed: bool,
}

/// The chains, with everything that is handed to the store.
pub(super) struct Chains {
    /// The host's own space, whose key seals each batch.
    host: Did,
    heads: HashMap<Did, Head>,
    /// Hash of the log's last entry, its number in the host, and the last position given up to there.
    end: Hash,
    order: u64,
    position: u64,
    /// A checkpoint is among those that are to be signed: they are at once.
    is_pressing: bool,
    /// Spaces whose head their own key has not signed, in the order in which they moved.
    unsigned: VecDeque<Did>,
    /// When all were signed last.
    signed: Duration,
}

impl Chains {
    /// Returns those of a store.
    pub fn new(image: &Image, host: Did, now: Duration) -> Chains {
        let is_signed = |row: &SpaceRow| row.signed.map_or(0, |(signed, _)| signed) >= row.seq;
        let head = |row: &SpaceRow| Head { seq: row.seq, hash: row.head, is_signed: is_signed(row) };
        let unsigned = image.spaces.iter().filter(|row| !is_signed(row)).map(|row| row.did).collect();
        let heads = image.spaces.iter().map(|row| (row.did, head(row))).collect();
        let (end, order, position) = (image.end, image.order, image.position);
        Chains { host, heads, end, order, position, is_pressing: false, unsigned, signed: now }
    }

    /// Gives a commit its place; returns its entry, and the hash of its record.
    pub fn add(&mut self, commit: &mut Commit) -> (LogEntry, Hash) {
        let space = commit.record.space;
        let fresh = Head { seq: 0, hash: Hash::default(), is_signed: true };
        let head = self.heads.entry(space).or_insert(fresh);
        commit.record.previous = head.hash;
        let bytes = commit.record.to_bytes();
        (head.seq, head.hash) = (commit.record.seq, record::hash(&bytes));
        let was_signed = std::mem::replace(&mut head.is_signed, false);
        if matches!(commit.record.body, Body::Checkpoint(_)) {
            self.unsigned.push_front(space);
            self.is_pressing = true;
        } else if was_signed {
            self.unsigned.push_back(space);
        }
        let (seq, hash) = (head.seq, head.hash);
        let (order, position, taken) = (commit.order, commit.position, commit.taken);
        self.end = entry_hash(&self.end, order, position, taken, &hash);
        (self.order, self.position) = (order, position);
        (LogEntry { order, space, seq, position, taken, record: bytes.into(), seal: None }, hash)
    }

    /// Returns what is to be signed with the batch that ends here: the end of the log, and the heads that are due. What is
    /// added from here on belongs to later batches.
    pub fn ends(&mut self, now: Duration) -> Ends {
        let heads = if self.due(now) == Some(Duration::ZERO) { self.unsigned(HEADS_MAX) } else { Vec::new() };
        self.is_pressing = false;
        if self.unsigned.is_empty() {
            self.signed = now;
        }
        Ends { host: self.host, log: self.end, heads }
    }

    /// Returns heads that their own keys have not signed, to be signed now: at most `max`.
    pub fn unsigned(&mut self, max: usize) -> Vec<(Did, u64, Hash)> {
        let mut heads = Vec::with_capacity(max.min(self.unsigned.len()));
        while heads.len() < max
            && let Some(space) = self.unsigned.pop_front()
        {
            let Some(head) = self.heads.get_mut(&space).filter(|head| !head.is_signed) else { continue };
            head.is_signed = true;
            heads.push((space, head.seq, head.hash));
        }
        heads
    }

    /// Returns in what time heads are to be signed; none when all are.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        if self.is_pressing {
            return Some(Duration::ZERO);
        }
        (!self.unsigned.is_empty()).then(|| (self.signed + SIGN_HEADS).saturating_sub(now))
    }

    /// Returns where the log ends, and the head of every space there, in no order.
    pub fn all(&self) -> (LogEnd, Vec<(Did, u64, Hash)>) {
        let heads = self.heads.iter().map(|(did, head)| (*did, head.seq, head.hash)).collect();
        (LogEnd { order: self.order, entry: self.end, position: self.position }, heads)
    }
}

/// Where the log ends.
pub(super) struct LogEnd {
    /// The last commit, in the order of the host.
    pub order: u64,
    /// Hash of its entry.
    pub entry: Hash,
    /// The last position given to an event.
    pub position: u64,
}

/// Where the chains of a batch end.
pub(super) struct Ends {
    host: Did,
    log: Hash,
    /// Heads to be signed: number and hash of the last record.
    heads: Vec<(Did, u64, Hash)>,
}

impl Ends {
    /// Seals the entries of a batch, and signs the heads.
    ///
    /// # Errors
    /// When the host's key cannot sign.
    pub fn sign(&self, keyring: &dyn Keyring, batch: &mut Batch) -> Result<(), KeyError> {
        if let Some(last) = batch.log.last_mut() {
            last.seal = Some(keyring.sign(&self.host, &seal_message(&self.host, last.order, &self.log))?);
            batch.end = Some(self.log);
        }
        batch.signed = sign(&self.heads, keyring);
        Ok(())
    }
}

/// Signs heads, each with the key of its space.
pub(super) fn sign(heads: &[(Did, u64, Hash)], keyring: &dyn Keyring) -> Vec<(Did, u64, [u8; 64])> {
    let signed = heads.iter().filter_map(|(space, seq, head)| {
        let signature = keyring.sign(space, &record::head_message(space, *seq, head));
        // The host's seal covers it until then.
        let told = |error| say(|| tracing::error!("{error}; {space} is signed when it commits again"));
        Some((*space, *seq, signature.map_err(told).ok()?))
    });
    signed.collect()
}
