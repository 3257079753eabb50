//! What waits for a time, and everything that may happen to it meanwhile.

use charm_conformance::{Keys, WIRE, Wire, component, value, wired};
use charm_host::{Archive, Charm, MemoryStore, NewEvent, Outcome, TurnState};

use super::*;

struct World {
    store: MemoryStore,
    keys: Keys,
    clock: Arc<Clock>,
    wire: Wire,
}

impl World {
    fn new() -> World {
        World { store: MemoryStore::new(), keys: Keys::default(), clock: Clock::new(), wire: Wire::gated() }
    }

    /// A host on the store, as the next process opens it.
    async fn open(&self, limits: Limits) -> (Host, [Did; 3]) {
        let host = builder().store(self.store.clone()).keyring(self.keys.clone()).limits(limits);
        let host = host.env(self.clock.clone()).transport(self.wire.clone()).open().await.unwrap();
        let dids = wired(&host, ["a", "b", "c"]).await;
        (host, dids)
    }

    fn verify(&self) {
        Archive::open(self.store.clone()).unwrap().verify_store().unwrap();
    }
}

/// Sends an event with an id of its sender's own, and more to carry than is kept in memory while it waits.
async fn begin(host: &Host, charm: Did, id: &str, steps: Json) -> EventId {
    let event = json!({ "steps": steps, "fill": "x".repeat(3_000), "out": "out" });
    host.send(NewEvent::new(charm, "run", value(event)).id(id)).await.unwrap()
}

/// Returns where the turns of a charm stand, as the operator sees it, and asks why each is there.
async fn stand(host: &Host, charm: Did) -> Vec<TurnState> {
    let turns = host.turns(Some(&charm), 0, 100).await.unwrap();
    for turn in &turns {
        let why = host.why(&turn.event).await.unwrap().unwrap();
        assert_eq!(why.events[why.causes].state, Some(turn.state), "{why:?}");
    }
    turns.iter().map(|turn| turn.state).collect()
}

fn charge() -> Json {
    json!(["commit-and-fetch", { "method": "GET", "url": format!("{WIRE}/charges") }])
}

fn until_try(tries: u64) -> Json {
    json!(["unless-tried", tries, ["retry", 10 * MINUTE]])
}

/// S10, S13, A4, H1: turns that sleep, are to be tried again, or wait for an answer go on behind a past that has gone, an upgrade
/// and the end of a host, each as often as it may.
#[tokio::test(flavor = "multi_thread")]
async fn turns_that_wait_for_time_go_on_behind_a_past_that_has_gone_and_an_upgrade() {
    for upgrade in [false, true] {
        for crash in [false, true] {
            let world = World::new();
            let (host, [a, b, c]) = world.open(Limits::default()).await;
            let before = commits(&host, a);
            let note = json!(["send", of(b, "note"), "once"]);
            let sleeps =
                begin(&host, a, "sleeps", json!([note, ["sleep", 10 * MINUTE], ["set", "x", [], "slept"]])).await;
            let fresh = begin(&host, a, "fresh", json!([until_try(2), note, ["set", "y", [], "fresh"]])).await;
            let asks =
                begin(&host, a, "asks", json!([["try", charge()], until_try(2), note, ["set", "z", [], "asked"]]))
                    .await;
            world.wire.arrived(1).await;
            until("all wait", || commits(&host, a) == before + 6).await;
            assert_eq!(stand(&host, a).await, [TurnState::Waits, TurnState::Retry, TurnState::Http]);
            host.prune(&a).await.unwrap();
            host.verify_store().unwrap();
            world.wire.release(1);
            until("the answered one is to be tried again", || commits(&host, a) == before + 9).await;
            assert_eq!(stand(&host, a).await, [TurnState::Waits, TurnState::Retry, TurnState::Retry]);
            host.verify_store().unwrap();
            host.prune(&a).await.unwrap();
            host.prune(&b).await.unwrap();
            host.verify_store().unwrap();
            if !crash {
                host.shutdown().await.unwrap();
            }
            drop(host);
            world.verify();
            let (host, dids) = world.open(Limits::default()).await;
            assert_eq!(dids, [a, b, c]);
            if upgrade {
                let mut other = component("probe");
                other.extend([0, 2, 1, b'v']);
                host.install(Charm::new("a", other)).await.unwrap();
            }
            assert_eq!(stand(&host, a).await, [TurnState::Waits, TurnState::Retry, TurnState::Retry]);
            assert_eq!(counted(&host).waiting, 3, "not before its time");
            let before = commits(&host, a);
            pass(&world.clock, 10 * MINUTE);
            until("one has slept, two are to be tried again", || commits(&host, a) == before + 3).await;
            host.verify_store().unwrap();
            pass(&world.clock, 10 * MINUTE);
            for id in [&sleeps, &fresh, &asks] {
                assert_eq!(receipt(&host, id).await.outcome, Outcome::Committed, "{upgrade} {crash}");
            }
            settle(&host).await;
            assert_eq!(cell(&host, b, "notes").await, json!(["once", "once", "once"]));
            let cells = [cell(&host, a, "x").await, cell(&host, a, "y").await, cell(&host, a, "z").await];
            assert_eq!(cells, ["slept", "fresh", "asked"]);
            assert_eq!(world.wire.count(), 1);
            host.verify_store().unwrap();
            host.prune(&a).await.unwrap();
            host.verify_store().unwrap();
            host.shutdown().await.unwrap();
        }
    }
}

