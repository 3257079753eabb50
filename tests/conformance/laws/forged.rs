//! A real store, taken apart, changed, and put together again with the real keys.

use std::collections::BTreeMap;

use charm_host::{
    Batch, CellRow, DeadLetter, Did, EventId, Hash, Image, Keyring, LogEntry, ReceiptRow, Record, SpaceRow, Store,
    StoreError, head_message, record_hash,
};

/// A record, the space whose chain it is put in, and whether that key signs it.
#[derive(Clone)]
pub struct Line {
    pub space: Did,
    pub record: Record,
    pub signed: bool,
}

/// A store as records: whatever is changed in them is hashed, chained and signed again.
pub struct Forged {
    pub log: Vec<Line>,
    pub rows: Rows,
}

/// A store as it is shown to whoever reads it.
#[derive(Clone)]
pub struct Rows {
    pub image: Image,
    pub log: Vec<LogEntry>,
    pub receipts: BTreeMap<EventId, ReceiptRow>,
    pub dead: BTreeMap<u64, DeadLetter>,
}

impl Rows {
    pub fn copy(store: &impl Store) -> Rows {
        let image = store.load(None).unwrap();
        let log = store.log(None, 0, usize::MAX >> 1).unwrap();
        let receipts = store.receipts(None, usize::MAX >> 1).unwrap();
        let letters = image.dead.iter().map(|(_, position)| store.dead_letter(*position).unwrap().unwrap());
        let dead = letters.map(|letter| (letter.position, letter)).collect();
        Rows { log, receipts: receipts.into_iter().map(|row| (row.receipt.id, row)).collect(), dead, image }
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

    fn receipt(&self, id: &EventId) -> Result<Option<ReceiptRow>, StoreError> {
        Ok(self.receipts.get(id).cloned())
    }

    fn receipts(&self, after: Option<&EventId>, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let rows = self.receipts.values().filter(|row| after.is_none_or(|after| row.receipt.id > *after));
        Ok(rows.take(max).cloned().collect())
    }

    fn entry(&self, order: u64) -> Result<Option<LogEntry>, StoreError> {
        Ok(self.log.iter().find(|entry| entry.order == order).cloned())
    }

    fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let of = |entry: &&LogEntry| entry.order > after && space.is_none_or(|space| *space == entry.space);
        Ok(self.log.iter().filter(of).take(max).cloned().collect())
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
            record: Record::from_bytes(&entry.record).unwrap(),
            signed: entry.signature.is_some(),
        };
        Forged { log: rows.log.iter().map(line).collect(), rows: rows.clone() }
    }

    pub fn did(&self, name: &str) -> Did {
        self.rows.did(name)
    }

    /// The first record for which that holds.
    pub fn find(&mut self, holds: impl Fn(&Record) -> bool) -> &mut Record {
        self.log.iter_mut().map(|line| &mut line.record).find(|record| holds(record)).expect("such a record is there")
    }

    /// The first record of that space for which that holds.
    pub fn find_in(&mut self, name: &str, holds: impl Fn(&Record) -> bool) -> &mut Record {
        let did = self.did(name);
        self.find(|record| record.space == did && holds(record))
    }

    /// Adds a record after all others: a copy of this one, with the next numbers.
    pub fn append(&mut self, record: Record) -> &mut Record {
        let of_space = self.log.iter().filter(|line| line.space == record.space);
        let seq = of_space.map(|line| line.record.seq).max().unwrap_or(0) + 1;
        let (space, order) = (record.space, self.log.len() as u64 + 1);
        self.log.push(Line { space, record: Record { seq, order, ..record }, signed: true });
        &mut self.log.last_mut().unwrap().record
    }

    /// Takes the last commits of a space away, back to a commit before them that was signed, and its cells with them.
    pub fn roll_back(&mut self, name: &str) {
        let did = self.did(name);
        let own: Vec<&Line> = self.log.iter().filter(|line| line.space == did).collect();
        let older = own.iter().rev().skip(1).find(|line| line.signed).expect("an older signed head is there");
        let seq = older.record.seq;
        self.log.retain(|line| line.space != did || line.record.seq <= seq);
        let mut cells: BTreeMap<String, CellRow> = BTreeMap::new();
        for record in self.log.iter().filter(|line| line.space == did).map(|line| &line.record) {
            for write in &record.writes {
                let (name, value) = (write.name.clone(), write.value.clone());
                cells.insert(
                    write.name.to_string(),
                    CellRow { space: did, name, order: record.order, seq: record.seq, value },
                );
            }
        }
        self.rows.image.cells.retain(|cell| cell.space != did);
        self.rows.image.cells.extend(cells.into_values());
    }

    /// Hashes, chains and signs every record, and moves each space to its last one.
    pub fn seal(self, keyring: &dyn Keyring) -> Rows {
        let Forged { log, mut rows } = self;
        let mut heads: BTreeMap<Did, (u64, Hash)> = BTreeMap::new();
        rows.log.clear();
        for Line { space, mut record, signed } in log {
            let (_, head) = heads.get(&space).copied().unwrap_or_default();
            record.previous = head;
            let bytes = record.to_bytes();
            let head = record_hash(&bytes);
            heads.insert(space, (record.seq, head));
            let sign = || keyring.sign(&space, &head_message(&space, record.seq, &head)).unwrap();
            let signature = signed.then(sign);
            rows.log.push(LogEntry { order: record.order, space, seq: record.seq, record: bytes.into(), signature });
        }
        for row in &mut rows.image.spaces {
            (row.seq, row.head) = heads.get(&row.did).copied().unwrap_or_default();
        }
        rows.image.order = rows.log.last().map_or(0, |entry| entry.order);
        rows
    }
}
