//! The host's calls natively: they touch the turn of this thread, and what it may see of the host.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::panic::resume_unwind;
use std::rc::Rc;

use super::state::{Event, From, State, http_denied};
use super::{Host, shapes, tree};
use crate::cells::Span;
use crate::host::Level;
use crate::http::{Request, Response};
use crate::link::named;
use crate::value::{cut, encode};
use crate::wish::{Found, Offers, Wanted};
use crate::{Did, Error, EventId, Receipt, Result, Segment, Value, When};

mod derive;

pub(super) use derive::derive;
use derive::{check_pure, facts};

thread_local! {
    /// The turns that were begun and have not ended. The last one runs, those before it wait.
    static TURNS: RefCell<Vec<Turn>> = const { RefCell::new(Vec::new()) };
}

/// The most turns that wait at once: their handlers are all on the stack of the test.
const WAITING_MAX: usize = 64;

/// How often a turn is tried again, as on a host whose operator says nothing else.
const RETRIES_MAX: u32 = 16;

/// The most links that one path leads through, as on a real host.
const LINKS_MAX: usize = 16;

/// One event being handled.
pub(crate) struct Turn {
    state: Rc<RefCell<State>>,
    me: Did,
    sender: Did,
    event: EventId,
    retries: u32,
    time: u64,
    seed: u64,
    /// What the present transaction staged.
    ended: Ended,
    /// What was sent, also before a wait.
    sent: BTreeSet<EventId>,
    /// The number of the last commit, made at a wait.
    committed: Option<u64>,
    waits: bool,
    /// The derived cell that is computed, and what the turn that reads it has written: no event is handled.
    derives: Option<(String, Written)>,
    /// The derived cells that need each other, of which it computes one.
    cycle: Option<Vec<(Did, String)>>,
}

/// What a turn has written: whose cells, and what is in them.
type Written = (Did, BTreeMap<String, Option<Value>>);

/// What a transaction staged. None removes the cell.
#[derive(Default)]
pub(crate) struct Ended {
    pub(super) writes: BTreeMap<String, Option<Value>>,
    pub(super) sends: Vec<Event>,
    pub(super) withdrawn: Vec<EventId>,
}

/// Says that a turn is running on this thread.
pub(super) struct Running(());

/// Unwinds a handler that the host ends by itself; the text of the fault.
pub(super) struct Fault(pub(super) String);

/// Unwinds a handler whose turn is tried again after so many milliseconds.
pub(super) struct Again(pub(super) u64);

impl Turn {
    fn new(state: Rc<RefCell<State>>, event: &Event) -> Self {
        let time = state.borrow().time;
        let seed = event.id.bytes().fold(0, |seed, byte| mix(seed ^ u64::from(byte)));
        let retries = event.retries;
        let (me, sender, event) = (event.to.clone(), event.sender.clone(), event.id.clone());
        let (ended, sent) = Default::default();
        let (committed, waits, derives, cycle) = (None, false, None, None);
        Self { state, me, sender, event, retries, time, seed, ended, sent, committed, waits, derives, cycle }
    }

    pub(super) fn begin(state: Rc<RefCell<State>>, event: &Event) -> Running {
        let turn = Self::new(state, event);
        TURNS.with_borrow_mut(|turns| {
            assert!(turns.last().is_none_or(|last| last.waits), "a handler can not run a host of its own");
            turns.push(turn);
        });
        Running(())
    }

    /// The current value of a cell: this transaction's own write, or what is committed (T3).
    fn cell(&self, owner: &Did, name: &str) -> Option<Value> {
        if *owner == self.me
            && let Some(written) = self.ended.writes.get(name)
        {
            return written.clone();
        }
        if let Some((_, (writer, written))) = &self.derives
            && writer == owner
            && let Some(written) = written.get(name)
        {
            return written.clone();
        }
        self.state.borrow().spaces.get(owner)?.get(name).cloned()
    }

