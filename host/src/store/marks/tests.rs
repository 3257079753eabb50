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
    let list = List::of(&folder.store());
    assert!(list.read().unwrap().is_empty());
    let [turn, describe] = works();
    let all = [
        Suspect { work: turn, deaths: Some(3), late: true },
        Suspect { work: turn, deaths: None, late: true },
        Suspect { work: describe, deaths: Some(0), late: false },
    ];
    list.write(all.iter().copied()).unwrap();
    assert_eq!(list.read().unwrap(), all);
    list.write(all.iter().copied().take(1)).unwrap();
    assert_eq!(list.read().unwrap(), all[..1]);
}
