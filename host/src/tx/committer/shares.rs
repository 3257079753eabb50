//! What is on its way to the disk, by charm, and how fast each charm writes (A6). Asked before each attempt at a turn:
//! a charm that has its share is passed over, and the others go on.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Committer, Notice, Refused};
use crate::{
    core::Act,
    did::Did,
    limits::Limits,
    log::say,
    log_share::LogShare,
    rate::{Bucket, Rate},
};

/// Beside others a charm has at most this part of the commits that wait for the disk, and of their bytes.
const PART: usize = 8;

/// Commits on their way to the disk.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    commits: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.commits += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.commits = self.commits.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[derive(Debug, Default)]
struct Share {
    load: Load,
    /// What its next commit is taken to be: as large as the last ones.
    next: usize,
    /// Kept for the attempt that runs now: `next` as it was when it began.
    kept: usize,
    disk: Bucket,
    /// Somebody sleeps until it may write again.
    sleeps: bool,
}

/// Who has how much.
#[derive(Debug, Default)]
pub(super) struct Shares {
    charms: HashMap<Did, Share>,
    /// What is on its way in all: the host's own too, such as events from outside.
    all: Load,
    /// Commits of charms among them.
    commits: usize,
    /// Kept for attempts that run now.
    kept: usize,
}

/// Whether a charm may begin an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Now,
    /// When the disk is further.
    Later,
    /// When so much time has passed, and somebody must see to it.
    After(Duration),
}

fn rate(limits: &Limits) -> Rate {
    Rate { per_second: limits.disk_bytes_per_second, burst: limits.disk_burst_bytes }
}

impl Shares {
    /// Counts what goes to the disk; of a charm, or of the host itself.
    pub fn push(&mut self, charm: Option<Did>, bytes: usize, limits: &Limits, now: Duration) {
        self.all.add(bytes);
        let Some(charm) = charm else { return };
        self.commits += 1;
        let share = self.charms.entry(charm).or_default();
        self.kept -= std::mem::take(&mut share.kept);
        share.load.add(bytes);
        share.next = bytes.max(share.next / 2);
        share.disk.charge(bytes as u64, rate(limits), now);
    }

    /// Counts what is durable.
    pub fn remove(&mut self, charm: Option<Did>, bytes: usize) {
        self.all.remove(bytes);
        if let Some(share) = charm.and_then(|charm| self.charms.get_mut(&charm)) {
            share.load.remove(bytes);
            self.commits = self.commits.saturating_sub(1);
        }
    }

    fn has_room(&self, limits: &Limits) -> bool {
        self.all.commits < limits.commits_pending_max && self.all.bytes < limits.commit_bytes_pending_max
    }

    /// Asks for an attempt at a turn. What it will commit is kept free until it has committed or ended.
    pub fn begin(&mut self, charm: &Did, limits: &Limits, now: Duration) -> Begin {
        if !self.has_room(limits) {
            return Begin::Later;
        }
        let (commits_max, bytes_max) = (limits.commits_pending_max, limits.commit_bytes_pending_max);
        let Some(share) = self.charms.get_mut(charm) else { return Begin::Now };
        let used = self.all.bytes + self.kept;
        let wait = share.disk.wait(rate(limits), now);
        if !wait.is_zero() {
            return if std::mem::replace(&mut share.sleeps, true) { Begin::Later } else { Begin::After(wait) };
        }
        // What is large leaves as much room as it takes: what is small always finds some.
        if used > 0 && 2 * share.next > bytes_max.saturating_sub(used) {
            return Begin::Later;
        }
        let part = if self.commits > share.load.commits { PART } else { 1 };
        let few = share.load.commits < (commits_max / part).max(1);
        let small = share.load.bytes + share.next <= bytes_max / part;
        if share.load.commits > 0 && !(few && small) {
            return Begin::Later;
        }
        share.kept = share.next;
        self.kept += share.kept;
        Begin::Now
    }

    /// An attempt has ended, with or without a commit; returns what was kept for it still.
    pub fn end(&mut self, charm: &Did) -> usize {
        let freed = self.charms.get_mut(charm).map_or(0, |share| std::mem::take(&mut share.kept));
        self.kept -= freed;
        freed
    }

    /// The time of [`Begin::After`] has passed.
    pub fn awake(&mut self, charm: &Did) {
        if let Some(share) = self.charms.get_mut(charm) {
            share.sleeps = false;
        }
    }
}

impl Committer {
    /// Returns whether a charm may have another attempt at a turn: while few enough commits wait for the disk, and it has
    /// not more than its share of them, and is not over its rate. A charm that may not waits for the next nudge of
    /// `ready`: after each batch, or when its time has come.
    pub fn may_begin(&self, charm: &Did) -> bool {
        if self.health.borrow().waits.is_some() {
            return false;
        }
        let begin = self.group.shares().begin(charm, &self.limits, self.env.monotonic());
        match begin {
            Begin::Now => true,
            Begin::Later => {
                // It waits for what is on its way.
                self.group.urge();
                false
            }
            Begin::After(time) => {
                let (group, notify, charm) = (self.group.clone(), self.notify.clone(), *charm);
                let sleep = self.env.sleep(time);
                self.env.spawn(Box::pin(async move {
                    tokio::select! {
                        () = sleep => {}
                        () = group.ended() => {}
                    }
                    group.shares().awake(&charm);
                    notify(Notice::Room);
                }));
                false
            }
        }
    }

    /// Notes that an attempt has ended, with or without a commit.
    pub fn ended(&self, charm: &Did) {
        let freed = self.group.shares().end(charm);
        if freed > 0 {
            (self.notify)(Notice::Room);
        }
    }

    /// Returns whether a charm's next turn is to come after everybody else's.
    pub fn is_late(&self, charm: &Did) -> bool {
        self.locked().core.spaces.get(charm).is_some_and(|space| space.inbox.is_late())
    }

    /// Lets a charm begin no more turns, or lets it again; completes when that is durable.
    ///
    /// # Errors
    /// `Refused::Gone` when the store does not know the charm, `Refused::Unavailable`.
    pub async fn pause(&self, charm: &Did, paused: bool) -> Result<(), Refused> {
        let name = self.name_of(charm).ok_or(Refused::Gone)?;
        let order = self.act(*charm, Act::Pause(paused))?.order;
        if !paused {
            (self.notify)(Notice::Work(*charm));
        }
        self.durable(order).await.map_err(Refused::Unavailable)?;
        say(|| tracing::warn!("charm {name} ({charm}) is {}", if paused { "paused" } else { "resumed" }));
        Ok(())
    }

    /// Returns what a charm may log.
    pub fn log_share(&self, charm: &Did) -> Arc<LogShare> {
        let mut locked = self.locked();
        let dropped = locked.core.spaces.get(charm).map_or(0, |space| space.notes.dropped);
        let fresh = || Arc::new(LogShare::new(self.env.clone(), &self.limits, dropped));
        locked.logs.entry(*charm).or_insert_with(fresh).clone()
    }
}
