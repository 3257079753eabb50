//! What a charm keeps, over all its turns.

use super::*;

/// A5, T6: removed cells count: their history is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_space_over_its_cells_takes_no_more() {
    let street = Street::with(Limits { cells_max: 4, ..small() }).await;
    let cells = |names: &[&str]| -> Json { names.iter().map(|name| json!(["set", name, [], 1])).collect() };
    // With `kept` and `alive` four.
    street.both_go_on().await;
    assert_eq!(run(&street.host, street.greedy, cells(&["a", "b"])).await.outcome, Outcome::Committed);
    street.goes_over(cells(&["c"]), Outcome::Faulted, "over cells-max 4").await;
    street.is_taken(json!(["remove", "a", []])).await;
    // A removed one makes room.
    street.is_taken(json!(["set", "c", [], 1])).await;
    street.goes_over(cells(&["a"]), Outcome::Faulted, "over cells-max 4").await;
}

/// A5, T6
#[tokio::test(flavor = "multi_thread")]
async fn a_space_over_its_bytes_takes_no_more() {
    let street = Street::with(Limits { space_bytes_max: 10_000, ..small() }).await;
    let large = |cell: &str| json!(["set", cell, [], text(4_900)]);
    street.is_taken(large("a")).await;
    street.is_taken(large("b")).await;
    street.goes_over(json!([large("c")]), Outcome::Faulted, "over space-bytes-max 10000").await;
    // To the byte: `kept` has 10, the two texts 4,903 each with their lengths.
    let rest = |bytes: usize| json!([["set", "rest", [], text(bytes - 2)]]);
    assert_eq!(run(&street.host, street.greedy, rest(184)).await.outcome, Outcome::Committed);
    assert_eq!(run(&street.host, street.greedy, rest(185)).await.outcome, Outcome::Faulted);
    street.is_taken(json!(["remove", "rest", []])).await;
    // What is removed makes room; what is replaced counts once.
    street.is_taken(large("a")).await;
    street.is_taken(json!(["remove", "b", []])).await;
    street.is_taken(large("c")).await;
}

/// A5: how full a space is, is known again after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn the_bounds_of_a_space_outlive_the_host() {
    let home = Home::default();
    let limits = Limits { cells_max: 2, space_bytes_max: 10_000, ..small() };
    let host = home.builder().await.limits(limits.clone()).open().await.unwrap();
    let a = probe(&host, "a").await;
    let steps = json!([["set", "a", [], text(4_000)], ["set", "b", [], text(4_000)]]);
    assert_eq!(run(&host, a, steps).await.outcome, Outcome::Committed);
    host.shutdown().await.unwrap();

    let host = home.builder().await.limits(limits).open().await.unwrap();
    probe(&host, "a").await;
    let receipt = run(&host, a, json!([["set", "c", [], 1]])).await;
    assert_eq!(receipt.message.as_deref(), Some("over cells-max 2"));
    let receipt = run(&host, a, json!([["set", "b", [], text(7_000)]])).await;
    assert_eq!(receipt.message.as_deref(), Some("over space-bytes-max 10000"));
}

/// A5, S11: the oldest goes first; its receipt stays.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_dead_letters_are_kept_than_the_bound() {
    let home = Home::default();
    let limits = Limits { dead_letters_max: 3, ..small() };
    let host = home.builder().await.limits(limits.clone()).open().await.unwrap();
    let a = probe(&host, "a").await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let receipt = run_unasked(&host, a, json!([["reject", format!("number {n}")]])).await;
        assert_eq!(receipt.outcome, Outcome::Rejected);
        ids.push(receipt.id);
    }
    let letters = |host: &Host| -> Vec<EventId> {
        host.dead_letters(&a, 0, usize::MAX).unwrap().iter().map(|letter| letter.event.id).collect()
    };
    assert_eq!(letters(&host), ids[2..]);
    assert_eq!(soon(host.receipt(&ids[0])).await.unwrap().message.as_deref(), Some("number 0"));
    host.shutdown().await.unwrap();

    let host = home.builder().await.limits(limits).open().await.unwrap();
    assert_eq!(letters(&host), ids[2..]);
    probe(&host, "a").await;
    ids.push(run(&host, a, json!([["trap"]])).await.id);
    assert_eq!(letters(&host), ids[3..]);
}
