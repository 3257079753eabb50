//! Chapter waits: a handler goes on after the commit of what it sent (S7).
#![allow(clippy::unwrap_used, reason = "tests")]

mod attacks;

use std::time::Duration;

use charm_conformance::{
    Clock, GatedStore, Hold, builder, cell, commits, counted, host, of, pair, probe, probes, receipt, results, run,
    send, settle, steps, until, value, wait_all, waiting,
};
use charm_host::{
    Limits, MemoryStore, NAME_BYTES_MAX, NewEvent, Outcome, SendError, Status, StoreError, Value, WAIT_EVENTS_MAX,
};
use serde_json::{Value as Json, json};

const MINUTE: u64 = 60_000;

fn committed(receipt: &Json) -> bool {
    receipt["outcome"] == "committed" && receipt["commit"].is_u64()
}

/// The second field report: the consumer goes on with what the provider has committed, in a transaction of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_goes_on_after_the_commit_of_what_it_sent() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let refresh = steps(json!([["set", "token", [], "new"]]));
    run(&host, b, json!([["set", "token", [], "old"]])).await;
    let told = results(
        &host,
        a,
        json!([
            ["get", of(b, "token"), []],
            ["set", "x", [], "before"],
            ["send", of(b, "run"), refresh],
            wait_all(&[0]),
            ["get", of(b, "token"), []],
            ["get", "x", []],
            ["set", "y", [], "after"],
        ]),
    )
    .await;
    assert_eq!((&told[0], &told[4], &told[5]), (&json!("old"), &json!("new"), &json!("before")));
    assert!(committed(&told[3][0]), "{told}");
    assert_eq!(cell(&host, a, "y").await, "after");
    // Without the wait it goes on in the snapshot that it began with.
    let again = steps(json!([["set", "token", [], "newer"]]));
    let told = results(&host, a, json!([["send", of(b, "run"), again], ["get", of(b, "token"), []]])).await;
    assert_eq!(told[1], "new");
    host.shutdown().await.unwrap();
}

/// S7, S3: its charm begins others meanwhile, also of the same sender; they see what was committed at the wait.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_turn_waits_its_charm_takes_other_events_also_of_the_same_sender() {
    let (host, hold) = (host().await, Hold::new());
    let (a, b) = pair(&host).await;
    let slow = steps(json!([hold.step()]));
    let first = send(
        &host,
        a,
        json!([["set", "x", [], 1], ["send", of(b, "run"), slow], wait_all(&[0]), ["set", "y", [], ["seen"]]]),
    )
    .await;
    hold.arrived(1).await;
    assert_eq!(results(&host, a, json!([["get", "x", []], ["get", "y", []]])).await, json!([1, null]));
    assert!(matches!(host.status(&first).unwrap(), Status::Waiting { .. }), "it is not settled");
    hold.release(1);
    let receipt = host.receipt(&first).await.unwrap().unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed);
    assert_eq!(cell(&host, a, "y").await, json!(["seen"]));
    host.shutdown().await.unwrap();
}

/// S7: all of several, or the first; what is not there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_waits_for_all_or_for_the_first() {
    let (host, hold) = (host().await, Hold::new());
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    let slow = steps(json!([hold.step(), ["set", "x", [], "slow"]]));
    let event = json!({ "steps": [
        ["send", of(b, "run"), slow],
        ["send", of(c, "run"), steps(json!([["set", "x", [], "fast"]]))],
        ["wait", [0, 1], "first", MINUTE],
        ["get", of(c, "x"), []],
        wait_all(&[1, 0, 1]),
        ["get", of(b, "x"), []],
    ], "out": "out" });
    let id = host.send(NewEvent::new(a, "run", value(event))).await.unwrap();
    hold.arrived(1).await;
    until("the first is there, and the turn waits again", || commits(&host, a) >= 6).await;
    hold.release(1);
    assert_eq!(host.receipt(&id).await.unwrap().unwrap().outcome, Outcome::Committed);
    let told = cell(&host, a, "out").await;
    assert_eq!(told[2][0], Json::Null, "{told}");
    assert!(committed(&told[2][1]));
    assert_eq!((&told[3], &told[5]), (&json!("fast"), &json!("slow")));
    assert!(told[4].as_array().unwrap().iter().all(committed), "{told}");
    assert_eq!(told[4][0], told[4][2], "an event that is named twice is told twice");
    host.shutdown().await.unwrap();
}

