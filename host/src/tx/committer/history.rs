//! History that ends (H1): checkpoints say what a space came to, and what is before them goes.
//!
//! A checkpoint is made beside the turns of its charm: what the space is with some commit is fixed under the lock, written down
//! outside it, and stands in a later commit. The past goes when the checkpoint is durable and the space's own key has signed
//! it, by a commit of the host's own space which says what is needed to prove the rest.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{Committer, Refused, Unavailable, group::Group};
use crate::{
    cell::CellId,
    core::{Act, Growth},
    did::Did,
    entry::{ENTRIES_PAGE, LogEntry},
    event::EventId,
    limits::{HISTORY_PAUSE_MS, HISTORY_STEP, RECEIPTS_PAUSE_MS},
    log::say,
    record::{CellsRoot, Checkpoint, Cut, Mark, Progress, Pruned, Record, TurnMark, Write, heads_hash},
    rows::{Image, Queued},
    store::StoreError,
    tx::versions::{Change, Snapshot},
    value::{Edit, Tree},
};

/// How often a checkpoint is tried whose snapshot was given back.
const TRIES_MAX: usize = 10;
/// How often, and how long between, it is tried to have what has gone in no file.
const SCRUBS_MAX: usize = 100;
const SCRUB_PAUSE: Duration = Duration::from_millis(100);

/// How much of a charm's past a host keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Records of its commits, in bytes: at most this, and at least half of it once there is so much.
    pub history_bytes: u64,
    /// How long the receipts of events that it handled are kept, in milliseconds.
    pub receipts_ms: u64,
}

impl Keep {
    /// Milliseconds of a day: receipts are kept by days in a manifest.
    pub const DAY_MS: u64 = 24 * 3_600 * 1_000;
}

/// How much of their past spaces keep, and whose is to go.
#[derive(Default)]
pub(super) struct Keeps {
    usual: Option<Keep>,
    of: HashMap<Did, Keep>,
    /// Spaces with a checkpoint that is no floor yet.
    checkpointed: HashSet<Did>,
    /// What goes with the cut of a space that is being made, in bytes.
    going: HashMap<Did, u64>,
    /// Spaces that have more than half of what they keep.
    full: BTreeSet<Did>,
    /// Commits with which something happened: without any nothing is let go.
    pub work: u64,
}

impl Keeps {
    pub fn load(image: &Image, usual: Keep) -> Keeps {
        let checkpointed = image.spaces.iter().filter(|row| row.checkpoint.seq > row.floor.seq).map(|row| row.did);
        Keeps { usual: Some(usual), checkpointed: checkpointed.collect(), ..Keeps::default() }
    }

    fn of(&self, space: &Did) -> Option<Keep> {
        self.of.get(space).copied().or(self.usual)
    }

    /// A space has so many bytes of records now.
    pub fn grown(&mut self, space: &Did, bytes: u64) {
        if self.of(space).is_some_and(|keep| bytes > keep.history_bytes / 2) {
            self.full.insert(*space);
        }
    }

    pub fn checkpoint(&mut self, space: &Did) {
        self.checkpointed.insert(*space);
    }

    /// Returns what goes with a space's past, in bytes.
    pub fn cut(&mut self, space: &Did) -> u64 {
        self.checkpointed.remove(space);
        self.going.remove(space).unwrap_or(0)
    }
}

/// What the past of a charm was that has gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The last commit of it.
    pub floor: u64,
    /// How many commits.
    pub commits: u64,
    /// Who was sent events by them: what they made of those is theirs.
    pub receivers: Vec<Did>,
}

/// What a space is with one of its commits.
struct Fixed {
    space: Did,
    /// The last commit of all.
    order: u64,
    snapshot: Snapshot,
    waiting: Vec<Arc<Queued>>,
    turns: Vec<(EventId, Arc<Progress>)>,
    dead: Vec<(u64, EventId)>,
    checkpoint: Checkpoint,
}

impl Committer {
    /// Returns the last commit of a space that has gone, 0 for none.
    pub fn floor(&self, space: &Did) -> u64 {
        self.locked().core.spaces.get(space).map_or(0, |space| space.floor)
    }

    /// Says how much of its past a charm keeps; none for the usual.
    pub fn keep(&self, space: &Did, keep: Option<Keep>) {
        let mut figures = self.group.figures();
        let history = figures.history(space);
        let keeps = figures.keeps();
        match keep {
            Some(keep) => drop(keeps.of.insert(*space, keep)),
            None => drop(keeps.of.remove(space)),
        }
        keeps.grown(space, history);
    }

