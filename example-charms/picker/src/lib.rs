//! Shows the count of one of several charms: of the one that was picked, or of the only one there is.
//!
//! They are found by their tag. What is picked is kept as a link to its count (C5): a name, and no right. `shown` reads
//! through it, and so depends on the picked one alone, and on another one when another one is picked (D5).

use charm_sdk::prelude::*;

/// What is needed of a charm that can be picked.
#[wish("#counter")]
struct Counter {
    did: Did,
    count: Cell<i64>,
}

/// What there is to see.
#[data]
pub enum Shown {
    /// No charm fits.
    Nothing,
    /// The count, when there is one already.
    Count(Option<i64>),
    /// Several fit: somebody has to pick one.
    Choose(Vec<Did>),
}

#[charm(tags("#picker"))]
pub struct Picker {
    picked: Cell<Link<i64>>,
}

#[handlers]
impl Picker {
    /// Picks one of those that fit.
    pub fn pick(&self, who: Did) -> Result<()> {
        self.picked.set(&Counter::wish_of(&who)?.one()?.count.link())
    }

    pub fn forget(&self, _: ()) -> Result<()> {
        self.picked.remove()
    }

    #[derived]
    pub fn shown(&self) -> Result<Shown> {
        if let Some(picked) = self.picked.get()? {
            return Ok(Shown::Count(picked.get()?));
        }
        Ok(match Counter::wish()?.fitting()? {
            Fitting::None => Shown::Nothing,
            Fitting::One(only) => Shown::Count(only.count.get()?),
            Fitting::Many(all) => Shown::Choose(all.into_iter().map(|one| one.did).collect()),
        })
    }
}
