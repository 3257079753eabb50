//! The disk is really full.

use std::time::Duration;

use charm_conformance::{Ledger, builder, cell, of, probe, script, times, value};
use charm_host::{
    Archive, FileKeyring, FolderStore, Host, InstallError, Manifest, ManifestError, NewEvent, Outcome, SendError,
    Status, StoreError, Unavailable,
};
use serde_json::{Value as Json, json};

use super::{disk::SmallDisk, place::Place, skipped};

fn large(host: &Host, number: usize) -> NewEvent {
    let charm = host.did_of("a").unwrap();
    let steps = json!({"steps": [["set", format!("cell {number}"), [], "x".repeat(50_000)]]});
    NewEvent::new(charm, "run", value(steps)).id(format!("event {number}"))
}

/// (T5, T8)
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_waited_out_and_nothing_acknowledged_is_lost() {
    let disk = match SmallDisk::mount("size=24m") {
        Ok(disk) => disk,
        Err(why) => return skipped(&format!("mounting a small disk needs root: {why}")),
    };
    let store = || FolderStore::open(disk.path().join("store")).unwrap();
    let keys = tempfile::tempdir().unwrap();
    let keyring = || FileKeyring::open(keys.path().join("keys")).unwrap();
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![0; 18 << 20]).unwrap();
    let host = builder().store(store()).keyring(keyring()).open().await.unwrap();
    let a = probe(&host, "a").await;
    let mut acknowledged = Vec::new();
    let refused = loop {
        match host.request(large(&host, acknowledged.len())).await {
            Ok(receipt) => acknowledged.push(receipt),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 1_000, "the disk never fills up");
    };
    assert_eq!(refused, SendError::Unavailable(Unavailable::DiskFull));
    assert!(!acknowledged.is_empty());
    // The host lives: it answers what it knows, and takes no more.
    assert_eq!(host.status(&acknowledged[0].id).unwrap(), Status::Settled(acknowledged[0].clone()));
    assert_ne!(cell(&host, a, "cell 0").await, Json::Null);
    assert_eq!(host.send(large(&host, 9_999)).await, Err(SendError::Unavailable(Unavailable::DiskFull)));
    // Space comes, and it goes on by itself; the refused event is sent again under its id.
    // Emptied, not removed: a process that is just being started may still hold a copy of it.
    std::fs::write(&filler, []).unwrap();
    let last = acknowledged.len();
    let again = async {
        loop {
            match host.request(large(&host, last)).await {
                Ok(receipt) => return receipt,
                Err(SendError::Unavailable(Unavailable::DiskFull)) => {
                    tokio::time::sleep(Duration::from_millis(20)).await
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    acknowledged.push(tokio::time::timeout(Duration::from_secs(30), again).await.expect("the host goes on"));
    host.shutdown().await.unwrap();
    let host = builder().store(store()).keyring(keyring()).open().await.unwrap();
    for receipt in &acknowledged {
        assert_eq!(host.status(&receipt.id).unwrap(), Status::Settled(receipt.clone()));
    }
    for number in 0..=last {
        assert_ne!(cell(&host, a, &format!("cell {number}")).await, Json::Null);
    }
    host.shutdown().await.unwrap();
    let archive = Archive::open(FolderStore::open_read_only(disk.path().join("store")).unwrap()).unwrap();
    Ledger::check(&archive).all_settled();
}

/// (T8)
#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_a_full_disk_opens_again_when_there_is_space() {
    let disk = match SmallDisk::mount("size=4m") {
        Ok(disk) => disk,
        Err(why) => return skipped(&format!("mounting a small disk needs root: {why}")),
    };
    let store = || FolderStore::open(disk.path().join("store"));
    let filler = disk.path().join("filler");
    let fill = |bytes: usize| {
        let _ = std::fs::write(&filler, vec![0; bytes]);
    };
    fill(8 << 20);
    let refused = store().err().expect("there is no space at all");
    assert!(refused.to_string().contains("full") || refused.to_string().contains("space"), "{refused}");
    fill(0);
    let host = builder().store(store().unwrap()).open().await.unwrap();
    let a = probe(&host, "a").await;
    let receipt = host.request(NewEvent::new(a, "note", value(json!(1)))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed);
    host.shutdown().await.unwrap();
}

/// Step of the sweep: pages of the disk. The journal makes room in large pieces.
const STEP: u64 = 64 << 10;
/// Events of one run.
const EVENTS: u64 = 12;

/// A disk that one run fills.
struct Filled<'a> {
    disk: &'a SmallDisk,
    /// Whether the host was told that it is full and went on in the same life.
    waited: bool,
}

impl Filled<'_> {
    /// Leaves that many bytes free.
    fn leave(&self, bytes: u64) {
        let mut filler = std::fs::File::create(self.disk.path().join("filler")).unwrap();
        let full = std::io::copy(&mut std::io::repeat(0), &mut filler).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        let size = filler.metadata().unwrap().len();
        filler.set_len(size - bytes).unwrap();
    }

    /// Makes room, once the host has said that there is none.
    fn free(&mut self) {
        // Emptied, not removed: a process that is just being started may still hold a copy of it.
        std::fs::File::create(self.disk.path().join("filler")).unwrap();
    }

    /// Makes room for a host that goes on.
    async fn wait_out(&mut self) {
        self.free();
        self.waited = true;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    /// One life of a host: opens, installs, sends all events and shuts down. An error ends it.
    async fn life(&mut self, place: &mut Place) -> Result<(), Box<dyn std::error::Error>> {
        let store = loop {
            match FolderStore::open(place.store()) {
                // The host before is gone but for its last task.
                Err(StoreError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                store => break store?,
            }
        };
        let host = builder().store(store).keyring(FileKeyring::open(place.keys())?).open().await?;
        let manifest = Manifest::load(&place.manifest()).unwrap();
        let dids = loop {
            match manifest.install(&host).await {
                Err(ManifestError::Install(InstallError::Unavailable(Unavailable::DiskFull))) => self.wait_out().await,
                installed => break installed?,
            }
        };
        for number in 0..times(EVENTS) {
            let mut send = json!(["send", of(dids["b"], "note"), number]);
            if number.is_multiple_of(8) {
                send.as_array_mut().unwrap().push(json!({"stream": "on-receipt", "tag": number}));
            }
            let steps = script(json!([["set", "last", [], "x".repeat(150_000)], send]));
            let id = loop {
                let event = NewEvent::new(dids["a"], "run", steps.clone()).id(format!("event {number}"));
                match host.request(event).await {
                    Err(SendError::Unavailable(Unavailable::DiskFull)) => self.wait_out().await,
                    receipt => break receipt?.id,
                }
            };
            let before = place.acknowledged.insert(number, id);
            assert!(before.is_none_or(|before| before == id), "the same event has the same id");
        }
        Ok(host.shutdown().await?)
    }
}

/// The disk gets full at each write of a run, in a run of its own: a page more is free each time, until a run meets
/// no full disk. (T5, T8, S2, S9)
#[tokio::test(flavor = "multi_thread")]
async fn whichever_write_finds_the_disk_full_the_host_says_so_and_goes_on_when_there_is_space() {
    let (mut waited, mut refused) = (0, 0);
    for pages in 0.. {
        let disk = match SmallDisk::mount("size=16m") {
            Ok(disk) => disk,
            Err(why) => return skipped(&format!("mounting a small disk needs root: {why}")),
        };
        let mut place = Place::new(disk.path());
        let mut filled = Filled { disk: &disk, waited: false };
        filled.leave(pages * STEP);
        let first = tokio::time::timeout(Duration::from_secs(60), filled.life(&mut place)).await;
        let first = first.unwrap_or_else(|_| panic!("with {pages} pages free the host does not go on"));
        if let Err(why) = &first {
            filled.free();
            if !place.acknowledged.is_empty() {
                place.check();
            }
            let second = tokio::time::timeout(Duration::from_secs(60), filled.life(&mut place)).await;
            let second = second.unwrap_or_else(|_| panic!("with {pages} pages free, after {why}, no host opens again"));
            assert!(second.is_ok(), "with {pages} pages free, after {why}: {second:?}");
        }
        // A host writes what it finds to the database when it opens, which takes room.
        filled.free();
        assert_eq!(place.finish().await as u64, times(EVENTS));
        waited += u64::from(filled.waited && first.is_ok());
        refused += u64::from(first.is_err());
        if first.is_ok() && !filled.waited {
            eprintln!("{pages} runs on a full disk: {waited} waited it out, {refused} ended and began again");
            assert!(waited > 10 && refused > 0, "the disk gets full: {waited}, {refused}");
            return;
        }
    }
}
