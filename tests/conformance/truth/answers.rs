//! T8: whatever a host answers is durable. Every method that embedders have is in one of two tables here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use charm_host::{EventId, Host, MemoryStore, NewEvent, Watch};
use futures_util::future::{BoxFuture, FutureExt};

use super::*;

/// What the questions are about.
#[derive(Clone)]
struct Known {
    a: Did,
    /// Paused.
    b: Did,
    /// A dead letter of `a`, which is dropped, and the event that is sent to `b`, or cancelled there.
    letter: EventId,
    cancelled: EventId,
    next: u64,
}

type Ask = fn(Arc<Host>, Known) -> BoxFuture<'static, String>;

macro_rules! ask {
    (|$host:ident, $known:ident| $answer:expr) => {
        |$host: Arc<Host>, $known: Known| {
            async move {
                let _ = &$known;
                format!("{:?}", $answer)
            }
            .boxed()
        }
    };
}

/// Every method that tells something.
const QUESTIONS: [(&str, Ask); 29] = [
    ("operator", ask!(|host, known| host.operator())),
    ("rights", ask!(|host, known| host.rights(&known.a))),
    ("charms", ask!(|host, known| host.charms())),
    ("spaces", ask!(|host, known| host.spaces())),
    ("did_of", ask!(|host, known| (host.did_of("a"), host.did_of("late")))),
    ("counters", ask!(|host, known| host.counters())),
    ("get", ask!(|host, known| host.get::<u64>(&known.a, "x", "").await)),
    ("get_as", ask!(|host, known| host.get_as::<u64>(&host.operator(), &known.a, "x", "").await)),
    (
        "get_at",
        ask!(|host, known| host.get_at::<u64>(&known.a, "x", "", known.next).await.map_err(|error| error.to_string())),
    ),
    ("cells", ask!(|host, known| host.cells(&known.a).await)),
    ("list", ask!(|host, known| host.list(&known.a, "", None, 10).await)),
    ("list_as", ask!(|host, known| host.list_as(&host.operator(), &known.a, "", None, 10).await)),
    ("watch", ask!(|host, known| host.watch(Watch::cell(&known.a, "x")).await.unwrap().next().await)),
    ("watch_as", ask!(|host, known| host.watch_as(&known.a, Watch::cells(&known.a, "")).await.unwrap().next().await)),
    ("derivations", ask!(|host, known| host.derivations())),
    ("waiting", ask!(|host, known| host.waiting(&known.b, 0, 10).await)),
    ("turns", ask!(|host, known| host.turns(None, 0, 10).await)),
    (
        "why",
        ask!(|host, known| {
            let (letter, waits) = (host.why(&known.letter).await, host.why(&known.cancelled).await);
            (letter.map_err(|error| error.to_string()), waits.map_err(|error| error.to_string()))
        }),
    ),
    ("held", ask!(|host, known| host.held(&known.b).await)),
    ("dead_letters", ask!(|host, known| host.dead_letters(&known.a, 0, 10))),
    ("dead_letter", ask!(|host, known| host.dead_letter(&known.letter))),
    ("receipt", ask!(|host, known| host.receipt(&known.letter).await)),
    ("status", ask!(|host, known| (host.status(&known.letter), host.status(&known.cancelled)))),
    ("verify", ask!(|host, known| host.verify(&known.a))),
    ("verify_store", ask!(|host, known| host.verify_store())),
    ("settled", ask!(|host, known| host.settled().await)),
    // Of components, whatever the store holds.
    ("components", ask!(|host, known| host.components())),
    ("describe", ask!(|host, known| host.describe(probe_charm("a")).await.map(|told| told.sha256))),
    // What is refused is an answer too.
    ("cancel", ask!(|host, known| host.cancel(&known.b, &known.cancelled).await)),
];

/// Every method that changes something. Each completes when that is durable: see `no_change_is_confirmed_before_it_is_durable`
/// and, for what stands beside the log, the chapters `durability`, `backups` and `crashes`.
const CHANGES: [&str; 21] = [
    "install",
    "install_all",
    "grant",
    "revoke",
    "set_rights",
    "uninstall",
    "uninstall_with_data",
    "prune",
    "pause",
    "resume",
    "send",
    "request",
    "resend",
    "discard",
    "discard_all",
    "release",
    "release_component",
    "backup",
    "stopped",
    "shutdown",
    "shutdown_within",
];

