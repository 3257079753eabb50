//! Who is on a thread beside whom, and what the marks say meanwhile.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

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
        let marks = Marks::begin(folder.path()).unwrap();
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
        Marks::left(self.folder.path()).into_iter().map(position).collect()
    }
}

fn poll(guest: &mut Pin<&mut (impl Future<Output = ()> + ?Sized)>) -> bool {
    guest.as_mut().poll(&mut Context::from_waker(noop_waker_ref())).is_ready()
}

/// Ends a slice.
async fn pause() {
    let mut left = true;
    poll_fn(|_| if std::mem::take(&mut left) { Poll::Pending } else { Poll::Ready(()) }).await;
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
            assert!(!poll(&mut pin!(setup.run(turn(2), async { inside.set(true) }))), "nobody comes beside it");
            pause().await;
        }
    });
    let mut suspect = pin!(suspect);
    {
        let suspect = RefCell::new(suspect.as_mut());
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
    assert!(!poll(&mut between), "the suspect is called already");
    assert!(!poll(&mut suspect));
    assert!(!poll(&mut suspect), "now it is in line behind the other");
    assert!(poll(&mut between) && inside.get(), "others go on between its slices");
    assert!(poll(&mut suspect) && slices.get() == 2);
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

type Guest<'a> = RefCell<Pin<Box<dyn Future<Output = ()> + 'a>>>;

fn came(guest: &Guest<'_>) -> bool {
    poll(&mut guest.borrow_mut().as_mut())
}

#[tokio::test]
async fn who_has_had_less_of_threads_comes_before_who_came_first() {
    let setup = Setup::new();
    let had = || Duration::from_secs(1);
    let first: Guest<'_> = RefCell::new(Box::pin(setup.run(turn(3), async {})));
    let last: Guest<'_> = RefCell::new(Box::pin(setup.run(turn(4), async {})));
    let slice = async {
        assert!(!came(&first));
        pause().await;
    };
    let beside: Guest<'_> = RefCell::new(Box::pin(setup.threads.run(turn(2), had, slice)));
    let slice = async {
        // Its slice ends, and it gets in line before the last.
        assert!(!came(&beside) && !came(&last));
        pause().await;
    };
    let mut outer = pin!(setup.threads.run(turn(1), had, slice));
    assert!(!poll(&mut outer));
    assert!(!came(&beside), "it waits behind both who have had nothing");
    assert!(came(&first) && came(&last));
    assert!(came(&beside) && poll(&mut outer));
}

#[tokio::test]
async fn guests_that_do_not_leave_their_threads_keep_nobody_out() {
    let setup = Setup::new();
    setup
        .run(turn(1), async {
            setup
                .run(turn(2), async {
                    let came = Cell::new(false);
                    let mut third = pin!(setup.run(turn(3), async { came.set(true) }));
                    assert!(!poll(&mut third), "both threads are taken");
                    setup.threads.tick();
                    assert!(!poll(&mut third), "for less than a tick");
                    setup.threads.tick();
                    assert!(poll(&mut third) && came.get());
                })
                .await;
        })
        .await;
}

/// Counts how often it is woken.
#[derive(Default)]
struct Alarm(AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Alarm>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn who_is_between_two_slices_is_called_by_others_too() {
    let setup = Setup::new();
    let alarm = Arc::new(Alarm::default());
    let mut guest = pin!(setup.run(turn(1), async {
        pause().await;
        pause().await;
    }));
    let mut poll = || guest.as_mut().poll(&mut Context::from_waker(&alarm.clone().into())).is_ready();
    assert!(!poll());
    assert_eq!(alarm.0.load(Ordering::Relaxed), 0, "its thread has something else to do");
    setup.threads.tick();
    assert_eq!(alarm.0.load(Ordering::Relaxed), 1);
    assert!(!poll());
    assert!(poll());
    assert_eq!(alarm.0.load(Ordering::Relaxed), 1, "it wakes nobody when it calls itself");
}

#[tokio::test]
async fn as_many_are_called_as_there_are_threads() {
    let setup = Setup::new();
    let slice = async || {
        for _ in 0..2 {
            pause().await;
        }
    };
    let mut first = pin!(setup.run(turn(1), slice()));
    let mut second = pin!(setup.run(turn(2), slice()));
    assert!(!poll(&mut first));
    assert!(!poll(&mut second), "it came later than the first got in line");
    // The first goes on with its next slice, and the second has the other thread.
    assert!(!poll(&mut first));
    assert_eq!(setup.threads.inner().called.len(), 1);
    assert!(!poll(&mut second));
    assert!(setup.threads.inner().called.is_empty());
}