    /// The next cells of a listing, and where the rest begins.
    fn page(&self, owner: Option<&Did>, span: &Span, limit: u32) -> Result<Page<(String, Value)>> {
        let owner = owner.unwrap_or(&self.me);
        let Span { prefix, start, end } = span;
        if limit == 0 {
            return Err(Error::Invalid("limit: it is 0".into()));
        }
        for (what, text) in [("prefix", Some(prefix)), ("start", start.as_ref()), ("end", end.as_ref())] {
            if text.is_some_and(|text| text.len() > NAME_BYTES_MAX + 1) {
                return Err(Error::Invalid(format!("{what}: longer than {NAME_BYTES_MAX} bytes")));
            }
        }
        let state = self.state.borrow();
        if *owner != self.me && !(prefix.contains(':') && state.may_read(&self.me, owner, prefix)) {
            return Err(Error::Denied { owner: owner.clone(), name: prefix.clone() });
        }
        let mut cells = state.spaces.get(owner).cloned().unwrap_or_default();
        let read = self.derives.as_ref().filter(|(_, (writer, _))| writer == owner).map(|(_, (_, written))| written);
        for (name, value) in self.ended.writes.iter().filter(|_| *owner == self.me).chain(read.into_iter().flatten()) {
            match value {
                Some(value) => cells.insert(name.clone(), value.clone()),
                None => cells.remove(name),
            };
        }
        let start = start.as_ref().unwrap_or(prefix).max(prefix);
        let listed = cells.range(start.clone()..).take_while(|(name, _)| end.as_ref().is_none_or(|end| *name < end));
        let mut listed = listed.take_while(|(name, _)| name.starts_with(&**prefix));
        let max = LIST_PAGE_MAX.min(limit as usize);
        let page: Vec<_> = listed.by_ref().take(max).map(|(name, value)| (name.clone(), value.clone())).collect();
        let next = listed.next().and(page.last()).map(|(last, _)| format!("{last}\0"));
        Ok((page, next))
    }
}

impl Running {
    /// Returns what the last transaction staged, and the number of the commit before it.
    pub(super) fn end(self) -> (Ended, Option<u64>) {
        let turn = TURNS.with_borrow_mut(Vec::pop);
        turn.map(|turn| (turn.ended, turn.committed)).unwrap_or_default()
    }
}

fn turn<R>(act: impl FnOnce(&mut Turn) -> R) -> R {
    TURNS.with_borrow_mut(|turns| match turns.last_mut() {
        Some(turn) => act(turn),
        None => panic!("no event is being handled here: send one with `charm_sdk::testing::Host`"),
    })
}

/// Whether a handler is running on this thread.
pub(crate) fn in_turn() -> bool {
    TURNS.with_borrow(|turns| !turns.is_empty())
}

#[derive(Clone, PartialEq)]
pub(crate) struct Cell {
    owner: Did,
    name: String,
}

impl Cell {
    pub(crate) fn open(owner: Option<&Did>, name: &str) -> Result<Self> {
        let (owner, name) = address(owner, name)?;
        Ok(Self { owner, name })
    }

    pub(crate) fn get(&self, path: &[Segment]) -> Result<Option<Vec<u8>>> {
        self.follow(path, |cell, path| {
            let value = cell.value()?;
            tree::get(value.as_ref(), path)?.map(encode).transpose()
        })
    }

    pub(crate) fn set(&self, path: &[Segment], value: Vec<u8>) -> Result<()> {
        let value = canonical(&value)?;
        self.change(path, |cell, path| tree::set(cell, path, value.clone()))
    }

    pub(crate) fn remove(&self, path: &[Segment]) -> Result<()> {
        self.change(path, tree::remove)
    }

    pub(crate) fn append(&self, path: &[Segment], item: &[u8]) -> Result<()> {
        let item = canonical(item)?;
        self.change(path, |cell, path| tree::append(cell, path, item.clone()))
    }

    pub(crate) fn add_unique(&self, path: &[Segment], item: &[u8]) -> Result<()> {
        let item = canonical(item)?;
        self.change(path, |cell, path| match tree::list(cell.as_ref(), path)? {
            Some(list) if list.contains(&item) => Ok(()),
            _ => tree::append(cell, path, item.clone()),
        })
    }

