//! Who waits for a commit to be durable: each is woken once, when it is, however many wait and however many batches go by.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::oneshot;

/// Those who wait, the earliest commit first.
#[derive(Default)]
pub(super) struct Line(Mutex<BinaryHeap<Waiting>>);

struct Waiting {
    order: Reverse<u64>,
    sender: oneshot::Sender<()>,
}

impl Line {
    /// Gets in line for a commit; whoever comes looks then whether it is there already.
    pub fn join(&self, order: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting { order: Reverse(order), sender };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
        receiver
    }

    /// Wakes those who wait for a commit up to this one.
    pub fn reached(&self, order: u64) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(first) = line.peek_mut().filter(|first| first.order.0 <= order) {
            // Who has gone away needs no wake.
            let _ = std::collections::binary_heap::PeekMut::pop(first).sender.send(());
        }
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.order == other.order
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_are_woken_when_their_commit_is_there_and_no_others() {
        let line = Line::default();
        let mut waiting: Vec<_> = [5, 1, 3, 3, 9].map(|order| (order, line.join(order))).into();
        for reached in [0, 2, 3, 4, 8, 9] {
            line.reached(reached);
            for (order, receiver) in &mut waiting {
                assert_eq!(receiver.try_recv().is_ok(), *order <= reached, "{order} at {reached}");
            }
            waiting.retain(|(order, _)| *order > reached);
        }
        assert!(line.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }
}
