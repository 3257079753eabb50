//! Chapter causes: what turns do now, what led to an event, and what followed from it (S1, S4, S7).
#![allow(clippy::unwrap_used, reason = "tests")]

mod turns;

use std::{sync::Arc, time::Duration};

use charm_conformance::{
    GatedStore, Hold, Home, Keys, builder, cell, commits, host, of, pair, probe, probes, receipt, run, send, settle,
    steps, until, wait_all,
};
use charm_host::{
    Archive, Did, EventId, Host, MemoryStore, Missing, Outcome, TurnState, WHY_EVENTS_MAX, Why, WhyEvent,
};
use serde_json::{Value as Json, json};

async fn why(host: &Host, id: &EventId) -> Why {
    host.why(id).await.unwrap().expect("something is known of it")
}

/// Returns the events in few words: who handles them, and who sent them.
fn told(why: &Why) -> Vec<(Option<Did>, Option<EventId>)> {
    why.events.iter().map(|event| (event.to, event.cause)).collect()
}

/// A chain of three: a sends to b and waits, b sends to c and waits, and c stops there.
struct Chain {
    hold: Hold,
    dids: [Did; 3],
    first: EventId,
}

impl Chain {
    async fn begin(host: &Host) -> Chain {
        let hold = Hold::new();
        let dids @ [a, b, c] = probes(host, ["a", "b", "c"]).await;
        let last = steps(json!([hold.step(), ["set", "x", [], "the end"]]));
        let middle =
            steps(json!([["send", of(c, "run"), last], wait_all(&[0]), ["set", "y", [], 1], ["set", "z", [], 1]]));
        let first = json!([["set", "x", [], 1], ["send", of(b, "run"), middle], wait_all(&[0]), ["set", "y", [], 1]]);
        let before = (commits(host, a), commits(host, b));
        let first = send(host, a, first).await;
        hold.arrived(1).await;
        // The event and a segment of a, and a segment of b.
        until("a and b wait", || commits(host, a) == before.0 + 2 && commits(host, b) == before.1 + 1).await;
        Chain { hold, dids, first }
    }
}

fn states(why: &Why) -> Vec<Option<TurnState>> {
    why.events.iter().map(|event| event.state).collect()
}

/// S7: asked while it is under way, it says who waits for whom, and who runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_under_way_says_where_each_of_it_stands() {
    let host = host().await;
    let Chain { hold, dids: [a, b, c], first } = Chain::begin(&host).await;
    let now = why(&host, &first).await;
    assert_eq!((now.event, now.causes, now.more), (first, 0, 0));
    assert_eq!(states(&now), [Some(TurnState::Waits), Some(TurnState::Waits), Some(TurnState::Runs)]);
    let [of_a, of_b, of_c] = &now.events[..] else { panic!("{now:?}") };
    assert_eq!(told(&now), [(Some(a), None), (Some(b), Some(of_a.id)), (Some(c), Some(of_b.id))]);
    assert_eq!((of_a.sender, of_b.sender, of_c.sender), (Some(host.operator()), Some(a), Some(b)));
    let segment = &of_a.commits[..];
    assert_eq!(segment.len(), 1, "one segment, and no end yet");
    let (number, wait) = segment[0].segment.as_ref().unwrap();
    assert_eq!((*number, &wait.events[..], segment[0].writes, segment[0].sends), (1, &[of_b.id][..], 1, 1));
    assert_eq!(of_b.sent, Some((a, segment[0].seq)));
    assert!(of_c.commits.is_empty() && of_c.receipt.is_none() && of_c.missing.is_empty());
    hold.release(1);
    settle(&host).await;
    host.shutdown().await.unwrap();
}

/// S4, S7: at the end it tells all of it, from whichever event it is asked: what led to that one, and what followed. The same
/// after a restart, and without a host.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_told_whole_from_each_of_its_events_and_after_a_restart() {
    let home = Home::default();
    let host = home.open().await;
    let Chain { hold, dids, first } = Chain::begin(&host).await;
    hold.release(1);
    settle(&host).await;
    let whole = why(&host, &first).await;
    let ids: Vec<EventId> = whole.events.iter().map(|event| event.id).collect();
    for (place, event) in whole.events.iter().enumerate() {
        let receipt = event.receipt.as_ref().unwrap();
        assert_eq!((receipt.outcome, event.to, event.state), (Outcome::Committed, Some(dids[place]), None));
        assert_eq!(event.commits.last().map(|part| (part.seq, part.segment.is_none())), receipt.commit.zip(Some(true)));
        assert_eq!(event.commits.len(), if place == 2 { 1 } else { 2 }, "a segment for each wait, and the end");
        assert!(event.missing.is_empty());
    }
    assert_eq!(whole.events[1].commits[1].writes, 2);
    let mut asked = Vec::new();
    for (place, id) in ids.iter().enumerate() {
        let from = why(&host, id).await;
        assert_eq!(from, Why { event: *id, causes: place, ..whole.clone() }, "from event {place}");
        asked.push(from);
    }
    host.shutdown().await.unwrap();
    let archive = Archive::open(home.read_only()).unwrap();
    for (id, before) in ids.iter().zip(&asked) {
        assert_eq!(archive.why(id).unwrap().as_ref(), Some(before), "without a host");
    }
    let host = home.open().await;
    for (id, before) in ids.iter().zip(&asked) {
        assert_eq!(&why(&host, id).await, before, "after a restart");
    }
    host.shutdown().await.unwrap();
}

