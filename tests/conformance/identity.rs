//! Identity: one key and one DID per charm, spaces that prove themselves (I1-I4).
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "identity/tamperings.rs"]
mod tamperings;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use charm_conformance::*;
use charm_host::{
    Archive, Did, FileKeyring, FolderStore, Host, InstallError, KeyError, Keyring, Manifest, NewEvent, Outcome, Record,
    RecordError, SendError, Store, Verified, VerifyError,
};
use ed25519_dalek::{Signature, VerifyingKey};
use rusqlite::Connection;
use serde_json::json;
use sha2::{Digest, Sha256};
use tamperings::TAMPERINGS;

fn key_file(home: &Home, did: Did) -> PathBuf {
    home.keys().join(format!("{}.key", did.to_string().strip_prefix("did:key:").unwrap()))
}

fn set_mode(path: &PathBuf, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// I1
#[tokio::test]
async fn every_charm_has_its_own_did_key() {
    let host = host().await;
    let dids = probes(&host, ["a", "b", "c"]).await;
    for did in dids {
        let text = did.to_string();
        assert!(text.starts_with("did:key:z6Mk") && text.len() == 56, "{text}");
        assert_eq!(text.parse::<Did>(), Ok(did));
    }
    assert!(dids[0] != dids[1] && dids[1] != dids[2] && dids[0] != dids[2]);
    assert!(!dids.contains(&host.operator()));
}

/// I1
#[tokio::test]
async fn the_same_name_keeps_its_did_through_restart_and_new_components() {
    let home = Home::default();
    let host = home.open().await;
    let operator = host.operator();
    let did = probe(&host, "auth").await;
    run(&host, did, json!([["set", "x", [], 1]])).await;
    assert_eq!(probe(&host, "auth").await, did, "installed again");
    host.shutdown().await.unwrap();
    let host = home.open().await;
    assert_eq!(host.did_of("auth"), Some(did), "known before it is installed");
    let other = charm_host::Charm::new("auth", component("trespasser"));
    assert_eq!(host.install(other).await.unwrap(), did, "another component");
    assert_eq!(cell(&host, did, "x").await, json!(1));
    assert_eq!(host.operator(), operator);
}

/// I1
#[tokio::test]
async fn a_pinned_did_that_is_not_the_stored_one_is_refused_by_name() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    assert_eq!(host.install(probe_charm("a").pinned(a)).await.unwrap(), a);
    let refused = host.install(probe_charm("a").pinned(b)).await.unwrap_err();
    assert!(matches!(refused, InstallError::OtherDid { wanted, found, .. } if wanted == b && found == a));
    let text = refused.to_string();
    assert!(text.contains(&a.to_string()) && text.contains(&b.to_string()), "{text}");
    assert_eq!(run(&host, a, json!([])).await.outcome, Outcome::Committed, "the installed one goes on");
    let stranger = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().unwrap();
    let refused = host.install(probe_charm("new").pinned(stranger)).await.unwrap_err();
    assert!(matches!(refused, InstallError::Key { error: KeyError::Missing { .. }, .. }), "{refused}");
}

/// I1
#[tokio::test]
async fn a_manifest_with_another_did_than_the_stores_installs_nothing() {
    let home = Home::default();
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    fs::write(home.path().join("probe.wasm"), component("probe")).unwrap();
    let file = home.path().join("charms.toml");
    let load = |did: &str| {
        fs::write(&file, format!("[charm.a]\ncomponent = \"probe.wasm\"\ndid = \"{did}\"\n")).unwrap();
        Manifest::load(&file).unwrap()
    };
    load(&a.to_string()).install(&host).await.unwrap();
    let refused = load(&b.to_string()).install(&host).await.unwrap_err();
    assert!(refused.to_string().contains(&format!("the manifest says {b}, the store has {a}")), "{refused}");
    for did in ["did:key:z6MkNope", "did:web:example.com", "z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp", ""] {
        let refused = load(did).install(&host).await.unwrap_err().to_string();
        assert!(refused.contains("charm a") && refused.contains(&format!("did {did}")), "{refused}");
    }
}

/// I1
#[tokio::test]
async fn key_files_are_one_per_did_and_readable_by_the_owner_only() {
    let home = Home::default();
    let host = home.open().await;
    let dids = probes(&host, ["a", "b"]).await;
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.keys()), 0o700);
    for did in dids {
        assert_eq!(mode(&key_file(&home, did)), 0o600);
    }
    assert_eq!(fs::read_dir(home.keys()).unwrap().count(), 4, "with the keys of the host and the operator");
}

