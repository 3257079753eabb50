//! What groups come to that are written at once.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{
    event::EventId,
    record::{Progress, Ran, Until, WaitFor},
    rows::{RecordingRow, TurnRow},
};

fn row(position: u64, segments: u32) -> TurnRow {
    let wait = WaitFor { events: vec![EventId([1; 16])], until: Until::All, timeout_ms: 9 };
    let ran = Ran { time_ms: 1, fuel: 2, costs: 1 };
    let (component, recording) = ([5; 32], [6; 32]);
    let (pieces, answered, retries, again_ms) = (segments, false, 2, Some(5));
    let (sends, seq, since_ms) = (1, 3, 4);
    let progress = Progress {
        component,
        segments,
        sends,
        seq,
        since_ms,
        ran,
        wait,
        recording,
        pieces,
        answered,
        retries,
        again_ms,
    };
    let space = Did::numbered(7);
    TurnRow { position, space, event: EventId([2; 16]), progress }
}

/// A group with a turn's next segment.
fn segment(position: u64, number: u32) -> Group {
    let recordings = vec![RecordingRow { position, number, bytes: vec![number as u8].into() }];
    let turns = vec![(position, Some(row(position, number)))];
    Group { secret: None, batch: Batch { turns, recordings, ..Batch::default() } }
}

#[test]
fn a_turn_that_ended_leaves_its_end_alone() {
    let end = Group { secret: None, batch: Batch { turns: vec![(3, None)], ..Batch::default() } };
    let groups = [segment(3, 4), segment(4, 1), segment(3, 5), segment(4, 2), end];
    let Batch { turns, recordings, .. } = merge(groups.iter()).batch;
    // What was told before these groups may be in the index.
    assert_eq!(turns, [(4, Some(row(4, 2))), (3, None)]);
    assert_eq!(recordings.iter().map(|row| (row.position, row.number)).collect::<Vec<_>>(), [(4, 1), (4, 2)]);
}
