//! What the component of a charm derives stands in no cell: nobody writes it, and nothing is hidden by it (D1, D2).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::replay::Cell;
use crate::{
    cell::family_of,
    record::{Body, Record},
    value::{Data, Value},
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
                *self = Derived::of(&install.description);
                if !self.is_empty() && cells.iter().any(|(name, cell)| cell.value.is_some() && self.contains(name)) {
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

    /// Returns what a description says. It was checked when it was installed, by the host of then: here nothing else of it counts.
    fn of(description: &Value) -> Derived {
        let Ok(Data::Map(mut told)) = description.decode() else { return Derived::default() };
        let mut derived = |key: &str| match told.remove(key) {
            Some(Data::Map(declared)) => {
                declared.into_iter().filter(|(_, of)| is_derived(of)).map(|(name, _)| name).collect()
            }
            _ => BTreeSet::new(),
        };
        Derived { cells: derived("cells"), families: derived("families") }
    }

    fn is_empty(&self) -> bool {
        self.cells.is_empty() && self.families.is_empty()
    }

    fn contains(&self, name: &str) -> bool {
        self.cells.contains(name) || family_of(name).is_some_and(|family| self.families.contains(family))
    }
}

fn is_derived(declared: &Data) -> bool {
    matches!(declared, Data::Map(marks) if marks.get("derived") == Some(&Data::Bool(true)))
}