    pub(crate) fn remove_by_value(&self, path: &[Segment], item: &[u8]) -> Result<()> {
        let item = canonical(item)?;
        self.change(path, |cell, path| {
            let Some(list) = tree::list(cell.as_ref(), path)? else { return Ok(()) };
            if !list.contains(&item) {
                return Ok(());
            }
            let kept = list.iter().filter(|other| **other != item).cloned().collect();
            tree::set(cell, path, Value::List(kept))
        })
    }

    pub(crate) fn increment(&self, path: &[Segment], by: &[u8]) -> Result<()> {
        let by = canonical(by)?;
        self.change(path, |cell, path| tree::increment(cell, path, &by))
    }

    fn change(&self, path: &[Segment], change: impl Fn(&mut Option<Value>, &[Segment]) -> Result<()>) -> Result<()> {
        self.follow(path, |cell, path| {
            turn(|turn| {
                check_pure(turn, "cells.set")?;
                if turn.state.borrow().derives(&cell.owner, &cell.name) {
                    let (owner, name) = (cell.owner.clone(), cell.name.clone());
                    let derivation = name.split_once(':').map_or(&*name, |(family, _)| family).to_owned();
                    return Err(Error::ReadOnly { owner, name, derivation });
                }
                if cell.owner != turn.me {
                    return Err(Error::WriteIsolation { requested: cell.owner.clone(), open: turn.me.clone() });
                }
                let mut value = turn.cell(&cell.owner, &cell.name);
                change(&mut value, path)?;
                turn.ended.writes.insert(cell.name.clone(), value);
                Ok(())
            })
        })
    }

    /// Makes a call at a path, or where the links on it lead (C5).
    fn follow<R>(&self, path: &[Segment], call: impl Fn(&Self, &[Segment]) -> Result<R>) -> Result<R> {
        let mut way = vec![(self.clone(), path.to_vec())];
        loop {
            let (cell, path) = &way[way.len() - 1];
            let refusal = match call(cell, path) {
                Err(refusal @ (Error::WriteIsolation { .. } | Error::ReadOnly { .. })) => refusal,
                Err(Error::TypeMismatch { at, expected, actual }) if actual == "link" => {
                    Error::TypeMismatch { at, expected, actual }
                }
                done => return done,
            };
            let Some(next) = cell.hop(path) else { return Err(refusal) };
            if let Some(start) = way.iter().position(|been| *been == next) {
                return Err(Error::Cycle(way.drain(start..).map(|(cell, _)| (cell.owner, cell.name)).collect()));
            }
            if way.len() > LINKS_MAX {
                return Err(Error::Limit { name: "links-max".into(), max: LINKS_MAX as u64 });
            }
            way.push(next);
        }
    }

    /// What it holds, computed or written.
    fn value(&self) -> Result<Option<Value>> {
        let (state, is_derived) = turn(|turn| {
            let state = turn.state.borrow();
            if !state.may_read(&turn.me, &self.owner, &self.name) {
                return Err(Error::Denied { owner: self.owner.clone(), name: self.name.clone() });
            }
            Ok((turn.state.clone(), state.derives(&self.owner, &self.name)))
        })?;
        match is_derived {
            true => derive(&state, &self.owner, &self.name).map(Some),
            false => Ok(turn(|turn| turn.cell(&self.owner, &self.name))),
        }
    }

    /// Where the first link on a path leads, if it may be read.
    fn hop(&self, path: &[Segment]) -> Option<(Self, Vec<Segment>)> {
        let value = self.value().ok()??;
        let (steps, link) = tree::link_on(&value, path)?;
        let (owner, name, base) = named(link)?;
        Some((Self { owner, name }, [&base?[..], &path[steps..]].concat()))
    }
}

/// The most cells of a page, and the bytes of its values.
const LIST_PAGE_MAX: usize = 1_000;
const LIST_BYTES_MAX: usize = 256 << 10;

/// Cells of a page, and where the next begins.
type Page<T> = (Vec<T>, Option<String>);

pub(crate) fn names(owner: Option<&Did>, span: &Span, limit: u32) -> Result<Page<String>> {
    let (page, next) = turn(|turn| turn.page(owner, span, limit))?;
    Ok((page.into_iter().map(|(name, _)| name).collect(), next))
}

