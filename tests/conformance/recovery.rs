//! Chapter recovery: a store opened again has what was there, goes on where it stopped, and says what is wrong with it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use charm_conformance::{
    Hold, Home, Ledger, WIRE, Wire, all_of, builder, cell, contents, copy_store, grant, note, of, only, pair, probe,
    probe_charm, results, run, send, settle, value,
};
use charm_host::{
    Archive, Batch, Did, EventId, FolderStore, Host, InstallError, Manifest, MemoryStore, NewEvent, Outcome, Path,
    ReadError, SendError, Status, Store, StoreError,
};
use serde_json::{Value as Json, json};

fn wait() -> Json {
    json!(["fetch", {"url": WIRE}])
}

fn archive(home: &Home) -> Archive {
    Archive::open(FolderStore::open_read_only(home.store()).unwrap()).unwrap()
}

async fn wired(home: &Home, wire: &Wire) -> Host {
    home.builder().await.transport(wire.clone()).open().await.unwrap()
}

/// Writes, removals, failures, refused sends, receipts, a dead letter dropped and one sent again.
async fn mixed(host: &Host, a: Did, b: Did) {
    for n in 0..20 {
        let tagged = json!({"stream": "on-receipt", "tag": n});
        let steps = json!([
            ["set", "x", [], n],
            ["set", format!("cell {}", n % 3), ["deep", 0, "er"], n],
            ["send", of(b, "note"), n, tagged],
            ["send", of(b, "nowhere"), n, tagged],
            ["send", of(b, "run"), {"steps": [["set", "y", [], n], ["trap"]]}, tagged],
            ["send", of(b, "run"), {"steps": [["reject", "no"]]}, tagged],
        ]);
        run(host, a, steps).await;
    }
    run(host, a, json!([["remove", "x", []], ["remove", "cell 1", ["deep"]]])).await;
    settle(host).await;
    let letters = host.dead_letters(&b, 0, usize::MAX).unwrap();
    host.discard(&letters[3].event.to, &letters[3].event.id).await.unwrap();
    host.resend(&letters[5].event.to, &letters[5].event.id).await.unwrap();
    settle(host).await;
}

/// (T5, S4, S11, I1)
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_shut_down_opens_again_with_everything() {
    let home = Home::default();
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    mixed(&host, a, b).await;
    let letters = host.dead_letters(&b, 0, usize::MAX).unwrap();
    let state = async |host: &Host| (host.operator(), host.spaces(), host.cells(&a).await, host.cells(&b).await);
    let before = state(&host).await;
    let notes = cell(&host, b, "notes").await;
    host.shutdown().await.unwrap();

    let host = home.open().await;
    assert_eq!(state(&host).await, before, "before any charm is installed");
    assert_eq!(host.did_of("a"), Some(a));
    assert_eq!(pair(&host).await, (a, b), "the same names keep their DIDs");
    assert_eq!(cell(&host, b, "notes").await, notes);
    assert_eq!(host.dead_letters(&b, 0, usize::MAX).unwrap(), letters);
    for letter in &letters {
        assert_eq!(host.receipt(&letter.event.id).await.unwrap().as_ref(), Some(&letter.receipt));
    }
    mixed(&host, a, b).await;
    host.shutdown().await.unwrap();
    Ledger::check(&archive(&home)).all_settled();
}

/// (T5, I2, I3)
#[tokio::test(flavor = "multi_thread")]
async fn cells_queue_receipts_and_dead_letters_are_what_the_log_makes() {
    let (home, wire) = (Home::default(), Wire::gated());
    let host = wired(&home, &wire).await;
    let (a, b) = pair(&host).await;
    mixed(&host, a, b).await;
    let c = host.install(probe_charm("c").may_call(Wire::grant())).await.unwrap();
    for _ in 0..3 {
        send(&host, c, json!([wait()])).await;
    }
    let ledger = Ledger::check(&archive(&home));
    assert_eq!(ledger.waiting.len(), 3);
    assert_eq!(ledger.sent.len(), ledger.settled.len() + 3);
}

