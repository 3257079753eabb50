//! Shapes: text that says what values fit (grammar in `wit/README.md`).

use std::{collections::BTreeMap, fmt, str::FromStr};

use ipld_core::ipld::Ipld;

use crate::{
    limits::SHAPE_STEPS_MAX,
    path::Segment,
    value::{Kind, Mismatch, Value},
};

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
        let tree: Ipld = value.decode().map_err(|_| self.mismatch(&[], "missing"))?;
        let mut steps = SHAPE_STEPS_MAX;
        if self.holds(&tree, &mut steps) {
            return Ok(());
        }
        if steps == 0 {
            return Err(Mismatch {
                at: "/".to_owned(),
                expected: format!("a value that is checked in {SHAPE_STEPS_MAX} steps"),
                actual: kind_of(&tree).to_string(),
            });
        }
        Err(self.explain(&tree, &mut Vec::new()))
    }

    /// Returns whether `value` fits; false also when the steps are used up. Allocates nothing.
    fn holds(&self, value: &Ipld, steps: &mut u32) -> bool {
        if *steps == 0 {
            return false;
        }
        *steps -= 1;
        match (self, value) {
            (Shape::Any, _) => true,
            (Shape::Kind(Kind::Float), Ipld::Integer(_)) => true,
            (Shape::Kind(kind), _) => *kind == kind_of(value),
            (Shape::Literal(text), Ipld::String(found)) => text == found,
            (Shape::List(item), Ipld::List(items)) => items.iter().all(|value| item.holds(value, steps)),
            (Shape::MapOf(item), Ipld::Map(entries)) => entries.values().all(|value| item.holds(value, steps)),
            (Shape::Record(fields), Ipld::Map(entries)) => fields.iter().all(|(key, field)| match entries.get(key) {
                Some(value) => field.shape.holds(value, steps),
                None => field.optional,
            }),
            (Shape::OneOf(shapes), _) => shapes.iter().any(|shape| shape.holds(value, steps)),
            _ => false,
        }
    }

    fn mismatch(&self, path: &[Segment], actual: &str) -> Mismatch {
        Mismatch {
            at: crate::value::at(path),
            expected: crate::error::clip(&self.to_string(), 256).to_string(),
            actual: actual.to_owned(),
        }
    }

    /// Finds the first place of a value that does not fit. Keys that the shape does not name stay unnamed.
    fn explain(&self, value: &Ipld, path: &mut Vec<Segment>) -> Mismatch {
        let steps = &mut { SHAPE_STEPS_MAX };
        let inside = match (self, value) {
            (Shape::List(item), Ipld::List(items)) => {
                let misfit = items.iter().position(|value| !item.holds(value, steps));
                misfit.map(|index| (&**item, Segment::Index(index as u32), items.get(index)))
            }
            (Shape::MapOf(item), Ipld::Map(entries)) => {
                let misfit = entries.values().find(|value| !item.holds(value, steps));
                misfit.map(|value| (&**item, Segment::Key("*".to_owned()), Some(value)))
            }
            (Shape::Record(fields), Ipld::Map(entries)) => {
                let misfit = fields.iter().find(|(key, field)| match entries.get(*key) {
                    Some(value) => !field.shape.holds(value, steps),
                    None => !field.optional,
                });
                misfit.map(|(key, field)| (&field.shape, Segment::Key(key.clone()), entries.get(key)))
            }
            (Shape::OneOf(shapes), _) => {
                // The one alternative of the value's own kind says more than "no alternative fits".
                let mut like = shapes.iter().filter(|shape| shape.is_container_of(value));
                return match (like.next(), like.next()) {
                    (Some(shape), None) => shape.explain(value, path),
                    _ => self.mismatch(path, &kind_of(value).to_string()),
                };
            }
            _ => None,
        };
        let Some((shape, segment, child)) = inside else { return self.mismatch(path, &kind_of(value).to_string()) };
        path.push(segment);
        match child {
            Some(value) => shape.explain(value, path),
            None => shape.mismatch(path, "missing"),
        }
    }

    fn is_container_of(&self, value: &Ipld) -> bool {
        match (self, value) {
            (Shape::List(_), Ipld::List(_)) | (Shape::MapOf(_) | Shape::Record(_), Ipld::Map(_)) => true,
            (Shape::OneOf(shapes), _) => shapes.iter().any(|shape| shape.is_container_of(value)),
            _ => false,
        }
    }

    /// Returns whether every value that fits `self`, and holds no keys that it does not name, also fits `other`.
    /// Errs on the side of no.
    pub fn fits(&self, other: &Shape) -> bool {
        self.fits_within(other, &mut { SHAPE_STEPS_MAX })
    }

    /// As `fits`; no when the steps are used up.
    pub(crate) fn fits_within(&self, other: &Shape, steps: &mut u32) -> bool {
        if *steps == 0 {
            return false;
        }
        *steps -= 1;
        match (self, other) {
            (_, Shape::Any) => true,
            (Shape::OneOf(shapes), _) => shapes.iter().all(|shape| shape.fits_within(other, steps)),
            (_, Shape::OneOf(others)) => others.iter().any(|other| self.fits_within(other, steps)),
            (Shape::Kind(Kind::Integer), Shape::Kind(Kind::Float)) => true,
            (Shape::Kind(a), Shape::Kind(b)) => a == b,
            (Shape::Literal(_), Shape::Kind(Kind::String)) => true,
            (Shape::Literal(a), Shape::Literal(b)) => a == b,
            (Shape::List(a), Shape::List(b)) | (Shape::MapOf(a), Shape::MapOf(b)) => a.fits_within(b, steps),
            (Shape::Record(a), Shape::Record(b)) => b.iter().all(|(key, field)| match a.get(key) {
                Some(mine) => mine.shape.fits_within(&field.shape, steps) && (field.optional || !mine.optional),
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
