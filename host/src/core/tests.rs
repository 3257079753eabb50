//! The core by itself: what is decided can be applied, and a log that is read again makes the same state.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use super::*;
use crate::{
    did::Did,
    event::{Event, EventId, OnCommit},
    limits::Limits,
    meter::Amount,
    path::Path,
    receipt::Outcome,
    record::{Body, Hash, Install, Ran, Until, WaitFor, Write},
    rows::{Batch, Image, Queued, TurnRow},
    value::{Edit, Value},
};

fn empty(limits: Limits) -> State {
    State::load(&Image { secret: [9; 32], ..Image::default() }, Arc::new(limits), Default::default())
}

fn event(sender: Did, to: Did, bytes: usize) -> Event {
    Event {
        id: EventId([0; 16]),
        sender,
        to,
        stream: "note".into(),
        payload: Value::encode(&"x".repeat(bytes)).expect("a text"),
        on_commit: None,
        receipt_of: None,
        supplied: false,
        awaited: false,
        deliver_after: None,
        expires_at: None,
    }
}

/// Lets something happen, as a host does.
fn perform(state: &mut State, space: Did, act: Act<'_>) -> Result<(Commit, Effects), Refused> {
    perform_at(state, space, Duration::ZERO, act)
}

/// As above, at that moment.
fn perform_at(state: &mut State, space: Did, at: Duration, act: Act<'_>) -> Result<(Commit, Effects), Refused> {
    let decided = state.decide(space, at.as_millis() as u64, act)?;
    assert_eq!(state.follows(&decided.commit), Ok(()), "what is decided can be applied");
    let live =
        Live { at, fits: decided.fits, growth: decided.growth, component: decided.component, piece: decided.piece };
    let effects = state.apply(&decided.commit, live);
    state.check_all();
    Ok((decided.commit, effects))
}

fn world(limits: Limits) -> (State, Did, Did) {
    let (mut state, a, b) = (empty(limits), Did::numbered(1), Did::numbered(2));
    for (did, name) in [(a, "a"), (b, "b")] {
        perform(&mut state, did, Act::Register(name)).expect("a new space");
    }
    (state, a, b)
}

#[test]
fn a_space_comes_to_be_once() {
    let (state, a, _) = world(Limits::default());
    assert!(matches!(state.decide(a, 0, Act::Register("another")), Err(Refused::Known)));
    assert!(state.decide(Did::numbered(3), 0, Act::Register("c")).is_ok());
}

fn accept(state: &mut State, to: Did) -> Arc<Queued> {
    let (_, effects) = perform(state, to, Act::Accept(event(Did::numbered(7), to, 1), None, 0)).expect("room");
    effects.queued[0].clone()
}

fn committed(queued: &Arc<Queued>, ending: Ending) -> Act<'_> {
    Act::Settle(queued, Box::new(ending))
}

/// Everything of a state that lasts, as text.
fn shown(state: &State) -> String {
    let spaces: BTreeMap<_, _> = state.spaces.iter().collect();
    let components: BTreeMap<_, _> = state.components.iter().collect();
    let mut text = format!("{} {} {components:?}", state.order, state.position);
    for (did, space) in spaces {
        let waiting: Vec<_> =
            space.inbox.page(0, usize::MAX).iter().map(|queued| (queued.position, queued.event.id)).collect();
        let Space { name, seq, dead, installed, notes, letters_dropped, .. } = &**space;
        let turns = space.inbox.underway.after(0);
        let turns: Vec<_> = turns.map(|turn| (turn.queued.position, &turn.progress, &turn.receipts)).collect();
        text +=
            &format!("\n{did} {name} {seq} {waiting:?} {dead:?} {installed:?} {notes:?} {letters_dropped} {turns:?}");
    }
    text
}

