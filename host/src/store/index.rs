//! The index of a store: SQLite in WAL mode, derived from the journal and behind it, and inspectable with any SQLite tool
//! (`-readonly` beside a running host). After a clean end there is no write-ahead log: the file alone is all of it.

mod apply;
mod cells;
mod file;
mod past;
mod turns;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use apply::Moved;
use file::{Opened, Stamp, again, equip, last_order};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row, Transaction, params};

use super::{StoreError, group::Mark};
use crate::{
    component::Component,
    did::Did,
    entry::{LogEntry, Taken},
    event::EventId,
    receipt::{Outcome, Receipt},
    record::Hash,
    rows::{Batch, CellRow, DeadLetter, Image, InstallRow, Notes, Point, Queued, ReceiptRow, RecordingRow, SpaceRow},
};

/// One SQLite file.
pub struct Index {
    path: String,
    /// None behind a virtual file system.
    file: Option<PathBuf>,
    /// The one writer.
    writer: Mutex<Writer>,
    /// All look-ups; WAL lets it read beside the writer. None where one connection is all there can be.
    reader: Option<Reader>,
    /// What reads much, so that no look-up waits for it; none when read-only.
    scanner: Option<Reader>,
}

/// A connection that reads; after the store was closed there is none until somebody reads again.
type Reader = Mutex<Option<Opened>>;

struct Writer {
    /// None after the store was closed.
    connection: Option<Connection>,
    /// Row numbers of the spaces: the log and the cells name spaces by them.
    cids: HashMap<Did, i64>,
    /// Of those whose past has gone: up to which commit.
    floors: HashMap<i64, i64>,
}

