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

/// Checks the name of a cell or stream: 1 to `name-bytes-max` bytes, no control characters.
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
