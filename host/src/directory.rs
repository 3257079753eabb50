//! Who is installed, what they offer, and who may do what: one immutable picture that a turn holds.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    ops::Bound,
    sync::Arc,
};

use crate::{
    cell::CellId,
    cost,
    descriptor::{Declaration, Descriptor},
    did::Did,
    event::Event,
    http::HttpGrant,
    limits::{NAME_BYTES_MAX, SHAPE_STEPS_MAX, WISH_STEPS_MAX},
    log_share::LogShare,
    meter::Meter,
    receipt::Outcome,
    shape::Shape,
    text::clip,
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

/// What the operator lets one holder do with the charms of others. It holds for what they declare and is not private
/// (A2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Cells that may be read, by owner.
    pub read: BTreeMap<Did, Names>,
    /// Streams that may be sent to, by owner.
    pub send: BTreeMap<Did, Names>,
}

impl Rights {
    /// Returns what either allows.
    pub fn with(mut self, more: &Rights) -> Rights {
        for (mine, theirs) in [(&mut self.read, &more.read), (&mut self.send, &more.send)] {
            for (owner, names) in theirs {
                let mine = mine.entry(*owner).or_insert_with(|| Names::Only(HashSet::new()));
                *mine = match (&*mine, names) {
                    (Names::Only(a), Names::Only(b)) => Names::Only(a.union(b).cloned().collect()),
                    _ => Names::All,
                };
            }
        }
        self
    }

    /// Checks that every name is one that its owner declares and that can be granted, as far as the owner is known;
    /// the error names the first that is not.
    pub fn check<'a>(&self, owner: impl Fn(&Did) -> Option<&'a Entry>) -> Result<(), String> {
        for (map, kind) in [(&self.read, "cell"), (&self.send, "stream")] {
            for (did, names) in map {
                let (Some(owner), Names::Only(names)) = (owner(did), names) else { continue };
                let Descriptor { cells, streams, .. } = &owner.descriptor;
                let declared = if kind == "cell" { cells } else { streams };
                let granted = |name: &&String| declared.get(*name).is_some_and(Declaration::is_grantable);
                let Some(name) = names.iter().filter(|name| !granted(name)).min() else { continue };
                let shown = clip(name, 128);
                let why = match declared.get(name) {
                    Some(declared) if declared.receipts => "takes receipts from the host only".to_owned(),
                    Some(_) => "is private: nobody can be granted it".to_owned(),
                    None => {
                        let can = declared.iter().filter(|(_, declared)| declared.is_grantable());
                        let can = can.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                        format!("is not declared; what can be granted: {}", clip(&can, 256))
                    }
                };
                return Err(format!("{kind} {shown} of {} ({did}) {why}", owner.name));
            }
        }
        Ok(())
    }
}

/// One installed charm, as others see it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its DID.
    pub did: Did,
    /// Its name in the manifest.
    pub name: String,
    /// What it offers.
    pub descriptor: Descriptor,
    /// What it may do with others.
    pub rights: Rights,
    /// What it may call outside.
    pub http: Arc<[HttpGrant]>,
    /// How full its inbox is; shared by all pictures.
    pub inbox: Arc<Meter>,
    /// What it has logged; shared by all pictures.
    pub log: Arc<LogShare>,
}

impl Entry {
    /// Returns the same charm with other rights.
    pub fn with_rights(&self, rights: Rights) -> Entry {
        Entry { rights, ..self.clone() }
    }
}

