//! `--peers`: the same jobs on runtimes that also have durable actors, as npm installs them from `tests/peers`.
//!
//! A job adds 1 to a counter and answers with the count: one caller (`1x1`), or 32 callers on 1 and on 100 counters (`32x1`,
//! `32x100`). With `wait` it adds to a relay, which adds to its counter, waits for that, and counts itself.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, extract, routing::post};
use charm_conformance::{component, root};
use charm_host::{Charm, Did, Host, Names, NewEvent, Right, Value};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    child::{self, Waiting},
    disk::Disk,
    report::{Figure, Report, median, percentile},
    scale::Scale,
    world,
};

const RULES: &str = "
peers: a job adds 1 to a counter and answers with the new count, when that is on the disk and synced.
- One client for all: HTTP/1.1 over loopback, a connection a caller, one request at a time on each. It is not in their process.
- Ours stands twice: behind an HTTP server in a process of its own, as theirs are, and called in process.
- Each runs as it ships, with its defaults; Restate's handlers run in Node, as its SDK has it. Logging of single calls is off.
- All are warm. Rounds take turns, one runtime at a time on the same disk; the others idle meanwhile.
- `wait`: a relay adds 1 to the counter of its number, which is another actor, waits for that, adds 1 to itself and answers, when
  both are on the disk and synced. Theirs await a call: of a Durable Object over its stub, of a virtual object over its client.
- `32x100`: 32 callers on 100 counters or relays. \"of ours\": of what ours does behind HTTP in the same round.
- After the last round every count must be the number of acknowledgements.
- The floor is one append of 512 bytes and fdatasync after another, in the same round.";

/// The place of ours behind HTTP among the runtimes.
const BEHIND_HTTP: usize = 1;
/// Counters that there are, and relays.
const COUNTERS: usize = 100;
/// The kinds of actors, as paths have them.
const COUNTER: &str = "Counter";
const RELAY: &str = "Relay";
/// Callers on counters, or on relays: the jobs.
const JOBS: [(&str, usize, usize); 5] =
    [(COUNTER, 1, 1), (COUNTER, 32, 1), (COUNTER, 32, COUNTERS), (RELAY, 1, 1), (RELAY, 32, COUNTERS)];

pub async fn run(scale: Scale, report: &mut Report) {
    report.say(RULES);
    report.say(&format!("  {}\n", versions()));
    let folder = world::folder();
    let mut disk = Disk::new(folder.path());
    let (rounds, span) = (scale.of([1, 2, 5, 9]), Duration::from_millis(scale.of([50, 1_000, 3_000, 10_000])));
    let runtimes = runtimes(folder.path(), scale).await;
    let mut acknowledged = vec![[0; 2]; runtimes.len()];
    for runtime in &runtimes {
        warm(&*runtime.callers).await;
    }
    for (kind, callers, counters) in JOBS {
        let wait = if kind == RELAY { "wait/" } else { "" };
        let mut figures: Vec<Figure> = runtimes
            .iter()
            .map(|runtime| {
                let name = format!("peers/{wait}{callers}x{counters}/{}", runtime.name);
                Figure::new(name, "jobs/s", "append + fdatasync")
            })
            .collect();
        let (mut waits, mut of_ours) = (vec![Vec::new(); runtimes.len()], vec![Vec::new(); runtimes.len()]);
        for _ in 0..rounds {
            let synced: Vec<f64> = (0..100).map(|_| disk.append(512).as_secs_f64()).collect();
            let floor = synced.len() as f64 / synced.iter().sum::<f64>();
            let mut rates = Vec::new();
            for (number, runtime) in runtimes.iter().enumerate() {
                let (rate, seen) = job(&*runtime.callers, kind, callers, counters, span).await;
                figures[number].add(rate, floor);
                acknowledged[number][0] += seen.len();
                acknowledged[number][1] += if kind == RELAY { seen.len() } else { 0 };
                waits[number].extend(seen);
                rates.push(rate);
            }
            for (of_ours, rate) in of_ours.iter_mut().zip(&rates) {
                of_ours.push(rate / rates[BEHIND_HTTP]);
            }
        }
        for ((figure, mut waits), of_ours) in figures.into_iter().zip(waits).zip(of_ours) {
            let [p50, p99] = [50, 99].map(|part| percentile(&mut waits, part));
            let of_ours = median(of_ours);
            report.add(figure.note(format!("{of_ours:.3} of ours; p50 {p50:.2} ms, p99 {p99:.2} ms")));
        }
    }
    for (runtime, acknowledged) in runtimes.iter().zip(acknowledged) {
        for (kind, acknowledged) in [COUNTER, RELAY].into_iter().zip(acknowledged) {
            let mut kept = 0;
            for counter in 0..COUNTERS {
                kept += runtime.callers.caller(kind, counter).await.add(0).await;
            }
            assert_eq!(kept, acknowledged as i64, "{} keeps what it acknowledges", runtime.name);
        }
    }
    report.say("  every count is the number of acknowledgements");
}

