//! One run: clients, processes that come and go on one disk, and what must hold after each.

use std::{
    collections::BTreeSet,
    fmt::Write,
    hash::{DefaultHasher, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use charm_conformance::{Keys, Random, builder, component};
use charm_host::*;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tracing_subscriber::layer::SubscriberExt;
use zeroize::Zeroizing;

use super::{
    calendar::Calendar,
    disk::{Disk, Fault, Rates, open},
    model::{Cast, Replay},
    options::{Options, Planned, Report},
    script,
    seen::Seen,
    world::{Step, World},
};

/// The one address that charms may call; the answer takes its time, so that turns overlap.
pub const PAUSE: &str = "https://pause.test/";

/// Steps of a process. One that may fail is ended then; one without faults must have settled everything: that takes
/// some hundred for each event.
const STEPS_MAX: u64 = 400_000;

/// What went wrong, and what happened before.
pub struct Failure {
    pub what: String,
    pub story: Vec<String>,
}

/// Runs it.
pub fn run(options: &Options) -> Result<Report, Failure> {
    let shared = Arc::new(Shared::default());
    let inner = shared.clone();
    let work = || super::silently(|| catch_unwind(AssertUnwindSafe(|| Run::new(options, inner).whole())));
    let result = match options.planned {
        Some((number, Planned::Call)) => {
            let trap = PanicAt { number, shared: shared.clone() };
            tracing::subscriber::with_default(tracing_subscriber::registry().with(trap), work)
        }
        _ => work(),
    };
    result.unwrap_or_else(|panic| Err(super::said(&*panic))).map_err(|what| {
        let story = std::mem::take(&mut *shared.story());
        Failure { what, story }
    })
}

/// What tasks and the run share.
#[derive(Default)]
struct Shared {
    story: Mutex<Vec<String>>,
    clients: Mutex<Vec<Client>>,
    cast: Mutex<Option<Cast>>,
    ended: Mutex<Option<Result<(), String>>>,
    /// The host of the process that runs.
    host: Mutex<Option<Weak<Host>>>,
    /// Conflicts in processes that ended by themselves.
    reruns: AtomicU64,
    /// Host calls, or signatures, so far: what `planned` counts.
    count: AtomicU64,
    /// Planned faults that struck, but for those of the disk.
    struck: AtomicU64,
}

/// Panics in the host call with that number: the log hears of each.
struct PanicAt {
    number: u64,
    shared: Arc<Shared>,
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for PanicAt {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target() == "charm::call" && self.shared.strikes(self.number) {
            panic!("as planned");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn story(&self) -> MutexGuard<'_, Vec<String>> {
        lock(&self.story)
    }

    /// Counts, and returns whether this is the one.
    fn strikes(&self, number: u64) -> bool {
        let strikes = self.count.fetch_add(1, Ordering::Relaxed) + 1 == number;
        self.struck.fetch_add(u64::from(strikes), Ordering::Relaxed);
        strikes
    }

    fn tell(&self, line: String) {
        self.story().push(line);
    }
}

/// A sender outside: one event after the other, each until it knows what became of it.
struct Client {
    did: Did,
    random: Random,
    /// Events still to come.
    left: u64,
    current: Option<NewEvent>,
    /// In the order of sending. With the receipt once it has one.
    sent: Vec<(EventId, Option<Receipt>)>,
}

impl Client {
    fn next(&mut self, cast: &Cast, now_ms: u64) -> Option<NewEvent> {
        if self.current.is_none() {
            self.left = self.left.checked_sub(1)?;
            let tag = self.sent.len() as u64;
            // What is derived is said at first.
            let to = if tag == 0 && cast.derives { cast.deriver() } else { *self.random.pick(&cast.charms) };
            let script = script::script(cast, to, now_ms, tag, 2, &mut self.random);
            let payload = Value::encode(&script).unwrap();
            let event = NewEvent::new(to, "run", payload).from(self.did).id(format!("event {tag}"));
            self.current = Some(event);
        }
        self.current.clone()
    }
}

/// The keys, kept over all processes.
#[derive(Clone)]
struct FailingKeys {
    keys: Keys,
    /// The signature that fails.
    failing: Option<u64>,
    shared: Arc<Shared>,
}

impl Keyring for FailingKeys {
    fn create(&self, randomness: &Zeroizing<[u8; 32]>) -> Result<Did, KeyError> {
        self.keys.create(randomness)
    }

    fn check(&self, did: &Did) -> Result<(), KeyError> {
        self.keys.check(did)
    }

    fn sign(&self, did: &Did, message: &[u8]) -> Result<[u8; 64], KeyError> {
        if self.failing.is_some_and(|number| self.shared.strikes(number)) {
            return Err(KeyError::Missing { did: *did });
        }
        self.keys.sign(did, message)
    }
}

/// A network with one slow peer.
struct Network {
    world: Arc<World>,
    failing: u64,
}

impl Transport for Network {
    fn exchange(&self, _: Request, _: bool) -> BoxFuture<'_, Result<Response, TransportError>> {
        let mut bytes = [0; 8];
        self.world.random(&mut bytes);
        let mut random = Random::new(u64::from_le_bytes(bytes));
        let pause = self.world.sleep(Duration::from_micros(random.below(20_000)));
        let fails = random.chance(self.failing);
        Box::pin(async move {
            pause.await;
            if fails {
                return Err(TransportError::Http(HttpError::Timeout));
            }
            Ok(Response { status: 200, headers: Vec::new(), body: b"ok".to_vec() })
        })
    }
}

struct Run<'a> {
    options: &'a Options,
    random: Random,
    world: Arc<World>,
    disk: Disk,
    keys: FailingKeys,
    shared: Arc<Shared>,
    report: Report,
}

impl Run<'_> {
    fn new(options: &Options, shared: Arc<Shared>) -> Run<'_> {
        let mut random = Random::new(options.seed ^ 0x5eed);
        let (world, disk) = (World::new(Random::new(random.bits())), Disk::new(Random::new(random.bits())));
        for _ in 0..options.clients {
            let mut key = Zeroizing::new([0; 32]);
            key.iter_mut().for_each(|byte| *byte = random.bits() as u8);
            let did = MemoryKeyring::default().create(&key).unwrap();
            let random = Random::new(random.bits());
            let client = Client { did, random, left: options.events, current: None, sent: Vec::new() };
            lock(&shared.clients).push(client);
        }
        let mut failing = None;
        match options.planned {
            Some((number, Planned::Disk(fault))) => disk.plan(number, fault),
            Some((number, Planned::Sign)) => failing = Some(number),
            _ => {}
        }
        let keys = FailingKeys { keys: Keys::default(), failing, shared: shared.clone() };
        Run { options, random, world, disk, keys, shared, report: Report::default() }
    }

    fn whole(mut self) -> Result<Report, String> {
        for _ in 0..self.options.processes {
            self.disk.set_rates(self.options.rates);
            self.set_clock(1_000);
            let done = self.process(false)?;
            self.restart()?;
            self.report.operations = match self.options.planned {
                Some((_, Planned::Call | Planned::Sign)) => self.shared.count.load(Ordering::Relaxed),
                _ => self.disk.count(),
            };
            self.check()?;
            if done {
                break;
            }
        }
        self.disk.set_rates(Rates::default());
        self.disk.plan(0, Fault::Error);
        self.disk.set_free(None);
        self.shared.tell("from here on nothing fails".to_owned());
        if !self.process(true)? {
            let why = lock(&self.shared.ended).clone();
            return Err(format!("without faults the host does not settle what waits: {why:?}"));
        }
        self.restart()?;
        let waiting = self.check()?;
        if waiting > 0 {
            return Err(format!("{waiting} events wait for ever"));
        }
        for client in lock(&self.shared.clients).iter() {
            if client.left > 0 || client.current.is_some() || client.sent.iter().any(|(_, receipt)| receipt.is_none()) {
                return Err("a client never learned what became of its events".to_owned());
            }
        }
        self.report.reruns += self.shared.reruns.load(Ordering::Relaxed);
        self.report.faults += self.shared.struck.load(Ordering::Relaxed);
        Ok(self.report)
    }

    /// Lets the calendar jump, so often of a thousand times: by years, or by little.
    fn set_clock(&mut self, often: u64) {
        if self.options.clock && self.random.chance(often) {
            let years = if self.random.chance(500) { 10 } else { 0 };
            let most = years * 365 * 86_400_000 + 3_000;
            self.world.set_clock(self.random.below(2 * most) as i64 - most as i64);
        }
    }

    /// Runs one process until it is done, fails or is ended; returns whether it did all that there was to do.
    /// Nothing fails in a safe one.
    fn process(&mut self, safe: bool) -> Result<bool, String> {
        self.report.processes += 1;
        self.world.start_process();
        self.shared.tell(format!("process {} starts", self.report.processes));
        *lock(&self.shared.ended) = None;
        let mounted = self.disk.mount();
        let task =
            process(self.options.clone(), self.world.clone(), mounted.path(), self.keys.clone(), self.shared.clone());
        let ended = self.world.start(task);
        let kill = match self.options.kill {
            0 => u64::MAX,
            _ if safe => u64::MAX,
            mean => self.random.below(2 * mean),
        };
        let mut full_until = None;
        let acknowledged = self.acknowledged();
        loop {
            let now = self.world.steps();
            if self.tell_faults() && self.disk.is_off() {
                return Ok(false);
            }
            if ended.load(Ordering::Relaxed) {
                let result = lock(&self.shared.ended).take();
                return match result {
                    Some(Ok(())) => Ok(true),
                    Some(Err(why)) if safe => Err(why),
                    Some(Err(why)) => {
                        self.shared.tell(format!("the process ends: {why}"));
                        Ok(false)
                    }
                    None => Err("the process ended without a word".to_owned()),
                };
            }
            if now >= kill {
                // Half of the kills take the machine along.
                let power = self.random.chance(500);
                self.shared.tell(format!("step {now}: {}", if power { "power cut" } else { "kill -9" }));
                if power {
                    self.disk.cut();
                }
                return Ok(false);
            }
            if self.options.cut_at_ack && !safe && self.report.processes > 1 && self.acknowledged() > acknowledged {
                self.shared.tell(format!("step {now}: something is acknowledged: power cut"));
                self.disk.cut();
                return Ok(false);
            }
            if now > STEPS_MAX {
                return if safe { Err(format!("not settled after {STEPS_MAX} steps")) } else { Ok(false) };
            }
            // A host that opens counts from the date that it finds.
            if lock(&self.shared.host).is_some() {
                self.set_clock(1);
            }
            if self.options.full && !safe {
                match full_until {
                    None if self.random.chance(1) => {
                        self.disk.set_free(Some(self.random.below(60_000) as usize));
                        full_until = Some(now + self.random.below(3_000));
                    }
                    Some(until) if now > until => {
                        self.disk.set_free(None);
                        full_until = None;
                    }
                    _ => {}
                }
            }
            if self.world.step() == Step::Stuck {
                return Err("everybody waits for somebody: the host hangs".to_owned());
            }
        }
    }

    /// Returns how much the clients have learned.
    fn acknowledged(&self) -> usize {
        let known =
            |client: &Client| client.sent.len() + client.sent.iter().filter(|(_, receipt)| receipt.is_some()).count();
        lock(&self.shared.clients).iter().map(known).sum()
    }

    fn tell_faults(&mut self) -> bool {
        let struck = self.disk.struck();
        self.report.faults += struck.len() as u64;
        let some = !struck.is_empty();
        let step = self.world.steps();
        // A full disk is hit again and again.
        let mut said: Vec<String> = struck;
        said.truncate(3);
        said.into_iter().for_each(|fault| self.shared.tell(format!("step {step}: disk: {fault}")));
        some || self.disk.is_off()
    }

    /// Ends the process. After a power cut first looks at some other states in which it may leave the disk.
    fn restart(&mut self) -> Result<(), String> {
        self.tell_faults();
        let host = lock(&self.shared.host).take().and_then(|host| host.upgrade());
        self.report.reruns += host.map_or(0, |host| host.counters().conflicts);
        self.world = self.world.restarted();
        if self.disk.is_dark() {
            let mut seen = BTreeSet::new();
            for _ in 0..self.options.variants {
                let variant = self.disk.variant(self.random.bits());
                if seen.insert(variant.durable()) {
                    self.look(&variant)?;
                    self.report.states += 1;
                }
            }
        }
        self.disk = self.disk.restarted();
        self.disk.set_free(None);
        Ok(())
    }

    /// Looks at the store as the next process finds it: every law holds, and everything acknowledged is there.
    /// Returns how many events wait.
    fn check(&mut self) -> Result<u64, String> {
        let seen = self.look(&self.disk.copy())?;
        if self.options.flip > 0 && self.random.chance(self.options.flip) {
            let copy = self.disk.copy();
            if let Some(place) = copy.flip(&mut self.random) {
                let count = match Seen::of(&copy, self.cast()) {
                    Err(_) => &mut self.report.flips_found,
                    Ok(flipped) if flipped.dump == seen.dump => &mut self.report.flips_harmless,
                    // Where nobody knows that the last group was durable, its end can have been torn.
                    Ok(flipped) if place.contains("journal/") && seen.log.starts_with(&flipped.log) => {
                        &mut self.report.flips_cut
                    }
                    Ok(_) => return Err(format!("a flipped bit changed an answer and nothing noticed: {place}")),
                };
                *count += 1;
            }
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(seen.dump.as_bytes());
        self.report.hash = hasher.finish();
        let Replay { bugs, segments, retried, delayed, derived, .. } = seen.replay;
        (self.report.bugs, self.report.derived) = (bugs, derived.get());
        (self.report.segments, self.report.retried, self.report.delayed) = (segments, retried, delayed);
        (self.report.commits, self.report.outcomes) = (seen.log.len() as u64, seen.replay.outcomes);
        Ok(seen.waiting)
    }

    /// The charms, where the log tells all that they did.
    fn cast(&self) -> Option<(Cast, Calendar)> {
        let cast = lock(&self.shared.cast).filter(|_| self.options.prunes == 0);
        cast.map(|cast| (cast, self.world.calendar()))
    }

    /// Opens the store on a disk and checks it against what the clients were told.
    fn look(&self, disk: &Disk) -> Result<Seen, String> {
        let damaged = |why| format!("the store is damaged: {why}");
        let seen = Seen::of(disk, self.cast()).map_err(damaged)?;
        for client in lock(&self.shared.clients).iter() {
            seen.keeps(&client.sent).map_err(damaged)?;
        }
        Ok(seen)
    }
}

