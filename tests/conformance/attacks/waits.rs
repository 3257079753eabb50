//! Charms that wait: for a server that never answers, for as long as they like, as many as there are (A4, A5, A6, T4).

use std::{collections::BTreeMap, time::Duration};

use super::*;

/// More than there are slots for turns.
const WAITING: usize = 80;

/// Fails when something does not end: a test that hangs names nothing.
async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

fn fetch(url: &str) -> serde_json::Value {
    json!(["fetch", { "url": url }])
}

/// Installs charms that each wait for an answer from there.
async fn waiting(host: &Host, grant: &HttpGrant) -> Vec<Did> {
    let mut charms = Vec::new();
    for number in 0..WAITING {
        let charm = probe_charm(&format!("waits-{number}")).may_call(grant.clone());
        let charm = host.install(charm).await.unwrap();
        send(host, charm, json!([["set", "begun", [], true], fetch(&grant.origin), ["set", "ended", [], true]])).await;
        charms.push(charm);
    }
    charms
}

/// Everybody else is served, the host ends when it is told to, and the events of those that waited are still there.
async fn hurts_nobody(host: Host, store: MemoryStore, charms: Vec<Did>) {
    let neighbours = [probe(&host, "one").await, probe(&host, "two").await];
    for _ in 0..5 {
        for neighbour in neighbours {
            is_served(&host, neighbour).await;
        }
    }
    for charm in &charms {
        assert_eq!(
            (decided(*charm), charm_conformance::waiting(&host, *charm).await.len()),
            (0, 1),
            "it has done nothing yet"
        );
    }
    in_time("the host ends", host.shutdown()).await.unwrap();
    let archive = Archive::open(store).unwrap();
    assert_eq!(archive.spaces().iter().map(|space| space.waiting).sum::<usize>(), WAITING);
    archive.verify_store().unwrap();
}

/// A4, A6: a server that never answers holds whom it holds, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn charms_that_wait_for_ever_hold_nobody_up() {
    let (wire, store) = (Wire::gated(), MemoryStore::new());
    let host = builder().store(store.clone()).transport(wire.clone()).open().await.unwrap();
    let charms = waiting(&host, &Wire::grant()).await;
    wire.arrived(WAITING).await;
    hurts_nobody(host, store, charms).await;
}

/// A4, A6: the same through real sockets.
#[tokio::test(flavor = "multi_thread")]
async fn charms_that_wait_for_a_silent_server_hold_nobody_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let store = MemoryStore::new();
    let host = builder().store(store.clone()).open().await.unwrap();
    let grant = HttpGrant { origin, methods: vec!["GET".to_owned()], private: true };
    let charms = waiting(&host, &grant).await;
    let mut silent = Vec::new();
    while silent.len() < WAITING {
        silent.push(in_time("each of them calls", listener.accept()).await.unwrap());
    }
    hurts_nobody(host, store, charms).await;
}

/// A4, A5: the host keeps the time of an exchange itself, whatever the transport does; and that of a whole turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_transport_that_hangs_costs_a_turn_its_time_and_no_more() {
    let (wire, clock) = (Wire::gated(), Clock::new());
    let limits = Limits { http_timeout_ms: 30_000, http_turn_ms_max: 50_000, ..Limits::default() };
    let host = builder().transport(wire.clone()).env(clock.clone()).limits(limits).open().await.unwrap();
    let charm = host.install(probe_charm("patient").may_call(Wire::grant())).await.unwrap();
    let attempt = json!(["try", fetch(WIRE)]);
    let event = value(json!({ "steps": [attempt, attempt, attempt], "out": "out" }));
    let id = host.send(NewEvent::new(charm, "run", event)).await.unwrap();
    wire.arrived(1).await;
    clock.pass(Duration::from_secs(30));
    wire.arrived(2).await;
    clock.pass(Duration::from_secs(20));
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let out = cell(&host, charm, "out").await;
    assert_eq!(out[0], out[1]);
    assert!(out[0]["error"].to_string().contains("timeout"), "{out}");
    assert_eq!(out[2]["error"], json!({ "kind": "limit", "name": "http-turn-ms-max", "max": 50_000 }));
    assert_eq!(wire.count(), 2);
}

/// T4: the time for conflicts begins with the first of them, and waiting for an answer is none of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_waited_long_still_has_its_time_for_conflicts() {
    let (wire, clock, hold) = (Wire::gated(), Clock::new(), Hold::new());
    let limits = Limits { conflict_ms_max: 10_000, http_timeout_ms: 100_000, ..Limits::default() };
    let host = builder().transport(wire.clone()).env(clock.clone()).limits(limits).open().await.unwrap();
    let writer = probe(&host, "writer").await;
    let reader = host.install(probe_charm("reader").may_call(Wire::grant())).await.unwrap();
    grant(&host, reader, all_of(&[writer]), BTreeMap::new()).await.unwrap();
    let read = json!(["get", of(writer, "x"), []]);
    // Before the first conflict, and between the first and the second.
    let asked = json!(["fetch-with", { "url": WIRE }, of(writer, "asked"), []]);
    let id = send(&host, reader, json!([asked, read, hold.step()])).await;
    for round in 1..=2 {
        wire.arrived(round).await;
        clock.pass(Duration::from_secs(40));
        wire.release(1);
        hold.arrived(round).await;
        run(&host, writer, json!([["set", "x", [], round], ["set", "asked", [], round]])).await;
        hold.release(1);
    }
    wire.release(1);
    hold.release(1);
    let receipt = receipt(&host, &id).await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    assert_eq!((host.counters().conflicts, wire.count()), (2, 3));
}

