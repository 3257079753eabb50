//! What stands for the records of a space that have gone: its checkpoint, held against what the store keeps (H1).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Law, VerifyError, replay::Cell};
use crate::{
    did::Did,
    record::{Body, CellsRoot, Checkpoint, Hash, Record},
    rows::{CellRow, Image, Point, SpaceRow},
    store::Store,
    value::{Data, Value},
};

/// Where the proof of a space begins.
pub(super) struct Floor {
    pub point: Point,
    /// Number of the commit that is the checkpoint, in the order of the host.
    pub at_order: u64,
    pub checkpoint: Checkpoint,
    /// The cells as they were then.
    pub cells: HashMap<Arc<str>, Cell>,
}

impl Floor {
    /// Reads that of a space; none when all of its records are there. `present` are its cells.
    pub fn read<'a>(
        store: &dyn Store,
        row: &SpaceRow,
        present: impl Iterator<Item = &'a CellRow>,
    ) -> Result<Option<Floor>, VerifyError> {
        let point = row.floor;
        if point.seq == 0 {
            return Ok(None);
        }
        let broken = |law, seq, why: &str| VerifyError::broken(law, &row.did, seq, why);
        let found = store.entry(&row.did, point.at)?.map(|entry| match Record::from_bytes(&entry.record) {
            Ok(record) => Ok((entry.order, record)),
            Err(why) => Err(VerifyError::unread(&row.did, point.at, why)),
        });
        let (at_order, checkpoint) = match found.transpose()? {
            Some((order, Record { body: Body::Checkpoint(checkpoint), .. })) if checkpoint.seq == point.seq => {
                (order, *checkpoint)
            }
            _ => return Err(broken(Law::Chain, point.at, "no checkpoint stands for the commits that have gone")),
        };
        let mut rows: BTreeMap<Arc<str>, CellRow> = BTreeMap::new();
        for cell in store.past(&row.did, None)? {
            rows.insert(cell.name.clone(), cell);
        }
        for cell in present.filter(|cell| cell.seq <= point.seq) {
            rows.entry(cell.name.clone()).or_insert_with(|| cell.clone());
        }
        let mut root = CellsRoot::default();
        for (cell, value) in rows.values().filter_map(|cell| Some((cell, cell.value.as_ref()?))) {
            root.add(&cell.name, cell.seq, value.as_bytes());
        }
        if root.end() != checkpoint.cells {
            return Err(broken(
                Law::State,
                point.at,
                "the cells before the first commit that is kept are not the checkpoint's",
            ));
        }
        let mut cells = HashMap::with_capacity(rows.len());
        for CellRow { name, order, seq, value, .. } in rows.into_values() {
            let value = value.as_ref().map(Value::decode).transpose();
            let value = value.map_err(|_| broken(Law::State, seq, "a value is malformed"))?;
            cells.insert(name, Cell { order, seq, value });
        }
        Ok(Some(Floor { point, at_order, checkpoint, cells }))
    }

    /// Reads those of all spaces that have one.
    pub fn read_all(store: &dyn Store, image: &Image) -> Result<BTreeMap<Did, Floor>, VerifyError> {
        let mut floors = BTreeMap::new();
        let cut = || image.spaces.iter().filter(|row| row.floor.seq > 0);
        let mut present: HashMap<Did, Vec<&CellRow>> = cut().map(|row| (row.did, Vec::new())).collect();
        for cell in &image.cells {
            if let Some(cells) = present.get_mut(&cell.space) {
                cells.push(cell);
            }
        }
        for row in cut() {
            let cells = present.remove(&row.did).unwrap_or_default();
            floors.extend(Floor::read(store, row, cells.into_iter())?.map(|floor| (row.did, floor)));
        }
        Ok(floors)
    }
}

/// Returns the root of cells as a proof has made them; none when one of them cannot be encoded.
pub(super) fn root(cells: &HashMap<Arc<str>, Cell>) -> Option<Hash> {
    let mut names: Vec<_> = cells.iter().collect();
    names.sort_by(|a, b| a.0.cmp(b.0));
    let mut root = CellsRoot::default();
    for (name, Cell { seq, value, .. }) in names {
        if let Some(value) = value {
            root.add(name, *seq, Value::encode::<Data>(value).ok()?.as_bytes());
        }
    }
    Some(root.end())
}