/// I1
#[tokio::test]
async fn a_key_file_that_others_can_read_is_refused_with_the_command_that_helps() {
    let home = Home::default();
    let did = {
        let host = home.open().await;
        let did = probe(&host, "a").await;
        host.shutdown().await.unwrap();
        did
    };
    let file = key_file(&home, did);
    for mode in [0o640, 0o604, 0o660, 0o601, 0o777] {
        set_mode(&file, mode);
        let host = home.open().await;
        let refused = host.install(probe_charm("a")).await.expect_err("a readable key is refused");
        host.shutdown().await.unwrap();
        let error = |refused: &InstallError| matches!(refused, InstallError::Key { error: KeyError::Readable { mode: found, .. }, .. } if *found == mode);
        assert!(error(&refused), "{refused}");
        let text = refused.to_string();
        assert!(text.contains(&file.display().to_string()) && text.contains("chmod 600"), "{text}");
    }
    set_mode(&file, 0o600);
    assert_eq!(probe(&home.open().await, "a").await, did);
}

/// I1
#[tokio::test]
async fn a_key_file_that_is_gone_or_holds_another_key_is_refused_by_name() {
    let home = Home::default();
    let (a, b, mut host) = {
        let host = home.open().await;
        let (a, b) = pair(&host).await;
        (a, b, host)
    };
    let (file, good) = (key_file(&home, a), fs::read_to_string(key_file(&home, a)).unwrap());
    for bad in [fs::read_to_string(key_file(&home, b)).unwrap(), String::new(), "x".repeat(64), good[..62].to_owned()] {
        host.shutdown().await.unwrap();
        fs::write(&file, &bad).unwrap();
        host = home.open().await;
        let refused = host.install(probe_charm("a")).await.expect_err("a wrong key is refused");
        assert!(matches!(&refused, InstallError::Key { error: KeyError::Malformed { .. }, .. }), "{refused}");
        assert!(!refused.to_string().contains(bad.trim_end()) || bad.is_empty(), "the error tells nothing of the file");
    }
    host.shutdown().await.unwrap();
    fs::remove_file(&file).unwrap();
    let host = home.open().await;
    let refused = host.install(probe_charm("a")).await.expect_err("a missing key is refused");
    assert!(matches!(&refused, InstallError::Key { error: KeyError::Missing { did }, .. } if *did == a), "{refused}");
    host.shutdown().await.unwrap();
    fs::write(&file, good).unwrap();
    set_mode(&file, 0o600);
    home.open().await;
}

/// I4
#[tokio::test]
async fn a_handler_sees_who_sent_the_event() {
    let host = host().await;
    let (a, b) = pair(&host).await;
    let sender = |seen: serde_json::Value| seen[0]["sender"].as_str().unwrap().parse::<Did>().unwrap();
    assert_eq!(sender(results(&host, a, json!([["context"]])).await), host.operator());
    let asks = json!({ "steps": [["context"]], "out": "out" });
    run(&host, a, json!([["send", of(b, "run"), asks]])).await;
    settle(&host).await;
    assert_eq!(sender(cell(&host, b, "out").await), a);
    let visitor: Did = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().unwrap();
    let event = || NewEvent::new(b, "run", value(asks.clone())).from(visitor);
    assert!(matches!(host.request(event()).await, Err(SendError::Denied { sender, .. }) if sender == visitor));
    grant(&host, visitor, BTreeMap::new(), [(b, only(&["run"]))].into()).await.unwrap();
    assert_eq!(host.request(event()).await.unwrap().outcome, Outcome::Committed);
    assert_eq!(sender(cell(&host, b, "out").await), visitor);
}

/// I2
#[tokio::test]
async fn only_commits_made_for_its_did_enter_a_space() {
    let home = Home::default();
    let (host, a, b) = busy(&home).await;
    let before = (commits(&host, a), commits(&host, b));
    host.shutdown().await.unwrap();
    let archive = Archive::open(FolderStore::open_read_only(home.store()).unwrap()).unwrap();
    for (did, count) in [(a, before.0), (b, before.1)] {
        let commits = archive.commits(Some(&did), 0, 1_000).unwrap();
        assert_eq!(commits.len() as u64, count);
        assert!(commits.iter().all(|commit| commit.record.space == did));
    }
}

/// A host with a few commits in two spaces: writes, removals, sends, a failure.
async fn busy(home: &Home) -> (Host, Did, Did) {
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    for n in 0..5 {
        let note = json!(["send", of(b, "note"), n, { "stream": "on-receipt" }]);
        run(&host, a, json!([["set", "x", [n], n], note])).await;
    }
    run(&host, a, json!([["set", "gone", [], 1]])).await;
    run(&host, a, json!([["remove", "gone", []]])).await;
    run_unasked(&host, a, json!([["reject", "no"]])).await;
    settle(&host).await;
    (host, a, b)
}