    /// Writes down what a space came to; returns the commit that it stands for. Completes when that is durable and its key has
    /// signed it; none when that cannot be now: it may be tried again.
    ///
    /// # Errors
    /// When the host does not write any more, or the store is damaged.
    pub async fn checkpoint(self: &Arc<Committer>, space: &Did) -> Result<Option<u64>, Refused> {
        let Some(mut fixed) = self.fix(space) else { return Ok(None) };
        // What it speaks of is looked up in the store.
        self.durable(fixed.order).await.map_err(Refused::Unavailable)?;
        fixed.waiting.sort_by_key(|queued| queued.position);
        let marks = self.of_whole(std::mem::take(&mut fixed.waiting), |queued| Mark::of(&queued.event)).await;
        fixed.checkpoint.waiting = marks.map_err(Refused::Unavailable)?;
        let (committer, seq) = (self.clone(), fixed.checkpoint.seq);
        let written = self.group.block(move || committer.write_down(fixed)).await;
        let Some(written) = written else { return Err(Refused::Unavailable(Unavailable::RuntimeEnded)) };
        let Some(mut checkpoint) = written.map_err(Refused::Store)? else { return Ok(None) };
        checkpoint.sent = self.sent(space).await?;
        let done = match self.act(*space, Act::Checkpoint(Box::new(checkpoint))) {
            Ok(done) => done,
            Err(Refused::Unavailable(why)) => return Err(Refused::Unavailable(why)),
            Err(_) => return Ok(None),
        };
        self.durable(done.order).await.map_err(Refused::Unavailable)?;
        let is_signed = self.group.figures().signed(space) >= done.seq;
        Ok(is_signed.then_some(seq))
    }

    /// Fixes what a space is now.
    fn fix(&self, space: &Did) -> Option<Fixed> {
        let locked = self.locked();
        let core = &locked.core;
        let of = core.spaces.get(space)?;
        let rights = match *space == self.host {
            true => core.kept.iter().map(|(holder, kept)| (*holder, kept.clone())).collect(),
            false => of.kept.iter().map(|kept| (*space, kept.clone())).collect(),
        };
        let (cells, sent, turns) = Default::default();
        let checkpoint = Checkpoint {
            seq: of.seq,
            name: of.name.to_string(),
            paused: of.notes.paused,
            installed: of.installed.map(|row| (row.component, row.rights)),
            rights,
            letters_dropped: of.letters_dropped,
            cells,
            waiting: Vec::new(),
            dead: Vec::new(),
            sent,
            turns,
        };
        let turns = of.inbox.underway.after(0).map(|turn| (turn.queued.event.id, turn.progress.clone())).collect();
        let (waiting, dead) = (of.inbox.all().cloned().collect(), of.dead.iter().copied().collect());
        let (order, snapshot) = (core.order, self.versions.snapshot());
        Some(Fixed { space: *space, order, snapshot, waiting, turns, dead, checkpoint })
    }

    /// Writes down what was fixed; none when that is not to be had any more. Blocks.
    fn write_down(&self, fixed: Fixed) -> Result<Option<Checkpoint>, StoreError> {
        let Fixed { space: owner, order: _, snapshot, waiting: _, turns, dead, mut checkpoint } = fixed;
        let mut names = self.versions.names(&owner);
        names.sort();
        let mut root = CellsRoot::default();
        for name in names {
            let version = snapshot.read(&CellId { owner, name: name.clone() });
            if let Some((seq, value)) = version.and_then(|version| Some((version.seq, version.value?))) {
                root.add(&name, seq, value.to_value().as_bytes());
            }
        }
        if snapshot.is_lost() {
            return Ok(None);
        }
        checkpoint.cells = root.end();
        drop(snapshot);
        checkpoint.turns = turns.iter().map(|(event, progress)| TurnMark::of(*event, progress)).collect();
        for (position, _) in dead {
            // One that is not there any more has gone in a commit since.
            checkpoint.dead.extend(self.group.store.dead_letter(position)?.map(|letter| Mark::of(&letter.event)));
        }
        Ok(Some(checkpoint))
    }

