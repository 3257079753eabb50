//! A store that is not what its log makes (T5, C6, S11).

use charm_conformance::{value, whole};
use charm_host::{CellRow, Component, Law, OnCommit, Outcome, Queued, Record, SpaceRow};
use serde_json::json;

use super::{
    Case, Rows,
    Tamper::{Log, Rows as Shown},
    turn,
};

fn rewrites(record: &Record) -> bool {
    record.writes().iter().any(|write| write.previous > 0)
}

fn cell(r: &mut Rows) -> &mut CellRow {
    r.image.cells.iter_mut().find(|cell| cell.value.is_some()).unwrap()
}

pub const STATE: &[Case] = &[
    (
        Law::State,
        "a write that hides the one before it",
        "name the one before",
        Log(|f| {
            turn(f.find(rewrites)).writes[0].previous = 0;
        }),
    ),
    (
        Law::State,
        "a write that names another before it",
        "name the one before",
        Log(|f| {
            turn(f.find(rewrites)).writes[0].previous += 1;
        }),
    ),
    (
        Law::State,
        "a cell written twice by one commit",
        "written twice",
        Log(|f| {
            let turn = turn(f.find(|record| !record.writes().is_empty()));
            turn.writes.push(turn.writes[0].clone());
        }),
    ),
    (
        Law::State,
        "a write that changes nothing",
        "changes nothing",
        Log(|f| {
            let first = |record: &Record| record.writes().iter().any(|write| write.previous == 0);
            turn(f.find(first)).writes[0].edits = vec![whole(None)];
        }),
    ),
    (Law::State, "a cell's value", "value differs", Shown(|r| cell(r).value = Some(value(json!("forged"))))),
    (Law::State, "a cell's revision", "value differs", Shown(|r| cell(r).seq += 1)),
    (Law::State, "a cell's commit", "value differs", Shown(|r| cell(r).order -= 1)),
    (
        Law::State,
        "a removed cell that came back",
        "value differs",
        Shown(|r| {
            let back = CellRow { space: r.did("a"), name: "x".into(), value: Some(value(json!(1))), ..cell(r).clone() };
            r.image.cells.push(back);
        }),
    ),
    (Law::State, "a cell gone", "value differs", Shown(|r| drop(r.image.cells.pop()))),
    (
        Law::State,
        "a cell that nobody wrote",
        "value differs",
        Shown(|r| {
            let forged = CellRow { name: "forged".into(), ..cell(r).clone() };
            r.image.cells.push(forged);
        }),
    ),
    (Law::State, "an event that waits gone", "does not wait any more", Shown(|r| drop(r.image.queued.pop()))),
    (
        Law::State,
        "an event that waits once more",
        "but not by the log",
        Shown(|r| {
            let last = r.image.queued.last().unwrap().clone();
            r.image.queued.push(Queued { position: last.position + 1, ..last });
        }),
    ),
    (
        Law::State,
        "another payload in the queue",
        "differs from the log",
        Shown(|r| {
            r.image.queued[0].event.payload = value(json!("forged"));
        }),
    ),
    (
        Law::State,
        "another receipt stream in the queue",
        "differs from the log",
        Shown(|r| {
            r.image.queued[0].event.on_commit = Some(OnCommit { stream: "note".into(), tag: value(json!(1)) });
        }),
    ),
    (
        Law::State,
        "a receipt's outcome",
        "differs from the log",
        Shown(|r| {
            r.receipt(|row| row.receipt.outcome == Outcome::Rejected).receipt.outcome = Outcome::Faulted;
        }),
    ),
    (
        Law::State,
        "a receipt's commit",
        "differs from the log",
        Shown(|r| {
            r.receipt(|row| row.receipt.commit.is_some()).receipt.commit = Some(1);
        }),
    ),
    (
        Law::State,
        "a receipt's message",
        "differs from the log",
        Shown(|r| {
            r.receipt(|row| row.receipt.outcome == Outcome::Denied).receipt.message = Some("forged".to_owned());
        }),
    ),
    (
        Law::State,
        "a receipt's sender",
        "differs from the log",
        Shown(|r| {
            let host = r.did("@host");
            r.receipt(|_| true).sender = host;
        }),
    ),
    (
        Law::State,
        "a receipt's receiver",
        "differs from the log",
        Shown(|r| {
            let host = r.did("@host");
            r.receipt(|_| true).to = host;
        }),
    ),
    (
        Law::State,
        "what recognises a repeated send",
        "differs from the log",
        Shown(|r| {
            r.receipt(|row| row.digest.is_some()).digest = Some([0; 16]);
        }),
    ),
    (Law::State, "a dead letter gone", "is missing", Shown(|r| r.image.dead.truncate(1))),
    (Law::State, "a dead letter gone but listed", "is missing", Shown(|r| drop(r.dead.pop_last()))),
    (
        Law::State,
        "a dead letter listed for another charm",
        "not there by the log",
        Shown(|r| r.image.dead[0].0 = r.did("a")),
    ),
    (
        Law::State,
        "a dead letter that was dropped",
        "not there by the log",
        Shown(|r| {
            let records = r.log.iter().map(|entry| Record::from_bytes(&entry.record).unwrap());
            let buried = records.filter_map(|record| record.dropped().first().copied()).next().unwrap();
            let b = r.did("b");
            r.image.dead.insert(0, (b, 1, buried));
        }),
    ),
    (Law::State, "the time of a failure", "differs from the log", Shown(|r| r.letter().time_ms += 1)),
    (
        Law::State,
        "the event of a dead letter",
        "differs from the log",
        Shown(|r| {
            r.letter().event.payload = value(json!("forged"));
        }),
    ),
    (
        Law::State,
        "the reason of a failure",
        "differs from the log",
        Shown(|r| {
            r.letter().receipt.message = Some("forged".to_owned());
        }),
    ),
    (Law::State, "the last position", "last position", Shown(|r| r.image.position += 1)),
    (
        Law::State,
        "dead letters that went and are not counted",
        "dead letters that went",
        Shown(|r| r.space_mut("b").letters_dropped -= 1),
    ),
    (Law::State, "another name", "not the log's", Shown(|r| r.space_mut("b").name = "e".to_owned())),
    (
        Law::State,
        "another component installed",
        "another component",
        Shown(|r| r.space_mut("b").installed.as_mut().unwrap().component[0] ^= 1),
    ),
    (
        Law::State,
        "other rights by the install",
        "another component",
        Shown(|r| r.space_mut("b").installed.as_mut().unwrap().rights[0] ^= 1),
    ),
    (Law::State, "a component gone", "component are missing", Shown(|r| r.image.components.truncate(0))),
    (Law::State, "a component gone but listed", "component are missing", Shown(|r| r.components.clear())),
    (
        Law::State,
        "another component's bytes",
        "component are others",
        Shown(|r| r.components.values_mut().for_each(|bytes| *bytes = Component::from(vec![1]))),
    ),
    (
        Law::State,
        "a component that nobody has installed",
        "kept that nothing needs",
        Shown(|r| r.image.components.push([1; 32])),
    ),
    (Law::State, "nothing installed", "another component", Shown(|r| r.space_mut("b").installed = None)),
    (Law::State, "a charm paused", "paused, or not", Shown(|r| r.space_mut("b").notes.paused = true)),
    (
        Law::State,
        "a right that nobody gave",
        "rights is not",
        Shown(|r| {
            let b = r.did("b");
            r.image.kept.push((b, vec![0]));
        }),
    ),
    (Law::State, "the hash of the log's end", "log's end", Shown(|r| r.image.end[0] ^= 1)),
    (Law::State, "two spaces of one name", "same name", Shown(|r| r.space_mut("b").name = "a".to_owned())),
    (
        Law::State,
        "a space listed twice",
        "stands twice",
        Shown(|r| {
            let row = SpaceRow { name: "e".to_owned(), ..r.space("b").clone() };
            r.image.spaces.push(row);
        }),
    ),
];
