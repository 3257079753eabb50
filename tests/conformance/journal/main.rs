//! Chapter journal: the append-only log of a store, alone. What was appended is there, whole and in order, whatever crashes,
//! fails, fills up or is flipped; what is not as it was written is found; and nothing but the end of it can be torn.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../simulation/disk.rs"]
#[allow(dead_code, reason = "the journal needs no SQLite")]
mod disk;

mod crashes;
mod damage;
mod files;
mod reading;
mod speed;

use std::sync::Arc;

use charm_conformance::*;
use charm_host::{AppendError, FileJournal, Journal, JournalError, JournalOptions, JournalReader};
use disk::{Disk, Fault, Rates};

/// The id of the journals of these tests.
const ID: [u8; 16] = *b"journal of tests";
/// The folder on the simulated disks.
const FOLDER: &str = "journal";

/// Small segments: a few groups fill one.
fn options(known: u64) -> JournalOptions {
    JournalOptions { segment_bytes: 8 << 10, ahead_bytes: 2 << 10, ..JournalOptions::new(ID, known) }
}

fn open(disk: &Disk, known: u64) -> Result<FileJournal, JournalError> {
    FileJournal::open(Arc::new(disk.folder(FOLDER)), options(known))
}

fn reader(disk: &Disk) -> JournalReader {
    JournalReader::new(Arc::new(disk.folder(FOLDER)))
}

fn new_disk() -> Disk {
    Disk::new(Random::new(seed()))
}

/// The bytes of group `number`; one in eight is longer than what is written into zeros.
fn group(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let length = match random.below(8) {
        0 => 66_000,
        1 => 0,
        2 => 488,
        _ => random.below(3_000),
    };
    (0..length).map(|at| (number * 31 + at) as u8).collect()
}

/// Appends groups until number `end` is there.
fn fill(journal: &dyn Journal, end: u64) {
    for number in journal.end() + 1..=end {
        assert_eq!(journal.append(number - 1, &group(number)), Ok(number));
    }
}

/// Checks that groups are those after `after`, and returns the number of the last.
#[track_caller]
fn check(groups: &[(u64, Vec<u8>)], after: u64) -> u64 {
    for ((number, bytes), expected) in groups.iter().zip(after + 1..) {
        assert_eq!(*number, expected);
        assert!(*bytes == group(*number), "group {number} is as it was written");
    }
    after + groups.len() as u64
}

/// Checks all groups from the first on, read in pieces of any size; returns the number of the last.
#[track_caller]
fn check_all(journal: &dyn Journal) -> u64 {
    let mut after = journal.first() - 1;
    for size in [0, 1_000, 100_000].into_iter().cycle() {
        let groups = journal.read(after, size).unwrap();
        if groups.is_empty() {
            break;
        }
        after = check(&groups, after);
    }
    assert_eq!(after, journal.end());
    after
}

/// As `check_all`, through a reader.
#[track_caller]
fn check_read(reader: &JournalReader) -> u64 {
    let mut after = reader.first().unwrap() - 1;
    loop {
        let groups = reader.read(after, 3_000).unwrap();
        if groups.is_empty() {
            return after;
        }
        after = check(&groups, after);
    }
}
