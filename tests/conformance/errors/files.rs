//! What stores and keyrings say when their files are not what they should be (I1, I3).

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path as File, PathBuf},
};

use super::*;

/// A file name so long that the text of an error must cut it.
fn far(folder: &File) -> PathBuf {
    (0..12).fold(folder.to_owned(), |path, _| path.join("far-away-".repeat(27)))
}

/// I1, T7: the keyring never says what a key file holds.
#[tokio::test(flavor = "multi_thread")]
async fn no_error_of_a_keyring_tells_a_key() {
    let mut secret = Secret::new("keys");
    let home = Home::default();
    let host = home.open().await;
    let (a, operator) = (probe(&host, "a").await, host.operator());
    host.shutdown().await.unwrap();
    let file = |did: &Did| home.keys().join(format!("{}.key", did.to_string().trim_start_matches("did:key:")));
    let key = fs::read_to_string(file(&a)).unwrap();
    let digits = key.trim().as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap());
    let seed: Vec<u8> = digits.map(|two| u8::from_str_radix(two, 16).unwrap()).collect();
    secret.add(&seed);
    let check = || FileKeyring::open(home.keys()).unwrap().check(&a);
    check().unwrap();
    let installed = async || {
        let host = home.open().await;
        let error = host.install(probe_charm("a")).await.expect_err("a charm with a key that is not usable");
        host.shutdown().await.unwrap();
        error
    };
    let sent = async || {
        let host = home.open().await;
        let event = NewEvent::new(a, "run", script(json!([])));
        let error = host.send(event).await.expect_err("to a charm with a key that is not usable");
        host.shutdown().await.unwrap();
        error
    };
    let half = &key[..32];
    let no_digit = format!("g{}", &key[1..]);
    for content in [format!("{key}{key}"), half.to_owned(), no_digit, secret.text.clone(), String::new()] {
        fs::write(file(&a), content).unwrap();
        fails!(secret, check().unwrap_err(), KeyError::Malformed { .. });
        fails!(secret, installed().await, InstallError::Key { error: KeyError::Malformed { .. }, .. });
    }
    fs::write(file(&a), [key.as_bytes(), &[0xff, 0xfe]].concat()).unwrap();
    fails!(secret, check().unwrap_err(), KeyError::Io { .. });
    // The key of another charm under this name.
    fs::write(file(&a), &key).unwrap();
    let other = MemoryKeyring::default().create(&zeroize::Zeroizing::new([7; 32])).unwrap();
    fs::rename(file(&a), file(&other)).unwrap();
    fails!(secret, FileKeyring::open(home.keys()).unwrap().check(&other).unwrap_err(), KeyError::Malformed { .. });
    fails!(secret, check().unwrap_err(), KeyError::Missing { .. });
    fails!(secret, installed().await, InstallError::Key { error: KeyError::Missing { .. }, .. });
    fails!(secret, sent().await, SendError::Key { .. });
    fs::rename(file(&other), file(&a)).unwrap();
    fs::rename(file(&operator), file(&other)).unwrap();
    let opened = home.builder().await.open().await.map(drop).unwrap_err();
    fails!(secret, opened, OpenError::Key(KeyError::Missing { .. }));
    fs::rename(file(&other), file(&operator)).unwrap();
    fs::set_permissions(file(&a), fs::Permissions::from_mode(0o644)).unwrap();
    fails!(secret, check().unwrap_err(), KeyError::Readable { .. });
    fs::set_permissions(file(&a), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(home.keys(), fs::Permissions::from_mode(0o777)).unwrap();
    fails!(secret, FileKeyring::open(home.keys()).map(drop).unwrap_err(), KeyError::Writable { .. });
    fs::set_permissions(home.keys(), fs::Permissions::from_mode(0o700)).unwrap();
    fails!(secret, FileKeyring::open(file(&a)).map(drop).unwrap_err(), KeyError::Io { .. });
    fails!(secret, FileKeyring::open(far(&file(&a))).map(drop).unwrap_err(), KeyError::Io { .. });
    // In a folder whose name alone is longer than an error may be.
    let folder = far(home.path());
    let keyring = FileKeyring::open(&folder).unwrap();
    let far_key = folder.join(file(&a).file_name().unwrap());
    fs::write(&far_key, &key[1..]).unwrap();
    fs::set_permissions(&far_key, fs::Permissions::from_mode(0o600)).unwrap();
    fails!(secret, keyring.check(&a).unwrap_err(), KeyError::Malformed { .. });
    fs::set_permissions(&far_key, fs::Permissions::from_mode(0o640)).unwrap();
    fails!(secret, keyring.check(&a).unwrap_err(), KeyError::Readable { .. });
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
    fails!(secret, FileKeyring::open(&folder).map(drop).unwrap_err(), KeyError::Writable { .. });
    // And the whole of it again, in order: nothing of the run above was said anywhere.
    let host = home.open().await;
    assert_eq!(run(&host, probe(&host, "a").await, json!([])).await.outcome, Outcome::Committed);
    host.shutdown().await.unwrap();
}

