//! The file `lock` of a store: it keeps other hosts out, and remembers which group of the journal was durable last.
//!
//! The mark is written after the store's sync and never synced itself, so it may be behind after a power cut and is
//! never ahead. A store that ends before its mark has lost something: its end was damaged, or it is an older copy.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::StoreError;
use crate::text::shown;

/// The lock of one host.
pub struct Lock {
    /// None where the store keeps others out by itself.
    file: Option<File>,
}

/// Opens a file for reading and writing, making it for its owner alone: cells hold tokens.
pub fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// Returns the file beside a store whose name has `ending` after the store's.
pub fn beside(store: &Path, ending: &str) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Returns the error of a file.
pub fn failed(name: &str, error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull => StoreError::Full,
        _ => StoreError::Failed(format!("{name}: {error}")),
    }
}

impl Lock {
    /// Returns a lock of nothing.
    pub fn none() -> Lock {
        Lock { file: None }
    }

    /// Takes the lock of a store, which is this file; `name` is how the store is shown.
    ///
    /// # Errors
    /// `InUse`, `Failed`.
    pub fn take(path: &Path, name: &str) -> Result<Lock, StoreError> {
        let error = |error| failed(&shown(path), &error);
        let file = create(path).map_err(error)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: name.to_owned() }),
            Err(TryLockError::Error(why)) => Err(error(why)),
        }
    }

    /// Notes that group `number` is durable. A note that fails is one that is behind.
    pub fn mark(&self, number: u64) {
        if let Some(file) = &self.file {
            // Twice, so that half of it is no mark. Always as long, so that it needs no space but the first time.
            let _ = file.write_all_at(format!("{number:020} {number:020}\n").as_bytes(), 0);
        }
    }

    /// Makes the last mark durable: whoever copies the store from here on copies it too.
    ///
    /// # Errors
    /// `Failed`.
    pub fn sync(&self) -> Result<(), StoreError> {
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_data);
        synced.map_err(|error| StoreError::Failed(format!("the mark in the file lock: {error}")))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is just being started may still hold a copy of it.
        let _ = self.file.take().map(|file| file.unlock());
    }
}

/// Returns the last group that is known to have been durable, 0 for none. To be read before the journal is.
pub fn mark(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (first, second) = text.trim_end().split_once(' ').unwrap_or_default();
    if first == second { first.parse().unwrap_or(0) } else { 0 }
}

/// Checks that the journal of a store ends no earlier than its mark.
///
/// # Errors
/// `Damaged`.
pub fn check_mark(name: &str, mark: u64, end: u64) -> Result<(), StoreError> {
    if end >= mark {
        return Ok(());
    }
    let found = if end == 0 { "its journal is empty".to_owned() } else { format!("its journal ends at group {end}") };
    let why = format!(
        "{found}, and group {mark} was durable here: it is damaged, gone or an older copy; to go on with what is there, such as \
         a restored backup, remove the file lock in it"
    );
    Err(StoreError::Damaged { path: name.to_owned(), why })
}
