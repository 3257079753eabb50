//! The real binary over real folders: every command, its JSON, every exit code.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use std::{fs, os::unix::fs::PermissionsExt};

use common::{FIRST, Folder, OUTSIDER};
use serde_json::{Value, json};

const MISSING: &str = "00000000000000000000000000000000";

#[test]
fn an_event_is_sent_settled_and_seen_in_the_cell() {
    let folder = Folder::counter();
    let receipt = folder.json(0, &["send", "counter/add", "5"]);
    assert_eq!(receipt["outcome"], "committed");
    assert_eq!((&receipt["commit"], &receipt["settled"]), (&json!(FIRST), &json!(true)));
    assert_eq!(folder.json(0, &["send", "counter/add", "--", "-2"])["commit"], FIRST + 2);
    let (out, err) = folder.text(0, &["get", "counter/count"]);
    assert_eq!((out.as_str(), err.as_str()), ("3\n", ""));
    let found = folder.json(0, &["get", "counter/count", "--at", &FIRST.to_string()]);
    assert_eq!((&found["value"], &found["at"], &found["path"]), (&json!(5), &json!(FIRST), &json!("")));
    assert_eq!(folder.json(0, &["receipt", receipt["id"].as_str().unwrap()])["commit"], FIRST);
}

/// A3: authorities of one's own come from the manifest and from `SSL_CERT_FILE`; what is of no use is refused by name.
#[test]
fn authorities_are_read_from_the_manifest_and_the_environment() {
    const CA: &str = include_str!("../../../tests/conformance/embedding/tls/ca.pem");
    let folder = Folder::counter();
    fs::write(folder.path("good.pem"), CA).unwrap();
    fs::write(folder.path("bad.pem"), "not a certificate").unwrap();
    let send = |file: &str, exit: i32| {
        let sent = folder.command(&["send", "counter/add", "1"]).env("SSL_CERT_FILE", file).output().unwrap();
        let told = String::from_utf8(sent.stderr).unwrap();
        assert_eq!(sent.status.code(), Some(exit), "{told}");
        told
    };
    send("good.pem", 0);
    send("", 0);
    assert!(send("bad.pem", 1).contains("ca: no certificate in PEM form"), "bad");
    assert!(send("missing.pem", 1).contains("SSL_CERT_FILE missing.pem: No such file"), "missing");
    assert!(send("/dev/zero", 1).contains("larger than"), "endless");
    fs::write(folder.path("charms.toml"), "ca = \"good.pem\"\n[charm.counter]\ncomponent = \"counter.wasm\"\n")
        .unwrap();
    send("", 0);
    fs::write(folder.path("good.pem"), "not a certificate").unwrap();
    assert!(send("", 1).contains("ca: no certificate in PEM form"), "of the manifest");
}

#[test]
fn lists_name_every_did() {
    const DAY_MS: u64 = 86_400_000;
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1"]);
    let did = folder.json(0, &["did", "counter"])["did"].as_str().unwrap().to_owned();
    assert!(did.starts_with("did:key:z6Mk"), "{did}");
    assert_eq!(folder.text(0, &["did", "counter"]).0, format!("{did}\n"));
    let charms = folder.json(0, &["ls"]);
    let history = charms[0]["history_bytes"].as_u64().unwrap();
    assert!(history > 500, "a component's description is part of it: {charms}");
    let listed = |keeps: Value| {
        let commits = FIRST;
        json!([{"name": "counter", "did": did, "commits": commits, "history_bytes": history, "keeps": keeps, "waiting": 0, "dead": 0}])
    };
    assert_eq!(charms, listed(json!({"history_bytes": 64 << 20, "receipts_ms": 30 * DAY_MS})), "by default");
    let manifest = fs::read_to_string(folder.path("charms.toml")).unwrap();
    fs::write(folder.path("charms.toml"), format!("{manifest}\nhistory-bytes = 5000\nreceipts-days = 2\n")).unwrap();
    assert_eq!(
        folder.json(0, &["ls"]),
        listed(json!({"history_bytes": 5000, "receipts_ms": 2 * DAY_MS})),
        "as the manifest says"
    );
    let alone = folder.json(0, &["ls", "--store", "charm"]);
    assert_eq!(alone[0].get("keeps"), None, "a store alone does not know");
    let cells = folder.json(0, &["ls", &did]);
    assert_eq!(cells, json!([{"name": "count", "did": did, "revision": FIRST, "kind": "integer", "bytes": 1}]));
    let alike =
        [vec!["ls", "counter/co"], vec!["ls", "counter", "--after", "coun"], vec!["ls", "counter/", "--max", "1"]];
    alike.iter().for_each(|arguments| assert_eq!(folder.json(0, arguments), cells, "{arguments:?}"));
    for arguments in
        [vec!["ls", "counter/d"], vec!["ls", "counter", "--after", "count"], vec!["ls", "counter", "--max", "0"]]
    {
        assert_eq!(folder.json(0, &arguments), json!([]), "{arguments:?}");
    }
    for arguments in [vec!["ls"], vec!["ls", "counter"], vec!["did"], vec!["verify"]] {
        assert!(folder.text(0, &arguments).0.contains(&did), "{arguments:?}");
    }
    let all = folder.json(0, &["did"]);
    let names: Vec<_> = all.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["@host", "@operator", "counter"]);
}

