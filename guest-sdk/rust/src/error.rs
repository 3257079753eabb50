//! What can go wrong in a handler.

use std::fmt;
use std::time::Duration;

use crate::value::cut;
use crate::{Did, Outcome};

/// The result of everything that can go wrong.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The most bytes of an error's text (T7).
const TEXT_BYTES_MAX: usize = 1024;

/// What a host call refuses, and what the SDK adds. Its text becomes the message of the rejection when a
/// handler returns it: plain words, at most 1 KiB, never a value.
///
/// # Examples
/// ```
/// use charm_sdk::Error;
/// let error = Error::WriteIsolation { requested: "did:key:b".into(), open: "did:key:a".into() };
/// assert!(error.to_string().starts_with(
///     "Can not open transaction writer for did:key:b because transaction has writer open for did:key:a"
/// ));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A write to a cell of another charm (T2). The way out is a send to one of that charm's streams.
    WriteIsolation {
        /// The charm whose cell was to be written.
        requested: Did,
        /// The charm that this transaction writes for.
        open: Did,
    },
    /// No grant of the operator covers this cell or stream.
    Denied {
        /// The charm that it belongs to.
        owner: Did,
        /// The cell or stream.
        name: String,
    },
    /// The value there is of another kind.
    TypeMismatch {
        /// Where, like `/items/0/name`.
        at: String,
        /// The kind or shape that was needed.
        expected: String,
        /// The kind found.
        actual: String,
    },
    /// Malformed input.
    Invalid(String),
    /// A bound would be passed.
    Limit {
        /// The field of the host's limits.
        name: String,
        /// Its value.
        max: u64,
    },
    /// That charm's inbox is full; nothing was staged (S12).
    QueueFull(Did),
    /// That charm has no such stream.
    NoSuchStream {
        /// The charm.
        owner: Did,
        /// The stream that it does not have.
        name: String,
    },
    /// An HTTP request was refused or failed.
    Http(HttpError),
    /// A write to a derived cell, which nobody writes (D2).
    ReadOnly {
        /// The charm that it belongs to.
        owner: Did,
        /// The cell.
        name: String,
        /// What computes it.
        derivation: String,
    },
    /// Cells that lead back to the first, derived ones that need each other (D5) or links (C5): owner and name of each.
    Cycle(Vec<(Did, String)>),
    /// A derived cell could not be computed: its derivation returned an error, or failed.
    Underivable {
        /// The charm that it belongs to.
        owner: Did,
        /// The cell.
        name: String,
        /// What its derivation returned or ran into.
        message: String,
    },
    /// A refusal of a kind that this SDK does not know.
    Other {
        /// Which kind, in kebab-case.
        code: String,
        /// Says it in words.
        message: String,
        /// What it is about.
        at: Option<String>,
    },
    /// A cell, event or answer is not what the type says. Names the place and the reason.
    Decode(String),
    /// A cell holds nothing.
    Missing {
        /// The charm that it belongs to.
        owner: Did,
        /// The cell.
        name: String,
    },
    /// No charm fits a wish.
    NotFound {
        /// The tag that was asked for.
        tag: String,
    },
    /// More than one charm fits a wish that needs exactly one.
    Ambiguous {
        /// The tag that was asked for.
        tag: String,
        /// How many fit, at least.
        found: usize,
        /// The first of them.
        owners: Vec<Did>,
    },
    /// A send came to another outcome than `committed` (S4).
    NotCommitted {
        /// The outcome.
        outcome: Outcome,
        /// What the receiver or the host says about it.
        message: String,
    },
    /// Not all that was waited for was settled in time. What was committed at the wait stays, and the event may still be
    /// handled: see [`Sent`](crate::Sent).
    TimedOut,
    /// The handler's own words: see [`reject!`](crate::reject).
    Rejected(String),
    /// The handler asks for its turn to be tried again later: see [`retry!`](crate::retry).
    #[non_exhaustive]
    RetryAfter {
        /// After how long.
        after: Duration,
        /// Why, for when it can not be tried again.
        words: String,
    },
}

/// Why there is no answer to an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpError {
    /// No grant of the operator covers it; says `METHOD origin`.
    Denied(String),
    /// The name did not resolve, or to an address that the grant does not cover.
    Address(String),
    /// No complete answer in time.
    Timeout,
    /// The connection failed or the peer broke the protocol.
    Connection(String),
    /// It may have been carried out, but the answer is lost (A4); says `METHOD origin`.
    Unknown(String),
}

