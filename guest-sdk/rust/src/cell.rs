//! Cells: the state of charms (C1-C4).

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::marker::PhantomData;

use crate::value::{decode, encode};
use crate::{Did, Error, Result, Shape, context, host};

/// One cell holding a `T`.
///
/// Fields of a `#[charm]` struct are the charm's own cells; fields of a `#[wish]` struct are cells of another
/// charm, which can be read as far as the operator's grants go and never written (T2). Reads see one snapshot
/// plus this turn's own writes (T3). The host opens the cell at the first use.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[data]
/// pub struct Item { name: String, done: bool }
///
/// #[charm]
/// pub struct Todo { items: Cell<Vec<Item>> }
///
/// #[handlers]
/// impl Todo {
///     pub fn add(&self, name: String) -> Result<()> {
///         let mut items = self.items.get()?.unwrap_or_default();
///         items.push(Item { name, done: false });
///         self.items.set(&items)
///     }
///
///     pub fn tick(&self, index: u32) -> Result<()> {
///         self.items.at(index).at("done").set(&true) // touches that path only
///     }
/// }
/// ```
pub struct Cell<T> {
    /// None is this charm.
    owner: Option<Did>,
    name: Cow<'static, str>,
    handle: OnceCell<host::Cell>,
    value: PhantomData<fn() -> T>,
}

impl<T: Shape> Cell<T> {
    /// Names a cell of the charm `owner`, for a name that is known only when the charm runs.
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// fn read(owner: &Did) -> Result<Option<String>> {
    ///     Cell::open(owner, "title").get()
    /// }
    /// # let _ = read;
    /// ```
    pub fn open(owner: &Did, name: impl Into<String>) -> Self {
        Self::new(Some(owner.clone()), Cow::Owned(name.into()), OnceCell::new())
    }

    /// Names a cell of this charm that is no field of its struct: nobody else can be granted it, and no shape holds for it. For
    /// a cell for each of many keys take [`Cells`](crate::Cells).
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// fn reset() -> Result<()> {
    ///     Cell::<u64>::own("scratch").remove() // a field of an earlier version
    /// }
    /// # let _ = reset;
    /// ```
    pub fn own(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(None, name.into(), OnceCell::new())
    }

    /// A cell that the host has opened already.
    pub(crate) fn found(owner: Did, name: &'static str, handle: host::Cell) -> Self {
        Self::new(Some(owner), Cow::Borrowed(name), handle.into())
    }

    fn new(owner: Option<Did>, name: Cow<'static, str>, handle: OnceCell<host::Cell>) -> Self {
        Self { owner, name, handle, value: PhantomData }
    }

    /// Returns the DID of the charm that it belongs to.
    pub fn owner(&self) -> Did {
        self.owner.clone().unwrap_or_else(context::me)
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads the value, `None` when the cell holds nothing.
    ///
    /// # Errors
    /// [`Error::Denied`], and [`Error::Decode`] when the value is not a `T`.
    pub fn get(&self) -> Result<Option<T>> {
        self.read(&[])
    }

    /// Reads a value that has to be there.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Error::Missing`] when the cell holds nothing.
    pub fn need(&self) -> Result<T> {
        self.get()?.ok_or_else(|| Error::Missing { owner: self.owner(), name: self.name.clone().into_owned() })
    }

    /// Stages a write. An equal value is no write (C4).
    ///
    /// # Errors
    /// [`Error::WriteIsolation`] for a cell of another charm, [`Error::Limit`].
    pub fn set(&self, value: &T) -> Result<()> {
        self.write(&[], value)
    }

    /// Stages the removal of the cell. Removing what is not there is no write.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn remove(&self) -> Result<()> {
        self.handle()?.remove(&[])
    }

    /// Goes one step into the value: a `&str` is a map key, a `u32` a list index.
    ///
    /// A read there depends on that path only, so it conflicts with fewer others (T4).
    pub fn at(&self, step: impl Into<Segment>) -> At<'_, T> {
        At { cell: self, path: vec![step.into()] }
    }

    fn handle(&self) -> Result<&host::Cell> {
        if let Some(handle) = self.handle.get() {
            return Ok(handle);
        }
        let handle = host::Cell::open(self.owner.as_ref(), &self.name)?;
        Ok(self.handle.get_or_init(|| handle))
    }

    fn read<U: Shape>(&self, path: &[Segment]) -> Result<Option<U>> {
        let bytes = self.handle()?.get(path)?;
        bytes.map(|bytes| decode(&bytes, &format_args!("cell `{}{}`", self.name, Path(path)))).transpose()
    }

    fn write<U: Shape>(&self, path: &[Segment], value: &U) -> Result<()> {
        self.handle()?.set(path, encode(value)?)
    }
}

impl<T> fmt::Debug for Cell<T> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Cell").field("owner", &self.owner).field("name", &self.name).finish()
    }
}

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Into a map.
    Key(String),
    /// Into a list.
    Index(u32),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.into())
    }
}

impl From<String> for Segment {
    fn from(key: String) -> Self {
        Self::Key(key)
    }
}

impl From<u32> for Segment {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

/// A place inside a cell's value: see [`Cell::at`].
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// fn first_name(people: &Cell<Value>) -> Result<Option<String>> {
///     people.at(0).at("name").get()
/// }
/// # let _ = first_name;
/// ```
#[derive(Debug)]
pub struct At<'cell, T> {
    cell: &'cell Cell<T>,
    path: Vec<Segment>,
}

impl<T: Shape> At<'_, T> {
    /// Goes one step further.
    pub fn at(mut self, step: impl Into<Segment>) -> Self {
        self.path.push(step.into());
        self
    }

    /// Reads the value there, `None` where a key or index is missing.
    ///
    /// # Errors
    /// As [`Cell::get`], and [`Error::TypeMismatch`] when the path leads through a scalar.
    pub fn get<U: Shape>(&self) -> Result<Option<U>> {
        self.cell.read(&self.path)
    }

    /// Stages a write there; missing parents are made. An index may be at most one past the end.
    ///
    /// # Errors
    /// As [`Cell::set`], and [`Error::TypeMismatch`] when the path leads through a scalar.
    pub fn set<U: Shape>(&self, value: &U) -> Result<()> {
        self.cell.write(&self.path, value)
    }

    /// Stages the removal of what is there.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn remove(&self) -> Result<()> {
        self.cell.handle()?.remove(&self.path)
    }
}

/// A path as text, like `/items/0`.
pub(crate) struct Path<'a>(pub &'a [Segment]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Key(key) if is_plain(key) => write!(to, "/{key}"),
            Segment::Key(key) => write!(to, "/'{}'", key.replace('\'', "''")),
            Segment::Index(index) => write!(to, "/{index}"),
        })
    }
}

/// Whether a key stands in a path as it is.
fn is_plain(key: &str) -> bool {
    !key.is_empty() && !key.bytes().all(|b| b.is_ascii_digit()) && !key.contains(['/', '\''])
}
