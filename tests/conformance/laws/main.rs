//! Chapter laws: what a store proves as a whole, with every key in the forger's hands (I2, I3, S1-S7, S11, T5, T6).
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[path = "../by_hand.rs"]
mod by_hand;
mod flips;
mod forged;
mod tamperings;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use by_hand::{CHARM, described};
use charm_conformance::*;
use charm_host::{
    Archive, Charm, Did, FileKeyring, FolderStore, HISTORY_PAUSE_MS, Host, Image, Keep, Law, Limits, MemoryStore,
    Names, NewEvent, Outcome, Store, VerifyError,
};
use forged::{Forged, Rows};
use serde_json::{Value as Json, json};
use tamperings::{
    CAUSE, Case, DERIVED, EXCHANGED, ONCE, ORDER, OUTLIVED, PRUNED, RECEIPT, SIGNER_AND_CHAIN, STATE, TIMED, Tamper,
    WAITED, ends_in_another_order,
};

fn wait() -> Json {
    json!(["fetch", {"url": WIRE}])
}

/// Leaves a store with everything in it that can happen: commits, removals, rejections, traps, a conflict, refused
/// sends, receipts, dead letters dropped, pushed out and sent again, events from outside with ids and without, and
/// events that wait.
async fn eventful(home: &Home, rounds: u64) {
    let host = lively(home, rounds).await;
    // A turn waits for an answer that never comes.
    host.shutdown_within(Duration::ZERO).await.unwrap();
    drop(host);
    drop(home.builder().await);
}

/// As `eventful`, with the host that still runs.
async fn lively(home: &Home, rounds: u64) -> Host {
    let (wire, hold) = (Wire::gated(), Hold::new());
    let limits = Limits { conflict_ms_max: 0, dead_letters_max: 3, ..Limits::default() };
    let host = home.builder().await.transport(wire.clone()).limits(limits).open().await.unwrap();
    let [a, b, _] = [probe(&host, "a").await, probe(&host, "b").await, probe(&host, "c").await];
    let d = host.install(probe_charm("d").may_call(Wire::grant())).await.unwrap();
    let c = host.did_of("c").unwrap();
    grant(&host, a, all_of(&[b]), all_of(&[b, d])).await.unwrap();
    grant(&host, d, all_of(&[b]), all_of(&[b])).await.unwrap();
    let tag = |tag: &str| json!({"stream": "on-receipt", "tag": tag});
    // Never run again: the conflict is final.
    let conflicting = json!({"steps": [["get", of(b, "x"), []], hold.step()]});
    run(&host, a, json!([["send", of(d, "run"), conflicting, tag("conflict")]])).await;
    hold.arrived(1).await;
    run(&host, b, json!([["set", "x", [], "changed"]])).await;
    hold.release(1);
    settle(&host).await;
    for n in 0..rounds {
        let steps = json!([
            ["set", "x", [], n + 1],
            ["set", format!("cell {}", n % 2), ["deep", 0], n],
            ["send", of(b, "note"), n],
            ["send", of(b, "note"), n + 1],
            ["send", of(b, "note"), n + 2, tag("fine")],
            ["send", of(b, "run"), {"steps": [["set", "y", [], n], ["reject", "no"]]}, tag("rejected")],
            ["send", of(b, "run"), {"steps": [["set", "y", [], n], ["trap"]]}],
            ["send", of(b, "run"), {"steps": [["reject", "nobody is told"]]}],
            ["send", of(c, "note"), n, tag("denied")],
            ["send", of(c, "note"), n],
            ["send", of(b, "nowhere"), n, tag("nowhere")],
        ]);
        run(&host, a, steps).await;
    }
    run(&host, a, json!([["remove", "x", []]])).await;
    settle(&host).await;
    let letters = host.dead_letters(&b, 0, usize::MAX).unwrap();
    host.discard(&letters[0].event.to, &letters[0].event.id).await.unwrap();
    host.resend(&letters[1].event.to, &letters[1].event.id).await.unwrap();
    settle(&host).await;
    let visitor: Did = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().unwrap();
    grant(&host, visitor, BTreeMap::new(), [(b, Names::All)].into()).await.unwrap();
    for id in ["first", "second"] {
        host.request(NewEvent::new(b, "note", value(json!(id))).from(visitor).id(id)).await.unwrap();
    }
    turns_that_wait(&host, [a, b, c, d], (&hold, &wire)).await;
    wire.arrived(3).await;
    run(&host, a, json!([["send", of(d, "run"), {"steps": [wait()]}, tag("waits")]])).await;
    for _ in 0..2 {
        send(&host, d, json!([wait()])).await;
    }
    host
}

