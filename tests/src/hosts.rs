//! Hosts: in memory, and in a folder that outlives them.

use std::path::{Path, PathBuf};

use charm_host::{Compiler, FileKeyring, Host, HostBuilder, SqliteStore};
use tempfile::TempDir;

use crate::target;

/// Returns what to build a host from: everything in memory, compiled components shared by all tests.
pub fn builder() -> HostBuilder {
    crate::Logs::start();
    // Absolute: the engine's cache refuses relative folders.
    let folder = std::fs::canonicalize(target()).unwrap().join("test-code");
    Host::builder().code_cache(folder).compiler(Compiler::InProcess)
}

/// Opens a host in memory.
pub async fn host() -> Host {
    builder().open().await.unwrap()
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

    /// Returns the store's file.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store.db")
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
    async fn reopened(&self) -> SqliteStore {
        for _ in 0..1_000 {
            match SqliteStore::open(self.store()) {
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
