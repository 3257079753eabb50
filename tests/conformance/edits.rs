//! C7: many orders in one cell, each written at its key: what an order costs does not grow with the cell.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use charm_conformance::*;
use charm_host::{Archive, Did, FolderStore, Host, Limits, MemoryStore, Outcome, Path, Segment};
use serde_json::{Value as Json, json};

fn order(number: usize) -> Json {
    let line = |n: usize| json!({ "sku": format!("sku-{:04}", (number * 7 + n) % 1_000), "count": n + 1 });
    json!({ "id": 100_000 + number, "lines": [line(0), line(1), line(2)], "note": "leave it at the door, please" })
}

fn key(number: usize) -> String {
    format!("order-{:05}", number * 211 % 10_007)
}

/// Takes one order, in a turn of its own; returns the number of its commit if it fits.
async fn take(host: &Host, charm: Did, number: usize) -> Option<u64> {
    let receipt = run(host, charm, json!([["set", "orders", [key(number)], order(number)]])).await;
    match receipt.outcome {
        Outcome::Committed => receipt.commit,
        Outcome::Rejected => {
            assert!(receipt.message.unwrap().contains("value-bytes-max"));
            None
        }
        _ => panic!("{receipt:?}"),
    }
}

/// What the host hands to its store, counted: records, and what goes beside them into cells.
#[tokio::test]
async fn an_order_adds_to_the_store_what_it_holds_from_the_first_to_the_last_that_fits() {
    const BLOCK: usize = 250;
    let memory = MemoryStore::new();
    let (store, control) = GatedStore::new(memory.clone());
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    control.look(move |batch| {
        let records = batch.log.iter().map(|entry| entry.record.len());
        let edits = batch.cells.iter().flat_map(|write| &write.edits);
        let cells = edits.map(|edit| edit.put.as_ref().map_or(0, |value| value.as_bytes().len()));
        count.fetch_add(records.chain(cells).sum(), Ordering::Relaxed);
    });
    let host = builder().store(store).open().await.unwrap();
    let charm = probe(&host, "shop").await;
    let (mut taken, mut blocks) = (0, Vec::new());
    let mut before = written.load(Ordering::Relaxed);
    while take(&host, charm, taken).await.is_some() {
        taken += 1;
        if taken.is_multiple_of(BLOCK) {
            let now = written.load(Ordering::Relaxed);
            blocks.push((now - before) / BLOCK);
            before = now;
        }
    }
    let cell = host.cells(&charm).await.unwrap().remove(0);
    assert!(cell.bytes > Limits::default().value_bytes_max - 1_024, "{} bytes", cell.bytes);
    assert!(taken > 3_000, "{taken} orders");
    let (least, most) = (blocks.iter().min().unwrap(), blocks.iter().max().unwrap());
    // The order in the event, in the record and in the cell; ids and DIDs.
    assert!(*most <= 3 * value(order(0)).as_bytes().len() + 512, "{blocks:?} bytes an order");
    assert!(*most * 10 <= *least * 11, "{blocks:?} bytes an order");
    for number in [0, 1, taken / 2, taken - 1] {
        let found: Json = host.get(&charm, "orders", &Path(vec![Segment::Key(key(number))])).await.unwrap().unwrap();
        assert_eq!(found, order(number));
    }
    host.shutdown().await.unwrap();
    Archive::open(memory).unwrap().verify_store().unwrap();
}

/// The index, after a clean end; the journal has what `an_order_adds_to_the_store_what_it_holds` counts.
#[tokio::test]
async fn an_order_takes_the_same_room_on_disk_in_a_small_cell_and_in_a_large_one() {
    const BLOCK: usize = 500;
    let home = Home::default();
    let (mut charm, mut sizes, mut commits) = (None, vec![], vec![]);
    for block in 0..4 {
        let host = home.open().await;
        let shop = probe(&host, "shop").await;
        charm = Some(shop);
        for number in block * BLOCK..(block + 1) * BLOCK {
            commits.push(take(&host, shop, number).await.unwrap());
        }
        host.shutdown().await.unwrap();
        sizes.push(std::fs::metadata(home.index()).unwrap().len() as usize);
    }
    let steps: Vec<usize> = sizes.windows(2).map(|pair| (pair[1] - pair[0]) / BLOCK).collect();
    let order_bytes = value(order(0)).as_bytes().len();
    // Beside the record, its receipts and the event itself there is the order in the cell, and once more until there is a new base.
    assert!(steps.iter().all(|step| *step < 12 * order_bytes), "{steps:?} bytes an order of {order_bytes}");
    let (least, most) = (steps.iter().min().unwrap(), steps.iter().max().unwrap());
    assert!(*most * 2 <= *least * 3, "{steps:?} bytes an order");
    // What stands in base and edits is one value, now and before.
    let (archive, shop) = (Archive::open(FolderStore::open_read_only(home.store()).unwrap()).unwrap(), charm.unwrap());
    archive.verify_store().unwrap();
    archive.verify(&shop).unwrap();
    let orders = |at| archive.get(&shop, "orders", &Path::root(), at).unwrap();
    let wanted = |taken: usize| value((0..taken).map(|number| (key(number), order(number))).collect());
    assert_eq!(orders(None), Some(wanted(4 * BLOCK)));
    for taken in [1, 2, 700] {
        assert_eq!(orders(Some(commits[taken - 1])), Some(wanted(taken)));
    }
}
