//! Where a host lives that is crashed and started again, and what it has acknowledged there so far.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use charm_conformance::{Ledger, builder, cell, component};
use charm_host::{Archive, Did, EventId, FileKeyring, FolderStore, Host, HostBuilder, Manifest, Outcome, Status};
use tempfile::TempDir;

/// Longest time for all that waits to settle.
const PATIENCE: Duration = Duration::from_secs(60);

/// Manifest and component in a folder that no crash touches; store and keys in a folder on the disk that fails.
pub struct Place {
    folder: TempDir,
    data: PathBuf,
    /// What the host has acknowledged.
    pub acknowledged: BTreeMap<u64, EventId>,
}

impl Place {
    /// Returns a place for the charms `a` and `b` (see `tests/crash/host.rs`).
    pub fn new(data: &Path) -> Place {
        let b = "[charm.b]\ncomponent = \"probe.wasm\"\n";
        let a = "[charm.a]\ncomponent = \"probe.wasm\"\ngrant = [{ charm = \"b\", send = [\"note\"] }]\n";
        Place::with(data, &format!("{a}{b}"))
    }

    /// Returns a place for the charms of a manifest; they are of `probe.wasm`.
    pub fn with(data: &Path, charms: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("probe.wasm"), component("probe")).unwrap();
        let data = data.to_owned();
        let head = format!("store = {:?}\nkeys = {:?}\n", data.join("store"), data.join("keys"));
        std::fs::write(folder.path().join("charms.toml"), head + charms).unwrap();
        Place { folder, data, acknowledged: BTreeMap::new() }
    }

    pub fn manifest(&self) -> PathBuf {
        self.folder.path().join("charms.toml")
    }

    /// Returns a new file for what a host says.
    pub fn said(&self) -> PathBuf {
        self.folder.path().join("said")
    }

    /// Returns the store.
    pub fn store(&self) -> PathBuf {
        self.data.join("store")
    }

    /// Returns the folder of the key files.
    pub fn keys(&self) -> PathBuf {
        self.data.join("keys")
    }

    pub fn builder(&self) -> HostBuilder {
        let store = FolderStore::open(self.store()).unwrap();
        builder().store(store).keyring(FileKeyring::open(self.keys()).unwrap())
    }

    pub async fn install(&self, host: &Host) -> BTreeMap<String, Did> {
        Manifest::load(&self.manifest()).unwrap().install(host).await.unwrap()
    }

    pub fn archive(&self) -> Archive {
        Archive::open(FolderStore::open_read_only(self.store()).unwrap()).unwrap()
    }

    /// Returns the first event that is not acknowledged: what comes after it is sent again, under the same id.
    pub fn first(&self) -> u64 {
        (0..).find(|number| !self.acknowledged.contains_key(number)).unwrap()
    }

    /// Takes in what a host acknowledged before it was crashed, and checks that it is in the store. Returns how many.
    pub fn crashed(&mut self, said: &str) -> usize {
        let acks = acks(said);
        for (number, id) in &acks {
            let before = self.acknowledged.insert(*number, *id);
            assert!(before.is_none_or(|before| before == *id), "the same event has the same id");
        }
        if !acks.is_empty() {
            let archive = self.archive();
            for (number, id) in &acks {
                assert_kept(&archive, *number, id);
            }
        }
        acks.len()
    }

    /// Lets the store prove itself and checks everything that was ever acknowledged.
    pub fn check(&self) -> Ledger {
        if self.acknowledged.is_empty() {
            return Ledger::default();
        }
        let archive = self.archive();
        let ledger = Ledger::check(&archive);
        for (number, id) in &self.acknowledged {
            assert_kept(&archive, *number, id);
        }
        ledger
    }

    /// Starts a last host on the place, lets everything settle, and checks that each event had its effect once, in
    /// the order of sending, and each receipt came back once. Returns how many events there were.
    pub async fn finish(&self) -> usize {
        let host = self.builder().open().await.unwrap();
        let dids = self.install(&host).await;
        let (a, b) = (dids["a"], dids["b"]);
        tokio::time::timeout(PATIENCE, host.settled()).await.expect("all events settle in time").unwrap();
        let notes: Vec<u64> = serde_json::from_value(cell(&host, b, "notes").await).unwrap_or_default();
        let receipts = cell(&host, a, "receipts").await;
        assert!(
            host.dead_letters(&a, 0, usize::MAX).unwrap().is_empty()
                && host.dead_letters(&b, 0, usize::MAX).unwrap().is_empty()
        );
        host.shutdown().await.unwrap();
        self.check().all_settled();
        let archive = self.archive();
        let mut sent = Vec::new();
        for commit in archive.commits(Some(&a), 0, usize::MAX >> 1).unwrap() {
            let to_b = commit.record.sends().filter(|(event, _)| event.to == b);
            sent.extend(to_b.map(|(event, _)| event.payload.decode::<u64>().unwrap()));
        }
        let difference = notes.iter().zip(&sent).find(|(handled, sent)| handled != sent);
        assert_eq!((difference, notes.len()), (None, sent.len()), "handled once each, in the order of sending");
        let mut numbers = notes.clone();
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), notes.len(), "each effect once");
        let missing = self.acknowledged.keys().find(|number| numbers.binary_search(number).is_err());
        assert_eq!(missing, None, "no effect is missing");
        let tag = |event: &serde_json::Value| event["tag"].as_u64().unwrap();
        let tags: Vec<u64> = receipts.as_array().into_iter().flatten().map(tag).collect();
        let expected: Vec<u64> = notes.iter().copied().filter(|number| number.is_multiple_of(8)).collect();
        assert!(tags == expected, "each receipt came back once");
        notes.len()
    }
}

/// Returns the acknowledgements among what a host said; the last line may be cut off.
pub fn acks(said: &str) -> BTreeMap<u64, EventId> {
    let complete = said.rfind('\n').map_or("", |end| &said[..end]);
    let numbered = complete.lines().filter_map(|line| line.split_once(' ')?.1.split_once(' '));
    numbered.filter_map(|(number, id)| Some((number.parse().ok()?, id.parse().ok()?))).collect()
}

pub fn is_kept(archive: &Archive, id: &EventId) -> bool {
    let status = archive.status(id).unwrap();
    matches!(&status, Status::Settled(receipt) if receipt.outcome == Outcome::Committed)
}

fn assert_kept(archive: &Archive, number: u64, id: &EventId) {
    assert!(is_kept(archive, id), "event {number} was acknowledged and is {:?}", archive.status(id));
}
