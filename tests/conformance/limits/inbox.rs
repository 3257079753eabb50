//! Queues: inboxes, turns at the same time, commits that wait for the disk (S12).

use super::*;

/// A host whose greedy charm holds its turn until the wire is released, so that its inbox fills.
async fn held(limits: Limits) -> (Street, Wire) {
    let wire = Wire::gated();
    let street = Street::on(builder().limits(limits).transport(wire.clone())).await;
    let greedy = street.host.install(probe_charm("greedy").may_call(Wire::grant())).await.unwrap();
    grant(&street.host, street.neighbour, all_of(&[greedy]), all_of(&[greedy])).await.unwrap();
    send(&street.host, greedy, json!([["fetch", { "url": format!("{WIRE}/") }]])).await;
    wire.arrived(1).await;
    (street, wire)
}

/// A5, S12: to senders outside and to charms; the event that runs has its place until it is settled.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_pushes_back() {
    let (street, wire) = held(Limits { inbox_events_max: 3, ..small() }).await;
    let full = SendError::QueueFull { to: street.greedy };
    for n in 0..2 {
        street.host.send(NewEvent::new(street.greedy, "note", value(json!(n)))).await.unwrap();
    }
    // A charm finds room for its first event, whatever others have sent.
    let first = json!([["send", of(street.greedy, "note"), "first"]]);
    assert_eq!(run(&street.host, street.neighbour, first).await.outcome, Outcome::Committed);
    for n in 2..4 {
        let refused = street.host.send(NewEvent::new(street.greedy, "note", value(json!(n)))).await;
        assert_eq!(refused, Err(full.clone()));
        let steps = json!([["set", "sent", [], n], ["send", of(street.greedy, "note"), n]]);
        let receipt = run(&street.host, street.neighbour, steps).await;
        assert_eq!(receipt.outcome, Outcome::Rejected);
        assert_eq!(receipt.message, Some(format!("queue-full inbox={}", street.greedy)));
    }
    assert_eq!(waiting(&street.host, street.greedy).await.len(), 4);
    assert_eq!(cell(&street.host, street.neighbour, "sent").await, Json::Null);
    wire.release(1);
    settle(&street.host).await;
    assert_eq!(cell(&street.host, street.greedy, "notes").await, json!(["first", 0, 1]), "senders take turns");
    street.both_go_on().await;
}

/// A5, S12
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_full_of_bytes_pushes_back() {
    let (street, wire) = held(Limits { inbox_bytes_max: 5_000, ..small() }).await;
    let large = || NewEvent::new(street.greedy, "note", value(json!(text(2_000))));
    street.host.send(large()).await.unwrap();
    street.host.send(large()).await.unwrap();
    assert_eq!(street.host.send(large()).await, Err(SendError::QueueFull { to: street.greedy }));
    let event = NewEvent::new(street.greedy, "note", value(json!("small")));
    street.host.send(event).await.unwrap();
    wire.release(1);
    settle(&street.host).await;
    street.host.send(large()).await.unwrap();
    settle(&street.host).await;
    let notes = cell(&street.host, street.greedy, "notes").await;
    assert_eq!(notes.as_array().unwrap().len(), 4, "nothing that was taken is lost");
}

/// A5, S12: what one turn stages counts before it commits.
#[tokio::test(flavor = "multi_thread")]
async fn one_turn_cannot_overfill_an_inbox() {
    // One sender alone takes half.
    let street = Street::with(Limits { inbox_events_max: 20, ..small() }).await;
    let to = of(street.neighbour, "note");
    let over = json!([["repeat", 10, ["send", to, 1]]]);
    street.goes_over(over, Outcome::Rejected, &format!("queue-full inbox={}", street.neighbour)).await;
    street.is_taken(json!(["repeat", 10, ["send", to, 1]])).await;
    settle(&street.host).await;
    assert_eq!(cell(&street.host, street.neighbour, "notes").await, json!(vec![1; 10]));
}

/// A5, S12: payload bytes of one turn too; a send that is refused for want of room for its receipt leaves none taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_send_gives_back_the_room_that_it_had_taken() {
    let (street, wire) = held(Limits { inbox_events_max: 4, inbox_bytes_max: 6_000, ..small() }).await;
    let (full, receipts) = (of(street.greedy, "note"), json!({ "stream": "on-receipt", "tag": 1 }));
    let steps = json!([
        ["repeat", 4, ["send", "note", 1]],
        // Half of the bytes less 500, that is a text of 497.
        ["send", full, text(2_497)],
        ["try", ["send", full, text(497), receipts]],
        ["try", ["send", full, text(498)]],
        ["send", full, text(497)],
    ]);
    let seen = results(&street.host, street.neighbour, steps).await;
    let kinds = [&seen[2]["error"], &seen[3]["error"]].map(|error| (&error["kind"], &error["inbox"]));
    let (own, other) = (json!(street.neighbour.to_string()), json!(street.greedy.to_string()));
    let kind = json!("queue-full");
    assert_eq!(kinds, [(&kind, &own), (&kind, &other)], "{seen}");
    wire.release(1);
    settle(&street.host).await;
    assert_eq!(cell(&street.host, street.greedy, "notes").await[1], json!(text(497)));
}

