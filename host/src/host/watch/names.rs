//! Watching the cells under a prefix: a walk along the list of those that were written last, which all who watch the prefix share.

use std::{collections::HashMap, sync::Arc};

use super::{Change, Seat, Update, WatchError};
use crate::{cell::CellId, did::Did, limits::WATCH_AHEAD_MAX, tx::Present, value::Tree};

/// Cells that were told in a newer state than the list had, each with its revision.
#[derive(Default)]
struct Ahead(HashMap<Arc<str>, u64>);

impl Ahead {
    /// Notes one. Beyond the bound all are forgotten: some are told twice then, none is lost.
    fn add(&mut self, name: Arc<str>, revision: u64) {
        if self.0.len() >= WATCH_AHEAD_MAX {
            self.0.clear();
        }
        self.0.insert(name, revision);
    }

    /// Returns whether the state that the list has is told.
    fn has(&mut self, name: &str, listed: u64) -> bool {
        let told = self.0.get(name).copied();
        if told == Some(listed) {
            self.0.remove(name);
        }
        told.is_some_and(|told| told >= listed)
    }
}

/// The cells under a prefix that are watched.
pub struct ManyCells {
    owner: Did,
    prefix: Arc<str>,
    from: Option<u64>,
    begun: bool,
    /// The number up to which all is told.
    cursor: u64,
    /// Names that were forgotten up to this number were forgotten before it began.
    forgotten: u64,
    /// All that there was is told.
    listed: bool,
    ahead: Ahead,
    skipped: u64,
    seq: u64,
}

impl ManyCells {
    pub fn new(owner: Did, prefix: Arc<str>, from: Option<u64>) -> ManyCells {
        let (begun, cursor, forgotten, listed, ahead, skipped, seq) = Default::default();
        ManyCells { owner, prefix, from, begun, cursor, forgotten, listed, ahead, skipped, seq }
    }

    pub async fn next(&mut self, seat: &mut Seat) -> Result<Update, WatchError> {
        loop {
            // The commit first, then what it wrote.
            let last = seat.committer().last_commit(&self.owner).unwrap_or(0);
            let is_there = seat.told().mark.number > 0;
            self.check(seat).await?;
            if !is_there {
                // The list is still being made.
                seat.wait().await?;
                continue;
            }
            let is_anew = {
                let names = seat.place.watched.names();
                if self.begun {
                    names.forgotten > self.forgotten.max(self.cursor)
                } else {
                    (self.begun, self.forgotten) = (true, names.forgotten);
                    self.seq = self.from.unwrap_or(0);
                    self.cursor = names.before(self.seq);
                    self.from.is_some_and(|from| from < names.floor)
                }
            };
            if is_anew {
                self.begin_anew(seat);
                return Ok(self.update(Change::Anew));
            }
            while let Some(update) = self.step(seat).await? {
                if let Some(update) = update {
                    return Ok(update);
                }
            }
            if !self.listed {
                self.listed = true;
                self.seq = self.seq.max(last);
                return Ok(self.update(Change::Listed));
            }
            seat.wait().await?;
        }
    }

    fn begin_anew(&mut self, seat: &Seat) {
        let names = seat.place.watched.names();
        (self.forgotten, self.cursor) = (names.forgotten, names.before(0));
        (self.seq, self.listed) = (0, false);
        self.ahead = Ahead::default();
    }

    fn update(&mut self, change: Change) -> Update {
        Update { seq: self.seq, skipped: std::mem::take(&mut self.skipped), change }
    }

    /// Looks at the next cell of the list; none at its end, none inside when there is nothing to tell of it.
    async fn step(&mut self, seat: &mut Seat) -> Result<Option<Option<Update>>, WatchError> {
        let Some((number, name, more)) = seat.place.watched.names().after(self.cursor) else { return Ok(None) };
        self.skipped += number - self.cursor - 1;
        self.cursor = number;
        // With others of its commit still to come, it is begun again there.
        self.seq = self.seq.max(name.seq - u64::from(more));
        let (name, listed) = (name.name, name.seq);
        if self.ahead.has(&name, listed) {
            return Ok(Some(None));
        }
        let cell = CellId { owner: self.owner, name: name.clone() };
        let Present { value, revision, order } = seat.committer().present(&cell);
        seat.committer().durable_at_last(order).await?;
        self.check(seat).await?;
        if !seat.may_read(&self.owner, &name) {
            return Ok(Some(None));
        }
        // Of one that is gone the list says which commit removed it.
        let revision = if value.is_some() { revision } else { listed };
        if revision > listed {
            self.ahead.add(name.clone(), revision);
        }
        let change = Change::Cell { name, revision, value: value.as_ref().map(Tree::to_value) };
        Ok(Some(Some(self.update(change))))
    }

    /// Ends it when one of the cells cannot be read any more.
    async fn check(&self, seat: &mut Seat) -> Result<(), WatchError> {
        let owner = self.owner;
        seat.check(|seat, before| {
            let reader = seat.reader?;
            let names = seat.place.watched.names();
            let lost = |name: &&Arc<str>| before.may_read(&reader, &owner, name) && !seat.may_read(&owner, name);
            let lost = names.iter().find(lost).map(ToString::to_string);
            let has_none = || !seat.may_read_some(&owner, &self.prefix);
            lost.or_else(|| has_none().then(|| format!("cells {}*", self.prefix)))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