/// S7: a wait has a timeout; what is not there then is none, and the event is handled all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_in_time_and_says_what_is_not_there() {
    let (clock, hold) = (Clock::new(), Hold::new());
    let host = builder().env(clock.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let slow = steps(json!([hold.step(), ["set", "x", [], "slow"]]));
    let event = json!({ "steps": [["send", of(b, "run"), slow], ["context"], ["wait", [0], "all", 5_000], ["context"]], "out": "out" });
    let id = host.send(NewEvent::new(a, "run", value(event))).await.unwrap();
    hold.arrived(1).await;
    until("the turn waits", || commits(&host, a) >= 5).await;
    clock.pass(Duration::from_millis(4_900));
    clock.jump(4_900);
    assert_eq!(counted(&host).waiting, 2, "not before its time");
    clock.jump(100);
    clock.pass(Duration::from_millis(100));
    assert_eq!(host.receipt(&id).await.unwrap().unwrap().outcome, Outcome::Committed);
    let told = cell(&host, a, "out").await;
    assert_eq!(told[2], json!([null]));
    let (before, after) = (told[1]["time"].as_u64().unwrap(), told[3]["time"].as_u64().unwrap());
    assert!(after >= before + 5_000, "the time moves at a wait: {before} {after}");
    hold.release(1);
    settle(&host).await;
    assert_eq!(cell(&host, b, "x").await, "slow");
    host.shutdown().await.unwrap();
}

/// S7: what was refused on the spot or settled before is answered at once; the commit takes place all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_on_the_spot_or_settled_before_is_answered_at_once() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let before = commits(&host, a);
    let told = results(
        &host,
        a,
        json!([
            ["send", of(b, "nowhere"), 1],
            ["send", of(b, "run"), steps(json!([["reject", "not today"]]))],
            wait_all(&[0, 1]),
            wait_all(&[1, 0]),
        ]),
    )
    .await;
    let [refused, rejected] = [&told[2][0], &told[2][1]];
    assert_eq!((&refused["outcome"], &refused["commit"]), (&json!("denied"), &Json::Null));
    assert_eq!((&rejected["outcome"], &rejected["message"]), (&json!("rejected"), &json!("not today")));
    assert_eq!(told[3], json!([rejected, refused]));
    let dead = host.spaces().into_iter().find(|space| space.did == b).unwrap().dead;
    assert_eq!(dead, 0, "its sender was told (S11)");
    assert_eq!(commits(&host, a) - before, 4, "the event, two segments and the end");
    host.shutdown().await.unwrap();
}

/// S7: an id that this turn did not send is refused, whosever it is, and the turn goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_waits_for_nothing_but_what_it_sent_itself() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let told =
        results(&host, a, json!([["send", of(b, "note"), 1, {"stream": "on-receipt", "tag": 1}], wait_all(&[0])]))
            .await;
    settle(&host).await;
    let others = results(&host, b, json!([["send", "note", 1]])).await;
    let forged = format!("{}{}", &told[0].as_str().unwrap()[..16], "0".repeat(16));
    for id in [told[0].as_str().unwrap(), others[0].as_str().unwrap(), &forged, "nonsense", ""] {
        let steps = json!([["set", "x", [], id], ["try", ["wait", [id], "all", MINUTE]], ["get", "x", []]]);
        let before = commits(&host, a);
        let told = results(&host, a, steps).await;
        assert_eq!(told[1]["error"]["kind"], "invalid", "{id}: {told}");
        assert_eq!(told[2], id, "it is still in its transaction");
        assert_eq!(commits(&host, a) - before, 2, "nothing was committed by it");
    }
    let none = results(&host, a, json!([["try", ["wait", [], "all", MINUTE]]])).await;
    assert_eq!(none[0]["error"]["kind"], "invalid");
    host.shutdown().await.unwrap();
}

/// S6, S7: both are told.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_an_on_commit_stream_is_waited_for_and_told_there_too() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let told =
        results(&host, a, json!([["send", of(b, "note"), 1, {"stream": "on-receipt", "tag": "t"}], wait_all(&[0])]))
            .await;
    assert!(committed(&told[1][0]));
    settle(&host).await;
    let receipts = cell(&host, a, "receipts").await;
    assert_eq!(receipts.as_array().unwrap().len(), 1);
    assert_eq!((&receipts[0]["tag"], &receipts[0]["receipt"]["outcome"]), (&json!("t"), &json!("committed")));
    host.shutdown().await.unwrap();
}

