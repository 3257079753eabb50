//! Events that wait for one charm, and how full its space is (S12, A5).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use super::{
    chain::Chain,
    underway::{Standing, Turns, Underway},
};
use crate::{
    did::Did,
    limits::Limits,
    meter::{Amount, Meter, Sender},
    rows::Queued,
    value::Value,
};

/// Events that wait for one charm. Each sender has a line of its own, in the order of sending (S3); senders are served
/// in turn, those outside together as one (A6).
#[derive(Default)]
pub struct Inbox {
    lines: HashMap<Did, Line>,
    order: Order,
    /// Events that are out of their line, until somebody decides. They keep their room.
    held: BTreeMap<u64, (Sender, Waiting)>,
    /// Events that are not due yet, each with when it is (S10). They take room of their senders.
    delayed: BTreeMap<u64, (Duration, Sender, Waiting)>,
    len: usize,
    /// Turns that have committed a segment: out of the lines, without room.
    pub underway: Turns,
    pub meter: Arc<Meter>,
}

/// What one sender has waiting, by position. Never empty.
struct Line {
    /// Who it was when the line began: a DID outside may become a charm's.
    sender: Sender,
    events: VecDeque<Waiting>,
    /// How many of them turns have sent that are under way.
    of_trees: usize,
    place: Place,
}

/// One event, and what led to it.
pub struct Waiting {
    pub queued: Arc<Queued>,
    pub chain: Chain,
    /// The descriptor that it was checked against, 0 for none.
    pub fits: u64,
    /// Whether its turn has begun.
    pub begun: bool,
    /// Whether the turn that sent it was under way then: it may be waited for (S7).
    pub of_tree: bool,
}

/// What is left of an event that has left its inbox.
pub struct Left {
    /// What led to it.
    pub chain: Chain,
    /// When it would have been due; none when it was.
    pub due: Option<Duration>,
}

impl Line {
    fn index(&self, position: u64) -> Result<usize, usize> {
        self.events.binary_search_by_key(&position, |waiting| waiting.queued.position)
    }

    fn is_late(&self) -> bool {
        self.events.front().is_some_and(|waiting| waiting.chain.is_late)
    }
}

impl Inbox {
    /// Returns whether an event has its turn or waits for it.
    pub fn is_busy(&self) -> bool {
        !self.lines.is_empty() || !self.underway.is_empty()
    }

    /// Returns whether a turn could begin, leaving out senders whose turn is parked.
    pub fn has_next(&self, parked: &HashSet<Did>, limits: &Limits) -> bool {
        self.underway.has_ready() || self.next(parked, limits).is_some()
    }

    /// Returns the sender whose event is next. At the bound of turns under way none is whose line has no event of a tree of
    /// waits: what nobody waits for waits for a place.
    fn next(&self, parked: &HashSet<Did>, limits: &Limits) -> Option<&Did> {
        if !self.is_at_bound(limits) {
            return self.order.next(true, |did| !parked.contains(did));
        }
        let of_tree = |did: &Did| self.lines.get(did).is_some_and(|line| line.of_trees > 0);
        self.order.next(false, |did| !parked.contains(did) && of_tree(did))
    }

    /// Returns whether turns are under way, and no more may be.
    pub fn is_at_bound(&self, limits: &Limits) -> bool {
        self.underway.len() >= limits.waiting_turns_max.max(1)
    }

    /// Begins the turn of the event that is next, leaving out senders whose turn is parked; returns the descriptor too that
    /// it was checked against.
    pub fn begin(&mut self, parked: &HashSet<Did>, limits: &Limits) -> Option<(Arc<Queued>, u64)> {
        let next = *self.next(parked, limits)?;
        let first = self.lines.get_mut(&next)?.events.front_mut()?;
        first.begun = true;
        Some((first.queued.clone(), first.fits))
    }

    /// The turn of an event has not begun after all, or not gone on.
    pub fn put_back(&mut self, queued: &Queued) {
        self.underway.stand(queued.position, Standing::Ready);
        if let Some(line) = self.lines.get_mut(&queued.event.sender)
            && let Ok(index) = line.index(queued.position)
        {
            line.events[index].begun = false;
        }
    }

    /// Returns whether the turn of an event has begun.
    pub fn has_begun(&self, queued: &Queued) -> bool {
        if let Some(underway) = self.underway.get(queued.position) {
            return underway.standing == Standing::Runs;
        }
        let line = self.lines.get(&queued.event.sender);
        line.is_some_and(|line| line.index(queued.position).is_ok_and(|index| line.events[index].begun))
    }

    /// Returns whether nothing waits but what is served after everybody else.
    pub fn is_late(&self) -> bool {
        self.order.prompt.is_empty() && !self.order.late.is_empty()
    }

