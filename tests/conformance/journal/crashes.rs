//! Crashes, power cuts, failures and a full disk, at every operation and at random.

use super::*;

/// What the one who appends knows.
#[derive(Default)]
struct Model {
    /// The last group that was acknowledged, or found when the journal was opened.
    durable: u64,
    /// The one behind it may be there.
    tried: bool,
    /// Groups up to here may have gone.
    released: u64,
}

impl Model {
    /// Checks what the next process finds.
    fn check(&mut self, disk: &Disk, context: &str) -> FileJournal {
        let journal = open(disk, self.durable).unwrap_or_else(|error| panic!("{context}: {error}"));
        let end = check_all(&journal);
        let most = self.durable + u64::from(self.tried);
        assert!(
            (self.durable..=most).contains(&end),
            "{context}: it ends at {end}, not from {} to {most}",
            self.durable
        );
        assert!(journal.first() <= self.released + 1, "{context}: it begins at {}", journal.first());
        (self.durable, self.tried) = (end, false);
        journal
    }
}

/// One run with everything a host does. Ends early when the journal stops.
fn run(disk: &Disk, model: &mut Model) -> Result<(), String> {
    for _ in 0..2 {
        let journal = open(disk, model.durable).map_err(|error| error.to_string())?;
        assert!(journal.end() >= model.durable);
        model.durable = journal.end();
        for _ in 0..9 {
            let after = journal.end();
            model.tried = true;
            match journal.append(after, &group(after + 1)) {
                Ok(number) => model.durable = number,
                Err(AppendError::Full) => {
                    assert_eq!(journal.end(), after);
                    // Once only: the fault is gone.
                    let number = journal.append(after, &group(after + 1)).map_err(|error| error.to_string())?;
                    model.durable = number;
                }
                Err(AppendError::Lost { .. }) => panic!("there is no other writer"),
                Err(AppendError::Unknown(why)) => {
                    let next = journal.append(after, b"never");
                    assert!(matches!(next, Err(AppendError::Unknown(_))), "nothing is appended any more: {next:?}");
                    assert_eq!(journal.end(), after);
                    return Err(why);
                }
            }
            model.tried = false;
            match journal.prepare() {
                Ok(_) | Err(JournalError::Full) => {}
                Err(error) => return Err(error.to_string()),
            }
            if after % 5 == 4 {
                model.released = model.durable - 2;
                journal.release(model.durable - 2).map_err(|error| error.to_string())?;
            }
        }
        journal.close().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Each operation of the disk fails once, is full, is the last one of the process or the last one before the power goes.
#[test]
fn whichever_operation_fails_what_was_acknowledged_is_there() {
    for fault in [Fault::Error, Fault::Full, Fault::Kill, Fault::Cut] {
        let mut number = 1;
        loop {
            let (disk, mut model) = (Disk::new(Random::new(seed() ^ number)), Model::default());
            disk.plan(number, fault);
            let ended = run(&disk, &mut model);
            let context = format!("{fault:?} at operation {number}: {ended:?}");
            if disk.struck().is_empty() && fault != Fault::Full || disk.count() < number {
                assert_eq!(ended, Ok(()), "{context}");
                assert!(number > 100, "{context}");
                break;
            }
            assert!(ended.is_err() || fault != Fault::Kill && fault != Fault::Cut, "{context}");
            let next = disk.restarted();
            let journal = model.check(&next, &context);
            fill(&journal, journal.end() + 3);
            drop(journal);
            // Whatever the power takes now, it takes nothing that was found.
            model.durable += 3;
            next.cut();
            drop(model.check(&next.restarted(), &format!("{context}, then the power goes")));
            number += 1;
        }
    }
}

/// Many crashes of one journal, by chance.
#[test]
fn what_was_acknowledged_survives_crashes_at_random() {
    for round in 0..times(60) {
        let mut random = Random::new(seed() ^ round);
        let (mut disk, mut model) = (Disk::new(Random::new(random.bits())), Model::default());
        let mut faults = Vec::new();
        for life in 0..25 {
            let one = |random: &mut Random| random.below(3) * random.below(12);
            disk.set_rates(Rates { error: one(&mut random), cut: one(&mut random), kill: one(&mut random) });
            if random.chance(200) {
                disk.set_free(Some(random.below(20_000) as usize));
            }
            let ended = run(&disk, &mut model);
            faults = disk.struck();
            if !disk.is_off() && random.chance(500) {
                disk.cut();
            }
            disk = disk.restarted();
            disk.set_rates(Rates::default());
            disk.set_free(None);
            let context = format!("round {round}, life {life}, {ended:?}, {faults:?}");
            drop(model.check(&disk, &context));
            if random.chance(300) {
                // What was found is durable, even when nothing was appended.
                disk.cut();
                disk = disk.restarted();
                drop(model.check(&disk, &context));
            }
        }
        assert!(model.durable > 0, "{faults:?}");
    }
}

/// Nobody can say what a failed sync left. What the next process reads is only in memory, until it makes it durable.
#[test]
fn what_is_found_after_a_failed_sync_is_made_durable_before_it_is_used() {
    let mut kept = 0;
    for round in 0..40 {
        let disk = Disk::new(Random::new(seed() ^ round));
        let journal = open(&disk, 0).unwrap();
        fill(&journal, 3);
        while journal.prepare().unwrap() {}
        disk.plan(disk.count() + 2, Fault::Error);
        let failed = journal.append(3, &group(4));
        assert!(matches!(failed, Err(AppendError::Unknown(_))), "{failed:?}");
        assert!(disk.struck()[0].starts_with("sync"));
        drop(journal);
        let next = disk.restarted();
        let end = open(&next, 3).unwrap().end();
        assert_eq!(end, 4, "the cache has it");
        next.cut();
        let last = next.restarted();
        let journal = open(&last, 3).unwrap();
        assert_eq!(journal.end(), 4, "round {round}: it was found, so it is there");
        kept += 1;
    }
    assert_eq!(kept, 40);
}

/// Released segments go oldest first; whatever happens meanwhile, no gap is left and nothing more has gone.
#[test]
fn a_release_that_is_killed_at_any_step_leaves_a_whole_journal() {
    for fault in [Fault::Error, Fault::Kill, Fault::Cut] {
        for number in 1.. {
            let disk = Disk::new(Random::new(seed() ^ number));
            let journal = open(&disk, 0).unwrap();
            fill(&journal, 40);
            disk.plan(disk.count() + number, fault);
            let released = journal.release(30);
            if disk.struck().is_empty() {
                assert!(number > 6, "several segments went");
                assert!(journal.first() > 20 && journal.first() <= 31, "{}", journal.first());
                assert_eq!(journal.read(0, 1), Err(JournalError::Released { first: journal.first() }));
                break;
            }
            assert!(released.is_err());
            if fault == Fault::Error {
                journal.release(30).unwrap();
                assert_eq!(disk.contents().iter().filter(|file| file.0.ends_with(".log")).count() as u64, {
                    drop(journal);
                    disk.contents().len() as u64
                });
            }
            let mut model = Model { durable: 40, tried: false, released: 30 };
            drop(model.check(&disk.restarted(), &format!("{fault:?} at {number}")));
        }
    }
}

/// What is in the files but headers, and but the zeros behind the last frame.
fn written(disk: &Disk) -> Vec<u8> {
    let groups = disk.contents().into_iter().filter(|(name, _)| name.ends_with(".log"));
    let groups = groups.flat_map(|(_, bytes)| {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes[..end].get(512..).map(<[u8]>::to_vec).unwrap_or_default()
    });
    groups.collect()
}

/// A segment that has no group yet, because its first found no room, does not tell where the journal goes on.
#[test]
fn a_segment_without_a_group_does_not_replace_the_one_before() {
    let disk = new_disk();
    let journal = open(&disk, 0).unwrap();
    for number in 1..=6 {
        journal.append(number - 1, &[1; 1_000]).unwrap();
    }
    disk.set_free(Some(3_000));
    assert_eq!(journal.append(6, &[2; 70_000]), Err(AppendError::Full));
    assert_eq!(disk.contents().len(), 2, "the second segment is there");
    journal.release(6).unwrap();
    assert_eq!((journal.first(), journal.end()), (1, 6));
    drop(journal);
    let next = disk.restarted();
    next.set_free(None);
    let journal = open(&next, 6).unwrap();
    assert_eq!(journal.append(6, &[2; 70_000]), Ok(7));
    journal.release(6).unwrap();
    assert_eq!(journal.first(), 7);
}

/// Full is told before anything has happened, for groups of every size, and passes.
#[test]
fn a_full_disk_leaves_nothing_of_a_group_and_is_waited_out() {
    for free in (0..90_000).step_by(700) {
        let disk = new_disk();
        let journal = open(&disk, 0).unwrap();
        fill(&journal, 4);
        disk.set_free(Some(free));
        let mut full = 0;
        for number in 5..=30 {
            let before = written(&disk);
            match journal.append(number - 1, &group(number)) {
                Ok(end) => assert_eq!(end, number),
                Err(error) => {
                    assert_eq!(error, AppendError::Full, "{free} free, group {number}");
                    full += 1;
                    assert_eq!(written(&disk), before, "nothing is left of the group");
                    assert_eq!(check_all(&journal), number - 1);
                    assert_eq!(check_read(&reader(&disk)), number - 1);
                    let copy = disk.copy();
                    assert_eq!(check_all(&open(&copy, number - 1).unwrap()), number - 1);
                    disk.set_free(None);
                    assert_eq!(journal.append(number - 1, &group(number)), Ok(number));
                }
            }
        }
        assert_eq!(full, 1, "{free} free");
        journal.close().unwrap();
        drop(journal);
        assert_eq!(check_all(&open(&disk, 30).unwrap()), 30);
    }
}
