//! What the tail lets go of.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::rows::Batch;

/// A group with one piece of what the turns at some positions were told, and the end of others.
fn group(number: u64, told: &[u64], ended: &[u64]) -> Numbered {
    let row = |position: &u64| RecordingRow { position: *position, number: number as u32, bytes: Arc::default() };
    let (recordings, turns) =
        (told.iter().map(row).collect(), ended.iter().map(|position| (*position, None)).collect());
    let group = Arc::new(Group { secret: None, batch: Batch { recordings, turns, ..Batch::default() } });
    Numbered { number, bytes: 1, order: 0, group }
}

#[test]
fn what_the_index_has_of_a_turn_the_tail_has_not() {
    let mut tail = Tail::default();
    for (number, told, ended) in [(1, &[7, 8][..], &[][..]), (2, &[7, 8], &[]), (3, &[9], &[8]), (4, &[], &[9])] {
        tail.push(group(number, told, ended));
    }
    let numbers = |tail: &Tail, position| -> Option<Vec<u32>> {
        Some(tail.recording(position)?.into_iter().map(|row| row.number).collect())
    };
    let all = |tail: &Tail| [7, 8, 9].map(|position| numbers(tail, position));
    assert_eq!(all(&tail), [Some(vec![1, 2]), None, None]);
    tail.drop_upto(1);
    assert_eq!(all(&tail), [Some(vec![2]), None, None]);
    tail.drop_upto(3);
    assert_eq!(all(&tail), [Some(vec![]), Some(vec![]), None]);
    tail.drop_upto(4);
    assert!(tail.recordings.is_empty() && tail.ended.is_empty());
}