/// S1, T5: a turn's end takes its event and queues what it sends, in the order of sending; each with its position.
#[test]
fn the_end_of_a_turn_takes_its_event_and_queues_what_it_sends() {
    let (mut state, a, b) = world(Limits::default());
    let queued = accept(&mut state, a);
    let sends = [b, a, b].map(|to| Draft { event: event(a, to, 1), refused: None, fits: 3 });
    let sends =
        (1..).zip(sends).map(|(n, draft)| Draft { event: Event { id: EventId([n; 16]), ..draft.event }, ..draft });
    let ending = Ending { sends: sends.collect(), ..Ending::default() };
    let (commit, effects) = perform(&mut state, a, committed(&queued, ending)).expect("it may");
    assert_eq!(commit.taken.map(|taken| taken.position), Some(1));
    assert_eq!(commit.position, 4);
    let placed: Vec<_> = effects.queued.iter().map(|queued| (queued.position, queued.event.to)).collect();
    assert_eq!(placed, [(2, b), (3, a), (4, b)]);
    assert_eq!(effects.wakes().collect::<Vec<_>>(), [b, a, b]);
    assert_eq!(effects.taken.as_deref(), Some(&*queued));
    assert!(!effects.is_letter && effects.buried.is_empty());
    let receipts = effects.receipts(&commit);
    assert_eq!(receipts.len(), 1);
    assert_eq!(
        (receipts[0].receipt.outcome, receipts[0].receipt.commit),
        (Outcome::Committed, Some(commit.record.seq))
    );
    assert!(matches!(state.decide(a, 0, committed(&queued, Ending::default())), Err(Refused::Gone)), "once");
}

/// S6: a receipt that was asked for goes out with the end of the event, to its sender.
#[test]
fn a_receipt_that_was_asked_for_goes_out_as_an_event() {
    let (mut state, a, b) = world(Limits::default());
    let queued = accept(&mut state, a);
    let on_commit = OnCommit { stream: "back".into(), tag: Value::null() };
    let asked = Event { id: EventId([5; 16]), on_commit: Some(on_commit), ..event(a, b, 1) };
    let ending = Ending { sends: vec![Draft { event: asked, refused: None, fits: 0 }], ..Ending::default() };
    let (_, effects) = perform(&mut state, a, committed(&queued, ending)).expect("it may");
    let failed = Some((Outcome::Faulted, "it trapped".to_owned()));
    let (_, effects) =
        perform(&mut state, b, committed(&effects.queued[0], Ending { failed, ..Ending::default() })).expect("it may");
    let back = &effects.queued[0].event;
    assert_eq!((back.to, back.sender, back.receipt_of), (a, a, Some(EventId([5; 16]))));
    assert!(effects.is_letter, "and it is a dead letter (S11)");
}

/// S11: the oldest dead letter goes when there is one too many; the record names it.
#[test]
fn the_oldest_dead_letter_goes_when_there_are_too_many() {
    let (mut state, a, _) = world(Limits { dead_letters_max: 1, ..Limits::default() });
    let mut first = None;
    for n in 0..3 {
        let queued = accept(&mut state, a);
        let failed = Some((Outcome::Faulted, "it trapped".to_owned()));
        let (commit, effects) =
            perform(&mut state, a, committed(&queued, Ending { failed, ..Ending::default() })).expect("it may");
        assert_eq!(commit.record.dropped(), first.as_slice(), "event {n}");
        assert_eq!(effects.buried.len(), first.iter().len());
        first = Some(queued.event.id);
    }
    assert_eq!(state.spaces[&a].dead.len(), 1);
}

