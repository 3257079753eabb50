//! Reading and changing a value by path (C3).

use std::collections::BTreeMap;

use crate::cell::Path;
use crate::{Cid, Error, Result, Segment, Value};

/// The value at `path`, none where a key or index is missing.
pub fn get<'value>(mut value: Option<&'value Value>, path: &[Segment]) -> Result<Option<&'value Value>> {
    for (depth, segment) in path.iter().enumerate() {
        value = match (value, segment) {
            (None, _) => return Ok(None),
            (Some(Value::Map(map)), Segment::Key(key)) => map.get(key),
            (Some(Value::List(list)), Segment::Index(index)) => list.get(*index as usize),
            (Some(other), _) => return Err(mismatch(other, path, depth)),
        };
    }
    Ok(value)
}

/// The first link that `path` leads through, and the number of steps to it.
pub fn link_on<'value>(mut value: &'value Value, path: &[Segment]) -> Option<(usize, &'value Cid)> {
    for (depth, segment) in path.iter().enumerate() {
        value = match (value, segment) {
            (Value::Link(link), _) => return Some((depth, link)),
            (Value::Map(map), Segment::Key(key)) => map.get(key)?,
            (Value::List(list), Segment::Index(index)) => list.get(*index as usize)?,
            _ => return None,
        };
    }
    None
}

/// Puts `new` at `path`, making missing parents.
pub fn set(root: &mut Option<Value>, path: &[Segment], new: Value) -> Result<()> {
    let Some((first, _)) = path.split_first() else {
        *root = Some(new);
        return Ok(());
    };
    let mut value = root.get_or_insert_with(|| parent(first));
    for (depth, segment) in path.iter().enumerate() {
        let child = path.get(depth + 1).map_or(Value::Null, parent);
        value = match (value, segment) {
            (Value::Map(map), Segment::Key(key)) => map.entry(key.clone()).or_insert(child),
            (Value::List(list), Segment::Index(index)) => {
                let index = *index as usize;
                if index > list.len() {
                    return Err(Error::TypeMismatch {
                        at: Path(&path[..=depth]).to_string(),
                        expected: "an index of at most the list's length".into(),
                        actual: "missing".into(),
                    });
                }
                if index == list.len() {
                    list.push(child);
                }
                &mut list[index]
            }
            (other, _) => return Err(mismatch(other, path, depth)),
        };
    }
    *value = new;
    Ok(())
}

/// Takes away what is at `path`.
pub fn remove(root: &mut Option<Value>, path: &[Segment]) -> Result<()> {
    let Some((last, parents)) = path.split_last() else {
        *root = None;
        return Ok(());
    };
    if get(root.as_ref(), path)?.is_none() {
        return Ok(());
    }
    let Some(mut value) = root.as_mut() else { return Ok(()) };
    for segment in parents {
        let child = match (value, segment) {
            (Value::Map(map), Segment::Key(key)) => map.get_mut(key),
            (Value::List(list), Segment::Index(index)) => list.get_mut(*index as usize),
            _ => None,
        };
        let Some(child) = child else { return Ok(()) };
        value = child;
    }
    match (value, last) {
        (Value::Map(map), Segment::Key(key)) => drop(map.remove(key)),
        (Value::List(list), Segment::Index(index)) => drop(list.remove(*index as usize)),
        _ => {}
    }
    Ok(())
}

/// The list at `path`, none where nothing is.
pub fn list<'value>(root: Option<&'value Value>, path: &[Segment]) -> Result<Option<&'value [Value]>> {
    match get(root, path)? {
        None => Ok(None),
        Some(Value::List(list)) => Ok(Some(list)),
        Some(other) => Err(refused(path, "list", kind(other))),
    }
}

/// Puts an item behind the last of the list at `path`, making a missing one.
pub fn append(root: &mut Option<Value>, path: &[Segment], item: Value) -> Result<()> {
    let length = list(root.as_ref(), path)?.map_or(0, <[Value]>::len);
    set(root, &[path, &[Segment::Index(length as u32)]].concat(), item)
}

/// Adds to the number at `path`; a missing one counts from 0.
pub fn increment(root: &mut Option<Value>, path: &[Segment], by: &Value) -> Result<()> {
    if !matches!(by, Value::Integer(_) | Value::Float(_)) {
        return Err(Error::Invalid(format!("by: expected an integer or a float, found {}", kind(by))));
    }
    let number = get(root.as_ref(), path)?.unwrap_or(&Value::Integer(0));
    let sum = sum(number, by).map_err(|(expected, actual)| refused(path, expected, actual))?;
    match by {
        Value::Integer(0) | Value::Float(0.0) => Ok(()),
        _ => set(root, path, sum),
    }
}

/// The sum of two numbers, or what was needed and what there is.
fn sum(number: &Value, by: &Value) -> Result<Value, (&'static str, &'static str)> {
    const INTEGER: &str = "integer out of range";
    let float = |value: &Value| match value {
        Value::Float(float) => Ok(*float),
        Value::Integer(integer) if integer.unsigned_abs() <= 1 << 53 => Ok(*integer as f64),
        Value::Integer(_) => Err(("an integer from -2^53 to 2^53 beside a float", INTEGER)),
        other => Err(("integer or float", kind(other))),
    };
    if let (Value::Integer(a), Value::Integer(b)) = (number, by) {
        let sum = a + b;
        let is_in_range = (-(1 << 64)..1 << 64).contains(&sum);
        return if is_in_range { Ok(Value::Integer(sum)) } else { Err(("an integer from -2^64 to 2^64-1", INTEGER)) };
    }
    let sum = float(number)? + float(by)?;
    if sum.is_finite() { Ok(Value::Float(sum)) } else { Err(("a finite float", "float out of range")) }
}

/// The name of a value's kind.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Integer(_) => "integer",
        Value::Float(_) => "float",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Link(_) => "link",
    }
}

/// What a step needs to step into.
fn parent(segment: &Segment) -> Value {
    match segment {
        Segment::Key(_) => Value::Map(BTreeMap::new()),
        Segment::Index(_) => Value::List(Vec::new()),
    }
}

fn mismatch(found: &Value, path: &[Segment], depth: usize) -> Error {
    refused(&path[..depth], kind(&parent(&path[depth])), kind(found))
}

fn refused(path: &[Segment], expected: &str, actual: &str) -> Error {
    Error::TypeMismatch {
        at: if path.is_empty() { "/".into() } else { Path(path).to_string() },
        expected: expected.into(),
        actual: actual.into(),
    }
}
