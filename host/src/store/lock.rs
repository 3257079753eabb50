//! The file `lock` of a store: it keeps other hosts out, and remembers which group of the journal was durable last.
//!
//! The mark is written after the store's sync and never synced itself, so it may be behind after a power cut and is
//! never ahead. A store that ends before its mark has lost something: its end was damaged, or it is an older copy.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Read,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::StoreError;
use crate::text::shown;

/// Bytes of the mark: the number in 20 digits, a space, the same again, a newline.
const MARK: usize = 42;

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
///
/// # Errors
/// `Damaged` when a later host has written it; `Failed`.
pub fn mark(path: &Path) -> Result<u64, StoreError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MARK as u64 + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(failed(&shown(path), &error)),
        Ok(_) => number(&bytes).ok_or_else(|| StoreError::Damaged {
            path: shown(path),
            why: "it holds what this host does not write there: use the host that wrote it, or a later one".to_owned(),
        }),
    }
}

/// Reads a mark: 0 for what a crash may have left of one, which is short, or two halves, or has zeros for what never reached
/// the disk; none for anything else.
fn number(bytes: &[u8]) -> Option<u64> {
    let fits = |(at, byte): (usize, &u8)| match (at, byte) {
        (_, 0) | (20, b' ') | (41, b'\n') => true,
        (20 | 41, _) => false,
        (_, digit) => digit.is_ascii_digit(),
    };
    if bytes.len() > MARK || !bytes.iter().enumerate().all(fits) {
        return None;
    }
    let is_whole = bytes.len() == MARK && !bytes.contains(&0) && bytes[..20] == bytes[21..41];
    if is_whole { std::str::from_utf8(&bytes[..20]).ok()?.parse().ok() } else { Some(0) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_anything_else_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        assert!(matches!(mark(&path), Ok(0)), "missing");
        let lock = Lock::take(&path, "a store").expect("a lock");
        assert!(matches!(mark(&path), Ok(0)), "empty");
        for number in [0, 7, u64::MAX] {
            lock.mark(number);
            assert!(matches!(mark(&path), Ok(found) if found == number));
        }
        let seven = std::fs::read_to_string(&path).expect("read");
        let nines = "9".repeat(20);
        for later in
            [format!("{seven}more"), format!("{nines} {nines}\n"), "7 7\n".into(), "{}".into(), "\u{e9}".into()]
        {
            std::fs::write(&path, &later).expect("written");
            let why = mark(&path).expect_err(&later).to_string();
            assert!(why.contains("/lock: ") && why.ends_with("use the host that wrote it, or a later one"), "{why}");
        }
        assert!(matches!(mark(folder.path()), Err(StoreError::Failed(_))), "what cannot be read is not nothing");
    }

    /// One write over another, torn at any byte, with the rest as it was, as zeros or missing: it is no mark, and the store
    /// opens.
    #[test]
    fn a_mark_that_a_crash_tore_is_none() {
        let bytes = |number: u64| format!("{number:020} {number:020}\n").into_bytes();
        let (old, new) = (bytes(1_099), bytes(1_100));
        for at in 1..MARK {
            for rest in [&old[at..], &vec![0; MARK - at], &[]] {
                let torn = [&new[..at], rest].concat();
                let expected = if torn == old {
                    1_099
                } else if torn == new {
                    1_100
                } else {
                    0
                };
                assert_eq!(number(&torn), Some(expected), "{at}");
            }
        }
        assert_eq!((number(&[0; MARK]), number(&new)), (Some(0), Some(1_100)));
    }
}
