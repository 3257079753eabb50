//! `charm run`: a host that serves, reached by other commands through its socket, ended by signals.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixListener, net::UnixStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use common::{FIRST, Folder, Running};
use serde_json::{Value, json};

#[test]
fn a_running_host_takes_events_through_its_socket_until_it_is_told_to_end() {
    let folder = Folder::counter();
    for (signal, count) in [("INT", 1), ("TERM", 2)] {
        let host = Running::start(&folder, &["charms.toml"]);
        let did = folder.json(0, &["did", "counter"])["did"].as_str().unwrap().to_owned();
        assert_eq!(host.lines, [format!("counter {did}"), "serving on charm/socket; Ctrl-C ends it".to_owned()]);
        let mode = fs::metadata(folder.path("charm/socket")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let receipt = folder.json(0, &["send", "counter/add", "1"]);
        assert_eq!((&receipt["outcome"], &receipt["commit"]), (&json!("committed"), &json!(FIRST + 2 * (count - 1))));
        assert_eq!(folder.json(0, &["get", "counter/count"])["value"], count);
        assert_eq!(folder.json(0, &["verify"])["store"]["spaces"], 3);
        assert_eq!(folder.json(7, &["run"])["kind"], "store-in-use");
        assert_eq!(host.stop(signal), Some(0));
        assert!(!folder.path("charm/socket").exists());
    }
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 2);
}

#[test]
fn every_refusal_and_failure_comes_through_the_socket_as_it_is() {
    let folder = Folder::counter();
    let host = Running::start(&folder, &["--json"]);
    let started: Value = serde_json::from_str(&host.lines[0]).unwrap();
    assert_eq!((&started["charms"][0]["name"], &started["socket"]), (&json!("counter"), &json!("charm/socket")));
    assert_eq!(folder.json(5, &["send", "counter/add", "true"])["kind"], "shape");
    assert_eq!(folder.json(5, &["send", "counter/add", "1", "--as", common::OUTSIDER])["kind"], "denied");
    assert_eq!(folder.json(4, &["send", "nobody/add", "1"])["kind"], "not-found");
    assert_eq!(folder.json(0, &["send", "counter/add", "9223372036854775807"])["outcome"], "committed");
    let rejected = folder.json(3, &["send", "counter/add", "1", "--settle", "5"]);
    assert_eq!((&rejected["outcome"], &rejected["settled"]), (&json!("rejected"), &json!(true)));
    let id = rejected["id"].as_str().unwrap();
    folder.json(3, &["events", "counter", "--resend", id]);
    let dead = folder.json(0, &["events", "counter", "--dead"]);
    let again = dead[0]["id"].as_str().unwrap();
    assert_eq!(folder.json(0, &["events", "counter", "--discard", again]), json!({"discarded": again}));
    let sent = folder.json(0, &["send", "counter/add", "-1", "--no-wait"]);
    assert_eq!(sent["outcome"], "waiting");
    assert_eq!(host.stop("TERM"), Some(0));
    assert_eq!(folder.json(0, &["receipt", sent["id"].as_str().unwrap()])["outcome"], "committed");
}

#[test]
fn a_socket_that_a_killed_host_left_behind_is_no_hindrance() {
    let folder = Folder::counter();
    let host = Running::start(&folder, &[]);
    assert_eq!(host.stop("KILL"), None);
    assert!(folder.path("charm/socket").exists());
    folder.json(0, &["send", "counter/add", "1"]);
    let host = Running::start(&folder, &[]);
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(host.stop("INT"), Some(0));
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 2);
    fs::write(folder.path("charm/socket"), "not a socket").unwrap();
    assert!(folder.json(1, &["run"])["error"].as_str().unwrap().contains("remove it"));
}

#[test]
fn nonsense_on_the_socket_gets_an_answer_and_hurts_nobody() {
    let folder = Folder::counter();
    let host = Running::start(&folder, &[]);
    let mut client = UnixStream::connect(folder.path("charm/socket")).unwrap();
    client.write_all(b"hello\n{\"op\":\"fly\"}\n\xff\xfe\n").unwrap();
    let mut answers = BufReader::new(client.try_clone().unwrap()).lines();
    for _ in 0..3 {
        let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert_eq!(answer["failed"]["exit"], 2, "{answer}");
    }
    let long = vec![b'x'; (4 << 20) + 1];
    // The host may hang up before it has read all of it.
    let _ = client.write_all(&long);
    let answer = answers.next().unwrap().unwrap();
    assert!(answer.contains("limit"), "{answer}");
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(host.stop("INT"), Some(0));
}

