//! Requests that turns wait for. The story that these are about: in "d" a turn of an event from "a" that commits, waits for an answer,
//! commits again, waits for another, and ends well.

use std::mem::swap;

use charm_host::{Body, Exchanged, Law, Record, Until};

use super::{
    Case, Forged,
    Tamper::{Log, Rows as Shown},
};

fn exchanged(record: &mut Record) -> &mut Exchanged {
    match &mut record.body {
        Body::Exchanged(exchanged) => exchanged,
        body => panic!("no answer: {body:?}"),
    }
}

fn is_answer(record: &Record) -> bool {
    record.exchanged().is_some()
}

/// The places of what the turn of the story commits: a segment, an answer, a segment, an answer, and its end.
fn story(forged: &Forged) -> Vec<usize> {
    let event = forged.log.iter().find(|line| is_answer(&line.record)).unwrap().record.handles();
    (0..forged.log.len()).filter(|line| forged.log[*line].record.handles() == event).collect()
}

/// Lets two commits of the story change their places.
fn swapped(forged: &mut Forged, one: usize, two: usize) {
    let story = story(forged);
    assert_eq!(story.len(), 5);
    let (before, after) = forged.log.split_at_mut(story[two]);
    swap(&mut before[story[one]].record.body, &mut after[0].record.body);
}

pub const EXCHANGED: &[Case] = &[
    (
        Law::Cause,
        "an answer in the turn of another sender's event",
        "another event than was sent",
        Log(|f| {
            let b = f.did("b");
            exchanged(f.find(is_answer)).sender = b;
        }),
    ),
    (
        Law::Cause,
        "an answer in the turn of another event",
        "another event than was sent",
        Log(|f| exchanged(f.find(is_answer)).event = super::NOBODY),
    ),
    (Law::Cause, "an answer without a place in the queue", "no event", Log(|f| f.line(is_answer).taken = None)),
    (
        Law::Cause,
        "an answer to a turn that waits for events",
        "no turn waits for",
        Log(|f| {
            let event = f.rows.image.turns[0].event;
            let first = f.log.iter().find(|line| line.record.handles() == Some(event)).unwrap();
            let (taken, segment) = (first.taken, first.record.segment().unwrap());
            let (sender, stream) = (segment.sender, segment.stream.clone());
            let d = f.did("d");
            let between = f.line(|record| record.space == d && record.body == Body::Paused(true));
            between.taken = taken;
            between.record.body = Body::Exchanged(Box::new(Exchanged { event, sender, stream, recording: [7; 32] }));
        }),
    ),
    (Law::Cause, "a second answer", "no turn waits for", Log(|f| swapped(f, 2, 3))),
    (Law::Cause, "an answer before anything is asked", "no turn waits for", Log(|f| swapped(f, 0, 1))),
    (Law::Cause, "a turn that goes on without its answer", "before the answer is there", Log(|f| swapped(f, 1, 2))),
    (Law::Cause, "a turn that ends well without its answer", "before the answer is there", Log(|f| swapped(f, 3, 4))),
    (
        Law::Cause,
        "a wait for events in place of a request",
        "waits for nothing that it has sent",
        Log(|f| {
            let first = story(f)[0];
            let Body::Segment(segment) = &mut f.log[first].record.body else { panic!("no segment") };
            segment.wait.until = Until::All;
        }),
    ),
    (
        Law::Cause,
        "a request in place of a wait for events",
        "waits for nothing that it has sent",
        Log(|f| {
            let waits = |record: &Record| record.segment().is_some_and(|segment| segment.wait.until == Until::All);
            let Body::Segment(segment) = &mut f.find(waits).body else { panic!("no segment") };
            segment.wait.until = Until::Exchange;
        }),
    ),
    (Law::State, "another number of pieces", "differs from the log", Shown(|r| r.image.turns[0].progress.pieces += 1)),
    (
        Law::State,
        "an answer that is not in the log",
        "differs from the log",
        Shown(|r| r.image.turns[0].progress.answered = true),
    ),
];