#[test]
fn an_empty_list_is_an_empty_array() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(folder.json(0, &["events", "counter"]), json!([]));
    assert_eq!(folder.json(0, &["events", "counter", "--dead"]), json!([]));
    assert_eq!(folder.json(0, &["ls", "@operator"]), json!([]));
}

#[test]
fn a_store_is_read_without_a_manifest() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "7"]);
    fs::remove_file(folder.path("charms.toml")).unwrap();
    assert_eq!(folder.json(0, &["get", "counter/count", "--store", "charm"])["value"], 7);
    assert_eq!(folder.json(0, &["verify", "counter", "--store", "charm"])[0]["commits"], FIRST);
    assert_eq!(folder.json(2, &["get", "counter/count"])["kind"], "manifest");
}

#[test]
fn the_same_id_is_handled_once() {
    let folder = Folder::counter();
    let first = folder.json(0, &["send", "counter/add", "1", "--id", "order-1"]);
    assert_eq!(folder.json(0, &["send", "counter/add", "1", "--id", "order-1"])["id"], first["id"]);
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 1);
    assert_eq!(folder.json(5, &["send", "counter/add", "2", "--id", "order-1"])["kind"], "id-reused");
}

#[test]
fn a_failed_event_is_exit_3_and_can_be_looked_at_sent_again_and_dropped() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "9223372036854775807"]);
    let rejected = folder.json(3, &["send", "counter/add", "1"]);
    assert_eq!((&rejected["outcome"], &rejected["commit"]), (&json!("rejected"), &Value::Null));
    assert_eq!(rejected["message"], "the count would pass 64 bits");
    let id = rejected["id"].as_str().unwrap();
    assert_eq!(folder.json(3, &["receipt", id])["outcome"], "rejected");
    let dead = folder.json(0, &["events", "counter", "--dead"]);
    assert_eq!((&dead[0]["id"], &dead[0]["event"], &dead[0]["outcome"]), (&json!(id), &json!(1), &json!("rejected")));
    folder.json(3, &["events", "counter", "--resend", id]);
    assert_eq!(folder.json(4, &["events", "counter", "--discard", id])["kind"], "not-found");
    let again = folder.json(0, &["events", "counter", "--dead"])[0]["id"].as_str().unwrap().to_owned();
    folder.json(0, &["send", "counter/add", "-9"]);
    assert_eq!(folder.json(0, &["events", "counter", "--resend", &again])["outcome"], "committed");
    let third = folder.json(3, &["send", "counter/add", "9"])["id"].as_str().unwrap().to_owned();
    assert_eq!(folder.json(0, &["events", "counter", "--discard", &third]), json!({"discarded": third}));
    assert_eq!(folder.json(0, &["events", "counter", "--dead"]), json!([]));
}

#[test]
fn what_is_not_there_is_exit_4() {
    let folder = Folder::counter();
    assert_eq!(folder.json(4, &["ls"])["kind"], "not-found");
    folder.json(0, &["send", "counter/add", "1"]);
    for arguments in [
        vec!["send", "nobody/add", "1"],
        vec!["send", "counter/subtract", "1"],
        vec!["get", "nobody/count"],
        vec!["get", "counter/nothing"],
        vec!["get", "counter/count/0"],
        vec!["get", "counter/count", "--at", "9"],
        vec!["ls", "nobody"],
        vec!["did", OUTSIDER],
        vec!["verify", "nobody"],
        vec!["events", "nobody"],
        vec!["events", "counter", "--resend", MISSING],
        vec!["receipt", MISSING],
    ] {
        assert_eq!(folder.json(4, &arguments)["kind"], "not-found", "{arguments:?}");
    }
    let (_, err) = folder.text(4, &["get", "nobody/count"]);
    assert_eq!(err, "error: no charm nobody in this store; charms: counter\n");
}