/// A5: more charms that always have work than there are slots: each gets its turns.
#[tokio::test(flavor = "multi_thread")]
async fn more_busy_charms_than_turns_at_once_all_make_progress() {
    const BUSY: usize = 12;
    const ROUNDS: usize = 10;
    let host = builder().limits(Limits { turns_max: 2, ..Limits::default() }).open().await.unwrap();
    let mut charms = Vec::new();
    for n in 0..BUSY {
        charms.push(probe(&host, &format!("busy-{n}")).await);
    }
    for _ in 0..ROUNDS {
        for charm in &charms {
            host.send(NewEvent::new(*charm, "note", value(json!(1)))).await.unwrap();
        }
    }
    settle(&host).await;
    for charm in charms {
        assert_eq!(cell(&host, charm, "notes").await, json!(vec![1; ROUNDS]));
    }
}

/// A5: with every place for waiting taken, the others wait for one without making their requests, and go on when one
/// is free. Charms can still be installed and have turns meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_turns_wait_for_http_at_once_than_the_bound() {
    let wire = Wire::gated();
    let limits = Limits { turns_max: 2, exchanges_max: 2, ..Limits::default() };
    let host = builder().limits(limits).transport(wire.clone()).open().await.unwrap();
    let mut ids = Vec::new();
    for n in 0..4 {
        let charm = host.install(probe_charm(&format!("slow-{n}")).may_call(Wire::grant())).await.unwrap();
        ids.push(send(&host, charm, json!([["fetch", { "url": format!("{WIRE}/") }]])).await);
    }
    wire.arrived(2).await;
    let other = probe(&host, "other").await;
    assert_eq!(note(&host, other, json!(1)).await.outcome, Outcome::Committed);
    assert_eq!(wire.count(), 2, "two places, two requests");
    wire.release(2);
    wire.arrived(4).await;
    wire.release(2);
    for id in ids {
        assert_eq!(soon(host.receipt(&id)).await.unwrap().outcome, Outcome::Committed);
    }
}

/// A5, T8: when the disk does not keep up, turns wait: what is not durable stays bounded in memory.
#[tokio::test(flavor = "multi_thread")]
async fn turns_wait_when_too_many_commits_wait_for_the_disk() {
    let (store, control) = GatedStore::new(MemoryStore::new());
    let limits = Limits { commits_pending_max: 5, turns_max: 1, ..Limits::default() };
    let host = builder().limits(limits).store(store).open().await.unwrap();
    let a = probe(&host, "a").await;
    control.hold();
    // Each turn sends itself the next event, fifty in all, and each commit waits for the disk.
    let mut next = json!([["set", "end", [], true]]);
    for n in 0..20 {
        next = json!([["set", "n", [], n], ["send", "run", { "steps": next }]]);
    }
    let sending = host.send(NewEvent::new(a, "run", script(next)));
    tokio::pin!(sending);
    // The send itself is durable only after the disk goes on; the commits that pile up meanwhile are few. The fifth is
    // the one that let the event in.
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut sending).await.is_err());
    until("as many turns commit as may", || decided(a) >= 4).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut sending).await.is_err());
    assert_eq!(decided(a), 4, "commits wait for a disk that stands still");
    control.release();
    soon(sending).await;
    settle(&host).await;
    assert_eq!(cell(&host, a, "end").await, json!(true));
}

/// A5, T8: the same for few commits that are large.
#[tokio::test(flavor = "multi_thread")]
async fn turns_wait_when_too_many_bytes_wait_for_the_disk() {
    let (store, control) = GatedStore::new(MemoryStore::new());
    let limits = Limits { commit_bytes_pending_max: 100_000, turns_max: 1, ..Limits::default() };
    let host = builder().limits(limits).store(store).open().await.unwrap();
    let a = probe(&host, "a").await;
    let commits = || decided(a);
    control.hold();
    // Accepted, though not yet durable; without the bound each would have its turn at once.
    for n in 0..10 {
        let event = NewEvent::new(a, "note", value(json!([n, text(20_000)])));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), host.send(event)).await.is_err(),
            "the disk stands still"
        );
    }
    assert!(commits() <= 5, "{} turns of 20 KB wait for a disk that stands still", commits());
    control.release();
    settle(&host).await;
    assert_eq!(commits(), 10, "all of them went on");
}
