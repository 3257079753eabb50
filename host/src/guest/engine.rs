//! The engine: one configuration for all charms, and calls on fresh instances.

use std::{path::Path, pin::pin, sync::Arc, time::Duration};

use wasmtime::{
    PoolConcurrencyLimitError, Store, Trap, UpdateDeadline,
    component::{HasSelf, Linker},
};

use super::{
    Compiler, Derived, End, Ended, Fault, Lent,
    bindings::Charm,
    budget::{OnThread, arm, pay},
    code::Code,
    ctx::{Ctx, Facts},
    load::Prepared,
    shelf::{Loaded, Shelf},
    threads::Threads,
    wasi,
};
use crate::{
    cost,
    env::{Env, breathe},
    limits::{Limits, MESSAGE_BYTES_MAX, SHAPE_STEPS_MAX, VALUE_DEPTH_MAX},
    rows::Queued,
    shape::Shape,
    store::Work,
    suspects::work_of,
    text::clip,
    tx::{Cause, Transaction},
    value::{Tree, Value},
};

/// How often running guests are interrupted to look at their time and let others run.
const TICK: Duration = Duration::from_millis(10);
/// What a replay may take beside twice the fuel of the first run.
const REPLAY_FUEL: u64 = 10_000_000;

/// What a call into a guest comes to.
pub(super) type Called = wasmtime::Result<Result<(), String>>;

/// Returns whether a call ended because the host refused to go on: what for, stands in the context.
pub(super) fn is_refused(called: &Called) -> bool {
    called.as_ref().is_err_and(|error| !error.is::<Trap>())
}

/// Loads components and runs calls.
pub struct Guests {
    pub(super) code: Arc<Code>,
    /// Components in use.
    pub(super) shelf: Arc<Shelf>,
    pub(super) plain: Linker<Ctx>,
    pub(super) with_wasi: Linker<Ctx>,
    pub(super) limits: Arc<Limits>,
    pub(super) env: Arc<dyn Env>,
    /// Where guests run.
    pub(super) threads: Arc<Threads>,
    /// Charms are described one at a time: that takes the one slot that no turn has.
    pub(super) describing: tokio::sync::Mutex<()>,
}

impl Guests {
    /// Starts the engine; compiled code is kept in `cache` when there is one, and made by `compiler`.
    ///
    /// # Errors
    /// When the limits do not fit the machine.
    pub fn start(
        limits: Arc<Limits>,
        cache: Option<&Path>,
        compiler: Option<Compiler>,
        threads: Threads,
        env: Arc<dyn Env>,
    ) -> Result<Guests, String> {
        let threads = Arc::new(threads);
        let build = || -> wasmtime::Result<Guests> {
            let code = Arc::new(Code::start(limits.clone(), cache, compiler)?);
            let mut plain = Linker::new(code.engine());
            Charm::add_to_linker::<Ctx, HasSelf<Ctx>>(&mut plain, |ctx| ctx)?;
            let mut with_wasi = plain.clone();
            wasi::add_to_linker(&mut with_wasi)?;
            let (limits, env, threads) = (limits.clone(), env.clone(), threads.clone());
            let (shelf, describing) = Default::default();
            Ok(Guests { code, shelf, plain, with_wasi, limits, env, threads, describing })
        };
        let guests = build().map_err(|error| clip(&format!("{error:#}"), 512).into_owned())?;
        let engine = guests.code.engine().weak();
        env.tick(
            TICK,
            Box::new(move || match engine.upgrade() {
                Some(engine) => {
                    engine.increment_epoch();
                    threads.tick();
                    true
                }
                None => false,
            }),
        );
        Ok(guests)
    }

    /// Marks nothing from now on: the host ends.
    pub fn close(&self) {
        self.threads.close();
    }