/// A5, S12: what has no room, or passes a bound, is refused and changes nothing.
#[test]
fn what_is_refused_changes_nothing() {
    let (mut state, a, b) = world(Limits { inbox_events_max: 2, space_bytes_max: 10, ..Limits::default() });
    let queued = accept(&mut state, a);
    let before = shown(&state);
    let staged = BTreeMap::from([(b, Amount { events: 9, bytes: 9 })]);
    let refused = state.decide(a, 0, committed(&queued, Ending { staged, ..Ending::default() })).map(drop);
    assert!(matches!(refused, Err(Refused::NoRoom { inbox, .. }) if inbox == b), "{refused:?}");
    let mut growth = Growth::default();
    growth.change(None, Some(Value::encode(&"x".repeat(20)).expect("a text").as_bytes().len()));
    let refused = state.decide(a, 0, committed(&queued, Ending { growth, ..Ending::default() })).map(drop);
    assert!(matches!(&refused, Err(Refused::Limit(why)) if why.contains("space-bytes-max 10")), "{refused:?}");
    assert!(matches!(state.decide(a, 0, Act::Drop(queued.event.id)).map(drop), Err(Refused::Gone)));
    assert_eq!(shown(&state), before);
}

fn install(component: u8) -> Box<Install> {
    let rights = (component == 0).then(|| vec![1]);
    Box::new(Install { component: [component; 32], description: Value::null(), rights })
}

fn installs(component: u8) -> Act<'static> {
    Act::Install(install(component), vec![component; 3].into())
}

/// U1: the log says what is installed when that changes, and a turn of another component does not end there.
#[test]
fn a_component_is_installed_once_and_a_turn_of_another_does_not_commit() {
    let (mut state, a, _) = world(Limits::default());
    let queued = accept(&mut state, a);
    let turn = |component: u8| {
        let ran = Some((Ran { time_ms: 1, fuel: 1, costs: 1 }, [component; 32]));
        committed(&queued, Ending { ran, ..Ending::default() })
    };
    assert!(matches!(state.decide(a, 0, turn(1)), Err(Refused::Replaced)), "nothing is installed");
    assert!(matches!(state.decide(a, 0, Act::Uninstall), Err(Refused::Gone)));
    assert!(matches!(state.decide(Did::numbered(3), 0, installs(1)), Err(Refused::Gone)));
    perform(&mut state, a, installs(1)).expect("a new component");
    assert!(matches!(state.decide(a, 0, installs(1)), Err(Refused::Known)));
    let others = Box::new(Install { rights: Some(vec![2]), ..*install(1) });
    perform(&mut state, a, Act::Install(others, vec![1; 3].into())).expect("other rights");
    assert!(state.decide(a, 0, turn(1)).is_ok());
    perform(&mut state, a, installs(2)).expect("a new component");
    assert!(matches!(state.decide(a, 0, turn(1)), Err(Refused::Replaced)));
    perform(&mut state, a, Act::Uninstall).expect("it is installed");
    assert!(matches!(state.decide(a, 0, turn(2)), Err(Refused::Replaced)));
    perform(&mut state, a, installs(2)).expect("it is gone");
    perform(&mut state, a, turn(2)).expect("what is installed ran");
}

/// An event that may be delayed, may expire, or both.
fn timed(event: Event, at: Duration, random: &mut Random) -> Event {
    let mut later = |of: usize| (random.below(of) == 0).then(|| at.as_millis() as u64 + random.below(40) as u64);
    let (deliver_after, expires_at) = (later(4), later(4));
    let expires_at = expires_at.map(|expires_at| expires_at.max(deliver_after.unwrap_or(0) + 1));
    Event { deliver_after, expires_at, ..event }
}

