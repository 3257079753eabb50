//! A whole copy of a store, also while a host writes it.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{FolderStore, open};
use crate::{
    journal::{FolderDisk, JournalReader},
    store::{StoreError, index::Index, lock, place},
    text::shown,
};

/// How often a copy is begun again whose segments went before they were copied.
const TRIES_MAX: usize = 10;

impl FolderStore {
    /// Copies the store to a folder that is not there yet. All that was acknowledged before is in it, and nothing that is not
    /// durable. Until all of it is there the folder has another name, and is no store.
    ///
    /// # Errors
    /// `Full`; `Damaged`; `Failed`. Nothing is left behind then.
    pub(super) fn copy(&self, to: &Path) -> Result<(), StoreError> {
        let Some(from) = &self.folder else {
            return Err(StoreError::Failed(format!("{}: it is in no folder", self.name)));
        };
        let io = |error| lock::failed(&shown(to), &error);
        let to = place::locate(to).map_err(io)?;
        if to.symlink_metadata().is_ok() {
            return Err(StoreError::Failed(format!("{} is there already: name a folder that is not", shown(&to))));
        }
        let part = lock::beside(&to, &format!(".{}", place::PART));
        match DirBuilder::new().mode(0o700).create(&part) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let why = "a backup that did not come to its end: remove it".to_owned();
                return Err(StoreError::Damaged { path: shown(&part), why });
            }
            made => made.map_err(io)?,
        }
        let copied = self.copy_all(from, &part).and_then(|()| {
            let put = || -> io::Result<()> {
                sync(&part)?;
                fs::rename(&part, &to)?;
                sync(to.parent().unwrap_or(Path::new("/")))
            };
            put().map_err(io)
        });
        if copied.is_err() {
            // What is left of it says itself that it is no store.
            let _ = fs::remove_dir_all(&part);
        }
        copied
    }

    fn copy_all(&self, from: &Path, part: &Path) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_copy(from, part) {
                Err(StoreError::Damaged { .. }) if tries < TRIES_MAX => {}
                done => return done,
            }
        }
    }

    /// The index first, then the journal: what the index does not have yet is there. Then the two are held against each other.
    fn try_copy(&self, from: &Path, part: &Path) -> Result<(), StoreError> {
        let (index, journal) = (part.join(place::INDEX), part.join(place::JOURNAL));
        let io = |error| lock::failed(&shown(part), &error);
        for old in [&index, &part.join(place::SUSPECTS)] {
            remove(fs::remove_file(old)).map_err(io)?;
        }
        remove(fs::remove_dir_all(&journal)).map_err(io)?;
        let known = lock::mark(&from.join(place::LOCK))?;
        self.index.snapshot(&index)?;
        DirBuilder::new().mode(0o700).create(&journal).map_err(io)?;
        let copy = || -> io::Result<()> {
            // The last one first: whatever is appended meanwhile, a segment is followed by the next one's beginning.
            let mut segments = names(&from.join(place::JOURNAL))?;
            segments.sort();
            for name in segments.iter().rev() {
                match fs::copy(from.join(place::JOURNAL).join(name), journal.join(name)) {
                    // Released meanwhile, or made ready under another name.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    copied => drop(copied?),
                }
            }
            if let Err(error) = fs::copy(from.join(place::SUSPECTS), part.join(place::SUSPECTS))
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            for name in names(&journal)? {
                sync(&journal.join(name))?;
            }
            sync(&journal)?;
            for file in [&index, &part.join(place::SUSPECTS)] {
                remove(sync(file))?;
            }
            Ok(())
        };
        copy().map_err(io)?;
        let mark = Index::open_read_only(&index, &shown(&index))?.mark()?;
        let reader = JournalReader::new(Arc::new(FolderDisk::new(&journal)));
        let read = |after, bytes| reader.read(after, bytes);
        let first = reader.first().map_err(|error| open::journal_failed(&self.name, error))?;
        let end = open::check_all(mark, first, &read).map_err(|error| error.of(&self.name))?;
        lock::check_mark(&self.name, known, end)
    }
}

fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect()
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// What is not there needs not be removed, and not be synced.
fn remove(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