/// A host whose disk the test holds, with things that are durable and things that are not.
async fn world() -> (Arc<Host>, Control, Known) {
    let (store, control) = GatedStore::new(MemoryStore::new());
    let host = Arc::new(builder().store(store).open().await.unwrap());
    let (a, b) = (probe(&host, "a").await, probe(&host, "b").await);
    run(&host, a, json!([["set", "x", [], 1], ["set", "y", [], 1]])).await;
    let letter = send(&host, a, json!([["trap"]])).await;
    receipt(&host, &letter).await;
    host.pause(&b).await.unwrap();
    let cancelled = host.send(NewEvent::new(b, "note", value(json!("cancelled")))).await.unwrap();
    host.send(NewEvent::new(b, "note", value(json!("waits")))).await.unwrap();
    // The next event of a, and its turn.
    let next = commits(&host, a) + 2;
    (host, control, Known { a, b, letter, cancelled, next })
}

/// Changes all that there is, in memory: nothing of it is durable, and nobody hears of it.
async fn change(host: &Arc<Host>, known: &Known) {
    let Known { a, b, letter, cancelled, .. } = known.clone();
    let (of_a, of_b, last) = (decided(a), decided(b), last_decided(b));
    let start = |work: BoxFuture<'static, ()>| drop(tokio::spawn(work));
    let (h, steps) = (host.clone(), json!([["set", "x", [], 2], ["remove", "y", []], ["set", "z", [], 1]]));
    start(async move { drop(h.send(NewEvent::new(a, "run", script(steps))).await) }.boxed());
    until("it commits in memory", || decided(a) == of_a + 1).await;
    let h = host.clone();
    start(async move { drop(h.send(NewEvent::new(a, "run", script(json!([["trap"]])))).await) }.boxed());
    until("it fails in memory", || decided(a) == of_a + 2).await;
    let h = host.clone();
    start(async move { drop(h.send(NewEvent::new(b, "note", value(json!("new")))).await) }.boxed());
    until("it is accepted in memory", || last_decided(b) == last + 1).await;
    let (h, last) = (host.clone(), last_decided(a));
    start(async move { drop(h.discard(&a, &letter).await) }.boxed());
    until("it is dropped in memory", || last_decided(a) == last + 1).await;
    let h = host.clone();
    start(async move { drop(h.cancel(&b, &cancelled).await) }.boxed());
    until("it is cancelled in memory", || decided(b) == of_b + 1).await;
    let h = host.clone();
    start(async move { drop(h.install(probe_charm("late")).await) }.boxed());
}

/// T8: each answer is what was durable when it was asked, or comes when what it tells is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_is_durable() {
    let (host, control, known) = world().await;
    let mut before = BTreeMap::new();
    for (name, ask) in QUESTIONS.iter().filter(|(name, _)| *name != "cancel") {
        before.insert(*name, ask(host.clone(), known.clone()).await);
    }
    control.hold();
    change(&host, &known).await;
    let mut waits = Vec::new();
    for (name, ask) in QUESTIONS {
        let mut answer = tokio::spawn(ask(host.clone(), known.clone()));
        match tokio::time::timeout(Duration::from_millis(50), &mut answer).await {
            Ok(answer) => assert_eq!(Some(&answer.unwrap()), before.get(name), "{name} tells what is not durable"),
            Err(_) => waits.push((name, answer)),
        }
    }
    control.release();
    let mut waited = BTreeMap::new();
    for (name, answer) in waits {
        waited.insert(name, tokio::time::timeout(Duration::from_secs(30), answer).await.expect(name).unwrap());
    }
    until("the late charm is there", || host.charms().len() == 3).await;
    for (name, ask) in QUESTIONS {
        let now = ask(host.clone(), known.clone()).await;
        if let Some(waited) = waited.get(name).filter(|_| name != "charms") {
            assert_eq!(*waited, now, "{name} waited for what is durable now");
        }
        // No turn is under way here: chapter `causes` shows it of turns.
        let same =
            ["operator", "rights", "receipt", "held", "settled", "describe", "components", "turns", "derivations"];
        let changes = !same.contains(&name);
        assert!(!changes || before.get(name) != Some(&now), "{name}: the test changes what it tells: {now}");
    }
}

