//! The charms that are installed: component, directory entry and outbound grants of each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    did::Did,
    directory::{Directory, Entry, Rights},
    guest::Prepared,
    http::HttpGrant,
    meter::Meter,
};

/// One installed charm.
pub struct Installed {
    /// What others see of it.
    pub entry: Arc<Entry>,
    /// Its component, ready to run.
    pub prepared: Arc<Prepared>,
    /// What it may call outside.
    pub http: Arc<[HttpGrant]>,
}

impl Installed {
    /// Returns the same charm with other rights.
    pub fn with_rights(&self, rights: Rights) -> Installed {
        let Entry { did, name, descriptor, inbox, log, .. } = self.entry.as_ref();
        let (name, descriptor, inbox, log) = (name.clone(), descriptor.clone(), inbox.clone(), log.clone());
        let entry = Arc::new(Entry { did: *did, name, descriptor, rights, inbox, log });
        Installed { entry, prepared: self.prepared.clone(), http: self.http.clone() }
    }
}

/// All of them. Turns hold the picture they began with; changes make a new one.
pub struct Charms {
    inner: RwLock<Inner>,
}

struct Inner {
    directory: Arc<Directory>,
    installed: HashMap<Did, Arc<Installed>>,
}

impl Charms {
    /// Returns nobody but the operator; the store knows the charms of `known`.
    pub fn new(operator: Did, known: BTreeMap<Did, Arc<Meter>>) -> Charms {
        let inner = Inner { directory: Arc::new(Directory::new(operator, known)), installed: HashMap::new() };
        Charms { inner: RwLock::new(inner) }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, work: impl FnOnce(&mut Directory, &mut HashMap<Did, Arc<Installed>>)) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let mut directory = Directory::clone(&inner.directory);
        work(&mut directory, &mut inner.installed);
        inner.directory = Arc::new(directory);
    }

    /// Returns the present picture.
    pub fn directory(&self) -> Arc<Directory> {
        self.read().directory.clone()
    }

    /// Returns a charm with the picture that its turn will hold.
    pub fn get(&self, did: &Did) -> Option<(Arc<Installed>, Arc<Directory>)> {
        let inner = self.read();
        Some((inner.installed.get(did)?.clone(), inner.directory.clone()))
    }

    /// Adds or replaces charms, all at once: no turn sees one without the other.
    pub fn install(&self, charms: Vec<Installed>) {
        self.change(|directory, installed| {
            for charm in charms {
                directory.insert(charm.entry.clone());
                installed.insert(charm.entry.did, Arc::new(charm));
            }
        });
    }

    /// Replaces the rights of a holder: a charm, or someone outside.
    pub fn grant(&self, holder: Did, rights: Rights) {
        self.change(|directory, installed| match installed.get(&holder) {
            Some(charm) => {
                let charm = charm.with_rights(rights);
                directory.insert(charm.entry.clone());
                installed.insert(holder, Arc::new(charm));
            }
            None => directory.grant_outside(holder, rights),
        });
    }
}