/// I3
#[tokio::test]
async fn a_space_proves_itself_with_nothing_but_its_did() {
    let home = Home::default();
    let (host, a, b) = busy(&home).await;
    let proof = host.verify(&a).unwrap();
    assert_eq!(proof.commits, commits(&host, a));
    host.verify(&b).unwrap();
    host.shutdown().await.unwrap();
    // A clean end leaves every head signed.
    let proof = Verified { signed: proof.commits, ..proof };
    // Without the host, without the keys.
    fs::remove_dir_all(home.keys()).unwrap();
    let archive = Archive::open(FolderStore::open_read_only(home.store()).unwrap()).unwrap();
    assert_eq!(archive.verify(&a).unwrap(), proof);
    let stranger = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp".parse().unwrap();
    assert!(matches!(archive.verify(&stranger), Err(VerifyError::NoSuchSpace(did)) if did == stranger));
}

/// I2, I3: a record's hash is SHA-256 over `charm commit v7\0` and its bytes; the record after it holds it. The space's key
/// signs `charm head v1\0`, its public key, the record's number in 8 bytes, big end first, and the hash, with Ed25519.
#[tokio::test(flavor = "multi_thread")]
async fn a_space_is_proved_with_nothing_but_sha_256_and_ed25519() {
    let home = Home::default();
    let (host, a, _) = busy(&home).await;
    host.shutdown().await.unwrap();
    let store = FolderStore::open_read_only(home.store()).unwrap();
    let entries = store.log(Some(&a), 0, 1_000).unwrap();
    let row = store.load(None).unwrap().spaces.into_iter().find(|row| row.did == a).unwrap();
    let key = VerifyingKey::from_bytes(a.public_key()).unwrap();
    let mut previous = [0; 32];
    for entry in &entries {
        let record = Record::from_bytes(&entry.record).unwrap();
        assert_eq!((record.space, record.seq, record.previous), (a, entry.seq, previous));
        previous = Sha256::new().chain_update(b"charm commit v7\0").chain_update(&entry.record).finalize().into();
    }
    let (seq, signature) = row.signed.unwrap();
    let message = [&b"charm head v1\0"[..], a.public_key(), &seq.to_be_bytes(), &previous].concat();
    key.verify_strict(&message, &Signature::from_bytes(&signature)).unwrap();
    assert!(entries.len() > 1 && entries.last().unwrap().seq == seq, "a clean end signs the last commit");
    let (mut end, host) =
        ([0; 32], store.load(None).unwrap().spaces.into_iter().find(|row| row.name == "@host").unwrap());
    let key = VerifyingKey::from_bytes(host.did.public_key()).unwrap();
    let mut is_sealed = false;
    for entry in store.log(None, 0, 1_000).unwrap() {
        let record = Sha256::new().chain_update(b"charm commit v7\0").chain_update(&entry.record).finalize();
        let (at, late) = entry.taken.map_or((0, 0), |taken| (taken.position, u8::from(taken.late)));
        let numbers = [entry.order, entry.position, at].map(u64::to_be_bytes).concat();
        let parts = [&b"charm entry v1\0"[..], &end, &numbers, &[late], &record].concat();
        end = Sha256::digest(parts).into();
        is_sealed = entry.seal.is_some();
        if let Some(seal) = entry.seal {
            let message = [&b"charm seal v1\0"[..], host.did.public_key(), &entry.order.to_be_bytes(), &end].concat();
            key.verify_strict(&message, &Signature::from_bytes(&seal)).unwrap();
        }
    }
    assert!(is_sealed, "the host's key covers the last commit of all");
}

/// I2: one record has one spelling.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_bytes_are_the_same_record() {
    let home = Home::default();
    let (host, a, _) = busy(&home).await;
    host.shutdown().await.unwrap();
    let bytes = FolderStore::open_read_only(home.store()).unwrap().log(Some(&a), 0, 1).unwrap().remove(0).record;
    let record = Record::from_bytes(&bytes).unwrap();
    assert_eq!(record.to_bytes(), bytes[..]);
    assert_eq!(Record::from_bytes(&[&bytes[..], &[0]].concat()), Err(RecordError::Malformed), "bytes after it");
    assert_eq!(Record::from_bytes(&bytes[..bytes.len() - 1]), Err(RecordError::Malformed), "cut");
    let version = |version| Record::from_bytes(&Record { version, ..record.clone() }.to_bytes());
    assert_eq!(version(2), Err(RecordError::Malformed), "none ever was of this version");
    assert_eq!(version(8), Err(RecordError::Version(8)));
    let other = Record { seq: 2, ..record }.to_bytes();
    let seq = bytes.iter().zip(&other).position(|(one, two)| one != two).unwrap();
    let padded = [&bytes[..seq], &[bytes[seq] | 0x80, 0], &bytes[seq + 1..]].concat();
    assert_eq!(Record::from_bytes(&padded), Err(RecordError::Malformed), "a number with a zero in front");
}

