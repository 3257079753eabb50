//! Stores: what a later host has written is refused by name, and nothing of it is changed.

use std::{fs, path::Path};

use charm_conformance::*;
use charm_host::{Archive, FileJournal, FolderDisk, Journal, JournalOptions, Record, RecordError};
use rusqlite::Connection;
use serde_json::json;

/// Leaves a store with a charm that has done something; returns the charm.
async fn store(home: &Home) -> charm_host::Did {
    let host = home.open().await;
    let charm = probe(&host, "a").await;
    run(&host, charm, json!([["set", "x", [], 1]])).await;
    host.shutdown().await.unwrap();
    charm
}

/// All files of a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((name, fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

/// Opens a store in each way; each says the same.
fn refused(home: &Home) -> String {
    let before = files(&home.store().join("journal"));
    let why = charm_host::FolderStore::open(home.store()).map(drop).unwrap_err().to_string();
    assert_eq!(charm_host::FolderStore::open_read_only(home.store()).map(drop).unwrap_err().to_string(), why);
    assert!(files(&home.store().join("journal")) == before, "nothing was changed");
    assert!(why.ends_with("use the host that wrote it, or a later one"), "{why}");
    why
}

/// A body that came later, and a record of a later version: each has its number in what is said.
#[tokio::test]
async fn a_record_of_a_later_host_is_refused_by_name() {
    let home = Home::default();
    let charm = store(&home).await;
    let whole = Archive::open(home.read_only()).unwrap().commits(Some(&charm), 0, 100).unwrap().pop().unwrap();
    let mut paused = Record { body: charm_host::Body::Paused(true), ..whole.record }.to_bytes();
    let kind = paused.len() - 2;
    paused[kind] = 77;
    assert_eq!(Record::from_bytes(&paused), Err(RecordError::Body(77)));
    let mut later = paused.clone();
    later[0] = 9;
    for (bytes, name) in [(paused, "a body of kind 77"), (later, "of version 9")] {
        let index = Connection::open(home.index()).unwrap();
        assert_eq!(index.execute("UPDATE log SET record = ?1 WHERE g = ?2", (bytes, whole.order as i64)).unwrap(), 1);
        drop(index);
        let archive = Archive::open(home.read_only()).unwrap();
        let says = [
            archive.commits(Some(&charm), 0, 100).unwrap_err().to_string(),
            archive.verify(&charm).unwrap_err().to_string(),
            archive.verify_store().unwrap_err().to_string(),
        ];
        for why in says {
            assert!(why.contains(name) && why.ends_with("use the host that wrote it, or a later one"), "{why}");
        }
    }
}

#[tokio::test]
async fn an_index_of_a_later_host_is_refused_by_name() {
    let home = Home::default();
    store(&home).await;
    let index = Connection::open(home.index()).unwrap();
    let now: i64 = index.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    index.pragma_update(None, "user_version", now + 1).unwrap();
    drop(index);
    let why = refused(&home);
    assert!(why.contains(&format!("of version {}, and this host reads version {now}", now + 1)), "{why}");
}

#[tokio::test]
async fn a_group_of_a_later_host_is_refused_by_name() {
    let home = Home::default();
    store(&home).await;
    let disk = FolderDisk::new(home.store().join("journal"));
    let journal = FileJournal::open(std::sync::Arc::new(disk), JournalOptions::new([0; 16], 0)).unwrap();
    let end = journal.end();
    let now = journal.read(end - 1, usize::MAX).unwrap()[0].1[0];
    journal.append(end, &[now + 1, 0]).unwrap();
    drop(journal);
    let why = refused(&home);
    assert!(why.contains(&format!("group {} of its journal is of version {}", end + 1, now + 1)), "{why}");
}

/// What is kept of rights says its version: it stands in records, which are never written again.
#[tokio::test]
async fn rights_of_a_later_host_are_refused_by_name() {
    let home = Home::default();
    let charm = store(&home).await;
    let host = home.open().await;
    host.grant(charm, charm_host::Right::Read { owner: charm, cells: charm_host::Names::All }).await.unwrap();
    host.shutdown().await.unwrap();
    let index = Connection::open(home.index()).unwrap();
    let kept: Vec<u8> = index.query_row("SELECT kept FROM kept", [], |row| row.get(0)).unwrap();
    let later = [&[kept[0] + 1], &kept[1..]].concat();
    index.execute("UPDATE kept SET kept = ?1", [later]).unwrap();
    drop(index);
    let why = home.builder().await.open().await.map(drop).unwrap_err().to_string();
    let says = format!("the rights of {charm} are of version {}", kept[0] + 1);
    assert!(why.contains(&says) && why.ends_with("use the host that wrote them, or a later one"), "{why}");
}
