//! Reads steps: the data model as scripts use it. What does not fit rejects the event with its reason.

use ipld_core::ipld::Ipld;

use crate::charm::host::types::Segment;
use crate::refused::Failed;

pub fn decode(bytes: &[u8]) -> Result<Ipld, Failed> {
    serde_ipld_dagcbor::from_slice(bytes).map_err(|error| Failed::Script(error.to_string()))
}

pub fn encode(value: &Ipld) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).expect("a decoded value encodes")
}

pub fn list(value: &Ipld) -> Result<&[Ipld], Failed> {
    match value {
        Ipld::List(items) => Ok(items),
        _ => Err(Failed::script("a list is needed")),
    }
}

pub fn text(value: &Ipld) -> Result<&str, Failed> {
    match value {
        Ipld::String(text) => Ok(text),
        _ => Err(Failed::script("a string is needed")),
    }
}

pub fn large(value: &Ipld) -> Result<u64, Failed> {
    match value {
        Ipld::Integer(number) => u64::try_from(*number).map_err(|_| Failed::script("number too large")),
        _ => Err(Failed::script("a number is needed")),
    }
}

pub fn number(value: &Ipld) -> Result<usize, Failed> {
    match value {
        Ipld::Integer(number) => usize::try_from(*number).map_err(|_| Failed::script("number too large")),
        _ => Err(Failed::script("a number is needed")),
    }
}

/// Bytes as such, or as a list of numbers: JSON has no bytes.
pub fn bytes(value: &Ipld) -> Result<Vec<u8>, Failed> {
    match value {
        Ipld::Bytes(bytes) => Ok(bytes.clone()),
        other => list(other)?.iter().map(|byte| Ok(number(byte)? as u8)).collect(),
    }
}

pub fn optional<'a>(map: &'a Ipld, key: &str) -> Option<&'a Ipld> {
    match map {
        Ipld::Map(entries) => entries.get(key).filter(|value| **value != Ipld::Null),
        _ => None,
    }
}

pub fn field<'a>(map: &'a Ipld, key: &str) -> Result<&'a Ipld, Failed> {
    optional(map, key).ok_or_else(|| Failed::Script(format!("the field {key} is needed")))
}

/// Strings are keys, numbers are indexes.
pub fn path(value: &Ipld) -> Result<Vec<Segment>, Failed> {
    let segment = |step: &Ipld| match step {
        Ipld::String(key) => Ok(Segment::Key(key.clone())),
        other => Ok(Segment::Index(number(other)? as u32)),
    };
    list(value)?.iter().map(segment).collect()
}

/// `"name"`, an own one, or `[did, "name"]`.
pub fn address(value: &Ipld) -> Result<(Option<&str>, &str), Failed> {
    match value {
        Ipld::List(parts) if parts.len() == 2 => Ok((Some(text(&parts[0])?), text(&parts[1])?)),
        name => Ok((None, text(name)?)),
    }
}
