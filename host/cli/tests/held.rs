//! What processes have died under: listed, let run and dropped by commands. Processes die by SIGKILL while a guest is on a
//! thread, which a host cannot tell from a fault of the engine.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use std::{
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    process::Command,
    time::{Duration, Instant},
};

use common::{FIRST, Folder, Running};
use serde_json::{Value, json};

const COUNTER: &str = "[charm.counter]\ncomponent = \"counter.wasm\"\n";
const SLOW: &str = "[charm.slow]\ncomponent = \"slow.wasm\"\n[limits]\ncompute-ms-max = 60_000\n";

/// Deaths after which something is held: one among others, three alone.
const DEATHS: usize = 4;
/// How often all of them are tried: a guest is on its thread for a moment only.
const TRIES: usize = 5;

/// A folder with the counter, and a charm that computes for a second or two in `handle` or `describe`.
fn slow(part: &str) -> Folder {
    let folder = Folder::new(&["counter"], &[COUNTER, SLOW].concat());
    let text = include_str!("../../../tests/guests-wat/charm.wat");
    let rooted = "(f64.sqrt ".repeat(8) + "(global.get $root)" + &")".repeat(8);
    let count = format!(
        "(loop $again (global.set $count (i32.add (global.get $count) (i32.const 1)))
           (global.set $root (f64.add (f64.const 2) {rooted}))
           (br_if $again (i32.lt_u (global.get $count) (i32.const 30_000_000))))"
    );
    let globals = "(global $count (mut i32) (i32.const 0)) (global $root (mut f64) (f64.const 2))";
    let text = text.replace("(; in module ;)", globals);
    let text = text.replace(&format!("(; in {part} ;)"), &count);
    assert!(text.contains("$again"), "{part}");
    fs::write(folder.path("slow.wasm"), wat::parse_str(text).unwrap()).unwrap();
    folder
}

/// Returns the marks in a file: for each what kind of guest is on a thread, and whether alone.
fn marks(mut file: &fs::File) -> Vec<[u8; 2]> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes.chunks(64).map(|mark| [mark[0], mark[1]]).collect()
}

/// Runs a host until it is killed while the mark of this kind says that a guest is on a thread, alone or not; false when
/// that was not seen, as on a machine that is too busy: the guest has come to its end then.
fn die(folder: &Folder, kind: u8, alone: bool) -> bool {
    let (file, wanted) = (folder.path("charm/running"), [kind, u8::from(alone)]);
    loop {
        // What the host before has left is another file, and stays another one while it is open.
        let before = fs::File::open(&file).ok();
        let left = before.as_ref().map(|file| file.metadata().unwrap().ino());
        let mut child = folder.command(&["run"]).spawn().unwrap();
        let start = Instant::now();
        loop {
            if start.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap();
                child.wait().unwrap();
                return false;
            }
            let present = fs::File::open(&file).ok().filter(|file| Some(file.metadata().unwrap().ino()) != left);
            if present.is_some_and(|file| marks(&file).contains(&wanted)) {
                break;
            }
            assert!(child.try_wait().unwrap().is_none(), "the host ended");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Between two slices it is on no thread: that death counts for nothing.
        if marks(&fs::File::open(&file).unwrap()).contains(&wanted) {
            return true;
        }
    }
}

fn id(fate: &Value) -> &str {
    fate["id"].as_str().unwrap()
}

/// A line of the list beside the store that holds the one event that waits.
fn line(folder: &Folder, id: &str) -> String {
    let store = rusqlite::Connection::open(folder.path("charm/index.db")).unwrap();
    let position: i64 = store.query_row("SELECT position FROM queue", [], |row| row.get(0)).unwrap();
    format!("event {id} {position} 3 true\n")
}

/// A counter of 1 that has an event which is held, that would add 5.
fn held() -> (Folder, String) {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1"]);
    folder.json(0, &["pause", "counter"]);
    let sent = folder.json(0, &["send", "counter/add", "5", "--id", "five"]);
    fs::write(folder.path("charm/suspects"), line(&folder, id(&sent))).unwrap();
    folder.json(0, &["resume", "counter"]);
    (folder, id(&sent).to_owned())
}

/// The note of `charm ls` about the counter: waiting and held.
fn counted(folder: &Folder) -> (Value, Value) {
    let charms = folder.json(0, &["ls"]);
    (charms[0]["waiting"].clone(), charms[0]["held"].clone())
}

