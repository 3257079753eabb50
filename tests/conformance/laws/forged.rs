//! A real store, taken apart, changed, and put together again with the real keys.

use std::{collections::BTreeMap, sync::Arc};

use charm_conformance::edited;
use charm_host::{
    Batch, Body, CellRow, Component, DeadLetter, Did, EventId, Hash, Image, Keyring, LogEntry, Queued, ReceiptRow,
    Record, SpaceRow, Store, StoreError, Taken, TurnRow, head_message, heads_hash, record_hash, seal_message,
};

/// A record, the space whose chain it is put in, and its place in the host.
#[derive(Clone)]
pub struct Line {
    pub space: Did,
    pub order: u64,
    pub position: u64,
    pub taken: Option<Taken>,
    pub record: Record,
    pub sealed: bool,
}

/// A store as records: whatever is changed in them is hashed, chained and signed again.
pub struct Forged {
    pub log: Vec<Line>,
    /// What is said of the heads of spaces stays as it was.
    pub keeps_heads: bool,
    pub rows: Rows,
}

/// A store as it is shown to whoever reads it.
#[derive(Clone)]
pub struct Rows {
    pub image: Image,
    pub log: Vec<LogEntry>,
    pub receipts: BTreeMap<EventId, ReceiptRow>,
    pub dead: BTreeMap<u64, DeadLetter>,
    pub components: BTreeMap<Hash, Component>,
    /// What turns under way were told, by the positions of their events.
    pub recordings: BTreeMap<u64, Vec<Arc<[u8]>>>,
    pub past: Vec<CellRow>,
}

impl Rows {
    pub fn copy(store: &impl Store) -> Rows {
        let image = store.load(None).unwrap();
        let log = store.log(None, 0, usize::MAX >> 1).unwrap();
        let receipts = store.receipts(None, usize::MAX >> 1).unwrap();
        let letters = image.dead.iter().map(|(_, position, _)| store.dead_letter(*position).unwrap().unwrap());
        let dead = letters.map(|letter| (letter.position, letter)).collect();
        let component = |hash: &Hash| (*hash, store.component(hash).unwrap().unwrap());
        let components = image.components.iter().map(component).collect();
        let past = image.spaces.iter().flat_map(|row| store.past(&row.did, None).unwrap()).collect();
        let recording = |turn: &TurnRow| (turn.position, store.recording(turn.position).unwrap());
        let recordings = image.turns.iter().map(recording).collect();
        let receipts = receipts.into_iter().map(|row| (row.receipt.id, row)).collect();
        Rows { components, recordings, log, receipts, dead, past, image }
    }

    pub fn did(&self, name: &str) -> Did {
        self.space(name).did
    }

    pub fn space(&self, name: &str) -> &SpaceRow {
        self.image.spaces.iter().find(|row| row.name == name).unwrap()
    }

    pub fn space_mut(&mut self, name: &str) -> &mut SpaceRow {
        self.image.spaces.iter_mut().find(|row| row.name == name).unwrap()
    }

    /// The last entry of a space.
    pub fn last(&mut self, name: &str) -> &mut LogEntry {
        let did = self.did(name);
        self.log.iter_mut().rfind(|entry| entry.space == did).unwrap()
    }

    /// The first receipt for which that holds.
    pub fn receipt(&mut self, holds: impl Fn(&ReceiptRow) -> bool) -> &mut ReceiptRow {
        self.receipts.values_mut().find(|row| holds(row)).unwrap()
    }

    /// A dead letter.
    pub fn letter(&mut self) -> &mut DeadLetter {
        self.dead.values_mut().next().unwrap()
    }
}

impl Store for Rows {
    fn load(&self, _: Option<[u8; 32]>) -> Result<Image, StoreError> {
        Ok(self.image.clone())
    }

    fn commit(&self, _: &Batch) -> Result<(), StoreError> {
        Err(StoreError::Failed("read only".to_owned()))
    }

