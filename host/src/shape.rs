//! Shapes: text that says what values fit (grammar in `wit/README.md`).

use std::{collections::BTreeMap, fmt, str::FromStr};

use ipld_core::ipld::Ipld;

use crate::value::{Kind, Mismatch, Value};

mod parse;

/// What values fit a cell or stream. Displayed in canonical text, which parses back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Every value.
    Any,
    /// A scalar of this kind; `Float` takes integers too.
    Kind(Kind),
    /// Exactly this string.
    Literal(String),
    /// A list of such items.
    List(Box<Shape>),
    /// A map with any keys and such values.
    MapOf(Box<Shape>),
    /// A map with these keys; others may be there too.
    Record(BTreeMap<String, Field>),
    /// One of these.
    OneOf(Vec<Shape>),
}

/// One key of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Whether the key may be missing.
    pub optional: bool,
    /// What its value fits.
    pub shape: Shape,
}

/// A text that is not a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a shape: {why} at byte {at}")]
pub struct ShapeError {
    /// Offset in the text.
    pub at: usize,
    /// What is wrong.
    pub why: &'static str,
}

impl FromStr for Shape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Shape, ShapeError> {
        parse::shape(text)
    }
}

impl Shape {
    /// Checks that `value` fits.
    ///
    /// # Errors
    /// [`Mismatch`] at the first place that does not fit; it names kinds and shapes, never the value.
    pub fn check(&self, value: &Value) -> Result<(), Mismatch> {
        if *self == Shape::Any {
            return Ok(());
        }
        let tree: Ipld = value.decode().map_err(|_| self.mismatch("/", "missing"))?;
        self.check_at(&tree, &mut Vec::new())
    }

    fn mismatch(&self, at: &str, actual: &str) -> Mismatch {
        Mismatch {
            at: at.to_owned(),
            expected: crate::error::clip(&self.to_string(), 256).to_string(),
            actual: actual.to_owned(),
        }
    }

    fn check_at(&self, value: &Ipld, path: &mut Vec<crate::path::Segment>) -> Result<(), Mismatch> {
        use crate::path::Segment;
        let misfit = |path: &[Segment]| Err(self.mismatch(&crate::value::at(path), &kind_of(value).to_string()));
        match (self, value) {
            (Shape::Any, _) => Ok(()),
            (Shape::Kind(Kind::Float), Ipld::Integer(_)) => Ok(()),
            (Shape::Kind(kind), _) if *kind == kind_of(value) => Ok(()),
            (Shape::Literal(text), Ipld::String(found)) if text == found => Ok(()),
            (Shape::List(item), Ipld::List(items)) => {
                for (index, value) in items.iter().enumerate() {
                    path.push(Segment::Index(index as u32));
                    item.check_at(value, path)?;
                    path.pop();
                }
                Ok(())
            }
            (Shape::MapOf(item), Ipld::Map(entries)) => {
                for (key, value) in entries {
                    path.push(Segment::Key(key.clone()));
                    item.check_at(value, path)?;
                    path.pop();
                }
                Ok(())
            }
            (Shape::Record(fields), Ipld::Map(entries)) => {
                for (key, field) in fields {
                    path.push(Segment::Key(key.clone()));
                    match entries.get(key) {
                        Some(value) => field.shape.check_at(value, path)?,
                        None if field.optional => {}
                        None => return Err(field.shape.mismatch(&crate::value::at(path), "missing")),
                    }
                    path.pop();
                }
                Ok(())
            }
            // With one alternative besides null, its own complaint says more than "no alternative fits".
            (Shape::OneOf(shapes), _) => {
                let depth = path.len();
                let mut deepest: Option<Mismatch> = None;
                for shape in shapes {
                    match shape.check_at(value, path) {
                        Ok(()) => return Ok(()),
                        Err(mismatch) if path.len() > depth => deepest = Some(mismatch),
                        Err(_) => {}
                    }
                    path.truncate(depth);
                }
                deepest.map_or_else(|| misfit(path), Err)
            }
            _ => misfit(path),
        }
    }

    /// Returns whether every value that fits `self`, and holds no keys that it does not name, also fits `other`.
    /// Errs on the side of no.
    pub fn fits(&self, other: &Shape) -> bool {
        match (self, other) {
            (_, Shape::Any) => true,
            (Shape::OneOf(shapes), _) => shapes.iter().all(|shape| shape.fits(other)),
            (_, Shape::OneOf(others)) => others.iter().any(|other| self.fits(other)),
            (Shape::Kind(Kind::Integer), Shape::Kind(Kind::Float)) => true,
            (Shape::Kind(a), Shape::Kind(b)) => a == b,
            (Shape::Literal(_), Shape::Kind(Kind::String)) => true,
            (Shape::Literal(a), Shape::Literal(b)) => a == b,
            (Shape::List(a), Shape::List(b)) | (Shape::MapOf(a), Shape::MapOf(b)) => a.fits(b),
            (Shape::Record(a), Shape::Record(b)) => b.iter().all(|(key, field)| match a.get(key) {
                Some(mine) => mine.shape.fits(&field.shape) && (field.optional || !mine.optional),
                // A key that only the other names, and that may be missing, is no hindrance: an offer may grow.
                // What a record really holds there is checked when it is sent or decoded.
                None => field.optional,
            }),
            // A map with any keys promises none of them; a record may hold more keys than it names.
            _ => false,
        }
    }
}

fn kind_of(value: &Ipld) -> Kind {
    match value {
        Ipld::Null => Kind::Null,
        Ipld::Bool(_) => Kind::Bool,
        Ipld::Integer(_) => Kind::Integer,
        Ipld::Float(_) => Kind::Float,
        Ipld::String(_) => Kind::String,
        Ipld::Bytes(_) => Kind::Bytes,
        Ipld::List(_) => Kind::List,
        Ipld::Map(_) => Kind::Map,
        Ipld::Link(_) => Kind::Link,
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Any => f.write_str("any"),
            Shape::Kind(Kind::Integer) => f.write_str("int"),
            Shape::Kind(kind) => write!(f, "{kind}"),
            Shape::Literal(text) => f.write_str(&parse::quote(text)),
            Shape::List(item) => write!(f, "[{item}]"),
            Shape::MapOf(item) => write!(f, "{{*: {item}}}"),
            Shape::Record(fields) => {
                f.write_str("{")?;
                for (number, (key, field)) in fields.iter().enumerate() {
                    let comma = if number > 0 { ", " } else { "" };
                    let key = if parse::is_plain_key(key) { key.clone() } else { parse::quote(key) };
                    let mark = if field.optional { "?" } else { "" };
                    write!(f, "{comma}{key}{mark}: {}", field.shape)?;
                }
                f.write_str("}")
            }
            Shape::OneOf(shapes) => match shapes.as_slice() {
                [shape, Shape::Kind(Kind::Null)] if !matches!(shape, Shape::OneOf(_)) => write!(f, "{shape}?"),
                shapes => shapes.iter().enumerate().try_for_each(|(number, shape)| {
                    let bar = if number > 0 { " | " } else { "" };
                    match shape {
                        Shape::OneOf(_) => write!(f, "{bar}({shape})"),
                        shape => write!(f, "{bar}{shape}"),
                    }
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests;