type Do = fn(Arc<Host>, Known) -> BoxFuture<'static, bool>;

/// T8
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_change_is_confirmed_before_it_is_durable() {
    let deeds: [(&str, Do); 11] = [
        ("send", |host, k| async move { host.send(NewEvent::new(k.a, "note", value(json!(1)))).await.is_ok() }.boxed()),
        ("request", |host, k| {
            async move { host.request(NewEvent::new(k.a, "note", value(json!(1)))).await.is_ok() }.boxed()
        }),
        ("resend", |host, k| async move { host.resend(&k.a, &k.letter).await.is_ok() }.boxed()),
        ("discard", |host, k| async move { host.discard(&k.a, &k.letter).await.is_ok() }.boxed()),
        ("discard_all", |host, k| async move { host.discard_all(&k.a).await.is_ok() }.boxed()),
        ("cancel", |host, k| async move { host.cancel(&k.b, &k.cancelled).await.is_ok() }.boxed()),
        ("pause", |host, k| async move { host.pause(&k.a).await.is_ok() }.boxed()),
        ("resume", |host, k| async move { host.resume(&k.b).await.is_ok() }.boxed()),
        ("prune", |host, k| async move { host.prune(&k.a).await.is_ok() }.boxed()),
        ("uninstall_with_data", |host, k| async move { host.uninstall_with_data(&k.b).await.is_ok() }.boxed()),
        ("install", |host, _| async move { host.install(probe_charm("late")).await.is_ok() }.boxed()),
    ];
    for (name, deed) in deeds {
        let (host, control, known) = world().await;
        control.hold();
        let mut deed = tokio::spawn(deed(host, known));
        let early = tokio::time::timeout(Duration::from_millis(50), &mut deed).await;
        assert!(early.is_err(), "{name} is confirmed though nothing is durable");
        control.release();
        assert!(tokio::time::timeout(Duration::from_secs(30), deed).await.expect(name).unwrap(), "{name}");
    }
}

/// T8: an id that was used for another event, which is not durable yet, is told when it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_waits_for_what_it_tells() {
    let (host, control, known) = world().await;
    control.hold();
    let event = move |n: u32| NewEvent::new(known.b, "note", value(json!(n))).id("o-1");
    let before = last_decided(known.b);
    let first = tokio::spawn({
        let host = host.clone();
        async move { host.send(event(1)).await }
    });
    until("it is accepted in memory", || last_decided(known.b) > before).await;
    let mut other = tokio::spawn({
        let host = host.clone();
        async move { host.send(event(2)).await }
    });
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut other).await.is_err());
    control.release();
    let id = first.await.unwrap().unwrap();
    assert_eq!(other.await.unwrap(), Err(charm_host::SendError::IdReused { id }));
}

/// A method that is in neither table may tell what is not durable.
#[test]
fn every_method_of_a_host_is_in_a_table() {
    let source = root().join("host/src");
    let mut files = vec![source.join("host.rs")];
    files.extend(std::fs::read_dir(source.join("host")).unwrap().map(|file| file.unwrap().path()));
    files.retain(|file| file.is_file());
    let mut missing = Vec::new();
    let mut found = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("    pub ") {
            let declared = text[at + 8..].strip_prefix("async ").unwrap_or(&text[at + 8..]);
            let Some((name, rest)) = declared.strip_prefix("fn ").and_then(|rest| rest.split_once('(')) else {
                continue;
            };
            let name = name.split('<').next().unwrap();
            if !rest.trim_start().starts_with("&self") && name != "shutdown" {
                continue;
            }
            found += 1;
            let is_known = CHANGES.contains(&name) || QUESTIONS.iter().any(|(known, _)| *known == name);
            if !is_known {
                missing.push(name.to_owned());
            }
        }
    }
    assert!(found > 25, "the methods are found: {found}");
    assert!(missing.is_empty(), "methods in no table: {missing:?}");
}
