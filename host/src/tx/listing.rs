//! Listing cells by name, and removing what is listed (C8). A page is a range of names that the transaction has read.

use std::{
    ops::Bound::{Included, Unbounded},
    sync::Arc,
};

use super::{
    Refusal, Transaction,
    range::{Range, after},
};
use crate::{
    cell::CellId,
    cost,
    did::Did,
    limits::{LIST_BYTES_MAX, LIST_PAGE_MAX, LIST_PASSED_MAX, NAME_BYTES_MAX},
    path::Path,
    value::Tree,
};

/// Which cells are to be listed: those whose names begin with a prefix, from a text on and before another.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// Whose.
    pub owner: Did,
    /// What their names begin with.
    pub prefix: &'a str,
    /// The first text that is looked for.
    pub start: Option<&'a str>,
    /// The first that is not.
    pub end: Option<&'a str>,
}

impl Span<'_> {
    fn texts(&self) -> [(&'static str, &str); 3] {
        [("prefix", self.prefix), ("start", self.start.unwrap_or("")), ("end", self.end.unwrap_or(""))]
    }
}

/// Names and values of one page, and where the next begins.
pub type Entries = (Vec<(String, Vec<u8>)>, Option<String>);

/// What a page tells.
struct Page {
    /// The cells that are in it.
    cells: Vec<(Arc<str>, Tree)>,
    /// Where the next one begins.
    next: Option<String>,
    /// The names that it hangs on: also the one that shows that there is more.
    told: Range,
}

impl Transaction {
    /// Returns up to `max` names of cells that hold something: what the snapshot shows with the turn's own writes, in order. And
    /// where the next page begins; a page can be short, and even empty, with more to come.
    ///
    /// # Errors
    /// `Denied`, `Invalid`, `Limit`.
    pub fn names(&mut self, span: &Span<'_>, max: usize) -> Result<(Vec<String>, Option<String>), Refusal> {
        let range = self.range(span, max)?;
        let Page { cells, next, told } = self.page(span.owner, range, max);
        self.list(span.owner, told);
        self.cost += cells.iter().map(|(name, _)| cost::LISTED + cost::copied(name.len())).sum::<u64>();
        Ok((cells.into_iter().map(|(name, _)| name.to_string()).collect(), next))
    }

    /// As `names`, with the values, `LIST_BYTES_MAX` at most or one; each is a read of its cell.
    ///
    /// # Errors
    /// As `names`.
    pub fn entries(&mut self, span: &Span<'_>, max: usize) -> Result<Entries, Refusal> {
        let range = self.range(span, max)?;
        let left = self.limits.reads_max.saturating_sub(self.reads_count + 1);
        if left == 0 {
            return Err(Refusal::limit("reads-max", self.limits.reads_max));
        }
        let Page { cells, mut next, mut told } = self.page(span.owner, range, max.min(left));
        let (mut entries, mut bytes): (Vec<(String, Vec<u8>)>, usize) = (Vec::with_capacity(cells.len()), 0);
        for (name, value) in cells {
            bytes += value.len();
            self.cost += cost::CELL + cost::LISTED;
            let cell = CellId { owner: span.owner, name: name.clone() };
            let is_written = span.owner == self.writer && self.writes.contains_key(&name);
            if !is_written {
                self.observe(&cell, &Path::root())?;
            }
            // The page hangs on the one that has no room in it too.
            if let Some((last, _)) = entries.last()
                && bytes > LIST_BYTES_MAX
            {
                (next, told) = (Some(after(last)), told.before(&after(&name)));
                break;
            }
            self.cost += cost::copied(name.len() + value.len());
            entries.push((name.to_string(), value.whole().to_vec()));
        }
        self.list(span.owner, told);
        Ok((entries, next))
    }