/// What was acknowledged is there, what waited goes on in its order, and a turn that ran starts anew. (S2, S3, T8)
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_dropped_goes_on_where_it_stopped() {
    let (home, wire) = (Home::default(), Wire::gated());
    let host = wired(&home, &wire).await;
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    note(&host, a, json!("before")).await;
    let running = send(&host, a, json!([wait(), ["send", "note", "from the turn"]])).await;
    wire.arrived(1).await;
    let mut waiting = Vec::new();
    for n in 0..5 {
        waiting.push(host.send(NewEvent::new(a, "note", value(json!(n)))).await.unwrap());
    }
    drop(host);

    let host = wired(&home, &wire).await;
    let ids: Vec<EventId> = charm_conformance::waiting(&host, a).await.iter().map(|event| event.id).collect();
    assert_eq!(ids, [&[running], &waiting[..]].concat());
    for id in &ids {
        assert!(matches!(host.status(id).unwrap(), Status::Waiting { .. }));
    }
    // The turn of the dropped host gets its answer now: what it does is lost, not doubled.
    wire.release(2);
    host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    for id in &ids {
        assert_eq!(host.receipt(id).await.unwrap().unwrap().outcome, Outcome::Committed);
    }
    settle(&host).await;
    assert_eq!(cell(&host, a, "notes").await, json!(["before", 0, "from the turn", 1, 2, 3, 4]), "in turn");
    host.shutdown().await.unwrap();
    Ledger::check(&archive(&home)).all_settled();
}

/// Also a turn that waits for HTTP: it starts anew. (T5, A4)
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_the_turn_that_runs_and_keeps_what_waits() {
    let (home, wire, hold) = (Home::default(), Wire::gated(), Hold::new());
    let host = wired(&home, &wire).await;
    let a = probe(&host, "a").await;
    let b = host.install(probe_charm("b").may_call(Wire::grant())).await.unwrap();
    let asks = send(&host, b, json!([wait()])).await;
    wire.arrived(1).await;
    let running = send(&host, a, json!([hold.step(), ["set", "x", [], 1]])).await;
    let next = send(&host, a, json!([["set", "y", [], 1]])).await;
    hold.arrived(1).await;
    let mut shutdown = Box::pin(host.shutdown());
    tokio::select! {
        biased;
        ended = &mut shutdown => panic!("the turn still runs: {ended:?}"),
        () = tokio::task::yield_now() => {}
    }
    hold.release(1);
    shutdown.await.unwrap();
    let archive = archive(&home);
    assert!(matches!(archive.status(&running).unwrap(), Status::Settled(_)));
    for waits in [next, asks] {
        assert!(matches!(archive.status(&waits).unwrap(), Status::Waiting { .. }));
    }
    assert!(archive.get(&a, "x", &Path::root(), None).unwrap().is_some());
}

/// (S4)
#[tokio::test(flavor = "multi_thread")]
async fn events_for_a_charm_that_is_not_installed_yet_wait_for_it() {
    let (home, wire) = (Home::default(), Wire::gated());
    let host = wired(&home, &wire).await;
    let [a, b] = [probe(&host, "a").await, host.install(probe_charm("b").may_call(Wire::grant())).await.unwrap()];
    let first = send(&host, b, json!([wait()])).await;
    let second = host.send(NewEvent::new(b, "note", value(json!("second")))).await.unwrap();
    wire.arrived(1).await;
    drop(host);

    let host = wired(&home, &Wire::open()).await;
    host.install(probe_charm("a").may_send(b, only(&["note", "nowhere"]))).await.unwrap();
    let receipt = |tag: &str| json!({"stream": "on-receipt", "tag": tag});
    let steps = json!([
        ["send", of(b, "note"), "third", receipt("third")],
        ["send", of(b, "nowhere"), "never", receipt("never")],
        ["send", of(b, "shaped"), {"n": 1}, receipt("denied")],
    ]);
    let sent = results(&host, a, steps).await;
    let sent: Vec<EventId> = sent.as_array().unwrap().iter().map(|id| id.as_str().unwrap().parse().unwrap()).collect();
    for id in [first, second, sent[0], sent[1]] {
        assert!(matches!(host.status(&id).unwrap(), Status::Waiting { .. }));
    }
    assert_eq!(host.receipt(&sent[2]).await.unwrap().unwrap().outcome, Outcome::Denied);
    let outside = host.send(NewEvent::new(b, "note", value(json!(1)))).await;
    assert_eq!(outside, Err(SendError::NoSuchCharm { to: b }));

    host.install(probe_charm("b").may_call(Wire::grant())).await.unwrap();
    assert_eq!(host.receipt(&sent[0]).await.unwrap().unwrap().outcome, Outcome::Committed);
    assert_eq!(host.receipt(&sent[1]).await.unwrap().unwrap().outcome, Outcome::NoSuchStream);
    settle(&host).await;
    assert_eq!(
        cell(&host, b, "notes").await,
        json!(["third", "second"]),
        "the senders in turn: the operator was first"
    );
    assert_eq!(cell(&host, a, "receipts").await.as_array().unwrap().len(), 3);
    host.shutdown().await.unwrap();
    Ledger::check(&archive(&home)).all_settled();
}