/// The story of tamperings/waited.rs and tamperings/exchanged.rs; the last of its turns waits for an event that waits for the wire.
async fn turns_that_wait(host: &Host, [a, b, c, d]: [Did; 4], (hold, wire): (&Hold, &Wire)) {
    let all = |sends: &[usize]| json!(["wait", sends, "all", 3_600_000]);
    let held = |number: usize| json!(["send", of(b, "run"), {"steps": [["set", "held", [], number], hold.step()]}]);
    let two = json!({"steps": [
        ["set", "x", [], 1],
        ["send", of(b, "note"), "one"],
        ["send", of(c, "note"), "denied", {"stream": "on-receipt", "tag": "denied"}],
        all(&[0]),
        ["set", "x", [], 2],
        ["send", of(b, "note"), "two"],
        all(&[2, 1]),
        ["set", "x", [], 3],
        ["send", of(b, "note"), "three"],
    ]});
    run(host, a, json!([["send", of(d, "run"), two, {"stream": "on-receipt", "tag": "two waits"}]])).await;
    settle(host).await;
    let later = |times: Json| json!(["send-later", of(d, "note"), "timed", times]);
    let timed = json!([later(json!({ "deliver-after": 1 })), later(json!({ "expires-at": 1 }))]);
    run(host, a, timed).await;
    run(host, d, json!([["unless-tried", 1, ["retry", 0]], ["set", "tried", [], true]])).await;
    settle(host).await;
    let (before, made) = (hold.count(), commits(host, d));
    let first = json!({"steps": [["set", "x", [], "first"], held(1), all(&[0]), ["trap"]]});
    let sends = [json!(["send", of(b, "note"), "second"]), json!(["send", of(c, "note"), "denied"])];
    let second = json!({"steps": [["set", "x", [], "second"], sends[0], sends[1], all(&[1])]});
    run(host, d, json!([["send", "run", first], ["send", "run", second]])).await;
    hold.arrived(before + 1).await;
    until("the second has ended", || commits(host, d) == made + 5).await;
    hold.release(1);
    until("the first has ended", || commits(host, d) == made + 6).await;
    let charge = json!(["commit-and-fetch", {"method": "POST", "url": WIRE}]);
    wire.release(2);
    let twice = json!({"steps": [["set", "x", [], "to be charged"], charge, charge, ["set", "x", [], "charged"]]});
    run(host, a, json!([["send", of(d, "run"), twice]])).await;
    until("it is charged", || commits(host, d) == made + 11).await;
    send(host, d, json!([held(2), all(&[0]), ["send", "run", {"steps": [wait()]}], all(&[1])])).await;
    hold.arrived(before + 2).await;
    host.pause(&d).await.unwrap();
    hold.release(1);
    host.resume(&d).await.unwrap();
}

fn archive(home: &Home) -> Archive {
    Archive::open(FolderStore::open_read_only(home.store()).unwrap()).unwrap()
}

fn keys(home: &Home) -> FileKeyring {
    FileKeyring::open(home.keys()).unwrap()
}

fn rows(home: &Home) -> Rows {
    Rows::copy(&FolderStore::open_read_only(home.store()).unwrap())
}

