//! Who is installed, what they offer, and who may do what: one immutable picture that a turn holds.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    sync::Arc,
};

use crate::{
    cost,
    descriptor::Descriptor,
    did::Did,
    limits::{SHAPE_STEPS_MAX, WISH_STEPS_MAX},
    log_share::LogShare,
    meter::Meter,
    receipt::Outcome,
    shape::Shape,
};

/// Names of cells or streams that a grant covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// All of them.
    All,
    /// These.
    Only(HashSet<String>),
}

impl Names {
    fn covers(&self, name: &str) -> bool {
        match self {
            Names::All => true,
            Names::Only(names) => names.contains(name),
        }
    }
}

/// What the operator lets one holder do with the charms of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Cells that may be read, by owner.
    pub read: BTreeMap<Did, Names>,
    /// Streams that may be sent to, by owner.
    pub send: BTreeMap<Did, Names>,
}

/// One installed charm, as others see it.
#[derive(Debug)]
pub struct Entry {
    /// Its DID.
    pub did: Did,
    /// Its name in the manifest.
    pub name: String,
    /// What it offers.
    pub descriptor: Descriptor,
    /// What it may do with others.
    pub rights: Rights,
    /// How full its inbox is; shared by all pictures.
    pub inbox: Arc<Meter>,
    /// What it has logged; shared by all pictures.
    pub log: Arc<LogShare>,
}

/// Everyone installed at one moment.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    entries: BTreeMap<Did, Arc<Entry>>,
    /// Charms of the store, installed or not: an event for one that is not yet installed waits for it.
    known: BTreeMap<Did, Arc<Meter>>,
    /// Rights of those outside.
    outside: BTreeMap<Did, Arc<Rights>>,
    /// May read and send everything: the operator.
    operator: Option<Did>,
}

impl Directory {
    /// Returns a directory with nobody in it but the operator; the store knows these charms.
    pub fn new(operator: Did, known: BTreeMap<Did, Arc<Meter>>) -> Directory {
        Directory { operator: Some(operator), known, ..Directory::default() }
    }

    /// Adds or replaces a charm.
    pub fn insert(&mut self, entry: Arc<Entry>) {
        self.entries.insert(entry.did, entry);
    }

    /// Sets the rights of someone outside.
    pub fn grant_outside(&mut self, holder: Did, rights: Rights) {
        self.outside.insert(holder, Arc::new(rights));
    }

    /// Returns a charm.
    pub fn get(&self, did: &Did) -> Option<&Arc<Entry>> {
        self.entries.get(did)
    }

    /// Returns all charms in the order of their DIDs.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    fn rights(&self, holder: &Did) -> Option<&Rights> {
        self.entries.get(holder).map(|entry| &entry.rights).or_else(|| self.outside.get(holder).map(Arc::as_ref))
    }

    /// Returns whether `holder` may read that cell.
    pub fn may_read(&self, holder: &Did, owner: &Did, cell: &str) -> bool {
        let granted = || self.rights(holder)?.read.get(owner).map(|names| names.covers(cell));
        holder == owner || self.operator == Some(*holder) || granted().unwrap_or(false)
    }

    /// Returns whether `holder` may send to that stream.
    pub fn may_send(&self, holder: &Did, owner: &Did, stream: &str) -> bool {
        let granted = || self.rights(holder)?.send.get(owner).map(|names| names.covers(stream));
        holder == owner || self.operator == Some(*holder) || granted().unwrap_or(false)
    }

    /// Decides whether a charm's event goes out: with the stream's shape, or with none when the receiver is known
    /// but not installed yet. Without a grant nobody learns what exists.
    ///
    /// # Errors
    /// `Denied` or `NoSuchStream`, the outcome of the send.
    pub fn deliver(&self, sender: &Did, to: &Did, stream: &str) -> Result<Option<&Shape>, Outcome> {
        if !self.may_send(sender, to, stream) {
            return Err(Outcome::Denied);
        }
        match self.entries.get(to) {
            Some(entry) => {
                entry.descriptor.streams.get(stream).map(|declared| Some(&declared.shape)).ok_or(Outcome::NoSuchStream)
            }
            None if self.known.contains_key(to) => Ok(None),
            None => Err(Outcome::NoSuchStream),
        }
    }

    /// Returns how full the inbox of a charm is.
    pub fn inbox(&self, did: &Did) -> Option<&Arc<Meter>> {
        self.entries.get(did).map(|entry| &entry.inbox).or_else(|| self.known.get(did))
    }

    /// Returns the first charm after `after` of whom `holder` may use anything, by DID.
    fn next_visible(&self, holder: &Did, after: Option<Did>) -> Option<Did> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let first =
            |granted: &BTreeMap<Did, Names>| granted.range((start, Bound::Unbounded)).next().map(|(did, _)| *did);
        let rights = self.rights(holder);
        let own = after.is_none_or(|after| after < *holder).then_some(*holder);
        [rights.and_then(|rights| first(&rights.read)), rights.and_then(|rights| first(&rights.send)), own]
            .into_iter()
            .flatten()
            .min()
    }

    /// Finds who publishes `tag` and offers all that is wanted, as far as `holder` may use it (D7): by DID, at most
    /// `max` after `after`; and the last one looked at, when there may be more. Adds what that costs.
    #[expect(clippy::too_many_arguments, reason = "what is asked, which page, and the bill")]
    pub fn wish(
        &self,
        holder: &Did,
        tag: &str,
        cells: &[(String, Shape)],
        streams: &[(String, Shape)],
        after: Option<Did>,
        max: usize,
        cost: &mut u64,
    ) -> (Vec<Did>, Option<Did>) {
        // One budget for the page, of which no charm gets more than its part: it runs between two instructions of
        // the guest.
        let mut left = SHAPE_STEPS_MAX;
        let (mut found, mut last) = (Vec::new(), after);
        // With nothing wanted, only those are visible of whom anything may be used.
        while let Some(did) = self.next_visible(holder, last) {
            if found.len() >= max || left < WISH_STEPS_MAX {
                return (found, last);
            }
            last = Some(did);
            *cost += cost::OFFER;
            let Some(entry) = self.entries.get(&did) else { continue };
            let descriptor = &entry.descriptor;
            *cost += descriptor.tags.len() as u64 * cost::TAG;
            if !descriptor.tags.iter().any(|published| published == tag) {
                continue;
            }
            let mut steps = WISH_STEPS_MAX;
            let offers = cells.iter().all(|(name, asked)| {
                let offered = descriptor.cells.get(name);
                offered.is_some_and(|offered| offered.shape.fits_within(asked, &mut steps))
                    && self.may_read(holder, &did, name)
            }) && streams.iter().all(|(name, asked)| {
                let offered = descriptor.streams.get(name);
                offered.is_some_and(|offered| asked.fits_within(&offered.shape, &mut steps))
                    && self.may_send(holder, &did, name)
            });
            left -= WISH_STEPS_MAX - steps;
            *cost += u64::from(WISH_STEPS_MAX - steps) * cost::SHAPE_STEP;
            if offers {
                found.push(did);
            }
        }
        (found, None)
    }
}
