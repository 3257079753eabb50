//! Shapes as the host reads them: does a value fit, does one shape fit another. Grammar: `wit/README.md`.
//! That both agree, `tests/conformance/vectors/shapes.json` shows.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use super::tree::kind;
use crate::value::cut;
use crate::{Error, Result, Segment, Value};

#[derive(Debug, PartialEq)]
enum Shape {
    Any,
    /// A scalar by the name of its kind.
    Kind(&'static str),
    Int(RangeInclusive<i128>),
    Literal(String),
    List(Box<Shape>),
    Tuple(Vec<Shape>),
    Map {
        fields: BTreeMap<String, Field>,
        rest: Option<Box<Shape>>,
    },
    OneOf(Vec<Shape>),
}

#[derive(Debug, PartialEq)]
struct Field {
    optional: bool,
    shape: Shape,
}

const KINDS: [&str; 6] = ["null", "bool", "float", "string", "bytes", "link"];

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

/// Checks a value against the text of a shape.
pub fn check(value: &Value, shape: &str) -> Result<()> {
    let shape = parse(shape);
    check_at(&shape, value, &mut Vec::new()).map_err(|misfit| misfit.error)
}

/// Whether what fits `shape` fits `other`.
pub fn fits(shape: &str, other: &str) -> bool {
    parse(shape).fits(&parse(other))
}

/// A place that does not fit. `inside`: shape and value are of one kind.
struct Misfit {
    error: Error,
    inside: bool,
    /// The shape there takes other integers.
    is_range: bool,
}

fn misfit(shape: &Shape, path: &[Segment], actual: impl Into<String>) -> Misfit {
    let at = if path.is_empty() { "/".into() } else { crate::cell::Path(path).to_string() };
    let error = Error::TypeMismatch { at, expected: shape.to_string(), actual: actual.into() };
    Misfit { error, inside: false, is_range: false }
}

fn check_at(shape: &Shape, value: &Value, path: &mut Vec<Segment>) -> Result<(), Misfit> {
    match (shape, value) {
        (Shape::Any, _) => Ok(()),
        (Shape::Kind("float"), Value::Integer(_)) => Ok(()),
        (Shape::Kind(wanted), value) if *wanted == kind(value) => Ok(()),
        (Shape::Int(range), Value::Integer(found)) if range.contains(found) => Ok(()),
        (Shape::Int(_), Value::Integer(_)) => Err(out_of_range(shape, path)),
        (Shape::Literal(text), Value::String(found)) if text == found => Ok(()),
        (Shape::List(item), Value::List(items)) => {
            (0..).zip(items).try_for_each(|(index, value)| step(item, value, path, Segment::Index(index)))
        }
        (Shape::Tuple(wanted), Value::List(items)) if wanted.len() == items.len() => (0..)
            .zip(wanted.iter().zip(items))
            .try_for_each(|(index, (shape, value))| step(shape, value, path, Segment::Index(index))),
        (Shape::Tuple(_), Value::List(items)) => {
            Err(Misfit { inside: true, ..misfit(shape, path, format!("list of {}", items.len())) })
        }
        (Shape::Map { fields, rest }, Value::Map(entries)) => {
            // In the order of the bytes: short keys first.
            let mut in_order: Vec<_> = entries.iter().collect();
            in_order.sort_by_key(|(key, _)| (key.len(), *key));
            for (key, value) in in_order {
                match (fields.get(key), rest) {
                    (Some(field), _) => step(&field.shape, value, path, Segment::Key(key.clone()))?,
                    (None, Some(rest)) => step(rest, value, path, Segment::Key(cut(key, 64).into()))?,
                    (None, None) => {}
                }
            }
            match fields.iter().find(|(key, field)| !field.optional && !entries.contains_key(*key)) {
                None => Ok(()),
                Some((key, field)) => {
                    path.push(Segment::Key(key.clone()));
                    let missing = misfit(&field.shape, path, "missing");
                    path.pop();
                    Err(Misfit { inside: true, ..missing })
                }
            }
        }
        (Shape::OneOf(shapes), value) => {
            let mut inside = Vec::new();
            for alternative in shapes {
                match check_at(alternative, value, path) {
                    Ok(()) => return Ok(()),
                    Err(misfit) if misfit.inside => inside.push(misfit),
                    Err(_) => {}
                }
            }
            match inside.len() {
                1 => Err(inside.swap_remove(0)),
                2.. if inside.iter().all(|misfit| misfit.is_range) => Err(out_of_range(shape, path)),
                others => Err(Misfit { inside: others > 0, ..misfit(shape, path, kind(value)) }),
            }
        }
        (shape, value) => Err(misfit(shape, path, kind(value))),
    }
}

fn out_of_range(shape: &Shape, path: &[Segment]) -> Misfit {
    Misfit { inside: true, is_range: true, ..misfit(shape, path, "integer out of range") }
}

fn step(shape: &Shape, value: &Value, path: &mut Vec<Segment>, step: Segment) -> Result<(), Misfit> {
    path.push(step);
    let checked = check_at(shape, value, path);
    path.pop();
    checked.map_err(|misfit| Misfit { inside: true, is_range: false, ..misfit })
}

impl Shape {
    fn fits(&self, other: &Shape) -> bool {
        match (self, other) {
            (_, Shape::Any) => true,
            (Shape::OneOf(shapes), _) => shapes.iter().all(|shape| shape.fits(other)),
            (_, Shape::OneOf(others)) => others.iter().any(|other| self.fits(other)),
            (Shape::Int(_), Shape::Kind("float")) | (Shape::Literal(_), Shape::Kind("string")) => true,
            (Shape::Int(a), Shape::Int(b)) => b.start() <= a.start() && a.end() <= b.end(),
            (Shape::List(a), Shape::List(b)) => a.fits(b),
            (Shape::Tuple(a), Shape::List(b)) => a.iter().all(|a| a.fits(b)),
            (Shape::Tuple(a), Shape::Tuple(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.fits(b)),
            (Shape::Map { fields: a, rest }, Shape::Map { fields: b, rest: others }) => {
                let named = b.iter().all(|(key, field)| match (a.get(key), rest) {
                    (Some(mine), _) => mine.shape.fits(&field.shape) && (field.optional || !mine.optional),
                    (None, None) => field.optional,
                    (None, Some(rest)) => field.optional && rest.fits(&field.shape),
                });
                let mut more = a.iter().filter(|(key, _)| !b.contains_key(*key)).map(|(_, field)| &field.shape);
                let rest = rest.as_deref().unwrap_or(&Shape::Any);
                named && others.as_ref().is_none_or(|others| more.all(|shape| shape.fits(others)) && rest.fits(others))
            }
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Any => to.write_str("any"),
            Shape::Kind(kind) => to.write_str(kind),
            Shape::Int(range) => match WIDTHS.iter().find(|(_, named)| named == range) {
                Some((name, _)) => to.write_str(name),
                None => write!(to, "int({}..{})", range.start(), range.end()),
            },
            Shape::Literal(text) => to.write_str(&quote(text)),
            Shape::List(item) => write!(to, "[{item}]"),
            Shape::Tuple(items) => {
                let texts: Vec<String> = items.iter().map(Shape::to_string).collect();
                write!(to, "[{}{}]", texts.join(", "), if items.len() == 1 { "," } else { "" })
            }
            Shape::Map { fields, rest } => {
                let named = fields.iter().map(|(key, field)| {
                    let key = if is_plain(key) { key.clone() } else { quote(key) };
                    format!("{key}{}: {}", if field.optional { "?" } else { "" }, field.shape)
                });
                let texts: Vec<String> = named.chain(rest.iter().map(|rest| format!("*: {rest}"))).collect();
                write!(to, "{{{}}}", texts.join(", "))
            }
            Shape::OneOf(shapes) => match shapes.as_slice() {
                [] => to.write_str("never"),
                [shape, Shape::Kind("null")] if !matches!(shape, Shape::OneOf(_)) => write!(to, "{shape}?"),
                shapes => {
                    let texts = shapes.iter().map(|shape| match shape {
                        Shape::OneOf(_) => format!("({shape})"),
                        shape => shape.to_string(),
                    });
                    to.write_str(&texts.collect::<Vec<_>>().join(" | "))
                }
            },
        }
    }
}

fn is_plain(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Parses the text that this crate's own derive wrote, or what stands in a `#[shape("..")]`.
///
/// # Panics
/// When it is no shape: a mistake in the charm, which the host finds when the charm is installed.
fn parse(text: &str) -> Shape {
    let mut parser = Parser { text, rest: text };
    let shape = parser.shape();
    assert!(parser.rest.trim().is_empty(), "shape `{text}`: did not expect `{}`", parser.rest);
    shape
}

struct Parser<'text> {
    text: &'text str,
    rest: &'text str,
}

impl Parser<'_> {
    fn shape(&mut self) -> Shape {
        let mut shapes = vec![self.alternative()];
        while self.take("|") {
            shapes.push(self.alternative());
        }
        if shapes.len() == 1 { shapes.swap_remove(0) } else { Shape::OneOf(shapes) }
    }

