//! Watching receipts, what waits, and dead letters.

use charm_conformance::{Hold, run_unasked, settle};
use charm_host::{EventId, Outcome, Status, WATCH_EVENTS_PAGE, WATCH_RECEIPTS_PAGE};

use super::*;

fn settled(update: &Update) -> (EventId, Outcome) {
    let Change::Settled(row) = &update.change else { panic!("{update:?}") };
    (row.receipt.id, row.receipt.outcome)
}

fn waits(update: &Update) -> EventId {
    let Change::Waits(queued) = &update.change else { panic!("{update:?}") };
    queued.event.id
}

fn letter(update: &Update) -> EventId {
    let Change::Letter(letter) = &update.change else { panic!("{update:?}") };
    letter.event.id
}

/// D6, S4: what becomes of one event, and then the stream is over.
#[tokio::test(flavor = "multi_thread")]
async fn the_watcher_of_an_event_ends_with_its_receipt() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let hold = Hold::new();
    let id = send(&host, a, json!([hold.step(), ["set", "x", [], 1]])).await;
    hold.arrived(1).await;
    let mut watcher = host.watch(Watch::receipt(&id)).await.unwrap();
    let first = next(&mut watcher).await;
    assert_eq!(first.change, Change::Status(Status::Waiting { to: a, is_held: false }));
    hold.release(1);
    let update = next(&mut watcher).await;
    let Change::Status(Status::Settled(receipt)) = &update.change else { panic!("{update:?}") };
    assert_eq!((receipt.id, receipt.commit), (id, Some(update.seq)));
    assert_eq!(item(&mut watcher).await, None);
    let mut late = host.watch(Watch::receipt(&id)).await.unwrap();
    assert!(matches!(next(&mut late).await.change, Change::Status(Status::Settled(_))));
    assert_eq!(item(&mut late).await, None);
    host.shutdown().await.unwrap();
}

/// D6, S4: each receipt that a charm's commits settle is told, in their order, however slow the reader is; also those of what it
/// was not allowed to send, and from a commit on.
#[tokio::test(flavor = "multi_thread")]
async fn each_receipt_of_a_charm_is_told_and_none_is_skipped() {
    let host = host().await;
    let [a, b] = [probe(&host, "a").await, probe(&host, "b").await];
    let before = send(&host, a, json!([])).await;
    settle(&host).await;
    let mut watcher = host.watch(Watch::receipts(&a)).await.unwrap();
    let begin = next(&mut watcher).await;
    assert_eq!((begin.change, begin.seq), (Change::Listed, commits(&host, a)));
    let mut ids = Vec::new();
    for _ in 0..2 * WATCH_RECEIPTS_PAGE + 1 {
        ids.push((send(&host, a, json!([["set", "x", [], 1]])).await, Outcome::Committed));
    }
    ids.push((send(&host, a, json!([["reject", "no"]])).await, Outcome::Rejected));
    settle(&host).await;
    // More of one commit than are read at once.
    const DENIED: usize = WATCH_RECEIPTS_PAGE + 1;
    let denied: Json = (0..DENIED).map(|number| json!(["send", charm_conformance::of(b, "note"), number])).collect();
    let sender = send(&host, a, denied).await;
    settle(&host).await;
    let mut told = Vec::new();
    for _ in 0..ids.len() {
        told.push(settled(&next(&mut watcher).await));
    }
    assert_eq!(told, ids);
    let last = commits(&host, a);
    let mut outcomes = Vec::new();
    for number in 0..=DENIED {
        let update = next(&mut watcher).await;
        assert_eq!(update.seq, if number < DENIED { last - 1 } else { last }, "all of one commit, or not yet");
        outcomes.push(settled(&update));
    }
    assert_eq!(outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Denied).count(), DENIED);
    assert!(outcomes.contains(&(sender, Outcome::Committed)));
    let mut again = host.watch(Watch::receipts(&a).from(0)).await.unwrap();
    assert_eq!(settled(&next(&mut again).await), (before, Outcome::Committed));
    let mut rest = host.watch(Watch::receipts(&a).from(last - 1)).await.unwrap();
    for _ in 0..=DENIED {
        settled(&next(&mut rest).await);
    }
    assert_eq!(next(&mut rest).await.change, Change::Listed);
    host.shutdown().await.unwrap();
}

/// D6: what waits is told, then what comes; what was handled before it could be told is counted.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_charm_is_told_and_what_went_meanwhile_is_counted() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let hold = Hold::new();
    let first = send(&host, a, json!([hold.step()])).await;
    hold.arrived(1).await;
    let second = send(&host, a, json!([hold.step()])).await;
    let mut watcher = host.watch(Watch::events(&a)).await.unwrap();
    assert_eq!([waits(&next(&mut watcher).await), waits(&next(&mut watcher).await)], [first, second]);
    assert_eq!(next(&mut watcher).await.change, Change::Listed);
    let third = send(&host, a, json!([hold.step()])).await;
    let update = next(&mut watcher).await;
    assert_eq!((waits(&update), update.skipped), (third, 0));
    let position = update.seq;
    // More than are read at once.
    let mut more = Vec::new();
    for _ in 0..=WATCH_EVENTS_PAGE {
        more.push(send(&host, a, json!([hold.step()])).await);
    }
    for id in &more {
        let update = next(&mut watcher).await;
        assert_eq!((waits(&update), update.skipped), (*id, 0));
    }
    hold.release(3 + more.len());
    settle(&host).await;
    // They come and go.
    for _ in 0..5 {
        run(&host, a, json!([])).await;
    }
    hold.hold();
    let last = send(&host, a, json!([hold.step()])).await;
    hold.arrived(4 + more.len()).await;
    let update = next(&mut watcher).await;
    assert_eq!((waits(&update), update.skipped), (last, 5));
    let mut resumed = host.watch(Watch::events(&a).from(position)).await.unwrap();
    assert_eq!(waits(&next(&mut resumed).await), last);
    hold.release(1);
    settle(&host).await;
    host.shutdown().await.unwrap();
}

/// D6, S11: the dead letters that there are, then those that come.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_told_those_that_are_there_and_those_that_come() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let fails = || json!([["reject", "no"]]);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(run_unasked(&host, a, fails()).await.id);
    }
    run(&host, a, json!([["set", "x", [], 1]])).await;
    let mut watcher = host.watch(Watch::dead_letters(&a)).await.unwrap();
    for id in &ids {
        let update = next(&mut watcher).await;
        assert_eq!((letter(&update), update.seq), (*id, 0));
    }
    let listed = next(&mut watcher).await;
    assert_eq!((listed.change, listed.seq), (Change::Listed, commits(&host, a)));
    run(&host, a, json!([["set", "x", [], 2]])).await;
    let new = run_unasked(&host, a, fails()).await.id;
    let update = next(&mut watcher).await;
    assert_eq!((letter(&update), update.seq), (new, commits(&host, a)));
    let mut resumed = host.watch(Watch::dead_letters(&a).from(listed.seq)).await.unwrap();
    assert_eq!(letter(&next(&mut resumed).await), new);
    host.discard_all(&a).await.unwrap();
    let mut none = host.watch(Watch::dead_letters(&a)).await.unwrap();
    assert_eq!(next(&mut none).await.change, Change::Listed);
    host.shutdown().await.unwrap();
}