/// A4: what a turn has told before it waited is not told again by the run that goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_tells_each_line_of_its_log_once_however_often_it_waits() {
    let logs = Logs::capture();
    let host = builder().transport(Wire::open()).open().await.unwrap();
    let charm = host.install(probe_charm("talks").may_call(Wire::grant())).await.unwrap();
    let line = |text: &str| json!(["log", "info", format!("{text} line")]);
    let ask = fetch(WIRE);
    let id = send(&host, charm, json!([line("first"), ask, line("second"), ask, ask, line("third")])).await;
    assert_eq!(receipt(&host, &id).await.outcome, Outcome::Committed);
    let lines = logs.lines(&id.to_string());
    let told: Vec<&str> = ["first line", "second line", "third line"]
        .into_iter()
        .flat_map(|text| lines.iter().filter(move |line| line.contains(text)).map(move |_| text))
        .collect();
    assert_eq!(told, ["first line", "second line", "third line"]);
}

/// S3: while its turn waits, a charm begins no other; what came meanwhile is handled after it, in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_that_waits_begins_no_other_turn() {
    // The later events are of the sender of the first, and of another: neither that one nor these are begun.
    let outside = MemoryKeyring::default().create(&zeroize::Zeroizing::new([9; 32])).unwrap();
    for sender in [None, Some(outside)] {
        let wire = Wire::gated();
        let host = builder().transport(wire.clone()).open().await.unwrap();
        let charm = host.install(probe_charm("waits").may_call(Wire::grant())).await.unwrap();
        grant(&host, outside, BTreeMap::new(), all_of(&[charm])).await.unwrap();
        send(&host, charm, json!([fetch(WIRE), ["set", "notes", [0], "asked"]])).await;
        wire.arrived(1).await;
        for number in 1..4 {
            let note = NewEvent::new(charm, "note", value(json!(number)));
            host.send(if let Some(sender) = sender { note.from(sender) } else { note }).await.unwrap();
        }
        let neighbour = probe(&host, "neighbour").await;
        for _ in 0..10 {
            is_served(&host, neighbour).await;
        }
        assert_eq!((decided(charm), wire.count()), (0, 1));
        wire.release(1);
        settle(&host).await;
        assert_eq!(cell(&host, charm, "notes").await, json!(["asked", 1, 2, 3]));
        assert_eq!(wire.count(), 1);
    }
}

/// A receiver whose turn waits for the wire, its inbox all but full of the notes of another, and a sender.
struct Crowd {
    host: Host,
    wire: Wire,
    clock: std::sync::Arc<Clock>,
    receiver: Did,
    sender: Did,
    /// May send to the sender.
    outside: Did,
}

impl Crowd {
    async fn gather() -> Crowd {
        let (wire, clock) = (Wire::gated(), Clock::new());
        let limits = Limits { inbox_events_max: 4, room_ms_max: 60_000, http_timeout_ms: 110_000, ..Limits::default() };
        let host = builder().limits(limits).transport(wire.clone()).env(clock.clone()).open().await.unwrap();
        let receiver = host.install(probe_charm("receiver").may_call(Wire::grant())).await.unwrap();
        let may_send = |name| probe_charm(name).may_send(receiver, Names::All);
        let first = host.install(may_send("first")).await.unwrap();
        let sender = host.install(may_send("sender")).await.unwrap();
        let outside = MemoryKeyring::default().create(&zeroize::Zeroizing::new([9; 32])).unwrap();
        grant(&host, outside, BTreeMap::new(), all_of(&[sender, receiver])).await.unwrap();
        send(&host, receiver, json!([fetch(WIRE)])).await;
        wire.arrived(1).await;
        let notes = json!([["send", of(receiver, "note"), "a"], ["send", of(receiver, "note"), "b"]]);
        assert_eq!(run(&host, first, notes).await.outcome, Outcome::Committed);
        Crowd { host, wire, clock, receiver, sender, outside }
    }

    /// Lets the sender send two notes, for which there is no room.
    async fn send(&self) -> EventId {
        let note = |text: &str| json!(["send", of(self.receiver, "note"), text]);
        send(&self.host, self.sender, json!([note("c"), note("d"), ["set", "notes", [0], "sent"]])).await
    }

    /// The sender handles an event of another.
    async fn sender_goes_on(&self, text: &str) {
        let event = NewEvent::new(self.sender, "note", value(json!(text))).from(self.outside);
        let id = self.host.send(event).await.unwrap();
        assert_eq!(receipt(&self.host, &id).await.outcome, Outcome::Committed);
    }
}

