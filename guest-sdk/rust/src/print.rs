//! `println!` and its like for charms: `std`'s go nowhere on wasm.

use std::fmt::{Arguments, Debug};

use crate::host::{self, Level};

/// Writes words to the log; in a test also to where `std` prints, and there alone outside of a handler.
#[doc(hidden)]
pub fn printed(is_error: bool, words: Arguments<'_>) {
    let words = words.to_string();
    let words = words.strip_suffix('\n').unwrap_or(&words);
    #[cfg(not(target_arch = "wasm32"))]
    {
        #[allow(clippy::print_stdout, reason = "the test's own output, as `std` would print it")]
        {
            std::println!("{words}");
        }
        if !crate::testing::calls::in_turn() {
            return;
        }
    }
    host::log(if is_error { Level::Warn } else { Level::Info }, words);
}

/// What `dbg!` shows of one expression.
#[doc(hidden)]
#[derive(Debug)]
pub struct Dbg;

impl Dbg {
    /// Shows a value and returns it.
    pub fn show<T: Debug>(self, file: &str, line: u32, expression: &str, value: T) -> T {
        printed(true, format_args!("[{file}:{line}] {expression} = {value:?}"));
        value
    }
}

/// Writes a line to the log, as [`log::info`](crate::log::info). Takes what `std::println!` takes.
///
/// # Examples
/// ```
/// use charm_sdk::println;
///
/// fn tell(count: usize) {
///     println!("found {count} messages");
/// }
/// # tell(2);
/// ```
#[macro_export]
macro_rules! println {
    () => { $crate::printed(false, ::core::format_args!("")) };
    ($($words:tt)*) => { $crate::printed(false, ::core::format_args!($($words)*)) };
}

/// Writes words to the log: a line of their own, as [`println!`](crate::println).
#[macro_export]
macro_rules! print {
    ($($words:tt)*) => { $crate::printed(false, ::core::format_args!($($words)*)) };
}

/// Writes a line to the log, as [`log::warn`](crate::log::warn). Takes what `std::eprintln!` takes.
#[macro_export]
macro_rules! eprintln {
    () => { $crate::printed(true, ::core::format_args!("")) };
    ($($words:tt)*) => { $crate::printed(true, ::core::format_args!($($words)*)) };
}

/// Writes words to the log: a line of their own, as [`eprintln!`](crate::eprintln).
#[macro_export]
macro_rules! eprint {
    ($($words:tt)*) => { $crate::printed(true, ::core::format_args!($($words)*)) };
}

/// Writes an expression and its value to the log, as [`log::warn`](crate::log::warn), and returns the value.
#[macro_export]
macro_rules! dbg {
    () => { $crate::printed(true, ::core::format_args!("[{}:{}]", ::core::file!(), ::core::line!())) };
    ($value:expr $(,)?) => {
        $crate::Dbg.show(::core::file!(), ::core::line!(), ::core::stringify!($value), $value)
    };
    ($($value:expr),+ $(,)?) => { ($($crate::dbg![$value]),+,) };
}