pub(crate) fn entries(owner: Option<&Did>, span: &Span, limit: u32) -> Result<Page<(String, Vec<u8>)>> {
    let (page, mut next) = turn(|turn| turn.page(owner, span, limit))?;
    let (mut entries, mut bytes): (Vec<(String, Vec<u8>)>, usize) = Default::default();
    for (name, value) in page {
        let value = encode(&value)?;
        bytes += value.len();
        if let Some((last, _)) = entries.last()
            && bytes > LIST_BYTES_MAX
        {
            next = Some(format!("{last}\0"));
            break;
        }
        entries.push((name, value));
    }
    Ok((entries, next))
}

pub(crate) fn remove_all(owner: Option<&Did>, span: &Span, limit: u32) -> Result<(u32, Option<String>)> {
    turn(|turn| {
        if let Some(owner) = owner.filter(|owner| **owner != turn.me) {
            return Err(Error::WriteIsolation { requested: owner.clone(), open: turn.me.clone() });
        }
        let (page, next) = turn.page(None, span, limit)?;
        let count = page.len() as u32;
        turn.ended.writes.extend(page.into_iter().map(|(name, _)| (name, None)));
        Ok((count, next))
    })
}

pub(crate) struct Stream {
    owner: Did,
    name: String,
}

impl Stream {
    pub(crate) fn open(owner: Option<&Did>, name: &str) -> Result<Self> {
        let (owner, name) = address(owner, name)?;
        Ok(Self { owner, name })
    }

    pub(crate) fn send(&self, event: Vec<u8>, when: When) -> Result<EventId> {
        let When { deliver_after, expires_at, then } = when;
        if expires_at.is_some_and(|expires_at| expires_at <= deliver_after.unwrap_or(0)) {
            return Err(Error::Invalid("expires-at is not after deliver-after: it would never begin".into()));
        }
        let value = canonical(&event)?;
        let then = then.map(|(stream, tag)| Ok::<_, Error>((stream.to_owned(), canonical(&tag)?))).transpose()?;
        turn(|turn| {
            check_pure(turn, "streams.send")?;
            let state = &mut *turn.state.borrow_mut();
            if let Some((name, _)) = &then
                && !state.charms[&turn.me].streams.iter().any(|stream| stream.name == *name && stream.receipts)
            {
                return Err(Error::NoSuchStream { owner: turn.me.clone(), name: name.clone() });
            }
            let declared = state.charms.get(&self.owner).into_iter().flat_map(|charm| &charm.streams);
            if state.may_send(&turn.me, &self.owner, &self.name)
                && let Some(declared) = declared.into_iter().find(|stream| stream.name == self.name)
            {
                shapes::check(&value, &declared.shape)?;
            }
            let id = state.next_id();
            turn.sent.insert(id.clone());
            let (me, to, stream) = (turn.me.clone(), self.owner.clone(), self.name.clone());
            let plain = Event::new(id.clone(), From::Charm, me, to, stream, event);
            turn.ended.sends.push(Event { on_commit: then, deliver_after, expires_at, ..plain });
            Ok(id)
        })
    }
}

pub(crate) fn cancel(id: &str) -> Result<()> {
    if id.len() != 32 || !id.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit)) {
        return Err(Error::Invalid("event: not an event id (expected 32 hexadecimal digits)".into()));
    }
    turn(|turn| {
        check_pure(turn, "streams.send")?;
        turn.ended.withdrawn.push(id.into());
        Ok(())
    })
}

pub(crate) fn wait(ids: &[EventId], first: bool, timeout_ms: u64) -> Result<Vec<Option<Receipt>>> {
    let host = turn(|turn| {
        check_pure(turn, "waits.commit-and-wait")?;
        if ids.is_empty() {
            return Err(Error::Invalid("no event to wait for".into()));
        } else if let Some(id) = ids.iter().find(|id| !turn.sent.contains(*id)) {
            return Err(Error::Invalid(format!("event {id} to wait for: this turn did not send it")));
        }
        Ok(Host { state: Rc::clone(&turn.state) })
    })?;
    let receipts = || ids.iter().map(|id| host.receipt(id)).collect::<Vec<_>>();
    away(timeout_ms, || {
        if first { receipts().iter().any(Option::is_some) } else { receipts().iter().all(Option::is_some) }
    });
    Ok(receipts())
}

