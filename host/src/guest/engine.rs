//! The engine: one pooled, metered configuration, components compiled once and kept on disk by content.

use std::{path::Path, sync::Arc, time::Duration};

use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, Trap,
    UpdateDeadline,
    component::{Component, HasSelf, Linker},
};

use super::{
    End, Fault, Outcome,
    bindings::{Charm, CharmPre},
    ctx::{Ctx, Facts},
    wasi,
};
use crate::{
    descriptor::{Descriptor, check_tag, declarations},
    env::Env,
    error::clip,
    http::Outbound,
    limits::{DECLARATIONS_MAX, Limits, MESSAGE_BYTES_MAX},
    store::Queued,
    tx::Transaction,
};

/// How often running guests are interrupted to look at their time and let others run.
const TICK: Duration = Duration::from_millis(10);

/// Core instances of one component. A charm made from one module has 3 or 4.
const CORE_INSTANCES_MAX: u32 = 8;

/// A component that is compiled and linked: instances come from here.
pub struct Prepared {
    pre: CharmPre<Ctx>,
    wasi: bool,
}

/// Why a component is not taken.
#[derive(Debug)]
pub enum LoadError {
    /// Not a component, or a broken one.
    Malformed(String),
    /// It imports what no charm gets.
    Import(String),
    /// Its exports or the types of its imports are not those of the world.
    World(String),
    /// It needs more than an instance may have.
    Limit(String),
    /// `describe` failed or told something malformed.
    Describe(String),
}

/// Loads components and runs calls.
pub struct Guests {
    engine: Engine,
    plain: Linker<Ctx>,
    with_wasi: Linker<Ctx>,
    limits: Arc<Limits>,
    /// Charms are described one at a time: that takes the one slot that no turn has.
    describing: tokio::sync::Mutex<()>,
}

