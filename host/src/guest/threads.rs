//! The threads that guests are on, as many at once as the machine has: who has had little of them comes first (A6). Each
//! guest says in the marks what it is there for, and a suspect has no other guest beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    env::{Env, breathe},
    store::{Mark, Marks, Work},
    suspects::Suspects,
};

/// How far a guest that has run stands behind those that come after it, at most. So a long turn goes on whatever comes.
const BEHIND_MAX: Duration = Duration::from_millis(20);

/// All threads of one host that run guests. No more guests are called to a thread than there are threads: whatever else
/// there is to do finds at most one slice of a guest before it.
pub struct Threads {
    max: usize,
    inner: Mutex<Inner>,
    /// None beside a store that is no file.
    marks: Option<Marks>,
    suspects: Arc<Suspects>,
    env: Arc<dyn Env>,
}

#[derive(Default)]
struct Inner {
    /// Guests on a thread since this tick, since the one before, and for longer: those count for nothing, since
    /// whatever blocks them would block all others.
    here: [usize; 3],
    /// Whether a guest on a thread, or called to one, is to be alone.
    alone: bool,
    /// Ticks so far.
    ticks: u64,
    /// Who waits for a thread; the first is called.
    line: BTreeMap<Place, Waiting>,
    /// Who is called and has not come yet.
    called: BTreeSet<Place>,
    /// The last number in a place.
    number: u64,
    /// What stands in each slot of the marks.
    slots: Vec<Slot>,
    /// Slots that no thread has; the last is taken first.
    free: Vec<usize>,
}

/// When a guest came to the line, with what it has had of threads added: who has had little comes first. And a number of
/// its own.
type Place = (Duration, u64);

struct Waiting {
    waker: Waker,
    alone: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    mark: Option<Mark>,
    /// Whether nobody has had it since the last tick.
    rested: bool,
}

impl Inner {
    /// Returns whether there is a thread.
    fn has_room(&self, alone: bool, max: usize) -> bool {
        let [now, before, longer] = self.here;
        let counted = now + before + self.called.len();
        !self.alone && if alone { counted + longer == 0 } else { counted < max }
    }

    /// Takes a thread; returns the tick of that.
    fn come(&mut self, alone: bool) -> u64 {
        self.here[0] += 1;
        self.alone |= alone;
        self.ticks
    }

    /// Gives a thread back that was taken at that tick.
    fn leave(&mut self, tick: u64) {
        self.here[(self.ticks - tick).min(2) as usize] -= 1;
        self.alone = false;
    }

    fn tick(&mut self) {
        let [now, before, longer] = self.here;
        self.here = [0, now, before + longer];
        self.ticks += 1;
    }

    /// Adds a guest to the line.
    fn wait(&mut self, since: Duration, waiting: Waiting) -> Place {
        self.number += 1;
        let place = (since, self.number);
        self.line.insert(place, waiting);
        place
    }

    /// Calls the first in line to the thread that is free now, if there is one.
    fn call(&mut self, max: usize) -> Option<Waker> {
        let alone = self.line.first_key_value()?.1.alone;
        if !self.has_room(alone, max) {
            return None;
        }
        let (place, waiting) = self.line.pop_first()?;
        self.called.insert(place);
        self.alone |= alone;
        Some(waiting.waker)
    }

    /// Takes a slot for a mark; returns whether another stands there.
    fn slot(&mut self, mark: Mark) -> (usize, bool) {
        let number = self.free.pop().unwrap_or(self.slots.len());
        let slot = Slot { mark: Some(mark), rested: false };
        let Some(place) = self.slots.get_mut(number) else {
            self.slots.push(slot);
            return (number, true);
        };
        (number, std::mem::replace(place, slot).mark != Some(mark))
    }

    /// Wipes the marks of slots that no thread has.
    fn wipe(&mut self, marks: &Marks, which: impl Fn(&mut Slot) -> bool) {
        for number in self.free.iter().copied() {
            let slot = &mut self.slots[number];
            if which(slot) && slot.mark.take().is_some() {
                marks.set(number, None);
            }
        }
    }
}

impl Threads {
    /// Returns as many threads as there may be guests at once.
    pub fn new(max: usize, marks: Option<Marks>, suspects: Arc<Suspects>, env: Arc<dyn Env>) -> Threads {
        Threads { max: max.max(1), inner: Mutex::default(), marks, suspects, env }
    }

    /// Returns who runs alone, or not at all.
    pub fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs guest code that has `had` so much of threads, with its mark while it is on one. A suspect is there without
    /// any other guest, slice by slice: between its slices others go on. A guest that is pending has come to the end of a
    /// slice, and waits for nothing but the next.
    pub async fn run<T>(&self, work: Work, had: impl Fn() -> Duration, guest: impl Future<Output = T>) -> T {
        let mut guest = pin!(guest);
        let mark = Mark { work, alone: self.marks.is_some() && self.suspects.contains(&work) };
        let mut visitor = Visitor { threads: self, mark, place: None };
        loop {
            let slice = poll_fn(|context| {
                let Some(here) = visitor.comes(context.waker()) else { return Poll::Pending };
                let slice = guest.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if slice.is_pending() {
                    visitor.goes(here, context.waker(), self.env.monotonic() + had().min(BEHIND_MAX));
                }
                Poll::Ready(slice)
            });
            if let Poll::Ready(end) = slice.await {
                return end;
            }
            // Whatever else is ready goes before the next slice of anybody.
            breathe().await;
            visitor.calls();
        }
    }

