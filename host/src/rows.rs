//! What a store keeps, row by row, and what one commit or one batch changes of it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    component::Component,
    did::Did,
    entry::LogEntry,
    event::{Event, EventId},
    receipt::Receipt,
    record::{Checkpoint, Hash, Install, Progress},
    value::{self, Edit, Tree, Value},
};

/// One cell's present value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellRow {
    /// The space.
    pub space: Did,
    /// The name there.
    pub name: Arc<str>,
    /// `order` of the record that wrote it.
    pub order: u64,
    /// Its number in the space.
    pub seq: u64,
    /// None when it was removed.
    pub value: Option<Value>,
}

impl CellRow {
    /// Writes the cell, one time after the other.
    pub(crate) fn write(&mut self, writes: &[&CellWrite]) -> Result<(), Unfit> {
        let mut value = self.value.take().map(Tree::new);
        for write in writes {
            (self.order, self.seq, value) = (write.order, write.seq, write.apply(value)?);
        }
        self.value = value.as_ref().map(Tree::to_value);
        Ok(())
    }
}

/// One cell written by a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellWrite {
    /// The space.
    pub space: Did,
    /// The name there.
    pub name: Arc<str>,
    /// `order` of the last record that wrote it.
    pub order: u64,
    /// Its number in the space.
    pub seq: u64,
    /// What changes in the value that the store has, in order; the whole value is an edit at the root.
    pub edits: Vec<Edit>,
}

/// A write that is of another value than the store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("commit {order} does not apply to its cell: run verify")]
pub(crate) struct Unfit {
    order: u64,
}

impl CellWrite {
    /// Returns whether it leaves nothing of what was there.
    pub(crate) fn is_whole(&self) -> bool {
        self.edits.first().is_some_and(|edit| edit.path.is_root())
    }

    /// Returns the value of the cell after it.
    pub(crate) fn apply(&self, before: Option<Tree>) -> Result<Option<Tree>, Unfit> {
        value::apply(before, &self.edits).map_err(|_| Unfit { order: self.order })
    }
}

/// One event that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Position in the queue, in order over all charms.
    pub position: u64,
    /// The space whose commit sent it. A receipt is sent by whoever settled what it is for, an event from outside by its receiver.
    pub space: Did,
    /// The event.
    pub event: Event,
}

/// A turn under way: it has committed a segment, and not ended (S7). Its event still waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnRow {
    /// Position of its event.
    pub position: u64,
    /// Whose turn it is.
    pub space: Did,
    /// The event.
    pub event: EventId,
    /// How far it has come.
    pub progress: Progress,
}

/// What a turn under way was told in one of its segments, or as the answer to a request, for its replay. It goes when the turn ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingRow {
    /// Position of its event.
    pub position: u64,
    /// Number of the piece, from 1.
    pub number: u32,
    /// The bytes: the host's own affair, but for their hash (`recording_hash`).
    #[serde(with = "crate::bytes::record")]
    pub bytes: Arc<[u8]>,
}

/// One failed event (S11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Position that the event had in the queue.
    pub position: u64,
    /// When it failed, in milliseconds since 1970.
    pub time_ms: u64,
    /// The event.
    pub event: Event,
    /// What became of it and why.
    pub receipt: Receipt,
}

/// A receipt with what it takes to recognise a repeated send (S9), and to let it go after its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRow {
    /// The receipt.
    pub receipt: Receipt,
    /// Who sent the event.
    pub sender: Did,
    /// Who handled it.
    pub to: Did,
    /// For an id that the sender chose: hash over receiver, stream and payload.
    pub digest: Option<[u8; 16]>,
    /// The space whose commit settled it.
    pub space: Did,
    /// The commit's number there.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
}

/// A commit of a space that a checkpoint stands for (H1). All zeros for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Its number in the space.
    pub seq: u64,
    /// The same commit in the order of the host.
    pub order: u64,
    /// Number of the commit that is the checkpoint.
    pub at: u64,
}

impl Point {
    /// Returns that of a checkpoint which is commit `at` of its space; where it is in the host is looked up when a past goes.
    pub(crate) fn of(checkpoint: &Checkpoint, at: u64) -> Point {
        Point { seq: checkpoint.seq, order: 0, at }
    }
}

