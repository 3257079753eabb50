//! What a crash leaves between the journal, which says that a past has gone, and the index, where it goes; and readers beside it.

use std::path::Path as FilePath;

use super::*;

fn info(host: &Host, charm: Did) -> SpaceInfo {
    host.spaces().into_iter().find(|space| space.did == charm).unwrap()
}

/// Puts a store back to what a crash leaves that came before the index had the last groups: the journal as it is, the index as
/// it was.
fn crashed(home: &Home, before: &FilePath, after: &FilePath) {
    std::fs::remove_dir_all(home.store()).unwrap();
    std::fs::rename(after, home.store()).unwrap();
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = std::fs::remove_file(home.store().join(name));
        let _ = std::fs::copy(before.join(name), home.store().join(name));
    }
}

/// T8, C6: the log has let a past go, with records and receipts, and the index never came to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_past_that_the_index_still_has_has_gone_when_the_store_is_opened_again() {
    let (home, clock) = (Home::default(), Clock::new());
    let open = async || home.builder().await.env(clock.clone()).open().await.unwrap();
    let keep = Keep { history_bytes: 20_000, receipts_ms: 1_000 };
    let small = || probe_charm("a").keep(keep);
    let host = open().await;
    let a = probe(&host, "a").await;
    let early = run(&host, a, json!([["set", "x", [], "first"]])).await.commit.unwrap();
    for n in 0..80 {
        run(&host, a, json!([["set", "c", [], format!("{n}{}", "v".repeat(200))]])).await;
    }
    run(&host, a, json!([["set", "x", [], "second"]])).await;
    until("the index has all", || host.counters().lag_groups == 0).await;
    let [before, after] = ["before", "after"].map(|name| home.path().join(name));
    copy_store(&home.store(), &before);
    host.install(small()).await.unwrap();
    clock.jump(3_600_000);
    clock.pass(Duration::from_millis(RECEIPTS_PAUSE_MS));
    let mut n = 0;
    while info(&host, a).floor == 0 {
        n += 1;
        assert!(n < 500, "its past goes");
        run(&host, a, json!([["set", "c", [], n]])).await;
        clock.pass(Duration::from_millis(HISTORY_PAUSE_MS));
    }
    run(&host, a, json!([["remove", "x", []]])).await;
    let floor = info(&host, a).floor;
    copy_store(&home.store(), &after);
    host.shutdown().await.unwrap();
    crashed(&home, &before, &after);
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
    let host = open().await;
    host.verify_store().unwrap();
    assert!(info(&host, a).floor >= floor);
    host.install(small()).await.unwrap();
    for _ in 0..2 {
        let gone = at(&host, a, "x", early).await;
        assert!(matches!(gone, Err(ReadError::Compacted { .. })), "{gone:?}");
        until("the index has all", || host.counters().lag_groups == 0).await;
    }
    host.verify_store().unwrap();
    // It goes on.
    let floor = info(&host, a).floor;
    let mut n = 0;
    while info(&host, a).floor == floor {
        n += 1;
        assert!(n < 2_000, "its past goes on going");
        run(&host, a, json!([["set", "c", [], format!("{n}{}", "v".repeat(200))]])).await;
        clock.pass(Duration::from_millis(HISTORY_PAUSE_MS));
    }
    host.shutdown().await.unwrap();
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
}

/// I3: what goes meanwhile is no damage: a proof is of what is there, or says that it cannot keep up.
#[tokio::test(flavor = "multi_thread")]
async fn proofs_and_reads_beside_pasts_that_go_see_no_damage() {
    let home = Home::default();
    let host = home.open().await;
    let [a, b] = [probe(&host, "a").await, probe(&host, "b").await];
    for n in 0..200 {
        run(&host, b, json!([["set", "x", [], n]])).await;
    }
    let pruner = tokio::spawn({
        let host = host.clone();
        async move {
            for n in 0..30 {
                run(&host, a, json!([["set", "x", [], n], ["set", "y", ["k"], n]])).await;
                run(&host, a, json!([["remove", "x", []]])).await;
                host.prune(&a).await.unwrap();
            }
        }
    });
    let mut proved = 0;
    while !pruner.is_finished() {
        let last = commits(&host, a);
        let archive = Archive::open(home.read_only()).unwrap();
        for proof in [host.verify_store().map(drop), archive.verify_store().map(drop), archive.verify(&a).map(drop)] {
            match proof {
                Ok(()) => proved += 1,
                Err(VerifyError::Store(why)) => assert!(why.to_string().contains("pasts go faster"), "{why}"),
                Err(error) => panic!("{error}"),
            }
        }
        for read in [at(&host, a, "x", last).await.map(drop), archive.get(&a, "y", &root(), Some(last)).map(drop)] {
            match read {
                Ok(()) | Err(ReadError::Compacted { .. } | ReadError::NoSuchCommit { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        tokio::task::yield_now().await;
    }
    pruner.await.unwrap();
    assert!(proved > 0);
    host.shutdown().await.unwrap();
}

/// A6: nothing is written because of what was written about pasts alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_host_lets_nothing_go() {
    let (home, clock) = (Home::default(), Clock::new());
    let limits = Limits { history_bytes_max: 0, receipts_ms: 0, ..Limits::default() };
    let host = home.builder().await.env(clock.clone()).limits(limits).open().await.unwrap();
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "x", [], 1]])).await;
    let total = || host.spaces().iter().map(|space| space.commits).sum::<u64>();
    let pass = async |times: usize| {
        for _ in 0..times {
            clock.pass(Duration::from_millis(HISTORY_PAUSE_MS));
            // What there was to do has been done when this is.
            host.receipt(&EventId([1; 16])).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    until("its past goes", || {
        clock.pass(Duration::from_millis(HISTORY_PAUSE_MS));
        info(&host, a).floor > 0
    })
    .await;
    pass(200).await;
    let before = total();
    pass(500).await;
    assert_eq!(total(), before);
    host.shutdown().await.unwrap();
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
}
