//! Links: values that name a cell, or a place in one, or a stream (C5).
//!
//! A link is a CID of version 1 whose codec is DAG-CBOR and whose multihash is identity, so it carries what it names: the
//! canonical list `[did, name, path]` for a cell, `[did, name]` for a stream. Any other CID is plain data. A link is a name and
//! no right.

use std::sync::Arc;

use crate::{
    cell::{CellId, check_address},
    did::Did,
    limits::{LINK_BYTES_MAX, PATH_BYTES_MAX, PATH_SEGMENTS_MAX, VALUE_DEPTH_MAX},
    path::{Path, Segment},
    value::{Data, Value, cid},
};

/// What a link value names.
///
/// # Examples
/// ```
/// use charm_host::{Did, Link, Path};
///
/// let owner: Did = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".parse()?;
/// let link = Link::Cell { owner, name: "orders".into(), path: "/open/0".parse()? };
/// assert_eq!(Link::from_value(&link.to_value()), Some(link));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// A place in a cell.
    Cell {
        /// Whose cell.
        owner: Did,
        /// Its name there.
        name: Arc<str>,
        /// Where in its value; empty for the whole.
        path: Path,
    },
    /// A stream.
    Stream {
        /// Whose stream.
        owner: Did,
        /// Its name there.
        name: Arc<str>,
    },
}

impl Link {
    /// Returns the link to a place in a cell.
    pub(crate) fn to_cell(cell: &CellId, path: Path) -> Link {
        Link::Cell { owner: cell.owner, name: cell.name.clone(), path }
    }

    /// Returns the value that names this.
    pub fn to_value(&self) -> Value {
        let step = |step: &Segment| match step {
            Segment::Key(key) => Data::String(key.clone()),
            Segment::Index(index) => Data::Integer((*index).into()),
        };
        let text = |owner: &Did, name: &str| vec![Data::String(owner.to_string()), Data::String(name.to_owned())];
        let content = match self {
            Link::Cell { owner, name, path } => {
                let mut content = text(owner, name);
                content.push(Data::List(path.0.iter().map(step).collect()));
                content
            }
            Link::Stream { owner, name } => text(owner, name),
        };
        let content = encoded(&Data::List(content));
        encoded(&Data::Link(cid::carrying(content.as_bytes())))
    }

    /// Returns what a value names, none when it is no link to a cell or stream.
    pub fn from_value(value: &Value) -> Option<Link> {
        if value.as_bytes().len() > LINK_BYTES_MAX {
            return None;
        }
        let Ok(Data::Link(cid)) = value.decode() else { return None };
        let content = Value::from_bytes(cid::content(&cid)?, LINK_BYTES_MAX, VALUE_DEPTH_MAX).ok()?;
        let Ok(Data::List(parts)) = content.decode() else { return None };
        let mut parts = parts.into_iter();
        let (Some(Data::String(did)), Some(Data::String(name))) = (parts.next(), parts.next()) else { return None };
        let owner: Did = did.parse().ok()?;
        check_address(&name).ok()?;
        let name = name.into();
        match (parts.next(), parts.next()) {
            (None, _) => Some(Link::Stream { owner, name }),
            (Some(Data::List(steps)), None) => {
                let path = Path(steps.into_iter().map(segment).collect::<Option<_>>()?);
                let fits = path.0.len() < PATH_SEGMENTS_MAX && path.bytes() <= PATH_BYTES_MAX;
                fits.then_some(Link::Cell { owner, name, path })
            }
            _ => None,
        }
    }
}

fn segment(step: Data) -> Option<Segment> {
    match step {
        Data::String(key) => Some(Segment::Key(key)),
        Data::Integer(index) => u32::try_from(index).ok().map(Segment::Index),
        _ => None,
    }
}

fn encoded(data: &Data) -> Value {
    Value::encode(data).expect("names and paths are in the data model")
}

#[cfg(test)]
mod tests;
