//! The cells that are no derived ones, on which a derived cell hangs: those of which nothing was written leave it as it was.
//!
//! Up to `LEAVES_MAX` stand there one by one. More, and cells beside names that were listed, are a filter (Bloom, "Space/time
//! trade-offs in hash coding with allowable errors", 1970), which never leaves one out, and takes others for one now and then: of
//! 10,000 others some 7 when it has 2,000, and 490 when it has 10,000. What is taken for one costs a walk, and gives no wrong
//! answer. Where there is no room for filters, all cells of the spaces are taken for one.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::{
    range::{Range, Ranges},
    versions::{Snapshot, Versions},
};
use crate::{cell::CellId, did::Did, limits::LEAVES_MAX};

/// Changed cells that are looked for among them, one by one.
const CHANGED_MAX: usize = 256;
/// Commits in other spaces that are passed over meanwhile.
const PASSED_MAX: usize = 1_024;
/// Listed ranges of one space that are kept apart.
const RANGES_MAX: usize = 16;
/// Bits of a filter, as a power of two, and how many of them stand for a cell.
const FILTER_BITS: u32 = 16;
const FILTER_MARKS: u32 = 3;

/// On which cells a derived cell hangs.
#[derive(Clone)]
pub enum Leaves {
    /// These, sorted.
    Few(Arc<[Leaf]>),
    /// More than can be told one by one.
    Many(Arc<Many>),
}

/// One cell, and the hash by which a filter knows it.
#[derive(Clone)]
pub struct Leaf {
    cell: CellId,
    hash: u64,
}

/// Many cells, and all that are in ranges of names.
#[derive(Clone, Default)]
pub struct Many {
    /// In these spaces, sorted.
    spaces: Vec<Did>,
    /// Names that were listed.
    listed: BTreeMap<Did, Ranges>,
    /// The bits of the others, once there are any.
    filter: Box<[u64]>,
    /// There is no filter: all cells of the spaces are taken for one.
    is_coarse: bool,
}

impl Default for Leaves {
    fn default() -> Leaves {
        Leaves::Few(Arc::default())
    }
}

impl Leaves {
    /// Returns those of several cells, derived cells and listed names together.
    pub fn of<'a>(
        cells: impl IntoIterator<Item = &'a CellId>,
        below: &[&'a Leaves],
        listed: impl IntoIterator<Item = (&'a Did, &'a Range)>,
    ) -> Leaves {
        let (mut cells, mut listed) = (cells.into_iter().peekable(), listed.into_iter().peekable());
        if let (None, [only], None) = (cells.peek(), below, listed.peek()) {
            return Leaves::clone(only);
        }
        let of_few = below.iter().filter_map(|leaves| leaves.few()).flatten().map(|leaf| (&leaf.cell, leaf.hash));
        let mut cells = cells.map(|cell| (cell, hash_of(&cell.owner, &cell.name))).chain(of_few);
        let mut many = below.iter().filter_map(|leaves| leaves.many());
        let (mut few, first) = (BTreeMap::new(), many.next());
        if first.is_none() && listed.peek().is_none() {
            while few.len() <= LEAVES_MAX {
                let Some((cell, hash)) = cells.next() else {
                    return Leaves::Few(
                        few.into_iter().map(|(cell, hash)| Leaf { cell: CellId::clone(cell), hash }).collect(),
                    );
                };
                few.insert(cell, hash);
            }
        }
        // What has all of them already is shared.
        let mut all = first.map_or_else(|| Cow::Owned(Many::default()), |first| Cow::Borrowed(&**first));
        for other in many {
            if !all.covers(other) {
                all.to_mut().merge(other);
            }
        }
        let mut reached = None;
        for (cell, hash) in few.into_iter().chain(cells) {
            if reached.replace(&cell.owner) != Some(&cell.owner) && !all.reaches(&cell.owner) {
                all.to_mut().reach(&cell.owner);
            }
            if !all.is_marked(hash) {
                all.to_mut().mark(hash);
            }
        }
        for (owner, range) in listed {
            if !all.lists(owner, range) {
                all.to_mut().list(owner, range.clone());
            }
        }
        match (all, first) {
            (Cow::Borrowed(_), Some(first)) => Leaves::Many(first.clone()),
            (all, _) => Leaves::Many(Arc::new(all.into_owned())),
        }
    }

    /// Returns the spaces that they are in, with all cells of those.
    pub fn coarse(&self) -> Leaves {
        let Leaves::Many(many) = self else { return self.clone() };
        Leaves::Many(Arc::new(Many { spaces: many.spaces.clone(), is_coarse: true, ..Many::default() }))
    }

