//! The journal in a real folder: what it writes, how often, and how it rotates.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use charm_host::{
    Disk as Files, DiskFile, FolderDisk, JOURNAL_AHEAD_BYTES, JOURNAL_GROUP_BYTES_MAX, JOURNAL_SEGMENT_BYTES,
    JOURNAL_ZEROED_GROUP_BYTES_MAX,
};

use super::*;

/// A folder that counts what is done to its files.
pub struct Counted {
    folder: FolderDisk,
    counts: Arc<Counts>,
}

#[derive(Default)]
pub struct Counts {
    writes: AtomicU64,
    syncs: AtomicU64,
    /// Names of what changes something, but writes and syncs.
    changes: Mutex<Vec<String>>,
}

impl Counts {
    /// Returns (writes, syncs) since the last call.
    fn take(&self) -> (u64, u64) {
        (self.writes.swap(0, Ordering::Relaxed), self.syncs.swap(0, Ordering::Relaxed))
    }

    fn note(&self, what: &str) {
        self.changes.lock().unwrap().push(what.to_owned());
    }
}

impl Counted {
    pub fn new(folder: FolderDisk) -> (Arc<Counted>, Arc<Counts>) {
        let counts = Arc::<Counts>::default();
        (Arc::new(Counted { folder, counts: Arc::clone(&counts) }), counts)
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(CountedFile { file, counts: Arc::clone(&self.counts) })
    }
}

impl Files for Counted {
    fn name(&self) -> String {
        self.folder.name()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.folder.list()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.counts.note("create");
        Ok(self.file(self.folder.create(name)?))
    }

    fn open(&self, name: &str, writes: bool) -> io::Result<Box<dyn DiskFile>> {
        if writes {
            self.counts.note("open for writing");
        }
        Ok(self.file(self.folder.open(name, writes)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.counts.note("rename");
        self.folder.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.counts.note("remove");
        self.folder.remove(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.counts.note("sync folder");
        self.folder.sync_folder()
    }
}

struct CountedFile {
    file: Box<dyn DiskFile>,
    counts: Arc<Counts>,
}

impl DiskFile for CountedFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        self.file.write_at(bytes, offset)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.counts.note("truncate");
        self.file.truncate(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync()
    }
}

fn folder(home: &tempfile::TempDir) -> FolderDisk {
    FolderDisk::create(home.path().join("journal")).unwrap()
}

#[test]
fn a_group_costs_one_write_and_one_sync() {
    let home = tempfile::tempdir().unwrap();
    let (disk, counts) = Counted::new(folder(&home));
    let journal = FileJournal::open(disk, JournalOptions::new(ID, 0)).unwrap();
    for number in 1..=3_000 {
        while journal.prepare().unwrap() {}
        counts.take();
        journal.append(number - 1, &[number as u8; 1_000]).unwrap();
        assert_eq!(counts.take(), (1, 1), "group {number}");
    }
    // A frame too long to be written twice, where the zeros end.
    let long = vec![1; JOURNAL_ZEROED_GROUP_BYTES_MAX as usize * 40];
    journal.append(3_000, &long).unwrap();
    assert_eq!(counts.take(), (1, 1));
}

/// Room that nobody made ahead is made by the append, in steps.
#[test]
fn a_segment_is_filled_with_zeros_a_step_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let (disk, counts) = Counted::new(folder(&home));
    let journal = FileJournal::open(disk, JournalOptions::new(ID, 0)).unwrap();
    let length = || fs::metadata(home.path().join("journal/00000001.log")).unwrap().len();
    assert_eq!(length(), JOURNAL_AHEAD_BYTES);
    counts.take();
    for number in 1..=1_000 {
        journal.append(number - 1, &[1; 2_000]).unwrap();
    }
    assert_eq!(length(), 2 * JOURNAL_AHEAD_BYTES);
    assert_eq!(counts.take(), (1_001, 1_001));
}

#[test]
fn segments_end_at_their_size_and_groups_of_any_size_up_to_the_bound_fit() {
    let home = tempfile::tempdir().unwrap();
    let disk = Arc::new(folder(&home));
    let journal = FileJournal::open(disk.clone(), JournalOptions::new(ID, 0)).unwrap();
    let half = vec![1; JOURNAL_SEGMENT_BYTES as usize / 2];
    let longest = vec![2; JOURNAL_GROUP_BYTES_MAX];
    for group in [&half, &half, &longest, &vec![3]] {
        journal.append(journal.end(), group).unwrap();
    }
    let mut names = disk.list().unwrap();
    names.sort();
    assert_eq!(names, ["00000001.log", "00000002.log", "00000003.log", "00000004.log"]);
    let too_long = journal.append(4, &vec![0; JOURNAL_GROUP_BYTES_MAX + 1]);
    assert!(matches!(too_long, Err(AppendError::Unknown(why)) if why.contains("too long")));
    drop(journal);
    let journal = FileJournal::open(disk, JournalOptions::new(ID, 4)).unwrap();
    let groups = journal.read(1, usize::MAX).unwrap();
    assert!(groups == [(2, half), (3, longest), (4, vec![3])]);
    assert_eq!(journal.read(1, 1).unwrap().len(), 1, "at least one");
}

/// Cells hold tokens: the folder and its files are their owner's alone.
#[test]
fn only_its_owner_can_read_a_journal() {
    let home = tempfile::tempdir().unwrap();
    let journal = FileJournal::open(Arc::new(folder(&home)), JournalOptions::new(ID, 0)).unwrap();
    fill(&journal, 3);
    let mode = |path: &str| fs::metadata(home.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("journal"), mode("journal/00000001.log")), (0o700, 0o600));
}

