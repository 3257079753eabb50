//! The folder of compiled code. The file layout is that of the engine's own cache, which is the only way to load code
//! without `unsafe`; what is in it runs as the host, so it is the owner's alone.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{limits::CODE_CACHE_BYTES_MAX, text::shown};

/// Where the engine's cache keeps its entries: a folder in here for each version of the engine.
const ENTRIES: &str = "modules";
/// How the names of folders begin that someone compiles into.
const SCRATCH: &str = "compiling-";
/// How often such a folder is removed when its compilation ends.
const REMOVALS: usize = 50;
/// Age after which such a folder is what a host that died has left, in seconds.
const SCRATCH_S_MAX: i64 = 24 * 60 * 60;

/// A folder that is not used: what is in there runs as the host.
pub struct Unsafe {
    /// The folder, or a file in it.
    pub file: String,
    /// What is wrong.
    pub why: String,
}

/// Makes the folder when it is not there, and checks that it is its owner's alone and nobody else can have put anything
/// there. An empty one that others can only look into is closed to them.
///
/// # Errors
/// [`Unsafe`].
pub fn open(folder: &Path) -> Result<(), Unsafe> {
    let failed = |file: &Path, why: String| Unsafe { file: shown(file), why };
    let io = |file: &Path| {
        let file = file.to_owned();
        move |error: io::Error| failed(&file, error.to_string())
    };
    make(folder).map_err(io(folder))?;
    let me = rustix::process::geteuid().as_raw();
    let mut pending = vec![(folder.to_owned(), 0)];
    while let Some((file, depth)) = pending.pop() {
        // The operator may have put a link in place of the folder, not of what is in it.
        let found = match if depth == 0 { fs::metadata(&file) } else { fs::symlink_metadata(&file) } {
            // Another host makes room there.
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => continue,
            found => found.map_err(io(&file))?,
        };
        let (mode, owner) = (found.mode() & 0o777, found.uid());
        if owner != me {
            return Err(failed(&file, format!("belongs to user {owner}, the host runs as {me}: remove it")));
        }
        if depth == 0
            && mode & 0o077 != 0
            && mode & 0o022 == 0
            && fs::read_dir(&file).map_err(io(&file))?.next().is_none()
        {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).map_err(io(&file))?;
        } else if depth == 0 && mode & 0o077 != 0 {
            return Err(failed(&file, format!("is open to others (mode {mode:03o}): run chmod 700 on it")));
        }
        if depth > 0 && (mode & 0o022 != 0 || !(found.is_dir() || found.is_file())) {
            return Err(failed(&file, format!("others can write there (mode {mode:03o}): remove it")));
        }
        if found.is_dir() && depth < 3 {
            for entry in fs::read_dir(&file).map_err(io(&file))? {
                let entry = entry.map_err(io(&file))?;
                // Only entries hold code. Beside each the engine keeps a note of its use, made with the umask.
                let is_code = depth < 2 || entry.path().extension().is_none();
                let begins = |text: &str| entry.file_name().to_string_lossy().starts_with(text);
                if is_code && (depth > 0 || begins(ENTRIES)) {
                    pending.push((entry.path(), depth + 1));
                }
            }
        }
    }
    Ok(())
}

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A folder to compile one component into, removed when dropped: what a compiler leaves half-done is never found.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn new(cache: &Path) -> io::Result<Scratch> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = cache.join(format!("{SCRATCH}{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Scratch(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Moves the one entry in it into the cache, under another name.
    ///
    /// # Errors
    /// `NotFound` when there is none; when the file system refuses.
    pub fn keep(self, cache: &Path, name: &str) -> io::Result<()> {
        let entries = list(&self.0)?;
        let Some(entry) = entries.first() else { return Err(io::ErrorKind::NotFound.into()) };
        let version = entry.path.parent().and_then(Path::file_name).unwrap_or_default();
        let target = cache.join(ENTRIES).join(version);
        make(&target)?;
        fs::set_permissions(&entry.path, fs::Permissions::from_mode(0o600))?;
        // A cache that is not tidied still works.
        let _ = self.tidy(cache, entry.bytes);
        fs::rename(&entry.path, target.join(name))
    }

    /// Makes room for an entry: those used least recently go. So do folders that hosts which died have left.
    fn tidy(&self, cache: &Path, bytes: u64) -> io::Result<()> {
        let now = fs::metadata(&self.0)?.mtime();
        for entry in fs::read_dir(cache)? {
            let entry = entry?;
            let is_scratch = entry.file_name().to_string_lossy().starts_with(SCRATCH);
            if is_scratch && entry.metadata()?.mtime() < now - SCRATCH_S_MAX {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let mut entries = list(cache)?;
        entries.sort_by_key(|entry| entry.used);
        let mut total = bytes + entries.iter().map(|entry| entry.bytes).sum::<u64>();
        if total <= CODE_CACHE_BYTES_MAX {
            return Ok(());
        }
        for entry in entries {
            // Some more than necessary, so that it is not done each time.
            if total <= CODE_CACHE_BYTES_MAX / 4 * 3 {
                break;
            }
            total -= entry.bytes;
            fs::remove_file(&entry.path)?;
            let _ = fs::remove_file(notes(&entry.path));
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is removed when it is old. A compiler that was killed a moment ago may be in the middle of
        // its last call, which makes a file: looked after a few times.
        for _ in 0..REMOVALS {
            let _ = fs::remove_dir_all(&self.0);
            std::thread::yield_now();
        }
    }
}

struct Entry {
    path: PathBuf,
    bytes: u64,
    /// When it was used last, as its file system tells, in seconds.
    used: i64,
}

/// The file beside an entry that the engine writes at each use.
fn notes(entry: &Path) -> PathBuf {
    entry.with_extension("stats")
}

fn list(cache: &Path) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    let versions = match fs::read_dir(cache.join(ENTRIES)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        versions => versions?,
    };
    for version in versions {
        for entry in fs::read_dir(version?.path())? {
            let path = entry?.path();
            if path.extension().is_none() {
                let (about, noted) = (fs::metadata(&path)?, fs::metadata(notes(&path)));
                let used = noted.map_or(about.mtime(), |noted| noted.mtime().max(about.mtime()));
                found.push(Entry { path, bytes: about.len(), used });
            }
        }
    }
    Ok(found)
}
