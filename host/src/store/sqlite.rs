//! The store on disk: SQLite in WAL mode, one sync of the disk per batch.
//!
//! One host at a time: an operating-system lock on `<file>.lock`, which also remembers the last durable commit: a
//! store that ends before it is refused. Readers may open the file beside a running host (`open_read_only`, or any
//! SQLite tool with `-readonly`).

use std::{
    collections::HashMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Params, Row, Transaction, params};

use super::{
    Batch, CellRow, DeadLetter, Image, LogEntry, Notes, Queued, ReceiptRow, SpaceRow, Store, StoreError,
    lock::{self, Lock},
};
use crate::{
    did::Did,
    event::EventId,
    limits::VALUE_DEPTH_MAX,
    receipt::{Outcome, Receipt},
    text::shown,
    value::Value,
};

const APPLICATION_ID: i64 = 0x6368_6172; // "char"
const VERSION: i64 = 2;
const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE space (cid INTEGER PRIMARY KEY, did BLOB NOT NULL UNIQUE, name TEXT NOT NULL,
                        seq INTEGER NOT NULL, head BLOB NOT NULL, paused INTEGER NOT NULL DEFAULT 0,
                        chain INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE TABLE log (g INTEGER PRIMARY KEY, cid INTEGER NOT NULL, seq INTEGER NOT NULL, record BLOB NOT NULL,
                      signature BLOB) STRICT;
    CREATE TABLE cell (cid INTEGER NOT NULL, name TEXT NOT NULL, g INTEGER NOT NULL, seq INTEGER NOT NULL,
                       value BLOB, PRIMARY KEY (cid, name)) STRICT, WITHOUT ROWID;
    CREATE TABLE queue (position INTEGER PRIMARY KEY, event BLOB NOT NULL) STRICT;
    CREATE TABLE receipt (id BLOB PRIMARY KEY, outcome TEXT NOT NULL, seq INTEGER, message TEXT,
                          sender BLOB NOT NULL, receiver BLOB NOT NULL, digest BLOB) STRICT, WITHOUT ROWID;
    CREATE TABLE dead (position INTEGER PRIMARY KEY, receiver BLOB NOT NULL, letter BLOB NOT NULL) STRICT;
";

/// A store in one SQLite file.
pub struct SqliteStore {
    path: String,
    /// None behind a virtual file system.
    file: Option<PathBuf>,
    /// Only `commit` uses it: the one writer.
    writer: Mutex<Writer>,
    /// All look-ups; WAL lets it read beside the writer. None where one connection is all there can be.
    reader: Option<Mutex<Connection>>,
    /// What reads much, so that no look-up waits for it; none when read-only.
    scanner: Option<Mutex<Connection>>,
    /// Held until the store is closed; none when read-only.
    lock: Mutex<Option<Lock>>,
}

struct Writer {
    connection: Connection,
    /// Row numbers of the spaces: the log and the cells name spaces by them.
    cids: HashMap<Did, i64>,
}

impl SqliteStore {
    /// Opens the file for one host, making it when it is not there.
    ///
    /// # Errors
    /// `InUse` while another host has it open; `Readable` by others; `Damaged`; `Failed`.
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        let path = path.as_ref();
        let name = shown(path);
        check_mode(path, &name)?;
        look(path, &name)?;
        let lock = Lock::take(path)?;
        // Once more: what was there may have changed until it was locked.
        lock::check_mark(path, lock::mark(path), look(path, &name)?)?;
        lock::create(path).map_err(|error| StoreError::Failed(format!("{name}: {error}")))?;
        let mut connection = Connection::open(path).map_err(|error| failed(&name, error))?;
        prepare(&mut connection, &name)?;
        let reader = || reader(path).map_err(|error| failed(&name, error));
        let (reader, scanner) = (reader()?, reader()?);
        SqliteStore::new(name.clone(), Some(path), connection, Some(reader), Some(scanner), Some(lock))
    }

    /// Opens the file for one host through a virtual file system that this process has registered with SQLite
    /// (<https://www.sqlite.org/vfs.html>), making it when it is not there. The file is locked exclusively and
    /// there is one connection, so the file system needs no shared memory.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with_vfs(path: impl AsRef<Path>, vfs: &str) -> Result<SqliteStore, StoreError> {
        let name = shown(path.as_ref());
        let error = |error| failed(&name, error);
        let mut connection = Connection::open_with_flags_and_vfs(&path, OpenFlags::default(), vfs).map_err(error)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(error)?;
        prepare(&mut connection, &name)?;
        SqliteStore::new(name, None, connection, None, None, Some(Lock::none()))
    }

    /// Opens an existing file for reading, also beside a running host. `commit` fails.
    ///
    /// # Errors
    /// `Damaged` when the file is not a store; `Failed` when it is not there.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        let path = path.as_ref();
        let (name, mark) = (shown(path), lock::mark(path));
        look(path, &name)?;
        let (first, second) = (reader(path).map_err(|error| failed(&name, error))?, reader(path));
        check_version(&first, &name)?;
        lock::check_mark(path, mark, last_order(&first).map_err(|error| failed(&name, error))?)?;
        SqliteStore::new(
            name.clone(),
            Some(path),
            first,
            Some(second.map_err(|error| failed(&name, error))?),
            None,
            None,
        )
    }

    fn new(
        path: String,
        file: Option<&Path>,
        connection: Connection,
        reader: Option<Connection>,
        scanner: Option<Connection>,
        lock: Option<Lock>,
    ) -> Result<SqliteStore, StoreError> {
        for connection in [Some(&connection), reader.as_ref(), scanner.as_ref()].into_iter().flatten() {
            connection.set_prepared_statement_cache_capacity(32);
            connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(|error| failed(&path, error))?;
        }
        let cids = rows(&connection, "SELECT did, cid FROM space", [], |row| Ok((did(row, 0)?, row.get(1)?)))
            .map_err(|error| failed(&path, error))?;
        let writer = Writer { connection, cids: cids.into_iter().collect() };
        let (reader, scanner) = (reader.map(Mutex::new), scanner.map(Mutex::new));
        let (file, lock) = (file.map(Path::to_owned), Mutex::new(lock));
        Ok(SqliteStore { path, file, writer: Mutex::new(writer), reader, scanner, lock })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Lock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads much, beside those who look something up.
    fn scan<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let Some(scanner) = &self.scanner else { return self.read(work) };
        let result = work(&scanner.lock().unwrap_or_else(PoisonError::into_inner));
        result.map_err(|error| failed(&self.path, error))
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let result = match &self.reader {
            Some(reader) => work(&reader.lock().unwrap_or_else(PoisonError::into_inner)),
            None => work(&self.writer().connection),
        };
        result.map_err(|error| failed(&self.path, error))
    }
}

