//! How a command fails: an exit code, a word for programs and a line for people.

use charm_host::{
    InstallError, JsonError, ManifestError, OpenError, ReadError, SendError, StoreError, Unavailable, VerifyError,
};
use serde::{Deserialize, Serialize};

/// Exit codes; `--help` and `docs/json.md` explain them.
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
    /// Ended at once by Ctrl-C.
    Interrupted = 130,
    /// Ended at once by SIGTERM.
    Terminated = 143,
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> u8 {
        exit as u8
    }
}

impl TryFrom<u8> for Exit {
    type Error = String;

    fn try_from(code: u8) -> Result<Exit, String> {
        use Exit::{
            Done, Host, InUse, Interrupted, NotCommitted, NotFound, Output, Refused, Terminated, Unproven, Usage,
        };
        let all =
            [Done, Host, Usage, NotCommitted, NotFound, Refused, Unproven, InUse, Output, Interrupted, Terminated];
        all.into_iter().find(|exit| *exit as u8 == code).ok_or_else(|| format!("no exit code {code}"))
    }
}

/// What failed, in one word for programs; `docs/json.md` explains them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The host, the store or the machine.
    Host,
    /// The command line, or what it names.
    Usage,
    /// The text of the manifest.
    Manifest,
    /// A charm or a grant of the manifest.
    Install,
    /// The source of a charm.
    Charm,
    /// There is no such thing.
    NotFound,
    /// It was there, and its past has gone.
    Compacted,
    /// The event does not fit its stream.
    Shape,
    /// A bound is passed.
    Limit,
    /// The supplied id is none.
    Id,
    /// The supplied id was another event's.
    IdReused,
    /// There is no right to it.
    Denied,
    /// The inbox has no room.
    QueueFull,
    /// The charm has no usable key.
    Key,
    /// The event runs.
    Running,
    /// The event is not held.
    NotHeld,
    /// The store or a space does not prove itself.
    Unproven,
    /// Another program has the store, or does not answer.
    StoreInUse,
    /// The host ends.
    HostDrains,
    /// Standard output did not take it.
    Output,
    /// A signal.
    Signal,
}

impl Kind {
    /// Returns the exit code that goes with it; of a signal that of Ctrl-C.
    fn exit(self) -> Exit {
        match self {
            Kind::Host => Exit::Host,
            Kind::Usage | Kind::Manifest | Kind::Install | Kind::Charm => Exit::Usage,
            Kind::NotFound | Kind::Compacted => Exit::NotFound,
            Kind::Shape | Kind::Limit | Kind::Id | Kind::IdReused | Kind::Denied | Kind::QueueFull => Exit::Refused,
            Kind::Key | Kind::Running | Kind::NotHeld => Exit::Refused,
            Kind::Unproven => Exit::Unproven,
            Kind::StoreInUse | Kind::HostDrains => Exit::InUse,
            Kind::Output => Exit::Output,
            Kind::Signal => Exit::Interrupted,
        }
    }
}

/// A failure, as it is printed and as it crosses the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What, to whom, and what to do next, in one line.
    pub error: String,
    /// One word for programs.
    pub kind: Kind,
    /// The exit code.
    pub exit: Exit,
}

impl Failure {
    /// It is this kind of failure.
    pub fn new(kind: Kind, error: impl Into<String>) -> Failure {
        Failure { error: error.into(), kind, exit: kind.exit() }
    }

    /// The host, the store or the machine failed.
    pub fn host(error: impl Into<String>) -> Failure {
        Failure::new(Kind::Host, error)
    }

    /// The user asked for something that makes no sense.
    pub fn usage(error: impl Into<String>) -> Failure {
        Failure::new(Kind::Usage, error)
    }

    /// There is no such thing.
    pub fn not_found(error: impl Into<String>) -> Failure {
        Failure::new(Kind::NotFound, error)
    }

    /// Another program has the store, or does not answer.
    pub fn in_use(error: impl Into<String>) -> Failure {
        Failure::new(Kind::StoreInUse, error)
    }

    /// The host ends.
    pub fn drains() -> Failure {
        Failure::new(Kind::HostDrains, "the host drains: running turns end first; ask again when it has ended")
    }

    /// It is done, but cannot be told.
    pub fn output(error: impl Into<String>) -> Failure {
        Failure::new(Kind::Output, error)
    }

