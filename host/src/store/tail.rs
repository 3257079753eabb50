//! The groups that are durable in the journal and not yet in the index. Every look-up asks here first.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{StoreError, group::Group};
use crate::{
    component::Component,
    did::Did,
    entry::LogEntry,
    event::EventId,
    record::Hash,
    rows::{CellRow, CellWrite, DeadLetter, Image, Queued, ReceiptRow, RecordingRow},
};

/// A group of the tail.
#[derive(Clone)]
pub struct Numbered {
    /// Its number in the journal.
    pub number: u64,
    /// What it takes there.
    pub bytes: usize,
    /// The last commit in it, or before it.
    pub order: u64,
    /// What it says.
    pub group: Arc<Group>,
}

/// The rows of those groups, by what they are looked up by.
#[derive(Default)]
pub struct Tail {
    groups: VecDeque<Numbered>,
    bytes: usize,
    /// Where a receipt stands: number of the group, place in its batch.
    receipts: HashMap<EventId, (u64, usize)>,
    /// Where the entries of a space stand: their numbers in the host.
    orders: HashMap<(Did, u64), u64>,
    /// Dead letters that came, and the positions of those that went, with the number of the group that says so.
    letters: BTreeMap<u64, (u64, Option<DeadLetter>)>,
    /// Components that came, and those that went as none, with the number of the group that says so.
    components: HashMap<Hash, (u64, Option<Component>)>,
    /// What turns under way were told, by position, each piece with the number of its group.
    recordings: HashMap<u64, Vec<(u64, RecordingRow)>>,
    /// Turns that have ended, by position, with the number of the group that says so.
    ended: HashMap<u64, u64>,
    /// Positions of the letters that came.
    letter_ids: HashMap<EventId, u64>,
}

impl Tail {
    /// Adds the group that comes next.
    pub fn push(&mut self, numbered: Numbered) {
        let Numbered { number, bytes, group, .. } = &numbered;
        let batch = &group.batch;
        self.bytes += bytes;
        self.receipts.extend(batch.receipts.iter().enumerate().map(|(place, row)| (row.receipt.id, (*number, place))));
        self.orders.extend(batch.log.iter().map(|entry| ((entry.space, entry.seq), entry.order)));
        for letter in &batch.dead {
            self.letters.insert(letter.position, (*number, Some(letter.clone())));
            self.letter_ids.insert(letter.event.id, letter.position);
        }
        for position in &batch.buried {
            if let Some((_, Some(letter))) = self.letters.insert(*position, (*number, None)) {
                self.letter_ids.remove(&letter.event.id);
            }
        }
        let components = batch.components.iter();
        self.components.extend(components.map(|(hash, component)| (*hash, (*number, component.clone()))));
        for row in &batch.recordings {
            self.recordings.entry(row.position).or_default().push((*number, row.clone()));
        }
        for (position, _) in batch.turns.iter().filter(|(_, turn)| turn.is_none()) {
            self.recordings.remove(position);
            self.ended.insert(*position, *number);
        }
        self.groups.push_back(numbered);
    }

    /// Drops the groups up to number `mark`, which are in the index; returns them, to be given back outside a lock.
    pub fn drop_upto(&mut self, mark: u64) -> Vec<Numbered> {
        let mut dropped = Vec::new();
        while self.groups.front().is_some_and(|first| first.number <= mark)
            && let Some(first) = self.groups.pop_front()
        {
            let (number, bytes, batch) = (first.number, first.bytes, &first.group.batch);
            self.bytes -= bytes;
            for row in &batch.receipts {
                if self.receipts.get(&row.receipt.id).is_some_and(|(of, _)| *of == number) {
                    self.receipts.remove(&row.receipt.id);
                }
            }
            for entry in &batch.log {
                self.orders.remove(&(entry.space, entry.seq));
            }
            for (hash, _) in &batch.components {
                if self.components.get(hash).is_some_and(|(of, _)| *of == number) {
                    self.components.remove(hash);
                }
            }
            for row in &batch.recordings {
                if let Some(pieces) = self.recordings.get_mut(&row.position) {
                    pieces.retain(|(of, _)| *of != number);
                    if pieces.is_empty() {
                        self.recordings.remove(&row.position);
                    }
                }
            }
            for (position, _) in &batch.turns {
                if self.ended.get(position) == Some(&number) {
                    self.ended.remove(position);
                }
            }
            let positions = batch.dead.iter().map(|letter| letter.position).chain(batch.buried.iter().copied());
            for position in positions {
                let Some((of, _)) = self.letters.get(&position) else { continue };
                if *of == number
                    && let Some((_, Some(letter))) = self.letters.remove(&position)
                {
                    self.letter_ids.remove(&letter.event.id);
                }
            }
            dropped.push(first);
        }
        dropped
    }