/// S8: a store whose host was lost while turns wait tells the same as its host did, but for what ran: that stands in line again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_told_without_a_host() {
    let home = Home::default();
    let host = home.open().await;
    let Chain { hold, first, dids: [a, b, _] } = Chain::begin(&host).await;
    let now = why(&host, &first).await;
    let archive = Archive::open(home.read_only()).unwrap();
    let read = archive.why(&first).unwrap().unwrap();
    assert_eq!(states(&read), [Some(TurnState::Waits), Some(TurnState::Waits), Some(TurnState::Queued)]);
    assert_eq!(told(&read), told(&now));
    let turns: Vec<_> = archive.turns(None, 0, 10).into_iter().map(|turn| (turn.charm, turn.unsettled)).collect();
    assert_eq!(turns, [(a, 1), (b, 1)]);
    assert_eq!(archive.turns(Some(&b), 0, 10).len(), 1);
    hold.release(1);
    settle(&host).await;
    host.shutdown().await.unwrap();
}

fn misses(event: &WhyEvent) -> &[Missing] {
    &event.missing
}

/// H1: where the past of a charm has gone that is said, and the rest is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_past_that_has_gone_is_named_and_the_rest_is_told() {
    let home = Home::default();
    let host = home.open().await;
    let Chain { hold, first, dids: [_, b, c] } = Chain::begin(&host).await;
    hold.release(1);
    settle(&host).await;
    let ids: Vec<EventId> = why(&host, &first).await.events.iter().map(|event| event.id).collect();
    host.prune(&b).await.unwrap();
    let whole = why(&host, &first).await;
    assert_eq!(whole.events.len(), 2, "what b sent is in the past that has gone");
    assert_eq!((misses(&whole.events[0]), misses(&whole.events[1])), (&[][..], &[Missing::Commits][..]));
    assert_eq!(whole.events[1].receipt.as_ref().unwrap().outcome, Outcome::Committed, "its receipt is kept");
    let of_b = why(&host, &ids[1]).await;
    assert_eq!((of_b.causes, of_b.events.len()), (1, 2), "back to the event from outside: {of_b:?}");
    let last = why(&host, &ids[2]).await;
    assert_eq!((last.causes, told(&last)), (0, vec![(Some(c), None)]));
    assert_eq!((misses(&last.events[0]), last.events[0].commits.len()), (&[Missing::Sent][..], 1));
    host.shutdown().await.unwrap();
    let archive = Archive::open(home.read_only()).unwrap();
    assert_eq!(archive.why(&ids[2]).unwrap().unwrap(), last);
}

/// S4: what was refused on the spot, receipts that came back, and what the operator sent again stand there too.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_receipts_and_events_sent_again_are_part_of_it() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let fails = steps(json!([["trap"]]));
    let told = ["stream", "on-receipt"];
    let sends = json!([
        ["send", of(b, "nowhere"), 1],
        ["send", of(b, "note"), 1, {told[0]: told[1], "tag": 1}],
        ["send", of(b, "run"), fails]
    ]);
    let first = send(&host, a, sends).await;
    settle(&host).await;
    let whole = why(&host, &first).await;
    let [own, refused, noted, failed, back] = &whole.events[..] else { panic!("{whole:?}") };
    assert_eq!((refused.position, refused.cause), (None, Some(own.id)));
    assert_eq!(refused.receipt.as_ref().unwrap().outcome, Outcome::Denied);
    assert_eq!((back.receipt_of, back.cause, back.to), (Some(noted.id), Some(noted.id), Some(a)));
    assert_eq!(failed.receipt.as_ref().unwrap().outcome, Outcome::Faulted);
    let of_refused = why(&host, &refused.id).await;
    assert_eq!((of_refused.causes, of_refused.events[0].id), (1, first));
    let again = host.resend(&b, &failed.id).await.unwrap();
    settle(&host).await;
    let of_again = why(&host, &again).await;
    let ids: Vec<_> = of_again.events.iter().map(|event| event.id).collect();
    assert_eq!((of_again.causes, &ids[..]), (2, &[first, failed.id, again][..]), "back over what was sent again");
    assert!(of_again.events[2].is_again && !of_again.events[1].is_again);
    host.shutdown().await.unwrap();
}