/// Charms that need each other start together: no turn runs before all of them and their grants are there. (S1, D7)
#[tokio::test(flavor = "multi_thread")]
async fn events_that_waited_find_all_charms_and_grants_of_the_manifest() {
    let (home, wire) = (Home::default(), Wire::gated());
    std::fs::write(home.path().join("probe.wasm"), charm_conformance::component("probe")).unwrap();
    let mut text = String::from("store = \"store\"\n");
    let names = ["a", "b", "c", "d"];
    for (index, name) in names.iter().enumerate() {
        let next = names[(index + 1) % names.len()];
        text += &format!(
            "[charm.{name}]\ncomponent = \"probe.wasm\"\ngrant = [{{ charm = \"{next}\", send = [\"note\"] }}]\n\
             http = [{{ origin = \"{WIRE}\", methods = [\"GET\"] }}]\n"
        );
    }
    std::fs::write(home.path().join("charms.toml"), text).unwrap();
    let manifest = Manifest::load(&home.path().join("charms.toml")).unwrap();
    let host = wired(&home, &wire).await;
    let dids = manifest.install(&host).await.unwrap();
    let mut sends = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let next = dids[names[(index + 1) % names.len()]];
        send(&host, dids[*name], json!([wait()])).await;
        let event = json!({"steps": [["send", of(next, "note"), name]], "out": "out"});
        sends.push((dids[*name], host.send(NewEvent::new(dids[*name], "run", value(event))).await.unwrap()));
    }
    wire.arrived(names.len()).await;
    drop(host);

    let host = wired(&home, &Wire::open()).await;
    assert_eq!(manifest.install(&host).await.unwrap(), dids);
    for (charm, event) in sends {
        assert_eq!(host.receipt(&event).await.unwrap().unwrap().outcome, Outcome::Committed);
        let sent: EventId = cell(&host, charm, "out").await[0].as_str().unwrap().parse().unwrap();
        assert_eq!(host.receipt(&sent).await.unwrap().unwrap().outcome, Outcome::Committed);
    }
    host.shutdown().await.unwrap();
}

/// (I1)
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_keeps_its_did_even_when_nothing_was_ever_committed() {
    let home = Home::default();
    let host = home.open().await;
    let (operator, a) = (host.operator(), probe(&host, "a").await);
    drop(host);
    let host = home.open().await;
    assert_eq!((host.operator(), probe(&host, "a").await), (operator, a));
    host.shutdown().await.unwrap();
}

/// (I1)
#[tokio::test(flavor = "multi_thread")]
async fn one_name_gets_one_did_and_one_did_has_one_name() {
    let home = Home::default();
    let host = home.open().await;
    let (one, two) = tokio::join!(host.install(probe_charm("a")), host.install(probe_charm("a")));
    let a = one.unwrap();
    assert_eq!(two.unwrap(), a);
    for did in [a, host.operator()] {
        let refused = host.install(probe_charm("other").pinned(did)).await.unwrap_err();
        assert!(matches!(refused, InstallError::OtherName { .. }), "{refused}");
    }
    let refused = host.install(probe_charm("a").pinned(host.operator())).await.unwrap_err();
    assert!(matches!(refused, InstallError::OtherDid { .. }), "{refused}");
    host.shutdown().await.unwrap();
}

/// (T8)
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_open_in_one_host_and_free_when_that_is_shut_down() {
    let home = Home::default();
    for _ in 0..10 {
        let host = home.open().await;
        let Err(StoreError::InUse { path }) = FolderStore::open(home.store()) else { panic!("opened twice") };
        assert_eq!(path, home.store().display().to_string());
        let a = probe(&host, "a").await;
        host.send(NewEvent::new(a, "note", value(json!(1)))).await.unwrap();
        host.shutdown().await.unwrap();
        FolderStore::open(home.store()).unwrap();
    }
}

