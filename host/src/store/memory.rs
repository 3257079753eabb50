//! A store in memory: the contract without a disk, for tests, benches and throw-away hosts.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Store, StoreError};
use crate::{
    component::Component,
    did::Did,
    entry::LogEntry,
    event::EventId,
    record::Hash,
    rows::{Batch, CellRow, DeadLetter, Image, Queued, ReceiptRow, SpaceRow},
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
    cells: BTreeMap<(Did, Arc<str>), Cell>,
    queued: BTreeMap<u64, Queued>,
    receipts: BTreeMap<EventId, ReceiptRow>,
    dead: BTreeMap<u64, DeadLetter>,
    kept: BTreeMap<Did, Vec<u8>>,
    components: BTreeMap<Hash, Component>,
}

#[derive(Clone)]
struct Cell {
    order: u64,
    seq: u64,
    value: Option<Tree>,
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

fn row(((space, name), cell): (&(Did, Arc<str>), &Cell)) -> CellRow {
    let Cell { order, seq, value } = cell;
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
            dead: tables.dead.values().map(|dead| (dead.event.to, dead.position, dead.event.id)).collect(),
            components: tables.components.keys().copied().collect(),
            kept: tables.kept.iter().map(|(did, kept)| (*did, kept.clone())).collect(),
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let mut cells = Vec::with_capacity(batch.cells.len());
        for write in &batch.cells {
            let key = (write.space, write.name.clone());
            let before = tables.cells.get(&key).and_then(|cell| cell.value.clone());
            let value = write.apply(before)?;
            cells.push((key, Cell { order: write.order, seq: write.seq, value }));
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
        tables.cells.extend(cells);
        tables.position = batch.position.unwrap_or(tables.position);
        tables.end = batch.end.unwrap_or(tables.end);
        tables.queued.extend(batch.queued.iter().map(|queued| (queued.position, queued.clone())));
        for position in &batch.taken {
            tables.queued.remove(position);
        }
        tables.receipts.extend(batch.receipts.iter().map(|row| (row.receipt.id, row.clone())));
        tables.dead.extend(batch.dead.iter().map(|dead| (dead.position, dead.clone())));
        for position in &batch.buried {
            tables.dead.remove(position);
        }
        Ok(())
    }

    fn component(&self, hash: &Hash) -> Result<Option<Component>, StoreError> {
        Ok(self.tables().components.get(hash).cloned())
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