    /// Returns the events that commits of a space sent and that wait for others, by receiver.
    async fn sent(&self, space: &Did) -> Result<Vec<(Did, Mark)>, Refused> {
        let mut dids = self.group.figures().dids();
        dids.retain(|did| did != space);
        dids.sort_unstable();
        let mut sent = Vec::new();
        for some in dids.chunks(HISTORY_STEP) {
            let queued: Vec<Arc<Queued>> = {
                let core = &self.locked().core;
                let inboxes = some.iter().filter_map(|did| Some((did, &core.spaces.get(did)?.inbox)));
                inboxes.flat_map(|(did, inbox)| inbox.of(space, did)).cloned().collect()
            };
            let marks = self.of_whole(queued, |queued| (queued.event.to, Mark::of(&queued.event))).await;
            sent.extend(marks.map_err(Refused::Unavailable)?);
            crate::env::breathe().await;
        }
        Ok(sent)
    }
}

impl Committer {
    /// Lets pasts go: of each space what is before a checkpoint, and the receipts up to a commit of it. Completes when that is
    /// durable.
    ///
    /// # Errors
    /// When the host does not write any more, or the store is damaged; what cannot be read stays, and no other.
    async fn cut(self: &Arc<Committer>, mut cuts: Vec<Cut>) -> Result<(), Refused> {
        let committer = self.clone();
        let prepared = self.group.block(move || {
            let mut stays = Ok(());
            for cut in cuts.iter_mut().filter(|cut| cut.seq > 0) {
                cut.order = committer.group.store.entry(&cut.space, cut.seq)?.map_or(0, |entry| entry.order);
                if let Err(why) = committer.count(cut) {
                    // That of the others goes all the same.
                    cut.order = 0;
                    stays = stays.and(Err(why));
                }
            }
            // None without its place in the host: it has gone meanwhile.
            cuts.retain(|cut| cut.seq == 0 || cut.order > 0);
            let (end, mut heads) = committer.group.chains().all();
            heads.sort_unstable();
            let heads = heads_hash(heads.iter().map(|(did, seq, head)| (did, *seq, head)));
            Ok((Pruned { order: end.order, entry: end.entry, position: end.position, heads, cuts }, stays))
        });
        let prepared = prepared.await.ok_or(Refused::Unavailable(Unavailable::RuntimeEnded))?;
        let (pruned, stays) = prepared.map_err(Refused::Store)?;
        let stays = stays.map_err(Refused::Store);
        if pruned.cuts.is_empty() {
            return stays;
        }
        let gone: Vec<(Did, u64)> = pruned.cuts.iter().map(|cut| (cut.space, cut.seq)).collect();
        let done = self.act(self.host, Act::Prune(Box::new(pruned)))?;
        self.durable(done.order).await.map_err(Refused::Unavailable)?;
        for (space, seq) in gone.into_iter().filter(|(_, seq)| *seq > 0) {
            let name = self.name_of(&space).unwrap_or_default();
            say(|| tracing::info!(%space, seq, "the past of {name} has gone up to that commit"));
        }
        stays
    }

    /// Lets the whole past of a charm go, up to now, and its dead letters. Completes when that is durable and nothing of it is
    /// left on disk.
    ///
    /// # Errors
    /// `Gone` when there is no such space, or somebody reads the store without an end; else as `checkpoint`.
    pub async fn prune(self: &Arc<Committer>, space: &Did) -> Result<Gone, Refused> {
        let _pruning = self.pruning.lock().await;
        self.readable(space).await?;
        loop {
            let (count, order) = self.drop_letters(space)?;
            self.durable(order).await.map_err(Refused::Unavailable)?;
            if count == 0 {
                break;
            }
        }
        let mut checkpoint = None;
        for _ in 0..TRIES_MAX {
            checkpoint = self.checkpoint(space).await?;
            if checkpoint.is_some() {
                break;
            }
        }
        let seq = checkpoint.ok_or_else(|| {
            let why = format!("no checkpoint of {space} can be made now, or its key does not sign: try again");
            Refused::Store(StoreError::Failed(why))
        })?;
        let before = self.floor(space);
        let receivers = self.receivers(space, seq).await?;
        let receipts = self.receipts_floor(space);
        self.cut(vec![Cut { space: *space, seq, order: 0, receipts, messages: seq }]).await?;
        self.scrub().await?;
        Ok(Gone { floor: seq, commits: seq - before, receivers })
    }