impl Index {
    fn new(
        path: String,
        file: Option<&Path>,
        connection: Connection,
        reader: Option<Connection>,
        scanner: Option<Connection>,
    ) -> Result<Index, StoreError> {
        for connection in [Some(&connection), reader.as_ref(), scanner.as_ref()].into_iter().flatten() {
            equip(connection).map_err(|error| failed(&path, error))?;
        }
        let cids = rows(&connection, "SELECT did, cid FROM space", [], |row| Ok((did(row, 0)?, row.get(1)?)))
            .map_err(|error| failed(&path, error))?;
        let floors = past::floors(&connection).map_err(|error| failed(&path, error))?;
        let (cids, floors) = (cids.into_iter().collect(), floors.into_iter().collect());
        let writer = Mutex::new(Writer { connection: Some(connection), cids, floors });
        let reading =
            |connection: Option<Connection>| connection.map(|connection| Mutex::new(Some(Opened::shared(connection))));
        let (reader, scanner) = (reading(reader), reading(scanner));
        Ok(Index { path, file: file.map(Path::to_owned), writer, reader, scanner })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads much, beside those who look something up.
    fn scan<T>(&self, work: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.read_with(self.scanner.as_ref().or(self.reader.as_ref()), work)
    }

    fn read<T>(&self, work: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        self.read_with(self.reader.as_ref(), work)
    }

    fn read_with<T>(
        &self,
        reader: Option<&Reader>,
        work: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let result = match (reader, &self.file) {
            (Some(reader), Some(file)) => {
                let mut place = reader.lock().unwrap_or_else(PoisonError::into_inner);
                loop {
                    let Opened { connection, stamp } =
                        again(&mut place, file).map_err(|error| failed(&self.path, error))?;
                    let (result, stamp) = (work(connection), *stamp);
                    // What was read of a file that somebody changed meanwhile may be of no moment at all.
                    if stamp.is_none() || stamp == Stamp::of(file) {
                        break result;
                    }
                    *place = None;
                }
            }
            _ => match &self.writer().connection {
                Some(connection) => work(connection),
                None => return Err(self.not_writable()),
            },
        };
        result.map_err(|error| failed(&self.path, error))
    }

    fn not_writable(&self) -> StoreError {
        StoreError::Failed(format!("{}: not open for writing", self.path))
    }

    /// Ends all connections. The last one moves what is in the write-ahead log into the file and puts the log away, unless
    /// somebody else reads the file just then. Reading goes on.
    ///
    /// # Errors
    /// `Full`; `Failed`.
    pub fn close(&self) -> Result<(), StoreError> {
        let connection = self.writer().connection.take();
        if self.file.is_none() {
            // The only connection there can be: it goes on reading.
            self.writer().connection = connection;
            return Ok(());
        }
        for reader in [&self.reader, &self.scanner].into_iter().flatten() {
            drop(reader.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        let Some(connection) = connection else { return Ok(()) };
        let end = rows(&connection, "PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0));
        match end.map_err(|error| failed(&self.path, error)) {
            Ok(_) | Err(StoreError::Locked { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Index {
    /// Returns one that only reads, and opens the file when somebody does.
    fn unopened(path: &str, file: &Path) -> Index {
        let (reader, scanner, file) = (Some(Mutex::default()), Some(Mutex::default()), Some(file.to_owned()));
        let writer = Mutex::new(Writer { connection: None, cids: HashMap::new(), floors: HashMap::new() });
        Index { path: path.to_owned(), file, writer, reader, scanner }
    }

    /// Returns up to `max` cells of a space from `start` on, in order; where the rest begins, if there may be more; and the last
    /// group that they come from.
    pub fn cells(
        &self,
        space: &Did,
        start: &str,
        end: Option<&str>,
        max: usize,
    ) -> Result<(Vec<CellRow>, Option<String>, Mark), StoreError> {
        self.scan(|connection| {
            let _picture = connection.unchecked_transaction()?;
            let (rows, next) = cells::page(connection, space, (start, end), max)?;
            Ok((rows, next, marked(connection)?))
        })
    }

    /// Returns everything that lives, and the last group that it comes from; cells only where they are asked for.
    pub fn image(&self, with_cells: bool) -> Result<(Image, Mark), StoreError> {
        self.scan(|connection| {
            // One picture, also beside a host that commits meanwhile.
            let _picture = connection.unchecked_transaction()?;
            let meta = |name: &str| meta(connection, name);
            let secret = meta("secret")?.unwrap_or_else(|| vec![0; 32]);
            let position = meta("position")?.unwrap_or_else(|| vec![0; 8]);
            let end = meta("end")?.unwrap_or_else(|| vec![0; 32]);
            let image = Image {
                end: end.try_into().map_err(|_| bad(0))?,
                secret: secret.try_into().map_err(|_| bad(0))?,
                position: u64::from_be_bytes(position.try_into().map_err(|_| bad(0))?),
                order: last_order(connection)?,
                spaces: rows(
                    connection,
                    "SELECT did, name, seq, head, paused, chain, dropped, letters_dropped, signed, signature, component, rights,
                            history, floor, floor_g, floor_at, point, point_at, receipts_floor FROM space ORDER BY cid",
                    [],
                    space_row,
                )?,
                cells: if with_cells { cells::load(connection)? } else { Vec::new() },
                queued: rows(
                    connection,
                    "SELECT position, did, event FROM queue JOIN space USING (cid) ORDER BY position",
                    [],
                    queued,
                )?,
                turns: turns::load(connection)?,
                asked: turns::asked(connection)?,
                dead: rows(connection, "SELECT receiver, position, id FROM dead ORDER BY position", [], |row| {
                    Ok((did(row, 0)?, row.get::<_, i64>(1)? as u64, EventId(row.get(2)?)))
                })?,
                components: rows(connection, "SELECT hash FROM component ORDER BY hash", [], |row| row.get(0))?,
                kept: rows(connection, "SELECT did, kept FROM kept ORDER BY did", [], |row| {
                    Ok((did(row, 0)?, row.get(1)?))
                })?,
                pruned: past::pruned(connection)?,
                cuts: Vec::new(),
            };
            Ok((image, marked(connection)?))
        })
    }
}

fn damaged(path: &str, why: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), why }
}

fn failed(path: &str, error: rusqlite::Error) -> StoreError {
    let text = crate::text::clip(&error.to_string(), 256).into_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { path: path.to_owned() },
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => damaged(path, text),
        _ if matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..)
        ) =>
        {
            damaged(path, text)
        }
        _ => StoreError::Failed(format!("{path}: {text}")),
    }
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(params, read)?.collect()
}

fn meta(connection: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}

/// Returns the last group that is in it.
fn marked(connection: &Connection) -> rusqlite::Result<Mark> {
    let mark = meta(connection, "mark")?.map(|bytes| Mark::from_bytes(&bytes).ok_or_else(|| bad(0))).transpose()?;
    Ok(mark.unwrap_or_default())
}

/// A column that does not hold what this store writes.
fn bad(column: usize) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, "malformed".into())
}

fn did(row: &Row<'_>, column: usize) -> rusqlite::Result<Did> {
    Did::from_public_key(row.get(column)?).map_err(|_| bad(column))
}

fn frame<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    postcard::from_bytes(row.get_ref(column)?.as_blob().map_err(|_| bad(column))?).map_err(|_| bad(column))
}

fn blob<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("a stored frame holds nothing that postcard refuses")
}

