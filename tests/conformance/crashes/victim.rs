//! A host process that is crashed.

use std::{
    ffi::OsStr,
    fs::File,
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use charm_conformance::{Random, program};

use super::place::Place;

/// Longest time that a host takes to do what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running host. Dropping it kills it.
pub struct Victim {
    child: Child,
    said: PathBuf,
}

impl Victim {
    /// Starts a host that works on what the place has not acknowledged yet.
    pub fn start(place: &Place) -> Victim {
        Victim::spawn(place, "work", &[place.first()], &[])
    }

    /// Starts `crash-host MODE MANIFEST NUMBERS`.
    pub fn spawn(place: &Place, mode: &str, numbers: &[u64], env: &[(&str, &OsStr)]) -> Victim {
        let said = place.said();
        let out = File::create(&said).unwrap();
        let mut command = Command::new(program("crash-host"));
        command.arg(mode).arg(place.manifest()).args(numbers.iter().map(u64::to_string));
        command.envs(env.iter().copied()).stdin(Stdio::piped()).stdout(out).stderr(Stdio::null());
        Victim { child: command.spawn().unwrap(), said }
    }

    /// Returns what it said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// Waits until it has said a line that starts so.
    pub fn wait_for(&mut self, start: &str) {
        self.wait_within(start, PATIENCE);
    }

    /// As `wait_for`, but for that long.
    pub fn wait_within(&mut self, start: &str, patience: Duration) {
        let until = Instant::now() + patience;
        while !self.said().lines().any(|line| line.starts_with(start)) {
            let said = self.said();
            assert!(self.child.try_wait().unwrap().is_none(), "the host ended instead of saying {start}: {said}");
            assert!(Instant::now() < until, "the host does not say {start} in time: {said}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it has ended by itself, and returns what it said.
    pub fn ended(mut self) -> String {
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "the host does not end in time: {}", self.said());
            std::thread::sleep(Duration::from_millis(1));
        }
        self.said()
    }

    /// Tells it to shut down.
    pub fn stop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.stdin.as_mut().unwrap().write_all(b"stop\n");
    }

    /// Holds it still: what it said until then is all that it says, and nothing it does comes after that.
    pub fn freeze(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -STOP $0", &id]).status().unwrap().success());
        // A thread inside a sync stops when that is over, before it can say anything.
        let is_still = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['T', 'D', 'Z']));
        let threads = || std::fs::read_dir(format!("/proc/{id}/task")).unwrap().map(|entry| entry.unwrap().path());
        while !threads().all(|thread| std::fs::read_to_string(thread.join("stat")).map_or(true, is_still)) {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Kills it and returns what it had said.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.said()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Picks moments for crashes and counts what was going on then.
pub struct Moments {
    random: Random,
    /// How long a host takes to start here, in microseconds.
    start: u64,
    rounds: u64,
    starting: u64,
    working: u64,
    ending: u64,
    /// Rounds with an acknowledgement.
    productive: u64,
}

impl Moments {
    pub fn new(seed: u64) -> Moments {
        let random = Random::new(seed);
        Moments { random, start: 30_000, rounds: 0, starting: 0, working: 0, ending: 0, productive: 0 }
    }

    /// Adds the counts of others.
    pub fn add(&mut self, others: &Moments) {
        self.rounds += others.rounds;
        self.starting += others.starting;
        self.working += others.working;
        self.ending += others.ending;
        self.productive += others.productive;
    }

    /// Lets a host that was just started go on until the moment of its crash: while it starts and recovers, while
    /// it works, or while it shuts down. A slow machine makes rounds longer, not empty.
    pub fn pass(&mut self, victim: &mut Victim) {
        let sleep = |micros: u64| std::thread::sleep(Duration::from_micros(micros));
        match self.random.below(4) {
            0 => sleep(self.random.below(2 * self.start)),
            kind => {
                let started = Instant::now();
                victim.wait_for("ready");
                self.start = started.elapsed().as_micros() as u64;
                victim.wait_for("ack");
                sleep(self.random.below(150_000));
                if kind == 1 {
                    victim.stop();
                    if self.random.chance(700) {
                        victim.wait_for("stopping");
                    }
                    sleep(self.random.below(15_000));
                }
            }
        }
    }

    /// Notes what a crashed host had said.
    pub fn note(&mut self, said: &str) {
        let has = |word: &str| said.lines().any(|line| line.starts_with(word));
        assert!(!has("failed"), "{said}");
        self.rounds += 1;
        match (has("ready"), has("stopping")) {
            (false, _) => self.starting += 1,
            (true, false) => self.working += 1,
            (true, true) => self.ending += 1,
        }
        self.productive += u64::from(has("ack"));
    }

    /// Returns the counts as a line, and checks that the rounds were what they should be.
    pub fn report(&self, crashes: &str, rounds: u64) -> String {
        let Moments { starting, working, ending, productive, .. } = self;
        assert_eq!(self.rounds, rounds);
        assert!(productive * 2 >= rounds, "only {productive} of {rounds} rounds did anything");
        let least = starting.min(working).min(ending);
        assert!(rounds < 100 || least * 50 >= rounds, "{starting} {working} {ending}");
        format!(
            "{rounds} {crashes}: {starting} while starting, {working} at work, {ending} while shutting down; \
             {productive} productive"
        )
    }
}
