//! Stores: what a later host has written is refused by name, and nothing of it is changed.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use charm_conformance::*;
use charm_host::{
    Archive, Body, Commit, Did, FileJournal, FolderDisk, HISTORY_PAUSE_MS, Journal, JournalOptions, Keep,
    RECORD_VERSION, Record, RecordError, VerifyError,
};
use rusqlite::Connection;
use serde_json::json;

/// Leaves a store with a charm that has done something; returns the charm.
async fn store(home: &Home) -> Did {
    let host = home.open().await;
    let charm = probe(&host, "a").await;
    run(&host, charm, json!([["set", "x", [], 1]])).await;
    host.shutdown().await.unwrap();
    charm
}

/// All files of a folder, but what SQLite shares among those who look at it.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = contents(folder);
    found.retain(|(path, _)| !path.ends_with("index.db-shm"));
    found
}

/// Opens a store in each way; each says the same.
fn refused(home: &Home) -> String {
    let before = files(&home.store());
    let why = charm_host::FolderStore::open(home.store()).map(drop).unwrap_err().to_string();
    assert_eq!(charm_host::FolderStore::open_read_only(home.store()).map(drop).unwrap_err().to_string(), why);
    let changed: Vec<_> = files(&home.store()).into_iter().filter(|file| !before.contains(file)).collect();
    assert!(files(&home.store()) == before, "{:?}", changed.iter().map(|(path, _)| path).collect::<Vec<_>>());
    assert!(why.ends_with("use the host that wrote it, or a later one") && !why.contains("remove"), "{why}");
    why
}

/// The store of a host that was killed: what it was when that host ran.
async fn killed() -> Home {
    let (home, copy) = (Home::default(), Home::default());
    let host = home.open().await;
    let charm = probe(&host, "a").await;
    run(&host, charm, json!([["set", "x", [], 1]])).await;
    for folder in [copy.store(), copy.store().join("journal")] {
        fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
    }
    // The index first: what it does not have yet is in the journal.
    for (path, bytes) in files(&home.store()) {
        fs::write(copy.store().join(path.strip_prefix(home.store()).unwrap()), bytes).unwrap();
    }
    host.shutdown().await.unwrap();
    copy
}

/// The one segment of a store's journal.
fn segment(home: &Home) -> PathBuf {
    home.store().join("journal").join("00000001.log")
}

/// A body that came later, and a record of a later version: each has its number in what is said.
#[tokio::test]
async fn a_record_of_a_later_host_is_refused_by_name() {
    let home = Home::default();
    let charm = store(&home).await;
    let whole = Archive::open(home.read_only()).unwrap().commits(Some(&charm), 0, 100).unwrap().pop().unwrap();
    let mut paused = Record { body: Body::Paused(true), ..whole.record }.to_bytes();
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

/// Makes the record of a commit one of the next version; returns what it was.
fn later(home: &Home, commit: &Commit) -> Vec<u8> {
    let whole = commit.record.to_bytes();
    put(home, commit, &[&[RECORD_VERSION + 1], &whole[1..]].concat());
    whole
}

fn put(home: &Home, commit: &Commit, record: &[u8]) {
    let index = Connection::open(home.index()).unwrap();
    assert_eq!(index.execute("UPDATE log SET record = ?1 WHERE g = ?2", (record, commit.order as i64)).unwrap(), 1);
}

fn commits(home: &Home, space: Option<&Did>) -> Vec<Commit> {
    Archive::open(home.read_only()).unwrap().commits(space, 0, 1_000).unwrap()
}

/// It says the version, and what to do.
#[track_caller]
fn names_the_version(why: impl ToString) {
    let why = why.to_string();
    let says = format!("record is of version {}, and this host reads version {RECORD_VERSION}", RECORD_VERSION + 1);
    assert!(why.contains(&says) && why.ends_with("use the host that wrote it, or a later one"), "{why}");
}

/// What stands for the past that has gone may be of a later version as all else: that breaks no law.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_host_says_of_a_past_breaks_no_law() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "x", [], 1]])).await;
    host.prune(&a).await.unwrap();
    host.shutdown().await.unwrap();
    let all = commits(&home, None);
    let of = |is: fn(&Body) -> bool| all.iter().find(|commit| is(&commit.record.body)).unwrap();
    let (checkpoint, pruned) =
        (of(|body| matches!(body, Body::Checkpoint(_))), of(|body| matches!(body, Body::Pruned(_))));
    for commit in [checkpoint, pruned] {
        let whole = later(&home, commit);
        let archive = Archive::open(home.read_only()).unwrap();
        let (of_space, of_store) = (archive.verify(&commit.record.space), archive.verify_store().map(drop));
        for why in [of_space.map(drop).unwrap_err(), of_store.unwrap_err()] {
            let VerifyError::Unread { space, seq, .. } = &why else { panic!("{why:?}") };
            assert_eq!((*space, *seq), (commit.record.space, commit.record.seq));
            names_the_version(why);
        }
        put(&home, commit, &whole);
    }
    Archive::open(home.read_only()).unwrap().verify_store().unwrap();
}

