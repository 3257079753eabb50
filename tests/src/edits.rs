//! Edits of records, applied by what the public API has for values.

use charm_host::{CellRow, CellWrite, Edit, Value};

/// Returns the value that edits make of another; none is a cell that is not there.
///
/// # Panics
/// Where one does not apply.
pub fn edited(before: Option<Value>, edits: &[Edit]) -> Option<Value> {
    edits.iter().fold(before, |value, Edit { path, put }| match put {
        Some(put) => Value::set(value.as_ref(), &path.0, put).unwrap().or(value),
        None if path.is_root() => None,
        None => value.as_ref().unwrap().remove(&path.0).unwrap(),
    })
}

/// Returns the edit that writes a whole value, or removes it.
pub fn whole(value: Option<Value>) -> Edit {
    Edit { path: charm_host::Path::root(), put: value }
}

/// Returns the write that leaves a cell so, whole.
pub fn written(row: CellRow) -> CellWrite {
    let CellRow { space, name, order, seq, value } = row;
    CellWrite { space, name, order, seq, edits: vec![whole(value)] }
}
