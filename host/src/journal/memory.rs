//! A journal in memory, for tests and for hosts that keep nothing.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{AppendError, Journal, JournalError};

/// A journal that lives as long as the process.
#[derive(Default)]
pub struct MemoryJournal(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Number of the group before the oldest one.
    released: u64,
    groups: VecDeque<Vec<u8>>,
    closed: bool,
}

impl Inner {
    fn end(&self) -> u64 {
        self.released + self.groups.len() as u64
    }
}

impl MemoryJournal {
    /// Returns an empty one.
    pub fn new() -> MemoryJournal {
        MemoryJournal::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for MemoryJournal {
    fn end(&self) -> u64 {
        self.lock().end()
    }

    fn append(&self, after: u64, group: &[u8]) -> Result<u64, AppendError> {
        let mut inner = self.lock();
        let end = inner.end();
        if inner.closed {
            return Err(AppendError::Unknown("it is closed".to_owned()));
        }
        if after != end {
            inner.closed = true;
            return Err(AppendError::Lost { end });
        }
        inner.groups.push_back(group.to_vec());
        Ok(end + 1)
    }

    fn read(&self, after: u64, bytes_max: usize) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
        let inner = self.lock();
        let Some(skip) = after.checked_sub(inner.released) else {
            return Err(JournalError::Released { first: inner.released + 1 });
        };
        let (mut read, mut bytes) = (Vec::new(), 0);
        for (group, number) in inner.groups.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).zip(after + 1..) {
            bytes += group.len();
            if bytes > bytes_max && !read.is_empty() {
                break;
            }
            read.push((number, group.clone()));
        }
        Ok(read)
    }

    fn first(&self) -> u64 {
        self.lock().released + 1
    }

    fn release(&self, upto: u64) -> Result<(), JournalError> {
        let mut inner = self.lock();
        while inner.released < upto && inner.groups.pop_front().is_some() {
            inner.released += 1;
        }
        Ok(())
    }

    fn close(&self) -> Result<(), JournalError> {
        self.lock().closed = true;
        Ok(())
    }
}