/// What happens to a turn in the random test: it ends, waits for some of what it has sent or for time, or is tried again.
fn random_act<'a>(state: &State, at: Duration, queued: &'a Arc<Queued>, random: &mut Random) -> Act<'a> {
    let charm = queued.event.to;
    let space = &state.spaces[&charm];
    let failed = (random.below(4) == 0).then(|| (Outcome::Faulted, "why".to_owned()));
    let mut ending = Ending { failed, ..Ending::default() };
    if ending.failed.is_some() {
        return committed(queued, ending);
    }
    if random.below(6) == 0 {
        return Act::Retry(queued, random.below(40) as u64);
    }
    let before = space.inbox.underway.get(queued.position).map_or(0, |turn| turn.progress.sends as usize);
    let sends = before + random.below(4);
    for n in before..sends {
        let id = state.mint.send(queued.position, n);
        let on_commit = (random.below(2) == 0).then(|| OnCommit { stream: "back".into(), tag: Value::null() });
        let to = [Did::numbered(1), Did::numbered(2)][random.below(2)];
        let refused = (random.below(4) == 0).then_some(Outcome::Denied);
        let sent = Event { id, on_commit, ..timed(event(charm, to, 3), at, random) };
        ending.sends.push(Draft { event: sent, refused, fits: 0 });
    }
    let edit = Edit { path: Path::root(), put: Some(Value::null()) };
    ending.writes.push(Write { name: "n".into(), previous: 0, edits: vec![edit] });
    let Some(component) = space.installed.map(|row| row.component).filter(|_| sends > 0 && random.below(3) > 0) else {
        return committed(queued, ending);
    };
    ending.ran = Some((Ran { time_ms: 1, fuel: 1, costs: 1 }, component));
    let events: Vec<_> = (0..=random.below(3)).map(|_| state.mint.send(queued.position, random.below(sends))).collect();
    let until = [Until::All, Until::First, Until::Time, Until::Exchange][random.below(4)];
    let events = if matches!(until, Until::Time | Until::Exchange) { Vec::new() } else { events };
    let wait = WaitFor { events, until, timeout_ms: random.below(40) as u64 };
    Act::Segment(queued, Box::new(ending), Part { wait, recording: [random.below(9) as u8; 32], piece: [7].into() })
}

/// Returns what brings the answer to the request that the turn of an event waits for; none when it waits for none.
fn answers<'a>(state: &State, queued: &'a Arc<Queued>) -> Option<Act<'a>> {
    let progress = &state.spaces[&queued.event.to].inbox.underway.get(queued.position)?.progress;
    let answered = Answered { before: progress.recording, recording: [progress.pieces as u8; 32], piece: [8].into() };
    progress.lacks_answer().then_some(Act::Exchange(queued, answered))
}