    /// Returns a store for one attempt, and what its time on threads is counted with.
    pub(super) fn store(&self, ctx: Ctx) -> (Store<Ctx>, Arc<OnThread>) {
        let (limits, on_thread) = (ctx.limits().clone(), OnThread::new(self.env.clone()));
        // A replay is bounded, but not by what the first run had left.
        let replay = ctx.recording.fuel_before().map(|fuel| fuel.saturating_mul(2).saturating_add(REPLAY_FUEL));
        let fuel = replay.unwrap_or(limits.fuel_max);
        let mut store = Store::new(self.code.engine(), ctx);
        store.limiter(|ctx| ctx);
        arm(&mut store, on_thread.clone(), fuel, limits.fuel_slice).expect("the engine is configured with fuel");
        store.set_hostcall_fuel(limits.hostcall_bytes_max);
        store.set_max_component_handles(limits.handles_max);
        let (time_max, time) = (Duration::from_millis(limits.compute_ms_max), on_thread.clone());
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |mut store| {
            let ctx = store.data_mut();
            ctx.tick();
            let spent = time.spent().saturating_sub(ctx.account.since());
            let over = spent > time_max && !ctx.recording.is_replaying();
            if over { Err(Trap::Interrupt.into()) } else { Ok(UpdateDeadline::Yield(1)) }
        });
        (store, on_thread)
    }

    /// Calls `handle` on a fresh instance. Always runs to its end: a guest is stopped by a trap, never by
    /// dropping the call.
    pub async fn handle(&self, Loaded { prepared, .. }: &Loaded, lent: Lent, facts: Facts, queued: &Queued) -> End {
        let mut ctx = Ctx::turn(self.limits.clone(), lent, facts);
        if prepared.wasi {
            ctx.give_wasi();
        }
        let (mut store, on_thread) = self.store(ctx);
        let (result, misfit) = {
            // What runs is large: it stays where it is made.
            let turn = pin!(self.turn(prepared, &mut store, queued));
            let turn = pin!(on_thread.run(turn));
            self.threads.run(work_of(queued), || on_thread.had(), turn).await
        };
        let left = store.get_fuel().unwrap_or_default();
        let (fuel, took) = store.data().account.taken(left, store.data().recording.fuel_before());
        self.look_at_replay(&mut store, &result);
        let ctx = store.data_mut();
        let is_segment = ctx.ends_with_wait(&result);
        // Without fuel it asks for nothing more.
        let asks = is_refused(&result) && !is_segment && ctx.recording.differs().is_none();
        let waits = if asks { ctx.waits() } else { None };
        let needs = asks && ctx.needs_more();
        // A rerun after a conflict may tell something else: it tells all.
        let told = if waits.is_some() || needs { ctx.log.wait() } else { 0 };
        let misses = ctx.tx.as_mut().map(|tx| tx.take_misses()).unwrap_or_default();
        let (outbound, recording) = (ctx.outbound.take().unwrap_or_default(), std::mem::take(&mut ctx.recording));
        let ended = match (waits, ctx.tx.take(), recording.differs(), misfit, result) {
            (Some(waits), ..) => waits,
            (_, Some(tx), ..) if tx.is_lost() => Ended::Beaten(Cause::Lost { max: self.limits.old_versions_bytes_max }),
            (_, Some(tx), ..) if needs => Ended::Needs(tx),
            (_, _, Some(why), ..) => Ended::Fault(Fault::new(format!("nondeterminism: {why}"))),
            (_, _, _, Some(misfit), _) => Ended::Fault(Fault::new(misfit)),
            (_, Some(tx), ..) if is_segment => Ended::Segment(tx),
            (.., Ok(Err(text))) => Ended::Rejected(clip(&text, MESSAGE_BYTES_MAX).into_owned()),
            (_, Some(tx), _, _, Ok(Ok(()))) => Ended::Done(tx),
            (.., Err(error)) => Ended::Fault(Fault::explain(&error, &store, &self.limits)),
            _ => Ended::Fault(Fault::new("the instance did not start")),
        };
        End { ended, outbound, recording, told, fuel, took, misses }
    }

    /// Runs the handler and, when it returned ok, checks what it leaves written; says what of that does not fit.
    async fn turn(&self, prepared: &Prepared, store: &mut Store<Ctx>, queued: &Queued) -> (Called, Option<String>) {
        let ended = self.call(prepared, store, queued).await;
        if !matches!(ended, Ok(Ok(()))) && !store.data().ends_with_wait(&ended) {
            return (ended, None);
        }
        match self.check_written(store).await {
            Ok(misfit) => (ended, misfit),
            Err(trap) => (Err(trap), None),
        }
    }

    /// Runs a derivation of a charm on a fresh instance, in a transaction that only reads. To its end, as `handle`.
    pub async fn derive(&self, loaded: &Loaded, tx: Box<Transaction>, name: &str, shape: &Shape) -> Derived {
        let work = Work::Describe { component: loaded.hash };
        let mut ctx = Ctx::derivation(self.limits.clone(), tx, name);
        if loaded.prepared.wasi {
            ctx.give_wasi();
        }
        let (mut store, on_thread) = self.store(ctx);
        let called = {
            let run = pin!(on_thread.run(self.run_derivation(&loaded.prepared, &mut store, name)));
            self.threads.run(work, || on_thread.had(), run).await
        };
        self.threads.suspects().clear(&work);
        let fuel = self.limits.fuel_max.saturating_sub(store.get_fuel().unwrap_or_default());
        let is_passing = called.as_ref().is_err_and(|error| {
            error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) || error.is::<PoolConcurrencyLimitError>()
        });
        let value = match called {
            Ok(Ok(bytes)) => self.derived_value(&bytes, shape),
            Ok(Err(text)) => Err(clip(&text, MESSAGE_BYTES_MAX).into_owned()),
            Err(error) => Err(Fault::explain(&error, &store, &self.limits).message),
        };
        let tx = store.into_data().tx;
        let value = tx.as_ref().filter(|tx| !tx.needs_more() && !tx.is_lost()).map(|_| value);
        Derived { value, is_passing, tx, fuel }
    }

    /// Returns whether processes have died under a component: it does not run until the operator lets it.
    pub fn is_held(&self, loaded: &Loaded) -> bool {
        self.threads.suspects().is_held(&Work::Describe { component: loaded.hash })
    }

    fn derived_value(&self, bytes: &[u8], shape: &Shape) -> Result<Tree, String> {
        let value = Value::from_bytes(bytes, self.limits.value_bytes_max, VALUE_DEPTH_MAX)
            .map_err(|error| format!("returned no value: {error}"))?;
        let mut steps = SHAPE_STEPS_MAX;
        shape
            .check_within(&value, &mut steps)
            .map_err(|misfit| format!("returned what does not fit its shape: {misfit}"))?;
        Ok(Tree::new(value))
    }

    async fn run_derivation(
        &self,
        prepared: &Prepared,
        store: &mut Store<Ctx>,
        name: &str,
    ) -> wasmtime::Result<Result<Vec<u8>, String>> {
        let derive = prepared.derive.as_ref().ok_or_else(|| wasmtime::Error::msg("exports no derivations"))?;
        let instance = prepared.pre.instance_pre().instantiate_async(&mut *store).await?;
        let derive = instance
            .get_func(&mut *store, derive)
            .ok_or_else(|| wasmtime::Error::msg("exports no derivations"))?
            .typed::<(&str,), (Result<Vec<u8>, String>,)>(&mut *store)?;
        let (derived,) = derive.call_async(&mut *store, (name,)).await?;
        Ok(derived)
    }

    /// Notes what is wrong with a replay that has ended before it was over.
    fn look_at_replay(&self, store: &mut Store<Ctx>, result: &Called) {
        if !store.data().recording.is_replaying() {
            return;
        }
        let trap = result.as_ref().err().and_then(|error| error.downcast_ref::<Trap>().copied());
        let fault = result.as_ref().err().map(|error| Fault::explain(error, store, &self.limits).message);
        let recording = &mut store.data_mut().recording;
        match trap {
            Some(Trap::OutOfFuel) => recording.runs_away(),
            _ => recording.ended(fault.as_deref()),
        }
    }

    /// Checks the written cells against their declared shapes, one by one, from the turn's own fuel and in slices.
    async fn check_written(&self, store: &mut Store<Ctx>) -> wasmtime::Result<Option<String>> {
        let mut since = 0;
        while let Some(tx) = &mut store.data_mut().tx
            && let Some((name, bytes)) = tx.finish_next()
        {
            since += cost::kept(bytes);
            if since >= self.limits.fuel_slice / 8 {
                since = 0;
                breathe().await;
            }
            let (checked, cost) = match &store.data().tx {
                Some(tx) => tx.check_written(&name),
                None => (Ok(()), 0),
            };
            pay(store, cost::kept(bytes) + cost)?;
            if let Err(misfit) = checked {
                return Ok(Some(misfit));
            }
            since += cost;
        }
        Ok(None)
    }

    async fn call(&self, prepared: &Prepared, store: &mut Store<Ctx>, queued: &Queued) -> Called {
        let charm = prepared.pre.instantiate_async(&mut *store).await?;
        let event = &queued.event;
        charm.charm_host_guest().call_handle(&mut *store, &event.stream, &event.payload.as_bytes().to_vec()).await
    }
}
