//! Values: canonical DAG-CBOR bytes, checked once at the boundary and then addressed in place (C1-C3).
//!
//! Canonical form makes equal values equal bytes, so "the same value" (C4, T4) is a byte comparison and a
//! read by path is a slice. Rules: RFC 8949 section 4.2 as narrowed by the DAG-CBOR specification.

use std::{fmt, ops::Range, sync::Arc};

use ::serde::{Serialize, de::DeserializeOwned};

pub(crate) mod cid;
mod data;
mod edit;
mod edits;
mod json;
mod number;
mod scan;
mod serde;
mod tree;

pub(crate) use data::Data;
pub use edit::Mismatch;
pub use edits::Edit;
pub(crate) use edits::apply;
pub use json::JsonError;
pub(crate) use number::{Number, OutOfRange};
#[cfg(test)]
pub(crate) use scan::HEADS;
pub use scan::{Invalid, Kind};
pub(crate) use scan::{head, skip};
pub(crate) use tree::{Found, Place, Tree};

use crate::{limits::VALUE_DEPTH_MAX, path::Segment, readable::InValue};

/// One value of the IPLD data model in canonical DAG-CBOR. Cloning shares the bytes.
///
/// With serde it stands in JSON as DAG-JSON, as [`Value::to_json`] writes it, and inside another value as a part of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(Arc<[u8]>);

impl Value {
    /// Checks that `bytes` are exactly one canonical value of at most `bytes_max` bytes and `depth_max` levels.
    ///
    /// # Errors
    /// [`Invalid`] says what is wrong and at which byte.
    pub fn from_bytes(bytes: &[u8], bytes_max: usize, depth_max: usize) -> Result<Value, Invalid> {
        if bytes.len() > bytes_max {
            return Err(Invalid::TooLarge { max: bytes_max });
        }
        scan::check(bytes, depth_max)?;
        Ok(Value(bytes.into()))
    }

    /// Returns what stands for a value that is on disk alone: no bytes, as no value has.
    pub(crate) fn away() -> Value {
        Value([].into())
    }

    /// Returns whether the value is on disk alone.
    pub(crate) fn is_away(&self) -> bool {
        self.0.is_empty()
    }

