//! The turns that have begun and not ended.

use charm_conformance::{
    Hold, WIRE, Wire, builder, host, of, pair, probes, receipt, run, send, settle, steps, until, wait_all, wired,
};
use charm_host::{Host, Limits, Outcome, TURN_EVENTS_SHOWN, TURNS_PAGE_MAX, TurnInfo, TurnState, Until};
use serde_json::json;

use super::Chain;

async fn turns(host: &Host) -> Vec<TurnInfo> {
    host.turns(None, 0, usize::MAX).await.unwrap()
}

/// Waits until the turns stand so, in the order of their events.
async fn stand(host: &Host, states: &[TurnState]) -> Vec<TurnInfo> {
    for _ in 0..5_000 {
        let now = turns(host).await;
        if now.iter().map(|turn| turn.state).eq(states.iter().copied()) {
            return now;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let now: Vec<_> = turns(host).await.iter().map(|turn| turn.state).collect();
    panic!("{now:?}, not {states:?}");
}

/// S7: who waits for whom, since when and until when, and who runs; in pages, of one charm or of all.
#[tokio::test(flavor = "multi_thread")]
async fn turns_say_what_they_wait_for() {
    let host = host().await;
    let Chain { hold, dids: [a, b, c], first } = Chain::begin(&host).await;
    let now = stand(&host, &[TurnState::Waits, TurnState::Waits, TurnState::Runs]).await;
    let [of_a, of_b, of_c] = &now[..] else { panic!("{now:?}") };
    assert_eq!((of_a.charm, of_a.event, of_a.sender, &*of_a.stream), (a, first, host.operator(), "run"));
    assert_eq!((of_a.segments, of_a.until, of_a.named, of_a.unsettled), (1, Some(Until::All), 1, 1));
    assert_eq!((&of_a.waits_for[..], &of_b.waits_for[..]), (&[(of_b.event, b)][..], &[(of_c.event, c)][..]));
    assert_eq!((of_c.charm, of_c.segments, of_c.commit, of_c.until), (c, 0, None, None));
    assert!(now.iter().all(|turn| turn.component == of_a.component) && of_a.component.is_some());
    let left = of_a.until_ms.unwrap() - of_a.since_ms;
    assert!((59_000..=61_000).contains(&left), "a minute: {left}");
    // The end of a wait is told by the clock that may jump, each time anew.
    let timeless = |mut turns: Vec<TurnInfo>| {
        turns.iter_mut().for_each(|turn| turn.until_ms = None);
        turns
    };
    let now = timeless(now);
    let page = timeless(host.turns(None, 0, 2).await.unwrap());
    let rest = timeless(host.turns(None, page[1].position, 2).await.unwrap());
    assert_eq!((&page[..], &rest[..]), (&now[..2], &now[2..]));
    assert_eq!(timeless(host.turns(Some(&b), 0, 10).await.unwrap()), now[1..2]);
    hold.release(1);
    settle(&host).await;
    assert_eq!(turns(&host).await, []);
    host.shutdown().await.unwrap();
}

/// S7: one that has what it waited for, while its charm is in another turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_goes_on_when_its_charm_is_free_is_ready() {
    let (host, hold) = (host().await, Hold::new());
    let (a, b) = pair(&host).await;
    let slow = steps(json!([hold.step()]));
    let waits = send(&host, a, json!([["send", of(b, "run"), slow], wait_all(&[0])])).await;
    hold.arrived(1).await;
    let busy = Hold::new();
    send(&host, a, json!([busy.step()])).await;
    busy.arrived(1).await;
    hold.release(1);
    // By position: the first turn of a, and the one that it is in.
    let now = stand(&host, &[TurnState::Ready, TurnState::Runs]).await;
    assert_eq!((now[0].event, now[0].unsettled, now[0].charm, now[1].charm), (waits, 0, a, a));
    busy.release(1);
    settle(&host).await;
    host.shutdown().await.unwrap();
}

/// A4, S12: between two attempts a turn says what it waits for.
#[tokio::test(flavor = "multi_thread")]
async fn turns_that_wait_for_an_answer_or_for_room_say_so() {
    let (wire, hold) = (Wire::gated(), Hold::new());
    let limits = Limits { inbox_events_max: 4, ..Limits::default() };
    let host = builder().transport(wire.clone()).limits(limits).open().await.unwrap();
    let [a, b, c] = wired(&host, ["a", "b", "c"]).await;
    send(&host, c, json!([["fetch", {"url": WIRE}]])).await;
    wire.arrived(1).await;
    let now = stand(&host, &[TurnState::Http]).await;
    assert_eq!(now[0].charm, c);
    send(&host, b, json!([hold.step()])).await;
    hold.arrived(1).await;
    // Of the room that others share, one alone takes half.
    let notes = json!([["send", of(b, "note"), 1], ["send", of(b, "note"), 2]]);
    assert_eq!(run(&host, a, notes.clone()).await.outcome, Outcome::Committed);
    let full = send(&host, a, notes).await;
    let now = stand(&host, &[TurnState::Http, TurnState::Runs, TurnState::Room]).await;
    assert_eq!(now[2].event, full);
    wire.release(1);
    hold.release(1);
    settle(&host).await;
    host.shutdown().await.unwrap();
}

/// A5: of many events that one turn waits for some are named, and all are counted.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_events_that_are_waited_for_some_are_named() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    host.pause(&b).await.unwrap();
    let all: Vec<usize> = (0..20).collect();
    let sends = (0..20).map(|n| json!(["send", of(b, "note"), n]));
    let first = send(&host, a, sends.chain([wait_all(&all)]).collect()).await;
    let now = stand(&host, &[TurnState::Waits]).await;
    assert_eq!((now[0].waits_for.len(), now[0].unsettled, now[0].named), (TURN_EVENTS_SHOWN, 20, 20));
    host.resume(&b).await.unwrap();
    receipt(&host, &first).await;
    host.shutdown().await.unwrap();
}

/// A5: a page is bounded, whatever is asked for, and the next one goes on after it.
#[tokio::test(flavor = "multi_thread")]
async fn turns_are_listed_in_pages() {
    let host = host().await;
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    host.pause(&c).await.unwrap();
    let mut sent = Vec::new();
    let count = TURNS_PAGE_MAX / 2 + 1;
    for charm in [a, b] {
        for _ in 0..count {
            sent.push(send(&host, charm, json!([["send", of(c, "note"), 1], wait_all(&[0])])).await);
        }
    }
    until("all wait", || host.counters().sent as usize >= 4 * count).await;
    let first = turns(&host).await;
    let rest = host.turns(None, first.last().unwrap().position, usize::MAX).await.unwrap();
    assert_eq!((first.len(), rest.len()), (TURNS_PAGE_MAX, 2));
    let listed: Vec<_> = first.iter().chain(&rest).map(|turn| turn.event).collect();
    assert_eq!(listed, sent, "in the order of their events");
    host.resume(&c).await.unwrap();
    settle(&host).await;
    host.shutdown().await.unwrap();
}
