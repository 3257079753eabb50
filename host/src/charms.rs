//! The charms that are installed: the component of each, and the directory of them all.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    did::Did,
    directory::{Directory, Entry, Rights},
    guest::Prepared,
    tx::Committer,
};

/// One installed charm.
pub struct Installed {
    /// What others see of it, as it was installed; what holds now says the directory.
    pub entry: Entry,
    /// Its component, ready to run.
    pub prepared: Arc<Prepared>,
}

/// All of them. Changes make a new directory, which takes its place in the order of commits (A2).
pub struct Charms {
    inner: RwLock<Inner>,
    committer: Arc<Committer>,
}

#[derive(Default)]
struct Inner {
    installed: HashMap<Did, Arc<Installed>>,
    /// Those outside whose rights come from a manifest.
    outside: BTreeSet<Did>,
}

impl Charms {
    /// Returns nobody but those in the committer's directory.
    pub fn new(committer: Arc<Committer>) -> Charms {
        Charms { inner: RwLock::default(), committer }
    }

    fn change(&self, work: impl FnOnce(&mut Directory, &mut Inner)) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let mut directory = self.committer.directory().next();
        work(&mut directory, &mut inner);
        self.committer.swap_directory(directory);
    }

    /// Returns a charm.
    pub fn get(&self, did: &Did) -> Option<Arc<Installed>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).installed.get(did).cloned()
    }

    /// Adds or replaces charms, all at once: no turn sees one without the other.
    pub fn install(&self, charms: Vec<Installed>) {
        self.change(|directory, inner| inner.install(directory, charms));
    }

    /// Adds or replaces the charms of a manifest, and the rights of those outside that it names; whom it no longer
    /// names loses them.
    pub fn install_all(&self, charms: Vec<Installed>, outside: Vec<(Did, Rights)>) {
        self.change(|directory, inner| {
            std::mem::take(&mut inner.outside).iter().for_each(|holder| directory.forget(holder));
            for (holder, rights) in outside {
                directory.grant(holder, rights);
                inner.outside.insert(holder);
            }
            inner.install(directory, charms);
        });
    }

    /// Replaces the rights of a holder: a charm, or someone outside.
    pub fn grant(&self, holder: Did, rights: Rights) {
        self.change(|directory, _| directory.grant(holder, rights));
    }
}

impl Inner {
    fn install(&mut self, directory: &mut Directory, charms: Vec<Installed>) {
        for charm in charms {
            directory.insert(charm.entry.clone());
            self.installed.insert(charm.entry.did, Arc::new(charm));
        }
    }
}