/// T7, I3: a store that is none, that is in use, or that somebody changed.
#[tokio::test(flavor = "multi_thread")]
async fn no_error_of_a_store_tells_what_it_holds() {
    let mut secret = Secret::new("stores");
    journal::no_error_tells_what_it_holds(&mut secret);
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "token", [], secret.text]])).await;
    run(&host, a, json!([["set", "token", [], format!("{} and new", secret.text)]])).await;
    fails!(secret, FolderStore::open(home.store()).map(drop).unwrap_err(), StoreError::InUse { .. });
    fails!(secret, OpenError::from(StoreError::InUse { path: "charm".to_owned() }), OpenError::Store(_));
    fails!(secret, host.verify(&stranger()).unwrap_err(), VerifyError::NoSuchSpace(_));
    host.shutdown().await.unwrap();
    fails!(secret, StoreError::Full, StoreError::Full);
    let store = FolderStore::open_read_only(home.store()).unwrap();
    let image = store.load(None).unwrap();
    secret.add(&image.secret);
    secret.absent(&format!("{image:?} {:?}", store.log(None, 0, 100).unwrap()));

    let file = home.path().join("notes.txt");
    fs::write(&file, secret.much(100_000)).unwrap();
    fs::set_permissions(home.store(), fs::Permissions::from_mode(0o750)).unwrap();
    fails!(secret, FolderStore::open(home.store()).map(drop).unwrap_err(), StoreError::Readable { .. });
    fs::set_permissions(home.store(), fs::Permissions::from_mode(0o700)).unwrap();
    fails!(secret, FolderStore::open(&file).map(drop).unwrap_err(), StoreError::Damaged { .. });
    fails!(secret, FolderStore::open_read_only(&file).map(drop).unwrap_err(), StoreError::Damaged { .. });
    fails!(secret, FolderStore::open(home.path()).map(drop).unwrap_err(), StoreError::Damaged { .. });
    let other = rusqlite::Connection::open(home.index()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    fails!(secret, FolderStore::open(home.store()).map(drop).unwrap_err(), StoreError::Locked { .. });
    drop(other);
    let folder = far(home.path());
    fs::create_dir_all(&folder).unwrap();
    let far_file = folder.join("charm");
    fails!(secret, FolderStore::open_read_only(&far_file).map(drop).unwrap_err(), StoreError::Failed(_));
    fs::write(&far_file, secret.much(100_000)).unwrap();
    fails!(
        secret,
        FolderStore::open_read_only(&far_file).map(drop).unwrap_err(),
        StoreError::Failed(_) | StoreError::Damaged { .. }
    );
    fails!(secret, FolderStore::open(far(&file)).map(drop).unwrap_err(), StoreError::Failed(_));

    let archive = || Archive::open(FolderStore::open_read_only(home.store()).unwrap()).unwrap();
    let change = |sql: &str| {
        let db = rusqlite::Connection::open(home.index()).unwrap();
        db.execute_batch(sql).unwrap();
    };
    archive().verify(&a).unwrap();
    let hidden = &secret.text;
    change(&format!(
        "INSERT INTO cell SELECT cid, '{}', 1, 1, x'f6' FROM cell WHERE name = 'token'",
        "c".repeat(100_000)
    ));
    fails!(secret, archive().verify(&a).unwrap_err(), VerifyError::Broken { law: Law::State, .. });
    change("DELETE FROM cell WHERE name LIKE 'c%'");
    let said = {
        change("UPDATE cell SET value = x'f6' WHERE name = 'token'");
        fails!(secret, archive().verify(&a).unwrap_err(), VerifyError::Broken { law: Law::State, .. })
    };
    assert!(said.contains("token"), "{said}");
    change(&format!("UPDATE cell SET value = CAST('{hidden}' AS BLOB) WHERE name = 'token'"));
    let damaged = archive().get(&a, "token", &Path::root(), None).unwrap_err();
    fails!(secret, damaged, ReadError::Store(StoreError::Damaged { .. }));
    let damaged = FolderStore::open_read_only(home.store()).unwrap().load(None).map(drop).unwrap_err();
    fails!(secret, damaged, StoreError::Damaged { .. });
    change("UPDATE cell SET value = x'f6' WHERE name = 'token'");
    let before = archive();
    let written = before.cells(&a).unwrap().iter().find(|cell| &*cell.name == "token").unwrap().revision;
    change(&format!("UPDATE log SET record = CAST('{hidden}' AS BLOB) WHERE seq = {written}"));
    fails!(secret, before.verify(&a).unwrap_err(), VerifyError::Unread { why: RecordError::Version(_), .. });
    fails!(secret, before.get(&a, "token", &Path::root(), Some(written - 1)).unwrap_err(), ReadError::Store(_));
    fails!(secret, before.commits(Some(&a), 0, 10).unwrap_err(), StoreError::Failed(_));
    change(&format!("UPDATE log SET record = CAST(x'07' || '{hidden}' AS BLOB) WHERE seq = {written}"));
    fails!(secret, before.verify(&a).unwrap_err(), VerifyError::Broken { law: Law::Chain, .. });
    change("DROP TABLE cell");
    fails!(secret, before.verify(&a).unwrap_err(), VerifyError::Store(_));
}

