//! The threads that guests are on: each says in the marks what for, and a suspect has no other guest beside it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use crate::{
    store::{Mark, Marks, Work},
    suspects::Suspects,
};

/// All threads of one host that run guests.
pub struct Threads {
    inner: Mutex<Inner>,
    /// None beside a store that is no file.
    marks: Option<Marks>,
    suspects: Arc<Suspects>,
}

#[derive(Default)]
struct Inner {
    /// Guests on a thread now.
    running: usize,
    /// Whether one of them is to be alone.
    alone: bool,
    /// Guests that wait to be alone: until then no other begins.
    wanting: usize,
    /// Who waits for a guest to leave.
    waiting: Vec<Waker>,
    /// What stands in each slot of the marks.
    slots: Vec<Slot>,
    /// Slots that no thread has; the last is taken first.
    free: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Slot {
    mark: Option<Mark>,
    /// Whether nobody has had it since the last tick.
    rested: bool,
}

impl Inner {
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
    /// Returns no threads yet.
    pub fn new(marks: Option<Marks>, suspects: Arc<Suspects>) -> Threads {
        Threads { inner: Mutex::default(), marks, suspects }
    }

    /// Returns who runs alone, or not at all.
    pub fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs guest code, with its mark while it is on a thread. A suspect is there without any other guest, slice by
    /// slice: between its slices others go on.
    pub async fn run<T>(&self, work: Work, guest: impl Future<Output = T>) -> T {
        let Some(marks) = &self.marks else { return guest.await };
        let alone = self.suspects.contains(&work);
        let mut guest = pin!(guest);
        let mut visitor = Visitor { threads: self, marks, mark: Mark { work, alone }, wanting: false };
        poll_fn(|context| match visitor.enter(context.waker()) {
            Some(_here) => guest.as_mut().poll(context),
            None => Poll::Pending,
        })
        .await
    }

    /// Wipes the marks of guests that have left their thread a while ago: once a tick, so that turns in a row pay for
    /// one write each.
    pub fn tick(&self) {
        if let Some(marks) = &self.marks {
            self.inner().wipe(marks, |slot| std::mem::replace(&mut slot.rested, true));
        }
    }

    /// Wipes all marks: the host ends, and whatever still runs is no cause of death.
    pub fn close(&self) {
        self.marks.iter().for_each(Marks::wipe);
    }
}

/// A guest that comes to threads and leaves them.
struct Visitor<'a> {
    threads: &'a Threads,
    marks: &'a Marks,
    mark: Mark,
    wanting: bool,
}

impl<'a> Visitor<'a> {
    /// Takes a slot and writes the mark; none while that must wait.
    fn enter(&mut self, waker: &Waker) -> Option<Here<'a>> {
        let mut inner = self.threads.inner();
        let alone = self.mark.alone;
        let must_wait = inner.alone || if alone { inner.running > 0 } else { inner.wanting > 0 };
        if must_wait {
            inner.wanting += usize::from(alone && !std::mem::replace(&mut self.wanting, alone));
            if !inner.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
                inner.waiting.push(waker.clone());
            }
            return None;
        }
        inner.wanting -= usize::from(std::mem::take(&mut self.wanting));
        inner.running += 1;
        inner.alone = alone;
        if alone {
            inner.wipe(self.marks, |_| true);
        }
        let number = inner.free.pop().unwrap_or(inner.slots.len());
        let slot = Slot { mark: Some(self.mark), rested: false };
        let before = match inner.slots.get_mut(number) {
            Some(place) => std::mem::replace(place, slot).mark,
            None => {
                inner.slots.push(slot);
                None
            }
        };
        drop(inner);
        if before != slot.mark {
            self.marks.set(number, slot.mark);
        }
        Some(Here { threads: self.threads, marks: self.marks, mark: self.mark, slot: number })
    }
}

impl Drop for Visitor<'_> {
    fn drop(&mut self) {
        if self.wanting {
            let mut inner = self.threads.inner();
            inner.wanting -= 1;
            let waiting = std::mem::take(&mut inner.waiting);
            drop(inner);
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// A guest that is on a thread; it leaves when this is dropped.
struct Here<'a> {
    threads: &'a Threads,
    marks: &'a Marks,
    mark: Mark,
    slot: usize,
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        // What counts against somebody must not stand a moment longer than it is true.
        let wipe = self.mark.alone || matches!(self.mark.work, Work::Describe { .. });
        if wipe {
            self.marks.set(self.slot, None);
        }
        let mut inner = self.threads.inner();
        inner.running -= 1;
        inner.alone = false;
        if wipe {
            inner.slots[self.slot].mark = None;
        }
        inner.free.push(self.slot);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
