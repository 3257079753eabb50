use super::*;

const OWNER: &str = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";

fn owner() -> Did {
    OWNER.parse().expect("a DID")
}

fn cell(name: &str, path: Path) -> Link {
    Link::Cell { owner: owner(), name: name.into(), path }
}

/// The value of a link that carries this.
fn carrying(content: &Data) -> Value {
    raw(encoded(content).as_bytes())
}

fn raw(content: &[u8]) -> Value {
    encoded(&Data::Link(cid::carrying(content)))
}

#[test]
fn a_link_is_read_as_it_was_made() {
    let most = vec![Segment::Key("k".repeat(PATH_BYTES_MAX / 63)); 63];
    for link in [
        cell("a", Path::root()),
        cell(&"n".repeat(128), Path(vec![Segment::Key(String::new()), Segment::Index(u32::MAX)])),
        cell("a", Path(most)),
        Link::Stream { owner: owner(), name: "run".into() },
    ] {
        let value = link.to_value();
        Value::from_bytes(value.as_bytes(), LINK_BYTES_MAX, 1).expect("a value like any other");
        assert_eq!(Link::from_value(&value), Some(link));
        let text = value.to_json().expect("a text");
        assert!(text.starts_with(r#"{"/":"bafyq"#), "{text}");
        assert_eq!(Value::from_json(&text), Ok(value));
    }
}

/// What `wit/README.md` shows.
#[test]
fn the_bytes_of_a_link_are_those_of_the_page() {
    let link = cell("orders", Path(vec![Segment::Key("open".to_owned()), Segment::Index(0)]));
    let hex: String = link.to_value().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let did: String = OWNER.bytes().map(|byte| format!("{byte:02x}")).collect();
    let content = format!("83 7838{did} 666f7264657273 82 646f70656e 00").replace(' ', "");
    assert_eq!(content.len() / 2, 73);
    assert_eq!(hex, format!("d82a 584e 00 01 71 00 49 {content}").replace(' ', ""));
}

#[test]
fn whatever_is_not_exactly_that_is_plain_data() {
    let text = |text: &str| Data::String(text.to_owned());
    let parts = |name: &str, path: Data| Data::List(vec![text(OWNER), text(name), path]);
    let none = || Data::List(Vec::new());
    assert!(Link::from_value(&carrying(&parts("a", none()))).is_some());
    let key = |length: usize| Data::List(vec![text(&"k".repeat(length))]);
    for content in [
        parts("", none()),
        parts(&"n".repeat(129), none()),
        parts("a\n", none()),
        parts("a", Data::Null),
        parts("a", Data::List(vec![Data::Integer(-1)])),
        parts("a", Data::List(vec![Data::Integer(1 << 32)])),
        parts("a", Data::List(vec![Data::Bool(true)])),
        parts("a", Data::List(vec![Data::Integer(0); PATH_SEGMENTS_MAX])),
        parts("a", key(PATH_BYTES_MAX + 1)),
        parts("a", key(LINK_BYTES_MAX)),
        Data::List(vec![text(OWNER), text("a"), none(), none()]),
        Data::List(vec![text(OWNER)]),
        Data::List(vec![text("did:web:example.org"), text("a"), none()]),
        Data::List(vec![text(&OWNER[..OWNER.len() - 1]), text("a"), none()]),
        Data::Map([("did".to_owned(), text(OWNER))].into()),
        none(),
        Data::Null,
    ] {
        assert_eq!(Link::from_value(&carrying(&content)), None, "{content:?}");
    }
    // Content that is not canonical, or no DAG-CBOR at all.
    let canonical = encoded(&parts("a", none()));
    let long_head = [&[0x98, 3], &canonical.as_bytes()[1..]].concat();
    let more = [canonical.as_bytes(), &[0]].concat();
    for content in [&long_head[..], &more, &[], &[0xff], &canonical.as_bytes()[1..]] {
        assert_eq!(Link::from_value(&raw(content)), None);
    }
    // Other kinds, and other CIDs.
    let other = encoded(&Data::Link(vec![1, 0x55, 0, 1, 7]));
    for value in [canonical, Value::null(), other] {
        assert_eq!(Link::from_value(&value), None);
    }
}
