//! A folder of the simulated disk, as a journal uses it.

use std::io;

use charm_host::{Disk as Files, DiskFile};
use rsqlite_vfs::{VfsError, VfsErrorCode};

use super::{Change, Disk, File, Random};

/// A folder of a disk; its files stand beside those of SQLite.
#[derive(Clone)]
pub struct Folder {
    disk: Disk,
    prefix: String,
}

struct Open {
    disk: Disk,
    name: String,
}

impl Disk {
    /// Returns the folder of that name.
    pub fn folder(&self, name: &str) -> Folder {
        Folder { disk: self.clone(), prefix: format!("{name}/") }
    }

    /// Returns what a process sees of every file.
    pub fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let inner = self.inner();
        inner.files.iter().filter_map(|(name, file)| Some((name.clone(), file.live.clone()?))).collect()
    }

    /// Changes a file as if it had always been so; none takes it away.
    pub fn set(&self, name: &str, bytes: Option<Vec<u8>>) {
        self.inner().files.insert(name.to_owned(), File { durable: bytes.clone(), pending: Vec::new(), live: bytes });
    }
}

fn told(error: VfsError) -> io::Error {
    match error.code() {
        VfsErrorCode::Full => io::ErrorKind::StorageFull.into(),
        _ => io::Error::other(error.to_string()),
    }
}

impl Folder {
    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn file(&self, name: &str) -> Box<dyn DiskFile> {
        Box::new(Open { disk: self.disk.clone(), name: self.name(name) })
    }
}

impl Files for Folder {
    fn name(&self) -> String {
        self.prefix.trim_end_matches('/').to_owned()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut inner = self.disk.inner();
        inner.operate("list", VfsErrorCode::IoRead, 0).map_err(told)?;
        let live = inner.files.iter().filter(|(_, file)| file.live.is_some());
        Ok(live.filter_map(|(name, _)| name.strip_prefix(&self.prefix).map(str::to_owned)).collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.disk.inner();
        inner.operate("create", VfsErrorCode::CantOpen, 1).map_err(told)?;
        let name = &self.name(name);
        let change = if inner.live(name).is_some() { Change::Truncate(0) } else { Change::Create };
        inner.file(name).change(change);
        Ok(Box::new(Open { disk: self.disk.clone(), name: name.clone() }))
    }

    fn open(&self, name: &str, _: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.disk.inner();
        inner.operate("open", VfsErrorCode::CantOpen, 0).map_err(told)?;
        inner.live(&self.name(name)).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.operate("rename", VfsErrorCode::IoWrite, 0).map_err(told)?;
        let old = inner.file(&self.name(from));
        let (durable, live) = (old.durable.clone(), old.live.clone());
        old.change(Change::Delete);
        let new = inner.file(&self.name(to));
        new.pending.push(Change::Put(durable));
        new.live = live;
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.operate("remove", VfsErrorCode::IoDelete, 0).map_err(told)?;
        let name = self.name(name);
        inner.live(&name).ok_or(io::ErrorKind::NotFound)?;
        inner.file(&name).change(Change::Delete);
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.operate("sync folder", VfsErrorCode::IoSync, 0).map_err(told)?;
        let files = inner.files.iter_mut().filter(|(name, _)| name.starts_with(&self.prefix));
        files.for_each(|(_, file)| file.sync_name());
        Ok(())
    }
}

impl DiskFile for Open {
    fn length(&self) -> io::Result<u64> {
        let mut inner = self.disk.inner();
        inner.operate("length", VfsErrorCode::IoStat, 0).map_err(told)?;
        Ok(inner.live(&self.name).map_or(0, Vec::len) as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.inner();
        inner.operate("read", VfsErrorCode::IoRead, 0).map_err(told)?;
        let bytes = inner.live(&self.name).map_or(&[][..], Vec::as_slice);
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let size = rest.len().min(buffer.len());
        buffer[..size].copy_from_slice(&rest[..size]);
        Ok(size)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut inner, offset) = (self.disk.inner(), offset as usize);
        let was_off = inner.off;
        let grows = (offset + bytes.len()).saturating_sub(inner.live(&self.name).map_or(0, Vec::len));
        let result = inner.operate("write", VfsErrorCode::IoWrite, grows);
        let written = match &result {
            Ok(()) => bytes,
            Err(_) if was_off => &[],
            // Nobody knows how far it came.
            Err(_) => &bytes[..inner.random.below(bytes.len() as u64 + 1) as usize],
        };
        if !written.is_empty() {
            inner.file(&self.name).change(Change::Write(offset, written.to_vec()));
        }
        result.map_err(told)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.operate("truncate", VfsErrorCode::IoTruncate, 0).map_err(told)?;
        inner.file(&self.name).change(Change::Truncate(length as usize));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        let result = inner.operate("sync", VfsErrorCode::IoSync, 0);
        let (off, mut random) = (inner.off, Random::new(inner.random.bits()));
        let file = inner.file(&self.name);
        match &result {
            Ok(()) => file.sync(),
            Err(_) if off => {}
            // The cache says that these are written, and they are not.
            Err(_) => file.pending.retain(|_| random.chance(500)),
        }
        result.map_err(told)
    }
}
