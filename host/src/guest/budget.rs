//! What an attempt at a turn takes of its host: fuel, which decides outcomes, and time on a thread, the backstop (A5).
//!
//! The engine counts a guest's instructions. What a host call costs is added to that when it returns: the table is in
//! `cost.rs`. The engine lets others run after a slice of fuel; setting its fuel begins a slice anew, so what is left of
//! the present one is kept here, and set as a shorter slice.
//!
//! A guest keeps its fuel in a register, and has it in the store only around calls and where a slice ends. Setting it
//! anywhere else (at a tick, when a memory grows) would lose or give fuel.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use wasmtime::{CallHook, Store, StoreContextMut, Trap};

use super::ctx::Ctx;
use crate::env::Env;

/// Time that one attempt has been on a thread: not in line, not waiting.
pub struct OnThread {
    env: Arc<dyn Env>,
    /// Nanoseconds of the polls that have ended.
    spent: AtomicU64,
    /// When the present poll began, by the monotonic clock.
    since: AtomicU64,
    /// Polls that have begun: the engine yields between them.
    polls: AtomicU64,
}

impl OnThread {
    /// Returns the time of an attempt that begins.
    pub fn new(env: Arc<dyn Env>) -> Arc<OnThread> {
        Arc::new(OnThread { env, spent: AtomicU64::new(0), since: AtomicU64::new(0), polls: AtomicU64::new(0) })
    }

    fn now(&self) -> u64 {
        self.env.monotonic().as_nanos() as u64
    }

    fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// Runs `work`, counting its time on threads.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            let since = self.now();
            self.since.store(since, Ordering::Relaxed);
            self.polls.fetch_add(1, Ordering::Relaxed);
            let polled = work.as_mut().poll(context);
            self.spent.fetch_add(self.now().saturating_sub(since), Ordering::Relaxed);
            polled
        })
        .await
    }

    /// Returns the time of the polls that have ended.
    pub fn had(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    /// Returns the time on threads so far; asked on the thread that runs the attempt.
    pub fn spent(&self) -> Duration {
        let present = self.now().saturating_sub(self.since.load(Ordering::Relaxed));
        Duration::from_nanos(self.spent.load(Ordering::Relaxed).saturating_add(present))
    }
}

/// What the host counts beside the engine.
#[derive(Default)]
pub struct Account {
    /// What the present host call costs so far.
    owed: u64,
    /// Fuel when the present slice began.
    began: u64,
    /// Polls by then.
    polls: u64,
    /// Whether the engine's slice is shorter than a whole one.
    short: bool,
    /// Calls into the guest that have not ended: more than one while the guest makes room for an answer.
    calls: u32,
    /// A tick has let others run since the guest was last left.
    ticked: bool,
    /// Fuel that a turn has left whose replay is over, once.
    restore: Option<u64>,
    /// What the guest was given, at the beginning or when its replay was over.
    given: u64,
    /// Fuel that its replay took.
    replayed: Option<u64>,
    /// Time on threads when it was over.
    since: Duration,
}

impl Account {
    /// Adds to what the present host call costs.
    pub fn charge(&mut self, cost: u64) {
        self.owed = self.owed.saturating_add(cost);
    }

    /// Notes that the guest is left because of a tick.
    pub fn tick(&mut self) {
        self.ticked = true;
    }

    /// Notes that a replay is over: the turn goes on with so much fuel.
    pub fn restore(&mut self, left: u64) {
        self.restore = Some(left);
    }

    /// Returns the fuel of the whole turn and that of this attempt, with so much left; `before` is what the turn had taken before
    /// its last wait.
    pub fn taken(&self, left: u64, before: Option<u64>) -> (u64, u64) {
        let here = self.given - left;
        match (before, self.replayed) {
            (None, _) => (here, here),
            // It is still in its replay.
            (Some(before), None) => (before, here),
            (Some(before), Some(replayed)) => (before + here, replayed + here),
        }
    }

    /// Returns the time on threads when the replay was over.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Returns what is owed, and takes it as paid.
    pub fn take(&mut self) -> u64 {
        std::mem::take(&mut self.owed)
    }
}