/// Opens the file for reading. A host killed while it made the store has left a rollback journal, which SQLite undoes
/// before it reads anything: that takes a connection that may write.
fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let is_half_made = lock::beside(path, "-journal").exists();
    let flags = if is_half_made { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    Connection::open_with_flags(path, flags)
}

/// Looks at the store that is there before anything is changed in it: what is refused stays as it was found. Returns
/// the number of its last commit, 0 for none.
fn look(path: &Path, name: &str) -> Result<u64, StoreError> {
    let is_empty = |path: &Path| std::fs::metadata(path).map_or(true, |file| file.len() == 0);
    if is_empty(path) {
        return Ok(0);
    }
    let error = |error| failed(name, error);
    // Without a log beside it the file is all there is. SQLite would make files beside it just to read it.
    let is_alone = path.is_file() && is_empty(&lock::beside(path, "-wal")) && is_empty(&lock::beside(path, "-journal"));
    let connection = if is_alone { alone(path) } else { reader(path) }.map_err(error)?;
    if !has_tables(&connection).map_err(error)? {
        return Ok(0);
    }
    check_version(&connection, name)?;
    last_order(&connection).map_err(error)
}

/// Opens a file that nothing belongs to and nobody writes, for reading; leaves no file beside it.
fn alone(path: &Path) -> rusqlite::Result<Connection> {
    use std::{fmt::Write, os::unix::ffi::OsStrExt};
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => uri.push(char::from(*byte)),
            _ => drop(write!(uri, "%{byte:02x}")),
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri + "?immutable=1", flags)
}

