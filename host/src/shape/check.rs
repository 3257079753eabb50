//! Checks values against shapes: on their bytes, in one pass that also tells where a value does not fit (A5).

use std::collections::BTreeMap;

use super::{Field, Shape};
use crate::{
    path::Segment,
    text::clip,
    value::{Kind, Mismatch, head, skip},
};

/// One check. A step looks at one item of the value for one alternative of the shape, or at one field of a map.
pub(super) struct Check<'a> {
    pub(super) bytes: &'a [u8],
    /// Steps left.
    pub(super) steps: u32,
}

/// Why a check ended without a fit.
pub(super) enum Stop<'a> {
    Misfit(Misfit<'a>),
    /// The steps are used up.
    Steps,
}

/// A place that does not fit.
pub(super) struct Misfit<'a> {
    expected: &'a Shape,
    actual: Actual,
    /// The way there, last step first.
    path: Vec<Step<'a>>,
    /// Whether shape and value are of one kind, so that the misfit lies inside, or in the range or length.
    inside: bool,
}

/// What is there instead.
#[derive(Clone, Copy)]
enum Actual {
    Kind(Kind),
    /// An integer out of the range.
    OutOfRange,
    /// A list of so many items where it has to be another number.
    ListOf(u64),
    Missing,
}

/// A step to a misfit.
#[derive(Clone, Copy)]
enum Step<'a> {
    Index(u64),
    Field(&'a str),
    /// Of a map whose keys the shape does not name.
    Key(&'a [u8]),
}

impl<'a> Stop<'a> {
    /// Adds a step of the way, seen from outside.
    fn at(mut self, step: Step<'a>) -> Stop<'a> {
        if let Stop::Misfit(misfit) = &mut self {
            misfit.path.push(step);
            misfit.inside = true;
        }
        self
    }
}

impl Misfit<'_> {
    /// Tells of a misfit in a value that was found at `place`.
    pub(super) fn explain(&self, place: &[Segment]) -> Mismatch {
        let segment = |step: &Step| match step {
            Step::Index(index) => Segment::Index(*index as u32),
            Step::Field(key) => Segment::Key((*key).to_owned()),
            Step::Key(key) => Segment::Key(clip(str::from_utf8(key).unwrap_or_default(), 64).into_owned()),
        };
        let path: Vec<Segment> = place.iter().cloned().chain(self.path.iter().rev().map(segment)).collect();
        let actual = match self.actual {
            Actual::Kind(kind) => kind.to_string(),
            Actual::OutOfRange => "integer out of range".to_owned(),
            Actual::ListOf(items) => format!("list of {items}"),
            Actual::Missing => "missing".to_owned(),
        };
        self.expected.mismatch(&path, &actual)
    }
}

fn misfit(expected: &Shape, actual: Actual, inside: bool) -> Stop<'_> {
    Stop::Misfit(Misfit { expected, actual, path: Vec::new(), inside })
}