    /// Returns what it takes in the journal, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many groups it holds.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Returns its first groups, as many as take no more than `bytes_max`, and at least one.
    pub fn first(&self, bytes_max: usize) -> Vec<Numbered> {
        let mut bytes = 0;
        let fit = self.groups.iter().take_while(|numbered| {
            let is_first = bytes == 0;
            bytes += numbered.bytes;
            is_first || bytes <= bytes_max
        });
        fit.cloned().collect()
    }

    /// Returns all its groups.
    pub fn groups(&self) -> Vec<Numbered> {
        self.groups.iter().cloned().collect()
    }

    /// Returns a component, or none inside when it is gone; none when the tail knows nothing of it.
    pub fn component(&self, hash: &Hash) -> Option<Option<Component>> {
        self.components.get(hash).map(|(_, component)| component.clone())
    }

    /// Returns the pieces that it has of what the turn at a position was told; none when it knows that the turn has ended: a
    /// position is given once.
    pub fn recording(&self, position: u64) -> Option<Vec<RecordingRow>> {
        if self.ended.contains_key(&position) {
            return None;
        }
        let pieces = self.recordings.get(&position).into_iter().flatten();
        Some(pieces.map(|(_, row)| row.clone()).collect())
    }

    /// Returns the event that came at a position.
    pub fn queued(&self, position: u64) -> Option<Queued> {
        self.groups.iter().rev().find_map(|numbered| {
            let queued = &numbered.group.batch.queued;
            Some(queued[queued.binary_search_by_key(&position, |queued| queued.position).ok()?].clone())
        })
    }

    /// Returns the receipt of an event.
    pub fn receipt(&self, id: &EventId) -> Option<ReceiptRow> {
        let (number, place) = self.receipts.get(id)?;
        self.group(*number)?.batch.receipts.get(*place).cloned()
    }

    /// Returns up to `max` receipts with ids after `after`, in the order of their ids.
    pub fn receipts(&self, after: Option<&EventId>, max: usize) -> Vec<ReceiptRow> {
        let mut ids: Vec<EventId> =
            self.receipts.keys().copied().filter(|id| after.is_none_or(|after| id > after)).collect();
        if ids.len() > max {
            ids.select_nth_unstable(max);
            ids.truncate(max);
        }
        ids.sort_unstable();
        ids.iter().filter_map(|id| self.receipt(id)).collect()
    }

    fn group(&self, number: u64) -> Option<&Group> {
        let first = self.groups.front()?.number;
        let place = usize::try_from(number.checked_sub(first)?).ok()?;
        self.groups.get(place).map(|numbered| &*numbered.group)
    }

    /// Returns the log entries after `order`, in order.
    fn entries(&self, after: u64) -> impl Iterator<Item = &LogEntry> {
        let start = self.groups.partition_point(|numbered| numbered.order <= after);
        let entries = self.groups.range(start..).flat_map(|numbered| &numbered.group.batch.log);
        entries.skip_while(move |entry| entry.order <= after)
    }

