//! Links: cells and streams that stand in values (C5).

use std::fmt;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};

use crate::cell::At;
use crate::value::{Cid, encode, read_exactly};
use crate::{Cell, Did, OwnStream, Segment, Shape, ShapeText, Stream, Value, context};

/// A link to a cell, or to a place in one, that holds a `T`: it stands in cells and events, and is used like a [`Cell`].
///
/// It is a name and no right: who reads through it needs the operator's grant for the cell that it names, and only the owner
/// of that cell writes through it. A path that leads through a link goes on in that cell by itself.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[data]
/// pub struct Task { text: String, done: bool }
///
/// #[charm]
/// pub struct Tasks { all: Cell<Vec<Task>>, urgent: Cell<Link<Task>> }
///
/// #[handlers]
/// impl Tasks {
///     pub fn mark(&self, index: u32) -> Result<()> {
///         self.urgent.set(&self.all.at(index).link())
///     }
///
///     pub fn done(&self, _: ()) -> Result<()> {
///         self.urgent.need()?.at("done").set(&true) // of the task itself, in `all`
///     }
/// }
/// # #[cfg(not(target_arch = "wasm32"))] {
/// # let host = charm_sdk::testing::Host::new();
/// # let tasks = host.install::<Tasks>("tasks");
/// # host.on_event(&tasks, Tasks::DONE, |_: ()| {
/// #     Cell::<Vec<Task>>::own("all").push(&Task { text: "x".into(), done: false })?;
/// #     let charm = Cell::<Link<Task>>::own("urgent");
/// #     charm.set(&Cell::<Vec<Task>>::own("all").at(0).link())?;
/// #     charm.need()?.at("done").set(&true)
/// # });
/// # host.deliver(&tasks, Tasks::DONE, &()).committed().unwrap();
/// # assert!(host.cell::<Vec<Task>>(&tasks, "all").unwrap()[0].done);
/// # }
/// ```
pub struct Link<T>(Cell<T>);

/// A link to a stream that takes events of type `E`: it stands in cells and events, and is used like a [`Stream`].
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[data]
/// pub struct Order { what: String, tell: StreamLink<String> }
///
/// #[charm]
/// pub struct Kitchen { orders: Cell<Vec<Order>> }
///
/// #[handlers]
/// impl Kitchen {
///     pub fn order(&self, order: Order) -> Result<()> {
///         self.orders.push(&order)
///     }
///
///     pub fn ready(&self, index: u32) -> Result<()> {
///         let order: Order = self.orders.at(index).get()?.ok_or_else(|| Error::reject("no such order"))?;
///         order.tell.send(&order.what)?;
///         Ok(())
///     }
/// }
/// assert_eq!(Order::shape(), "{what: string, tell: link}");
/// ```
pub struct StreamLink<E>(Stream<E>);

/// How a CID begins that carries its content: version 1, DAG-CBOR, identity.
const CARRYING: [u8; 3] = [0x01, 0x71, 0x00];

/// What a link names: owner and name, and the path of a cell.
pub(crate) type Named = (Did, String, Option<Vec<Segment>>);

/// Makes a link.
pub(crate) fn cid(owner: &Did, name: &str, path: Option<&[Segment]>) -> crate::Result<Cid> {
    let step = |step: &Segment| match step {
        Segment::Key(key) => Value::String(key.clone()),
        Segment::Index(index) => Value::Integer((*index).into()),
    };
    let mut parts = vec![Value::String(owner.as_str().into()), Value::String(name.into())];
    parts.extend(path.map(|path| Value::List(path.iter().map(step).collect())));
    let content = encode(&Value::List(parts))?;
    let (mut bytes, mut left) = (CARRYING.to_vec(), content.len());
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend(content);
    Ok(Cid(bytes))
}

