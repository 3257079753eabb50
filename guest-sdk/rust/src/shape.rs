//! Shapes: text that says what values fit. The grammar is in `wit/README.md`.

mod merge;

use std::any::type_name;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::marker::PhantomData;
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroIsize, NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64,
    NonZeroUsize,
};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Bytes, Did, Value};

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
    label = "no shape is known for this",
    note = "a type of your own: write `#[data]` above its `struct` or `enum`; its fields need the same",
    note = "numbers have at most 64 bits: keep an `u128` as a `String`",
    note = "bytes are `Bytes`, text is `String`, lists are `Vec`, maps are `BTreeMap<String, _>`, sets are `BTreeSet`: a \
            `HashSet` has no order, and equal ones would be other bytes; tuples have at most 12 items, arrays at most 32"
)]
pub trait Shape: Serialize + DeserializeOwned {
    /// Whether a map field of this type may be missing. True for `Option`.
    const OPTIONAL: bool = false;

    /// Whether a stream of such events takes receipts: only the host sends there. True for `Settled`.
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

    /// Adds the key of a map, in the words of the grammar; its shape comes next.
    pub fn key(&mut self, key: &str, may_be_missing: bool) {
        if !self.text.ends_with('{') {
            self.text(", ");
        }
        self.text(key);
        self.text(if may_be_missing { "?: " } else { ": " });
    }

    /// Adds a list of exactly these items.
    fn tuple(&mut self, items: &[fn(&mut Self)]) {
        for (number, write) in items.iter().enumerate() {
            self.text(if number == 0 { "[" } else { ", " });
            write(self);
        }
        self.text(if items.len() == 1 { ",]" } else { "]" });
    }

    /// Adds one field of a map; `key` is written as it stands.
    pub fn field<T: Shape>(&mut self, key: &str, may_be_missing: bool) {
        self.key(key, may_be_missing || T::OPTIONAL);
        T::write_shape(self);
    }

    /// Adds a map of one key, for each of these names, without the others.
    #[doc(hidden)]
    pub fn names(&mut self, names: &[&str], may_be_missing: bool, write: impl Fn(&mut Self)) {
        for (number, name) in names.iter().enumerate() {
            self.text(if number == 0 { "{" } else { " | {" });
            self.key(name, may_be_missing);
            write(self);
            for other in names.iter().filter(|other| *other != name) {
                self.key(other, true);
                self.text("never");
            }
            self.text("}");
        }
    }

    /// Where a map starts that others are merged into.
    #[doc(hidden)]
    pub fn start(&self) -> usize {
        self.text.len()
    }

    /// Merges the maps that `write` adds into those that were added since `start`. `flat`: they take what is theirs and
    /// leave other keys alone.
    ///
    /// # Panics
    /// When one of them is no map.
    #[doc(hidden)]
    pub fn merge(&mut self, start: usize, flat: bool, write: impl FnOnce(&mut Self)) {
        let own = self.text.split_off(start);
        write(self);
        let others = self.text.split_off(start);
        self.text.push_str(&merge::merged(&own, &others, flat));
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
    "u8": u8;
    "u16": u16;
    "u32": u32, usize; // 32 bits in wasm
    "u64": u64;
    "i8": i8;
    "i16": i16;
    "i32": i32, isize;
    "int": i64;
    "int(1..255)": NonZeroU8;
    "int(1..65535)": NonZeroU16;
    "int(1..4294967295)": NonZeroU32, NonZeroUsize;
    "int(1..18446744073709551615)": NonZeroU64;
    "int(-128..-1) | int(1..127)": NonZeroI8;
    "int(-32768..-1) | int(1..32767)": NonZeroI16;
    "int(-2147483648..-1) | int(1..2147483647)": NonZeroI32, NonZeroIsize;
    "int(-9223372036854775808..-1) | int(1..9223372036854775807)": NonZeroI64;
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
    VecDeque<T>;
    BTreeSet<T> where Ord;
}

/// The key of a map: what is written as a string.
#[diagnostic::on_unimplemented(
    message = "the keys of a map are strings, `{Self}` is none",
    label = "write `String`, with `to_string()` to write such a key and `parse()` to read it"
)]
pub trait MapKey: Shape + Ord + Hash {}

impl MapKey for String {}
impl MapKey for Did {}

macro_rules! maps {
    ($($type:ident),+) => {$(
        impl<K: MapKey, T: Shape> Shape for $type<K, T> {
            fn write_shape(to: &mut ShapeText) {
                to.text("{*: ");
                T::write_shape(to);
                to.text("}");
            }
        }
    )+};
}

maps!(BTreeMap, HashMap);

impl<T> Shape for PhantomData<T> {
    fn write_shape(to: &mut ShapeText) {
        to.text("null");
    }
}

macro_rules! tuples {
    ($($($name:ident)+;)+) => {$(
        impl<$($name: Shape),+> Shape for ($($name,)+) {
            fn write_shape(to: &mut ShapeText) {
                to.tuple(&[$(<$name as Shape>::write_shape),+]);
            }
        }
    )+};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
    A B C D E F G H I;
    A B C D E F G H I J;
    A B C D E F G H I J K;
    A B C D E F G H I J K L;
}

macro_rules! arrays {
    ($($length:literal)+) => {$(
        impl<T: Shape> Shape for [T; $length] {
            fn write_shape(to: &mut ShapeText) {
                to.tuple(&[T::write_shape as fn(&mut ShapeText); $length]);
            }
        }
    )+};
}

arrays! { 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 }