/// T4, T7: a conflict is named with place, revisions and winner, never with a value; the host that runs remembers it.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_named_with_its_path_and_who_won() {
    let (store, keys, hold) = (MemoryStore::new(), Keys::default(), Hold::new());
    let host = builder().store(store.clone()).keyring(keys.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let secret = "the-secret-that-was-read";
    run(&host, b, json!([["set", "shared", [], {"k": secret, "l": 1}]])).await;
    let loser = send(&host, a, json!([["get", of(b, "shared"), ["k"]], hold.step(), ["set", "x", [], 1]])).await;
    hold.arrived(1).await;
    let seen = commits(&host, b);
    let winner = send(&host, b, json!([["set", "shared", ["k"], secret.to_uppercase()]])).await;
    let found = receipt(&host, &winner).await.commit.unwrap();
    hold.release(2);
    receipt(&host, &loser).await;
    let told = why(&host, &loser).await;
    let [met] = &told.events[0].conflicts[..] else { panic!("{told:?}") };
    let cell = met.cell.as_ref().unwrap();
    assert_eq!((cell.owner, &*cell.name, &*met.path), (b, "shared", "/k"));
    assert_eq!((met.count, met.seen, met.found, met.winner), (1, seen, found, Some(winner)));
    assert!(!format!("{told:?}").to_lowercase().contains(secret), "no value is told");
    assert!(why(&host, &winner).await.events[0].conflicts.is_empty());
    host.shutdown().await.unwrap();
    let host = builder().store(store).keyring(keys).open().await.unwrap();
    assert!(why(&host, &loser).await.events[0].conflicts.is_empty(), "they are in memory alone");
    host.shutdown().await.unwrap();
}

/// A5: no more than the bound, and how many are left out. What waits for its turn is told as waiting.
#[tokio::test(flavor = "multi_thread")]
async fn more_events_than_the_bound_are_counted() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    host.pause(&b).await.unwrap();
    let sends = json!([
        ["repeat", 600, ["send", of(b, "note"), 1]],
        ["send", "run", steps(json!([["repeat", 600, ["send", of(b, "note"), 2]]]))]
    ]);
    let first = send(&host, a, sends).await;
    until("both are done", || host.counters().committed >= 2).await;
    let told = why(&host, &first).await;
    assert_eq!((told.events.len(), told.more), (WHY_EVENTS_MAX, 2 + 600 + 600 - WHY_EVENTS_MAX));
    let waits = told.events.iter().filter(|event| event.state == Some(TurnState::Queued)).count();
    assert_eq!(waits, WHY_EVENTS_MAX - 2);
    host.shutdown().await.unwrap();
}

/// T8: nothing is told of what is not durable yet, and it comes when that is.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_that_is_not_durable() {
    let (store, control) = GatedStore::new(MemoryStore::new());
    let host = Arc::new(builder().store(store).open().await.unwrap());
    let (a, b) = pair(&host).await;
    let hold = Hold::new();
    let first = send(&host, a, json!([hold.step(), ["send", of(b, "note"), 1]])).await;
    hold.arrived(1).await;
    control.hold();
    let written = control.count();
    hold.release(1);
    control.more_than(written).await;
    let (why, turns) = (host.clone(), host.clone());
    let mut why = tokio::spawn(async move { why.why(&first).await.unwrap().unwrap() });
    let mut turns = tokio::spawn(async move { turns.turns(None, 0, 10).await.unwrap() });
    let moment = Duration::from_millis(50);
    assert!(tokio::time::timeout(moment, &mut why).await.is_err(), "it waits for the disk");
    assert!(tokio::time::timeout(moment, &mut turns).await.is_err(), "it waits for the disk");
    control.release();
    assert_eq!(why.await.unwrap().events.len(), 2);
    turns.await.unwrap();
    settle(&host).await;
    host.shutdown().await.unwrap();
}

/// Nothing is known of an id that there never was, also one that looks like one of ours.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_of_an_unknown_id() {
    let host = host().await;
    let a = probe(&host, "a").await;
    let sent = send(&host, a, json!([["send", "note", 1]])).await;
    settle(&host).await;
    assert_eq!(cell(&host, a, "notes").await, Json::from(vec![1]));
    for forged in [EventId([0; 16]), EventId([0xff; 16])] {
        assert_eq!(host.why(&forged).await.unwrap(), None);
    }
    let EventId(mut forged) = sent;
    forged[15] ^= 1;
    assert_eq!(host.why(&EventId(forged)).await.unwrap(), None);
    host.shutdown().await.unwrap();
}