/// T5, T8, S7: whatever happens, by seeds: the rows at any prefix of the log, and the commits after it, make the state that all
/// commits make, and the same rows again: what a journal has beside its records follows from them. After each step no turn
/// waits on nothing, and in the end everything settles without the time of any wait.
#[test]
fn rows_at_any_prefix_and_the_rest_of_the_log_make_the_same_state_and_rows() {
    let (mut segments, mut answered, mut retries, mut fell_due, mut expired) = (0, 0, 0, 0, 0);
    for seed in 0..80 {
        let mut random = Random(seed * 7_919 + 1);
        let limits = Limits { dead_letters_max: 2, waiting_turns_max: 6, ..Limits::default() };
        let (mut state, a, b) = (empty(limits.clone()), Did::numbered(1), Did::numbered(2));
        let (mut log, mut batch): (Vec<(Commit, Effects)>, _) = (Vec::new(), Batch::default());
        for (did, name) in [(a, "a"), (b, "b")] {
            log.push(perform(&mut state, did, Act::Register(name)).expect("a new space"));
            log.push(perform(&mut state, did, installs(1)).expect("a component"));
        }
        let mut at = Duration::ZERO;
        for _ in 0..90 {
            at += Duration::from_millis(random.below(6) as u64);
            let charm = [a, b][random.below(2)];
            let dead: Vec<EventId> = state.spaces[&charm].dead.iter().map(|(_, event)| *event).collect();
            let Space { inbox, .. } = &mut **state.spaces.get_mut(&charm).expect("a space");
            let all = inbox.page(0, usize::MAX);
            let goes_on = random.below(2) == 0;
            let resumed = if goes_on { inbox.underway.resume(&BTreeSet::new()) } else { None };
            let next = match resumed {
                Some(resumed) => Some(resumed.queued),
                None => inbox.begin(&HashSet::new(), &limits).map(|(queued, _)| queued),
            };
            state.check_all();
            let answer = all.iter().find_map(|queued| answers(&state, queued));
            let act = match (random.below(14), &next) {
                (12.., _) if answer.is_some() => answer.expect("a turn waits for it"),
                (0..6, Some(queued)) => random_act(&state, at, queued, &mut random),
                (10, _) => installs(random.below(2) as u8),
                (9, _) => Act::Uninstall,
                (6, _) => Act::Pause(random.below(2) == 0),
                (7, _) if !dead.is_empty() => Act::Drop(dead[random.below(dead.len())]),
                (8, _) if !dead.is_empty() => Act::Resend(dead[0], event(Did::numbered(7), charm, 2)),
                // Whatever has begun may end in a panic of the host, also when it waits.
                (11, _) if !all.is_empty() => {
                    let failed = Some((Outcome::Faulted, "the host failed".to_owned()));
                    committed(&all[random.below(all.len())], Ending { failed, ..Ending::default() })
                }
                _ => Act::Accept(event(Did::numbered(7), charm, 1), None, 0),
            };
            log.extend(perform_at(&mut state, charm, at, act));
            // It did not go on after all, or it is settled.
            next.iter().for_each(|queued| {
                let inbox = &state.spaces[&charm].inbox;
                if inbox.underway.get(queued.position).is_none_or(|turn| turn.standing == Standing::Runs) {
                    state.put_back(queued);
                }
            });
            if random.below(3) == 0 {
                let due = state.fall_due(at, 1 + random.below(3));
                fell_due += due.wakes.len();
                expired += due.expired.len();
                for queued in &due.expired {
                    log.push(perform_at(&mut state, queued.event.to, at, expires(queued)).expect("it has not begun"));
                }
            }
            state.check_all();
        }
        retries += log.iter().filter(|(commit, _)| matches!(commit.record.body, Body::Retried(_))).count();
        segments += log.iter().filter(|(commit, _)| commit.record.segment().is_some()).count();
        answered += log.iter().filter(|(commit, _)| commit.record.exchanged().is_some()).count();
        let cut = random.below(log.len());
        let mut receipts = BTreeMap::new();
        for (commit, effects) in &log[..cut] {
            effects.rows(commit, entry(commit), Hash::default(), &mut batch);
            receipts.extend(effects.receipts(commit).into_iter().map(|row| (row.receipt.id, row.receipt)));
        }
        let image = image(&batch, log[..cut].last().map_or(0, |(commit, _)| commit.order));
        let mut again = State::load(&image, Arc::new(limits), Default::default());
        for TurnRow { position, space, progress, .. } in &image.turns {
            let told = |number: u16| Some((number, receipts.get(&state.mint.send(*position, number.into()))?.clone()));
            again.recall(space, *position, (0..progress.sends as u16).filter_map(told));
        }
        again.check_all();
        for (commit, live) in &log[cut..] {
            let read = Commit::read(&entry(commit)).expect("a record");
            assert_eq!(again.follows(&read), Ok(()), "seed {seed}, cut {cut}, commit {}", read.order);
            let component = live.components.iter().find_map(|(_, component)| component.clone());
            let piece = live.recording.as_ref().map(|row| row.bytes.clone());
            let effects = again.apply(&read, Live { component, piece, ..Live::default() });
            assert_eq!(rows(&read, &effects), rows(commit, live), "seed {seed}, cut {cut}, commit {}", read.order);
            again.check_all();
        }
        assert_eq!(shown(&again), shown(&state), "seed {seed}, cut {cut}");
        for mut state in [state, again] {
            settle_all(&mut state);
        }
    }
    let seen =
        format!("{segments} segments, {answered} answers, {retries} retries, {fell_due} fell due, {expired} expired");
    let is_all = segments > 200 && answered > 50 && retries > 50 && fell_due > 100 && expired > 20;
    assert!(is_all, "{seen}");
}

