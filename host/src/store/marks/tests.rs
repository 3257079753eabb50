//! Marks and the list of suspects, as files.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// A folder that is gone with the value.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn store(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

fn works() -> [Work; 2] {
    [Work::Turn { position: 1 << 40, id: EventId([7; 16]) }, Work::Describe { component: [0xa9; 32] }]
}

#[test]
fn marks_outlive_their_process_and_not_its_end() {
    let folder = Folder::new();
    let store = folder.store();
    assert!(Marks::left(&store).is_empty());
    let marks = Marks::begin(&store).unwrap();
    let all: Vec<Mark> = works().into_iter().zip([true, false]).map(|(work, alone)| Mark { work, alone }).collect();
    marks.set(2, Some(all[0]));
    marks.set(0, Some(all[1]));
    assert_eq!(Marks::left(&store), [all[1], all[0]]);
    marks.set(0, None);
    assert_eq!(Marks::left(&store), [all[0]]);
    let next = Marks::begin(&store).unwrap();
    marks.set(1, Some(all[1]));
    assert!(Marks::left(&store).is_empty(), "whoever is gone marks nothing");
    next.set(1, Some(all[1]));
    next.wipe();
    next.set(0, Some(all[0]));
    assert!(Marks::left(&store).is_empty());
}

#[test]
fn a_list_comes_back_as_it_was_written() {
    let folder = Folder::new();
    let (list, none) = List::read(&folder.store()).unwrap();
    assert!(none.is_empty());
    let [turn, describe] = works();
    let all = [
        Suspect { work: turn, deaths: Some(3), late: true },
        Suspect { work: turn, deaths: None, late: true },
        Suspect { work: describe, deaths: Some(0), late: false },
    ];
    list.write(all.iter().copied()).unwrap();
    assert_eq!(List::read(&folder.store()).unwrap().1, all);
    list.write(all.iter().copied().take(1)).unwrap();
    assert_eq!(List::read(&folder.store()).unwrap().1, all[..1]);
}

/// Lines of a later host stay as they are, also those that begin like one of this host's; not without end.
#[test]
fn what_a_later_host_wrote_in_the_list_is_kept() {
    let folder = Folder::new();
    let file = folder.store().join(place::SUSPECTS);
    let [turn, describe] = works();
    let all = [turn, describe].map(|work| Suspect { work, deaths: Some(1), late: false });
    let [turn, describe] = all.map(|suspect| line(&suspect));
    let later = format!("reader 7 of 9\n\n{} until 8\nevent x 1 2 true\ncomponent", turn.trim_end());
    std::fs::write(&file, format!("{turn}{later}\n{describe}")).unwrap();
    let (list, suspects) = List::read(&folder.store()).unwrap();
    assert_eq!(suspects, all);
    list.write(all.iter().copied().skip(1)).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{describe}{later}\n"));
    std::fs::write(&file, format!("{describe}{later}")).unwrap();
    let (list, suspects) = List::read(&folder.store()).unwrap();
    assert_eq!(suspects, all[1..]);
    list.write(all.into_iter()).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{turn}{describe}{later}\n"));
    std::fs::write(&file, format!("{}\n{turn}", "later\n".repeat(SUSPECTS_LATER_BYTES_MAX))).unwrap();
    let (list, suspects) = List::read(&folder.store()).unwrap();
    assert_eq!((suspects, list.forgotten > 0), (all[..1].to_vec(), true));
    list.write(all.into_iter()).unwrap();
    let length = std::fs::metadata(&file).unwrap().len() as usize;
    assert!(length > SUSPECTS_LATER_BYTES_MAX / 2 && length < SUSPECTS_LATER_BYTES_MAX + 1_000, "{length}");
}
