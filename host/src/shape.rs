//! Shapes: text that says what values fit (grammar in `wit/README.md`).

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, str::FromStr};

use crate::{
    limits::SHAPE_STEPS_MAX,
    path::Segment,
    value::{Edit, Kind, Mismatch, Tree, Value},
};

mod check;
mod local;
mod parse;

use check::{Check, Stop};

/// What values fit a cell or stream. Displayed in canonical text, which parses back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Every value.
    Any,
    /// A scalar of this kind, but for integers; `Float` takes integers too.
    Kind(Kind),
    /// An integer in this range.
    Int(RangeInclusive<i128>),
    /// Exactly this string.
    Literal(String),
    /// A list of such items.
    List(Box<Shape>),
    /// A list of exactly these items.
    Tuple(Vec<Shape>),
    /// A map.
    Map {
        /// Keys by name.
        fields: BTreeMap<String, Field>,
        /// What the values of all other keys fit; none is any.
        rest: Option<Box<Shape>>,
    },
    /// One of these. None of none: nothing fits.
    OneOf(Vec<Shape>),
}

/// Why an edit alone does not say that the whole fits.
enum Undecided {
    Misfit(Mismatch),
    /// Only a look at the whole tells.
    Whole,
}

/// Every integer of the data model.
const INT: RangeInclusive<i128> = -(1 << 64)..=(1 << 64) - 1;

/// The ranges that have a name; the first of one range is the one that is shown.
const WIDTHS: [(&str, RangeInclusive<i128>); 9] = [
    ("int", i64::MIN as i128..=i64::MAX as i128),
    ("u8", 0..=u8::MAX as i128),
    ("u16", 0..=u16::MAX as i128),
    ("u32", 0..=u32::MAX as i128),
    ("u64", 0..=u64::MAX as i128),
    ("i8", i8::MIN as i128..=i8::MAX as i128),
    ("i16", i16::MIN as i128..=i16::MAX as i128),
    ("i32", i32::MIN as i128..=i32::MAX as i128),
    ("i64", i64::MIN as i128..=i64::MAX as i128),
];

/// One key of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Whether the key may be missing.
    pub optional: bool,
    /// What its value fits.
    pub shape: Shape,
}

