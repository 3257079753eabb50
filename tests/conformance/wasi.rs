//! A component built for plain WASI 0.2 loads if it imports only clocks, random and stdio, and sees no more of
//! the world than a charm does (A1). Any other import is refused by name.
#![allow(clippy::unwrap_used, reason = "tests")]

mod by_hand;

use std::{sync::Arc, time::Duration};

use charm_conformance::*;
use charm_host::*;
use serde_json::json;

/// Written by hand: see there what it does.
const PLAIN: &str = include_str!("../guests-wat/wasi.wat");

/// The time of every turn in these tests, in milliseconds since 1970.
const NOW_MS: u64 = 1_700_000_000_123;

/// The real world, but its clock stands still.
struct Still(Arc<SystemEnv>);

impl Env for Still {
    fn now_ms(&self) -> u64 {
        NOW_MS
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn random(&self, bytes: &mut [u8]) {
        self.0.random(bytes);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }

    fn threads(&self) -> usize {
        self.0.threads()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn block(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.0.block(work)
    }

    fn tick(&self, period: Duration, tick: Box<dyn FnMut() -> bool + Send>) {
        self.0.tick(period, tick);
    }
}

async fn open(builder: HostBuilder) -> Host {
    builder.env(Arc::new(Still(SystemEnv::current()))).open().await.unwrap()
}

async fn install(host: &Host) -> Did {
    host.install(Charm::new("plain", assembled(PLAIN))).await.unwrap()
}

async fn ask(host: &Host, charm: Did, stream: &str) -> Receipt {
    host.request(NewEvent::new(charm, stream, value(json!(null)))).await.unwrap()
}

/// What the guest saw: seconds, nanoseconds, the other clock twice, two random numbers.
fn seen(receipt: &Receipt) -> [u64; 6] {
    let text = receipt.message.as_ref().unwrap();
    assert_eq!(text.len(), 96, "{text}");
    let number = |index: usize| u64::from_str_radix(&text[index * 16..][..16], 16).unwrap();
    std::array::from_fn(number)
}

/// A1: no clock finer than the turn's; it stands still however long the turn computes.
#[tokio::test(flavor = "multi_thread")]
async fn both_clocks_show_the_time_of_the_turn_and_stand_still() {
    let host = open(builder()).await;
    let plain = install(&host).await;
    let [seconds, nanoseconds, before, after, ..] = seen(&ask(&host, plain, "look").await);
    assert_eq!(seconds * 1_000 + nanoseconds / 1_000_000, NOW_MS);
    assert_eq!(nanoseconds % 1_000_000, 0, "milliseconds are the finest");
    assert_eq!((before, after), (NOW_MS * 1_000_000, NOW_MS * 1_000_000));
}

/// A1: no randomness but the turn's: other numbers for another event, the same for the same.
#[tokio::test(flavor = "multi_thread")]
async fn random_numbers_come_from_the_seed_of_the_turn() {
    let home = Home::default();
    let host = open(home.builder().await).await;
    let plain = install(&host).await;
    host.shutdown().await.unwrap();
    let copy = Home::default();
    copy_folder(home.path(), copy.path());

    let mut runs = Vec::new();
    for home in [home, copy] {
        let host = open(home.builder().await).await;
        assert_eq!(install(&host).await, plain);
        let (first, second) = (ask(&host, plain, "look").await, ask(&host, plain, "look").await);
        runs.push((first.id, seen(&first), second.id, seen(&second)));
    }
    assert_eq!(runs[0], runs[1], "two hosts from one store handle the same event with the same numbers");
    let ([.., a, b], [.., c, d]) = (runs[0].1, runs[0].3);
    assert!(a != b && c != d && a != c && b != d, "{a:x} {b:x} {c:x} {d:x}");
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            std::fs::set_permissions(&target, entry.metadata().unwrap().permissions()).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// A1: standard output goes to the log, line by line, under the turn's event.
#[tokio::test(flavor = "multi_thread")]
async fn standard_output_goes_to_the_log() {
    let logs = Logs::capture();
    let host = open(builder()).await;
    let plain = install(&host).await;
    let receipt = ask(&host, plain, "print").await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    let lines = logs.lines(&receipt.id.to_string());
    for words in ["the first line", "the second line"] {
        let found = lines.iter().filter(|line| line.contains("charm::guest") && line.contains(words)).count();
        assert_eq!(found, 1, "{words}: {lines:?}");
    }
}

/// A5: what is printed counts as log.
#[tokio::test(flavor = "multi_thread")]
async fn standard_output_has_the_bound_of_the_log() {
    let logs = Logs::capture();
    let host = open(builder().limits(Limits { log_bytes_max: 14, turns_max: 2, ..Limits::default() })).await;
    let plain = install(&host).await;
    let id = ask(&host, plain, "print").await.id.to_string();
    let lines = logs.lines(&id);
    assert!(lines.iter().any(|line| line.contains("the first line")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("the second line")), "{lines:?}");
}

/// A5: a charm that prints more than the log holds is cut and goes on: 4 MiB of line ends are a few lines.
#[tokio::test(flavor = "multi_thread")]
async fn a_charm_that_prints_without_end_is_cut_and_commits() {
    let logs = Logs::capture();
    let host = open(builder()).await;
    // Writes 4 KiB of line ends a thousand times; any write that fails is a trap.
    let one = "(call $write (local.get $stream) (i32.const 512) (i32.const 31) (i32.const 160))";
    let many = format!(
        "(memory.fill (i32.const 12288) (i32.const 10) (i32.const 4096))
        (loop $again
          (call $write (local.get $stream) (i32.const 12288) (i32.const 4096) (i32.const 160))
          (if (i32.load8_u (i32.const 160)) (then unreachable))
          (i32.store (i32.const 8192) (i32.add (i32.load (i32.const 8192)) (i32.const 1)))
          (br_if $again (i32.lt_u (i32.load (i32.const 8192)) (i32.const 1000))))
        {one}"
    );
    assert!(PLAIN.contains(one));
    let charm = host.install(Charm::new("endless", assembled(&PLAIN.replace(one, &many)))).await.unwrap();
    let receipt = ask(&host, charm, "print").await;
    assert_eq!(receipt.outcome, Outcome::Committed, "{receipt:?}");
    let lines = logs.lines(&receipt.id.to_string());
    let guest = || lines.iter().filter(|line| line.contains("charm::guest"));
    let logged = Limits::default().log_bytes_max / LOG_LINE_BYTES;
    assert_eq!(guest().count(), logged + 1);
    let cut: Vec<_> = guest().filter(|line| line.contains("log-bytes-max reached")).collect();
    assert_eq!(cut.len(), 1);
    assert!(cut[0].contains(&format!("{} lines", 4096 * 1000 + 2 - logged)), "{}", cut[0]);
}

/// A1: a timer would never fire while the turn's clock stands still: asking for one ends the turn at once.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_on_a_clock_is_a_fault() {
    let host = open(builder()).await;
    let plain = install(&host).await;
    let receipt = ask(&host, plain, "wait").await;
    assert_eq!(receipt.outcome, Outcome::Faulted, "{receipt:?}");
    let message = receipt.message.unwrap();
    assert!(message.contains("subscribe-duration") && message.contains("clock stands still"), "{message}");
    assert_eq!(ask(&host, plain, "print").await.outcome, Outcome::Committed);
}

async fn refusal(host: &Host, import: &str) -> InstallError {
    let component = by_hand::charm(&[("in component", import)]);
    let error = host.install(Charm::new("wants-more", component)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n'), "{text}");
    error
}

/// A1: files, sockets, HTTP, environment, and everything that is not named.
#[tokio::test(flavor = "multi_thread")]
async fn every_other_wasi_interface_is_refused_by_name() {
    let host = open(builder()).await;
    for name in [
        "wasi:filesystem/types@0.2.0",
        "wasi:filesystem/preopens@0.2.0",
        "wasi:sockets/tcp@0.2.0",
        "wasi:sockets/tcp-create-socket@0.2.3",
        "wasi:sockets/udp@0.2.0",
        "wasi:sockets/ip-name-lookup@0.2.0",
        "wasi:sockets/network@0.2.0",
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:http/types@0.2.0",
        "wasi:cli/environment@0.2.0",
        "wasi:cli/exit@0.2.0",
        "wasi:cli/terminal-stdout@0.2.0",
        "wasi:clocks/timezone@0.2.0",
        "wasi:keyvalue/store@0.2.0-draft",
        // Other versions of what is served.
        "wasi:clocks/wall-clock@0.3.0",
        "wasi:random/random@0.1.0",
        "wasi:random/random@1.0.0",
    ] {
        let error = refusal(&host, &format!("(import \"{name}\" (instance))")).await;
        assert!(matches!(&error, InstallError::Import { charm, import } if charm == "wants-more" && import == name));
        assert!(error.to_string().contains(name) && error.to_string().contains("only clocks, random and stdio"));
    }
    assert_eq!(host.did_of("wants-more"), None, "nothing was installed");
    assert_eq!(ask(&host, install(&host).await, "print").await.outcome, Outcome::Committed);
}

/// A1: also of the interfaces that are served, only what they have.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_function_of_a_served_interface_is_refused() {
    let host = open(builder()).await;
    for (interface, function) in [
        ("wasi:random/random@0.2.0", "(export \"get-everything\" (func))"),
        ("wasi:random/random@0.2.0", "(export \"get-random-u64\" (func (result string)))"),
        ("wasi:cli/stdout@0.2.0", "(export \"get-terminal\" (func (result u32)))"),
    ] {
        let error = refusal(&host, &format!("(import \"{interface}\" (instance {function}))")).await;
        assert!(matches!(error, InstallError::World { .. }), "{error:?}");
        assert!(error.to_string().contains(interface), "{error}");
    }
}

/// A1: every patch version of WASI 0.2 is served.
#[tokio::test(flavor = "multi_thread")]
async fn later_patch_versions_are_served() {
    let host = open(builder()).await;
    for version in ["0.2.0", "0.2.3", "0.2.6"] {
        let component = PLAIN.replace("@0.2.0", &format!("@{version}"));
        let plain = host.install(Charm::new("plain", assembled(&component))).await.unwrap();
        assert_eq!(ask(&host, plain, "print").await.outcome, Outcome::Committed, "{version}");
    }
}
