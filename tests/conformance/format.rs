//! Chapter format: the bytes of docs/format.md, shown by a reader that was written from that page alone, and by vectors
//! (I2, I3).
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they skip")]

use std::{path::Path, process::Command};

use charm_conformance::*;
use charm_host::{
    Body, CellsRoot, Checkpoint, Cut, Did, Edit, Event, EventId, EventMark, Exchanged, Hash, Install, Keyring,
    LogEntry, MemoryKeyring, OnCommit, Outcome, Progress, Pruned, RECORD_VERSION, Ran, Receipt, Record, Sent, Store,
    Taken, Turn, TurnMark, TurnRetried, TurnSegment, Until, Value, WaitFor, Write, head_message, heads_hash,
    record_hash, seal_message,
};
use rusqlite::{Connection, params};
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

/// Runs the script that proves stores; none where there is no Python.
fn prove(index: &Path, did: Option<Did>) -> Option<Result<String, String>> {
    let script = root().join("tests/format/verify.py");
    let run = Command::new("python3").arg(script).arg(index).args(did.map(|did| did.to_string())).output();
    let Ok(run) = run else {
        eprintln!("SKIPPED: there is no python3 here");
        return None;
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Some(if run.status.success() { Ok(text(run.stdout)) } else { Err(text(run.stderr)) })
}

/// Leaves a store with every kind of commit in it that a host makes.
async fn eventful(home: &Home) -> (Did, Did) {
    let host = home.open().await;
    let (a, b) = pair(&host).await;
    for n in 0..3 {
        let tag = json!({ "stream": "on-receipt", "tag": n });
        run(&host, a, json!([["set", "x", [], n], ["send", of(b, "note"), n, tag], ["send", of(b, "nowhere"), n]]))
            .await;
    }
    run(&host, a, json!([["remove", "x", []]])).await;
    run_unasked(&host, b, json!([["trap"]])).await;
    run_unasked(&host, b, json!([["reject", "no"]])).await;
    settle(&host).await;
    let letters = host.dead_letters(&b, 0, usize::MAX).unwrap();
    host.discard(&b, &letters[0].event.id).await.unwrap();
    host.resend(&b, &letters[1].event.id).await.unwrap();
    settle(&host).await;
    host.pause(&b).await.unwrap();
    host.resume(&b).await.unwrap();
    host.shutdown().await.unwrap();
    drop(home.builder().await);
    (a, b)
}

/// Adds turns that waited: one that ended well, one that failed after its wait, one that waited for an answer, and one under way.
async fn waits(home: &Home) {
    let host = home.builder().await.transport(Wire::open()).open().await.unwrap();
    let (a, b) = pair(&host).await;
    let charges = host.install(probe_charm("charges").may_call(Wire::grant())).await.unwrap();
    let (note, wait) = (json!(["send", of(b, "note"), "waits"]), json!(["wait", [0], "all", 3_600_000]));
    run(&host, a, json!([["set", "w", [], 1], note, wait, ["set", "w", [], 2], note])).await;
    run_unasked(&host, a, json!([["set", "w", [], 3], note, wait, ["trap"]])).await;
    settle(&host).await;
    let charge = json!(["commit-and-fetch", { "method": "POST", "url": WIRE }]);
    run(&host, charges, json!([["set", "w", [], 3], charge])).await;
    host.pause(&b).await.unwrap();
    let before = commits(&host, a);
    send(&host, a, json!([["set", "w", [], 4], note, wait])).await;
    until("it waits", || commits(&host, a) == before + 2).await;
    host.shutdown().await.unwrap();
    drop(home.builder().await);
    let proof = archive(home).verify_store().unwrap();
    assert_eq!((proof.waiting, segments(home).len()), (2, 5), "the story is whole");
}

/// Numbers in the host of the segments of turns that waited, and of the answers.
fn segments(home: &Home) -> Vec<u64> {
    let log = home.read_only().log(None, 0, usize::MAX >> 1).unwrap();
    let is_part = |record: Record| record.segment().is_some() || record.exchanged().is_some();
    let is_segment = |entry: &&LogEntry| is_part(Record::from_bytes(&entry.record).unwrap());
    log.iter().filter(is_segment).map(|entry| entry.order).collect()
}

/// I3: with nothing but its DID, and with nothing but Python's standard library.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_from_the_page_alone_proves_the_stores_of_a_host() {
    let home = Home::default();
    let (a, _) = eventful(&home).await;
    waits(&home).await;
    let Some(whole) = prove(&home.index(), None) else { return };
    let whole = whole.unwrap();
    assert_eq!(whole.lines().count(), 6, "five spaces and the host's chain: {whole}");
    let alone = prove(&home.index(), Some(a)).unwrap().unwrap();
    assert!(whole.contains(alone.trim()) && alone.contains(&a.to_string()), "{alone}");
    let proof = archive(&home).verify(&a).unwrap();
    assert!(alone.contains(&format!("{} commits, signed up to {}", proof.commits, proof.signed)), "{alone}");
}