#[test]
fn an_event_that_cannot_be_sent_is_exit_5() {
    let folder = Folder::counter();
    assert_eq!(folder.json(5, &["send", "counter/add", "\"one\""])["kind"], "shape");
    assert_eq!(folder.json(5, &["send", "counter/add", "1", "--as", OUTSIDER])["kind"], "denied");
    assert_eq!(folder.json(5, &["send", "counter/add", "1", "--id", ""])["kind"], "id");
    let (_, err) = folder.text(5, &["send", "counter/add", "1.5"]);
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.starts_with("error: counter/add: event does not fit stream add: type mismatch at /"), "{err}");
    assert_eq!(folder.json(0, &["ls"])[0]["commits"], FIRST - 2, "its name and its install");
}

#[test]
fn someone_outside_sends_what_the_manifest_grants_and_no_charm_is_impersonated() {
    let folder = Folder::counter();
    folder.append(
        "charms.toml",
        &format!("[outside.\"{OUTSIDER}\"]\ngrant = [{{ charm = \"counter\", send = [\"add\"] }}]\n"),
    );
    folder.json(0, &["send", "counter/add", "1", "--as", OUTSIDER]);
    let did = folder.json(0, &["did", "counter"])["did"].as_str().unwrap().to_owned();
    assert_eq!(folder.json(5, &["send", "counter/add", "1", "--as", &did])["kind"], "denied");
}

#[test]
fn a_wrong_command_line_or_manifest_is_exit_2() {
    let folder = Folder::counter();
    for arguments in [
        vec![],
        vec!["sing"],
        vec!["send", "counter/add"],
        vec!["send", "counter", "1"],
        vec!["send", "counter/add", "{"],
        vec!["send", "counter/add", "18446744073709551616"],
        vec!["send", "counter/add", "1", "--as", "bob"],
        vec!["get", "counter"],
        vec!["receipt", "12"],
        vec!["run", "charms.toml", "-m", "charms.toml"],
        vec!["ls", "--log", "charm=what"],
    ] {
        let failure = folder.json(2, &arguments);
        assert_eq!((&failure["kind"], &failure["exit"]), (&json!("usage"), &json!(2)), "{arguments:?}");
        assert!(failure["error"].as_str().unwrap().len() < 400, "{failure}");
        folder.text(2, &arguments);
    }
    for (text, needle) in [
        ("stoer = 1", "stoer"),
        ("[charm.counter]\ncomponent = 1", "line 2"),
        ("[charm.counter]\ncomponent = \"nothing.wasm\"", "nothing.wasm"),
        ("[charm.counter]\ncomponent = \"charms.toml\"", "not a valid component"),
        ("[charm.counter]\ncomponent = \"counter.wasm\"\ngrant = [{ charm = \"nobody\" }]", "grant number 1"),
    ] {
        fs::write(folder.path("charms.toml"), text).unwrap();
        let failure = folder.json(2, &["run"]);
        assert!(failure["error"].as_str().unwrap().contains(needle), "{failure}");
        folder.text(2, &["run"]);
    }
}

