//! Chapter process: one store has one host, whatever its name; every wait for another process, thread or runtime ends; a
//! clean end leaves a whole file.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path as File, PathBuf},
    time::Duration,
};

use charm_conformance::{
    Clock, Home, Logs, builder, cell, component, copy_store, of, pair, probe, probe_charm, run, script, settle, value,
};
use charm_host::{
    Archive, FileKeyring, FolderStore, Host, InstallError, LAG_BYTES_MAX, Manifest, NOTICE_MS, NewEvent, Outcome,
    ReadError, SendError, StoreError, Unavailable,
};
use serde_json::json;

/// Bound of a wait that should end at once.
const SOON: Duration = Duration::from_secs(30);

async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, wait).await.expect("the wait ends")
}

/// Returns the files of a folder.
fn files(folder: &File) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Names of one folder: each leads to the same store.
#[tokio::test]
async fn a_store_has_one_host_whatever_it_is_called() {
    let home = Home::default();
    let (folder, real) = (home.path(), home.store());
    let names = |folder: &File| -> Vec<PathBuf> {
        vec![
            folder.join("link"),
            folder.join("link-of-link"),
            folder.join("relative-link"),
            folder.join("linked/store"),
            folder.join("./store"),
            folder.join("store/"),
            folder.join("keys/../store"),
        ]
    };
    // Also before there is a folder.
    symlink(&real, folder.join("link")).unwrap();
    symlink("link", folder.join("link-of-link")).unwrap();
    symlink("./store", folder.join("relative-link")).unwrap();
    symlink(folder, folder.join("linked")).unwrap();
    fs::create_dir(folder.join("keys")).unwrap();
    fs::set_permissions(folder.join("keys"), fs::Permissions::from_mode(0o700)).unwrap();
    let before = files(folder);
    let located = fs::canonicalize(folder).unwrap().join("store");
    for first in names(folder) {
        assert_eq!(FolderStore::locate(&first).unwrap(), located, "{first:?}");
        let store = FolderStore::open(&first).unwrap();
        for second in names(folder).into_iter().chain([real.clone()]) {
            let refused = FolderStore::open(&second).err();
            assert!(matches!(refused, Some(StoreError::InUse { .. })), "{first:?} {second:?}: {refused:?}");
            FolderStore::open_read_only(&second).unwrap();
        }
        drop(store);
        assert_eq!(FolderStore::locate(&first).unwrap(), located, "{first:?}");
        let mut expected = [before.clone(), vec!["store".to_owned()]].concat();
        expected.sort();
        assert_eq!(files(folder), expected, "everything stands in the folder, nothing beside {first:?}");
        assert_eq!(files(&real), ["index.db", "journal", "lock"], "{first:?}");
    }
    home.open().await.shutdown().await.unwrap();
}

/// A name is a path and nothing else, and what is missing of it is made for its owner.
#[test]
fn a_name_that_looks_like_something_else_is_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["file:charm", "file:charm?mode=memory", ":memory:", "deep/er/charm", "a b%20?c#d", "~"] {
        let path = folder.path().join(name);
        for _ in 0..2 {
            let store = FolderStore::open(&path).unwrap();
            assert!(matches!(FolderStore::open(&path), Err(StoreError::InUse { .. })), "{name}");
            drop(store);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700, "{name}");
        }
        FolderStore::open_read_only(&path).unwrap();
    }
    assert_eq!(fs::metadata(folder.path().join("deep")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(folder.path().join("deep/er")).unwrap().permissions().mode() & 0o777, 0o700);
}

/// T5, I3: after a clean end the index has everything and is one file, and the folder stays as it is when it is read.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_clean_end_the_index_is_whole_and_reading_leaves_nothing_behind() {
    let home = Home::default();
    let mut count = 0;
    for round in 1..=3 {
        let host = home.open().await;
        let a = probe(&host, "a").await;
        for _ in 0..5 {
            count += 1;
            run(&host, a, json!([["set", "x", [], count]])).await;
        }
        assert!(files(&home.store()).contains(&"index.db-wal".to_owned()), "the index has a log while it is written");
        let commits = host.verify(&a).unwrap().commits;
        host.shutdown().await.unwrap();
        let copy = home.path().join(format!("copy-{round}"));
        copy_store(&home.store(), &copy);
        for store in [home.store(), copy] {
            let before = files(&store);
            let archive = Archive::open(FolderStore::open_read_only(&store).unwrap()).unwrap();
            assert_eq!(archive.verify(&a).unwrap().commits, commits, "{store:?}");
            archive.verify_store().unwrap();
            assert_eq!(files(&store), before);
            assert_eq!(before, ["index.db", "journal", "lock", "running"]);
        }
        let index = rusqlite::Connection::open(home.index()).unwrap();
        let indexed = index.query_row("SELECT seq FROM space WHERE name = 'a'", [], |row| row.get::<_, i64>(0));
        assert_eq!(indexed, Ok(commits as i64), "the index is not behind");
    }
    // One that was opened and refused, or dropped, leaves none either.
    drop(home.open().await);
    for _ in 0..1_000 {
        if !home.store().join("index.db-wal").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!files(&home.store()).iter().any(|name| name.contains(".db-")), "{:?}", files(&home.store()));
}