/// Reads a link; none when the CID is none to a cell or stream.
pub(crate) fn named(link: &Cid) -> Option<Named> {
    let rest = link.0.strip_prefix(&CARRYING)?;
    let length = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let Value::List(parts) = read_exactly(&rest[length..])? else { return None };
    let step = |step: &Value| match step {
        Value::String(key) => Some(Segment::Key(key.clone())),
        Value::Integer(index) => u32::try_from(*index).ok().map(Segment::Index),
        _ => None,
    };
    let (owner, name, path) = match &parts[..] {
        [Value::String(owner), Value::String(name)] => (owner, name, None),
        [Value::String(owner), Value::String(name), Value::List(path)] => {
            (owner, name, Some(path.iter().map(step).collect::<Option<Vec<_>>>()?))
        }
        _ => return None,
    };
    let owner = Did::from(owner.as_str());
    // It has one form.
    let again = cid(&owner, name, path.as_deref()).ok()?;
    (again == *link).then(|| (owner, name.clone(), path))
}

impl<T: Shape> Cell<T> {
    /// Makes a link to this cell: a value that names it.
    pub fn link(&self) -> Link<T> {
        Link(Self::at_place(self.owner(), self.name().into(), self.base().to_vec()))
    }
}

impl<T: Shape> At<'_, T> {
    /// Makes a link to this place: a value that names it.
    pub fn link<U: Shape>(&self) -> Link<U> {
        Link(Cell::at_place(self.cell().owner(), self.cell().name().into(), self.path().to_vec()))
    }
}

impl<E: Shape> Stream<E> {
    /// Makes a link to this stream: a value that names it.
    pub fn link(&self) -> StreamLink<E> {
        StreamLink(Stream::of(self.owner(), self.name().into()))
    }
}

impl<E: Shape> OwnStream<E> {
    /// Makes a link to this stream: whoever gets it can answer there, as far as the operator's grants go.
    pub fn link(&self) -> StreamLink<E> {
        StreamLink(Stream::of(context::me(), self.name().into()))
    }
}

impl<T> Deref for Link<T> {
    type Target = Cell<T>;

    fn deref(&self) -> &Cell<T> {
        &self.0
    }
}

impl<E> Deref for StreamLink<E> {
    type Target = Stream<E>;

    fn deref(&self) -> &Stream<E> {
        &self.0
    }
}

impl<T> Clone for Link<T> {
    fn clone(&self) -> Self {
        let (owner, name, base) = self.0.place();
        Self(Cell::at_place(owner, name, base))
    }
}

impl<E> Clone for StreamLink<E> {
    fn clone(&self) -> Self {
        let (owner, name) = self.0.place();
        Self(Stream::of(owner, name))
    }
}

/// Of the same place.
impl<T> PartialEq for Link<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.place() == other.0.place()
    }
}

impl<T> Eq for Link<T> {}

/// Of the same stream.
impl<E> PartialEq for StreamLink<E> {
    fn eq(&self, other: &Self) -> bool {
        self.0.place() == other.0.place()
    }
}

impl<E> Eq for StreamLink<E> {}

impl<T> fmt::Debug for Link<T> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owner, name, path) = self.0.place();
        write!(to, "Link({owner}/{name}{})", crate::cell::Path(&path))
    }
}

impl<E> fmt::Debug for StreamLink<E> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owner, name) = self.0.place();
        write!(to, "StreamLink({owner}/{name})")
    }
}

impl<T> Serialize for Link<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (owner, name, path) = self.0.place();
        cid(&owner, &name, Some(&path)).map_err(S::Error::custom)?.serialize(to)
    }
}

impl<E> Serialize for StreamLink<E> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (owner, name) = self.0.place();
        cid(&owner, &name, None).map_err(S::Error::custom)?.serialize(to)
    }
}

impl<'de, T> Deserialize<'de> for Link<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match named(&Cid::deserialize(from)?) {
            Some((owner, name, Some(path))) => Ok(Self(Cell::at_place(owner, name, path))),
            _ => Err(D::Error::custom("needed a link to a cell")),
        }
    }
}

impl<'de, E> Deserialize<'de> for StreamLink<E> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match named(&Cid::deserialize(from)?) {
            Some((owner, name, None)) => Ok(Self(Stream::of(owner, name))),
            _ => Err(D::Error::custom("needed a link to a stream")),
        }
    }
}

impl<T> Shape for Link<T> {
    fn write_shape(to: &mut ShapeText) {
        to.text("link");
    }
}

impl<E> Shape for StreamLink<E> {
    fn write_shape(to: &mut ShapeText) {
        to.text("link");
    }
}
