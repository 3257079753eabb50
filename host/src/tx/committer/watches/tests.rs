use super::*;
use crate::{
    rows::CellWrite,
    value::{Edit, Value},
};

fn cell(name: &str) -> CellId {
    CellId { owner: Did::numbered(1), name: name.into() }
}

/// A batch that writes cells: each with its commit, none for a removal.
fn batch(writes: &[(&str, u64, Option<i64>)]) -> Batch {
    let write = |(name, seq, value): &(&str, u64, Option<i64>)| {
        let put = value.map(|value| Value::encode(&value).expect("a value"));
        let edits = vec![Edit { path: Path::root(), put }];
        CellWrite { space: Did::numbered(1), name: (*name).into(), order: *seq, seq: *seq, edits }
    };
    Batch { cells: writes.iter().map(write).collect(), ..Batch::default() }
}

fn reach(watches: &Watches, writes: &[(&str, u64, Option<i64>)]) {
    let batch = batch(writes);
    watches.reached(&watches.wrote(&batch), &batch, &[]);
}

fn place(watches: &Arc<Watches>, topic: Topic) -> Place {
    watches.join(topic, None).expect("a place").0
}

#[test]
fn with_no_watcher_nothing_is_looked_at_and_who_leaves_leaves_nothing() {
    let watches: Arc<Watches> = Arc::default();
    assert!(watches.wrote(&batch(&[("x", 1, Some(1))])).is_empty());
    let (first, is_first) = watches.join(Topic::Cell(cell("x")), Some(Did::numbered(2))).expect("a place");
    let (second, is_second) = watches.join(Topic::Cell(cell("x")), None).expect("a place");
    let cells = place(&watches, Topic::Cells(Did::numbered(1), "x".into()));
    assert!(is_first && !is_second && Arc::ptr_eq(&first.watched, &second.watched));
    let before = first.watched.marked();
    reach(&watches, &[("x", 1, Some(1)), ("y", 1, Some(1)), ("x", 2, Some(2))]);
    assert_eq!(first.watched.marked().number, before.number + 2);
    assert_eq!(cells.watched.marked().number, before.number + 2);
    drop((first, second, cells));
    let inner = watches.inner();
    assert!(inner.topics.is_empty() && inner.prefixes.is_empty() && inner.readers.is_empty());
    assert!(!watches.is_any());
}

#[test]
fn an_answer_counts_the_writes_up_to_its_revision_and_a_part_is_made_once() {
    let watches: Arc<Watches> = Arc::default();
    let place = place(&watches, Topic::Cell(cell("x")));
    let mut told = place.watched.told();
    reach(&watches, &[("x", 3, Some(1)), ("x", 5, Some(2)), ("x", 6, Some(3))]);
    let tree = Tree::new(Value::encode(&vec![7; 100]).expect("a value"));
    let present = Present { value: Some(tree.clone()), revision: 5, order: 5 };
    place.watched.tell(place.watched.marked(), Some(Ok(present)));
    let told = told.borrow_and_update().clone();
    assert_eq!(told.number, 2, "the third is later");
    let parts = [(); 2].map(|()| told.part(Some(&tree), &Path::root()).expect("readable").expect("a value"));
    assert_eq!(parts[0].as_bytes().as_ptr(), parts[1].as_bytes().as_ptr());
    assert!(told.part(Some(&tree), &"/key".parse().expect("a path")).is_err());
}

#[test]
fn the_list_of_a_prefix_has_each_cell_once_and_gaps_where_states_were_written_over() {
    let watches: Arc<Watches> = Arc::default();
    let place = place(&watches, Topic::Cells(Did::numbered(1), "k".into()));
    // What is written while the list is made stands behind what was there.
    reach(&watches, &[("k2", 9, Some(1))]);
    let there = [("k1", 2), ("k2", 4), ("k3", 4)].map(|(name, seq)| Name { name: name.into(), seq });
    place.watched.names().begin(there.into(), 8);
    let walk = |mut cursor: u64| {
        let (mut walked, mut skipped) = (Vec::new(), 0);
        while let Some((number, name, more)) = place.watched.names().after(cursor) {
            skipped += number - cursor - 1;
            cursor = number;
            walked.push((name.name.to_string(), name.seq, more));
        }
        (walked, skipped, cursor)
    };
    let begin = place.watched.names().before(0);
    let (walked, skipped, cursor) = walk(begin);
    assert_eq!(walked, [("k1".into(), 2, false), ("k3".into(), 4, false), ("k2".into(), 9, false)]);
    assert_eq!(skipped, 0);
    reach(&watches, &[("k1", 10, Some(1)), ("other", 10, Some(1)), ("k1", 11, Some(2)), ("k3", 11, None)]);
    let (walked, skipped, _) = walk(cursor);
    assert_eq!(walked, [("k1".into(), 11, true), ("k3".into(), 11, false)]);
    assert_eq!(skipped, 1);
    let names = place.watched.names();
    assert_eq!((names.before(9), names.before(11), names.before(10)), (cursor + 1, cursor + 3, cursor + 1));
}

#[test]
fn only_the_last_writes_are_remembered_one_by_one() {
    let watches: Arc<Watches> = Arc::default();
    let place = place(&watches, Topic::Cell(cell("x")));
    let last = WATCH_NUMBERS_MAX as u64 + 10;
    (1..=last).for_each(|seq| reach(&watches, &[("x", seq, Some(1))]));
    assert_eq!(place.watched.numbers().recent.len(), WATCH_NUMBERS_MAX);
    let told = |revision| {
        let present = Present { value: None, revision, order: 1 };
        place.watched.tell(place.watched.marked(), Some(Ok(present)));
        place.watched.told().borrow().number
    };
    assert_eq!([told(last), told(last - 3), told(1)], [last, last - 3, 10]);
}