    /// Returns up to `max` events after a position, those that are in no line too, in the order in which they were sent.
    pub fn page(&self, after: u64, max: usize) -> Vec<Arc<Queued>> {
        // The next of each line: what is looked at is what is returned and one more for each line.
        let rest = |line: &'_ Line| line.events.partition_point(|waiting| waiting.queued.position <= after);
        let lines = self.lines.values().map(|line| line.events.range(rest(line)..).map(|waiting| &waiting.queued));
        let mut lines: Vec<_> = lines.map(Iterator::peekable).collect();
        // What is in no line.
        let from = after.saturating_add(1)..;
        let held = self.held.range(from.clone()).map(|(_, (_, waiting))| &waiting.queued).take(max);
        let delayed = self.delayed.range(from).map(|(_, (.., waiting))| &waiting.queued).take(max);
        let underway = self.underway.after(after).map(|underway| &underway.queued).take(max);
        let mut apart: Vec<_> = held.chain(delayed).chain(underway).collect();
        apart.sort_unstable_by_key(|queued| queued.position);
        let mut apart = apart.into_iter().peekable();
        let first = |queued: Option<&&Arc<Queued>>| queued.map(|queued| queued.position);
        let mut next: BinaryHeap<_> = lines
            .iter_mut()
            .enumerate()
            .filter_map(|(index, line)| Some(Reverse((first(line.peek())?, index))))
            .collect();
        let mut page = Vec::with_capacity(max.min(self.len));
        while page.len() < max {
            let in_line = next.peek().map(|Reverse((position, _))| *position);
            let is_apart = first(apart.peek()).is_some_and(|apart| in_line.is_none_or(|position| apart < position));
            if is_apart {
                page.extend(apart.next().cloned());
                continue;
            }
            let Some(Reverse((_, index))) = next.pop() else { break };
            page.extend(lines[index].next().cloned());
            next.extend(first(lines[index].peek()).map(|position| Reverse((position, index))));
        }
        page
    }

    /// Takes events out of their lines, all of those at these positions.
    pub fn hold_all(&mut self, positions: &BTreeSet<u64>) {
        let waiting: Vec<_> = self.all().filter(|queued| positions.contains(&queued.position)).cloned().collect();
        waiting.iter().for_each(|queued| self.hold(queued));
    }