/// What a process does: opens the host, installs the charms, lets the clients send until they have what they want.
async fn process(options: Options, world: Arc<World>, path: String, keys: FailingKeys, shared: Arc<Shared>) {
    let result = serve(options, world, path, keys, &shared).await;
    *lock(&shared.ended) = Some(result);
}

async fn serve(
    options: Options,
    world: Arc<World>,
    path: String,
    keys: FailingKeys,
    shared: &Arc<Shared>,
) -> Result<(), String> {
    let store = open(&path)?;
    let limits = Limits {
        turns_max: if options.tight { 1 } else { 4 },
        inbox_events_max: if options.tight { 1 } else { Limits::default().inbox_events_max },
        fuel_max: options.fuel,
        tag_bytes_max: 64 << 10,
        fuel_slice: options.slice,
        conflict_ms_max: options.conflict_ms,
        // However the calendar jumps, they are kept.
        receipts_ms: 40 * 365 * 86_400_000,
        ..Limits::default()
    };
    let network = Network { world: world.clone(), failing: options.network };
    let host = builder().store(store).keyring(keys).env(world.clone()).transport(network).limits(limits);
    let host = Arc::new(host.open().await.map_err(|error| error.to_string())?);
    *lock(&shared.host) = Some(Arc::downgrade(&host));
    let dids: Vec<Did> = lock(&shared.clients).iter().map(|client| client.did).collect();
    let manifest = Manifest::load(&manifest(&dids, options.derives)).map_err(|error| error.to_string())?;
    let installed = manifest.install(&host).await.map_err(|error| error.to_string())?;
    let charms = ["a", "b", "c", "d"].map(|name| installed[name]);
    let cast = Cast { charms, derives: options.derives, tight: options.tight };
    *lock(&shared.cast) = Some(cast);
    let (prunes, mut ended) = (options.prunes, Vec::new());
    for number in 0..dids.len() {
        let (client, (end, ends)) =
            (client(host.clone(), world.clone(), shared.clone(), number, cast, prunes), oneshot::channel());
        world.start(async move {
            client.await;
            let _ = end.send(());
        });
        ended.push(ends);
    }
    join_all(ended).await;
    // What is not due yet makes no host busy.
    let mut pause = Duration::from_millis(5);
    loop {
        host.settled().await.map_err(|error| error.to_string())?;
        if host.counters().waiting == 0 {
            break;
        }
        world.sleep(pause).await;
        pause *= 2;
    }
    shared.reruns.fetch_add(host.counters().conflicts, Ordering::Relaxed);
    let host = Arc::into_inner(host).ok_or("somebody still holds the host")?;
    host.shutdown().await.map_err(|error| error.to_string())
}