/// Calls for a while; returns jobs a second, and what each took in milliseconds.
async fn job(
    callers: &dyn Callers,
    kind: &'static str,
    many: usize,
    counters: usize,
    span: Duration,
) -> (f64, Vec<f64>) {
    let callers = join_all((0..many).map(|number| callers.caller(kind, number % counters))).await;
    let start = Instant::now();
    let calls = callers.into_iter().map(|mut caller| {
        tokio::spawn(async move {
            let mut waits = Vec::new();
            while start.elapsed() < span {
                let asked = Instant::now();
                caller.add(1).await;
                waits.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            waits
        })
    });
    let waits: Vec<f64> = join_all(calls).await.into_iter().flat_map(Result::unwrap).collect();
    (waits.len() as f64 / start.elapsed().as_secs_f64(), waits)
}

/// Makes every counter and relay be there.
async fn warm(callers: &dyn Callers) {
    for counter in 0..COUNTERS {
        for kind in [COUNTER, RELAY] {
            assert_eq!(callers.caller(kind, counter).await.add(0).await, 0, "the counter is new");
        }
    }
}

/// A runtime: its name in the table, and how to call it.
struct Runtime {
    name: &'static str,
    callers: Box<dyn Callers>,
    /// Ends with it.
    _process: Option<Process>,
}

enum Process {
    Ours { _ends: Waiting },
    Theirs { _ends: Vec<Ends> },
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes callers of one counter or relay.
trait Callers: Sync + Send {
    fn caller(&self, kind: &'static str, counter: usize) -> BoxFuture<'_, Box<dyn Caller>>;
}

/// Adds to its counter or relay and returns the count.
trait Caller: Send {
    fn add(&mut self, step: i64) -> BoxFuture<'_, i64>;
}

async fn runtimes(folder: &Path, scale: Scale) -> Vec<Runtime> {
    let [in_process, behind_http] = ["in-process", "behind-http"].map(|name| folder.join(name));
    std::fs::create_dir(&in_process).unwrap();
    std::fs::create_dir(&behind_http).unwrap();
    let ours = Arc::new(Ours::open(&in_process).await);
    let child = child::start("peers", &behind_http, &[]);
    let http = Http { port: child.said.trim().parse().unwrap(), path: |kind, counter| format!("/{kind}/{counter}") };
    let mut all = vec![
        Runtime { name: "charm-in-process", callers: Box::new(ours), _process: None },
        Runtime { name: "charm-http", callers: Box::new(http), _process: Some(Process::Ours { _ends: child }) },
    ];
    // What npm installs is not there in a test.
    if scale != Scale::Smoke {
        all.push(workerd(folder).await);
        all.push(restate(folder).await);
    }
    all
}

/// Ours: the example charm `counter`, and the guest `relay`, as often as there are counters.
struct Ours {
    host: Host,
    counters: Vec<Did>,
    relays: Vec<Did>,
}

impl Ours {
    async fn open(folder: &Path) -> Ours {
        let host = world::durable(folder).await.host;
        let install = async |guest| {
            let bytes = component(guest);
            let charms = (0..COUNTERS).map(|number| Charm::new(format!("{guest}{number}"), bytes.clone()));
            host.install_all(charms.collect()).await.unwrap()
        };
        let (counters, relays) = (install("counter").await, install("relay").await);
        for (relay, counter) in relays.iter().zip(&counters) {
            let right = Right::Send { owner: *counter, streams: Names::only(["add"]) };
            host.grant(*relay, right).await.unwrap();
        }
        world::request_all(&host, &relays, "link", |n| Value::encode(&counters[n]).unwrap()).await;
        Ours { counters, relays, host }
    }

    async fn add(&self, kind: &str, counter: usize, step: i64) -> i64 {
        let charm = if kind == RELAY { self.relays[counter] } else { self.counters[counter] };
        self.host.request(NewEvent::new(charm, "add", &step)).await.unwrap().committed().unwrap();
        self.host.get(&charm, "count", &charm_host::Path::root()).await.unwrap().unwrap()
    }
}

impl Callers for Arc<Ours> {
    fn caller(&self, kind: &'static str, counter: usize) -> BoxFuture<'_, Box<dyn Caller>> {
        let caller: Box<dyn Caller> = Box::new((self.clone(), kind, counter));
        async { caller }.boxed()
    }
}

impl Caller for (Arc<Ours>, &'static str, usize) {
    fn add(&mut self, step: i64) -> BoxFuture<'_, i64> {
        self.0.add(self.1, self.2, step).boxed()
    }
}

/// Serves ours over HTTP on a port of its own choice, which it says.
pub async fn child(folder: &Path) {
    let ours = Arc::new(Ours::open(folder).await);
    let add = async |extract::State(ours): extract::State<Arc<Ours>>,
                     extract::Path((kind, counter)): extract::Path<(String, usize)>,
                     step: String| { ours.add(&kind, counter, step.parse().unwrap()).await.to_string() };
    let router = Router::new().route("/{kind}/{counter}", post(add)).with_state(ours);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    child::say(&port.to_string());
}

/// A server of HTTP on loopback.
struct Http {
    port: u16,
    path: fn(&str, usize) -> String,
}

impl Callers for Http {
    fn caller(&self, kind: &'static str, counter: usize) -> BoxFuture<'_, Box<dyn Caller>> {
        async move {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let caller: Box<dyn Caller> =
                Box::new(Connection { stream: BufReader::new(stream), path: (self.path)(kind, counter) });
            caller
        }
        .boxed()
    }
}

struct Connection {
    stream: BufReader<TcpStream>,
    path: String,
}

impl Connection {
    async fn post(&mut self, body: &str) -> String {
        let Connection { stream, path } = self;
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut head, mut length) = (String::new(), None);
        loop {
            let start = head.len();
            stream.read_line(&mut head).await.unwrap();
            let line = head[start..].trim().to_ascii_lowercase();
            if let Some(bytes) = line.strip_prefix("content-length:") {
                length = bytes.trim().parse().ok();
            }
            if line.is_empty() {
                break;
            }
        }
        let length = length.unwrap_or_else(|| panic!("an answer without a length: {head}"));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 201"), "{head}{body}");
        body
    }
}

impl Caller for Connection {
    fn add(&mut self, step: i64) -> BoxFuture<'_, i64> {
        async move { self.post(&step.to_string()).await.parse().unwrap() }.boxed()
    }
}

/// Where npm installs them.
fn installed() -> PathBuf {
    root().join("target/peers")
}

/// Returns a program of a package: the one for this machine.
fn program(scope: &str, name: &str, program: &str) -> PathBuf {
    let packages = std::fs::read_dir(installed().join("node_modules").join(scope)).into_iter().flatten().flatten();
    let own = packages.map(|package| package.path()).find(|path| {
        path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)) && path.join(program).is_file()
    });
    own.unwrap_or_else(|| panic!("{name} is not installed: run cargo xtask bench --peers")).join(program)
}

