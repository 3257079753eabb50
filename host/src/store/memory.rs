//! A store in memory: the contract without a disk, for tests, benches and throw-away hosts.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    CellRows, Store, StoreError, page_of,
    past::{Held, Past},
};
use crate::{
    component::Component,
    did::Did,
    entry::LogEntry,
    event::EventId,
    record::{Hash, Record},
    rows::{Batch, CellRow, CutRow, DeadLetter, Image, Queued, ReceiptRow, SpaceRow, TurnRow},
    value::Tree,
};

/// Keeps everything until it is dropped. Clones share the data, so a host can be "restarted" on it.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    secret: Option<[u8; 32]>,
    position: u64,
    end: Hash,
    log: BTreeMap<u64, LogEntry>,
    /// Entries of each space by their number there.
    orders: BTreeMap<(Did, u64), u64>,
    spaces: BTreeMap<Did, SpaceRow>,
    cells: BTreeMap<(Did, Arc<str>), Held>,
    queued: BTreeMap<u64, Queued>,
    turns: BTreeMap<u64, TurnRow>,
    /// What turns have asked for, by position.
    asked: BTreeMap<u64, Vec<Hash>>,
    /// What turns under way were told: position and number of the piece.
    recordings: BTreeMap<(u64, u32), Arc<[u8]>>,
    receipts: BTreeMap<EventId, ReceiptRow>,
    dead: BTreeMap<u64, DeadLetter>,
    kept: BTreeMap<Did, Vec<u8>>,
    components: BTreeMap<Hash, Component>,
    /// What cells held at the floors of their spaces, if they were written since.
    past: BTreeMap<(Did, Arc<str>), Held>,
    pruned: u64,
}

impl MemoryStore {
    /// Returns an empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Writes a cell; what it held at its space's floor stays.
    fn write(&mut self, key: (Did, Arc<str>), cell: Held) {
        let floor = self.spaces.get(&key.0).map_or(0, |row| row.floor.seq);
        let before = match cell.value {
            Some(_) => self.cells.insert(key.clone(), cell),
            None => self.cells.remove(&key),
        };
        if let Some(before) = before.filter(|before| before.seq <= floor) {
            self.past.entry(key).or_insert(before);
        }
    }

    /// Lets the past of a space go.
    fn cut(&mut self, cut: &CutRow) -> Result<(), StoreError> {
        let CutRow { space, floor, receipts, messages } = cut;
        // One whose event is a dead letter stays as long as that: its id is known. So does one whose event a turn under way
        // has sent, which is told of it after the next start too.
        let letters: BTreeSet<EventId> = self.dead.values().map(|letter| letter.event.id).collect();
        let turns = &self.turns;
        let is_told = |id: &EventId| letters.contains(id) || turns.contains_key(&id.sent_by().0);
        let is_kept = |id: &EventId, row: &ReceiptRow| row.seq > *receipts || is_told(id);
        self.receipts.retain(|id, row| row.space != *space || is_kept(id, row));
        let told = self.receipts.values_mut().filter(|row| row.space == *space && row.seq <= *messages);
        told.for_each(|row| row.receipt.message = None);
        let Some(row) = self.spaces.get_mut(space) else { return Ok(()) };
        row.receipts_floor = row.receipts_floor.max(*receipts);
        if floor.seq == 0 {
            return Ok(());
        }
        row.floor = *floor;
        let cells = &self.cells;
        let is_present = |name: &str| cells.get(&(*space, name.into())).is_some_and(|cell| cell.seq <= floor.seq);
        let (mut past, mut gone) = (Past::default(), 0);
        let before: Vec<_> = self.past.keys().filter(|(did, _)| did == space).cloned().collect();
        for key in before {
            let held = self.past.remove(&key);
            held.into_iter().for_each(|held| past.begin(key.1.clone(), held, is_present(&key.1)));
        }
        let orders: Vec<_> =
            self.orders.range((*space, 0)..=(*space, floor.seq)).map(|(key, order)| (*key, *order)).collect();
        for (key, order) in orders {
            self.orders.remove(&key);
            let Some(entry) = self.log.remove(&order) else { continue };
            gone += entry.record.len() as u64;
            let record = Record::from_bytes(&entry.record).map_err(|error| StoreError::unread(order, error))?;
            past.next::<StoreError>(order, record, |name| Ok(is_present(name)))?;
        }
        row.history_bytes = row.history_bytes.saturating_sub(gone);
        self.past.extend(past.end().map(|(name, held)| ((*space, name), held)));
        Ok(())
    }
}

