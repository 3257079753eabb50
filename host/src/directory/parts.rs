//! A map by DID of which a copy costs little: it is kept in parts, and a change copies the part that it is in.

use std::{collections::BTreeMap, sync::Arc};

use crate::did::Did;

/// How many parts: the square root of the largest number of charms that is thought of.
const PARTS: usize = 256;

/// A map by DID. Copies share all parts that neither has changed since.
#[derive(Clone, Debug)]
pub struct Parts<V>(Vec<Arc<BTreeMap<Did, V>>>);

impl<V> Default for Parts<V> {
    fn default() -> Parts<V> {
        let empty = Arc::default();
        Parts((0..PARTS).map(|_| Arc::clone(&empty)).collect())
    }
}

/// The part of a DID: by its first byte, so that the parts stand in the order of what is in them.
fn part(did: &Did) -> usize {
    usize::from(did.public_key()[0])
}

impl<V: Clone> Parts<V> {
    /// Returns what stands there for a DID.
    pub fn get(&self, did: &Did) -> Option<&V> {
        self.0[part(did)].get(did)
    }

    /// As `get`, to be changed.
    pub fn get_mut(&mut self, did: &Did) -> Option<&mut V> {
        self.get(did)?;
        self.part(did).get_mut(did)
    }

    /// Adds or replaces what stands there for a DID.
    pub fn insert(&mut self, did: Did, value: V) {
        self.part(&did).insert(did, value);
    }

    /// Removes what stands there for a DID.
    pub fn remove(&mut self, did: &Did) -> Option<V> {
        self.get(did)?;
        self.part(did).remove(did)
    }

    /// Returns all in the order of their DIDs.
    pub fn iter(&self) -> impl Iterator<Item = (&Did, &V)> {
        self.0.iter().flat_map(|part| part.iter())
    }

    fn part(&mut self, did: &Did) -> &mut BTreeMap<Did, V> {
        Arc::make_mut(&mut self.0[part(did)])
    }
}

impl<V: Clone> FromIterator<(Did, V)> for Parts<V> {
    fn from_iter<I: IntoIterator<Item = (Did, V)>>(all: I) -> Parts<V> {
        let mut parts = Parts::default();
        all.into_iter().for_each(|(did, value)| parts.insert(did, value));
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_shares_all_parts_but_those_that_change_and_keeps_the_order() {
        let before: Parts<u8> = (0..100).map(|number| (Did::numbered(number), number)).collect();
        let mut after = before.clone();
        after.insert(Did::numbered(100), 100);
        assert_eq!(after.get_mut(&Did::numbered(101)), None);
        assert_eq!(after.remove(&Did::numbered(101)), None, "what is not there changes nothing");
        let shared = before.0.iter().zip(&after.0).filter(|(before, after)| Arc::ptr_eq(before, after)).count();
        assert_eq!(shared, PARTS - 1);
        assert_eq!((before.get(&Did::numbered(100)), after.get(&Did::numbered(100))), (None, Some(&100)));
        let order: Vec<Did> = after.iter().map(|(did, _)| *did).collect();
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!((order.len(), order), (101, sorted));
    }
}
