//! What a turn costs over bare wasmtime, side by side in one run.
//!
//! The guest reads one cell, writes one and sends one event. Bare: instantiate, call, drop of the same
//! component on one thread, its host calls answered by stubs. A turn: the same through the host, from the
//! event in the inbox to the next one, on a store in memory (`turn/bare`) and on SQLite (`turn/durable`).
//! Figures are ratios, each the median over rounds; the rounds alternate, so that a slow moment hits both.

use std::{path::PathBuf, time::Instant};

use charm_host::{Did, FileKeyring, Host, HostBuilder, NewEvent, Outcome, Path, SqliteStore, Value};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store,
    component::{Component, HasSelf, Linker, Resource},
};

wasmtime::component::bindgen!({ path: "../wit", world: "charm" });

const ROUNDS: usize = 15;
const TURNS: u32 = 4_000;
/// The guest stops here.
const BASE: u32 = 100_000;

/// Answers every host call with as little as the types allow.
struct Stub;

use self::charm::host::{cells, context, discovery, http, log, streams, types};

impl types::Host for Stub {}

impl cells::Host for Stub {
    fn open(&mut self, _: Option<String>, _: String) -> std::result::Result<Resource<cells::Cell>, types::Error> {
        Ok(Resource::new_own(0))
    }
}

impl cells::HostCell for Stub {
    fn owner(&mut self, _: Resource<cells::Cell>) -> String {
        String::new()
    }

    fn name(&mut self, _: Resource<cells::Cell>) -> String {
        String::new()
    }

    fn get(
        &mut self,
        _: Resource<cells::Cell>,
        _: Vec<types::Segment>,
    ) -> std::result::Result<Option<Vec<u8>>, types::Error> {
        Ok(Some(vec![0; 100]))
    }

    fn set(
        &mut self,
        _: Resource<cells::Cell>,
        _: Vec<types::Segment>,
        _: Vec<u8>,
    ) -> std::result::Result<(), types::Error> {
        Ok(())
    }

    fn remove(&mut self, _: Resource<cells::Cell>, _: Vec<types::Segment>) -> std::result::Result<(), types::Error> {
        Ok(())
    }

    fn drop(&mut self, _: Resource<cells::Cell>) -> Result<()> {
        Ok(())
    }
}

impl streams::Host for Stub {
    fn open(&mut self, _: Option<String>, _: String) -> std::result::Result<Resource<streams::Stream>, types::Error> {
        Ok(Resource::new_own(0))
    }

    fn send(
        &mut self,
        _: Resource<streams::Stream>,
        _: Vec<u8>,
        _: Option<streams::OnCommit>,
    ) -> std::result::Result<String, types::Error> {
        Ok("0".repeat(32))
    }
}

impl streams::HostStream for Stub {
    fn owner(&mut self, _: Resource<streams::Stream>) -> String {
        String::new()
    }

    fn name(&mut self, _: Resource<streams::Stream>) -> String {
        String::new()
    }

    fn drop(&mut self, _: Resource<streams::Stream>) -> Result<()> {
        Ok(())
    }
}

impl discovery::Host for Stub {
    fn wish(
        &mut self,
        _: String,
        _: discovery::Wanted,
    ) -> std::result::Result<Vec<discovery::Found>, types::Error> {
        Ok(Vec::new())
    }
}

impl http::Host for Stub {
    fn fetch(&mut self, _: http::Request) -> std::result::Result<http::Response, types::Error> {
        Err(types::Error::Http(types::HttpError::Timeout))
    }
}

impl log::Host for Stub {
    fn log(&mut self, _: log::Level, _: String) {}

    fn panicked(&mut self, _: String) {}
}

impl context::Host for Stub {
    fn self_did(&mut self) -> String {
        String::new()
    }

    fn sender(&mut self) -> String {
        String::new()
    }

    fn event(&mut self) -> String {
        String::new()
    }

    fn time(&mut self) -> u64 {
        0
    }

    fn random(&mut self) -> u64 {
        0
    }
}

