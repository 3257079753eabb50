//! Opening the index, and writing it behind the journal: in batches of its own, with the mark of the last group.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::{Index, Writer, bad, file, write};
use crate::{
    limits::FREE_PAGES_MAX,
    store::{
        StoreError,
        group::{Group, Mark},
        lock,
    },
};

/// What a checkpoint came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// All that was written is in the file, synced.
    All,
    /// Somebody reads what is not.
    Some,
}

impl Index {
    /// Opens the index of a store for its host, making it when it is not there. `name` is how it is shown.
    ///
    /// # Errors
    /// `Locked`; `Damaged`; `Full`; `Failed`.
    pub fn open(path: &Path, name: &str) -> Result<Index, StoreError> {
        let error = |error| super::failed(name, error);
        file::look(path, name)?;
        lock::create(path).map_err(|error| lock::failed(name, &error))?;
        let mut connection = Connection::open(path).map_err(error)?;
        file::prepare(&mut connection, name)?;
        let reader = || file::reader(path).map_err(error);
        let (reader, scanner) = (reader()?, reader()?);
        Index::new(name.to_owned(), Some(path), connection, Some(reader), Some(scanner))
    }

    /// Opens the index of a store through a virtual file system of this process.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with_vfs(path: &Path, vfs: &str, name: &str) -> Result<Index, StoreError> {
        let error = |error| super::failed(name, error);
        let mut connection = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs).map_err(error)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(error)?;
        file::prepare(&mut connection, name)?;
        Index::new(name.to_owned(), None, connection, None, None)
    }

    /// Opens the index of a store for reading; one that is not there yet is an empty one.
    ///
    /// # Errors
    /// `Damaged`; `Failed`.
    pub fn open_read_only(path: &Path, name: &str) -> Result<Index, StoreError> {
        let error = |error| super::failed(name, error);
        if !file::look(path, name)? {
            let mut empty = Connection::open_in_memory().map_err(error)?;
            file::set_up(&mut empty).map_err(error)?;
            return Index::new(name.to_owned(), None, empty, None, None);
        }
        let index = Index::unopened(name, path);
        index.mark()?;
        Ok(index)
    }

    /// Returns the last group that it holds.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn mark(&self) -> Result<Mark, StoreError> {
        self.read(|connection| {
            let sql = "SELECT value FROM meta WHERE name = 'mark'";
            let bytes: Option<Vec<u8>> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
            bytes.map_or(Ok(Mark::default()), |bytes| Mark::from_bytes(&bytes).ok_or_else(|| bad(0)))
        })
    }

    /// Writes a copy of it, as of one moment, to a file that is not there; none when it is in memory.
    ///
    /// # Errors
    /// `Full`; `Damaged`; `Failed`.
    pub fn snapshot(&self, to: &Path) -> Result<(), StoreError> {
        let Some(file) = &self.file else { return Ok(()) };
        let name = crate::text::shown(to);
        loop {
            drop(lock::create(to).map_err(|error| lock::failed(&name, &error))?);
            let work = || -> rusqlite::Result<bool> {
                // One of its own: nobody waits for it.
                let mut place = None;
                let file::Opened { connection, stamp } = file::again(&mut place, file)?;
                let path = to.to_str().ok_or_else(|| bad(0))?;
                connection.execute("VACUUM INTO ?1", [path])?;
                Ok(stamp.is_none() || *stamp == file::Stamp::of(file))
            };
            match work().map_err(|error| super::failed(&self.path, error)) {
                Ok(true) => return Ok(()),
                // Somebody began to write it meanwhile.
                Ok(false) => std::fs::remove_file(to).map_err(|error| lock::failed(&name, &error))?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the number of the last commit in it.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn last_order(&self) -> Result<u64, StoreError> {
        self.read(file::last_order)
    }

    /// Returns the DIDs of all spaces.
    pub fn spaces(&self) -> Vec<crate::did::Did> {
        self.writer().cids.keys().copied().collect()
    }

    /// Writes what several groups made: all of it, with the last one's mark, or nothing.
    ///
    /// # Errors
    /// `Full` and `Locked` leave nothing behind and may be tried again, and so may others.
    pub fn apply(&self, group: &Group, mark: Mark) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let Writer { connection, cids, floors } = &mut *writer;
        let connection = connection.as_mut().ok_or_else(|| self.not_writable())?;
        let batch = &group.batch;
        let added: Vec<_> = batch.spaces.iter().map(|row| row.did).filter(|did| !cids.contains_key(did)).collect();
        let mut work = || -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            let once = "INSERT OR IGNORE INTO meta VALUES (?1, ?2)";
            if let Some(secret) = &group.secret {
                transaction.execute(once, params!["secret", secret])?;
            }
            transaction.execute(once, params!["position", 0u64.to_be_bytes()])?;
            write(&transaction, cids, floors, batch)?;
            transaction.execute("INSERT OR REPLACE INTO meta VALUES ('mark', ?1)", [mark.to_bytes()])?;
            transaction.commit()
        };
        work().map_err(|error| {
            // Nothing of it remains, so neither do the row numbers of its spaces.
            cids.retain(|did, _| !added.contains(did));
            super::failed(&self.path, error)
        })?;
        let cut = batch.cuts.iter().filter(|cut| cut.floor.seq > 0);
        floors.extend(cut.filter_map(|cut| Some((*cids.get(&cut.space)?, cut.floor.seq as i64))));
        Ok(())
    }

    /// Returns whether the file is all of it: there is nothing in a write-ahead log.
    pub fn is_alone(&self) -> bool {
        self.file.as_ref().is_none_or(|path| file::is_empty(&lock::beside(path, "-wal")))
    }

    /// Moves what is in the write-ahead log into the file, synced; `truncates` the log too if nobody reads.
    ///
    /// # Errors
    /// `Full`; `Failed`.
    pub fn checkpoint(&self, truncates: bool) -> Result<Moved, StoreError> {
        let writer = self.writer();
        let connection = writer.connection.as_ref().ok_or_else(|| self.not_writable())?;
        let sql = match truncates {
            true => "PRAGMA wal_checkpoint(TRUNCATE)",
            false => "PRAGMA wal_checkpoint(PASSIVE)",
        };
        let work = || -> rusqlite::Result<(i64, i64)> {
            let free: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
            if free > FREE_PAGES_MAX {
                // A row for each page.
                let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({FREE_PAGES_MAX})"))?;
                let mut pages = vacuum.query([])?;
                while pages.next()?.is_some() {}
            }
            // Whoever reads is not waited for: the next one will do.
            connection.busy_timeout(std::time::Duration::ZERO)?;
            let done = connection.query_row(sql, [], |row| Ok((row.get(1)?, row.get(2)?)));
            file::equip(connection)?;
            done
        };
        match work().map_err(|error| super::failed(&self.path, error)) {
            Ok((written, moved)) => Ok(if moved >= written { Moved::All } else { Moved::Some }),
            Err(StoreError::Locked { .. }) => Ok(Moved::Some),
            Err(error) => Err(error),
        }
    }
}
