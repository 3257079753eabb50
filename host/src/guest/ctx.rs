//! What one instance can reach: the turn's transaction, its outbound HTTP, and facts that never change in a turn.

use std::sync::Arc;

use wasmtime::{ResourceLimiter, component::ResourceTable};

use super::{
    Ended, Lent,
    budget::Account,
    calls::CallError,
    engine::{Called, is_refused},
    log::{Log, Speaker},
    wasi::Wasi,
};
use crate::{
    cell::CellId,
    cost,
    did::Did,
    event::EventId,
    http::Outbound,
    limits::{Limits, PANIC_BYTES_MAX},
    path::Path,
    recording::{Recording, Sees},
    text::clip,
    tx::Transaction,
};

/// What a turn may know about itself (`wit/context.wit`).
#[derive(Clone, Debug)]
pub struct Facts {
    /// The charm.
    pub charm: Did,
    /// Who sent the event.
    pub sender: Did,
    /// The event.
    pub event: EventId,
    /// What else it sees; the same in every rerun.
    pub sees: Sees,
}

/// A guest's handle to a cell, or to a place in one. Gives no right by itself.
#[derive(Clone)]
pub struct CellHandle {
    /// The cell.
    pub cell: CellId,
    /// Where its paths begin.
    pub base: Path,
}

/// A guest's handle to a stream. Gives no right by itself.
pub struct StreamHandle {
    /// Whose.
    pub owner: Did,
    /// The stream.
    pub name: Arc<str>,
}

/// The state of one instance; dropped with it.
pub struct Ctx {
    /// None while a charm is described.
    pub tx: Option<Box<Transaction>>,
    /// None while a charm is described.
    pub outbound: Option<Outbound>,
    /// What the turn knows about itself.
    pub facts: Option<Facts>,
    /// Live handles.
    pub table: ResourceTable,
    /// State of the turn's random sequence; none before the first use.
    random: Option<u64>,
    /// What the guest says.
    pub log: Log,
    /// What the guest said before it trapped.
    pub panic: Option<String>,
    /// What the turn is told, and was told before it waited.
    pub recording: Recording,
    /// What its host calls cost.
    pub account: Account,
    /// The bound that made a growth fail, if one did.
    pub over: Option<&'static str>,
    /// Only for components that import WASI; made at the first use.
    pub wasi: Option<Box<Wasi>>,
    limits: Arc<Limits>,
    memory_bytes: usize,
    table_elements: usize,
}