/// Bare wasmtime: the host's engine settings, without metering, fibers or limits.
struct Bare {
    engine: Engine,
    pre: CharmPre<Stub>,
}

impl Bare {
    fn new(bytes: &[u8]) -> Result<Bare> {
        let mut pool = PoolingAllocationConfig::default();
        pool.max_memory_size(16 << 20)
            .table_elements(1_000)
            .max_unused_warm_slots(4_000)
            .linear_memory_keep_resident(512 << 10)
            .table_keep_resident(16 << 10)
            .pagemap_scan(Enabled::Auto);
        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .concurrency_support(false)
            .gc_support(false)
            .signals_based_traps(false)
            .memory_guard_size(0)
            .memory_reservation(16 << 20)
            .memory_init_cow(true);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        Charm::add_to_linker::<Stub, HasSelf<Stub>>(&mut linker, |stub| stub)?;
        let pre = CharmPre::new(linker.instantiate_pre(&Component::new(&engine, bytes)?)?)?;
        Ok(Bare { engine, pre })
    }

    fn round(&self) -> Result<f64> {
        let start = Instant::now();
        for left in 0..TURNS {
            let mut store = Store::new(&self.engine, Stub);
            let charm = self.pre.instantiate(&mut store)?;
            let event = event(BASE + left + 1);
            charm.call_handle(&mut store, "turn", &event.as_bytes().to_vec())?.map_err(wasmtime::Error::msg)?;
        }
        Ok(start.elapsed().as_secs_f64() / f64::from(TURNS))
    }
}

fn event(left: u32) -> Value {
    Value::encode(&left).expect("an integer is in the data model")
}

/// Runs a chain of turns, each started by the event that the one before sent.
async fn round(host: &Host, charm: Did) -> f64 {
    let done = event(BASE);
    let start = Instant::now();
    let receipt = host.request(NewEvent::new(charm, "turn", event(BASE + TURNS - 1))).await.expect("the event is taken");
    assert_eq!(receipt.outcome, Outcome::Committed, "{:?}", receipt.message);
    while host.get(&charm, "output", &Path::root()).await.expect("the host runs").as_ref() != Some(&done) {
        tokio::task::yield_now().await;
    }
    start.elapsed().as_secs_f64() / f64::from(TURNS)
}

async fn open(builder: HostBuilder, bytes: &[u8]) -> (Host, Did) {
    let host = builder.open().await.expect("the host opens");
    let did = host.install(charm_host::Charm::new("bench", bytes.to_vec())).await.expect("the guest loads");
    (host, did)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[tokio::main]
async fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/charms/bench.wasm");
    let bytes = std::fs::read(&path).expect("run cargo xtask charms first");
    let folder = std::env::temp_dir().join(format!("charm-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the store");

    let bare = Bare::new(&bytes).expect("bare wasmtime loads the guest");
    let (memory, in_memory) = open(Host::builder(), &bytes).await;
    let store = SqliteStore::open(folder.join("charm.db")).expect("the store opens");
    let keys = FileKeyring::open(folder.join("keys")).expect("the keyring opens");
    let (disk, on_disk) = open(Host::builder().store(store).keyring(keys), &bytes).await;
    let (mut turns, mut durable) = (Vec::new(), Vec::new());
    for number in 0..=ROUNDS {
        let floor = bare.round().expect("the guest runs");
        let turn = round(&memory, in_memory).await / floor;
        let synced = round(&disk, on_disk).await / floor;
        // The first round warms up.
        if number > 0 {
            turns.push(turn);
            durable.push(synced);
        }
    }
    for (name, figures) in [("turn/bare", turns), ("turn/durable", durable)] {
        let value = median(figures);
        if json {
            println!("{{\"name\":\"{name}\",\"value\":{value:.2},\"unit\":\"x bare wasmtime\"}}");
        } else {
            println!("{name:<14} {value:.2} x bare wasmtime (instantiate + call + drop)");
        }
    }
    drop((memory, disk));
    let _ = std::fs::remove_dir_all(folder);
}
