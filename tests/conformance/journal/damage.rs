//! Torn or damaged: a tear at every byte is cut, a flip of every byte is found or without effect.

use super::*;

/// Numbers, file and place of the last group of a disk with three of them in one segment.
fn three(disk: &Disk) -> (String, Vec<u8>, usize, usize) {
    let journal = open(disk, 0).unwrap();
    for (after, length) in [300_usize, 1_400, 1_300].into_iter().enumerate() {
        journal.append(after as u64, &vec![after as u8 + 1; length]).unwrap();
    }
    drop(journal);
    let (name, bytes) = disk.contents().remove(0);
    // Header, one unit, three, three.
    (name, bytes, 512 * 5, 512 * 8)
}

#[track_caller]
fn check_three(disk: &Disk, cut: bool) {
    let count = 2 + u64::from(!cut);
    assert_eq!(reader(disk).read(0, usize::MAX).unwrap().len() as u64, count);
    let journal = open(disk, 0).unwrap();
    assert_eq!((journal.end(), journal.read(0, usize::MAX).unwrap().len() as u64), (count, count));
    let (_, bytes) = disk.contents().remove(0);
    let end = if cut { 512 * 5 } else { 512 * 8 };
    assert!(bytes[end.min(bytes.len())..].iter().all(|byte| *byte == 0), "nothing is left of a tear");
    journal.append(count, b"next").unwrap();
    drop(journal);
    let journal = open(disk, count + 1).unwrap();
    let groups = journal.read(0, usize::MAX).unwrap();
    assert_eq!(groups.last(), Some(&(count + 1, b"next".to_vec())));
    assert!(groups[0].1 == [1; 300] && groups[1].1 == [2; 1_400]);
}

/// The journal's last frame is written up to any byte, and what follows was zeros before, garbage, or is missing.
#[test]
fn a_tail_that_is_torn_at_any_byte_is_cut() {
    let disk = new_disk();
    let (name, bytes, from, to) = three(&disk);
    let last = bytes[..to].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut random = Random::new(seed());
    for at in from..=to {
        let mut zeros = bytes.clone();
        zeros[at..].fill(0);
        disk.set(&name, Some(zeros.clone()));
        check_three(&disk, at < last);
        disk.set(&name, Some(bytes[..at].to_vec()));
        check_three(&disk, at < to);
        // In whole units, in any order: what is behind the gap was written, what is in it was not.
        let unit = at / 512 * 512;
        let mut gap = bytes.clone();
        gap[unit..].iter_mut().take(512).for_each(|byte| *byte = random.bits() as u8);
        disk.set(&name, Some(gap));
        check_three(&disk, unit < to);
    }
}

/// A tear is cut only where a crash can have been: what was known to be durable, or has something behind it, is damage.
#[test]
fn what_was_durable_and_is_gone_is_damage() {
    let disk = new_disk();
    let (name, bytes, from, _) = three(&disk);
    let refused = |bytes: &[u8], known: u64, says: &str| {
        disk.set(&name, Some(bytes.to_vec()));
        let before = disk.contents();
        match open(&disk, known).map(drop) {
            Err(JournalError::Damaged { path, why }) => {
                assert!(path == name && why.contains(says) && why.contains("backup"), "{path}: {why}");
            }
            other => panic!("{says}: {other:?}"),
        }
        assert_eq!(disk.contents(), before, "nothing was changed");
    };
    let mut torn = bytes.clone();
    torn[from + 600] ^= 1;
    refused(&torn, 3, "group 3 at byte 2560 is damaged, and it was durable");
    let mut lost = bytes.clone();
    lost[from..].fill(0);
    refused(&lost, 3, "group 3 at byte 2560 is missing, and it was durable");
    let mut middle = bytes.clone();
    middle[600] ^= 1;
    refused(&middle, 0, "group 1 at byte 512 is damaged, and later ones are there");
    let mut far = torn.clone();
    far.resize(from + 512 * 3 + 4_000, 0);
    far[from + 512 * 3 + 3_999] = 1;
    refused(&far, 0, "over more bytes than one group has");
    disk.set(&name, None);
    assert!(matches!(open(&disk, 3).map(drop), Err(JournalError::Damaged { why, .. }) if why.contains("empty")));
}

