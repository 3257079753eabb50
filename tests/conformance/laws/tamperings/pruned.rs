//! Where the past of spaces has gone: what stands for it is held to as well (H1).

use charm_host::{Body, Checkpoint, EventId, Law, Pruned, Record, TurnMark};
use serde_json::json;

use super::{Case, Forged, Tamper};
use charm_conformance::value;

use Tamper::{Log, Own, Rows as Shown};

/// The checkpoint that stands for what has gone of "a".
fn checkpoint(forged: &mut Forged) -> &mut Checkpoint {
    checkpoint_of(forged, "a")
}

fn checkpoint_of<'a>(forged: &'a mut Forged, name: &str) -> &'a mut Checkpoint {
    let at = forged.rows.space(name).floor.at;
    match &mut forged.find_in(name, |record| record.seq == at).body {
        Body::Checkpoint(checkpoint) => checkpoint,
        body => panic!("no checkpoint: {body:?}"),
    }
}

fn prunes(record: &Record) -> bool {
    matches!(record.body, Body::Pruned(_))
}

fn pruned(forged: &mut Forged) -> &mut Pruned {
    let last = forged.rows.image.pruned;
    match &mut forged.log.iter_mut().find(|line| line.order == last).unwrap().record.body {
        Body::Pruned(pruned) => pruned,
        body => panic!("nothing pruned: {body:?}"),
    }
}

