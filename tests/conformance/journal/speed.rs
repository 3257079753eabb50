//! What an append costs over writing and syncing the same bytes. Measured, not checked:
//! `cargo test -p charm-conformance --test journal -- --ignored --nocapture`.

use std::{
    fs::OpenOptions,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use charm_host::FolderDisk;

use super::*;

/// Times in order.
struct Times(Vec<Duration>);

impl Times {
    fn at(&self, hundredth: usize) -> f64 {
        self.0[(self.0.len() - 1) * hundredth / 100].as_secs_f64() * 1e6
    }

    fn total(&self) -> f64 {
        self.0.iter().sum::<Duration>().as_secs_f64()
    }
}

/// Both in turns of fifty, so that a slow minute of the machine strikes both.
fn measure(bytes: usize, rounds: usize) -> [Times; 2] {
    let home = tempfile::tempdir().unwrap();
    let frame = (bytes + 24).next_multiple_of(512);
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(home.path().join("bare")).unwrap();
    file.write_all_at(&vec![0; frame * rounds], 0).unwrap();
    file.sync_all().unwrap();
    let disk = FolderDisk::create(home.path().join("journal")).unwrap();
    let journal = FileJournal::open(Arc::new(disk), JournalOptions::new(ID, 0)).unwrap();
    let (whole, group) = (vec![7; frame], vec![7; bytes]);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                while journal.prepare().unwrap() {}
                thread::park_timeout(Duration::from_millis(2));
            }
        });
        let mut times = [Vec::new(), Vec::new()];
        for number in 0..rounds * 2 {
            let (which, at) = (number / 50 % 2, number / 100 * 50 + number % 50);
            let start = Instant::now();
            if which == 0 {
                file.write_all_at(&whole, (at * frame) as u64).unwrap();
                file.sync_data().unwrap();
            } else {
                journal.append(journal.end(), &group).unwrap();
            }
            times[which].push(start.elapsed());
        }
        is_done.store(true, Ordering::Relaxed);
        times.map(|mut times| {
            times.sort();
            Times(times)
        })
    })
}

#[test]
#[ignore = "measures"]
#[allow(clippy::print_stdout, reason = "its result")]
fn an_append_costs_what_writing_and_syncing_costs() {
    for (bytes, rounds) in [(700, 5_000), (16 << 10, 3_000), (256 << 10, 600)] {
        let [bare, ours] = measure(bytes, rounds);
        println!(
            "{bytes} bytes: bare p50 {:.0} p99 {:.0} us, journal p50 {:.0} p99 {:.0} us, appends a second {:.2} of bare",
            bare.at(50),
            bare.at(99),
            ours.at(50),
            ours.at(99),
            bare.total() / ours.total()
        );
    }
}
