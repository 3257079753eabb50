//! Any value, decoded. As `ipld_core` has it, but that a link holds a CID of any length: one that names a cell is longer than
//! a hash ever is.

use std::collections::BTreeMap;
use std::fmt;

use ipld_core::cid::serde::CID_SERDE_PRIVATE_IDENTIFIER as LINK;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Any value of the IPLD data model, for data whose type is not known beforehand.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
/// assert_eq!(Value::shape(), "any");
/// ```
#[derive(Clone, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// From -2^64 to 2^64-1.
    Integer(i128),
    /// Finite, of 64 bits.
    Float(f64),
    /// Text.
    String(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Ordered items.
    List(Vec<Value>),
    /// Values by key.
    Map(BTreeMap<String, Value>),
    /// A link. One to a cell or stream is read as [`Link`](crate::Link) or [`StreamLink`](crate::StreamLink).
    Link(Cid),
}

/// The bytes of a CID: what a link holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid(pub(crate) Vec<u8>);

impl Cid {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Cid({} bytes)", self.0.len())
    }
}

/// Plain, as JSON has it; with `#` as Rust does.
impl fmt::Debug for Value {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => to.write_str("null"),
            Self::Bool(value) => value.fmt(to),
            Self::Integer(value) => value.fmt(to),
            Self::Float(value) => value.fmt(to),
            Self::String(value) => value.fmt(to),
            Self::Bytes(value) => value.fmt(to),
            Self::List(value) => value.fmt(to),
            Self::Map(value) => value.fmt(to),
            Self::Link(value) => value.fmt(to),
        }
    }
}

impl Serialize for Cid {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_newtype_struct(LINK, serde_bytes::Bytes::new(&self.0))
    }
}

impl<'de> Deserialize<'de> for Cid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Wrapped;
        impl<'de> Visitor<'de> for Wrapped {
            type Value = Cid;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a link")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Cid, D::Error> {
                serde_bytes::ByteBuf::deserialize(from).map(|bytes| Cid(bytes.into_vec()))
            }
        }
        from.deserialize_newtype_struct(LINK, Wrapped)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_none(),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Integer(value) => to.serialize_i128(*value),
            Self::Float(value) => to.serialize_f64(*value),
            Self::String(text) => to.serialize_str(text),
            Self::Bytes(bytes) => to.serialize_bytes(bytes),
            Self::List(items) => to.collect_seq(items),
            Self::Map(entries) => to.collect_map(entries),
            Self::Link(cid) => cid.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.to_owned()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, item)) = entries.next_entry()? {
            map.insert(key, item);
        }
        Ok(Value::Map(map))
    }

    /// A link: nothing else comes so.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        serde_bytes::ByteBuf::deserialize(from).map(|bytes| Value::Link(Cid(bytes.into_vec())))
    }
}