#[test]
fn verify_says_what_was_proven() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "9223372036854775807"]);
    folder.json(3, &["send", "counter/add", "1"]);
    let whole = folder.json(0, &["verify"]);
    let proven = &whole["store"];
    assert_eq!((&proven["spaces"], &proven["commits"]), (&json!(3), &json!(FIRST + 4)));
    assert_eq!((&proven["sent"], &proven["settled"]), (&json!(2), &json!(2)));
    assert_eq!((&proven["waiting"], &proven["dead"]), (&json!(0), &json!(1)));
    let of = |key: &str| whole["spaces"].as_array().unwrap().iter().map(|row| row[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((of("commits"), of("signed")), (FIRST + 4, FIRST + 4), "a clean end signs every head");
    assert!(proven["seals"].as_u64() > Some(0));
    assert_eq!(folder.json(0, &["verify", "counter"])[0]["commits"], FIRST + 2, "one space alone");
    let (out, _) = folder.text(0, &["verify"]);
    assert!(out.lines().last().unwrap().ends_with("events: 2 sent, 2 settled, 0 waiting, 1 dead"), "{out}");
}

#[test]
fn a_damaged_space_is_exit_6_and_others_are_still_proved() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1"]);
    let store = rusqlite::Connection::open(folder.path("charm/index.db")).unwrap();
    // The cell says 2, in canonical DAG-CBOR; the log says 1.
    assert_eq!(store.execute("UPDATE cell SET value = x'02' WHERE name = 'count'", []).unwrap(), 1);
    drop(store);
    let (out, err) = folder.text(6, &["verify"]);
    assert_eq!((out.lines().count(), out.matches("FAILED").count()), (5, 2), "{out}");
    assert!(err.contains("value differs from the log (law state)"), "{err}");
    folder.text(0, &["verify", "@host"]);
    folder.text(6, &["verify", "counter"]);
}

/// What a later host wrote breaks no law: it is not exit 6, and the other spaces are still proved.
#[test]
fn a_record_of_a_later_host_is_exit_1_of_verify() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1"]);
    let store = rusqlite::Connection::open(folder.path("charm/index.db")).unwrap();
    let (order, mut record): (i64, Vec<u8>) =
        store.query_row("SELECT g, record FROM log WHERE g = 3", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    record[0] += 1;
    assert_eq!(store.execute("UPDATE log SET record = ?1 WHERE g = ?2", (record, order)).unwrap(), 1);
    drop(store);
    let (out, err) = folder.text(1, &["--json", "verify"]);
    let whole: Value = serde_json::from_str(&out).unwrap();
    let failed = whole["spaces"].as_array().unwrap().iter().filter(|space| space.get("error").is_some());
    let error: Value = serde_json::from_str(&err).unwrap();
    for failure in failed.clone().chain([&whole["store"], &error]) {
        assert_eq!((&failure["kind"], &failure["exit"]), (&json!("host"), &json!(1)), "{failure}");
        assert!(failure["error"].as_str().unwrap().ends_with("or a later one"), "{failure}");
    }
    assert_eq!(failed.count(), 1, "{out}");
}

/// Each space proves itself; the store does not.
#[test]
fn a_receipt_that_is_gone_is_exit_6() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1"]);
    let store = rusqlite::Connection::open(folder.path("charm/index.db")).unwrap();
    assert_eq!(store.execute("DELETE FROM receipt", []).unwrap(), 1);
    drop(store);
    let (out, err) = folder.text(6, &["verify"]);
    assert_eq!(out.matches("FAILED").count(), 1, "{out}");
    assert!(out.lines().last().unwrap().starts_with("store: FAILED"), "{out}");
    assert!(err.contains("(law once): restore the store from a backup"), "{err}");
    assert_eq!(folder.json(0, &["verify", "counter"])[0]["commits"], FIRST);
}

#[test]
fn a_store_that_another_program_has_open_is_exit_7_and_can_still_be_read() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1"]);
    let lock = fs::File::options().write(true).open(folder.path("charm/lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(folder.json(7, &["send", "counter/add", "1", "--timeout", "0"])["kind"], "store-in-use");
    folder.json(7, &["run", "--timeout", "0"]);
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 1);
}

#[test]
fn keys_that_others_can_read_and_files_that_are_no_store_are_refused() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1"]);
    let dids = folder.json(0, &["did"]);
    for (name, exit, kind) in [("counter", 5, "key"), ("@host", 1, "host")] {
        let did = dids.as_array().unwrap().iter().find(|did| did["name"] == name).unwrap()["did"].as_str().unwrap();
        let key = folder.path("keys").join(format!("{}.key", did.trim_start_matches("did:key:")));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let failure = folder.json(exit, &["send", "counter/add", "1"]);
        assert_eq!(failure["kind"], kind);
        assert!(failure["error"].as_str().unwrap().contains("chmod 600"), "{failure}");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder.json(0, &["send", "counter/add", "1"]);
    fs::write(folder.path("no.db"), "this is no database, but it is long enough to be looked at ............").unwrap();
    assert_eq!(folder.json(1, &["ls", "--store", "no.db"])["kind"], "host");
}

