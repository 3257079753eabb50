//! What a picture allows, case by case: who asks, whose it is, what is declared, what is granted.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{
    cost,
    env::SystemEnv,
    event::EventId,
    limits::{Limits, NEAR_MISS_LOOKS_MAX, NEAR_MISSES_MAX, SHAPE_TEXT_BYTES_MAX},
    value::Value,
};

const OPERATOR: u8 = 0;

fn declared(shape: &str) -> Declaration {
    let more = Default::default();
    Declaration { shape: shape.parse().unwrap(), private: false, receipts: false, derived: false, more }
}

/// A charm that publishes `#mail`: the cells `open` and `secret` (private), the streams `in` and `own` (private) and
/// `back`, which takes receipts.
fn entry(number: u8, rights: Rights) -> Entry {
    let private = |shape| Declaration { private: true, ..declared(shape) };
    let descriptor = Descriptor {
        tags: vec!["#mail".to_owned()],
        cells: [("open".into(), declared("int")), ("secret".into(), private("string"))].into(),
        streams: [
            ("in".into(), declared("{to: string}")),
            ("own".into(), private("any")),
            ("back".into(), Declaration { receipts: true, ..declared("any") }),
        ]
        .into(),
        ..Descriptor::default()
    };
    Entry {
        did: Did::numbered(number),
        name: format!("charm-{number}").into(),
        descriptor: descriptor.into(),
        offer: 0,
        rights,
        http: Arc::default(),
        inbox: Arc::default(),
        log: Arc::new(LogShare::new(SystemEnv::current(), &Limits::default(), 0)),
    }
}

/// The right to `cells` and `streams` of charm 1.
fn rights(cells: &[&str], streams: &[&str]) -> Rights {
    let names = |names: &[&str]| match names {
        ["*"] => Names::All,
        names => Names::Only(names.iter().map(|name| (*name).to_owned()).collect()),
    };
    Rights {
        read: [(Did::numbered(1), names(cells))].into_iter().collect(),
        send: [(Did::numbered(1), names(streams))].into_iter().collect(),
        ..Rights::default()
    }
}

/// Charm 1 is installed, charm 2 with these rights, charm 3 is known to the store only.
fn directory(rights: Rights) -> Directory {
    let mut directory =
        Directory::new(Did::numbered(OPERATOR), [(Did::numbered(3), Arc::default())].into(), BTreeMap::new());
    directory.insert(entry(1, Rights::default()));
    directory.insert(entry(2, rights));
    directory
}

#[tokio::test]
async fn rights_are_what_is_both_declared_and_granted() {
    // Who asks, what is granted, the name; whether a cell of it may be read.
    let cases = [
        (2, &["open"][..], "open", true),
        (2, &["*"], "open", true),
        (2, &[], "open", false),
        (2, &["secret"], "secret", false),
        (2, &["*"], "secret", false),
        (2, &["absent"], "absent", false),
        (2, &["*"], "absent", false),
        (1, &[], "secret", true),
        (1, &[], "absent", true),
        (OPERATOR, &[], "secret", true),
        (4, &["open"], "open", false),
    ];
    for (who, granted, cell, allowed) in cases {
        let directory = directory(rights(granted, &[]));
        assert_eq!(
            directory.may_read(&Did::numbered(who), &Did::numbered(1), cell),
            allowed,
            "A2: {who} reads {cell} with {granted:?}"
        );
        let cells = [CellId { owner: Did::numbered(1), name: cell.into() }];
        assert_eq!(directory.uncovered(&Did::numbered(who), cells.iter()).is_none(), allowed);
    }
    let cases = [
        (2, &["in"][..], "in", Ok(true)),
        (2, &["*"], "in", Ok(true)),
        (2, &[], "in", Err(Outcome::Denied)),
        (2, &["own"], "own", Err(Outcome::Denied)),
        (2, &["*"], "back", Err(Outcome::Denied)),
        (2, &[], "absent", Err(Outcome::Denied)),
        (2, &["*"], "absent", Err(Outcome::NoSuchStream)),
        (1, &[], "own", Ok(true)),
        (1, &[], "back", Err(Outcome::Denied)),
        (OPERATOR, &[], "own", Ok(true)),
        (OPERATOR, &[], "back", Err(Outcome::Denied)),
        (OPERATOR, &[], "absent", Err(Outcome::NoSuchStream)),
    ];
    for (who, granted, stream, expected) in cases {
        let directory = directory(rights(&[], granted));
        let found = directory.deliver(&Did::numbered(who), &Did::numbered(1), stream).map(|shape| shape.is_some());
        assert_eq!(found, expected, "A2: {who} sends to {stream} with {granted:?}");
    }
}

