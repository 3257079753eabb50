//! What the store keeps beside its log, compared with what the log makes (T5).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Chain, Law, RECEIPTS_PAGE, Seals, VerifiedStore, VerifyError, last_commit,
    replay::{Cell, Letter, Replay, Settled, fingerprint},
    turns::Underway,
};
use crate::{
    did::Did,
    entry::ENTRIES_PAGE,
    event::EventId,
    limits::NAME_BYTES_MAX,
    record::{Body, Hash, Record, event_hash, recording_hash},
    rows::{CellRow, Image, Queued, ReceiptRow, SpaceRow},
    store::Store,
    text::clip,
    value::{Data, Value},
};

/// What the store did after the picture, by its log: receipts that came, dead letters that went.
struct Later {
    settled: HashSet<EventId>,
    /// Events whose turns have committed another segment, or got the answer to a request.
    went_on: HashSet<EventId>,
    buried: HashSet<EventId>,
    /// Spaces in which something else is installed.
    installed: HashSet<Did>,
}

impl Later {
    fn read(store: &dyn Store, mut order: u64) -> Result<Later, VerifyError> {
        let (settled, went_on, buried, installed) = Default::default();
        let mut later = Later { settled, went_on, buried, installed };
        loop {
            let page = store.log(None, order, ENTRIES_PAGE)?;
            let Some(last) = page.last() else { return Ok(later) };
            order = last.order;
            for entry in &page {
                let record = Record::from_bytes(&entry.record)
                    .map_err(|error| VerifyError::unread(&entry.space, entry.seq, error))?;
                later.settled.extend(record.turn().map(|turn| turn.receipt.id));
                later.went_on.extend(record.handles().filter(|_| record.turn().is_none()));
                let refused = record.sends().filter(|(_, refused)| refused.is_some());
                later.settled.extend(refused.map(|(event, _)| event.id));
                later.buried.extend(record.dropped());
                let installs = matches!(record.body, Body::Installed(_) | Body::Uninstalled);
                later.installed.extend(installs.then_some(record.space));
            }
        }
    }
}

/// Compares a store with its log, read up to host commit `order`.
pub(super) fn compare(
    store: &dyn Store,
    image: &Image,
    chains: BTreeMap<Did, Chain>,
    mut replay: Replay,
    seals: Seals,
) -> Result<VerifiedStore, VerifyError> {
    let order = seals.order;
    heads(image, &chains, &replay, order)?;
    seals.end(image)?;
    cells(
        image.cells.iter(),
        |space, name| replay.cells.get_mut(space).and_then(|cells| cells.remove(name)),
        |space| last_commit(image, space),
    )?;
    let missing = replay.cells.iter().find_map(|(space, cells)| Some((space, cells.iter().next()?)));
    if let Some((space, (name, missing))) = missing {
        return Err(cell(space, name, missing.seq));
    }
    let waiting = image.queued.len() as u64;
    queue(store, image, &mut replay)?;
    let users = users(&replay);
    let moved = turns(store, image, &mut replay)?;
    let dead = image.dead.len() as u64;
    let gone = letters(store, image, &mut replay)?;
    // Where a past has gone the log does not tell how all of them were sent.
    let settled = replay.settled;
    let sent = settled + waiting;
    let new = receipts(store, image, &mut replay)?;
    let needed = components(store, image, users)?;
    if !gone.is_empty() || !new.is_empty() || !needed.is_empty() || !moved.is_empty() {
        let later = Later::read(store, order)?;
        let is_other = |Moved { event, ended, .. }: &&Moved| {
            let since = if *ended { &later.settled } else { &later.went_on };
            !since.contains(event)
        };
        if let Some(Moved { order, position, .. }) = moved.iter().find(is_other) {
            return Err(at(store, *order, Law::State, other_recording(*position)));
        }
        if let Some((event, order)) = gone.iter().find(|(event, _)| !later.buried.contains(event)) {
            return Err(at(store, *order, Law::State, format!("dead letter of event {event} is missing")));
        }
        let is_needed = |User { charm, turn }: &&User| match turn {
            Some(event) => !later.settled.contains(event),
            None => !later.installed.contains(charm),
        };
        if let Some(User { charm, .. }) = needed.iter().find(is_needed) {
            return Err(VerifyError::broken(Law::State, charm, last_commit(image, charm), NO_COMPONENT));
        }
        if let Some(row) = new.iter().find(|row| !later.settled.contains(&row.receipt.id)) {
            let why = format!("receipt {} of an event that is not settled", row.receipt.id);
            return Err(VerifyError::broken(Law::Once, &row.to, last_commit(image, &row.to), why));
        }
    }
    let spaces = chains.into_iter().map(|(did, chain)| (did, chain.proof)).collect();
    Ok(VerifiedStore { spaces, seals: seals.count, sent, settled, waiting, dead })
}

