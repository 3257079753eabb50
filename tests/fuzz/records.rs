//! Commit records, as a store that others can write to may hold them (I3).

use charm_conformance::{Home, cell, of, pair, run, settle};
use charm_host::{FolderStore, Record, Store, record_hash};
use serde_json::json;

use super::{change, fuzz};

/// Records of every kind: installs, outside events, writes of all sorts, sends with receipts, failures.
async fn written() -> Vec<Vec<u8>> {
    let home = Home::default();
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    let tag = json!({ "stream": "on-receipt", "tag": { "n": 1 } });
    run(&host, a, json!([["set", "x", [], { "deep": [1, 2.5, "text", null] }], ["send", of(b, "note"), 1, tag]])).await;
    run(&host, a, json!([["remove", "x", ["deep", 0]], ["send", of(b, "no-such"), 1]])).await;
    run(&host, b, json!([["reject", "no"]])).await;
    settle(&host).await;
    assert_eq!(cell(&host, b, "notes").await, json!([1]));
    host.shutdown().await.unwrap();
    let entries = FolderStore::open_read_only(home.store()).unwrap().log(None, 0, 100).unwrap();
    entries.into_iter().map(|entry| entry.record.to_vec()).collect()
}

/// One byte string stands for a record, so that its hash stands for what it says.
#[test]
fn a_record_that_reads_writes_the_same_bytes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let corpus = runtime.block_on(written());
    assert!(corpus.len() >= 6);
    corpus.iter().for_each(|bytes| assert!(Record::from_bytes(bytes).is_ok()));
    fuzz("records", 400_000, &corpus, change, |bytes| {
        if let Ok(record) = Record::from_bytes(bytes) {
            assert_eq!(record.to_bytes(), bytes);
            assert_eq!(record_hash(&record.to_bytes()), record_hash(bytes));
        }
    });
}
