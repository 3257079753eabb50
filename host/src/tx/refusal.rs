//! What a transaction refuses a guest: the `error` of `wit/types.wit`, in the host's types.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    cell::CellId,
    did::Did,
    value::{Invalid, Mismatch},
};

/// A host call that was refused. The transaction stays usable and nothing of the call is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// A write for another DID than the transaction's one writer (T2).
    #[error("Can not open transaction writer for {requested} because transaction has writer open for {open}")]
    WriteIsolation {
        /// Whose cell.
        requested: Did,
        /// The writer.
        open: Did,
    },
    /// No grant covers it.
    #[error("{name} of {owner}: no grant")]
    Denied {
        /// Whose.
        owner: Did,
        /// The cell or stream.
        name: String,
    },
    /// A path or an event that does not fit.
    #[error(transparent)]
    TypeMismatch(#[from] Mismatch),
    /// Malformed input.
    #[error("{0}")]
    Invalid(String),
    /// A bound would be passed.
    #[error("over {name} {max}")]
    Limit {
        /// The bound, in kebab-case.
        name: Cow<'static, str>,
        /// Its value.
        max: u64,
    },
    /// A write to a derived cell (D2).
    #[error("cell {name} of {owner} is computed by the derivation {derivation}: nobody writes it")]
    ReadOnly {
        /// Whose.
        owner: Did,
        /// The cell.
        name: String,
        /// What computes it.
        derivation: String,
    },
    /// A derived cell that could not be computed.
    #[error("derived cell {name} of {owner}: {message}")]
    Failed {
        /// Whose.
        owner: Did,
        /// The cell.
        name: String,
        /// Why.
        message: String,
    },
    /// What a derivation may not do (D1).
    #[error("a derivation only reads cells: no {0} there")]
    Pure(String),
    /// An inbox has no room (S12).
    #[error("inbox of {0} is full")]
    QueueFull(Did),
    /// The charm has no such stream.
    #[error("{owner} has no stream {name}")]
    NoSuchStream {
        /// Whose.
        owner: Did,
        /// The stream.
        name: String,
    },
    /// Derived cells that need each other (D5), by name, or links that lead back to where they come from (C5), in order.
    #[error("{} cells lead in a circle", .0.len())]
    Cycle(Vec<CellId>),
}

impl Refusal {
    /// Returns the refusal of one more than a bound allows.
    pub fn limit(name: &'static str, max: usize) -> Refusal {
        Refusal::Limit { name: name.into(), max: max as u64 }
    }

    /// Turns what is wrong with a value into a refusal; `name` and `max` are the bound on its size.
    pub fn value(error: Invalid, name: &'static str, max: usize) -> Refusal {
        match error {
            Invalid::TooLarge { .. } => Refusal::limit(name, max),
            Invalid::TooDeep { max } => Refusal::limit("value-depth-max", max),
            other => Refusal::Invalid(other.to_string()),
        }
    }
}
