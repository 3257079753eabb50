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
    let mut image = store.load([0; 32])?;
    image.cells.sort_by(|a, b| (a.space, &a.name).cmp(&(b.space, &b.name)));
    let listed = store.receipts(None, usize::MAX >> 1)?;
    let found = listed.iter().map(|row| Ok(store.receipt(&row.receipt.id)?.expect("what is listed is found")));
    let receipts = found.collect::<Result<Vec<ReceiptRow>, VerifyError>>()?;
    assert_eq!(receipts, listed, "found by id as listed");
    let letters = image.dead.iter().map(|(_, position)| Ok(store.dead_letter(*position)?.expect("a letter is there")));
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