fn space_row(row: &Row<'_>) -> rusqlite::Result<SpaceRow> {
    let notes =
        Notes { paused: row.get(4)?, chain: row.get::<_, i64>(5)? as u64, dropped: row.get::<_, i64>(6)? as u64 };
    let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
    Ok(SpaceRow {
        did: did(row, 0)?,
        name: row.get(1)?,
        seq: row.get::<_, i64>(2)? as u64,
        head: row.get(3)?,
        signed: row.get::<_, Option<i64>>(8)?.zip(row.get(9)?).map(|(seq, signature)| (seq as u64, signature)),
        letters_dropped: row.get::<_, i64>(7)? as u64,
        installed: row
            .get::<_, Option<Hash>>(10)?
            .zip(row.get(11)?)
            .map(|(component, rights)| InstallRow { component, rights }),
        notes,
        history_bytes: number(12)?,
        floor: Point { seq: number(13)?, order: number(14)?, at: number(15)? },
        checkpoint: Point { seq: number(16)?, order: 0, at: number(17)? },
        receipts_floor: number(18)?,
    })
}

/// What [`log_entry`] reads.
const LOG: &str = "SELECT g, did, log.seq, record, position, taken, late, seal FROM log JOIN space USING (cid)";

fn log_entry(row: &Row<'_>) -> rusqlite::Result<LogEntry> {
    Ok(LogEntry {
        order: row.get::<_, i64>(0)? as u64,
        space: did(row, 1)?,
        seq: row.get::<_, i64>(2)? as u64,
        position: row.get::<_, i64>(4)? as u64,
        taken: row.get::<_, Option<i64>>(5)?.zip(row.get(6)?).map(|(at, late)| Taken { position: at as u64, late }),
        record: row.get::<_, Vec<u8>>(3)?.into(),
        seal: row.get(7)?,
    })
}

/// Returns a number for SQLite, which has none above `i64::MAX`, nor has this store.
fn at_most(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn queued(row: &Row<'_>) -> rusqlite::Result<Queued> {
    Ok(Queued { position: row.get::<_, i64>(0)? as u64, space: did(row, 1)?, event: frame(row, 2)? })
}

/// What [`receipt_row`] reads.
const RECEIPTS: &str = "SELECT id, outcome, receipt.seq, message, sender, receiver, digest, did, at, time
                        FROM receipt JOIN space USING (cid)";

fn receipt_row(row: &Row<'_>) -> rusqlite::Result<ReceiptRow> {
    let name: String = row.get(1)?;
    let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == name).ok_or_else(|| bad(1))?;
    let receipt = Receipt {
        id: EventId(row.get(0)?),
        outcome,
        commit: row.get::<_, Option<i64>>(2)?.map(|seq| seq as u64),
        message: row.get(3)?,
    };
    let (sender, to, digest, space) = (did(row, 4)?, did(row, 5)?, row.get(6)?, did(row, 7)?);
    let (seq, time_ms) = (row.get::<_, i64>(8)? as u64, row.get::<_, i64>(9)? as u64);
    Ok(ReceiptRow { receipt, sender, to, digest, space, seq, time_ms })
}