    /// Returns the log entry of a space with number `seq` there.
    pub fn entry(&self, space: &Did, seq: u64) -> Option<LogEntry> {
        let order = *self.orders.get(&(*space, seq))?;
        self.entries(order.checked_sub(1)?).next().cloned()
    }

    /// Returns up to `max` log entries after `order`, in order; of one space or of all.
    pub fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Vec<LogEntry> {
        let of = self.entries(after).filter(|entry| space.is_none_or(|space| *space == entry.space));
        of.take(max).cloned().collect()
    }

    /// Returns up to `max` log entries after `after` that handle the event at a position, in order.
    pub fn handled(&self, position: u64, after: u64, max: usize) -> Vec<LogEntry> {
        let of = self.entries(after).filter(|entry| entry.handles(position));
        of.take(max).cloned().collect()
    }

    /// Returns the names of the cells of a space that it writes, or that name if it does.
    pub fn written(&self, space: &Did, name: Option<&str>) -> HashSet<Arc<str>> {
        let writes = self.groups.iter().flat_map(|numbered| &numbered.group.batch.cells);
        let of = writes.filter(|write| write.space == *space && name.is_none_or(|name| *write.name == *name));
        of.map(|write| write.name.clone()).collect()
    }

    /// Returns up to `max` receipts that commits of a space settled after its commit `after`, in that order.
    pub fn settled(&self, space: &Did, after: u64, max: usize) -> Vec<ReceiptRow> {
        let rows = self.groups.iter().flat_map(|numbered| &numbered.group.batch.receipts);
        let mut rows: Vec<_> = rows.filter(|row| row.space == *space && row.seq > after).cloned().collect();
        rows.sort_by_key(|row| (row.seq, row.receipt.id));
        rows.truncate(max);
        rows
    }

    /// Returns the dead letter at a position, or none inside when it is gone; none when the tail knows nothing of it.
    pub fn letter(&self, position: u64) -> Option<Option<DeadLetter>> {
        self.letters.get(&position).map(|(_, letter)| letter.clone())
    }

    /// Returns the dead letter of an event.
    pub fn letter_of(&self, event: &EventId) -> Option<DeadLetter> {
        self.letter(*self.letter_ids.get(event)?).flatten()
    }

    /// Returns the dead letters at positions after `after` that it knows of, those that are gone as none.
    pub fn letters(&self, after: u64) -> BTreeMap<u64, Option<DeadLetter>> {
        let letters = self.letters.range(after.saturating_add(1)..);
        letters.map(|(position, (_, letter))| (*position, letter.clone())).collect()
    }
}

/// Lays groups over cells of a space that the index holds, those with names that are `inside`.
///
/// # Errors
/// As `overlay`.
pub fn overlay_cells<'a>(
    rows: Vec<CellRow>,
    space: &Did,
    inside: impl Fn(&str) -> bool,
    groups: impl Iterator<Item = &'a Group>,
) -> Result<Vec<CellRow>, StoreError> {
    let mut cells: BTreeMap<Arc<str>, Vec<&CellWrite>> = BTreeMap::new();
    for write in
        groups.flat_map(|group| &group.batch.cells).filter(|write| write.space == *space && inside(&write.name))
    {
        cells.entry(write.name.clone()).or_default().push(write);
    }
    let mut rows: BTreeMap<Arc<str>, CellRow> = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
    for (name, writes) in cells {
        let fresh = CellRow { space: *space, name: name.clone(), order: 0, seq: 0, value: None };
        rows.entry(name).or_insert(fresh).write(&writes)?;
    }
    Ok(rows.into_values().filter(|row| row.value.is_some()).collect())
}

