//! Paths into a value (C3).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::is_unprintable;

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
/// As text `/items/0/name`: a step of digits is a list index, `'0'` is the map key `0`, and inside a
/// quoted step `''` is one quote. The empty text is the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

    /// Returns whether the path is empty.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && !key.bytes().all(|b| b.is_ascii_digit())
        && !key.contains(['/', '\''])
        && !key.chars().any(is_unprintable)
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Segment::Index(index) => write!(f, "/{index}"),
            Segment::Key(key) if is_plain(key) => write!(f, "/{key}"),
            Segment::Key(key) => {
                let quoted: String = key
                    .replace('\'', "''")
                    .chars()
                    .flat_map(|c| if is_unprintable(c) { c.escape_default().collect() } else { vec![c] })
                    .collect();
                write!(f, "/'{quoted}'")
            }
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| fmt::Display::fmt(segment, f))
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Path, PathError> {
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            rest = rest.strip_prefix('/').ok_or(PathError)?;
            if let Some(quoted) = rest.strip_prefix('\'') {
                let mut key = String::new();
                let mut chars = quoted.char_indices().peekable();
                let end = loop {
                    match chars.next().ok_or(PathError)? {
                        (at, '\'') => match chars.next_if(|(_, c)| *c == '\'') {
                            Some(_) => key.push('\''),
                            None => break at + 1,
                        },
                        (_, c) => key.push(c),
                    }
                };
                segments.push(Segment::Key(key));
                rest = &quoted[end..];
                continue;
            }
            let end = rest.find('/').unwrap_or(rest.len());
            let step = &rest[..end];
            if step.is_empty() {
                return Err(PathError);
            }
            segments.push(if step.bytes().all(|b| b.is_ascii_digit()) {
                Segment::Index(step.parse().map_err(|_| PathError)?)
            } else {
                Segment::Key(step.to_owned())
            });
            rest = &rest[end..];
        }
        Ok(Path(segments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_path_round_trip() {
        for text in ["", "/a", "/items/0/name", "/'0'/x", "/'it''s/here'"] {
            let path: Path = text.parse().expect(text);
            assert_eq!(path.to_string(), text);
        }
        for bad in ["a", "/", "//", "/'x", "/4294967296"] {
            assert_eq!(bad.parse::<Path>(), Err(PathError), "{bad}");
        }
    }
}