    /// A charm cannot be built.
    pub fn charm(error: impl Into<String>) -> Failure {
        Failure::new(Kind::Charm, error)
    }

    /// A signal ended it at once.
    pub fn signal(exit: Exit, error: impl Into<String>) -> Failure {
        Failure { exit, ..Failure::new(Kind::Signal, error) }
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
                Failure::new(Kind::Install, format!("{error}: charm release {sha256}"))
            }
            ManifestError::Install(error) => Failure::new(Kind::Install, error.to_string()),
            error => Failure::new(Kind::Manifest, error.to_string().trim_end().to_owned()),
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
            SendError::Running => Failure::new(Kind::Running, text),
            SendError::NotHeld { .. } => Failure::new(Kind::NotHeld, text),
            SendError::Shape { .. } => Failure::new(Kind::Shape, text),
            SendError::Limit { .. } => Failure::new(Kind::Limit, text),
            SendError::Id(_) => Failure::new(Kind::Id, text),
            SendError::IdReused { .. } => Failure::new(Kind::IdReused, text),
            SendError::Denied { .. } | SendError::Impersonation { .. } => Failure::new(Kind::Denied, text),
            SendError::QueueFull { .. } => Failure::new(Kind::QueueFull, text),
            SendError::Key { .. } => Failure::new(Kind::Key, text),
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
            ReadError::Compacted { .. } => Failure::new(Kind::Compacted, error.to_string()),
            other => Failure::host(other.to_string()),
        }
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Failure {
        match error {
            VerifyError::NoSuchSpace(_) => Failure::not_found(error.to_string()),
            VerifyError::Store(error) => error.into(),
            // Nothing is wrong with it: a later host wrote it.
            VerifyError::Unread { .. } => Failure::host(error.to_string()),
            other => Failure::new(Kind::Unproven, other.to_string()),
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
        assert_eq!((full.exit, full.kind), (Exit::Refused, Kind::QueueFull));
        assert_eq!(Failure::from(SendError::Unavailable(Unavailable::Closed)).exit, Exit::Host);
        let wire = serde_json::to_string(&full).expect("JSON");
        assert_eq!(serde_json::from_str::<Failure>(&wire).expect("a failure"), full);
    }

    /// What a later host wrote breaks no law: the remedy is another host, not a backup.
    #[test]
    fn a_record_of_a_later_host_is_not_unproven() {
        let space = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().expect("a DID");
        let later = VerifyError::Unread { space, seq: 1, why: charm_host::RecordError::Version(99) };
        let broken = VerifyError::Broken { law: charm_host::Law::Chain, space, seq: 1, why: "a gap".to_owned() };
        let [later, broken] = [later, broken].map(Failure::from);
        assert_eq!((later.exit, later.kind), (Exit::Host, Kind::Host));
        assert!(later.error.ends_with("use the host that wrote it, or a later one"), "{}", later.error);
        assert_eq!((broken.exit, broken.kind), (Exit::Unproven, Kind::Unproven));
    }

    /// Every kind stands in docs/json.md with its exit code, and no other does; so does every exit code.
    #[test]
    fn the_page_has_every_kind_and_every_exit_code() {
        let root = charm_demo_servers::root().expect("the repository");
        let page = std::fs::read_to_string(root.join("docs/json.md")).expect("docs/json.md");
        let rows = |heading: &str| {
            let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading)).expect(heading);
            let rows = section.lines().filter(|line| line.starts_with("| `"));
            rows.map(|row| row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`'])).collect()).collect()
        };
        let (kinds, codes): (Vec<Vec<&str>>, Vec<Vec<&str>>) = (rows("Errors"), rows("Exit codes"));
        let error = serde_json::from_str::<Kind>("\"?\"").expect_err("no kind").to_string();
        let mut known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        let mut listed: Vec<&str> = kinds.iter().map(|row| row[0]).collect();
        known.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, known);
        for row in kinds.iter().filter(|row| row[0] != "signal") {
            let kind: Kind = serde_json::from_str(&format!("\"{}\"", row[0])).expect("a kind");
            assert_eq!(row[1], (kind.exit() as u8).to_string(), "{row:?}");
        }
        let listed: Vec<&str> = codes.iter().map(|row| row[0]).collect();
        let known: Vec<String> =
            (0..=u8::MAX).filter(|code| Exit::try_from(*code).is_ok()).map(|code| code.to_string()).collect();
        assert_eq!(listed, known);
    }
}