/// The past of a space that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutRow {
    /// Whose.
    pub space: Did,
    /// Commits up to here go, and what stands for them; all zeros when they stay.
    pub floor: Point,
    /// Receipts that commits up to here settled go.
    pub receipts: u64,
    /// Of receipts that commits up to here settled, the messages go.
    pub messages: u64,
}

/// A charm that the store knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceRow {
    /// Its DID.
    pub did: Did,
    /// Its name in the manifest; `@host` and `@operator` are the host's own.
    pub name: String,
    /// Number of its last record, 0 before the first.
    pub seq: u64,
    /// Hash of that record.
    pub head: Hash,
    /// The last of its records that its own key has signed, and the signature (I3); none before the first.
    #[serde(with = "crate::bytes::optional")]
    pub signed: Option<(u64, [u8; 64])>,
    /// Dead letters that went because there were more than `dead-letters-max`, since the space was made.
    pub letters_dropped: u64,
    /// What is installed; none before the first install and after the last uninstall.
    pub installed: Option<InstallRow>,
    /// What the operator did to it or is told of it.
    pub notes: Notes,
    /// Its records that are there, in bytes.
    pub history_bytes: u64,
    /// Its records up to here have gone.
    pub floor: Point,
    /// What its last checkpoint stands for.
    pub checkpoint: Point,
    /// Receipts that its commits up to here settled have gone.
    pub receipts_floor: u64,
}

/// What is installed in a space, as far as it takes to tell whether another install says something new (U1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRow {
    /// SHA-256 of the component.
    pub component: Hash,
    /// SHA-256 of what it may do by this install, as the log has it; zeros for nothing.
    pub rights: Hash,
}

impl InstallRow {
    /// Returns that of an install.
    pub fn of(install: &Install) -> InstallRow {
        let rights = install.rights.as_ref().map(|rights| Sha256::digest(rights).into());
        InstallRow { component: install.component, rights: rights.unwrap_or_default() }
    }
}

/// What the operator did to a charm or is told of it. Stands beside the log: no law holds for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// It begins no turns.
    pub paused: bool,
    /// Length of a chain of events through it that was deep and fast at once (A6).
    pub chain: u64,
    /// Lines of its log that were dropped.
    pub dropped: u64,
}

impl SpaceRow {
    /// Returns a space before its first record.
    pub fn new(did: Did, name: String) -> SpaceRow {
        let (notes, head, floor, checkpoint) = Default::default();
        SpaceRow {
            did,
            name,
            seq: 0,
            head,
            signed: None,
            letters_dropped: 0,
            notes,
            installed: None,
            history_bytes: 0,
            floor,
            checkpoint,
            receipts_floor: 0,
        }
    }

    /// Name of the host's own space, whose key seals the log; no charm can have it.
    pub(crate) const HOST: &str = "@host";
    /// Name of the operator's space; no charm can have it.
    pub(crate) const OPERATOR: &str = "@operator";
}

/// What one durable batch changes. Rows are in commit order; a cell stands at most once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Batch {
    /// The last position given to an event; none leaves it as it is.
    pub position: Option<u64>,
    /// Spaces added.
    pub spaces: Vec<SpaceRow>,
    /// Notes replaced.
    pub notes: Vec<(Did, Notes)>,
    /// What the host keeps of the operator's decisions about a DID, replaced; none removes it. A later one counts.
    pub kept: Vec<(Did, Option<Vec<u8>>)>,
    /// Appended to the log; the host's seal stands on the last.
    pub log: Vec<LogEntry>,
    /// Hash of the log's last entry; none leaves it as it is.
    pub end: Option<Hash>,
    /// Spaces moved to a new head: number and hash of the last record.
    pub heads: Vec<(Did, u64, Hash)>,
    /// Heads that the spaces' own keys have signed: number of the record, and the signature.
    #[serde(with = "crate::bytes::listed")]
    pub signed: Vec<(Did, u64, [u8; 64])>,
    /// Cells written.
    pub cells: Vec<CellWrite>,
    /// Events added.
    pub queued: Vec<Queued>,
    /// Positions of events that no longer wait.
    pub taken: Vec<u64>,
    /// Turns under way, by the position of their events; none for one that has ended, whose recording goes. A later one counts.
    pub turns: Vec<(u64, Option<TurnRow>)>,
    /// What turns under way were told, added.
    pub recordings: Vec<RecordingRow>,
    /// Requests that must not be made twice and that the turns of events have asked for by short calls since their last commit, by
    /// the positions of the events; none for what is settled. A later one counts.
    pub asked: Vec<(u64, Vec<Hash>)>,
    /// Receipts added.
    pub receipts: Vec<ReceiptRow>,
    /// Dead letters added.
    pub dead: Vec<DeadLetter>,
    /// Positions of dead letters dropped.
    pub buried: Vec<u64>,
    /// How many more dead letters of a space went because there were too many.
    pub letters_dropped: Vec<(Did, u64)>,
    /// What is installed in a space now; none for nothing. A later one counts.
    pub installed: Vec<(Did, Option<InstallRow>)>,
    /// Bytes of components, by their SHA-256, that charms or turns under way need from now on; none for what nothing needs any
    /// more. A later one counts.
    #[serde(with = "crate::bytes::components")]
    pub components: Vec<(Hash, Option<Component>)>,
    /// Checkpoints of spaces: what the last one of each stands for.
    pub checkpoints: Vec<(Did, Point)>,
    /// Pasts that go, after all else in the batch.
    pub cuts: Vec<CutRow>,
    /// The last commit that says what has gone, in the order of the host; none leaves it as it is.
    pub pruned: Option<u64>,
}