#[test]
fn an_event_that_hosts_died_under_is_held_and_runs_when_it_is_let() {
    let dies = |_| {
        let folder = slow("handle");
        let host = Running::start(&folder, &[]);
        folder.json(0, &["pause", "slow"]);
        let sent = folder.json(0, &["send", "slow/run", "1", "--no-wait"]);
        assert_eq!(host.stop("TERM"), Some(0));
        folder.json(0, &["resume", "slow"]);
        let waiting = folder.json(0, &["events", "slow"]);
        let shown = (&waiting[0]["id"], &waiting[0]["event"], &waiting[0]["held"]);
        assert_eq!(shown, (&sent["id"], &json!(1), &Value::Null));
        (0..DEATHS).all(|death| die(&folder, b't', death > 0)).then_some((folder, sent))
    };
    let (folder, sent) = (0..TRIES).find_map(dies).expect("a host is killed under the turn");

    // Its charm and others go on without it.
    let host = Running::start(&folder, &[]);
    assert_eq!(fs::read_to_string(folder.path("charm/suspects")).unwrap(), line(&folder, id(&sent)));
    assert_eq!(folder.json(0, &["send", "counter/add", "1"])["outcome"], "committed");
    assert_eq!(folder.json(0, &["send", "slow/run", "2"])["commit"], FIRST + 3, "two events wait");
    let waiting = folder.json(0, &["events", "slow"]);
    assert_eq!(waiting.as_array().unwrap().len(), 1, "{waiting}");
    assert_eq!((&waiting[0]["id"], &waiting[0]["held"]), (&sent["id"], &json!(true)));
    let (listed, _) = folder.text(0, &["ls"]);
    assert!(listed.lines().any(|line| line.starts_with("slow") && line.contains("1 (1 held)")), "{listed}");

    let ran = folder.json(0, &["events", "slow", "--run", id(&sent)]);
    assert_eq!((&ran["id"], &ran["outcome"], &ran["commit"]), (&sent["id"], &json!("committed"), &json!(FIRST + 4)));
    assert_eq!(folder.json(0, &["events", "slow"]), json!([]));
    assert_eq!(host.stop("TERM"), Some(0));
    assert_eq!(folder.json(0, &["verify"])["store"]["waiting"], 0);
}

#[test]
fn whoever_asks_is_told_that_an_event_is_held_and_what_to_do() {
    let (folder, id) = held();
    assert_eq!(counted(&folder), (json!(1), json!(1)));
    let (listed, _) = folder.text(0, &["events", "counter"]);
    let line = listed.lines().find(|line| line.starts_with(&id)).unwrap();
    assert!(line.ends_with("held: processes died while it ran; --run lets it, --discard cancels it"), "{listed}");
    let why = "held, processes died while it ran; charm events counter --run ";
    for arguments in [&["receipt", &id][..], &["send", "counter/add", "5", "--id", "five"]] {
        let fate = folder.json(0, arguments);
        assert_eq!((&fate["id"], &fate["outcome"]), (&json!(id), &json!("waiting")));
        assert_eq!(fate["message"], format!("{why}{id} lets it run, --discard cancels it"));
        assert!(folder.text(0, arguments).0.starts_with(&format!("{id} waiting: {why}")));
    }
    // The log says so at every start.
    let (_, log) = folder.text(0, &["send", "counter/add", "1"]);
    assert!(log.contains("charm events") && log.contains(&id), "{log}");
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 2);
}

#[test]
fn a_held_event_runs_when_it_is_let_with_and_without_a_host() {
    for serves in [true, false] {
        let (folder, id) = held();
        let host = serves.then(|| Running::start(&folder, &[]));
        let ran = folder.json(0, &["events", "counter", "--run", &id]);
        assert_eq!((&ran["outcome"], &ran["commit"]), (&json!("committed"), &json!(FIRST + 4)), "{ran}");
        assert_eq!(counted(&folder), (json!(0), Value::Null));
        assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 6);
        assert_eq!(folder.json(4, &["events", "counter", "--run", &id])["kind"], "not-found");
        assert!(host.is_none_or(|host| host.stop("TERM") == Some(0)));
        folder.json(0, &["verify"]);
    }
}

#[test]
fn a_held_event_is_discarded_with_and_without_a_host() {
    for serves in [true, false] {
        let (folder, id) = held();
        let host = serves.then(|| Running::start(&folder, &[]));
        assert_eq!(folder.json(0, &["events", "counter", "--discard", &id]), json!({"discarded": id}));
        assert_eq!(folder.json(3, &["receipt", &id])["outcome"], "cancelled");
        assert_eq!(counted(&folder), (json!(0), Value::Null));
        assert_eq!(folder.json(0, &["events", "counter", "--dead"]), json!([]), "the operator has seen it");
        assert_eq!(folder.json(0, &["send", "counter/add", "1"])["outcome"], "committed");
        assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 2);
        assert!(host.is_none_or(|host| host.stop("TERM") == Some(0)));
        folder.json(0, &["verify"]);
    }
}

