//! The file of a store that says what guest code is on a thread for: should the process die, it died under that.
//!
//! A mark is written before a guest goes on and wiped after it has left. It is never synced: what a process has written
//! outlives the process, and no more is asked for. After a power cut marks may be missing or old, which costs nothing:
//! an old one names an event that is settled, or one that runs alone once.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use super::{StoreError, lock, place};
use crate::{event::EventId, limits::SUSPECTS_LATER_BYTES_MAX, text::shown};

/// Bytes of one mark in the file.
const SLOT: usize = 64;

/// What guest code is on a thread for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// An event is handled.
    Turn {
        /// Its place in the queue.
        position: u64,
        /// Its id.
        id: EventId,
    },
    /// A component is asked what it is.
    Describe {
        /// SHA-256 of the component.
        component: [u8; 32],
    },
}

/// That a guest is on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What for.
    pub work: Work,
    /// Whether no other guest is on a thread meanwhile.
    pub alone: bool,
}

impl Mark {
    fn to_bytes(self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[1] = u8::from(self.alone);
        match self.work {
            Work::Turn { position, id } => {
                bytes[0] = b't';
                bytes[8..16].copy_from_slice(&position.to_le_bytes());
                bytes[16..32].copy_from_slice(&id.0);
            }
            Work::Describe { component } => {
                bytes[0] = b'd';
                bytes[8..40].copy_from_slice(&component);
            }
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Mark> {
        let work = match bytes.first()? {
            b't' => Work::Turn {
                position: u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?),
                id: EventId(bytes.get(16..32)?.try_into().ok()?),
            },
            b'd' => Work::Describe { component: bytes.get(8..40)?.try_into().ok()? },
            _ => return None,
        };
        Some(Mark { work, alone: *bytes.get(1)? == 1 })
    }
}

/// The marks of one process.
pub struct Marks {
    file: File,
    wiped: AtomicBool,
}

impl Marks {
    fn path(store: &Path) -> PathBuf {
        store.join(place::RUNNING)
    }

    /// Returns the marks that the last process on a store has left.
    pub fn left(store: &Path) -> Vec<Mark> {
        let bytes = std::fs::read(Marks::path(store)).unwrap_or_default();
        bytes.chunks_exact(SLOT).filter_map(Mark::from_bytes).collect()
    }

    /// Begins a new file: whoever still writes to the one before writes to nobody.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(store: &Path) -> Result<Marks, StoreError> {
        let path = Marks::path(store);
        let error = |error| StoreError::Failed(format!("{}: {error}", shown(&path)));
        match std::fs::remove_file(&path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(error(why)),
            _ => lock::create(&path).map(|file| Marks { file, wiped: AtomicBool::new(false) }).map_err(error),
        }
    }

    /// Writes a slot, or wipes it. One that cannot be written, on a full disk, is as good as none.
    pub fn set(&self, slot: usize, mark: Option<Mark>) {
        if !self.wiped.load(Ordering::Relaxed) {
            let bytes = mark.map_or([0; SLOT], Mark::to_bytes);
            let _ = self.file.write_all_at(&bytes, (slot * SLOT) as u64);
        }
    }

    /// Wipes all, for good: the host ends by itself.
    pub fn wipe(&self) {
        self.wiped.store(true, Ordering::Relaxed);
        let _ = self.file.set_len(0);
    }
}

/// What a process died under, and what came of it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// What it died under.
    pub work: Work,
    /// How often it died under that alone; none when nothing speaks against it any more.
    pub deaths: Option<u32>,
    /// Whether it was held: then it is out of the order of its charm's events for good.
    pub late: bool,
}

/// The file of a store that names what processes have died under.
pub struct List {
    path: PathBuf,
    /// Lines that this host does not know, as they are: a later host wrote them.
    later: String,
    /// How many more of them there were than are kept.
    pub forgotten: usize,
}

impl List {
    /// Reads the list of a store; none there is an empty one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(store: &Path) -> Result<(List, Vec<Suspect>), StoreError> {
        let mut list = List { path: store.join(place::SUSPECTS), later: String::new(), forgotten: 0 };
        let text = match std::fs::read_to_string(&list.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(|error| list.failed(error))?,
        };
        let mut suspects = Vec::new();
        for text in text.split_terminator('\n') {
            match parse(text) {
                // All of it: nothing is lost when it is written again.
                Some(suspect) if line(&suspect).trim_end() == text => suspects.push(suspect),
                _ if list.later.len() + text.len() < SUSPECTS_LATER_BYTES_MAX => list.later.extend([text, "\n"]),
                _ => list.forgotten += 1,
            }
        }
        Ok((list, suspects))
    }

    /// Replaces what this host knows of it, durably: a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, suspects: impl Iterator<Item = Suspect>) -> Result<(), StoreError> {
        let text = suspects.map(|suspect| line(&suspect)).collect::<String>() + &self.later;
        let fresh = lock::beside(&self.path, ".new");
        let write = || {
            let mut file = lock::create(&fresh)?;
            file.set_len(0)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&fresh, &self.path)?;
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> StoreError {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return StoreError::Full;
        }
        StoreError::Failed(format!("{}: {error}", shown(&self.path)))
    }
}

fn line(suspect: &Suspect) -> String {
    let Suspect { work, deaths, late } = suspect;
    let deaths = deaths.map_or("-".to_owned(), |deaths| deaths.to_string());
    match work {
        Work::Turn { position, id } => format!("event {id} {position} {deaths} {late}\n"),
        Work::Describe { component } => format!("component {} {deaths}\n", hex(component)),
    }
}

fn parse(line: &str) -> Option<Suspect> {
    let mut words = line.split(' ');
    let work = match words.next()? {
        "event" => Work::Turn { id: words.next()?.parse().ok()?, position: words.next()?.parse().ok()? },
        "component" => Work::Describe { component: unhex(words.next()?)? },
        _ => return None,
    };
    let deaths = match words.next()? {
        "-" => None,
        deaths => Some(deaths.parse().ok()?),
    };
    Some(Suspect { work, deaths, late: words.next() == Some("true") })
}

/// Returns a component's hash as it is shown.
pub fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a component's hash as it is shown.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = |index: usize| u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok();
    let mut hash = [0; 32];
    for (index, slot) in hash.iter_mut().enumerate() {
        *slot = digits.then(|| byte(index)).flatten()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests;
