//! What `#[charm]` and `#[handlers]` make of a struct.

use std::sync::OnceLock;
use std::time::Duration;

use crate::sent::millis;
use crate::value::encode;
use crate::{Cell, Cells, Error, Key, Result, Shape, host};

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

    /// Cells that are computed from others.
    #[doc(hidden)]
    fn derived() -> Vec<Declaration> {
        Vec::new()
    }

    /// Computes one of them.
    #[doc(hidden)]
    fn derive(&self, name: &str) -> Result<Vec<u8>> {
        Err(crate::__private::no_such_derivation(name))
    }
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
    /// Whether it is a cell that is computed from others: nobody writes it.
    pub derived: bool,
    /// Whether it is a family of cells: what is declared holds for its members.
    pub family: bool,
}

impl Declaration {
    #[doc(hidden)]
    pub fn of<T: Shape>(name: &str) -> Self {
        let (private, derived, family) = (false, false, false);
        Self { name: name.into(), shape: T::shape(), private, receipts: T::RECEIPT, derived, family }
    }

    #[doc(hidden)]
    pub fn derived(self) -> Self {
        Self { derived: true, ..self }
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

impl<K: Key, T: Shape> CharmField for Cells<K, T> {
    fn open(name: &'static str) -> Self {
        Self::own(name)
    }

    fn declare(name: &'static str) -> Declaration {
        Declaration { family: true, ..Declaration::of::<T>(name) }
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

/// What a derivation returns.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a derivation ends with `Result<T>` of what the cell holds, not with `{Self}`",
    label = "write `Result<T>`",
    note = "the cell always holds something: for what may be missing, `T` is an `Option`"
)]
pub trait Derives {
    type Value: Shape;

    fn derived(self) -> Result<Vec<u8>>;
}

impl<T: Shape> Derives for Result<T> {
    type Value = T;

    fn derived(self) -> Result<Vec<u8>> {
        encode(&self?)
    }
}

/// The way to have a turn tried again. Set by the error that asks for it: a charm that makes none imports no such call.
static RETRY: OnceLock<fn(Duration, String) -> Error> = OnceLock::new();

/// Makes the error.
pub(crate) fn retry(after: Duration, words: String) -> Error {
    RETRY.get_or_init(|| {
        |after, words| match host::retry_after(millis(after)) {
            Ok(()) => Error::Rejected(words),
            Err(refusal) => Error::reject(format_args!("not tried again, {refusal}: {words}")),
        }
    });
    Error::RetryAfter { after, words }
}

/// What the host is told of a handler's end. One that asks for its turn to be tried again ends in the host's call, unless the
/// host refuses.
pub(crate) fn ended(result: Result<()>) -> Result<()> {
    match (result, RETRY.get()) {
        (Err(Error::RetryAfter { after, words }), Some(ask)) => Err(ask(after, words)),
        (result, _) => result,
    }
}
