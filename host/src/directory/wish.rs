//! Wishes: who publishes a tag and offers what is asked for, as far as the holder may use it (D7). And for people: what the next
//! best lacks.

use std::fmt;

use super::{Directory, Entry};
use crate::{
    cost,
    descriptor::Declaration,
    did::Did,
    limits::{
        MISFIT_STEPS_MAX, NAME_BYTES_MAX, NEAR_MISS_LOOKS_MAX, NEAR_MISSES_MAX, SHAPE_STEPS_MAX, SHAPE_TEXT_BYTES_MAX,
        WISH_STEPS_MAX,
    },
    shape::{Misfit, Shape},
    text::clip,
};

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// What the charm must publish.
    pub tag: &'a str,
    /// Cells to read.
    pub cells: &'a [(String, Shape)],
    /// Streams to send to.
    pub streams: &'a [(String, Shape)],
    /// Only this charm; none for any.
    pub owner: Option<Did>,
}

/// One page of what a wish finds.
#[derive(Debug, Default)]
pub struct Offers {
    /// Who offers all of it.
    pub owners: Vec<Did>,
    /// The last one looked at, when there may be more.
    pub next: Option<Did>,
    /// What those lack that publish the tag and do not fit: `NEAR_MISSES_MAX` of them at most.
    pub misses: Vec<NearMiss>,
}

/// A charm that a wish nearly found, for a person: names, kinds and shapes, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// What was asked for.
    pub tag: String,
    /// Who does not fit.
    pub owner: Did,
    /// What is missing, of whom.
    pub why: String,
}

/// What can be wanted of a charm.
#[derive(Clone, Copy)]
enum Kind {
    Cell,
    Stream,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Cell => "cell",
            Kind::Stream => "stream",
        })
    }
}

/// What a charm lacks of a wish.
enum Lack<'a> {
    Undeclared,
    /// What one side says where, and what the other: in the order of what must fit what.
    Shape(Kind, &'a Shape, &'a Shape),
    Steps,
    Grant,
}

impl Directory {
    /// Returns the one charm that the operator lets a holder find by a tag (D7); none when that is open.
    fn pinned(&self, holder: &Did, tag: &str) -> Option<Did> {
        self.rights(holder).filter_map(|rights| rights.wishes.get(tag)).last().copied()
    }

    /// Returns the first charm after `after` of whom `holder` may use anything, by DID; of `only` one.
    fn next_visible(&self, holder: &Did, only: Option<Did>, after: Option<Did>) -> Option<Did> {
        let is_later = |did: &Did| after.is_none_or(|after| after < *did);
        if let Some(only) = only {
            let granted = |rights: &super::Rights| rights.read.get(&only).or_else(|| rights.send.get(&only)).is_some();
            return (is_later(&only) && (only == *holder || self.rights(holder).any(granted))).then_some(only);
        }
        let own = is_later(holder).then_some(*holder);
        let granted = self
            .rights(holder)
            .flat_map(|rights| [rights.read.after(after.as_ref()), rights.send.after(after.as_ref())]);
        granted.chain([own]).flatten().min()
    }

    /// Finds who publishes the tag and offers all that is wanted, as far as `holder` may use it (D7): by DID, at most
    /// `max` after `after`. Where the operator has pinned the tag, nobody else. Adds what that costs.
    pub fn wish(&self, holder: &Did, wanted: &Wanted<'_>, after: Option<Did>, max: usize, cost: &mut u64) -> Offers {
        // One budget for the page, of which no charm gets more than its part: it runs between two instructions of
        // the guest.
        let mut left = SHAPE_STEPS_MAX;
        let mut offers = Offers::default();
        let pinned = self.pinned(holder, wanted.tag);
        if let (Some(pinned), Some(owner)) = (pinned, wanted.owner)
            && pinned != owner
        {
            let why = format!("is not looked at: the operator has pinned {}", self.shown(&pinned));
            offers.misses.push(NearMiss::of(wanted, owner, &why));
            return offers;
        }
        let only = wanted.owner.or(pinned);
        let mut last = after;
        // With nothing wanted, only those are visible of whom anything may be used.
        while let Some(did) = self.next_visible(holder, only, last) {
            if offers.owners.len() >= max || left < WISH_STEPS_MAX {
                offers.next = last;
                return offers;
            }
            last = Some(did);
            *cost += cost::OFFER;
            let Some(entry) = self.get(&did) else { continue };
            *cost += entry.descriptor.tags.len() as u64 * cost::TAG;
            if !entry.descriptor.tags.iter().any(|published| published == wanted.tag) {
                if only.is_some() {
                    offers.miss(NearMiss::of(wanted, did, &format!("charm {} does not publish it", self.shown(&did))));
                }
                continue;
            }
            let mut steps = WISH_STEPS_MAX;
            let lack = self.lack(holder, entry, wanted, &mut steps);
            left -= WISH_STEPS_MAX - steps;
            *cost += u64::from(WISH_STEPS_MAX - steps) * cost::SHAPE_STEP;
            match lack {
                None => offers.owners.push(did),
                Some((kind, name, lack)) => {
                    let what = format!("{kind} {} of {}", clip(name, NAME_BYTES_MAX), self.shown(&did));
                    offers.miss(NearMiss::of(wanted, did, &format!("{what} {lack}")));
                }
            }
        }
        offers
    }

