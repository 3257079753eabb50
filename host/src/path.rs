//! Paths into a value (C3).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{readable, text::is_unprintable};

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Segment {
    /// Into a map.
    Key(String),
    /// Into a list.
    Index(u32),
}

/// Where inside a value; the empty path is the whole of it.
///
/// As text `/items/0/name`. A step that is a number as it is usually written (`0`, `17`, not `007`) is a list index, any
/// other a map key. A key in quotes can be anything: `'0'` is the key `0`; inside, `''` is one quote, `\\` one backslash
/// and `\u{202e}` that character. The empty text is the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(pub Vec<Segment>);

/// A text that is not a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a path: write it like /items/0/name")]
pub struct PathError;

impl Path {
    /// Returns the empty path.
    pub fn root() -> Path {
        Path::default()
    }

    /// Returns what its steps carry, in bytes: a key its length, an index 4.
    pub(crate) fn bytes(&self) -> usize {
        bytes(&self.0)
    }

    /// Returns whether the path is empty.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns what steps carry, in bytes: a key its length, an index 4.
pub(crate) fn bytes(steps: &[Segment]) -> usize {
    let size = |step: &Segment| match step {
        Segment::Key(key) => key.len(),
        Segment::Index(_) => 4,
    };
    steps.iter().map(size).sum()
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        readable::write(self, &self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Path, D::Error> {
        if readable::is_text(deserializer.is_human_readable()) {
            return readable::parse(deserializer);
        }
        Deserialize::deserialize(deserializer).map(Path)
    }
}

/// Returns the index that a step is when it stands without quotes.
fn index(step: &str) -> Option<u32> {
    let is_usual = step == "0" || step.starts_with(|first: char| ('1'..='9').contains(&first));
    if is_usual { step.parse().ok() } else { None }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && index(key).is_none() && !key.contains(['/', '\'', '\\']) && !key.chars().any(is_unprintable)
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Segment::Index(index) => write!(f, "/{index}"),
            Segment::Key(key) if is_plain(key) => write!(f, "/{key}"),
            Segment::Key(key) => {
                f.write_str("/'")?;
                key.chars().try_for_each(|c| match c {
                    '\'' => f.write_str("''"),
                    '\\' => f.write_str("\\\\"),
                    c if is_unprintable(c) => write!(f, "{}", c.escape_unicode()),
                    c => write!(f, "{c}"),
                })?;
                f.write_str("'")
            }
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| fmt::Display::fmt(segment, f))
    }
}

/// Reads a key in quotes, behind the first of them; returns it with what follows.
fn quoted(mut rest: &str) -> Result<(String, &str), PathError> {
    let mut key = String::new();
    loop {
        let c = rest.chars().next().ok_or(PathError)?;
        rest = &rest[c.len_utf8()..];
        match c {
            '\'' => match rest.strip_prefix('\'') {
                Some(more) => {
                    key.push('\'');
                    rest = more;
                }
                None => return Ok((key, rest)),
            },
            '\\' => {
                if let Some(more) = rest.strip_prefix('\\') {
                    key.push('\\');
                    rest = more;
                } else {
                    let (digits, more) =
                        rest.strip_prefix("u{").and_then(|rest| rest.split_once('}')).ok_or(PathError)?;
                    let is_hex = (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
                    let code = if is_hex { u32::from_str_radix(digits, 16).ok() } else { None };
                    key.push(code.and_then(char::from_u32).ok_or(PathError)?);
                    rest = more;
                }
            }
            c => key.push(c),
        }
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Path, PathError> {
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            rest = rest.strip_prefix('/').ok_or(PathError)?;
            if let Some(key) = rest.strip_prefix('\'') {
                let (key, more) = quoted(key)?;
                segments.push(Segment::Key(key));
                rest = more;
                continue;
            }
            let (step, more) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if step.is_empty() {
                return Err(PathError);
            }
            segments.push(index(step).map_or_else(|| Segment::Key(step.to_owned()), Segment::Index));
            rest = more;
        }
        Ok(Path(segments))
    }
}

impl TryFrom<&str> for Path {
    type Error = PathError;

    fn try_from(text: &str) -> Result<Path, PathError> {
        text.parse()
    }
}

impl From<&Path> for Path {
    fn from(path: &Path) -> Path {
        path.clone()
    }
}

impl From<std::convert::Infallible> for PathError {
    fn from(never: std::convert::Infallible) -> PathError {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_path_round_trip() {
        for text in ["", "/a", "/items/0/name", "/'0'/x", "/'it''s/here'", "/007", "/4294967296", "/'a\\\\b\\u{202e}'"]
        {
            let path: Path = text.parse().expect(text);
            assert_eq!(path.to_string(), text);
        }
        for bad in ["a", "/", "//", "/'x", "/'\\n'", "/'\\u{110000}'", "/'\\u{}'", "/'\\", "/'a'b"] {
            assert_eq!(bad.parse::<Path>(), Err(PathError), "{bad}");
        }
    }
}
