//! Families of cells: state whose parts are known when the charm runs (C8).

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use crate::value::decode;
use crate::{Cell, Did, Error, Key, Result, Shape, context, host};

/// A family of cells: for each key a cell of its own, all with one type.
///
/// Fields of a `#[charm]` struct are families of the charm itself, fields of a `#[wish]` struct those of another charm, which can be
/// read as far as the operator's grants go: a family is granted as a whole. The member for a key is the cell `FAMILY:KEY`.
/// Turns that touch different members do not get in each other's way (T4), and a turn costs what it touches, however many
/// there are.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[data]
/// pub struct Item { name: String, done: bool }
///
/// #[charm]
/// pub struct Todo { items: Cells<u64, Item>, last: Cell<u64> }
///
/// #[handlers]
/// impl Todo {
///     pub fn add(&self, name: String) -> Result<()> {
///         let number = self.last.get()?.unwrap_or(0) + 1;
///         self.last.set(&number)?;
///         self.items.set(&number, &Item { name, done: false })
///     }
///
///     pub fn tick(&self, number: u64) -> Result<()> {
///         self.items.at(&number).at("done").set(&true)
///     }
///
///     pub fn sweep(&self, _: ()) -> Result<()> {
///         for entry in self.items.iter() {
///             let (number, item) = entry?;
///             if item.done {
///                 self.items.remove(&number)?;
///             }
///         }
///         Ok(())
///     }
/// }
/// ```
pub struct Cells<K, T> {
    /// None is this charm.
    owner: Option<Did>,
    name: Cow<'static, str>,
    member: PhantomData<fn() -> (K, T)>,
}

/// The part of a charm's cells that is listed.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) prefix: String,
    pub(crate) start: Option<String>,
    pub(crate) end: Option<String>,
}

/// The most members of one page: one call of the host.
const PAGE: u32 = 256;

impl<K: Key, T: Shape> Cells<K, T> {
    /// Names a family of the charm `owner`.
    pub fn open(owner: &Did, name: impl Into<String>) -> Self {
        Self { owner: Some(owner.clone()), name: Cow::Owned(name.into()), member: PhantomData }
    }

    /// Names a family of this charm: a field of its `#[charm]` struct, or one that is not declared, whose members nobody else
    /// can be granted and no shape holds for.
    pub fn own(name: impl Into<Cow<'static, str>>) -> Self {
        Self { owner: None, name: name.into(), member: PhantomData }
    }

    /// Returns the DID of the charm that it belongs to.
    pub fn owner(&self) -> Did {
        self.owner.clone().unwrap_or_else(context::me)
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the member for a key: a cell like any other, whether it holds something or not.
    pub fn at<Q: Key + ?Sized>(&self, key: &Q) -> Cell<T>
    where
        K: Borrow<Q>,
    {
        let name = self.prefix() + &key.text();
        self.owner.as_ref().map_or_else(|| Cell::own(name.clone()), |owner| Cell::open(owner, name.clone()))
    }

    /// Reads a member, `None` when it holds nothing.
    ///
    /// # Errors
    /// As [`Cell::get`].
    pub fn get<Q: Key + ?Sized>(&self, key: &Q) -> Result<Option<T>>
    where
        K: Borrow<Q>,
    {
        self.at(key).get()
    }

    /// Stages a write of a member.
    ///
    /// # Errors
    /// As [`Cell::set`], and [`Error::Invalid`] for a key whose text is too long.
    pub fn set<Q: Key + ?Sized>(&self, key: &Q, value: &T) -> Result<()>
    where
        K: Borrow<Q>,
    {
        self.at(key).set(value)
    }

    /// Stages the removal of a member. Removing what is not there is no write.
    ///
    /// # Errors
    /// As [`Cell::remove`].
    pub fn remove<Q: Key + ?Sized>(&self, key: &Q) -> Result<()>
    where
        K: Borrow<Q>,
    {
        self.at(key).remove()
    }

    /// Returns all its members.
    pub fn all(&self) -> Members<'_, K, T> {
        Members { family: self, span: Span { prefix: self.prefix(), start: None, end: None } }
    }

    /// Returns the members with keys in a range, in the order of their texts ([`Key`]).
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// fn since(orders: &Cells<u64, String>, number: u64) -> Result<Vec<u64>> {
    ///     orders.range(number..).keys().take(10).collect()
    /// }
    /// # let _ = since;
    /// ```
    pub fn range(&self, keys: impl RangeBounds<K>) -> Members<'_, K, T> {
        let text = |key: &K| self.prefix() + &key.text();
        // No name has a byte 0: this is the first text behind.
        let behind = |key: &K| text(key) + "\0";
        let start = match keys.start_bound() {
            Bound::Included(key) => Some(text(key)),
            Bound::Excluded(key) => Some(behind(key)),
            Bound::Unbounded => None,
        };
        let end = match keys.end_bound() {
            Bound::Included(key) => Some(behind(key)),
            Bound::Excluded(key) => Some(text(key)),
            Bound::Unbounded => None,
        };
        Members { family: self, span: Span { prefix: self.prefix(), start, end } }
    }

    /// Goes through the keys of its members: see [`Members::keys`].
    pub fn keys(&self) -> impl Iterator<Item = Result<K>> + use<'_, K, T> {
        self.all().keys()
    }

    /// Goes through its members: see [`Members::iter`].
    pub fn iter(&self) -> impl Iterator<Item = Result<(K, T)>> + use<'_, K, T> {
        self.all().iter()
    }

    /// Stages the removal of all its members: see [`Members::clear`].
    ///
    /// # Errors
    /// As there.
    pub fn clear(&self) -> Result<usize> {
        self.all().clear()
    }

    fn prefix(&self) -> String {
        format!("{}:", self.name)
    }
}

