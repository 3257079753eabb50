//! Chapter crashes: what is left when the process is killed, and when the disk is really full.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::{
    collections::BTreeMap,
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use charm_conformance::{Home, Ledger, Random, builder, cell, probe, seed, settle, value};
use charm_host::{
    Archive, EventId, FileKeyring, Host, Manifest, NewEvent, Outcome, SendError, SqliteStore, Status, Unavailable,
};
use serde_json::{Value as Json, json};

const ROUNDS: u64 = 20;

fn start(folder: &Path, first: u64) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crash-host"));
    command.arg(folder).arg(first.to_string()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Kills a host after that time and returns what it had acknowledged.
fn kill_after(mut child: Child, time: Duration) -> BTreeMap<u64, EventId> {
    std::thread::sleep(time);
    child.kill().unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    let complete = said.rfind('\n').map_or("", |end| &said[..end]);
    let acks = complete.lines().filter_map(|line| line.strip_prefix("ack ")?.split_once(' '));
    acks.map(|(number, id)| (number.parse().unwrap(), id.parse().unwrap())).collect()
}

/// A host is killed at random moments while events are in flight, and started again; each time what was not
/// acknowledged is sent again under the same ids. Set `CHARM_SEED` for other moments. (S2, S3, S9, T5, T8, I3)
#[tokio::test(flavor = "multi_thread")]
async fn killing_the_process_loses_nothing_acknowledged_and_doubles_nothing() {
    let (home, mut random) = (Home::default(), Random::new(seed()));
    let mut acknowledged: BTreeMap<u64, EventId> = BTreeMap::new();
    let mut productive = 0;
    for _ in 0..ROUNDS {
        let first = (0..).find(|number| !acknowledged.contains_key(number)).unwrap();
        let time = Duration::from_millis(random.below(250));
        let acks = kill_after(start(home.path(), first), time);
        productive += usize::from(!acks.is_empty());
        for (number, id) in acks {
            let before = acknowledged.insert(number, id);
            assert!(before.is_none_or(|before| before == id), "the same event has the same id");
        }
        if acknowledged.is_empty() {
            continue;
        }
        let archive = Archive::open(SqliteStore::open_read_only(home.store()).unwrap()).unwrap();
        Ledger::check(&archive);
        for (number, id) in &acknowledged {
            let status = archive.status(id).unwrap();
            let committed = matches!(&status, Status::Settled(receipt) if receipt.outcome == Outcome::Committed);
            assert!(committed, "event {number} was acknowledged and is {status:?}");
        }
    }
    assert!(productive > 3, "the rounds are too short for this machine: {productive} of {ROUNDS} did anything");

    let host = home.open().await;
    let dids = Manifest::load(&home.path().join("charms.toml")).unwrap().install(&host).await.unwrap();
    let (a, b) = (dids["a"], dids["b"]);
    settle(&host).await;
    let notes: Vec<u64> = serde_json::from_value(cell(&host, b, "notes").await).unwrap();
    let receipts = cell(&host, a, "notes").await;
    assert!(host.dead_letters(&a).unwrap().is_empty() && host.dead_letters(&b).unwrap().is_empty());
    host.shutdown().await.unwrap();
    let archive = Archive::open(SqliteStore::open_read_only(home.store()).unwrap()).unwrap();
    Ledger::check(&archive).all_settled();
    let mut sent = Vec::new();
    for record in archive.records(Some(&a), 0, usize::MAX >> 1).unwrap() {
        let to_b = record.sends.iter().filter(|sent| sent.event.to == b);
        sent.extend(to_b.map(|sent| sent.event.payload.decode::<u64>().unwrap()));
    }
    let difference = notes.iter().zip(&sent).find(|(handled, sent)| handled != sent);
    assert_eq!((difference, notes.len()), (None, sent.len()), "handled once each, in the order of sending");
    let mut numbers = notes.clone();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), notes.len(), "each effect once");
    assert!(acknowledged.keys().all(|number| numbers.binary_search(number).is_ok()), "no effect is missing");
    let tags: Vec<_> = receipts.as_array().into_iter().flatten().map(|event| event["tag"].as_u64().unwrap()).collect();
    let expected: Vec<_> = notes.iter().copied().filter(|number| number.is_multiple_of(8)).collect();
    assert!(tags == expected, "each receipt came back once");
}

/// A small file system of its own, gone with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None where mounting is not permitted.
    fn mount(options: &str) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).stderr(Stdio::null());
        mount.status().ok()?.success().then(|| SmallDisk(folder))
    }

    fn store(&self) -> SqliteStore {
        SqliteStore::open(self.0.path().join("store.db")).unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn large(host: &Host, number: usize) -> NewEvent {
    let charm = host.did_of("a").unwrap();
    let steps = json!({"steps": [["set", format!("cell {number}"), [], "x".repeat(50_000)]]});
    NewEvent::new(charm, "run", value(steps)).id(format!("event {number}"))
}

/// (T5, T8)
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_waited_out_and_nothing_acknowledged_is_lost() {
    let Some(disk) = SmallDisk::mount("size=8m") else {
        eprintln!("SKIPPED: mounting a tmpfs needs root");
        return;
    };
    let keys = tempfile::tempdir().unwrap();
    let keyring = || FileKeyring::open(keys.path().join("keys")).unwrap();
    let filler = disk.0.path().join("filler");
    std::fs::write(&filler, vec![0; 4 << 20]).unwrap();
    let host = builder().store(disk.store()).keyring(keyring()).open().await.unwrap();
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
    std::fs::remove_file(&filler).unwrap();
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
    let host = builder().store(disk.store()).keyring(keyring()).open().await.unwrap();
    for receipt in &acknowledged {
        assert_eq!(host.status(&receipt.id).unwrap(), Status::Settled(receipt.clone()));
    }
    for number in 0..=last {
        assert_ne!(cell(&host, a, &format!("cell {number}")).await, Json::Null);
    }
    host.shutdown().await.unwrap();
    let archive = Archive::open(SqliteStore::open_read_only(disk.0.path().join("store.db")).unwrap()).unwrap();
    Ledger::check(&archive).all_settled();
}

/// (T8)
#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_a_full_disk_opens_again_when_there_is_space() {
    let Some(disk) = SmallDisk::mount("size=1m") else {
        eprintln!("SKIPPED: mounting a tmpfs needs root");
        return;
    };
    let filler = disk.0.path().join("filler");
    let fill = |bytes: usize| {
        let _ = std::fs::write(&filler, vec![0; bytes]);
    };
    fill(2 << 20);
    let refused = SqliteStore::open(disk.0.path().join("store.db")).err().expect("there is no space at all");
    assert!(refused.to_string().contains("full") || refused.to_string().contains("space"), "{refused}");
    std::fs::remove_file(&filler).unwrap();
    let host = builder().store(disk.store()).open().await.unwrap();
    let a = probe(&host, "a").await;
    let receipt = host.request(NewEvent::new(a, "note", value(json!(1)))).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Committed);
    host.shutdown().await.unwrap();
}
