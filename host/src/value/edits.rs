//! Edits: what a write changes in a value (C7).

use serde::{Deserialize, Serialize};

use super::{Mismatch, Tree, Value};
use crate::path::Path;

/// One change in a cell's value. It applies where its parent is there, of the kind that the last step needs, and where it
/// changes something: applied to any other value it is damage. Positions in lists are absolute; one behind the last item
/// appends, and what is behind a removed item moves up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// Where. The root is the whole value.
    pub path: Path,
    /// The new value there, with the maps and lists that a write through missing parents makes (C3); none removes. In text a
    /// list of it or of nothing: null is a value.
    #[serde(with = "written")]
    pub put: Option<Value>,
}

impl Edit {
    /// Returns the one that removes the whole value.
    pub(crate) fn remove() -> Edit {
        Edit { path: Path::default(), put: None }
    }

    /// Returns what it carries, in bytes: the steps of its path and the value.
    pub(crate) fn bytes(&self) -> usize {
        self.path.bytes() + self.put.as_ref().map_or(0, |value| value.as_bytes().len())
    }
}

/// Applies edits to a cell's value, none for a cell that is not there.
///
/// # Errors
/// [`Mismatch`] at an edit whose parent is not there.
pub(crate) fn apply(before: Option<Tree>, edits: &[Edit]) -> Result<Option<Tree>, Mismatch> {
    let mut value = before;
    for Edit { path, put } in edits {
        value = match (put, value) {
            (Some(put), current) => Some(Tree::put(current.as_ref(), &path.0, put)?),
            (None, Some(current)) if !path.is_root() => current.remove(&path.0)?.or(Some(current)),
            (None, _) => None,
        };
    }
    Ok(value)
}

mod written {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Value;
    use crate::readable;

    pub fn serialize<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
        if readable::is_text(serializer.is_human_readable()) {
            return value.as_slice().serialize(serializer);
        }
        value.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        if readable::is_text(deserializer.is_human_readable()) {
            return Vec::deserialize(deserializer).map(|mut list| list.pop());
        }
        Option::deserialize(deserializer)
    }
}
