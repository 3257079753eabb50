//! What a component derives, in a store where `e` was a probe, then a deriver, then nothing, and a probe again (D1, D2).

use charm_conformance::value;
use charm_host::{Body, Install, Law, Record, TurnSegment};
use serde_json::json;

use super::{super::forged::Forged, Case, Tamper::Own, turn, write};

fn writes(name: &str) -> impl Fn(&Record) -> bool {
    move |record| record.turn().is_some() && record.writes().iter().any(|write| &*write.name == name)
}

/// The turn of the deriver.
fn of_deriver(f: &mut Forged) -> &mut Record {
    f.find_in("e", writes("of-d0"))
}

fn segment(f: &mut Forged) -> &mut TurnSegment {
    match &mut f.find_in("e", |record| record.segment().is_some_and(|segment| segment.number == 2)).body {
        Body::Segment(segment) => segment,
        body => panic!("no segment: {body:?}"),
    }
}

/// The install of the deriver.
fn install(f: &mut Forged) -> &mut Install {
    let installs = |line: &&mut super::Line| matches!(&line.record.body, Body::Installed(_));
    let did = f.did("e");
    match &mut f.log.iter_mut().filter(|line| line.space == did).filter(installs).nth(1).unwrap().record.body {
        Body::Installed(install) => install,
        body => panic!("no install: {body:?}"),
    }
}

pub const DERIVED: &[Case] = &[
    (
        Law::Cause,
        "a derived cell written by a turn",
        "derived cell is written",
        Own(|f| turn(of_deriver(f)).writes = vec![write("d0")]),
    ),
    (
        Law::Cause,
        "a member of a derived family written by a turn",
        "derived cell is written",
        Own(|f| turn(of_deriver(f)).writes = vec![write("times:3")]),
    ),
    (
        Law::Cause,
        "a derived cell written by a turn that waits",
        "derived cell is written",
        Own(|f| segment(f).writes = vec![write("whole")]),
    ),
    (
        Law::Cause,
        "a component that derives a cell with a value",
        "derives a cell that holds a value",
        Own(|f| {
            let told = json!({"cells": {"x": {"shape": "any", "derived": true}}});
            install(f).description = value(told);
        }),
    ),
    (
        Law::Cause,
        "a component that derives a family whose member has a value",
        "derives a cell that holds a value",
        Own(|f| {
            let told = json!({"families": {"items": {"shape": "any", "derived": true}}});
            install(f).description = value(told);
        }),
    ),
    (
        Law::Cause,
        "what is derived holds what was not removed",
        "derives a cell that holds a value",
        Own(|f| {
            let removes = |record: &Record| writes("whole")(record) && record.writes()[0].edits[0].put.is_none();
            turn(f.find_in("e", removes)).writes.clear();
        }),
    ),
];