/// T7, T8: a host that does not open says why, in bounds, whatever the store or the keyring of the embedder says.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_open_says_why_in_bounds() {
    let secret = Secret::new("opening");
    let opened = async |builder: HostBuilder| match builder.open().await {
        Ok(_) => panic!("it opens"),
        Err(error) => error,
    };
    let (store, disk) = GatedStore::new(MemoryStore::new());
    disk.fail(Some(StoreError::Failed(ugly(1 << 20))));
    fails!(secret, opened(builder().store(store)).await, OpenError::Unavailable(Unavailable::Stopped { .. }));
    let limits = Limits { sends_max: 100_000, ..roomy() };
    let refused = limits.check().unwrap_err();
    fails!(secret, refused, LimitError { .. });
    fails!(secret, opened(builder().limits(limits)).await, OpenError::Limit(_));
    // Where the machine does not have what the limits reserve.
    fails!(secret, OpenError::Engine("no memory".to_owned()), OpenError::Engine(_));
    let ca = secret.much(1 << 20).into_bytes();
    fails!(secret, opened(Host::builder().ca(ca)).await, OpenError::Ca { .. });
    let cache = far(File::new("/dev/null"));
    fails!(secret, opened(Host::builder().code_cache(cache)).await, OpenError::CodeCache { .. });
    fails!(secret, Unavailable::Closed, Unavailable::Closed);
    fails!(secret, Unavailable::DiskFull, Unavailable::DiskFull);
    fails!(secret, Unavailable::StoreLocked, Unavailable::StoreLocked);
    fails!(secret, Unavailable::RuntimeEnded, Unavailable::RuntimeEnded);
}

/// T7: a record that is none says of which kind, and nothing of what is in it.
#[test]
fn what_is_no_record_says_why() {
    let secret = Secret::new("records");
    let version = [&[8], secret.text.as_bytes()].concat();
    fails!(secret, Record::from_bytes(&version).unwrap_err(), RecordError::Version(8));
    let malformed = [&[7], secret.text.as_bytes()].concat();
    fails!(secret, Record::from_bytes(&malformed).unwrap_err(), RecordError::Malformed);
    let (space, previous) = (stranger(), [0; 32]);
    let record = Record { version: 7, space, seq: 1, previous, time_ms: 0, body: Body::Uninstalled }.to_bytes();
    let later = [&record[..record.len() - 1], &[99], secret.text.as_bytes()].concat();
    fails!(secret, Record::from_bytes(&later).unwrap_err(), RecordError::Body(99));
}
