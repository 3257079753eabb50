//! The world of a simulated host: one thread, a clock that jumps from timer to timer, randomness from the seed,
//! and tasks that take steps in an order that the seed decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use charm_conformance::Random;
use charm_host::{BoxFuture, Env};

use super::calendar::Calendar;

/// One process: its tasks and timers end with it; clock and randomness go on in the next.
pub struct World {
    inner: Mutex<Inner>,
    myself: Weak<World>,
}

struct Inner {
    random: Random,
    now: Duration,
    /// Someone may set it.
    calendar: Calendar,
    tasks: BTreeMap<u64, Task>,
    /// Sorted: the order in which tasks wake each other is not always the same (tokio's `watch` draws lots).
    ready: BTreeSet<u64>,
    timers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
    steps: u64,
}

/// None while it takes a step.
type Task = Option<BoxFuture<'static, ()>>;

struct Ready {
    task: u64,
    world: Weak<World>,
}

impl Wake for Ready {
    fn wake(self: Arc<Ready>) {
        let Some(world) = self.world.upgrade() else { return };
        let mut inner = world.inner();
        if inner.tasks.contains_key(&self.task) {
            inner.ready.insert(self.task);
        }
    }
}

/// What [`World::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A task took a step.
    Taken,
    /// Nothing can ever happen again.
    Stuck,
}

impl World {
    /// Returns a world without tasks.
    pub fn new(random: Random) -> Arc<World> {
        World::at(Duration::ZERO, Calendar::default(), random)
    }

    fn at(now: Duration, calendar: Calendar, random: Random) -> Arc<World> {
        let (tasks, ready, timers) = Default::default();
        let inner = Inner { random, now, calendar, tasks, ready, timers, next: 0, steps: 0 };
        Arc::new_cyclic(|myself| World { inner: Mutex::new(inner), myself: myself.clone() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every task, in the middle of whatever it does, and returns the world of the next process.
    pub fn restarted(&self) -> Arc<World> {
        let (tasks, timers, next) = {
            let mut inner = self.inner();
            inner.ready.clear();
            let next = World::at(inner.now, inner.calendar.clone(), Random::new(inner.random.bits()));
            (std::mem::take(&mut inner.tasks), std::mem::take(&mut inner.timers), next)
        };
        drop((tasks, timers));
        // What ended may have started more.
        self.inner().tasks.clear();
        next
    }

    /// Notes that a process starts.
    pub fn start_process(&self) {
        let inner = &mut *self.inner();
        inner.calendar.start(inner.now);
    }

    /// Sets the calendar forth or back, from now on.
    pub fn set_clock(&self, ms: i64) {
        let inner = &mut *self.inner();
        inner.calendar.set(inner.now, ms);
    }

    /// Returns what the calendar showed when.
    pub fn calendar(&self) -> Calendar {
        self.inner().calendar.clone()
    }

    /// Returns how many steps were taken.
    pub fn steps(&self) -> u64 {
        self.inner().steps
    }

    /// Lets one task take a step; when none is ready, first lets time pass until one is.
    pub fn step(&self) -> Step {
        let (id, mut task) = loop {
            let mut inner = self.inner();
            if inner.ready.is_empty() {
                let Some(((due, _), waker)) = inner.timers.pop_first() else { return Step::Stuck };
                inner.now = inner.now.max(due);
                drop(inner);
                waker.wake();
                continue;
            }
            let count = inner.ready.len() as u64;
            let chosen = inner.random.below(count) as usize;
            let id = inner.ready.iter().nth(chosen).copied().unwrap_or_default();
            inner.ready.remove(&id);
            if let Some(task) = inner.tasks.get_mut(&id).and_then(Option::take) {
                inner.steps += 1;
                break (id, task);
            }
        };
        let waker = Arc::new(Ready { task: id, world: self.myself.clone() }).into();
        let done = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if done {
            drop(task);
            self.inner().tasks.remove(&id);
        } else if let Some(place) = self.inner().tasks.get_mut(&id) {
            *place = Some(task);
        }
        Step::Taken
    }

    /// Starts a task; the flag says when it has ended.
    pub fn start(&self, task: impl Future<Output = ()> + Send + 'static) -> Arc<AtomicBool> {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        self.spawn(Box::pin(async move {
            task.await;
            flag.store(true, Ordering::Relaxed);
        }));
        ended
    }

    /// Returns a random time up to `max`.
    fn delay(&self, max: Duration) -> BoxFuture<'static, ()> {
        let micros = self.inner().random.below(max.as_micros() as u64 + 1);
        self.sleep(Duration::from_micros(micros))
    }
}

struct Sleep {
    due: Duration,
    timer: Option<(Duration, u64)>,
    world: Weak<World>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<()> {
        let Some(world) = self.world.upgrade() else { return Poll::Pending };
        let mut inner = world.inner();
        if inner.now >= self.due {
            return Poll::Ready(());
        }
        inner.next += 1;
        let timer = (self.due, inner.next);
        if let Some(old) = self.timer.replace(timer) {
            inner.timers.remove(&old);
        }
        inner.timers.insert(timer, context.waker().clone());
        Poll::Pending
    }
}

impl Env for World {
    fn now_ms(&self) -> u64 {
        let inner = self.inner();
        inner.calendar.date(inner.now)
    }

    fn monotonic(&self) -> Duration {
        self.inner().now
    }

    fn random(&self, bytes: &mut [u8]) {
        let mut inner = self.inner();
        bytes.iter_mut().for_each(|byte| *byte = inner.random.bits() as u8);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let due = self.inner().now + duration;
        Box::pin(Sleep { due, timer: None, world: self.myself.clone() })
    }

    fn threads(&self) -> usize {
        1
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let mut inner = self.inner();
        inner.next += 1;
        let id = inner.next;
        inner.tasks.insert(id, Some(task));
        inner.ready.insert(id);
    }

    /// The disk takes its time before and after.
    fn block(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let (before, after) = (self.delay(Duration::from_millis(2)), self.delay(Duration::from_millis(2)));
        Box::pin(async move {
            before.await;
            work();
            after.await;
        })
    }

    /// Guests are cut into slices by fuel here, not by time.
    fn tick(&self, _: Duration, _: Box<dyn FnMut() -> bool + Send>) {}
}
