//! Secret keys (I1): a trait, so that an embedder can keep them in hardware, and one file per DID.

use std::{
    collections::HashMap,
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

use crate::{did::Did, text::shown};

/// What a keyring refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is no key for that DID.
    #[error("no key for {did} in the keyring: restore its key file")]
    Missing {
        /// Whose.
        did: Did,
    },
    /// Others can read the file.
    #[error("key file {file} is readable by others (mode {mode:03o}): run chmod 600 on it")]
    Readable {
        /// The file.
        file: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Others can write in the folder.
    #[error("key folder {folder} is writable by others (mode {mode:03o}): run chmod 700 on it")]
    Writable {
        /// The folder.
        folder: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold the key that its name says.
    #[error("key file {file} does not hold the key of its name: restore it")]
    Malformed {
        /// The file.
        file: String,
    },
    /// The file system refused.
    #[error("key file {file}: {error}")]
    Io {
        /// The file or folder.
        file: String,
        /// Why.
        error: std::io::Error,
    },
}

/// Makes keys and signs with them. Secrets never leave it.
pub trait Keyring: Send + Sync + 'static {
    /// Makes a key from 32 bytes of fresh randomness and keeps it; returns its DID.
    ///
    /// # Errors
    /// When the key cannot be kept.
    fn create(&self, randomness: &Zeroizing<[u8; 32]>) -> Result<Did, KeyError>;

    /// Makes a key from each of these, and keeps all of them before it returns their DIDs in the same order. What many keys
    /// need only once is done once.
    ///
    /// # Errors
    /// When one cannot be kept: those made before it are, and belong to nobody.
    fn create_all(&self, randomness: &[Zeroizing<[u8; 32]>]) -> Result<Vec<Did>, KeyError> {
        randomness.iter().map(|randomness| self.create(randomness)).collect()
    }

    /// Returns whether there is a usable key for `did`.
    ///
    /// # Errors
    /// `Missing`, or why the key cannot be used.
    fn check(&self, did: &Did) -> Result<(), KeyError>;

    /// Signs `message` as `did`.
    ///
    /// # Errors
    /// As `check`.
    fn sign(&self, did: &Did, message: &[u8]) -> Result<[u8; 64], KeyError>;
}

fn did_of(key: &SigningKey) -> Result<Did, KeyError> {
    Did::from_public_key(key.verifying_key().to_bytes())
        .map_err(|_| KeyError::Malformed { file: "(new key)".to_owned() })
}

/// Keys in memory, gone with the process. For tests and throw-away hosts.
#[derive(Default)]
pub struct MemoryKeyring {
    /// Each at a place of its own: a map that grows moves what is in it, and leaves the bytes where they were.
    keys: Mutex<HashMap<Did, Box<SigningKey>>>,
}

impl MemoryKeyring {
    fn keys(&self) -> std::sync::MutexGuard<'_, HashMap<Did, Box<SigningKey>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keyring for MemoryKeyring {
    fn create(&self, randomness: &Zeroizing<[u8; 32]>) -> Result<Did, KeyError> {
        let key = Box::new(SigningKey::from_bytes(randomness));
        let did = did_of(&key)?;
        self.keys().insert(did, key);
        Ok(did)
    }

    fn check(&self, did: &Did) -> Result<(), KeyError> {
        if self.keys().contains_key(did) { Ok(()) } else { Err(KeyError::Missing { did: *did }) }
    }

    fn sign(&self, did: &Did, message: &[u8]) -> Result<[u8; 64], KeyError> {
        let keys = self.keys();
        let key = keys.get(did).ok_or(KeyError::Missing { did: *did })?;
        Ok(key.sign(message).to_bytes())
    }
}

/// Keys made together that are synced file by file; for more than that the whole file system is, once.
const SYNCED_ALONE_MAX: usize = 16;

/// One file per DID in a folder: `z6Mk….key`, mode 0600, 64 hexadecimal digits of seed and a newline.
///
/// Files are read at first use and then kept in memory, which is wiped when the keyring is dropped.
pub struct FileKeyring {
    folder: PathBuf,
    loaded: MemoryKeyring,
}

impl FileKeyring {
    /// Opens the folder, making it (mode 0700) when it is not there.
    ///
    /// # Errors
    /// `Writable` when others can write in the folder, `Io`.
    pub fn open(folder: impl Into<PathBuf>) -> Result<FileKeyring, KeyError> {
        let folder = folder.into();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| io(&folder, error))?;
        let mode = fs::metadata(&folder).map_err(|error| io(&folder, error))?.permissions().mode() & 0o777;
        // Others may list it; whoever can write in it could put other keys there.
        if mode & 0o022 != 0 {
            return Err(KeyError::Writable { folder: shown(&folder), mode });
        }
        Ok(FileKeyring { folder, loaded: MemoryKeyring::default() })
    }

    fn file(&self, did: &Did) -> PathBuf {
        let text = did.to_string();
        self.folder.join(format!("{}.key", text.trim_start_matches("did:key:")))
    }

    fn load(&self, did: &Did) -> Result<(), KeyError> {
        if self.loaded.check(did).is_ok() {
            return Ok(());
        }
        let path = self.file(did);
        let name = shown(&path);
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(KeyError::Missing { did: *did }),
            Err(error) => return Err(io(&path, error)),
        };
        // Of the open file, not of the name: it cannot change in between.
        let mode = file.metadata().map_err(|error| io(&path, error))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Readable { file: name, mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(|error| io(&path, error))?;
        let seed = unhex(text.trim_end()).ok_or_else(|| KeyError::Malformed { file: name.clone() })?;
        let key = Box::new(SigningKey::from_bytes(&seed));
        if did_of(&key)? != *did {
            return Err(KeyError::Malformed { file: name });
        }
        self.loaded.keys().insert(*did, key);
        Ok(())
    }

    /// Writes the file of a new key, unsynced; the key is not used before it is synced.
    fn write(&self, randomness: &Zeroizing<[u8; 32]>) -> Result<NewKey, KeyError> {
        let key = Box::new(SigningKey::from_bytes(randomness));
        let did = did_of(&key)?;
        let path = self.file(&did);
        let mut text = Zeroizing::new(String::with_capacity(65));
        for byte in randomness.iter() {
            let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
            text.extend([digit(byte >> 4), digit(byte & 15)]);
        }
        text.push('\n');
        let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        open.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| io(&path, error))?;
        Ok(NewKey { did, key, path })
    }

    /// Syncs new keys and their folder.
    fn sync(&self, new: &[NewKey]) -> Result<(), KeyError> {
        let folder = fs::File::open(&self.folder).map_err(|error| io(&self.folder, error))?;
        if new.len() <= SYNCED_ALONE_MAX || !sync_file_system(&folder).map_err(|error| io(&self.folder, error))? {
            for NewKey { path, .. } in new {
                // Opened again: more files than a process may have open may be new.
                fs::File::open(path).and_then(|file| file.sync_all()).map_err(|error| io(path, error))?;
            }
        }
        folder.sync_all().map_err(|error| io(&self.folder, error))
    }
}