/// T8: a program that holds a lock on the index stops no commit. When too much waits for the index, commits wait as well,
/// as for a full disk: after STORE_LOCKED_MS who waits is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_another_program_on_the_index_stops_commits_only_when_it_is_far_behind() {
    let logs = Logs::capture();
    let home = Home::default();
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    run(&host, a, json!([["set", "x", [], 1]])).await;
    let other = rusqlite::Connection::open(home.index()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let large = "x".repeat(200_000);
    let (mut handled, mut told) = (0, None);
    while told.is_none() {
        let event = NewEvent::new(a, "run", script(json!([["set", "y", [], large]]))).id(format!("large {handled}"));
        match soon(host.request(event)).await {
            Ok(receipt) => assert_eq!(receipt.outcome, Outcome::Committed),
            Err(error) => told = Some(error),
        }
        handled += 1;
        assert!(handled < 1_000, "what is held in memory has a bound");
    }
    assert_eq!(told, Some(SendError::Unavailable(Unavailable::StoreLocked)));
    assert!(told.unwrap().to_string().contains("end that one"));
    let lag = host.counters();
    assert!(lag.lag_bytes >= LAG_BYTES_MAX as u64 && lag.lag_bytes < 2 * LAG_BYTES_MAX as u64, "{lag:?}");
    assert!(
        !logs
            .lines(&format!("the index waits, commits go on until it is far behind: store {}", home.index().display()))
            .is_empty(),
        "the operator is told long before"
    );
    // What was acknowledged is there for whoever reads meanwhile.
    let archive = Archive::open(FolderStore::open_read_only(home.store()).unwrap()).unwrap();
    assert!(archive.verify(&a).unwrap().commits >= handled);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    let event = || NewEvent::new(a, "run", script(json!([["set", "x", [], 2], ["send", of(b, "note"), 1]]))).id("one");
    let receipt = loop {
        match soon(host.request(event())).await {
            Err(SendError::Unavailable(Unavailable::StoreLocked)) => {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
            receipt => break receipt.unwrap(),
        }
    };
    assert_eq!(receipt.outcome, Outcome::Committed);
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!([1]));
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();
}

/// Whoever waits for a host whose runtime has ended is told so, whatever the host did at that moment.
#[test]
fn a_host_whose_runtime_has_ended_says_so_to_everybody() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for busy in [false, true] {
        let home = Home::default();
        let (first, second) = (runtime(), runtime());
        let (host, a) = first.block_on(async {
            let host = home.open().await;
            let a = probe(&host, "a").await;
            run(&host, a, json!([["set", "x", [], 1]])).await;
            (host, a)
        });
        let spin = if busy { json!([["spin"]]) } else { json!([]) };
        let event = NewEvent::new(a, "run", script(spin));
        let waits = second.spawn({
            let (host, event) = (host.clone(), event.clone());
            async move { host.request(event).await }
        });
        let settles = second.spawn({
            let host = host.clone();
            async move { host.settled().await }
        });
        if !busy {
            second.block_on(waits).unwrap().unwrap();
        }
        first.shutdown_background();
        let ended = Unavailable::RuntimeEnded;
        second.block_on(async {
            assert_eq!(soon(host.stopped()).await, ended);
            let _ = soon(settles).await.unwrap();
            assert_eq!(soon(host.settled()).await, Err(ended.clone()));
            assert_eq!(soon(host.send(event.clone())).await, Err(SendError::Unavailable(ended.clone())));
            assert_eq!(soon(host.send(event.clone().id("1"))).await, Err(SendError::Unavailable(ended.clone())));
            assert_eq!(soon(host.request(event.clone())).await, Err(SendError::Unavailable(ended.clone())));
            assert_eq!(soon(host.pause(&a)).await, Err(SendError::Unavailable(ended.clone())));
            let read = soon(host.receipt(&charm_host::EventId([0; 16]))).await;
            assert!(matches!(read, Ok(None) | Err(ReadError::Unavailable(_))), "{read:?}");
            let installed = soon(host.install(probe_charm("b"))).await;
            assert!(installed.is_err(), "{installed:?}");
            let end = soon(host.shutdown()).await;
            assert!(end.is_ok() || end == Err(ended), "{end:?}");
            // What was acknowledged is there.
            let host = soon(home.open()).await;
            let a = soon(probe(&host, "a")).await;
            assert_eq!(cell(&host, a, "x").await, json!(1));
            soon(host.shutdown()).await.unwrap();
        });
    }
}

