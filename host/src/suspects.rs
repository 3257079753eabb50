//! What processes have died under (docs/decisions/0006-what-a-process-died-under.md): who runs alone, and what is held.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    did::Did,
    env::Env,
    limits::{LONE_RUNS_MAX, SUSPECTS_MAX},
    log::say,
    rows::{Image, Queued},
    store::{List, Marks, Store, StoreError, Suspect, Work, hex},
};

/// How long after the start of the host a suspect runs, by the times that a process has died under it alone.
const PAUSES: [Duration; LONE_RUNS_MAX as usize] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];

/// The suspects of a store.
pub struct Suspects {
    env: Arc<dyn Env>,
    /// When the host was opened.
    start: Duration,
    list: Option<List>,
    known: Mutex<BTreeMap<Work, Standing>>,
    /// Whether `known` has anybody: all that most turns look at.
    any: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    deaths: Option<u32>,
    late: bool,
}

impl Standing {
    fn is_held(self) -> bool {
        self.deaths.is_some_and(|deaths| deaths >= LONE_RUNS_MAX)
    }
}

impl Suspects {
    /// Takes in what the last process on a store died under, durably, and begins the marks of this one. A store that
    /// is no file has neither.
    ///
    /// # Errors
    /// When the files beside the store cannot be read or written.
    pub fn open(
        store: &dyn Store,
        image: &Image,
        env: Arc<dyn Env>,
    ) -> Result<(Arc<Suspects>, Option<Marks>), StoreError> {
        let mut known = BTreeMap::new();
        let (mut list, mut marks) = (None, None);
        if let Some(file) = store.folder() {
            let (its, suspects) = List::read(file)?;
            if its.forgotten > 0 {
                say(|| {
                    tracing::warn!(
                        lines = its.forgotten,
                        "suspects: more lines of a later host than are kept: forgotten"
                    )
                });
            }
            known =
                suspects.into_iter().map(|Suspect { work, deaths, late }| (work, Standing { deaths, late })).collect();
            let before = known.clone();
            for mark in Marks::left(file) {
                let standing: &mut Standing = known.entry(mark.work).or_default();
                standing.deaths = Some(standing.deaths.unwrap_or(0) + u32::from(mark.alone));
            }
            forget(&mut known, image);
            if known != before {
                its.write(lines(&known))?;
            }
            marks = Some(Marks::begin(file)?);
            list = Some(its);
        }
        known.iter().for_each(|(work, standing)| tell(work, *standing, image));
        let any = AtomicBool::new(!known.is_empty());
        let start = env.monotonic();
        Ok((Arc::new(Suspects { env, start, list, known: Mutex::new(known), any }), marks))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Work, Standing>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing(&self, work: &Work) -> Option<Standing> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        self.known().get(work).copied()
    }

    /// Returns whether a process has died under it and it has not come to its end since.
    pub fn contains(&self, work: &Work) -> bool {
        self.standing(work).is_some_and(|standing| standing.deaths.is_some())
    }

    /// Returns whether it may not run until the operator lets it.
    pub fn is_held(&self, work: &Work) -> bool {
        self.standing(work).is_some_and(Standing::is_held)
    }

    /// Returns how long it has to wait until it may run: each time longer.
    pub fn pause(&self, work: &Work) -> Duration {
        let deaths = self.standing(work).and_then(|standing| standing.deaths);
        let pause = deaths.and_then(|deaths| PAUSES.get(deaths as usize)).copied().unwrap_or_default();
        pause.saturating_sub(self.env.monotonic().saturating_sub(self.start))
    }

    /// Returns the positions of events that are held.
    pub fn held(&self) -> BTreeSet<u64> {
        self.positions(Standing::is_held)
    }

    /// Returns the positions of events that are out of the order of their charm's events.
    pub fn late(&self) -> BTreeSet<u64> {
        self.positions(|standing| standing.late)
    }

    /// Returns the charms and pauses of events that do not run at once.
    pub fn paused(&self, image: &Image) -> Vec<(Did, Duration)> {
        let pause = |queued: &Queued| self.pause(&work_of(queued));
        let paused = image.queued.iter().map(|queued| (queued.event.to, pause(queued)));
        paused.filter(|(_, pause)| !pause.is_zero()).collect()
    }