fn expires(queued: &Arc<Queued>) -> Act<'_> {
    let failed = Some((Outcome::Expired, "too late".to_owned()));
    committed(queued, Ending { failed, ..Ending::default() })
}

/// S7: what can begin or go on does, and ends; only what waits for time, and is delayed, has to be due, and each request has an
/// answer in the end.
fn settle_all(state: &mut State) {
    let limits = state.limits.clone();
    loop {
        let all: Vec<_> = state.spaces.values().flat_map(|space| space.inbox.all().cloned()).collect();
        for queued in &all {
            if let Some(act) = answers(state, queued) {
                perform(state, queued.event.to, act).expect("it is waited for");
                assert!(answers(state, queued).is_none(), "it has come");
            }
        }
        let next = state.spaces.values_mut().find_map(|space| {
            let resumed = space.inbox.underway.resume(&BTreeSet::new()).map(|resumed| resumed.queued);
            resumed.or_else(|| Some(space.inbox.begin(&HashSet::new(), &limits)?.0))
        });
        if let Some(queued) = next {
            perform(state, queued.event.to, committed(&queued, Ending::default())).expect("it may end");
            continue;
        }
        let for_time = state.spaces.iter().find_map(|(did, space)| {
            let is_for_time =
                |turn: &&Underway| turn.progress.again_ms.is_some() || turn.progress.wait.until == Until::Time;
            let turn = space.inbox.underway.after(0).find(is_for_time);
            let turn = turn.map(|turn| (turn.deadline, *did, turn.queued.position));
            turn.or_else(|| space.inbox.delayed().next().map(|(position, due)| (due, *did, position)))
        });
        let Some((at, charm, position)) = for_time else { break };
        state.deadlines.remove(at, charm, position);
        let inbox = &mut state.spaces.get_mut(&charm).expect("a space").inbox;
        if inbox.line_up_delayed(position).is_none() {
            inbox.underway.stand(position, Standing::Ready);
        }
    }
    let busy = state.spaces.values().filter(|space| space.inbox.is_busy()).count();
    assert_eq!(busy, 0, "a turn waits for ever");
    assert!(state.deadlines.first().is_none());
}

impl State {
    /// Checks what holds after each step: no turn waits on nothing (S7), and what is counted is there.
    fn check_all(&self) {
        let mut deadlines = 0;
        let elsewhere = |did: &Did| {
            let all = self.spaces.values().flat_map(|space| space.inbox.all().map(|queued| (&space.inbox, queued)));
            let of = all.filter(|(_, queued)| queued.event.sender == *did);
            of.fold(Amount::default(), |amount, (inbox, queued)| {
                let event = &queued.event;
                let is_delayed = event.deliver_after.is_some() && inbox.underway.get(queued.position).is_none();
                let receipt = Amount { events: usize::from(event.on_commit.is_some()), bytes: 0 };
                let delayed = if is_delayed { Amount::one(event.payload.as_bytes().len()) } else { Amount::default() };
                amount.plus(receipt).plus(delayed)
            })
        };
        for (did, space) in &self.spaces {
            space.inbox.check(elsewhere(did));
            for (position, due) in space.inbox.delayed() {
                assert!(self.deadlines.contains(due, *did, position), "a delayed event that is never due");
                deadlines += 1;
            }
            for turn in space.inbox.underway.after(0) {
                let (position, sends) = (turn.queued.position, turn.progress.sends as u16);
                assert!(self.waiting(did, &turn.queued.event.id).is_some(), "its event is not settled");
                let unsettled = (0..sends).filter(|number| !turn.receipts.contains_key(number));
                for id in unsettled.map(|number| self.mint.send(position, number.into())) {
                    let queued = self.open.get(&id).and_then(|open| open.queued.as_ref());
                    let queued = queued.unwrap_or_else(|| panic!("{id} is not settled, and nobody has it"));
                    assert!(self.spaces[&queued.event.to].inbox.holds(queued), "{id} is settled, and nobody was told");
                }
                assert!(turn.progress.wait.events.iter().all(|event| event.sent_by().0 == position));
                if turn.standing == Standing::Waits {
                    assert!(!turn.is_over(), "a turn waits for what is there");
                    let has_end = self.deadlines.contains(turn.deadline, *did, position);
                    assert_eq!(has_end, turn.has_deadline(), "a wait without an end, or a request with one of its own");
                    deadlines += usize::from(has_end);
                }
            }
        }
        self.deadlines.check(deadlines);
    }
}

