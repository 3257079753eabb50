//! Sells, and has each sale entered in the books of another charm.
//!
//! Nobody at the till waits for that. What became of an entry comes later, as an event to `booked` with the sale that it is
//! about (S6). A handler that has to go on with what another charm did waits instead: see `gmail-search`.

use charm_sdk::prelude::*;

/// What is needed of the charm that keeps the books.
#[wish("#counter")]
struct Books {
    add: Stream<i64>,
}

/// The event of `sell`.
#[data]
pub struct Sale {
    pub item: String,
    pub cents: i64,
}

/// A sale that did not get into the books.
#[data]
pub struct Unbooked {
    pub sale: Sale,
    pub why: String,
}

#[charm(tags("#till"))]
pub struct Till {
    /// How many cents are known to be in the books.
    booked: Cell<i64>,
    unbooked: Cell<Vec<Unbooked>>,
}

#[handlers]
impl Till {
    /// Is over at once, whatever the books say.
    pub fn sell(&self, sale: Sale) -> Result<()> {
        Books::wish()?.one()?.add.send_then(&sale.cents, Self::BOOKED, &sale)?;
        Ok(())
    }

    /// Comes once for each sale. The sale is had only with what became of it.
    pub fn booked(&self, done: Settled<Sale>) -> Result<()> {
        match done.committed() {
            Ok(sale) => {
                let booked = self.booked.get()?.unwrap_or(0);
                self.booked.set(&(booked + sale.cents))
            }
            Err(failed) => {
                let why = failed.receipt.message.unwrap_or_else(|| failed.receipt.outcome.to_string());
                let mut unbooked = self.unbooked.get()?.unwrap_or_default();
                unbooked.push(Unbooked { sale: failed.tag, why });
                self.unbooked.set(&unbooked)
            }
        }
    }
}
