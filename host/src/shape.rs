//! Shapes: text that says what values fit (grammar in `wit/README.md`).

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{
    limits::SHAPE_STEPS_MAX,
    path::Segment,
    value::{Kind, Mismatch, Value},
};

mod check;
mod parse;

use check::{Check, Stop};

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
        self.check_within(value, &mut { SHAPE_STEPS_MAX })
    }

    /// As `check`, with the steps that may be taken; what is left of them comes back.
    pub(crate) fn check_within(&self, value: &Value, steps: &mut u32) -> Result<(), Mismatch> {
        if *self == Shape::Any {
            return Ok(());
        }
        let mut check = Check { bytes: value.as_bytes(), steps: *steps };
        let checked = check.item(self, 0);
        *steps = check.steps;
        match checked {
            Ok(_) => Ok(()),
            Err(Stop::Misfit(misfit)) => Err(misfit.explain()),
            Err(Stop::Steps) => Err(Mismatch {
                at: "/".to_owned(),
                expected: format!("a value that is checked in {SHAPE_STEPS_MAX} steps"),
                actual: value.kind().to_string(),
            }),
        }
    }

    fn mismatch(&self, path: &[Segment], actual: &str) -> Mismatch {
        Mismatch {
            at: crate::value::at(path),
            expected: crate::value::beginning(256, |text| write!(text, "{self}")),
            actual: actual.to_owned(),
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