impl<T: Shape> Cells<String, T> {
    /// Returns the members whose keys begin with a text.
    pub fn starting_with(&self, text: &str) -> Members<'_, String, T> {
        Members { family: self, span: Span { prefix: self.prefix() + &text.text(), start: None, end: None } }
    }
}

impl<K, T> fmt::Debug for Cells<K, T> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Cells").field("owner", &self.owner).field("name", &self.name).finish()
    }
}

/// Members of a family, in the order of the texts of their keys. The host is asked for them page by page as they are needed.
///
/// They are what the snapshot shows with this turn's own writes, also with those that it makes meanwhile behind the page that it is at.
/// Which ones there are is read as a range: a turn that has gone through them is run again when one has come or gone there
/// before it committed (T4), and of values it depends on those that it got, and on the first that had no room in a page.
#[derive(Debug)]
pub struct Members<'cells, K, T> {
    family: &'cells Cells<K, T>,
    span: Span,
}

/// What a removal of many has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// How many members it has removed.
    pub count: usize,
    /// Whether there may be more.
    pub more: bool,
}

impl<'cells, K: Key, T: Shape> Members<'cells, K, T> {
    /// Goes through the keys alone: a change of a value is no conflict then.
    ///
    /// A member whose text is that of no key is an [`Error::Decode`], after which it goes on. After any other error, as
    /// [`Error::Denied`] or [`Error::Limit`], there is nothing more.
    pub fn keys(self) -> impl Iterator<Item = Result<K>> + use<'cells, K, T> {
        let Self { family, span } = self;
        let ask = move |span: &Span| host::names(family.owner.as_ref(), span, PAGE);
        Pages::new(span, ask).map(|name| family.key(&name?))
    }

    /// Goes through keys and values. Each value is a read of its cell.
    ///
    /// A member that does not fit, as one that an earlier version of the charm has written, is an [`Error::Decode`], after which it
    /// goes on: it is in nobody's way. After any other error there is nothing more.
    pub fn iter(self) -> impl Iterator<Item = Result<(K, T)>> + use<'cells, K, T> {
        let Self { family, span } = self;
        let ask = move |span: &Span| host::entries(family.owner.as_ref(), span, PAGE);
        Pages::new(span, ask).map(|entry| {
            let (name, value) = entry?;
            Ok((family.key(&name)?, decode(&value, &format_args!("cell `{name}`"))?))
        })
    }

    /// Stages the removal of all of them, and returns how many. A turn removes no more than it may write (`writes-max`, 10,000
    /// unless the operator says otherwise): where there can be more, take [`clear_some`](Self::clear_some).
    ///
    /// # Errors
    /// [`Error::WriteIsolation`] for a family of another charm, [`Error::Limit`].
    pub fn clear(self) -> Result<usize> {
        Ok(self.clear_some(u32::MAX)?.count)
    }

    /// As [`clear`](Self::clear), up to `max` of them, and says whether there may be more: another turn can go on.
    ///
    /// # Errors
    /// As [`clear`](Self::clear).
    pub fn clear_some(self, max: u32) -> Result<Cleared> {
        let Self { family, mut span } = self;
        let mut left = max;
        while left > 0 {
            let (count, next) = host::remove_all(family.owner.as_ref(), &span, left)?;
            left -= count.min(left);
            match next {
                None => return Ok(Cleared { count: (max - left) as usize, more: false }),
                next => span.start = next,
            }
        }
        Ok(Cleared { count: (max - left) as usize, more: true })
    }
}

impl<K: Key, T> Cells<K, T> {
    /// Returns the key of a member.
    fn key(&self, name: &str) -> Result<K> {
        let text = name.strip_prefix(&*self.name).and_then(|rest| rest.strip_prefix(':'));
        text.and_then(K::read).ok_or_else(|| {
            let key = std::any::type_name::<K>().rsplit("::").next().unwrap_or_default();
            Error::Decode(format!("cell `{name}`: what stands behind the family's name is no key of type `{key}`"))
        })
    }
}

/// What a host tells page by page.
struct Pages<I, F> {
    page: std::vec::IntoIter<I>,
    /// None at the end.
    rest: Option<Span>,
    ask: F,
}

impl<I, F: Fn(&Span) -> Result<(Vec<I>, Option<String>)>> Pages<I, F> {
    fn new(span: Span, ask: F) -> Self {
        Self { page: Vec::new().into_iter(), rest: Some(span), ask }
    }
}

impl<I, F: Fn(&Span) -> Result<(Vec<I>, Option<String>)>> Iterator for Pages<I, F> {
    type Item = Result<I>;

    fn next(&mut self) -> Option<Result<I>> {
        loop {
            if let Some(next) = self.page.next() {
                return Some(Ok(next));
            }
            let mut span = self.rest.take()?;
            match (self.ask)(&span) {
                Ok((page, next)) => {
                    self.page = page.into_iter();
                    self.rest = next.map(|next| {
                        span.start = Some(next);
                        span
                    });
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