pub(crate) fn sleep(ms: u64) -> Result<()> {
    turn(|turn| check_pure(turn, "waits.commit-and-wait"))?;
    away(ms, || false);
    Ok(())
}

/// Commits, handles other events while the handler that waits stays on the stack, and goes on in a fresh transaction.
fn away(ms: u64, is_over: impl Fn() -> bool) {
    let host = turn(|turn| Host { state: Rc::clone(&turn.state) });
    commit();
    host.run_for(ms, is_over);
    go_on();
}

/// Unwinds the handler; returns only when it was tried again too often.
pub(crate) fn retry_after(ms: u64) -> Result<()> {
    turn(|turn| check_pure(turn, "retries.retry-after"))?;
    let (retries, has_waited) = turn(|turn| (turn.retries, turn.committed.is_some()));
    if retries >= RETRIES_MAX {
        return Err(Error::Limit { name: "retries-max".into(), max: RETRIES_MAX.into() });
    }
    if has_waited {
        let words = "the in-process host can not try a turn again that has waited: a real one goes on from the wait";
        resume_unwind(Box::new(Fault(words.into())));
    }
    resume_unwind(Box::new(Again(ms)))
}

pub(crate) fn retries() -> u32 {
    facts(|turn| turn.retries)
}

/// Commits what the turn did so far; it waits from now on.
fn commit() {
    let waiting = TURNS.with_borrow(Vec::len);
    assert!(
        waiting <= WAITING_MAX,
        "more than {WAITING_MAX} turns wait at once: the in-process host has no room for more"
    );
    let committed = turn(|turn| turn.state.borrow_mut().commit(&turn.me, mem::take(&mut turn.ended)));
    let commit = committed.unwrap_or_else(|words| resume_unwind(Box::new(Fault(words))));
    turn(|turn| (turn.committed, turn.waits) = (Some(commit), true));
}

/// Lets a turn go on that has waited, in a fresh transaction.
fn go_on() {
    turn(|turn| {
        let now = turn.state.borrow().time;
        (turn.waits, turn.time) = (false, turn.time.max(now));
    });
}

pub(crate) fn wish(tag: &str, wanted: &Wanted, limit: u32, cursor: Option<String>) -> Result<Offers> {
    turn(|turn| {
        let state = turn.state.borrow();
        let mut all: Vec<Found> = Vec::new();
        let tagged = state.charms.iter().filter(|(_, charm)| charm.tags.contains(&tag));
        let tagged = tagged.filter(|(owner, _)| state.may_see(&turn.me, owner));
        let meant = wanted.owner.as_ref();
        let pinned = state.pins.get(&(turn.me.clone(), tag.to_owned()));
        let tagged = tagged.filter(|(owner, _)| meant.is_none_or(|meant| meant == *owner));
        let tagged = tagged.filter(|(owner, _)| pinned.is_none_or(|pinned| pinned == *owner));
        for (owner, charm) in tagged.filter(|(owner, _)| cursor.as_deref().is_none_or(|last| owner.as_str() > last)) {
            if all.len() == limit as usize {
                let next = all.last().map(|found| found.owner.as_str().into());
                return Ok(Offers { found: all, next });
            }
            let cells_fit = wanted.cells.iter().all(|wanted| {
                let offered = charm.cell(&wanted.name);
                offered.is_some_and(|offered| shapes::fits(&offered.shape, &wanted.shape))
                    && state.may_read(&turn.me, owner, &wanted.name)
            });
            let streams_fit = wanted.streams.iter().all(|wanted| {
                let offered = charm.streams.iter().find(|offered| offered.name == wanted.name);
                offered.is_some_and(|offered| shapes::fits(&wanted.shape, &offered.shape))
                    && state.may_send(&turn.me, owner, &wanted.name)
            });
            if cells_fit && streams_fit {
                let cell = |name: &String| Cell { owner: owner.clone(), name: name.clone() };
                let stream = |name: &String| Stream { owner: owner.clone(), name: name.clone() };
                let cells: Vec<_> = wanted.cells.iter().map(|wanted| cell(&wanted.name)).collect();
                let streams: Vec<_> = wanted.streams.iter().map(|wanted| stream(&wanted.name)).collect();
                all.push(Found { owner: owner.clone(), cells: cells.into_iter(), streams: streams.into_iter() });
            }
        }
        Ok(Offers { found: all, next: None })
    })
}

