//! Shapes as the host reads them: does a value fit, does one shape cover another. Grammar: `wit/README.md`.

use super::tree::kind;
use crate::{Error, Result, Value};

/// A parsed shape: it fits when one of the alternatives fits.
type Shape = Vec<Alternative>;

#[derive(Debug, PartialEq)]
enum Alternative {
    Any,
    Null,
    Bool,
    Int,
    Float,
    String,
    Bytes,
    Link,
    Literal(String),
    List(Shape),
    AnyKeys(Shape),
    Keys(Vec<Field>),
}

#[derive(Debug, PartialEq)]
struct Field {
    key: String,
    may_be_missing: bool,
    shape: Shape,
}

/// Checks a value against the text of a shape.
pub fn check(value: &Value, shape: &str) -> Result<()> {
    fit(value, &parse(shape), "")
}

/// Whether every value that fits `narrow` fits `wide`.
pub fn covers(wide: &str, narrow: &str) -> bool {
    covers_all(&parse(wide), &parse(narrow))
}

fn fit(value: &Value, shape: &Shape, at: &str) -> Result<()> {
    let mut refusal = None;
    for alternative in shape {
        match fit_one(value, alternative, at) {
            Ok(()) => return Ok(()),
            // The first is what the author wrote first; a refusal deeper inside says more.
            Err(error) => refusal = Some(refusal.filter(|old| depth(old) >= depth(&error)).unwrap_or(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| Error::Invalid("empty shape".into())))
}

fn depth(error: &Error) -> usize {
    match error {
        Error::TypeMismatch { at, .. } => at.len(),
        _ => 0,
    }
}

fn fit_one(value: &Value, alternative: &Alternative, at: &str) -> Result<()> {
    let mismatch = |at: &str, expected: &str, actual: &str| {
        Err(Error::TypeMismatch { at: at.into(), expected: expected.into(), actual: actual.into() })
    };
    match (alternative, value) {
        (Alternative::Any, _)
        | (Alternative::Null, Value::Null)
        | (Alternative::Bool, Value::Bool(_))
        | (Alternative::Int | Alternative::Float, Value::Integer(_))
        | (Alternative::Float, Value::Float(_))
        | (Alternative::String, Value::String(_))
        | (Alternative::Bytes, Value::Bytes(_))
        | (Alternative::Link, Value::Link(_)) => Ok(()),
        (Alternative::Literal(literal), Value::String(text)) if literal == text => Ok(()),
        (Alternative::List(items), Value::List(list)) => {
            list.iter().enumerate().try_for_each(|(index, item)| fit(item, items, &format!("{at}/{index}")))
        }
        (Alternative::AnyKeys(values), Value::Map(map)) => {
            map.iter().try_for_each(|(key, value)| fit(value, values, &format!("{at}/{key}")))
        }
        (Alternative::Keys(fields), Value::Map(map)) => fields.iter().try_for_each(|field| {
            let at = format!("{at}/{}", field.key);
            match map.get(&field.key) {
                Some(value) => fit(value, &field.shape, &at),
                None if field.may_be_missing => Ok(()),
                None => mismatch(&at, name_of(&field.shape[0]), "missing"),
            }
        }),
        (other, value) => mismatch(at, name_of(other), kind(value)),
    }
}

fn covers_all(wide: &Shape, narrow: &Shape) -> bool {
    narrow.iter().all(|narrow| wide.iter().any(|wide| covers_one(wide, narrow)))
}

fn covers_one(wide: &Alternative, narrow: &Alternative) -> bool {
    match (wide, narrow) {
        (Alternative::Any, _)
        | (Alternative::Float, Alternative::Int)
        | (Alternative::String, Alternative::Literal(_)) => true,
        (Alternative::List(wide), Alternative::List(narrow))
        | (Alternative::AnyKeys(wide), Alternative::AnyKeys(narrow)) => covers_all(wide, narrow),
        (Alternative::Keys(wide), Alternative::Keys(narrow)) => wide.iter().all(|wide| {
            match narrow.iter().find(|narrow| narrow.key == wide.key) {
                Some(narrow) => {
                    (wide.may_be_missing || !narrow.may_be_missing) && covers_all(&wide.shape, &narrow.shape)
                }
                // A key that the narrow shape does not name may be there and hold anything.
                None => wide.may_be_missing && wide.shape.contains(&Alternative::Any),
            }
        }),
        (wide, narrow) => wide == narrow,
    }
}

fn name_of(alternative: &Alternative) -> &str {
    match alternative {
        Alternative::Any => "any",
        Alternative::Null => "null",
        Alternative::Bool => "bool",
        Alternative::Int => "int",
        Alternative::Float => "float",
        Alternative::String => "string",
        Alternative::Bytes => "bytes",
        Alternative::Link => "link",
        Alternative::Literal(text) => text,
        Alternative::List(_) => "list",
        Alternative::AnyKeys(_) | Alternative::Keys(_) => "map",
    }
}

/// Parses the text that this crate's own derive wrote, or a hand-written `impl Shape`.
fn parse(text: &str) -> Shape {
    let mut parser = Parser { rest: text };
    let shape = parser.shape();
    assert!(parser.rest.trim().is_empty(), "shape `{text}`: did not expect `{}`", parser.rest);
    shape
}

struct Parser<'text> {
    rest: &'text str,
}

impl Parser<'_> {
    fn shape(&mut self) -> Shape {
        let mut shape = Vec::new();
        loop {
            shape.append(&mut self.base());
            if self.take("?") {
                shape.push(Alternative::Null);
            }
            if !self.take("|") {
                return shape;
            }
        }
    }

    fn base(&mut self) -> Shape {
        if self.take("(") {
            let inner = self.shape();
            self.need(")");
            return inner;
        }
        if self.take("[") {
            let inner = self.shape();
            self.need("]");
            return vec![Alternative::List(inner)];
        }
        if self.take("{") {
            return vec![self.map()];
        }
        if let Some(text) = self.quoted() {
            return vec![Alternative::Literal(text)];
        }
        vec![match self.word().as_str() {
            "any" => Alternative::Any,
            "null" => Alternative::Null,
            "bool" => Alternative::Bool,
            "int" => Alternative::Int,
            "float" => Alternative::Float,
            "string" => Alternative::String,
            "bytes" => Alternative::Bytes,
            "link" => Alternative::Link,
            other => panic!("no shape is called `{other}`"),
        }]
    }

    fn map(&mut self) -> Alternative {
        if self.take("*") {
            self.need(":");
            let inner = self.shape();
            self.need("}");
            return Alternative::AnyKeys(inner);
        }
        let mut fields = Vec::new();
        while !self.take("}") {
            let key = self.quoted().unwrap_or_else(|| self.word());
            let may_be_missing = self.take("?");
            self.need(":");
            fields.push(Field { key, may_be_missing, shape: self.shape() });
            if !self.take(",") {
                self.need("}");
                break;
            }
        }
        Alternative::Keys(fields)
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
        assert!(self.take(token), "shape: expected `{token}` before `{}`", self.rest);
    }
}
