//! Words for the operator. They are kept also when the turn is thrown away. Cut at 1 KiB; keep secrets out.
//!
//! # Examples
//! ```
//! use charm_sdk::prelude::*;
//!
//! fn tell(count: usize) {
//!     log::info(format_args!("found {count} messages"));
//! }
//! # let _ = tell;
//! ```

use std::fmt::Display;

use crate::host::{self, Level};

/// Logs what helps to find a mistake.
pub fn debug(words: impl Display) {
    host::log(Level::Debug, &words.to_string());
}

/// Logs what is worth knowing.
pub fn info(words: impl Display) {
    host::log(Level::Info, &words.to_string());
}

/// Logs what somebody should look at.
pub fn warn(words: impl Display) {
    host::log(Level::Warn, &words.to_string());
}

/// Logs what went wrong.
pub fn error(words: impl Display) {
    host::log(Level::Error, &words.to_string());
}