fn row(((space, name), cell): (&(Did, Arc<str>), &Held)) -> CellRow {
    let Held { order, seq, value } = cell;
    CellRow { space: *space, name: name.clone(), order: *order, seq: *seq, value: value.as_ref().map(Tree::to_value) }
}

impl Store for MemoryStore {
    fn load(&self, fresh_secret: Option<[u8; 32]>) -> Result<Image, StoreError> {
        let mut tables = self.tables();
        tables.secret = tables.secret.or(fresh_secret);
        Ok(Image {
            secret: tables.secret.unwrap_or_default(),
            order: tables.log.keys().next_back().copied().unwrap_or(0),
            position: tables.position,
            end: tables.end,
            spaces: tables.spaces.values().cloned().collect(),
            cells: tables.cells.iter().map(row).collect(),
            queued: tables.queued.values().cloned().collect(),
            turns: tables.turns.values().cloned().collect(),
            asked: tables.asked.iter().map(|(position, requests)| (*position, requests.clone())).collect(),
            dead: tables.dead.values().map(|dead| (dead.event.to, dead.position, dead.event.id)).collect(),
            components: tables.components.keys().copied().collect(),
            kept: tables.kept.iter().map(|(did, kept)| (*did, kept.clone())).collect(),
            pruned: tables.pruned,
            cuts: Vec::new(),
        })
    }

    fn cells(&self, space: &Did, start: &str, end: Option<&str>, max: usize) -> Result<CellRows, StoreError> {
        let tables = self.tables();
        let cells = tables.cells.range((*space, Arc::from(start))..);
        let inside = |((did, name), _): &(&(Did, Arc<str>), _)| did == space && end.is_none_or(|end| **name < *end);
        // One more says whether there is more.
        let rows = cells.take_while(inside).take(max.saturating_add(1)).map(row).collect();
        Ok(page_of(rows, max))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let mut cells = Vec::with_capacity(batch.cells.len());
        for write in &batch.cells {
            let key = (write.space, write.name.clone());
            let before = tables.cells.get(&key).and_then(|cell| cell.value.clone());
            let value = write.apply(before)?;
            cells.push((key, Held { order: write.order, seq: write.seq, value }));
        }
        tables.orders.extend(batch.log.iter().map(|entry| ((entry.space, entry.seq), entry.order)));
        tables.log.extend(batch.log.iter().map(|entry| (entry.order, entry.clone())));
        tables.spaces.extend(batch.spaces.iter().map(|row| (row.did, row.clone())));
        batch.change_spaces(|did, change| {
            if let Some(row) = tables.spaces.get_mut(did) {
                change(row);
            }
        });
        batch.change_kept(&mut tables.kept);
        for (hash, component) in &batch.components {
            match component {
                Some(component) => drop(tables.components.insert(*hash, component.clone())),
                None => drop(tables.components.remove(hash)),
            }
        }
        cells.into_iter().for_each(|(key, cell)| tables.write(key, cell));
        tables.position = batch.position.unwrap_or(tables.position);
        tables.end = batch.end.unwrap_or(tables.end);
        tables.queued.extend(batch.queued.iter().map(|queued| (queued.position, queued.clone())));
        for position in &batch.taken {
            tables.queued.remove(position);
        }
        tables.asked.extend(batch.asked.iter().cloned());
        tables.asked.retain(|_, requests| !requests.is_empty());
        let recordings = batch.recordings.iter().map(|row| ((row.position, row.number), row.bytes.clone()));
        tables.recordings.extend(recordings);
        for (position, turn) in &batch.turns {
            match turn {
                Some(turn) => drop(tables.turns.insert(*position, turn.clone())),
                None => {
                    tables.turns.remove(position);
                    let pieces = tables.recordings.range((*position, 0)..=(*position, u32::MAX));
                    let pieces: Vec<_> = pieces.map(|(key, _)| *key).collect();
                    pieces.iter().for_each(|key| drop(tables.recordings.remove(key)));
                }
            }
        }
        tables.receipts.extend(batch.receipts.iter().map(|row| (row.receipt.id, row.clone())));
        tables.dead.extend(batch.dead.iter().map(|dead| (dead.position, dead.clone())));
        for position in &batch.buried {
            tables.dead.remove(position);
        }
        tables.pruned = batch.pruned.unwrap_or(tables.pruned);
        batch.cuts.iter().try_for_each(|cut| tables.cut(cut))
    }

