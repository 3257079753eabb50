//! Watching one cell, or a path of it.

use super::{Change, Seat, Update, WatchError};
use crate::{
    cell::CellId,
    path::Path,
    tx::{Part, Unanswered},
};

/// One cell that is watched.
pub struct OneCell {
    cell: CellId,
    path: Path,
    /// What it goes on from, until the first answer.
    from: Option<u64>,
    /// Answers to what was marked up to here have been looked at; at the beginning those before it do not count.
    seen: u64,
    begun: bool,
    /// How many commits had written it by the last answer, and how many states were skipped since the last update.
    number: u64,
    skipped: u64,
    last: Option<Part>,
    seq: u64,
}

impl OneCell {
    pub fn new(cell: CellId, path: Path, from: Option<u64>, seat: &Seat) -> OneCell {
        let seen = seat.marked().number - 1;
        let (begun, number, skipped, last, seq) = Default::default();
        OneCell { cell, path, from, seen, begun, number, skipped, last, seq }
    }

    pub async fn next(&mut self, seat: &mut Seat) -> Result<Update, WatchError> {
        loop {
            let told = seat.told();
            let CellId { owner, name } = self.cell.clone();
            seat.check(|seat, _| (!seat.may_read(&owner, &name)).then(|| name.to_string())).await?;
            if let Some(answer) = told.answer.as_ref().filter(|_| told.mark.number > self.seen) {
                self.seen = told.mark.number;
                let before = if self.begun { self.number } else { told.number };
                self.skipped += told.number.saturating_sub(before + 1);
                (self.number, self.begun) = (told.number.max(before), true);
                let (part, revision) = match answer {
                    Ok(present) => (told.part(present.value.as_ref(), &self.path), present.revision),
                    Err(Unanswered::Failed(why)) => (Err(why.clone()), self.seq),
                    Err(Unanswered::Unavailable(why)) => return Err(why.clone().into()),
                };
                let is_known = self.from.take().is_some_and(|from| revision <= from);
                let is_new = !is_known && self.last.as_ref() != Some(&part);
                self.last = Some(part.clone());
                if is_new {
                    self.seq = self.seq.max(revision);
                    let change = match part {
                        Ok(value) => Change::Cell { name, revision, value },
                        Err(why) => Change::Unreadable { name, why },
                    };
                    let skipped = std::mem::take(&mut self.skipped);
                    return Ok(Update { seq: self.seq, skipped, change });
                }
            }
            seat.wait().await?;
        }
    }
}
