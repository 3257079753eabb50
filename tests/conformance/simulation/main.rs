//! Chapter simulation: the whole host in a world that one seed makes. The clock, the randomness, the order of
//! steps and the disk under SQLite are simulated; scheduler, queue, committer, store, engine and guests are real.
//! Guests run in slices of fuel, so that turns overlap, and everything happens again in the same way.
//!
//! A run is a safety phase, in which processes fail on one disk one after the other, and a liveness phase, in
//! which nothing fails any more and everything must settle in a bounded number of steps. After each process the
//! store must keep every law and everything that was acknowledged.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod calendar;
mod disk;
mod model;
mod options;
mod run;
mod script;
mod seen;
mod times;
mod world;

use std::{
    any::Any,
    cell::Cell,
    path::PathBuf,
    sync::{
        Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
};

use charm_conformance::{root, seed, times};
use disk::Fault;
use options::{Options, Planned, Report};
use run::{Failure, run};

/// Lines of a story that are printed.
const STORY_LINES_MAX: usize = 40;

/// Returns what a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// Does work whose panics are told by whoever catches them.
fn silently<T>(work: impl FnOnce() -> T) -> T {
    thread_local!(static SILENT: Cell<bool> = const { Cell::new(false) });
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !SILENT.get() {
                usual(panic);
            }
        }));
    });
    SILENT.set(true);
    let done = work();
    SILENT.set(false);
    done
}

/// Writes a file that all runs share, whole or not at all; returns its path.
fn shared_file(name: &str, content: &[u8]) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let folder = root().join("target/tmp").join("simulation");
    let (file, number) = (folder.join(name), NUMBER.fetch_add(1, Ordering::Relaxed));
    if std::fs::read(&file).is_ok_and(|there| there == content) {
        return file;
    }
    std::fs::create_dir_all(&folder).unwrap();
    let fresh = folder.join(format!("{}-{number}.unfinished", std::process::id()));
    std::fs::write(&fresh, content).unwrap();
    std::fs::rename(&fresh, &file).unwrap();
    file
}

/// Runs it for each number, on two threads.
fn each(numbers: impl Iterator<Item = u64> + Send, work: impl Fn(u64) + Sync) {
    let numbers = Mutex::new(numbers);
    let next = || numbers.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(number) = next() {
                    work(number)
                }
            });
        }
    });
}

/// Runs it; a failure is made as small as it gets, and told.
fn must(options: &Options) -> Report {
    match run(options) {
        Ok(report) => report,
        Err(failure) => {
            let (options, Failure { what, story }) = shrunk(options.clone(), failure);
            let skipped = story.len().saturating_sub(STORY_LINES_MAX);
            eprintln!("story ({skipped} lines before):");
            story[skipped..].iter().for_each(|line| eprintln!("  {line}"));
            panic!("{what}\nagain with: {options:?}");
        }
    }
}

/// Looks for a smaller run that fails too.
fn shrunk(mut options: Options, mut failure: Failure) -> (Options, Failure) {
    let smaller = |options: &Options| {
        let mut list = vec![options.clone(); 13];
        list[0].rates.error = 0;
        list[1].rates.cut = 0;
        list[2].flip = 0;
        list[3].full = false;
        list[4].clock = false;
        list[5].network = 0;
        list[6].kill = 0;
        list[7].clients = options.clients.div_ceil(2);
        list[8].events = options.events.div_ceil(2);
        list[9].rates.kill = 0;
        list[10].prunes = 0;
        list[11].tight = false;
        list[12].derives = false;
        list.retain(|other| other != options);
        list
    };
    while let Some((fewer, worse)) =
        smaller(&options).into_iter().find_map(|fewer| Some((fewer.clone(), run(&fewer).err()?)))
    {
        (options, failure) = (fewer, worse);
    }
    (options, failure)
}

/// (T3-T6, T8, S1-S10, S13)
#[test]
fn whatever_fails_nothing_acknowledged_is_lost_and_in_the_end_everything_settles() {
    let first = seed();
    let total = Mutex::new(Report::default());
    each(first..first + times(200), |seed| {
        let report = must(&Options::from_seed(seed));
        let mut total = total.lock().unwrap();
        total.commits += report.commits;
        total.processes += report.processes;
        total.faults += report.faults;
        total.operations += report.operations;
        total.states += report.states;
        total.reruns += report.reruns;
        total.segments += report.segments;
        total.retried += report.retried;
        total.delayed += report.delayed;
        total.derived += report.derived;
        total.flips_found += report.flips_found;
        total.flips_harmless += report.flips_harmless;
        total.flips_cut += report.flips_cut;
        for (outcome, count) in report.outcomes {
            *total.outcomes.entry(outcome).or_default() += count;
        }
    });
    let total = total.into_inner().unwrap();
    eprintln!("{total:?}");
    assert!(total.faults > 0 && total.reruns > 0, "things go wrong");
    assert!(total.derived > total.commits / 50, "derived cells are read: {}", total.derived);
    assert!(total.segments > total.commits / 50, "turns wait: {} segments", total.segments);
    let settled = |outcome| total.outcomes.get(outcome).copied().unwrap_or(0);
    let times = [total.retried, total.delayed, settled("expired"), settled("cancelled")];
    assert!(times.iter().all(|count| *count > total.commits / 1_000), "times are waited for: {times:?}");
}