/// Waits until no turn of a charm runs or could.
async fn settle_turns(host: &Host, charm: Did) {
    for _ in 0..10_000 {
        let turns = host.turns(Some(&charm), 0, 100).await.unwrap();
        if turns.iter().all(|turn| matches!(turn.state, TurnState::Waits | TurnState::Retry | TurnState::Http)) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("turns of {charm} go on for ever");
}

/// S10, S12: whatever becomes of a delayed event, its sender gets the room back, once; in the next host too.
#[tokio::test(flavor = "multi_thread")]
async fn room_of_a_delayed_event_is_given_back_once_however_it_ends() {
    let limits = || Limits { inbox_events_max: 3, ..Limits::default() };
    for end in ["cancel", "withdraw", "expire", "data", "sender", "retry", "handle"] {
        for next in [false, true] {
            let world = World::new();
            let (mut host, [a, b, _]) = world.open(limits()).await;
            let due = now() + 10 * MINUTE;
            let times = json!({ "deliver-after": due, "expires-at": due + 10 * MINUTE });
            let script = steps(json!([until_try(1)]));
            let sends =
                json!([["send-later", of(b, "run"), script, times], ["send-later", of(b, "run"), script, times]]);
            let told = results(&host, a, sends).await;
            let ids: Vec<EventId> = (0..2).map(|n| told[n].as_str().unwrap().parse().unwrap()).collect();
            if next {
                for charm in [a, b] {
                    host.prune(&charm).await.unwrap();
                }
                host.shutdown().await.unwrap();
                world.verify();
                host = world.open(limits()).await.0;
            }
            let before = commits(&host, b);
            let tried =
                async |host: &Host| until("both are to be tried again", || commits(host, b) == before + 2).await;
            match end {
                "cancel" => {
                    for id in &ids {
                        host.cancel(&b, id).await.unwrap();
                    }
                }
                "withdraw" => {
                    drop(
                        run(
                            &host,
                            a,
                            json!([
                                ["cancel", ids[0].to_string()],
                                ["cancel", ids[1].to_string()],
                                ["cancel", ids[0].to_string()]
                            ]),
                        )
                        .await,
                    );
                }
                "expire" => {
                    host.pause(&b).await.unwrap();
                    pass(&world.clock, 10 * MINUTE);
                    pass(&world.clock, 11 * MINUTE);
                }
                "data" => drop(host.uninstall_with_data(&b).await.unwrap()),
                "sender" => {
                    host.uninstall_with_data(&a).await.unwrap();
                    host.verify_store().unwrap();
                    pass(&world.clock, 10 * MINUTE);
                    tried(&host).await;
                    pass(&world.clock, 11 * MINUTE);
                }
                "retry" | "handle" => {
                    pass(&world.clock, 10 * MINUTE);
                    tried(&host).await;
                    host.prune(&a).await.unwrap();
                    if end == "handle" {
                        pass(&world.clock, 15 * MINUTE);
                    }
                }
                _ => unreachable!(),
            }
            if end == "retry" {
                for id in &ids {
                    host.cancel(&b, id).await.unwrap();
                }
            }
            for id in &ids {
                receipt(&host, id).await;
            }
            host.verify_store().unwrap();
            if end == "data" || end == "sender" {
                wired(&host, ["a", "b", "c"]).await;
            }
            let times = json!({ "deliver-after": now() + 600 * MINUTE });
            let send = |event: u64| later(b, event, times.clone());
            let four = json!([send(1), send(2), send(3), ["try", send(4)]]);
            let told = results(&host, a, four).await;
            assert_eq!(told[3]["error"]["kind"], "queue-full", "{end}: {told}");
            host.shutdown().await.unwrap();
            world.verify();
        }
    }
}

/// S10, S7: an event expires also while its charm is at the bound of turns that wait; its letter is sent again without a time.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_expires_at_the_bound_of_waiting_turns() {
    let world = World::new();
    let limits = || Limits { waiting_turns_max: 1, ..Limits::default() };
    let (host, [a, b, c]) = world.open(limits()).await;
    let sleeps = begin(&host, b, "sleeps", json!([["sleep", 60 * MINUTE]])).await;
    until("it sleeps", || counted(&host).waiting == 1).await;
    settle_turns(&host, b).await;
    let times = json!({ "expires-at": now() + 10 * MINUTE });
    let expires = send_later(&host, a, b, "late", times).await;
    run(&host, a, json!([["send", of(b, "note"), "behind it"]])).await;
    pass(&world.clock, 10 * MINUTE);
    assert_eq!(receipt(&host, &expires).await.outcome, Outcome::Expired);
    assert_eq!(counted(&host).waiting, 2);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    let (host, dids) = world.open(limits()).await;
    assert_eq!(dids, [a, b, c]);
    let again = host.resend(&b, &expires).await.unwrap();
    host.verify_store().unwrap();
    pass(&world.clock, 50 * MINUTE);
    assert_eq!(receipt(&host, &sleeps).await.outcome, Outcome::Committed);
    assert_eq!(receipt(&host, &again).await.outcome, Outcome::Committed);
    settle(&host).await;
    let notes = cell(&host, b, "notes").await;
    assert_eq!(notes.as_array().unwrap().len(), 2, "{notes}");
    host.verify_store().unwrap();
    host.prune(&b).await.unwrap();
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// A5, S7, S13: a next host that lets fewer turns wait, and be tried again less often, lets those go on that wait.
#[tokio::test(flavor = "multi_thread")]
async fn turns_above_the_bounds_of_the_next_host_go_on() {
    let world = World::new();
    let (host, [a, b, c]) = world.open(Limits::default()).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        let id = n.to_string();
        ids.push(
            begin(&host, a, &id, json!([["try", ["retry", 10 * MINUTE]], ["sleep", 1], ["set", "x", [], n]])).await,
        );
    }
    until("all wait", || counted(&host).waiting == 4).await;
    settle_turns(&host, a).await;
    let before = commits(&host, a);
    pass(&world.clock, 10 * MINUTE);
    until("all are to be tried again", || commits(&host, a) == before + 4).await;
    host.shutdown().await.unwrap();
    let less = Limits { waiting_turns_max: 1, retries_max: 1, ..Limits::default() };
    let (host, dids) = world.open(less).await;
    assert_eq!(dids, [a, b, c]);
    let plain = send(&host, a, json!([["set", "y", [], "plain"]])).await;
    assert_eq!(stand(&host, a).await, [TurnState::Retry; 4]);
    until("none is left", || {
        pass(&world.clock, 10 * MINUTE);
        counted(&host).waiting == 0
    })
    .await;
    for id in ids.iter().chain([&plain]) {
        assert_eq!(receipt(&host, id).await.outcome, Outcome::Committed);
    }
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// S4, A4, S13: the operator cancels a turn wherever it waits; the receipt knows the event by all that it carried.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_cancelled_wherever_it_waits() {
    for restart in [false, true] {
        let world = World::new();
        let limits = || Limits { waiting_turns_max: 3, ..Limits::default() };
        let (mut host, [a, b, _]) = world.open(limits()).await;
        host.pause(&b).await.unwrap();
        let kinds = [
            json!([["sleep", 10 * MINUTE]]),
            json!([["retry", 10 * MINUTE]]),
            json!([["sleep", 0], ["retry", 10 * MINUTE]]),
            json!([charge()]),
            json!([charge(), ["retry", 10 * MINUTE]]),
            json!([["send", of(b, "note"), 1], wait_all(&[0])]),
        ];
        for (n, steps) in kinds.iter().enumerate() {
            let id = begin(&host, a, &n.to_string(), steps.clone()).await;
            if n == 4 {
                // Whatever was asked before, and may be asked again, is answered too.
                world.wire.release(100);
            }
            until("it waits", || counted(&host).waiting >= 1).await;
            settle_turns_of(&host, a, n).await;
            if restart {
                host.shutdown_within(Duration::ZERO).await.unwrap();
                drop(host);
                world.verify();
                host = world.open(limits()).await.0;
            }
            host.cancel(&a, &id).await.unwrap();
            host.verify_store().unwrap();
            assert_eq!(receipt(&host, &id).await.outcome, Outcome::Cancelled, "{n}");
            let event = json!({ "steps": steps, "fill": "x".repeat(3_000), "out": "out" });
            let again = NewEvent::new(a, "run", value(event)).id(n.to_string());
            assert_eq!(host.send(again).await.unwrap(), id, "{n}: the same event");
        }
        host.verify_store().unwrap();
        host.shutdown().await.unwrap();
    }
}

