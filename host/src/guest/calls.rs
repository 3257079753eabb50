//! Host calls, one file per interface of `wit/`. They touch only the turn's transaction.

mod cells;
mod context;
mod discovery;
mod http;
mod log;
mod retries;
mod streams;
mod waits;

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use wasmtime::component::ResourceTableError;

use super::{
    bindings::charm::host::types::{
        self, Address, Error, Failed, HttpError, Limit, Other, ReadOnly, TypeMismatch, WriteIsolation,
    },
    ctx::Ctx,
};
use crate::{
    cell::CellId,
    cost,
    did::Did,
    event::EventId,
    limits::{LINK_BYTES_MAX, MESSAGE_BYTES_MAX, VALUE_DEPTH_MAX},
    link::Link,
    log::say,
    path::{Path, Segment},
    recording::{Kind, Met, Told},
    text::clip,
    tx::{Refusal, guest_name},
    value::Value,
};

/// How a host call fails: a refusal that the guest sees and may handle, or a trap that ends its turn.
/// Which of the two is decided by the type of what goes wrong.
pub enum CallError {
    /// The guest gets it as `error`.
    Refused(Refusal),
    /// The guest gets it as `error.http`.
    Http(crate::http::HttpError),
    /// The turn ends.
    Trap(wasmtime::Error),
}

impl CallError {
    /// The text of [`CallError::outside_turn`].
    pub const OUTSIDE_TURN: &str = "host call without a turn: describe may only log";

    /// The text of the trap of a call that gives another answer in each turn, in a derivation.
    pub const IN_DERIVATION: &str =
        "a derivation has no sender, event, time or randomness: it computes from cells alone";

    /// Returns the trap of a host call made while the charm is described.
    pub fn outside_turn() -> CallError {
        CallError::Trap(wasmtime::Error::msg(CallError::OUTSIDE_TURN))
    }

    /// Returns the trap of a replay that asks something else than before: what, the recording says.
    pub fn differs() -> CallError {
        CallError::Trap(wasmtime::Error::msg("the replay differs"))
    }

    /// Returns what ends the turn, of a call that is refused nothing.
    fn into_trap(self) -> wasmtime::Error {
        match self {
            CallError::Trap(error) => error,
            CallError::Refused(_) | CallError::Http(_) => wasmtime::Error::msg("the replay differs"),
        }
    }

    /// Returns the trap of a turn whose snapshot was given back: it runs again, so nobody reads the text.
    pub fn lost() -> CallError {
        CallError::Trap(wasmtime::Error::msg("the turn's snapshot was given back"))
    }
}

impl From<Refusal> for CallError {
    fn from(refusal: Refusal) -> CallError {
        CallError::Refused(refusal)
    }
}

impl From<wasmtime::Error> for CallError {
    fn from(error: wasmtime::Error) -> CallError {
        CallError::Trap(error)
    }
}

impl From<ResourceTableError> for CallError {
    fn from(error: ResourceTableError) -> CallError {
        CallError::Trap(error.into())
    }
}

/// Returns what a call was told, as it returns it.
fn recorded<T: DeserializeOwned>(told: &Told) -> Result<T, CallError> {
    match told {
        Told::Ok(bytes) => postcard::from_bytes(bytes).map_err(|_| CallError::differs()),
        Told::Refused(refusal) => Err(refusal.clone().into()),
        Told::Http(error) => Err(CallError::Http(error.clone())),
    }
}

impl Ctx {
    /// Makes a call, or tells it what it was told before (S8): `asked` is what it asks for.
    fn recorded<T: Serialize + DeserializeOwned>(
        &mut self,
        kind: Kind,
        asked: impl FnOnce() -> u64,
        make: impl FnOnce(&mut Ctx) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        if !self.recording.is_on() {
            return make(self);
        }
        let asked = asked();
        match self.recording.meet(kind, asked) {
            Met::Told(told, _) => return recorded(&told),
            Met::Differs | Met::Answer(_) => return Err(CallError::differs()),
            Met::Live => {}
        }
        let made = make(self);
        let told = match &made {
            Ok(made) => Told::Ok(postcard::to_stdvec(made).unwrap_or_default()),
            Err(CallError::Refused(refusal)) => Told::Refused(refusal.clone()),
            Err(CallError::Http(error)) => Told::Http(error.clone()),
            Err(CallError::Trap(_)) => return made,
        };
        self.recording.note(kind, asked, told);
        made
    }
}

/// Returns a path as bytes, for what a call asks for.
fn bytes_of(path: &Path) -> Vec<u8> {
    postcard::to_stdvec(path).unwrap_or_default()
}

fn address(owner: Did, name: &str) -> Address {
    Address { owner: owner.to_string(), name: short(name) }
}

/// Names inside errors are cut at this many bytes.
fn short(text: &str) -> String {
    clip(text, 256).into_owned()
}

