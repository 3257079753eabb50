//! Who is installed, what they offer, and who may do what: one immutable picture that a turn holds.

mod granted;
mod parts;
mod rights;
mod wish;

use std::{collections::BTreeMap, sync::Arc};

use parts::Parts;
pub use rights::{Kept, Names, Right, Rights, ungrantable};
pub use wish::{NearMiss, Offers, Wanted};

use crate::{
    cell::{CellId, family_of, granted_as},
    descriptor::{Declaration, Descriptor},
    did::Did,
    event::Event,
    http::HttpGrant,
    log_share::LogShare,
    meter::Meter,
    receipt::Outcome,
    shape::Shape,
    text::clip,
};

/// One installed charm, as others see it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its DID.
    pub did: Did,
    /// Its name in the manifest.
    pub name: Arc<str>,
    /// What it offers; shared by all charms of its component.
    pub descriptor: Arc<Descriptor>,
    /// The number of its descriptor, from 1: what was checked against it needs no second check.
    pub offer: u64,
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
    entries: Parts<Arc<Entry>>,
    /// Charms of the store, installed or not: an event for one that is not yet installed waits for it.
    known: Parts<Arc<Meter>>,
    /// Rights of those outside, as a manifest gives them.
    outside: BTreeMap<Did, Arc<Rights>>,
    /// What the operator decided about single DIDs: stands in the store.
    kept: Parts<Arc<Kept>>,
    /// May read and send everything: the operator.
    operator: Option<Did>,
}

impl Directory {
    /// Returns a directory with nobody in it but the operator; the store knows these charms, and keeps this of the operator's
    /// decisions.
    pub fn new(operator: Did, known: BTreeMap<Did, Arc<Meter>>, kept: BTreeMap<Did, Arc<Kept>>) -> Directory {
        let (known, kept) = (known.into_iter().collect(), kept.into_iter().collect());
        Directory { operator: Some(operator), known, kept, ..Directory::default() }
    }

    /// Returns its number: two pictures with one number are the same.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the picture that follows, the same so far.
    pub fn next(&self) -> Directory {
        Directory { number: self.number + 1, ..self.clone() }
    }

    /// Adds or replaces a charm. What was granted to it before anybody knew that it is a charm is its own too. Returns whether
    /// it was uninstalled before.
    pub fn insert(&mut self, mut entry: Entry) -> bool {
        if let Some(before) = self.outside.remove(&entry.did) {
            entry.rights = entry.rights.with(&before);
        }
        let (did, was_gone) = (entry.did, self.is_gone(&entry.did));
        entry.offer = self.number + 1;
        self.entries.insert(did, Arc::new(entry));
        if was_gone {
            self.keep(did, Kept { is_gone: false, ..self.kept(&did) });
        }
        was_gone
    }

    /// Lets a charm be there no more; a turn of its own that runs now finds it still.
    pub fn remove(&mut self, charm: &Did) {
        if let Some(entry) = self.entries.get_mut(charm) {
            *entry = Arc::new(Entry { http: Arc::default(), ..entry.with_rights(Rights::default()) });
        }
        self.outside.remove(charm);
        self.keep(*charm, Kept { is_gone: true, ..Kept::default() });
    }

    /// Returns what is kept of the operator's decisions about a DID.
    pub fn kept(&self, did: &Did) -> Kept {
        self.kept.get(did).map(|kept| Kept::clone(kept)).unwrap_or_default()
    }

    /// Returns those about whom something is kept.
    pub fn keeps(&self) -> impl Iterator<Item = &Did> {
        self.kept.iter().map(|(did, _)| did)
    }

    /// Replaces what is kept of the operator's decisions about a DID.
    pub fn keep(&mut self, did: Did, kept: Kept) {
        if kept == Kept::default() {
            self.kept.remove(&did);
        } else {
            self.kept.insert(did, Arc::new(kept));
        }
    }

