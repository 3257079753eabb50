//! The bounds of what is remembered.

use super::*;
use crate::{path::Path, tx::Conflict};

fn lost(live: &Live, event: u16, name: &str) {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&event.to_be_bytes());
    let cell = CellId { owner: Did::from_public_key([1; 32]).expect("a key"), name: name.into() };
    let conflict = Conflict { cell, path: Path::root(), seen: 1, found: u64::from(event) };
    live.met(EventId(id), &Cause::Read(conflict), 7);
}

#[test]
fn no_more_conflicts_are_kept_than_the_bound() {
    let live = Live::default();
    (0..CONFLICTS_KEPT as u16 + 5).for_each(|event| lost(&live, event, "x"));
    let kept = live.conflicts();
    assert_eq!((kept.len(), kept[0].found), (CONFLICTS_KEPT, 5), "the oldest went");
}

#[test]
fn the_same_conflict_is_counted_and_another_is_another() {
    let live = Live::default();
    ["x", "x", "y", "x"].iter().for_each(|name| lost(&live, 1, name));
    let kept: Vec<_> = live.conflicts().iter().map(|met| met.count).collect();
    assert_eq!(kept, [3, 1]);
}

#[test]
fn near_misses_are_counted_and_kept_up_to_the_bound() {
    let live = Live::default();
    let owner = Did::from_public_key([1; 32]).expect("a key");
    let miss = |why: &str| NearMiss { tag: "#tag".to_owned(), owner, why: why.to_owned() };
    ["x", "y", "x"].iter().for_each(|why| live.missed(EventId([1; 16]), miss(why), 7));
    let kept = live.misses_of(&HashSet::from([EventId([1; 16])]));
    assert_eq!(kept.iter().map(|miss| (&*miss.why, miss.count)).collect::<Vec<_>>(), [("x", 2), ("y", 1)]);
    (0..NEAR_MISSES_KEPT + 5).for_each(|number| live.missed(EventId([2; 16]), miss(&number.to_string()), 8));
    let kept = live.misses();
    assert_eq!((kept.len(), &*kept[0].why), (NEAR_MISSES_KEPT, "5"), "the oldest went");
}
