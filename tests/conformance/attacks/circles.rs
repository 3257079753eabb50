//! Charms that fill each other's inboxes in a circle, and a host that must tell of many failures.

use super::*;

/// S4, S12: each event makes two for the next charm in a circle of small inboxes, with receipts that the sender wants as
/// well. Somebody is always full; everything settles, and nobody is stuck or loses one.
#[tokio::test(flavor = "multi_thread")]
async fn charms_that_fill_each_other_in_a_circle_get_free_again() {
    // Each waits for room of the next: what frees them is that the wait has a bound.
    let limits = Limits { inbox_events_max: 40, conflict_ms_max: 2_000, room_ms_max: 50, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let neighbours = Neighbours::install(&host).await;
    let circle = probes(&host, ["a", "b", "c"]).await;
    let script = |levels: usize| {
        let mut event = json!({ "steps": [] });
        for level in 0..levels {
            let next = circle[(levels - level) % 3];
            let send = json!(["try", ["send", of(next, "run"), event, { "stream": "on-receipt", "tag": level }]]);
            event = json!({ "steps": [send, send] });
        }
        value(event)
    };
    let attack = async {
        let mut sent = 0;
        for round in 0..60 {
            let to = circle[round % 3];
            match host.send(NewEvent::new(to, "run", script(5))).await {
                Ok(_) => sent += 1,
                Err(SendError::QueueFull { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
        settle(&host).await;
        sent
    };
    let (sent, _) = neighbours.beside(&host, attack).await;
    let counters = counted(&host);
    assert!(sent > 10 && counters.waiting == 0, "{sent} {counters:?}");
    assert_eq!(counters.faulted, 0, "{counters:?}");
    for charm in circle {
        is_served(&host, charm).await;
    }
    host.verify_store().unwrap();
}
