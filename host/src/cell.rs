//! Cell names (C1).

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{did::Did, limits::NAME_BYTES_MAX};

/// One cell: a name in the space of a DID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CellId {
    /// Whose space.
    pub owner: Did,
    /// The name there.
    pub name: Arc<str>,
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// Checks the name of a cell, stream or family: as any name, and without `/`, which parts it from a path.
pub(crate) fn check_address(name: &str) -> Result<(), String> {
    check_name(name)?;
    if name.contains('/') { Err("name holds /, which begins a path".to_owned()) } else { Ok(()) }
}

/// Returns the family that a cell of this name belongs to, as far as the name says: members are `FAMILY:KEY`.
pub(crate) fn family_of(name: &str) -> Option<&str> {
    name.split_once(FAMILY_END).map(|(family, _)| family)
}

/// Returns the name under which a cell is granted: its own, or `FAMILY:` of its family.
pub(crate) fn granted_as(name: &str) -> &str {
    name.find(FAMILY_END).map_or(name, |end| &name[..=end])
}

/// What stands between the name of a family and the key of a member.
pub(crate) const FAMILY_END: char = ':';

/// Checks a name of any kind: 1 to `name-bytes-max` bytes, no control characters.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        Err("name is empty".to_owned())
    } else if name.len() > NAME_BYTES_MAX {
        Err(format!("name longer than {NAME_BYTES_MAX} bytes"))
    } else if name.chars().any(char::is_control) {
        Err("name holds control characters".to_owned())
    } else {
        Ok(())
    }
}