    /// Returns the address of their filter, which others may share, and what it takes in memory; none when they have none.
    pub fn filter(&self) -> Option<(usize, usize)> {
        let many = self.many().filter(|many| !many.filter.is_empty())?;
        Some((Arc::as_ptr(many) as usize, size_of_val(&*many.filter)))
    }

    /// Returns what they take in memory without it, about.
    pub fn bytes(&self) -> usize {
        match self {
            Leaves::Few(few) => size_of_val(&**few),
            Leaves::Many(many) => many.bytes(),
        }
    }

    fn few(&self) -> Option<&[Leaf]> {
        if let Leaves::Few(cells) = self { Some(cells) } else { None }
    }

    fn many(&self) -> Option<&Arc<Many>> {
        if let Leaves::Many(many) = self { Some(many) } else { None }
    }

    /// Returns whether a cell is, or may be, one of them.
    fn contain(&self, owner: &Did, name: &str) -> bool {
        match self {
            Leaves::Few(few) => {
                few.binary_search_by(|Leaf { cell, .. }| (&cell.owner, &*cell.name).cmp(&(owner, name))).is_ok()
            }
            Leaves::Many(many) => many.has(owner, name),
        }
    }

    /// Returns whether one of them is, or may be, among those cells.
    pub fn are_in(&self, cells: &HashMap<Did, HashSet<&str>>) -> bool {
        match self {
            Leaves::Few(few) => {
                let is_in = |cell: &CellId| cells.get(&cell.owner).is_some_and(|names| names.contains(&*cell.name));
                few.iter().any(|leaf| is_in(&leaf.cell))
            }
            Leaves::Many(many) => {
                let of = |owner: &Did| Some((*owner, cells.get(owner)?));
                let mut names = many.spaces.iter().filter_map(of);
                names.any(|(owner, names)| many.has_any(&owner, names.len(), names.iter().copied()))
            }
        }
    }

    /// Returns whether one of them is, or may be, a cell of `owner` with one of those names, and none of `others`.
    pub fn reach_beyond(&self, others: &Leaves, owner: &Did, names: &HashSet<&str>) -> bool {
        let is_other = |name: &str| others.contain(owner, name);
        match self {
            Leaves::Few(few) => {
                let mut own = few.iter().filter(|leaf| leaf.cell.owner == *owner).map(|leaf| &*leaf.cell.name);
                own.any(|name| names.contains(name) && !is_other(name))
            }
            Leaves::Many(many) => names.iter().any(|name| many.has(owner, name) && !is_other(name)),
        }
    }

    /// Returns in whose spaces they are.
    pub fn owners(&self) -> Vec<Did> {
        let mut owners = match self {
            Leaves::Few(few) => few.iter().map(|leaf| leaf.cell.owner).collect(),
            Leaves::Many(many) => many.spaces.clone(),
        };
        owners.dedup();
        owners
    }

    /// Returns whether one of them is, or may be, a cell of `owner` that was written.
    pub fn touch<V>(&self, owner: &Did, written: &BTreeMap<Arc<str>, V>) -> bool {
        match self {
            Leaves::Few(few) => {
                few.iter().any(|Leaf { cell, .. }| cell.owner == *owner && written.contains_key(&cell.name))
            }
            Leaves::Many(many) => many.has_any(owner, written.len(), written.keys().map(|name| &**name)),
        }
    }

    /// Returns whether nothing was written to them after the commit `since`, as far as the snapshot shows: a no may be wrong.
    pub fn are_same(&self, snapshot: &Snapshot, since: u64) -> bool {
        let changed = match self {
            Leaves::Few(_) => snapshot.versions().changed_since(since, CHANGED_MAX),
            Leaves::Many(many) => {
                snapshot.versions().changed_in(since, (CHANGED_MAX, PASSED_MAX), |did| many.reaches(did))
            }
        };
        match (changed, self) {
            (Some(changed), _) => !changed.iter().any(|cell| self.contain(&cell.owner, &cell.name)),
            (None, Leaves::Few(few)) => snapshot.is_same_since(since, few.iter().map(|leaf| &leaf.cell)),
            (None, Leaves::Many(_)) => false,
        }
    }

    /// Returns one of them that was written after the commit `since`; none when more was written than is looked at.
    pub fn changed(&self, versions: &Versions, since: u64, max: usize) -> Option<Option<CellId>> {
        let changed = versions.changed_since(since, max)?;
        Some(changed.into_iter().find(|cell| self.contain(&cell.owner, &cell.name)))
    }
}

impl Many {
    fn bytes(&self) -> usize {
        let ranges = self.listed.values().map(|ranges| size_of::<Did>() + ranges.bytes()).sum::<usize>();
        size_of::<Many>() + size_of_val(&*self.spaces) + ranges
    }

