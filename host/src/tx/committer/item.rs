//! What the committer hands to the group, and what it takes on disk.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::{
    core::{Commit, Effects},
    did::Did,
    event::Event,
    limits::ROW_BYTES,
    record::{Body, Hash},
    rows::Notes,
    value::Edit,
};

/// What waits to become durable.
pub enum Item {
    /// Notes of a charm that changed, and what to tell the operator.
    Notes { charm: Did, notes: Notes, told: Option<String> },
    /// What a turn has asked for outside: who asks waits for that.
    Asked { position: u64, requests: Vec<Hash>, told: oneshot::Sender<()> },
    /// A commit, its place in the chain still open, and what follows from it. One that is `joined` is durable with the one
    /// before, or not at all.
    Commit { commit: Box<Commit>, effects: Box<Effects>, at: Duration, joined: bool },
}

impl Item {
    /// Returns it as it is durable with the one before only.
    pub fn joined(self) -> Item {
        match self {
            Item::Commit { commit, effects, at, .. } => Item::Commit { commit, effects, at, joined: true },
            notes => notes,
        }
    }

    /// Returns what it takes on disk: rows, and the values and payloads that they carry.
    pub fn bytes(&self) -> usize {
        let Item::Commit { commit, effects, .. } = self else { return ROW_BYTES };
        if let Body::Installed(install) = &commit.record.body {
            let components = effects.components.iter().filter_map(|(_, component)| component.as_ref());
            let components = components.map(|component| component.bytes().len()).sum::<usize>();
            return 2 * ROW_BYTES + install.description.as_bytes().len() + components;
        }
        let writes = commit.record.writes().iter();
        let writes = writes.map(|write| write.edits.iter().map(Edit::bytes).sum::<usize>());
        let tag = |event: &Event| event.on_commit.as_ref().map_or(0, |on_commit| on_commit.tag.as_bytes().len());
        let sends = commit.record.sends().map(|(event, _)| event.payload.as_bytes().len() + tag(event));
        let recording = effects.recording.as_ref().map_or(0, |row| 2 * ROW_BYTES + row.bytes.len());
        2 * ROW_BYTES + recording + writes.chain(sends).map(|bytes| ROW_BYTES + bytes).sum::<usize>()
    }

    /// Returns the charm whose turn it is; none for what others did.
    pub fn charm(&self) -> Option<Did> {
        match self {
            Item::Commit { commit, .. } if commit.taken.is_some() => Some(commit.record.space),
            _ => None,
        }
    }
}