impl types::Host for Ctx {
    fn convert_error(&mut self, error: CallError) -> wasmtime::Result<Error> {
        use crate::http::HttpError as Http;
        Ok(match error {
            CallError::Trap(error) => return Err(error),
            CallError::Http(error) => Error::Http(match error {
                Http::Denied(text) => HttpError::Denied(short(&text)),
                Http::Address(text) => HttpError::Address(short(&text)),
                Http::Timeout => HttpError::Timeout,
                Http::Connection(text) => HttpError::Connection(short(&text)),
                Http::Unknown(text) => HttpError::Unknown(short(&text)),
            }),
            CallError::Refused(refusal) => match refusal {
                Refusal::WriteIsolation { requested, open } => {
                    Error::WriteIsolation(WriteIsolation { requested: requested.to_string(), open: open.to_string() })
                }
                Refusal::Denied { owner, name } => Error::Denied(address(owner, &name)),
                Refusal::TypeMismatch(mismatch) => Error::TypeMismatch(TypeMismatch {
                    at: short(&mismatch.at),
                    expected: short(&mismatch.expected),
                    actual: mismatch.actual,
                }),
                Refusal::Invalid(text) => Error::Invalid(short(&text)),
                Refusal::Limit { name, max } => Error::Limit(Limit { name: name.into_owned(), max }),
                Refusal::ReadOnly { owner, name, derivation } => {
                    Error::ReadOnly(ReadOnly { cell: address(owner, &name), derivation: short(&derivation) })
                }
                Refusal::Failed { owner, name, message } => {
                    Error::Failed(Failed { cell: address(owner, &name), message: short(&message) })
                }
                Refusal::Cycle(cells) => {
                    let address = |cell: &CellId| address(cell.owner, &cell.name);
                    let mut left = MESSAGE_BYTES_MAX;
                    let fits = |address: &Address| {
                        let bytes = address.owner.len() + address.name.len();
                        let fits = bytes <= left;
                        left = left.saturating_sub(bytes);
                        fits
                    };
                    Error::Cycle(cells.iter().map(address).take_while(fits).collect())
                }
                Refusal::Pure(call) => Error::Other(Other {
                    code: "pure".to_owned(),
                    message: Refusal::Pure(call.clone()).to_string(),
                    at: Some(call),
                }),
                Refusal::QueueFull(did) => Error::QueueFull(did.to_string()),
                Refusal::NoSuchStream { owner, name } => Error::NoSuchStream(address(owner, &name)),
            },
        })
    }
}

/// Tells the log of a host call: its name, never what it carries.
fn called(name: &'static str) {
    say(|| tracing::trace!(target: "charm::call", "{name}"));
}

/// Returns a path that a guest gives, behind the one that its handle has.
fn path(ctx: &mut Ctx, base: Path, segments: Vec<types::Segment>) -> Path {
    let segment = |segment| match segment {
        types::Segment::Key(key) => Segment::Key(key),
        types::Segment::Index(index) => Segment::Index(index),
    };
    path_below(ctx, base, &Path(segments.into_iter().map(segment).collect()))
}

/// Returns the path that goes on from another one.
fn path_below(ctx: &mut Ctx, base: Path, below: &Path) -> Path {
    let mut path = base;
    path.0.extend_from_slice(&below.0);
    let bytes = |segment: &Segment| match segment {
        Segment::Key(key) => key.len(),
        Segment::Index(_) => 0,
    };
    ctx.charge(
        path.0.len() as u64 * cost::PATH_STEP + path.0.iter().map(bytes).sum::<usize>() as u64 * cost::PATH_BYTE,
    );
    path
}

/// Reads the name of a cell or stream that a guest gives.
fn name(ctx: &mut Ctx, text: &str) -> Result<Arc<str>, CallError> {
    ctx.charge(cost::copied(text.len()));
    Ok(guest_name(text)?)
}

/// Reads the id of an event that a guest gives.
fn event(ctx: &mut Ctx, text: &str) -> Result<EventId, CallError> {
    ctx.charge(cost::copied(text.len()));
    text.parse().map_err(|error| Refusal::Invalid(format!("event: {error}")).into())
}

/// Reads a link value that a guest gives.
fn link(ctx: &mut Ctx, bytes: &[u8], kind: &str) -> Result<Link, CallError> {
    ctx.charge(cost::DID_READ + cost::copied(bytes.len()) + cost::scanned(bytes.len().min(LINK_BYTES_MAX)));
    ctx.tx()?;
    let value = Value::from_bytes(bytes, LINK_BYTES_MAX, VALUE_DEPTH_MAX)
        .map_err(|error| Refusal::value(error, "link-bytes-max", LINK_BYTES_MAX))?;
    Link::from_value(&value).ok_or_else(|| Refusal::Invalid(format!("link: not a link to a {kind}")).into())
}

/// Returns whose: this charm when the guest names nobody.
fn owner(ctx: &mut Ctx, named: Option<String>) -> Result<Did, CallError> {
    let own = ctx.tx()?.writer();
    match named {
        None => Ok(own),
        Some(text) => {
            ctx.charge(cost::DID_READ + cost::copied(text.len()));
            text.parse().map_err(|error: crate::did::DidError| Refusal::Invalid(format!("owner: {error}")).into())
        }
    }
}