/// I3: the signed head covers each commit before it, and a restart goes on with the chain.
#[tokio::test]
async fn the_chain_goes_on_through_a_restart() {
    let home = Home::default();
    let (host, a, _) = busy(&home).await;
    let before = host.verify(&a).unwrap();
    host.shutdown().await.unwrap();
    let host = home.open().await;
    pair(&host).await;
    run(&host, a, json!([["set", "x", [], "after"]])).await;
    let after = host.verify(&a).unwrap();
    assert!(after.commits >= before.commits + 2, "the event, and its turn");
    assert_ne!(after.head, before.head);
}

/// I3: whatever is changed in the file.
#[tokio::test]
async fn every_tampering_with_a_space_is_found() {
    let home = Home::default();
    let (host, a, b) = busy(&home).await;
    host.shutdown().await.unwrap();
    drop(home.builder().await);
    let copy = home.path().join("copy");
    let verify = || {
        let archive = Archive::open(FolderStore::open_read_only(&copy).unwrap());
        archive.map_err(VerifyError::from).and_then(|archive| archive.verify(&a))
    };
    copy_store(&home.store(), &copy);
    verify().unwrap();
    for (name, tamper) in TAMPERINGS {
        fs::remove_dir_all(&copy).unwrap();
        copy_store(&home.store(), &copy);
        let db = Connection::open(copy.join("index.db")).unwrap();
        let cid = |did: Did| -> i64 {
            db.query_row("SELECT cid FROM space WHERE did = ?1", [did.public_key()], |row| row.get(0)).unwrap()
        };
        tamper(&db, cid(a), cid(b));
        drop(db);
        let found = verify();
        let error = found.expect_err(name).to_string();
        assert!(error.contains(&a.to_string()) || error.contains("copy/index.db"), "{name}: says which space: {error}");
        assert!(error.len() <= 1 << 10, "{name}: {error}");
    }
}

/// I1: neither as bytes nor as text.
#[tokio::test]
async fn a_secret_key_is_nowhere_but_in_its_file() {
    let logs = Logs::capture();
    let home = Home::default();
    let (host, a, b) = busy(&home).await;
    // The guest tells all that it can see; the faults tell what the host has to say.
    let told =
        results(&host, a, json!([["context"], ["wish", "#probe", {}], ["try", ["set", of(b, "x"), [], 1]]])).await;
    for failure in [json!(["panic", "x"]), json!(["trap"]), json!(["get", ["nobody", "x"], []])] {
        run(&host, a, json!([failure])).await;
    }
    let letters = format!("{:?} {:?}", host.dead_letters(&a, 0, usize::MAX).unwrap(), host.spaces());
    host.shutdown().await.unwrap();
    drop(home.builder().await);
    let seeds: Vec<String> =
        [a, b].map(|did| fs::read_to_string(key_file(&home, did)).unwrap().trim_end().to_owned()).to_vec();
    set_mode(&key_file(&home, a), 0o644);
    let host = home.open().await;
    let refused = host.install(probe_charm("a")).await.unwrap_err();
    host.shutdown().await.unwrap();
    let refused = format!("{refused} {refused:?}");
    set_mode(&key_file(&home, a), 0o600);
    let keyring = FileKeyring::open(home.keys()).unwrap();
    keyring.check(&a).unwrap();
    let mut places =
        vec![told.to_string().into_bytes(), letters.into_bytes(), refused.into_bytes(), logs.text().into_bytes()];
    for folder in [home.store(), home.store().join("journal")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                places.push(fs::read(path).unwrap());
            }
        }
    }
    assert!(places.len() >= 8 && places[3].len() > 1_000, "log and store are searched");
    for seed in seeds {
        let bytes: Vec<u8> =
            (0..32).map(|index| u8::from_str_radix(&seed[index * 2..index * 2 + 2], 16).unwrap()).collect();
        let forms = [bytes.clone(), seed.clone().into_bytes(), seed.to_uppercase().into_bytes()];
        for (place, form) in places.iter().flat_map(|place| forms.iter().map(move |form| (place, form))) {
            let found = place.windows(form.len()).any(|part| part == form.as_slice());
            assert!(!found, "a secret key is in what the host wrote or said");
        }
    }
}
