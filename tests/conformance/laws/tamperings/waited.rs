//! Turns that wait. The story that these are about: in "d" a turn of an event from "a" that commits two segments, with a send
//! in each, and ends well; the turns of two events of one sender, begun one right after the other, of which the second ends
//! first and the first fails; and one under way with two segments, between which "d" was paused for a moment.

use std::mem::swap;

use charm_host::{Body, EventId, Law, Record, TurnRow, TurnSegment};

use super::{
    Case, Forged, NOBODY,
    Tamper::{Log, Rows as Shown},
    committed, failed, status, turn,
};
use crate::forged::Line;

fn segment(record: &mut Record) -> &mut TurnSegment {
    match &mut record.body {
        Body::Segment(segment) => segment,
        body => panic!("no segment: {body:?}"),
    }
}

/// Whether it is a segment with that number.
fn is_segment(number: u32) -> impl Fn(&Record) -> bool {
    move |record| record.segment().is_some_and(|segment| segment.number == number)
}

/// The events of turns that wait, in the order of their beginnings.
fn events(forged: &Forged) -> Vec<EventId> {
    let first = forged.log.iter().filter(|line| is_segment(1)(&line.record));
    first.filter_map(|line| line.record.handles()).collect()
}

/// The end of the first turn of "d" that waited and ended so.
fn end(forged: &mut Forged, ended: fn(&Record) -> bool) -> &mut Line {
    let events = events(forged);
    let is_end = |record: &Record| ended(record) && record.turn().is_some_and(|turn| events.contains(&turn.receipt.id));
    forged.line(is_end)
}

/// Whether two events of one sender are begun in their order and answered the other way round.
pub fn ends_in_another_order(forged: &Forged) -> bool {
    let begun = |line: &&Line| is_segment(1)(&line.record);
    let first: Vec<_> = forged.log.iter().filter(begun).collect();
    let sender = |line: &Line| line.record.segment().map(|segment| segment.sender);
    let ends = |line: &Line| {
        let event = line.record.handles();
        forged.log.iter().find(|end| end.record.turn().is_some() && end.record.handles() == event).map(|end| end.order)
    };
    first
        .windows(2)
        .any(|pair| sender(pair[0]) == sender(pair[1]) && ends(pair[0]) > ends(pair[1]) && ends(pair[1]).is_some())
}

/// Puts something in place of the first pause of "d", which stands between two segments of a turn.
fn between(forged: &mut Forged, body: Body) {
    forged.find_in("d", |record| record.body == Body::Paused(true)).body = body;
}

