//! A reader beside a running writer, which goes on, rotates and releases.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use charm_host::FolderDisk;

use super::*;

const END: u64 = 3_000;

/// A reader sees what was acknowledged when it began, in order and whole, or is told that it has gone.
#[test]
fn a_reader_beside_a_writer_sees_what_was_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("journal");
    let journal = FileJournal::open(Arc::new(FolderDisk::create(&folder).unwrap()), options(0)).unwrap();
    let (acknowledged, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                journal.prepare().unwrap();
                thread::yield_now();
            }
        });
        let readers: Vec<_> = [1, 2_000, 200_000]
            .map(|bytes| {
                let reader = JournalReader::new(Arc::new(FolderDisk::new(&folder)));
                let acknowledged = &acknowledged;
                scope.spawn(move || {
                    let (mut after, mut released, mut read) = (0, 0, 0);
                    while after < END {
                        let known = acknowledged.load(Ordering::SeqCst);
                        match reader.read(after, bytes) {
                            Ok(groups) => {
                                assert!(after >= known || !groups.is_empty(), "{after}: group {known} is acknowledged");
                                after = check(&groups, after);
                                read += groups.len();
                            }
                            Err(JournalError::Released { first }) => {
                                assert!(first > after + 1);
                                (after, released) = (first - 1, released + 1);
                            }
                            Err(error) => panic!("{after}: {error}"),
                        }
                    }
                    (read, released)
                })
            })
            .into_iter()
            .collect();
        scope.spawn(|| {
            for number in 1..=END {
                journal.append(number - 1, &group(number)).unwrap();
                acknowledged.store(number, Ordering::SeqCst);
                // The owner reads, too, and now and then somewhere else.
                check(&journal.read(number - 1, 1).unwrap(), number - 1);
                if number % 40 == 0 {
                    check(&journal.read(number - 10, 5_000).unwrap(), number - 10);
                    journal.release(number - 20).unwrap();
                }
            }
            is_done.store(true, Ordering::Relaxed);
        });
        for reader in readers {
            let (read, _) = reader.join().unwrap();
            assert!(read > 0);
        }
    });
    assert!(journal.first() > END - 70);
}

/// What is being written, or was torn, is not there; the reader goes on when it is.
#[test]
fn a_reader_waits_for_what_is_being_written() {
    let disk = new_disk();
    let journal = open(&disk, 0).unwrap();
    assert_eq!(reader(&disk).read(0, 1), Ok(Vec::new()));
    let reader = reader(&disk);
    for number in 1..=30 {
        let before = disk.contents();
        fill(&journal, number);
        let after = disk.contents();
        for (name, whole) in &after {
            let old = before.iter().find(|file| file.0 == *name).map(|file| file.1.clone()).unwrap_or_default();
            let mut differing = (0..whole.len()).filter(|at| whole[*at] != old.get(*at).copied().unwrap_or_default());
            let Some(last) = differing.next_back().filter(|_| !old.is_empty()) else { continue };
            // All but the last byte of it.
            let mut partly = whole.clone();
            partly[last] = old.get(last).copied().unwrap_or_default();
            disk.set(name, Some(partly));
            assert_eq!(reader.read(number - 1, 1), Ok(Vec::new()), "group {number}");
            disk.set(name, Some(whole.clone()));
        }
        assert_eq!(check(&reader.read(number - 1, 1).unwrap(), number - 1), number);
    }
    assert_eq!(reader.read(30, 1), Ok(Vec::new()));
    assert_eq!(reader.read(99, 1), Ok(Vec::new()));
}

/// A store that is being made, or has no journal yet.
#[test]
fn a_reader_of_an_empty_folder_finds_nothing() {
    let home = tempfile::tempdir().unwrap();
    let reader = JournalReader::new(Arc::new(FolderDisk::create(home.path().join("journal")).unwrap()));
    assert_eq!((reader.read(0, 1), reader.first(), reader.id()), (Ok(Vec::new()), Ok(1), Ok(None)));
    let none = JournalReader::new(Arc::new(FolderDisk::new(home.path().join("none"))));
    assert!(matches!(none.read(0, 1), Err(JournalError::Failed(why)) if why.contains("none")));
}
