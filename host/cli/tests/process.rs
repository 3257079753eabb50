//! The host as a process among others: commands that meet, hosts that start, end or stand still, whoever reads what is said.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Child, Command, Output},
    time::{Duration, Instant},
};

use common::{Folder, Running};
use serde_json::{Value, json};

const PROBE: &str = "[charm.probe]\ncomponent = \"probe.wasm\"\n";

/// Waits for something, with a bound.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the end of a process, with a bound.
#[track_caller]
fn ended(mut child: Child) -> Output {
    until("the process ends", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// A charm that waits for a server which never answers: its host drains for as long as that is there.
fn hanging() -> (Folder, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", server.local_addr().unwrap());
    let http = format!("http = [{{ origin = \"{origin}\", methods = [\"GET\"], private = true }}]\n");
    (Folder::new(&["probe"], &format!("{PROBE}{http}")), server)
}

/// Commands that need the store at the same time take it one after the other.
#[test]
fn commands_without_a_host_wait_for_each_other() {
    let folder = Folder::counter();
    let send = || folder.command(&["--json", "send", "counter/add", "1", "--timeout", "120"]).spawn().unwrap();
    let mut children: Vec<Child> = (0..6).map(|_| send()).collect();
    children.push(folder.command(&["--json", "pause", "counter", "--timeout", "120"]).spawn().unwrap());
    children.push(folder.command(&["--json", "resume", "counter", "--timeout", "120"]).spawn().unwrap());
    // The first of all may be the pause, which knows no charm yet.
    for (number, child) in children.into_iter().enumerate() {
        let output = ended(child);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || (number >= 6 && said.contains("not-found")), "{number}: {output:?}");
    }
    folder.json(0, &["resume", "counter"]);
    folder.json(0, &["send", "counter/add", "1"]);
    let host = Running::start(&folder, &[]);
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(host.stop("TERM"), Some(0));
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 8);
}

/// While a host compiles its charms commands wait, and say for what; a second host does not wait.
#[test]
fn a_command_waits_for_a_host_that_starts_and_says_so() {
    let folder = Folder::new(&["counter"], "[charm.counter]\ncomponent = \"counter.wasm\"\n");
    folder.json(0, &["send", "counter/add", "1"]);
    // Compiles for a long time.
    let deep = format!("(component (core module (func {} {})))", "(block ".repeat(90_000), ")".repeat(90_000));
    fs::write(folder.path("bomb.wasm"), wat::parse_str(deep).unwrap()).unwrap();
    folder.append("charms.toml", "[charm.bomb]\ncomponent = \"bomb.wasm\"\n");
    let host = folder.command(&["run"]).spawn().unwrap();
    let mut host = Running { child: host, lines: Vec::new() };
    until("the socket is there", || folder.path("charm/socket").exists() || host.child.try_wait().unwrap().is_some());
    let output = folder.command(&["send", "counter/add", "1", "--timeout", "2"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("host starts"), "{said}");
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("still starts after 2 s"), "{said}");
    assert_eq!(folder.json(7, &["run", "--timeout", "60"])["kind"], "store-in-use");
    signal(&host.child, "INT");
    until("it ends", || host.child.try_wait().unwrap().is_some());
    assert_eq!(host.child.wait().unwrap().code(), Some(0));
    assert!(!folder.path("charm/socket").exists());
}

/// While a host drains commands wait until it has ended, and say so; in the end they do it themselves.
#[test]
fn a_command_waits_for_a_host_that_drains_and_says_so() {
    let (folder, _server) = hanging();
    folder.append("charms.toml", "[charm.counter]\ncomponent = \"counter.wasm\"\n");
    fs::copy(Folder::counter().path("counter.wasm"), folder.path("counter.wasm")).unwrap();
    let host = Running::start(&folder, &[]);
    // On a thread for a while: the host lets it end.
    let spin = folder.command(&["--json", "send", "probe/run", "{\"steps\": [[\"spin\"]]}"]).spawn().unwrap();
    until("the turn runs", || {
        let running = fs::read(folder.path("charm/running")).unwrap_or_default();
        running.iter().any(|byte| *byte != 0)
    });
    signal(&host.child, "TERM");
    let mut sends = Vec::new();
    for _ in 0..3 {
        sends.push(folder.command(&["send", "counter/add", "1"]).spawn().unwrap());
    }
    let next = folder.command(&["run"]).spawn().unwrap();
    let next = Running { child: next, lines: Vec::new() };
    let mut said = String::new();
    for send in sends {
        let output = ended(send);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        said += &String::from_utf8(output.stderr).unwrap();
    }
    assert!(said.contains("note: host drains"), "{said}");
    let output = ended(spin);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("faulted"), "whose event ran gets its receipt: {output:?}");
    until("the next host serves", || folder.path("charm/socket").exists());
    signal(&next.child, "TERM");
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 3);
}