    fn alternative(&mut self) -> Shape {
        let base = self.base();
        if self.take("?") { Shape::OneOf(vec![base, Shape::Kind("null")]) } else { base }
    }

    fn base(&mut self) -> Shape {
        if self.take("(") {
            let inner = self.shape();
            self.need(")");
            return inner;
        }
        if self.take("[") {
            return self.list();
        }
        if self.take("{") {
            return self.map();
        }
        if let Some(text) = self.quoted() {
            return Shape::Literal(text);
        }
        let word = self.word();
        let named = WIDTHS.iter().find(|(name, _)| *name == word);
        match (word.as_str(), KINDS.iter().find(|kind| **kind == word), named) {
            ("any", ..) => Shape::Any,
            ("never", ..) => Shape::OneOf(Vec::new()),
            ("int", ..) if self.take("(") => {
                let first = self.number();
                self.need("..");
                let last = self.number();
                self.need(")");
                Shape::Int(first..=last)
            }
            (_, Some(kind), _) => Shape::Kind(kind),
            (_, _, Some((_, range))) => Shape::Int(range.clone()),
            _ => panic!("shape `{}`: no shape is called `{word}`", self.text),
        }
    }

    fn number(&mut self) -> i128 {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        number.parse().unwrap_or_else(|_| panic!("shape `{}`: expected a number", self.text))
    }

