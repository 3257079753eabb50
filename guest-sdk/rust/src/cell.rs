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
///         self.items.push(&Item { name, done: false }) // moves and writes that item only
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
    /// Where in the cell it begins.
    base: Vec<Segment>,
    handle: OnceCell<host::Cell>,
    value: PhantomData<fn() -> T>,
}

impl<T> Cell<T> {
    /// What a link names.
    pub(crate) fn at_place(owner: Did, name: String, base: Vec<Segment>) -> Self {
        Self { base, ..Self::new(Some(owner), Cow::Owned(name), OnceCell::new()) }
    }

    /// Its owner and its name, and where in the cell it begins.
    pub(crate) fn place(&self) -> (Did, String, Vec<Segment>) {
        let owner = self.owner.clone().unwrap_or_else(context::me);
        (owner, self.name.clone().into_owned(), self.base.clone())
    }

    fn new(owner: Option<Did>, name: Cow<'static, str>, handle: OnceCell<host::Cell>) -> Self {
        Self { owner, name, base: Vec::new(), handle, value: PhantomData }
    }
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
        self.read(&self.base)
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
        self.write(&self.base, value)
    }

    /// Stages the removal of the cell. Removing what is not there is no write.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn remove(&self) -> Result<()> {
        self.handle()?.remove(&self.base)
    }

    /// Reads the value, changes it and writes it; a cell that holds nothing begins with the default. Returns what `change` does.
    ///
    /// All of the value is read and written. What [`push`](Cell::push), [`increment`](Cell::increment) and their like can do,
    /// or [`at`](Self::at), costs less.
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`set`](Self::set).
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    /// fn sort(names: &Cell<Vec<String>>) -> Result<()> {
    ///     names.update(|names| names.sort())
    /// }
    /// # let _ = sort;
    /// ```
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R>
    where
        T: Default,
    {
        self.change(&self.base, change)
    }

    /// Goes one step into the value: a `&str` is a map key, a `u32` a list index.
    ///
    /// A read there depends on that path only, so it conflicts with fewer others (T4).
    pub fn at(&self, step: impl Into<Segment>) -> At<'_, T> {
        At { cell: self, path: self.base.iter().cloned().chain([step.into()]).collect() }
    }

    pub(crate) fn base(&self) -> &[Segment] {
        &self.base
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

    fn change<U: Shape + Default, R>(&self, path: &[Segment], change: impl FnOnce(&mut U) -> R) -> Result<R> {
        let mut value = self.read(path)?.unwrap_or_default();
        let result = change(&mut value);
        self.write(path, &value)?;
        Ok(result)
    }
}

/// A list that is written item by item: what the handler does not name does not move, whatever the list holds.
impl<T: Shape> Cell<Vec<T>> {
    /// Stages that an item comes behind the last. A cell that holds nothing becomes a list.
    ///
    /// # Errors
    /// As [`set`](Self::set), and [`Error::TypeMismatch`] when the cell holds something else.
    pub fn push(&self, item: &T) -> Result<()> {
        self.handle()?.append(&self.base, &encode(item)?)
    }

    /// As [`push`](Self::push), unless an equal item is there: then it is no write. The host looks at the whole list, and
    /// charges for that.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    ///
    /// #[charm]
    /// pub struct Post { liked_by: Cell<Vec<Did>>, likes: Cell<u64> }
    ///
    /// #[handlers]
    /// impl Post {
    ///     pub fn like(&self, _: ()) -> Result<()> {
    ///         self.likes.increment(1)?;
    ///         self.liked_by.add_unique(&context::sender())
    ///     }
    ///
    ///     pub fn unlike(&self, _: ()) -> Result<()> {
    ///         self.likes.increment(-1)?;
    ///         self.liked_by.remove_value(&context::sender())
    ///     }
    /// }
    /// ```
    pub fn add_unique(&self, item: &T) -> Result<()> {
        self.handle()?.add_unique(&self.base, &encode(item)?)
    }

    /// Stages the removal of every equal item. Removing what is not there is no write. The host looks at the whole list, and
    /// charges for that.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn remove_value(&self, item: &T) -> Result<()> {
        self.handle()?.remove_by_value(&self.base, &encode(item)?)
    }
}

impl<T: Number> Cell<T> {
    /// Stages that the number becomes larger by `by`. A cell that holds nothing counts from 0; by 0 is no write.
    ///
    /// # Errors
    /// As [`set`](Self::set), and [`Error::TypeMismatch`] when the cell holds something else, or the sum is beyond what a value
    /// can be. A sum beyond `T` is a fault at the end of the turn: it does not fit the cell's shape.
    pub fn increment<N: Number<Kind = T::Kind>>(&self, by: N) -> Result<()> {
        self.handle()?.increment(&self.base, &encode(&by)?)
    }
}

/// What a cell can count in: [`Cell::increment`].
pub trait Number: Shape {
    /// [`Integers`] or [`Floats`]: they do not mix.
    type Kind;
}

/// The kind of integers.
#[derive(Debug)]
pub enum Integers {}

/// The kind of floats.
#[derive(Debug)]
pub enum Floats {}

macro_rules! numbers {
    ($($kind:ident: $($type:ident)+;)+) => {$($(
        impl Number for $type {
            type Kind = $kind;
        }
    )+)+};
}

numbers! {
    Integers: u8 u16 u32 u64 usize i8 i16 i32 i64 isize;
    Floats: f32 f64;
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
    pub(crate) fn cell(&self) -> &Cell<T> {
        self.cell
    }

    pub(crate) fn path(&self) -> &[Segment] {
        &self.path
    }

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

    /// Reads what is there, changes it and writes it: see [`Cell::update`].
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`set`](Self::set).
    pub fn update<U: Shape + Default, R>(&self, change: impl FnOnce(&mut U) -> R) -> Result<R> {
        self.cell.change(&self.path, change)
    }

    /// Stages that an item comes behind the last of the list there: see [`Cell::push`].
    ///
    /// # Errors
    /// As [`set`](Self::set), and [`Error::TypeMismatch`] when something else is there.
    pub fn push<U: Shape>(&self, item: &U) -> Result<()> {
        self.cell.handle()?.append(&self.path, &encode(item)?)
    }

    /// As [`push`](Self::push), unless an equal item is there: see [`Cell::add_unique`].
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn add_unique<U: Shape>(&self, item: &U) -> Result<()> {
        self.cell.handle()?.add_unique(&self.path, &encode(item)?)
    }

    /// Stages the removal of every equal item of the list there: see [`Cell::remove_value`].
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn remove_value<U: Shape>(&self, item: &U) -> Result<()> {
        self.cell.handle()?.remove_by_value(&self.path, &encode(item)?)
    }

    /// Stages that the number there becomes larger by `by`: see [`Cell::increment`].
    ///
    /// # Errors
    /// As [`push`](Self::push), also for a sum that is beyond what a value can be.
    pub fn increment<N: Number>(&self, by: N) -> Result<()> {
        self.cell.handle()?.increment(&self.path, &encode(&by)?)
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