/// T6, S5: what was committed at a wait stays, and the receipt names that commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_a_wait_keeps_what_was_committed_and_says_so() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    for (end, outcome) in [(json!(["reject", "no"]), Outcome::Rejected), (json!(["trap"]), Outcome::Faulted)] {
        let before = commits(&host, a);
        let send = json!(["send", of(b, "note"), outcome.name()]);
        let lost = json!(["send", of(b, "note"), "lost"]);
        let steps =
            json!([["set", "x", [], outcome.name()], send, wait_all(&[0]), ["set", "x", [], "lost"], lost, end]);
        let receipt = run(&host, a, steps).await;
        assert_eq!((receipt.outcome, receipt.commit), (outcome, Some(before + 2)), "{receipt:?}");
        assert_eq!(cell(&host, a, "x").await, outcome.name());
    }
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["rejected", "faulted"]));
    host.shutdown().await.unwrap();
}

/// T4: a conflict after a wait runs again from there: nothing is committed, sent or told twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_after_a_wait_runs_again_from_there_and_repeats_nothing() {
    let (host, hold) = (host().await, Hold::new());
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    run(&host, c, json!([["set", "x", [], 0]])).await;
    let before = (commits(&host, a), commits(&host, b));
    let event = json!({ "steps": [
        ["set", "count", [], 1],
        ["log", "info", "said once"],
        ["send", of(b, "note"), "first"],
        wait_all(&[0]),
        ["get", of(c, "x"), []],
        ["send", of(b, "note"), "second"],
        hold.step(),
        ["context"],
    ], "out": "out" });
    let id = host.send(NewEvent::new(a, "run", value(event))).await.unwrap();
    for n in 1..4 {
        hold.arrived(n).await;
        run(&host, c, json!([["set", "x", [], n]])).await;
        hold.release(1);
    }
    hold.arrived(4).await;
    hold.release(1);
    let receipt = host.receipt(&id).await.unwrap().unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    assert_eq!(cell(&host, a, "out").await[4], 3, "the last run saw the last value");
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!(["first", "second"]));
    assert_eq!(commits(&host, a) - before.0, 3, "the event, a segment and the end");
    assert_eq!(commits(&host, b) - before.1, 2);
    assert_eq!(counted(&host).conflicts, 3);
    host.shutdown().await.unwrap();
}

/// A cell that does not fit its shape is found at the wait: nothing of the segment remains.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_does_not_fit_at_a_wait_faults_and_leaves_nothing() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let before = commits(&host, a);
    let steps = json!([["send", of(b, "note"), 1], ["set", "shaped", [], "no"], wait_all(&[0]), ["set", "x", [], 1]]);
    let receipt = run(&host, a, steps).await;
    assert_eq!((receipt.outcome, receipt.commit), (Outcome::Faulted, None), "{receipt:?}");
    assert!(receipt.message.unwrap().contains("cell shaped does not fit"));
    assert_eq!(commits(&host, a) - before, 2, "the event and its end");
    settle(&host).await;
    assert_eq!((cell(&host, b, "notes").await, cell(&host, a, "x").await), (Json::Null, Json::Null));
    host.shutdown().await.unwrap();
}

