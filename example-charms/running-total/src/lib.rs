//! A total that runs over several charms.
//!
//! Each keeps entries of its own and computes their total. `overall` is computed from the totals of all that this charm may
//! read: it finds them by their tag, itself too. It is never behind an entry, of whomever (D3).

use charm_sdk::prelude::*;

/// What is needed of a charm whose total counts.
#[wish("#running-total")]
struct Part {
    total: Cell<i64>,
}

#[data]
pub struct Entry {
    pub what: String,
    pub cents: i64,
}

#[charm(tags("#running-total"))]
pub struct RunningTotal {
    entries: Cell<Vec<Entry>>,
    /// What `overall` was when the books were last closed.
    closed: Cell<i64>,
}

#[handlers]
impl RunningTotal {
    /// Is refused when all together have spent more than they have.
    pub fn enter(&self, entry: Entry) -> Result<()> {
        self.entries.push(&entry)?;
        let overall = Self::OVERALL.get()?; // with this entry
        if overall < 0 {
            reject!("{} cents are missing for {}", -overall, entry.what);
        }
        Ok(())
    }

    pub fn close(&self, _: ()) -> Result<()> {
        self.closed.set(&Self::OVERALL.get()?)
    }

    /// The sum of the entries here.
    #[derived]
    pub fn total(&self) -> Result<i64> {
        Ok(self.entries.get()?.unwrap_or_default().iter().map(|entry| entry.cents).sum())
    }

    /// The sum of the totals of all charms that this one may read.
    #[derived]
    pub fn overall(&self) -> Result<i64> {
        Part::wish()?.each().try_fold(0, |sum, part| Ok(sum + part?.total.need()?))
    }
}