/// Where one shape does not fit another.
pub(crate) struct Misfit<'a> {
    /// The place in both.
    pub at: Vec<Segment>,
    /// What stands there.
    pub from: &'a Shape,
    /// What it does not fit.
    pub into: &'a Shape,
    /// The key there that is missing, or may be.
    pub lacks: Option<&'a str>,
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
        self.check_at(value.as_bytes(), &[], steps)
    }

    /// Checks the bytes of a value that is found at `place`.
    fn check_at(&self, bytes: &[u8], place: &[Segment], steps: &mut u32) -> Result<(), Mismatch> {
        if *self == Shape::Any {
            return Ok(());
        }
        let mut check = Check { bytes, steps: *steps };
        let checked = check.item(self, 0);
        *steps = check.steps;
        match checked {
            Ok(_) => Ok(()),
            Err(Stop::Misfit(misfit)) => Err(misfit.explain(place)),
            Err(Stop::Steps) => Err(Mismatch {
                at: crate::value::at(place),
                expected: format!("a value that is checked in {SHAPE_STEPS_MAX} steps"),
                actual: Kind::at(bytes, 0).to_string(),
            }),
        }
    }

    /// Checks the value `after` that edits have made of one that fits: where they are, as far as that decides. `is_moved` tells
    /// that their paths may mean other places in it.
    pub(crate) fn check_edits(
        &self,
        after: &Tree,
        edits: &[Edit],
        is_moved: bool,
        steps: &mut u32,
    ) -> Result<(), Mismatch> {
        match self.check_places(after, edits, is_moved, steps) {
            Err(Undecided::Whole) => self.check_at(&after.whole().to_vec(), &[], steps),
            // A later edit may have changed what is wrong.
            Err(Undecided::Misfit(_)) if is_moved => self.check_at(&after.whole().to_vec(), &[], steps),
            Err(Undecided::Misfit(mismatch)) => Err(mismatch),
            Ok(()) => Ok(()),
        }
    }

    /// Checks what was put, and each place that has to be looked at once, however many edits are in it.
    fn check_places(&self, after: &Tree, edits: &[Edit], is_moved: bool, steps: &mut u32) -> Result<(), Undecided> {
        let mut places: Vec<(&[Segment], &Shape)> = Vec::new();
        for edit in edits {
            let path = &edit.path.0;
            let Some((depth, shape)) = local::decides(self, path, edit.put.is_some(), steps) else { continue };
            match &edit.put {
                Some(put) if depth == path.len() => {
                    shape.check_at(put.as_bytes(), path, steps).map_err(Undecided::Misfit)?
                }
                _ if is_moved => return Err(Undecided::Whole),
                _ => places.push((&path[..depth], shape)),
            }
        }
        // A place comes before those inside of it.
        places.sort_by_key(|(place, shape)| (*place, std::ptr::from_ref(*shape)));
        let mut last: Option<(&[Segment], &Shape)> = None;
        for (place, shape) in places {
            let is_checked = |(above, checked): (&[Segment], &Shape)| {
                place.starts_with(above) && (place.len() > above.len() || std::ptr::eq(shape, checked))
            };
            if last.is_some_and(is_checked) {
                continue;
            }
            let Ok(Some(found)) = after.find(place) else { return Err(Undecided::Whole) };
            shape.check_at(&found.to_vec(), place, steps).map_err(Undecided::Misfit)?;
            last = Some((place, shape));
        }
        Ok(())
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

    /// Returns where a shape that does not fit another one first differs, as far as the steps go.
    pub(crate) fn misfit<'a>(&'a self, other: &'a Shape, steps: &mut u32) -> Misfit<'a> {
        let mut misfit = Misfit { at: Vec::new(), from: self, into: other, lacks: None };
        loop {
            let next = match (misfit.from, misfit.into) {
                (Shape::Map { fields: mine, .. }, Shape::Map { fields: others, .. }) => {
                    let differs = |key: &str, field: &Field, steps: &mut u32| match mine.get(key) {
                        Some(mine) => {
                            !mine.shape.fits_within(&field.shape, steps) || (mine.optional && !field.optional)
                        }
                        None => !field.optional,
                    };
                    let Some((key, field)) = others.iter().find(|(key, field)| differs(key, field, steps)) else {
                        break;
                    };
                    match mine.get(key).filter(|mine| !mine.shape.fits_within(&field.shape, steps)) {
                        Some(mine) => Some((Segment::Key(key.clone()), &mine.shape, &field.shape)),
                        None => {
                            misfit.lacks = Some(key);
                            None
                        }
                    }
                }
                (Shape::List(mine), Shape::List(others)) => Some((Segment::Index(0), &**mine, &**others)),
                _ => None,
            };
            let Some((step, from, into)) = next.filter(|_| *steps > 0) else { break };
            misfit.at.push(step);
            (misfit.from, misfit.into) = (from, into);
        }
        misfit
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
            (Shape::Int(_), Shape::Kind(Kind::Float)) => true,
            (Shape::Int(a), Shape::Int(b)) => b.start() <= a.start() && a.end() <= b.end(),
            (Shape::Kind(a), Shape::Kind(b)) => a == b,
            (Shape::Literal(_), Shape::Kind(Kind::String)) => true,
            (Shape::Literal(a), Shape::Literal(b)) => a == b,
            (Shape::List(a), Shape::List(b)) => a.fits_within(b, steps),
            (Shape::Tuple(a), Shape::List(b)) => a.iter().all(|a| a.fits_within(b, steps)),
            (Shape::Tuple(a), Shape::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.fits_within(b, steps))
            }
            (Shape::Map { fields: a, rest }, Shape::Map { fields: b, rest: others }) => {
                let named = b.iter().all(|(key, field)| match (a.get(key), rest) {
                    (Some(mine), _) => {
                        mine.shape.fits_within(&field.shape, steps) && (field.optional || !mine.optional)
                    }
                    // A key that only the other names, and that may be missing, is no hindrance: an offer may grow.
                    // What a map really holds there is checked when it is sent or decoded.
                    (None, None) => field.optional,
                    (None, Some(rest)) => field.optional && rest.fits_within(&field.shape, steps),
                });
                named
                    && others.as_ref().is_none_or(|others| {
                        let more = a.iter().filter(|(key, _)| !b.contains_key(*key));
                        more.map(|(_, field)| &field.shape)
                            .chain([rest.as_deref().unwrap_or(&Shape::Any)])
                            .all(|shape| shape.fits_within(others, steps))
                    })
            }
            _ => false,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Any => f.write_str("any"),
            Shape::Kind(kind) => write!(f, "{kind}"),
            Shape::Int(range) => match WIDTHS.iter().find(|(_, named)| named == range) {
                Some((name, _)) => f.write_str(name),
                None => write!(f, "int({}..{})", range.start(), range.end()),
            },
            Shape::Literal(text) => f.write_str(&parse::quote(text)),
            Shape::List(item) => write!(f, "[{item}]"),
            Shape::Tuple(items) => {
                f.write_str("[")?;
                for (number, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if number > 0 { ", " } else { "" })?;
                }
                f.write_str(if items.len() == 1 { ",]" } else { "]" })
            }
            Shape::Map { fields, rest } => {
                let mut comma = "{";
                for (key, field) in fields {
                    let key = if parse::is_plain_key(key) { key.clone() } else { parse::quote(key) };
                    let mark = if field.optional { "?" } else { "" };
                    write!(f, "{comma}{key}{mark}: {}", field.shape)?;
                    comma = ", ";
                }
                if let Some(rest) = rest {
                    write!(f, "{comma}*: {rest}")?;
                    comma = ", ";
                }
                f.write_str(if comma == "{" { "{}" } else { "}" })
            }
            Shape::OneOf(shapes) => match shapes.as_slice() {
                [] => f.write_str("never"),
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
