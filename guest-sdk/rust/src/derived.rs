//! Derived cells: what a charm computes from others (D1-D5).

use std::fmt;
use std::marker::PhantomData;

use crate::{Cell, Result, Shape};

/// The name of a cell that a charm computes itself. `#[handlers]` makes one constant for each `#[derived]` function.
///
/// Others read it as a [`Cell`]. Nobody writes it: a write is [`Error::ReadOnly`](crate::Error::ReadOnly).
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[charm]
/// pub struct Basket { prices: Cell<Vec<u64>>, limit: Cell<u64> }
///
/// #[handlers]
/// impl Basket {
///     pub fn add(&self, price: u64) -> Result<()> {
///         let mut prices = self.prices.get()?.unwrap_or_default();
///         prices.push(price);
///         self.prices.set(&prices)?;
///         // Sees what was just written.
///         if Self::TOTAL.get()? > self.limit.get()?.unwrap_or(100) {
///             reject!("too much for this basket");
///         }
///         Ok(())
///     }
///
///     /// Becomes the derived cell `total`.
///     #[derived]
///     pub fn total(&self) -> Result<u64> {
///         Ok(self.prices.get()?.unwrap_or_default().iter().sum())
///     }
/// }
///
/// # #[cfg(not(target_arch = "wasm32"))] {
/// let host = charm_sdk::testing::Host::new();
/// let basket = host.install::<Basket>("basket");
/// assert_eq!(host.deliver(&basket, Basket::ADD, &60).outcome, Outcome::Committed);
/// assert_eq!(host.deliver(&basket, Basket::ADD, &60).outcome, Outcome::Rejected);
/// assert_eq!(host.cell(&basket, "total"), Some(60));
/// # }
/// ```
pub struct Derived<T> {
    name: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T> Derived<T> {
    #[doc(hidden)]
    pub const fn new(name: &'static str) -> Self {
        Self { name, value: PhantomData }
    }

    /// Returns its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T: Shape> Derived<T> {
    /// Reads the value. It is never older than what it is computed from (D3).
    ///
    /// # Errors
    /// [`Error::Underivable`](crate::Error::Underivable) and [`Error::Cycle`](crate::Error::Cycle).
    pub fn get(&self) -> Result<T> {
        self.cell().need()
    }

    /// Returns the cell, for reading at a path.
    pub fn cell(&self) -> Cell<T> {
        Cell::own(self.name)
    }
}

impl<T> Clone for Derived<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Derived<T> {}

impl<T> fmt::Debug for Derived<T> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Derived({})", self.name)
    }
}
