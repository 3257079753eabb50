//! Hosts: in memory, and in a folder that outlives them.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use charm_host::{Compiler, FileKeyring, FolderStore, Host, HostBuilder, Limits};
use tempfile::TempDir;

use crate::target;

/// Returns what to build a host from: everything in memory, compiled components shared by all tests. A turn that a test holds
/// is not stopped because the machine is slow.
pub fn builder() -> HostBuilder {
    crate::Logs::start();
    quiet_builder()
}

/// As [`builder`], for a process that has a subscriber of its own.
pub fn quiet_builder() -> HostBuilder {
    // Absolute: the engine's cache refuses relative folders.
    let folder = std::fs::canonicalize(target()).unwrap().join("test-code");
    let limits = Limits { compute_ms_max: 60_000, ..Limits::default() };
    Host::builder().code_cache(folder).compiler(Compiler::InProcess).limits(limits)
}

/// Opens a host in memory.
pub async fn host() -> Host {
    builder().open().await.unwrap()
}

/// Copies a store that nobody runs to where nothing is yet.
pub fn copy_store(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy_store(&entry.path(), &target),
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), target).unwrap()),
            _ => {}
        }
    }
}

/// Returns every file below a folder, with what is in it.
///
/// # Panics
/// When one of them cannot be read.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// Returns the files below a folder that contain a word.
///
/// # Panics
/// When a folder cannot be read.
pub fn files_with(folder: &Path, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_with(&entry.path(), word));
        } else if let Ok(bytes) = std::fs::read(entry.path()) {
            let has = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            found.extend(has.then(|| entry.path().display().to_string()));
        }
    }
    found
}

/// A folder with a store on disk and a key file per DID: hosts come and go on it.
pub struct Home {
    folder: TempDir,
}

impl Default for Home {
    fn default() -> Home {
        Home { folder: tempfile::tempdir().unwrap() }
    }
}

impl Home {
    /// Returns the folder of the key files.
    pub fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// Returns the store.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Returns the file of the store's index.
    pub fn index(&self) -> PathBuf {
        self.store().join("index.db")
    }

    /// Opens the store for reading.
    ///
    /// # Panics
    /// When it is none.
    pub fn read_only(&self) -> FolderStore {
        FolderStore::open_read_only(self.store()).unwrap()
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns what to build a host on this folder from.
    pub async fn builder(&self) -> HostBuilder {
        let store = self.reopened().await;
        builder().store(store).keyring(FileKeyring::open(self.keys()).unwrap())
    }

    /// Opens a host on this folder, again or for the first time.
    pub async fn open(&self) -> Host {
        self.builder().await.open().await.unwrap()
    }

    /// Opens the store. A host that was dropped lets go of it when its last task has ended: a moment later.
    async fn reopened(&self) -> FolderStore {
        for _ in 0..1_000 {
            match FolderStore::open(self.store()) {
                Ok(store) => return store,
                Err(charm_host::StoreError::InUse { .. }) => {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the store is still open in the host before");
    }
}
