//! Reading and changing a value by path (C3).

use std::collections::BTreeMap;

use crate::cell::Path;
use crate::{Error, Result, Segment, Value};

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
    Error::TypeMismatch {
        at: if depth == 0 { "/".into() } else { Path(&path[..depth]).to_string() },
        expected: kind(&parent(&path[depth])).into(),
        actual: kind(found).into(),
    }
}
