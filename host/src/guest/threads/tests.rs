//! Who is on a thread beside whom, and what the marks say meanwhile.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{cell::Cell, pin::Pin, task::Context};

use futures_util::task::noop_waker_ref;

use super::*;
use crate::{
    env::SystemEnv,
    event::EventId,
    store::{MemoryStore, Store},
};

fn turn(position: u64) -> Work {
    Work::Turn { position, id: EventId([position as u8; 16]) }
}

/// Threads beside a store in a folder of their own, and the one suspect of that store.
struct Setup {
    threads: Threads,
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Setup {
        let folder = tempfile::tempdir().unwrap();
        let (store, image) = (MemoryStore::new(), MemoryStore::new().load(Some([0; 32])).unwrap());
        let (suspects, _) = Suspects::open(&store, &image, SystemEnv::current()).unwrap();
        suspects.suspect(turn(9));
        let marks = Marks::begin(&folder.path().join("store.db")).unwrap();
        Setup { threads: Threads::new(2, Some(marks), suspects, SystemEnv::current()), folder }
    }

    async fn run(&self, work: Work, guest: impl Future<Output = ()>) {
        self.threads.run(work, || Duration::ZERO, guest).await;
    }

    fn marked(&self) -> Vec<(u64, bool)> {
        let position = |mark: Mark| match mark.work {
            Work::Turn { position, .. } => (position, mark.alone),
            Work::Describe { .. } => (0, mark.alone),
        };
        Marks::left(&self.folder.path().join("store.db")).into_iter().map(position).collect()
    }
}

fn poll(guest: &mut Pin<&mut impl Future<Output = ()>>) -> bool {
    guest.as_mut().poll(&mut Context::from_waker(noop_waker_ref())).is_ready()
}

#[tokio::test]
async fn a_suspect_is_alone_on_the_threads_and_others_go_on_between_its_slices() {
    let setup = Setup::new();
    let slices = Cell::new(0);
    let inside = Cell::new(false);
    // The suspect comes while another is on its thread, and that one looks what happens meanwhile.
    let suspect = setup.run(turn(9), async {
        for _ in 0..2 {
            slices.set(slices.get() + 1);
            assert_eq!(setup.marked(), [(9, true)], "nothing is left of those before it");
            let mut beside = pin!(setup.run(turn(2), async { inside.set(true) }));
            assert!(!poll(&mut beside), "nobody comes beside it");
            let mut left = true;
            poll_fn(|_| if std::mem::take(&mut left) { Poll::Pending } else { Poll::Ready(()) }).await;
        }
    });
    let mut suspect = pin!(suspect);
    {
        let suspect = std::cell::RefCell::new(suspect.as_mut());
        let mut other = pin!(setup.run(turn(1), async {
            assert_eq!(setup.marked(), [(1, false)]);
            assert!(!poll(&mut suspect.borrow_mut()), "it waits until the other has left");
            let mut third = pin!(setup.run(turn(3), async { inside.set(true) }));
            assert!(!poll(&mut third), "and nobody else comes before it");
        }));
        assert!(poll(&mut other));
    }
    assert_eq!((slices.get(), inside.get()), (0, false));
    assert!(!poll(&mut suspect));
    assert_eq!(slices.get(), 1);
    assert!(setup.marked().iter().all(|(position, _)| *position != 9), "it is wiped at once");
    let mut between = pin!(setup.run(turn(4), async { inside.set(true) }));
    assert!(poll(&mut between) && inside.get(), "others go on between its slices");
    assert!(!poll(&mut suspect) && poll(&mut suspect));
}

#[tokio::test]
async fn marks_stand_while_guests_run_and_a_moment_longer() {
    let setup = Setup::new();
    for position in 1..=3 {
        setup.run(turn(position), async { assert_eq!(setup.marked(), [(position, false)]) }).await;
    }
    let beside = setup.run(turn(5), async { assert_eq!(setup.marked(), [(4, false), (5, false)]) });
    setup.run(turn(4), beside).await;
    setup.threads.tick();
    assert_eq!(setup.marked().len(), 2, "they may run again at once");
    setup.threads.tick();
    assert!(setup.marked().is_empty());
    setup.threads.close();
    setup.run(turn(6), async { assert!(setup.marked().is_empty(), "a host that ends marks nothing") }).await;
}