impl<'a> Check<'a> {
    fn spend(&mut self, steps: u64) -> Result<(), Stop<'a>> {
        match u64::from(self.steps).checked_sub(steps) {
            Some(left) => self.steps = left as u32,
            None => {
                self.steps = 0;
                return Err(Stop::Steps);
            }
        }
        Ok(())
    }

    /// Passes by the item at `at`.
    fn pass(&mut self, at: usize) -> Result<usize, Stop<'a>> {
        let (end, items) = skip(self.bytes, at);
        self.spend(items)?;
        Ok(end)
    }

    /// Reads the head of the checked container at `at`: its number of entries, and where the first starts.
    fn container(&self, at: usize) -> (u64, usize) {
        head(self.bytes, at).map_or((0, self.bytes.len()), |(_, entries, start)| (entries, start))
    }

    /// Reads the integer at `at`.
    fn integer(&self, at: usize) -> i128 {
        match head(self.bytes, at) {
            Ok((1, argument, _)) => -1 - i128::from(argument),
            Ok((_, argument, _)) => i128::from(argument),
            Err(_) => i128::MAX,
        }
    }

    /// Reads the string at `at`: its bytes, and where what follows starts.
    fn text(&self, at: usize) -> (&'a [u8], usize) {
        let (length, start) = self.container(at);
        let end = start.saturating_add(length as usize).min(self.bytes.len());
        (&self.bytes[start.min(end)..end], end)
    }

    /// Checks the item at `at`; returns the offset behind it.
    pub(super) fn item(&mut self, shape: &'a Shape, at: usize) -> Result<usize, Stop<'a>> {
        self.spend(1)?;
        let kind = Kind::at(self.bytes, at);
        match (shape, kind) {
            (Shape::Any, _) => self.pass(at),
            (Shape::Kind(Kind::Float), Kind::Integer) => self.pass(at),
            (Shape::Kind(wanted), _) if *wanted == kind => self.pass(at),
            (Shape::Int(range), Kind::Integer) if range.contains(&self.integer(at)) => self.pass(at),
            (Shape::Int(_), Kind::Integer) => Err(misfit(shape, Actual::OutOfRange, true)),
            (Shape::Literal(text), Kind::String) => match self.text(at) {
                (found, end) if found == text.as_bytes() => Ok(end),
                _ => Err(misfit(shape, Actual::Kind(kind), false)),
            },
            (Shape::List(item), Kind::List) => {
                let (items, start) = self.container(at);
                (0..items).try_fold(start, |at, index| self.item(item, at).map_err(|stop| stop.at(Step::Index(index))))
            }
            (Shape::Tuple(items), Kind::List) => {
                let (found, start) = self.container(at);
                if found != items.len() as u64 {
                    return Err(misfit(shape, Actual::ListOf(found), true));
                }
                (0..).zip(items).try_fold(start, |at, (index, item)| {
                    self.item(item, at).map_err(|stop| stop.at(Step::Index(index)))
                })
            }
            (Shape::Map { fields, rest }, Kind::Map) => self.map(fields, rest.as_deref(), at),
            (Shape::OneOf(shapes), _) => self.one_of(shape, shapes, at),
            _ => Err(misfit(shape, Actual::Kind(kind), false)),
        }
    }

    fn map(
        &mut self,
        fields: &'a BTreeMap<String, Field>,
        rest: Option<&'a Shape>,
        at: usize,
    ) -> Result<usize, Stop<'a>> {
        self.spend(fields.len() as u64)?;
        let (entries, mut at_entry) = self.container(at);
        let mut missing = fields.values().filter(|field| !field.optional).count();
        for _ in 0..entries {
            let (key, child) = self.text(at_entry);
            at_entry = match std::str::from_utf8(key).ok().and_then(|key| fields.get_key_value(key)) {
                Some((key, field)) => {
                    missing -= usize::from(!field.optional);
                    self.item(&field.shape, child).map_err(|stop| stop.at(Step::Field(key)))?
                }
                None => match rest {
                    Some(rest) => self.item(rest, child).map_err(|stop| stop.at(Step::Key(key)))?,
                    None => self.pass(child)?,
                },
            };
        }
        if missing == 0 { Ok(at_entry) } else { Err(self.missing(fields, at)) }
    }

    /// Finds the first field that a map lacks.
    fn missing(&mut self, fields: &'a BTreeMap<String, Field>, at: usize) -> Stop<'a> {
        let (entries, mut at_entry) = self.container(at);
        let mut lacking: BTreeMap<&[u8], (&'a str, &'a Shape)> = BTreeMap::new();
        for (key, field) in fields.iter().filter(|(_, field)| !field.optional) {
            lacking.insert(key.as_bytes(), (key, &field.shape));
        }
        for _ in 0..entries {
            let (key, child) = self.text(at_entry);
            lacking.remove(key);
            match self.pass(child) {
                Ok(next) => at_entry = next,
                Err(stop) => return stop,
            }
        }
        match lacking.into_values().next() {
            Some((key, shape)) => misfit(shape, Actual::Missing, true).at(Step::Field(key)),
            None => Stop::Steps,
        }
    }

    fn one_of(&mut self, shape: &'a Shape, shapes: &'a [Shape], at: usize) -> Result<usize, Stop<'a>> {
        let (mut inside, mut like, mut ranges) = (None, 0, 0);
        for alternative in shapes {
            match self.item(alternative, at) {
                Ok(end) => return Ok(end),
                Err(Stop::Misfit(misfit)) if misfit.inside => {
                    ranges += usize::from(misfit.path.is_empty() && matches!(misfit.actual, Actual::OutOfRange));
                    (inside, like) = (Some(misfit), like + 1);
                }
                Err(Stop::Misfit(_)) => {}
                Err(Stop::Steps) => return Err(Stop::Steps),
            }
        }
        match inside {
            // The one alternative of the value's own kind says more than "no alternative fits".
            Some(misfit) if like == 1 => Err(Stop::Misfit(misfit)),
            Some(_) if ranges == like => Err(misfit(shape, Actual::OutOfRange, true)),
            inside => Err(misfit(shape, Actual::Kind(Kind::at(self.bytes, at)), inside.is_some())),
        }
    }
}