/// C6: a cell as it was, from what it holds now and from where its past begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_as_it_was_is_told_to_be_of_a_later_host() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "x", [], 1], ["set", "gone", [], 1]])).await;
    run(&host, a, json!([["set", "x", [], 2], ["remove", "gone", []]])).await;
    host.shutdown().await.unwrap();
    let all = commits(&home, Some(&a));
    let first = all.iter().find(|commit| !commit.record.writes().is_empty()).unwrap();
    let archive = Archive::open(home.read_only()).unwrap();
    let at = |name: &str| archive.get(&a, name, &charm_host::Path::root(), Some(first.record.seq));
    assert!(["x", "gone"].iter().all(|name| at(name).unwrap().is_some()));
    later(&home, first);
    for name in ["x", "gone"] {
        names_the_version(at(name).unwrap_err());
    }
}

/// H1: what cannot be read does not go, by nobody's wish, and nothing else of that charm goes or is changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_past_of_a_later_host_is_not_let_go() {
    let home = Home::default();
    let host = home.open().await;
    let (a, b) = (probe(&host, "a").await, probe(&host, "b").await);
    grant(&host, a, Default::default(), all_of(&[b])).await.unwrap();
    run(&host, a, json!([["set", "x", [], 1], ["send", of(b, "note"), 1]])).await;
    run_unasked(&host, a, json!([["trap"]])).await;
    settle(&host).await;
    host.shutdown().await.unwrap();
    let all = commits(&home, Some(&a));
    let sent = all.iter().find(|commit| commit.record.sends().any(|(event, _)| event.to == b)).unwrap();
    later(&home, sent);

    let (logs, clock) = (Logs::capture(), Clock::new());
    let host = home.builder().await.env(clock.clone()).open().await.unwrap();
    let before = host.spaces();
    names_the_version(host.prune(&a).await.unwrap_err());
    names_the_version(host.uninstall_with_data(&a).await.unwrap_err());
    assert_eq!(host.spaces(), before, "nothing was changed");
    assert_eq!(host.dead_letters(&a, 0, 10).unwrap().len(), 1);
    assert_eq!(host.prune(&b).await.unwrap().receivers, [a; 0], "that of another goes");

    let keep = Keep { history_bytes: 1_000, receipts_ms: u64::MAX >> 1 };
    for name in ["a", "b"] {
        host.install(probe_charm(name).keep(keep)).await.unwrap();
    }
    let floor = |charm: Did| host.spaces().into_iter().find(|space| space.did == charm).unwrap().floor;
    let (pruned, mut notes) = (floor(b), 0);
    let stays = || logs.lines("the past of charms stays for now");
    while floor(b) == pruned || stays().is_empty() {
        notes += 1;
        assert!(notes < 500, "the past of b goes: {} to {}; that of a is told: {:?}", pruned, floor(b), stays());
        note(&host, a, json!(notes)).await;
        note(&host, b, json!(notes)).await;
        clock.pass(Duration::from_millis(HISTORY_PAUSE_MS));
    }
    names_the_version(&stays()[0]);
    assert_eq!(floor(a), 0);
    run(&host, a, json!([["set", "x", [], 2]])).await;
    host.shutdown().await.unwrap();
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

/// After a clean end and after none: what a crash has left stays too.
#[tokio::test]
async fn a_group_of_a_later_host_is_refused_by_name() {
    let home = Home::default();
    store(&home).await;
    for home in [home, killed().await] {
        let disk = FolderDisk::new(home.store().join("journal"));
        let journal = FileJournal::open(Arc::new(disk), JournalOptions::new([0; 16], 0)).unwrap();
        let end = journal.end();
        let now = journal.read(end - 1, usize::MAX).unwrap()[0].1[0];
        journal.append(end, &[now + 1, 0]).unwrap();
        drop(journal);
        let mut torn = fs::read(segment(&home)).unwrap();
        let last = torn.iter().rposition(|byte| *byte != 0).unwrap();
        torn[last / 512 * 512 + 512..][..100].fill(7);
        fs::write(segment(&home), torn).unwrap();
        fs::write(home.store().join("journal").join("00000002.log.new"), "half").unwrap();
        let why = refused(&home);
        assert!(why.contains(&format!("group {} of its journal is of version {}", end + 1, now + 1)), "{why}");
    }
}

