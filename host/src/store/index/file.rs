//! Opening the file: looked at before anything is changed in it, made ready for one host.

use std::{os::unix::fs::MetadataExt, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

use super::{damaged, failed, rows};
use crate::{
    limits::STORE_LOCKED_MS,
    store::{StoreError, lock},
};

const APPLICATION_ID: i64 = 0x6368_6172; // "char"
const VERSION: i64 = 8;
pub const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE space (cid INTEGER PRIMARY KEY, did BLOB NOT NULL UNIQUE, name TEXT NOT NULL,
                        seq INTEGER NOT NULL, head BLOB NOT NULL, signed INTEGER, signature BLOB, paused INTEGER NOT NULL DEFAULT 0,
                        chain INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0,
                        letters_dropped INTEGER NOT NULL DEFAULT 0, component BLOB, rights BLOB,
                        history INTEGER NOT NULL DEFAULT 0,
                        floor INTEGER NOT NULL DEFAULT 0, floor_g INTEGER NOT NULL DEFAULT 0, floor_at INTEGER NOT NULL DEFAULT 0,
                        point INTEGER NOT NULL DEFAULT 0, point_at INTEGER NOT NULL DEFAULT 0,
                        receipts_floor INTEGER NOT NULL DEFAULT 0) STRICT;
    CREATE TABLE log (g INTEGER PRIMARY KEY, cid INTEGER NOT NULL, seq INTEGER NOT NULL, record BLOB NOT NULL,
                      position INTEGER NOT NULL, taken INTEGER, late INTEGER, seal BLOB) STRICT;
    CREATE UNIQUE INDEX log_by_space ON log (cid, seq);
    CREATE INDEX log_by_event ON log (taken) WHERE taken IS NOT NULL;
    CREATE TABLE cell (cid INTEGER NOT NULL, name TEXT NOT NULL, g INTEGER NOT NULL, seq INTEGER NOT NULL,
                       value BLOB NOT NULL, PRIMARY KEY (cid, name)) STRICT, WITHOUT ROWID;
    CREATE TABLE past (cid INTEGER NOT NULL, name TEXT NOT NULL, g INTEGER NOT NULL, seq INTEGER NOT NULL,
                       value BLOB NOT NULL, PRIMARY KEY (cid, name)) STRICT, WITHOUT ROWID;
    CREATE TABLE edit (cid INTEGER NOT NULL, name TEXT NOT NULL, g INTEGER NOT NULL, seq INTEGER NOT NULL,
                       since INTEGER NOT NULL, edits BLOB NOT NULL, PRIMARY KEY (cid, name, g)) STRICT, WITHOUT ROWID;
    CREATE TABLE queue (position INTEGER PRIMARY KEY, cid INTEGER NOT NULL, event BLOB NOT NULL) STRICT;
    CREATE TABLE turn (position INTEGER PRIMARY KEY, cid INTEGER NOT NULL, id BLOB NOT NULL, progress BLOB NOT NULL) STRICT;
    CREATE TABLE asked (position INTEGER PRIMARY KEY, requests BLOB NOT NULL) STRICT;
    CREATE TABLE recording (position INTEGER NOT NULL, number INTEGER NOT NULL, bytes BLOB NOT NULL,
                            PRIMARY KEY (position, number)) STRICT;
    CREATE TABLE receipt (id BLOB PRIMARY KEY, outcome TEXT NOT NULL, seq INTEGER, message TEXT,
                          sender BLOB NOT NULL, receiver BLOB NOT NULL, digest BLOB, cid INTEGER NOT NULL,
                          at INTEGER NOT NULL, time INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX receipt_by_commit ON receipt (cid, at);
    CREATE TABLE dead (position INTEGER PRIMARY KEY, receiver BLOB NOT NULL, id BLOB NOT NULL UNIQUE,
                       letter BLOB NOT NULL) STRICT;
    CREATE INDEX dead_by_receiver ON dead (receiver, position);
    CREATE TABLE component (hash BLOB PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
    CREATE TABLE kept (did BLOB PRIMARY KEY, kept BLOB NOT NULL) STRICT, WITHOUT ROWID;
";

/// Sets what every connection has: how long it waits for a lock of another program.
pub fn equip(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(32);
    connection.busy_timeout(Duration::from_millis(STORE_LOCKED_MS))
}

/// A connection that reads.
pub struct Opened {
    pub connection: Connection,
    /// What the file was when it was opened as one that nobody changes; none where SQLite looks after that.
    pub stamp: Option<Stamp>,
}

impl Opened {
    /// Returns one that reads beside whoever writes.
    pub fn shared(connection: Connection) -> Opened {
        Opened { connection, stamp: None }
    }
}

/// What changes with a file that nothing belongs to: then there is no log beside it, and the file alone is all there is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp([i64; 6]);

impl Stamp {
    /// Returns that of a file; none when there is none, or others belong to it.
    pub fn of(path: &Path) -> Option<Stamp> {
        let file = std::fs::metadata(path).ok().filter(|file| file.is_file() && file.len() > 0)?;
        let stamp =
            [file.ino() as i64, file.size() as i64, file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
        let is_alone = is_empty(&lock::beside(path, "-wal")) && is_empty(&lock::beside(path, "-journal"));
        is_alone.then_some(Stamp(stamp))
    }
}

/// Returns whether there is nothing in a file, or no file.
pub fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |file| file.len() == 0)
}

/// Returns the connection that is there, or a new one. A file that nobody writes is read without a file beside it, which
/// SQLite would make otherwise.
pub fn again<'a>(place: &'a mut Option<Opened>, file: &Path) -> rusqlite::Result<&'a Opened> {
    if place.is_none() {
        let stamp = Stamp::of(file);
        let connection = if stamp.is_some() { alone(file) } else { reader(file) }?;
        equip(&connection)?;
        *place = Some(Opened { connection, stamp });
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

/// Looks at the file before anything is changed in it: what is refused stays as it was found. Returns whether there is
/// anything in it.
pub fn look(path: &Path, name: &str) -> Result<bool, StoreError> {
    let error = |error| failed(name, error);
    if is_empty(path) {
        return Ok(false);
    }
    let mut place = None;
    let Opened { connection, .. } = again(&mut place, path).map_err(error)?;
    let has_tables = has_tables(connection).map_err(error)?;
    if has_tables {
        check_version(connection, name)?;
    }
    Ok(has_tables)
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

/// Returns whether anything was ever stored: a host may have been killed before.
pub fn has_tables(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) > 0 FROM sqlite_schema", [], |row| row.get(0))
}

/// Makes the tables unless they are there.
pub fn set_up(connection: &mut Connection) -> rusqlite::Result<()> {
    if !has_tables(connection)? {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Makes an index ready for its host. What is in it may never have been synced: all of it is in the journal too, until a
/// checkpoint has moved and synced it, so that `NORMAL` is enough. `OFF` would let a power cut damage it unseen.
pub fn prepare(connection: &mut Connection, path: &str) -> Result<(), StoreError> {
    // In a file with nothing in it: what is let go of later gives the disk its room back.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(|error| failed(path, error))?;
    let mode = rows(connection, "PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
    if mode.map_err(|error| failed(path, error))? != ["wal"] {
        return Err(StoreError::Failed(format!("{path}: its file system does not allow a write-ahead log")));
    }
    let paced = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // What has gone is in no file of the store (H1).
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)
    };
    paced().map_err(|error| failed(path, error))?;
    set_up(connection).map_err(|error| failed(path, error))?;
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
        let host = if version > VERSION { "the host that wrote it, or a later one" } else { "the host that wrote it" };
        return Err(damaged(
            path,
            format!("it is of version {version}, and this host reads version {VERSION}: use {host}"),
        ));
    }
    Ok(())
}

/// Returns the number of the last commit.
pub fn last_order(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .query_row("SELECT coalesce(max(g), 0) FROM log", [], |row| row.get::<_, i64>(0))
        .map(|order| order as u64)
}
