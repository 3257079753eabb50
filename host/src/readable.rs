//! How names stand in a serde format: as the text that people and charms know them by where it is read by them (JSON,
//! values), as bytes in records.

use std::{cell::Cell, fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

thread_local! {
    /// Whether this thread is encoding or decoding a value: DAG-CBOR passes for a format of machines.
    static IN_VALUE: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, what this thread serializes is a value or a part of one.
pub struct InValue {
    before: bool,
}

impl InValue {
    /// Begins a value.
    pub fn begin() -> InValue {
        InValue { before: IN_VALUE.replace(true) }
    }
}

impl Drop for InValue {
    fn drop(&mut self) {
        IN_VALUE.set(self.before);
    }
}

/// Returns whether a value is being encoded or decoded.
pub fn is_in_value() -> bool {
    IN_VALUE.get()
}

/// Returns whether names stand as text in a format that says this of itself.
pub fn is_text(is_human_readable: bool) -> bool {
    is_human_readable || is_in_value()
}

/// Writes a name as its text, or else as `bytes`.
pub fn write<S: Serializer>(
    name: &impl fmt::Display,
    bytes: &impl Serialize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if is_text(serializer.is_human_readable()) { serializer.collect_str(name) } else { bytes.serialize(serializer) }
}

/// Reads a name from its text.
pub fn parse<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    struct Text<T>(PhantomData<T>);
    impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(PhantomData))
}