/// I1: a key that is lost holds up its own charm.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_holds_up_its_own_charm_only() {
    let home = Home::default();
    let manifest = home.path().join("charms.toml");
    fs::write(home.path().join("probe.wasm"), component("probe")).unwrap();
    let charm = |name: &str, more: &str| format!("[charm.{name}]\ncomponent = \"probe.wasm\"\n{more}\n");
    let grant = "grant = [{ charm = \"lost\", send = [\"note\"] }, { charm = \"b\", send = [\"note\"] }]";
    fs::write(&manifest, charm("a", grant) + &charm("b", "") + &charm("lost", "")).unwrap();
    let installed = async |host: &Host| Manifest::load(&manifest).unwrap().install(host).await.unwrap();
    let host = home.open().await;
    let dids = installed(&host).await;
    let (a, lost) = (dids["a"], dids["lost"]);
    host.pause(&lost).await.unwrap();
    run(&host, a, json!([["send", of(lost, "note"), 1]])).await;
    let waits = host.waiting(&lost, 0, 1).await.unwrap().remove(0).event.id;
    host.shutdown().await.unwrap();

    let file = home.keys().join(format!("{}.key", lost.to_string().trim_start_matches("did:key:")));
    let key = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let host = home.open().await;
    host.resume(&lost).await.unwrap();
    let dids = installed(&host).await;
    assert_eq!(dids.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(
        run(&host, a, json!([["set", "x", [], 1], ["send", of(dids["b"], "note"), 1]])).await.outcome,
        Outcome::Committed
    );
    assert_eq!(run(&host, a, json!([["send", of(lost, "note"), 2]])).await.outcome, Outcome::Committed);
    let refused = host.install(probe_charm("lost")).await.unwrap_err();
    assert!(matches!(&refused, InstallError::Key { charm, .. } if charm == "lost"), "{refused}");
    let refused = host.send(NewEvent::new(lost, "note", value(json!(1)))).await.unwrap_err();
    assert!(matches!(&refused, SendError::Key { to, .. } if *to == lost), "{refused}");
    assert!(refused.to_string().contains("restore its key file"), "{refused}");
    let refused = host.cancel(&lost, &waits).await.unwrap_err();
    assert!(matches!(&refused, SendError::Key { to, .. } if *to == lost), "{refused}");
    assert_eq!(run(&host, a, json!([["set", "x", [], 2]])).await.outcome, Outcome::Committed, "the host goes on");
    host.verify_store().unwrap();
    host.shutdown().await.unwrap();

    fs::write(&file, key).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    FileKeyring::open(home.keys()).unwrap();
    let host = home.open().await;
    installed(&host).await;
    settle(&host).await;
    assert_eq!(cell(&host, lost, "notes").await, json!([1, 2]), "its events have waited");
    host.shutdown().await.unwrap();
}

/// S11: at its default level the log tells of dead letters, each kind once in NOTICE_MS, and how many more there were.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_must_know_is_told_once_a_kind_and_minute() {
    let (logs, clock) = (Logs::capture(), Clock::new());
    let host = builder().env(clock.clone()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let told = || -> Vec<String> {
        let both = [logs.lines(&a.to_string()), logs.lines(&b.to_string())].concat();
        both.into_iter().filter(|line| line.contains(" WARN ") && line.contains("a dead letter")).collect()
    };
    let fail = async |charm, step: serde_json::Value| {
        let id = host.send(NewEvent::new(charm, "run", script(json!([step])))).await.unwrap();
        host.receipt(&id).await.unwrap().unwrap();
        id
    };
    let first = fail(a, json!(["trap"])).await;
    for n in 0..20 {
        fail(if n % 2 == 0 { a } else { b }, json!(["trap"])).await;
    }
    let lines = told();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for part in
        [&format!("charm a: event {first} for run faulted"), &a.to_string(), "charm events a --dead", "--resend"]
    {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    fail(b, json!(["reject", "no"])).await;
    fail(b, json!(["reject", "no"])).await;
    assert_eq!(told().len(), 2, "another kind");
    // Who sends with a receipt of its own knows it.
    run(&host, a, json!([["send", of(b, "run"), {"steps": [["reject", "no"]]}, {"stream": "on-receipt"}]])).await;
    clock.pass(Duration::from_millis(NOTICE_MS / 2));
    fail(b, json!(["trap"])).await;
    assert_eq!(told().len(), 2);
    clock.pass(Duration::from_millis(NOTICE_MS));
    fail(b, json!(["trap"])).await;
    let lines = told();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("charm b: ") && line.contains("(21 more like it")), "{lines:#?}");
    host.shutdown().await.unwrap();
}
