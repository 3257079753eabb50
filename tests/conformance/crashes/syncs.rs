//! A sync of the disk fails, or is the last thing that a process does.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::Command,
};

use charm_conformance::{root, times};
use tempfile::TempDir;

use super::{place::Place, skipped, victim::Victim};

/// Events of one run.
const EVENTS: u64 = 24;

/// A library that stands in for the syncs of a host process (`tests/crash/sync.c`).
pub struct Shim {
    _folder: TempDir,
    library: OsString,
}

impl Shim {
    /// Fails where there is no C compiler.
    pub fn build() -> Result<Shim, String> {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("sync.so");
        let source = root().join("tests/crash/sync.c");
        let mut cc = Command::new("cc");
        let built = cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).output();
        match built {
            Ok(output) if output.status.success() => Ok(Shim { _folder: folder, library: library.into() }),
            Ok(output) => Err(format!("cc: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => Err(format!("cc: {error}")),
        }
    }

    /// Makes every sync say yes and do nothing.
    pub fn says_yes(&self) -> [(&str, &OsStr); 2] {
        [("LD_PRELOAD", &self.library), ("SYNC_FAILS_AT", OsStr::new("0"))]
    }

    /// Runs a host on a folder with one variable of the library set, then another that goes on with what it left.
    /// Returns what the first said, and how many events it had acknowledged: all are still there.
    async fn run(&self, folder: &Path, variable: &str, sync: u64) -> (String, usize) {
        let (mut place, sync) = (Place::new(folder), OsString::from(sync.to_string()));
        let env = [("LD_PRELOAD", self.library.as_os_str()), (variable, sync.as_os_str())];
        let said = Victim::spawn(&place, "work", &[0, times(EVENTS)], &env).ended();
        let acknowledged = place.crashed(&said);
        place.check();
        place.finish().await;
        (said, acknowledged)
    }
}

/// Each sync of a run fails once, in a run of its own, and those after it work again. SQLite does not ask whether a
/// sync of its folder worked, so the host cannot know; any other failure ends it. (T8, S9)
///
/// The first syncs of a new store once failed in silence: SQLite stayed without a write-ahead log, and a power cut
/// could then take back the last commit.
#[tokio::test(flavor = "multi_thread")]
async fn whichever_sync_fails_the_host_stops_loudly_and_keeps_all_that_it_acknowledged() {
    let shim = match Shim::build() {
        Ok(shim) => shim,
        Err(why) => return skipped(&why),
    };
    let (mut stopped, mut folders, mut keys, mut acknowledged) = (0, 0, 0, 0);
    for failing in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let (said, acks) = shim.run(folder.path(), "SYNC_FAILS_AT", failing).await;
        acknowledged += acks;
        let failed = said.lines().find_map(|line| line.strip_prefix("sync "));
        keys += usize::from(failed.is_some_and(|name| Path::new(name) == folder.path().join("keys")));
        match (failed, said.lines().last().unwrap_or_default()) {
            // Not as a full disk, which is waited out: nobody knows what a failed sync has left.
            (Some(_), last) if last.starts_with("failed ") && !last.contains("disk full") => stopped += 1,
            (Some(name), "stopped") if Path::new(name) == folder.path().join("store") => folders += 1,
            (None, "stopped") => break,
            (name, last) => panic!("sync {failing} failed, of {name:?}, and the host ended with: {last}"),
        }
    }
    eprintln!("{} syncs, each failed once: {stopped} loud stops, {folders} of the store's folder", stopped + folders);
    eprintln!("{acknowledged} acknowledged, 0 lost");
    assert!(stopped > 10, "the syncs fail: {stopped}");
    assert_eq!(keys, 3, "the folder of keys is synced for the host, for the operator, and once for all charms");
}

/// A host is killed at each sync of a run, in a run of its own, and the next one goes on with what it left. (T8, S9)
///
/// A host killed while it made its store left a half-done change of the whole file, and the next one, which looks at
/// the file before it writes to it, could not read it: `attempt to write a readonly database`.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_whichever_sync_the_next_host_goes_on() {
    let shim = match Shim::build() {
        Ok(shim) => shim,
        Err(why) => return skipped(&why),
    };
    let (mut kills, mut acknowledged) = (0, 0);
    for last in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let (said, acks) = shim.run(folder.path(), "SYNC_DIES_AT", last).await;
        acknowledged += acks;
        match said.lines().last().unwrap_or_default() {
            "stopped" => break,
            last => assert!(!last.starts_with("failed"), "{last}"),
        }
        kills += 1;
    }
    eprintln!("{kills} syncs, killed at each: {acknowledged} acknowledged, 0 lost");
    assert!(kills > 10, "it is killed: {kills}");
}