/// A host that is stopped answers nobody, and nobody waits for ever.
#[test]
fn a_host_whose_process_is_stopped_is_not_waited_for() {
    let folder = Folder::counter();
    let host = Running::start(&folder, &[]);
    folder.json(0, &["send", "counter/add", "1"]);
    signal(&host.child, "STOP");
    // The second is more than the socket holds.
    for event in ["1".to_owned(), format!("\"{}\"", "x".repeat(250_000))] {
        let silent = folder.input(7, &["send", "counter/add", "-", "--timeout", "1"], &event);
        let error = silent["error"].as_str().unwrap();
        assert!(error.contains("has said nothing for 1 s") && error.contains("--id"), "{error}");
    }
    assert_eq!(folder.json(7, &["run", "--timeout", "1"])["kind"], "store-in-use");
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 1, "reading goes on");
    signal(&host.child, "CONT");
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(host.stop("TERM"), Some(0));
}

/// One that is stopped while an event waits: the client is left with its id.
#[test]
fn a_host_that_is_stopped_later_leaves_the_client_with_the_id() {
    let (folder, server) = hanging();
    let host = Running::start(&folder, &[]);
    let url = format!("http://{}/", server.local_addr().unwrap());
    let script = json!({"steps": [["fetch", {"url": url}]]}).to_string();
    let send = folder.command(&["--json", "send", "probe/run", &script, "--timeout", "3"]).spawn().unwrap();
    let _request = server.accept().unwrap();
    // Longer than the client is patient: the host says that it lives.
    std::thread::sleep(Duration::from_millis(3_500));
    signal(&host.child, "STOP");
    let output = ended(send);
    signal(&host.child, "CONT");
    let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((output.status.code(), &failure["exit"]), (Some(7), &json!(7)), "{failure}");
    let waiting = folder.json(0, &["events", "probe"])[0]["id"].as_str().unwrap().to_owned();
    assert!(failure["error"].as_str().unwrap().ends_with(&format!("charm receipt {waiting}")), "{failure}");
    drop(host);
}

/// All names of one store lead to its one host.
#[test]
fn every_name_of_a_store_leads_to_its_host() {
    let folder = Folder::counter();
    fs::create_dir(folder.path("real")).unwrap();
    fs::write(folder.path("real.toml"), "store = \"real/charm\"\n[charm.counter]\ncomponent = \"counter.wasm\"\n")
        .unwrap();
    symlink("real/charm", folder.path("charm")).unwrap();
    symlink("real", folder.path("linked")).unwrap();
    let host = Running::start(&folder, &["charms.toml"]);
    assert!(host.lines.last().unwrap().contains("serving on real/charm/socket"), "{:?}", host.lines);
    let absolute = folder.path("linked/charm").display().to_string();
    let names = ["charm", "real/charm", "linked/../real/./charm", "linked/charm", &absolute];
    for name in names {
        assert_eq!(folder.json(0, &["send", "counter/add", "1", "--store", name])["outcome"], "committed", "{name}");
        let refused = folder.json(7, &["run", "--store", name]);
        assert_eq!(refused["kind"], "store-in-use");
        assert!(refused["error"].as_str().unwrap().contains(name), "{refused}");
    }
    assert_eq!(host.stop("TERM"), Some(0));
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], names.len());
    let beside = |folder: PathBuf| -> HashSet<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("charm") && name != "charms.toml").collect()
    };
    assert_eq!(beside(folder.path(".")), HashSet::from(["charm".to_owned()]), "nothing stands beside the link");
    assert_eq!(beside(folder.path("real")), HashSet::from(["charm".to_owned()]), "everything stands in it");
}