#[test]
fn only_held_events_are_let_run_and_only_waiting_ones_are_listed() {
    for serves in [true, false] {
        let folder = Folder::counter();
        let done = folder.json(0, &["send", "counter/add", "1"]);
        folder.json(0, &["pause", "counter"]);
        let host = serves.then(|| Running::start(&folder, &[]));
        let sent = folder.json(0, &["send", "counter/add", "2", "--no-wait"]);
        let second = folder.json(0, &["send", "counter/add", "3", "--no-wait"]);
        let waiting = folder.json(0, &["events", "counter"]);
        let ids: Vec<_> = waiting.as_array().unwrap().iter().map(id).collect();
        assert_eq!(ids, [id(&sent), id(&second)], "first first");
        assert_eq!((&waiting[0]["stream"], &waiting[0]["bytes"]), (&json!("add"), &json!(1)));
        let (listed, _) = folder.text(0, &["events", "counter"]);
        assert!(listed.lines().skip(1).all(|line| line.ends_with("waiting")), "{listed}");

        let failure = folder.json(5, &["events", "counter", "--run", id(&sent)]);
        assert_eq!(failure["kind"], "not-held", "{failure}");
        assert_eq!(folder.json(4, &["events", "counter", "--run", id(&done)])["kind"], "not-found");
        assert_eq!(folder.json(2, &["events", "counter", "--run", "12"])["kind"], "usage");
        assert_eq!(folder.json(0, &["events", "counter", "--discard", id(&sent)]), json!({"discarded": id(&sent)}));
        assert_eq!(folder.json(3, &["receipt", id(&sent)])["outcome"], "cancelled");
        assert_eq!(folder.json(4, &["events", "counter", "--discard", id(&sent)])["kind"], "not-found");
        folder.json(0, &["resume", "counter"]);
        folder.json(0, &["send", "counter/add", "0"]);
        assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 4, "the discarded one never ran");
        assert!(host.is_none_or(|host| host.stop("TERM") == Some(0)));
    }
}

/// It must not run before it can be said that it is not held.
#[test]
fn an_event_that_waits_for_a_host_is_not_held() {
    for _ in 0..5 {
        let folder = Folder::counter();
        folder.json(0, &["send", "counter/add", "1"]);
        folder.json(0, &["pause", "counter"]);
        let sent = folder.json(0, &["send", "counter/add", "2", "--no-wait"]);
        folder.json(0, &["resume", "counter"]);
        assert_eq!(folder.json(5, &["events", "counter", "--run", id(&sent)])["kind"], "not-held");
    }
}

#[test]
fn an_event_of_a_charm_that_is_gone_is_let_run_and_waits_for_the_charm() {
    let (folder, id) = held();
    fs::write(folder.path("charms.toml"), "").unwrap();
    let fate = folder.json(0, &["events", "counter", "--run", &id]);
    let why = "counter is not in the manifest; the event runs when it is";
    assert_eq!((&fate["outcome"], &fate["message"]), (&json!("waiting"), &json!(why)));
    fs::write(folder.path("charms.toml"), COUNTER).unwrap();
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 7);
}

#[test]
fn a_component_that_hosts_died_under_is_held_until_it_is_released() {
    let dies = |_| {
        let folder = slow("describe");
        // Alone: a host that dies while it describes another charm holds that one.
        fs::write(folder.path("charms.toml"), SLOW).unwrap();
        (0..DEATHS).all(|death| die(&folder, b'd', death > 0)).then_some(folder)
    };
    let folder = (0..TRIES).find_map(dies).expect("a host is killed under the description");
    fs::write(folder.path("counter.toml"), COUNTER).unwrap();
    let sum = Command::new("sha256sum").arg(folder.path("slow.wasm")).output().unwrap().stdout;
    let sum = String::from_utf8(sum).unwrap().split(' ').next().unwrap().to_owned();
    let held = folder.json(2, &["send", "slow/run", "1"]);
    let error = held["error"].as_str().unwrap();
    assert!(error.contains("charm slow: held: processes died"), "{error}");
    assert!(error.ends_with(&format!("charm release {sum}")), "{error}");
    assert_eq!(held["kind"], "install");
    let (_, log) = folder.text(0, &["send", "counter/add", "1", "-m", "counter.toml"]);
    assert!(log.contains("held: processes died while this component") && log.contains(&sum), "{log}");

    let lock = fs::File::options().write(true).open(folder.path("charm/lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(folder.json(7, &["release", &sum, "--timeout", "0"])["kind"], "store-in-use");
    drop(lock);
    for wrong in ["", "12", &sum[1..], &format!("{sum}00"), &"+f".repeat(32), &"\u{e9}".repeat(32)] {
        assert_eq!(folder.json(2, &["release", wrong])["kind"], "usage", "{wrong}");
    }
    assert_eq!(folder.json(4, &["release", &"0".repeat(64)])["kind"], "not-found");
    folder.json(2, &["send", "slow/run", "1"]);
    assert_eq!(folder.json(0, &["release", &sum]), json!({"released": sum}));
    assert_eq!(folder.json(4, &["release", &sum])["kind"], "not-found");
    let host = Running::start(&folder, &[]);
    assert_eq!(folder.json(0, &["send", "slow/run", "1"])["outcome"], "committed");
    assert_eq!(host.stop("TERM"), Some(0));
}