#[test]
fn a_host_that_goes_away_leaves_the_client_with_the_id() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1"]);
    let listener = UnixListener::bind(folder.path("charm/socket")).unwrap();
    let client = folder.command(&["--json", "send", "counter/add", "1"]).spawn().unwrap();
    let (mut host, _) = listener.accept().unwrap();
    let mut question = String::new();
    BufReader::new(host.try_clone().unwrap()).read_line(&mut question).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&question).unwrap()["op"], "send");
    host.write_all(b"{\"accepted\":\"0123\"}\n").unwrap();
    drop(host);
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(failure["error"].as_str().unwrap().ends_with("charm receipt 0123"), "{failure}");
}

#[test]
fn events_that_waited_go_on_when_a_host_runs() {
    let folder = Folder::counter();
    let sent: Vec<_> = (0..5).map(|_| folder.json(0, &["send", "counter/add", "1", "--no-wait"])).collect();
    let host = Running::start(&folder, &[]);
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(host.stop("INT"), Some(0));
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 6);
    for event in sent {
        assert_eq!(folder.json(0, &["receipt", event["id"].as_str().unwrap()])["outcome"], "committed");
    }
}

/// H1: beside a running host and without one; what has gone is named, and is in no file.
#[test]
fn the_past_of_a_charm_goes_with_and_without_a_host() {
    let folder = Folder::counter();
    let count = |n: &str| folder.json(0, &["send", "counter/add", n])["commit"].as_u64().unwrap();
    let first = count("1");
    count("2");
    let pruned = folder.json(0, &["prune", "counter"]);
    let floor = pruned["floor"].as_u64().unwrap();
    assert!(floor > first, "{pruned}");
    assert_eq!((&pruned["commits"], &pruned["receivers"]), (&json!(floor), &json!([])));
    let compacted = folder.json(4, &["get", "counter/count", "--at", &first.to_string()]);
    assert_eq!(compacted["kind"], "compacted", "{compacted}");
    assert_eq!(folder.json(0, &["get", "counter/count", "--at", &floor.to_string()])["value"], 3);
    assert_eq!(folder.json(0, &["ls"])[0]["floor"], floor);
    assert!(folder.text(0, &["ls"]).0.contains(&format!("pruned up to commit {floor}\n")));
    assert_eq!(folder.json(0, &["verify", "counter"])[0]["floor"], floor);
    assert!(folder.text(0, &["verify"]).0.contains(&format!(" (from {}) ", floor + 1)));
    let host = Running::start(&folder, &[]);
    count("4");
    let text = folder.text(0, &["prune", "counter"]).0;
    assert!(text.starts_with("counter pruned: ") && text.contains(" commits have gone, up to commit "), "{text}");
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 7);
    folder.json(0, &["verify"]);
    assert_eq!(folder.json(2, &["prune", "counter", "--data"])["kind"], "usage");
    assert_eq!(folder.json(4, &["prune", "nobody"])["kind"], "not-found");
    assert_eq!(host.stop("TERM"), Some(0));
    // Out of the manifest all of it can go.
    fs::write(folder.path("charms.toml"), "").unwrap();
    folder.json(0, &["prune", "counter", "--data"]);
    assert_eq!(folder.json(0, &["ls", "counter"]), json!([]));
    folder.json(0, &["verify"]);
}

/// A6: beside a running host and without one; a pause survives both, and events go on coming.
#[test]
fn a_charm_is_paused_and_resumed_with_and_without_a_host() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(folder.json(0, &["pause", "counter"]), json!({"charm": "counter", "paused": true}));
    assert_eq!(folder.json(0, &["ls"])[0]["paused"], true);
    // Who sends is told, and does not wait.
    let waits = folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(waits["message"], "counter is paused; charm resume counter lets it go on", "{waits}");
    folder.json(0, &["events", "counter", "--discard", waits["id"].as_str().unwrap()]);
    assert_eq!(folder.json(3, &["receipt", waits["id"].as_str().unwrap()])["outcome"], "cancelled");
    let host = Running::start(&folder, &[]);
    let sent = folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(sent["outcome"], "waiting");
    assert_eq!(folder.json(0, &["ls"])[0]["waiting"], 1, "it is kept, and has no turn");
    assert_eq!(folder.json(0, &["resume", "counter"]), json!({"charm": "counter", "paused": false}));
    assert_eq!(folder.json(0, &["send", "counter/add", "1"])["commit"], FIRST + 8);
    let first = folder.json(0, &["receipt", sent["id"].as_str().unwrap()])["commit"].as_u64();
    assert!(first == Some(FIRST + 6) || first == Some(FIRST + 7), "before or after the next event came: {first:?}");
    assert_eq!(folder.json(4, &["pause", "nobody"])["kind"], "not-found");
    folder.json(0, &["pause", "counter"]);
    assert!(folder.text(0, &["ls"]).0.contains("  paused\n"));
    folder.json(0, &["send", "counter/add", "1", "--no-wait"]);
    assert_eq!(host.stop("TERM"), Some(0));
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 3);
    folder.json(0, &["resume", "counter"]);
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 5);
}

