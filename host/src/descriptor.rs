//! What a charm tells about itself, checked (`wit/README.md`, "The description").

use std::collections::BTreeMap;

use crate::{
    cell::{FAMILY_END, check_address, check_name, family_of},
    limits::{DECLARATIONS_MAX, DESCRIPTION_BYTES_MAX, VALUE_DEPTH_MAX},
    shape::{Shape, ShapeError},
    text::clip,
    value::{Data, Value},
};

/// Tags, cells, families of cells and streams of a charm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Tags under which `wish` finds it, each starting with `#`.
    pub tags: Vec<String>,
    /// Cells with a shape; others may be granted to read those that are not private.
    pub cells: BTreeMap<String, Declaration>,
    /// Families of cells: what is declared holds for each cell `FAMILY:KEY`.
    pub families: BTreeMap<String, Declaration>,
    /// Streams that it handles.
    pub streams: BTreeMap<String, Declaration>,
    /// Whether any cell is derived.
    pub derives: bool,
    /// Keys that this host does not know, as they were told.
    pub more: BTreeMap<String, Value>,
}

/// A cell, family of cells or stream that a charm declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// What fits it.
    pub shape: Shape,
    /// Nobody can be granted it (A2).
    pub private: bool,
    /// Of a stream: only the host sends there, receipts of the charm's own sends (S6).
    pub receipts: bool,
    /// Of a cell: it is computed from others, and nobody writes it (D1, D2).
    pub derived: bool,
    /// Keys that this host does not know, as they were told.
    pub more: BTreeMap<String, Value>,
}

impl Declaration {
    /// Returns whether others may be granted it (A2).
    pub fn is_grantable(&self) -> bool {
        !self.private && !self.receipts
    }
}

impl Descriptor {
    /// Returns what is derived: cells, and families of them as `NAME:`.
    pub(crate) fn derived(&self) -> impl Iterator<Item = String> {
        named(&self.cells, Some(&self.families), |declared| declared.derived)
    }

    /// Returns what is declared of a cell: by itself, or by its family.
    pub fn cell(&self, name: &str) -> Option<&Declaration> {
        self.cells.get(name).or_else(|| self.families.get(family_of(name)?))
    }

    /// Returns what is declared of what a grant names: a `cell`, as `NAME:` a family of cells, or a stream.
    pub(crate) fn granted(&self, kind: &str, name: &str) -> Option<&Declaration> {
        match (kind, name.strip_suffix(FAMILY_END)) {
            ("cell", Some(family)) => self.families.get(family),
            ("cell", None) => self.cells.get(name),
            _ => self.streams.get(name),
        }
    }

    /// Returns what grants can name, as they name it: of kind `cell` cells and families, or streams.
    pub(crate) fn grantable(&self, kind: &str) -> impl Iterator<Item = String> {
        let (first, second) = match kind {
            "cell" => (&self.cells, Some(&self.families)),
            _ => (&self.streams, None),
        };
        named(first, second, Declaration::is_grantable)
    }

    /// Reads what `describe` returned, as a value too; the error says what is wrong with it.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Value, Descriptor), String> {
        if bytes.len() > DESCRIPTION_BYTES_MAX {
            return Err(format!("over description-bytes-max {DESCRIPTION_BYTES_MAX}"));
        }
        let value = Value::from_bytes(bytes, DESCRIPTION_BYTES_MAX, VALUE_DEPTH_MAX);
        let value = value.map_err(|error| format!("the description is no value: {error}"))?;
        let told = value.decode().map_err(|error| format!("the description is no value: {error}"))?;
        let mut told = map("the description", told)?;
        told.remove("needs").map_or(Ok(()), needs)?;
        let tags = told.remove("tags").map_or(Ok(Vec::new()), tags)?;
        let mut declared = |key: &str, kind| told.remove(key).map_or(Ok(BTreeMap::new()), |of| declared(key, kind, of));
        let (cells, streams) = (declared("cells", "cell")?, declared("streams", "stream")?);
        let families = declared("families", "family")?;
        if let Some(name) = families.keys().find(|name| cells.contains_key(*name)) {
            return Err(format!("family {name}: a cell has that name too: give one of them another"));
        }
        let derives = cells.values().chain(families.values()).any(|declared| declared.derived);
        Ok((value, Descriptor { tags, cells, families, streams, derives, more: more(told)? }))
    }
}

type Declarations = BTreeMap<String, Declaration>;

