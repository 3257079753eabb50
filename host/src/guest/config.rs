//! The engine's settings: one pooled, metered configuration (docs/decisions/0002-engine-settings.md).

use std::path::Path;

use wasmtime::{Cache, CacheConfig, Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::{HOST_STACK_BYTES, Limits};

/// Core instances of one component. A charm made from one module has 3 or 4.
const CORE_INSTANCES_MAX: u32 = 8;

/// Calls into wasm that stand on one stack at the same time, each with `stack_bytes_max` of its own: the engine counts
/// from where it enters. The deepest nesting is handler, host call, `realloc` (docs/decisions/0002-engine-settings.md).
const ENTRIES_MAX: usize = 2;

/// Returns the settings of a host's engine; compiled code is kept in `cache` when there is one.
///
/// # Errors
/// When the cache's folder cannot be used.
pub fn config(limits: &Limits, cache: Option<&Path>) -> wasmtime::Result<Config> {
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
        .async_stack_size(ENTRIES_MAX * limits.stack_bytes_max + HOST_STACK_BYTES)
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