    /// Encodes anything serializable.
    ///
    /// # Errors
    /// [`Invalid`] for what the data model does not hold: NaN, infinities, non-string keys, over 64 levels.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Value, Invalid> {
        let _in_value = InValue::begin();
        let bytes = serde_ipld_dagcbor::to_vec(value).map_err(|_| Invalid::NotInModel)?;
        Value::from_bytes(&bytes, usize::MAX, VALUE_DEPTH_MAX)
    }

    /// Decodes into any deserializable type.
    ///
    /// # Errors
    /// [`Invalid::OtherType`] when the value does not fit `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Invalid> {
        let _in_value = InValue::begin();
        serde_ipld_dagcbor::from_slice(&self.0).map_err(|_| Invalid::OtherType)
    }

    /// Reads DAG-JSON: JSON as it stands, bytes as `{"/": {"bytes": BASE64}}` without padding, links as `{"/": CID}`. A
    /// number with a point or an exponent is a float, any other an integer.
    ///
    /// Nothing is changed on the way: integers over 64 bits, floats that would become infinite or zero, keys
    /// that stand twice and what looks like bytes or a link and is none are refused.
    ///
    /// # Errors
    /// [`JsonError`] tells the place.
    ///
    /// # Examples
    /// ```
    /// use charm_host::Value;
    ///
    /// let value = Value::from_json(r#"{"total": 0.1, "raw": {"/": {"bytes": "AAEC"}}}"#)?;
    /// assert_eq!(value.to_json()?, r#"{"raw":{"/":{"bytes":"AAEC"}},"total":0.1}"#);
    ///
    /// let error = Value::from_json(r#"{"ids": [1, 99999999999999999999]}"#).unwrap_err();
    /// assert!(error.to_string().starts_with("at /ids/1: an integer"));
    /// # Ok::<(), charm_host::JsonError>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Value, JsonError> {
        // What JSON holds is in the data model, and its depth was looked at.
        Value::encode(&json::read(text)?).map_err(|error| JsonError::Syntax(error.to_string()))
    }

    /// Writes DAG-JSON in one line; [`Value::from_json`] reads the same value back.
    ///
    /// # Errors
    /// [`JsonError`] for a map whose only key is `/` and an integer below -2^63, with its place: JSON has no text for them.
    pub fn to_json(&self) -> Result<String, JsonError> {
        let tree = self.tree();
        json::check(&tree)?;
        serde_json::to_string(&json::Json(&tree)).map_err(|error| JsonError::Syntax(error.to_string()))
    }

    /// Decodes what was checked before.
    fn tree(&self) -> Data {
        self.decode().expect("a value is in the data model")
    }

    /// Returns null.
    pub(crate) fn null() -> Value {
        Value([0xf6].into())
    }

    /// Returns the canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the kind of the value.
    pub fn kind(&self) -> Kind {
        Kind::at(&self.0, 0)
    }

    /// Returns the bytes of the value at `path`, none where a key or index is missing.
    ///
    /// # Errors
    /// [`Mismatch`] when the path leads through a value of another kind.
    pub fn get(&self, path: &[Segment]) -> Result<Option<&[u8]>, Mismatch> {
        Ok(edit::find(&self.0, path, 0)?.ok().map(|range: Range<usize>| &self.0[range]))
    }

    /// Returns `current` with `value` at `path`, none when it is there already; missing parents are made (C3, C4).
    ///
    /// # Errors
    /// [`Mismatch`] when the path leads through a value of another kind or past the end of a list.
    pub fn set(current: Option<&Value>, path: &[Segment], value: &Value) -> Result<Option<Value>, Mismatch> {
        if path.is_empty() {
            return Ok((current != Some(value)).then(|| value.clone()));
        }
        let bytes = edit::set(current.map(Value::as_bytes), path, 0, value.as_bytes())?;
        Ok(bytes.map(|bytes| Value(bytes.into())))
    }

    /// Returns the value without what is at `path`, none when nothing was there. `path` is not empty.
    ///
    /// # Errors
    /// [`Mismatch`] when the path leads through a value of another kind.
    pub fn remove(&self, path: &[Segment]) -> Result<Option<Value>, Mismatch> {
        Ok(edit::remove(&self.0, path, 0)?.map(|bytes| Value(bytes.into())))
    }

    /// Returns the number of levels: 1 for a scalar.
    pub fn depth(&self) -> usize {
        scan::check(&self.0, usize::MAX).unwrap_or(usize::MAX)
    }
}

/// What an event can be made of: a [`Value`] as it is, or a reference to anything with serde.
pub trait IntoValue {
    /// Encodes it.
    ///
    /// # Errors
    /// [`Invalid`] for what the data model does not hold.
    fn into_value(self) -> Result<Value, Invalid>;
}

impl IntoValue for Value {
    fn into_value(self) -> Result<Value, Invalid> {
        Ok(self)
    }
}

impl<T: Serialize + ?Sized> IntoValue for &T {
    fn into_value(self) -> Result<Value, Invalid> {
        Value::encode(self)
    }
}

/// Values never reach logs or errors: debug output is kind and length only.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.kind(), self.0.len())
    }
}

/// Returns the text of a path prefix for an error.
pub(crate) fn at(path: &[Segment]) -> String {
    let text = beginning(256, |text| path.iter().try_for_each(|segment| write!(text, "{segment}")));
    if text.is_empty() { "/".to_owned() } else { text }
}

/// Returns a text cut to a bound for an error. Of a long one no more is made than that.
pub(crate) fn beginning(bytes_max: usize, write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result) -> String {
    struct Beginning {
        text: String,
        bytes_max: usize,
    }
    impl fmt::Write for Beginning {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.text.push_str(part);
            if self.text.len() > self.bytes_max { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut beginning = Beginning { text: String::new(), bytes_max };
    // An error only says that this is long enough.
    let _ = write(&mut beginning);
    crate::text::clip(&beginning.text, bytes_max).into_owned()
}

#[cfg(test)]
mod tests;
