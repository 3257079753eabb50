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
    /// The one charm that is asked for.
    owner: Option<Did>,
    found: Vec<(Did, W)>,
    /// Where more may be found.
    next: Option<String>,
}

/// Charms of one page: one is what most ask for.
const PAGE: u32 = 64;

/// Charms that are named when more than one fits.
const NAMED: usize = 4;

/// What a wish comes to: each case is to be thought of.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
/// use charm_sdk::Fitting;
///
/// #[wish("#mailbox")]
/// struct Mailbox { did: Did, unread: Cell<u64> }
///
/// fn which() -> Result<String> {
///     Ok(match Mailbox::wish()?.fitting()? {
///         Fitting::None => "no mailbox yet".to_owned(),
///         Fitting::One(mailbox) => mailbox.did.to_string(),
///         Fitting::Many(mailboxes) => format!("choose one of {}", mailboxes.len()),
///     })
/// }
/// # let _ = which;
/// ```
#[derive(Debug)]
pub enum Fitting<W> {
    /// No charm fits.
    None,
    /// One does.
    One(W),
    /// Several do, in the order of their DIDs.
    Many(Vec<W>),
}

impl<W: Wished> Wish<W> {
    /// Returns the only one.
    ///
    /// # Errors
    /// [`Error::NotFound`] for none, [`Error::Ambiguous`] for several, with their DIDs: the operator can pin one; [`Error::Limit`].
    pub fn one(mut self) -> Result<W> {
        self.more(2)?;
        match (self.found.pop(), self.found.len()) {
            (None, _) => Err(Error::NotFound { tag: W::TAG.into() }),
            (Some((_, one)), 0) => Ok(one),
            (Some((last, _)), rest) => {
                let owners = self.found.into_iter().map(|(owner, _)| owner).chain([last]).take(NAMED).collect();
                Err(Error::Ambiguous { tag: W::TAG.into(), found: rest + 1, owners })
            }
        }
    }

    /// Returns the first, if any.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub fn first(mut self) -> Result<Option<W>> {
        self.more(1)?;
        Ok(self.found.into_iter().next().map(|(_, first)| first))
    }

    /// Returns all of them, as none, one or many.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub fn fitting(self) -> Result<Fitting<W>> {
        let mut all = self.all()?;
        Ok(match (all.pop(), all.is_empty()) {
            (None, _) => Fitting::None,
            (Some(one), true) => Fitting::One(one),
            (Some(last), false) => {
                all.push(last);
                Fitting::Many(all)
            }
        })
    }

    /// Returns all of them.
    ///
    /// # Errors
    /// [`Error::Limit`] when they are more than a turn may hold handles to: [`each`](Self::each) has no such bound.
    pub fn all(mut self) -> Result<Vec<W>> {
        self.more(usize::MAX)?;
        Ok(self.found.into_iter().map(|(_, one)| one).collect())
    }

    /// Returns one after the other, however many there are: they are asked for as they are needed. What is dropped on the way
    /// makes room for the next.
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    ///
    /// #[wish("#mailbox")]
    /// struct Mailbox { unread: Cell<u64> }
    ///
    /// fn all_unread() -> Result<u64> {
    ///     Mailbox::wish()?.each().try_fold(0, |sum, mailbox| Ok(sum + mailbox?.unread.get()?.unwrap_or(0)))
    /// }
    /// # let _ = all_unread;
    /// ```
    pub fn each(self) -> impl Iterator<Item = Result<W>> {
        let Self { owner, found, mut next } = self;
        let mut found = found.into_iter();
        std::iter::from_fn(move || {
            loop {
                if let Some((_, one)) = found.next() {
                    return Some(Ok(one));
                }
                match page(owner.as_ref(), Some(next.take()?)) {
                    Ok(more) => (found, next) = (more.found.into_iter(), more.next),
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }

    /// Asks until so many are found, or there are no more.
    fn more(&mut self, wanted: usize) -> Result<()> {
        while self.found.len() < wanted
            && let Some(next) = self.next.take()
        {
            let Self { found, next, .. } = page(self.owner.as_ref(), Some(next))?;
            self.found.extend(found);
            self.next = next;
        }
        Ok(())
    }
}

fn page<W: Wished>(owner: Option<&Did>, cursor: Option<String>) -> Result<Wish<W>> {
    let mut wanted = Wanted { owner: owner.cloned(), ..Wanted::default() };
    W::wanted(&mut wanted);
    let Offers { found, next } = host::wish(W::TAG, &wanted, PAGE, cursor)?;
    let bind = |mut found: Found| (found.owner.clone(), W::bind(&mut found));
    Ok(Wish { owner: wanted.owner, found: found.into_iter().map(bind).collect(), next })
}

/// Asks the host, for one charm or for all. `#[wish]` calls it.
#[doc(hidden)]
pub fn ask<W: Wished>(owner: Option<&Did>) -> Result<Wish<W>> {
    page(owner, None)
}

/// What a charm must offer.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Wanted {
    pub(crate) cells: Vec<Declaration>,
    pub(crate) streams: Vec<Declaration>,
    pub(crate) owner: Option<Did>,
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

/// Who it is that fits: nothing more is asked of them.
impl WishField for Did {
    fn want(_: &'static str, _: &mut Wanted) {}

    fn bind(_: &'static str, from: &mut Found) -> Self {
        from.owner.clone()
    }
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