impl Index {
    pub fn receipt(&self, id: &EventId) -> Result<Option<ReceiptRow>, StoreError> {
        let sql = RECEIPTS.to_owned() + " WHERE id = ?1";
        self.read(|connection| connection.prepare_cached(&sql)?.query_row([id.0], receipt_row).optional())
    }

    pub fn receipts(&self, after: Option<&EventId>, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        // No id is shorter than the empty one.
        let after = after.map_or(&[][..], |id| &id.0);
        let sql = RECEIPTS.to_owned() + " WHERE id > ?1 ORDER BY id LIMIT ?2";
        self.scan(|connection| rows(connection, &sql, params![after, at_most(max)], receipt_row))
    }

    pub fn settled(&self, space: &Did, after: u64, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let sql = RECEIPTS.to_owned() + " WHERE did = ?1 AND at > ?2 ORDER BY at, id LIMIT ?3";
        let (space, after, max) = (space.public_key(), at_most(after), at_most(max));
        self.scan(|connection| rows(connection, &sql, params![space, after, max], receipt_row))
    }

    /// Returns what cells of a space held at its floor, of those that were written since, or are in `written`.
    pub fn past(
        &self,
        space: &Did,
        name: Option<&str>,
        written: &HashSet<Arc<str>>,
    ) -> Result<Vec<CellRow>, StoreError> {
        self.scan(|connection| past::past(connection, space, name, written))
    }

    pub fn component(&self, hash: &Hash) -> Result<Option<Component>, StoreError> {
        let sql = "SELECT bytes FROM component WHERE hash = ?1";
        let bytes = |row: &Row<'_>| row.get::<_, Vec<u8>>(0);
        let bytes = self.scan(|connection| connection.prepare_cached(sql)?.query_row([hash], bytes).optional())?;
        Ok(bytes.map(Component::from))
    }

    /// Returns what the turn under way at a position was told, in order.
    pub fn recording(&self, position: u64) -> Result<Vec<RecordingRow>, StoreError> {
        self.scan(|connection| turns::recording(connection, position))
    }

    pub fn queued(&self, position: u64) -> Result<Option<Queued>, StoreError> {
        let sql = "SELECT position, did, event FROM queue JOIN space USING (cid) WHERE position = ?1";
        self.read(|connection| connection.prepare_cached(sql)?.query_row([at_most(position)], queued).optional())
    }

    pub fn entry(&self, space: &Did, seq: u64) -> Result<Option<LogEntry>, StoreError> {
        let sql = LOG.to_owned() + " WHERE did = ?1 AND log.seq = ?2";
        let (space, seq) = (space.public_key(), at_most(seq));
        self.read(|connection| connection.prepare_cached(&sql)?.query_row(params![space, seq], log_entry).optional())
    }

