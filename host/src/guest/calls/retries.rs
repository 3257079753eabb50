//! `wit/retries.wit` (S13). Ends the attempt: see `Ended::Retry`.

use super::{CallError, called};
use crate::{
    cost,
    guest::{bindings::charm::host::retries, ctx::Ctx},
    recording::{Kind, asked},
};

impl retries::Host for Ctx {
    fn count(&mut self) -> wasmtime::Result<u32> {
        called("retries.count");
        self.charge(cost::CALL);
        Ok(self.facts()?.sees.retries)
    }

    fn retry_after(&mut self, after_ms: u64) -> Result<(), CallError> {
        called("retries.retry-after");
        self.charge(cost::CALL + cost::WAIT);
        let retry = |ctx: &mut Ctx| {
            ctx.tx()?.retry_after(after_ms)?;
            Err(CallError::Trap(wasmtime::Error::msg("is to be tried again")))
        };
        self.recorded(Kind::Retry, || asked(Kind::Retry, &[&after_ms.to_be_bytes()]), retry)
    }
}
