//! What a charm tells about itself, checked.

use std::collections::BTreeMap;

use crate::{
    cell::check_name,
    limits::DECLARATIONS_MAX,
    shape::{Shape, ShapeError},
};

/// Tags, cells and streams of a charm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Tags under which `wish` finds it, each starting with `#`.
    pub tags: Vec<String>,
    /// Cells that others may be granted to read.
    pub cells: BTreeMap<String, Shape>,
    /// Streams that it handles.
    pub streams: BTreeMap<String, Shape>,
}

/// Checks a list of declarations; the error says which one is wrong and why.
pub(crate) fn declarations(
    kind: &str,
    pairs: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, Shape>, String> {
    let mut declared = BTreeMap::new();
    for (name, shape) in pairs {
        check_name(&name).map_err(|why| format!("{kind}: {why}"))?;
        let shape: Shape = shape.parse().map_err(|error: ShapeError| format!("{kind} {name}: {error}"))?;
        if declared.insert(name.clone(), shape).is_some() {
            return Err(format!("{kind} {name} declared twice"));
        }
        if declared.len() > DECLARATIONS_MAX {
            return Err(format!("more than {DECLARATIONS_MAX} declarations"));
        }
    }
    Ok(declared)
}

/// Checks a tag: `#` and a name.
pub(crate) fn check_tag(tag: &str) -> Result<(), String> {
    match tag.strip_prefix('#') {
        Some(name) => check_name(name).map_err(|why| format!("tag: {why}")),
        None => Err("tag does not start with #".to_owned()),
    }
}
