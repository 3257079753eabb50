//! A store is read where nothing can be written: on read-only media, and by another user who has the right to read.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use charm_host::{Archive, FolderStore};
use common::{FIRST, Folder, Running, program};

/// Who owns nothing, in numbers.
const NOBODY: &str = "65534";

fn skipped(why: &str) {
    // Not `eprintln!`, which a test that passes does not show.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn succeeds(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
}

/// A folder that is seen read-only at a second place.
struct ReadOnly(tempfile::TempDir);

impl ReadOnly {
    /// Fails where mounting is not permitted.
    fn of(folder: &Path) -> Result<ReadOnly, String> {
        let place = ReadOnly(tempfile::tempdir().unwrap());
        let [from, to] = [folder, place.0.path()].map(|path| path.to_str().unwrap());
        succeeds("mount", &["--bind", from, to])?;
        succeeds("mount", &["-o", "remount,bind,ro", to])?;
        assert!(fs::write(place.0.path().join("new"), "").is_err(), "it can be written");
        Ok(place)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = succeeds("umount", &["--lazy", self.0.path().to_str().unwrap()]);
    }
}

/// Every file of a folder, and what is in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => drop(found.insert(path.clone(), fs::read(path).unwrap_or_default())),
        }
    }
    found
}

/// Reads all of a store with the command line.
fn is_read(charm: impl Fn(&[&str]) -> Command, store: &Path, count: u64) {
    let store = store.to_str().unwrap();
    let says = |arguments: &[&str]| {
        let output = charm(&[arguments, &["--store", store]].concat()).stdin(Stdio::null()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && err.is_empty(), "{arguments:?} in {store}: {out}{err}");
        out.into_owned()
    };
    assert_eq!(says(&["get", "counter/count"]), format!("{count}\n"));
    assert_eq!(says(&["get", "counter/count", "--at", &FIRST.to_string()]), "1\n");
    assert!(says(&["ls"]).contains("counter"));
    let listed = charm(&["ls", "counter", "--store", store]).stdin(Stdio::null()).output().unwrap();
    let err = String::from_utf8_lossy(&listed.stderr);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("count"));
    // Who may not ask the host that runs does not know what is derived.
    assert!(
        listed.status.success() && err.is_empty() || err.contains("are not listed") && err.contains("denied"),
        "{err}"
    );
    assert!(says(&["verify"]).contains(&format!("events: {count} sent, {count} settled")));
    assert!(says(&["verify", "counter"]).contains("counter"));
}

/// How a store is left, or what happens to it still.
const STATES: [&str; 3] = ["ended", "killed", "running"];

/// Makes a store with three events in it.
fn store(state: &str) -> (Folder, Option<Running>) {
    let folder = Folder::counter();
    folder.json(0, &["send", "counter/add", "1"]);
    let running = (state != "ended").then(|| Running::start(&folder, &[]));
    for _ in 0..2 {
        folder.json(0, &["send", "counter/add", "1"]);
    }
    let running = running.and_then(|mut host| {
        if state == "killed" {
            host.child.kill().unwrap();
            host.child.wait().unwrap();
            return None;
        }
        Some(host)
    });
    (folder, running)
}

/// T8, I3: on read-only media all that was acknowledged is read and proved, after a clean end, after a kill, and where the
/// host runs and writes it at another place.
#[test]
fn a_store_on_read_only_media_is_read() {
    for state in STATES {
        let (folder, running) = store(state);
        let path = folder.path("charm");
        let media = match ReadOnly::of(&path) {
            Ok(media) => media,
            Err(why) => return skipped(&format!("mounting needs root: {why}")),
        };
        let before = files(&path);
        is_read(|arguments| folder.command(arguments), media.0.path(), 3);
        let archive = Archive::open(FolderStore::open_read_only(media.0.path()).unwrap()).unwrap();
        let proof = archive.verify_store().unwrap();
        assert_eq!((proof.sent, proof.settled), (3, 3), "{state}");
        drop(archive);
        assert!(running.is_some() || files(&path) == before, "{state}: something is written");
        // Whoever cannot write is told so.
        let refused = FolderStore::open(media.0.path()).err().expect("a host that cannot write does not open");
        assert!(running.is_some() || refused.to_string().contains("ead-only"), "{state}: {refused}");
        if let Some(host) = running {
            folder.json(0, &["send", "counter/add", "1"]);
            is_read(|arguments| folder.command(arguments), media.0.path(), 4);
            assert_eq!(host.stop("TERM"), Some(0));
        }
    }
}

/// T8, I3: whoever may read the files of a store, and not write them, reads and proves it, also beside the host; a host of
/// theirs does not open.
#[test]
fn a_store_is_read_by_another_user_with_the_right_to_read() {
    for state in STATES {
        let (folder, running) = store(state);
        let (path, copy) = (folder.path("charm"), folder.path("program"));
        fs::copy(program(), &copy).unwrap();
        fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        succeeds("chmod", &["-R", "a+rX", path.to_str().unwrap()]).unwrap();
        let nobody = |arguments: &[&str]| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(&copy).args(arguments);
            command.current_dir("/").env_remove("CHARM_LOG");
            command
        };
        match nobody(&["--version"]).output() {
            Ok(output) if output.status.success() => {}
            other => return skipped(&format!("running as another user needs root and setpriv: {other:?}")),
        }
        let before = files(&path);
        is_read(nobody, &path, 3);
        assert!(running.is_some() || files(&path) == before, "{state}: something is written");
        if let Some(host) = running {
            folder.json(0, &["send", "counter/add", "1"]);
            is_read(nobody, &path, 4);
            assert_eq!(host.stop("TERM"), Some(0));
        }
    }
}