#[test]
fn the_event_may_come_from_standard_input_and_text_cannot_steer_the_terminal() {
    let folder = Folder::counter();
    assert_eq!(folder.input(0, &["send", "counter/add", "-"], "4\n")["outcome"], "committed");
    let (_, err) = folder.text(4, &["get", "\u{1b}[2Jx/\u{9b}y"]);
    assert!(err.contains("\\u001b[2J") && !err.contains('\u{1b}') && !err.contains('\u{9b}'), "{err}");
}

#[test]
fn help_documents_the_exit_codes() {
    let folder = Folder::counter();
    let (out, _) = folder.text(0, &["--help"]);
    for line in ["3  the event is settled, but not committed", "7  the store is in use"] {
        assert!(out.contains(line), "{out}");
    }
}

/// S9: also when the charm is another, cannot be installed, or is not in the manifest any more.
#[test]
fn an_id_tells_its_first_receipt_whatever_has_changed() {
    let folder = Folder::counter();
    let first = folder.json(0, &["send", "counter/add", "1", "--id", "order-1"]);
    let again = |what: &str| {
        let same = folder.json(0, &["send", "counter/add", "1", "--id", "order-1"]);
        assert_eq!((&same["id"], &same["commit"]), (&first["id"], &first["commit"]), "{what}");
        let other = folder.json(5, &["send", "counter/add", "2", "--id", "order-1"]);
        assert_eq!(other["kind"], "id-reused", "{what}");
    };
    fs::write(folder.path("counter.wasm"), "no component").unwrap();
    assert_eq!(folder.json(2, &["send", "counter/add", "1", "--id", "order-2"])["kind"], "install");
    again("the component is broken");
    fs::remove_file(folder.path("counter.wasm")).unwrap();
    again("the component is gone");
    fs::write(folder.path("charms.toml"), "").unwrap();
    assert_eq!(folder.json(4, &["send", "counter/add", "1", "--id", "order-2"])["kind"], "not-found");
    again("the charm is not in the manifest");
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 1);
}

/// S11
#[test]
fn failed_events_are_listed_in_pages_and_dropped_together() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "9223372036854775807"]);
    let ids: Vec<Value> = (0..3).map(|_| folder.json(3, &["send", "counter/add", "1"])["id"].clone()).collect();
    let page = |after: &Value| {
        let lines = folder.json(0, &["events", "counter", "--dead", "--max", "2", "--after", &after.to_string()]);
        lines.as_array().unwrap().clone()
    };
    let first = page(&json!(0));
    let second = page(&first[1]["position"]);
    let listed: Vec<Value> = [first, second].concat().iter().map(|line| line["id"].clone()).collect();
    assert_eq!(listed, ids);
    let (_, note) = folder.text(0, &["events", "counter", "--dead", "--max", "2"]);
    assert!(note.contains("there may be more: --after "), "{note}");
    assert_eq!(folder.json(0, &["events", "counter", "--discard-dead"]), json!({"discarded_dead": "counter"}));
    assert_eq!(folder.json(0, &["events", "counter", "--dead"]), json!([]));
    assert_eq!(folder.json(3, &["receipt", ids[0].as_str().unwrap()])["outcome"], "rejected", "its receipt stays");
    assert_eq!(folder.json(0, &["verify"])["store"]["dead"], 0);
}

/// C3: a name is that name, and a path has one meaning.
#[test]
fn digits_are_a_name_of_a_cell_and_an_index_only_in_a_path() {
    let folder = Folder::new(&["probe"], "[charm.probe]\ncomponent = \"probe.wasm\"\n");
    let steps = json!({ "steps": [
        ["set", "7", [], "seven"], ["set", "007", [], "agent"], ["set", "list", [], [0, 1, 2, 3, 4, 5, 6, 7]],
        ["set", "map", ["007"], "key"], ["set", "map", ["7"], "another"],
    ] });
    folder.json(0, &["send", "probe/run", &steps.to_string()]);
    for (cell, value) in [
        ("probe/7", json!("seven")),
        ("probe/007", json!("agent")),
        ("probe/list/7", json!(7)),
        ("probe/map/007", json!("key")),
        ("probe/map/'7'", json!("another")),
    ] {
        assert_eq!(folder.json(0, &["get", cell])["value"], value, "{cell}");
    }
    for cell in ["probe/07", "probe/list/007", "probe/list/+7", "probe/map/7"] {
        assert_eq!(folder.json(4, &["get", cell])["kind"], "not-found", "{cell}");
    }
}
