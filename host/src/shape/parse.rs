//! Reads shapes: recursive descent over the grammar in `wit/README.md`.

use std::collections::BTreeMap;

use super::{Field, Shape, ShapeError};
use crate::{
    limits::{SHAPE_BYTES_MAX, VALUE_DEPTH_MAX},
    value::Kind,
};

pub(super) fn shape(text: &str) -> Result<Shape, ShapeError> {
    let mut parser = Parser { text, at: 0 };
    if text.len() > SHAPE_BYTES_MAX {
        return Err(parser.error("longer than shape-bytes-max"));
    }
    let shape = parser.shape(1)?;
    if parser.peek().is_some() {
        return Err(parser.error("text after the shape"));
    }
    Ok(shape)
}

pub(super) fn is_plain_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Quotes as JSON does.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, why: &'static str) -> ShapeError {
        ShapeError { at: self.at, why }
    }

    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char, why: &'static str) -> Result<(), ShapeError> {
        if self.eat(wanted) { Ok(()) } else { Err(self.error(why)) }
    }

    fn shape(&mut self, depth: usize) -> Result<Shape, ShapeError> {
        if depth > VALUE_DEPTH_MAX {
            return Err(self.error("nested deeper than value-depth-max"));
        }
        let mut shapes = vec![self.alternative(depth)?];
        while self.eat('|') {
            shapes.push(self.alternative(depth)?);
        }
        Ok(if shapes.len() == 1 { shapes.swap_remove(0) } else { Shape::OneOf(shapes) })
    }

    fn alternative(&mut self, depth: usize) -> Result<Shape, ShapeError> {
        let base = self.base(depth)?;
        Ok(if self.eat('?') { Shape::OneOf(vec![base, Shape::Kind(Kind::Null)]) } else { base })
    }

    fn base(&mut self, depth: usize) -> Result<Shape, ShapeError> {
        match self.peek() {
            Some('"') => Ok(Shape::Literal(self.string()?)),
            Some('[') => {
                self.eat('[');
                let item = self.shape(depth + 1)?;
                self.expect(']', "expected ]")?;
                Ok(Shape::List(Box::new(item)))
            }
            Some('(') => {
                self.eat('(');
                let inner = self.shape(depth + 1)?;
                self.expect(')', "expected )")?;
                Ok(inner)
            }
            Some('{') => {
                self.eat('{');
                self.map(depth)
            }
            _ => self.kind(),
        }
    }

    fn kind(&mut self) -> Result<Shape, ShapeError> {
        Ok(match self.word() {
            "any" => Shape::Any,
            "null" => Shape::Kind(Kind::Null),
            "bool" => Shape::Kind(Kind::Bool),
            "int" => Shape::Kind(Kind::Integer),
            "float" => Shape::Kind(Kind::Float),
            "string" => Shape::Kind(Kind::String),
            "bytes" => Shape::Kind(Kind::Bytes),
            "link" => Shape::Kind(Kind::Link),
            _ => {
                return Err(
                    self.error("expected any, null, bool, int, float, string, bytes, link, a quoted string, [, { or (")
                );
            }
        })
    }

    fn map(&mut self, depth: usize) -> Result<Shape, ShapeError> {
        if self.eat('*') {
            self.expect(':', "expected :")?;
            let item = self.shape(depth + 1)?;
            self.expect('}', "expected }")?;
            return Ok(Shape::MapOf(Box::new(item)));
        }
        let mut fields = BTreeMap::new();
        while !self.eat('}') {
            if !fields.is_empty() {
                self.expect(',', "expected , or }")?;
            }
            let key = match self.peek() {
                Some('"') => self.string()?,
                _ => match self.word() {
                    "" => return Err(self.error("expected a key")),
                    word => word.to_owned(),
                },
            };
            let optional = self.eat('?');
            self.expect(':', "expected :")?;
            let shape = self.shape(depth + 1)?;
            if fields.insert(key, Field { optional, shape }).is_some() {
                return Err(self.error("key named twice"));
            }
        }
        Ok(Shape::Record(fields))
    }

    fn word(&mut self) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
        let word = if is_plain_key(&rest[..end]) { &rest[..end] } else { "" };
        self.at += word.len();
        word
    }

    fn string(&mut self) -> Result<String, ShapeError> {
        let mut out = String::new();
        let mut chars = self.text[self.at..].char_indices().skip(1);
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += offset + 1;
                    return Ok(out);
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some(c @ ('"' | '\\' | '/')) => out.push(c),
                    Some('u') => {
                        let digits: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        out.push(code.ok_or_else(|| self.error("bad escape in string"))?);
                    }
                    _ => return Err(self.error("bad escape in string")),
                },
                c => out.push(c),
            }
        }
        Err(self.error("string without end"))
    }
}