/// A reader does nothing that needs the right to write.
#[test]
fn a_reader_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let journal = FileJournal::open(Arc::new(folder(&home)), options(0)).unwrap();
    fill(&journal, 50);
    journal.release(10).unwrap();
    let (disk, counts) = Counted::new(FolderDisk::new(home.path().join("journal")));
    let reader = JournalReader::new(disk);
    assert_eq!(check_read(&reader), 50);
    assert_eq!(reader.id(), Ok(Some(journal.id())));
    assert_eq!(counts.writes.load(Ordering::Relaxed), 0);
    assert_eq!(*counts.changes.lock().unwrap(), [""; 0]);
    // It vouches for what it returns: the last group may not have been on the disk.
    assert!(counts.syncs.load(Ordering::Relaxed) > 0);
}

/// Numbers of segments are never used again: what is released leaves no file behind that a later one could be taken for.
#[test]
fn a_journal_goes_on_where_it_ended_however_it_ended() {
    let home = tempfile::tempdir().unwrap();
    for (life, end) in [5, 5, 17, 40, 41, 70].into_iter().enumerate() {
        let journal = FileJournal::open(Arc::new(folder(&home)), options(0)).unwrap();
        assert_eq!(journal.id(), ID);
        fill(&journal, end);
        assert_eq!(check_all(&journal), end);
        journal.release(end / 2).unwrap();
        if life % 2 == 0 {
            journal.close().unwrap();
            journal.close().unwrap();
            assert!(matches!(journal.append(end, b"late"), Err(AppendError::Unknown(_))));
            assert_eq!(check_all(&journal), end, "reading goes on");
        }
    }
}

/// Compare and set: who appends for another end does not know what is there.
#[test]
fn an_append_for_another_end_is_lost_and_the_last() {
    for after in [0, 1, 3, u64::MAX] {
        let home = tempfile::tempdir().unwrap();
        let journals: [Box<dyn Journal>; 2] = [
            Box::new(charm_host::MemoryJournal::new()),
            Box::new(FileJournal::open(Arc::new(folder(&home)), options(0)).unwrap()),
        ];
        for journal in journals {
            fill(&*journal, 2);
            assert_eq!(journal.append(after, b"other"), Err(AppendError::Lost { end: 2 }));
            assert!(matches!(journal.append(2, b"more"), Err(AppendError::Unknown(_))));
            assert_eq!((journal.end(), check_all(&*journal)), (2, 2));
        }
    }
}

/// A journal in memory does what one in files does.
#[test]
fn both_journals_read_and_release_alike() {
    let home = tempfile::tempdir().unwrap();
    let memory = charm_host::MemoryJournal::new();
    let file = FileJournal::open(Arc::new(folder(&home)), options(0)).unwrap();
    let mut random = Random::new(seed());
    for _ in 0..500 {
        let end = file.end();
        let after = file.first() - 1 + random.below(end + 2 - (file.first() - 1));
        match random.below(4) {
            0 => fill(&file, end + 1),
            1 if random.chance(100) => file.release(after).unwrap(),
            _ => assert_eq!(file.read(after, after as usize * 100), {
                fill(&memory, end);
                memory.read(after, after as usize * 100)
            }),
        }
    }
    assert!(file.first() > 1 && memory.first() == 1);
}
