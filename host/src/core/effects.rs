//! What follows from a commit, as data: rows for the store, receipts to settle, charms to wake.

use std::sync::Arc;

use super::Commit;
use crate::{
    component::Component,
    did::Did,
    entry::LogEntry,
    event::{Event, digest},
    receipt::{self, Receipt},
    record::{Body, Hash, Record},
    rows::{
        Batch, CellWrite, CutRow, DeadLetter, InstallRow, Notes, Point, Queued, ReceiptRow, RecordingRow, SpaceRow,
        TurnRow,
    },
};

/// What one commit brings about.
#[derive(Debug, Default)]
pub struct Effects {
    /// Events that wait from now on.
    pub queued: Vec<Arc<Queued>>,
    /// The event that it answers: it waits no more.
    pub taken: Option<Arc<Queued>>,
    /// It becomes a dead letter.
    pub is_letter: bool,
    /// Positions of dead letters that go.
    pub buried: Vec<u64>,
    /// What the operator did to the charm, or is told of it, as it is now; none when that stays.
    pub notes: Option<Notes>,
    /// Components whose bytes are needed from now on, and those, without bytes, that nothing needs any more.
    pub components: Vec<(Hash, Option<Component>)>,
    /// A chain of events that is deep and fast at once, to be named: how deep it is (A6).
    pub deep: Option<u64>,
    /// Pasts that go.
    pub cuts: Vec<CutRow>,
    /// How many dead letters of the charm went because there were too many, when that is to be told.
    pub letters_gone: Option<u64>,
    /// A turn under way, by the position of its event: how far it has come, or none when it has ended.
    pub turn: Option<(u64, Option<TurnRow>)>,
    /// What it was told in this segment, or the answer that it waited for.
    pub recording: Option<RecordingRow>,
    /// What the turn of the event at a position has asked for outside, when that is behind it.
    pub asked: Option<u64>,
    /// Charms whose turns go on.
    pub resumes: Vec<Did>,
}

impl Effects {
    /// Returns the charms that have something to do.
    pub fn wakes(&self) -> impl Iterator<Item = Did> {
        self.queued.iter().map(|queued| queued.event.to).chain(self.resumes.iter().copied())
    }

    /// Returns the receipts that it settles, in order.
    pub fn receipts(&self, commit: &Commit) -> Vec<ReceiptRow> {
        let Record { space, seq, time_ms, .. } = commit.record;
        let row = |receipt, event: &Event, digest| {
            let Event { sender, to, .. } = *event;
            ReceiptRow { receipt, sender, to, digest, space, seq, time_ms }
        };
        let refused = commit.record.sends().filter_map(|(event, refused)| {
            let receipt = receipt::refused(event, refused?);
            Some(row(receipt, event, None))
        });
        let own = self.taken.iter().zip(commit.record.turn()).map(|(queued, turn)| {
            let event = &queued.event;
            let digest = event.supplied.then(|| digest(event));
            row(turn.receipt.clone(), event, digest)
        });
        refused.chain(own).collect()
    }

    /// Adds to a batch every row that the commit changes; `head` is the hash of its record. Returns the receipts that it settles,
    /// and who sent the events.
    pub fn rows(&self, commit: &Commit, entry: LogEntry, head: Hash, batch: &mut Batch) -> Vec<(Did, Receipt)> {
        let (record, order) = (&commit.record, commit.order);
        let (space, seq) = (record.space, record.seq);
        batch.position = Some(commit.position);
        batch.log.push(entry);
        match &record.body {
            Body::Registered { name } => batch.spaces.push(SpaceRow::new(space, name.clone())),
            Body::Installed(install) => batch.installed.push((space, Some(InstallRow::of(install)))),
            Body::Uninstalled => batch.installed.push((space, None)),
            Body::Rights { holder, kept } => batch.kept.push((*holder, kept.clone())),
            Body::Checkpoint(checkpoint) => batch.checkpoints.push((space, Point::of(checkpoint, seq))),
            Body::Pruned(_) => {
                batch.cuts.extend(&self.cuts);
                batch.pruned = Some(order);
            }
            _ => {}
        }
        batch.components.extend_from_slice(&self.components);
        batch.heads.push((space, seq, head));
        batch.notes.extend(self.notes.map(|notes| (space, notes)));
        for write in record.writes() {
            let (name, edits) = (write.name.clone(), write.edits.clone());
            batch.cells.push(CellWrite { space, name, order, seq, edits });
        }
        batch.queued.extend(self.queued.iter().map(|queued| Queued::clone(queued)));
        if let (Some(queued), Some(turn)) = (&self.taken, record.turn()) {
            batch.taken.push(queued.position);
            if self.is_letter {
                let (event, receipt) = (queued.event.clone(), turn.receipt.clone());
                batch.dead.push(DeadLetter { position: queued.position, time_ms: record.time_ms, event, receipt });
            }
            if turn.dropped.is_some() {
                batch.letters_dropped.push((space, 1));
            }
        }
        batch.buried.extend(&self.buried);
        batch.turns.extend(self.turn.clone());
        batch.recordings.extend(self.recording.clone());
        batch.asked.extend(self.asked.map(|position| (position, Vec::new())));
        let receipts = self.receipts(commit);
        let settled = receipts.iter().map(|row| (row.sender, row.receipt.clone())).collect();
        batch.receipts.extend(receipts);
        settled
    }
}