    /// Returns the first thing that a charm lacks of a wish: its kind and its name.
    fn lack<'a>(
        &self,
        holder: &Did,
        entry: &'a Entry,
        wanted: &Wanted<'a>,
        steps: &mut u32,
    ) -> Option<(Kind, &'a str, Lack<'a>)> {
        let cells = wanted.cells.iter().map(|cell| (Kind::Cell, cell));
        let mut all = cells.chain(wanted.streams.iter().map(|stream| (Kind::Stream, stream)));
        all.find_map(|(kind, (name, asked))| {
            let (declared, may) = match kind {
                Kind::Cell => (entry.descriptor.cell(name), self.may_read(holder, &entry.did, name)),
                Kind::Stream => (entry.descriptor.streams.get(name), self.may_send(holder, &entry.did, name)),
            };
            let lack = match declared {
                None => Lack::Undeclared,
                Some(Declaration { shape: offered, .. }) => {
                    let (from, into) = match kind {
                        Kind::Cell => (offered, asked),
                        Kind::Stream => (asked, offered),
                    };
                    match (from.fits_within(into, steps), *steps) {
                        (true, _) if may => return None,
                        (true, _) => Lack::Grant,
                        (false, 0) => Lack::Steps,
                        (false, _) => Lack::Shape(kind, from, into),
                    }
                }
            };
            Some((kind, name.as_str(), lack))
        })
    }

    /// Returns charms that publish a tag and of whom `holder` may use nothing: what a person looks for when a wish finds nobody.
    /// A bounded look, which tells the holder nothing.
    pub fn ungranted(&self, holder: &Did, wanted: &Wanted<'_>) -> Vec<NearMiss> {
        let only = wanted.owner.or_else(|| self.pinned(holder, wanted.tag));
        let tagged = |entry: &&std::sync::Arc<Entry>| entry.descriptor.tags.iter().any(|tag| tag == wanted.tag);
        let hidden = |entry: &&std::sync::Arc<Entry>| {
            only.is_none_or(|only| only == entry.did) && self.next_visible(holder, Some(entry.did), None).is_none()
        };
        let found = self.iter().take(NEAR_MISS_LOOKS_MAX).filter(tagged).filter(hidden).take(NEAR_MISSES_MAX);
        let miss = |entry: &std::sync::Arc<Entry>| {
            let why = format!("charm {} publishes it, and nothing of it is granted", self.shown(&entry.did));
            NearMiss::of(wanted, entry.did, &why)
        };
        found.map(miss).collect()
    }

    /// Returns a charm as a person knows it.
    fn shown(&self, did: &Did) -> String {
        match self.get(did) {
            Some(entry) => format!("{} ({did})", entry.name),
            None => format!("{did}, which is not installed,"),
        }
    }
}

impl Offers {
    fn miss(&mut self, miss: NearMiss) {
        if self.misses.len() < NEAR_MISSES_MAX {
            self.misses.push(miss);
        }
    }
}

impl NearMiss {
    fn of(wanted: &Wanted<'_>, owner: Did, why: &str) -> NearMiss {
        let why = clip(why, crate::limits::MESSAGE_BYTES_MAX).into_owned();
        NearMiss { tag: clip(wanted.tag, NAME_BYTES_MAX).into_owned(), owner, why }
    }
}

impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wish for {}: {}", self.tag, self.why)
    }
}

impl fmt::Display for Lack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, from, into) = match self {
            Lack::Undeclared => return f.write_str("is not declared"),
            Lack::Grant => return f.write_str("is not granted"),
            Lack::Steps => return write!(f, "has a shape that takes more than {WISH_STEPS_MAX} steps to compare"),
            Lack::Shape(kind, from, into) => (kind, from, into),
        };
        let Misfit { at, from, into, lacks } = from.misfit(into, &mut { MISFIT_STEPS_MAX });
        let shown = |shape: &Shape| crate::value::beginning(SHAPE_TEXT_BYTES_MAX, |text| write!(text, "{shape}"));
        let (offered, asked) = match kind {
            Kind::Cell => (shown(from), shown(into)),
            Kind::Stream => (shown(into), shown(from)),
        };
        let at = if at.is_empty() { String::new() } else { format!(" at {}", crate::value::at(&at)) };
        let lacks = lacks.map_or(String::new(), |key| format!(" (by {})", clip(key, NAME_BYTES_MAX)));
        write!(f, "has another shape{at}{lacks}: it offers {offered}, asked is {asked}")
    }
}
