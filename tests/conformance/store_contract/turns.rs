//! Turns under way, and what they were told.

use std::{fs, sync::Arc};

use charm_conformance::files_with;

use super::*;

/// A turn under way in space 1 or 2: how far it has come with so many segments.
pub fn under_way(position: u64, of: u8, segments: u32) -> (u64, Option<TurnRow>) {
    let wait = WaitFor { events: vec![id(77), id(segments as u8)], until: Until::First, timeout_ms: 1 << 40 };
    let ran = Ran { time_ms: 1_700_000_000_000, fuel: u64::from(segments) << 32, costs: 1 };
    let (component, recording) = ([of; 32], [segments as u8; 32]);
    let seq = position + u64::from(segments);
    let (sends, retries, again_ms) = (3 * segments, segments % 2, (segments == 2).then_some(1 << 40));
    let (pieces, answered, since_ms) = (segments, false, seq);
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
    (position, Some(TurnRow { position, space: did(of), event: id(position as u8), progress }))
}

/// The end of a turn.
pub fn ended(position: u64) -> (u64, Option<TurnRow>) {
    (position, None)
}

pub fn piece(position: u64, number: u32) -> RecordingRow {
    RecordingRow { position, number, bytes: format!("turn {position} was told {number}").into_bytes().into() }
}

/// A turn's next segment, as one batch.
fn segment(position: u64, number: u32) -> Batch {
    let (turns, recordings) = (vec![under_way(position, 1, number)], vec![piece(position, number)]);
    Batch { turns, recordings, ..Batch::default() }
}

fn end(position: u64) -> Batch {
    Batch { turns: vec![ended(position)], taken: vec![position], ..Batch::default() }
}

fn told(store: &impl Store, position: u64) -> Vec<Arc<[u8]>> {
    store.recording(position).unwrap()
}

fn pieces(position: u64, upto: u32) -> Vec<Arc<[u8]>> {
    (1..=upto).map(|number| piece(position, number).bytes).collect()
}

fn bring_into_index(store: &impl Store) {
    while store.index().unwrap() {}
}

/// What is to be there of turns that have committed so many segments.
fn check(store: &impl Store, turns: &[(u64, u32)]) {
    let rows: Vec<TurnRow> = turns.iter().filter_map(|(position, upto)| under_way(*position, 1, *upto).1).collect();
    assert_eq!(store.load(None).unwrap().turns, rows);
    for (position, upto) in turns {
        assert_eq!(told(store, *position), pieces(*position, *upto));
    }
}

/// It is there as its last segment left it; its event waits until the end.
pub fn a_turn_is_under_way_until_it_ends(kind: &impl Kind) {
    let store = with_spaces(kind);
    store.commit(&Batch { queued: vec![queued(3, 1), queued(20, 1), queued(100, 1)], ..Batch::default() }).unwrap();
    check(&store, &[]);
    for (position, number) in [(20, 1), (3, 1), (100, 1), (3, 2)] {
        store.commit(&segment(position, number)).unwrap();
    }
    check(&store, &[(3, 2), (20, 1), (100, 1)]);
    store.commit(&end(20)).unwrap();
    check(&store, &[(3, 2), (100, 1)]);
    assert_eq!(told(&store, 20), pieces(20, 0), "what it was told goes with it");
    drop(store);
    let store = kind.open();
    check(&store, &[(3, 2), (100, 1)]);
    assert_eq!((told(&store, 20), store.load(None).unwrap().queued), (vec![], vec![queued(3, 1), queued(100, 1)]));
    // All of a turn in one batch, and the end of another that began before.
    let turns = vec![under_way(4, 1, 1), ended(3), under_way(4, 1, 2), ended(4)];
    store
        .commit(&Batch { turns, recordings: vec![piece(4, 1), piece(3, 3), piece(4, 2)], ..Batch::default() })
        .unwrap();
    check(&store, &[(100, 1)]);
    assert_eq!((told(&store, 3), told(&store, 4)), (vec![], vec![]));
    // The end of a turn that was never under way is nothing.
    store.commit(&end(5)).unwrap();
    drop(store);
    let store = kind.open();
    check(&store, &[(100, 1)]);
    assert_eq!((told(&store, 3), told(&store, 4)), (vec![], vec![]));
}

