//! S11: what failed is kept unless its sender was told, is found by id, listed in pages, dropped together; and what a
//! bound drops is counted.

use charm_host::{Archive, EventId, Host, LETTERS_PER_COMMIT_MAX, Limits, MemoryStore, NewEvent, Outcome, SendError};
use serde_json::Value as Json;

use super::*;

async fn fails(host: &Host, charm: Did, steps: Json) -> EventId {
    let id = host.send(NewEvent::new(charm, "run", script(steps))).await.unwrap();
    receipt(host, &id).await;
    id
}

/// S11: a rejection is no dead letter when the event itself says that its sender asked for the receipt; all else is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_a_dead_letter_unless_the_event_says_that_its_sender_asked() {
    let (store, keys) = (MemoryStore::new(), Keys::default());
    let host = builder().store(store.clone()).keyring(keys.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let failures = [("rejected", json!([["reject", "no"]])), ("faulted", json!([["trap"]]))];
    let mut kept = Vec::new();
    for (outcome, steps) in &failures {
        let is_kept = *outcome != "rejected";
        kept.push(fails(&host, a, steps.clone()).await);
        let asked = run(&host, a, steps.clone()).await;
        assert_eq!(asked.outcome.name(), *outcome);
        kept.extend(is_kept.then_some(asked.id));
        let event = json!({ "steps": steps });
        let sends = json!([
            ["send", of(a, "run"), event],
            ["send", of(a, "run"), event, { "stream": "on-receipt", "tag": outcome }],
        ]);
        let sent = results(&host, b, sends).await;
        settle(&host).await;
        let sent: Vec<EventId> =
            sent.as_array().unwrap().iter().map(|id| id.as_str().unwrap().parse().unwrap()).collect();
        kept.push(sent[0]);
        kept.extend(is_kept.then_some(sent[1]));
    }
    // An event of no stream, and one that does not fit, though their sender asked.
    let lost = json!([["send", "nowhere", 1, { "stream": "on-receipt", "tag": 1 }]]);
    assert_eq!(run(&host, a, lost).await.outcome, Outcome::Committed);
    settle(&host).await;
    let dead = |letters: Vec<charm_host::DeadLetter>| letters.iter().map(|letter| letter.event.id).collect::<Vec<_>>();
    assert_eq!(dead(host.dead_letters(&a, 0, usize::MAX).unwrap()), kept);
    host.verify_store().unwrap();
    // A rejection that was kept, sent again by an operator who does not ask.
    let again = host.resend(&a, &kept[0]).await.unwrap();
    assert_eq!(receipt(&host, &again).await.outcome, Outcome::Rejected);
    assert!(host.dead_letter(&again).unwrap().is_some(), "it is not lost");
    host.shutdown().await.unwrap();
    let archive = Archive::open(store).unwrap();
    archive.verify_store().unwrap();
    let commits = archive.commits(None, 0, usize::MAX >> 1).unwrap();
    let marked = commits.iter().flat_map(|commit| commit.record.sends()).filter(|(event, _)| event.awaited).count();
    // Two failures, two scripts of the sender, one of the receiver.
    assert_eq!(marked, 5, "the events themselves say so");
}