/// Clients that ask nothing, more than a host has places.
#[test]
fn clients_that_are_idle_keep_nobody_out() {
    let folder = Folder::counter();
    let host = Running::start(&folder, &[]);
    let connect = |number: usize| {
        let mut client = UnixStream::connect(folder.path("charm/socket")).unwrap();
        if number.is_multiple_of(2) {
            // Half a question is none.
            let _ = client.write_all(b"{\"op\":");
        }
        client
    };
    let idle: Vec<_> = (0..600).map(connect).collect();
    assert_eq!(folder.json(0, &["send", "counter/add", "1"])["outcome"], "committed");
    // Those who came last may still ask.
    let mut last = idle.into_iter().last().unwrap();
    last.write_all(b"{\"op\":\"fly\"}\n").unwrap();
    let mut answer = String::new();
    BufReader::new(last).read_line(&mut answer).unwrap();
    assert!(answer.contains("failed"), "{answer}");
    assert_eq!(host.stop("INT"), Some(0));
}

/// Clients that are gone, more than a host has places, whose events wait for what never comes.
#[test]
fn clients_that_are_gone_keep_nobody_out_and_their_events_stay() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", server.local_addr().unwrap());
    let grant = format!("http = [{{ origin = \"{origin}\", methods = [\"GET\"], private = true }}]");
    let manifest = "[charm.counter]\ncomponent = \"counter.wasm\"\n[charm.probe]\ncomponent = \"probe.wasm\"\n";
    let folder = Folder::new(&["counter", "probe"], &format!("{manifest}{grant}\n"));
    let host = Running::start(&folder, &[]);
    let fetch = json!(["fetch", {"method": "GET", "url": format!("{origin}/"), "headers": [], "body": ""}]);
    let steps = json!({"steps": [fetch]}).to_string();
    // A client that is killed: its question stays.
    let mut client = folder.command(&["send", "probe/run", &steps]).spawn().unwrap();
    let (_connection, _) = server.accept().unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    let question =
        json!({"op": "send", "charm": "probe", "stream": "run", "event": {"steps": []}, "wait": true, "settle_s": 0});
    for number in 0..600 {
        let mut client = UnixStream::connect(folder.path("charm/socket")).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.write_all(format!("{question}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        let read = BufReader::new(client).read_line(&mut answer);
        assert!(answer.contains("accepted"), "client {number}: {read:?} {answer}");
    }
    assert_eq!(folder.json(0, &["send", "counter/add", "1"])["outcome"], "committed");
    let waiting = folder.json(0, &["events", "probe"]);
    assert_eq!(waiting.as_array().unwrap().len(), 601);
    drop(host);
}

/// A client that only has no more to ask gets its answer.
#[test]
fn a_client_that_closes_its_writing_half_is_answered() {
    let folder = Folder::counter();
    let host = Running::start(&folder, &[]);
    let mut client = UnixStream::connect(folder.path("charm/socket")).unwrap();
    let question = json!({"op": "send", "charm": "counter", "stream": "add", "event": 1, "wait": true, "settle_s": 1});
    client.write_all(format!("{question}\n").as_bytes()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.contains("settled"), "{text}");
    assert_eq!(host.stop("INT"), Some(0));
}

/// What does not fit is refused, and never becomes another number.
#[test]
fn an_integer_over_64_bits_is_refused_on_the_socket() {
    let folder = Folder::new(&["probe"], "[charm.probe]\ncomponent = \"probe.wasm\"\n");
    let host = Running::start(&folder, &[]);
    let mut client = UnixStream::connect(folder.path("charm/socket")).unwrap();
    let mut answers = BufReader::new(client.try_clone().unwrap()).lines();
    for number in ["18446744073709551616", "-9223372036854775809", &"9".repeat(300)] {
        let head = r#"{"op": "send", "charm": "probe", "stream": "run", "wait": false, "settle_s": 0, "event": "#;
        client.write_all(format!("{head}{{\"steps\": [[\"set\", \"c\", [], {number}]]}}}}\n").as_bytes()).unwrap();
        let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert!(answer["failed"]["error"].as_str().unwrap().contains("64 bits"), "{answer}");
    }
    assert_eq!(folder.json(0, &["events", "probe"]), json!([]));
    assert_eq!(host.stop("INT"), Some(0));
}

/// A host that compiles a component for minutes.
fn compiling_host() -> (Folder, Running) {
    let folder = Folder::new(&[], "[charm.bomb]\ncomponent = \"bomb.wasm\"\n");
    // Many blocks in one another.
    let deep = format!("(component (core module (func {} {})))", "(block ".repeat(90_000), ")".repeat(90_000));
    fs::write(folder.path("bomb.wasm"), wat::parse_str(deep).unwrap()).unwrap();
    let child = folder.command(&["run"]).env("SECRET", "sesame").spawn().unwrap();
    let host = Running { child, lines: Vec::new() };
    while compilers(&folder).is_empty() {
        std::thread::yield_now();
    }
    (folder, host)
}

/// The processes that compile for a host in this folder.
fn compilers(folder: &Folder) -> Vec<PathBuf> {
    let begin = folder.path("cache/compiling-").display().to_string();
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let compiles = |process: &PathBuf| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').any(|word| word.starts_with(&begin))
    };
    processes.filter(compiles).collect()
}

