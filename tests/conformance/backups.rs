//! Chapter backups: a copy of a store, taken at any time, is a store with all that was acknowledged; what is missing of a
//! store is made again from the rest, or named. (T5, T8, I3)
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use charm_conformance::{Home, builder, copy_store, note, probe, run};
use charm_host::{
    Archive, Batch, CHECKPOINT_BYTES, FileKeyring, FolderStore, INDEX_BYTES, INDEX_PAUSE_MS, Keyring, LAG_BYTES_MAX,
    LAG_GROUPS_MAX, Lag, MemoryJournal, MemoryKeyring, NewEvent, Outcome, Status, Store, StoreError,
};
use serde_json::json;
use zeroize::Zeroizing;

fn archive(store: &Path) -> Archive {
    Archive::open(FolderStore::open_read_only(store).unwrap()).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Each copy opens, proves itself and has every event that was acknowledged before it was begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_taken_beside_a_busy_host_has_all_that_was_acknowledged() {
    let home = Home::default();
    let host = Arc::new(home.open().await);
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "x", [], 1]])).await;
    let ends = Arc::new(AtomicBool::new(false));
    let busy = tokio::spawn({
        let (host, ends) = (host.clone(), ends.clone());
        async move {
            let mut count = 0;
            while !ends.load(Ordering::Relaxed) {
                note(&host, a, json!("x".repeat(10_000))).await;
                count += 1;
            }
            count
        }
    });
    for number in 0..6 {
        let event = NewEvent::new(a, "note", charm_conformance::value(json!(number))).id(format!("event {number}"));
        let receipt = host.request(event).await.unwrap();
        let to = home.path().join(format!("copy {number}"));
        // By the host itself, and by another process's means.
        let copied = match number % 2 {
            0 => host.backup(&to),
            _ => archive(&home.store()).backup(&to),
        };
        copied.unwrap();
        assert_eq!(files(&to), ["index.db", "journal"]);
        let copy = archive(&to);
        assert_eq!(copy.status(&receipt.id).unwrap(), Status::Settled(receipt));
        copy.verify(&a).unwrap();
        copy.verify_store().unwrap();
        // A host goes on with it.
        let store = FolderStore::open(&to).unwrap();
        let next = builder().store(store).keyring(FileKeyring::open(home.keys()).unwrap()).open().await.unwrap();
        let b = probe(&next, "b").await;
        assert_eq!(run(&next, b, json!([["set", "x", [], 1]])).await.outcome, Outcome::Committed);
        next.verify_store().unwrap();
        next.shutdown().await.unwrap();
    }
    ends.store(true, Ordering::Relaxed);
    assert!(busy.await.unwrap() > 0);
    Arc::into_inner(host).unwrap().shutdown().await.unwrap();
}

/// What is there is not written over, and what did not come to its end is no store.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_made_where_nothing_is_and_half_a_copy_is_no_store() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "x", [], 1]])).await;
    let to = home.path().join("copy");
    fs::create_dir(&to).unwrap();
    assert!(host.backup(&to).unwrap_err().to_string().contains("is there already"));
    fs::remove_dir(&to).unwrap();
    // As a process leaves it that is killed meanwhile.
    let part = home.path().join("copy.part");
    host.backup(&to).unwrap();
    copy_store(&to, &part);
    fs::remove_dir_all(&to).unwrap();
    for refused in [FolderStore::open(&part).err(), FolderStore::open_read_only(&part).err()] {
        assert!(refused.unwrap().to_string().contains("did not come to its end"));
    }
    assert!(matches!(host.backup(&to), Err(StoreError::Damaged { .. })));
    fs::remove_dir_all(&part).unwrap();
    host.backup(&to).unwrap();
    let nowhere = home.path().join("no/such/folder");
    host.backup(&nowhere).unwrap_err();
    host.shutdown().await.unwrap();
    archive(&to).verify_store().unwrap();
}

/// Until a segment goes, the journal makes the index again; an older one is brought up to it; one of another store is named.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_gone_or_older_is_made_again_and_a_strangers_is_named() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "x", [], 1]])).await;
    host.shutdown().await.unwrap();
    let older = fs::read(home.index()).unwrap();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "x", [], 2], ["set", "y", [], 1]])).await;
    host.shutdown().await.unwrap();
    let whole = home.path().join("whole");
    copy_store(&home.store(), &whole);
    let expected = format!("{:?}", archive(&whole).verify_store().unwrap());
    let stranger = Home::default();
    let other = stranger.open().await;
    run(&other, probe(&other, "a").await, json!([["set", "x", [], 1]])).await;
    other.shutdown().await.unwrap();
    let put = |index: Option<&[u8]>| {
        fs::remove_dir_all(home.store()).unwrap();
        copy_store(&whole, &home.store());
        match index {
            Some(bytes) => fs::write(home.index(), bytes).unwrap(),
            None => fs::remove_file(home.index()).unwrap(),
        }
    };
    for index in [None, Some(&older[..]), Some(&[])] {
        for reads_first in [false, true] {
            put(index);
            if reads_first {
                assert_eq!(format!("{:?}", archive(&home.store()).verify_store().unwrap()), expected);
            }
            let host = home.open().await;
            assert_eq!(format!("{:?}", host.verify_store().unwrap()), expected);
            host.shutdown().await.unwrap();
            assert_eq!(format!("{:?}", archive(&home.store()).verify_store().unwrap()), expected);
        }
    }
    put(Some(&fs::read(stranger.index()).unwrap()));
    for refused in [FolderStore::open(home.store()).err(), FolderStore::open_read_only(home.store()).err()] {
        let text = refused.unwrap().to_string();
        assert!(text.contains("not of one store") && text.contains("remove index.db"), "{text}");
    }
    // Nor is a store taken whose journal is a stranger's.
    put(Some(&fs::read(whole.join("index.db")).unwrap()));
    fs::remove_dir_all(home.store().join("journal")).unwrap();
    copy_store(&stranger.store().join("journal"), &home.store().join("journal"));
    fs::remove_file(home.store().join("lock")).unwrap();
    let text = FolderStore::open(home.store()).err().unwrap().to_string();
    assert!(text.contains("not of one store"), "{text}");
}