/// S11: none is loaded but those that are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_found_by_id_and_listed_in_pages() {
    let store = MemoryStore::new();
    let host = builder().store(store.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let mut ids = Vec::new();
    for n in 0..25 {
        ids.push(fails(&host, a, json!([["reject", n.to_string()]])).await);
        fails(&host, b, json!([["trap"]])).await;
    }
    let archive = Archive::open(store).unwrap();
    let (mut pages, mut after) = (Vec::new(), 0);
    loop {
        let page = host.dead_letters(&a, after, 10).unwrap();
        assert_eq!(archive.dead_letters(&a, after, 10).unwrap(), page);
        let Some(last) = page.last() else { break };
        after = last.position;
        pages.push(page);
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    assert_eq!(pages.concat().iter().map(|letter| letter.event.id).collect::<Vec<_>>(), ids);
    for letter in pages.concat() {
        assert_eq!(host.dead_letter(&letter.event.id).unwrap().as_ref(), Some(&letter));
        assert_eq!(archive.dead_letter(&letter.event.id).unwrap().as_ref(), Some(&letter));
    }
    assert_eq!(host.dead_letter(&EventId([7; 16])).unwrap(), None);
    let elsewhere = host.resend(&b, &ids[0]).await;
    assert_eq!(elsewhere, Err(SendError::NoSuchLetter), "it is another charm's");
}

/// S11, T5: all at once, in bounded commits; others keep theirs, receipts stay.
#[tokio::test(flavor = "multi_thread")]
async fn all_dead_letters_of_a_charm_are_dropped_together() {
    let store = MemoryStore::new();
    let limits = Limits { dead_letters_max: 2_000, ..Limits::default() };
    let host = builder().store(store.clone()).limits(limits).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let count = LETTERS_PER_COMMIT_MAX + 3;
    for _ in 0..count {
        host.send(NewEvent::new(a, "run", script(json!([["trap"]])))).await.unwrap();
    }
    let kept = fails(&host, b, json!([["trap"]])).await;
    settle(&host).await;
    let before = commits(&host, a);
    assert_eq!(host.discard_all(&a).await, Ok(count as u64));
    let after = host.spaces();
    assert_eq!(commits(&host, a), before + 2, "a commit holds no more than its bound");
    assert_eq!(after.iter().map(|space| space.letters_dropped).sum::<u64>(), 0, "the operator dropped them, no bound");
    assert_eq!(host.dead_letters(&a, 0, usize::MAX).unwrap(), []);
    assert_eq!(host.discard_all(&a).await, Ok(0));
    assert!(host.dead_letter(&kept).unwrap().is_some());
    let stranger = visitor(&Keys::default());
    assert_eq!(host.discard_all(&stranger).await, Err(SendError::NoSuchCharm { to: stranger }));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    Ledger::check(&Archive::open(store).unwrap()).all_settled();
}

/// S11, A5: what the bound drops is counted for good, and told once a minute.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_the_bound_drops_are_counted_and_told() {
    let (store, keys, logs) = (MemoryStore::new(), Keys::default(), Logs::capture());
    let limits = Limits { dead_letters_max: 3, ..Limits::default() };
    let open = async || {
        let builder = builder().store(store.clone()).keyring(keys.clone()).limits(limits.clone());
        builder.open().await.unwrap()
    };
    let host = open().await;
    let (a, b) = pair(&host).await;
    fails(&host, b, json!([["trap"]])).await;
    let dropped = |host: &Host, charm: Did| {
        let space = host.spaces().into_iter().find(|space| space.did == charm).unwrap();
        (space.dead, space.letters_dropped)
    };
    for n in 1..=10 {
        fails(&host, a, json!([["trap"]])).await;
        assert_eq!(dropped(&host, a), (n.min(3), (n as u64).saturating_sub(3)));
    }
    assert_eq!(dropped(&host, b), (1, 0));
    let told = logs.lines("dead-letters-max 3");
    let told: Vec<_> = told.iter().filter(|line| line.contains(&a.to_string())).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("WARN") && told[0].contains("charm events a --dead"), "{told:?}");
    host.shutdown().await.unwrap();
    let host = open().await;
    assert_eq!(dropped(&host, a), (3, 7), "also when it is opened again");
    probe(&host, "a").await;
    fails(&host, a, json!([["trap"]])).await;
    assert_eq!(dropped(&host, a), (3, 8));
    host.verify_store().unwrap();
    let spaces = Archive::open(store).unwrap().spaces();
    assert_eq!(spaces.iter().find(|space| space.did == a).unwrap().letters_dropped, 8);
}