/// Writes a checksum of a segment anew, where a later host has written something.
fn sum(bytes: &mut [u8], place: &[u8], from: usize, to: usize, at: usize) {
    let sum = crc32fast::hash(&[place, &bytes[from..to]].concat());
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

/// The store remembers its last group, and nobody is told to make it forget.
#[tokio::test]
async fn a_journal_of_a_later_host_is_refused_by_name() {
    let home = Home::default();
    store(&home).await;
    for home in [home, killed().await] {
        let lock = fs::read_to_string(home.store().join("lock")).unwrap();
        assert!(lock.split(' ').next().unwrap().parse::<u64>().unwrap() > 1, "{lock}");
        let whole = fs::read(segment(&home)).unwrap();
        let mut header = whole.clone();
        header[12] = 2;
        sum(&mut header, &[], 0, 40, 40);
        fs::write(segment(&home), header).unwrap();
        let why = refused(&home);
        assert!(why.contains("00000001.log: it is of version 2 of the format, and this host reads version 1"), "{why}");
        let mut frames = vec![512];
        while let Some(length) = whole.get(frames.last().unwrap() + 16..).map(|rest| &rest[..4])
            && whole[frames.last().unwrap() + 4] != 0
        {
            let length = u32::from_le_bytes(length.try_into().unwrap()) as usize + 24;
            frames.push(frames.last().unwrap() + length.next_multiple_of(512));
        }
        let (first, last, behind) = (frames[0], frames[frames.len() - 2], frames[frames.len() - 1]);
        assert!(first < last, "{frames:?}");
        // Kind and length.
        for (offset, (kind, length)) in [first, last, behind]
            .into_iter()
            .flat_map(|offset| [(3, 9), (1, (64 << 20) + 1)].map(|head| (offset, head)))
        {
            let mut later = whole.clone();
            later[offset + 4..offset + 8].copy_from_slice(&u32::to_le_bytes(kind));
            later[offset + 16..offset + 20].copy_from_slice(&u32::to_le_bytes(length));
            let place = [&later[16..40], &(offset as u64).to_le_bytes()].concat();
            sum(&mut later, &place, offset + 4, offset + 24, offset);
            fs::write(segment(&home), later).unwrap();
            let why = refused(&home);
            let says = format!("00000001.log: the frame at byte {offset} is of a kind or a length that this host does");
            assert!(why.contains(&says), "{why}");
        }
        fs::write(segment(&home), whole).unwrap();
        drop(charm_host::FolderStore::open(home.store()).unwrap());
    }
}

/// What this host cannot read there is not nothing: a store that has lost groups would open.
#[tokio::test]
async fn a_lock_of_a_later_host_is_refused_by_name() {
    let home = Home::default();
    store(&home).await;
    let lock = home.store().join("lock");
    let whole = fs::read(&lock).unwrap();
    for later in [b"{\"group\": 7}\n".to_vec(), [&whole[..], b"and more\n"].concat()] {
        fs::write(&lock, later).unwrap();
        let why = refused(&home);
        assert!(why.contains("/lock: it holds what this host does not write there"), "{why}");
    }
    // What a crash may leave of it is no later host's.
    for torn in [&whole[..0], &whole[..30], &[0; 42]] {
        fs::write(&lock, torn).unwrap();
        home.open().await.shutdown().await.unwrap();
        assert_eq!(fs::read(&lock).unwrap().len(), whole.len(), "it is written anew");
    }
}

/// What a process died under is kept in lines: those of a later host are there when it comes back.
#[tokio::test]
async fn suspects_of_a_later_host_are_kept() {
    let home = Home::default();
    store(&home).await;
    let (settled, later) = (format!("event {} 1 0 false\n", "7".repeat(32)), "reader 7 of 9\n");
    let suspects = home.store().join("suspects");
    fs::write(&suspects, format!("{settled}{later}")).unwrap();
    home.open().await.shutdown().await.unwrap();
    assert_eq!(fs::read_to_string(&suspects).unwrap(), later);
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