/// Returns the names of those that are so: as they are, and of families as `NAME:`.
fn named(
    plain: &Declarations,
    families: Option<&Declarations>,
    is_so: fn(&Declaration) -> bool,
) -> impl Iterator<Item = String> {
    let families = families.into_iter().flatten().filter(move |(_, declared)| is_so(declared));
    let plain = plain.iter().filter(move |(_, declared)| is_so(declared)).map(|(name, _)| name.clone());
    plain.chain(families.map(|(name, _)| format!("{name}{FAMILY_END}")))
}

fn map(what: &str, value: Data) -> Result<BTreeMap<String, Data>, String> {
    match value {
        Data::Map(entries) => Ok(entries),
        _ => Err(format!("{what} is no map")),
    }
}

fn more(rest: BTreeMap<String, Data>) -> Result<BTreeMap<String, Value>, String> {
    let keep = |(key, value): (String, Data)| Ok((key, Value::encode(&value).map_err(|error| error.to_string())?));
    rest.into_iter().map(keep).collect()
}

/// Checks what the host must know to run the charm: marks of later versions that it would leave out otherwise.
fn needs(value: Data) -> Result<(), String> {
    let Data::List(list) = value else { return Err("needs: no list".to_owned()) };
    match list.first() {
        None => Ok(()),
        Some(Data::String(word)) => {
            Err(format!("it needs {}, which this host does not know: use a later one", clip(word, 64)))
        }
        Some(_) => Err("needs: no text".to_owned()),
    }
}

fn tags(value: Data) -> Result<Vec<String>, String> {
    let Data::List(list) = value else { return Err("tags: no list".to_owned()) };
    if list.len() > DECLARATIONS_MAX {
        return Err(format!("more than {DECLARATIONS_MAX} tags"));
    }
    let tag = |tag| match tag {
        Data::String(tag) => check_tag(&tag).map(|()| tag),
        _ => Err("tag: no text".to_owned()),
    };
    list.into_iter().map(tag).collect()
}

fn declared(key: &str, kind: &str, value: Data) -> Result<BTreeMap<String, Declaration>, String> {
    let entries = map(key, value)?;
    if entries.len() > DECLARATIONS_MAX {
        return Err(format!("more than {DECLARATIONS_MAX} declarations"));
    }
    let read = |(name, value): (String, Data)| {
        check_address(&name).map_err(|why| format!("{kind}: {why}"))?;
        if kind != "stream" && name.contains(FAMILY_END) {
            return Err(format!("{kind} {name}: its name holds {FAMILY_END}, which is for the members of families"));
        }
        let declaration = declaration(kind == "stream", value).map_err(|why| format!("{kind} {name}: {why}"))?;
        Ok((name, declaration))
    };
    entries.into_iter().map(read).collect()
}

fn declaration(is_stream: bool, value: Data) -> Result<Declaration, String> {
    let mut told = map("what is told of it", value)?;
    let Some(Data::String(shape)) = told.remove("shape") else { return Err("shape: no text".to_owned()) };
    let shape = shape.parse().map_err(|error: ShapeError| error.to_string())?;
    let mut mark = |key: &str| match told.remove(key) {
        None => Ok(false),
        Some(Data::Bool(mark)) => Ok(mark),
        Some(_) => Err(format!("{key}: neither true nor false")),
    };
    let (private, receipts) = (mark("private")?, is_stream && mark("receipts")?);
    let derived = !is_stream && mark("derived")?;
    Ok(Declaration { shape, private, receipts, derived, more: more(told)? })
}

/// Checks what a wish asks for, in its order; the error says which one is wrong and why.
pub(crate) fn wanted(
    kind: &str,
    pairs: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(String, Shape)>, String> {
    let mut wanted: Vec<(String, Shape)> = Vec::new();
    for (name, shape) in pairs {
        check_address(&name).map_err(|why| format!("{kind}: {why}"))?;
        let shape: Shape = shape.parse().map_err(|error: ShapeError| format!("{kind} {name}: {error}"))?;
        if wanted.iter().any(|(before, _)| *before == name) {
            return Err(format!("{kind} {name} declared twice"));
        }
        wanted.push((name, shape));
        if wanted.len() > DECLARATIONS_MAX {
            return Err(format!("more than {DECLARATIONS_MAX} declarations"));
        }
    }
    Ok(wanted)
}

/// Checks a tag: `#` and a name.
pub(crate) fn check_tag(tag: &str) -> Result<(), String> {
    match tag.strip_prefix('#') {
        Some(name) => check_name(name).map_err(|why| format!("tag: {why}")),
        None => Err("tag does not start with #".to_owned()),
    }
}
