//! The log, looked up.

use super::*;

fn alternating(store: &impl Store, entries: u64) -> Vec<LogEntry> {
    let log: Vec<_> = (1..=entries).map(|order| entry(order, 1 + (order % 2) as u8, order.div_ceil(2))).collect();
    for pair in log.chunks(2) {
        store.commit(&Batch { log: pair.to_vec(), ..Batch::default() }).unwrap();
    }
    log
}

pub fn the_log_is_read_in_pages(kind: &impl Kind) {
    let store = with_spaces(kind);
    let log = alternating(&store, 11);
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = store.log(None, after, 4).unwrap();
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = last.order;
        found.extend(page);
    }
    assert_eq!(found, log);
    assert_eq!(store.log(None, 0, 0), Ok(vec![]));
    assert_eq!(store.log(None, 11, 4), Ok(vec![]));
    assert_eq!(store.load(Some(SECRET)).unwrap().order, 11);
}

/// I2
pub fn the_log_is_read_by_space(kind: &impl Kind) {
    let store = with_spaces(kind);
    let log = alternating(&store, 10);
    for n in [1, 2] {
        let own: Vec<_> = log.iter().filter(|entry| entry.space == did(n)).cloned().collect();
        assert_eq!(store.log(Some(&did(n)), 0, 100).unwrap(), own);
        assert_eq!(store.log(Some(&did(n)), own[1].order, 2).unwrap(), own[2..4]);
    }
    assert_eq!(store.log(Some(&did(7)), 0, 100), Ok(vec![]), "a space that is not there");
}

/// S7: segments and the end, in order, in pages, whatever else was committed between them.
pub fn the_commits_that_handle_an_event_are_found_by_its_position(kind: &impl Kind) {
    let store = with_spaces(kind);
    let handles = |order: u64, position: u64| LogEntry {
        taken: Some(Taken { position, late: false }),
        ..entry(order, 1 + (order % 2) as u8, order.div_ceil(2))
    };
    let log = [handles(1, 5), handles(2, 9), handles(3, 5), LogEntry { taken: None, ..entry(4, 1, 2) }, handles(5, 5)];
    for entry in &log {
        store.commit(&Batch { log: vec![entry.clone()], ..Batch::default() }).unwrap();
    }
    let of_five = [log[0].clone(), log[2].clone(), log[4].clone()];
    assert_eq!(store.handled(5, 0, 10).unwrap(), of_five);
    assert_eq!(store.handled(5, 0, 2).unwrap(), of_five[..2]);
    assert_eq!(store.handled(5, 3, 10).unwrap(), of_five[2..]);
    assert_eq!(store.handled(9, 0, 10).unwrap(), log[1..2]);
    for none in [0, 7, u64::MAX] {
        assert_eq!(store.handled(none, 0, 10), Ok(vec![]), "{none}");
    }
}

/// I3
pub fn only_sealed_entries_have_a_seal(kind: &impl Kind) {
    let store = with_spaces(kind);
    let sealed = LogEntry { seal: Some([0xab; 64]), ..entry(2, 1, 2) };
    store.commit(&Batch { log: vec![entry(1, 1, 1), sealed.clone()], ..Batch::default() }).unwrap();
    assert_eq!(store.entry(&did(1), 1).unwrap().unwrap().seal, None);
    assert_eq!(store.entry(&did(1), 2).unwrap(), Some(sealed));
    assert_eq!(store.entry(&did(2), 2), Ok(None), "of another space");
}