/// H1, I3: a space from its checkpoint on, and all of them where something has gone; what is not said has not gone.
#[tokio::test(flavor = "multi_thread")]
async fn the_script_proves_what_is_left_where_a_past_has_gone() {
    let home = Home::default();
    let (a, b) = eventful(&home).await;
    let host = home.open().await;
    for name in ["a", "b"] {
        probe(&host, name).await;
    }
    let floor = host.prune(&a).await.unwrap().floor;
    run(&host, a, json!([["set", "x", [], 1]])).await;
    run(&host, b, json!([["set", "x", [], 1]])).await;
    host.uninstall_with_data(&b).await.unwrap();
    host.shutdown().await.unwrap();
    let Some(whole) = prove(&home.index(), None) else { return };
    whole.unwrap();
    let alone = prove(&home.index(), Some(a)).unwrap().unwrap();
    let proof = archive(&home).verify(&a).unwrap();
    assert!(alone.contains(&format!("{} commits, signed up to {}", proof.commits, proof.signed)), "{alone}");
    let copy = home.path().join("copy.db");
    let (space, host) =
        ("cid = (SELECT cid FROM space WHERE name = 'a')", "cid = (SELECT cid FROM space WHERE name = '@host')");
    for (sql, why) in [
        (format!("DELETE FROM log WHERE {space} AND seq = {}", floor + 1), "no signed checkpoint stands"),
        (format!("UPDATE space SET signed = NULL, signature = NULL WHERE {space}"), "no signed checkpoint stands"),
        (format!("DELETE FROM log WHERE {space} AND seq = (SELECT max(seq) FROM log WHERE {space})"), "is not there"),
        (format!("DELETE FROM log WHERE {host} AND seq = (SELECT max(seq) FROM log WHERE {host})"), "is not there"),
        ("DELETE FROM log WHERE g = (SELECT max(g) FROM log)".to_owned(), ""),
    ] {
        std::fs::copy(home.index(), &copy).unwrap();
        assert!(Connection::open(&copy).unwrap().execute(&sql, []).unwrap() > 0, "{sql}");
        let found = prove(&copy, None).unwrap().expect_err(&sql);
        assert!(found.contains(why), "{sql}: {found}");
    }
}

fn archive(home: &Home) -> charm_host::Archive {
    charm_host::Archive::open(home.read_only()).unwrap()
}

fn flip(db: &Connection, table: &str, column: &str, row: i64, at: usize) {
    let sql = format!("SELECT {column} FROM {table} WHERE rowid = ?1");
    let mut bytes: Vec<u8> = db.query_row(&sql, [row], |row| row.get(0)).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 1 << (at % 8);
    db.execute(&format!("UPDATE {table} SET {column} = ?2 WHERE rowid = ?1"), params![row, bytes]).unwrap();
}

