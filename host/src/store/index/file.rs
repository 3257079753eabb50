//! Opening the file: looked at before anything is changed in it, made ready for one host.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

use super::{damaged, failed, rows};
use crate::{
    limits::STORE_LOCKED_MS,
    store::{StoreError, lock},
};

const APPLICATION_ID: i64 = 0x6368_6172; // "char"
const VERSION: i64 = 4;
const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE space (cid INTEGER PRIMARY KEY, did BLOB NOT NULL UNIQUE, name TEXT NOT NULL,
                        seq INTEGER NOT NULL, head BLOB NOT NULL, signed INTEGER, signature BLOB, paused INTEGER NOT NULL DEFAULT 0,
                        chain INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0,
                        letters_dropped INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE TABLE log (g INTEGER PRIMARY KEY, cid INTEGER NOT NULL, seq INTEGER NOT NULL, record BLOB NOT NULL,
                      position INTEGER NOT NULL, taken INTEGER, late INTEGER, seal BLOB) STRICT;
    CREATE UNIQUE INDEX log_by_space ON log (cid, seq);
    CREATE TABLE cell (cid INTEGER NOT NULL, name TEXT NOT NULL, g INTEGER NOT NULL, seq INTEGER NOT NULL,
                       value BLOB, PRIMARY KEY (cid, name)) STRICT, WITHOUT ROWID;
    CREATE TABLE queue (position INTEGER PRIMARY KEY, event BLOB NOT NULL) STRICT;
    CREATE TABLE receipt (id BLOB PRIMARY KEY, outcome TEXT NOT NULL, seq INTEGER, message TEXT,
                          sender BLOB NOT NULL, receiver BLOB NOT NULL, digest BLOB) STRICT, WITHOUT ROWID;
    CREATE TABLE dead (position INTEGER PRIMARY KEY, receiver BLOB NOT NULL, id BLOB NOT NULL UNIQUE,
                       letter BLOB NOT NULL) STRICT;
    CREATE INDEX dead_by_receiver ON dead (receiver, position);
    CREATE TABLE kept (did BLOB PRIMARY KEY, kept BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// Sets what every connection has: how long it waits for a lock of another program.
pub fn equip(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(32);
    connection.busy_timeout(Duration::from_millis(STORE_LOCKED_MS))
}

/// Returns the connection that is there, or a new one.
pub fn again<'a>(place: &'a mut Option<Connection>, file: &Path) -> rusqlite::Result<&'a Connection> {
    if place.is_none() {
        let connection = reader(file)?;
        equip(&connection)?;
        *place = Some(connection);
    }
    place.as_ref().ok_or(rusqlite::Error::InvalidQuery)
}

/// Opens the file for reading. A host killed while it made the store has left a rollback journal, which SQLite undoes
/// before it reads anything: that takes a connection that may write.
pub fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let is_half_made = lock::beside(path, "-journal").exists();
    let flags = if is_half_made { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    Connection::open_with_flags(path, flags)
}

/// Looks at the store that is there before anything is changed in it: what is refused stays as it was found. Returns
/// the number of its last commit, 0 for none.
pub fn look(path: &Path, name: &str) -> Result<u64, StoreError> {
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
pub fn alone(path: &Path) -> rusqlite::Result<Connection> {
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
pub fn check_mode(path: &Path, name: &str) -> Result<(), StoreError> {
    let file = std::fs::metadata(path).ok().filter(|file| file.is_file());
    let mode = file.map_or(0, |file| file.permissions().mode() & 0o777);
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreError::Readable { path: name.to_owned(), mode }) }
}

/// Returns whether anything was ever stored: a host may have been killed before.
pub fn has_tables(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) > 0 FROM sqlite_schema", [], |row| row.get(0))
}

pub fn prepare(connection: &mut Connection, path: &str) -> Result<(), StoreError> {
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

pub fn check_version(connection: &Connection, path: &str) -> Result<(), StoreError> {
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
pub fn last_order(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row("SELECT coalesce(max(g), 0) FROM log", [], |row| row.get::<_, i64>(0))
        .map(|order| order as u64)
}
