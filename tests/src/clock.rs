//! A world whose time a test owns.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use charm_host::{BoxFuture, Env, SystemEnv};
use tokio::sync::watch;

/// Sleeps up to here pass at once; longer ones are timeouts, which wait for the test to let the time pass.
const SHORT: Duration = Duration::from_secs(1);
/// Heads of spaces are signed after a time between these: it is a timeout too.
const HEADS: (Duration, Duration) = (Duration::from_millis(640), Duration::from_millis(900));
/// A commit that nobody waits for waits so long for others: that is no time of the test's.
const PATIENCE: Duration = Duration::from_millis(1);

/// The real world, but for time, which passes while the host sleeps and when a test says so, for the date, which jumps when
/// a test says so, and for single bytes of randomness: 0 and 255 in turn.
pub struct Clock {
    world: Arc<SystemEnv>,
    now: watch::Sender<Duration>,
    /// Milliseconds that the date is wrong by.
    wrong: AtomicI64,
    bytes: AtomicUsize,
    slept: Mutex<Vec<Duration>>,
    /// Whether commits that nobody waits for wait for ever.
    patient: watch::Sender<bool>,
}

impl Clock {
    /// Returns a clock on the runtime of the caller; it has been going for an hour.
    pub fn new() -> Arc<Clock> {
        let (now, bytes, slept) =
            (watch::Sender::new(Duration::from_secs(3_600)), Default::default(), Default::default());
        let patient = watch::Sender::new(false);
        Arc::new(Clock { world: SystemEnv::current(), now, wrong: AtomicI64::new(0), bytes, slept, patient })
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.now.send_modify(|now| *now += time);
    }

    /// Sets the date forward or back by so many milliseconds, as far as there is one. No time passes.
    pub fn jump(&self, ms: i64) {
        let jumped = self.wrong.load(Ordering::Relaxed).saturating_add(ms);
        self.wrong.store(jumped, Ordering::Relaxed);
    }

    /// Lets commits that nobody waits for wait for ever, or as long as they do.
    pub fn be_patient(&self, patient: bool) {
        self.patient.send_replace(patient);
    }

    /// Returns how long the host has slept, each time, timeouts not counted.
    pub fn slept(&self) -> Vec<Duration> {
        self.slept.lock().unwrap().clone()
    }
}

impl Env for Clock {
    fn now_ms(&self) -> u64 {
        self.world.now_ms().saturating_add_signed(self.wrong.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        *self.now.borrow()
    }

    fn random(&self, bytes: &mut [u8]) {
        match bytes {
            [byte] => *byte = if self.bytes.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { 0 } else { 255 },
            _ => self.world.random(bytes),
        }
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if duration == PATIENCE {
            let (sleep, mut patient) = (self.world.sleep(duration), self.patient.subscribe());
            return Box::pin(async move {
                sleep.await;
                drop(patient.wait_for(|patient| !patient).await);
            });
        }
        if duration > SHORT || (duration > HEADS.0 && duration <= HEADS.1) {
            let (due, mut now) = (self.monotonic() + duration, self.now.subscribe());
            return Box::pin(async move { drop(now.wait_for(|now| *now >= due).await) });
        }
        self.pass(duration);
        self.slept.lock().unwrap().push(duration);
        Box::pin(tokio::task::yield_now())
    }

    fn threads(&self) -> usize {
        self.world.threads()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.world.spawn(task);
    }

    fn block(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.world.block(work)
    }

    fn tick(&self, period: Duration, tick: Box<dyn FnMut() -> bool + Send>) {
        self.world.tick(period, tick);
    }
}