fn versions() -> String {
    let text = std::fs::read_to_string(installed().join("package.json")).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let node = Command::new("node").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    format!("{}, node {}", package["dependencies"], String::from_utf8_lossy(&node).trim())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(command: &mut Command) -> Ends {
    Ends(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// Waits until something listens.
async fn listening(port: u16) {
    for _ in 0..600 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing listens after a minute");
}

async fn workerd(folder: &Path) -> Runtime {
    let (data, port) = (folder.join("workerd"), free_port());
    std::fs::create_dir(&data).unwrap();
    let mut command = Command::new(program("@cloudflare", "workerd", "bin/workerd"));
    command.arg("serve").arg(installed().join("workerd.capnp"));
    command
        .arg(format!("--directory-path=disk={}", data.display()))
        .arg(format!("--socket-addr=http=127.0.0.1:{port}"));
    let process = Process::Theirs { _ends: vec![start(&mut command)] };
    listening(port).await;
    let http = Http { port, path: |kind, counter| format!("/{kind}/c{counter}") };
    Runtime { name: "workerd", callers: Box::new(http), _process: Some(process) }
}

async fn restate(folder: &Path) -> Runtime {
    let [ingress, admin, node, service] = [(); 4].map(|()| free_port());
    let mut handlers = Command::new("node");
    handlers.arg(installed().join("restate.mjs")).arg(service.to_string()).env("RESTATE_LOGGING", "ERROR");
    let mut server = Command::new(program("@restatedev", "restate-server-", "bin/restate-server"));
    server.args(["--bind-ip", "127.0.0.1", "--bind-port", &node.to_string(), "--no-logo", "--base-dir"]);
    server.arg(folder.join("restate")).env("RESTATE_DISABLE_TELEMETRY", "true").env("RESTATE_LOG_FILTER", "warn");
    server.env("RESTATE_INGRESS__BIND_ADDRESS", format!("127.0.0.1:{ingress}"));
    server.env("RESTATE_ADMIN__BIND_ADDRESS", format!("127.0.0.1:{admin}"));
    let process = Process::Theirs { _ends: vec![start(&mut handlers), start(&mut server)] };
    for port in [service, admin, ingress] {
        listening(port).await;
    }
    let stream = BufReader::new(TcpStream::connect(("127.0.0.1", admin)).await.unwrap());
    let mut admin = Connection { stream, path: "/deployments".to_owned() };
    admin.post(&format!("{{\"uri\": \"http://127.0.0.1:{service}\"}}")).await;
    let http = Http { port: ingress, path: |kind, counter| format!("/{kind}/c{counter}/add") };
    Runtime { name: "restate", callers: Box::new(http), _process: Some(process) }
}