    /// Returns whether a cell is, or may be, one of them.
    fn has(&self, owner: &Did, name: &str) -> bool {
        let is_listed = || self.listed.get(owner).is_some_and(|ranges| ranges.contain(name));
        self.reaches(owner) && (self.is_marked(hash_of(owner, name)) || is_listed())
    }

    /// Returns whether one of so many names may be that of one of them.
    fn has_any<'a>(&self, owner: &Did, count: usize, mut names: impl Iterator<Item = &'a str>) -> bool {
        match count > CHANGED_MAX {
            true => self.reaches(owner),
            false => names.any(|name| self.has(owner, name)),
        }
    }

    fn is_marked(&self, hash: u64) -> bool {
        let has = |(word, bit): (usize, u64)| self.filter[word] & bit != 0;
        self.is_coarse || !self.filter.is_empty() && marks(hash).all(has)
    }

    fn mark(&mut self, hash: u64) {
        if self.is_coarse {
            return;
        }
        if self.filter.is_empty() {
            self.filter = vec![0; (1 << FILTER_BITS) / u64::BITS as usize].into();
        }
        marks(hash).for_each(|(word, bit)| self.filter[word] |= bit);
    }

    /// Adds all names of a range.
    fn list(&mut self, owner: &Did, range: Range) {
        self.reach(owner);
        if self.lists(owner, &range) {
            return;
        }
        let ranges = self.listed.entry(*owner).or_default();
        ranges.add(range);
        if ranges.len() > RANGES_MAX {
            ranges.add(Range::all());
        }
    }

    /// Returns whether all names of a range are among them.
    fn lists(&self, owner: &Did, range: &Range) -> bool {
        let listed = || self.listed.get(owner).is_some_and(|ranges| ranges.cover(range));
        self.reaches(owner) && (self.is_coarse || listed())
    }

    fn reaches(&self, owner: &Did) -> bool {
        self.spaces.binary_search(owner).is_ok()
    }

    fn reach(&mut self, owner: &Did) {
        if let Err(place) = self.spaces.binary_search(owner) {
            self.spaces.insert(place, *owner);
        }
    }

    /// Returns whether it has all that the other has.
    fn covers(&self, other: &Many) -> bool {
        let marked = || {
            let mut words = other.filter.iter().zip(&self.filter);
            other.filter.len() <= self.filter.len() && words.all(|(theirs, mine)| theirs & !mine == 0)
        };
        let listed = |(owner, ranges): (&Did, &Ranges)| {
            self.listed.get(owner) == Some(ranges) || ranges.iter().all(|range| self.lists(owner, &range))
        };
        other.spaces.iter().all(|space| self.reaches(space))
            && (self.is_coarse || !other.is_coarse && other.listed.iter().all(listed) && marked())
    }

    fn merge(&mut self, other: &Many) {
        if self.is_coarse || other.is_coarse {
            (self.is_coarse, self.filter, self.listed) = (true, Box::default(), BTreeMap::new());
        } else if self.filter.is_empty() {
            self.filter.clone_from(&other.filter);
        } else {
            self.filter.iter_mut().zip(&other.filter).for_each(|(mine, theirs)| *mine |= theirs);
        }
        other.spaces.iter().for_each(|space| self.reach(space));
        for (owner, ranges) in &other.listed {
            ranges.iter().for_each(|range| self.list(owner, range));
        }
    }
}

fn hash_of(owner: &Did, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (owner, name).hash(&mut hasher);
    hasher.finish()
}

