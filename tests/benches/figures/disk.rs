//! The floor of whatever is durable: the same bytes, appended to a file that is there already, and synced.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

/// Length of the file, in bytes; after it, it is written from its start again.
const LENGTH: u64 = 32 << 20;

/// A file whose blocks are there and written: a sync has nothing to do but to write.
pub struct Disk {
    file: File,
    at: u64,
    bytes: Vec<u8>,
}

impl Disk {
    pub fn new(folder: &Path) -> Disk {
        let file = File::create(folder.join("floor")).unwrap();
        let bytes = vec![0x5a; 1 << 20];
        for at in 0..LENGTH / bytes.len() as u64 {
            file.write_all_at(&bytes, at * bytes.len() as u64).unwrap();
        }
        file.sync_all().unwrap();
        Disk { file, at: 0, bytes }
    }

    /// Appends so many bytes and syncs them.
    pub fn append(&mut self, bytes: usize) -> Duration {
        let start = Instant::now();
        if self.at + bytes as u64 > LENGTH {
            self.at = 0;
        }
        let mut left = bytes;
        while left > 0 {
            let part = left.min(self.bytes.len());
            self.file.write_all_at(&self.bytes[..part], self.at).unwrap();
            self.at += part as u64;
            left -= part;
        }
        self.file.sync_data().unwrap();
        start.elapsed()
    }
}
