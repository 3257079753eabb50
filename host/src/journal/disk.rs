//! What a journal needs of a disk: the lowest place where a test can lose, tear and fail what is written.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::text::shown;

/// A folder of files.
pub trait Disk: Send + Sync + 'static {
    /// Returns how the folder is called in errors.
    fn name(&self) -> String;

    /// Returns the names of the files, in any order.
    ///
    /// # Errors
    /// When the folder cannot be read; `NotFound` when it is not there.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file, instead of one that may be there.
    ///
    /// # Errors
    /// When that fails.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there, for reading alone or for writing too.
    ///
    /// # Errors
    /// When that fails; `NotFound` when it is not there.
    fn open(&self, name: &str, writes: bool) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name. What was opened by the old name is not used any more.
    ///
    /// # Errors
    /// When that fails.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file away.
    ///
    /// # Errors
    /// When that fails.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which files there are.
    ///
    /// # Errors
    /// When that fails.
    fn sync_folder(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Returns its length in bytes.
    ///
    /// # Errors
    /// When that fails.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on; returns how much there was, less than asked for at the end of the file only.
    ///
    /// # Errors
    /// When that fails.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// When that fails; some of it may be there.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file off.
    ///
    /// # Errors
    /// When that fails.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Makes durable what was written, by whomever.
    ///
    /// # Errors
    /// When that fails; what was written since the last sync may be lost for good.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the file system. Files are readable by their owner alone.
pub struct FolderDisk(PathBuf);

impl FolderDisk {
    /// Returns the folder at `path`, made (mode 0700) when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: impl AsRef<Path>) -> io::Result<FolderDisk> {
        let path = path.as_ref();
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => sync_folder(path.parent().filter(|parent| !parent.as_os_str().is_empty()))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Ok(FolderDisk(path.to_owned()))
    }

    /// Returns the folder at `path` for reading; nothing is made.
    pub fn new(path: impl Into<PathBuf>) -> FolderDisk {
        FolderDisk(path.into())
    }
}

fn sync_folder(path: Option<&Path>) -> io::Result<()> {
    File::open(path.unwrap_or(Path::new(".")))?.sync_all()
}

impl Disk for FolderDisk {
    fn name(&self) -> String {
        shown(&self.0)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).read(true).write(true).mode(0o600);
        Ok(Box::new(options.open(self.0.join(name))?))
    }

    fn open(&self, name: &str, writes: bool) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(writes).open(self.0.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        sync_folder(Some(&self.0))
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match FileExt::read_at(self, &mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