/// Waits for what a process that was killed leaves a moment later.
fn soon(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Somebody who changes their mind while charms are compiled.
#[test]
fn a_host_that_is_told_to_end_while_it_compiles_ends() {
    for signal in ["INT", "TERM"] {
        let (folder, host) = compiling_host();
        assert_eq!(host.stop(signal), Some(0));
        soon("the compiler has ended", || compilers(&folder).is_empty());
        soon("nothing half-done is left", || fs::read_dir(folder.path("cache")).unwrap().next().is_none());
    }
}

/// A compiler outlives no host, and has nothing of it.
#[test]
fn a_compiler_ends_with_its_host_and_inherits_nothing() {
    let (folder, host) = compiling_host();
    let compiler = compilers(&folder).pop().unwrap();
    assert_eq!(fs::read(compiler.join("environ")).unwrap(), b"");
    let open = fs::read_dir(compiler.join("fd")).unwrap().filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let inherited: Vec<_> =
        open.filter(|file| file.starts_with(folder.0.path()) && !file.starts_with(folder.path("cache"))).collect();
    assert!(inherited.is_empty(), "{inherited:?}");
    assert_eq!(host.stop("KILL"), None);
    while !compilers(&folder).is_empty() {
        std::thread::yield_now();
    }
}

/// S11, A5: more failures than are kept; what goes is counted, and shown.
#[test]
fn ls_tells_how_many_dead_letters_went() {
    let folder = Folder::counter();
    let host = Running::start(&folder, &[]);
    folder.json(0, &["send", "counter/add", "9223372036854775807"]);
    let mut client = UnixStream::connect(folder.path("charm/socket")).unwrap();
    let mut answers = BufReader::new(client.try_clone().unwrap()).lines();
    let question = json!({"op": "send", "charm": "counter", "stream": "add", "event": 1, "wait": false, "settle_s": 0});
    for _ in 0..1_003 {
        client.write_all(format!("{question}\n").as_bytes()).unwrap();
        assert!(answers.next().unwrap().unwrap().contains("accepted"));
    }
    // The last of them is settled after all others.
    assert_eq!(folder.json(3, &["send", "counter/add", "1"])["outcome"], "rejected");
    let listed = &folder.json(0, &["ls"])[0];
    assert_eq!((&listed["dead"], &listed["letters_dropped"]), (&json!(1_000), &json!(4)));
    assert!(folder.text(0, &["ls"]).0.contains("4 dead letters dropped"));
    assert_eq!(host.stop("TERM"), Some(0));
    assert_eq!(folder.json(0, &["ls"])[0]["letters_dropped"], 4, "also when nobody runs");
    folder.json(0, &["verify"]);
}

/// The copy is a store, taken beside a host and after its end; it is made where nothing is.
#[test]
fn a_backup_is_a_store() {
    let folder = Folder::counter();
    let host = Running::start(&folder, &[]);
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(folder.json(0, &["backup", "copy"]), json!({"backup": "copy"}));
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(host.stop("TERM"), Some(0));
    assert_eq!(folder.json(0, &["get", "counter/count", "--store", "copy"])["value"], 1);
    folder.json(0, &["verify", "--store", "copy"]);
    let refused = folder.json(1, &["backup", "copy"]);
    assert!(refused["error"].as_str().unwrap().contains("is there already"), "{refused}");
    folder.json(0, &["backup", "later"]);
    assert_eq!(folder.json(0, &["get", "counter/count", "--store", "later"])["value"], 2);
}