/// A5: each bound refuses the wait, by name, and never the beginning of an event that may be waited for.
#[tokio::test(flavor = "multi_thread")]
async fn at_a_bound_a_wait_is_refused_and_no_beginning() {
    let hold = Hold::new();
    let limits = Limits {
        waits_max: 2,
        waiting_turns_max: 1,
        wait_ms_max: 5 * MINUTE,
        recording_bytes_max: 40_000,
        ..Limits::default()
    };
    let host = builder().limits(limits).open().await.unwrap();
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    let refused = async |steps: Json| {
        let told = results(&host, a, steps).await;
        let last = told.as_array().unwrap().last().unwrap()["error"].clone();
        assert_eq!(last["kind"], "limit", "{last}");
        last["name"].as_str().unwrap().to_owned()
    };
    let note = json!(["send", of(b, "note"), 1]);
    let attempt = |wait: Json| json!(["try", wait]);
    let two = json!([note, wait_all(&[0]), wait_all(&[0]), attempt(wait_all(&[0]))]);
    assert_eq!(refused(two).await, "waits-max");
    assert_eq!(refused(json!([note, attempt(json!(["wait", [0], "all", 5 * MINUTE + 1]))])).await, "wait-ms-max");
    let many = json!(["wait", vec![0; WAIT_EVENTS_MAX + 1], "all", MINUTE]);
    assert_eq!(refused(json!([note, attempt(many)])).await, "wait-events-max");
    let large = json!([["set", "big", [], "x".repeat(41_000)], ["get", "big", []], note, attempt(wait_all(&[0]))]);
    assert_eq!(refused(large).await, "recording-bytes-max");
    // What a refusal names takes room too: a circle of links over cells with long names.
    let name = |number: usize| format!("{number}{}", "n".repeat(NAME_BYTES_MAX - 2));
    let circle = (0..10).map(|number| json!(["set-link", name(number), [], [name((number + 1) % 10), []]]));
    run(&host, a, circle.collect()).await;
    let around = json!(["repeat", 30, ["try", ["get", name(0), ["x"]]]]);
    assert_eq!(refused(json!([around, note, attempt(wait_all(&[0]))])).await, "recording-bytes-max");
    let most = json!(["wait", vec![0; WAIT_EVENTS_MAX], "all", 5 * MINUTE]);
    assert!(committed(&results(&host, a, json!([note, most])).await[1][0]), "all bounds are met");
    let waits = send(&host, a, json!([["send", of(b, "run"), steps(json!([hold.step()]))], wait_all(&[0])])).await;
    hold.arrived(1).await;
    let before = send(&host, a, json!([["set", "x", [], "from outside"]])).await;
    let asked = json!({ "steps": [note, attempt(wait_all(&[0]))], "out": "out" });
    run(&host, c, json!([["send", of(a, "run"), asked], wait_all(&[0])])).await.committed().unwrap();
    let told = cell(&host, a, "out").await;
    assert_eq!(
        told[1]["error"]["name"], "waiting-turns-max",
        "what another waits for begins, and its wait is refused: {told}"
    );
    assert_eq!(
        (cell(&host, a, "x").await, counted(&host).waiting),
        (Json::Null, 4),
        "what nobody waits for does not begin"
    );
    hold.release(1);
    for id in [waits, before] {
        assert_eq!(host.receipt(&id).await.unwrap().unwrap().outcome, Outcome::Committed);
    }
    assert!(committed(&results(&host, a, json!([note, wait_all(&[0])])).await[1][0]), "its place is free again");
    host.shutdown().await.unwrap();
}

