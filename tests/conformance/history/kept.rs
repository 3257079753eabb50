//! How much of a past a host keeps by itself.

use super::*;

fn info(host: &Host, charm: Did) -> SpaceInfo {
    host.spaces().into_iter().find(|space| space.did == charm).unwrap()
}

/// Lets a host see to pasts: its clock passes the time between two looks.
async fn look(clock: &Clock, pause_ms: u64) {
    for _ in 0..4 {
        clock.pass(Duration::from_millis(pause_ms));
        tokio::task::yield_now().await;
    }
}

/// H1: at most what it may keep, and about half of it at least; the checkpoints and cuts of others are not its affair.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_kept_up_to_a_bound() {
    let (home, clock) = (Home::default(), Clock::new());
    let open = async || home.builder().await.env(clock.clone()).open().await.unwrap();
    let mut host = open().await;
    let keep = Keep { history_bytes: 40_000, receipts_ms: u64::MAX >> 1 };
    let a = host.install(probe_charm("a").keep(keep)).await.unwrap();
    let b = probe(&host, "b").await;
    run(&host, b, json!([["set", "x", [], 1]])).await;
    let (mut most, mut floors) = (0, 0);
    for round in 0..3 {
        for n in 0..150 {
            run(&host, a, json!([["set", format!("cell {}", n % 7), [], "v".repeat(500)]])).await;
            look(&clock, HISTORY_PAUSE_MS).await;
            let SpaceInfo { history_bytes, floor, .. } = info(&host, a);
            most = most.max(history_bytes);
            floors = floors.max(floor);
        }
        until("what is over goes", || {
            clock.pass(Duration::from_millis(HISTORY_PAUSE_MS));
            info(&host, a).history_bytes <= keep.history_bytes + 2_000
        })
        .await;
        assert_eq!(info(&host, b).floor, 0, "the past of another stays");
        host.shutdown().await.unwrap();
        let archive = Archive::open(home.read_only()).unwrap();
        let proof = archive.verify_store().unwrap();
        assert!(proof.spaces[&a].floor > 0, "round {round}");
        let there = archive.spaces().into_iter().find(|space| space.did == a).unwrap();
        assert_eq!(info(&host, a).history_bytes, there.history_bytes, "round {round}: what is told is what is there");
        host = open().await;
        host.install(probe_charm("a").keep(keep)).await.unwrap();
        probe(&host, "b").await;
        let kept = info(&host, a).history_bytes;
        assert!(kept > keep.history_bytes / 4, "{kept} bytes are left of {most}");
    }
    assert!(floors > 100 && most < 3 * keep.history_bytes, "{floors} {most}");
    host.shutdown().await.unwrap();
}

/// S9: an id is known as long as its receipt, and then the event is a new one.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_go_after_their_time() {
    const HOUR_MS: u64 = 3_600_000;
    let (home, clock) = (Home::default(), Clock::new());
    let limits = Limits { receipts_ms: 24 * HOUR_MS, ..Limits::default() };
    let host = home.builder().await.env(clock.clone()).limits(limits).open().await.unwrap();
    let a = probe(&host, "a").await;
    let short = Keep { history_bytes: 1 << 30, receipts_ms: HOUR_MS };
    let b = host.install(probe_charm("b").keep(short)).await.unwrap();
    let order = |charm: Did| NewEvent::new(charm, "note", value(json!("order"))).id(format!("order for {charm}"));
    let firsts = [host.request(order(a)).await.unwrap(), host.request(order(b)).await.unwrap()];
    let pass = async |ms: u64| {
        clock.jump(ms as i64);
        clock.pass(Duration::from_millis(RECEIPTS_PAUSE_MS));
        note(&host, a, json!("time passes")).await;
        clock.pass(Duration::from_millis(HISTORY_PAUSE_MS));
    };
    let is_known = |receipt: &Receipt| matches!(host.status(&receipt.id).unwrap(), Status::Settled(_));
    let mut tries = 0;
    while is_known(&firsts[1]) {
        pass(2 * HOUR_MS).await;
        tries += 1;
        assert!(tries < 9, "its receipts are kept an hour");
    }
    assert!(is_known(&firsts[0]), "the other's are kept longer");
    assert_eq!(host.request(order(a)).await.unwrap(), firsts[0]);
    let again = host.request(order(b)).await.unwrap();
    assert!(again.commit > firsts[1].commit, "handled anew");
    pass(24 * HOUR_MS).await;
    while is_known(&firsts[0]) {
        pass(HOUR_MS).await;
        tries += 1;
        assert!(tries < 60, "its receipts are kept a day");
    }
    assert!(host.request(order(a)).await.unwrap().commit > firsts[0].commit);
    host.shutdown().await.unwrap();
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
}

/// H1: the file of the index gives back what is not needed any more.
#[tokio::test(flavor = "multi_thread")]
async fn files_shrink() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    let size = || std::fs::metadata(home.index()).unwrap().len();
    for n in 0..60 {
        run(&host, a, json!([["set", "x", [], format!("{n:02}").repeat(100_000)]])).await;
    }
    host.shutdown().await.unwrap();
    let (full, free) = (size(), 4_096 * FREE_PAGES_MAX as u64);
    assert!(full > 2 * free, "{full} bytes");
    let host = home.open().await;
    // A little with each checkpoint.
    for _ in 0..full / free {
        host.prune(&a).await.unwrap();
    }
    host.shutdown().await.unwrap();
    assert!(size() <= free + (2 << 20), "{full} bytes, then {}", size());
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
}

/// The names and units of a manifest.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_says_how_much_is_kept() {
    let (home, clock) = (Home::default(), Clock::new());
    std::fs::write(home.path().join("probe.wasm"), component("probe")).unwrap();
    let file = home.path().join("charms.toml");
    let text = "[charm.a]\ncomponent = \"probe.wasm\"\nhistory-bytes = 2000\nreceipts-days = 7\n[charm.b]\ncomponent = \"probe.wasm\"\n";
    std::fs::write(&file, text).unwrap();
    let limits = Limits { history_bytes_max: 1 << 30, ..Limits::default() };
    let host = home.builder().await.env(clock.clone()).limits(limits).open().await.unwrap();
    let dids = Manifest::load(&file).unwrap().install(&host).await.unwrap();
    for _ in 0..40 {
        for charm in [dids["a"], dids["b"]] {
            note(&host, charm, json!("n")).await;
        }
        look(&clock, HISTORY_PAUSE_MS).await;
    }
    until("the past of a goes", || {
        clock.pass(Duration::from_millis(HISTORY_PAUSE_MS));
        info(&host, dids["a"]).floor > 0
    })
    .await;
    assert_eq!(info(&host, dids["b"]).floor, 0);
    host.shutdown().await.unwrap();
}