/// S12, R1.9: a turn that finds no room is thrown away and run again when there is some. Meanwhile its charm handles
/// what others send it, and the later events of the same sender wait (S3).
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_finds_no_room_waits_for_it_and_its_charm_goes_on() {
    let crowd = Crowd::gather().await;
    let Crowd { host, wire, receiver, sender, .. } = &crowd;
    let waits = crowd.send().await;
    let later = send(host, *sender, json!([["set", "notes", [2], "later"]])).await;
    crowd.sender_goes_on("x").await;
    crowd.sender_goes_on("y").await;
    for id in [&waits, &later] {
        assert!(matches!(host.status(id).unwrap(), Status::Waiting { .. }));
    }
    wire.release(1);
    for id in [&waits, &later] {
        assert_eq!(receipt(host, id).await.outcome, Outcome::Committed);
    }
    settle(host).await;
    assert_eq!(cell(host, *receiver, "notes").await, json!(["a", "b", "c", "d"]));
    assert_eq!(cell(host, *sender, "notes").await, json!(["sent", "y", "later"]));
    assert!(host.dead_letters(sender, 0, usize::MAX).unwrap().is_empty());
}

/// S12: it waits for so long and no longer; then the handler is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_waits_for_room_within_its_bound() {
    let crowd = Crowd::gather().await;
    let waits = crowd.send().await;
    crowd.sender_goes_on("x").await;
    crowd.clock.pass(Duration::from_secs(59));
    crowd.sender_goes_on("y").await;
    assert!(matches!(crowd.host.status(&waits).unwrap(), Status::Waiting { .. }));
    crowd.clock.pass(Duration::from_secs(2));
    let receipt = receipt(&crowd.host, &waits).await;
    let told = Some(format!("queue-full inbox={}", crowd.receiver));
    assert_eq!((receipt.outcome, receipt.message), (Outcome::Rejected, told));
}

/// S12: what can never find room is refused at once, and so is what a charm sends itself.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_room_that_never_comes() {
    let crowd = Crowd::gather().await;
    let idle = probe(&crowd.host, "idle").await;
    grant(&crowd.host, crowd.sender, BTreeMap::new(), all_of(&[idle])).await.unwrap();
    let receipt = run(&crowd.host, crowd.sender, json!([["repeat", 3, ["send", of(idle, "note"), "too many"]]])).await;
    assert_eq!(receipt.message, Some(format!("queue-full inbox={idle}")));
    let full = Some(format!("queue-full inbox={}", crowd.sender));
    let receipt = run(&crowd.host, crowd.sender, json!([["repeat", 5, ["send", "note", "to itself"]]])).await;
    assert_eq!(receipt.message, full);
    // Also when there was room once: of the three that the first sends, two still wait when the second sends as many.
    crowd.host.pause(&crowd.sender).await.unwrap();
    let three = json!([["repeat", 3, ["send", "note", "to itself"]]]);
    let first = send(&crowd.host, crowd.sender, three.clone()).await;
    let second = send(&crowd.host, crowd.sender, three).await;
    crowd.host.resume(&crowd.sender).await.unwrap();
    assert_eq!(super::receipt(&crowd.host, &first).await.outcome, Outcome::Committed);
    assert_eq!(super::receipt(&crowd.host, &second).await.message, full);
}

/// S12: from outside, `send` refuses at once and `request` waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_room_and_a_send_does_not() {
    let crowd = Crowd::gather().await;
    let Crowd { host, wire, receiver, outside, .. } = &crowd;
    let note = |text: &str| NewEvent::new(*receiver, "note", value(json!(text))).from(*outside);
    host.send(note("first of its sender")).await.unwrap();
    let full = Err(SendError::QueueFull { to: *receiver });
    let refused = async || in_time("a send is refused", host.send(note("no"))).await;
    assert_eq!(refused().await, full);
    let mut request = Box::pin(host.request(note("yes")));
    tokio::select! {
        biased;
        ended = &mut request => panic!("there is no room: {ended:?}"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(refused().await, full);
    wire.release(1);
    assert_eq!(in_time("there is room", request).await.unwrap().outcome, Outcome::Committed);
    assert_eq!(cell(host, *receiver, "notes").await, json!(["a", "first of its sender", "b", "yes"]));
    // As long as its bound.
    let other = Crowd::gather().await;
    let note = |text: &str| NewEvent::new(other.receiver, "note", value(json!(text))).from(other.outside);
    other.host.send(note("first of its sender")).await.unwrap();
    let request = other.host.request(note("in vain"));
    let time = async {
        tokio::task::yield_now().await;
        other.clock.pass(Duration::from_secs(61));
    };
    let (ended, ()) = tokio::join!(in_time("its bound is over", request), time);
    assert_eq!(ended, Err(SendError::QueueFull { to: other.receiver }));
}

/// S12: the host ends while turns wait for room, and their events wait for the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_room() {
    let crowd = Crowd::gather().await;
    crowd.send().await;
    crowd.sender_goes_on("x").await;
    assert_eq!(charm_conformance::waiting(&crowd.host, crowd.sender).await.len(), 1);
    in_time("the host ends", crowd.host.shutdown()).await.unwrap();
}