/// Commits, handles other events, and goes on with the answer in a fresh transaction.
pub(crate) fn fetch_as_wait(request: Request) -> Result<Response> {
    turn(|turn| check_pure(turn, "waits.commit-and-fetch"))?;
    let host = turn(|turn| Host { state: Rc::clone(&turn.state) });
    if host.state.borrow().http.is_none() {
        return Err(http_denied(&request));
    }
    commit();
    while host.step() {}
    let answer = exchange(&host.state, request);
    go_on();
    answer
}

pub(crate) fn fetch(request: Request) -> Result<Response> {
    turn(|turn| check_pure(turn, "http.fetch"))?;
    exchange(&turn(|turn| Rc::clone(&turn.state)), request)
}

fn exchange(state: &RefCell<State>, request: Request) -> Result<Response> {
    state.borrow_mut().requests.push(request.clone());
    // Taken out while it runs: the answer may look at the host.
    let taken = state.borrow_mut().http.take();
    let Some(mut answer) = taken else { return Err(http_denied(&request)) };
    let response = answer(&request);
    state.borrow_mut().http.get_or_insert(answer);
    response
}

pub(crate) fn log(level: Level, words: &str) {
    let level = format!("{level:?}").to_ascii_lowercase();
    turn(|turn| turn.state.borrow_mut().logged.push(format!("{level}: {}", cut(words, 1024))));
}

pub(crate) fn me() -> Did {
    turn(|turn| turn.me.clone())
}

pub(crate) fn sender() -> Did {
    facts(|turn| turn.sender.clone())
}

pub(crate) fn event() -> EventId {
    facts(|turn| turn.event.clone())
}

pub(crate) fn time() -> u64 {
    facts(|turn| turn.time)
}

pub(crate) fn random() -> u64 {
    facts(|turn| {
        turn.seed = turn.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(turn.seed)
    })
}

/// The finalizer of splitmix64.
pub(super) fn mix(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

/// The most bytes of a name.
const NAME_BYTES_MAX: usize = 128;

fn address(owner: Option<&Did>, name: &str) -> Result<(Did, String)> {
    let invalid = |why: &str| Err(Error::Invalid(why.into()));
    if name.is_empty() {
        return invalid("name is empty");
    } else if name.len() > NAME_BYTES_MAX {
        return invalid("name longer than 128 bytes");
    } else if name.contains(char::is_control) {
        return invalid("name holds control characters");
    } else if name.contains('/') {
        return invalid("name holds /, which begins a path");
    }
    let owner = owner.cloned().unwrap_or_else(me);
    let key = owner.as_str().strip_prefix("did:key:z").and_then(|key| bs58::decode(key).into_vec().ok());
    match key {
        None => invalid("owner: not a did:key in base58btc (expected did:key:z6Mk…)"),
        Some(key) if key.len() != 34 || !key.starts_with(&[0xed, 0x01]) => {
            invalid("owner: not an Ed25519 did:key (expected did:key:z6Mk…)")
        }
        Some(_) => Ok((owner, name.into())),
    }
}

/// Decodes a value; refuses one that is not canonical (C2).
fn canonical(bytes: &[u8]) -> Result<Value> {
    let value: Option<Value> = serde_ipld_dagcbor::from_slice(bytes).ok();
    let value = value.filter(|value| encode(value).is_ok_and(|again| again == bytes));
    value.ok_or_else(|| Error::Invalid("the value is not canonical DAG-CBOR".into()))
}
