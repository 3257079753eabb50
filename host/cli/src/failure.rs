//! How a command fails: an exit code, a word for programs and a line for people.

use std::borrow::Cow;

use charm_host::{
    InstallError, JsonError, ManifestError, OpenError, ReadError, SendError, StoreError, Unavailable, VerifyError,
};
use serde::{Deserialize, Serialize};

/// Exit codes; `--help` and `docs/cli.md` explain them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The host or the store failed.
    Host = 1,
    /// The command line or the manifest is wrong.
    Usage = 2,
    /// Settled, but not committed.
    NotCommitted = 3,
    /// Not found.
    NotFound = 4,
    /// Refused before it was sent.
    Refused = 5,
    /// A space does not prove itself.
    Unproven = 6,
    /// Another program has the store.
    InUse = 7,
    /// It is done, but standard output did not take what is to be said of it.
    Output = 8,
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> u8 {
        exit as u8
    }
}

impl TryFrom<u8> for Exit {
    type Error = String;

    fn try_from(code: u8) -> Result<Exit, String> {
        use Exit::{Done, Host, InUse, NotCommitted, NotFound, Output, Refused, Unproven, Usage};
        let all = [Done, Host, Usage, NotCommitted, NotFound, Refused, Unproven, InUse, Output];
        all.into_iter().find(|exit| *exit as u8 == code).ok_or_else(|| format!("no exit code {code}"))
    }
}

/// A failure, as it is printed and as it crosses the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What, to whom, and what to do next, in one line.
    pub error: String,
    /// One word for programs.
    pub kind: Cow<'static, str>,
    /// The exit code.
    pub exit: Exit,
}

impl Failure {
    fn new(exit: Exit, kind: &'static str, error: impl Into<String>) -> Failure {
        Failure { error: error.into(), kind: kind.into(), exit }
    }

    /// The host, the store or the machine failed.
    pub fn host(error: impl Into<String>) -> Failure {
        Failure::new(Exit::Host, "host", error)
    }

    /// The user asked for something that makes no sense.
    pub fn usage(error: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, "usage", error)
    }

    /// There is no such thing.
    pub fn not_found(error: impl Into<String>) -> Failure {
        Failure::new(Exit::NotFound, "not-found", error)
    }

    /// Another program has the store, or does not answer.
    pub fn in_use(error: impl Into<String>) -> Failure {
        Failure::new(Exit::InUse, "store-in-use", error)
    }

    /// The host ends.
    pub fn drains() -> Failure {
        Failure::new(
            Exit::InUse,
            crate::socket::DRAINS,
            "the host drains: running turns end first; ask again when it has ended",
        )
    }

    /// It is done, but cannot be told.
    pub fn output(error: impl Into<String>) -> Failure {
        Failure::new(Exit::Output, "output", error)
    }

    /// A charm cannot be built.
    pub fn charm(error: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, "charm", error)
    }

    /// The event cannot be sent.
    pub fn refused(kind: &'static str, error: impl Into<String>) -> Failure {
        Failure::new(Exit::Refused, kind, error)
    }

    /// Puts what it is about before the text.
    pub fn about(mut self, what: &str) -> Failure {
        self.error = format!("{what}: {}", self.error);
        self
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        match error {
            StoreError::InUse { .. } => Failure::in_use(error.to_string()),
            _ => Failure::host(error.to_string()),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        match error {
            OpenError::Store(error) => error.into(),
            other => Failure::host(other.to_string()),
        }
    }
}

impl From<JsonError> for Failure {
    fn from(error: JsonError) -> Failure {
        Failure::usage(format!("event is not a value: {error}"))
    }
}

impl From<Unavailable> for Failure {
    fn from(error: Unavailable) -> Failure {
        Failure::host(error.to_string())
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Failure {
        match error {
            ManifestError::Install(InstallError::Store(error)) => error.into(),
            ManifestError::Install(InstallError::Unavailable(error)) => error.into(),
            ManifestError::Install(error @ (InstallError::Key { .. } | InstallError::Compiler { .. })) => {
                Failure::host(error.to_string())
            }
            ManifestError::Install(InstallError::Deadly { ref sha256, .. }) => {
                Failure::new(Exit::Usage, "install", format!("{error}: charm release {sha256}"))
            }
            ManifestError::Install(error) => Failure::new(Exit::Usage, "install", error.to_string()),
            error => Failure::new(Exit::Usage, "manifest", error.to_string().trim_end().to_owned()),
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Failure {
        let text = error.to_string();
        match error {
            SendError::NoSuchCharm { .. }
            | SendError::NoSuchStream { .. }
            | SendError::NoSuchLetter
            | SendError::NoSuchEvent { .. } => Failure::not_found(text),
            SendError::Running => Failure::refused("running", text),
            SendError::NotHeld { .. } => Failure::refused("not-held", text),
            SendError::Shape { .. } => Failure::refused("shape", text),
            SendError::Limit { .. } => Failure::refused("limit", text),
            SendError::Id(_) => Failure::refused("id", text),
            SendError::IdReused { .. } => Failure::refused("id-reused", text),
            SendError::Denied { .. } | SendError::Impersonation { .. } => Failure::refused("denied", text),
            SendError::QueueFull { .. } => Failure::refused("queue-full", text),
            SendError::Key { .. } => Failure::refused("key", text),
            SendError::Store(error) => error.into(),
            _ => Failure::host(text),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        match error {
            ReadError::Store(error) => error.into(),
            ReadError::NoSuchSpace(_) | ReadError::NoSuchCommit { .. } | ReadError::Mismatch(_) => {
                Failure::not_found(error.to_string())
            }
            ReadError::Compacted { .. } => Failure::new(Exit::NotFound, "compacted", error.to_string()),
            other => Failure::host(other.to_string()),
        }
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Failure {
        match error {
            VerifyError::NoSuchSpace(_) => Failure::not_found(error.to_string()),
            VerifyError::Store(error) => error.into(),
            other => Failure::new(Exit::Unproven, "unproven", other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_is_a_refusal_and_a_stopped_host_is_not() {
        let to = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().expect("a DID");
        let full = Failure::from(SendError::QueueFull { to });
        assert_eq!((full.exit, &*full.kind), (Exit::Refused, "queue-full"));
        assert_eq!(Failure::from(SendError::Unavailable(Unavailable::Closed)).exit, Exit::Host);
        let wire = serde_json::to_string(&full).expect("JSON");
        assert_eq!(serde_json::from_str::<Failure>(&wire).expect("a failure"), full);
    }
}