    /// Returns all events, those that are in no line too, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Queued>> {
        let lines = self.lines.values().flat_map(|line| &line.events).map(|waiting| &waiting.queued);
        lines.chain(self.apart())
    }

    /// Returns the events that commits of a space sent to `owner`, whose inbox it is, those that are in no line too, in no order.
    pub fn of<'a>(&'a self, space: &'a Did, owner: &'a Did) -> impl Iterator<Item = &'a Arc<Queued>> {
        // Receipts stand in the owner's own line.
        let lines = [space, owner].into_iter().filter_map(|sender| self.lines.get(sender));
        let waiting = lines.flat_map(|line| &line.events).map(|waiting| &waiting.queued);
        waiting.chain(self.apart()).filter(|queued| queued.space == *space)
    }

    /// Returns the events that are in no line: held, not due yet, or their turns are under way.
    fn apart(&self) -> impl Iterator<Item = &Arc<Queued>> {
        let held = self.held.values().map(|(_, waiting)| &waiting.queued);
        let delayed = self.delayed.values().map(|(.., waiting)| &waiting.queued);
        held.chain(delayed).chain(self.underway.after(0).map(|underway| &underway.queued))
    }

    /// Returns the events that are held.
    pub fn held(&self) -> impl Iterator<Item = &Arc<Queued>> {
        self.held.values().map(|(_, waiting)| &waiting.queued).chain(self.underway.held())
    }

    /// Returns whether an event is held.
    pub fn is_held(&self, queued: &Queued) -> bool {
        let underway = self.underway.get(queued.position);
        self.held.contains_key(&queued.position) || underway.is_some_and(|underway| underway.is_held)
    }

    /// Adds an event to its sender's line, at the place that its position gives it; to no line when it is due later.
    pub fn push(&mut self, sender: Sender, waiting: Waiting, due: Option<Duration>) {
        let queued = &waiting.queued;
        if queued.event.deliver_after.is_none() {
            self.meter.add(&sender, amount(queued));
        }
        self.len += 1;
        let position = queued.position;
        match due {
            Some(due) => drop(self.delayed.insert(position, (due, sender, waiting))),
            None => self.line_up(sender, waiting),
        }
    }

    /// Puts an event in line that is due now, and returns it.
    pub fn line_up_delayed(&mut self, position: u64) -> Option<Arc<Queued>> {
        let (_, sender, waiting) = self.delayed.remove(&position)?;
        let queued = waiting.queued.clone();
        self.line_up(sender, waiting);
        Some(queued)
    }

    /// Returns when the events are due that are not yet.
    #[cfg(test)]
    pub fn delayed(&self) -> impl Iterator<Item = (u64, Duration)> {
        self.delayed.iter().map(|(position, (due, ..))| (*position, *due))
    }

    /// Returns whether an event is not due yet.
    pub fn is_delayed(&self, queued: &Queued) -> bool {
        self.delayed.contains_key(&queued.position)
    }

    fn line_up(&mut self, sender: Sender, waiting: Waiting) {
        let (did, position) = (waiting.queued.event.sender, waiting.queued.position);
        let of_trees = usize::from(waiting.of_tree);
        match self.lines.entry(did) {
            Entry::Vacant(entry) => {
                let place = self.order.join(did, &sender, waiting.chain.is_late);
                entry.insert(Line { sender, events: VecDeque::from([waiting]), of_trees, place });
            }
            Entry::Occupied(mut entry) => {
                let line = entry.get_mut();
                let Err(index) = line.index(position) else { return };
                line.events.insert(index, waiting);
                line.of_trees += of_trees;
                if index == 0 && line.is_late() != matches!(line.place, Place::Late(_)) {
                    self.order.leave(line.place);
                    line.place = self.order.join(did, &line.sender, line.is_late());
                }
            }
        }
    }

    /// Lets the turn of an event be under way: it leaves its line and gives its room back. Its sender goes to the end of the
    /// order.
    pub fn set_out(&mut self, queued: &Queued) -> Option<Left> {
        let left = self.take(queued);
        self.meter.set_out();
        left
    }

    /// Adds a turn that is under way.
    pub fn add_underway(&mut self, underway: Underway) {
        self.len += 1;
        self.underway.insert(underway);
    }

    /// Removes a turn that is under way.
    pub fn come_back(&mut self, position: u64) -> Option<Underway> {
        let underway = self.underway.remove(position)?;
        self.len -= 1;
        self.meter.came_back();
        Some(underway)
    }

    /// Removes an event that is not under way, whether it had its turn, waits or is held. Its sender goes to the end of the
    /// order.
    pub fn take(&mut self, queued: &Queued) -> Option<Left> {
        let waits = self.leave(queued).or_else(|| self.held.remove(&queued.position));
        let (due, sender, Waiting { chain, .. }) = match waits {
            Some((sender, waiting)) => (None, sender, waiting),
            None => {
                let (due, sender, waiting) = self.delayed.remove(&queued.position)?;
                (Some(due), sender, waiting)
            }
        };
        self.len -= 1;
        if queued.event.deliver_after.is_none() {
            self.meter.remove(&sender, amount(queued));
        }
        Some(Left { chain, due })
    }

    /// Returns whether an event is not settled yet.
    pub fn holds(&self, queued: &Queued) -> bool {
        let line = self.lines.get(&queued.event.sender);
        line.is_some_and(|line| line.index(queued.position).is_ok())
            || self.held.contains_key(&queued.position)
            || self.is_delayed(queued)
            || self.underway.get(queued.position).is_some()
    }

    /// Takes an event out of its line until it is released or taken; those after it go on. One whose turn is under way does not go on.
    fn hold(&mut self, queued: &Queued) {
        if let Some(underway) = self.underway.get_mut(queued.position) {
            underway.is_held = true;
        } else if let Some(held) = self.leave(queued) {
            self.held.insert(queued.position, held);
        }
    }

    /// Puts a held event back at its place.
    pub fn release(&mut self, position: u64) {
        if let Some(underway) = self.underway.get_mut(position) {
            underway.is_held = false;
        } else if let Some((sender, waiting)) = self.held.remove(&position) {
            self.line_up(sender, waiting);
        }
    }

    /// Takes an event out of its line.
    fn leave(&mut self, queued: &Queued) -> Option<(Sender, Waiting)> {
        let Entry::Occupied(mut entry) = self.lines.entry(queued.event.sender) else { return None };
        let line = entry.get_mut();
        let index = line.index(queued.position).ok()?;
        let (sender, waiting) = (line.sender, line.events.remove(index)?);
        line.of_trees -= usize::from(waiting.of_tree);
        self.order.leave(line.place);
        if line.events.is_empty() {
            entry.remove();
        } else {
            line.place = self.order.join(queued.event.sender, &sender, line.is_late());
        }
        Some((sender, waiting))
    }

    pub fn expect_receipt(&self) {
        self.meter.add(&Sender::Own, Amount::one(0));
    }

    pub fn receipt_arrived(&self) {
        self.meter.remove(&Sender::Own, Amount::one(0));
    }

    /// Checks that what is counted is there, with so much of its charm's own elsewhere: receipts to come, delayed events.
    #[cfg(test)]
    pub fn check(&self, elsewhere: Amount) {
        let counted = Meter::default();
        counted.add(&Sender::Own, elsewhere);
        let here = |waiting: &&Waiting| waiting.queued.event.deliver_after.is_none();
        for line in self.lines.values() {
            let events = line.events.iter().filter(here);
            events.for_each(|waiting| counted.add(&line.sender, amount(&waiting.queued)));
        }
        let held = self.held.values().filter(|(_, waiting)| here(&waiting));
        held.for_each(|(sender, waiting)| counted.add(sender, amount(&waiting.queued)));
        self.underway.after(0).for_each(|_| counted.set_out());
        assert_eq!(self.meter.shown(), counted.shown(), "what takes room");
        assert_eq!(self.len, self.all().count(), "how many there are");
        self.underway.check();
    }
}

