//! Why and where a value does not fit a type: kinds, names and keys, never the value (T7).

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::cut;
use crate::Segment;
use crate::cell::Path;

/// The most bytes of a reason, and of a path.
const BYTES_MAX: usize = 256;

/// The most bytes of a key in a path.
const KEY_BYTES_MAX: usize = 64;

/// A place that does not fit.
#[derive(Debug)]
pub(crate) struct Misfit {
    why: String,
    /// The way there, last step first.
    path: Vec<Segment>,
}

impl Misfit {
    pub(super) fn new(why: String) -> Self {
        Self { why: cut(&why, BYTES_MAX).into(), path: Vec::new() }
    }

    /// Adds a step of the way, seen from outside.
    pub(super) fn at(mut self, step: Segment) -> Self {
        self.path.push(step);
        self
    }

    /// Adds a step into a map.
    pub(super) fn at_key(self, key: &str) -> Self {
        self.at(Segment::Key(cut(key, KEY_BYTES_MAX).into()))
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<Segment> = self.path.iter().rev().cloned().collect();
        let path = Path(&path).to_string();
        let at = if path.is_empty() { "" } else { " at " };
        write!(to, "{at}{}: {}", cut(&path, BYTES_MAX), self.why)
    }
}

impl std::error::Error for Misfit {}

/// What serde says, without the value that it would quote.
impl de::Error for Misfit {
    /// Words of a type's own `Deserialize`.
    fn custom<T: fmt::Display>(words: T) -> Self {
        Self::new(words.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, needed: &dyn Expected) -> Self {
        Self::new(format!("needed {needed}, found {}", kind(found)))
    }

    fn invalid_value(found: Unexpected<'_>, needed: &dyn Expected) -> Self {
        let words = match found {
            Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Float(_) => "out of range",
            _ => "of another content",
        };
        Self::new(format!("needed {needed}, found {} {words}", kind(found)))
    }

    fn invalid_length(found: usize, needed: &dyn Expected) -> Self {
        Self::new(format!("needed {needed}, found {found}"))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("needed {}, found another", OneOf(known)))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("needed {}, found another key", OneOf(known)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new("missing".into()).at_key(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new("there twice, or under two names".into()).at_key(field)
    }
}

struct OneOf(&'static [&'static str]);

impl fmt::Display for OneOf {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, name) in self.0.iter().enumerate() {
            write!(to, "{}`{name}`", if number > 0 { " or " } else { "" })?;
        }
        if self.0.is_empty() { to.write_str("none") } else { Ok(()) }
    }
}

fn kind(found: Unexpected<'_>) -> &str {
    match found {
        Unexpected::Bool(_) => "bool",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "integer",
        Unexpected::Float(_) => "float",
        Unexpected::Char(_) | Unexpected::Str(_) => "string",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::NewtypeStruct => "link",
        Unexpected::Seq => "list",
        Unexpected::Map => "map",
        Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant => "variant",
        // How serde calls one that 64 bits do not hold.
        Unexpected::Other(words) if words.starts_with("integer") => "integer out of range",
        Unexpected::Other(_) => "something else",
    }
}