    fn component(&self, hash: &Hash) -> Result<Option<Component>, StoreError> {
        Ok(self.tables().components.get(hash).cloned())
    }

    fn recording(&self, position: u64) -> Result<Vec<Arc<[u8]>>, StoreError> {
        let tables = self.tables();
        let pieces = tables.recordings.range((position, 0)..=(position, u32::MAX));
        Ok(pieces.map(|(_, bytes)| bytes.clone()).collect())
    }

    fn queued(&self, position: u64) -> Result<Option<Queued>, StoreError> {
        Ok(self.tables().queued.get(&position).cloned())
    }

    fn receipt(&self, id: &EventId) -> Result<Option<ReceiptRow>, StoreError> {
        Ok(self.tables().receipts.get(id).cloned())
    }

    fn receipts(&self, after: Option<&EventId>, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let start = after.map_or(Bound::Unbounded, |id| Bound::Excluded(*id));
        let tables = self.tables();
        Ok(tables.receipts.range((start, Bound::Unbounded)).take(max).map(|(_, row)| row.clone()).collect())
    }

    fn entry(&self, space: &Did, seq: u64) -> Result<Option<LogEntry>, StoreError> {
        let tables = self.tables();
        Ok(tables.orders.get(&(*space, seq)).and_then(|order| tables.log.get(order)).cloned())
    }

    fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let tables = self.tables();
        let entries = tables.log.range(after + 1..).map(|(_, entry)| entry);
        Ok(entries.filter(|entry| space.is_none_or(|space| *space == entry.space)).take(max).cloned().collect())
    }

    fn handled(&self, position: u64, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let tables = self.tables();
        let entries = tables.log.range(after.saturating_add(1)..).map(|(_, entry)| entry);
        let of = entries.filter(|entry| entry.handles(position));
        Ok(of.take(max).cloned().collect())
    }

    fn past(&self, space: &Did, name: Option<&str>) -> Result<Vec<CellRow>, StoreError> {
        let tables = self.tables();
        let of = tables.past.range((*space, Arc::from(""))..).take_while(|((did, _), _)| did == space);
        Ok(of.filter(|((_, of), _)| name.is_none_or(|name| **of == *name)).map(row).collect())
    }

    fn settled(&self, space: &Did, after: u64, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let tables = self.tables();
        let mut rows: Vec<_> =
            tables.receipts.values().filter(|row| row.space == *space && row.seq > after).cloned().collect();
        rows.sort_by_key(|row| (row.seq, row.receipt.id));
        rows.truncate(max);
        Ok(rows)
    }

    fn dead_letter(&self, position: u64) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.tables().dead.get(&position).cloned())
    }

    fn dead_letter_of(&self, event: &EventId) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.tables().dead.values().find(|letter| letter.event.id == *event).cloned())
    }

    fn dead_letters(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let tables = self.tables();
        let letters = tables.dead.range(after.saturating_add(1)..).map(|(_, letter)| letter);
        Ok(letters.filter(|letter| letter.event.to == *charm).take(max).cloned().collect())
    }
}
