//! What a host call refused, as data and as text.

use std::fmt;

use ipld_core::ipld::Ipld;

use crate::charm::host::types::{Address, Error, HttpError};

/// Why a step failed.
pub enum Failed {
    /// A host call was refused.
    Refused(Error),
    /// The script is wrong, or asks for this.
    Script(String),
}

impl Failed {
    pub fn script(why: &str) -> Failed {
        Failed::Script(why.into())
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Refused(error)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Script(text) => f.write_str(text),
            Failed::Refused(error) => {
                let (kind, fields) = parts(error);
                write!(f, "{kind}")?;
                for (name, value) in fields {
                    match value {
                        Ipld::String(text) => write!(f, " {name}={text}")?,
                        Ipld::Integer(number) => write!(f, " {name}={number}")?,
                        _ => {}
                    }
                }
                Ok(())
            }
        }
    }
}

/// Returns `{kind, ..fields}`.
pub fn data(error: &Error) -> Ipld {
    let (kind, fields) = parts(error);
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
    Ipld::Map(fields.chain([("kind".to_owned(), Ipld::String(kind.to_owned()))]).collect())
}

fn parts(error: &Error) -> (&'static str, Vec<(&'static str, Ipld)>) {
    let text = |text: &String| Ipld::String(text.clone());
    match error {
        Error::WriteIsolation(w) => {
            ("write-isolation", vec![("requested", text(&w.requested)), ("open", text(&w.open))])
        }
        Error::Denied(at) => ("denied", vec![("owner", text(&at.owner)), ("name", text(&at.name))]),
        Error::TypeMismatch(m) => {
            let fields = vec![("at", text(&m.at)), ("expected", text(&m.expected)), ("actual", text(&m.actual))];
            ("type-mismatch", fields)
        }
        Error::Invalid(why) => ("invalid", vec![("why", text(why))]),
        Error::Limit(limit) => ("limit", vec![("name", text(&limit.name)), ("max", Ipld::Integer(limit.max.into()))]),
        Error::QueueFull(did) => ("queue-full", vec![("inbox", text(did))]),
        Error::NoSuchStream(at) => ("no-such-stream", vec![("owner", text(&at.owner)), ("name", text(&at.name))]),
        Error::Http(error) => match error {
            HttpError::Denied(why) => ("http-denied", vec![("why", text(why))]),
            HttpError::Address(why) => ("http-address", vec![("why", text(why))]),
            HttpError::Timeout => ("http-timeout", vec![]),
            HttpError::Connection(why) => ("http-connection", vec![("why", text(why))]),
            HttpError::Unknown(what) => ("http-unknown", vec![("what", text(what))]),
        },
        Error::ReadOnly(cell) => {
            let fields = vec![
                ("owner", text(&cell.cell.owner)),
                ("name", text(&cell.cell.name)),
                ("derivation", text(&cell.derivation)),
            ];
            ("read-only", fields)
        }
        Error::Failed(failed) => {
            let fields = vec![
                ("owner", text(&failed.cell.owner)),
                ("name", text(&failed.cell.name)),
                ("message", text(&failed.message)),
            ];
            ("failed", fields)
        }
        Error::Cycle(cells) => {
            let address = |at: &Address| Ipld::List(vec![text(&at.owner), text(&at.name)]);
            ("cycle", vec![("cells", Ipld::List(cells.iter().map(address).collect()))])
        }
        Error::Other(other) => {
            let at = other.at.as_ref().map_or(Ipld::Null, text);
            ("other", vec![("code", text(&other.code)), ("message", text(&other.message)), ("at", at)])
        }
    }
}
