//! `cargo xtask bench`: what the host costs, every figure beside its floor, taken in the same run.
//!
//! A floor is what the same work costs without a host: the same bytes appended to a file and synced, the same guest on bare
//! wasmtime. Rounds of both take turns, so that a slow moment hits both; figures are medians over the rounds. Nothing fails
//! because a machine is slow. Without `--bench`, as in `cargo test`, sizes are tiny and only whether it works is looked at.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a bench measures and prints"
)]

mod bare;
mod child;
mod density;
mod derived;
mod disk;
mod durable;
mod edit;
mod family;
mod growth;
mod peers;
mod receipt;
mod recovery;
mod report;
mod scale;
mod stall;
mod store;
mod turn;
mod waits;
mod world;

use futures_util::future::{BoxFuture, FutureExt};

use crate::{report::Report, scale::Scale};

type Run = for<'a> fn(Scale, &'a mut Report) -> BoxFuture<'a, ()>;

/// Every bench: its name, with which those of its figures begin, and what it does. The last runs only when it is asked for.
const BENCHES: [(&str, Run); 12] = [
    ("turn", |scale, report| turn::run(scale, report).boxed()),
    ("durable/journal", |scale, report| durable::run(scale, report).boxed()),
    ("receipt", |scale, report| receipt::run(scale, report).boxed()),
    ("stall", |scale, report| stall::run(scale, report).boxed()),
    ("write/edit", |scale, report| edit::run(scale, report).boxed()),
    ("recovery", |scale, report| recovery::run(scale, report).boxed()),
    ("derived", |scale, report| derived::run(scale, report).boxed()),
    ("density", |scale, report| density::run(scale, report).boxed()),
    ("wait", |scale, report| waits::run(scale, report).boxed()),
    ("growth", |scale, report| growth::run(scale, report).boxed()),
    ("family", |scale, report| family::run(scale, report).boxed()),
    ("peers", |scale, report| peers::run(scale, report).boxed()),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == child::WORD) {
        return child::run(&arguments[1..]);
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let scale = match (has("--bench"), has("--quick"), has("--full")) {
        (false, ..) => Scale::Smoke,
        (_, true, _) => Scale::Quick,
        (_, _, true) => Scale::Full,
        _ => Scale::Usual,
    };
    let names: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let chosen = |bench: &str| {
        if scale == Scale::Smoke {
            return names.is_empty();
        }
        let peers = bench == "peers";
        if peers || names.is_empty() {
            peers == has("--peers")
        } else {
            names.iter().any(|name| bench.starts_with(name))
        }
    };
    let mut report = Report::new(has("--json"), scale);
    for (name, run) in BENCHES.into_iter().filter(|(name, _)| chosen(name)) {
        // A runtime of its own: nothing of one bench runs beside the next.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(run(scale, &mut report));
        assert!(scale != Scale::Smoke || report.begins_with(name), "{name} gave no figure");
    }
}
