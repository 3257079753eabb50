//! Names that guests and clients choose and that look like files, markup or commands: they are names, nothing else.

use std::{collections::BTreeSet, path::Path};

use super::*;

/// What has opened other systems' doors.
const NAMES: [&str; 18] = [
    "../../../../tmp/planted",
    "..",
    ".",
    "/etc/passwd",
    "//server/share",
    "a/../../b",
    "C:\\planted",
    "..\\..\\planted",
    "CON",
    "aux.txt",
    "planted.db-wal",
    "keys/planted",
    "file:planted?mode=rwc",
    "'; DROP TABLE cell; --",
    "%2e%2e%2fplanted",
    "$(touch planted)",
    "<script>alert(1)</script>",
    "@host",
];

fn files(folder: &Path) -> BTreeSet<String> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path())
            }
            found.insert(entry.path().display().to_string());
        }
    }
    found
}

/// Cells, streams, tags and supplied ids of any such name work like others, outlive the host, and make no file.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_looks_like_a_path_is_only_a_name() {
    let home = Home::default();
    let host = home.open().await;
    let a = probe(&host, "a").await;
    run(&host, a, json!([["set", "x", [], 1]])).await;
    let before = files(home.path());
    for name in NAMES {
        let steps = json!({ "steps": [["set", name, [name], name], ["try", ["send", name, name]], ["wish", format!("#{name}"), {}]] });
        let event = NewEvent::new(a, "run", value(steps)).id(name);
        let receipt = host.request(event.clone()).await.unwrap();
        assert!(matches!(receipt.outcome, Outcome::Committed | Outcome::Rejected), "{name}: {receipt:?}");
        assert_eq!(host.request(event).await.unwrap(), receipt, "{name}: the same id is the same event");
        // What begins a path is no part of the name of a cell.
        assert_eq!(receipt.outcome == Outcome::Rejected, name.contains('/'), "{name}");
        let kept = name.replace('/', "|");
        run(&host, a, json!([["set", kept, [name], name]])).await;
        assert_eq!(cell(&host, a, &kept).await, json!({ name: name }));
        let charm = host.install(Charm::new(name, component("probe"))).await;
        assert!(matches!(charm, Err(InstallError::Name { .. })), "{name} is no name of a charm");
    }
    host.shutdown().await.unwrap();
    let host = home.open().await;
    probe(&host, "a").await;
    for name in NAMES {
        assert_eq!(cell(&host, a, &name.replace('/', "|")).await, json!({ name: name }));
    }
    host.verify_store().unwrap();
    let planted: Vec<String> = files(home.path()).difference(&before).cloned().collect();
    assert_eq!(planted, Vec::<String>::new());
}