/// S7: charms that are all at the bound of waiting turns, whose turns wait for each other's, settle before the time of any wait.
#[tokio::test(flavor = "multi_thread")]
async fn charms_at_their_bounds_that_wait_for_each_other_settle() {
    let limits = Limits { waiting_turns_max: 1, turns_max: 1, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        for (one, other) in [(a, b), (b, a)] {
            let back = steps(json!([["send", of(one, "note"), n], ["try", wait_all(&[0])]]));
            let out = json!([["send", of(other, "run"), back], wait_all(&[0])]);
            ids.push(send(&host, one, out).await);
        }
    }
    for id in ids {
        assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    }
    settle(&host).await;
    for charm in [a, b] {
        assert_eq!(cell(&host, charm, "notes").await.as_array().unwrap().len(), 6);
    }
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// No deadlock by construction: turns of one charm that each send to themselves and wait, deeper than may wait at once. The last
/// ones are refused their waits, and all settle.
#[tokio::test(flavor = "multi_thread")]
async fn self_sends_deeper_than_the_bound_settle() {
    let limits = Limits { waiting_turns_max: 4, turns_max: 1, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let a = probe(&host, "a").await;
    let mut script = steps(json!([["set", "x", [], "the deepest"]]));
    for _ in 0..8 {
        script = steps(json!([["send", "run", script], ["try", wait_all(&[0])]]));
    }
    let receipt = host.request(NewEvent::new(a, "run", value(script))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed);
    settle(&host).await;
    assert_eq!(cell(&host, a, "x").await, "the deepest");
    assert_eq!(counted(&host).committed, 9);
    host.shutdown().await.unwrap();
}

/// Waits around a ring of charms that all wait for the next, with one slot and room for one event in each inbox.
#[tokio::test(flavor = "multi_thread")]
async fn waits_around_a_ring_settle_with_one_slot_and_inboxes_of_one() {
    let limits = Limits { turns_max: 1, inbox_events_max: 1, ..Limits::default() };
    let host = builder().limits(limits).open().await.unwrap();
    let ring = probes(&host, ["a", "b", "c"]).await;
    let mut script = steps(json!([["set", "x", [], "the end"]]));
    for at in (0..12).rev() {
        let next = of(ring[(at + 1) % 3], "run");
        script = steps(json!([["send", next, script], wait_all(&[0]), ["set", "count", [], at]]));
    }
    let receipt = host.request(NewEvent::new(ring[0], "run", value(script))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    assert_eq!(cell(&host, ring[0], "x").await, "the end");
    for (at, charm) in ring.iter().enumerate() {
        assert_eq!(cell(&host, *charm, "count").await, at, "the first of its turns ends last");
    }
    host.shutdown().await.unwrap();
}

/// S12: a waiting turn holds no room: others find it.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_turn_holds_no_room() {
    let (hold, limits) = (Hold::new(), Limits { inbox_events_max: 1, ..Limits::default() });
    let host = builder().limits(limits).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let slow = steps(json!([hold.step()]));
    let mut waits = Vec::new();
    for n in 0..5 {
        let script = json!([["send", of(b, "run"), slow], ["set", format!("n{n}"), [], 1], wait_all(&[0])]);
        waits.push(send(&host, a, script).await);
        until("it waits", || commits(&host, a) >= 5 + 2 * n).await;
        hold.arrived(n as usize + 1).await;
        hold.release(1);
        host.receipt(&waits[n as usize]).await.unwrap();
    }
    let stuck = send(&host, a, json!([["send", of(b, "run"), slow], wait_all(&[0])])).await;
    hold.arrived(6).await;
    assert_eq!(run(&host, a, json!([["set", "x", [], 1]])).await.outcome, Outcome::Committed, "there is room");
    hold.release(1);
    assert_eq!(host.receipt(&stuck).await.unwrap().unwrap().outcome, Outcome::Committed);
    host.shutdown().await.unwrap();
}

/// S3: events of one sender are begun in order, and end as they end.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_sender_are_begun_in_order_and_end_as_they_end() {
    let (host, hold) = (host().await, Hold::new());
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    let before = commits(&host, b);
    let slow = json!(["send", of(c, "run"), steps(json!([hold.step()]))]);
    let first =
        steps(json!([["set", "x", [], ["first"]], slow, wait_all(&[0]), ["get", "x", []], ["set", "y", [], 1]]));
    let second = steps(json!([["get", "x", []], ["set", "x", [1], "second"]]));
    let id = send(&host, a, json!([["send", of(b, "run"), first], ["send", of(b, "run"), second]])).await;
    hold.arrived(1).await;
    host.receipt(&id).await.unwrap();
    until("the second is handled", || commits(&host, b) == before + 2).await;
    assert_eq!(cell(&host, b, "x").await, json!(["first", "second"]));
    hold.release(1);
    settle(&host).await;
    assert_eq!(cell(&host, b, "y").await, 1);
    host.shutdown().await.unwrap();
}

/// A paused charm goes on with its waits when it is resumed.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_charm_goes_on_with_its_waits_when_it_is_resumed() {
    let (host, hold) = (host().await, Hold::new());
    let (a, b) = pair(&host).await;
    let slow = json!(["send", of(b, "run"), steps(json!([hold.step()]))]);
    let id = send(&host, a, json!([slow, wait_all(&[0]), ["set", "x", [], 1]])).await;
    hold.arrived(1).await;
    host.pause(&a).await.unwrap();
    hold.release(1);
    until("what it waits for is settled", || counted(&host).waiting == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(cell(&host, a, "x").await, Json::Null);
    host.resume(&a).await.unwrap();
    assert_eq!(host.receipt(&id).await.unwrap().unwrap().outcome, Outcome::Committed);
    host.shutdown().await.unwrap();
}

/// S4: a turn that waits can be cancelled: its receipt names what it had committed, and what it sent goes its way.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_waits_can_be_cancelled() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    host.pause(&b).await.unwrap();
    let before = commits(&host, a);
    let id =
        send(&host, a, json!([["set", "x", [], 1], ["send", of(b, "note"), 1], wait_all(&[0]), ["set", "x", [], 2]]))
            .await;
    until("it waits", || commits(&host, a) == before + 2).await;
    host.cancel(&a, &id).await.unwrap();
    let receipt = host.receipt(&id).await.unwrap().unwrap();
    assert_eq!((receipt.outcome, receipt.commit), (Outcome::Cancelled, Some(before + 2)));
    assert!(receipt.message.unwrap().contains("while its turn waited"));
    host.resume(&b).await.unwrap();
    settle(&host).await;
    assert_eq!((cell(&host, a, "x").await, cell(&host, b, "notes").await), (json!(1), json!([1])));
    host.verify_store().unwrap();
    // Its data goes along while it waits.
    host.pause(&b).await.unwrap();
    let id = send(&host, a, json!([["send", of(b, "note"), 2], wait_all(&[0])])).await;
    until("it waits", || commits(&host, a) == before + 5).await;
    host.uninstall_with_data(&a).await.unwrap();
    assert_eq!(host.receipt(&id).await.unwrap().unwrap().outcome, Outcome::Cancelled);
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// What a waiting turn's event carries is in memory up to 1 KiB, and more than that on disk: whoever asks for it gets it from
/// there. So are the messages of receipts that came before the last one.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_large_event_carries_is_on_disk_while_its_turn_waits() {
    let (store, control) = GatedStore::new(MemoryStore::new());
    let host = builder().store(store).open().await.unwrap();
    let [a, b, c] = probes(&host, ["a", "b", "c"]).await;
    host.pause(&c).await.unwrap();
    let sends =
        [json!(["send", of(b, "run"), steps(json!([["reject", "why not"]]))]), json!(["send", of(c, "note"), 1])];
    let event = |fill: &str, last: Json| {
        let wait = wait_all(&[0, 1]);
        value(json!({ "steps": [["log", "debug", fill], sends[0], sends[1], wait, last], "out": "out" }))
    };
    let small = event("", json!(["set", "x", [], 1]));
    let large = event(&"x".repeat(2_000), json!(["trap"]));
    let made = commits(&host, a);
    let supplied = |event: &Value| NewEvent::new(a, "run", event.clone()).id("once");
    let id = host.send(supplied(&large)).await.unwrap();
    until("it waits", || commits(&host, a) == made + 2).await;
    host.send(NewEvent::new(a, "run", small.clone())).await.unwrap();
    until("both wait", || commits(&host, a) == made + 4).await;
    // Both are there, and one is seen to come from the store.
    let waiting: Vec<_> = waiting(&host, a).await.into_iter().map(|event| event.payload).collect();
    assert_eq!(waiting, [large.clone(), small.clone()]);
    assert_eq!(host.send(supplied(&large)).await.unwrap(), id, "the same event");
    assert!(matches!(host.send(supplied(&small)).await, Err(SendError::IdReused { .. })));
    control.fail_look_ups(Some(StoreError::Failed("no look-ups".to_owned())));
    assert!(host.waiting(&a, 0, 1).await.is_err(), "the large one is on disk");
    control.fail_look_ups(None);
    host.resume(&c).await.unwrap();
    settle(&host).await;
    assert_eq!(cell(&host, a, "x").await, 1);
    assert_eq!(cell(&host, a, "out").await[3][0]["message"], "why not");
    let letters = host.dead_letters(&a, 0, usize::MAX).unwrap();
    assert_eq!((letters.len(), &letters[0].event.payload), (1, &large));
    host.verify_store().unwrap();
    // The operator drops one that waits: its receipt knows the event by all that it carried.
    host.pause(&c).await.unwrap();
    let made = commits(&host, a);
    let other = NewEvent::new(a, "run", large.clone()).id("another");
    let id = host.send(other.clone()).await.unwrap();
    until("it waits", || commits(&host, a) == made + 2).await;
    host.cancel(&a, &id).await.unwrap();
    assert_eq!(host.request(other).await.unwrap().outcome, Outcome::Cancelled);
    host.resume(&c).await.unwrap();
    settle(&host).await;
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}