    /// Takes a right from what an install or a manifest gave; the error says that it cannot be taken alone.
    pub fn take(&mut self, holder: &Did, right: &Right) -> Result<(), String> {
        if let Some(entry) = self.entries.get_mut(holder) {
            let (mut rights, mut http) = (entry.rights.clone(), entry.http.to_vec());
            right.take(&mut rights, &mut http)?;
            *entry = Arc::new(Entry { http: http.into(), ..entry.with_rights(rights) });
        } else if let Some(outside) = self.outside.get_mut(holder) {
            right.take(Arc::make_mut(outside), &mut Vec::new())?;
        }
        Ok(())
    }

    /// Takes all that an install or a manifest gave.
    pub fn take_all(&mut self, holder: &Did) {
        self.outside.remove(holder);
        if let Some(entry) = self.entries.get_mut(holder) {
            *entry = Arc::new(Entry { http: Arc::default(), ..entry.with_rights(Rights::default()) });
        }
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

    fn is_gone(&self, charm: &Did) -> bool {
        self.kept.get(charm).is_some_and(|kept| kept.is_gone)
    }

    /// Returns a charm.
    pub fn get(&self, did: &Did) -> Option<&Arc<Entry>> {
        self.entries.get(did).filter(|_| !self.is_gone(did))
    }

    /// Returns what a charm may call outside.
    pub fn http(&self, charm: &Did) -> Arc<[HttpGrant]> {
        let given = self.entries.get(charm).map(|entry| entry.http.clone()).unwrap_or_default();
        match self.kept.get(charm) {
            Some(kept) if !kept.http.is_empty() => given.iter().chain(&kept.http).cloned().collect(),
            _ => given,
        }
    }

    /// Returns all charms in the order of their DIDs.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().map(|(_, entry)| entry).filter(|entry| !self.is_gone(&entry.did))
    }

    /// Returns the rights of a holder: what it was given, and what is kept.
    pub fn rights(&self, holder: &Did) -> impl Iterator<Item = &Rights> {
        let given = self.entries.get(holder).map(|entry| &entry.rights);
        let given = given.or_else(|| self.outside.get(holder).map(Arc::as_ref));
        given.into_iter().chain(self.kept.get(holder).map(|kept| &kept.rights))
    }

    /// Returns whether `holder` may read that cell.
    pub fn may_read(&self, holder: &Did, owner: &Did, cell: &str) -> bool {
        let declared = || self.get(owner)?.descriptor.cell(cell);
        let covers = |rights: &Rights| rights.read.get(owner).is_some_and(|names| names.covers(granted_as(cell)));
        let granted = || declared().is_some_and(Declaration::is_grantable) && self.rights(holder).any(covers);
        holder == owner || self.is_operator(holder) || granted()
    }

    /// Returns the derivation that computes a cell, and how that is declared; none for a cell that is written.
    pub fn derived(&self, owner: &Did, cell: &str) -> Option<(&str, &Declaration)> {
        let descriptor = &self.get(owner)?.descriptor;
        if !descriptor.derives {
            return None;
        }
        let (name, declared) =
            descriptor.cells.get_key_value(cell).or_else(|| descriptor.families.get_key_value(family_of(cell)?))?;
        declared.derived.then_some((name, declared))
    }

    /// Returns the name of the derivation that computes a cell; none for a cell that is written.
    pub fn derivation(&self, owner: &Did, cell: &str) -> Option<&str> {
        self.derived(owner, cell).map(|(name, _)| name)
    }

    /// Returns whether `holder` may list the cells that begin with a prefix: of others the members of one family only.
    pub fn may_list(&self, holder: &Did, owner: &Did, prefix: &str) -> bool {
        holder == owner
            || self.is_operator(holder)
            || family_of(prefix).is_some() && self.may_read(holder, owner, prefix)
    }

    /// Returns whether `holder` may read any cell of `owner` whose name begins so.
    pub fn may_read_some(&self, holder: &Did, owner: &Did, prefix: &str) -> bool {
        let mut declared = self.get(owner).into_iter().flat_map(|entry| entry.descriptor.grantable("cell"));
        holder == owner
            || self.is_operator(holder)
            || self.may_list(holder, owner, prefix)
            || declared.any(|name| name.starts_with(prefix) && self.may_read(holder, owner, &name))
    }

