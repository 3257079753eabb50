//! `wit/log.wit`.

use super::{CallError, called};
use crate::{
    cost,
    guest::{bindings::charm::host::log, ctx::Ctx},
    recording::{Kind, asked},
};

impl log::Host for Ctx {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        called("log.log");
        self.charge(cost::CALL + cost::LOG_LINE + cost::scanned(message.len()));
        let level = match level {
            log::Level::Debug => tracing::Level::DEBUG,
            log::Level::Info => tracing::Level::INFO,
            log::Level::Warn => tracing::Level::WARN,
            log::Level::Error => tracing::Level::ERROR,
        };
        let asked = || asked(Kind::Log, &[level.as_str().as_bytes(), message.as_bytes()]);
        let line = |ctx: &mut Ctx| {
            ctx.log.line(level, &message);
            Ok(())
        };
        self.recorded(Kind::Log, asked, line).map_err(CallError::into_trap)
    }

    fn panicked(&mut self, message: String) -> wasmtime::Result<()> {
        called("log.panicked");
        self.charge(cost::CALL + cost::LOG_LINE + cost::scanned(message.len()));
        Ctx::panicked(self, &message);
        Ok(())
    }
}