/// I3: whatever is changed in what is signed, the script finds it.
#[tokio::test(flavor = "multi_thread")]
async fn the_script_finds_every_change_of_what_is_signed() {
    let home = Home::default();
    eventful(&home).await;
    waits(&home).await;
    if prove(&home.index(), None).is_none() {
        return;
    }
    let copy = home.path().join("copy.db");
    let last: i64 =
        Connection::open(home.index()).unwrap().query_row("SELECT max(g) FROM log", [], |row| row.get(0)).unwrap();
    type Change = Box<dyn Fn(&Connection)>;
    let mut changes: Vec<(String, Change)> = Vec::new();
    for step in 0..24_usize {
        let row = 1 + (step as i64 * 7) % last;
        changes.push((format!("bit of record {row}"), Box::new(move |db| flip(db, "log", "record", row, step * 13))));
    }
    for (name, sql) in [
        ("a position", "UPDATE log SET position = position + 1 WHERE g = 7"),
        ("a place", "UPDATE log SET taken = taken + 1 WHERE g = (SELECT min(g) FROM log WHERE taken IS NOT NULL)"),
        ("lateness", "UPDATE log SET late = 1 WHERE g = (SELECT min(g) FROM log WHERE taken IS NOT NULL)"),
        ("the last entry", "DELETE FROM log WHERE g = (SELECT max(g) FROM log)"),
        ("an entry", "DELETE FROM log WHERE g = 5"),
        ("the first entry", "DELETE FROM log WHERE g = 1"),
        ("the last seal", "UPDATE log SET seal = NULL WHERE g = (SELECT max(g) FROM log)"),
        ("a seal of nothing", "UPDATE log SET seal = zeroblob(64) WHERE g = (SELECT max(g) FROM log)"),
        ("a signature of nothing", "UPDATE space SET signature = zeroblob(64) WHERE cid = 2"),
        ("a signature of an earlier commit", "UPDATE space SET signed = signed - 1 WHERE cid = 3"),
        (
            "a signature of another space",
            "UPDATE space SET signature = (SELECT signature FROM space WHERE cid = 3) WHERE cid = 4",
        ),
        ("another key", "UPDATE space SET did = (SELECT sender FROM receipt LIMIT 1) WHERE cid = 4"),
    ] {
        let change = move |db: &Connection| assert!(db.execute(sql, []).unwrap() > 0 || sql.contains("late"), "{name}");
        changes.push((name.to_owned(), Box::new(change)));
    }
    for (number, g) in segments(&home).into_iter().enumerate() {
        for (name, sql) in [
            ("another place of segment", format!("UPDATE log SET taken = taken + 1 WHERE g = {g}")),
            ("no place of segment", format!("UPDATE log SET taken = NULL WHERE g = {g}")),
            ("lateness of segment", format!("UPDATE log SET late = NOT coalesce(late, 0) WHERE g = {g}")),
            ("no event goes out with segment", format!("UPDATE log SET position = position - 1 WHERE g = {g}")),
            ("no segment", format!("DELETE FROM log WHERE g = {g}")),
        ] {
            let change = move |db: &Connection| assert!(db.execute(&sql, []).unwrap() > 0, "{sql}");
            changes.push((format!("{name} {number}"), Box::new(change)));
        }
        // The last bytes are the hash of what the turn was told, and what it waits for is before it.
        for back in [1, 32, 34, 37, 40, 56] {
            let change = move |db: &Connection| {
                let length = "SELECT length(record) FROM log WHERE g = ?1";
                let length: i64 = db.query_row(length, [g as i64], |row| row.get(0)).unwrap();
                flip(db, "log", "record", g as i64, length as usize - back);
            };
            changes.push((format!("byte {back} from the end of segment {number}"), Box::new(change)));
        }
    }
    for (name, change) in changes {
        std::fs::copy(home.index(), &copy).unwrap();
        let db = Connection::open(&copy).unwrap();
        db.pragma_update(None, "foreign_keys", false).unwrap();
        if name == "another key" {
            db.execute("UPDATE receipt SET sender = randomblob(32)", []).unwrap();
        }
        change(&db);
        db.pragma_update(None, "journal_mode", "DELETE").unwrap();
        drop(db);
        let found = prove(&copy, None).unwrap();
        assert!(found.is_err(), "{name} is found: {found:?}");
    }
}