/// A name is a path, also for a command, and its folder is made.
#[test]
fn a_store_name_is_a_path_for_every_command() {
    for store in ["file:charm", "new/folder/charm", ":memory:"] {
        let folder = Folder::counter();
        for _ in 0..2 {
            folder.json(0, &["send", "counter/add", "1", "--store", store]);
        }
        let host = Running::start(&folder, &["--store", store]);
        folder.json(0, &["send", "counter/add", "1", "--store", store]);
        assert_eq!(host.stop("TERM"), Some(0));
        assert_eq!(folder.json(0, &["get", "counter/count", "--store", store])["value"], 3);
    }
}

/// Paths longer than a socket's address, by their folders or by the store's own name.
#[test]
fn a_path_longer_than_a_sockets_address_is_served() {
    let deep = format!("{}/{}", "d".repeat(120), "e".repeat(120));
    for store in [format!("{deep}/charm"), format!("{}.db", "n".repeat(200)), format!("{deep}/{}.db", "m".repeat(200))]
    {
        let folder = Folder::counter();
        let long = folder.path(&store);
        let host = Running::start(&folder, &["--store", &store]);
        // By the short relative name, and by the whole one.
        for name in [&store, &long.display().to_string()] {
            assert_eq!(folder.json(0, &["send", "counter/add", "1", "--store", name])["outcome"], "committed");
        }
        assert_eq!(folder.json(7, &["run", "--store", &store])["kind"], "store-in-use");
        assert_eq!(host.stop("TERM"), Some(0));
        assert_eq!(folder.json(0, &["get", "counter/count", "--store", &store])["value"], 2);
        assert!(!long.join("socket").exists());
    }
}

/// What a charm logs, much of it.
fn chatter(folder: &Folder, times: usize) {
    let lines: Vec<Value> = (0..12).map(|n| json!(["log", "warn", format!("{n} {}", "x".repeat(900))])).collect();
    let script = json!({ "steps": lines }).to_string();
    for _ in 0..times {
        folder.json(0, &["send", "probe/run", &script]);
    }
}

/// Standard error that nobody reads, that is closed, or that is full: turns, commands and the end go on.
#[test]
fn a_host_goes_on_whoever_reads_its_standard_error() {
    for case in ["nobody reads", "closed", "full"] {
        for json in [false, true] {
            let folder = Folder::new(&["probe"], PROBE);
            let arguments: &[&str] = if json { &["--json", "run"] } else { &["run"] };
            let mut command = folder.command(&[arguments, &["--log", "charm=trace,warn"]].concat());
            if case == "full" {
                command.stderr(File::options().write(true).open("/dev/full").unwrap());
            }
            let mut child = command.spawn().unwrap();
            if case == "closed" {
                drop(child.stderr.take());
            }
            let mut line = String::new();
            let mut stdout = BufReader::new(child.stdout.take().unwrap());
            while !line.contains("serving") && !line.contains("\"socket\"") {
                line.clear();
                assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "{case}: it serves");
            }
            // More than a pipe holds.
            chatter(&folder, 20);
            signal(&child, "TERM");
            let mut unread = child.stderr.take();
            until("the host ends", || child.try_wait().unwrap().is_some());
            assert_eq!(child.wait().unwrap().code(), Some(0), "{case}");
            if case == "nobody reads" {
                let mut text = String::new();
                unread.take().unwrap().read_to_string(&mut text).unwrap();
                assert!(text.len() > 10_000, "what the pipe holds is there");
            }
        }
    }
}

/// What could not be written is counted, and told when it goes on; lines of JSON name each key once.
#[test]
fn lines_that_are_dropped_are_told_when_it_goes_on() {
    let folder = Folder::new(&["probe"], PROBE);
    let mut child = folder.command(&["--json", "run", "--log", "trace"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("socket"), "{line}");
    // Far more lines than wait in line, while nobody reads.
    let reads: Vec<Value> = (0..2_000).map(|_| json!(["get", "x", []])).collect();
    let script = json!({ "steps": reads }).to_string();
    for _ in 0..12 {
        folder.json(0, &["send", "probe/run", &script]);
    }
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let (mut missing, mut twice) = (0, Vec::new());
        for line in stderr.lines() {
            let line = line.unwrap();
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if value["target"] == "charm::log" {
                missing += value["fields"]["lines"].as_u64().unwrap();
                assert_eq!(value["level"], "WARN");
            }
            // Read into a value, keys that stand twice become one.
            if value.to_string().matches("\":").count() != line.matches("\":").count() {
                twice.push(line);
            }
        }
        (missing, twice)
    });
    folder.json(0, &["send", "probe/run", "{\"steps\": [[\"log\", \"warn\", \"and now\"]]}"]);
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let (missing, twice) = reader.join().unwrap();
    assert!(missing > 1_000, "{missing} lines are missing");
    assert_eq!(twice, Vec::<String>::new());
}