/// Checks that nobody else can read the file: what is in the cells is its owner's.
fn check_mode(path: &Path, name: &str) -> Result<(), StoreError> {
    let file = std::fs::metadata(path).ok().filter(|file| file.is_file());
    let mode = file.map_or(0, |file| file.permissions().mode() & 0o777);
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreError::Readable { path: name.to_owned(), mode }) }
}

/// Returns whether anything was ever stored: a host may have been killed before.
fn has_tables(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) > 0 FROM sqlite_schema", [], |row| row.get(0))
}

fn prepare(connection: &mut Connection, path: &str) -> Result<(), StoreError> {
    // To the last row: the switch is written after the row that says `wal`. When it cannot be made, there is an
    // error, or a row with another mode.
    let mode = rows(connection, "PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
    if mode.map_err(|error| failed(path, error))? != ["wal"] {
        return Err(StoreError::Failed(format!("{path}: its file system does not allow a write-ahead log")));
    }
    // A process that was killed may have left writes that were never synced, or whose sync failed. They can be read,
    // so what they say may leave the host next: write and sync them anew first (T8).
    let synced = || -> rusqlite::Result<bool> {
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            let (written, moved): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(moved >= written)
        })
    };
    if !synced().map_err(|error| failed(path, error))? {
        return Err(StoreError::Failed(format!("{path}: somebody is reading it: open it again when they are done")));
    }
    let setup = |connection: &mut Connection| -> rusqlite::Result<()> {
        if !has_tables(connection)? {
            let transaction = connection.transaction()?;
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        Ok(())
    };
    setup(connection).map_err(|error| failed(path, error))?;
    check_version(connection, path)
}

fn check_version(connection: &Connection, path: &str) -> Result<(), StoreError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = pragma("application_id").map_err(|error| failed(path, error))?;
    let version = pragma("user_version").map_err(|error| failed(path, error))?;
    if application != APPLICATION_ID {
        return Err(damaged(path, "not a charm store".to_owned()));
    }
    if version != VERSION {
        return Err(damaged(path, format!("store format {version}, this host reads {VERSION}: use a matching host")));
    }
    Ok(())
}

/// Returns the number of the last commit.
fn last_order(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row("SELECT coalesce(max(g), 0) FROM log", [], |row| row.get::<_, i64>(0))
        .map(|order| order as u64)
}

fn damaged(path: &str, why: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), why }
}

fn failed(path: &str, error: rusqlite::Error) -> StoreError {
    let text = crate::text::clip(&error.to_string(), 256).into_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
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
    Ok(SpaceRow { did: did(row, 0)?, name: row.get(1)?, seq: row.get::<_, i64>(2)? as u64, head: row.get(3)?, notes })
}

fn cell_row(row: &Row<'_>) -> rusqlite::Result<CellRow> {
    let bytes: Option<Vec<u8>> = row.get(4)?;
    let value = bytes.map(|bytes| Value::from_bytes(&bytes, usize::MAX, VALUE_DEPTH_MAX)).transpose();
    Ok(CellRow {
        space: did(row, 0)?,
        name: row.get::<_, String>(1)?.into(),
        order: row.get::<_, i64>(2)? as u64,
        seq: row.get::<_, i64>(3)? as u64,
        value: value.map_err(|_| bad(4))?,
    })
}

fn log_entry(row: &Row<'_>) -> rusqlite::Result<LogEntry> {
    Ok(LogEntry {
        order: row.get::<_, i64>(0)? as u64,
        space: did(row, 1)?,
        seq: row.get::<_, i64>(2)? as u64,
        record: row.get::<_, Vec<u8>>(3)?.into(),
        signature: row.get(4)?,
    })
}

fn queued(row: &Row<'_>) -> rusqlite::Result<Queued> {
    Ok(Queued { position: row.get::<_, i64>(0)? as u64, event: frame(row, 1)? })
}