impl Batch {
    /// Changes the rows of spaces that are there; `change` finds each.
    pub(crate) fn change_spaces(&self, mut change: impl FnMut(&Did, &dyn Fn(&mut SpaceRow))) {
        for (did, seq, head) in &self.heads {
            change(did, &|row| (row.seq, row.head) = (*seq, *head));
        }
        for (did, seq, signature) in &self.signed {
            change(did, &|row| row.signed = Some((*seq, *signature)));
        }
        for (did, notes) in &self.notes {
            change(did, &|row| row.notes = *notes);
        }
        for (did, more) in &self.letters_dropped {
            change(did, &|row| row.letters_dropped += more);
        }
        for (did, installed) in &self.installed {
            change(did, &|row| row.installed = *installed);
        }
        for (did, point) in &self.checkpoints {
            change(did, &|row| row.checkpoint = *point);
        }
        for entry in &self.log {
            change(&entry.space, &|row| row.history_bytes += entry.record.len() as u64);
        }
    }

    /// Changes what is kept of the operator's decisions.
    pub(crate) fn change_kept(&self, kept: &mut BTreeMap<Did, Vec<u8>>) {
        for (did, bytes) in &self.kept {
            match bytes {
                Some(bytes) => drop(kept.insert(*did, bytes.clone())),
                None => drop(kept.remove(did)),
            }
        }
    }
}

/// What a host needs to start.
#[derive(Clone, Default)]
pub struct Image {
    /// Keys event ids (see `EventId`); kept when a host first opened the store, zeros before.
    pub secret: [u8; 32],
    /// The last commit.
    pub order: u64,
    /// Hash of the log's last entry; zeros for none.
    pub end: Hash,
    /// The last position given.
    pub position: u64,
    /// Every space.
    pub spaces: Vec<SpaceRow>,
    /// Every cell.
    pub cells: Vec<CellRow>,
    /// Every waiting event, in order.
    pub queued: Vec<Queued>,
    /// Every turn under way, by position.
    pub turns: Vec<TurnRow>,
    /// Requests that turns have asked for, by position: see `Batch::asked`.
    pub asked: Vec<(u64, Vec<Hash>)>,
    /// Every dead letter, in order: whose, its position, its event.
    pub dead: Vec<(Did, u64, EventId)>,
    /// What the host keeps of the operator's decisions, by DID.
    pub kept: Vec<(Did, Vec<u8>)>,
    /// SHA-256 of the components whose bytes are there, in order: see `Store::component`.
    pub components: Vec<Hash>,
    /// The last commit that says what has gone, 0 for none.
    pub pruned: u64,
    /// Pasts that the log has let go and that are still there where they are looked up, for a moment: the floors of their
    /// spaces above are those before.
    pub cuts: Vec<CutRow>,
}

impl Image {
    /// Returns the row of a space.
    pub(crate) fn space(&self, did: &Did) -> Option<&SpaceRow> {
        self.spaces.iter().find(|row| row.did == *did)
    }
}

/// Debug output is without the secret.
impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Image { order, spaces, cells, queued, dead, .. } = self;
        let (spaces, cells, queued, dead) = (spaces.len(), cells.len(), queued.len(), dead.len());
        write!(f, "commit {order}: {spaces} spaces, {cells} cells, {queued} queued, {dead} dead letters")
    }
}