fn heads(image: &Image, chains: &BTreeMap<Did, Chain>, replay: &Replay, order: u64) -> Result<(), VerifyError> {
    let mut names = HashSet::new();
    for row in &image.spaces {
        if let Some(chain) = chains.get(&row.did) {
            chain.end(row)?;
        }
        if row.letters_dropped != replay.letters_dropped.get(&row.did).copied().unwrap_or(0) {
            let why = "the count of dead letters that went is not the log's";
            return Err(VerifyError::broken(Law::State, &row.did, row.seq, why));
        }
        let broken = |why: &str| Err(VerifyError::broken(Law::State, &row.did, row.seq, why));
        if !names.insert(&row.name) {
            return broken("another space has the same name");
        }
        if row.installed != replay.installed.get(&row.did).copied() {
            return broken("another component is installed, or with other rights, than in the log");
        }
        let cut = replay.cuts.get(&row.did);
        if cut.is_some_and(|cut| {
            // What the log has let go may be there for a moment.
            let is_moved = cut.seq > 0 && cut.seq == row.floor.seq && cut.order != row.floor.order;
            is_moved || (cut.seq > 0 && cut.seq < row.floor.seq) || cut.receipts < row.receipts_floor
        }) {
            return broken("what has gone of it is not what the log says");
        }
        if row.notes.paused != replay.paused.contains(&row.did) {
            return broken("it is paused, or not, other than in the log");
        }
    }
    if let Some(row) = image.spaces.first() {
        let broken = |law, why| Err(VerifyError::broken(law, &row.did, row.seq, why));
        if names.len() != chains.len() {
            return broken(Law::State, "a space stands twice");
        }
        let named = |row: &&SpaceRow| replay.made.get(&row.did) != Some(&row.name);
        if let Some(row) = image.spaces.iter().find(named) {
            return Err(VerifyError::broken(Law::State, &row.did, row.seq, "the name is not the log's"));
        }
        if image.order != order {
            return broken(Law::Chain, "the log ends before the host's last commit");
        }
        if image.kept != replay.kept.iter().map(|(did, kept)| (*did, kept.clone())).collect::<Vec<_>>() {
            return broken(Law::State, "what is decided about rights is not the log's");
        }
        if image.position != replay.position {
            return broken(Law::State, "the last position is not the log's");
        }
    }
    Ok(())
}

/// Compares cells with those that the log leaves, which are taken out one by one.
pub(super) fn cells<'a>(
    live: impl Iterator<Item = &'a CellRow>,
    mut take: impl FnMut(&Did, &str) -> Option<Cell>,
    last: impl Fn(&Did) -> u64,
) -> Result<(), VerifyError> {
    for CellRow { space, name, order, seq, value } in live {
        match take(space, name) {
            Some(made) if (made.order, made.seq) == (*order, *seq) && is_same(made.value.as_ref(), value.as_ref()) => {}
            Some(made) => return Err(cell(space, name, made.seq)),
            None => return Err(cell(space, name, last(space))),
        }
    }
    Ok(())
}

/// Returns whether a decoded value is what stands in the store.
fn is_same(made: Option<&Data>, found: Option<&Value>) -> bool {
    match (made, found) {
        (Some(made), Some(found)) => Value::encode(made).is_ok_and(|made| made == *found),
        (made, found) => made.is_none() && found.is_none(),
    }
}

/// The error for a cell.
pub(super) fn cell(space: &Did, name: &str, seq: u64) -> VerifyError {
    let why = format!("cell {}: value differs from the log", clip(name, NAME_BYTES_MAX));
    VerifyError::broken(Law::State, space, seq, why)
}

/// The error for what host commit `order` made.
fn at(store: &dyn Store, order: u64, law: Law, why: String) -> VerifyError {
    match store.log(None, order.saturating_sub(1), 1).map(|page| page.into_iter().next()) {
        Ok(Some(entry)) => VerifyError::broken(law, &entry.space, entry.seq, why),
        Ok(None) => crate::store::StoreError::Failed(format!("log entry {order} is missing")).into(),
        Err(error) => error.into(),
    }
}

const NO_COMPONENT: &str = "the bytes of its component are missing";