fn receipt_row(row: &Row<'_>) -> rusqlite::Result<ReceiptRow> {
    let name: String = row.get(1)?;
    let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == name).ok_or_else(|| bad(1))?;
    let receipt = Receipt {
        id: EventId(row.get(0)?),
        outcome,
        commit: row.get::<_, Option<i64>>(2)?.map(|seq| seq as u64),
        message: row.get(3)?,
    };
    Ok(ReceiptRow { receipt, sender: did(row, 4)?, to: did(row, 5)?, digest: row.get(6)? })
}

impl Store for SqliteStore {
    fn load(&self, fresh_secret: Option<[u8; 32]>) -> Result<Image, StoreError> {
        if let Some(fresh_secret) = fresh_secret {
            self.writer()
                .connection
                .execute(
                    "INSERT OR IGNORE INTO meta VALUES ('secret', ?1), ('position', ?2)",
                    params![fresh_secret, 0u64.to_be_bytes()],
                )
                .map_err(|error| failed(&self.path, error))?;
        }
        self.scan(|connection| {
            // One picture, also beside a host that commits meanwhile.
            let _picture = connection.unchecked_transaction()?;
            let meta = |name: &str| {
                connection
                    .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get::<_, Vec<u8>>(0))
                    .optional()
            };
            let secret = meta("secret")?.unwrap_or_else(|| vec![0; 32]);
            let position = meta("position")?.unwrap_or_else(|| vec![0; 8]);
            Ok(Image {
                secret: secret.try_into().map_err(|_| bad(0))?,
                position: u64::from_be_bytes(position.try_into().map_err(|_| bad(0))?),
                order: last_order(connection)?,
                spaces: rows(
                    connection,
                    "SELECT did, name, seq, head, paused, chain, dropped FROM space ORDER BY cid",
                    [],
                    space_row,
                )?,
                cells: rows(
                    connection,
                    "SELECT did, cell.name, g, cell.seq, value FROM cell JOIN space USING (cid)",
                    [],
                    cell_row,
                )?,
                queued: rows(connection, "SELECT position, event FROM queue ORDER BY position", [], queued)?,
                dead: rows(connection, "SELECT receiver, position FROM dead ORDER BY position", [], |row| {
                    Ok((did(row, 0)?, row.get::<_, i64>(1)? as u64))
                })?,
            })
        })
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.lock().is_none() {
            return Err(StoreError::Failed(format!("{}: not open for writing", self.path)));
        }
        let mut writer = self.writer();
        let Writer { connection, cids } = &mut *writer;
        let added: Vec<Did> = batch.spaces.iter().map(|row| row.did).filter(|did| !cids.contains_key(did)).collect();
        let mut work = || -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            write(&transaction, cids, batch)?;
            transaction.commit()
        };
        let result = work().map_err(|error| failed(&self.path, error));
        if result.is_err() {
            // Nothing of the batch remains, so neither do the row numbers of its spaces.
            cids.retain(|did, _| !added.contains(did));
        } else if let (Some(last), Some(lock)) = (batch.log.last(), &*self.lock()) {
            lock.mark(last.order);
        }
        result
    }

    fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    fn close(&self) {
        *self.lock() = None;
    }

    fn receipt(&self, id: &EventId) -> Result<Option<ReceiptRow>, StoreError> {
        let sql = "SELECT id, outcome, seq, message, sender, receiver, digest FROM receipt WHERE id = ?1";
        self.read(|connection| connection.prepare_cached(sql)?.query_row([id.0], receipt_row).optional())
    }

    fn receipts(&self, after: Option<&EventId>, max: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        // No id is shorter than the empty one.
        let after = after.map_or(&[][..], |id| &id.0);
        let sql = "SELECT id, outcome, seq, message, sender, receiver, digest FROM receipt
                   WHERE id > ?1 ORDER BY id LIMIT ?2";
        self.scan(|connection| rows(connection, sql, params![after, max as i64], receipt_row))
    }

    fn entry(&self, order: u64) -> Result<Option<LogEntry>, StoreError> {
        let sql = "SELECT g, did, log.seq, record, signature FROM log JOIN space USING (cid) WHERE g = ?1";
        self.read(|connection| connection.prepare_cached(sql)?.query_row([order as i64], log_entry).optional())
    }

    fn log(&self, space: Option<&Did>, after: u64, max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let sql = "SELECT g, did, log.seq, record, signature FROM log JOIN space USING (cid)
                   WHERE g > ?1 AND (?2 IS NULL OR did = ?2) ORDER BY g LIMIT ?3";
        let space = space.map(|space| space.public_key().to_vec());
        self.scan(|connection| rows(connection, sql, params![after as i64, space, max as i64], log_entry))
    }

    fn dead_letter(&self, position: u64) -> Result<Option<DeadLetter>, StoreError> {
        let sql = "SELECT letter FROM dead WHERE position = ?1";
        self.read(|connection| {
            connection.prepare_cached(sql)?.query_row([position as i64], |row| frame(row, 0)).optional()
        })
    }
}