    fn list(&mut self) -> Shape {
        let mut items = Vec::new();
        while !self.take("]") {
            items.push(self.shape());
            if self.take(",") {
                continue;
            }
            self.need("]");
            if items.len() == 1 {
                return Shape::List(Box::new(items.swap_remove(0)));
            }
            break;
        }
        Shape::Tuple(items)
    }

    fn map(&mut self) -> Shape {
        let (mut fields, mut rest) = (BTreeMap::new(), None);
        while !self.take("}") {
            if self.take("*") {
                self.need(":");
                rest = Some(Box::new(self.shape()));
            } else {
                let key = self.quoted().unwrap_or_else(|| self.word());
                let optional = self.take("?");
                self.need(":");
                let field = Field { optional, shape: self.shape() };
                assert!(fields.insert(key, field).is_none(), "shape `{}`: key named twice", self.text);
            }
            if !self.take(",") {
                self.need("}");
                break;
            }
        }
        Shape::Map { fields, rest }
    }

    fn quoted(&mut self) -> Option<String> {
        self.rest = self.rest.trim_start();
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
        let text = values.next()?.ok().filter(|_| self.rest.starts_with('"'))?;
        self.rest = &self.rest[values.byte_offset()..];
        Some(text)
    }

    fn word(&mut self) -> String {
        self.rest = self.rest.trim_start();
        let in_word = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
        let end = self.rest.find(|letter| !in_word(letter)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.into()
    }

    fn take(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn need(&mut self, token: &str) {
        assert!(self.take(token), "shape `{}`: expected `{token}` before `{}`", self.text, self.rest);
    }
}