/// A reader says so too, and does not end in silence before what is damaged.
#[test]
fn a_reader_finds_damage_before_what_is_behind_it() {
    let disk = new_disk();
    fill(&open(&disk, 0).unwrap(), 40);
    let whole = disk.contents();
    assert!(whole.len() > 3);
    for (name, bytes) in &whole[..2] {
        let mut damaged = bytes.clone();
        damaged[700] ^= 1;
        disk.set(name, Some(damaged));
        let (reader, mut after) = (reader(&disk), 0);
        let error = loop {
            match reader.read(after, 1) {
                Ok(groups) if groups.is_empty() => panic!("{name}: ends at {after}"),
                Ok(groups) => after = check(&groups, after),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, JournalError::Damaged { .. }), "{name}: {error}");
        assert!(matches!(super::reader(&disk).read(38, 1), Ok(groups) if groups[0].0 == 39));
        disk.set(name, Some(bytes.clone()));
    }
    check_read(&reader(&disk));
}

/// A bit of each byte of each segment, after a clean end and after none.
#[test]
fn a_flipped_bit_is_found_or_without_effect() {
    for is_clean in [true, false] {
        let disk = new_disk();
        let small = |known| JournalOptions { segment_bytes: 4 << 10, ahead_bytes: 1 << 10, ..options(known) };
        let open = |disk: &Disk, known| FileJournal::open(Arc::new(disk.folder(FOLDER)), small(known));
        let journal = open(&disk, 0).unwrap();
        for (after, length) in [300_usize, 1_000, 3_000, 20, 0, 1_500].into_iter().enumerate() {
            journal.append(after as u64, &vec![after as u8 + 1; length]).unwrap();
        }
        let groups = journal.read(0, usize::MAX).unwrap();
        if is_clean {
            journal.close().unwrap();
        }
        drop(journal);
        let whole = disk.contents();
        assert!(whole.len() >= 2, "more than one segment");
        let (mut found, mut lost) = (0, 0);
        for (name, bytes) in &whole {
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                disk.set(name, Some(flipped));
                let before = disk.contents();
                let read = reader(&disk).read(0, usize::MAX);
                for known in [6, 0] {
                    match open(&disk, known) {
                        Ok(journal) => {
                            // What is known was checked when it was appended, and is when it is read.
                            let now = match journal.read(0, usize::MAX) {
                                Err(JournalError::Damaged { .. }) if known == 6 => {
                                    found += 1;
                                    continue;
                                }
                                now => now.unwrap(),
                            };
                            assert!(read.as_ref().is_ok_and(|read| *read == now), "{name} {at}: the reader agrees");
                            // Without a clean end and without a mark, the last one can have been torn.
                            lost += usize::from(now.len() == 5);
                            assert!(now == groups || !is_clean && known == 0 && now == groups[..5], "{name} {at}");
                        }
                        Err(JournalError::Damaged { .. }) => {
                            found += 1;
                            assert_eq!(disk.contents(), before, "{name} {at}: nothing was changed");
                        }
                        Err(error) => panic!("{name} {at}: {error}"),
                    }
                }
            }
            disk.set(name, Some(bytes.clone()));
        }
        assert_eq!(lost, if is_clean { 0 } else { 1_536 }, "each byte of the last frame");
        assert!(found > 6_000, "{found}");
    }
}

/// Frames and segments are valid in their place only.
#[test]
fn what_is_stale_moved_or_foreign_is_found() {
    let (disk, foreign) = (new_disk(), new_disk());
    fill(&open(&disk, 0).unwrap(), 20);
    let other = JournalOptions { fresh_id: [9; 16], ..options(0) };
    fill(&FileJournal::open(Arc::new(foreign.folder(FOLDER)), other).unwrap(), 20);
    let (whole, foreign) = (disk.contents(), foreign.contents());
    let refused = |name: &str, bytes: Option<&[u8]>, says: &str| {
        let before = disk.contents().into_iter().find(|file| file.0 == name).map(|file| file.1);
        disk.set(name, bytes.map(<[u8]>::to_vec));
        let error = open(&disk, 0).map(drop).unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
        disk.set(name, before);
    };
    let (second, bytes) = &whole[1];
    refused(second, Some(&foreign[1].1), "another journal");
    refused(second, Some(&whole[2].1), "under another name");
    refused(second, Some(b"charm"), "header is damaged");
    refused(second, None, "missing");
    let mut moved = bytes.clone();
    moved.copy_within(512..1_024, 1_024);
    refused(second, Some(&moved), "is damaged");
    let mut foreign_frame = bytes.clone();
    foreign_frame[512..].copy_from_slice(&foreign[1].1[512..bytes.len()]);
    refused(second, Some(&foreign_frame), "group");
    let mut later = bytes.clone();
    later[12] = 2;
    refused(second, Some(&later), "header is damaged");
    let sum = crc32fast::hash(&later[..40]);
    later[40..44].copy_from_slice(&sum.to_le_bytes());
    refused(second, Some(&later), "version 2 of the format");
    assert_eq!(check_all(&open(&disk, 20).unwrap()), 20);
}

