//! How a value stands in other formats: as DAG-JSON where people read it, as a part of the whole in another value, as its
//! bytes in records.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
    ser::Error as _,
};

use super::{Data, Value, json};
use crate::{limits::VALUE_DEPTH_MAX, readable};

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let tree = self.tree();
            json::check(&tree).map_err(S::Error::custom)?;
            json::Json(&tree).serialize(serializer)
        } else if readable::is_in_value() {
            self.tree().serialize(serializer)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

/// What is read is checked, whatever the format: the scanner's callers rely on it.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a value")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Value, E> {
                Value::from_bytes(bytes, usize::MAX, VALUE_DEPTH_MAX).map_err(E::custom)
            }
        }
        let tree: Data = if deserializer.is_human_readable() {
            json::Json::deserialize(deserializer)?.0
        } else if readable::is_in_value() {
            Data::deserialize(deserializer)?
        } else {
            return deserializer.deserialize_bytes(Bytes);
        };
        Value::encode(&tree).map_err(D::Error::custom)
    }
}
