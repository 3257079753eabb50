//! How streams end: always with a reason.

use charm_host::{Right, Unavailable};

use super::*;

fn visitor() -> Did {
    "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".parse().unwrap()
}

async fn let_read(host: &Host, owner: Did, cells: &[&str]) {
    grant(host, visitor(), BTreeMap::from([(owner, only(cells))]), BTreeMap::new()).await.unwrap();
}

/// D6, A2: a reader outside watches what it may read; a right that is taken ends the stream, and nothing written after that is
/// told.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_ends_the_stream_as_denied() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let cell = || Watch::cell(&a, "x");
    let denied = |what: &str| WatchError::Denied { reader: visitor(), owner: a, what: what.to_owned() };
    assert_eq!(host.watch_as(&visitor(), cell()).await.err(), Some(denied("x")));
    assert_eq!(host.watch_as(&visitor(), Watch::cells(&a, "")).await.err(), Some(denied("cells *")));
    for watch in [Watch::receipts(&a), Watch::events(&a), Watch::dead_letters(&a)] {
        let end = host.watch_as(&visitor(), watch).await.err();
        assert_eq!(end, Some(WatchError::OperatorOnly { reader: visitor() }));
    }
    let_read(&host, a, &["x", "y"]).await;
    set(&host, a, "x", json!([]), json!(1)).await;
    set(&host, a, "token", json!([]), json!("secret")).await;
    let mut watcher = host.watch_as(&visitor(), cell()).await.unwrap();
    let mut cells = host.watch_as(&visitor(), Watch::cells(&a, "")).await.unwrap();
    assert_eq!(next_value(&mut watcher).await.0, json!(1));
    assert_eq!(next_value(&mut cells).await.0, json!(1), "only what it may read");
    assert_eq!(next(&mut cells).await.change, Change::Listed);
    // Rights of others, and of other cells, end nothing.
    let_read(&host, a, &["x"]).await;
    let commit = set(&host, a, "x", json!([]), json!(2)).await;
    assert_eq!(next_value(&mut watcher).await, (json!(2), commit, 0));
    assert_eq!(next_value(&mut cells).await, (json!(2), commit, 0));
    host.revoke(visitor(), Right::Read { owner: a, cells: only(&["x"]) }).await.unwrap();
    set(&host, a, "x", json!([]), json!(3)).await;
    assert_eq!(end(&mut watcher).await, denied("x"));
    assert_eq!(end(&mut cells).await, denied("x"));
    host.shutdown().await.unwrap();
}

/// D6: one that waits is woken by the end of its right, without any commit of the charm.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_hears_at_once_that_the_right_has_gone() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let_read(&host, a, &["x"]).await;
    let mut watcher = host.watch_as(&visitor(), Watch::cell(&a, "x")).await.unwrap();
    next(&mut watcher).await;
    let waits = tokio::spawn(async move { end(&mut watcher).await });
    tokio::task::yield_now().await;
    host.set_rights(visitor(), Vec::new()).await.unwrap();
    assert!(matches!(waits.await.unwrap(), WatchError::Denied { .. }));
    host.shutdown().await.unwrap();
}

/// D6: a charm that is uninstalled ends what watches it; one that gets another component does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_uninstalled_charm_ends_what_watches_it() {
    let host = host().await;
    let [a, b] = [probe(&host, "a").await, probe(&host, "b").await];
    let all =
        [Watch::cell(&a, "x"), Watch::cells(&a, ""), Watch::receipts(&a), Watch::events(&a), Watch::dead_letters(&a)];
    let mut watchers = Vec::new();
    for watch in all {
        let mut watcher = host.watch(watch).await.unwrap();
        next(&mut watcher).await;
        watchers.push(watcher);
    }
    let mut other = host.watch(Watch::cell(&b, "x")).await.unwrap();
    next(&mut other).await;
    assert_eq!(probe(&host, "a").await, a, "installed again");
    assert!(watchers.iter_mut().all(is_quiet));
    host.uninstall(&a).await.unwrap();
    for mut watcher in watchers {
        assert_eq!(end(&mut watcher).await, WatchError::NoSuchCharm { charm: a });
    }
    assert_eq!(host.watch(Watch::cell(&a, "x")).await.err(), Some(WatchError::NoSuchCharm { charm: a }));
    let commit = set(&host, b, "x", json!([]), json!(1)).await;
    assert_eq!(next_value(&mut other).await, (json!(1), commit, 0));
    host.shutdown().await.unwrap();
}

/// D6: a host that ends tells what became durable first, and then says that it has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_ends_tells_the_last_state_and_ends_the_stream() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let mut watchers = Vec::new();
    for watch in [Watch::cell(&a, "x"), Watch::cells(&a, "x"), Watch::receipts(&a), Watch::events(&a)] {
        let mut watcher = host.watch(watch).await.unwrap();
        next(&mut watcher).await;
        watchers.push(watcher);
    }
    let waits = watchers.into_iter().map(|mut watcher| {
        tokio::spawn(async move {
            let mut last = Vec::new();
            loop {
                match item(&mut watcher).await.expect("it ends with a reason") {
                    Ok(update) => last.push(update.change),
                    Err(end) => return (last, end),
                }
            }
        })
    });
    let waits: Vec<_> = waits.collect();
    set(&host, a, "x", json!([]), json!("last")).await;
    host.shutdown().await.unwrap();
    for (place, waits) in waits.into_iter().enumerate() {
        let (last, end) = waits.await.unwrap();
        assert_eq!(end, WatchError::Unavailable(Unavailable::Closed), "{place}");
        let is_told = last.iter().any(|change| match change {
            Change::Cell { value, .. } => value.as_ref().is_some_and(|value| json(value) == "last"),
            Change::Settled(_) => true,
            _ => false,
        });
        assert!(is_told || place == 3, "{place}: {last:?}");
    }
    assert!(matches!(host.watch(Watch::cell(&a, "x")).await.err(), Some(WatchError::Unavailable(Unavailable::Closed))));
}

/// D6: a watcher does not keep the host, and ends with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_dropped_ends_the_stream() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    let mut watcher = host.watch(Watch::cell(&a, "x")).await.unwrap();
    next(&mut watcher).await;
    drop(host);
    assert_eq!(end(&mut watcher).await, WatchError::Unavailable(Unavailable::Closed));
    home.open().await.shutdown().await.unwrap();
}

/// T8: a host whose disk has failed ends the stream, and never tells what is not durable.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_ends_the_stream() {
    let (store, control) = GatedStore::new(MemoryStore::new());
    let host = builder().store(store).keyring(Keys::default()).open().await.unwrap();
    let a = probe(&host, "a").await;
    let mut watchers = [Watch::cell(&a, "x"), Watch::cells(&a, "x"), Watch::events(&a)].map(Some);
    let mut begun = Vec::new();
    for watch in &mut watchers {
        let mut watcher = host.watch(watch.take().unwrap()).await.unwrap();
        next(&mut watcher).await;
        begun.push(watcher);
    }
    control.fail(Some(charm_host::StoreError::Failed("torn".to_owned())));
    let request = charm_host::NewEvent::new(a, "run", charm_conformance::script(json!([["set", "x", [], 1]])));
    let _ = host.request(request).await.unwrap_err();
    for mut watcher in begun {
        let end = end(&mut watcher).await;
        assert!(matches!(end, WatchError::Unavailable(Unavailable::Stopped { .. })), "{end:?}");
    }
    drop(Arc::new(host));
}
