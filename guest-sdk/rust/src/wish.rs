//! Finding other charms by tag (D7).

use crate::charm::Declaration;
use crate::{Cell, Cells, Did, Error, Key, Result, Shape, Stream, host};

/// A struct made by `#[wish("#tag")]`.
pub trait Wished: Sized {
    /// The tag that is asked for.
    const TAG: &'static str;

    #[doc(hidden)]
    fn wanted(to: &mut Wanted);

    #[doc(hidden)]
    fn bind(from: &mut Found) -> Self;
}

/// The charms that fit a wish, in a stable order: by DID.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[wish("#mailbox")]
/// struct Mailbox { unread: Cell<u64> }
///
/// fn all_unread() -> Result<u64> {
///     let mut sum = 0;
///     for mailbox in Mailbox::wish()?.all()? {
///         sum += mailbox.unread.get()?.unwrap_or(0);
///     }
///     Ok(sum)
/// }
/// # let _ = all_unread;
/// ```
#[derive(Debug)]
pub struct Wish<W> {
    found: Vec<W>,
    /// Where more may be found.
    next: Option<String>,
}

/// Charms of one page: one is what most ask for.
const PAGE: u32 = 64;

impl<W: Wished> Wish<W> {
    /// Returns the only one.
    ///
    /// # Errors
    /// [`Error::NotFound`] for none, [`Error::Ambiguous`] for several, [`Error::Limit`].
    pub fn one(mut self) -> Result<W> {
        self.more(2)?;
        match (self.found.pop(), self.found.len()) {
            (None, _) => Err(Error::NotFound { tag: W::TAG.into() }),
            (Some(one), 0) => Ok(one),
            (Some(_), rest) => Err(Error::Ambiguous { tag: W::TAG.into(), found: rest + 1 }),
        }
    }

    /// Returns the first, if any.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub fn first(mut self) -> Result<Option<W>> {
        self.more(1)?;
        Ok(self.found.into_iter().next())
    }

    /// Returns all of them.
    ///
    /// # Errors
    /// [`Error::Limit`] when they are more than a turn may hold handles to.
    pub fn all(mut self) -> Result<Vec<W>> {
        self.more(usize::MAX)?;
        Ok(self.found)
    }

    /// Asks until so many are found, or there are no more.
    fn more(&mut self, wanted: usize) -> Result<()> {
        while self.found.len() < wanted
            && let Some(next) = self.next.take()
        {
            let Self { found, next } = page(Some(next))?;
            self.found.extend(found);
            self.next = next;
        }
        Ok(())
    }
}

fn page<W: Wished>(cursor: Option<String>) -> Result<Wish<W>> {
    let mut wanted = Wanted::default();
    W::wanted(&mut wanted);
    let Offers { found, next } = host::wish(W::TAG, &wanted, PAGE, cursor)?;
    Ok(Wish { found: found.into_iter().map(|mut found| W::bind(&mut found)).collect(), next })
}

/// Asks the host. `#[wish]` calls it.
#[doc(hidden)]
pub fn ask<W: Wished>() -> Result<Wish<W>> {
    page(None)
}

/// What a charm must offer.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Wanted {
    pub(crate) cells: Vec<Declaration>,
    pub(crate) streams: Vec<Declaration>,
}

/// One page of an answer.
pub(crate) struct Offers {
    pub(crate) found: Vec<Found>,
    pub(crate) next: Option<String>,
}

/// One charm that offers it; handles in the order of the wanted ones.
#[doc(hidden)]
pub struct Found {
    pub(crate) owner: Did,
    pub(crate) cells: std::vec::IntoIter<host::Cell>,
    pub(crate) streams: std::vec::IntoIter<host::Stream>,
}

/// A field of a `#[wish]` struct.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a wish asks for cells and streams, not for `{Self}`",
    label = "write `Cell<..>`, `Cells<..>` or `Stream<..>`"
)]
pub trait WishField: Sized {
    fn want(name: &'static str, to: &mut Wanted);
    fn bind(name: &'static str, from: &mut Found) -> Self;
}

impl<T: Shape> WishField for Cell<T> {
    fn want(name: &'static str, to: &mut Wanted) {
        to.cells.push(Declaration::of::<T>(name));
    }

    fn bind(name: &'static str, from: &mut Found) -> Self {
        match from.cells.next() {
            Some(handle) => Self::found(from.owner.clone(), name, handle),
            None => Self::open(&from.owner, name),
        }
    }
}

/// A name that ends so asks for a family.
impl<K: Key, T: Shape> WishField for Cells<K, T> {
    fn want(name: &'static str, to: &mut Wanted) {
        to.cells.push(Declaration::of::<T>(&format!("{name}:")));
    }

    fn bind(name: &'static str, from: &mut Found) -> Self {
        // The handle of no member that anybody asked for.
        drop(from.cells.next());
        Self::open(&from.owner, name)
    }
}

impl<E: Shape> WishField for Stream<E> {
    fn want(name: &'static str, to: &mut Wanted) {
        to.streams.push(Declaration::of::<E>(name));
    }

    fn bind(name: &'static str, from: &mut Found) -> Self {
        match from.streams.next() {
            Some(handle) => Self::found(from.owner.clone(), name, handle),
            None => Self::open(&from.owner, name),
        }
    }
}
