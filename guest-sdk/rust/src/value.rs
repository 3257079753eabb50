//! Values between Rust and the host: canonical DAG-CBOR (C1, C2).

mod data;
mod decode;
mod json;
mod misfit;

use std::any::type_name;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::decode::Reader;
use self::misfit::Misfit;
use crate::{Error, Result, Shape, ShapeText};

pub use data::{Cid, Value};

/// A byte string. `Vec<u8>` would be a list of numbers.
///
/// # Examples
/// ```
/// use charm_sdk::prelude::*;
/// let picture = Bytes::from(vec![137, 80, 78, 71]);
/// assert_eq!((picture.len(), Bytes::shape()), (4, "bytes".into()));
/// ```
pub use serde_bytes::ByteBuf as Bytes;

/// The name of a charm or of anyone outside: `did:key:z6Mk…` (I1, I4).
///
/// # Examples
/// ```
/// use charm_sdk::Did;
/// let did = Did::from("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK");
/// assert!(did.as_str().starts_with("did:key:z6Mk"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Did(String);

impl Did {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Did {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Did {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Did {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl Shape for Did {
    fn write_shape(to: &mut ShapeText) {
        to.text("string");
    }
}

/// Encodes canonically. Fails for what the data model does not know, such as NaN.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_ipld_dagcbor::to_vec(value)
        .map_err(|_| Error::Invalid("the value has a part that no cell can hold, such as NaN".into()))
}

/// Decodes. The error names the place and the reason, never the value (T7).
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], place: &dyn fmt::Display) -> Result<T> {
    read(bytes, false).map_err(|misfit| Error::Decode(format!("{place} does not fit{misfit}")))
}

/// Decodes a value that stands there in its one form; none for anything else.
pub(crate) fn read_exactly(bytes: &[u8]) -> Option<Value> {
    let value: Value = read(bytes, false).ok()?;
    encode(&value).is_ok_and(|again| again == bytes).then_some(value)
}

/// Reads JSON; `place` says whose it is.
pub(crate) fn from_json<T: DeserializeOwned>(text: &[u8], place: &dyn fmt::Display) -> Result<T> {
    let bytes = json::to_cbor(text).map_err(|error| Error::Decode(format!("{place} is no JSON: {error}")))?;
    read(&bytes, true).map_err(|misfit| {
        let name = type_name::<T>().split('<').next().and_then(|path| path.rsplit("::").next());
        Error::Decode(format!("{place} does not fit `{}`{misfit}", name.unwrap_or_default()))
    })
}

fn read<T: DeserializeOwned>(bytes: &[u8], readable: bool) -> Result<T, Misfit> {
    let mut reader = Reader::new(bytes, readable);
    let value = T::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// The longest start of `text` within `bytes_max` that ends between characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
