//! What goes from a store, and what stands for it (H1).

use charm_conformance::whole;

use super::*;

/// A commit that writes cells, none removes: its entry and its rows.
pub fn commit(of: u8, order: u64, seq: u64, cells: &[(&str, Option<serde_json::Value>)]) -> Batch {
    let write = |(name, content): &(&str, Option<serde_json::Value>)| Write {
        name: (*name).into(),
        previous: 0,
        edits: vec![whole(content.clone().map(value))],
    };
    let writes: Vec<Write> = cells.iter().map(write).collect();
    let rows = writes.iter().map(|Write { name, edits, .. }| CellWrite {
        space: did(of),
        name: name.clone(),
        order,
        seq,
        edits: edits.clone(),
    });
    let cells = rows.collect();
    let body = Body::Removed(writes);
    let record = Record { version: RECORD_VERSION, space: did(of), seq, previous: [0; 32], time_ms: order, body };
    let entry = LogEntry { record: record.to_bytes().into(), ..entry(order, of, seq) };
    Batch { log: vec![entry], heads: vec![(did(of), seq, [order as u8; 32])], cells, ..Batch::default() }
}

fn past(store: &impl Store, of: u8) -> Vec<(String, u64, Option<Value>)> {
    let rows = store.past(&did(of), None).unwrap().into_iter();
    rows.map(|row| (row.name.to_string(), row.seq, row.value)).collect()
}

/// H1, C6: records go up to a commit; what cells held then is kept if they were written since, once.
pub fn a_past_goes_and_what_stands_for_it_stays(kind: &impl Kind) {
    let store = with_spaces(kind);
    let one = Some(json!(1));
    store.commit(&commit(1, 1, 1, &[("gone", one.clone()), ("new", one.clone()), ("old", one.clone())])).unwrap();
    store.commit(&commit(2, 2, 1, &[("other", one.clone())])).unwrap();
    store.commit(&commit(1, 3, 2, &[("gone", Some(json!(2))), ("new", Some(json!(2)))])).unwrap();
    store.commit(&commit(1, 4, 3, &[("gone", None), ("new", Some(json!(3)))])).unwrap();
    let floor = Point { seq: 2, order: 3, at: 3 };
    let cut = CutRow { space: did(1), floor, receipts: 0, messages: 0 };
    store.commit(&Batch { cuts: vec![cut], pruned: Some(9), ..Batch::default() }).unwrap();
    while store.index().unwrap() {}
    let second = Some(value(json!(2)));
    let kept = vec![("gone".to_owned(), 2, second.clone()), ("new".to_owned(), 2, second.clone())];
    assert_eq!(past(&store, 1), kept, "not what was written before and has its value still");
    assert_eq!((store.entry(&did(1), 2), store.log(Some(&did(1)), 0, 9).unwrap().len()), (Ok(None), 1));
    assert_eq!(store.log(None, 0, 9).unwrap().iter().map(|entry| entry.order).collect::<Vec<_>>(), [2, 4]);
    let image = store.load(None).unwrap();
    let row = image.spaces.iter().find(|row| row.did == did(1)).unwrap();
    let left = store.entry(&did(1), 3).unwrap().unwrap().record.len() as u64;
    assert_eq!((image.pruned, row.floor, row.history_bytes), (9, floor, left));
    // What is written now for the first time since is kept as it was; what comes is not.
    let later = commit(1, 5, 4, &[("new", one.clone()), ("old", Some(json!(5))), ("fresh", one.clone())]);
    store.commit(&later).unwrap();
    let kept = [&kept[..], &[("old".to_owned(), 1, Some(value(json!(1))))]].concat();
    assert_eq!(past(&store, 1), kept);
    assert_eq!(store.past(&did(1), Some("old")).unwrap().len(), 1);
    assert_eq!((store.past(&did(1), Some("fresh")), past(&store, 2)), (Ok(vec![]), vec![]));
    drop(store);
    let store = kind.open();
    assert_eq!(past(&store, 1), kept);
    // All of it.
    let floor = Point { seq: 4, order: 5, at: 4 };
    store.commit(&Batch { cuts: vec![CutRow { floor, ..cut }], ..Batch::default() }).unwrap();
    while store.index().unwrap() {}
    assert_eq!((past(&store, 1), store.log(Some(&did(1)), 0, 9)), (vec![], Ok(vec![])));
    assert_eq!(store.load(None).unwrap().cells.len(), 4);
    assert!(store.scrub().unwrap());
}

/// S9, H1
pub fn receipts_go_by_the_commits_that_settled_them(kind: &impl Kind) {
    let store = with_spaces(kind);
    let rows: Vec<_> = (1..=9).map(|n| receipt(n, Outcome::Faulted)).collect();
    store.commit(&Batch { receipts: rows.iter().rev().cloned().collect(), ..Batch::default() }).unwrap();
    assert_eq!(store.settled(&did(1), 2, 3).unwrap(), rows[2..5]);
    assert_eq!(store.settled(&did(2), 0, 3), Ok(vec![]));
    let cut = CutRow { space: did(1), floor: Point::default(), receipts: 4, messages: 6 };
    store.commit(&Batch { cuts: vec![cut], ..Batch::default() }).unwrap();
    while store.index().unwrap() {}
    assert_eq!(store.receipt(&id(4)), Ok(None));
    let left = store.settled(&did(1), 0, 99).unwrap();
    assert_eq!(left[2..], rows[6..]);
    assert!(left[..2].iter().all(|row| row.receipt.message.is_none()), "nor is their message there");
    let floor = store.load(None).unwrap().spaces.into_iter().find(|row| row.did == did(1)).unwrap().receipts_floor;
    assert_eq!(floor, 4);
}