/// Once a segment is gone, an index that is gone or too old is named, with the backup as its remedy.
#[test]
fn an_index_that_the_journal_cannot_make_again_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let did = MemoryKeyring::default().create(&Zeroizing::new([1; 32])).unwrap();
    let fill = |byte: u8| {
        let store = FolderStore::open(&path).unwrap();
        store.load(Some([7; 32])).unwrap();
        for _ in 0..(4 * CHECKPOINT_BYTES) >> 20 {
            let kept = vec![(did, Some(vec![byte; 1 << 20]))];
            store.commit(&Batch { kept, ..Batch::default() }).unwrap();
            while store.index().unwrap() {}
        }
        store.close().unwrap();
    };
    fill(1);
    let older = fs::read(path.join("index.db")).unwrap();
    fill(2);
    let segments = files(&path.join("journal"));
    assert!(!segments.contains(&"00000001.log".to_owned()), "{segments:?}");
    assert!(segments.len() < 4, "what the index holds durably is let go of: {segments:?}");
    let whole = fs::read(path.join("index.db")).unwrap();
    fs::write(path.join("index.db"), &older).unwrap();
    for refused in [FolderStore::open(&path).err(), FolderStore::open_read_only(&path).err()] {
        let text = refused.unwrap().to_string();
        assert!(text.contains("an older copy") && text.contains("put a backup in its place"), "{text}");
    }
    fs::remove_file(path.join("index.db")).unwrap();
    for refused in [FolderStore::open(&path).err(), FolderStore::open_read_only(&path).err()] {
        let text = refused.unwrap().to_string();
        assert!(text.contains("gone or empty") && text.contains("put a backup in its place"), "{text}");
    }
    fs::write(path.join("index.db"), &whole).unwrap();
    assert_eq!(FolderStore::open(&path).unwrap().load(None).unwrap().kept, [(did, vec![2; 1 << 20])]);
}

/// However much comes at once, no more of it waits for the index, and stands in memory, than the bound.
#[test]
fn no_more_batches_wait_for_the_index_than_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStore::open_on(MemoryJournal::new(), folder.path().join("index.db"), "unix").unwrap();
    store.load(Some([7; 32])).unwrap();
    let mut most = 0;
    for number in 0..LAG_GROUPS_MAX as u64 + 100 {
        store.commit(&Batch { position: Some(number), ..Batch::default() }).unwrap();
        most = most.max(store.lag().groups);
    }
    assert_eq!(most, LAG_GROUPS_MAX);
    while store.index().unwrap() {}
    assert_eq!(store.lag(), Lag::default());
    assert_eq!(store.load(None).unwrap().position, LAG_GROUPS_MAX as u64 + 99);
    // By their bytes.
    let did = MemoryKeyring::default().create(&Zeroizing::new([1; 32])).unwrap();
    let kept = Batch { kept: vec![(did, Some(vec![1; INDEX_BYTES / 2]))], ..Batch::default() };
    for _ in 0..2 * LAG_BYTES_MAX / INDEX_BYTES + 4 {
        store.commit(&kept).unwrap();
        assert!(store.lag().bytes < LAG_BYTES_MAX + INDEX_BYTES);
    }
    let before = store.lag();
    assert!(store.index().unwrap());
    assert_eq!(before.groups - store.lag().groups, 1, "one transaction takes no more than its bound");
}

/// What is committed within a moment is written into the index together, and then nothing waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_together_is_indexed_together() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    let mut together = 0;
    for number in 0..50 {
        note(&host, a, json!(number)).await;
        together = together.max(host.counters().lag_groups);
    }
    assert!(together > 1);
    let mut tries = 0;
    while host.counters().lag_groups > 0 {
        tries += 1;
        assert!(tries < 100, "nothing more comes and the index is behind");
        tokio::time::sleep(std::time::Duration::from_millis(INDEX_PAUSE_MS)).await;
    }
    host.shutdown().await.unwrap();
}
