//! What the host's sources may name, and where.

use super::*;

/// Only modules below `guest` know the engine.
#[test]
fn wasmtime_is_named_only_below_guest() {
    let others = host().filter(|file| !file.path.starts_with("host/src/guest/"));
    none(uses(others, &["wasmtime", "wasmtime_wasi", "wasmtime_wasi_io"]), "only host/src/guest/ names the engine");
    let users = below("host/cli/").chain(below("host/examples/")).filter(|file| file.is_rust());
    none(uses(users, &["wasmtime"]), "embedders see no engine");
}

/// The engine of the store is behind one file.
#[test]
fn the_database_is_named_only_in_its_file() {
    let others = host().filter(|file| !file.path.starts_with("host/src/store/index"));
    none(uses(others, &["rusqlite"]), "only store/index names the database");
}

#[test]
fn there_is_one_bindgen() {
    let files: Vec<&str> =
        host().filter(|file| file.code().contains("bindgen!")).map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["host/src/guest/bindings.rs"]);
    assert_eq!(file("host/src/guest/bindings.rs").code().matches("bindgen!").count(), 1);
}

/// Host calls touch only the turn's transaction.
#[test]
fn host_calls_name_no_store_no_queue_and_no_world() {
    let forbidden = ["store", "Store", "queue", "fs", "net", "tokio", "reqwest", "SystemTime", "Instant", "Committer"];
    let calls = host().filter(|file| file.path.starts_with("host/src/guest/calls"));
    none(uses(calls, &forbidden), "host calls touch only the transaction");
}

/// Nothing becomes durable but through the group commit (T5, T8).
#[test]
fn only_the_group_commits_to_the_store() {
    let callers = host().filter(|file| {
        let code = file.code().replace(char::is_whitespace, "");
        code.contains("store.commit(") || code.contains("store().commit(") || code.contains("Store::commit(")
    });
    let callers: Vec<&str> = callers.map(|file| file.path.as_str()).collect();
    assert_eq!(callers, ["host/src/tx/committer/group.rs"]);
}

#[test]
fn the_library_prints_nothing_and_reads_no_environment() {
    let mut found = uses(host(), &["println", "eprintln", "print", "eprint", "dbg", "home_dir", "current_dir", "exit"]);
    let reads = host().filter(|file| file.code().contains("std::env") || file.code().contains("env::var"));
    found.extend(reads.map(|file| format!("{}: std::env", file.path)));
    none(found, "a library prints nothing and reads no environment");
}

/// The world has one door.
#[test]
fn time_randomness_threads_and_tasks_are_named_only_in_env() {
    // One of the process that compiles has a runtime of its own: none.
    let others =
        || host().filter(|file| !["host/src/env.rs", "host/src/guest/helper.rs"].contains(&file.path.as_str()));
    let mut found = uses(others(), &["SystemTime", "Instant", "getrandom", "spawn_blocking", "OsRng", "thread_rng"]);
    for file in others() {
        let code = file.code();
        for call in ["thread::spawn", "thread::sleep", "tokio::spawn", "task::spawn", "time::sleep", "time::timeout"] {
            if code.contains(call) {
                found.push(format!("{}: {call}", file.path));
            }
        }
    }
    none(found, "only env.rs meets clock, randomness, threads and tasks");
}

/// Processes are started in one place, with nothing of the host's.
#[test]
fn a_process_is_started_only_by_the_helper() {
    let others = host().filter(|file| file.path != "host/src/guest/helper.rs");
    none(uses(others, &["Command"]), "only helper.rs starts a process");
    let helper = file("host/src/guest/helper.rs").code();
    assert!(
        helper.contains(".env_clear()") && helper.contains(".kill_on_drop(true)"),
        "nothing is inherited, nothing stays"
    );
    for call in ["SystemTime", "Instant", "tokio::spawn", "time::sleep", "time::timeout"] {
        assert!(!helper.contains(call), "helper.rs: {call}");
    }
}

/// Values, paths and names are plain data.
#[test]
fn the_model_does_no_io() {
    let model = [
        "did",
        "value",
        "path",
        "readable",
        "event",
        "receipt",
        "cell",
        "record",
        "shape",
        "descriptor",
        "limits",
        "text",
    ];
    let is_model = |file: &&File| {
        let name = file.path.trim_start_matches("host/src/").trim_end_matches(".rs");
        model.contains(&name.split('/').next().unwrap_or_default())
    };
    let forbidden = ["fs", "net", "tokio", "async", "await", "File", "Mutex", "RwLock", "tracing"];
    assert!(host().filter(is_model).count() >= model.len(), "the model's files are found");
    none(uses(host().filter(is_model), &forbidden), "the model does no I/O");
}

/// One file an interface, on both sides.
#[test]
fn every_interface_has_its_file_of_host_calls() {
    let mut interfaces = Vec::new();
    for file in below("wit/").filter(|file| file.path.ends_with(".wit")) {
        let name = file.path.trim_start_matches("wit/").trim_end_matches(".wit");
        let declared: Vec<&str> = file.text.lines().filter_map(|line| line.strip_prefix("interface ")).collect();
        if name != "world" {
            assert_eq!(declared, [format!("{name} {{")], "{}: one interface, named like its file", file.path);
        }
        // `types` and the world hold no functions; `guest` and `derivations` are what charms export.
        if !["types", "world", "guest", "derivations"].contains(&name) {
            interfaces.push(format!("host/src/guest/calls/{name}.rs"));
        }
    }
    let mut calls: Vec<String> = below("host/src/guest/calls/").map(|file| file.path.clone()).collect();
    interfaces.sort();
    calls.sort();
    assert_eq!(calls, interfaces);
}

/// Each file says in its first line what it is.
#[test]
fn every_source_file_of_the_host_begins_with_what_it_is() {
    let silent = host().filter(|file| !file.text.starts_with("//! "));
    none(silent.map(|file| file.path.clone()), "the first line is a //! sentence");
}

/// A guest's mistake must not bring the host down.
#[test]
fn the_host_does_not_unwrap() {
    none(
        uses(host(), &["unwrap", "unwrap_err", "unimplemented", "todo", "unreachable", "unsafe"]),
        "no unwrap in the host",
    );
}