    pub fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let (after, max) = (at_most(after), at_most(max));
        let Some(space) = space else {
            let sql = LOG.to_owned() + " WHERE g > ?1 ORDER BY g LIMIT ?2";
            return self.scan(|connection| rows(connection, &sql, params![after, max], log_entry));
        };
        // Its own entries lie side by side; whoever reads on begins behind one of them.
        let sql = LOG.to_owned()
            + " WHERE did = ?1 AND g > ?2
                  AND log.seq > coalesce((SELECT last.seq FROM log AS last WHERE last.g = ?2 AND last.cid = space.cid), 0)
                ORDER BY log.seq LIMIT ?3";
        self.scan(|connection| rows(connection, &sql, params![space.public_key(), after, max], log_entry))
    }

    pub fn handled(&self, position: u64, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let sql = LOG.to_owned() + " WHERE taken = ?1 AND g > ?2 ORDER BY g LIMIT ?3";
        let (position, after, max) = (at_most(position), at_most(after), at_most(max));
        self.scan(|connection| rows(connection, &sql, params![position, after, max], log_entry))
    }

    pub fn dead_letter(&self, position: u64) -> Result<Option<DeadLetter>, StoreError> {
        let sql = "SELECT letter FROM dead WHERE position = ?1";
        self.read(|connection| {
            connection.prepare_cached(sql)?.query_row([position as i64], |row| frame(row, 0)).optional()
        })
    }

    pub fn dead_letter_of(&self, event: &EventId) -> Result<Option<DeadLetter>, StoreError> {
        let sql = "SELECT letter FROM dead WHERE id = ?1";
        self.read(|connection| connection.prepare_cached(sql)?.query_row([event.0], |row| frame(row, 0)).optional())
    }

    pub fn dead_letters(&self, charm: &Did, after: u64, max: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = "SELECT letter FROM dead WHERE receiver = ?1 AND position > ?2 ORDER BY position LIMIT ?3";
        let (charm, after, max) = (charm.public_key(), at_most(after), at_most(max));
        self.read(|connection| rows(connection, sql, params![charm, after, max], |row| frame(row, 0)))
    }
}

