//! What `#[charm]` and `#[handlers]` make of a struct.

use crate::{Cell, Result, Shape};

/// A struct made by `#[charm]`: the charm's tags and cells.
pub trait Charm: Sized {
    /// Tags under which a wish finds it.
    const TAGS: &'static [&'static str];

    #[doc(hidden)]
    fn open() -> Self;

    #[doc(hidden)]
    fn cells() -> Vec<Declaration>;
}

/// An `impl` made by `#[handlers]`: the charm's streams.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no handlers",
    label = "write `#[handlers] impl {Self} {{ .. }}`"
)]
pub trait Handlers: Charm {
    #[doc(hidden)]
    fn streams() -> Vec<Declaration>;

    #[doc(hidden)]
    fn handle(&self, stream: &str, event: &[u8]) -> Result<()>;
}

/// A cell or stream by name, with the shape of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The name.
    pub name: String,
    /// The shape.
    pub shape: String,
    /// Whether nobody can be granted it.
    pub private: bool,
    /// Whether it is a stream that takes receipts: only the host sends there.
    pub receipts: bool,
}

impl Declaration {
    #[doc(hidden)]
    pub fn of<T: Shape>(name: &str) -> Self {
        Self { name: name.into(), shape: T::shape(), private: false, receipts: T::RECEIPT }
    }

    #[doc(hidden)]
    pub fn private(self) -> Self {
        Self { private: true, ..self }
    }
}

/// A field of a `#[charm]` struct.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a charm keeps its state in cells, not in a plain `{Self}`",
    label = "write `Cell<{Self}>`",
    note = "each event runs on a fresh instance: only what is in a cell is there at the next one"
)]
pub trait CharmField: Sized {
    fn open(name: &'static str) -> Self;
    fn declare(name: &'static str) -> Declaration;
}

impl<T: Shape> CharmField for Cell<T> {
    fn open(name: &'static str) -> Self {
        Self::own(name)
    }

    fn declare(name: &'static str) -> Declaration {
        Declaration::of::<T>(name)
    }
}

/// What a handler returns.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a handler ends with `Result<()>`, not with `{Self}`",
    label = "write `Result<()>`",
    note = "nobody gets a value back: put it into a cell, or send it to a stream"
)]
pub trait Ended {
    fn ended(self) -> Result<()>;
}

impl Ended for Result<()> {
    fn ended(self) -> Result<()> {
        self
    }
}
