//! Shapes: text that says what values fit. The grammar is in `wit/README.md`.

use std::any::type_name;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Bytes, Value};

/// Data that can be kept in a cell or sent as an event. [`data`](crate::data) writes it.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
///
/// #[data]
/// struct Item { name: String, price: Option<f64> }
///
/// assert_eq!(Vec::<Item>::shape(), "[{name: string, price?: float?}]");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can not be kept in a cell or sent as an event",
    label = "this needs `#[data]` above its `struct` or `enum`",
    note = "write `#[data] pub struct Name {{ .. }}`; its fields need the same"
)]
pub trait Shape: Serialize + DeserializeOwned {
    /// Whether a map field of this type may be missing. True for `Option`.
    const OPTIONAL: bool = false;

    /// Whether a stream of such events takes receipts: only the host sends there. True for `Committed`.
    #[doc(hidden)]
    const RECEIPT: bool = false;

    /// Writes the shape at the end of `to`.
    fn write_shape(to: &mut ShapeText);

    /// Returns the shape.
    fn shape() -> String {
        let mut to = ShapeText::default();
        Self::write_shape(&mut to);
        to.text
    }
}

/// A shape being written.
#[derive(Debug, Default)]
pub struct ShapeText {
    text: String,
    /// The types being written now, to stop at a type that contains itself.
    open: Vec<&'static str>,
}

impl ShapeText {
    /// Adds words of the grammar.
    pub fn text(&mut self, words: &str) {
        self.text.push_str(words);
    }

    /// Adds the shape of `T`, which `write` gives. Inside itself a type is `any`: the grammar has no names.
    pub fn once<T>(&mut self, write: impl FnOnce(&mut Self)) {
        let name = type_name::<T>();
        if self.open.contains(&name) {
            return self.text("any");
        }
        self.open.push(name);
        write(self);
        self.open.pop();
    }

    /// Adds one field of a map; `key` is written as it stands.
    pub fn field<T: Shape>(&mut self, key: &str, may_be_missing: bool) {
        if !self.text.ends_with('{') {
            self.text(", ");
        }
        self.text(key);
        self.text(if may_be_missing || T::OPTIONAL { "?: " } else { ": " });
        T::write_shape(self);
    }
}

macro_rules! plain {
    ($($shape:literal: $($type:ty),+;)+) => {$($(
        impl Shape for $type {
            fn write_shape(to: &mut ShapeText) {
                to.text($shape);
            }
        }
    )+)+};
}

plain! {
    "any": Value;
    "null": ();
    "bool": bool;
    "int": u8, u16, u32, u64, usize, i8, i16, i32, i64, isize;
    "float": f32, f64;
    "string": String, char;
    "bytes": Bytes;
}

impl<T: Shape> Shape for Option<T> {
    const OPTIONAL: bool = true;

    fn write_shape(to: &mut ShapeText) {
        let start = to.text.len();
        T::write_shape(to);
        let inner = &to.text[start..];
        if inner.contains(" | ") || inner.ends_with('?') {
            to.text.insert(start, '(');
            to.text(")");
        }
        to.text("?");
    }
}

impl<T: Shape> Shape for Box<T> {
    const OPTIONAL: bool = T::OPTIONAL;

    fn write_shape(to: &mut ShapeText) {
        T::write_shape(to);
    }
}

macro_rules! lists {
    ($($type:ty $(where $bound:path)?;)+) => {$(
        impl<T: Shape $(+ $bound + Eq)?> Shape for $type {
            fn write_shape(to: &mut ShapeText) {
                to.text("[");
                T::write_shape(to);
                to.text("]");
            }
        }
    )+};
}

lists! {
    Vec<T>;
    BTreeSet<T> where Ord;
    HashSet<T> where std::hash::Hash;
}

macro_rules! maps {
    ($($type:ty),+) => {$(
        impl<T: Shape> Shape for $type {
            fn write_shape(to: &mut ShapeText) {
                to.text("{*: ");
                T::write_shape(to);
                to.text("}");
            }
        }
    )+};
}

maps!(BTreeMap<String, T>, HashMap<String, T>);