/// A key that is written and not yet synced.
struct NewKey {
    did: Did,
    key: Box<SigningKey>,
    path: PathBuf,
}

/// Syncs all files of the file system that a folder is on; returns whether this system can.
#[cfg(target_os = "linux")]
fn sync_file_system(folder: &fs::File) -> std::io::Result<bool> {
    rustix::fs::syncfs(folder)?;
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: &fs::File) -> std::io::Result<bool> {
    Ok(false)
}

impl Keyring for FileKeyring {
    fn create(&self, randomness: &Zeroizing<[u8; 32]>) -> Result<Did, KeyError> {
        let dids = self.create_all(std::slice::from_ref(randomness))?;
        dids.first().copied().ok_or_else(|| io(&self.folder, ErrorKind::NotFound.into()))
    }

    /// Syncs the folder once for all of them.
    fn create_all(&self, randomness: &[Zeroizing<[u8; 32]>]) -> Result<Vec<Did>, KeyError> {
        let new = randomness.iter().map(|randomness| self.write(randomness)).collect::<Result<Vec<_>, _>>()?;
        self.sync(&new)?;
        let dids = new.iter().map(|new| new.did).collect();
        self.loaded.keys().extend(new.into_iter().map(|new| (new.did, new.key)));
        Ok(dids)
    }

    fn check(&self, did: &Did) -> Result<(), KeyError> {
        self.load(did)
    }

    fn sign(&self, did: &Did, message: &[u8]) -> Result<[u8; 64], KeyError> {
        self.load(did)?;
        self.loaded.sign(did, message)
    }
}

fn io(path: &Path, error: std::io::Error) -> KeyError {
    KeyError::Io { file: shown(path), error }
}

fn unhex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in seed.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(seed)
}