    /// Calls those who are first in line, as many as there are threads free.
    fn call<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) {
        while let Some(next) = inner.call(self.max) {
            drop(inner);
            next.wake();
            inner = self.inner();
        }
    }

    /// Wipes the marks of guests that have left their thread a while ago: once a tick, so that turns in a row pay for
    /// one write each. And lets others come beside guests that have not left theirs for as long.
    pub fn tick(&self) {
        let mut inner = self.inner();
        if let Some(marks) = &self.marks {
            inner.wipe(marks, |slot| std::mem::replace(&mut slot.rested, true));
        }
        inner.tick();
        self.call(inner);
    }

    /// Wipes all marks: the host ends, and whatever still runs is no cause of death.
    pub fn close(&self) {
        self.marks.iter().for_each(Marks::wipe);
    }
}

/// A guest on its way to a thread.
struct Visitor<'a> {
    threads: &'a Threads,
    mark: Mark,
    /// Where it waits, or did before it was called.
    place: Option<Place>,
}

impl<'a> Visitor<'a> {
    /// Comes to a thread; without one it is in line.
    fn comes(&mut self, waker: &Waker) -> Option<Here<'a>> {
        let (max, alone) = (self.threads.max, self.mark.alone);
        let mut inner = self.threads.inner();
        if let Some(place) = self.place {
            if !inner.called.remove(&place) {
                inner.line.get_mut(&place)?.waker.clone_from(waker);
                return None;
            }
            self.place = None;
        } else if !inner.line.is_empty() || !inner.has_room(alone, max) {
            let now = self.threads.env.monotonic();
            let is_first = inner.line.first_key_value().is_none_or(|((since, _), _)| now < *since);
            if !is_first || !inner.has_room(alone, max) {
                self.place = Some(inner.wait(now, Waiting { waker: waker.clone(), alone }));
                return None;
            }
        }
        Some(Here::new(self.threads, self.mark, inner))
    }

    /// Leaves its thread for a while, and gets in line as one that came at `since`. Whoever finds it first there may call
    /// it before it calls by itself: that may take long on a thread that somebody blocks.
    fn goes(&mut self, mut here: Here<'_>, waker: &Waker, since: Duration) {
        let waiting = Waiting { waker: waker.clone(), alone: self.mark.alone };
        self.place = Some(self.threads.inner().wait(since, waiting));
        here.calls = false;
    }

    /// Calls those who are first in line; itself without a wake, since it is awake.
    fn calls(&self) {
        let mut inner = self.threads.inner();
        if let Some(waiting) = self.place.and_then(|place| inner.line.get_mut(&place)) {
            waiting.waker = Waker::noop().clone();
        }
        self.threads.call(inner);
    }
}

impl Drop for Visitor<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let mut inner = self.threads.inner();
        inner.line.remove(&place);
        if inner.called.remove(&place) && self.mark.alone {
            inner.alone = false;
        }
        self.threads.call(inner);
    }
}

/// A guest that is on a thread; it leaves when this is dropped.
struct Here<'a> {
    threads: &'a Threads,
    mark: Mark,
    /// The tick at which it came.
    tick: u64,
    /// Where its mark stands.
    slot: Option<usize>,
    /// Whether it calls the next one when it leaves.
    calls: bool,
}

impl<'a> Here<'a> {
    /// Takes a thread that is free, and writes the mark.
    fn new(threads: &'a Threads, mark: Mark, mut inner: MutexGuard<'_, Inner>) -> Here<'a> {
        let tick = inner.come(mark.alone);
        let Some(marks) = &threads.marks else { return Here { threads, mark, tick, slot: None, calls: true } };
        if mark.alone {
            inner.wipe(marks, |_| true);
        }
        let (slot, is_other) = inner.slot(mark);
        drop(inner);
        if is_other {
            marks.set(slot, Some(mark));
        }
        Here { threads, mark, tick, slot: Some(slot), calls: true }
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        // What counts against somebody must not stand a moment longer than it is true.
        let wipe = self.mark.alone || matches!(self.mark.work, Work::Describe { .. });
        if wipe && let (Some(marks), Some(slot)) = (&self.threads.marks, self.slot) {
            marks.set(slot, None);
        }
        let mut inner = self.threads.inner();
        if let Some(slot) = self.slot {
            if wipe {
                inner.slots[slot].mark = None;
            }
            inner.free.push(slot);
        }
        inner.leave(self.tick);
        if self.calls {
            self.threads.call(inner);
        }
    }
}

#[cfg(test)]
mod tests;