/// (I3)
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_a_picture_of_one_moment_beside_a_running_host() {
    let home = Home::default();
    let host = Arc::new(home.open().await);
    let (a, b) = pair(&host).await;
    let end = Arc::new(AtomicBool::new(false));
    // A few at each moment: a host commits faster than all of it is proved again.
    let more = Arc::new(tokio::sync::Semaphore::new(0));
    let writer = tokio::spawn({
        let (host, end, more) = (host.clone(), end.clone(), more.clone());
        async move {
            let mut last = 0;
            while !end.load(Ordering::Relaxed) {
                more.acquire().await.unwrap().forget();
                last += 1;
                let steps =
                    json!([["set", "x", [], last], ["set", "y", [], last], ["send", of(b, "shaped"), {"n": 1}]]);
                assert_eq!(run(&host, a, steps).await.outcome, Outcome::Committed);
            }
        }
    });
    let mut moments = std::collections::BTreeSet::new();
    while moments.len() < 20 {
        more.add_permits(5);
        let archive = archive(&home);
        let get = |name| archive.get(&a, name, &Path::root(), None).unwrap();
        assert_eq!(get("x"), get("y"), "both were written by one commit");
        let commits = archive.spaces().iter().find(|space| space.did == a).unwrap().commits;
        assert!(archive.verify(&a).unwrap().commits >= commits);
        // The disk has a commit a moment before the host says so.
        while host.verify(&a).unwrap().commits < commits {
            tokio::task::yield_now().await;
        }
        host.verify(&b).unwrap();
        moments.insert(commits);
    }
    end.store(true, Ordering::Relaxed);
    more.add_permits(1);
    writer.await.unwrap();
}

/// (T8)
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_opened_for_reading_does_not_write() {
    let home = Home::default();
    home.open().await.shutdown().await.unwrap();
    let store = FolderStore::open_read_only(home.store()).unwrap();
    assert!(matches!(store.commit(&Batch::default()), Err(StoreError::Failed(_))));
    let missing = FolderStore::open_read_only(home.path().join("missing")).err().unwrap();
    assert!(missing.to_string().contains("missing"), "{missing}");
    assert!(!home.path().join("missing").exists());
}

#[track_caller]
fn damaged(result: Result<impl Sized, StoreError>, file: &std::path::Path) -> String {
    let Err(StoreError::Damaged { path, why }) = result.map(drop) else { panic!("a damaged store was opened") };
    assert_eq!(path, file.display().to_string());
    why
}

/// (C2)
#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "dear diary, ".repeat(1_000)).unwrap();
    let old = folder.path().join("charm.db");
    rusqlite::Connection::open(&old).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(other.join("notes.txt"), "dear diary").unwrap();
    let index = folder.path().join("index");
    std::fs::create_dir(&index).unwrap();
    std::fs::set_permissions(&index, std::fs::Permissions::from_mode(0o700)).unwrap();
    rusqlite::Connection::open(index.join("index.db")).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
    let half = folder.path().join("half.part");
    std::fs::create_dir(&half).unwrap();
    std::fs::set_permissions(&half, std::fs::Permissions::from_mode(0o700)).unwrap();
    let before = contents(folder.path());
    for (path, named, part) in [
        (&text, &text, "not a charm store"),
        (&old, &old, "format 3"),
        (&other, &other, "it holds notes.txt"),
        (&index, &index.join("index.db"), "not a charm store"),
        (&half, &half, "a backup that did not come to its end"),
    ] {
        for why in [damaged(FolderStore::open(path), named), damaged(FolderStore::open_read_only(path), named)] {
            assert!(why.contains(part), "{why}");
        }
    }
    let nowhere = text.join("store");
    assert!(matches!(FolderStore::open(nowhere), Err(StoreError::Failed(_))), "a folder that cannot be made");
    assert!(contents(folder.path()) == before, "everything is as it was, and nothing was left beside it");
}

/// (C2)
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_version_is_refused_and_says_which() {
    let home = Home::default();
    home.open().await.shutdown().await.unwrap();
    let other = rusqlite::Connection::open(home.index()).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    drop(other);
    let before = contents(home.path());
    for why in [
        damaged(FolderStore::open(home.store()), &home.index()),
        damaged(FolderStore::open_read_only(home.store()), &home.index()),
    ] {
        assert!(why.contains("version 99") && why.contains("reads version 8"), "{why}");
        assert!(contents(home.path()) == before, "the store is as it was, and nothing was left beside it");
    }
}

/// What is in the cells is its owner's: a store that others can look into is refused like a key that they can read.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::default();
    home.open().await.shutdown().await.unwrap();
    for mode in [0o740, 0o704, 0o720, 0o701, 0o755] {
        std::fs::set_permissions(home.store(), std::fs::Permissions::from_mode(mode)).unwrap();
        let error = FolderStore::open(home.store()).err().unwrap();
        assert!(matches!(error, StoreError::Readable { mode: found, .. } if found == mode), "{error:?}");
        assert!(error.to_string().contains("chmod 700"), "{error}");
        // A copy that others hand over can be read.
        FolderStore::open_read_only(home.store()).unwrap();
    }
    std::fs::set_permissions(home.store(), std::fs::Permissions::from_mode(0o700)).unwrap();
    home.open().await.shutdown().await.unwrap();
    for (path, _) in contents(&home.store()) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

