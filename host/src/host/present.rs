//! What a cell holds now: the one place that is asked, by whoever reads from outside and for those who watch (D6).

use std::{
    future::{Future, pending},
    sync::{Arc, Weak},
    time::Duration,
};

use super::Host;
use crate::{
    archive::ReadError,
    cell::CellId,
    did::Did,
    env::apart,
    limits::MESSAGE_BYTES_MAX,
    text::clip,
    turn::Stage,
    tx::{Below, Present, Topic, Unanswered, Unavailable, Watched},
};

/// After how long what could not be computed is tried again for those who watch it.
const AGAIN: Duration = Duration::from_secs(1);

impl Stage {
    /// Returns what a cell holds that is not derived; none for one that is.
    fn held(&self, cell: &CellId) -> Option<Present> {
        let is_derived = self.committer.directory().derivation(&cell.owner, &cell.name).is_some();
        (!is_derived).then(|| self.committer.present(cell))
    }

    /// Returns what a cell holds now, and which commit it is of. Nobody is told before commit `order` of it is durable. And what it
    /// hangs on, when it is derived, at which commit.
    async fn look(
        &self,
        cell: &CellId,
        unwanted: impl Future<Output = ()>,
    ) -> (Result<Present, ReadError>, Option<Below>) {
        if let Some(present) = self.held(cell) {
            return (Ok(present), None);
        }
        let Some((memo, order)) = self.deriver.now(cell, unwanted).await else {
            return (Err(Unavailable::RuntimeEnded.into()), None);
        };
        let revision = self.committer.last_commit(&cell.owner).unwrap_or(0);
        let present = match &memo.run.value {
            Ok(value) => Ok(Present { value: Some(value.clone()), revision, order }),
            Err(why) => Err(ReadError::Underivable(why.refusal().to_string())),
        };
        (present, Some(Below { leaves: memo.leaves, order, is_passing: memo.is_passing }))
    }

    /// Answers for all who watch one thing, as often as it is marked, until nobody watches it any more or the host has stopped.
    /// A cell is asked for once, however many watch it; what is marked meanwhile is one more answer. Any that reads slowly, or not
    /// at all, keeps nobody from it: the last answer is all that there is.
    async fn answer(&self, watched: Weak<Watched>) {
        let Some(mut marks) = watched.upgrade().map(|watched| watched.marks()) else { return };
        if let Some(watched) = watched.upgrade() {
            self.committer.list_names(&watched).await;
        }
        while marks.changed().await.is_ok() {
            let mark = *marks.borrow_and_update();
            let Some(topic) = watched.upgrade().map(|watched| watched.topic.clone()) else { return };
            let answer = match &topic {
                Topic::Cell(cell) => {
                    // It ends when nobody watches any more: none does this work for nobody.
                    let mut of_nobody = marks.clone();
                    let unwanted = async move { drop(of_nobody.wait_for(|_| false).await) };
                    Some(self.durable(cell, &watched, unwanted).await)
                }
                _ => None,
            };
            let Some(watched) = watched.upgrade() else { return };
            let has_stopped = matches!(answer, Some(Err(Unanswered::Unavailable(_))));
            watched.tell(mark, answer);
            if has_stopped {
                return;
            }
        }
    }

    /// Returns what a cell holds now, as soon as that is durable. A derived one is marked from then on when something below it is
    /// written.
    async fn durable(
        &self,
        cell: &CellId,
        watched: &Weak<Watched>,
        unwanted: impl Future<Output = ()>,
    ) -> Result<Present, Unanswered> {
        let (present, below) = self.look(cell, unwanted).await;
        let order = below.as_ref().map_or(0, |below| below.order);
        if let Some(there) = watched.upgrade() {
            if below.as_ref().is_some_and(|below| below.is_passing) && there.sets_out_again() {
                // Nothing below it says when it can be computed.
                let (sleep, watched) = (self.env.sleep(AGAIN), watched.clone());
                self.env.spawn(Box::pin(async move {
                    sleep.await;
                    watched.upgrade().iter().for_each(|watched| watched.comes_again());
                }));
            }
            self.committer.watch_below(&there, below);
        }
        if present.is_err() {
            self.committer.durable_at_last(order).await.map_err(Unanswered::Unavailable)?;
        }
        let present = present.map_err(|error| match error {
            ReadError::Unavailable(why) => Unanswered::Unavailable(why),
            error => Unanswered::Failed(clip(&error.to_string(), MESSAGE_BYTES_MAX).into_owned()),
        })?;
        let durable = self.committer.durable_at_last(present.order).await;
        durable.map(|()| present).map_err(Unanswered::Unavailable)
    }

    /// Begins to answer for those who watch one thing.
    pub(super) fn begin_answering(self: &Arc<Stage>, watched: &Arc<Watched>) {
        let (stage, watched) = (self.clone(), Arc::downgrade(watched));
        self.env.spawn(Box::pin(async move { stage.answer(watched).await }));
    }
}

impl Host {
    /// Returns what a cell holds now, once that is durable.
    pub(super) async fn present(&self, owner: &Did, cell: &str) -> Result<Present, ReadError> {
        let (stage, cell) = (self.stage.clone(), CellId { owner: *owner, name: cell.into() });
        let (present, below) = match stage.held(&cell) {
            Some(present) => (Ok(present), None),
            None => apart(&*self.stage.env, async move { stage.look(&cell, pending()).await })
                .await
                .ok_or(Unavailable::RuntimeEnded)?,
        };
        // What failed hangs on what was committed too (T8).
        let order = present.as_ref().map_or(0, |present| present.order).max(below.map_or(0, |below| below.order));
        self.stage.committer.durable(order).await?;
        present
    }
}
