//! Why a guest was stopped: codes and bounded text, never a backtrace or guest-chosen names (T7).

use wasmtime::{Store, Trap, component::ResourceTableError};

use super::ctx::Ctx;
use crate::{limits::Limits, text::clip};

/// A failure that the guest caused. Its turn leaves nothing behind (T6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// For the receipt and the dead letter.
    pub message: String,
}

impl Fault {
    /// Returns the fault of a turn that ended against a rule.
    pub fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into() }
    }

    /// Explains why a call into the guest ended.
    pub fn explain(error: &wasmtime::Error, store: &Store<Ctx>, limits: &Limits) -> Fault {
        let ctx = store.data();
        if let Some(trap) = error.downcast_ref::<Trap>() {
            return Fault::new(match (trap, &ctx.panic, ctx.over) {
                (Trap::OutOfFuel, ..) => {
                    format!("over fuel-max {}: an endless loop, or more work than one turn may do", limits.fuel_max)
                }
                (Trap::Interrupt, ..) => {
                    format!(
                        "over compute-ms-max {}: more work than one turn may do on this machine",
                        limits.compute_ms_max
                    )
                }
                (Trap::StackOverflow, ..) => {
                    format!("over stack-bytes-max {}: recursion too deep, or without an end", limits.stack_bytes_max)
                }
                (_, _, Some(bound)) => format!("over {bound} {}", bound_of(bound, limits)),
                (_, Some(text), _) => format!("panicked: {text}"),
                // The text of a trap code is wasmtime's own.
                (trap, ..) => format!("trapped: {}", trap.to_string().trim_start_matches("wasm trap: ")),
            });
        }
        let text = error.to_string();
        // The engine has no type for the latter: a handle counts once more while it is lent to a call.
        if matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full))
            || text.ends_with("store handle limit exceeded")
        {
            return Fault::new(format!(
                "over handles-max {}: drop handles that are not used any more, or lend fewer at once",
                limits.handles_max
            ));
        }
        if text.contains("fuel") {
            return Fault::new(format!("over hostcall-bytes-max {}: pass less at once", limits.hostcall_bytes_max));
        }
        Fault::new(clip(&text, 256).into_owned())
    }
}

fn bound_of(name: &str, limits: &Limits) -> usize {
    match name {
        "memory-bytes-max" => limits.memory_bytes_max,
        _ => limits.table_elements_max,
    }
}
