//! Ctrl-C and SIGTERM, attended to from the first moment by a thread of their own: whatever else is blocked, they arrive.

use std::{
    convert::Infallible,
    io, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    failure::{Exit, Failure},
    output::Output,
};

/// What the signals of this process mean: the first asks the command to end, when it attends; else, and the second time,
/// the process ends at once.
#[derive(Clone)]
pub struct Signals {
    attends: Arc<AtomicBool>,
    asked: watch::Receiver<bool>,
}

impl Signals {
    /// Starts to attend.
    ///
    /// # Errors
    /// When the operating system has no thread, or no signals.
    pub fn start(output: Output) -> Result<Signals, Failure> {
        let failed = |error: io::Error| Failure::host(format!("cannot wait for signals: {error}"));
        let (attends, (ask, asked)) = (Arc::new(AtomicBool::new(false)), watch::channel(false));
        let (begun, begins) = mpsc::channel();
        let thread = std::thread::Builder::new().name("charm-signals".to_owned());
        let its = attends.clone();
        let attend = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let run = |runtime: tokio::runtime::Runtime| -> io::Result<Infallible> {
                runtime.block_on(async {
                    let mut interrupts = signal(SignalKind::interrupt())?;
                    let mut terminations = signal(SignalKind::terminate())?;
                    let _ = begun.send(Ok(()));
                    loop {
                        let exit = tokio::select! {
                            _ = interrupts.recv() => Exit::Interrupted,
                            _ = terminations.recv() => Exit::Terminated,
                        };
                        if !its.load(Ordering::Relaxed) || ask.send_replace(true) {
                            let text = "ended at once by a signal; events that wait stay for the next run";
                            output.failure(&Failure::signal(exit, text));
                            output.finish();
                            process::exit(exit as i32);
                        }
                    }
                })
            };
            let Err(error) = runtime.and_then(run);
            // Where it has begun, nobody listens any more.
            let _ = begun.send(Err(error));
        };
        thread.spawn(attend).map_err(failed)?;
        match begins.recv() {
            Ok(begins) => begins.map_err(failed)?,
            Err(_) => return Err(Failure::host("cannot wait for signals: their thread has ended")),
        }
        Ok(Signals { attends, asked })
    }

    /// Has the first signal ask, from now on. Completes when it has.
    pub async fn asked(&self) {
        self.attends.store(true, Ordering::Relaxed);
        // The thread that asks lives as long as the process.
        let _ = self.asked.clone().wait_for(|asked| *asked).await;
    }
}
