//! What a cell holds now: the one place that is asked, by whoever reads from outside and for those who watch (D6).

use std::sync::{Arc, Weak};

use super::Host;
use crate::{
    archive::ReadError,
    cell::CellId,
    did::Did,
    limits::MESSAGE_BYTES_MAX,
    text::clip,
    turn::Stage,
    tx::{Present, Topic, Unanswered, Watched},
};

impl Stage {
    /// Returns what a cell holds now, and which commit it is of. Nobody is told before commit `order` of it is durable.
    ///
    /// # Errors
    /// Why it cannot be read.
    #[expect(clippy::unused_async, reason = "a cell that is computed takes time")]
    pub(super) async fn present(&self, cell: &CellId) -> Result<Present, ReadError> {
        Ok(self.committer.present(cell))
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
            let Some(watched) = watched.upgrade() else { return };
            let mark = *marks.borrow_and_update();
            let answer = match &watched.topic {
                Topic::Cell(cell) => Some(self.durable(cell).await),
                _ => None,
            };
            let has_stopped = matches!(answer, Some(Err(Unanswered::Unavailable(_))));
            watched.tell(mark, answer);
            if has_stopped {
                return;
            }
        }
    }

    /// Returns what a cell holds now, as soon as that is durable.
    async fn durable(&self, cell: &CellId) -> Result<Present, Unanswered> {
        let present = self.present(cell).await.map_err(|error| match error {
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
        let present = self.stage.present(&CellId { owner: *owner, name: cell.into() }).await?;
        self.stage.committer.durable(present.order).await?;
        Ok(present)
    }
}
