//! A simulated disk under journal and index: what is written is durable only after a sync, and everything can fail.
//!
//! Each file has what a power cut cannot take (`durable`), what was done to it since the last sync (`pending`),
//! and what a program sees (`live`). A power cut keeps a random part of what is pending: changes are lost,
//! and a later one may be there without an earlier one; a write may be torn between sectors, or leave garbage
//! in one. Killing the process takes nothing: the operating system keeps what is live. A sync that fails may
//! lose what was pending, and a later sync does not bring it back, as on Linux (Rebello et al., ATC 2020).
//! SQLite is told what its own file layer for Unix says of disks: bytes outside a write stay as they are.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError},
    time::Duration,
};

#[path = "folder.rs"]
#[allow(dead_code, reason = "only a journal uses it")]
mod folder;

use charm_conformance::Random;
use charm_host::{FileJournal, FolderStore, JournalOptions};
use rsqlite_vfs::{
    AccessMode, DeviceCharacteristics, FileKind, LockLevel, OpenAccess, OpenOptions, OpenRequest, OpenedFile,
    OsCallback, SQLiteIoMethods, SQLiteVfs, SyncOptions, VfsError, VfsErrorCode, VfsFile, VfsResult, VfsStore,
};

/// The name under which SQLite knows all simulated disks; the first part of a path says which.
const VFS: &str = "simulated";
/// What a disk writes as one.
const SECTOR: usize = 512;

/// A disk. Clones are the same disk.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Inner>>);

/// How often a disk fails, in thousandths of its operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Reading, writing, syncing and the rest ends in an error.
    pub error: u64,
    /// The power goes.
    pub cut: u64,
    /// The process is killed.
    pub kill: u64,
}

/// One fault, at one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation ends in an error.
    Error,
    /// There is no space. Strikes when the operation writes; else the operation goes well.
    Full,
    /// The power goes.
    Cut,
    /// The process is killed: nothing that it wrote is lost, synced or not.
    Kill,
}

struct Inner {
    files: BTreeMap<String, File>,
    random: Random,
    rates: Rates,
    /// The fault of the operation with that number.
    planned: Option<(u64, Fault)>,
    /// Bytes that fit.
    capacity: Option<usize>,
    /// Operations so far.
    count: u64,
    /// Nobody can use it any more.
    off: bool,
    /// Because the power went.
    dark: bool,
    /// Faults that struck and were not told yet.
    struck: Vec<String>,
}

#[derive(Clone, Default)]
struct File {
    durable: Option<Vec<u8>>,
    pending: Vec<Change>,
    live: Option<Vec<u8>>,
}

#[derive(Clone)]
enum Change {
    Create,
    /// It got the name of another, with what was durable of that one.
    Put(Option<Vec<u8>>),
    Delete,
    Write(usize, Vec<u8>),
    Truncate(usize),
}

