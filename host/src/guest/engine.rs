//! The engine: one configuration for all charms, and calls on fresh instances.

use std::{path::Path, pin::pin, sync::Arc, time::Duration};

use wasmtime::{
    Store, Trap, UpdateDeadline,
    component::{HasSelf, Linker},
};

use super::{
    Compiler, End, Ended, Fault, Lent,
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
    limits::{Limits, MESSAGE_BYTES_MAX},
    recording::Recording,
    rows::Queued,
    suspects::work_of,
    text::clip,
};

/// How often running guests are interrupted to look at their time and let others run.
const TICK: Duration = Duration::from_millis(10);
/// What a replay may take beside twice the fuel of the first run.
const REPLAY_FUEL: u64 = 10_000_000;

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
        let armed = self.armed(&ctx.recording).unwrap_or(limits.fuel_max);
        let mut store = Store::new(self.code.engine(), ctx);
        store.limiter(|ctx| ctx);
        arm(&mut store, on_thread.clone(), armed, limits.fuel_slice).expect("the engine is configured with fuel");
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
        let armed = self.armed(&lent.recording);
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
        let (fuel, took) = match (armed, store.data().account.replayed()) {
            (None, _) => (self.limits.fuel_max - left, self.limits.fuel_max - left),
            (Some(_), Some(replayed)) => {
                let before = store.data().recording.fuel_before().unwrap_or_default();
                let fuel = self.limits.fuel_max.max(before) - left;
                (fuel, replayed + fuel.saturating_sub(before))
            }
            // It is still in its replay.
            (Some(armed), None) => (store.data().recording.fuel_before().unwrap_or_default(), armed - left),
        };
        let is_trap = result.as_ref().is_err_and(|error| error.is::<Trap>());
        self.look_at_replay(&mut store, &result);
        // Without fuel it asks for nothing more.
        if result.is_err() && !is_trap && store.data().recording.differs().is_none() {
            let ctx = store.data_mut();
            let segment = ctx.tx.take_if(|tx| tx.waits() && !tx.is_lost());
            let ended = match (segment, misfit.clone()) {
                (Some(_), Some(why)) => Some(Ended::Fault(Fault::new(why))),
                (Some(tx), None) => Some(Ended::Segment(tx)),
                (None, _) => ctx.waits(),
            };
            if let Some(ended) = ended {
                let runs_again = matches!(ended, Ended::Waits | Ended::Full(_));
                let told = if runs_again { ctx.log.wait() } else { 0 };
                let outbound = ctx.outbound.take().unwrap_or_default();
                let recording = std::mem::take(&mut ctx.recording);
                return End { ended, outbound, recording, told, fuel, took };
            }
        }
        let fault = match &result {
            Err(error) => Some(Fault::explain(error, &store, &self.limits)),
            Ok(_) => None,
        };
        let Ctx { tx, outbound, recording, .. } = store.data_mut();
        let (tx, outbound, recording) = (tx.take(), outbound.take(), std::mem::take(recording));
        let ended = match (result, fault, tx) {
            (_, _, Some(tx)) if tx.is_lost() => Ended::Lost,
            _ if recording.differs().is_some() => {
                let why = recording.differs().unwrap_or_default();
                Ended::Fault(Fault::new(format!("nondeterminism: {why}")))
            }
            (Ok(Err(text)), ..) => Ended::Rejected(clip(&text, MESSAGE_BYTES_MAX).into_owned()),
            (Ok(Ok(())), _, Some(tx)) => match misfit {
                None => Ended::Done(tx),
                Some(why) => Ended::Fault(Fault::new(why)),
            },
            (_, fault, _) => Ended::Fault(fault.unwrap_or_else(|| Fault::new("the instance did not start"))),
        };
        // A rerun after a conflict may tell something else: it tells all.
        End { ended, outbound: outbound.unwrap_or_default(), recording, told: 0, fuel, took }
    }

    /// Runs the handler and, when it returned ok, checks what it leaves written; says what of that does not fit.
    async fn turn(
        &self,
        prepared: &Prepared,
        store: &mut Store<Ctx>,
        queued: &Queued,
    ) -> (wasmtime::Result<Result<(), String>>, Option<String>) {
        let ended = self.call(prepared, store, queued).await;
        let waits = ended.as_ref().is_err_and(|error| !error.is::<Trap>()) && store.data().is_segment();
        if !matches!(ended, Ok(Ok(()))) && !waits {
            return (ended, None);
        }
        match self.check_written(store).await {
            Ok(misfit) => (ended, misfit),
            Err(trap) => (Err(trap), None),
        }
    }

    /// Returns the fuel that a replay is given; none for a turn that begins.
    fn armed(&self, recording: &Recording) -> Option<u64> {
        recording.fuel_before().map(|fuel| fuel.saturating_mul(2).saturating_add(REPLAY_FUEL))
    }

    /// Notes what is wrong with a replay that has ended before it was over.
    fn look_at_replay(&self, store: &mut Store<Ctx>, result: &wasmtime::Result<Result<(), String>>) {
        let ctx = store.data();
        if !ctx.recording.is_replaying() || ctx.recording.differs().is_some() || ctx.tx.is_none() {
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

    async fn call(
        &self,
        prepared: &Prepared,
        store: &mut Store<Ctx>,
        queued: &Queued,
    ) -> wasmtime::Result<Result<(), String>> {
        let charm = prepared.pre.instantiate_async(&mut *store).await?;
        let event = &queued.event;
        charm.charm_host_guest().call_handle(&mut *store, &event.stream, &event.payload.as_bytes().to_vec()).await
    }
}
