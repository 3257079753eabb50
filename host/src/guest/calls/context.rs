//! `wit/context.wit` (A1: no clock but the turn's, no randomness but the turn's).

use super::{CallError, called};
use crate::{
    cost,
    guest::{bindings::charm::host::context, ctx::Ctx},
};

impl context::Host for Ctx {
    fn self_did(&mut self) -> wasmtime::Result<String> {
        called("context.self");
        self.charge(cost::CALL + cost::DID_SHOWN);
        let own = match &self.facts {
            Some(facts) => facts.charm,
            None => self.tx.as_ref().ok_or_else(|| wasmtime::Error::msg(CallError::OUTSIDE_TURN))?.writer(),
        };
        Ok(own.to_string())
    }

    fn sender(&mut self) -> wasmtime::Result<String> {
        called("context.sender");
        self.charge(cost::CALL + cost::DID_SHOWN);
        Ok(self.facts()?.sender.to_string())
    }

    fn event(&mut self) -> wasmtime::Result<String> {
        called("context.event");
        self.charge(cost::CALL + cost::DID_SHOWN);
        Ok(self.facts()?.event.to_string())
    }

    fn time(&mut self) -> wasmtime::Result<u64> {
        called("context.time");
        self.charge(cost::CALL);
        Ok(self.facts()?.sees.time_ms)
    }

    fn random(&mut self) -> wasmtime::Result<u64> {
        called("context.random");
        self.charge(cost::CALL);
        self.facts()?;
        Ok(self.next_random())
    }
}
