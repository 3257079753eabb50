//! A folder of the simulated disk, as a journal uses it.

use std::io;

use charm_host::{Disk as Files, DiskFile};
use rsqlite_vfs::{VfsError, VfsErrorCode};

use super::{Change, Disk, File};

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
        self.disk.inner().size(&self.name).map(|size| size as u64).map_err(told)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.inner().read(&self.name, buffer, offset).map_err(told)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.inner().write(&self.name, bytes, offset, true).map_err(told)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.inner().truncate(&self.name, length).map_err(told)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.inner().sync(&self.name).map_err(told)
    }
}