pub const PRUNED: &[Case] = &[
    (Law::Chain, "a checkpoint elsewhere", "no checkpoint stands", Shown(|r| r.space_mut("a").floor.at -= 1)),
    (Law::Chain, "more gone than was", "no checkpoint stands", Shown(|r| r.space_mut("a").floor.seq += 1)),
    (
        Law::Chain,
        "the first record that is kept gone",
        "no checkpoint stands",
        Shown(|r| {
            let (a, floor) = (r.did("a"), r.space("a").floor.seq);
            r.log.retain(|entry| entry.space != a || entry.seq != floor + 1);
        }),
    ),
    (
        Law::Signer,
        "no signature over the checkpoint",
        "has not signed the checkpoint",
        Shown(|r| r.space_mut("a").signed = None),
    ),
    (Law::Chain, "nothing said of what has gone", "is host commit", Shown(|r| r.image.pruned = 0)),
    (Law::Chain, "another commit said of what has gone", "does not say what has gone", Shown(|r| r.image.pruned -= 1)),
    (
        Law::Chain,
        "a space that is idle rolled back",
        "heads of spaces",
        Own(|f| {
            f.keeps_heads = true;
            let c = f.did("c");
            let last = f.log.iter().filter(|line| line.space == c).map(|line| line.record.seq).max().unwrap();
            f.log.retain(|line| line.space != c || line.record.seq < last);
        }),
    ),
    (
        Law::Chain,
        "the heads of another moment",
        "heads of spaces",
        Log(|f| {
            f.keeps_heads = true;
            pruned(f).heads[0] ^= 1;
        }),
    ),
    // One too many is told by the id of an event from outside, if that comes next.
    (Law::Order, "another position where all is there again", "positions are not", Log(|f| pruned(f).position = 0)),
    (
        Law::State,
        "another cut than was made",
        "what has gone of it",
        Log(|f| {
            let b = f.did("b");
            pruned(f).cuts.iter_mut().find(|cut| cut.space == b).unwrap().order -= 1;
        }),
    ),
    (
        Law::State,
        "receipts gone that nobody let go",
        "what has gone of it",
        Shown(|r| r.space_mut("a").receipts_floor += 1),
    ),
    (
        Law::Cause,
        "a charm that says what has gone",
        "a charm's space says",
        Log(|f| {
            let body = f.log.iter().find(|line| prunes(&line.record)).unwrap().record.body.clone();
            f.log.iter_mut().rfind(|line| matches!(line.record.body, Body::Paused(_))).unwrap().record.body = body;
        }),
    ),
    (
        Law::State,
        "a cell's value at the floor",
        "not the checkpoint's",
        Shown(|r| r.past[0].value = Some(value(json!("forged")))),
    ),
    (Law::State, "a cell's revision at the floor", "not the checkpoint's", Shown(|r| r.past[0].seq -= 1)),
    (Law::State, "a cell at the floor gone", "not the checkpoint's", Shown(|r| drop(r.past.remove(0)))),
    (
        Law::State,
        "a cell that was not written since",
        "not the checkpoint's",
        Shown(|r| {
            let (a, floor) = (r.did("a"), r.space("a").floor.seq);
            let old = |cell: &&mut charm_host::CellRow| cell.space == a && cell.seq <= floor;
            r.image.cells.iter_mut().find(old).unwrap().value = Some(value(json!("forged")));
        }),
    ),
    (Law::State, "cells of another moment", "not the checkpoint's", Own(|f| checkpoint(f).cells[0] ^= 1)),
    (Law::State, "another name", "name is not", Log(|f| checkpoint(f).name = "z".to_owned())),
    (Law::State, "a pause", "paused, or not", Log(|f| checkpoint(f).paused ^= true)),
    (
        Law::State,
        "another component",
        "another component",
        Log(|f| checkpoint(f).installed.as_mut().unwrap().0[0] ^= 1),
    ),
    (
        Law::State,
        "a right",
        "rights is not",
        Log(|f| {
            let b = f.did("b");
            checkpoint(f).rights.push((b, vec![0]));
        }),
    ),
    (Law::State, "letters that went", "count of dead letters", Log(|f| checkpoint(f).letters_dropped += 1)),
    (
        Law::State,
        "an event that waits, changed",
        "waits, but not by the log",
        Shown(|r| {
            let a = r.did("a");
            let sent = r.image.queued.iter_mut().find(|queued| queued.space == a).unwrap();
            sent.event.payload = value(json!("forged"));
        }),
    ),
    (
        Law::State,
        "an event that waits, gone",
        "does not wait any more",
        Shown(|r| {
            let a = r.did("a");
            r.image.queued.retain(|queued| queued.space != a);
        }),
    ),
    (
        Law::State,
        "an event that waits, untold",
        "waits, but not by the log",
        Log(|f| {
            checkpoint(f).sent.clear();
        }),
    ),
    (
        Law::State,
        "an event told that never was",
        "does not wait any more",
        Log(|f| {
            let c = f.did("c");
            let (_, mark) = checkpoint(f).sent[0];
            checkpoint(f).sent.push((c, charm_host::EventMark { id: EventId([9; 16]), ..mark }));
        }),
    ),
    (
        Law::State,
        "a turn under way, untold",
        "is under way, but not by the log",
        Log(|f| checkpoint_of(f, "d").turns.clear()),
    ),
    (
        Law::State,
        "a turn told that never was",
        "is not under way any more",
        Log(|f| {
            let mark = checkpoint_of(f, "d").turns[0].clone();
            checkpoint_of(f, "d").turns.push(TurnMark { event: EventId([9; 16]), ..mark });
        }),
    ),
    (
        Law::State,
        "another number of sends of a turn",
        "differs from the log",
        Log(|f| checkpoint_of(f, "d").turns[0].progress.sends += 1),
    ),
    (
        Law::State,
        "another wait of a turn",
        "differs from the log",
        Log(|f| checkpoint_of(f, "d").turns[0].waits_for[0] ^= 1),
    ),
    (
        Law::State,
        "another recording of a turn",
        "differs from the log",
        Log(|f| checkpoint_of(f, "d").turns[0].progress.recording[0] ^= 1),
    ),
    (
        Law::State,
        "a wait changed where a past has gone",
        "differs from the log",
        Shown(|r| r.image.turns[0].progress.wait.events.clear()),
    ),
    (Law::State, "a turn at another position", "differs from the log", Shown(|r| r.image.turns[0].position += 1_000)),
    (Law::State, "a turn gone", "is not under way any more", Shown(|r| drop(r.image.turns.remove(0)))),
    (
        Law::State,
        "what a turn was told changed",
        "is not what the log says",
        Shown(|r| {
            let (_, pieces) = r.recordings.iter_mut().next().unwrap();
            pieces[0] = vec![1, 2, 3].into();
        }),
    ),
    (
        Law::State,
        "a dead letter, changed",
        "is not there by the log",
        Shown(|r| {
            let b = r.did("b");
            r.dead.values_mut().find(|letter| letter.event.to == b).unwrap().event.payload = value(json!("forged"));
        }),
    ),
    (
        Law::State,
        "a dead letter gone",
        "is missing",
        Shown(|r| {
            let b = r.did("b");
            r.image.dead.retain(|(did, ..)| *did != b);
        }),
    ),
];
