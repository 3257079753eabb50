//! The host's calls on wasm.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as Unread;

use super::Level;
use crate::bindings::charm::host::{cells, context, discovery, http, log as logging, retries, streams, types, waits};
use crate::cells::Span;
use crate::wish::{Found, Offers, Wanted};
use crate::{Did, Error, EventId, HttpError, Outcome, Receipt, Result, Segment, When};

pub(crate) struct Cell(cells::Cell);

impl Cell {
    pub(crate) fn open(owner: Option<&Did>, name: &str) -> Result<Self> {
        Ok(Self(cells::open(owner.map(Did::as_str), name)?))
    }

    pub(crate) fn get(&self, path: &[Segment]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(&wire(path))?)
    }

    pub(crate) fn set(&self, path: &[Segment], value: Vec<u8>) -> Result<()> {
        Ok(self.0.set(&wire(path), &value)?)
    }

    pub(crate) fn remove(&self, path: &[Segment]) -> Result<()> {
        Ok(self.0.remove(&wire(path))?)
    }

    pub(crate) fn append(&self, path: &[Segment], item: &[u8]) -> Result<()> {
        Ok(self.0.append(&wire(path), item)?)
    }

    pub(crate) fn add_unique(&self, path: &[Segment], item: &[u8]) -> Result<()> {
        Ok(self.0.add_unique(&wire(path), item)?)
    }

    pub(crate) fn remove_by_value(&self, path: &[Segment], item: &[u8]) -> Result<()> {
        Ok(self.0.remove_by_value(&wire(path), item)?)
    }

    pub(crate) fn increment(&self, path: &[Segment], by: &[u8]) -> Result<()> {
        Ok(self.0.increment(&wire(path), by)?)
    }
}

/// Asks for a page of names, and where the next begins.
pub(crate) fn names(owner: Option<&Did>, span: &Span, limit: u32) -> Result<(Vec<String>, Option<String>)> {
    let cells::NamesPage { names, next } = cells::names(owner.map(Did::as_str), &spanned(span), limit)?;
    Ok((names, next))
}

/// Asks for a page of names and values, and where the next begins.
#[expect(clippy::type_complexity, reason = "a page of pairs")]
pub(crate) fn entries(
    owner: Option<&Did>,
    span: &Span,
    limit: u32,
) -> Result<(Vec<(String, Vec<u8>)>, Option<String>)> {
    let cells::EntriesPage { entries, next } = cells::entries(owner.map(Did::as_str), &spanned(span), limit)?;
    Ok((entries.into_iter().map(|cells::Entry { name, value }| (name, value)).collect(), next))
}

/// Removes up to `limit` cells; how many, and where the rest begins.
pub(crate) fn remove_all(owner: Option<&Did>, span: &Span, limit: u32) -> Result<(u32, Option<String>)> {
    let cells::Removed { count, next } = cells::remove_all(owner.map(Did::as_str), &spanned(span), limit)?;
    Ok((count, next))
}

fn spanned(span: &Span) -> cells::Span {
    let Span { prefix, start, end } = span.clone();
    cells::Span { prefix, start, end }
}

pub(crate) struct Stream(streams::Stream);

impl Stream {
    pub(crate) fn open(owner: Option<&Did>, name: &str) -> Result<Self> {
        Ok(Self(streams::open(owner.map(Did::as_str), name)?))
    }

    pub(crate) fn send(&self, event: Vec<u8>, when: When) -> Result<EventId> {
        let When { deliver_after, expires_at, then } = when;
        let on_commit = then.map(|(stream, tag)| streams::OnCommit { stream: stream.into(), tag });
        Ok(streams::send(&self.0, &event, &streams::SendOptions { on_commit, deliver_after, expires_at })?)
    }
}

pub(crate) fn cancel(id: &str) -> Result<()> {
    Ok(streams::cancel(id)?)
}

pub(crate) fn wait(ids: &[EventId], first: bool, timeout_ms: u64) -> Result<Vec<Option<Receipt>>> {
    let until = if first { waits::Until::First } else { waits::Until::All };
    let receipt = |waits::Receipt { id, outcome, commit, message }: waits::Receipt| {
        // A word that this SDK does not know is never taken for success (S4).
        let outcome = Outcome::deserialize(IntoDeserializer::<Unread>::into_deserializer(outcome))
            .map_err(|_| Error::Decode(format!("the outcome of {id} is of a kind that is not known")))?;
        Ok(Receipt { id, outcome, commit, message })
    };
    waits::commit_and_wait(ids, until, timeout_ms)?.into_iter().map(|told| told.map(receipt).transpose()).collect()
}

pub(crate) fn sleep(ms: u64) -> Result<()> {
    Ok(waits::commit_and_sleep(ms)?)
}