#[tokio::test]
async fn an_event_waits_for_a_charm_that_is_known_and_for_no_other() {
    let directory = directory(Rights {
        send: [(Did::numbered(3), Names::All), (Did::numbered(4), Names::All)].into_iter().collect(),
        ..Rights::default()
    });
    assert_eq!(
        directory.deliver(&Did::numbered(2), &Did::numbered(3), "in").map(|shape| shape.is_none()),
        Ok(true),
        "known: no shape yet"
    );
    assert_eq!(directory.deliver(&Did::numbered(2), &Did::numbered(4), "in").map(|_| ()), Err(Outcome::NoSuchStream));
    assert!(directory.inbox(&Did::numbered(3)).is_some() && directory.inbox(&Did::numbered(4)).is_none());
}

#[tokio::test]
async fn rights_of_one_who_becomes_a_charm_are_kept_and_those_of_one_outside_can_be_forgotten() {
    let mut directory = directory(Rights::default());
    directory.grant(Did::numbered(5), rights(&["open"], &[]));
    directory.grant(Did::numbered(6), rights(&["open"], &[]));
    assert!(directory.may_read(&Did::numbered(5), &Did::numbered(1), "open"));
    directory.insert(entry(5, rights(&[], &["in"])));
    assert!(directory.may_read(&Did::numbered(5), &Did::numbered(1), "open"), "granted before it was installed");
    assert!(directory.may_send(&Did::numbered(5), &Did::numbered(1), "in"), "granted with its install");
    directory.forget(&Did::numbered(6));
    assert!(!directory.may_read(&Did::numbered(6), &Did::numbered(1), "open"));
    directory.grant(Did::numbered(5), Rights::default());
    assert!(!directory.may_read(&Did::numbered(5), &Did::numbered(1), "open"), "a grant replaces what was");
}

#[tokio::test]
async fn an_event_is_looked_at_again_when_it_is_handed_over() {
    let directory = directory(Rights::default());
    let event = |from: u8, stream: &str, receipt_of| Event {
        id: EventId([1; 16]),
        sender: Did::numbered(from),
        to: Did::numbered(1),
        stream: stream.into(),
        payload: Value::encode(&()).unwrap(),
        on_commit: None,
        receipt_of,
        supplied: false,
        awaited: false,
        deliver_after: None,
        expires_at: None,
    };
    let outcome = |event: Event| directory.admits(&event, 0).map_err(|(outcome, _)| outcome);
    assert_eq!(outcome(event(2, "own", None)), Err(Outcome::Denied), "private");
    assert_eq!(outcome(event(1, "own", None)), Ok(()));
    assert_eq!(outcome(event(OPERATOR, "own", None)), Ok(()));
    assert_eq!(outcome(event(1, "back", None)), Err(Outcome::Denied), "S6: receipts come from the host only");
    assert_eq!(outcome(event(1, "back", Some(EventId([2; 16])))), Ok(()));
    assert_eq!(outcome(event(2, "absent", None)), Err(Outcome::NoSuchStream));
    assert_eq!(outcome(event(OPERATOR, "in", None)), Err(Outcome::Misfit), "H2: another shape than it has");
    assert_eq!(outcome(event(1, "own", Some(EventId([2; 16])))), Err(Outcome::Misfit), "H2: it takes no receipts");
    let offer = directory.get(&Did::numbered(1)).unwrap().offer;
    assert_eq!(directory.admits(&event(OPERATOR, "in", None), offer), Ok(()), "it was checked against this descriptor");
}

