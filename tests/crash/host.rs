//! A host to be killed: `crash-host FOLDER FIRST`. It prints `ready`, then sends events numbered from FIRST on
//! and prints `ack NUMBER ID` for each that has its receipt, until it is killed.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program of the tests")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use charm_conformance::{builder, component, of, script};
use charm_host::{Did, FileKeyring, Host, Manifest, NewEvent, Outcome, SqliteStore};
use serde_json::json;

const MANIFEST: &str = r#"
[charm.a]
component = "probe.wasm"
grant = [{ charm = "b", send = ["note"] }]
[charm.b]
component = "probe.wasm"
"#;

/// Events in flight.
const WORKERS: usize = 8;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().unwrap());
    let next = Arc::new(AtomicU64::new(args.next().unwrap().parse().unwrap()));
    let store = SqliteStore::open(folder.join("store.db")).unwrap();
    let keyring = FileKeyring::open(folder.join("keys")).unwrap();
    let host = Arc::new(builder().store(store).keyring(keyring).open().await.unwrap());
    let manifest = folder.join("charms.toml");
    std::fs::write(folder.join("probe.wasm"), component("probe")).unwrap();
    std::fs::write(&manifest, MANIFEST).unwrap();
    // All at once: what waited since the last time needs every charm and every grant.
    let dids = Manifest::load(&manifest).unwrap().install(&host).await.unwrap();
    let (a, b) = (dids["a"], dids["b"]);
    println!("ready");
    let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(work(host.clone(), a, b, next.clone()))).collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

/// Each event makes `a` write a cell and send a note to `b`; the receipts of some go to the notes of `a`.
async fn work(host: Arc<Host>, a: Did, b: Did, next: Arc<AtomicU64>) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let mut send = json!(["send", of(b, "note"), number]);
        if number.is_multiple_of(8) {
            send.as_array_mut().unwrap().push(json!({"stream": "note", "tag": number}));
        }
        let steps = script(json!([["set", "last", [], number], send]));
        let event = NewEvent::new(a, "run", steps).id(format!("event {number}"));
        let receipt = host.request(event).await.unwrap();
        assert_eq!(receipt.outcome, Outcome::Committed);
        println!("ack {number} {}", receipt.id);
    }
}
