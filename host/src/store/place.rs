//! Which folder a store is, however it is spelled, and what is in it.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{StoreError, lock};
use crate::text::shown;

/// The folder of the journal.
pub const JOURNAL: &str = "journal";
/// The index.
pub const INDEX: &str = "index.db";
/// The lock, with the number of the last durable group.
pub const LOCK: &str = "lock";
/// What guests are on a thread for.
pub const RUNNING: &str = "running";
/// What processes have died under.
pub const SUSPECTS: &str = "suspects";
/// Where a running host listens, if its embedder makes it.
pub const SOCKET: &str = "socket";
/// Ending of a folder that becomes a store when all of it is there.
pub const PART: &str = "part";

/// Links that are followed to a file that is not there yet, as many as the operating system follows.
const LINKS_MAX: usize = 40;

/// Returns the one path of a store that is there or may come: absolute, without links, whatever the name begins with.
pub fn locate(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match fs::read_link(&path) {
            Ok(target) => path = folder.join(target),
            Err(_) => {
                let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
                return match fs::canonicalize(folder) {
                    Ok(folder) => Ok(folder.join(name)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(&path),
                    Err(error) => Err(error),
                };
            }
        }
    }
    Err(io::ErrorKind::InvalidFilename.into())
}

/// Makes the folder of a store, for its owner alone.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Checks that nobody else can look into the folder: what is in the cells is its owner's.
///
/// # Errors
/// `Readable`.
pub fn check_mode(folder: &Path, name: &str) -> Result<(), StoreError> {
    let found = fs::metadata(folder).ok().filter(fs::Metadata::is_dir);
    let mode = found.map_or(0, |found| found.permissions().mode() & 0o777);
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreError::Readable { path: name.to_owned(), mode }) }
}

/// Checks that what is there is a store, or nothing yet. Returns whether nobody has made one there.
///
/// # Errors
/// `Damaged`; `Failed`.
pub fn check_folder(folder: &Path, name: &str) -> Result<bool, StoreError> {
    let damaged = |why: &str| Err(StoreError::Damaged { path: name.to_owned(), why: why.to_owned() });
    if folder.extension().is_some_and(|extension| extension == PART) {
        return damaged("a backup that did not come to its end: remove it");
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory && folder.is_file() => {
            let mut head = [0; 16];
            let is_database = fs::File::open(folder).and_then(|mut file| file.read_exact(&mut head)).is_ok();
            return damaged(if is_database && head == *b"SQLite format 3\0" {
                "a file: stores of format 3 and before were one, this host reads folders: use a matching host"
            } else {
                "not a charm store: a file, and a store is a folder"
            });
        }
        Err(error) => return Err(lock::failed(name, &error)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let names = names.map_err(|error| lock::failed(name, &error))?;
    if names.iter().any(|name| name == JOURNAL || name == INDEX) {
        return Ok(false);
    }
    match names.iter().find(|name| *name != LOCK && *name != SOCKET) {
        Some(other) => damaged(&format!("not a charm store: it holds {}", shown(Path::new(other)))),
        None => Ok(true),
    }
}
