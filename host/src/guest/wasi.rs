//! WASI 0.2 for plain components: clocks, random and stdio only (A1).
//!
//! Served by wasmtime-wasi with the turn's time and seed; output goes to the log. Clocks stand still in a
//! turn, so the calls that wait for one are traps.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rand::{SeedableRng, TryRng, rngs::StdRng};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView,
    cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView as _},
    clocks::{WasiClocks, WasiClocksView as _},
    p2::{
        DynPollable, OutputStream, Pollable, StreamError,
        bindings::{cli, clocks, random},
    },
    random::WasiRandom,
};
use wasmtime_wasi_io::{bindings::wasi::io as wasi_io, bytes::Bytes};

use super::{ctx::Ctx, log::Output};
use crate::cost;

/// What one write may hold, in bytes; a guest with more to say writes again.
const WRITE_BYTES_MAX: usize = 64 << 10;
const SERVED: [&str; 11] = [
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
];

/// Returns whether an import is one of the interfaces served here, in a version 0.2.
pub fn serves(import: &str) -> bool {
    import.split_once('@').is_some_and(|(name, version)| SERVED.contains(&name) && version.starts_with("0.2."))
}

/// The WASI state of one turn.
pub struct Wasi {
    ctx: WasiCtx,
    time: Arc<AtomicU64>,
    /// Bytes of randomness given out since that was last asked.
    random: Arc<AtomicU64>,
}

/// A generator whose bytes are counted.
struct Counted {
    random: StdRng,
    bytes: Arc<AtomicU64>,
}

impl TryRng for Counted {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.random.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.random.try_next_u64()
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        self.random.try_fill_bytes(out)
    }
}

/// Milliseconds since 1970, the same until a wait is over.
struct Still(Arc<AtomicU64>);

impl Still {
    fn time(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.time()
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        self.time().as_nanos() as u64
    }
}

impl Wasi {
    /// Returns the state for a turn at `time_ms` with `seed`; what the guest prints goes to `output`.
    pub fn new(time_ms: u64, seed: u64, output: Output) -> Box<Wasi> {
        let time = Arc::new(AtomicU64::new(time_ms));
        let random = Arc::new(AtomicU64::new(0));
        let counted = |seed| Counted { random: StdRng::seed_from_u64(seed), bytes: random.clone() };
        let ctx = WasiCtx::builder()
            .wall_clock(Still(time.clone()))
            .monotonic_clock(Still(time.clone()))
            .secure_random(counted(seed))
            .insecure_random(counted(!seed))
            .insecure_random_seed(u128::from(seed))
            .max_random_size(64 << 10)
            .stdout(output.clone())
            .stderr(output)
            .build();
        Box::new(Wasi { ctx, time, random })
    }

    /// Lets the guest see another time from here on.
    pub fn set_time(&self, time_ms: u64) {
        self.time.store(time_ms, Ordering::Relaxed);
    }

    /// Returns the bytes of randomness given out since this was last asked.
    pub fn take_random(&self) -> u64 {
        self.random.swap(0, Ordering::Relaxed)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

/// Only for streams of later versions of WASI, which no charm gets.
impl tokio::io::AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl WasiView for Ctx {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.charge(cost::WASI);
        let wasi = self.wasi.get_or_insert_with(|| Wasi::new(0, 0, self.log.output()));
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut self.table }
    }
}

struct HasIo;

impl HasData for HasIo {
    type Data<'a> = &'a mut ResourceTable;
}

fn table(ctx: &mut Ctx) -> &mut ResourceTable {
    ctx.charge(cost::WASI);
    &mut ctx.table
}

/// Adds the served interfaces.
///
/// # Errors
/// Never with the fixed set of names.
pub fn add_to_linker(linker: &mut Linker<Ctx>) -> wasmtime::Result<()> {
    wasi_io::error::add_to_linker::<Ctx, HasIo>(linker, table)?;
    wasi_io::poll::add_to_linker::<Ctx, HasIo>(linker, table)?;
    wasi_io::streams::add_to_linker::<Ctx, HasIo>(linker, table)?;
    clocks::wall_clock::add_to_linker::<Ctx, WasiClocks>(linker, Ctx::clocks)?;
    clocks::monotonic_clock::add_to_linker::<Ctx, WasiClocks>(linker, Ctx::clocks)?;
    random::random::add_to_linker::<Ctx, WasiRandom>(linker, |ctx| ctx.ctx().ctx.random())?;
    random::insecure::add_to_linker::<Ctx, WasiRandom>(linker, |ctx| ctx.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<Ctx, WasiRandom>(linker, |ctx| ctx.ctx().ctx.random())?;
    cli::stdin::add_to_linker::<Ctx, WasiCli>(linker, Ctx::cli)?;
    cli::stdout::add_to_linker::<Ctx, WasiCli>(linker, Ctx::cli)?;
    cli::stderr::add_to_linker::<Ctx, WasiCli>(linker, Ctx::cli)?;
    linker.allow_shadowing(true);
    let version = "wasi:clocks/monotonic-clock@0.2.12";
    for waits in ["subscribe-instant", "subscribe-duration"] {
        linker.instance(version)?.func_wrap(
            waits,
            move |_, (_,): (u64,)| -> wasmtime::Result<(Resource<DynPollable>,)> {
                wasmtime::bail!("{waits}: a turn's clock stands still; use an event with a later time instead")
            },
        )?;
    }
    linker.allow_shadowing(false);
    Ok(())
}
