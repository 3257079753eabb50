//! What the macros' output names. No part of the public interface.

pub use serde;

pub use crate::charm::{CharmField, Derives, Ended};
pub use crate::wish::{Found, Wanted, WishField, ask};
use crate::{Error, Result, Shape, context};

/// Decodes the event of a stream.
pub fn event<E: Shape>(stream: &str, bytes: &[u8]) -> Result<E> {
    crate::value::decode(bytes, &format_args!("the event for `{stream}`"))
}

/// The answer to a stream that the charm does not have. The host refuses such events before.
pub fn no_such_stream(stream: &str) -> Error {
    Error::NoSuchStream { owner: context::me(), name: stream.into() }
}

/// The answer to a derived cell that the charm does not have. The host asks for those that are declared.
pub fn no_such_derivation(name: &str) -> Error {
    Error::Invalid(format!("this charm derives no cell {name}"))
}
