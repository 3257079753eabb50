//! The floor of whatever runs a guest: the same component on bare wasmtime, its host calls answered by stubs.

use std::time::Instant;

use charm_conformance::component;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store,
    component::{Component, HasSelf, Linker, Resource},
};

use crate::world::{INPUT, turns_left, variant};

wasmtime::component::bindgen!({ path: "../wit", world: "charm" });

type Told<T> = std::result::Result<T, types::Error>;

/// Answers every host call with as little as the types allow.
struct Stub;

use self::charm::host::{cells, context, discovery, http, log, retries, streams, types, waits};

impl types::Host for Stub {}

impl cells::Host for Stub {
    fn open(&mut self, _: Option<String>, _: String) -> std::result::Result<Resource<cells::Cell>, types::Error> {
        Ok(Resource::new_own(0))
    }

    fn get_each(&mut self, cells: Vec<Resource<cells::Cell>>, _: Vec<types::Segment>) -> Told<Vec<Option<Vec<u8>>>> {
        Ok(cells.iter().map(|_| None).collect())
    }

    fn open_link(&mut self, _: Vec<u8>) -> Told<Resource<cells::Cell>> {
        Ok(Resource::new_own(0))
    }

    fn names(
        &mut self,
        _: Option<String>,
        _: cells::Span,
        _: u32,
    ) -> std::result::Result<cells::NamesPage, types::Error> {
        Ok(cells::NamesPage { names: Vec::new(), next: None })
    }

    fn entries(
        &mut self,
        _: Option<String>,
        _: cells::Span,
        _: u32,
    ) -> std::result::Result<cells::EntriesPage, types::Error> {
        Ok(cells::EntriesPage { entries: Vec::new(), next: None })
    }

    fn remove_all(
        &mut self,
        _: Option<String>,
        _: cells::Span,
        _: u32,
    ) -> std::result::Result<cells::Removed, types::Error> {
        Ok(cells::Removed { count: 0, next: None })
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
        // What `link` left there, as a value.
        Ok(Some([&[0x58, INPUT.len() as u8], &INPUT[..]].concat()))
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

    fn append(&mut self, _: Resource<cells::Cell>, _: Vec<types::Segment>, _: Vec<u8>) -> Told<()> {
        Ok(())
    }

    fn add_unique(&mut self, _: Resource<cells::Cell>, _: Vec<types::Segment>, _: Vec<u8>) -> Told<()> {
        Ok(())
    }

    fn remove_by_value(&mut self, _: Resource<cells::Cell>, _: Vec<types::Segment>, _: Vec<u8>) -> Told<()> {
        Ok(())
    }

    fn increment(&mut self, _: Resource<cells::Cell>, _: Vec<types::Segment>, _: Vec<u8>) -> Told<()> {
        Ok(())
    }

    fn link(&mut self, _: Resource<cells::Cell>, _: Vec<types::Segment>) -> Told<Vec<u8>> {
        Ok(Vec::new())
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
        _: streams::SendOptions,
    ) -> std::result::Result<String, types::Error> {
        Ok("0".repeat(32))
    }

    fn open_link(&mut self, _: Vec<u8>) -> Told<Resource<streams::Stream>> {
        Ok(Resource::new_own(0))
    }

    fn cancel(&mut self, _: String) -> std::result::Result<(), types::Error> {
        Ok(())
    }
}

impl streams::HostStream for Stub {
    fn owner(&mut self, _: Resource<streams::Stream>) -> String {
        String::new()
    }

    fn name(&mut self, _: Resource<streams::Stream>) -> String {
        String::new()
    }

    fn link(&mut self, _: Resource<streams::Stream>) -> Vec<u8> {
        Vec::new()
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
        _: discovery::Page,
    ) -> std::result::Result<discovery::Offers, types::Error> {
        Ok(discovery::Offers { found: Vec::new(), next: None })
    }
}

impl http::Host for Stub {
    fn fetch(&mut self, _: http::Request, _: http::FetchOptions) -> std::result::Result<http::Response, types::Error> {
        Err(types::Error::Http(types::HttpError::Timeout))
    }
}

impl waits::Host for Stub {
    fn commit_and_wait(
        &mut self,
        _: Vec<String>,
        _: waits::Until,
        _: u64,
    ) -> std::result::Result<Vec<Option<waits::Receipt>>, types::Error> {
        Ok(Vec::new())
    }

    fn commit_and_sleep(&mut self, _: u64) -> std::result::Result<(), types::Error> {
        Ok(())
    }

    fn commit_and_fetch(
        &mut self,
        _: http::Request,
        _: http::FetchOptions,
    ) -> std::result::Result<http::Response, types::Error> {
        Err(types::Error::Http(types::HttpError::Timeout))
    }
}

impl retries::Host for Stub {
    fn count(&mut self) -> u32 {
        0
    }

    fn retry_after(&mut self, _: u64) -> std::result::Result<(), types::Error> {
        Ok(())
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
pub struct Bare {
    engine: Engine,
    pres: Vec<CharmPre<Stub>>,
}

impl Bare {
    pub fn new() -> Bare {
        Bare::of(1)
    }

    /// Of so many components that do the same, whose turns take turns.
    pub fn of(components: usize) -> Bare {
        Bare::load(components).expect("bare wasmtime loads the guest")
    }

    fn load(components: usize) -> Result<Bare> {
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
        let bytes = component("bench");
        let load = |number| -> Result<CharmPre<Stub>> {
            let component = Component::new(&engine, variant(&bytes, number))?;
            CharmPre::new(linker.instantiate_pre(&component)?)
        };
        let pres = (0..components).map(load).collect::<Result<_>>()?;
        Ok(Bare { engine, pres })
    }

    /// Returns how long a turn's worth takes, in seconds: a fresh instance, one call, drop; as many threads share the turns.
    pub fn turn(&self, turns: u32, threads: u32) -> f64 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for left in 0..turns / threads {
                        let pre = &self.pres[left as usize % self.pres.len()];
                        self.call(pre, turns_left(left + 1).as_bytes()).expect("the guest runs");
                    }
                });
            }
        });
        start.elapsed().as_secs_f64() / f64::from(turns)
    }

    fn call(&self, pre: &CharmPre<Stub>, event: &[u8]) -> Result<()> {
        let mut store = Store::new(&self.engine, Stub);
        let charm = pre.instantiate(&mut store)?;
        charm.charm_host_guest().call_handle(&mut store, "turn", &event.to_vec())?.map_err(wasmtime::Error::msg)
    }
}
