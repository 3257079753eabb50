//! Why a host writes nothing now.

use crate::text::clip;

/// The host has stopped, or cannot make anything durable now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The host was shut down.
    #[error("host is shut down")]
    Closed,
    /// A write to the store failed and the host stopped writing (T8). Nothing that was acknowledged is lost.
    #[error("host stopped: {reason}; restart it to recover from disk")]
    Stopped {
        /// What the store said.
        reason: String,
    },
    /// The disk is full. The host keeps what it has and tries again.
    #[error("disk full: free space, the host goes on by itself; events sent meanwhile keep their ids and settle then")]
    DiskFull,
    /// Another program has a lock on the store's file. The host keeps what it has and tries again.
    #[error(
        "store is locked by a program that works on its file: end that one, the host goes on by itself; events sent meanwhile keep their ids and settle then"
    )]
    StoreLocked,
    /// The runtime that opened the host has ended, and with it all that the host did. Nothing that was acknowledged is lost.
    #[error("the runtime that opened the host has ended: open the host again, on one that lives as long")]
    RuntimeEnded,
}

impl Unavailable {
    /// Stopped by an error, whose text may come from a store or keyring of the embedder's.
    pub(crate) fn stopped(error: &dyn std::fmt::Display) -> Unavailable {
        Unavailable::Stopped { reason: clip(&error.to_string(), 640).into_owned() }
    }
}