/// (S2-S6, S11, T5, I2, I3)
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_everything_that_can_happen_obeys_every_law() {
    let home = Home::default();
    eventful(&home, 3).await;
    let rows = rows(&home);
    let outcomes = Outcome::ALL.map(|outcome| rows.receipts.values().filter(|r| r.receipt.outcome == outcome).count());
    assert!(outcomes[..6].iter().all(|count| *count > 0), "the story is whole: {outcomes:?}");
    let archive = archive(&home);
    let proof = archive.verify_store().unwrap();
    assert_eq!(proof.spaces.len(), 6);
    for (did, space) in &proof.spaces {
        assert_eq!(archive.verify(did).unwrap(), *space, "each space proves itself alike");
    }
    assert_eq!((proof.commits(), proof.waiting, proof.dead), (rows.log.len() as u64, 5, rows.dead.len() as u64));
    assert_eq!(proof.settled, rows.receipts.len() as u64);
    assert_eq!(proof.sent, proof.settled + proof.waiting);
    assert!(proof.seals > 0 && proof.dead > 0);
    // Taken apart and put together again it is the same, without the host and on another store.
    let again = Archive::open(Forged::of(&rows).seal(&keys(&home))).unwrap();
    assert_eq!(again.verify_store().unwrap(), proof);
}

/// Keys prove who wrote; the laws prove what must not be written even with them. (I2, I3, S1-S6, S11, T5, T6, T7)
#[tokio::test(flavor = "multi_thread")]
async fn every_broken_law_is_found_and_named() {
    let home = Home::default();
    eventful(&home, 3).await;
    let cases: Vec<&Case> = [SIGNER_AND_CHAIN, ONCE, CAUSE, ORDER, RECEIPT, STATE, WAITED, TIMED, EXCHANGED]
        .into_iter()
        .flatten()
        .collect();
    let rows = rows(&home);
    assert!(ends_in_another_order(&Forged::of(&rows)), "events of one sender are begun in order, and end as they like");
    assert_eq!((rows.image.turns.len(), rows.image.turns[0].progress.segments), (1, 2), "one turn is under way");
    found_and_named(&rows, &keys(&home), &cases);
    assert!(Law::ALL.iter().all(|law| cases.iter().any(|case| case.0 == *law)), "a law without a tampering");
}

/// H1: the same where the past of charms has gone, one of them with events of its own that wait, one with dead letters.
#[tokio::test(flavor = "multi_thread")]
async fn every_broken_law_is_found_where_a_past_has_gone() {
    let home = Home::default();
    let host = lively(&home, 3).await;
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| host.did_of(name).unwrap());
    host.pause(&c).await.unwrap();
    grant(&host, a, all_of(&[b]), all_of(&[b, c])).await.unwrap();
    run(&host, a, json!([["set", "x", [], 1], ["set", "still", [], 1], ["send", of(c, "note"), "waits"]])).await;
    host.prune(&a).await.unwrap();
    run(&host, a, json!([["set", "x", [], 2]])).await;
    // A turn of this one is under way, and stays so.
    host.prune(&d).await.unwrap();
    // The letters that this one has stay: its past goes as the bound on it wants.
    host.shutdown_within(Duration::ZERO).await.unwrap();
    drop(host);
    let clock = Clock::new();
    let host = home.builder().await.env(clock.clone()).open().await.unwrap();
    let keep = Keep { history_bytes: 1_000, receipts_ms: u64::MAX >> 1 };
    host.install(probe_charm("b").keep(keep)).await.unwrap();
    let mut notes = 0;
    while host.spaces().iter().any(|space| space.did == b && space.floor == 0) {
        notes += 1;
        assert!(notes < 500, "the past of b goes");
        note(&host, b, json!(notes)).await;
        clock.pass(Duration::from_millis(HISTORY_PAUSE_MS));
    }
    run_unasked(&host, b, json!([["trap"]])).await;
    host.pause(&b).await.unwrap();
    host.shutdown_within(Duration::ZERO).await.unwrap();
    drop(host);
    drop(home.builder().await);
    let archive = archive(&home);
    let proof = archive.verify_store().unwrap();
    assert!([a, b, d].iter().all(|did| proof.spaces[did].floor > 0) && proof.dead > 1);
    let (rows, keys) = (rows(&home), keys(&home));
    let again = Archive::open(Forged::of(&rows).seal(&keys)).unwrap();
    assert_eq!(again.verify_store().unwrap(), proof);
    found_and_named(&rows, &keys, &PRUNED.iter().collect::<Vec<_>>());
}

