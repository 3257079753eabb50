//! The scripted guest `tests/guests/probe`, and hosts full of it.

use std::{collections::BTreeMap, time::Duration};

use charm_host::{
    Charm, Counters, Did, Event, EventId, Host, InstallError, Names, NewEvent, Path, Receipt, Right, Value,
};
use serde_json::{Value as Json, json};

use crate::{Wire, component, value};

/// Returns the probe as a charm of that name, without grants.
pub fn probe_charm(name: &str) -> Charm {
    Charm::new(name, component("probe"))
}

/// Installs a probe that may do nothing with others.
pub async fn probe(host: &Host, name: &str) -> Did {
    host.install(probe_charm(name)).await.unwrap()
}

/// The streams of a probe that others may send to.
pub const STREAMS: [&str; 3] = ["run", "note", "shaped"];
/// Cells of a probe that most tests read.
pub const CELLS: [&str; 11] =
    ["hot", "count", "version", "x", "y", "z", "shared", "shaped", "token", "notes", "nothing-there"];

/// Returns a grant for cells of these probes.
pub fn cells_of(charms: &[Did]) -> BTreeMap<Did, Names> {
    charms.iter().map(|did| (*did, crate::only(&CELLS))).collect()
}

/// Returns a grant for the streams of these probes.
pub fn streams_of(charms: &[Did]) -> BTreeMap<Did, Names> {
    charms.iter().map(|did| (*did, crate::only(&STREAMS))).collect()
}

/// Lets a holder read and send this, and nothing else; what it may call stays.
pub async fn grant(
    host: &Host,
    holder: Did,
    read: BTreeMap<Did, Names>,
    send: BTreeMap<Did, Names>,
) -> Result<(), InstallError> {
    let read = read.into_iter().map(|(owner, cells)| Right::Read { owner, cells });
    let send = send.into_iter().map(|(owner, streams)| Right::Send { owner, streams });
    let calls = host.rights(&holder).into_iter().filter(|right| matches!(right, Right::Call(_)));
    host.set_rights(holder, read.chain(send).chain(calls).collect()).await
}

/// Installs probes that may read the shared cells of each other and send to each other.
pub async fn probes<const N: usize>(host: &Host, names: [&str; N]) -> [Did; N] {
    let mut dids = Vec::new();
    for name in names {
        dids.push(probe(host, name).await);
    }
    for holder in &dids {
        grant(host, *holder, cells_of(&dids), streams_of(&dids)).await.unwrap();
    }
    dids.try_into().unwrap()
}

/// Installs probes that may read and send everything of each other, and call the wire.
pub async fn wired<const N: usize>(host: &Host, names: [&str; N]) -> [Did; N] {
    let mut dids = Vec::new();
    for name in names {
        dids.push(host.install(probe_charm(name).may_call(Wire::grant())).await.unwrap());
    }
    for did in &dids {
        grant(host, *did, all_of(&dids), all_of(&dids)).await.unwrap();
    }
    dids.try_into().unwrap()
}

/// Installs the probes `a` and `b` that may read the shared cells of each other and send to each other.
pub async fn pair(host: &Host) -> (Did, Did) {
    let [a, b] = probes(host, ["a", "b"]).await;
    (a, b)
}

/// Returns a grant for everything that these charms declare and do not keep to themselves.
pub fn all_of(charms: &[Did]) -> BTreeMap<Did, Names> {
    charms.iter().map(|did| (*did, Names::All)).collect()
}

/// Returns a cell or stream of another charm, as scripts name it.
pub fn of(owner: Did, name: &str) -> Json {
    json!([owner.to_string(), name])
}

/// Returns the event of `run`, as scripts send it: a list of steps.
pub fn steps(steps: Json) -> Json {
    json!({ "steps": steps })
}

/// Returns the event of `run`.
pub fn script(of: Json) -> Value {
    value(steps(of))
}

/// Returns the step that waits a minute for all of these sends, which are numbered from 0.
pub fn wait_all(sends: &[usize]) -> Json {
    json!(["wait", sends, "all", 60_000])
}

/// Runs steps in one turn of a probe and returns the receipt.
pub async fn run(host: &Host, charm: Did, steps: Json) -> Receipt {
    send_and_wait(host, charm, "run", script(steps)).await
}

