//! A disk that lies: each flipped bit in the store's files is found, or changes nothing. (T5, I3)

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use charm_conformance::{Home, Random, copy_store, seed, times};
use charm_host::{Archive, CellRow, DeadLetter, FolderStore, Queued, ReceiptRow, Store, VerifiedStore, VerifyError};

use super::eventful;

/// All that a reader can ask for by DID, position and id.
type Answer = (VerifiedStore, Vec<CellRow>, Vec<Queued>, Vec<ReceiptRow>, Vec<DeadLetter>);

fn ask(file: &Path, writable: bool) -> Result<Answer, VerifyError> {
    let open = || if writable { FolderStore::open(file) } else { FolderStore::open_read_only(file) };
    let mut proof = Archive::open(open()?)?.verify_store()?;
    // The log does not know a space before its first commit.
    proof.spaces.retain(|_, space| space.commits > 0);
    let store = open()?;
    let mut image = store.load(None)?;
    image.cells.sort_by(|a, b| (a.space, &a.name).cmp(&(b.space, &b.name)));
    let listed = store.receipts(None, usize::MAX >> 1)?;
    let found = listed.iter().map(|row| Ok(store.receipt(&row.receipt.id)?.expect("what is listed is found")));
    let receipts = found.collect::<Result<Vec<ReceiptRow>, VerifyError>>()?;
    assert_eq!(receipts, listed, "found by id as listed");
    let letters =
        image.dead.iter().map(|(_, position, _)| Ok(store.dead_letter(*position)?.expect("a letter is there")));
    let letters = letters.collect::<Result<Vec<DeadLetter>, VerifyError>>()?;
    Ok((proof, image.cells, image.queued, receipts, letters))
}

/// Whichever byte: header, pages, schema, keys, values, free space. (T5, I3)
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_found_or_changes_no_answer() {
    let home = Home::default();
    eventful(&home, 1).await;
    let whole = fs::read(home.index()).unwrap();
    let file = home.path().join("copy");
    let put = |bytes: &[u8]| {
        let _ = fs::remove_dir_all(&file);
        copy_store(&home.store(), &file);
        fs::write(file.join("index.db"), bytes).unwrap();
    };
    put(&whole);
    let expected = ask(&file, false).unwrap();
    let mut random = Random::new(seed());
    let (mut found, mut same, mut wrong) = (0, 0, Vec::new());
    let count = times(1_200);
    for number in 0..count {
        // Evenly over the file, from a start that the seed moves; the bit is random.
        let at = ((number * whole.len() as u64 + random.below(whole.len() as u64)) / count) as usize % whole.len();
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << random.below(8);
        put(&bytes);
        let writable = random.chance(100);
        match catch_unwind(AssertUnwindSafe(|| ask(&file, writable))) {
            Ok(Ok(answer)) if answer == expected => same += 1,
            Ok(Ok(_)) => wrong.push(format!("byte {at}: another answer")),
            Ok(Err(error)) => {
                found += 1;
                let text = error.to_string();
                if text.len() > 1_024 {
                    wrong.push(format!("byte {at}: {text}"));
                }
            }
            Err(_) => wrong.push(format!("byte {at}: a panic")),
        }
    }
    eprintln!("{} bytes, {count} flips: {found} found, {same} without effect", whole.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 0 && same > 0);
}

/// What was committed last is in the journal, and some of it in the log of the index, when a host is killed. A group that is
/// damaged looks like one that was never whole: the mark in the lock tells the two apart. (T5, T8)
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_files_of_a_killed_host_is_found_or_changes_no_answer() {
    let home = Home::default();
    let host = super::lively(&home, 1).await;
    // As a host that was killed left it, once the index is behind no more: what is read is of one moment.
    while host.counters().lag_groups > 0 {
        tokio::task::yield_now().await;
    }
    let killed = home.path().join("killed");
    copy_store(&home.store(), &killed);
    let file = home.path().join("copy");
    let journal = fs::read_dir(killed.join("journal")).unwrap().map(|entry| entry.unwrap().file_name());
    let journal = journal.map(|name| format!("journal/{}", name.into_string().unwrap())).collect::<Vec<_>>();
    let put = |flipped: Option<(&str, usize, u64)>| {
        let _ = fs::remove_dir_all(&file);
        copy_store(&killed, &file);
        let (name, at, bit) = flipped?;
        let mut bytes = fs::read(file.join(name)).unwrap();
        bytes[at] ^= 1 << bit;
        fs::write(file.join(name), &bytes).unwrap();
        Some(bytes)
    };
    put(None);
    let expected = ask(&file, true).unwrap();
    let mut random = Random::new(seed());
    for name in journal.iter().map(String::as_str).chain(["index.db-wal"]) {
        let whole = fs::read(killed.join(name)).unwrap();
        // A file that was made ready ends in zeros that say nothing.
        let length = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let (mut found, count) = (0, times(200));
        for number in 0..count {
            let (at, bit) = (random.below(length as u64) as usize, random.below(8));
            let bytes = put(Some((name, at, bit))).unwrap();
            match ask(&file, number % 2 == 0) {
                Ok(answer) => assert!(answer == expected, "{name}, byte {at}: another answer"),
                Err(_) => {
                    found += 1;
                    let kept = fs::read(file.join(name)).unwrap();
                    assert!(kept == bytes, "{name}, byte {at}: what is refused stays as it was found");
                }
            }
        }
        eprintln!("{name}: {length} bytes, {found} flips found, {} without effect", count - found);
        assert!(found > 0 || name == "index.db-wal", "what the index loses is in the journal");
    }
}

/// (I3)
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_put_in_place_of_the_store_is_refused_until_the_operator_accepts_it() {
    let home = Home::default();
    eventful(&home, 1).await;
    let older = home.path().join("older");
    copy_store(&home.store(), &older);
    let host = home.open().await;
    let charm = charm_conformance::probe(&host, "later").await;
    charm_conformance::note(&host, charm, serde_json::json!(1)).await;
    host.shutdown().await.unwrap();
    // Closed by whoever holds it last.
    drop(home.builder().await);
    let lock = fs::read(home.store().join("lock")).unwrap();
    let put = |part: &str| {
        let _ = fs::remove_dir_all(home.store());
        copy_store(&older, &home.store());
        fs::write(home.store().join("lock"), &lock).unwrap();
        if !part.is_empty() {
            fs::remove_dir_all(home.store().join(part)).unwrap();
        }
    };
    put("");
    for refused in [FolderStore::open(home.store()), FolderStore::open_read_only(home.store())] {
        let text = refused.err().unwrap().to_string();
        assert!(text.contains("was durable") && text.contains("older copy"), "{text}");
    }
    // Nor is a new one begun where one was.
    put("journal");
    let text = FolderStore::open(home.store()).err().unwrap().to_string();
    assert!(text.contains("journal is gone") && !home.store().join("journal").exists(), "{text}");
    put("");
    fs::remove_file(home.store().join("lock")).unwrap();
    home.open().await.shutdown().await.unwrap();
}