/// A replay is told all of it, wherever it stands.
pub fn what_a_turn_was_told_comes_in_the_order_of_its_segments(kind: &impl Kind) {
    let mut store = Some(with_spaces(kind));
    for number in 1..=12 {
        let open = store.take().unwrap();
        open.commit(&segment(3, number)).unwrap();
        open.commit(&segment(4, number)).unwrap();
        if number == 5 {
            bring_into_index(&open);
        }
        check(&open, &[(3, number), (4, number)]);
        store = Some(open);
    }
    assert_eq!(told(store.as_ref().unwrap(), 5), pieces(5, 0));
    let empty = RecordingRow { bytes: Arc::default(), ..piece(9, 1) };
    let large = RecordingRow { bytes: vec![7; 4 << 20].into(), ..piece(9, 2) };
    let recordings = vec![empty.clone(), large.clone()];
    let batch = Batch { turns: vec![under_way(9, 1, 2)], recordings, ..Batch::default() };
    store.as_ref().unwrap().commit(&batch).unwrap();
    drop(store);
    let store = kind.open();
    assert_eq!((told(&store, 3), told(&store, 4)), (pieces(3, 12), pieces(4, 12)));
    assert_eq!(told(&store, 9), [empty.bytes, large.bytes]);
}

/// Pieces of a turn stand in the index and in the tail; its end is known to the tail alone, then to the index alone.
#[test]
fn the_end_of_a_turn_counts_wherever_its_pieces_are() {
    let kind = Folder::new();
    let store = with_spaces(&kind);
    store.commit(&segment(3, 1)).unwrap();
    bring_into_index(&store);
    store.commit(&segment(3, 2)).unwrap();
    store.commit(&segment(6, 1)).unwrap();
    check(&store, &[(3, 2), (6, 1)]);
    let reader = FolderStore::open_read_only(&kind.path).unwrap();
    check(&reader, &[(3, 2), (6, 1)]);
    store.commit(&end(3)).unwrap();
    store.commit(&end(6)).unwrap();
    check(&store, &[]);
    assert_eq!([told(&store, 3), told(&store, 6)], [vec![], vec![]], "the index has a piece still");
    assert_eq!(
        [told(&reader, 3), told(&reader, 6)],
        [pieces(3, 2), pieces(6, 1)],
        "a reader looks at what was when it came"
    );
    bring_into_index(&store);
    assert_eq!([told(&store, 3), told(&store, 6)], [vec![], vec![]]);
    assert_eq!(
        [told(&reader, 3), told(&reader, 6)],
        [vec![], vec![]],
        "what has gone does not come back from what the reader remembers"
    );
    // Pieces and end in the tail, written at once.
    store.commit(&segment(4, 1)).unwrap();
    store.commit(&segment(4, 2)).unwrap();
    store.commit(&segment(5, 1)).unwrap();
    store.commit(&end(4)).unwrap();
    bring_into_index(&store);
    check(&store, &[(5, 1)]);
    check(&reader, &[(5, 1)]);
    drop(store);
    let connection = rusqlite::Connection::open(kind.path.join("index.db")).unwrap();
    let of = |table| {
        let sql = format!("SELECT group_concat(position) FROM {table}");
        connection.query_row(&sql, [], |row| row.get::<_, Option<String>>(0)).unwrap()
    };
    assert_eq!((of("turn"), of("recording")), (Some("5".to_owned()), Some("5".to_owned())));
}

/// H1: what ended turns were told is in no file of the store.
#[test]
fn what_an_ended_turn_was_told_is_in_no_file_of_the_store() {
    const SECRET_WORD: &str = "told-to-nobody-else";
    let kind = Folder::new();
    let store = with_spaces(&kind);
    for number in 1..=3 {
        let bytes = SECRET_WORD.repeat(1 << (6 * number)).into_bytes().into();
        let recordings = vec![RecordingRow { bytes, ..piece(3, number) }];
        store.commit(&Batch { recordings, ..segment(3, number) }).unwrap();
        while number < 3 && store.index().unwrap() {}
    }
    store.commit(&segment(4, 1)).unwrap();
    assert!(store.scrub().unwrap());
    assert!(!files_with(&kind.path, SECRET_WORD).is_empty(), "it is there while the turn is under way");
    store.commit(&end(3)).unwrap();
    assert!(store.scrub().unwrap());
    assert_eq!(files_with(&kind.path, SECRET_WORD), Vec::<String>::new());
    check(&store, &[(4, 1)]);
    assert!(!files_with(&kind.path, "turn 4 was told 1").is_empty(), "others stay");
}

/// A copy has all of it, and so has an index that is made again.
#[test]
fn turns_under_way_are_in_a_backup_and_in_an_index_made_again() {
    let kind = Folder::new();
    let store = with_spaces(&kind);
    store.commit(&segment(2, 1)).unwrap();
    store.commit(&segment(3, 1)).unwrap();
    bring_into_index(&store);
    store.commit(&segment(3, 2)).unwrap();
    store.commit(&end(2)).unwrap();
    let copy = kind.path.with_file_name("copy");
    store.backup(&copy).unwrap();
    drop(store);
    fs::remove_file(kind.path.join("index.db")).unwrap();
    for store in [kind.open(), FolderStore::open(copy).unwrap()] {
        check(&store, &[(3, 2)]);
        assert_eq!(told(&store, 2), pieces(2, 0));
    }
}