    /// Waits until what has gone is in no file of the store.
    async fn scrub(&self) -> Result<(), Refused> {
        for _ in 0..SCRUBS_MAX {
            let store = self.group.store.clone();
            let done = self.group.block(move || store.scrub()).await;
            match done.ok_or(Refused::Unavailable(Unavailable::RuntimeEnded))? {
                Ok(true) => return Ok(()),
                Ok(false) | Err(StoreError::Locked { .. } | StoreError::Full) => {}
                Err(error) => return Err(Refused::Store(error)),
            }
            self.env.sleep(SCRUB_PAUSE).await;
        }
        Err(Refused::Store(StoreError::Failed(
            "what has gone is still in files of the store, which somebody reads: end that reader, or run it again"
                .to_owned(),
        )))
    }

    pub fn receipts_floor(&self, space: &Did) -> u64 {
        self.locked().core.spaces.get(space).map_or(0, |space| space.receipts_floor)
    }

    /// Counts what goes with a cut, and sees that it can be read: what is kept of it is made from its records. Blocks.
    fn count(&self, cut: &Cut) -> Result<(), StoreError> {
        // What went before may still be there, for a moment.
        let (floor, mut bytes) = (self.floor(&cut.space), 0);
        self.records(&cut.space, cut.seq, |entry, _| {
            bytes += if entry.seq > floor { entry.record.len() as u64 } else { 0 };
        })?;
        self.group.figures().keeps().going.insert(cut.space, bytes);
        Ok(())
    }

    /// Reads the log entries of a space up to one of them, a few at a time. Blocks.
    fn records(&self, space: &Did, last: u64, mut look: impl FnMut(&LogEntry, &Record)) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let page = self.group.store.log(Some(space), after, ENTRIES_PAGE)?;
            for entry in page.iter().filter(|entry| entry.seq <= last) {
                let record = Record::from_bytes(&entry.record);
                look(entry, &record.map_err(|why| StoreError::unread(entry.order, why))?);
            }
            match page.last().filter(|end| end.seq < last) {
                Some(end) => after = end.order,
                None => return Ok(()),
            }
        }
    }

    /// Sees that the commits of a space can be read: what cannot stays, and nothing else of it goes.
    ///
    /// # Errors
    /// When one of them cannot, or the host does not write any more.
    pub async fn readable(self: &Arc<Committer>, space: &Did) -> Result<(), Refused> {
        let now = self.locked().core.spaces.get(space).map_or(0, |space| space.seq);
        self.receivers(space, now).await.map(drop)
    }

    /// Returns who was sent events by commits of a space up to one of them.
    ///
    /// # Errors
    /// When one of them cannot be read.
    async fn receivers(self: &Arc<Committer>, space: &Did, last: u64) -> Result<Vec<Did>, Refused> {
        let (committer, space) = (self.clone(), *space);
        let receivers = self.group.block(move || {
            let mut receivers = BTreeSet::new();
            committer.records(&space, last, |_, record| {
                receivers.extend(record.sends().map(|(event, _)| event.to).filter(|to| *to != space));
            })?;
            Ok(receivers.into_iter().collect())
        });
        receivers.await.ok_or(Refused::Unavailable(Unavailable::RuntimeEnded))?.map_err(Refused::Store)
    }

    /// Removes all cells of a charm that is not installed. Completes when that is durable.
    ///
    /// # Errors
    /// When the host does not write any more.
    pub async fn remove_cells(&self, space: &Did) -> Result<(), Refused> {
        let names = self.versions.names(space);
        let mut order = 0;
        for some in names.chunks(HISTORY_STEP) {
            let now = self.now();
            let mut locked = self.open().map_err(Refused::Unavailable)?;
            let (mut writes, mut cells, mut growth) = (Vec::new(), Vec::new(), Growth::default());
            for name in some {
                let Some(version) = self.versions.latest(space, name) else { continue };
                let Some(replaced) = version.value.as_ref().map(Tree::len) else { continue };
                growth.change(Some(replaced), None);
                writes.push(Write { name: name.clone(), previous: version.seq, edits: vec![Edit::remove()] });
                cells.push(Change { name: name.clone(), value: None, replaced });
            }
            if writes.is_empty() {
                continue;
            }
            writes.sort_by(|a, b| a.name.cmp(&b.name));
            let cells = Some((cells, self.versions.snapshot()));
            let (done, after) = self.perform(&mut locked, *space, now, Act::Remove(writes, growth), cells, &[])?;
            drop(locked);
            self.tell(after);
            order = done.order;
        }
        self.durable(order).await.map_err(Refused::Unavailable)
    }
}

