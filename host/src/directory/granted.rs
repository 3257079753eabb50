//! Names by owner, as close together as they go: most holders have few, and there are many holders.

use serde::{Deserialize, Serialize};

use super::Names;
use crate::did::Did;

/// What a holder may use of each owner, in the order of their DIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Granted(Vec<(Did, Names)>);

impl Granted {
    fn place(&self, owner: &Did) -> Result<usize, usize> {
        self.0.binary_search_by(|(did, _)| did.cmp(owner))
    }

    /// Returns what may be used of an owner.
    pub fn get(&self, owner: &Did) -> Option<&Names> {
        self.place(owner).ok().map(|place| &self.0[place].1)
    }

    /// As `get`, to be changed.
    pub fn get_mut(&mut self, owner: &Did) -> Option<&mut Names> {
        self.place(owner).ok().map(|place| &mut self.0[place].1)
    }

    /// Adds names of an owner.
    pub fn add(&mut self, owner: Did, names: &Names) {
        match self.place(&owner) {
            Ok(place) => self.0[place].1.add(names),
            Err(place) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(place, (owner, names.clone()));
            }
        }
    }

    /// Takes all of an owner.
    pub fn remove(&mut self, owner: &Did) {
        if let Ok(place) = self.place(owner) {
            self.0.remove(place);
        }
    }

    /// Returns the first owner, or the first after another.
    pub fn after(&self, owner: Option<&Did>) -> Option<Did> {
        let place = owner.map_or(0, |owner| self.0.partition_point(|(did, _)| did <= owner));
        self.0.get(place).map(|(did, _)| *did)
    }

    /// Returns all.
    pub fn iter(&self) -> impl Iterator<Item = &(Did, Names)> {
        self.0.iter()
    }
}

impl IntoIterator for Granted {
    type Item = (Did, Names);
    type IntoIter = std::vec::IntoIter<(Did, Names)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Of owners that stand twice both hold.
impl FromIterator<(Did, Names)> for Granted {
    fn from_iter<I: IntoIterator<Item = (Did, Names)>>(all: I) -> Granted {
        let mut granted = Granted::default();
        all.into_iter().for_each(|(owner, names)| granted.add(owner, &names));
        granted.0.shrink_to_fit();
        granted
    }
}