/// What needs a component: a charm that has it installed, or a turn of it that is under way and began with it.
struct User {
    charm: Did,
    turn: Option<EventId>,
}

/// Returns what needs each component by the log.
fn users(replay: &Replay) -> BTreeMap<Hash, Vec<User>> {
    let mut users: BTreeMap<Hash, Vec<User>> = BTreeMap::new();
    for (charm, row) in &replay.installed {
        users.entry(row.component).or_default().push(User { charm: *charm, turn: None });
    }
    for Underway { row, .. } in replay.underway.values() {
        let Some(component) = row.progress.began_with() else { continue };
        users.entry(component).or_default().push(User { charm: row.space, turn: Some(row.event) });
    }
    users
}

/// Compares the components with those that are needed; returns what needs those that are not there any more.
fn components(store: &dyn Store, image: &Image, users: BTreeMap<Hash, Vec<User>>) -> Result<Vec<User>, VerifyError> {
    let broken = |charm: &Did, why| VerifyError::broken(Law::State, charm, last_commit(image, charm), why);
    let kept: BTreeSet<Hash> = image.components.iter().copied().collect();
    if let Some(row) = image.spaces.first()
        && kept.iter().any(|hash| !users.contains_key(hash))
    {
        return Err(broken(&row.did, "the bytes of a component are kept that nothing needs"));
    }
    let mut gone = Vec::new();
    for (hash, users) in users {
        let Some(User { charm, .. }) = users.first().filter(|_| !kept.contains(&hash)) else {
            match store.component(&hash)? {
                Some(component) if component.sha256() == hash => {}
                Some(_) => return Err(broken(&users[0].charm, "the bytes of its component are others")),
                None => gone.extend(users),
            }
            continue;
        };
        return Err(broken(charm, NO_COMPONENT));
    }
    Ok(gone)
}

fn queue(store: &dyn Store, image: &Image, replay: &mut Replay) -> Result<(), VerifyError> {
    for queued in &image.queued {
        let (position, to) = (queued.position, &queued.event.to);
        let told = replay.told.remove(&queued.event.id);
        let Some((order, made)) = replay.waiting.remove(&position) else {
            if told.is_some_and(|told| told.to == *to && told.hash == event_hash(&queued.event)) {
                continue;
            }
            let why = format!("event at position {position} waits, but not by the log");
            return Err(VerifyError::broken(Law::State, to, last_commit(image, to), why));
        };
        if made != *queued {
            return Err(at(store, order, Law::State, format!("event at position {position} differs from the log")));
        }
    }
    let floors = &replay.floors;
    // What a charm settled before its floor has gone.
    let marks = floors.values().flat_map(|floor| &floor.checkpoint.waiting);
    let waited: HashSet<EventId> = marks.map(|mark| mark.id).collect();
    replay.waiting.retain(|_, (order, Queued { event, .. })| {
        floors.get(&event.to).is_none_or(|floor| *order > floor.point.order) || waited.contains(&event.id)
    });
    if let Some((id, told)) = replay.told.iter().find(|(_, told)| told.is_certain) {
        let why = format!("event {id} does not wait any more");
        return Err(VerifyError::broken(Law::State, &told.to, last_commit(image, &told.to), why));
    }
    match replay.waiting.pop_first() {
        Some((position, (order, _))) => {
            Err(at(store, order, Law::State, format!("event at position {position} does not wait any more")))
        }
        None => Ok(()),
    }
}

/// A turn whose recording has not as many pieces as the picture says.
struct Moved {
    event: EventId,
    position: u64,
    order: u64,
    /// It has fewer; else more.
    ended: bool,
}

fn other_recording(position: u64) -> String {
    format!("what the turn at position {position} was told is not what the log says")
}

