//! The engine: one configuration for all charms, and calls on fresh instances.

use std::{path::Path, sync::Arc, time::Duration};

use wasmtime::{
    Engine, Store, Trap, UpdateDeadline,
    component::{HasSelf, Linker},
};

use super::{
    End, Fault, Outcome,
    bindings::Charm,
    config::config,
    ctx::{Ctx, Facts},
    load::Prepared,
    wasi,
};
use crate::{
    env::Env,
    error::clip,
    http::Outbound,
    limits::{Limits, MESSAGE_BYTES_MAX},
    store::Queued,
    tx::Transaction,
};

/// How often running guests are interrupted to look at their time and let others run.
const TICK: Duration = Duration::from_millis(10);

/// Loads components and runs calls.
pub struct Guests {
    pub(super) engine: Engine,
    pub(super) plain: Linker<Ctx>,
    pub(super) with_wasi: Linker<Ctx>,
    pub(super) limits: Arc<Limits>,
    /// Charms are described one at a time: that takes the one slot that no turn has.
    pub(super) describing: tokio::sync::Mutex<()>,
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

    pub(super) fn store(&self, ctx: Ctx) -> Store<Ctx> {
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
            (_, _, Some(tx)) if tx.is_lost() => Outcome::Lost,
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
