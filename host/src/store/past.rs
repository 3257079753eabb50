//! What cells held at the commit before the first one whose record is kept, made from the records that go (H1).
//!
//! A store keeps that value beside the present one only for a cell that was written since: see [`Past::end`].

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    record::Record,
    rows::{CellWrite, Unfit},
    value::Tree,
};

/// A cell at some commit of its space.
#[derive(Clone)]
pub struct Held {
    /// The commit that wrote it, in the order of the host.
    pub order: u64,
    /// Its number in the space.
    pub seq: u64,
    /// What it held; none when it was removed.
    pub value: Option<Tree>,
}

/// Cells on their way from one commit of a space to a later one.
#[derive(Default)]
pub struct Past(BTreeMap<Arc<str>, Option<Held>>);

impl Past {
    /// Begins with what a cell held, unless the value that it has now is as old.
    pub fn begin(&mut self, name: Arc<str>, held: Held, is_present: bool) {
        self.0.insert(name, (!is_present).then_some(held));
    }

    /// Goes on over the next record. `is_present` says of a cell whether the value that it has now is that of the later commit:
    /// then nothing of it is kept.
    ///
    /// # Errors
    /// When the record is of other values, or that cannot be said.
    pub fn next<E: From<Unfit>>(
        &mut self,
        order: u64,
        record: Record,
        mut is_present: impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<(), E> {
        let (space, seq) = (record.space, record.seq);
        for write in record.into_writes() {
            let held = match self.0.get_mut(&write.name) {
                Some(held) => held,
                None => {
                    let is_present = is_present(&write.name)?;
                    let fresh = (!is_present).then_some(Held { order, seq, value: None });
                    self.0.entry(write.name.clone()).or_insert(fresh)
                }
            };
            let Some(held) = held else { continue };
            let write = CellWrite { space, name: write.name, order, seq, edits: write.edits };
            *held = Held { order, seq, value: write.apply(held.value.take())? };
        }
        Ok(())
    }

    /// Returns the cells that held a value then.
    pub fn end(self) -> impl Iterator<Item = (Arc<str>, Held)> {
        self.0.into_iter().filter_map(|(name, held)| Some((name, held?))).filter(|(_, held)| held.value.is_some())
    }
}
