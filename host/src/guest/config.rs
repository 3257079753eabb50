//! The engine's settings: one pooled, metered configuration (docs/decisions/0002-engine-settings.md), and the same
//! without the pool for compiling.

use wasmtime::{Cache, Config, Enabled, InstanceAllocationStrategy, ModuleVersionStrategy, PoolingAllocationConfig};

use crate::limits::{HOST_STACK_BYTES, Limits, OUTSIDE_RUNS_MAX};

/// Core instances of one component. A charm made from one module has 3 or 4.
const CORE_INSTANCES_MAX: u32 = 8;
/// Memories beyond those that run: each keeps the first content of the component that had it last, so that turns of many
/// components in a row map none anew. Each keeps in memory what was written in it too, 512 KiB at most.
const WARM_MEMORIES: u32 = 256;
/// What code in the cache was compiled with. To be changed with every setting of the compiler: code of another number
/// is not loaded.
const SETTINGS: &str = concat!("charm-host ", env!("CARGO_PKG_VERSION"), ", settings 1");

/// Calls into wasm that stand on one stack at the same time, each with `stack_bytes_max` of its own: the engine counts
/// from where it enters. The deepest nesting is handler, host call, `realloc` (docs/decisions/0002-engine-settings.md).
const ENTRIES_MAX: usize = 2;

/// Returns the settings of the engine that runs charms; it compiles nothing, unless `compiles`.
///
/// # Errors
/// Never with these settings.
pub fn running(limits: &Limits, cache: Option<Cache>, compiles: bool) -> wasmtime::Result<Config> {
    // Why each: docs/decisions/0002-engine-settings.md.
    // One more than turns: a charm can be described while every slot is taken. And those for derivations that are run for
    // others than turns, which have them run in slots of their own.
    let slots = limits.turns_max as u32 + 1 + OUTSIDE_RUNS_MAX as u32;
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(slots)
        .total_core_instances(slots * CORE_INSTANCES_MAX)
        .total_memories(slots + WARM_MEMORIES)
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
    let mut config = base(limits, compiles)?;
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .max_wasm_stack(limits.stack_bytes_max)
        .async_stack_size(ENTRIES_MAX * limits.stack_bytes_max + HOST_STACK_BYTES)
        .wasm_backtrace_max_frames(None)
        .cache(cache);
    Ok(config)
}

/// Returns the settings of an engine that compiles into a cache for the one that runs charms.
///
/// # Errors
/// Never with these settings.
pub fn compiling(limits: &Limits, cache: Cache, parallel: bool) -> wasmtime::Result<Config> {
    let mut config = base(limits, true)?;
    config.parallel_compilation(parallel).cache(Some(cache));
    Ok(config)
}

/// What code depends on: the same for both.
fn base(limits: &Limits, compiles: bool) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .gc_support(false)
        .consume_fuel(true)
        .epoch_interruption(true)
        .signals_based_traps(false)
        .memory_guard_size(0)
        .memory_reservation(limits.memory_bytes_max as u64)
        .memory_init_cow(true)
        .wasm_relaxed_simd(false)
        .module_version(ModuleVersionStrategy::Custom(SETTINGS.to_owned()))?;
    if compiles {
        config.cranelift_nan_canonicalization(true);
    } else {
        config.enable_compiler(false);
    }
    Ok(config)
}