/// Runs steps in one turn of a probe whose sender does not ask for the receipt: a rejection leaves a dead letter (S11).
pub async fn run_unasked(host: &Host, charm: Did, steps: Json) -> Receipt {
    let id = send(host, charm, steps).await;
    receipt(host, &id).await
}

/// Runs steps in one turn that must commit and returns their results.
///
/// # Panics
/// When the turn does not commit.
#[track_caller]
pub fn results(host: &Host, charm: Did, steps: Json) -> impl Future<Output = Json> {
    let caller = std::panic::Location::caller();
    async move {
        let event = value(json!({ "steps": steps, "out": "out" }));
        let receipt = send_and_wait(host, charm, "run", event).await;
        assert!(receipt.commit.is_some(), "{caller}: {receipt:?}");
        cell(host, charm, "out").await
    }
}

/// Sends an event to `note`, which appends it to the cell `notes`, and returns the receipt.
pub async fn note(host: &Host, charm: Did, event: Json) -> Receipt {
    send_and_wait(host, charm, "note", value(event)).await
}

async fn send_and_wait(host: &Host, charm: Did, stream: &str, event: Value) -> Receipt {
    let request = host.request(NewEvent::new(charm, stream, event));
    tokio::time::timeout(PATIENCE, request).await.expect("a request settles in time").unwrap()
}

/// Sends steps to a probe without waiting for the turn; returns the event's id.
pub async fn send(host: &Host, charm: Did, steps: Json) -> EventId {
    host.send(NewEvent::new(charm, "run", script(steps))).await.unwrap()
}

/// As `send`; the turn keeps the results of its steps in the cell `out`.
pub async fn begin(host: &Host, charm: Did, steps: Json) -> EventId {
    host.send(NewEvent::new(charm, "run", value(json!({ "steps": steps, "out": "out" })))).await.unwrap()
}

/// Waits for the receipt of an event.
///
/// # Panics
/// When that takes longer than 30 s.
pub async fn receipt(host: &Host, id: &EventId) -> Receipt {
    let receipt = tokio::time::timeout(PATIENCE, host.receipt(id)).await;
    receipt.expect("an event settles in time").unwrap().expect("the event is known")
}

/// Returns what a cell holds, as JSON; null for nothing.
pub async fn cell(host: &Host, charm: Did, name: &str) -> Json {
    value_of(host, charm, name).await.map_or(Json::Null, |value| crate::json(&value))
}

/// Returns what a cell holds.
pub async fn value_of(host: &Host, charm: Did, name: &str) -> Option<Value> {
    host.get(&charm, name, &Path::root()).await.unwrap()
}

/// Longest time that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until no event waits or runs and all that was done is durable.
///
/// # Panics
/// When that takes longer than 30 s.
pub async fn settle(host: &Host) {
    tokio::time::timeout(PATIENCE, host.settled()).await.expect("all events settle in time").unwrap();
}

/// Waits until something holds that no receipt tells.
///
/// # Panics
/// When that takes longer than 30 s.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 2 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("not in time: {what}");
}

/// Checks the law of a host's counters and returns them.
///
/// # Panics
/// When it does not hold.
#[track_caller]
pub fn counted(host: &Host) -> Counters {
    let counters = host.counters();
    assert_eq!(counters.found + counters.sent, counters.settled() + counters.waiting, "{counters:?}");
    counters
}

/// Returns the events that wait for a charm.
pub async fn waiting(host: &Host, charm: Did) -> Vec<Event> {
    let waiting = host.waiting(&charm, 0, usize::MAX).await.unwrap();
    waiting.into_iter().map(|queued| queued.event).collect()
}

/// Returns the number of the last durable commit in a charm's space.
pub fn commits(host: &Host, charm: Did) -> u64 {
    host.spaces().iter().find(|space| space.did == charm).unwrap().commits
}

/// Returns the commit that wrote a cell last, none when it holds nothing.
pub async fn revision(host: &Host, charm: Did, name: &str) -> Option<u64> {
    let cells = host.cells(&charm).await.unwrap();
    cells.iter().find(|cell| &*cell.name == name).map(|cell| cell.revision)
}