impl Ctx {
    /// Returns the state of an instance that may do nothing but log.
    pub fn bare(limits: Arc<Limits>, speaker: Speaker) -> Ctx {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles_max);
        Ctx {
            tx: None,
            outbound: None,
            facts: None,
            table,
            random: None,
            log: Log::new(speaker, limits.log_bytes_max),
            panic: None,
            recording: Recording::default(),
            account: Account::default(),
            over: None,
            wasi: None,
            limits,
            memory_bytes: 0,
            table_elements: 0,
        }
    }

    /// Returns the state of an instance that handles an event.
    pub fn turn(limits: Arc<Limits>, lent: Lent, facts: Facts) -> Ctx {
        let Lent { tx, outbound, recording, told } = lent;
        let speaker = Speaker::Turn(facts.charm, facts.event);
        let share = tx.log_share();
        let bare = Ctx::bare(limits, speaker);
        let mut ctx = Ctx { tx: Some(tx), outbound: Some(outbound), facts: Some(facts), recording, ..bare };
        (ctx.log.share, ctx.log.told, ctx.log.muted) = (share, told, ctx.recording.is_replaying());
        ctx
    }

    /// Returns the state of an instance that computes the derived cell of that name.
    pub fn derivation(limits: Arc<Limits>, tx: Box<Transaction>, name: &str) -> Ctx {
        let (share, speaker) = (tx.log_share(), Speaker::Derive(tx.writer(), name.to_owned()));
        let mut ctx = Ctx { tx: Some(tx), ..Ctx::bare(limits, speaker) };
        ctx.log.share = share;
        ctx
    }

    /// Notes that the guest is left because of a tick.
    pub fn tick(&mut self) {
        self.account.tick();
    }

    /// Adds to what the present host call costs.
    pub fn charge(&mut self, cost: u64) {
        self.account.charge(cost);
    }

    /// Returns what host calls have cost since this was last asked.
    pub fn take_cost(&mut self) -> u64 {
        let staged = self.tx.as_mut().map_or(0, |tx| tx.take_cost());
        let random = self.wasi.as_ref().map_or(0, |wasi| wasi.take_random());
        self.account.take().saturating_add(staged).saturating_add(random * cost::RANDOM_BYTE)
    }

    /// Returns what an attempt that has ended waits for: the answer to a request, room, or time before it is tried again.
    pub fn waits(&self) -> Option<Ended> {
        let tx = self.tx.as_ref().filter(|tx| !tx.is_lost())?;
        if let Some(room) = tx.room() {
            return Some(Ended::Full(room.clone()));
        }
        if let Some(after_ms) = tx.retry() {
            return Some(Ended::Retry(after_ms));
        }
        self.outbound.as_ref()?.seen().map(|_| Ended::Waits)
    }

    /// Returns whether an attempt that has ended needs derived cells that are not ready.
    pub fn needs_more(&self) -> bool {
        self.tx.as_ref().is_some_and(|tx| tx.needs_more() && !tx.is_lost())
    }

    /// Returns whether a call that came to that ended with a wait for what the turn has sent.
    pub fn ends_with_wait(&self, called: &Called) -> bool {
        let waits = self.tx.as_ref().is_some_and(|tx| tx.waits() && !tx.is_lost());
        waits && is_refused(called) && self.recording.differs().is_none()
    }

    /// Returns the bounds of the instance.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Returns the turn's transaction.
    ///
    /// # Errors
    /// A trap while the charm is described: there is no transaction then. A trap when its snapshot was given back.
    pub fn tx(&mut self) -> Result<&mut Transaction, CallError> {
        let tx = self.tx.as_mut().ok_or_else(CallError::outside_turn)?;
        if tx.is_lost() { Err(CallError::lost()) } else { Ok(tx) }
    }

    /// Returns how many handles may be open at once.
    pub fn handles_max(&self) -> usize {
        self.limits.handles_max
    }

    /// Returns the turn's facts.
    ///
    /// # Errors
    /// A trap while the charm is described, and in a derivation.
    pub fn facts(&self) -> wasmtime::Result<&Facts> {
        self.facts.as_ref().ok_or_else(|| {
            let is_derivation = self.tx.is_some();
            wasmtime::Error::msg(if is_derivation { CallError::IN_DERIVATION } else { CallError::OUTSIDE_TURN })
        })
    }

    /// Returns the next 64 bits of the turn's randomness (SplitMix64, Steele et al. 2014).
    pub fn next_random(&mut self) -> u64 {
        let before = self.random.unwrap_or_else(|| self.seed());
        let mut bits = before.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random = Some(bits);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Returns the seed of the turn's randomness, the same in every rerun; 0 while a charm is described.
    fn seed(&self) -> u64 {
        let turn = self.tx.as_ref().zip(self.facts.as_ref());
        turn.map_or(0, |(tx, facts)| tx.seed(&facts.event))
    }

    /// Gives the guest what it imports of WASI.
    pub fn give_wasi(&mut self) {
        let time_ms = self.facts.as_ref().map_or(0, |facts| facts.sees.time_ms);
        self.wasi = Some(Wasi::new(time_ms, self.seed(), self.log.output()));
    }

    /// Lets the guest see this from here on: a wait is behind it.
    pub fn see(&mut self, sees: Sees) {
        self.facts.iter_mut().for_each(|facts| facts.sees = sees);
        self.wasi.iter().for_each(|wasi| wasi.set_time(sees.time_ms));
    }

    /// Ends a replay: what comes is live and sees this, with what the first run had left of its fuel.
    pub fn go_on(&mut self, sees: Sees, fuel: u64) {
        self.see(sees);
        self.account.restore(self.limits.fuel_max.saturating_sub(fuel));
        self.log.unmute();
        self.tx.iter_mut().for_each(|tx| tx.renew());
    }

    /// Keeps the text of a panic for the diagnosis.
    pub fn panicked(&mut self, text: &str) {
        self.panic = Some(clip(text, PANIC_BYTES_MAX).into_owned());
    }
}

impl ResourceLimiter for Ctx {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.limits.memory_bytes_max {
            self.over = Some("memory-bytes-max");
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > self.limits.table_elements_max {
            self.over = Some("table-elements-max");
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }
}