/// Reading a fresh store writes nothing into it: no secret that anybody could guess.
#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_store_that_is_read_first_gets_its_secret_from_a_host() {
    let memory = MemoryStore::new();
    Archive::open(memory.clone()).unwrap();
    assert_eq!(memory.load(None).unwrap().secret, [0; 32]);
    builder().store(memory.clone()).open().await.unwrap().shutdown().await.unwrap();
    assert_ne!(memory.load(None).unwrap().secret, [0; 32]);
    let home = Home::default();
    Archive::open(FolderStore::open(home.store()).unwrap()).unwrap();
    home.open().await.shutdown().await.unwrap();
    assert_ne!(FolderStore::open_read_only(home.store()).unwrap().load(None).unwrap().secret, [0; 32]);
}

/// (C2)
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_cut_short_is_damaged() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    for n in 0..20 {
        run(&host, a, json!([["set", format!("cell {n}"), [], "x".repeat(10_000)]])).await;
    }
    host.shutdown().await.unwrap();
    let whole = std::fs::read(home.index()).unwrap();
    for part in [whole.len() / 2, whole.len() - 4_096, 5_000, 100] {
        let copy = home.path().join(format!("cut {part}"));
        copy_store(&home.store(), &copy);
        std::fs::write(copy.join("index.db"), &whole[..part]).unwrap();
        let opened = FolderStore::open(&copy).and_then(|store| store.load(Some([0; 32])).map(drop));
        damaged(opened, &copy.join("index.db"));
    }
}

/// (C2, I3)
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_host_did_not_write_is_damage_and_not_a_panic() {
    let (home, wire) = (Home::default(), Wire::gated());
    let host = wired(&home, &wire).await;
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    let failed = charm_conformance::run_unasked(&host, a, json!([["reject", "no"]])).await;
    run(&host, a, json!([["set", "x", [], 1]])).await;
    send(&host, a, json!([wait()])).await;
    drop(host);
    let wreck = async |sql: &str| {
        drop(home.builder().await);
        let copy = home.path().join("copy");
        copy_store(&home.store(), &copy);
        let connection = rusqlite::Connection::open(copy.join("index.db")).unwrap();
        assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
        drop(connection);
        let archive = FolderStore::open_read_only(&copy).and_then(Archive::open);
        let looked = archive.and_then(|archive| {
            archive.dead_letters(&a, 0, usize::MAX)?;
            // Cells are read when they are asked for.
            if let Err(ReadError::Store(error)) = archive.get(&a, "x", &Path::root(), None) {
                return Err(error);
            }
            archive.status(&failed.id).map(drop)
        });
        damaged(looked, &copy.join("index.db"));
        std::fs::remove_dir_all(&copy).unwrap();
    };
    wreck("UPDATE queue SET event = x'00'").await;
    wreck("UPDATE queue SET event = x''").await;
    wreck("UPDATE cell SET value = x'1800' WHERE name = 'x'").await;
    wreck("UPDATE cell SET value = x'' WHERE name = 'x'").await;
    wreck("UPDATE space SET head = x'00' WHERE name = 'a'").await;
    wreck("UPDATE space SET did = x'00' WHERE name = 'a'").await;
    wreck("UPDATE receipt SET outcome = 'fine'").await;
    wreck("UPDATE dead SET letter = x'ffff'").await;
    wreck("UPDATE meta SET value = x'01' WHERE name = 'secret'").await;
    wreck("UPDATE meta SET value = x'01' WHERE name = 'position'").await;
}

/// A script that another host would run for ever is no reason to wait: installing is enough. (S4)
#[tokio::test(flavor = "multi_thread")]
async fn events_that_waited_run_as_soon_as_their_charm_is_installed() {
    let (home, wire) = (Home::default(), Wire::gated());
    let host = wired(&home, &wire).await;
    let a = host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    grant(&host, a, all_of(&[a]), all_of(&[a])).await.unwrap();
    run(&host, a, json!([["set", "y", [], "before"]])).await;
    let steps = json!({ "steps": [wait(), ["get", "y", []]], "out": "out" });
    let event = NewEvent::new(a, "run", value(steps)).id("once");
    let first = host.send(event.clone()).await.unwrap();
    wire.arrived(1).await;
    drop(host);
    let host = wired(&home, &Wire::open()).await;
    host.install(probe_charm("a").may_call(Wire::grant())).await.unwrap();
    let receipt = host.request(event).await.unwrap();
    assert_eq!((receipt.id, receipt.outcome), (first, Outcome::Committed));
    // Nothing was committed between: the turn sees what the store had.
    assert_eq!(cell(&host, a, "out").await[1], json!("before"));
    host.shutdown().await.unwrap();
}