#[tokio::test]
async fn a_grant_on_a_name_that_cannot_be_granted_is_refused_by_name() {
    let directory = directory(Rights::default());
    let check = |rights: Rights| rights.check(|owner| directory.get(owner).map(Arc::as_ref));
    assert_eq!(check(rights(&["open"], &["in"])), Ok(()));
    assert_eq!(check(rights(&["*"], &["*"])), Ok(()));
    for (cells, streams, word) in [
        (&["secret"][..], &[][..], "cell secret of charm-1"),
        (&["opne"], &[], "is not declared; what can be granted: open"),
        (&[], &["own"], "is private"),
        (&[], &["back"], "takes receipts"),
    ] {
        let why = check(rights(cells, streams)).unwrap_err();
        assert!(why.contains(word) && why.contains(&Did::numbered(1).to_string()), "{why}");
    }
}

/// D7: only what may be used is found, in the order of DIDs, page by page.
#[tokio::test]
async fn a_wish_finds_who_offers_what_is_wanted_and_may_be_used() {
    let mut directory = directory(Rights::default());
    let holder = Did::numbered(9);
    for number in 10..30 {
        directory.insert(entry(number, Rights::default()));
    }
    let visible: Vec<u8> = (10..30).filter(|number| number % 2 == 0).collect();
    let read = visible.iter().map(|number| (Did::numbered(*number), Names::Only(["open".to_owned()].into())));
    directory.grant(holder, Rights { read: read.collect(), ..Rights::default() });
    let mut expected: Vec<Did> = visible.iter().map(|number| Did::numbered(*number)).collect();
    expected.sort();
    let wanted = [("open".to_owned(), "int".parse().unwrap())];
    let (mut found, mut after, mut cost) = (Vec::new(), None, 0);
    loop {
        let wanted = Wanted { tag: "#mail", cells: &wanted, streams: &[], owner: None };
        let Offers { owners, next, .. } = directory.wish(&holder, &wanted, after, 3, &mut cost);
        assert!(owners.len() <= 3);
        found.extend(owners);
        let Some(next) = next else { break };
        after = Some(next);
    }
    assert_eq!(found, expected);
    assert!(cost >= 10 * cost::OFFER, "what is looked at costs");
    let mut lack = |tag: &str, name: &str, shape: &str| {
        let wanted = [(name.to_owned(), shape.parse().unwrap())];
        let wanted = Wanted { tag, cells: &wanted, streams: &[], owner: None };
        let Offers { owners, misses, .. } = directory.wish(&holder, &wanted, None, 30, &mut cost);
        assert!(owners.is_empty() && misses.len() <= NEAR_MISSES_MAX);
        misses.into_iter().next().map_or(String::new(), |miss| miss.why)
    };
    assert_eq!(lack("#other", "open", "int"), "");
    assert!(lack("#mail", "open", "string").contains("cell open of charm-"), "which");
    assert!(lack("#mail", "open", "string").ends_with("has another shape: it offers int, asked is string"));
    assert!(lack("#mail", "secret", "string").ends_with("is not granted"));
    assert!(lack("#mail", "absent", "string").ends_with("is not declared"));
}