fn write(
    transaction: &Transaction<'_>,
    cids: &mut HashMap<Did, i64>,
    floors: &HashMap<i64, i64>,
    batch: &Batch,
) -> rusqlite::Result<()> {
    for row in &batch.spaces {
        transaction
            .prepare_cached("INSERT INTO space (did, name, seq, head) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![row.did.public_key(), row.name, row.seq as i64, row.head])?;
        cids.insert(row.did, transaction.last_insert_rowid());
    }
    let cid = |did: &Did| cids.get(did).copied().ok_or_else(|| bad(0));
    let mut log = transaction.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    for entry in &batch.log {
        log.execute(params![
            entry.order as i64,
            cid(&entry.space)?,
            entry.seq as i64,
            &entry.record[..],
            entry.position as i64,
            entry.taken.map(|taken| taken.position as i64),
            entry.taken.map(|taken| taken.late),
            entry.seal
        ])?;
    }
    let mut head = transaction.prepare_cached("UPDATE space SET seq = ?2, head = ?3 WHERE cid = ?1")?;
    for (did, seq, hash) in &batch.heads {
        head.execute(params![cid(did)?, *seq as i64, hash])?;
    }
    let mut history = transaction.prepare_cached("UPDATE space SET history = history + ?2 WHERE cid = ?1")?;
    let mut more: BTreeMap<Did, i64> = BTreeMap::new();
    batch.log.iter().for_each(|entry| *more.entry(entry.space).or_default() += entry.record.len() as i64);
    for (did, bytes) in &more {
        history.execute(params![cid(did)?, bytes])?;
    }
    let mut signed = transaction.prepare_cached("UPDATE space SET signed = ?2, signature = ?3 WHERE cid = ?1")?;
    for (did, seq, signature) in &batch.signed {
        signed.execute(params![cid(did)?, *seq as i64, signature])?;
    }
    let mut noted =
        transaction.prepare_cached("UPDATE space SET paused = ?2, chain = ?3, dropped = ?4 WHERE cid = ?1")?;
    for (did, Notes { paused, chain, dropped }) in &batch.notes {
        noted.execute(params![cid(did)?, paused, *chain as i64, *dropped as i64])?;
    }
    for (did, kept) in &batch.kept {
        let sql = match kept {
            Some(_) => "INSERT OR REPLACE INTO kept VALUES (?1, ?2)",
            None => "DELETE FROM kept WHERE did = ?1 AND ?2 IS NULL",
        };
        transaction.prepare_cached(sql)?.execute(params![did.public_key(), kept])?;
    }
    for (hash, component) in &batch.components {
        let sql = match component {
            Some(_) => "INSERT OR REPLACE INTO component VALUES (?1, ?2)",
            None => "DELETE FROM component WHERE hash = ?1 AND ?2 IS NULL",
        };
        let bytes = component.as_ref().map(|component| &component.bytes()[..]);
        transaction.prepare_cached(sql)?.execute(params![hash, bytes])?;
    }
    for write in &batch.cells {
        let cid = cid(&write.space)?;
        cells::write(transaction, cid, write, floors.get(&cid).copied().unwrap_or(0))?;
    }
    let mut queue = transaction.prepare_cached("INSERT INTO queue VALUES (?1, ?2, ?3)")?;
    for queued in &batch.queued {
        queue.execute(params![queued.position as i64, cid(&queued.space)?, blob(&queued.event)])?;
    }
    let mut taken = transaction.prepare_cached("DELETE FROM queue WHERE position = ?1")?;
    for position in &batch.taken {
        taken.execute([*position as i64])?;
    }
    turns::write(transaction, batch, cid)?;
    // An id can come again when its receipt has gone: of several groups at once the later one counts.
    let mut receipt = transaction
        .prepare_cached("INSERT OR REPLACE INTO receipt VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?;
    for row in &batch.receipts {
        let Receipt { id, outcome, commit, message } = &row.receipt;
        let seq = commit.map(|seq| seq as i64);
        let (sender, to) = (row.sender.public_key(), row.to.public_key());
        let (cid, at, time) = (cid(&row.space)?, row.seq as i64, row.time_ms as i64);
        receipt.execute(params![id.0, outcome.name(), seq, message, sender, to, row.digest, cid, at, time])?;
    }
    let mut dead = transaction.prepare_cached("INSERT INTO dead VALUES (?1, ?2, ?3, ?4)")?;
    for letter in &batch.dead {
        let event = &letter.event;
        dead.execute(params![letter.position as i64, event.to.public_key(), event.id.0, blob(letter)])?;
    }
    let mut bury = transaction.prepare_cached("DELETE FROM dead WHERE position = ?1")?;
    for position in &batch.buried {
        bury.execute([*position as i64])?;
    }
    let mut dropped =
        transaction.prepare_cached("UPDATE space SET letters_dropped = letters_dropped + ?2 WHERE cid = ?1")?;
    for (did, more) in &batch.letters_dropped {
        dropped.execute(params![cid(did)?, *more as i64])?;
    }
    let mut installed = transaction.prepare_cached("UPDATE space SET component = ?2, rights = ?3 WHERE cid = ?1")?;
    for (did, row) in &batch.installed {
        installed.execute(params![cid(did)?, row.map(|row| row.component), row.map(|row| row.rights)])?;
    }
    let mut point = transaction.prepare_cached("UPDATE space SET point = ?2, point_at = ?3 WHERE cid = ?1")?;
    for (did, Point { seq, at, .. }) in &batch.checkpoints {
        point.execute(params![cid(did)?, *seq as i64, *at as i64])?;
    }
    if let Some(pruned) = batch.pruned {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO meta VALUES ('pruned', ?1)")?
            .execute([pruned.to_be_bytes()])?;
    }
    for cut in &batch.cuts {
        past::cut(transaction, cid(&cut.space)?, cut)?;
    }
    if let Some(end) = &batch.end {
        transaction.prepare_cached("INSERT OR REPLACE INTO meta VALUES ('end', ?1)")?.execute([end])?;
    }
    if let Some(position) = batch.position {
        transaction
            .prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'position'")?
            .execute([position.to_be_bytes()])?;
    }
    Ok(())
}
