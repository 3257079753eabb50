//! Charms that compute long, more of them than there are slots (A6).

use super::*;

/// A6: turns over `LONG_TURN_FUEL` are long; whoever needs a short turn waits for slices of the long ones, not for their ends.
#[tokio::test(flavor = "multi_thread")]
async fn charms_of_long_turns_leave_slots_for_short_ones() {
    let host = builder().limits(Limits { turns_max: 8, ..Limits::default() }).open().await.unwrap();
    let neighbours = Neighbours::install(&host).await;
    let long = json!([["repeat", 3_000, ["context"]]]);
    let mut busy = Vec::new();
    for number in 0..24 {
        let charm = probe(&host, &format!("busy-{number}")).await;
        // From the first turn on it is known.
        let receipt = run(&host, charm, long.clone()).await;
        assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
        busy.push(charm);
    }
    let attack = async {
        let mut last = Vec::new();
        for charm in &busy {
            for _ in 0..4 {
                last.push(send(&host, *charm, long.clone()).await);
            }
        }
        for id in last {
            assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
        }
    };
    let ((), met) = neighbours.beside(&host, attack).await;
    assert!(met.others <= 8, "a neighbour waited for {} long turns", met.others);
}