/// Waits until the one turn of a charm stands where this kind ends up.
async fn settle_turns_of(host: &Host, charm: Did, kind: usize) {
    let state = match kind {
        1 | 2 | 4 => TurnState::Retry,
        3 => TurnState::Http,
        _ => TurnState::Waits,
    };
    for _ in 0..100_000 {
        let turns = host.turns(Some(&charm), 0, 100).await.unwrap();
        if turns.iter().any(|turn| turn.state == state) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("kind {kind} never stands as {state:?}: {:?}", host.turns(Some(&charm), 0, 100).await);
}

/// S4, S7: what a turn withdraws with the commit at which it waits for that is told at once; what it withdrew counts as sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_told_of_what_it_withdraws_as_it_waits() {
    let world = World::new();
    let limits = || Limits { sends_max: 4, ..Limits::default() };
    let (host, [a, b, c]) = world.open(limits()).await;
    let times = json!({ "deliver-after": now() + 60 * MINUTE });
    let cancel = json!(["cancel", 0]);
    let told = results(
        &host,
        a,
        json!([
            later(b, "x".repeat(2_000), times),
            ["send", of(c, "note"), 1],
            cancel,
            cancel,
            ["try", cancel],
            wait_all(&[0, 1]),
            ["try", cancel],
            ["retries"],
        ]),
    )
    .await;
    assert_eq!(told[4]["error"]["name"], "sends-max", "{told}");
    assert_eq!((&told[5][0]["outcome"], &told[5][1]["outcome"]), (&json!("cancelled"), &json!("committed")), "{told}");
    settle(&host).await;
    assert_eq!((counted(&host).waiting, cell(&host, b, "notes").await), (0, Json::Null));
    host.verify_store().unwrap();
    for charm in [a, b, c] {
        host.prune(&charm).await.unwrap();
    }
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// S10, S3: what expires in line makes way: those behind it of the same sender, and of others, are begun, in order.
#[tokio::test(flavor = "multi_thread")]
async fn what_expires_in_line_makes_way() {
    let (world, hold) = (World::new(), Hold::new());
    // The time that passes while the turn is held is none of its own.
    let limits = Limits { compute_ms_max: 60 * MINUTE, ..Limits::default() };
    let (host, [a, b, c]) = world.open(limits).await;
    let busy = send(&host, b, json!([hold.step()])).await;
    hold.arrived(1).await;
    let times = || json!({ "expires-at": now() + 10 * MINUTE });
    let sends = json!([
        later(b, "first late", times()),
        ["send", of(b, "note"), 1],
        later(b, "late too", times()),
        ["send", of(b, "note"), 2]
    ]);
    let told = results(&host, a, sends).await;
    run(&host, c, json!([later(b, "late", times()), ["send", of(b, "note"), 3]])).await;
    pass(&world.clock, 10 * MINUTE);
    hold.release(1);
    assert_eq!(receipt(&host, &busy).await.outcome, Outcome::Committed);
    settle(&host).await;
    for n in [0, 2] {
        let id: EventId = told[n].as_str().unwrap().parse().unwrap();
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Expired);
    }
    let mut notes: Vec<u64> =
        cell(&host, b, "notes").await.as_array().unwrap().iter().filter_map(Json::as_u64).collect();
    assert!(notes.iter().position(|n| *n == 1) < notes.iter().position(|n| *n == 2), "{notes:?}");
    notes.sort_unstable();
    assert_eq!(notes, [1, 2, 3]);
    assert_eq!(host.dead_letters(&b, 0, 9).unwrap().len(), 3);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// S13, H2, S11: a large event that is handed over again to a component without its stream is a dead letter with all that it
/// carried, and goes its way when it is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_is_tried_again_fits_its_stream_again() {
    for next in [false, true] {
        let world = World::new();
        let (mut host, [a, _, _]) = world.open(Limits::default()).await;
        let id = begin(&host, a, "once", json!([until_try(1), ["set", "x", [], "done"]])).await;
        until("it is to be tried again", || counted(&host).waiting == 1).await;
        settle_turns(&host, a).await;
        if next {
            host.prune(&a).await.unwrap();
            host.shutdown().await.unwrap();
            host = world.open(Limits::default()).await.0;
        }
        assert_eq!(host.install(Charm::new("a", component("author"))).await.unwrap(), a);
        pass(&world.clock, 10 * MINUTE);
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::NoSuchStream);
        host.verify_store().unwrap();
        let letters = host.dead_letters(&a, 0, 9).unwrap();
        assert!(letters[0].event.payload.as_bytes().len() > 3_000);
        wired(&host, ["a"]).await;
        let again = host.resend(&a, &id).await.unwrap();
        until("it is to be tried again", || counted(&host).waiting == 1).await;
        settle_turns(&host, a).await;
        pass(&world.clock, 10 * MINUTE);
        assert_eq!(receipt(&host, &again).await.outcome, Outcome::Committed);
        assert_eq!(cell(&host, a, "x").await, "done");
        host.verify_store().unwrap();
        host.shutdown().await.unwrap();
    }
}

/// S13, S7: a turn that is to be tried again is not told to wait for what its last wait did not need.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_is_to_be_tried_again_waits_for_no_event() {
    let world = World::new();
    let (host, [a, b, c]) = world.open(Limits::default()).await;
    host.pause(&b).await.unwrap();
    let sends = json!([
        ["send", of(c, "note"), 1],
        ["send", of(b, "note"), 2],
        ["wait", [0, 1], "first", 60 * MINUTE],
        until_try(1)
    ]);
    let id = begin(&host, a, "once", sends).await;
    let mut turns = Vec::new();
    for _ in 0..100_000 {
        turns = host.turns(Some(&a), 0, 9).await.unwrap();
        if turns.iter().any(|turn| turn.state == TurnState::Retry) {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!((turns.len(), turns[0].state), (1, TurnState::Retry));
    assert_eq!((turns[0].until, turns[0].unsettled, turns[0].named), (None, 0, 0), "{turns:?}");
    pass(&world.clock, 10 * MINUTE);
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    host.shutdown().await.unwrap();
}
