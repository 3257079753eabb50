//! The charms that are installed: the component of each, and the directory of them all.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    component::Component,
    did::Did,
    directory::{Directory, Entry, Kept, Right, Rights},
    guest::Loaded,
    http::HttpGrant,
    record::Install,
    tx::{Committer, Installing, NotInstalled, Noted, Unavailable},
};

/// One installed charm, as its turns need it: the rest says the directory.
#[derive(Clone)]
pub struct Installed {
    /// Its name in the manifest.
    pub name: Arc<str>,
    /// Its component, which other charms may run too.
    pub loaded: Arc<Loaded>,
}

/// A charm that is ready to be installed.
pub struct Candidate {
    /// What others are to see of it.
    pub entry: Entry,
    /// Its component.
    pub loaded: Arc<Loaded>,
    /// The same in bytes.
    pub component: Component,
}

/// All of them. Changes make a new directory, which takes its place in the order of commits (A2).
pub struct Charms {
    inner: RwLock<Inner>,
    committer: Arc<Committer>,
}

#[derive(Default)]
struct Inner {
    installed: HashMap<Did, Installed>,
    /// Those outside whose rights come from a manifest.
    outside: BTreeSet<Did>,
}

impl Charms {
    /// Returns nobody but those in the committer's directory.
    pub fn new(committer: Arc<Committer>) -> Charms {
        Charms { inner: RwLock::default(), committer }
    }

    /// Changes who may do what; `work` says about whom something else is kept in the store. Returns when that is durable.
    fn change<E: From<Unavailable>>(
        &self,
        work: impl FnOnce(&mut Directory, &mut Inner) -> Result<BTreeSet<Did>, E>,
    ) -> Result<Noted, E> {
        self.swap(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner), work)
    }

    /// As `change`, after the log says what is installed: no turn runs anything before.
    fn add(
        &self,
        charms: Vec<Candidate>,
        work: impl FnOnce(&mut Directory, &mut Inner, Vec<Candidate>) -> BTreeSet<Did>,
    ) -> Result<Noted, NotInstalled> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        self.committer.install(charms.iter().map(installing).collect())?;
        self.swap(&mut inner, |directory, inner| Ok(work(directory, inner, charms)))
    }

    fn swap<E: From<Unavailable>>(
        &self,
        inner: &mut Inner,
        work: impl FnOnce(&mut Directory, &mut Inner) -> Result<BTreeSet<Did>, E>,
    ) -> Result<Noted, E> {
        let mut directory = self.committer.directory().next();
        let changed = work(&mut directory, inner)?;
        let kept = changed.into_iter().map(|did| (did, directory.kept(&did).to_bytes())).collect();
        Ok(self.committer.swap_directory(directory, kept)?)
    }

    /// Returns a charm.
    pub fn get(&self, did: &Did) -> Option<Installed> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).installed.get(did).cloned()
    }

    /// Adds or replaces charms, all at once: no turn sees one without the other.
    ///
    /// # Errors
    /// [`NotInstalled`]: nothing changes.
    pub fn install(&self, charms: Vec<Candidate>) -> Result<Noted, NotInstalled> {
        self.add(charms, |directory, inner, charms| inner.install(directory, charms))
    }

    /// Adds or replaces the charms of a manifest, and the rights of those outside that it names; whom it no longer
    /// names loses them, and everybody what was granted one by one.
    ///
    /// # Errors
    /// [`NotInstalled`]: nothing changes.
    pub fn install_all(&self, charms: Vec<Candidate>, outside: Vec<(Did, Rights)>) -> Result<Noted, NotInstalled> {
        self.add(charms, |directory, inner, charms| {
            std::mem::take(&mut inner.outside).iter().for_each(|holder| directory.forget(holder));
            for (holder, rights) in outside {
                directory.grant(holder, rights);
                inner.outside.insert(holder);
            }
            let mut changed: BTreeSet<Did> = directory.keeps().copied().collect();
            for holder in &changed {
                let is_gone = directory.kept(holder).is_gone;
                directory.keep(*holder, Kept { is_gone, ..Kept::default() });
            }
            changed.extend(inner.install(directory, charms));
            changed
        })
    }

    /// Removes a charm, but for the turn that runs: [`Charms::end`] says when that has ended. None when it is not installed.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn uninstall(&self, charm: &Did) -> Result<Option<Noted>, Unavailable> {
        if self.get(charm).is_none() {
            return Ok(None);
        }
        let removed = self.change(|directory, inner| {
            inner.installed.remove(charm);
            directory.remove(charm);
            Ok(BTreeSet::from([*charm]))
        });
        removed.map(Some)
    }

    /// Lets the log say that a charm that was removed is not installed any more, unless it has come back.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn end(&self, charm: &Did) -> Result<Noted, Unavailable> {
        let inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        self.committer.uninstall((!inner.installed.contains_key(charm)).then_some(*charm))
    }

    /// Adds a right to what is kept of a holder.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn grant(&self, holder: Did, right: Right) -> Result<Noted, Unavailable> {
        self.change(|directory, _| {
            let mut kept = directory.kept(&holder);
            right.add(&mut kept.rights, &mut kept.http);
            directory.keep(holder, kept);
            Ok(BTreeSet::from([holder]))
        })
    }

    /// Takes a right from a holder, however it came to it.
    ///
    /// # Errors
    /// That it cannot be taken alone, or that the host does not write any more.
    pub fn revoke(&self, holder: Did, right: &Right) -> Result<Noted, Untaken> {
        self.change(|directory, _| {
            let mut kept = directory.kept(&holder);
            right.take(&mut kept.rights, &mut kept.http).map_err(Untaken::Alone)?;
            directory.take(&holder, right).map_err(Untaken::Alone)?;
            directory.keep(holder, kept);
            Ok(BTreeSet::from([holder]))
        })
    }

    /// Replaces all rights of a holder, however they came to it.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub fn set_rights(&self, holder: Did, rights: Rights, http: Vec<HttpGrant>) -> Result<Noted, Unavailable> {
        self.change(|directory, inner| {
            directory.take_all(&holder);
            inner.outside.remove(&holder);
            let is_gone = directory.kept(&holder).is_gone;
            directory.keep(holder, Kept { rights, http, is_gone });
            Ok(BTreeSet::from([holder]))
        })
    }
}

/// Returns what the log is to say of a charm that is installed.
fn installing(Candidate { entry, loaded, component }: &Candidate) -> Installing {
    let kept = Kept { rights: entry.rights.clone(), http: entry.http.to_vec(), is_gone: false };
    let (hash, description) = (loaded.hash, loaded.description.clone());
    let install = Install { component: hash, description, rights: kept.to_bytes() };
    let derived = loaded.descriptor.derived().collect();
    Installing { charm: entry.did, install: Box::new(install), component: component.clone(), derived }
}

/// Why a right is not taken.
pub enum Untaken {
    /// It was given together with others.
    Alone(String),
    /// The host does not write any more.
    Unavailable(Unavailable),
}

impl From<Unavailable> for Untaken {
    fn from(why: Unavailable) -> Untaken {
        Untaken::Unavailable(why)
    }
}

impl Inner {
    /// Returns those about whom something else is kept now.
    fn install(&mut self, directory: &mut Directory, charms: Vec<Candidate>) -> BTreeSet<Did> {
        let mut changed = BTreeSet::new();
        for Candidate { entry, loaded, .. } in charms {
            let (did, name) = (entry.did, entry.name.clone());
            if directory.insert(entry) {
                changed.insert(did);
            }
            self.installed.insert(did, Installed { name, loaded });
        }
        changed
    }
}