    /// Stages the removal of up to `max` cells; returns how many that are, and where the rest begins, if there may be more. It
    /// ends early where a bound on writes would be passed.
    ///
    /// # Errors
    /// `WriteIsolation`, `Invalid`, `Limit`.
    pub fn remove_all(&mut self, span: &Span<'_>, max: usize) -> Result<(u32, Option<String>), Refusal> {
        self.check_pure("cells.remove-all")?;
        if span.owner != self.writer {
            return Err(Refusal::WriteIsolation { requested: span.owner, open: self.writer });
        }
        let range = self.range(span, max)?;
        let Page { cells, mut next, told } = self.page(span.owner, range, max);
        self.list(span.owner, told);
        let mut count = 0;
        for (name, _) in cells {
            self.cost += cost::CELL + cost::LISTED;
            let cell = CellId { owner: span.owner, name };
            match self.change(&cell, &Path::root(), false, |staged, _| Ok(staged.remove(&[])?)) {
                Ok(()) => count += 1,
                Err(Refusal::Limit { .. }) if count > 0 => {
                    next = Some(cell.name.to_string());
                    break;
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Ok((count, next))
    }

    /// Checks what is asked for, and counts it as a read.
    fn range(&mut self, span: &Span<'_>, max: usize) -> Result<Range, Refusal> {
        let texts = span.texts();
        self.cost += cost::LIST + cost::copied(texts.iter().map(|(_, text)| text.len()).sum());
        if max == 0 {
            return Err(Refusal::Invalid("limit: it is 0".to_owned()));
        }
        // Behind the longest name there is a text that is one byte longer.
        if let Some((what, _)) = texts.iter().find(|(_, text)| text.len() > NAME_BYTES_MAX + 1) {
            return Err(Refusal::Invalid(format!("{what}: longer than {NAME_BYTES_MAX} bytes")));
        }
        if !self.view.directory.may_list(&self.writer, &span.owner, span.prefix) {
            self.saw_directory = true;
            return Err(Refusal::Denied { owner: span.owner, name: span.prefix.to_owned() });
        }
        if self.reads_count >= self.limits.reads_max {
            return Err(Refusal::limit("reads-max", self.limits.reads_max));
        }
        Ok(Range::of(span.prefix, span.start, span.end))
    }

    /// Adds to the read set what a page hangs on.
    fn list(&mut self, owner: Did, told: Range) {
        self.reads_count += 1;
        self.reads.list(owner, told);
    }

    /// Returns the next page of a range.
    fn page(&self, owner: Did, range: Range, max: usize) -> Page {
        let max = max.min(LIST_PAGE_MAX);
        let (mut cells, end) = self.shown(owner, range.clone(), max + 1);
        if cells.len() > max
            && let Some((more, _)) = cells.pop()
        {
            let next = cells.last().map(|(last, _)| after(last));
            return Page { cells, next, told: range.before(&after(&more)) };
        }
        let told = end.as_deref().map_or_else(|| range.clone(), |end| range.before(end));
        Page { cells, next: end, told }
    }

    /// Returns the first cells of a range, up to `max`; and, unless that was its end, up to where was looked.
    fn shown(&self, owner: Did, mut range: Range, max: usize) -> (Vec<(Arc<str>, Tree)>, Option<String>) {
        let (mut page, mut passed) = (Vec::new(), 0);
        let mut last: Option<Arc<str>> = None;
        loop {
            let wanted = max - page.len();
            let (shown, rest) = self.view.snapshot.list(&owner, &range, wanted, LIST_PASSED_MAX);
            let (is_short, rest) = (shown.len() < wanted, rest.as_deref().map(after));
            let mut shown = shown.into_iter().map(|(name, version)| (name, version.value)).peekable();
            // Of its own writes those that stand where the snapshot was looked through.
            let looked = rest.as_deref().map_or_else(|| range.clone(), |rest| range.before(rest));
            let own = self.writes.range::<str, _>((Included(looked.from()), Unbounded));
            let own = own.take_while(|(name, _)| owner == self.writer && looked.reaches(name));
            let own = own.map(|(name, staged)| (name.clone(), staged.value().cloned()));
            // A derivation writes nothing, and sees what its reader has written.
            let mut own = own.chain(self.view.written(&owner, &looked)).peekable();
            loop {
                let next = match (shown.peek(), own.peek()) {
                    (None, None) => break,
                    (Some((shown, _)), Some((own, _))) => shown.min(own).clone(),
                    (Some((name, _)), None) | (None, Some((name, _))) => name.clone(),
                };
                // Its own write stands for what the snapshot shows of that cell.
                let shown = shown.next_if(|(name, _)| *name == next).and_then(|(_, value)| value);
                let value = own.next_if(|(name, _)| *name == next).map_or(shown, |(_, value)| value);
                match value {
                    None if passed < LIST_PASSED_MAX => passed += 1,
                    Some(value) if page.len() < max => page.push((next.clone(), value)),
                    _ => return (page, last.as_deref().map(after)),
                }
                last = Some(next);
            }
            match rest {
                Some(rest) if page.len() < max && passed < LIST_PASSED_MAX && !is_short => range = range.rest(&rest),
                rest => return (page, rest),
            }
        }
    }
}