/// D7: the operator's pin is the one that is found, or nobody; so is the one that is asked for.
#[tokio::test]
async fn a_pin_and_an_owner_leave_one_charm() {
    let mut directory = directory(Rights::default());
    let holder = Did::numbered(9);
    for number in 10..14 {
        directory.insert(entry(number, Rights::default()));
    }
    let open = || Names::Only(["open".to_owned()].into());
    let granted = |wishes: BTreeMap<String, Did>| {
        let read = (10..13).map(|number| (Did::numbered(number), open()));
        Rights { read: read.collect(), wishes, ..Rights::default() }
    };
    let cells = [("open".to_owned(), "int".parse().unwrap())];
    let wish = |directory: &Directory, owner: Option<u8>| {
        let wanted = Wanted { tag: "#mail", cells: &cells, streams: &[], owner: owner.map(Did::numbered) };
        directory.wish(&holder, &wanted, None, 30, &mut 0)
    };
    directory.grant(holder, granted(BTreeMap::new()));
    assert_eq!(wish(&directory, None).owners.len(), 3);
    assert_eq!(wish(&directory, Some(11)).owners, [Did::numbered(11)]);
    assert!(wish(&directory, Some(13)).owners.is_empty(), "nothing of it is granted");
    let wanted = Wanted { tag: "#mail", cells: &cells, streams: &[], owner: None };
    let hidden = directory.ungranted(&holder, &wanted);
    assert!(
        hidden.iter().any(|miss| miss.owner == Did::numbered(13) && miss.why.ends_with("nothing of it is granted")),
        "{hidden:?}"
    );
    directory.grant(holder, granted([("#mail".to_owned(), Did::numbered(12))].into()));
    assert_eq!(wish(&directory, None).owners, [Did::numbered(12)]);
    assert_eq!(wish(&directory, Some(12)).owners, [Did::numbered(12)]);
    let other = wish(&directory, Some(11));
    assert!(other.owners.is_empty() && other.misses[0].why.contains("pinned"), "{other:?}");
    directory.grant(holder, granted([("#mail".to_owned(), Did::numbered(13))].into()));
    let none = wish(&directory, None);
    assert!(none.owners.is_empty() && directory.ungranted(&holder, &wanted).len() == 1, "of the pinned one alone");
    // A pin must name one that publishes the tag.
    let check = |rights: Rights| rights.check(|owner| directory.get(owner).map(Arc::as_ref));
    assert_eq!(check(granted([("#mail".to_owned(), Did::numbered(12))].into())), Ok(()));
    let wrong = check(granted([("#other".to_owned(), Did::numbered(12))].into())).unwrap_err();
    assert!(wrong.contains("does not publish #other; it publishes: #mail"), "{wrong}");
    assert!(check(granted([("mail".to_owned(), Did::numbered(12))].into())).is_err(), "no tag");
}

/// D7: how many charms there are that do not fit, a bounded number of them is told, in bounded texts.
#[tokio::test]
async fn near_misses_are_bounded() {
    let mut directory = directory(Rights::default());
    let holder = Did::numbered(9);
    let read = (10..40).map(|number| (Did::numbered(number), Names::Only(["open".to_owned()].into())));
    for number in 10..40 {
        directory.insert(entry(number, Rights::default()));
    }
    directory.grant(holder, Rights { read: read.collect(), ..Rights::default() });
    let long = format!("{{{}}}", (0..200).map(|n| format!("key-{n}: string")).collect::<Vec<_>>().join(", "));
    let cells = [("open".to_owned(), long.parse().unwrap())];
    let wanted = Wanted { tag: "#mail", cells: &cells, streams: &[], owner: None };
    let misses = directory.wish(&holder, &wanted, None, 100, &mut 0).misses;
    assert_eq!(misses.len(), NEAR_MISSES_MAX);
    assert!(misses.iter().all(|miss| miss.why.len() < 256 + 3 * SHAPE_TEXT_BYTES_MAX), "{misses:?}");
    let nobody = Did::numbered(41);
    assert!(directory.iter().count() < NEAR_MISS_LOOKS_MAX);
    assert_eq!(directory.ungranted(&nobody, &wanted).len(), NEAR_MISSES_MAX);
}