fn apply(content: &mut Option<Vec<u8>>, change: &Change) {
    match change {
        Change::Create => drop(content.get_or_insert_default()),
        Change::Put(bytes) => content.clone_from(bytes),
        Change::Delete => *content = None,
        Change::Truncate(size) => {
            if let Some(bytes) = content {
                bytes.resize(*size, 0);
            }
        }
        Change::Write(offset, new) => {
            let bytes = content.get_or_insert_default();
            bytes.resize(bytes.len().max(offset + new.len()), 0);
            bytes[*offset..offset + new.len()].copy_from_slice(new);
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// Makes durable that the file is there, or is not.
    fn sync_name(&mut self) {
        if let Some(last) = self.pending.iter().rposition(|change| matches!(change, Change::Delete)) {
            for change in self.pending.drain(..=last) {
                apply(&mut self.durable, &change);
            }
        }
        if matches!(self.pending.first(), Some(Change::Create | Change::Put(_))) {
            apply(&mut self.durable, &self.pending.remove(0));
        }
    }

    /// Keeps of what is pending what chance wants.
    fn lose_power(&mut self, random: &mut Random) {
        // All of it, none of it, or each change for itself.
        let mood = random.below(4);
        for change in std::mem::take(&mut self.pending) {
            let keep = match mood {
                0 => true,
                1 => false,
                _ => random.chance(600),
            };
            match change {
                _ if !keep => {}
                Change::Write(offset, bytes) if mood == 3 => self.tear(offset, &bytes, random),
                change => apply(&mut self.durable, &change),
            }
        }
        self.live.clone_from(&self.durable);
    }

    /// Writes some of the sectors of a write, and garbage to one in fifty.
    fn tear(&mut self, offset: usize, bytes: &[u8], random: &mut Random) {
        let mut start = 0;
        while start < bytes.len() {
            let end = bytes.len().min((offset + start) / SECTOR * SECTOR + SECTOR - offset);
            let mut sector = bytes[start..end].to_vec();
            if random.chance(20) {
                sector.iter_mut().for_each(|byte| *byte = random.bits() as u8);
            }
            if random.chance(600) {
                apply(&mut self.durable, &Change::Write(offset + start, sector));
            }
            start = end;
        }
    }
}

impl Inner {
    /// Counts an operation; it fails when a fault strikes.
    fn operate(&mut self, what: &str, code: VfsErrorCode, bytes: usize) -> VfsResult<()> {
        let error = |code, text: &'static str| Err(VfsError::new(code, text.into()));
        if self.off {
            return error(code, "the process is gone");
        }
        self.count += 1;
        let mut fault = self.planned.filter(|(number, _)| *number == self.count).map(|(_, fault)| fault);
        if fault.is_none() && self.rates != Rates::default() {
            let Rates { error, cut, kill } = self.rates;
            for (chance, kind) in [(error, Fault::Error), (cut, Fault::Cut), (kill, Fault::Kill)] {
                fault = self.random.chance(chance).then_some(kind).or(fault);
            }
        }
        if bytes > 0 && self.capacity.is_some_and(|capacity| self.used() + bytes > capacity) {
            fault = Some(Fault::Full);
        }
        if fault == Some(Fault::Full) && bytes == 0 {
            fault = None;
        }
        let Some(fault) = fault else { return Ok(()) };
        self.struck.push(format!("{what}: {fault:?}, operation {}", self.count));
        match fault {
            Fault::Error => error(code, "input/output error"),
            Fault::Full => error(VfsErrorCode::Full, "no space left"),
            Fault::Cut | Fault::Kill => {
                (self.off, self.dark) = (true, fault == Fault::Cut);
                error(code, "the process is gone")
            }
        }
    }

    fn used(&self) -> usize {
        self.files.values().filter_map(|file| file.live.as_ref()).map(Vec::len).sum()
    }

    fn live(&self, name: &str) -> Option<&Vec<u8>> {
        self.files.get(name)?.live.as_ref()
    }

    fn file(&mut self, name: &str) -> &mut File {
        self.files.entry(name.to_owned()).or_default()
    }

    fn size(&mut self, name: &str) -> VfsResult<usize> {
        self.operate("size", VfsErrorCode::IoStat, 0)?;
        Ok(self.live(name).map_or(0, Vec::len))
    }

    fn read(&mut self, name: &str, buffer: &mut [u8], offset: u64) -> VfsResult<usize> {
        self.operate("read", VfsErrorCode::IoRead, 0)?;
        let bytes = self.live(name).map_or(&[][..], Vec::as_slice);
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let size = rest.len().min(buffer.len());
        buffer[..size].copy_from_slice(&rest[..size]);
        Ok(size)
    }

    /// Writes all, or after a fault a part; of what has no room a part too when `fills`, else nothing.
    fn write(&mut self, name: &str, bytes: &[u8], offset: u64, fills: bool) -> VfsResult<()> {
        let (was_off, offset) = (self.off, offset as usize);
        let grows = (offset + bytes.len()).saturating_sub(self.live(name).map_or(0, Vec::len));
        let result = self.operate("write", VfsErrorCode::IoWrite, grows);
        let written = match &result {
            Ok(()) => bytes,
            Err(_) if was_off => &[],
            // Nobody knows how far it came.
            Err(_) => &bytes[..self.random.below(bytes.len() as u64 + 1) as usize],
        };
        let is_full = result.as_ref().is_err_and(|error| error.code() == VfsErrorCode::Full);
        if !written.is_empty() && (fills || !is_full) {
            self.file(name).change(Change::Write(offset, written.to_vec()));
        }
        result
    }

    fn truncate(&mut self, name: &str, size: u64) -> VfsResult<()> {
        self.operate("truncate", VfsErrorCode::IoTruncate, 0)?;
        self.file(name).change(Change::Truncate(size as usize));
        Ok(())
    }

    fn sync(&mut self, name: &str) -> VfsResult<()> {
        let result = self.operate("sync", VfsErrorCode::IoSync, 0);
        let (off, mut random) = (self.off, Random::new(self.random.bits()));
        let file = self.file(name);
        match &result {
            Ok(()) => file.sync(),
            Err(_) if off => {}
            // The cache says that these are written, and they are not.
            Err(_) => file.pending.retain(|_| random.chance(500)),
        }
        result
    }
}

impl Disk {
    /// Returns an empty disk.
    pub fn new(random: Random) -> Disk {
        Disk::with(BTreeMap::new(), random)
    }

    fn with(files: BTreeMap<String, File>, random: Random) -> Disk {
        let (rates, planned, struck) = (Rates::default(), None, Vec::new());
        let inner = Inner { files, random, rates, planned, capacity: None, count: 0, off: false, dark: false, struck };
        Disk(Arc::new(Mutex::new(inner)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how often it fails from now on.
    pub fn set_rates(&self, rates: Rates) {
        self.inner().rates = rates;
    }

    /// Makes the operation with that number fail, counted from the first of the disk.
    pub fn plan(&self, number: u64, fault: Fault) {
        self.inner().planned = Some((number, fault));
    }

    /// Leaves that many bytes free; none for endless.
    pub fn set_free(&self, bytes: Option<usize>) {
        let mut inner = self.inner();
        inner.capacity = bytes.map(|bytes| inner.used() + bytes);
    }

    /// Returns whether the process that used it is gone.
    pub fn is_off(&self) -> bool {
        self.inner().off
    }

    /// Returns whether the power is gone.
    pub fn is_dark(&self) -> bool {
        self.inner().dark
    }

    /// Returns how many operations there were.
    pub fn count(&self) -> u64 {
        self.inner().count
    }

    /// Returns the faults that struck since the last call.
    pub fn struck(&self) -> Vec<String> {
        std::mem::take(&mut self.inner().struck)
    }

    /// Returns the disk as the next process finds it. What still holds the old one can change nothing.
    pub fn restarted(&self) -> Disk {
        let mut inner = self.inner();
        let mut random = Random::new(inner.random.bits());
        let mut files = std::mem::take(&mut inner.files);
        if inner.dark {
            files.values_mut().for_each(|file| file.lose_power(&mut random));
        }
        files.retain(|_, file| file.live.is_some() || !file.pending.is_empty());
        inner.off = true;
        let (count, capacity, planned) = (inner.count, inner.capacity, inner.planned);
        let disk = Disk::with(files, random);
        (disk.inner().count, disk.inner().capacity, disk.inner().planned) = (count, capacity, planned);
        disk
    }

    /// Returns a disk in a state in which this one may be after the power cut.
    pub fn variant(&self, seed: u64) -> Disk {
        let mut random = Random::new(seed);
        let mut files = self.inner().files.clone();
        files.values_mut().for_each(|file| file.lose_power(&mut random));
        Disk::with(files, random)
    }

    /// Returns a hash over all that is on it for good.
    pub fn durable(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (name, file) in &self.inner().files {
            (name, &file.durable).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Turns the power off at once.
    pub fn cut(&self) {
        let mut inner = self.inner();
        (inner.off, inner.dark) = (true, true);
    }

    /// Returns a faultless copy of what a process sees.
    pub fn copy(&self) -> Disk {
        let inner = self.inner();
        let live = |file: &File| File { durable: file.live.clone(), pending: Vec::new(), live: file.live.clone() };
        let files = inner.files.iter().map(|(name, file)| (name.clone(), live(file))).collect();
        Disk::with(files, inner.random.clone())
    }

    /// Flips one bit of what is stored; returns where, none when nothing is.
    pub fn flip(&self, random: &mut Random) -> Option<String> {
        let mut inner = self.inner();
        let total = inner.used();
        let mut at = if total == 0 { return None } else { random.below(total as u64) as usize };
        for (name, file) in &mut inner.files {
            let size = file.live.as_ref().map_or(0, Vec::len);
            if at < size {
                let bit = 1 << random.below(8);
                for content in [&mut file.live, &mut file.durable].into_iter().flatten() {
                    if let Some(byte) = content.get_mut(at) {
                        *byte ^= bit;
                    }
                }
                return Some(format!("{name}, byte {at} of {size}"));
            }
            at -= size;
        }
        None
    }

    /// Makes the disk known to SQLite; the path of its store until the returned guard goes.
    pub fn mount(&self) -> Mounted {
        register();
        static NEXT: Mutex<u64> = Mutex::new(0);
        let number = {
            let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
            *next += 1;
            *next
        };
        let root = format!("disk{number}");
        disks().insert(root.clone(), self.clone());
        Mounted(root)
    }
}

/// A disk that SQLite can open.
pub struct Mounted(String);

impl Mounted {
    /// Returns the path of its store.
    pub fn path(&self) -> String {
        self.0.clone()
    }
}

/// Opens the store on a mounted disk.
///
/// # Errors
/// What does not open.
pub fn open(path: &str) -> Result<FolderStore, String> {
    let disk = disks().get(path).cloned().ok_or("no such disk")?;
    // Small segments: a few turns fill one.
    let options = JournalOptions {
        segment_bytes: 64 << 10,
        ahead_bytes: 4 << 10,
        ..JournalOptions::new(*b"a simulated disk", 0)
    };
    let journal = FileJournal::open(Arc::new(disk.folder("journal")), options).map_err(|error| error.to_string())?;
    FolderStore::open_on(journal, format!("{path}/index.db"), VFS).map_err(|error| error.to_string())
}

impl Drop for Mounted {
    fn drop(&mut self) {
        disks().remove(&self.0);
    }
}

fn disks() -> MutexGuard<'static, BTreeMap<String, Disk>> {
    static DISKS: OnceLock<Mutex<BTreeMap<String, Disk>>> = OnceLock::new();
    DISKS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Splits a path into its disk and the name there.
fn locate(path: &str) -> VfsResult<(Disk, String)> {
    let (root, name) = path.split_once('/').unwrap_or((path, ""));
    let disk = disks().get(root).cloned();
    let disk = disk.ok_or_else(|| VfsError::new(VfsErrorCode::CantOpen, "no such disk".into()))?;
    Ok((disk, name.to_owned()))
}

#[allow(unsafe_code, reason = "SQLite keeps the callbacks for the life of the process: see docs/decisions/0005")]
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: registered once, never taken back; the callbacks are the library's own, the data is `()` and
        // what they reach is behind locks.
        let registered = unsafe { rsqlite_vfs::register_vfs::<Methods, Simulated>(VFS, Services, false) };
        let _kept = registered.expect("SQLite takes the file system").into_raw();
    });
}

/// The callbacks of SQLite, as the library makes them.
struct Simulated;
struct Methods;
struct Services;

impl SQLiteIoMethods for Methods {
    type Store = Simulated;
}

impl SQLiteVfs<Methods> for Simulated {
    type Os = Services;

    fn os(services: &Services) -> &Services {
        services
    }
}

impl OsCallback for Services {
    fn sleep(&self, _: Duration) {}

    fn random(&self, bytes: &mut [u8]) -> usize {
        bytes.fill(7);
        bytes.len()
    }

    fn epoch_timestamp_in_ms(&self) -> VfsResult<i64> {
        Ok(0)
    }
}

impl VfsStore for Simulated {
    type File = Handle;
    type AppData = Services;

    fn open_file(_: &Services, request: OpenRequest<'_>) -> VfsResult<OpenedFile<Handle>> {
        let path = request.filename.map_or("", |name| name.path());
        let (disk, name) = locate(path)?;
        {
            let mut inner = disk.inner();
            inner.operate("open", VfsErrorCode::CantOpen, 0)?;
            if inner.live(&name).is_none() {
                inner.file(&name).change(Change::Create);
            }
        }
        let syncs_folder = request.options.kind() != Some(FileKind::MainDb);
        Ok(OpenedFile { file: Handle { disk, name, syncs_folder }, access: OpenAccess::ReadWrite })
    }

    fn close_file(_: &Services, _: Option<&str>, _: Handle, _: OpenOptions) -> VfsResult<()> {
        Ok(())
    }

    fn access(_: &Services, path: &str, _: AccessMode) -> VfsResult<bool> {
        let (disk, name) = locate(path)?;
        let mut inner = disk.inner();
        inner.operate("access", VfsErrorCode::IoAccess, 0)?;
        // As SQLite's own layer for Unix: an empty file is as good as none.
        Ok(inner.live(&name).is_some_and(|bytes| !bytes.is_empty()))
    }

    fn full_pathname(_: &Services, path: &str) -> VfsResult<String> {
        Ok(path.to_owned())
    }

    fn delete_file(_: &Services, path: &str, sync_dir: bool) -> VfsResult<()> {
        let (disk, name) = locate(path)?;
        let mut inner = disk.inner();
        inner.operate("delete", VfsErrorCode::IoDelete, 0)?;
        let file = inner.file(&name);
        file.change(Change::Delete);
        if sync_dir {
            file.sync();
        }
        Ok(())
    }
}

/// An open file.
pub struct Handle {
    disk: Disk,
    name: String,
    /// The first sync of a journal syncs the folder too, as in SQLite's layer for Unix.
    syncs_folder: bool,
}

impl VfsFile for Handle {
    fn device_characteristics(&self) -> DeviceCharacteristics {
        DeviceCharacteristics::POWERSAFE_OVERWRITE
    }

    fn read(&mut self, buffer: &mut [u8], offset: u64) -> VfsResult<usize> {
        self.disk.inner().read(&self.name, buffer, offset)
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> VfsResult<()> {
        self.disk.inner().write(&self.name, bytes, offset, false)
    }

    fn truncate(&mut self, size: u64) -> VfsResult<()> {
        self.disk.inner().truncate(&self.name, size)
    }

    fn sync(&mut self, _: SyncOptions) -> VfsResult<()> {
        let mut inner = self.disk.inner();
        inner.sync(&self.name)?;
        if std::mem::take(&mut self.syncs_folder) {
            inner.files.values_mut().for_each(File::sync_name);
        }
        Ok(())
    }

    fn size(&self) -> VfsResult<u64> {
        Ok(self.disk.inner().size(&self.name)? as u64)
    }

    fn lock(&mut self, _: LockLevel) -> VfsResult<()> {
        self.disk.inner().operate("lock", VfsErrorCode::IoLock, 0)
    }

    fn unlock(&mut self, _: LockLevel) -> VfsResult<()> {
        Ok(())
    }

    fn check_reserved_lock(&self) -> VfsResult<bool> {
        Ok(false)
    }
}
