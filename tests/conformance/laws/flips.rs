//! A disk that lies: each flipped bit in the store's file is found, or changes nothing. (T5, I3)

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use charm_conformance::{Home, Random, seed, times};
use charm_host::{Archive, CellRow, DeadLetter, Queued, ReceiptRow, SqliteStore, Store, VerifiedStore, VerifyError};

use super::eventful;

/// All that a reader can ask for by DID, position and id.
type Answer = (VerifiedStore, Vec<CellRow>, Vec<Queued>, Vec<ReceiptRow>, Vec<DeadLetter>);

fn ask(file: &Path, writable: bool) -> Result<Answer, VerifyError> {
    let open = || if writable { SqliteStore::open(file) } else { SqliteStore::open_read_only(file) };
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
    rusqlite::Connection::open(home.store()).unwrap().pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
    let whole = fs::read(home.store()).unwrap();
    let file = home.path().join("copy.db");
    let put = |bytes: &[u8]| {
        for end in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(home.path().join(format!("copy.db{end}")));
        }
        fs::write(&file, bytes).unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
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

/// What was committed last is in the write-ahead log until the next start. SQLite ends that log at the first frame
/// that is damaged, as if the power had gone there: the mark beside the store tells the two apart. (T5, T8)
#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_write_ahead_log_of_a_killed_host_is_found_or_changes_no_answer() {
    let home = Home::default();
    let _host = super::lively(&home, 1).await;
    // As the host that was killed left it.
    let ends = ["", "-wal", ".lock"];
    let read = |end: &str| fs::read(format!("{}{end}", home.store().display())).unwrap();
    let whole = ends.map(read);
    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join("charm.db");
    let put = |parts: &[Vec<u8>; 3]| {
        let _ = fs::remove_file(copy.path().join("charm.db-shm"));
        for (end, bytes) in ends.iter().zip(parts) {
            fs::write(format!("{}{end}", file.display()), bytes).unwrap();
            fs::set_permissions(
                format!("{}{end}", file.display()),
                std::os::unix::fs::PermissionsExt::from_mode(0o600),
            )
            .unwrap();
        }
    };
    put(&whole);
    let expected = ask(&file, true).unwrap();
    let mut random = Random::new(seed());
    let (mut found, mut same) = (0, 0);
    for number in 0..times(200) {
        let mut parts = whole.clone();
        let at = random.below(parts[1].len() as u64) as usize;
        parts[1][at] ^= 1 << random.below(8);
        put(&parts);
        match ask(&file, number % 2 == 0) {
            Ok(answer) => assert!(answer == expected, "byte {at}: another answer"),
            Err(_) => {
                found += 1;
                let kept = fs::read(format!("{}-wal", file.display())).unwrap();
                assert!(kept == parts[1], "byte {at}: what is refused stays as it was found");
            }
        }
        same = number + 1 - found;
    }
    eprintln!("{} bytes, {found} flips found, {same} without effect", whole[1].len());
    assert!(found > 0);
}

/// (I3)
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_put_in_place_of_the_store_is_refused_until_the_operator_accepts_it() {
    let home = Home::default();
    eventful(&home, 1).await;
    let older = fs::read(home.store()).unwrap();
    let host = home.open().await;
    let charm = charm_conformance::probe(&host, "later").await;
    charm_conformance::note(&host, charm, serde_json::json!(1)).await;
    host.shutdown().await.unwrap();
    // Closed by whoever holds it last.
    drop(home.builder().await);
    fs::write(home.store(), older).unwrap();
    fs::set_permissions(home.store(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for refused in [SqliteStore::open(home.store()), SqliteStore::open_read_only(home.store())] {
        let text = refused.err().unwrap().to_string();
        assert!(text.contains("was durable") && text.contains("older copy"), "{text}");
    }
    // Nor is a new one begun where one was.
    let kept = fs::read(home.store()).unwrap();
    fs::remove_file(home.store()).unwrap();
    let text = SqliteStore::open(home.store()).err().unwrap().to_string();
    assert!(text.contains("it is empty") && !home.store().exists(), "{text}");
    fs::write(home.store(), kept).unwrap();
    fs::set_permissions(home.store(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::remove_file(format!("{}.lock", home.store().display())).unwrap();
    home.open().await.shutdown().await.unwrap();
}
