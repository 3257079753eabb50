//! Reads shapes: recursive descent over the grammar in `wit/README.md`.

use std::collections::BTreeMap;

use super::{Field, INT, Shape, ShapeError, WIDTHS};
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
                self.list(depth)
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
            "never" => Shape::OneOf(Vec::new()),
            "float" => Shape::Kind(Kind::Float),
            "string" => Shape::Kind(Kind::String),
            "bytes" => Shape::Kind(Kind::Bytes),
            "link" => Shape::Kind(Kind::Link),
            "int" if self.eat('(') => self.range()?,
            word => match WIDTHS.iter().find(|(name, _)| *name == word) {
                Some((_, range)) => Shape::Int(range.clone()),
                None => return Err(self.error("expected any, never, null, bool, int, u8 to u64, i8 to i64, float, string, bytes, link, a quoted string, [, { or (")),
            },
        })
    }

    /// Reads `FIRST..LAST)`.
    fn range(&mut self) -> Result<Shape, ShapeError> {
        let first = self.number()?;
        self.expect('.', "expected ..")?;
        self.expect('.', "expected ..")?;
        let last = self.number()?;
        self.expect(')', "expected )")?;
        if last < first {
            return Err(self.error("a range that ends before it begins"));
        }
        Ok(Shape::Int(first..=last))
    }

    fn number(&mut self) -> Result<i128, ShapeError> {
        self.peek();
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(rest.len());
        let number = rest[..end].parse().ok().filter(|number| INT.contains(number));
        let number = number.ok_or_else(|| self.error("expected an integer of at most 64 bits"))?;
        self.at += end;
        Ok(number)
    }

    /// Reads what follows `[`: one shape is a list of such, more or a comma are exactly these.
    fn list(&mut self, depth: usize) -> Result<Shape, ShapeError> {
        let mut items = Vec::new();
        while !self.eat(']') {
            items.push(self.shape(depth + 1)?);
            if self.eat(',') {
                continue;
            }
            self.expect(']', "expected , or ]")?;
            if items.len() == 1 {
                return Ok(Shape::List(Box::new(items.swap_remove(0))));
            }
            break;
        }
        Ok(Shape::Tuple(items))
    }

    fn map(&mut self, depth: usize) -> Result<Shape, ShapeError> {
        let (mut fields, mut rest) = (BTreeMap::new(), None);
        while !self.eat('}') {
            if !fields.is_empty() || rest.is_some() {
                self.expect(',', "expected , or }")?;
            }
            if self.eat('*') {
                self.expect(':', "expected :")?;
                if rest.replace(Box::new(self.shape(depth + 1)?)).is_some() {
                    return Err(self.error("key named twice"));
                }
                continue;
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
        Ok(Shape::Map { fields, rest })
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