    fn component(&self, hash: &Hash) -> Result<Option<Component>, StoreError> {
        Ok(self.components.get(hash).cloned())
    }

    fn recording(&self, position: u64) -> Result<Vec<Arc<[u8]>>, StoreError> {
        Ok(self.recordings.get(&position).cloned().unwrap_or_default())
    }

    fn queued(&self, position: u64) -> Result<Option<Queued>, StoreError> {
        Ok(self.image.queued.iter().find(|queued| queued.position == position).cloned())
    }

    fn receipt(&self, id: &EventId) -> Result<Option<ReceiptRow>, StoreError> {
        Ok(self.receipts.get(id).cloned())
    }

    fn receipts(&self, after: Option<&EventId>, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let rows = self.receipts.values().filter(|row| after.is_none_or(|after| row.receipt.id > *after));
        Ok(rows.take(max).cloned().collect())
    }

    fn entry(&self, space: &Did, seq: u64) -> Result<Option<LogEntry>, StoreError> {
        Ok(self.log.iter().find(|entry| (&entry.space, entry.seq) == (space, seq)).cloned())
    }

    fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let of = |entry: &&LogEntry| entry.order > after && space.is_none_or(|space| *space == entry.space);
        Ok(self.log.iter().filter(of).take(max).cloned().collect())
    }

    fn past(&self, space: &Did, name: Option<&str>) -> Result<Vec<CellRow>, StoreError> {
        let of = |row: &&CellRow| row.space == *space && name.is_none_or(|name| *row.name == *name);
        Ok(self.past.iter().filter(of).cloned().collect())
    }

    fn settled(&self, space: &Did, after: u64, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let of = self.receipts.values().filter(|row| row.space == *space && row.seq > after);
        let mut rows: Vec<_> = of.cloned().collect();
        rows.sort_by_key(|row| (row.seq, row.receipt.id));
        rows.truncate(max);
        Ok(rows)
    }

    fn dead_letter(&self, position: u64) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.dead.get(&position).cloned())
    }

    fn dead_letter_of(&self, event: &EventId) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.dead.values().find(|letter| letter.event.id == *event).cloned())
    }

    fn dead_letters(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let letters = self.dead.range(after + 1..).map(|(_, letter)| letter);
        Ok(letters.filter(|letter| letter.event.to == *charm).take(max).cloned().collect())
    }
}

impl Forged {
    pub fn of(rows: &Rows) -> Forged {
        let line = |entry: &LogEntry| Line {
            space: entry.space,
            order: entry.order,
            position: entry.position,
            taken: entry.taken,
            record: Record::from_bytes(&entry.record).unwrap(),
            sealed: entry.seal.is_some(),
        };
        Forged { log: rows.log.iter().map(line).collect(), keeps_heads: false, rows: rows.clone() }
    }

    pub fn did(&self, name: &str) -> Did {
        self.rows.did(name)
    }

    /// The first record for which that holds, with its place.
    pub fn line(&mut self, holds: impl Fn(&Record) -> bool) -> &mut Line {
        self.log.iter_mut().find(|line| holds(&line.record)).expect("such a record is there")
    }

    /// The first record for which that holds.
    pub fn find(&mut self, holds: impl Fn(&Record) -> bool) -> &mut Record {
        &mut self.line(holds).record
    }

    /// The first record of that space for which that holds.
    pub fn find_in(&mut self, name: &str, holds: impl Fn(&Record) -> bool) -> &mut Record {
        let did = self.did(name);
        self.find(|record| record.space == did && holds(record))
    }

    /// Adds a line after all others: a copy of this one, with the next numbers, that gives as many positions.
    pub fn append(&mut self, line: Line, positions: u64) -> &mut Line {
        let of_space = self.log.iter().filter(|before| before.space == line.space);
        let seq = of_space.map(|line| line.record.seq).max().unwrap_or(0) + 1;
        let (order, position) = (self.log.len() as u64 + 1, self.log.last().unwrap().position + positions);
        let record = Record { seq, ..line.record };
        self.log.push(Line { order, position, record, sealed: true, ..line });
        self.log.last_mut().unwrap()
    }