impl Error {
    /// Makes an error of the handler's own words.
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::Error;
    /// assert_eq!(Error::reject("closed on Sundays").to_string(), "closed on Sundays");
    /// ```
    pub fn reject(words: impl fmt::Display) -> Self {
        Self::Rejected(words.to_string())
    }

    /// Makes an error that has the turn tried again after a time, when the handler ends with it: see
    /// [`retry!`](crate::retry).
    ///
    /// # Examples
    /// ```
    /// use charm_sdk::prelude::*;
    ///
    /// /// Tries again when there is no answer.
    /// fn fetch(url: &str) -> Result<http::Response> {
    ///     http::Request::get(url).send().map_err(|error| Error::retry_after(Duration::from_secs(5), error))
    /// }
    /// # let _ = fetch;
    /// ```
    pub fn retry_after(after: Duration, words: impl fmt::Display) -> Self {
        crate::charm::retry(after, words.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::WriteIsolation { requested, open } => format!(
                "Can not open transaction writer for {requested} because transaction has writer open for {open}. \
                 A charm writes only its own cells: send an event to a stream of the owner instead, and go on \
                 in this handler with `commit_and_wait`, or in a stream of your own with `send_then`."
            ),
            Self::Denied { owner, name } => {
                format!("no grant covers `{name}` of {owner}: ask the operator to allow it")
            }
            Self::TypeMismatch { at, expected, actual } => format!("needed {expected} at {at}, found {actual}"),
            Self::Invalid(why) => format!("malformed input: {why}"),
            Self::Limit { name, max } => format!("over the limit {name} of {max}"),
            Self::QueueFull(did) => format!("the inbox of {did} is full: nothing was sent, try again later"),
            Self::NoSuchStream { owner, name } => format!("{owner} has no stream `{name}`"),
            Self::Http(HttpError::Denied(what)) => {
                format!("no grant covers the request {what}: ask the operator to allow it")
            }
            Self::Http(HttpError::Address(what)) => format!("no address for the request: {what}"),
            Self::Http(HttpError::Timeout) => "no complete HTTP answer in time".into(),
            Self::Http(HttpError::Connection(what)) => format!("the HTTP connection failed: {what}"),
            Self::Http(HttpError::Unknown(what)) => {
                format!("nobody knows what became of the request {what}: its answer is lost")
            }
            Self::ReadOnly { owner, name, derivation } => {
                format!("cell `{name}` of {owner} is derived by `{derivation}`: nobody writes it")
            }
            Self::Cycle(cells) => {
                let cells: Vec<String> = cells.iter().map(|(owner, name)| format!("`{name}` of {owner}")).collect();
                format!("cells lead back to the first: {}", cells.join(", "))
            }
            Self::Underivable { owner, name, message } => {
                format!("derived cell `{name}` of {owner} could not be computed: {message}")
            }
            Self::Other { code, message, at: None } => format!("{code}: {message}"),
            Self::Other { code, message, at: Some(at) } => format!("{code} at {at}: {message}"),
            Self::Decode(what) => what.clone(),
            Self::Missing { owner, name } => format!("cell `{name}` of {owner} holds nothing yet"),
            Self::NotFound { tag } => {
                format!(
                    "no charm with {tag} offers what is needed in a shape that fits, or no grant lets this charm see it; the host's log says which"
                )
            }
            Self::Ambiguous { tag, found, owners } => {
                let owners: Vec<&str> = owners.iter().map(Did::as_str).collect();
                format!(
                    "{found} charms with {tag} fit where one was expected: {}; the operator can pin one with wishes in \
                     the manifest",
                    owners.join(", ")
                )
            }
            Self::NotCommitted { outcome, message } if message.is_empty() => format!("the event was {outcome}"),
            Self::NotCommitted { outcome, message } => format!("the event was {outcome}: {message}"),
            Self::TimedOut => "not settled in time: what was committed at the wait stays".into(),
            Self::Rejected(words) | Self::RetryAfter { words, .. } => words.clone(),
        };
        to.write_str(cut(&text, TEXT_BYTES_MAX))
    }
}

impl std::error::Error for Error {}
