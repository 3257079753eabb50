//! Watching what the commits of a charm settle: receipts, and those of them that leave dead letters. Read from the store, so that
//! none is skipped that is kept.

use std::collections::VecDeque;

use super::{Change, Seat, Update, WatchError};
use crate::{
    did::Did,
    limits::WATCH_RECEIPTS_PAGE,
    rows::{DeadLetter, ReceiptRow},
};

/// What a charm settles.
pub struct Settled {
    charm: Did,
    /// Dead letters alone.
    letters: bool,
    /// The commit up to which all is told.
    seq: u64,
    /// What was read and not told yet, whole commits.
    page: VecDeque<ReceiptRow>,
    /// Letters that were there when it began are told up to this position; none when all are.
    there: Option<u64>,
    begins_anew: bool,
    listed: bool,
}

impl Settled {
    fn new(charm: Did, letters: bool, from: Option<u64>, seat: &mut Seat) -> Settled {
        let last = seat.committer().last_commit(&charm).unwrap_or(0);
        let is_kept = |from: &u64| *from >= seat.committer().receipts_floor(&charm);
        let kept = from.filter(is_kept);
        let there = (letters && kept.is_none()).then_some(0);
        // Of receipts that have gone in part those are told that are left.
        let seq = kept.or(from.filter(|_| !letters)).unwrap_or(last);
        Settled {
            charm,
            letters,
            seq,
            page: VecDeque::new(),
            there,
            begins_anew: from.is_some() && kept.is_none(),
            listed: false,
        }
    }

    pub fn receipts(charm: Did, from: Option<u64>, seat: &mut Seat) -> Settled {
        Settled::new(charm, false, from, seat)
    }

    pub fn letters(charm: Did, from: Option<u64>, seat: &mut Seat) -> Settled {
        Settled::new(charm, true, from, seat)
    }

    pub async fn next(&mut self, seat: &mut Seat) -> Result<Update, WatchError> {
        loop {
            seat.told();
            seat.check(|_, _| None).await?;
            if std::mem::take(&mut self.begins_anew) {
                return Ok(update(0, Change::Anew));
            }
            if let Some(letter) = self.next_there(seat).await? {
                return Ok(update(0, Change::Letter(Box::new(letter))));
            }
            if self.page.is_empty() {
                self.page = self.read(seat).await?;
            }
            while let Some(row) = self.page.pop_front() {
                let is_whole = self.page.front().is_none_or(|next| next.seq > row.seq);
                self.seq = if is_whole { row.seq } else { row.seq - 1 };
                if let Some(change) = self.change(row, seat).await? {
                    return Ok(update(self.seq, change));
                }
            }
            if !self.listed {
                self.listed = true;
                return Ok(update(self.seq, Change::Listed));
            }
            seat.wait().await?;
        }
    }

    /// Returns the next letter that was there when it began. One whose commit is to come is told then.
    async fn next_there(&mut self, seat: &Seat) -> Result<Option<DeadLetter>, WatchError> {
        let (charm, begin) = (self.charm, self.seq);
        while let Some(after) = self.there {
            let look = move |store: &dyn crate::store::Store| {
                let Some(letter) = store.dead_letters(&charm, after, 1)?.pop() else { return Ok(None) };
                let is_later =
                    store.receipt(&letter.receipt.id)?.is_some_and(|row| row.space == charm && row.seq > begin);
                Ok(Some((letter, is_later)))
            };
            let found = seat.look(look).await?;
            self.there = found.as_ref().map(|(letter, _)| letter.position);
            if let Some((letter, false)) = found {
                return Ok(Some(letter));
            }
        }
        Ok(None)
    }

    /// Returns what is next, whole commits of it.
    async fn read(&self, seat: &Seat) -> Result<VecDeque<ReceiptRow>, WatchError> {
        let (charm, after) = (self.charm, self.seq);
        let mut max = WATCH_RECEIPTS_PAGE;
        loop {
            let mut rows = seat.look(move |store| store.settled(&charm, after, max)).await?;
            let last = rows.last().map_or(0, |row| row.seq);
            if rows.len() == max {
                rows.retain(|row| row.seq < last);
            }
            if !rows.is_empty() || last == 0 {
                return Ok(rows.into());
            }
            // One commit settles as many as it sends at most.
            max *= 2;
        }
    }

    async fn change(&self, row: ReceiptRow, seat: &Seat) -> Result<Option<Change>, WatchError> {
        if !self.letters {
            return Ok(Some(Change::Settled(Box::new(row))));
        }
        if row.to != self.charm {
            return Ok(None);
        }
        let letter = seat.look(move |store| store.dead_letter_of(&row.receipt.id)).await?;
        Ok(letter.map(|letter| Change::Letter(Box::new(letter))))
    }
}

fn update(seq: u64, change: Change) -> Update {
    Update { seq, skipped: 0, change }
}