/// Lays groups over what the index holds, in their order; over its cells where the image has them.
///
/// # Errors
/// `Failed` for a write of another value than the index has.
pub fn overlay<'a>(
    image: &mut Image,
    groups: impl Iterator<Item = &'a Group>,
    with_cells: bool,
) -> Result<(), StoreError> {
    let groups: Vec<&Group> = groups.collect();
    if groups.is_empty() {
        return Ok(());
    }
    let mut spaces: HashMap<Did, usize> =
        image.spaces.iter().enumerate().map(|(place, row)| (row.did, place)).collect();
    let mut cells: HashMap<Did, HashMap<Arc<str>, Vec<&CellWrite>>> = HashMap::new();
    let mut queued = BTreeMap::new();
    let mut taken = HashSet::new();
    let mut turns = BTreeMap::new();
    let mut asked: BTreeMap<u64, Vec<Hash>> = std::mem::take(&mut image.asked).into_iter().collect();
    let mut dead = BTreeMap::new();
    let mut buried = HashSet::new();
    let mut kept: BTreeMap<Did, Vec<u8>> = std::mem::take(&mut image.kept).into_iter().collect();
    let mut components: BTreeSet<Hash> = std::mem::take(&mut image.components).into_iter().collect();
    for Group { secret, batch } in groups {
        if image.secret == [0; 32] {
            image.secret = secret.unwrap_or_default();
        }
        image.order = batch.log.last().map_or(image.order, |entry| entry.order);
        image.position = batch.position.unwrap_or(image.position);
        image.end = batch.end.unwrap_or(image.end);
        image.pruned = batch.pruned.unwrap_or(image.pruned);
        image.cuts.extend(&batch.cuts);
        for row in &batch.spaces {
            spaces.entry(row.did).or_insert_with(|| {
                image.spaces.push(row.clone());
                image.spaces.len() - 1
            });
        }
        batch.change_spaces(|did, change| {
            if let Some(row) = spaces.get(did).and_then(|place| image.spaces.get_mut(*place)) {
                change(row);
            }
        });
        for write in batch.cells.iter().filter(|_| with_cells) {
            cells.entry(write.space).or_default().entry(write.name.clone()).or_default().push(write);
        }
        queued.extend(batch.queued.iter().map(|queued| (queued.position, queued)));
        for position in &batch.taken {
            queued.remove(position);
            taken.insert(*position);
        }
        turns.extend(batch.turns.iter().map(|(position, turn)| (*position, turn)));
        asked.extend(batch.asked.iter().cloned());
        dead.extend(batch.dead.iter().map(|letter| (letter.position, (letter.event.to, letter.event.id))));
        for position in &batch.buried {
            dead.remove(position);
            buried.insert(*position);
        }
        batch.change_kept(&mut kept);
        for (hash, component) in &batch.components {
            if component.is_some() {
                components.insert(*hash)
            } else {
                components.remove(hash)
            };
        }
    }
    image.kept = kept.into_iter().collect();
    image.asked = asked.into_iter().filter(|(_, requests)| !requests.is_empty()).collect();
    image.components = components.into_iter().collect();
    for row in &mut image.cells {
        if let Some(writes) = cells.get_mut(&row.space).and_then(|cells| cells.remove(&row.name)) {
            row.write(&writes)?;
        }
    }
    for (name, writes) in cells.into_values().flatten() {
        let Some(space) = writes.first().map(|write| write.space) else { continue };
        let mut row = CellRow { space, name, order: 0, seq: 0, value: None };
        row.write(&writes)?;
        image.cells.push(row);
    }
    image.cells.retain(|row| row.value.is_some());
    image.queued.retain(|queued| !taken.contains(&queued.position));
    image.queued.extend(queued.into_values().cloned());
    image.queued.sort_by_key(|queued| queued.position);
    image.turns.retain(|turn| !turns.contains_key(&turn.position));
    image.turns.extend(turns.into_values().flatten().cloned());
    image.turns.sort_by_key(|turn| turn.position);
    image.dead.retain(|(_, position, _)| !buried.contains(position));
    image.dead.extend(dead.into_iter().map(|(position, (did, id))| (did, position, id)));
    image.dead.sort_by_key(|(_, position, _)| *position);
    Ok(())
}

#[cfg(test)]
mod tests;
