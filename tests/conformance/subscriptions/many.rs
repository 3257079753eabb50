//! Many who watch, and those who do not read.

use charm_host::{WATCH_PREFIXES_MAX, WATCHERS_MAX, WATCHERS_PER_READER_MAX};

use super::*;

/// D6: a thousand who watch one cell are all told, and its value is made once for all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watchers_of_a_cell_are_told_one_value() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let mut watchers = Vec::new();
    for _ in 0..1_000 {
        let mut watcher = host.watch(Watch::cell(&a, "x").at("/list")).await.unwrap();
        assert_eq!(next_value(&mut watcher).await.0, Json::Null);
        watchers.push(watcher);
    }
    let commit = set(&host, a, "x", json!([]), json!({"list": vec![7; 1_000]})).await;
    let mut places = std::collections::BTreeSet::new();
    for watcher in &mut watchers {
        let update = next(watcher).await;
        assert_eq!(told(&update), (json!(vec![7; 1_000]), commit, 0));
        let Change::Cell { value: Some(value), .. } = &update.change else { panic!("{update:?}") };
        places.insert(value.as_bytes().as_ptr());
    }
    assert_eq!(places.len(), 1, "one value, shared by all");
    host.shutdown().await.unwrap();
}

/// D6: one that is half-way through a read and never goes on keeps nobody from anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stands_still_keeps_nobody_from_anything() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let watches = || [Watch::cell(&a, "x"), Watch::cells(&a, "x"), Watch::receipts(&a), Watch::events(&a)];
    let mut still = Vec::new();
    for watch in watches() {
        let mut watcher = host.watch(watch).await.unwrap();
        // Begun, and left in the middle.
        let _ = watcher.next().now_or_never();
        still.push(watcher);
    }
    let mut reads = host.watch(Watch::cell(&a, "x")).await.unwrap();
    next(&mut reads).await;
    for value in 1..=50 {
        let commit = set(&host, a, "x", json!([]), json!(value)).await;
        assert_eq!(next_value(&mut reads).await, (json!(value), commit, 0));
    }
    // And when it goes on, it is told the last state.
    let mut last = Json::Null;
    while last != 50 {
        last = next_value(&mut still[0]).await.0;
    }
    host.shutdown().await.unwrap();
}

/// A5: so many and no more, and a place that is left is free again.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_are_bounded_and_a_place_that_is_left_is_free() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let visitor: Did = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".parse().unwrap();
    grant(&host, visitor, BTreeMap::from([(a, only(&["x"]))]), BTreeMap::new()).await.unwrap();
    let cell = || Watch::cell(&a, "x");
    let is_full = |end: Option<WatchError>, most| matches!(end, Some(WatchError::TooMany { max, .. }) if max == most);
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS_PER_READER_MAX {
        watchers.push(host.watch_as(&visitor, cell()).await.unwrap());
    }
    assert!(is_full(host.watch_as(&visitor, cell()).await.err(), WATCHERS_PER_READER_MAX));
    for _ in WATCHERS_PER_READER_MAX..WATCHERS_MAX {
        watchers.push(host.watch(cell()).await.unwrap());
    }
    assert!(is_full(host.watch(cell()).await.err(), WATCHERS_MAX));
    watchers.truncate(1);
    watchers.push(host.watch_as(&visitor, cell()).await.unwrap());
    let mut prefixes = Vec::new();
    for number in 0..WATCH_PREFIXES_MAX {
        prefixes.push(host.watch(Watch::cells(&a, &format!("p{number}"))).await.unwrap());
    }
    assert!(is_full(host.watch(Watch::cells(&a, "q")).await.err(), WATCH_PREFIXES_MAX));
    prefixes.push(host.watch(Watch::cells(&a, "p0")).await.unwrap());
    prefixes.clear();
    prefixes.push(host.watch(Watch::cells(&a, "q")).await.unwrap());
    set(&host, a, "x", json!([]), json!(1)).await;
    for watcher in &mut watchers {
        while next_value(watcher).await.0 != 1 {}
    }
    host.shutdown().await.unwrap();
}