/// What cannot be printed is done all the same, and standard error says what.
#[test]
fn a_receipt_that_cannot_be_printed_is_told_on_standard_error() {
    let folder = Folder::counter();
    for (json, host) in [(false, false), (true, false), (false, true), (true, true)] {
        let running = host.then(|| Running::start(&folder, &[]));
        let arguments: &[&str] =
            if json { &["--json", "send", "counter/add", "1"] } else { &["send", "counter/add", "1"] };
        let mut command = folder.command(arguments);
        let output = ended(command.stdout(File::options().write(true).open("/dev/full").unwrap()).spawn().unwrap());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(8), "{said}");
        let id = said.split([' ', '"']).find(|word| word.len() == 32).unwrap_or_else(|| panic!("no id: {said}"));
        assert!(said.contains("committed as commit") && said.contains("standard output"), "{said}");
        assert_eq!(folder.json(0, &["receipt", id])["outcome"], "committed");
        drop(running);
    }
    assert_eq!(folder.json(0, &["get", "counter/count"])["value"], 4);
    // A host whose greeting cannot be printed serves.
    let mut command = folder.command(&["run"]);
    let child = command.stdout(File::options().write(true).open("/dev/full").unwrap()).spawn().unwrap();
    let host = Running { child, lines: Vec::new() };
    until("it serves", || folder.path("charm/socket").exists());
    folder.json(0, &["send", "counter/add", "1"]);
    assert_eq!(host.stop("INT"), Some(0));
}

/// The second signal ends a host that drains, a command ends by itself at the first, and leaves nothing half-done.
#[test]
fn signals_are_attended_to() {
    let (folder, server) = hanging();
    let url = format!("http://{}/", server.local_addr().unwrap());
    let script = json!({"steps": [["fetch", {"url": url}]]}).to_string();
    for name in ["INT", "TERM"] {
        let send = folder.command(&["--json", "send", "probe/run", &script]).spawn().unwrap();
        let _request = server.accept().unwrap();
        signal(&send, name);
        let output = ended(send);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("stopped by a signal"), "{output:?}");
        let left: Vec<_> = fs::read_dir(folder.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("-wal")), "it ends cleanly: {left:?}");
        folder.json(
            0,
            &["events", "probe", "--discard", folder.json(0, &["events", "probe"])[0]["id"].as_str().unwrap()],
        );
    }
    let host = Running::start(&folder, &[]);
    folder.json(0, &["send", "probe/run", "{\"steps\": [[\"spin\"]]}", "--no-wait"]);
    until("the turn runs", || fs::read(folder.path("charm/running")).unwrap().iter().any(|byte| *byte != 0));
    signal(&host.child, "INT");
    signal(&host.child, "TERM");
    let mut host = host;
    until("it ends at once", || host.child.try_wait().unwrap().is_some());
    let code = host.child.wait().unwrap().code();
    assert!([Some(143), Some(130), Some(0)].contains(&code), "{code:?}");
}

/// `charm run` tells at its default level what an operator must know, with the next step, and not a thousand times.
#[test]
fn a_host_tells_its_operator_of_dead_letters() {
    let folder = Folder::new(&["probe"], PROBE);
    let mut child = folder.command(&["run"]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("serving") {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0);
    }
    let failed = folder.json(3, &["send", "probe/run", "{\"steps\": [[\"trap\"]]}"]);
    for _ in 0..10 {
        folder.json(3, &["send", "probe/run", "{\"steps\": [[\"trap\"]]}"]);
    }
    signal(&child, "TERM");
    let output = ended(child);
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("a dead letter")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    let id = failed["id"].as_str().unwrap();
    for part in ["WARN", "charm probe: event", id, "for run faulted", "charm events probe --dead", "--resend"] {
        assert!(lines[0].contains(part), "{part}: {said}");
    }
}