    /// Returns whether `holder` may send to that stream.
    pub fn may_send(&self, holder: &Did, owner: &Did, stream: &str) -> bool {
        // What a charm that is not installed declares is looked at when it is: see `admits`.
        let declared = || self.get(owner)?.descriptor.streams.get(stream);
        let covers = |rights: &Rights| rights.send.get(owner).is_some_and(|names| names.covers(stream));
        let granted = || declared().is_none_or(Declaration::is_grantable) && self.rights(holder).any(covers);
        holder == owner || self.is_operator(holder) || granted()
    }

    fn is_operator(&self, holder: &Did) -> bool {
        self.operator == Some(*holder)
    }

    /// Returns the first of these cells that `holder` may not read.
    pub fn uncovered<'a>(&self, holder: &Did, mut cells: impl Iterator<Item = &'a CellId>) -> Option<&'a CellId> {
        cells.find(|cell| !self.may_read(holder, &cell.owner, &cell.name))
    }

    /// Decides whether an event is handed over to its charm, whatever way it came: it may have waited for a charm that
    /// was not installed, or for one that declared other streams and shapes (H2). One that `fits` this very descriptor was
    /// checked before.
    ///
    /// # Errors
    /// The outcome, and why.
    pub fn admits(&self, event: &Event, fits: u64) -> Result<(), (Outcome, String)> {
        let entry = self.entries.get(&event.to);
        let declared = entry.and_then(|entry| Some((entry.offer, entry.descriptor.streams.get(&*event.stream)?)));
        let Some((offer, declared)) = declared else {
            let (stream, known) = (clip(&event.stream, 128), entry.map(|entry| entry.descriptor.streams.keys()));
            let known = known.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ");
            let why = format!("charm {} has no stream {stream} any more; it has: {}", event.to, clip(&known, 256));
            return Err((Outcome::NoSuchStream, why));
        };
        let own = event.sender == event.to || self.is_operator(&event.sender);
        if declared.receipts && event.receipt_of.is_none() {
            return Err((Outcome::Denied, "the stream takes receipts from the host only".to_owned()));
        }
        if declared.private && !own {
            return Err((Outcome::Denied, "the stream is private".to_owned()));
        }
        let misfit = |why: String| {
            let stream = clip(&event.stream, 128);
            (Outcome::Misfit, format!("{why} (stream {stream}): send it again when the charm takes it"))
        };
        if event.receipt_of.is_some() && !declared.receipts {
            return Err(misfit("the stream takes no receipts any more".to_owned()));
        }
        if offer == fits {
            return Ok(());
        }
        let checked = declared.shape.check(&event.payload);
        checked.map_err(|mismatch| misfit(format!("the event does not fit the shape that holds now: {mismatch}")))
    }

    /// Decides whether a charm's event goes out: with the stream's shape and the number of the descriptor that it stands
    /// in, or with none when the receiver is known but not installed yet. Without a grant nobody learns what exists.
    ///
    /// # Errors
    /// `Denied` or `NoSuchStream`, the outcome of the send.
    pub fn deliver(&self, sender: &Did, to: &Did, stream: &str) -> Result<Option<(&Shape, u64)>, Outcome> {
        if !self.may_send(sender, to, stream) {
            return Err(Outcome::Denied);
        }
        match self.get(to) {
            Some(entry) => match entry.descriptor.streams.get(stream) {
                Some(declared) if declared.receipts => Err(Outcome::Denied),
                Some(declared) => Ok(Some((&declared.shape, entry.offer))),
                None => Err(Outcome::NoSuchStream),
            },
            None if self.known.get(to).is_some() && !self.is_gone(to) => Ok(None),
            None => Err(Outcome::NoSuchStream),
        }
    }

    /// Returns how full the inbox of a charm is.
    pub fn inbox(&self, did: &Did) -> Option<&Arc<Meter>> {
        self.entries.get(did).map(|entry| &entry.inbox).or_else(|| self.known.get(did))
    }
}

#[cfg(test)]
mod tests;