fn key(n: u8) -> (MemoryKeyring, Did) {
    let keyring = MemoryKeyring::default();
    let did = keyring.create(&Zeroizing::new([n; 32])).unwrap();
    (keyring, did)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One record of each kind, in one chain.
fn bodies(space: Did, other: Did) -> Vec<Body> {
    let value = |json: Json| Value::encode(&json).unwrap();
    let event = Event {
        id: EventId([1; 16]),
        sender: other,
        to: space,
        stream: "add".into(),
        payload: value(json!({ "n": 1 })),
        on_commit: Some(OnCommit { stream: "added".into(), tag: value(json!([1, "two"])) }),
        receipt_of: Some(EventId([2; 16])),
        supplied: true,
        awaited: false,
        deliver_after: Some(1_700_000_000_000),
        expires_at: None,
    };
    let receipt = |outcome, commit, message| Receipt { id: EventId([1; 16]), outcome, commit, message };
    let edit = |path: &str, put| Edit { path: path.parse().unwrap(), put };
    let write = |name: &str, previous, edits| Write { name: name.into(), previous, edits };
    let turn = Turn {
        sender: other,
        stream: "add".into(),
        receipt: receipt(Outcome::Committed, Some(8), None),
        writes: vec![
            write("count", 300, vec![edit("", Some(value(json!(1))))]),
            write("gone", 2, vec![edit("", None)]),
            write("orders", 1, vec![edit("/a/0/'1'", Some(value(json!({ "n": 2 })))), edit("/b/17", None)]),
        ],
        sends: vec![
            Sent { event: event.clone(), refused: None },
            Sent { event: event.clone(), refused: Some(Outcome::Denied) },
        ],
        dropped: None,
        ran: Some(Ran { time_ms: 1_700_000_000_000, fuel: 123_456, costs: 1 }),
    };
    let mut root = CellsRoot::default();
    root.add("count", 8, &[1]);
    root.add("orders", 300, &[0xa0]);
    let (mark, removed) = (event.clone(), vec![write("gone", 2, vec![edit("", None)])]);
    let failed = Turn {
        receipt: receipt(Outcome::Faulted, None, Some("over fuel-max".to_owned())),
        writes: Vec::new(),
        sends: Vec::new(),
        dropped: Some(EventId([3; 16])),
        ran: None,
        ..turn.clone()
    };
    let segment = TurnSegment {
        event: EventId([1; 16]),
        sender: other,
        stream: "add".into(),
        number: 1,
        writes: vec![write("count", 8, vec![edit("", Some(value(json!(2))))])],
        sends: vec![Sent { event: event.clone(), refused: None }],
        ran: Ran { time_ms: 1_700_000_000_000, fuel: 12_345, costs: 1 },
        wait: WaitFor { events: vec![EventId([1; 16]), EventId([5; 16])], until: Until::First, timeout_ms: 60_000 },
        recording: [8; 32],
    };
    let (event_id, stream, number, after_ms) = (EventId([1; 16]), "add".into(), 3, 60_000);
    let retried = TurnRetried { event: event_id, sender: other, stream, number, after_ms };
    let (component, segments, sends, seq, since_ms) = ([4; 32], 1, 2, 8, 1_700_000_000_000);
    let (ran, wait, recording, retries, again_ms) = (segment.ran, segment.wait.clone(), [8; 32], 3, Some(60_000));
    let (pieces, answered) = (2, true);
    let progress = Progress {
        component,
        segments,
        sends,
        seq,
        since_ms,
        ran,
        wait,
        recording,
        pieces,
        answered,
        retries,
        again_ms,
    };
    let exchanged = Exchanged { event: EventId([1; 16]), sender: other, stream: "add".into(), recording: [9; 32] };
    let install = Install { component: [4; 32], description: value(json!({ "tags": ["#a"] })), rights: None };
    vec![
        Body::Registered { name: "counter".to_owned() },
        Body::Installed(Box::new(install)),
        Body::Rights { holder: space, kept: Some(vec![1, 2, 3]) },
        Body::Paused(true),
        Body::Accepted(event.clone()),
        Body::Letters { dropped: vec![EventId([3; 16])], again: Some(event) },
        Body::Uninstalled,
        Body::Turn(Box::new(turn)),
        Body::Turn(Box::new(failed)),
        Body::Checkpoint(Box::new(Checkpoint {
            seq: 9,
            name: "counter".to_owned(),
            paused: false,
            installed: Some(([4; 32], [0; 32])),
            rights: vec![(space, vec![1, 2, 3])],
            letters_dropped: 1,
            cells: root.end(),
            waiting: vec![EventMark::of(&mark)],
            dead: vec![EventMark::of(&mark)],
            sent: vec![(other, EventMark::of(&mark))],
            turns: vec![TurnMark::of(EventId([1; 16]), &progress)],
        })),
        Body::Pruned(Box::new(Pruned {
            order: 9,
            entry: [6; 32],
            position: 19,
            heads: heads_hash([(&space, 9, &[7; 32])].into_iter()),
            cuts: vec![Cut { space, seq: 9, order: 300, receipts: 2, messages: 9 }],
        })),
        Body::Removed(removed),
        Body::Segment(Box::new(segment)),
        Body::Retried(Box::new(retried)),
        Body::Exchanged(Box::new(exchanged)),
    ]
}

/// I2, I3: the same bytes, hashes and signatures in every version of this host that says it has this format.
#[test]
fn records_heads_and_seals_have_these_bytes() {
    let ((space_key, space), (host_key, host)) = (key(1), key(2));
    let (mut previous, mut end, mut lines) = (Hash::default(), Hash::default(), Vec::new());
    for (index, body) in (1_u64..).zip(bodies(space, host)) {
        let record =
            Record { version: RECORD_VERSION, space, seq: index, previous, time_ms: 1_700_000_000_000 + index, body };
        let (bytes, handles) = (record.to_bytes(), record.handles().is_some());
        assert_eq!(Record::from_bytes(&bytes), Ok(record));
        previous = record_hash(&bytes);
        let taken = handles.then_some(Taken { position: index, late: index == 9 });
        let entry = LogEntry {
            order: index,
            space,
            seq: index,
            position: 10 + index,
            taken,
            record: bytes.clone().into(),
            seal: None,
        };
        end = entry.hash(&end);
        lines.push(json!({
            "record": hex(&bytes),
            "record-hash": hex(&previous),
            "head-signature": hex(&space_key.sign(&space, &head_message(&space, index, &previous)).unwrap()),
            "order": index, "position": 10 + index, "taken": taken.map(|taken| taken.position),
            "late": taken.is_some_and(|taken| taken.late),
            "entry-hash": hex(&end),
            "seal": hex(&host_key.sign(&host, &seal_message(&host, index, &end)).unwrap()),
        }));
    }
    let made = json!({ "space": space.to_string(), "host": host.to_string(), "entries": lines });
    let file = root().join("tests/conformance/vectors/format.json");
    if std::env::var_os("CHARM_BLESS").is_some() {
        std::fs::write(&file, serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let kept: Json = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert!(made == kept, "the bytes differ from tests/conformance/vectors/format.json: that is another format");
}

/// The page tells of every table of the index and of every column.
#[tokio::test]
async fn every_table_and_column_of_the_index_is_described() {
    let home = Home::default();
    home.open().await.shutdown().await.unwrap();
    let page = std::fs::read_to_string(root().join("docs/format.md")).unwrap();
    let (_, page) = page.split_once("## Where it stands").unwrap();
    let (page, _) = page.split_once("\n## ").unwrap();
    let index = Connection::open(home.index()).unwrap();
    let sql = "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'";
    let mut columns = index.prepare(sql).unwrap();
    let columns = columns.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    let mut count = 0;
    for (table, column) in columns.map(Result::unwrap).filter(|(table, _)| table != "meta") {
        count += 1;
        for name in [&table, &column] {
            assert!(page.contains(&format!("`{name}`")), "{table}.{column}");
        }
    }
    assert!(count > 50, "{count}");
}