/// H1: as above, with pasts that go.
fn with_prunes(options: Options) -> Options {
    Options { prunes: 400, ..options }
}

/// (H1, T5, T8)
#[test]
fn a_past_that_goes_takes_nothing_else_along_whatever_operation_of_the_disk_fails() {
    for fault in [Fault::Error, Fault::Full, Fault::Kill] {
        sweep(Planned::Disk(fault), with_prunes);
    }
}

/// (H1, T5, T8)
#[test]
fn a_power_cut_at_any_operation_while_a_past_goes_loses_nothing_acknowledged() {
    sweep(Planned::Disk(Fault::Cut), |options| with_prunes(Options { variants: times(5), ..options }));
}

/// Lets the Nth operation fail, for N = 1, 2.. until a run has no fault any more.
fn sweep(planned: Planned, more: impl Fn(Options) -> Options + Sync) {
    let (seed, last, states) = (seed(), AtomicU64::new(u64::MAX), AtomicU64::new(0));
    each((1..).take_while(|number| *number < last.load(Ordering::Relaxed)), |number| {
        let report = must(&more(Options::planned(seed, number, planned)));
        states.fetch_add(report.states, Ordering::Relaxed);
        match planned {
            // Without a seal the process ends, a second one does the work, a third one finds nothing to do. The head of a
            // space is signed later.
            Planned::Sign => {
                let processes = 2..=2 + report.faults;
                assert!(processes.contains(&report.processes), "call {number}: {} processes", report.processes);
            }
            // One process does the work, a second one finds nothing to do.
            Planned::Call => {
                assert_eq!(report.processes, 2, "call {number}");
                assert!(report.bugs <= report.faults, "call {number}: {} turns", report.bugs);
            }
            Planned::Disk(_) => {}
        }
        if report.faults == 0 && report.operations < number {
            last.fetch_min(number, Ordering::Relaxed);
        }
    });
    let count = last.into_inner() - 1;
    assert!(count > 10, "the run is long enough: {count} operations");
    eprintln!("{planned:?}: {count} operations, {} states of the disk", states.into_inner());
}

/// (T5, T8)
#[test]
fn an_error_at_any_operation_of_the_disk_stops_the_host_or_is_survived() {
    sweep(Planned::Disk(Fault::Error), |options| options);
}

/// (T5, T8)
#[test]
fn a_full_disk_at_any_write_is_waited_out_or_stops_the_host() {
    sweep(Planned::Disk(Fault::Full), |options| options);
}

/// (T5, T8, S9)
#[test]
fn a_power_cut_at_any_operation_of_the_disk_loses_nothing_acknowledged() {
    sweep(Planned::Disk(Fault::Cut), |options| Options { variants: times(40), ..options });
}

/// A process that was killed leaves writes that the operating system shows but the disk does not have. What the
/// next process acknowledges on their ground must be durable all the same: here the power goes at once then. (T8, S9)
#[test]
fn a_power_cut_after_a_kill_at_any_operation_loses_nothing_that_was_acknowledged_in_between() {
    sweep(Planned::Disk(Fault::Kill), |options| Options { cut_at_ack: true, processes: 6, ..options });
}

/// (T6)
#[test]
fn a_panic_in_any_host_call_fails_that_turn_and_no_other() {
    sweep(Planned::Call, |options| Options { events: 8, ..options });
}

/// (I3, T8)
#[test]
fn a_signature_that_cannot_be_had_stops_the_host_or_is_made_later() {
    sweep(Planned::Sign, |options| options);
}

/// (T6, A5)
#[test]
fn a_turn_that_ends_anywhere_for_want_of_fuel_leaves_nothing_behind() {
    let seed = seed();
    let faulted = AtomicU64::new(0);
    each(1..=times(60), |step| {
        let fuel = 15_000 + 60_000 * step / times(60);
        assert!(fuel < charm_host::DESCRIBE_FUEL_MIN, "describing has more than these turns");
        // The guest that derives tells too much of itself for what these turns have.
        let options =
            Options { fuel, planned: None, processes: 1, derives: false, ..Options::planned(seed, 0, Planned::Call) };
        faulted.fetch_add(must(&options).outcomes.get("faulted").copied().unwrap_or(0), Ordering::Relaxed);
    });
    assert!(faulted.into_inner() > 60, "the fuel is scarce");
}

/// (T4, A4)
#[test]
fn the_same_seed_is_the_same_run() {
    let first = seed();
    each(first..first + times(50), |seed| {
        let options = Options::from_seed(seed);
        assert_eq!(must(&options), must(&options), "{options:?}");
    });
}
