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