/// Does not return when it may be.
pub(crate) fn retry_after(ms: u64) -> Result<()> {
    Ok(retries::retry_after(ms)?)
}

pub(crate) fn retries() -> u32 {
    retries::count()
}

pub(crate) fn wish(tag: &str, wanted: &Wanted, limit: u32, cursor: Option<String>) -> Result<Offers> {
    let declarations = |from: &[crate::Declaration]| {
        let declaration = |one: &crate::Declaration| (one.name.clone(), one.shape.clone());
        from.iter().map(declaration).map(|(name, shape)| discovery::Declaration { name, shape }).collect()
    };
    let wanted = discovery::Wanted {
        cells: declarations(&wanted.cells),
        streams: declarations(&wanted.streams),
        owner: wanted.owner.as_ref().map(|owner| owner.as_str().into()),
    };
    let discovery::Offers { found, next } = discovery::wish(tag, &wanted, &discovery::Page { limit, cursor })?;
    let found = found
        .into_iter()
        .map(|found| Found {
            owner: found.owner.into(),
            cells: found.cells.into_iter().map(Cell).collect::<Vec<_>>().into_iter(),
            streams: found.streams.into_iter().map(Stream).collect::<Vec<_>>().into_iter(),
        })
        .collect();
    Ok(Offers { found, next })
}

pub(crate) fn fetch(request: crate::http::Request) -> Result<crate::http::Response> {
    let (request, options) = asked(request);
    Ok(answered(http::fetch(&request, options)?))
}

/// A charm that does not call this does not import it, and its turns are not recorded for it.
pub(crate) fn fetch_as_wait(request: crate::http::Request) -> Result<crate::http::Response> {
    let (request, options) = asked(request);
    Ok(answered(waits::commit_and_fetch(&request, options)?))
}

fn asked(request: crate::http::Request) -> (http::Request, http::FetchOptions) {
    let crate::http::Request { method, url, headers, body, timeout_ms, repeatable } = request;
    (http::Request { method, url, headers, body }, http::FetchOptions { timeout_ms, repeatable })
}

fn answered(http::Response { status, headers, body }: http::Response) -> crate::http::Response {
    crate::http::Response { status, headers, body }
}

pub(crate) fn log(level: Level, words: &str) {
    let level = match level {
        Level::Debug => logging::Level::Debug,
        Level::Info => logging::Level::Info,
        Level::Warn => logging::Level::Warn,
        Level::Error => logging::Level::Error,
    };
    logging::log(level, words);
}

pub(crate) fn me() -> Did {
    context::self_did().into()
}

pub(crate) fn sender() -> Did {
    context::sender().into()
}

pub(crate) fn event() -> EventId {
    context::event()
}

pub(crate) fn time() -> u64 {
    context::time()
}

pub(crate) fn random() -> u64 {
    context::random()
}

fn wire(path: &[Segment]) -> Vec<types::Segment> {
    path.iter()
        .map(|segment| match segment {
            Segment::Key(key) => types::Segment::Key(key.clone()),
            Segment::Index(index) => types::Segment::Index(*index),
        })
        .collect()
}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::WriteIsolation(types::WriteIsolation { requested, open }) => {
                Self::WriteIsolation { requested: requested.into(), open: open.into() }
            }
            types::Error::Denied(types::Address { owner, name }) => Self::Denied { owner: owner.into(), name },
            types::Error::TypeMismatch(types::TypeMismatch { at, expected, actual }) => {
                Self::TypeMismatch { at, expected, actual }
            }
            types::Error::Invalid(why) => Self::Invalid(why),
            types::Error::Limit(types::Limit { name, max }) => Self::Limit { name, max },
            types::Error::QueueFull(did) => Self::QueueFull(did.into()),
            types::Error::NoSuchStream(types::Address { owner, name }) => {
                Self::NoSuchStream { owner: owner.into(), name }
            }
            types::Error::Http(error) => Self::Http(match error {
                types::HttpError::Denied(what) => HttpError::Denied(what),
                types::HttpError::Address(what) => HttpError::Address(what),
                types::HttpError::Timeout => HttpError::Timeout,
                types::HttpError::Connection(what) => HttpError::Connection(what),
                types::HttpError::Unknown(what) => HttpError::Unknown(what),
            }),
            types::Error::ReadOnly(types::ReadOnly { cell: types::Address { owner, name }, derivation }) => {
                Self::ReadOnly { owner: owner.into(), name, derivation }
            }
            types::Error::Failed(types::Failed { cell: types::Address { owner, name }, message }) => {
                Self::Underivable { owner: owner.into(), name, message }
            }
            types::Error::Cycle(cells) => {
                Self::Cycle(cells.into_iter().map(|types::Address { owner, name }| (owner.into(), name)).collect())
            }
            types::Error::Other(types::Other { code, message, at }) => Self::Other { code, message, at },
        }
    }
}