/// Everyone installed at one moment.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Counts the changes: two pictures with one number are the same.
    number: u64,
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

    /// Returns its number: two pictures with one number are the same.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the picture that follows, the same so far.
    pub fn next(&self) -> Directory {
        Directory { number: self.number + 1, ..self.clone() }
    }

    /// Adds or replaces a charm. What was granted to it before anybody knew that it is a charm is its own too.
    pub fn insert(&mut self, mut entry: Entry) {
        if let Some(before) = self.outside.remove(&entry.did) {
            entry.rights = entry.rights.with(&before);
        }
        self.entries.insert(entry.did, Arc::new(entry));
    }

    /// Sets the rights of a holder: a charm, or someone outside.
    pub fn grant(&mut self, holder: Did, rights: Rights) {
        match self.entries.get_mut(&holder) {
            Some(entry) => *entry = Arc::new(entry.with_rights(rights)),
            None => drop(self.outside.insert(holder, Arc::new(rights))),
        }
    }

    /// Takes all rights back from someone outside.
    pub fn forget(&mut self, holder: &Did) {
        self.outside.remove(holder);
    }

    /// Returns a charm.
    pub fn get(&self, did: &Did) -> Option<&Arc<Entry>> {
        self.entries.get(did)
    }

    /// Returns what a charm may call outside.
    pub fn http(&self, charm: &Did) -> Arc<[HttpGrant]> {
        self.entries.get(charm).map(|entry| entry.http.clone()).unwrap_or_default()
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
        let granted = || {
            let declared = self.entries.get(owner)?.descriptor.cells.get(cell)?;
            Some(declared.is_grantable() && self.rights(holder)?.read.get(owner)?.covers(cell))
        };
        holder == owner || self.is_operator(holder) || granted().unwrap_or(false)
    }

    /// Returns whether `holder` may send to that stream.
    pub fn may_send(&self, holder: &Did, owner: &Did, stream: &str) -> bool {
        let granted = || {
            // What a charm that is not installed declares is looked at when it is: see `admits`.
            let declared = self.entries.get(owner).and_then(|entry| entry.descriptor.streams.get(stream));
            let grantable = declared.is_none_or(Declaration::is_grantable);
            Some(grantable && self.rights(holder)?.send.get(owner)?.covers(stream))
        };
        holder == owner || self.is_operator(holder) || granted().unwrap_or(false)
    }

    fn is_operator(&self, holder: &Did) -> bool {
        self.operator == Some(*holder)
    }

    /// Returns the first of these cells that `holder` may not read.
    pub fn uncovered<'a>(&self, holder: &Did, mut cells: impl Iterator<Item = &'a CellId>) -> Option<&'a CellId> {
        cells.find(|cell| !self.may_read(holder, &cell.owner, &cell.name))
    }

    /// Decides whether an event is handed over to its charm, whatever way it came: it may have waited for a charm that
    /// was not installed, or for one that declared other streams.
    ///
    /// # Errors
    /// The outcome, and why.
    pub fn admits(&self, event: &Event) -> Result<(), (Outcome, &'static str)> {
        let declared = self.entries.get(&event.to).and_then(|entry| entry.descriptor.streams.get(&*event.stream));
        let own = event.sender == event.to || self.is_operator(&event.sender);
        match declared {
            None => Err((Outcome::NoSuchStream, "there is no such charm or stream")),
            Some(declared) if declared.receipts && event.receipt_of.is_none() => {
                Err((Outcome::Denied, "the stream takes receipts from the host only"))
            }
            Some(declared) if declared.private && !own => Err((Outcome::Denied, "the stream is private")),
            Some(_) => Ok(()),
        }
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
            Some(entry) => match entry.descriptor.streams.get(stream) {
                Some(declared) if declared.receipts => Err(Outcome::Denied),
                Some(declared) => Ok(Some(&declared.shape)),
                None => Err(Outcome::NoSuchStream),
            },
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
    /// `max` after `after`. Adds what that costs.
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
    ) -> Offers {
        // One budget for the page, of which no charm gets more than its part: it runs between two instructions of
        // the guest.
        let mut left = SHAPE_STEPS_MAX;
        let mut offers = Offers::default();
        let mut last = after;
        // With nothing wanted, only those are visible of whom anything may be used.
        while let Some(did) = self.next_visible(holder, last) {
            if offers.owners.len() >= max || left < WISH_STEPS_MAX {
                offers.next = last;
                return offers;
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
            let lacking = |(name, asked): &(String, Shape), steps: &mut u32, kind| {
                let offered = match kind {
                    Kind::Cell => descriptor.cells.get(name),
                    Kind::Stream => descriptor.streams.get(name),
                };
                let fits = |offered: &Declaration, steps: &mut u32| match kind {
                    Kind::Cell => offered.shape.fits_within(asked, steps),
                    Kind::Stream => asked.fits_within(&offered.shape, steps),
                };
                let allowed = || match kind {
                    Kind::Cell => self.may_read(holder, &did, name),
                    Kind::Stream => self.may_send(holder, &did, name),
                };
                match offered {
                    None => Some("is not declared"),
                    Some(offered) if !fits(offered, steps) => Some("has another shape"),
                    Some(_) if !allowed() => Some("is not granted"),
                    Some(_) => None,
                }
            };
            let wanted = cells.iter().map(|cell| (Kind::Cell, cell));
            let mut wanted = wanted.chain(streams.iter().map(|stream| (Kind::Stream, stream)));
            let lack = wanted.find_map(|(kind, one)| Some((kind, &one.0, lacking(one, &mut steps, kind)?)));
            left -= WISH_STEPS_MAX - steps;
            *cost += u64::from(WISH_STEPS_MAX - steps) * cost::SHAPE_STEP;
            match lack {
                None => offers.owners.push(did),
                Some((kind, name, why)) => {
                    offers.unfit.get_or_insert_with(|| {
                        format!("{kind} {} of {} ({did}) {why}", clip(name, NAME_BYTES_MAX), entry.name)
                    });
                }
            }
        }
        offers
    }
}

/// One page of what a wish finds.
#[derive(Debug, Default)]
pub struct Offers {
    /// Who offers all of it.
    pub owners: Vec<Did>,
    /// The last one looked at, when there may be more.
    pub next: Option<Did>,
    /// What the first one lacks that publishes the tag and does not fit, for a person: never more than the holder may
    /// use is looked at.
    pub unfit: Option<String>,
}

/// What can be wanted of a charm.
#[derive(Clone, Copy)]
enum Kind {
    Cell,
    Stream,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Cell => "cell",
            Kind::Stream => "stream",
        })
    }
}

#[cfg(test)]
mod tests;