async fn client(host: Arc<Host>, world: Arc<World>, shared: Arc<Shared>, number: usize, cast: Cast, prunes: u64) {
    loop {
        let pruned = {
            let random = &mut lock(&shared.clients)[number].random;
            if random.chance(prunes) { Some(*random.pick(&cast.charms)) } else { None }
        };
        if let Some(charm) = pruned {
            match host.prune(&charm).await {
                Ok(gone) => shared.tell(format!("{charm} is pruned up to commit {}", gone.floor)),
                Err(SendError::Unavailable(Unavailable::DiskFull) | SendError::Store(_)) => {}
                Err(SendError::Unavailable(_)) => return,
                Err(error) => panic!("a charm is not pruned: {error}"),
            }
        }
        let Some(event) = lock(&shared.clients)[number].next(&cast, world.now_ms()) else { break };
        let wait = lock(&shared.clients)[number].random.chance(500);
        let result = match wait {
            true => host.request(event).await.map(|receipt| (receipt.id, Some(receipt))),
            false => host.send(event).await.map(|id| (id, None)),
        };
        match result {
            Ok(sent) => {
                let client = &mut lock(&shared.clients)[number];
                client.current = None;
                client.sent.push(sent);
            }
            // The id could not be looked up: the event was not taken, and can be sent again.
            Err(SendError::Unavailable(Unavailable::DiskFull) | SendError::Store(_)) => {
                world.sleep(Duration::from_millis(20)).await
            }
            Err(SendError::Unavailable(_)) => return,
            Err(SendError::QueueFull { .. }) if cast.tight => world.sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("an event is refused: {error}"),
        }
    }
    // Whatever it did not wait for.
    let open: Vec<usize> = {
        let clients = lock(&shared.clients);
        let sent = clients[number].sent.iter().enumerate();
        sent.filter(|(_, (_, receipt))| receipt.is_none()).map(|(index, _)| index).collect()
    };
    for index in open {
        let id = lock(&shared.clients)[number].sent[index].0;
        loop {
            match host.receipt(&id).await {
                Ok(Some(receipt)) => break lock(&shared.clients)[number].sent[index].1 = Some(receipt),
                Ok(None) => panic!("event {id} was acknowledged and the host does not know it"),
                Err(ReadError::Unavailable(Unavailable::DiskFull)) => world.sleep(Duration::from_millis(20)).await,
                Err(_) => return,
            }
        }
    }
}