fn config(limits: &Limits, cache: Option<&Path>) -> wasmtime::Result<Config> {
    // Why each: docs/decisions/0002-engine-settings.md.
    // One more than turns: a charm can be described while every slot is taken.
    let slots = limits.turns_max as u32 + 1;
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(slots)
        .total_core_instances(slots * CORE_INSTANCES_MAX)
        .total_memories(slots)
        .total_tables(slots * 3)
        .total_stacks(slots)
        .max_memories_per_component(1)
        .max_tables_per_component(3)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memory_size(limits.memory_bytes_max)
        .max_component_instance_size(256 << 10)
        .max_core_instance_size(256 << 10)
        .table_elements(limits.table_elements_max)
        .max_unused_warm_slots(4_000)
        .linear_memory_keep_resident(512 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .concurrency_support(false)
        .gc_support(false)
        .consume_fuel(true)
        .epoch_interruption(true)
        .signals_based_traps(false)
        .memory_guard_size(0)
        .memory_reservation(limits.memory_bytes_max as u64)
        .memory_init_cow(true)
        .max_wasm_stack(limits.stack_bytes_max)
        .async_stack_size(limits.stack_bytes_max + (512 << 10))
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_backtrace_max_frames(None);
    if let Some(folder) = cache {
        let mut cache = CacheConfig::new();
        cache.with_directory(folder);
        config.cache(Some(Cache::new(cache)?));
    }
    Ok(config)
}

fn text(error: &wasmtime::Error) -> String {
    clip(&format!("{error:#}"), 512).into_owned()
}

/// Returns the first line of what the engine says about bytes that are no component, without what it quotes of them:
/// the file may be anything.
fn nameless(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    let line = text.lines().next().unwrap_or_default();
    let part = |(number, part)| if number % 2 == 1 && str::len(part) > 1 { "…" } else { part };
    let parts: Vec<&str> = line.split(['`', '"']).enumerate().map(part).collect();
    clip(&parts.join("`"), 512).into_owned()
}

impl Guests {
    /// Starts the engine; compiled code is kept in `cache` when there is one.
    ///
    /// # Errors
    /// When the limits do not fit the machine.
    pub fn start(limits: Arc<Limits>, cache: Option<&Path>, env: &dyn Env) -> Result<Guests, String> {
        let build = || -> wasmtime::Result<Guests> {
            let engine = Engine::new(&config(&limits, cache)?)?;
            let mut plain = Linker::new(&engine);
            Charm::add_to_linker::<Ctx, HasSelf<Ctx>>(&mut plain, |ctx| ctx)?;
            let mut with_wasi = plain.clone();
            wasi::add_to_linker(&mut with_wasi)?;
            Ok(Guests { engine, plain, with_wasi, limits: limits.clone(), describing: Default::default() })
        };
        let guests = build().map_err(|error| clip(&format!("{error:#}"), 512).into_owned())?;
        let engine = guests.engine.weak();
        env.tick(
            TICK,
            Box::new(move || match engine.upgrade() {
                Some(engine) => {
                    engine.increment_epoch();
                    true
                }
                None => false,
            }),
        );
        Ok(guests)
    }

    /// Compiles a component. Blocks: milliseconds for tens of kilobytes, unless the code cache has it.
    ///
    /// # Errors
    /// `Malformed`; `Limit` for one that starts over a limit.
    pub fn compile(&self, bytes: &[u8]) -> Result<Component, LoadError> {
        Component::new(&self.engine, bytes).map_err(|error| {
            let (text, limits) = (text(&error), &self.limits);
            if text.contains("minimum byte size") {
                LoadError::Limit(format!("memory-bytes-max {}: {text}", limits.memory_bytes_max))
            } else if text.contains("minimum element size") {
                LoadError::Limit(format!("table-elements-max {}: {text}", limits.table_elements_max))
            } else if text.contains("pooling allocator") {
                LoadError::Limit(text)
            } else {
                LoadError::Malformed(nameless(&error))
            }
        })
    }

    /// Checks and links a component, and asks it what it is.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load(&self, component: &Component) -> Result<(Prepared, Descriptor), LoadError> {
        let mut wasi = false;
        for (import, _) in component.component_type().imports(&self.engine) {
            if wasi::serves(import) {
                wasi = true;
            } else if !import.starts_with("charm:host/") || !import.ends_with("@0.1.0") {
                return Err(LoadError::Import(clip(import, 256).into_owned()));
            }
        }
        let linker = if wasi { &self.with_wasi } else { &self.plain };
        let pre = linker.instantiate_pre(component).map_err(|error| {
            // An import of a name that the world does not have is an unknown import, not another type of a known one.
            LoadError::World(text(&error))
        })?;
        let pre = CharmPre::new(pre).map_err(|error| LoadError::World(text(&error)))?;
        let prepared = Prepared { pre, wasi };
        let descriptor = self.describe(&prepared).await?;
        Ok((prepared, descriptor))
    }

    fn store(&self, ctx: Ctx) -> Store<Ctx> {
        let limits = &self.limits;
        let mut store = Store::new(&self.engine, ctx);
        store.limiter(|ctx| ctx);
        store.set_fuel(limits.fuel_max).expect("the engine is configured with fuel");
        store.fuel_async_yield_interval(Some(limits.fuel_slice.max(1))).expect("the engine is configured with fuel");
        store.set_hostcall_fuel(limits.hostcall_bytes_max);
        store.set_max_component_handles(limits.handles_max);
        let mut ticks = limits.compute_ms_max / TICK.as_millis() as u64 + 1;
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            ticks -= 1;
            if ticks == 0 { Err(Trap::Interrupt.into()) } else { Ok(UpdateDeadline::Yield(1)) }
        });
        store
    }

    async fn describe(&self, prepared: &Prepared) -> Result<Descriptor, LoadError> {
        let _slot = self.describing.lock().await;
        let mut ctx = Ctx::bare(self.limits.clone());
        ctx.wasi = prepared.wasi.then(|| wasi::Wasi::new(0, 0));
        let mut store = self.store(ctx);
        let charm = match prepared.pre.instantiate_async(&mut store).await {
            Ok(charm) => charm,
            Err(error) => {
                let fault = Fault::explain(&error, &store, &self.limits).message;
                // Its start functions ran into something, or the instance is more than the engine gives one.
                let ran = error.is::<Trap>();
                return Err(if ran { LoadError::Describe(fault) } else { LoadError::Limit(fault) });
            }
        };
        let told = match charm.call_describe(&mut store).await {
            Ok(told) => told,
            Err(error) => return Err(LoadError::Describe(Fault::explain(&error, &store, &self.limits).message)),
        };
        let describe = |why: String| LoadError::Describe(clip(&why, 512).into_owned());
        if told.tags.len() > DECLARATIONS_MAX {
            return Err(describe(format!("more than {DECLARATIONS_MAX} tags")));
        }
        told.tags.iter().try_for_each(|tag| check_tag(tag)).map_err(describe)?;
        let pairs = |list: Vec<super::bindings::charm::host::discovery::Declaration>| {
            list.into_iter().map(|declaration| (declaration.name, declaration.shape))
        };
        Ok(Descriptor {
            tags: told.tags,
            cells: declarations("cell", pairs(told.cells)).map_err(describe)?,
            streams: declarations("stream", pairs(told.streams)).map_err(describe)?,
        })
    }

    /// Calls `handle` on a fresh instance. Always runs to its end: a guest is stopped by a trap, never by
    /// dropping the call.
    pub async fn handle(
        &self,
        prepared: &Prepared,
        tx: Transaction,
        outbound: Outbound,
        facts: Facts,
        queued: &Queued,
    ) -> End {
        let wasi = prepared.wasi.then(|| wasi::Wasi::new(facts.time_ms, facts.seed));
        let mut ctx = Ctx::turn(self.limits.clone(), tx, outbound, facts);
        ctx.wasi = wasi;
        let mut store = self.store(ctx);
        let result = self.call(prepared, &mut store, queued).await;
        let fault = match &result {
            Err(error) => Some(Fault::explain(error, &store, &self.limits)),
            Ok(_) => None,
        };
        let mut ctx = store.into_data();
        ctx.flush_output();
        let Ctx { tx, outbound, .. } = ctx;
        let outcome = match (result, fault, tx) {
            (Ok(Err(text)), ..) => Outcome::Rejected(clip(&text, MESSAGE_BYTES_MAX).into_owned()),
            (Ok(Ok(())), _, Some(tx)) => match tx.check_end() {
                Ok(()) => Outcome::Done(Box::new(tx)),
                Err(why) => Outcome::Fault(Fault::new(why)),
            },
            (_, fault, _) => Outcome::Fault(fault.unwrap_or_else(|| Fault::new("the instance did not start"))),
        };
        End { outcome, outbound: outbound.unwrap_or_default() }
    }

    async fn call(
        &self,
        prepared: &Prepared,
        store: &mut Store<Ctx>,
        queued: &Queued,
    ) -> wasmtime::Result<Result<(), String>> {
        let charm = prepared.pre.instantiate_async(&mut *store).await?;
        let event = &queued.event;
        charm.call_handle(&mut *store, &event.stream, &event.payload.as_bytes().to_vec()).await
    }
}