pub const WAITED: &[Case] = &[
    (
        Law::Cause,
        "a segment out of its number",
        "out of its number",
        Log(|f| segment(f.find(is_segment(2))).number = 1),
    ),
    (
        Law::Cause,
        "a turn that begins with its second segment",
        "out of its number",
        Log(|f| segment(f.find(is_segment(1))).number = 2),
    ),
    (
        Law::Cause,
        "a wait in the turn of another charm's event",
        "event of another charm",
        Log(|f| {
            let (event, b) = (events(f)[0], f.did("b"));
            let sent = f.log.iter_mut().filter(|line| line.record.turn().is_some());
            let mut sent = sent.flat_map(|line| &mut turn(&mut line.record).sends);
            sent.find(|sent| sent.event.id == event).unwrap().event.to = b;
        }),
    ),
    (
        Law::Cause,
        "a wait in the turn of another sender's event",
        "another event than was sent",
        Log(|f| {
            let b = f.did("b");
            segment(f.find(is_segment(1))).sender = b;
        }),
    ),
    (
        Law::Cause,
        "a wait in the turn of another event",
        "another event than was sent",
        Log(|f| segment(f.find(is_segment(2))).event = NOBODY),
    ),
    (Law::Cause, "a wait without a place in the queue", "no event", Log(|f| f.line(is_segment(1)).taken = None)),
    (
        Law::Cause,
        "a turn that goes on when its charm is uninstalled",
        "no component is installed",
        Log(|f| between(f, Body::Uninstalled)),
    ),
    (
        Law::Cause,
        "a wait for nothing",
        "waits for nothing that it has sent",
        Log(|f| {
            let segment = segment(f.find(is_segment(1)));
            segment.wait.events.clear();
            segment.sends.iter_mut().for_each(|sent| sent.event.awaited = false);
        }),
    ),
    (
        Law::Cause,
        "an event that its sender waits for and that does not say so",
        "says wrongly whether",
        Log(|f| segment(f.find(is_segment(1))).sends[0].event.awaited = false),
    ),
    (
        Law::Cause,
        "an event that says that its sender waits for it, sent by a turn that waits for another",
        "says wrongly whether",
        Log(|f| segment(f.find(is_segment(1))).sends[1].event.awaited = true),
    ),
    (
        Law::Cause,
        "a wait for what another turn sent",
        "waits for nothing that it has sent",
        Log(|f| {
            let event = events(f)[1];
            let other = f.find(|record| is_segment(1)(record) && record.handles() == Some(event));
            let other = segment(other).wait.events[0];
            segment(f.find(is_segment(1))).wait.events.push(other);
        }),
    ),
    (
        Law::Cause,
        "a wait for what is sent later",
        "waits for nothing that it has sent",
        Log(|f| {
            let later = segment(f.find(is_segment(2))).sends[0].event.id;
            segment(f.find(is_segment(1))).wait.events.push(later);
        }),
    ),
    (
        Law::Cause,
        "a send with an id of an earlier segment",
        "not of this store's making",
        Log(|f| {
            let first = segment(f.find(is_segment(1))).sends[0].event.id;
            segment(f.find(is_segment(2))).sends[0].event.id = first;
        }),
    ),
    (
        Law::Cause,
        "a send at the end with an id of a segment",
        "not of this store's making",
        Log(|f| {
            let first = segment(f.find(is_segment(1))).sends[0].event.id;
            let event = events(f)[0];
            let end = f.find(|record| record.turn().is_some_and(|turn| turn.receipt.id == event));
            turn(end).sends[0].event.id = first;
        }),
    ),
    (
        Law::Cause,
        "fuel that a segment gets back",
        "gets fuel back",
        Log(|f| segment(f.find(is_segment(2))).ran.fuel = 0),
    ),
    (
        Law::Cause,
        "fuel that an end gets back",
        "gets fuel back",
        Log(|f| turn(&mut end(f, committed).record).ran.as_mut().unwrap().fuel = 0),
    ),
    (
        Law::Cause,
        "a failed event that waited and writes",
        "has effects",
        super::Tamper::Own(|f| turn(&mut end(f, failed).record).writes = vec![super::write("y")]),
    ),
    (
        Law::Once,
        "a segment after the end",
        "answered before",
        Log(|f| {
            let event = end(f, committed).record.handles();
            let last = |line: &&mut Line| line.record.segment().is_some() && line.record.handles() == event;
            let mut again = f.log.iter_mut().rfind(last).unwrap().clone();
            let segment = segment(&mut again.record);
            (segment.writes, segment.sends, segment.number) = (Vec::new(), Vec::new(), segment.number + 1);
            f.append(again, 0);
        }),
    ),
    (
        Law::Once,
        "a turn that waited and ends twice",
        "answered before",
        Log(|f| {
            let mut again = end(f, committed).clone();
            (turn(&mut again.record).writes, turn(&mut again.record).sends) = (Vec::new(), Vec::new());
            let again = f.append(again, 0);
            status(&mut again.record).commit = Some(again.record.seq);
        }),
    ),
    (
        Law::Order,
        "two events of one sender begun the other way round",
        "sent earlier",
        Log(|f| {
            let mut own: Vec<&mut Line> = f.log.iter_mut().filter(|line| is_segment(1)(&line.record)).collect();
            let sender = |line: &Line| line.record.segment().map(|segment| segment.sender);
            let first = own.windows(2).position(|pair| sender(pair[0]) == sender(pair[1])).expect("two in a row");
            let (one, two) = own.split_at_mut(first + 1);
            let (one, two) = (&mut *one[first], &mut *two[0]);
            swap(&mut one.taken, &mut two.taken);
            swap(&mut one.record.body, &mut two.record.body);
            // It names a write of the other, which comes after it now.
            segment(&mut one.record).writes.clear();
        }),
    ),
    (
        Law::Receipt,
        "a failure after a wait that names no commit",
        "last commit of its turn",
        Log(|f| status(&mut end(f, failed).record).commit = None),
    ),
    (
        Law::Receipt,
        "a failure after a wait that names its own commit",
        "last commit of its turn",
        Log(|f| {
            let record = &mut end(f, failed).record;
            status(record).commit = Some(record.seq);
        }),
    ),
    (
        Law::Receipt,
        "a failure after a wait without a reason",
        "last commit of its turn",
        Log(|f| status(&mut end(f, failed).record).message = None),
    ),
    (
        Law::Receipt,
        "the end of a turn that waited and names its last segment",
        "names its commit",
        Log(|f| {
            let commit = status(&mut end(f, committed).record).commit.as_mut().unwrap();
            *commit -= 1;
        }),
    ),
    (Law::State, "a turn under way gone", "not under way any more", Shown(|r| drop(r.image.turns.pop()))),
    (
        Law::State,
        "a turn under way that is none",
        "under way, but not by the log",
        Shown(|r| {
            let last = r.image.turns.last().unwrap().clone();
            let event = r.image.queued[0].event.id;
            r.image.turns.push(TurnRow { event, position: r.image.queued[0].position, ..last });
        }),
    ),
    (Law::State, "another number of sends", "differs from the log", Shown(|r| r.image.turns[0].progress.sends += 1)),
    (Law::State, "another wait", "differs from the log", Shown(|r| r.image.turns[0].progress.wait.timeout_ms += 1)),
    (
        Law::State,
        "another component of a turn",
        "differs from the log",
        Shown(|r| r.image.turns[0].progress.component[0] ^= 1),
    ),
    (Law::State, "another place of a turn", "differs from the log", Shown(|r| r.image.turns[0].position += 1)),
    (
        Law::State,
        "a piece of a recording gone",
        "was told",
        Shown(|r| drop(r.recordings.values_mut().next().unwrap().pop())),
    ),
    (Law::State, "a recording gone", "was told", Shown(|r| r.recordings.clear())),
    (
        Law::State,
        "a piece of a recording too many",
        "was told",
        Shown(|r| r.recordings.values_mut().next().unwrap().push([1][..].into())),
    ),
    (
        Law::State,
        "a piece of a recording changed",
        "was told",
        Shown(|r| r.recordings.values_mut().next().unwrap()[0] = [1][..].into()),
    ),
    (
        Law::State,
        "another hash of a recording",
        "differs from the log",
        Log(|f| {
            let event = f.rows.image.turns[0].event;
            let last = |line: &&mut Line| line.record.segment().is_some_and(|segment| segment.event == event);
            segment(&mut f.log.iter_mut().rfind(last).unwrap().record).recording[0] ^= 1;
        }),
    ),
    (
        Law::State,
        "another hash of a recording, in its row too",
        "was told",
        Log(|f| {
            let event = f.rows.image.turns[0].event;
            let last = |line: &&mut Line| line.record.segment().is_some_and(|segment| segment.event == event);
            segment(&mut f.log.iter_mut().rfind(last).unwrap().record).recording[0] ^= 1;
            f.rows.image.turns[0].progress.recording[0] ^= 1;
        }),
    ),
];

/// Of a store where the first turn under way began with a component that nobody has installed any more.
pub const OUTLIVED: &[Case] = &[
    (
        Law::State,
        "the component of a turn under way gone",
        "component are missing",
        Shown(|r| {
            let began = r.image.turns[0].progress.component;
            r.image.components.retain(|hash| *hash != began);
        }),
    ),
    (
        Law::State,
        "the component of a turn under way gone but listed",
        "component are missing",
        Shown(|r| drop(r.components.remove(&r.image.turns[0].progress.component))),
    ),
    (
        Law::State,
        "a turn under way of what is installed now",
        "differs from the log",
        Shown(|r| {
            let installed = r.space("a").installed.unwrap();
            r.image.turns[0].progress.component = installed.component;
        }),
    ),
    (
        Law::Cause,
        "a turn of another component that gets fuel back",
        "gets fuel back",
        Log(|f| segment(f.find(is_segment(2))).ran.fuel = 0),
    ),
];