/// Gives a new store its fuel, and has its host calls paid for.
///
/// # Errors
/// When the engine is configured without fuel.
pub fn arm(store: &mut Store<Ctx>, on_thread: Arc<OnThread>, fuel_max: u64, slice: u64) -> wasmtime::Result<()> {
    let slice = slice.max(1);
    store.set_fuel(fuel_max)?;
    store.data_mut().account.given = fuel_max;
    store.fuel_async_yield_interval(Some(slice))?;
    store.call_hook(move |mut store, hook| match hook {
        CallHook::CallingWasm => {
            store.data_mut().account.calls += 1;
            Ok(())
        }
        CallHook::ReturningFromWasm => {
            store.data_mut().account.calls -= 1;
            Ok(())
        }
        CallHook::ReturningFromHost => settle(store, &on_thread, slice),
        CallHook::CallingHost => Ok(()),
    });
    Ok(())
}

/// Takes what is owed out of the engine's fuel, and keeps the end of the slice where it was. Called on the way back from
/// the host to the guest: from a host call, and from what the engine does for the guest, yielding too.
fn settle(mut store: StoreContextMut<'_, Ctx>, on_thread: &OnThread, slice: u64) -> wasmtime::Result<()> {
    let polls = on_thread.polls();
    let ctx = store.data_mut();
    if std::mem::take(&mut ctx.account.ticked) {
        ctx.account.polls = polls;
        return Ok(());
    }
    if ctx.account.calls == 1
        && let Some(left) = ctx.account.restore.take()
    {
        return go_on(store, on_thread, left, slice);
    }
    let (mut owed, yielded) = (ctx.take_cost(), polls != ctx.account.polls);
    if owed == 0 && !yielded {
        return Ok(());
    }
    let fuel = store.get_fuel()?;
    if store.data().account.calls > 1 {
        // Only the end of a slice brings the engine here with the fuel in the store: the host call above pays when it
        // returns, for all that was called meanwhile, and ends here when that is more than there is.
        if owed > fuel {
            return Err(Trap::OutOfFuel.into());
        }
        store.data_mut().account.owed = std::mem::take(&mut owed);
        if !yielded {
            return Ok(());
        }
    }
    let account = &mut store.data_mut().account;
    if yielded {
        (account.began, account.polls) = (fuel, polls);
    }
    let left = fuel.saturating_sub(owed);
    let used = account.began.saturating_sub(left);
    let rest = if owed == 0 { slice } else { slice.saturating_sub(used).max(1) };
    let short = std::mem::replace(&mut account.short, owed > 0);
    if owed > 0 {
        store.set_fuel(left)?;
    }
    if owed > 0 || short {
        store.fuel_async_yield_interval(Some(rest))?;
    }
    if owed > 0 && left == 0 { Err(Trap::OutOfFuel.into()) } else { Ok(()) }
}

/// Gives a turn whose replay is over what its first run had left: what the replay took counts for nothing but the time of others.
fn go_on(mut store: StoreContextMut<'_, Ctx>, on_thread: &OnThread, left: u64, slice: u64) -> wasmtime::Result<()> {
    let replayed = store.data().account.given.saturating_sub(store.get_fuel()?);
    let ctx = store.data_mut();
    ctx.take_cost();
    let account = &mut ctx.account;
    (account.given, account.replayed, account.since) = (left, Some(replayed), on_thread.spent());
    (account.began, account.polls, account.short) = (left, on_thread.polls(), false);
    store.set_fuel(left)?;
    store.fuel_async_yield_interval(Some(slice))?;
    if left == 0 { Err(Trap::OutOfFuel.into()) } else { Ok(()) }
}

/// Takes `cost` out of a store's fuel between two calls.
///
/// # Errors
/// The trap of a guest that has no fuel left.
pub fn pay(store: &mut Store<Ctx>, cost: u64) -> wasmtime::Result<()> {
    let left = store.get_fuel()?.saturating_sub(cost);
    store.set_fuel(left)?;
    if left == 0 { Err(Trap::OutOfFuel.into()) } else { Ok(()) }
}