/// Returns the room that an event takes.
fn amount(queued: &Queued) -> Amount {
    Amount::one(queued.event.payload.as_bytes().len())
}

/// Whose turn is next: whoever was served leaves, and joins again at the end.
#[derive(Default)]
struct Order {
    /// Senders by place; none for those outside.
    prompt: BTreeMap<u64, Option<Did>>,
    /// Whose next event ends a chain that is deep and fast at once: served after all others.
    late: BTreeMap<u64, Did>,
    /// Those outside.
    outside: BTreeMap<u64, Did>,
    /// The place of all those together.
    together: u64,
    /// The last place given.
    last: u64,
}

/// The place of a sender.
#[derive(Clone, Copy)]
enum Place {
    Prompt(u64),
    Late(u64),
    Outside(u64),
}

impl Order {
    /// Returns the first sender that is free; none of those outside unless they are served.
    fn next(&self, outside: bool, free: impl Fn(&Did) -> bool) -> Option<&Did> {
        let free = |did: &&Did| free(did);
        let prompt = self.prompt.values().find_map(|share| match share {
            Some(did) => Some(did).filter(free),
            None if outside => self.outside.values().find(free),
            None => None,
        });
        prompt.or_else(|| self.late.values().find(free))
    }

    /// Adds a sender at the end.
    fn join(&mut self, did: Did, sender: &Sender, late: bool) -> Place {
        self.last += 1;
        let last = self.last;
        if matches!(sender, Sender::Outside(_)) {
            if self.outside.is_empty() {
                self.together = last;
                self.prompt.insert(last, None);
            }
            self.outside.insert(last, did);
            Place::Outside(last)
        } else if late {
            self.late.insert(last, did);
            Place::Late(last)
        } else {
            self.prompt.insert(last, Some(did));
            Place::Prompt(last)
        }
    }

    /// Takes a sender out. When one outside leaves, the others outside go to the end with it.
    fn leave(&mut self, place: Place) {
        match place {
            Place::Prompt(place) => drop(self.prompt.remove(&place)),
            Place::Late(place) => drop(self.late.remove(&place)),
            Place::Outside(place) => {
                self.outside.remove(&place);
                self.prompt.remove(&self.together);
                if !self.outside.is_empty() {
                    self.last += 1;
                    self.together = self.last;
                    self.prompt.insert(self.last, None);
                }
            }
        }
    }
}

/// How full a space is.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    cells: usize,
    bytes: usize,
}

/// What one commit adds to a space, or takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    cells: isize,
    bytes: isize,
}

impl Growth {
    /// Replaces a cell of so many bytes by one of so many; none is one that holds no value.
    pub fn change(&mut self, before: Option<usize>, after: Option<usize>) {
        self.cells += isize::from(after.is_some()) - isize::from(before.is_some());
        self.bytes += after.unwrap_or(0) as isize - before.unwrap_or(0) as isize;
    }
}

impl Usage {
    /// Returns it with one cell more.
    pub fn with_cell(self, value: &Value) -> Usage {
        let mut growth = Growth::default();
        growth.change(None, Some(value.as_bytes().len()));
        self.grown(&growth)
    }

    pub fn grown(self, growth: &Growth) -> Usage {
        let Growth { cells, bytes } = *growth;
        Usage { cells: self.cells.saturating_add_signed(cells), bytes: self.bytes.saturating_add_signed(bytes) }
    }

    pub fn check(&self, limits: &Limits) -> Result<(), String> {
        if self.cells > limits.cells_max {
            Err(format!("over cells-max {}", limits.cells_max))
        } else if self.bytes > limits.space_bytes_max {
            Err(format!("over space-bytes-max {}", limits.space_bytes_max))
        } else {
            Ok(())
        }
    }
}