impl Committer {
    /// Runs until nothing is written any more: lets go what is more than charms keep.
    pub async fn keep_history(self: Arc<Committer>) {
        let group: Arc<Group> = self.group.clone();
        tokio::select! {
            () = group.ended() => {}
            () = self.let_go() => {}
        }
    }

    async fn let_go(self: &Arc<Committer>) {
        let mut durable = self.durable.clone();
        let mut receipts_at = self.env.monotonic() + Duration::from_millis(RECEIPTS_PAUSE_MS);
        let mut seen = 0;
        while durable.changed().await.is_ok() {
            self.env.sleep(Duration::from_millis(HISTORY_PAUSE_MS)).await;
            let work = self.group.figures().keeps().work;
            if std::mem::replace(&mut seen, work) == work {
                continue;
            }
            let _pruning = self.pruning.lock().await;
            let mut cuts = Vec::new();
            let full = std::mem::take(&mut self.group.figures().keeps().full);
            let mut result = Ok(());
            for space in full {
                result = result.and(self.trim(&space, &mut cuts).await);
            }
            let now = self.env.monotonic();
            if now >= receipts_at {
                receipts_at = now + Duration::from_millis(RECEIPTS_PAUSE_MS);
                result = result.and(self.expire(&mut cuts).await);
            }
            if !cuts.is_empty() {
                result = result.and(self.cut(cuts).await);
            }
            // Any other is told by whoever writes.
            if let Err(Refused::Store(error)) = result {
                say(|| tracing::warn!("the past of charms stays for now: {error}"));
            }
        }
    }

    /// Makes a checkpoint of a space that has half of what it keeps, and cuts there when it has all.
    async fn trim(self: &Arc<Committer>, space: &Did, cuts: &mut Vec<Cut>) -> Result<(), Refused> {
        let (history, keep, has_checkpoint) = self.history_of(space);
        let Some(keep) = keep.filter(|keep| history > keep.history_bytes / 2) else { return Ok(()) };
        if !has_checkpoint && self.checkpoint(space).await?.is_none() {
            // Another time.
            self.group.figures().keeps().full.insert(*space);
            return Ok(());
        }
        if history <= keep.history_bytes {
            return Ok(());
        }
        let signed = self.group.figures().signed(space);
        let locked = self.locked();
        let of = locked.core.spaces.get(space);
        if let Some(of) = of.filter(|of| of.checkpoint.seq > of.floor && of.checkpoint.at <= signed) {
            let (seq, receipts) = (of.checkpoint.seq, of.receipts_floor);
            cuts.push(Cut { space: *space, seq, order: 0, receipts, messages: 0 });
        }
        Ok(())
    }

    /// Returns what the records of a space take, how much is kept, and whether there is a checkpoint to cut at.
    fn history_of(&self, space: &Did) -> (u64, Option<Keep>, bool) {
        let mut figures = self.group.figures();
        let history = figures.history(space);
        let keeps = figures.keeps();
        (history, keeps.of(space), keeps.checkpointed.contains(space))
    }

    /// Lets receipts go whose time is over.
    async fn expire(self: &Arc<Committer>, cuts: &mut Vec<Cut>) -> Result<(), Refused> {
        let (now, mut dids) = (self.env.now_ms(), self.group.figures().dids());
        dids.sort_unstable();
        let committer = self.clone();
        let found = self.group.block(move || -> Result<Vec<(Did, u64)>, StoreError> {
            let mut found = Vec::new();
            for did in dids {
                let (_, keep, _) = committer.history_of(&did);
                let before = now.saturating_sub(keep.map_or(u64::MAX, |keep| keep.receipts_ms));
                let mut after = committer.receipts_floor(&did);
                let first = after;
                loop {
                    let page = committer.group.store.settled(&did, after, HISTORY_STEP)?;
                    let over = page.iter().take_while(|row| row.time_ms < before).count();
                    after = over.checked_sub(1).map_or(after, |last| page[last].seq);
                    if over < HISTORY_STEP {
                        break;
                    }
                }
                if after > first {
                    found.push((did, after));
                }
            }
            Ok(found)
        });
        let found = found.await.ok_or(Refused::Unavailable(Unavailable::RuntimeEnded))?.map_err(Refused::Store)?;
        for (space, receipts) in found {
            match cuts.iter_mut().find(|cut| cut.space == space) {
                Some(cut) => cut.receipts = receipts,
                None => cuts.push(Cut { space, seq: 0, order: 0, receipts, messages: 0 }),
            }
        }
        Ok(())
    }
}