/// Writes the head of a frame anew, as a later host may: of another kind, number or length.
fn later_head(bytes: &mut [u8], offset: usize, kind: u32, number: u64, length: u32) {
    bytes[offset + 4..offset + 8].copy_from_slice(&kind.to_le_bytes());
    bytes[offset + 8..offset + 16].copy_from_slice(&number.to_le_bytes());
    bytes[offset + 16..offset + 20].copy_from_slice(&length.to_le_bytes());
    let mut sum = crc32fast::Hasher::new();
    let place = [&ID[..], &1_u64.to_le_bytes(), &(offset as u64).to_le_bytes()].concat();
    sum.update(&place);
    sum.update(&bytes[offset + 4..offset + 24]);
    bytes[offset..offset + 4].copy_from_slice(&sum.finalize().to_le_bytes());
}

/// A frame of a later host is no tear and no damage, wherever it stands: nothing is cut, and the error says what to do.
#[test]
fn a_frame_that_this_host_does_not_write_is_refused_by_name() {
    let disk = new_disk();
    let (name, bytes, last, _) = three(&disk);
    let longer = (64 << 20) + 1;
    let frames = [(3, 3, 9), (1, 3, longer), (1, 0, 9), (1, u64::MAX, 9), (2, 3, 9), (2, u64::MAX, 0), (3, 0, 0)];
    for (offset, (kind, number, length)) in
        [512, 1_024, last].into_iter().flat_map(|at| frames.map(|frame| (at, frame)))
    {
        let mut later = bytes.clone();
        later_head(&mut later, offset, kind, number, length);
        disk.set(&name, Some(later));
        let before = disk.contents();
        let says = format!("the frame at byte {offset} is of a kind or a length that this host does not know");
        for known in [0, 3] {
            let error = open(&disk, known).map(drop).unwrap_err();
            assert!(
                matches!(&error, JournalError::Unknown { path, why } if *path == name && why.starts_with(&says)
                && why.ends_with("use the host that wrote it, or a later one")),
                "{kind} {number} {length}: {error}"
            );
            assert_eq!(disk.contents(), before, "nothing was changed");
            for after in [0, 2, 3, 4] {
                assert_eq!(
                    reader(&disk).read(after, usize::MAX),
                    Err(error.clone()),
                    "{kind} {number} {length}: {after}"
                );
            }
        }
        assert_eq!(reader(&disk).first().is_err(), offset == 512);
    }
    // Behind what may have been torn, too: what a crash can leave there is a later host's to say.
    let mut torn = bytes;
    torn[1_024 + 600] ^= 1;
    later_head(&mut torn, last, 3, 3, 9);
    disk.set(&name, Some(torn));
    let before = disk.contents();
    let error = open(&disk, 0).map(drop).unwrap_err();
    assert!(matches!(&error, JournalError::Unknown { why, .. } if why.contains("the frame at byte 2560")), "{error}");
    assert_eq!((disk.contents(), reader(&disk).read(0, usize::MAX)), (before, Err(error)));
}

/// What fails to be read says nothing of what is there.
#[test]
fn an_error_of_reading_is_neither_a_tear_nor_damage() {
    let disk = new_disk();
    let (name, mut bytes, from, _) = three(&disk);
    bytes[from + 600] ^= 1;
    disk.set(&name, Some(bytes));
    let before = disk.contents();
    for number in 1.. {
        disk.plan(disk.count() + number, Fault::Error);
        match open(&disk, 0) {
            Ok(_) => break,
            Err(JournalError::Failed(_)) => {}
            Err(error) => panic!("operation {number}: {error}"),
        }
        let is_reading =
            disk.struck().iter().any(|fault| ["list", "read", "open"].iter().any(|what| fault.starts_with(what)));
        if is_reading && number < 6 {
            assert_eq!(disk.contents(), before);
        }
        assert!(number < 100);
    }
    disk.plan(0, Fault::Error);
    assert_eq!(open(&disk, 0).unwrap().end(), 2);
}
