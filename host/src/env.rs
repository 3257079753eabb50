//! The world: clock, randomness, sleeping, spawning. The only module that names them, so that tests own all of them.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::oneshot;

/// A boxed future, as [`Env`] hands them around.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a host needs of the world it runs in.
pub trait Env: Send + Sync + 'static {
    /// Returns milliseconds since 1970-01-01T00:00:00Z. May jump; the host orders nothing by it.
    fn now_ms(&self) -> u64;

    /// Returns time since some start; never goes back.
    fn monotonic(&self) -> Duration;

    /// Fills `bytes` with randomness fit for keys.
    fn random(&self, bytes: &mut [u8]);

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Returns how many tasks run at the same time.
    fn threads(&self) -> usize;

    /// Runs a task to its end in the background.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Runs `work` where blocking the thread hurts nobody, and completes when it has ended.
    fn block(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;

    /// Begins a task that is `work`, which blocks its thread: as soon as can be, and where that hurts nobody.
    fn begin(&self, work: Box<dyn FnOnce() + Send>) {
        self.spawn(self.block(work));
    }

    /// Calls `tick` every `period` from a place that no guest can block, until it returns false.
    fn tick(&self, period: Duration, tick: Box<dyn FnMut() -> bool + Send>);
}

/// Lets other tasks run before it completes. Long work between two commits goes in steps with this between them.
///
/// tokio comes back here when a thread has nothing else that is ready. A task that woke itself instead would keep it from
/// looking for what was woken elsewhere.
pub(crate) async fn breathe() {
    tokio::task::yield_now().await;
}

/// Runs `work` in a task of its own, which ends when nobody waits for it any more; none when the runtime has ended. Whoever asks
/// from outside may poll no more and keep the future: what `work` holds meanwhile, others get all the same.
pub(crate) async fn apart<T: Send + 'static>(
    env: &dyn Env,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (mut sender, receiver) = oneshot::channel();
    env.spawn(Box::pin(async move {
        let done = tokio::select! {
            done = work => done,
            () = sender.closed() => return,
        };
        drop(sender.send(done));
    }));
    receiver.await.ok()
}

/// Returns an id that nothing else has. For files that are made before there is a host; no secret follows from it.
pub(crate) fn fresh_id() -> [u8; 16] {
    use std::hash::{BuildHasher, RandomState};
    // Each state has keys of its own, which come from the operating system.
    let half = |salt: u8| RandomState::new().hash_one(salt).to_le_bytes();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&half(0));
    id[8..].copy_from_slice(&half(1));
    id
}

/// The real world, on the tokio runtime that opens the host.
pub struct SystemEnv {
    runtime: tokio::runtime::Handle,
    start: std::time::Instant,
}

#[expect(clippy::disallowed_methods, reason = "the one place where the host meets clock, threads and tasks")]
impl SystemEnv {
    /// Takes the tokio runtime that the caller runs on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn current() -> Arc<SystemEnv> {
        Arc::new(SystemEnv { runtime: tokio::runtime::Handle::current(), start: std::time::Instant::now() })
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the host meets clock, threads and tasks")]
impl Env for SystemEnv {
    fn now_ms(&self) -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has randomness");
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn threads(&self) -> usize {
        self.runtime.metrics().num_workers()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.runtime.spawn(task);
    }

    fn block(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let task = self.runtime.spawn_blocking(work);
        Box::pin(async move {
            // A panic in `work` shows as a missing result at the caller.
            let _ = task.await;
        })
    }

    fn begin(&self, work: Box<dyn FnOnce() + Send>) {
        if self.runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread {
            // Whatever else this thread had to do goes to another: that one is woken, not the work.
            self.runtime.spawn(async move { tokio::task::block_in_place(work) });
        } else {
            self.runtime.spawn_blocking(work);
        }
    }

    fn tick(&self, period: Duration, mut tick: Box<dyn FnMut() -> bool + Send>) {
        std::thread::Builder::new()
            .name("charm-tick".to_owned())
            .spawn(move || {
                while tick() {
                    std::thread::sleep(period);
                }
            })
            .expect("the operating system starts a thread");
    }
}
