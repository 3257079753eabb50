//! docs/authors.md, followed by somebody who has the repository and an empty folder outside of it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by panicking, and starts programs")]

mod common;

use std::{fs, os::unix::fs::symlink};

use charm_demo_servers::root;
use common::{Folder, json, page};
use serde_json::json;

/// A folder outside the repository and the surroundings of an author: the repository's crates are downloaded, its library for
/// wasm is built.
fn author() -> (Folder, tempfile::TempDir, Vec<(&'static str, String)>) {
    let (folder, caches) = (Folder(tempfile::tempdir().unwrap()), tempfile::tempdir().unwrap());
    fs::create_dir_all(caches.path().join("charm")).unwrap();
    symlink(root().unwrap().join("target/guest-sysroot"), caches.path().join("charm/sysroots")).unwrap();
    let envs = vec![
        ("CHARM", root().unwrap().display().to_string()),
        ("CARGO_NET_OFFLINE", "true".to_owned()),
        ("XDG_CACHE_HOME", caches.path().display().to_string()),
    ];
    (folder, caches, envs)
}

#[test]
fn a_charm_of_ones_own_from_an_empty_folder_to_its_first_receipt() {
    let (folder, _caches, envs) = author();
    assert!(!folder.path("").starts_with(root().unwrap()), "outside the repository");
    let text = fs::read_to_string(root().unwrap().join("docs/authors.md")).unwrap();
    assert!(page::follow("docs/authors.md", &text, &folder.path(""), &envs) > 8);

    let charm = |exit: i32, arguments: &[&str]| {
        let output = folder.command(arguments).envs(envs.iter().map(|(name, value)| (name, value))).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {said}");
        said
    };
    let built =
        folder.command(&["build", "--json"]).envs(envs.iter().map(|(name, value)| (name, value))).output().unwrap();
    let mut page = json::Page::read();
    page.look("charm build", &serde_json::from_slice(&built.stdout).unwrap());
    page.is_met(|name| name == "charm build", &[]);
    // In the profile that comes with it a number that grows too large is a panic: nothing is committed.
    let source = folder.path("src/lib.rs");
    let counts = fs::read_to_string(&source).unwrap().replace("greeted + 1", "greeted - 1 + i64::MAX + greeted");
    fs::write(&source, &counts).unwrap();
    assert!(charm(0, &["build"]).contains("target/charms/hello.wasm: "));
    assert!(charm(3, &["send", "hello/greet", "\"Bob\""]).contains("attempt to add with overflow"));
    let package = folder.path("Cargo.toml");
    let was = fs::read_to_string(&package).unwrap();

    // What is wrong is said, and nothing is left that looks as if it were well.
    fs::remove_file(folder.path("target/charms/hello.wasm")).unwrap();
    fs::write(&source, counts.replace("greeted", "greted?")).unwrap();
    let said = charm(2, &["build"]);
    assert!(said.contains("src/lib.rs") && said.contains("error: cargo does not build hello"), "{said}");
    fs::write(&source, "#[unsafe(no_mangle)]\npub extern \"C\" fn handle() {}\n").unwrap();
    assert!(charm(2, &["build"]).contains("not a component of the world charm:host/charm"));
    fs::write(&package, was.replace("cdylib", "lib")).unwrap();
    assert!(charm(2, &["build"]).contains("builds no charm: write crate-type = [\"cdylib\", \"rlib\"]"));
    assert!(charm(2, &["build", "src"]).contains("no Cargo.toml in src: name the folder of a charm"));
    assert!(!folder.path("target/charms/hello.wasm").exists());
}

/// Of a file, of a charm of the manifest by name and by DID, with what it may do and what others may do with it.
#[test]
fn describe_shows_what_a_charm_offers_asks_for_and_is_given() {
    let manifest = "[charm.google-auth]\ncomponent = \"google-auth.wasm\"\n\
        http = [{ origin = \"http://127.0.0.1:1\", methods = [\"POST\"] }]\n\
        [charm.gmail-search]\ncomponent = \"gmail-search.wasm\"\n\
        http = [{ origin = \"http://127.0.0.1:2\", methods = [\"GET\"] }]\n\
        grant = [{ charm = \"google-auth\", read = [\"token\"], send = [\"refresh-token\"] }]\n";
    let folder = Folder::new(&["google-auth", "gmail-search", "till"], manifest);
    let file = folder.json(0, &["describe", "google-auth.wasm"]);
    let cell = |name: &str| file["cells"].as_array().unwrap().iter().find(|cell| cell["name"] == name).unwrap();
    assert_eq!((&cell("grant")["private"], &cell("token")["private"]), (&json!(true), &json!(null)), "{file}");
    assert!(cell("token")["shape"].as_str().unwrap().contains("access: string"), "{file}");
    assert!(file["streams"].as_array().unwrap().iter().any(|stream| stream["name"] == "refresh-token"), "{file}");
    assert!(file["imports"].to_string().contains("charm:host/http@"), "{file}");
    assert_eq!(file["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(file["rights"], json!(null), "a file is nobody's");

    let search = folder.json(0, &["describe", "gmail-search"]);
    let given = json!([{ "charm": "google-auth", "read": ["token"], "send": ["refresh-token"] }]);
    assert_eq!(search["rights"]["grants"], given);
    assert_eq!(search["rights"]["http"], json!([{ "origin": "http://127.0.0.1:2", "methods": ["GET"] }]));
    assert!(search["imports"].to_string().contains("charm:host/waits@"), "{search}");
    let till = folder.json(0, &["describe", "till.wasm"]);
    let booked = till["streams"].as_array().unwrap().iter().find(|stream| stream["name"] == "booked").unwrap();
    assert_eq!(booked["receipts"], json!(true), "{till}");
    let auth = folder.json(0, &["describe", "google-auth"]);
    let granted = json!([{ "charm": "gmail-search", "read": ["token"], "send": ["refresh-token"] }]);
    assert_eq!(auth["rights"]["granted"], granted);
    let (text, _) = folder.text(0, &["describe", "google-auth"]);
    for words in ["may call http://127.0.0.1:1: POST", "lets gmail-search: read token; send refresh-token", "private"] {
        assert!(text.contains(words), "{text}");
    }

    assert!(!folder.path("charm").exists() && !folder.path("keys").exists(), "describing leaves nothing");
    folder.json(0, &["send", "gmail-search/configure", "{\"api\": \"http://127.0.0.1:2\"}"]);
    let did = folder.json(0, &["did", "google-auth"])["did"].as_str().unwrap().to_owned();
    assert_eq!(folder.json(0, &["describe", &did]), auth);
    for absent in ["absent", "absent.wasm", "./absent"] {
        let error = folder.json(4, &["describe", absent]);
        assert!(error["error"].as_str().unwrap().contains(absent.trim_start_matches("./")), "{error}");
    }
    fs::write(folder.path("noise.wasm"), "noise").unwrap();
    assert!(
        folder.json(2, &["describe", "noise.wasm"])["error"].as_str().unwrap().contains("charm noise: not a valid")
    );
}

/// A2: each name of a grant with a letter too few: refused by `check` and by `run`, with the name that was meant.
#[test]
fn check_and_run_refuse_a_grant_on_what_nobody_declares() {
    let right = "[charm.google-auth]\ncomponent = \"google-auth.wasm\"\n\
        http = [{ origin = \"http://127.0.0.1:1\", methods = [\"POST\"] }]\n\
        [charm.gmail-search]\ncomponent = \"gmail-search.wasm\"\n\
        http = [{ origin = \"http://127.0.0.1:2\", methods = [\"GET\"] }]\n\
        grant = [{ charm = \"google-auth\", read = [\"token\"], send = [\"refresh-token\"] }]\n";
    let folder = Folder::new(&["google-auth", "gmail-search"], right);
    assert_eq!(folder.json(0, &["check"]), json!([]));
    assert!(folder.text(0, &["check"]).0.contains("all is well: gmail-search, google-auth"));
    for name in ["google-auth", "token", "refresh-token"] {
        let wrong = right.replace(&format!("\"{name}\""), &format!("\"{}\"", &name[1..]));
        fs::write(folder.path("charms.toml"), &wrong).unwrap();
        let told = folder.json(2, &["check"]);
        let text = told[0]["text"].as_str().unwrap();
        assert!(told[0]["refused"] == json!(true) && text.contains(&format!("did you mean {name}?")), "{told}");
        let (line, _) = folder.text(2, &["check", "charms.toml"]);
        assert!(line.starts_with("refused: charm gmail-search: grant: "), "{line}");
        let (_, run) = folder.text(2, &["run"]);
        assert!(run.contains(&format!("did you mean {name}?")), "{run}");
    }
    // What is taken and looks wrong is no failure.
    fs::write(
        folder.path("charms.toml"),
        right.replace("http = [{ origin = \"http://127.0.0.1:2\", methods = [\"GET\"] }]\n", ""),
    )
    .unwrap();
    let (line, _) = folder.text(0, &["check"]);
    assert!(line.starts_with("looks wrong: charm gmail-search: asks for HTTP and may call nobody"), "{line}");
    // Nothing was made but by `run`.
    let fresh = Folder::new(&["google-auth", "gmail-search"], right);
    fresh.text(0, &["check"]);
    assert_eq!(fs::read_dir(fresh.path("")).unwrap().count(), 3, "two components and the manifest");
}

/// Every key of the manifest's page, with the pins that these components have: nothing is refused.
#[test]
fn the_manifest_of_the_page_is_taken() {
    let page = fs::read_to_string(root().unwrap().join("docs/manifest.md")).unwrap();
    let text = page::blocks(&page).into_iter().find(|(language, _)| *language == "toml").unwrap().1.join("\n");
    let folder = Folder::new(&["google-auth", "gmail-search"], &text);
    let told = folder.json(2, &["check"]).to_string();
    assert!(told.contains("company-ca.pem: No such file") && told.matches("\"refused\":true").count() == 1, "{told}");
    fs::copy(root().unwrap().join("tests/conformance/embedding/tls/ca.pem"), folder.path("company-ca.pem")).unwrap();
    let told = folder.json(2, &["check"]).to_string();
    assert!(told.contains("is pinned, the component has"), "{told}");
    let sha256 = folder.json(0, &["describe", "google-auth.wasm"])["sha256"].as_str().unwrap().to_owned();
    let pinned = text.lines().find_map(|line| line.strip_prefix("sha256 = ")).unwrap().trim_matches('"');
    fs::write(folder.path("charms.toml"), text.replace(pinned, &sha256)).unwrap();
    assert_eq!(folder.json(0, &["check"]), json!([]));
}

/// A5: limits of the manifest are the host's, and what is no limit is refused before anything is made.
#[test]
fn limits_of_the_manifest_hold() {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1000"]);
    folder.append("charms.toml", "\n[limits]\nevent-bytes-max = 2\nhistory-bytes-max = 4096\nreceipts-ms = 3600000\n");
    folder.json(0, &["send", "counter/add", "1"]);
    let error = folder.json(5, &["send", "counter/add", "1000"]);
    assert_eq!(
        (&error["kind"], &error["error"]),
        (&json!("limit"), &json!("counter/add: event is over event-bytes-max 2"))
    );
    assert_eq!(folder.json(0, &["ls"])[0]["keeps"], json!({ "history_bytes": 4_096, "receipts_ms": 3_600_000 }));
    let listed = folder.text(0, &["ls"]).0;
    assert!(listed.contains("4096, 1 h 0 min"), "{listed}");
    folder.append("charms.toml", "component-bytes-max = 10\n");
    assert!(folder.json(2, &["check"]).to_string().contains("over component-bytes-max 10"));
    assert!(folder.json(2, &["describe", "counter"]).to_string().contains("over component-bytes-max 10"));
    folder.append("charms.toml", "turns-max = 0\n");
    for command in ["check", "run"] {
        let error = folder.json(2, &[command]);
        assert_eq!(error["kind"], "manifest");
        assert!(error["error"].as_str().unwrap().ends_with("limit turns-max is 0: give 1 to 4096"), "{error}");
    }
}
