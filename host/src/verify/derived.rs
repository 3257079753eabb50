//! What the component of a charm derives stands in no cell: nobody writes it, and nothing is hidden by it (D1, D2).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::replay::Cell;
use crate::{
    cell::family_of,
    descriptor::{Declaration, Descriptor},
    record::{Body, Record},
};

/// Names of derived cells, and of families whose members are derived, by what is installed in a space. Nothing as long as the log
/// does not tell what that is.
#[derive(Default)]
pub(super) struct Derived {
    cells: BTreeSet<String>,
    families: BTreeSet<String>,
}

impl Derived {
    /// Takes the next record of a space, before its writes; `cells` is what they hold.
    pub fn take(&mut self, record: &Record, cells: &HashMap<Arc<str>, Cell>) -> Result<(), &'static str> {
        match &record.body {
            Body::Installed(install) => {
                let (_, told) = Descriptor::read(install.description.as_bytes())
                    .map_err(|_| "what a component tells of itself is no description")?;
                let derived = |declared: BTreeMap<String, Declaration>| {
                    declared.into_iter().filter(|(_, declared)| declared.derived).map(|(name, _)| name).collect()
                };
                *self = Derived { cells: derived(told.cells), families: derived(told.families) };
                if cells.iter().any(|(name, cell)| cell.value.is_some() && self.contains(name)) {
                    return Err("a component derives a cell that holds a value");
                }
            }
            Body::Uninstalled => *self = Derived::default(),
            _ => {}
        }
        match record.writes().iter().any(|write| self.contains(&write.name)) {
            true => Err("a derived cell is written"),
            false => Ok(()),
        }
    }

    fn contains(&self, name: &str) -> bool {
        self.cells.contains(name) || family_of(name).is_some_and(|family| self.families.contains(family))
    }
}
