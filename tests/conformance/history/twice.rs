//! An id of the sender's own that comes again when its receipt has gone is a new event (S9).

use super::*;

const HOUR_MS: u64 = 3_600_000;

async fn open(home: &Home, clock: &std::sync::Arc<Clock>) -> Host {
    let limits = Limits { receipts_ms: HOUR_MS, ..Limits::default() };
    home.builder().await.env(clock.clone()).limits(limits).open().await.unwrap()
}

/// Lets time pass until the receipt of an event has gone.
async fn expire(host: &Host, clock: &Clock, charm: Did, receipt: &Receipt) {
    for _ in 0..100 {
        if matches!(host.status(&receipt.id).unwrap(), Status::Unknown) {
            return;
        }
        clock.jump(2 * HOUR_MS as i64);
        clock.pass(Duration::from_millis(RECEIPTS_PAUSE_MS));
        note(host, charm, json!("time passes")).await;
        clock.pass(Duration::from_millis(HISTORY_PAUSE_MS));
    }
    panic!("the receipt of {} goes", receipt.id);
}

/// Also where the host's own past, which says when receipts went, has gone; and when the index is made again from the journal.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_came_twice_is_no_damage_and_no_hindrance() {
    let (home, clock) = (Home::default(), Clock::new());
    let host = open(&home, &clock).await;
    let a = probe(&host, "a").await;
    let order = || NewEvent::new(a, "note", value(json!("order"))).id("o-1");
    let first = host.request(order()).await.unwrap();
    expire(&host, &clock, a, &first).await;
    let again = host.request(order()).await.unwrap();
    assert!(again.commit > first.commit);
    assert_eq!(host.request(order()).await.unwrap(), again);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    std::fs::remove_file(home.index()).unwrap();
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
    let host = open(&home, &clock).await;
    probe(&host, "a").await;
    assert_eq!(host.request(order()).await.unwrap(), again, "the index that was made again knows the second");
    until("the index has all", || host.counters().lag_groups == 0).await;
    let own = host.did_of("@host").unwrap();
    host.prune(&own).await.unwrap();
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
}

/// S11: an event that failed is known as long as its dead letter is kept.
#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_of_a_dead_letter_stays_as_long_as_that() {
    let (home, clock) = (Home::default(), Clock::new());
    let host = open(&home, &clock).await;
    let a = probe(&host, "a").await;
    let bad = || NewEvent::new(a, "run", script(json!([["trap"]]))).id("o-1");
    let id = host.send(bad()).await.unwrap();
    let failed = host.receipt(&id).await.unwrap().unwrap();
    let other = note(&host, a, json!(1)).await;
    expire(&host, &clock, a, &other).await;
    assert_eq!(host.send(bad()).await.unwrap(), id, "it is known still");
    assert_eq!(host.receipt(&id).await.unwrap().unwrap(), failed);
    host.verify_store().unwrap();
    host.discard(&a, &id).await.unwrap();
    expire(&host, &clock, a, &failed).await;
    host.send(bad()).await.unwrap();
    until("it failed again", || !host.dead_letters(&a, 0, 9).unwrap().is_empty()).await;
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
}