/// Returns the bits that stand for a hash, each in its word.
fn marks(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..FILTER_MARKS).map(move |mark| {
        let at = (hash >> (mark * FILTER_BITS)) & ((1 << FILTER_BITS) - 1);
        ((at / u64::from(u64::BITS)) as usize, 1 << (at % u64::from(u64::BITS)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn cells(owner: u8, numbers: std::ops::Range<usize>) -> Vec<CellId> {
        let owner = Did::numbered(owner);
        numbers.map(|number| CellId { owner, name: format!("c{number}").into() }).collect()
    }

    fn of(cells: &[CellId], below: &[&Leaves]) -> Leaves {
        Leaves::of(cells, below, [])
    }

    fn has(leaves: &Leaves, cell: &CellId) -> bool {
        leaves.contain(&cell.owner, &cell.name)
    }

    fn kept_apart(leaves: &Leaves) -> bool {
        matches!(leaves, Leaves::Few(_))
    }

    #[test]
    fn what_is_one_of_them_is_always_found_however_they_come_together() {
        for size in [1, LEAVES_MAX, LEAVES_MAX + 1, 5_000] {
            let (left, right) = (cells(1, 0..size), cells(2, 0..size));
            let (of_left, of_right) = (of(&left, &[]), of(&right, &[]));
            assert_eq!(kept_apart(&of_left), size <= LEAVES_MAX);
            let one = cells(3, 0..1);
            let all = of(&one, &[&of_left, &of_right]);
            let names: HashSet<&str> = ["c0"].into();
            for cell in left.iter().chain(&right).chain(&one) {
                assert!(has(&all, cell), "{cell} of {size}");
                let written = BTreeMap::from([(cell.name.clone(), ())]);
                assert!(all.touch(&cell.owner, &written));
                assert!(all.are_in(&[(cell.owner, [&*cell.name].into())].into()));
            }
            assert!(
                all.reach_beyond(&of_left, &Did::numbered(2), &names)
                    && !all.reach_beyond(&all, &Did::numbered(2), &names)
            );
            let mut owners = vec![Did::numbered(1), Did::numbered(2), Did::numbered(3)];
            owners.sort();
            assert_eq!(all.owners(), owners);
        }
    }

    #[test]
    fn few_others_are_taken_for_one_of_them() {
        let mut figures = Vec::new();
        for size in [500, 2_000, 10_000] {
            let all = of(&cells(1, 0..size), &[]);
            figures.push(cells(1, 100_000..110_000).iter().filter(|cell| has(&all, cell)).count());
            assert!(!has(&all, &cells(2, 0..1)[0]), "in another space there is none");
        }
        // Each process has bits of its own for them, which no guest can know.
        assert!(figures[0] <= 6 && figures[1] <= 40 && (350..650).contains(&figures[2]), "{figures:?}");
    }

    #[test]
    fn names_that_were_listed_are_a_range() {
        let (owner, range) = (Did::numbered(1), Range::of("items:", None, None));
        let listed = Leaves::of([], &[], [(&owner, &range)]);
        assert!(listed.filter().is_none() && listed.bytes() < 1_024, "no cell needs one");
        let all = of(&cells(2, 0..1), &[&listed]);
        for leaves in [&listed, &all] {
            let contain = |name| leaves.contain(&owner, name);
            assert!(contain("items:") && contain("items:7") && !contain("items") && !contain("itemt"));
            assert!(!leaves.contain(&Did::numbered(3), "items:7"));
        }
        // Of many ranges of a space all its names are one.
        let ranges: Vec<Range> =
            (0..=RANGES_MAX).map(|number| Range::of(&format!("{number:02}:"), None, None)).collect();
        let few = Leaves::of([], &[], ranges[1..].iter().map(|range| (&owner, range)));
        let many = Leaves::of([], &[], ranges.iter().map(|range| (&owner, range)));
        assert!(!few.contain(&owner, "other") && many.contain(&owner, "other"));
    }

    #[test]
    fn what_has_all_of_the_others_is_shared() {
        let large = of(&cells(1, 0..1_000), &[]);
        let again = of(&cells(1, 5..6), &[&large, &of(&cells(1, 0..300), &[])]);
        let (Leaves::Many(large), Leaves::Many(again)) = (large, again) else { panic!("they are many") };
        assert!(Arc::ptr_eq(&large, &again));
    }

    #[test]
    fn without_a_filter_all_of_their_spaces_are_taken_for_one() {
        let large = of(&cells(1, 0..1_000), &[]);
        let other = of(&cells(2, 0..1_000), &[]);
        let (few, coarse) = (of(&cells(1, 0..1), &[]), large.coarse());
        assert!(coarse.bytes() < 1_024 && coarse.filter().is_none() && kept_apart(&few.coarse()));
        for all in [of(&[], &[&coarse, &other]), of(&[], &[&other, &coarse]), of(&cells(2, 5..6), &[&coarse])] {
            assert!(
                all.contain(&Did::numbered(1), "whatever")
                    && all.contain(&Did::numbered(2), "c5")
                    && !all.contain(&Did::numbered(3), "c5")
            );
            assert!(all.filter().is_none());
        }
    }

    #[test]
    fn of_many_that_were_written_none_is_looked_for() {
        let all = of(&cells(1, 0..1_000), &[]);
        let written = |count: usize| cells(1, 50_000..50_000 + count).into_iter().map(|cell| (cell.name, ())).collect();
        // By chance one may be taken for one of them.
        let others = (0..5).filter(|other| !all.contain(&Did::numbered(1), &format!("c{}", 50_000 + other)));
        assert!(others.count() > 3 && all.touch(&Did::numbered(1), &written(CHANGED_MAX + 1)));
        assert!(!all.touch(&Did::numbered(2), &written(CHANGED_MAX + 1)));
    }
}