/// What a store is given of a commit, as bytes.
fn rows(commit: &Commit, effects: &Effects) -> Vec<u8> {
    let mut batch = Batch::default();
    effects.rows(commit, entry(commit), Hash::default(), &mut batch);
    postcard::to_stdvec(&batch).expect("a batch")
}

/// A commit as it stands in the log.
fn entry(commit: &Commit) -> LogEntry {
    let Commit { order, position, taken, record } = commit;
    let (order, position, taken, seal) = (*order, *position, *taken, None);
    LogEntry { order, space: record.space, seq: record.seq, position, taken, record: record.to_bytes().into(), seal }
}

/// The rows of a batch, as a store would have them.
fn image(batch: &Batch, order: u64) -> Image {
    let mut spaces = batch.spaces.clone();
    for row in &mut spaces {
        row.seq = batch.heads.iter().rev().find(|(did, ..)| *did == row.did).map_or(0, |(_, seq, _)| *seq);
        row.installed = batch.installed.iter().rev().find(|(did, _)| *did == row.did).and_then(|(_, row)| *row);
        row.notes = batch.notes.iter().rev().find(|(did, _)| *did == row.did).map_or(row.notes, |(_, notes)| *notes);
        row.letters_dropped =
            batch.letters_dropped.iter().filter(|(did, _)| *did == row.did).map(|(_, more)| more).sum();
    }
    let queued = batch.queued.iter().filter(|queued| !batch.taken.contains(&queued.position)).cloned().collect();
    let dead = batch.dead.iter().filter(|letter| !batch.buried.contains(&letter.position));
    let dead = dead.map(|letter| (letter.event.to, letter.position, letter.event.id)).collect();
    let position = batch.position.unwrap_or(0);
    let turns: BTreeMap<u64, _> = batch.turns.iter().cloned().collect();
    let turns = turns.into_values().flatten().collect();
    Image { secret: [9; 32], order, position, spaces, queued, turns, dead, ..Image::default() }
}

/// T5: a commit that cannot be the next one is told apart from one that can.
#[test]
fn a_commit_out_of_place_does_not_follow() {
    let (mut state, a, b) = world(Limits::default());
    let (good, _) = perform(&mut state, a, Act::Accept(event(Did::numbered(7), a, 1), None, 0)).expect("room");
    let after = state.decide(a, 0, Act::Pause(true)).map(|decided| decided.commit).expect("it may");
    let change = |change: &dyn Fn(&mut Commit)| {
        let mut commit = after.clone();
        change(&mut commit);
        state.follows(&commit)
    };
    assert_eq!(change(&|_| ()), Ok(()));
    assert_eq!(state.follows(&good), Err("is out of its order"));
    assert_eq!(change(&|commit| commit.record.space = b), Err("is out of its order in its space"));
    assert_eq!(change(&|commit| commit.record.space = Did::numbered(3)), Err("is of a space that is not there"));
    assert_eq!(change(&|commit| commit.record.seq += 1), Err("is out of its order in its space"));
    assert_eq!(change(&|commit| commit.position += 1), Err("gives other positions than the next ones"));
    let again = |commit: &mut Commit| commit.record.body = Body::Registered { name: "a".to_owned() };
    assert_eq!(change(&again), Err("makes a space that is there"));
    let taken = |commit: &mut Commit| commit.taken = Some(Taken { position: 1, late: false });
    assert_eq!(change(&taken), Err("handles an event that does not wait"));
}

/// A xorshift, for seeds.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}