/// Writes the charms and who may do what; once for the same clients. Without derived cells `d` is a probe too.
fn manifest(clients: &[Did], derives: bool) -> PathBuf {
    static GUESTS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    GUESTS
        .get_or_init(|| ["probe", "deriver"].map(|name| super::shared_file(&format!("{name}.wasm"), &component(name))));
    let mut text = String::new();
    let http = r#"http = [{ origin = "https://pause.test", methods = ["GET", "POST"] }]"#;
    let rights =
        [("a", ["b", "c", "d"].as_slice()), ("b", &["a", "c", "d"]), ("c", &["b", "d"]), ("d", &["a", "b", "c"])];
    for (name, others) in rights {
        let grants: Vec<String> =
            others.iter().map(|other| format!(r#"{{ charm = "{other}", read = ["*"], send = ["*"] }}"#)).collect();
        let guest = if name == "d" && derives { "deriver" } else { "probe" };
        writeln!(text, "[charm.{name}]\ncomponent = \"{guest}.wasm\"\n{http}\ngrant = [{}]", grants.join(", "))
            .unwrap();
    }
    for did in clients {
        let grants = ["a", "b", "c", "d"].map(|name| format!(r#"{{ charm = "{name}", send = ["*"] }}"#)).join(", ");
        writeln!(text, "[outside.\"{did}\"]\ngrant = [{grants}]").unwrap();
    }
    super::shared_file(&format!("{}-{}-{derives}.toml", clients[0], clients.len()), text.as_bytes())
}