/// Does what each case says to the store, and looks at what the proof says.
fn found_and_named(rows: &Rows, keys: &FileKeyring, cases: &[&Case]) {
    let mut wrong = Vec::new();
    for (law, name, needle, tamper) in cases {
        let mut forged = Forged::of(rows);
        let changed = match tamper {
            Tamper::Log(change) | Tamper::Own(change) => {
                change(&mut forged);
                forged.seal(keys)
            }
            Tamper::Rows(change) => {
                let mut changed = rows.clone();
                change(&mut changed);
                changed
            }
        };
        let archive = Archive::open(changed).unwrap();
        if matches!(tamper, Tamper::Log(_)) {
            // Cells are compared too: only what no space can see alone is left.
            let alone = rows.image.spaces.iter().find_map(|row| match archive.verify(&row.did) {
                Err(VerifyError::Broken { law, why, .. }) if law != Law::State => Some(why),
                _ => None,
            });
            wrong.extend(alone.map(|why| format!("{name}: already a space alone says: {why}")));
        }
        match archive.verify_store() {
            Err(error @ VerifyError::Broken { .. }) => {
                let text = error.to_string();
                let VerifyError::Broken { law: found, space, seq, .. } = error else { continue };
                let named = text.contains(needle) && text.contains(&format!("(law {law})"));
                let located = rows.image.spaces.iter().any(|row| row.did == space) && seq > 0;
                let remedy = text.contains("restore the store from a backup") && text.len() <= 1_024;
                if found != *law || !named || !located || !remedy || text.contains("forged\"") {
                    wrong.push(format!("{name}: {text}"));
                }
            }
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    eprintln!("{} tamperings", cases.len());
}

/// Receipts that came, dead letters and components that went since are no damage: the log says so. (T5, U1)
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_of_one_picture_whatever_is_committed_meanwhile() {
    let (store, wire) = (MemoryStore::new(), Wire::gated());
    let host = builder().store(store.clone()).transport(wire.clone()).open().await.unwrap();
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    run_unasked(&host, a, json!([["reject", "no"]])).await;
    let waiting = send(&host, a, json!([wait(), ["set", "x", [], 1]])).await;
    wire.arrived(1).await;
    let before = store.load(None).unwrap();
    let proof = host.verify_store().unwrap();
    assert_eq!((proof.waiting, proof.dead, proof.settled), (1, 1, 1));
    wire.release(1);
    receipt(&host, &waiting).await;
    run(&host, a, json!([["send", "note", "more"], ["send", "nowhere", "no"]])).await;
    settle(&host).await;
    host.discard(&a, &host.dead_letters(&a, 0, usize::MAX).unwrap()[0].event.id).await.unwrap();
    let after = host.verify_store().unwrap();
    assert_eq!((after.waiting, after.dead, after.settled), (0, 0, 5));
    host.install(Charm::new("a", component("counter"))).await.unwrap();
    host.shutdown().await.unwrap();
    // An older picture than what is stored, as beside a running host.
    let moved = Archive::open(Rows { image: before, ..Rows::copy(&store) }).unwrap();
    assert_eq!(moved.verify_store().unwrap(), proof);
}

/// Turns that have gone on since, or ended, are no damage either: the log says so, and only then. (S7)
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_of_turns_under_way_is_of_one_picture() {
    let (store, hold) = (MemoryStore::new(), Hold::new());
    let host = builder().store(store.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let held = json!(["send", of(b, "run"), {"steps": [hold.step()]}]);
    let all = |send: usize| json!(["wait", [send], "all", 3_600_000]);
    let made = commits(&host, a);
    send(&host, a, json!([held, all(0)])).await;
    send(&host, a, json!([held, all(0), held, all(1)])).await;
    until("both wait", || commits(&host, a) == made + 4).await;
    let before = Rows::copy(&store);
    let proof = host.verify_store().unwrap();
    hold.release(2);
    until("one has ended, one has gone on", || commits(&host, a) == made + 6).await;
    let after = Rows::copy(&store);
    assert_eq!((before.image.turns.len(), after.image.turns.len()), (2, 1));
    let moved = Archive::open(Rows { image: before.image.clone(), ..after.clone() }).unwrap();
    assert_eq!(moved.verify_store().unwrap(), proof);
    let [ended, gone_on] = [0, 1].map(|turn: usize| before.image.turns[turn].position);
    let [mut one_gone, mut one_longer] = [before.recordings.clone(), before.recordings.clone()];
    one_gone.remove(&ended);
    one_longer.insert(gone_on, after.recordings[&gone_on].clone());
    for recordings in [one_gone, one_longer] {
        let still = Archive::open(Rows { recordings, ..before.clone() }).unwrap().verify_store();
        assert!(matches!(still, Err(VerifyError::Broken { law: Law::State, .. })), "{still:?}");
    }
    hold.release(1);
    settle(&host).await;
    host.shutdown().await.unwrap();
}

/// The bytes of a component are kept as long as a turn under way began with it, and no longer. (S7, U1)
#[tokio::test(flavor = "multi_thread")]
async fn the_components_of_turns_under_way_are_what_the_log_says() {
    let (home, hold) = (Home::default(), Hold::new());
    let host = home.open().await;
    // Others have it installed: but for the turn nothing needs what "a" had.
    let a = probe(&host, "a").await;
    let b = host.install(Charm::new("b", assembled(CHARM))).await.unwrap();
    grant(&host, a, all_of(&[b]), all_of(&[b])).await.unwrap();
    host.pause(&b).await.unwrap();
    let made = commits(&host, a);
    let (one, all) = (json!(["send", of(b, "run"), 1]), |send: usize| json!(["wait", [send], "all", 3_600_000]));
    send(&host, a, json!([one, all(0), one, all(1), hold.step()])).await;
    until("it waits", || commits(&host, a) == made + 2).await;
    let any = |cells: &str| described(value(json!({"cells": {cells: {"shape": "any"}}})).as_bytes());
    host.install(Charm::new("a", any("x"))).await.unwrap();
    host.resume(&b).await.unwrap();
    hold.arrived(1).await;
    host.verify_store().unwrap();
    let before = rows(&home);
    found_and_named(&before, &keys(&home), &OUTLIVED.iter().collect::<Vec<_>>());
    hold.release(1);
    settle(&host).await;
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
    let after = rows(&home);
    assert_eq!((before.components.len(), after.components.len()), (3, 2));
    // An older picture than what is stored is no damage: the turn has ended since.
    Archive::open(Rows { image: before.image.clone(), ..after.clone() }).unwrap().verify_store().unwrap();
    let image = Image { components: before.image.components, ..after.image.clone() };
    let kept = Archive::open(Rows { image, ..after }).unwrap().verify_store();
    assert!(kept.unwrap_err().to_string().contains("kept that nothing needs"));
}

/// What the installed component derives is written by nobody and hides nothing; what it does not derive any more is a cell as others
/// are. (D1, D2, U1)
#[tokio::test(flavor = "multi_thread")]
async fn what_a_component_derives_stands_in_no_cell() {
    let (home, hold) = (Home::default(), Hold::new());
    let host = home.open().await;
    let (b, e) = (probe(&host, "b").await, probe(&host, "e").await);
    grant(&host, e, BTreeMap::new(), all_of(&[b])).await.unwrap();
    run(&host, e, json!([["set", "x", [], 2], ["set", "items:1", [], 1], ["set", "whole", [], 1]])).await;
    let late = json!([
        ["send", of(b, "run"), {"steps": [hold.step()]}],
        wait_all(&[0]),
        ["set", "x", [], 3],
        ["send", of(b, "note"), 1],
        wait_all(&[1]),
        ["set", "whole", [], 1],
    ]);
    let late = send(&host, e, late).await;
    hold.arrived(1).await;
    run(&host, e, json!([["remove", "whole", []]])).await;
    host.install(Charm::new("e", component("deriver"))).await.unwrap();
    run(&host, e, json!([["set", "of-d0", [], ["get", "x", []]], ["get", "d0", []]])).await;
    hold.release(1);
    let late = receipt(&host, &late).await;
    assert_eq!(late.outcome, Outcome::Rejected, "a turn of the component before it writes no derived cell either");
    assert!(late.message.unwrap().contains("read-only"));
    host.verify_store().unwrap();
    host.uninstall(&e).await.unwrap();
    probe(&host, "e").await;
    let free = run(&host, e, json!([["set", "d0", [], 1], ["set", "times:3", [], 1]])).await;
    assert_eq!(free.outcome, Outcome::Committed);
    let refused = host.install(Charm::new("e", component("deriver"))).await;
    assert!(matches!(refused, Err(charm_host::InstallError::DerivesValue { .. })), "{refused:?}");
    let proof = host.verify_store().unwrap();
    assert_eq!(host.verify(&e).unwrap(), proof.spaces[&e]);
    host.shutdown().await.unwrap();
    drop(host);
    found_and_named(&rows(&home), &keys(&home), &DERIVED.iter().collect::<Vec<_>>());
}

/// The host commits all the time; a proof of the same file beside it holds each time. (T5, T8)
#[tokio::test(flavor = "multi_thread")]
async fn a_store_beside_a_running_host_proves_itself() {
    let home = Home::default();
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    let mut proved = 0;
    for n in 0..times(10) {
        let steps = json!([
            ["send", of(b, "note"), n, {"stream": "on-receipt"}],
            ["send", of(b, "run"), {"steps": [["reject", "no"]]}],
        ]);
        for _ in 0..20 {
            send(&host, a, steps.clone()).await;
        }
        if let Some(letter) = host.dead_letters(&b, 0, usize::MAX).unwrap().first() {
            host.discard(&letter.event.to, &letter.event.id).await.unwrap();
        }
        let proof = archive(&home).verify_store().unwrap();
        assert!(proof.sent >= 20 * (n + 1), "what was acknowledged is in it");
        proved = proof.commits();
    }
    settle(&host).await;
    host.shutdown().await.unwrap();
    assert!(Ledger::check(&archive(&home)).all_settled() > 0 && proved > 0);
}

/// One pass over the log: the time grows with it and with nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_proved_in_one_pass() {
    let home = Home::default();
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    let sends: Vec<Json> = (0..50).map(|n| json!(["send", of(b, "on-receipt"), {"n": n}])).collect();
    while host.spaces().iter().map(|space| space.commits).sum::<u64>() < times(2_000) {
        // The cell that collects them stays small.
        run(&host, b, json!([["remove", "receipts", []]])).await;
        run(&host, a, json!(sends)).await;
        settle(&host).await;
    }
    host.shutdown().await.unwrap();
    let archive = archive(&home);
    let start = Instant::now();
    let proof = archive.verify_store().unwrap();
    let (commits, took) = (proof.commits(), start.elapsed());
    eprintln!("{commits} commits, {} seals, {} events: {took:?}", proof.seals, proof.sent);
    assert_eq!((proof.waiting, proof.sent), (0, proof.settled));
}

/// Errors name laws; people look them up.
#[test]
fn every_law_is_in_the_documentation() {
    let text = include_str!("../../../docs/laws.md");
    for law in Law::ALL {
        assert!(text.contains(&format!("| `{law}` |")), "docs/laws.md lacks {law}");
    }
}