fn write(transaction: &Transaction<'_>, cids: &mut HashMap<Did, i64>, batch: &Batch) -> rusqlite::Result<()> {
    for row in &batch.spaces {
        transaction
            .prepare_cached("INSERT INTO space (did, name, seq, head) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![row.did.public_key(), row.name, row.seq as i64, row.head])?;
        cids.insert(row.did, transaction.last_insert_rowid());
    }
    let cid = |did: &Did| cids.get(did).copied().ok_or_else(|| bad(0));
    let mut log = transaction.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for entry in &batch.log {
        log.execute(params![
            entry.order as i64,
            cid(&entry.space)?,
            entry.seq as i64,
            &entry.record[..],
            entry.signature
        ])?;
    }
    let mut head = transaction.prepare_cached("UPDATE space SET seq = ?2, head = ?3 WHERE cid = ?1")?;
    for (did, seq, hash) in &batch.heads {
        head.execute(params![cid(did)?, *seq as i64, hash])?;
    }
    let mut noted =
        transaction.prepare_cached("UPDATE space SET paused = ?2, chain = ?3, dropped = ?4 WHERE cid = ?1")?;
    for (did, Notes { paused, chain, dropped }) in &batch.notes {
        noted.execute(params![cid(did)?, paused, *chain as i64, *dropped as i64])?;
    }
    let mut cell = transaction.prepare_cached("INSERT OR REPLACE INTO cell VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for row in &batch.cells {
        let value = row.value.as_ref().map(Value::as_bytes);
        cell.execute(params![cid(&row.space)?, &row.name[..], row.order as i64, row.seq as i64, value])?;
    }
    let mut queue = transaction.prepare_cached("INSERT INTO queue VALUES (?1, ?2)")?;
    for queued in &batch.queued {
        queue.execute(params![queued.position as i64, blob(&queued.event)])?;
    }
    let mut taken = transaction.prepare_cached("DELETE FROM queue WHERE position = ?1")?;
    for position in &batch.taken {
        taken.execute([*position as i64])?;
    }
    let mut receipt = transaction.prepare_cached("INSERT INTO receipt VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for row in &batch.receipts {
        let Receipt { id, outcome, commit, message } = &row.receipt;
        let seq = commit.map(|seq| seq as i64);
        let (sender, to) = (row.sender.public_key(), row.to.public_key());
        receipt.execute(params![id.0, outcome.name(), seq, message, sender, to, row.digest])?;
    }
    let mut dead = transaction.prepare_cached("INSERT INTO dead VALUES (?1, ?2, ?3)")?;
    for letter in &batch.dead {
        dead.execute(params![letter.position as i64, letter.event.to.public_key(), blob(letter)])?;
    }
    let mut bury = transaction.prepare_cached("DELETE FROM dead WHERE position = ?1")?;
    for position in &batch.buried {
        bury.execute([*position as i64])?;
    }
    if let Some(position) = batch.position {
        transaction
            .prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'position'")?
            .execute([position.to_be_bytes()])?;
    }
    Ok(())
}
