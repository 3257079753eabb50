//! The components in use, by hash: one that many charms run is compiled, linked and described once, and goes with the last
//! of them. What charms of one component share is its code and what it says of itself, nothing else.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use super::load::Prepared;
use crate::{counters::Components, descriptor::Descriptor, record::Hash, value::Value};

/// A component that is ready to run: what all charms of it share.
pub struct Loaded {
    pub(super) prepared: Prepared,
    /// SHA-256 of the component.
    pub hash: Hash,
    /// What it says of itself.
    pub descriptor: Arc<Descriptor>,
    /// The same as it told it.
    pub description: Value,
    shelf: Arc<Shelf>,
}

impl Loaded {
    /// Returns whether its turns may wait.
    pub fn waits(&self) -> bool {
        self.prepared.waits
    }
}

/// All that is loaded, or being loaded.
#[derive(Default)]
pub struct Shelf {
    slots: Mutex<HashMap<Hash, Slot>>,
    held: AtomicU64,
    loads: AtomicU64,
}

/// Locked by who loads the component: others wait for that.
type Slot = Arc<tokio::sync::Mutex<Weak<Loaded>>>;

impl Shelf {
    fn slots(&self) -> MutexGuard<'_, HashMap<Hash, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the place of a component.
    pub fn place(self: &Arc<Shelf>, hash: Hash) -> Place {
        Place { shelf: self.clone(), hash, slot: self.slots().entry(hash).or_default().clone() }
    }

    /// Returns how many components are held now, and how often one was loaded.
    pub fn figures(&self) -> Components {
        Components { held: self.held.load(Ordering::Relaxed), loads: self.loads.load(Ordering::Relaxed) }
    }

    /// Forgets a component that nobody has or loads.
    fn tidy(&self, hash: &Hash, slot: Option<&mut Slot>) {
        let mut slots = self.slots();
        // Under the lock: of two who leave, the last one finds nobody else.
        slot.map(std::mem::take);
        let is_alone = |slot: &Slot| Arc::strong_count(slot) == 1;
        if slots
            .get(hash)
            .is_some_and(|slot| is_alone(slot) && slot.try_lock().is_ok_and(|had| had.strong_count() == 0))
        {
            slots.remove(hash);
        }
    }
}

/// The place of a component on the shelf, for who looks for it and may load it.
pub struct Place {
    shelf: Arc<Shelf>,
    hash: Hash,
    slot: Slot,
}

impl Place {
    /// Completes when nobody else loads the component: with it, or with what to keep it in.
    pub async fn look(&self) -> Result<Arc<Loaded>, Empty<'_>> {
        let had = self.slot.lock().await;
        had.upgrade().ok_or(Empty { place: self, had })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shelf.tidy(&self.hash, Some(&mut self.slot));
    }
}

/// An empty place: nobody else loads the component.
pub struct Empty<'a> {
    place: &'a Place,
    had: tokio::sync::MutexGuard<'a, Weak<Loaded>>,
}

impl Empty<'_> {
    /// Puts the component there.
    pub fn keep(mut self, prepared: Prepared, description: Value, descriptor: Descriptor) -> Arc<Loaded> {
        let Place { shelf, hash, .. } = self.place;
        shelf.held.fetch_add(1, Ordering::Relaxed);
        shelf.loads.fetch_add(1, Ordering::Relaxed);
        let descriptor = Arc::new(descriptor);
        let loaded = Arc::new(Loaded { prepared, hash: *hash, descriptor, description, shelf: shelf.clone() });
        *self.had = Arc::downgrade(&loaded);
        loaded
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.shelf.held.fetch_sub(1, Ordering::Relaxed);
        self.shelf.tidy(&self.hash, None);
    }
}