/// Compares the turns under way, and what they were told; returns those that have moved on, or a piece is gone or one too many.
fn turns(store: &dyn Store, image: &Image, replay: &mut Replay) -> Result<Vec<Moved>, VerifyError> {
    let mut moved = Vec::new();
    let at_position: HashMap<u64, EventId> = match replay.underway.values().any(|underway| underway.told.is_some()) {
        true => image.queued.iter().map(|queued| (queued.position, queued.event.id)).collect(),
        false => HashMap::new(),
    };
    for row in &image.turns {
        let (event, position) = (row.event, row.position);
        let Some(made) = replay.underway.remove(&event) else {
            let why = format!("the turn at position {position} is under way, but not by the log");
            return Err(VerifyError::broken(Law::State, &row.space, last_commit(image, &row.space), why));
        };
        let order = made.order;
        if !made.is(row, |row| at_position.get(&row.position) == Some(&row.event)) {
            let why = format!("the turn at position {position} differs from the log");
            return Err(at(store, order, Law::State, why));
        }
        let (pieces, count) = (store.recording(position)?, row.progress.pieces as usize);
        if pieces.len() != count {
            moved.push(Moved { event, position, order, ended: pieces.len() < count });
        }
        let told = pieces
            .get(..count)
            .map(|pieces| pieces.iter().fold(Hash::default(), |before, piece| recording_hash(&before, piece)));
        if told.is_some_and(|told| told != row.progress.recording) {
            return Err(at(store, order, Law::State, other_recording(position)));
        }
    }
    match replay.underway.values().min_by_key(|underway| underway.order) {
        Some(Underway { order, row, .. }) => {
            let why = format!("the turn of event {} is not under way any more", row.event);
            Err(at(store, *order, Law::State, why))
        }
        None => Ok(moved),
    }
}

/// Compares the dead letters; returns those that are not there, with the commits that made them.
fn letters(store: &dyn Store, image: &Image, replay: &mut Replay) -> Result<Vec<(EventId, u64)>, VerifyError> {
    let mut gone = Vec::new();
    for (did, position, event) in &image.dead {
        let same = |letter: &Letter| letter.to == *did && letter.position == *position;
        let Some(letter) = replay.dead.remove(event).filter(same) else {
            if let Some((_, hash)) = replay.letters_told.remove(event).filter(|(to, _)| to == did) {
                let found = store.dead_letter(*position)?;
                if found.is_none_or(|found| hash.is_none_or(|hash| hash == event_hash(&found.event))) {
                    continue;
                }
            }
            let why = format!("dead letter at position {position} is not there by the log");
            return Err(VerifyError::broken(Law::State, did, last_commit(image, did), why));
        };
        match store.dead_letter(*position)? {
            Some(found) if fingerprint(&found) == letter.fingerprint => {}
            Some(_) => {
                let why = format!("dead letter at position {position} differs from the log");
                return Err(at(store, letter.order, Law::State, why));
            }
            None => gone.push((*event, letter.order)),
        }
    }
    if let Some((event, (did, _))) = replay.letters_told.iter().find(|(_, (_, hash))| hash.is_some()) {
        let why = format!("dead letter of event {event} is missing");
        return Err(VerifyError::broken(Law::State, did, last_commit(image, did), why));
    }
    match replay.dead.pop_first() {
        Some((event, letter)) => {
            Err(at(store, letter.order, Law::State, format!("dead letter of event {event} is missing")))
        }
        None => Ok(gone),
    }
}

/// Compares the receipts, page by page; returns those of events that the log does not settle.
fn receipts(store: &dyn Store, image: &Image, replay: &mut Replay) -> Result<Vec<ReceiptRow>, VerifyError> {
    let said = |did: &Did| replay.cuts.get(did).map_or(0, |cut| cut.receipts);
    // Receipts up to these commits may be there, and the log does not tell of them; up to those they have gone.
    let floors: HashMap<Did, (u64, u64)> =
        image.spaces.iter().map(|row| (row.did, (row.floor.seq.max(said(&row.did)), row.receipts_floor))).collect();
    let (mut new, mut after) = (Vec::new(), None);
    loop {
        let page = store.receipts(after.as_ref(), RECEIPTS_PAGE)?;
        if page.is_empty() {
            break;
        }
        for row in page {
            let id = row.receipt.id;
            if after.is_some_and(|after| id <= after) {
                let why = format!("receipt {id} stands out of order");
                return Err(VerifyError::broken(Law::State, &row.to, row.receipt.commit.unwrap_or(0), why));
            }
            after = Some(id);
            match replay.events.get(&id).and_then(|known| Some((known.order, known.receipt?))) {
                Some((_, receipt)) if receipt.is(&row) => drop(replay.events.remove(&id)),
                Some((order, _)) => {
                    return Err(at(store, order, Law::State, format!("receipt {id} differs from the log")));
                }
                None if floors.get(&row.space).is_some_and(|(untold, _)| row.seq <= *untold) => {}
                None => new.push(row),
            }
        }
    }
    let is_kept = |settled: &Settled| floors.get(&settled.space).is_none_or(|(_, gone)| settled.seq > *gone);
    let missing = replay.events.iter().find(|(_, known)| known.receipt.as_ref().is_some_and(is_kept));
    match missing {
        Some((id, known)) => Err(at(store, known.order, Law::Once, format!("receipt {id} is missing"))),
        None => Ok(new),
    }
}