    fn positions(&self, which: impl Fn(Standing) -> bool) -> BTreeSet<u64> {
        let position = |(work, standing): (&Work, &Standing)| match work {
            Work::Turn { position, .. } if which(*standing) => Some(*position),
            _ => None,
        };
        self.known().iter().filter_map(position).collect()
    }

    /// Notes that it came to its end: nothing speaks against it any more.
    pub fn clear(&self, work: &Work) {
        if self.contains(work)
            && let Err(error) = self.acquit(work)
        {
            // The list is older than the truth: at the next start it runs alone once more.
            say(|| tracing::warn!(%error, "suspects not written"));
        }
    }

    /// Lets it run again, durably: the operator says so. Returns whether it was held.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn release(&self, work: &Work) -> Result<bool, StoreError> {
        let held = self.is_held(work);
        if held {
            self.acquit(work)?;
        }
        Ok(held)
    }

    #[cfg(test)]
    pub fn suspect(&self, work: Work) {
        self.known().insert(work, Standing { deaths: Some(0), late: false });
        self.any.store(true, Ordering::Relaxed);
    }

    fn acquit(&self, work: &Work) -> Result<(), StoreError> {
        let mut known = self.known();
        let mut after = known.clone();
        match after.get_mut(work) {
            Some(standing) if standing.late => standing.deaths = None,
            Some(_) => drop(after.remove(work)),
            None => return Ok(()),
        }
        self.list.iter().try_for_each(|list| list.write(lines(&after)))?;
        *known = after;
        Ok(())
    }
}

/// Returns the positions of a store's events that are held.
///
/// # Errors
/// When the list cannot be read.
pub fn held(store: &dyn Store) -> Result<BTreeSet<u64>, StoreError> {
    let Some(folder) = store.folder() else { return Ok(BTreeSet::new()) };
    let (_, suspects) = List::read(folder)?;
    let position = |suspect: Suspect| match suspect.work {
        Work::Turn { position, .. } if suspect.deaths >= Some(LONE_RUNS_MAX) => Some(position),
        _ => None,
    };
    Ok(suspects.into_iter().filter_map(position).collect())
}

/// Returns what an event's turn is marked with.
pub fn work_of(queued: &Queued) -> Work {
    Work::Turn { position: queued.position, id: queued.event.id }
}

fn lines(known: &BTreeMap<Work, Standing>) -> impl Iterator<Item = Suspect> + '_ {
    known.iter().map(|(work, Standing { deaths, late })| Suspect { work: *work, deaths: *deaths, late: *late })
}

/// Drops events that are settled, and holds what has had its last try.
fn forget(known: &mut BTreeMap<Work, Standing>, image: &Image) {
    let waiting: BTreeSet<Work> = image.queued.iter().map(work_of).collect();
    known.retain(|work, _| matches!(work, Work::Describe { .. }) || waiting.contains(work));
    for (work, standing) in known.iter_mut() {
        standing.late |= standing.is_held() && matches!(work, Work::Turn { .. });
    }
    // Components sort after events.
    let components = known.keys().filter(|work| matches!(work, Work::Describe { .. })).count();
    for _ in SUSPECTS_MAX..components {
        if let Some((Work::Describe { component }, _)) = known.pop_last() {
            say(|| tracing::warn!(component = hex(&component), "more suspects than are remembered: forgotten"));
        }
    }
}

fn tell(work: &Work, standing: Standing, image: &Image) {
    let Some(deaths) = standing.deaths else { return };
    match work {
        Work::Turn { position, id } => {
            let charm = image.queued.iter().find(|queued| queued.position == *position).map(|queued| queued.event.to);
            let name = image.spaces.iter().find(|row| Some(row.did) == charm).map_or("", |row| row.name.as_str());
            if standing.is_held() {
                say(
                    || tracing::error!(charm = name, event = %id, "held: processes died under this event, alone too; let it run or discard it (charm events)"),
                );
            } else {
                say(
                    || tracing::warn!(charm = name, event = %id, deaths, "the last process died while this event ran: it runs alone"),
                );
            }
        }
        Work::Describe { component } => {
            let component = hex(component);
            if standing.is_held() {
                say(|| {
                    tracing::error!(
                        component,
                        "held: processes died while this component was described, alone too; replace it or let it be described (charm release)"
                    )
                });
            } else {
                say(|| tracing::warn!(component, deaths, "the last process died while this component was described"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