    /// Takes the last commits of a space away, and its cells with them.
    pub fn roll_back(&mut self, name: &str) {
        let did = self.did(name);
        let own = self.log.iter().filter(|line| line.space == did).count() as u64;
        self.log.retain(|line| line.space != did || line.record.seq <= own / 2);
        let mut cells: BTreeMap<String, CellRow> = BTreeMap::new();
        for line in self.log.iter().filter(|line| line.space == did) {
            for write in line.record.writes() {
                let name = write.name.clone();
                let before = cells.remove(&*name).and_then(|row| row.value);
                let value = edited(before, &write.edits);
                let row = CellRow { space: did, name, order: line.order, seq: line.record.seq, value };
                if row.value.is_some() {
                    cells.insert(write.name.to_string(), row);
                }
            }
        }
        self.rows.image.cells.retain(|cell| cell.space != did);
        self.rows.image.cells.extend(cells.into_values());
    }

    /// Hashes, chains, seals and signs everything, and moves each space to its last record.
    pub fn seal(self, keyring: &dyn Keyring) -> Rows {
        let Forged { log, keeps_heads, mut rows } = self;
        let mut heads: BTreeMap<Did, (u64, Hash)> = BTreeMap::new();
        let pruned = log.iter().find(|line| line.order == rows.image.pruned).map(|line| &line.record.body);
        let (host, (whole, mut end)) = (
            rows.did("@host"),
            match pruned {
                Some(Body::Pruned(pruned)) => (pruned.order, pruned.entry),
                _ => (0, Hash::default()),
            },
        );
        let floors: BTreeMap<Did, u64> = rows.image.spaces.iter().map(|row| (row.did, row.floor.seq)).collect();
        // The heads at the commit from which on all is there.
        let mut then: BTreeMap<Did, (u64, Hash)> = BTreeMap::new();
        for line in log.iter().rev().filter(|line| line.order > whole && line.record.seq > 1) {
            then.insert(line.space, (line.record.seq - 1, line.record.previous));
        }
        rows.log.clear();
        for Line { space, order, position, taken, mut record, sealed } in log {
            if floors.get(&space).is_none_or(|floor| record.seq != floor + 1 || *floor == 0) {
                record.previous = heads.get(&space).copied().unwrap_or_default().1;
            }
            if let Body::Pruned(pruned) = &mut record.body
                && order == rows.image.pruned
                && !keeps_heads
            {
                pruned.heads = heads_hash(then.iter().map(|(did, (seq, head))| (did, *seq, head)));
            }
            let bytes = record.to_bytes();
            let head = record_hash(&bytes);
            heads.insert(space, (record.seq, head));
            if order <= whole {
                then.insert(space, (record.seq, head));
            }
            let (seq, record) = (record.seq, bytes.into());
            let mut entry = LogEntry { order, space, seq, position, taken, record, seal: None };
            if order > whole {
                end = entry.hash(&end);
            }
            entry.seal = sealed.then(|| keyring.sign(&host, &seal_message(&host, order, &end)).unwrap());
            rows.log.push(entry);
        }
        if let Some(last) = rows.log.last_mut() {
            last.seal = Some(keyring.sign(&host, &seal_message(&host, last.order, &end)).unwrap());
        }
        for row in &mut rows.image.spaces {
            (row.seq, row.head) = heads.get(&row.did).copied().unwrap_or_default();
            let message = head_message(&row.did, row.seq, &row.head);
            let sign = |_| (row.seq, keyring.sign(&row.did, &message).unwrap());
            row.signed = row.signed.map(sign);
        }
        rows.image.end = end;
        rows.image.order = rows.log.last().map_or(0, |entry| entry.order);
        rows
    }
}
