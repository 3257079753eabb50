//! What one group of the journal says, and how it stands there. This file alone knows the bytes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    did::Did,
    rows::{Batch, CellWrite},
};

/// The first byte of every group.
const VERSION: u8 = 5;

/// What one sync made durable.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// What keys event ids, in the group of the store's first host.
    pub secret: Option<[u8; 32]>,
    /// What changed.
    pub batch: Batch,
}

/// Where a group stands in the journal, and which one it is: a journal has one such digest at each number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Its number; 0 before the first.
    pub number: u64,
    /// Of its bytes.
    pub digest: [u8; 16],
}

impl Mark {
    /// Returns the mark of the group with these bytes.
    pub fn of(number: u64, bytes: &[u8]) -> Mark {
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(bytes)[..16]);
        Mark { number, digest }
    }

    /// Returns how it stands in the index.
    pub fn to_bytes(self) -> Vec<u8> {
        [&self.number.to_be_bytes()[..], &self.digest].concat()
    }

    /// Reads what stands in the index.
    pub fn from_bytes(bytes: &[u8]) -> Option<Mark> {
        let (number, digest) = bytes.split_at_checked(8)?;
        Some(Mark { number: u64::from_be_bytes(number.try_into().ok()?), digest: digest.try_into().ok()? })
    }
}

/// Returns the bytes of a group.
pub fn encode(secret: Option<&[u8; 32]>, batch: &Batch) -> Vec<u8> {
    #[derive(Serialize)]
    struct Written<'a>(u8, Option<&'a [u8; 32]>, &'a Batch);
    postcard::to_stdvec(&Written(VERSION, secret, batch)).expect("a group holds nothing that postcard refuses")
}

/// Reads a group.
///
/// # Errors
/// What is wrong with it, when the bytes are not exactly one of this version.
pub fn decode(bytes: &[u8]) -> Result<Group, String> {
    #[derive(Deserialize)]
    struct Read(Option<[u8; 32]>, Batch);
    match postcard::take_from_bytes(check_version(bytes)?) {
        Ok((Read(secret, batch), [])) => Ok(Group { secret, batch }),
        _ => Err("is malformed: restore the store from a backup".to_owned()),
    }
}

/// Returns what follows the version of a group that this host reads.
///
/// # Errors
/// What is wrong with it, when it is of another version.
pub fn check_version(bytes: &[u8]) -> Result<&[u8], String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => Ok(rest),
        version => Err(format!(
            "is of version {}, and this host reads version {VERSION}: use the host that wrote it, or a later one",
            version.map_or(0, |(version, _)| *version)
        )),
    }
}

/// Returns what several groups make, in their order: what a later one makes void is not there.
pub fn merge<'a>(groups: impl Iterator<Item = &'a Group>) -> Group {
    let mut all = Group::default();
    for Group { secret, batch } in groups {
        all.secret = all.secret.or(*secret);
        let Batch { position, spaces, notes, kept, log, end, heads, signed, cells, queued, taken, .. } = batch;
        all.batch.position = position.or(all.batch.position);
        all.batch.end = end.or(all.batch.end);
        all.batch.spaces.extend_from_slice(spaces);
        all.batch.notes.extend_from_slice(notes);
        all.batch.kept.extend_from_slice(kept);
        all.batch.log.extend_from_slice(log);
        all.batch.heads.extend_from_slice(heads);
        all.batch.signed.extend_from_slice(signed);
        all.batch.cells.extend_from_slice(cells);
        all.batch.queued.extend_from_slice(queued);
        all.batch.taken.extend_from_slice(taken);
        all.batch.turns.extend_from_slice(&batch.turns);
        all.batch.recordings.extend_from_slice(&batch.recordings);
        all.batch.asked.extend_from_slice(&batch.asked);
        all.batch.receipts.extend_from_slice(&batch.receipts);
        all.batch.dead.extend_from_slice(&batch.dead);
        all.batch.buried.extend_from_slice(&batch.buried);
        all.batch.letters_dropped.extend_from_slice(&batch.letters_dropped);
        all.batch.installed.extend_from_slice(&batch.installed);
        all.batch.components.extend_from_slice(&batch.components);
        all.batch.checkpoints.extend_from_slice(&batch.checkpoints);
        all.batch.cuts.extend_from_slice(&batch.cuts);
        all.batch.pruned = batch.pruned.or(all.batch.pruned);
    }
    last_of_each(&mut all.batch.signed, |(did, ..)| *did);
    last_of_each(&mut all.batch.notes, |(did, _)| *did);
    coalesce(&mut all.batch);
    all
}

/// Drops what a batch itself makes void: older whole values of a cell, heads of a space, events queued and taken, what turns were
/// told that have ended, letters that came and went.
pub fn coalesce(batch: &mut Batch) {
    one_of_each(&mut batch.cells);
    last_of_each(&mut batch.heads, |(space, ..)| *space);
    last_of_each(&mut batch.installed, |(space, _)| *space);
    last_of_each(&mut batch.components, |(hash, _)| *hash);
    let queued: HashSet<u64> = batch.queued.iter().map(|queued| queued.position).collect();
    let taken: HashSet<u64> = batch.taken.iter().copied().filter(|taken| queued.contains(taken)).collect();
    batch.queued.retain(|queued| !taken.contains(&queued.position));
    batch.taken.retain(|position| !taken.contains(position));
    last_of_each(&mut batch.turns, |(position, _)| *position);
    last_of_each(&mut batch.asked, |(position, _)| *position);
    // That it has ended stays: what it was told before may be in the index.
    let ended: HashSet<u64> = batch.turns.iter().filter(|(_, turn)| turn.is_none()).map(|(at, _)| *at).collect();
    batch.recordings.retain(|row| !ended.contains(&row.position));
    let dead: HashSet<u64> = batch.dead.iter().map(|letter| letter.position).collect();
    let buried: HashSet<u64> = batch.buried.iter().copied().filter(|buried| dead.contains(buried)).collect();
    batch.dead.retain(|letter| !buried.contains(&letter.position));
    batch.buried.retain(|position| !buried.contains(position));
}

/// Puts the edits of each cell together, where the last of them stood.
fn one_of_each(cells: &mut Vec<CellWrite>) {
    let mut last: HashMap<(Did, Arc<str>), usize> = HashMap::new();
    let mut kept: Vec<Option<CellWrite>> = Vec::with_capacity(cells.len());
    for mut write in cells.drain(..) {
        if let Some(earlier) = last.insert((write.space, write.name.clone()), kept.len())
            && let Some(earlier) = kept[earlier].take()
            && !write.is_whole()
        {
            let later = std::mem::replace(&mut write.edits, earlier.edits);
            write.edits.extend(later);
        }
        kept.push(Some(write));
    }
    cells.extend(kept.into_iter().flatten());
}

/// Keeps the last row of each key, in order.
fn last_of_each<T, K: std::hash::Hash + Eq>(rows: &mut Vec<T>, key: impl Fn(&T) -> K) {
    let mut seen = HashSet::new();
    rows.reverse();
    rows.retain(|row| seen.insert(key(row)));
    rows.reverse();
}

#[cfg(test)]
mod tests;
